"""The rules that every notebook keeps, whatever it teaches. What its cells compute, nbval checks."""

import itertools
import re
from pathlib import Path
from statistics import median

import pytest

from vitcourse.authoring import notebooks

ROOT = Path(__file__).parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
MACHINE_PATH = re.compile(r"(/home/|/root/|/tmp/|/work/|/Users/|[A-Z]:\\\\Users)")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return notebooks.read(request.param)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def lines_of_code(notebook):
    return [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code_cells(notebook)]


def prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_there_are_notebooks_and_they_are_numbered_in_order():
    assert [path.stem[:2] for path in PATHS] == [f"{number:02}" for number in range(13)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_is_in_normal_form(path):
    assert notebooks.is_normal(path), "run `python -m vitcourse.authoring normalise notebooks/*.ipynb`"


def test_was_run_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_hold_no_error_no_warning_and_no_path_of_a_machine(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", cell.id
    assert not MACHINE_PATH.search(notebooks.as_text(notebook))


def test_cell_ids_are_readable_and_unique(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for name in ids:
        assert ID.fullmatch(name), name
        assert not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}.*)?", name), name


def test_code_cells_are_short(notebook):
    lines = lines_of_code(notebook)
    assert median(lines) <= 6
    assert max(lines) <= 20


def test_code_is_narrow_enough_to_read(notebook):
    for cell in code_cells(notebook):
        for line in cell.source.splitlines():
            assert len(line) <= 88, f"{cell.id}: {line}"


def test_five_to_twelve_words_a_line_of_code(notebook):
    unfolded = re.sub(r"<details>.*?</details>", "", prose(notebook), flags=re.DOTALL)
    visible = re.sub(r"\]\([^)]*\)", "]", unfolded)  # neither folded answers nor addresses of links
    words = len(re.findall(r"[^\W\d_]+", visible))
    assert 5 <= words / sum(lines_of_code(notebook)) <= 12


def test_every_figure_has_a_number_a_caption_and_words(notebook):
    number = 0
    for cell, following in zip(notebook.cells, [*notebook.cells[1:], None], strict=True):
        if not any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            continue
        number += 1
        caption = following.source
        assert caption.startswith(f"**Figure {number}.**"), cell.id
        assert f"<summary>Figure {number} in words</summary>" in caption, cell.id
    assert number >= 1


def test_headings_are_in_order(notebook):
    levels = [len(match) for match in re.findall(r"^(#+) ", prose(notebook), flags=re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_asks_before_it_tells_and_closes_with_questions(notebook):
    text = prose(notebook)
    assert text.count("**Predict.**") >= 4
    assert "## Recap" in text
    closing = text[text.index("## Recap") :]
    assert len(re.findall(r"^\d\. ", closing, flags=re.MULTILINE)) == 5
    assert closing.count("<details><summary>") == 3
    for part in ("**To read.**", "**Next.**"):
        assert part in closing


def test_something_is_compared_and_something_is_asserted(notebook):
    tags = [tag for cell in code_cells(notebook) for tag in cell.metadata.get("tags", [])]
    assert "nbval-check-output" in tags
    assert any(re.search(r"\bassert\b|assert_close", cell.source) for cell in code_cells(notebook))


def test_the_readme_shows_the_signature_figure():
    figure = notebooks.picture(notebooks.read(PATHS[0]), "inside")
    assert (ROOT / "notebooks" / "images" / "inside.png").read_bytes() == figure, (
        "run `python -m vitcourse.authoring picture notebooks/00-start-here.ipynb inside notebooks/images/inside.png`"
    )


def test_local_links_lead_somewhere(notebook):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", prose(notebook)):
        assert (ROOT / "notebooks" / target).exists(), target
