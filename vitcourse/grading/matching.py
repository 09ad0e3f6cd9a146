"""Put a handed-in notebook back into the shape of its sheet: whatever was deleted, doubled, edited or reordered.

Longer than 150 lines because finding an answer and rebuilding the sheet around it can't be read apart.
"""

from __future__ import annotations

import ast
import functools
import json
import warnings
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode

from vitcourse.grading.sheet import SELF_GRADE

MOST_CELLS = 2000
MOST_LETTERS = 50_000  # of a cell, to be read as code; a longer one is run, but not looked into


@dataclass(frozen=True)
class Step:
    """One cell to run.

    Args:
        cell: its id in the sheet, or in the hand-in for a cell that the learner added.
        source: what is run: the learner's, or the sheet's where theirs is missing; for a check always the sheet's.
        check: the grade id of a check, or "".
        otherwise: what is run if `source` fails: the sheet's own, for a cell that isn't an answer.
    """

    cell: str
    source: str
    check: str = ""
    otherwise: str = ""


@dataclass(frozen=True)
class Matched:
    """What to run, what to mark by hand (texts by grade id), and what was noticed on the way."""

    steps: tuple[Step, ...]
    texts: dict[str, str]
    remarks: tuple[str, ...]


def read(content: bytes) -> NotebookNode:
    """A notebook from its bytes, as version 4; of its cells what is needed here, and each of it of the right kind.

    Raises:
        ValueError: these bytes aren't a notebook.
    """
    try:
        told = json.loads(content)  # UTF-8, also with a mark in front, UTF-16 or UTF-32
        if told.get("nbformat") != 4:
            told = nbformat.reads(json.dumps(told), as_version=4)
        cells = [_tidy(cell) for cell in told["cells"] if isinstance(cell, dict)]
    except Exception as error:  # a stranger's file
        raise ValueError(f"not a notebook ({type(error).__name__}: {_clean(str(error))[:120]})") from None
    if len(cells) > MOST_CELLS:
        raise ValueError(f"it has {len(cells)} cells; at most {MOST_CELLS} are looked at")
    return NotebookNode(cells=cells)


def _tidy(cell: dict[str, Any]) -> NotebookNode:
    source, about = cell.get("source", ""), cell.get("metadata")
    about = about if isinstance(about, dict) else {}
    source = "".join(line for line in source if isinstance(line, str)) if isinstance(source, list) else source
    nbgrader = about.get("nbgrader")
    return NotebookNode(
        id=_clean(cell["id"])[:80] if isinstance(cell.get("id"), str) else "",
        cell_type=cell["cell_type"] if cell.get("cell_type") in ("code", "markdown") else "raw",
        source=_clean(source.replace("\r\n", "\n").replace("\r", "\n")) if isinstance(source, str) else "",
        metadata=NotebookNode(nbgrader=nbgrader if isinstance(nbgrader, dict) else {}),
    )


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which can't be written to a file."""
    return text.encode("utf-8", "replace").decode()


def match(sheet: NotebookNode, handed_in: NotebookNode) -> Matched:
    """The steps of `sheet` with the learner's answers in their places.

    An answer is found by its grade id, else by its cell id, else as the last cell that defines what the sheet's cell
    defines. Cells that the learner added run after the answer that they follow. A text to mark by hand is everything
    that was written into its cell or beside it; if that is nothing, all texts of the learner's own.

    Raises:
        ValueError: not a single answer of this sheet is in the notebook.
    """
    theirs = list(handed_in.cells)
    found, remarks = {}, []
    for cell in filter(_is_answer, sheet.cells):
        candidates = _candidates(cell, theirs)
        if cell.cell_type == "code" and len({theirs[place].source.strip() for place in candidates}) > 1:
            remarks.append(f"{_grade_id(cell)}: {len(candidates)} cells; the last one counts")
        if candidates:
            found[cell.id] = candidates[-1]
        elif cell.cell_type == "code":
            remarks.append(f"{_grade_id(cell)}: its cell is missing")
    if not found:
        raise ValueError("none of this sheet's answers is in it: another notebook?")
    anchored = _anchored(sheet, theirs)
    own = _own_cells(theirs, anchored, set(found.values()))
    texts, said = _texts(sheet, theirs, anchored)
    remarks += said
    steps = []
    steps += [_added(theirs, place) for place in own.get("", ())]
    given = {cell.id: cell.source for cell in theirs if cell.id and cell.cell_type == "code"}
    for cell in sheet.cells:
        if SELF_GRADE in cell.metadata.get("tags", []):
            pass  # left out; the learner's cells behind it aren't
        elif cell.cell_type == "code" and _is_check(cell):
            steps.append(Step(cell.id, cell.source, check=_grade_id(cell)))
        elif cell.cell_type == "code" and _is_answer(cell):
            steps.append(Step(cell.id, theirs[found[cell.id]].source if cell.id in found else cell.source))
        elif cell.cell_type == "code":
            source = given.get(cell.id, cell.source)
            steps.append(Step(cell.id, source, otherwise=cell.source if source != cell.source else ""))
        steps += [_added(theirs, place) for place in own.get(cell.id, ())]
    return Matched(tuple(steps), texts, tuple(remarks))


def graded(sheet: NotebookNode) -> dict[str, float]:
    """Points of each graded cell, by grade id, in the sheet's order; texts are marked by hand."""
    return {_grade_id(cell): float(_nbgrader(cell)["points"]) for cell in sheet.cells if _nbgrader(cell).get("grade")}


