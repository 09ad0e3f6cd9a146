"""Tables, pages and a picture from results; what a teacher wrote stays."""

import csv
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from matplotlib import rc_context, style
from seen import by_colour_alone, pale_texts

from vitcourse.figures.style import STYLE
from vitcourse.grading import by_hand, statistics, tables
from vitcourse.grading.exports import write
from vitcourse.grading.handed_out import model_answers, sheets_in
from vitcourse.grading.marks import Rules, deadline, marks
from vitcourse.grading.matching import graded
from vitcourse.grading.project import Scheme, final_marks
from vitcourse.grading.results import Result, Row

ROOT = Path(__file__).parents[1]
DAY = "2026-11-{:02d}T12:00:00+00:00"


def result(student="ana", earned=4.0, sheet="s-1", day=1, text="<script>said</script>", **changes):
    rows = (
        Row(
            "check-one", 4, earned, "right" if earned == 4 else "wrong", "", "Rows, not columns.", "rows", "<p>card</p>"
        ),
        Row("words", 6, None, "by hand", text=text),
    )
    about = {"name": student.title(), "identifier": "7", "file": f"{student}/{day}.ipynb", "rows": rows}
    return Result(**{"student": student, "sheet": sheet, "handed_in": DAY.format(day), "key": "", **about, **changes})


def checked(student="ana", earned=4.0, **changes):
    """A hand-in with nothing to mark by hand."""
    return result(student, earned, **{"rows": (Row("check-one", 4, earned, "right"),), **changes})


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(folder, points, comment=""):
    path = folder / "by-hand.csv"
    rows = table(path)
    rows[0] |= {"points": points, "comment": comment}
    tables.write(path, rows)


def test_what_is_marked_by_hand_is_asked_for_once_and_merged(tmp_path):
    (mark,) = write([result()], tmp_path, Rules())
    assert (mark.mark, mark.reason) == (None, "to mark by hand: words")
    fill(tmp_path, "4,5", "Good, \n<b>brave</b>; yes")
    before = (tmp_path / "by-hand.csv").read_bytes()
    (mark,) = write([result()], tmp_path, Rules())
    assert (mark.mark, mark.reason) == (8.5, "")
    assert (tmp_path / "by-hand.csv").read_bytes() == before
    page = (tmp_path / "feedback/ana/s-1.html").read_text()
    assert "Good, \n&lt;b&gt;brave" in page
    write([result(), result("bo")], tmp_path, Rules())
    assert [(row["student"], row["points"]) for row in table(tmp_path / "by-hand.csv")] == [("ana", "4,5"), ("bo", "")]
    assert "<script>said" not in (tmp_path / "by-hand.html").read_text()


def test_who_marks_by_hand_sees_the_scheme_and_who_learns_sees_the_comment_under_the_sheets_heading(tmp_path):
    answers = {("s-1", "words"): "**Mark scheme** 1 point for a < b", ("s-1", "others"): "not asked"}
    rows = [replace(row, title=f"1.{place} A & B") for place, row in enumerate(result().rows, 1)]
    ones = [result(rows=tuple(rows))]
    write(ones, tmp_path, Rules(), answers)
    page = (tmp_path / "by-hand.html").read_text()
    assert page.index("1 point for a &lt; b") < page.index("&lt;script&gt;said")
    assert "not asked" not in page
    fill(tmp_path, "6", "Fine.")
    write(ones, tmp_path, Rules(), answers)
    page = (tmp_path / "feedback/ana/s-1.html").read_text()
    assert "<h2>1.1 A &amp; B: 4 of 4</h2>" in page
    alike = tuple(replace(row, title="1 A") for row in rows)
    write([result(rows=alike)], tmp_path / "alike", Rules())
    page_of_alike = (tmp_path / "alike/feedback/ana/s-1.html").read_text()
    assert "<h2>1 A, one: 4 of 4</h2>" in page_of_alike
    assert "<h2>1 A, words: to come of 6</h2>" in page_of_alike
    assert "Mark scheme" not in page
    assert table(tmp_path / "moodle-s-1.csv")[0]["Feedback comments"] == "1.2 A & B: Fine."


