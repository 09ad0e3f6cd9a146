"""A learner's own sheet, graded in a fresh kernel, whatever happened to it."""

import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vitcourse.__main__ import main
from vitcourse.grading import grade_sheet

pytest.importorskip("nbclient")

SET_UP = "import torch\nfrom vitcourse.checks import embeddings as check"
RIGHT = "def one_hot(ids, num_classes):\n    return torch.eye(num_classes)[ids]"


def sheet(path, *cells):
    """A small sheet: sources; one that begins with check is graded, with 2 points."""
    made = []
    for source in cells:
        cell = new_code_cell(source)
        if source.startswith("check."):
            name = source.partition("(")[0].removeprefix("check.")
            cell.metadata["nbgrader"] = {"grade": True, "points": 2, "grade_id": f"check-{name}", "solution": False}
        made.append(cell)
    nbformat.write(new_notebook(cells=made), path)
    return path


def rows(marks):
    return {row.exercise: (row.earned, row.remark) for row in marks.rows}


def test_points_exercise_by_exercise(tmp_path):
    path = sheet(
        tmp_path / "mine.ipynb",
        SET_UP,
        RIGHT,
        "check.one_hot(one_hot)",
        "def rotation(k, dim, base):\n    return torch.eye(dim)",
        "check.rotation(rotation)",
        "def sinusoidal_encoding(length, dim, base):\n    raise NotImplementedError",
        "check.sinusoidal_encoding(sinusoidal_encoding)",
        "check.plot_encoding(plot_encoding)",
    )
    before = path.read_bytes()
    marks = grade_sheet(path)
    found = rows(marks)
    assert found["one_hot"] == (2, "")
    assert found["rotation"][0] == 0
    assert found["rotation"][1].startswith("R: ")
    assert found["sinusoidal_encoding"] == (0, "not filled in")
    assert found["plot_encoding"] == (0, "NameError: name 'plot_encoding' is not defined")
    assert (marks.earned, marks.points) == (2, 8)
    assert path.read_bytes() == before
    assert "total" in str(marks)
    assert "<table>" in marks._repr_html_()


def test_a_named_belief_stands_in_the_remark(tmp_path):
    wrong = "import torch.nn.functional as F\ndef one_hot(ids, num_classes):\n    return F.one_hot(ids, num_classes)"
    marks = grade_sheet(sheet(tmp_path / "mine.ipynb", SET_UP, wrong, "check.one_hot(one_hot)"))
    assert rows(marks)["one_hot"] == (0, "whole numbers")


def test_a_cell_that_never_ends_is_stopped_and_the_others_count(tmp_path):
    path = sheet(tmp_path / "mine.ipynb", SET_UP, "while True:\n    pass", RIGHT, "check.one_hot(one_hot)")
    assert rows(grade_sheet(path, seconds=20))["one_hot"] == (2, "")  # the imports take some of them on a busy machine


def test_a_kernel_that_dies_loses_what_comes_after(tmp_path):
    rest = ("import os\nos._exit(1)", "check.rotation(one_hot)")
    path = sheet(tmp_path / "mine.ipynb", SET_UP, RIGHT, "check.one_hot(one_hot)", *rest)
    found = rows(grade_sheet(path))
    assert found["one_hot"] == (2, "")
    assert found["rotation"] == (0, "the kernel died before or in this cell")


def test_what_is_marked_by_hand_is_said_to_be(tmp_path):
    cell = new_markdown_cell("words")
    cell.metadata["nbgrader"] = {"grade": True, "solution": True, "points": 6, "grade_id": "discussion"}
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "mine.ipynb")
    marks = grade_sheet(tmp_path / "mine.ipynb")
    assert rows(marks) == {"discussion": (None, "marked by hand")}
    assert "- of 6" in str(marks)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is no file. Save the sheet first"),
        ("", "isn't a notebook"),
        ("{", "isn't a notebook"),
        ('{"cells": []}', "isn't a notebook|has no graded cells"),
        ('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "has no graded cells"),
    ],
)
def test_a_file_that_is_no_sheet_gets_one_sentence(tmp_path, content, words, capsys):
    path = tmp_path / "mine.ipynb"
    if content is not None:
        path.write_text(content)
    assert main(["grade", "sheet", str(path)]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    with pytest.raises((FileNotFoundError, ValueError), match=words):
        grade_sheet(path)


def test_rows_carry_the_number_of_their_exercise(tmp_path):
    path = sheet(tmp_path / "mine.ipynb", SET_UP, RIGHT, "check.one_hot(one_hot)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(1, new_markdown_cell("## 1.1 One-hot rows\n\ntext"))
    nbformat.write(notebook, path)
    assert rows(grade_sheet(path)) == {"1.1 one_hot": (2, "")}


def test_a_notebook_without_ids_as_colab_saves_it(tmp_path):
    path = sheet(tmp_path / "mine.ipynb", SET_UP, RIGHT, "check.one_hot(one_hot)")
    told = json.loads(path.read_text())
    for cell in told["cells"]:
        del cell["id"]
    path.write_text(json.dumps(told | {"nbformat_minor": 0}))
    assert rows(grade_sheet(path)) == {"one_hot": (2, "")}


def test_the_command_prints_the_table(tmp_path, capsys):
    path = sheet(tmp_path / "mine.ipynb", SET_UP, RIGHT, "check.one_hot(one_hot)")
    assert main(["grade", "sheet", str(path)]) == 0
    assert capsys.readouterr().out.split() == ["mine", "one_hot", "2", "of", "2", "total", "2", "of", "2"]


def test_it_works_inside_a_kernel_too(tmp_path):
    inner = sheet(tmp_path / "inner.ipynb", SET_UP, RIGHT, "check.one_hot(one_hot)")
    source = f"from vitcourse.grading import grade_sheet\nassert grade_sheet({str(inner)!r}).earned == 2"
    outer = sheet(tmp_path / "outer.ipynb", SET_UP, source, RIGHT, "check.one_hot(one_hot)")
    nested = new_code_cell("check.rotation(marks)")  # fails unless the cell above ran
    notebook = nbformat.read(outer, as_version=4)
    notebook.cells[1].source += "\nmarks = 1"
    notebook.cells.append(nested)
    nested.metadata["nbgrader"] = {"grade": True, "points": 1, "grade_id": "check-ran", "solution": False}
    nbformat.write(notebook, outer)
    assert rows(grade_sheet(outer))["ran"][1].startswith("Pass the function itself")


def test_an_unfilled_check_shows_one_line_and_no_traceback(tmp_path):
    from nbclient import NotebookClient

    source = "def one_hot(ids, num_classes):\n    raise NotImplementedError"
    notebook = nbformat.read(sheet(tmp_path / "mine.ipynb", SET_UP, source, "check.one_hot(one_hot)"), as_version=4)
    NotebookClient(notebook, allow_errors=True, kernel_name="python3").execute()
    (output,) = notebook.cells[2].outputs
    assert output.ename == "NotImplementedError"
    assert output.traceback == ["NotImplementedError: one_hot isn't filled in yet."]
