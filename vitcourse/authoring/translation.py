"""A notebook in another language: its text is translated by hand, its code cells and outputs are the original's.

A translation of `notebooks/NAME.ipynb` into Spanish is `notebooks/es/NAME.ipynb`, with the same cells under the same
ids. Each Markdown cell remembers of which original it is a translation: so a changed original is noticed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from vitcourse.authoring import notebooks

# In the metadata of a Markdown cell three checksums: of the original that it translates, "" for none yet; and, when
# `translate` last ran, of its own text and of the original. An original counts with the links that its copy has.
REMEMBERED = "translates"
LINK = re.compile(r"(\]\(|(?:src|href)=\")(?![a-z]+:|#|/)")


def translate(original: Path, language: str, done: Sequence[str] = ()) -> list[str]:
    """Make or refresh the translation of a notebook and return the ids of the cells whose text is still to translate.

    Code cells, outputs and the order of cells become the original's. A new Markdown cell holds the original text, with
    links that lead from the translation's folder, and follows the original as long as it is left so. A cell counts as
    translated once its text was changed: from the original as it was when this last ran, until that changes.

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
    known = _markdown(notebooks.read(path)) if path.exists() else {}
    texts = _markdown(notebook)
    if strange := set(done) - texts.keys():
        raise ValueError(f"{original} has no Markdown cell {', '.join(map(repr, sorted(strange)))}.")
    left = []
    for name, cell in texts.items():
        copy, own = _copy(cell.source), known.get(name)
        text = own.source if own else copy
        now, found = _checksum(copy), _checksum(text)
        translated, before, seen = (own or cell).metadata.get(REMEMBERED, ("", found, now))
        if name in done:
            translated = now
        elif found != before:
            translated = seen
        cell.source = copy if found == seen else text
        cell.metadata[REMEMBERED] = [translated, _checksum(cell.source), now]
        if translated != now:
            left.append(name)
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
        return translation.metadata.get(REMEMBERED, [""])[0] == _checksum(_copy(original.source))
    return all(original.get(part) == translation.get(part) for part in ("cell_type", "source", "outputs"))


def _markdown(notebook) -> dict:
    return {cell.id: cell for cell in notebook.cells if cell.cell_type == "markdown"}


def _copy(text: str) -> str:
    """The same text with links that lead from the folder of a translation."""
    return LINK.sub(r"\1../", text)


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