def test_the_sheets_have_a_heading_for_each_graded_cell_and_a_scheme_for_each_text():
    sheets = sheets_in(ROOT / "exercises")
    answers = model_answers(ROOT / "solutions")
    assert sheets["sheet-2-attention"].titles["check-attention-weights"] == "2.1 Weights"
    texts = set()
    for name, sheet in sheets.items():
        assert all(sheet.titles[grade_id] for grade_id in graded(sheet.notebook)), name
        cells = [cell for cell in sheet.notebook.cells if cell.cell_type == "markdown" and "nbgrader" in cell.metadata]
        texts |= {(name, cell.metadata.nbgrader.grade_id) for cell in cells if cell.metadata.nbgrader.grade}
    assert set(answers) == texts
    assert all("point" in text for text in answers.values())
    assert model_answers(ROOT / "nowhere") == {}


def test_a_table_that_a_spreadsheet_saved(tmp_path):
    path = tmp_path / "by-hand.csv"
    path.write_text('\ufeffmine;student;sheet;exercise;possible;points;comment\r\nx;ana;s-1;words;6;3;"a;b"\r\n')
    write([result(), result("bo")], tmp_path, Rules())
    rows = table(path)
    assert [(row["mine"], row["student"], row["comment"]) for row in rows] == [("x", "ana", "a;b"), ("", "bo", "")]


@pytest.mark.parametrize("points", ["7", "-1", "nan", "many"])
def test_points_that_cannot_be(tmp_path, points):
    write([result()], tmp_path, Rules())
    fill(tmp_path, points)
    with pytest.raises(ValueError, match=r"by-hand\.csv, line 2: points"):
        write([result()], tmp_path, Rules())


def test_what_is_possible_is_no_number(tmp_path):
    write([result()], tmp_path, Rules())
    path = tmp_path / "by-hand.csv"
    path.write_text(path.read_text().replace(",6,", ",six,"))
    with pytest.raises(ValueError, match="line 2: possible 'six' is no number"):
        write([result()], tmp_path, Rules())


def test_another_encoding_is_said(tmp_path):
    (tmp_path / "by-hand.csv").write_bytes("student,é".encode("latin-1"))
    with pytest.raises(ValueError, match="isn't UTF-8"):
        write([result()], tmp_path, Rules())


def test_late_last_and_best(tmp_path):
    rules = Rules(deadline("2026-11-02"))
    twice = [checked(earned=4.0, day=1), checked(earned=2.0, day=5)]
    (last,) = marks(twice, tmp_path, rules)
    assert (last.mark, last.in_time, last.is_late) == (3.0, 5.0, True)
    (best,) = marks(twice, tmp_path, Rules(rules.deadline, attempts="best"))
    assert (best.mark, best.is_late) == (10.0, False)
    (poor,) = marks([checked(earned=0.5, day=9)], tmp_path, rules)
    assert poor.mark == 0


def test_the_best_waits_for_a_text_that_may_make_it_the_best(tmp_path):
    rules = Rules(attempts="best")
    ones = [result(earned=1.0, text="Poor.", day=1), result(earned=4.0, text="Good.", day=2)]
    (mark,) = write(ones, tmp_path, rules)
    assert (mark.result, mark.missing) == (ones[1], ("words",))
    fill(tmp_path, "2")  # 6 of 10; the other one may become 7
    (mark,) = write(ones, tmp_path, rules)
    assert (mark.result, mark.mark) == (ones[0], None)
    rows = table(tmp_path / "by-hand.csv")
    tables.write(tmp_path / "by-hand.csv", [row | {"points": row["points"] or "4"} for row in rows])
    assert [mark.mark for mark in write(ones, tmp_path, rules)] == [6.0]


def test_a_mark_by_hand_lands_on_its_own_text_only(tmp_path):
    write([result(text="First.")], tmp_path, Rules())
    fill(tmp_path, "6", "Fine.")
    (mark,) = write([result(text="First."), result(text="Second.", day=2)], tmp_path, Rules())
    assert (mark.result.texts[0].text, mark.mark, mark.missing) == ("Second.", None, ("words",))
    assert "Fine." not in (tmp_path / "feedback/ana/s-1.html").read_text()
    given = {row["text"]: row["points"] for row in table(tmp_path / "by-hand.csv")}
    assert given == {by_hand.sign("First."): "6", by_hand.sign("Second."): ""}
    assert by_hand.sign("Second.") in (tmp_path / "by-hand.html").read_text()
    (mark,) = write([result(text="First."), result(text="First.\n", day=3)], tmp_path, Rules())
    assert (mark.mark, len(table(tmp_path / "by-hand.csv"))) == (10.0, 1)  # the same once more; nobody asks for another