def grade_ids(notebook: NotebookNode) -> set[str]:
    """The grade ids in a notebook."""
    return {_grade_id(cell) for cell in notebook.cells} - {""}


def _added(theirs: list[NotebookNode], place: int) -> Step:
    return Step(theirs[place].id or f"added-{place}", theirs[place].source)


def _candidates(cell: NotebookNode, theirs: list[NotebookNode]) -> list[int]:
    """Places of the cells that can be this answer, by the surest sign that there is; what is filled in comes first."""
    same = [place for place, other in enumerate(theirs) if other.cell_type == cell.cell_type]
    found = [
        [place for place in same if _grade_id(theirs[place]) == _grade_id(cell)],
        [place for place in same if theirs[place].id == cell.id],
    ]
    if cell.cell_type == "code":
        wanted = {
            name for name in _defined(cell.source) if f"def {name}" in cell.source or f"class {name}" in cell.source
        }
        found.append([place for place in same if wanted and wanted <= _defined(theirs[place].source)])
    filled = [[place for place in places if theirs[place].source.strip() != cell.source.strip()] for places in found]
    return next((places for places in (*filled, *found) if places), [])


def _anchored(sheet: NotebookNode, theirs: list[NotebookNode]) -> list[tuple[str, bool]]:
    """For each of their cells: the id of the sheet's cell that it is or follows ("" at the top), and whether it is."""
    ids = {cell.id for cell in sheet.cells}
    grades = {_grade_id(cell): cell.id for cell in sheet.cells if _grade_id(cell)}
    sources = {cell.source.strip(): cell.id for cell in sheet.cells}
    after, anchored = "", []
    for cell in theirs:
        known = grades.get(_grade_id(cell)) or (cell.id if cell.id in ids else None)
        known = known or sources.get(cell.source.strip())
        after = known or after
        anchored.append((after, bool(known)))
    return anchored


def _own_cells(theirs: list[NotebookNode], anchored: list[tuple[str, bool]], answers: set[int]) -> dict[str, list[int]]:
    """Places of code cells that the learner added, by the sheet's cell after which they come."""
    own = {}
    for place, (cell, (after, known)) in enumerate(zip(theirs, anchored, strict=True)):
        if not known and cell.cell_type == "code" and place not in answers and not _calls_check(cell.source):
            own.setdefault(after, []).append(place)
    return own


def _texts(
    sheet: NotebookNode, theirs: list[NotebookNode], anchored: list[tuple[str, bool]]
) -> tuple[dict[str, str], list[str]]:
    """What was written to each question that a person marks, by grade id, and remarks on where it was found."""
    handed_out = {cell.source.strip() for cell in sheet.cells} | {""}
    written = [
        (cell.source, after)
        for cell, (after, _) in zip(theirs, anchored, strict=True)
        if cell.cell_type != "code" and cell.source.strip() not in handed_out
    ]
    texts, remarks = {}, []
    for question, cell in zip([None, *sheet.cells], sheet.cells, strict=False):
        if cell.cell_type == "code" or not _is_answer(cell):
            continue
        beside = {cell.id, question.id if question else ""}
        found = [source for source, after in written if after in beside]
        if not found and written:
            found = [source for source, _ in written]
            remarks.append(f"{_grade_id(cell)}: its cell is empty; all other texts are shown in its place")
        elif not found and (cell.id, True) not in anchored:
            remarks.append(f"{_grade_id(cell)}: its cell is missing")
        texts[_grade_id(cell)] = "\n\n".join(found)
    return texts, remarks


def parsed(source: str) -> ast.Module | None:
    """A stranger's code as a tree; None where it is none, or too much."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source) if len(source) <= MOST_LETTERS else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _calls_check(source: str) -> bool:
    """Whether a cell is a copy of a check: it calls `check.NAME(...)` or `grade_sheet(...)`, and does nothing else."""
    tree = parsed(source)
    lines = tree.body if tree else []
    return bool(lines) and all(_is_check_call(line) for line in lines)


def _is_check_call(line: ast.stmt) -> bool:
    if not isinstance(line, ast.Expr) or not isinstance(line.value, ast.Call):
        return False
    called = line.value.func
    while isinstance(called, ast.Attribute):
        called = called.value
    return isinstance(called, ast.Name) and called.id in ("check", "grade_sheet")


@functools.lru_cache(4 * MOST_CELLS)
def _defined(source: str) -> frozenset[str]:
    """The functions and classes that a cell defines at its top level, `name = ...` included."""
    tree = parsed(source)
    if tree is None:
        words = [line.split("(")[0].split(":")[0].split() for line in source[:MOST_LETTERS].splitlines()]
        return frozenset(line[1] for line in words if len(line) == 2 and line[0] in ("def", "class"))
    names = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    given = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    return frozenset(names | {target.id for target in given if isinstance(target, ast.Name)})


def _nbgrader(cell: NotebookNode) -> dict[str, Any]:
    return cell.metadata.get("nbgrader", {})


def _grade_id(cell: NotebookNode) -> str:
    return str(_nbgrader(cell).get("grade_id", ""))


def _is_answer(cell: NotebookNode) -> bool:
    return bool(_nbgrader(cell).get("solution"))


def _is_check(cell: NotebookNode) -> bool:
    return bool(_nbgrader(cell).get("grade")) and not _is_answer(cell)
