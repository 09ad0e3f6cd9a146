"""The maintainers' tools: one normal form, one address."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vitcourse.authoring import address, notebooks
from vitcourse.authoring.__main__ import main

ROOT = Path(__file__).parent.parent


@pytest.fixture
def noisy(tmp_path):
    """A notebook as an editor leaves it."""
    code = new_code_cell("1 + 1", execution_count=17, metadata={"tags": ["keep"], "collapsed": True, "scrolled": True})
    code.outputs = [
        new_output("execute_result", {"text/plain": "2"}, execution_count=17, metadata={"isolated": True}),
        new_output("display_data", {notebooks.WIDGET_VIEW: {"model_id": "3f"}, "text/plain": "interactive(...)"}),
    ]
    notebook = new_notebook(cells=[new_markdown_cell("# A"), code, new_code_cell("2", execution_count=40)])
    notebook.metadata = {"widgets": {"state": {}}, "kernelspec": {"name": "my-env", "display_name": "my-env"}}
    path = tmp_path / "noisy.ipynb"
    nbformat.write(notebook, path)
    return path


def test_normal_form_counts_from_one_and_drops_noise(noisy):
    assert not notebooks.is_normal(noisy)
    assert main(["normalise", "--check", str(noisy)]) == 1
    assert main(["normalise", str(noisy)]) == 0
    assert main(["normalise", "--check", str(noisy)]) == 0
    notebook = notebooks.read(noisy)
    first, second = notebook.cells[1:]
    assert (first.execution_count, second.execution_count) == (1, 2)
    assert first.metadata == {"tags": ["keep"]}
    assert [output.execution_count for output in first.outputs] == [1]
    assert notebook.metadata == notebooks.METADATA


def test_normal_form_keeps_sources_ids_and_pictures(noisy):
    before = notebooks.read(noisy)
    after = notebooks.normalise(notebooks.read(noisy))
    assert [(cell.id, cell.source) for cell in after.cells] == [(cell.id, cell.source) for cell in before.cells]
    assert after.cells[1].outputs[0].data == {"text/plain": "2"}


def test_printed_lines_that_came_in_pieces_are_one_output():
    cell = new_code_cell("...", execution_count=1)
    pieces = [("stdout", "a\n"), ("stdout", "b\n"), ("stderr", "c\n"), ("stdout", "d\n")]
    cell.outputs = [new_output("stream", name=name, text=text) for name, text in pieces]
    notebooks.normalise(new_notebook(cells=[cell]))
    assert [(output.name, output.text) for output in cell.outputs] == [
        ("stdout", "a\nb\n"),
        ("stderr", "c\n"),
        ("stdout", "d\n"),
    ]


def test_execute_writes_outputs_in_normal_form(tmp_path):
    path = tmp_path / "sum.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print(6 * 7)")]), path)
    notebooks.execute(path)
    assert notebooks.is_normal(path)
    assert notebooks.read(path).cells[0].outputs[0].text == "42\n"


def test_a_failing_cell_is_told_and_leaves_the_file_as_it_was(tmp_path, capsys):
    path = tmp_path / "fails.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("print(1)"), new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    assert main(["execute", str(path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"notebook {str(path)!r} can't be executed: ")
    assert "ZeroDivisionError" in told
    assert path.read_bytes() == before


@pytest.fixture
def copy(tmp_path):
    """A copy of the files that name the address."""
    for path in address.files(ROOT):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_all_files_agree_on_the_address():
    assert address.disagreements(ROOT) == []


def test_stamp_writes_the_address_everywhere(copy):
    old = address.current(copy)
    changed = address.stamp(copy, "https://github.com/some-school/vitcourse.git")
    assert {"README.md", "pyproject.toml", "00-start-here.ipynb"} <= {path.name for path in changed}
    assert address.current(copy) == "some-school/vitcourse"
    assert address.disagreements(copy) == []
    assert not any(old in path.read_text(encoding="utf-8") for path in address.files(copy))
    assert all(notebooks.is_normal(path) for path in copy.glob("notebooks/*.ipynb"))
    address.stamp(copy, "another/vitcourse")  # also from a real address to another
    assert address.current(copy) == "another/vitcourse"


def test_an_interrupted_stamp_is_finished_by_the_next(copy, monkeypatch):
    real, old, done = address.write_text, address.current(copy), []
    naming = [path for path in address.files(copy) if old in path.read_text(encoding="utf-8")]

    def full_disk(path, text):
        if len(done) == len(naming) - 1:
            raise OSError("the disk is full")
        done.append(path)
        real(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(address, "write_text", full_disk)
        with pytest.raises(OSError, match="the disk is full"):
            address.stamp(copy, "me/vitcourse-2")
    address.stamp(copy, "me/vitcourse-2")
    assert address.current(copy) == "me/vitcourse-2"
    assert not any(old in path.read_text(encoding="utf-8") for path in address.files(copy))


def test_an_address_that_begins_like_another_is_not_taken_for_it(copy):
    address.stamp(copy, "me/vit")
    (copy / "README.md").write_text("https://github.com/me/vit.git and me/vit-2.", encoding="utf-8")
    address.stamp(copy, "me/vitcourse")
    assert (copy / "README.md").read_text(encoding="utf-8") == "https://github.com/me/vitcourse.git and me/vit-2."


def test_a_forgotten_file_is_found(copy):
    address.stamp(copy, "some-school/vitcourse")
    (copy / "CONTRIBUTING.md").write_text("https://github.com/elsewhere/vitcourse", encoding="utf-8")
    assert address.disagreements(copy) == ["CONTRIBUTING.md: elsewhere/vitcourse"]


@pytest.mark.parametrize("bad", ["vitcourse", "https://example.org/a/b", "a b/c", ""])
def test_a_bad_address_is_refused(copy, bad):
    with pytest.raises(ValueError, match=r"address must be owner/name"):
        address.stamp(copy, bad)