def test_marks_by_hand_from_before_texts_had_signs(tmp_path):
    path = tmp_path / "by-hand.csv"
    path.write_text("student,sheet,exercise,possible,points,comment\nana,s-1,words,6,3,Fine.\nbo,s-1,words,6,5,\n")
    ana, bo = write([result(), result("bo", text="1"), result("bo", text="2", day=2)], tmp_path, Rules())
    assert (ana.mark, bo.mark, bo.missing) == (7.0, None, ("words",))
    rows = [(row["student"], row["text"], row["points"]) for row in table(path)]
    signs = [by_hand.sign(text) for text in ("<script>said</script>", "2")]
    assert rows == [("ana", signs[0], "3"), ("bo", "", "5"), ("bo", signs[1], "")]


def test_one_rule_for_what_is_late(tmp_path):
    (mark,) = marks([checked(day=9)], tmp_path, Rules(deadline("2026-11-02"), scheme=Scheme(late=Decimal("0.5"))))
    assert mark.mark == 9.5
    with pytest.raises(ValueError, match='attempts must be "last" or "best", got \'first\''):
        Rules(attempts="first")


def test_a_deadline():
    assert deadline("2026-11-02T10:00+00:00") == datetime(2026, 11, 2, 10, tzinfo=UTC)
    assert deadline("2026-11-02").astimezone().hour == 23
    with pytest.raises(ValueError, match="must look like"):
        deadline("tomorrow")
    for text in ("2026-12-01T12:00", "2026-12-01 12:00", "2026-12-01t12:00", "2026-12-01_12:00"):
        assert deadline(text).astimezone().hour == 12


def test_a_failure_of_ours_is_no_zero(tmp_path):
    (mark,) = write([checked(earned=0.0, problem="the grader failed: x", failed=True)], tmp_path, Rules())
    assert mark.mark is None
    assert table(tmp_path / "marks.csv")[0]["reason"] == "the grader failed: x"


def test_a_hand_in_of_no_sheet_counts_only_where_there_is_no_other(tmp_path):
    lost = checked(sheet="", rows=(), problem="it is none of the sheets")
    assert [mark.result.sheet for mark in marks([lost, checked()], tmp_path, Rules())] == ["s-1"]
    assert [mark.mark for mark in marks([lost], tmp_path, Rules())] == [0.0]


def test_a_later_file_that_is_none_takes_nothing_from_one_that_is(tmp_path):
    notes = checked(rows=(Row("check-one", 4, 0.0, "wrong"),), problem="not this sheet", day=9)
    assert [mark.mark for mark in marks([checked(), notes], tmp_path, Rules())] == [10.0]
    assert [mark.mark for mark in marks([notes], tmp_path, Rules())] == [0.0]
    ours = checked(problem="the grader failed: x", failed=True, day=9)
    assert [mark.mark for mark in marks([checked(), ours], tmp_path, Rules())] == [None]


def test_a_check_worth_nothing_stops_no_table(tmp_path):
    write([checked(rows=(Row("check-none", 0, 0.0, "wrong"), Row("check-one", 4, 4.0, "right")))], tmp_path, Rules())
    assert [row["exercise"] for row in table(tmp_path / "exercises.csv")] == ["check-one"]


