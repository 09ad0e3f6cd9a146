"""Hand-ins as nbgrader's formgrader opens them: the sheet with a learner's answers and the cards of its checks."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output

from vitcourse.files import write_text, written_whole
from vitcourse.grading import matching
from vitcourse.grading.handed_out import Sheet
from vitcourse.grading.marks import Mark
from vitcourse.grading.results import Result
from vitcourse.grading.submissions import Submission

SUBMITTED, AUTOGRADED = "submitted", "autograded"  # nbgrader's own names
OURS = ".vitcourse"  # marks a folder that was written here


def write(course: Path, sheets: Mapping[str, Sheet], marks: Sequence[Mark], submissions: Sequence[Submission]) -> None:
    """Write STUDENT/SHEET/SHEET.ipynb for each hand-in of a sheet; what nbgrader itself collected stays.

    Args:
        course: as handed in it goes below `course`/submitted, as marked below `course`/autograded.
    """
    contents = {one.file: one.content for one in submissions}
    for mark in marks:
        result = mark.result
        if result.sheet and not result.failed:
            place = Path(result.student, result.sheet, f"{result.sheet}.ipynb")
            content = contents[result.file]
            _hand_in(course / SUBMITTED / place, content, result.handed_in)
            notebook = answered(sheets[result.sheet], content, result)
            write_text(course / AUTOGRADED / place, nbformat.writes(notebook) + "\n")


def check_apart(submissions: Path, course: Path) -> None:
    """Refuse hand-ins that lie where `write` writes.

    Raises:
        ValueError: with the way out.
    """
    place = submissions.resolve()
    for name in (SUBMITTED, AUTOGRADED):
        other = course.resolve() / name
        if place.is_relative_to(other) or other.is_relative_to(place):
            raise ValueError(
                f"submissions {str(submissions)!r} lies where --gradebook writes, {str(other)!r}: copy what was handed "
                "in to another folder, and name that."
            )


def _hand_in(path: Path, content: bytes, when: str) -> None:
    if not content or (path.parent.exists() and not (path.parent / OURS).exists()):
        return
    write_text(path.with_name(OURS), "")
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    # The same time as in the database: otherwise nbgrader takes a hand-in for one that isn't graded yet.
    if when:
        write_text(path.with_name("timestamp.txt"), f"{when}\n")


def answered(sheet: Sheet, content: bytes, result: Result) -> NotebookNode:
    """The sheet with the answers that were found in a hand-in, and its own cells; as handed out where there are none.

    Texts are shown letter by letter: formgrader would run scripts in them, and stop at a picture that isn't there.
    """
    notebook = copy.deepcopy(sheet.notebook)
    cards = {row.grade_id: row.card for row in result.rows}
    try:
        matched = matching.match(sheet.notebook, matching.read(content))
    except ValueError:
        matched = matching.Matched((), {}, ())
    sources = {step.cell: step.source for step in matched.steps}
    cells = [*_added(matched, notebook, "")]
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        grade_id = about.get("grade_id", "")
        if grade_id in matched.texts:
            cell.source = _literal(matched.texts[grade_id])
        elif cell.cell_type == "code":
            cell.source = sources.get(cell.id, cell.source)
            card = cards.get(grade_id)
            cell.outputs = [new_output("display_data", {"text/html": card})] if card else []
        cells += [cell, *_added(matched, notebook, cell.id)]
    notebook.cells = cells
    return notebook


def _literal(text: str) -> str:
    """Markdown that shows a text as it stands: between fences longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _added(matched: matching.Matched, notebook: NotebookNode, after: str) -> list[NotebookNode]:
    """The learner's own cells behind a cell of the sheet."""
    known, last, found = {cell.id for cell in notebook.cells}, "", []
    for step in matched.steps:
        if step.cell in known:
            last = step.cell
        elif last == after:
            found.append(new_code_cell(step.source))
    return found
