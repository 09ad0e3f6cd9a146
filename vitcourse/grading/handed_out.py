"""The sheets as they were handed out, and which of them a hand-in is."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from vitcourse.grading import matching
from vitcourse.grading.sheet import headings
from vitcourse.grading.submissions import Submission

CHECKS = re.compile(r"from vitcourse\.checks import (\w+) as check")


@dataclass(frozen=True)
class Sheet:
    """One sheet as it was handed out."""

    name: str
    text: str

    @functools.cached_property
    def notebook(self) -> Any:
        """The notebook."""
        return nbformat.reads(self.text, as_version=4)

    @functools.cached_property
    def titles(self) -> dict[str, str]:
        """The heading of each graded cell, "2.3 Masks", by its grade id."""
        cells = self.notebook.cells
        return {
            cell.metadata.nbgrader.grade_id: heading
            for cell, heading in zip(cells, headings(cells), strict=True)
            if "nbgrader" in cell.metadata
        }

    @property
    def module(self) -> str:
        """The name of its check module."""
        found = CHECKS.search("\n".join(cell.source for cell in self.notebook.cells))
        if not found:
            raise ValueError(f"sheet {self.name!r} imports no module of vitcourse.checks as check.")
        return found[1]


def sheets_in(folder: Path) -> dict[str, Sheet]:
    """The sheets as they were handed out, by name: `folder`/NAME/NAME.ipynb.

    Raises:
        FileNotFoundError: none there.
    """
    paths = sorted(folder.glob("*/*.ipynb"))
    found = {
        path.stem: Sheet(path.stem, path.read_text(encoding="utf-8")) for path in paths if path.parent.name == path.stem
    }
    if not found:
        raise FileNotFoundError(f"sheets {str(folder)!r} holds no NAME/NAME.ipynb: name the course's folder exercises.")
    return found


def model_answers(folder: Path) -> dict[tuple[str, str], str]:
    """The model answers and mark schemes to what is marked by hand, by sheet and grade id; {} where there are none.

    Args:
        folder: the solutions, as `sheets_in` reads them.
    """
    try:
        found = sheets_in(folder)
    except FileNotFoundError:
        return {}
    return {
        (name, cell.metadata.nbgrader.grade_id): cell.source
        for name, sheet in found.items()
        for cell in sheet.notebook.cells
        if cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("grade")
    }


def recognised(submission: Submission, sheets: Mapping[str, Sheet]) -> Sheet | None:
    """The sheet of which a hand-in has most graded cells, else whose answers it holds, else by the file's name.

    None where nothing tells. Never raises for what came from outside.
    """
    try:
        notebook = matching.read(submission.content)
    except ValueError:
        notebook = None
    if notebook is not None:
        ids = {cell.id for cell in notebook.cells} | matching.grade_ids(notebook)
        shared = {name: _shared(sheet, ids) for name, sheet in sheets.items()}
        most = max(shared.values())
        best = [name for name in sheets if shared[name] == most]
        fits = best if most[0] and len(best) == 1 else [name for name in best if _fits(sheets[name], notebook)]
        if len(fits) == 1:
            return sheets[fits[0]]
    named = [name for name in sheets if name in submission.file]
    return sheets[named[0]] if len(named) == 1 else None


def _shared(sheet: Sheet, ids: set[str]) -> tuple[int, float]:
    """How many of a sheet's graded cells there are, and their share: it tells an exam of some cells from its sheet."""
    graded = matching.graded(sheet.notebook)
    count = len(ids & set(graded))
    return count, count / max(len(graded), 1)


def _fits(sheet: Sheet, notebook: Any) -> bool:
    try:
        matching.match(sheet.notebook, notebook)
    except Exception:  # ValueError: another sheet; anything else a stranger's file that stops nobody else
        return False
    return True
