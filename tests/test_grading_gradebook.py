"""nbgrader's database holds the course after a class is graded."""

import copy
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from vitcourse.grading import autograded, gradebook
from vitcourse.grading.by_hand import Given
from vitcourse.grading.handed_out import sheets_in
from vitcourse.grading.marks import Mark
from vitcourse.grading.matching import graded
from vitcourse.grading.results import Result, Row
from vitcourse.grading.submissions import Submission

api = pytest.importorskip("nbgrader.api")
SHEETS = sheets_in(Path(__file__).parents[1] / "exercises")
NAME = "sheet-3-patches"
TEXT = "explain"


def mark(student="ana", lost=2.0, points=None, comment=""):
    worth = graded(SHEETS[NAME].notebook)
    rows = tuple(
        Row(n, p, None if n == TEXT else p, "right", "Found.", "Belief.", "belief", "<p>card</p>")
        for n, p in worth.items()
    )
    result = Result(student, "Ana", "7", NAME, "a.ipynb", "2026-11-02T10:00:00+00:00", "", rows)
    return Mark(result, {TEXT: Given(points, comment)}, bool(lost), 8.0 - lost, 8.0)


def test_formgraders_database(tmp_path):
    url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    gradebook.fill(url, SHEETS, [mark(), mark("bo", 0.0, 4.5, "Fine.")])
    with api.Gradebook(url, course_id="vitcourse") as book:
        ana, bo = (book.find_submission(NAME, student) for student in ("ana", "bo"))
        assert (ana.max_score, ana.score, ana.late_submission_penalty) == (28, 22, pytest.approx(5.6))
        assert ana.needs_manual_grade
        assert (bo.score, bo.needs_manual_grade) == (26.5, False)
        assert book.find_comment(TEXT, NAME, NAME, "bo").comment == "Fine."
        assert ana.student.lms_user_id == "7"
        assert book.find_source_cell("check-linear", NAME, NAME).locked
        book.find_grade(TEXT, NAME, NAME, "ana").manual_score = 6.0
        book.db.commit()
    gradebook.fill(url, SHEETS, [mark(points=1.0, comment="No.")])
    with api.Gradebook(url, course_id="vitcourse") as book:
        assert book.find_submission(NAME, "ana").score == 28  # what formgrader's user entered stays
        assert len(book.students) == 2


def test_formgrader_finds_the_hand_ins(tmp_path):
    handed_in = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("mine = 1"),
            *(copy.deepcopy(cell) for cell in SHEETS[NAME].notebook.cells),
            nbformat.v4.new_code_cell("yours = 2"),
        ]
    )
    for cell in handed_in.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("solution"):
            cell.source = (
                "a < b, <script>x</script> & *so*" if about.grade_id == TEXT else f"def {about.grade_id}(): ..."
            )
        elif about:
            cell.source = "cheat()"
    content = nbformat.writes(handed_in).encode()
    ones = [mark(), mark("bo")]
    ones[1] = replace(ones[1], result=replace(ones[1].result, file="b.ipynb"))
    found = [Submission("ana", "Ana", "7", "a.ipynb", content, None), Submission("bo", "Bo", "7", "b.ipynb", b"", None)]
    autograded.write(tmp_path, SHEETS, ones, found)
    ana, bo = (
        nbformat.read(tmp_path / "autograded" / name / NAME / f"{NAME}.ipynb", as_version=4) for name in ("ana", "bo")
    )
    nbformat.validate(ana)
    assert (tmp_path / "submitted" / "ana" / NAME / "timestamp.txt").read_text() == "2026-11-02T10:00:00+00:00\n"
    assert (tmp_path / "submitted" / "ana" / NAME / f"{NAME}.ipynb").read_bytes() == content
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id", ""): cell for cell in ana.cells}
    assert cells[TEXT].source == "```\na < b, <script>x</script> & *so*\n```"
    assert autograded._literal("a\n````\n<b>") == "`````\na\n````\n<b>\n`````"
    assert cells["patchify"].source == "def patchify(): ..."
    assert cells["check-patchify"].source == "check.patchify(patchify)"
    assert cells["check-patchify"].outputs[0].data["text/html"] == "<p>card</p>"
    own = [cell.source for cell in ana.cells if cell.source in ("mine = 1", "yours = 2")]
    assert (own, ana.cells[0].source) == (["mine = 1", "yours = 2"], "mine = 1")
    assert [cell.id for cell in bo.cells] == [cell.id for cell in SHEETS[NAME].notebook.cells]


def test_what_nbgrader_collected_is_not_touched(tmp_path):
    path = tmp_path / "submitted" / "ana" / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"collected")
    for content in (b"{1", b"{2"):
        found = [Submission(name, name, "7", "a.ipynb", content, None) for name in ("ana", "bo")]
        autograded.write(tmp_path, SHEETS, [mark(), mark("bo")], found)
    assert path.read_bytes() == b"collected"
    assert (tmp_path / "submitted" / "bo" / NAME / f"{NAME}.ipynb").read_bytes() == b"{2"
    for place in ("submitted", "submitted/ana", ".", "autograded"):
        with pytest.raises(ValueError, match="copy what was handed in to another folder"):
            autograded.check_apart(tmp_path / place, tmp_path)
    autograded.check_apart(tmp_path / "class", tmp_path)


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="gradebook 'nothing'"):
        gradebook.fill("nothing", SHEETS, [mark()])


def test_points_that_were_corrected_reach_it(tmp_path):
    url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    for points, comment in ((4.5, "Fine."), (6.0, "Better than fine."), (None, "")):
        gradebook.fill(url, SHEETS, [mark(lost=0.0, points=points, comment=comment)])
        with api.Gradebook(url, course_id="vitcourse") as book:
            found = book.find_submission(NAME, "ana")
            assert (found.score, found.needs_manual_grade) == (22 + (points or 0), points is None)
            assert book.find_comment(TEXT, NAME, NAME, "ana").comment == (comment or None)
