"""nbgrader's database holds the course after a class is graded."""

from pathlib import Path

import pytest

from vitcourse.grading import gradebook
from vitcourse.grading.by_hand import Given
from vitcourse.grading.handed_out import sheets_in
from vitcourse.grading.marks import Mark
from vitcourse.grading.matching import graded
from vitcourse.grading.results import Result, Row

api = pytest.importorskip("nbgrader.api")
SHEETS = sheets_in(Path(__file__).parents[1] / "exercises")
NAME = "sheet-3-patches"
TEXT = "explain"


def mark(student="ana", lost=2.0, points=None, comment=""):
    worth = graded(SHEETS[NAME].notebook)
    rows = tuple(Row(n, p, None if n == TEXT else p, "right", "Found.", "Belief.", "belief") for n, p in worth.items())
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