def test_tables_for_other_systems(tmp_path):
    write([checked(name="=cmd|x", file="-a")], tmp_path, Rules())
    (row,) = table(tmp_path / "marks.csv")
    assert (row["name"], row["file"], row["mark"]) == ("'=cmd|x", "'-a", "10.00")
    assert table(tmp_path / "moodle-s-1.csv")[0] == {
        "Identifier": "Participant 7",
        "Full name": "'=cmd|x",
        "Grade": "10.00",
        "Feedback comments": "",
    }
    assert list(table(tmp_path / "canvas-s-1.csv")[0]) == [
        *("Student", "ID", "SIS User ID", "SIS Login ID", "Section", "s-1"),
    ]
    assert [row["Student"] for row in table(tmp_path / "canvas-s-1.csv")] == ["Points Possible", "'=cmd|x"]
    assert [row["s-1"] for row in table(tmp_path / "canvas-s-1.csv")] == ["10", "10.00"]
    assert table(tmp_path / "gradescope-s-1.csv")[0]["Total Score"] == "10.00"


def test_what_is_for_the_teacher_does_not_reach_the_learner(tmp_path):
    (mark,) = write([checked(remarks=("a cell is missing",), notes=("look at cell 3",))], tmp_path, Rules())
    assert mark.reason == "a cell is missing; look at cell 3"
    assert table(tmp_path / "moodle-s-1.csv")[0]["Feedback comments"] == "a cell is missing"
    page = (tmp_path / "feedback/ana/s-1.html").read_text()
    assert "a cell is missing" in page
    assert "look at" not in page


def test_final_marks_can_be_made_of_it_and_it_is_written_once(tmp_path):
    four = checked(sheet="sheet-4-vit", earned=3.0, day=9)
    write([checked(sheet="sheet-3-patches"), four], tmp_path, Rules(deadline("2026-11-05")))
    path = tmp_path / "students.csv"
    (row,) = table(path)
    assert (row["student"], row["sheet-4-vit"], row["sheet-4-vit late"]) == ("Ana", "7.50", "yes")
    (tmp_path / "projects.csv").write_text("group,report,code,evaluation,presentation,late\nowls,8,8,8,8,no\n")
    path.write_text(path.read_text().replace("Ana,,", "Ana,owls,"))
    write([checked(sheet="sheet-3-patches")], tmp_path, Rules())
    (final,) = final_marks(tmp_path)
    assert (float(final.practicals), float(final.final)) == (7.75, 7.9)  # (10 + 7.5 - 2) / 2


def test_points_are_added_as_on_paper(tmp_path):
    rows = (Row("check-one", 22, 2.19, "wrong"), Row("words", 6, None, "by hand", text="Text."))
    write([result(rows=rows)], tmp_path, Rules())
    fill(tmp_path, "2.5")
    (mark,) = write([result(rows=rows)], tmp_path, Rules())
    assert mark.in_time == 1.68  # 4.69 of 28; in floats 2.19 + 2.5 is a little less


@pytest.mark.parametrize("saved", ["7.5", "7,5", "7.50"])
def test_a_corrected_mark_follows_a_table_that_a_spreadsheet_saved(tmp_path, saved):
    path = tmp_path / "students.csv"
    write([checked(sheet="sheet-3-patches", earned=3.0)], tmp_path, Rules())
    path.write_text(path.read_text().replace(",", ";").replace("7.50;no", f"{saved};No"))
    write([checked(sheet="sheet-3-patches")], tmp_path, Rules())
    (row,) = table(path)
    assert (row["sheet-3-patches"], row["sheet-3-patches late"]) == ("10.00", "no")


def test_an_excuse_stays_when_the_mark_comes(tmp_path):
    path, rules = tmp_path / "students.csv", Rules(deadline("2026-11-05"))
    write([result(sheet="sheet-3-patches", day=9)], tmp_path, rules)
    path.write_text(path.read_text().replace("yes", "no"))
    fill(tmp_path, "6")
    write([result(sheet="sheet-3-patches", day=9)], tmp_path, rules)
    (row,) = table(path)
    assert (row["sheet-3-patches"], row["sheet-3-patches late"]) == ("10.00", "no")


@pytest.mark.parametrize("rows", ["Bo,owls\nBo,cats\n", ",owls\n"])
def test_names_that_stand_twice_or_nowhere_are_refused_and_nothing_is_lost(tmp_path, rows):
    path = tmp_path / "students.csv"
    path.write_text("student,group\n" + rows)
    with pytest.raises(ValueError, match=r"students\.csv, line \d: (student 'Bo' stands in line 2 already|the column)"):
        write([checked()], tmp_path, Rules())
    assert path.read_text() == "student,group\n" + rows


