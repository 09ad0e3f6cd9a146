"""A notebook in another language: its text is translated by hand, its code cells and outputs are the original's.

A translation of `notebooks/NAME.ipynb` into Spanish is `notebooks/es/NAME.ipynb`, with the same cells under the same
ids. Each translated cell remembers checksums of the original text and of its own: so a changed original is noticed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from vitcourse.authoring import notebooks

REMEMBERED = "translates"  # in the metadata of a Markdown cell
LINK = re.compile(r"(\]\(|(?:src|href)=\")(?![a-z]+:|#|/)")


def translate(original: Path, language: str, done: Sequence[str] = ()) -> list[str]:
    """Make or refresh the translation of a notebook and return the ids of the cells whose text is still to translate.

    Code cells, outputs and the order of cells become the original's. A new Markdown cell holds the original text, with
    links that lead from the translation's folder. A cell counts as translated once its text was changed, until the
    original changes.

    Args:
        done: ids of cells that count as translated as they are, for example a formula alone.

    Raises:
        FileNotFoundError: no such notebook.
        ValueError: a language that isn't two small letters, or an id in `done` that isn't one of a Markdown cell.
    """
    if not re.fullmatch("[a-z]{2}", language):
        raise ValueError(f"language must be a code of two small letters, such as 'es', got {language!r}.")
    path = original.parent / language / original.name
    notebook = notebooks.read(original)
    known = {cell.id: cell for cell in notebooks.read(path).cells} if path.exists() else {}
    texts = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    if strange := set(done) - {cell.id for cell in texts}:
        raise ValueError(f"{original} has no Markdown cell {', '.join(map(repr, sorted(strange)))}.")
    left = []
    for cell in texts:
        text, moved, own = cell.source, LINK.sub(r"\1../", cell.source), known.get(cell.id)
        cell.source = own.source if own else moved
        before = own.metadata.get(REMEMBERED) if own else None
        touched = cell.source != moved if before is None else _checksum(cell.source) != before[1]
        if touched or cell.id in done:
            before = [_checksum(text), _checksum(cell.source)]
        if before is not None:
            cell.metadata[REMEMBERED] = before
        if before is None or before[0] != _checksum(text):
            left.append(cell.id)
    path.parent.mkdir(exist_ok=True)
    notebooks.write(notebook, path)
    return left


def disagreements(path: Path) -> list[str]:
    """Ids of the cells in which a translation isn't its original: other code or outputs, or text not translated."""
    theirs = {cell.id: cell for cell in notebooks.read(path.parents[1] / path.name).cells}
    ours = {cell.id: cell for cell in notebooks.read(path).cells}
    wrong = [name for name in theirs if name not in ours or not _agree(theirs[name], ours[name])]
    return wrong + sorted(ours.keys() - theirs.keys())


def _agree(original, translation) -> bool:
    if original.cell_type == translation.cell_type == "markdown":
        return translation.metadata.get(REMEMBERED, [""])[0] == _checksum(original.source)
    return all(original.get(part) == translation.get(part) for part in ("cell_type", "source", "outputs"))


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
