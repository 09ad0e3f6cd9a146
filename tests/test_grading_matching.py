"""A hand-in is put back into the shape of its sheet."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vitcourse.grading.matching import MOST_CELLS, graded, match, read

BLANK = "def {}(x):\n    raise NotImplementedError"
RIGHT = "def {}(x):\n    return x"


def about(grade_id, **options):
    return {"nbgrader": {"grade_id": grade_id, "grade": False, "solution": False, "points": 1, **options}}


def answer(name, source=BLANK):
    return new_code_cell(source.format(name), id=name, metadata=about(name, solution=True))


def check(name):
    return new_code_cell(f"check.{name}({name})", id=f"check-{name}", metadata=about(f"check-{name}", grade=True))


def sheet(source=BLANK, text="…"):
    words = new_markdown_cell(text, id="words", metadata=about("words", grade=True, solution=True))
    own = new_code_cell("import math", id="imports")
    cells = [own, answer("one", source), check("one"), answer("two", source), check("two"), words]
    return new_notebook(cells=cells)


def matched(cells):
    return match(sheet(), read(json.dumps({"nbformat": 4, "cells": cells}).encode()))


def sources(cells):
    return [step.source for step in matched(cells).steps]


WANTED = ["import math", RIGHT.format("one"), "check.one(one)", RIGHT.format("two"), "check.two(two)"]


def change(name):
    cells = sheet(RIGHT, "Because.").cells
    if name == "reordered":
        return cells[::-1]
    if name == "checks deleted":
        return [cell for cell in cells if not cell.id.startswith("check")]
    if name == "checks doubled":
        return cells + [cell for cell in cells if cell.id.startswith("check")]
    if name == "checks edited":
        return [{**cell, "source": "print(100)"} if cell.id.startswith("check") else cell for cell in cells]
    if name == "ids stripped":
        return [{"cell_type": cell.cell_type, "source": cell.source, "metadata": cell.metadata} for cell in cells]
    if name == "metadata stripped":
        return [{"cell_type": cell.cell_type, "source": cell.source, "id": cell.id} for cell in cells]
    if name == "both stripped":
        return [{"cell_type": cell.cell_type, "source": cell.source} for cell in cells]
    if name == "blank copies behind":
        return [*cells, answer("one"), answer("two")]
    if name == "Windows line ends, lists of lines":
        return [{**cell, "source": cell.source.replace("\n", "\r\n").splitlines(keepends=True)} for cell in cells]
    if name == "answers in new cells, the old ones blank":
        new = [{"cell_type": "code", "source": RIGHT.format(name)} for name in ("one", "two")]
        return [cells[0], answer("one"), cells[2], answer("two"), *cells[4:], *new]
    return cells


CHANGES = (
    *("none", "reordered", "checks deleted", "checks doubled", "checks edited", "ids stripped", "metadata stripped"),
    *("both stripped", "blank copies behind", "Windows line ends, lists of lines"),
    "answers in new cells, the old ones blank",
)


@pytest.mark.parametrize("name", CHANGES)
def test_right_answers_arrive(name):
    assert sources(change(name)) == WANTED


@pytest.mark.parametrize("name", ["none", "ids stripped", "metadata stripped", "both stripped", "checks deleted"])
def test_texts_arrive(name):
    assert matched(change(name)).texts == {"words": "Because."}


def texts(change):
    """The text to mark by hand and the remarks, of a sheet with its question, changed."""
    own = sheet()
    own.cells.insert(-1, new_markdown_cell("Why?", id="question"))
    cells = [dict(cell) for cell in own.cells]
    change(cells)
    found = match(own, read(json.dumps({"nbformat": 4, "cells": cells}).encode()))
    return found.texts["words"], found.remarks


NEW = {"cell_type": "markdown", "source": "Because.", "metadata": {}}


@pytest.mark.parametrize(
    "change",
    [
        lambda cells: cells.append(NEW),
        lambda cells: cells.insert(-1, NEW),
        lambda cells: cells.__setitem__(-1, NEW),
        lambda cells: cells.append({**NEW, "cell_type": "raw"}),
        lambda cells: cells.append({**cells[-1], "source": "Because."}),
        lambda cells: cells[-1].update(source="Because."),
    ],
    ids=["behind", "before", "instead", "raw", "copied", "in it"],
)
def test_a_text_beside_its_cell_is_seen(change):
    assert texts(change) == ("Because.", ())


def test_a_text_in_two_parts_is_whole():
    def change(cells):
        cells[-1]["source"] = "Because."
        cells.append({**NEW, "source": "And so."})
        cells.insert(0, {**NEW, "source": "My notes."})

    assert texts(change) == ("Because.\n\nAnd so.", ())


def test_a_text_in_the_question_is_seen():
    assert texts(lambda cells: cells[-2].update(source="Why? Because.")) == ("Why? Because.", ())


def test_a_text_elsewhere_is_shown_where_there_is_no_other():
    text, remarks = texts(lambda cells: cells.insert(0, NEW))
    assert text == "Because."
    assert remarks == ("words: its cell is empty; all other texts are shown in its place",)


def test_no_text():
    assert texts(lambda cells: None) == ("", ())
    assert texts(lambda cells: cells.pop()) == ("", ("words: its cell is missing",))


def test_the_last_filled_answer_counts_and_is_said():
    found = matched([answer("one", RIGHT), answer("one", "def {}(x):\n    return 2"), answer("two", RIGHT)])
    assert found.steps[1].source.endswith("return 2")
    assert found.remarks == ("one: 2 cells; the last one counts", "words: its cell is missing")


def test_own_cells_run_where_they_stand():
    cells = sheet(RIGHT).cells
    cells.insert(3, new_code_cell("helper = 1", id="mine"))
    cells.insert(0, new_code_cell("first = 1", id="top"))
    assert sources(cells) == ["first = 1", *WANTED[:3], "helper = 1", *WANTED[3:]]


def test_an_edited_cell_of_the_sheet_has_the_sheets_to_fall_back_on():
    cells = sheet(RIGHT).cells
    cells[0].source = "import maths"
    step = matched(cells).steps[0]
    assert (step.source, step.otherwise) == ("import maths", "import math")


def test_points_are_the_sheets():
    cells = sheet(RIGHT).cells
    cells[2].metadata["nbgrader"]["points"] = 100
    assert graded(sheet()) == {"check-one": 1, "check-two": 1, "words": 1}


def test_another_notebook():
    with pytest.raises(ValueError, match="another notebook"):
        matched([new_code_cell("print(1)"), new_markdown_cell("…")])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'"text"',
        b'{"nbformat": 4}',
        b'{"nbformat": 4, "cells": 3}',
        b'{"nbformat": 9, "cells": []}',
        b"\xff\xfe\x00\xd8",
        b'{"cells":' + b"[" * 10**5,
        b'{"nbformat": 4, "cells": [' + b"9" * 5000 + b"]}",
    ],
)
def test_what_is_no_notebook_is_said_in_one_sentence(content):
    with pytest.raises(ValueError, match="not a notebook"):
        read(content)


def test_strange_parts_are_put_right():
    strange = [3, None, {}, {"cell_type": [], "id": {}, "source": 5, "metadata": [1]}]
    strange += [{"cell_type": "code", "source": ["a", 3, "b"], "metadata": {"nbgrader": "x"}, "id": "\ud800"}]
    cells = read(json.dumps({"nbformat": 4, "cells": strange}).encode()).cells
    assert [(cell.id, cell.cell_type, cell.source) for cell in cells] == [
        ("", "raw", ""),
        ("", "raw", ""),
        ("?", "code", "ab"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(encoding):
    assert len(read(json.dumps(sheet()).encode(encoding)).cells) == 6


def test_an_old_form():
    old = nbformat.convert(nbformat.from_dict(sheet(RIGHT)), 3)
    assert [step.source for step in match(sheet(), read(json.dumps(old).encode())).steps] == WANTED


def test_a_great_many_cells_are_refused():
    with pytest.raises(ValueError, match="at most 2000"):
        matched([new_code_cell("1")] * (MOST_CELLS + 1))