@pytest.mark.parametrize("comment", ['"good" work', '"left open', "x" * 200_000])
def test_a_quote_left_open_swallows_no_rows(tmp_path, comment):
    path = tmp_path / "by-hand.csv"
    path.write_text(f"student,sheet,exercise,possible,points,comment\nana,s-1,words,6,3,{comment}\nbo,s-1,words,6,3,\n")
    with pytest.raises(ValueError, match=r"by-hand\.csv, after line 1: "):
        write([result()], tmp_path, Rules())


def test_marks_that_come_later_are_filled_in_and_what_is_there_stays(tmp_path):
    path, rules = tmp_path / "students.csv", Rules(deadline("2026-11-05"))
    write([result(sheet="sheet-3-patches")], tmp_path, rules)  # a text is still to be marked by hand
    path.write_text("\ufeff" + path.read_text().replace("Ana,,", "Ana,owls,").replace(",", ";"), encoding="utf-8")
    fill(tmp_path, "6")
    write([result(sheet="sheet-3-patches"), checked(sheet="sheet-4-vit", day=9), checked("bo")], tmp_path, rules)
    ana, bo = table(path)
    assert (ana["group"], ana["sheet-3-patches"], ana["sheet-3-patches late"]) == ("owls", "10.00", "no")
    assert (ana["sheet-4-vit"], ana["sheet-4-vit late"]) == ("10.00", "yes")
    assert (bo["student"], bo["s-1"], bo["sheet-4-vit"]) == ("Bo", "10.00", "")


def test_a_corrected_mark_reaches_the_final_one_and_the_teachers_own_stays(tmp_path):
    path = tmp_path / "students.csv"
    both = [checked(sheet="sheet-3-patches"), checked(sheet="sheet-4-vit")]
    write(both, tmp_path, Rules())
    path.write_text(path.read_text().replace("10.00,no,10.00", "10.00,no,9"))
    write([replace(one, rows=(Row("check-one", 4, 2.0, "wrong"),)) for one in both], tmp_path, Rules())
    (row,) = table(path)
    assert (row["sheet-3-patches"], row["sheet-4-vit"]) == ("5.00", "9")
    before = path.read_bytes()
    write(both[:0], tmp_path, Rules())
    assert path.read_bytes() == before


def test_two_students_of_one_name_have_two_lines(tmp_path):
    write([checked("ana-1", name="Ana"), checked("ana-2", name="Ana")], tmp_path, Rules())
    assert [row["student"] for row in table(tmp_path / "students.csv")] == ["ana-1", "ana-2"]


def test_the_class_in_two_tables_and_a_picture(tmp_path):
    class_ = [result(), result("bo", 0.0), result("chi", 2.0), checked("dan", sheet="s-2")]
    write(class_, tmp_path, Rules())
    assert table(tmp_path / "exercises.csv")[0] == {
        "sheet": "s-1",
        "exercise": "check-one",
        "hand-ins": "3",
        "right": "1",
        "mean share": "0.500",
    }
    assert table(tmp_path / "misconceptions.csv")[0]["students"] == "3"
    assert (tmp_path / "statistics.png").read_bytes()[:4] == b"\x89PNG"
    with rc_context():
        style.use(STYLE)
        rows = statistics.by_exercise(class_), statistics.misconceptions(class_)
        figure = statistics.picture(["s-1", "s-2"], *rows, [1, 1])
        assert not pale_texts(figure)
        assert not by_colour_alone(figure)
    left, right = figure.axes[:2]
    assert [bar.get_width() for bar in left.patches] == [pytest.approx(100 / 3)]
    assert [label.get_text() for label in right.get_yticklabels()] == ["one: rows"]


def test_the_same_bytes_twice(tmp_path):
    for name in "ab":
        write([result(), checked("bo")], tmp_path / name, Rules())
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)


def test_a_result_is_read_as_it_was_written(tmp_path):
    result().written(tmp_path / "r.json")
    assert Result.read(tmp_path / "r.json") == result()
    for text in ("{", "[]", '{"rows": [{"x": 1}]}', "\ud800"):
        (tmp_path / "r.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(ValueError, match="isn't a result"):
            Result.read(tmp_path / "r.json")
