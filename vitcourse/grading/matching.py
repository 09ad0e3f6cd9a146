"""Put a handed-in notebook back into the shape of its sheet: whatever was deleted, doubled, edited or reordered.

Longer than 150 lines because finding an answer and rebuilding the sheet around it can't be read apart.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode

SELF_GRADE = "self-grade"  # the tag of a sheet's last cell


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
    """A notebook from its bytes, as version 4.

    Raises:
        ValueError: these bytes aren't a notebook.
    """
    try:
        notebook = nbformat.reads(content.decode("utf-8-sig"), as_version=4)
        if not all(isinstance(_source(cell), str) for cell in notebook.cells):
            raise TypeError("a cell without a source")
        return notebook
    except Exception as error:
        raise ValueError(f"not a notebook ({type(error).__name__}: {str(error)[:120]})") from None


def match(sheet: NotebookNode, handed_in: NotebookNode) -> Matched:
    """The steps of `sheet` with the learner's answers in their places.

    An answer is found by its grade id, else by its cell id, else as the last cell that defines what the sheet's cell
    defines, else, for texts, by likeness. Cells that the learner added run after the answer that they follow.

    Raises:
        ValueError: not a single answer of this sheet is in the notebook.
    """
    theirs = list(handed_in.cells)
    found, remarks = {}, []
    for cell in filter(_is_answer, sheet.cells):
        candidates = _candidates(cell, theirs)
        if len(candidates) > 1:
            remarks.append(f"{_grade_id(cell)}: {len(candidates)} cells; the last one counts")
        if candidates:
            found[cell.id] = candidates[-1]
        else:
            remarks.append(f"{_grade_id(cell)}: its cell is missing")
    if not found:
        raise ValueError("none of this sheet's answers is in it: another notebook?")
    own = _own_cells(sheet, theirs, set(found.values()))
    steps, texts = [], {}
    steps += [Step(theirs[place].get("id", f"added-{place}"), theirs[place].source) for place in own.get("", ())]
    given = {cell.get("id"): cell.source for cell in theirs if cell.get("cell_type") == "code"}
    for cell in sheet.cells:
        if SELF_GRADE in cell.metadata.get("tags", []):
            continue
        if cell.cell_type == "code" and _is_check(cell):
            steps.append(Step(cell.id, cell.source, check=_grade_id(cell)))
        elif cell.cell_type == "code" and _is_answer(cell):
            steps.append(Step(cell.id, theirs[found[cell.id]].source if cell.id in found else cell.source))
        elif cell.cell_type == "code":
            source = given.get(cell.id, cell.source)
            steps.append(Step(cell.id, source, otherwise=cell.source if source != cell.source else ""))
        elif _is_answer(cell):
            texts[_grade_id(cell)] = theirs[found[cell.id]].source if cell.id in found else ""
        steps += [
            Step(theirs[place].get("id", f"added-{place}"), theirs[place].source) for place in own.get(cell.id, ())
        ]
    return Matched(tuple(steps), texts, tuple(remarks))


def graded(sheet: NotebookNode) -> dict[str, float]:
    """Points of each graded cell, by grade id, in the sheet's order; texts are marked by hand."""
    return {_grade_id(cell): float(_nbgrader(cell)["points"]) for cell in sheet.cells if _nbgrader(cell).get("grade")}


def _candidates(cell: NotebookNode, theirs: list[NotebookNode]) -> list[int]:
    """Places of the cells that can be this answer, by the surest sign that there is."""
    same = [place for place, other in enumerate(theirs) if other.get("cell_type") == cell.cell_type]
    by_grade = [place for place in same if _grade_id(theirs[place]) == _grade_id(cell)]
    by_id = [place for place in same if theirs[place].get("id") == cell.id]
    if cell.cell_type == "code":
        wanted = _defined(cell.source)
        by_text = [place for place in same if wanted and wanted <= _defined(theirs[place].source)]
        # An answer that moved to another cell, while the old one was left as it was handed out.
        filled = [place for place in by_text if theirs[place].source.strip() != cell.source.strip()]
        for places in (by_grade, by_id):
            if places and any(theirs[place].source.strip() != cell.source.strip() for place in places):
                return places
        return filled or by_grade or by_id or by_text
    near = [place for place in same if _likeness(theirs[place].source, cell.source) > 0.6]
    return by_grade or by_id or near


def _own_cells(sheet: NotebookNode, theirs: list[NotebookNode], answers: set[int]) -> dict[str, list[int]]:
    """Places of code cells that the learner added, by the sheet's cell after which they come ("" at the top)."""
    ids = {cell.id: cell for cell in sheet.cells}
    grades = {_grade_id(cell): cell.id for cell in sheet.cells if _grade_id(cell)}
    sources = {cell.source.strip(): cell.id for cell in sheet.cells}
    after, own = "", {}
    for place, cell in enumerate(theirs):
        known = grades.get(_grade_id(cell)) or (cell.get("id") if cell.get("id") in ids else None)
        known = known or sources.get(cell.source.strip())
        if known:
            after = known
        elif cell.get("cell_type") == "code" and place not in answers and not _calls_check(cell.source):
            own.setdefault(after, []).append(place)
    return own


def _calls_check(source: str) -> bool:
    """Whether a cell is a copy of a check: `check.NAME(...)` as a statement."""
    try:
        lines = ast.parse(source).body
    except SyntaxError:
        return False
    calls = [line.value.func for line in lines if isinstance(line, ast.Expr) and isinstance(line.value, ast.Call)]
    return any(isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name) and f.value.id == "check" for f in calls)


def _defined(source: str) -> set[str]:
    """The functions and classes that a cell defines at its top level."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        words = [line.split("(")[0].split(":")[0].split() for line in source.splitlines()]
        return {line[1] for line in words if len(line) == 2 and line[0] in ("def", "class")}
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one[:2000], other[:2000]).ratio()


def _nbgrader(cell: NotebookNode) -> dict[str, Any]:
    about = cell.get("metadata", {}).get("nbgrader", {})
    return about if isinstance(about, dict) else {}


def _grade_id(cell: NotebookNode) -> str:
    return str(_nbgrader(cell).get("grade_id", ""))


def _is_answer(cell: NotebookNode) -> bool:
    return bool(_nbgrader(cell).get("solution"))


def _is_check(cell: NotebookNode) -> bool:
    return bool(_nbgrader(cell).get("grade")) and not _is_answer(cell)


def _source(cell: NotebookNode) -> Any:
    return cell.get("source")
