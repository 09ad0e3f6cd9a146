"""The glossary: in order, complete rows, and each term and symbol really stands in the notebook that it names."""

import re
from pathlib import Path

import pytest

from vitcourse.authoring import notebooks

FOLDER = Path(__file__).parent.parent / "notebooks"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" |")]
    for line in (FOLDER / "glossary.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]


def prose(number):
    (path,) = FOLDER.glob(f"{number}-*.ipynb")
    return "\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown")


def test_terms_are_in_order_and_unique():
    terms = [row[0].casefold() for row in ROWS]
    assert len(terms) >= 50
    assert terms == sorted(set(terms))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_row_is_complete_and_the_notebook_has_the_term_and_the_symbol(row):
    term, spanish, symbols, number, meaning = row
    assert spanish
    assert meaning
    text = prose(number)
    assert re.search(rf"\b{re.escape(term)}", text.replace("*", ""), re.IGNORECASE)
    for symbol in re.findall(r"\$(.+?)\$", symbols):
        assert symbol in text
