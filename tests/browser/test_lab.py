"""Notebooks as learners meet them: in JupyterLab, in a real browser, by menu and keyboard.

The gate opens the notebook of `GATE`; `--all` opens every notebook, and the first also in the dark theme.
VITCOURSE_SCREENSHOTS names a folder for the screenshots; otherwise they lie in pytest's temporary folder.
With `-s` the seconds are printed that the run and each new figure took.
"""

import os
import shutil
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
pytest.importorskip("jupyterlab", reason="the browser tests need JupyterLab")

import lab

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
GATE = "00-start-here"
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"
PNG, WIDGET = "image/png", "application/vnd.jupyter.widget-view+json"
CHROMIUM = lab.find_chromium()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(lab.CHROMIUM)} is installed")


def case(name, theme, *marks):
    return pytest.param(name, theme, marks=marks, id=f"{name}-{theme.split()[-1].lower()}")


def cases():
    """(notebook, theme): the one of the gate, then with `--all` its dark theme and every other notebook."""
    paths = [path for path in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    names = sorted(path.relative_to(NOTEBOOKS).with_suffix("").as_posix() for path in paths)
    names.remove(GATE)
    wide = [(GATE, DARK), *((name, LIGHT) for name in names)]
    return [case(GATE, LIGHT), *(case(name, theme, pytest.mark.wide) for name, theme in wide)]


@pytest.fixture
def root(tmp_path):
    """A copy of the notebooks' folder, for Lab to save into."""
    ignored = shutil.ignore_patterns(".*", "__pycache__")
    shutil.copytree(NOTEBOOKS, tmp_path / "root" / "notebooks", ignore=ignored)
    return tmp_path / "root"


@pytest.fixture
def take(request, tmp_path):
    """Save a screenshot of a page under a name."""
    folder = Path(os.environ.get("VITCOURSE_SCREENSHOTS") or tmp_path / "screenshots")
    prefix = request.node.callspec.id.replace("/", "-")

    def save(page, name):
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{prefix}-{name}.png")

    return save


def kinds(cell):
    """The formats of a cell's outputs."""
    return {kind for output in cell["outputs"] for kind in output.get("data", {})}


def saved_figures(path):
    """The ids of the cells whose output, as the notebook was saved, holds a figure."""
    cells = nbformat.read(path, as_version=4).cells
    return {cell.id for cell in cells if cell.cell_type == "code" and PNG in kinds(cell)}


def check_cells(cells):
    """Every code cell has run, in order, without an error."""
    failed = {cell["id"]: o["evalue"] for cell in cells for o in cell["outputs"] if o["output_type"] == "error"}
    assert not failed
    counts = [cell["count"] for cell in cells if cell["type"] == "code" and cell["source"].strip()]
    assert counts == list(range(1, len(counts) + 1))


def check_images(notebook, cells, expected):
    """Every image is shown, and the cells that showed a figure when the notebook was saved show one again."""
    sizes = {cell["id"]: notebook.image_sizes(cell["place"]) for cell in cells}
    broken = {cell: found for cell, found in sizes.items() if any(0 in size for size in found)}
    assert not broken, f"images that the browser cannot show: {broken}"
    expected = expected | {cell["id"] for cell in cells if PNG in kinds(cell)}
    assert {cell for cell in expected if not sizes[cell]} == set()
    return len(expected)


def check_explorer(explorer, take, name):
    """Each slider, moved by keyboard and back, changes its reading and the figure."""
    take(explorer.page, f"{name}-before")
    assert all(explorer.labels), f"a slider without a label: {explorer.labels}"
    for slider, label in enumerate(explorer.labels):
        before, after, seconds = explorer.move(slider)
        print(f"{name}: {label} {before} -> {after}, new figure after {seconds:.2f} s")
        assert after != before
        assert explorer.error_text() == ""
        if slider == len(explorer.labels) - 1:
            take(explorer.page, f"{name}-after")
        explorer.move_back(slider)


@pytest.mark.parametrize(("name", "theme"), cases())
def test_notebook(name, theme, root, tmp_path, take):
    path = root / "notebooks" / f"{name}.ipynb"
    expected = saved_figures(path)
    server = lab.running_lab(root, tmp_path / "jupyter", theme)
    with server as address, lab.chromium_page(CHROMIUM) as (page, seen):
        notebook = lab.Notebook(page, address, path.relative_to(root).as_posix())
        take(page, "top")
        print(f"{name}: ran in {notebook.run_all():.0f} s")
        take(page, "end")

        cells = notebook.cells()
        check_cells(cells)
        figures = check_images(notebook, cells, expected)
        explorers = [cell for cell in cells if WIDGET in kinds(cell)]
        assert name != GATE or (figures and explorers), "the gate's notebook should show figures and an explorer"
        for cell in explorers:
            check_explorer(notebook.explorer(cell["place"]), take, cell["id"])
        assert seen.foreign_hosts == set()
        assert seen.errors == []
        assert notebook.formula_errors() == []
