"""The class's marks in nbgrader's own database, so that its formgrader shows the course."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitcourse.grading.by_hand import Given
from vitcourse.grading.handed_out import Sheet
from vitcourse.grading.marks import Mark

COURSE = "vitcourse"  # as in nbgrader_config.py


def fill(url: str, sheets: Mapping[str, Sheet], marks: Sequence[Mark]) -> None:
    """Write sheets, students, hand-ins, points and comments; what a human entered in nbgrader stays.

    Points and comments of by-hand.csv are written where nbgrader keeps an autograder's: they follow each correction
    there, and a human's in formgrader go before them.

    Args:
        url: of the database, such as "sqlite:///gradebook.db".

    Raises:
        ImportError: nbgrader isn't installed.
        ValueError: no address of a database.
    """
    try:
        from nbgrader.api import Gradebook
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise ImportError("--gradebook needs nbgrader: pip install nbgrader, or the extra `teach`.") from None
    # nbgrader calls `alembic` as a program: it lies beside this Python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        with Gradebook(url, course_id=COURSE) as book:
            for name in sorted({mark.result.sheet for mark in marks if mark.result.sheet}):
                _add_sheet(book, sheets[name])
            for mark in marks:
                if mark.result.sheet and not mark.result.failed:
                    _add_mark(book, sheets[mark.result.sheet], mark)
    except SQLAlchemyError as error:
        raise ValueError(f"gradebook {url!r} can't be opened or written: {str(error)[:200]}") from None


def _add_sheet(book: Any, sheet: Sheet) -> None:
    book.update_or_create_assignment(sheet.name)
    book.update_or_create_notebook(sheet.name, sheet.name)
    for cell in sheet.notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if not (about.get("grade") or about.get("solution")):
            continue
        where = (about["grade_id"], sheet.name, sheet.name)
        if about.get("grade"):
            book.update_or_create_grade_cell(*where, max_score=float(about["points"]), cell_type=cell.cell_type)
        if about.get("solution"):
            book.update_or_create_solution_cell(*where)
        book.update_or_create_source_cell(
            *where,
            cell_type=cell.cell_type,
            source=cell.source,
            locked=bool(about.get("locked")),
            checksum=about.get("checksum"),
        )


def _add_mark(book: Any, sheet: Sheet, mark: Mark) -> None:
    result = mark.result
    book.update_or_create_student(result.student, last_name=result.name, lms_user_id=result.identifier or None)
    when = {"timestamp": result.handed_in} if result.handed_in else {}
    submission = book.update_or_create_submission(sheet.name, result.student, **when)
    (notebook,) = submission.notebooks
    lost = 0.0 if mark.mark is None or mark.in_time is None else mark.in_time - mark.mark
    notebook.late_submission_penalty = lost / 10 * result.possible
    answers = _answers(sheet)
    for row in result.rows:
        where = (sheet.name, sheet.name, result.student)
        given = mark.given.get(row.grade_id, Given())
        grade = book.find_grade(row.grade_id, *where)
        grade.auto_score = given.points if row.earned is None else row.earned
        grade.needs_manual_grade = grade.auto_score is None and grade.manual_score is None
        if row.grade_id in answers:
            comment = book.find_comment(answers[row.grade_id], *where)
            said = " ".join(part for part in (row.problem, row.belief) if part)
            comment.auto_comment = (said if row.earned is not None else given.comment) or None
    book.db.commit()


def _answers(sheet: Sheet) -> dict[str, str]:
    """The answer's grade id for each graded cell: itself, or the answer above a check."""
    found, last = {}, ""
    for cell in sheet.notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        last = about["grade_id"] if about.get("solution") else last
        if about.get("grade") and last:
            found[about["grade_id"]] = last
    return found
