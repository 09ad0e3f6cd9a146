"""Notebooks in another language: the original's code and outputs, and a note of what is still to translate."""

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vitcourse.authoring import notebooks, translation
from vitcourse.authoring.__main__ import main

ROOT = Path(__file__).parent.parent
TRANSLATIONS = sorted((ROOT / "notebooks").glob("[a-z][a-z]/*.ipynb"))


@pytest.fixture
def original(tmp_path):
    cells = [
        new_markdown_cell("# A start, [next](01-b.ipynb), [more](https://example.org), ![](images/a.png)", id="title"),
        new_code_cell("1 + 1", id="sum", execution_count=1),
        new_markdown_cell("$$x$$", id="formula"),
    ]
    path = tmp_path / "00-a.ipynb"
    notebooks.write(new_notebook(cells=cells), path)
    return path


def edit(path, cell_id, text):
    notebook = notebooks.read(path)
    next(cell for cell in notebook.cells if cell.id == cell_id).source = text
    notebooks.write(notebook, path)


def test_a_translation_begins_as_the_original_with_links_that_lead_from_its_folder(original):
    assert translation.translate(original, "es") == ["title", "formula"]
    path = original.parent / "es" / original.name
    assert notebooks.read(path).cells[0].source == (
        "# A start, [next](../01-b.ipynb), [more](https://example.org), ![](../images/a.png)"
    )
    assert translation.disagreements(path) == ["title", "formula"]
    assert notebooks.is_normal(path)


def test_what_is_translated_stays_until_the_original_changes(original):
    translation.translate(original, "es")
    path = original.parent / "es" / original.name
    edit(path, "title", "# Un comienzo")
    assert translation.translate(original, "es", done=["formula"]) == []
    assert translation.disagreements(path) == []
    edit(original, "title", "# Another start")
    assert translation.disagreements(path) == ["title"]
    assert translation.translate(original, "es") == ["title"]
    assert notebooks.read(path).cells[0].source == "# Un comienzo"
    edit(path, "title", "# Otro comienzo")
    assert translation.translate(original, "es") == []


def test_what_is_not_translated_yet_follows_the_original(original):
    translation.translate(original, "es")
    path = original.parent / "es" / original.name
    edit(original, "title", "# A [better](01-b.ipynb) start")
    assert translation.translate(original, "es") == ["title", "formula"]
    assert notebooks.read(path).cells[0].source == "# A [better](../01-b.ipynb) start"
    assert translation.disagreements(path) == ["title", "formula"]
    assert translation.translate(original, "es", done=["title", "formula"]) == []
    edit(original, "formula", "$$y$$")  # the copy that was done follows too, and is to be looked at again
    assert translation.translate(original, "es") == ["formula"]
    assert notebooks.read(path).cells[2].source == "$$y$$"


@pytest.mark.parametrize("again", [False, True], ids=["the first translation", "a later one"])
def test_a_text_translated_before_the_original_changed_is_to_be_translated_again(original, again):
    translation.translate(original, "es", done=["formula"])
    path = original.parent / "es" / original.name
    if again:
        edit(path, "title", "# Un comienzo")
        assert translation.translate(original, "es") == []
    edit(path, "title", "# El comienzo")
    edit(original, "title", "# Another start")
    for _ in range(2):
        assert translation.translate(original, "es") == ["title"]
        assert translation.disagreements(path) == ["title"]
    assert notebooks.read(path).cells[0].source == "# El comienzo"
    edit(path, "title", "# Otro comienzo")
    assert translation.translate(original, "es") == []
    assert translation.disagreements(path) == []


def test_a_text_of_which_nothing_is_remembered_is_kept_and_left(original):
    translation.translate(original, "es")
    path = original.parent / "es" / original.name
    notebook = notebooks.read(path)
    del notebook.cells[0].metadata[translation.REMEMBERED]
    notebook.cells[0].source = "# Un comienzo"
    notebooks.write(notebook, path)
    assert translation.translate(original, "es", done=["formula"]) == ["title"]
    assert notebooks.read(path).cells[0].source == "# Un comienzo"


def test_code_outputs_and_order_are_always_the_originals(original):
    translation.translate(original, "es", done=["title", "formula"])
    path = original.parent / "es" / original.name
    notebook = notebooks.read(original)
    notebook.cells[1].outputs = [new_output("stream", text="2\n")]
    notebook.cells.insert(0, new_code_cell("0", id="zero", execution_count=1))
    notebooks.write(notebook, original)
    edit(path, "sum", "1 + 2")
    assert translation.disagreements(path) == ["zero", "sum"]
    assert translation.translate(original, "es") == []
    assert [cell.id for cell in notebooks.read(path).cells] == ["zero", "title", "sum", "formula"]
    assert translation.disagreements(path) == []


def test_cells_that_the_original_lost_are_lost(original):
    translation.translate(original, "es", done=["title", "formula"])
    path = original.parent / "es" / original.name
    notebook = notebooks.read(original)
    del notebook.cells[2]
    notebooks.write(notebook, original)
    assert translation.disagreements(path) == ["formula"]
    assert translation.translate(original, "es") == []
    assert translation.disagreements(path) == []


@pytest.mark.parametrize(("arguments", "words"), [(["spanish"], "two small letters"), (["es", "--done", "a"], "'a'")])
def test_a_language_or_a_cell_that_there_is_not_is_named(original, arguments, words, capsys):
    assert main(["translate", str(original), *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not (original.parent / "es").exists()


def test_the_command_lists_what_is_left(original, capsys):
    assert main(["translate", str(original), "es"]) == 0
    assert capsys.readouterr().out == "title\nformula\n"


def test_translations_are_their_originals():
    assert {path: wrong for path in TRANSLATIONS if (wrong := translation.disagreements(path))} == {}
