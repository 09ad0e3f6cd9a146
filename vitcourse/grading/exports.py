"""All that a teacher needs, as files in one folder: tables for the university's system, pages, a look at the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitcourse.files import write_text
from vitcourse.grading import by_hand, pages, statistics, tables
from vitcourse.grading.marks import Mark, Rules, marks
from vitcourse.grading.project import STUDENTS, Scheme
from vitcourse.grading.results import Result
from vitcourse.grading.tables import plain


def write(
    results: Sequence[Result], folder: Path, rules: Rules, answers: Mapping[tuple[str, str], str] | None = None
) -> list[Mark]:
    """Every table and page in `folder`; what a teacher wrote into by-hand.csv and students.csv stays.

    Args:
        answers: model answers and mark schemes, by sheet and grade id, for whoever marks by hand.

    Raises:
        ValueError: one of those two can't be read, or holds points that can't be.
    """
    chosen = marks(results, folder, rules)
    by_hand.ask(folder, results, [mark.result for mark in chosen])
    _merge_students(folder, chosen, rules.scheme)
    tables.write(folder / "marks.csv", [_line(mark) for mark in chosen])
    for sheet in sorted({mark.result.sheet for mark in chosen if mark.result.sheet}):
        here = [mark for mark in chosen if mark.result.sheet == sheet]
        tables.write(folder / f"moodle-{sheet}.csv", [_moodle(mark) for mark in here])
        points = {"Student": "Points Possible", sheet: "10"}
        tables.write(folder / f"canvas-{sheet}.csv", [points, *(_canvas(mark) for mark in here)], CANVAS)
        tables.write(folder / f"gradescope-{sheet}.csv", [_gradescope(mark) for mark in here])
    counted = [mark.result for mark in chosen]
    tables.write(folder / "exercises.csv", statistics.by_exercise(counted))
    tables.write(folder / "misconceptions.csv", statistics.misconceptions(counted))
    statistics.draw(folder / "statistics.png", counted)
    write_text(folder / "by-hand.html", pages.texts(chosen, answers or {}))
    for mark in chosen:
        name = mark.result.sheet or "unknown"
        write_text(folder / "feedback" / mark.result.student / f"{name}.html", pages.feedback(mark))
    return chosen


def _line(mark: Mark) -> dict[str, Any]:
    result = mark.result
    return {
        "student": result.student,
        "name": plain(result.name),
        "identifier": result.identifier,
        "sheet": result.sheet,
        "file": plain(result.file),
        "points": f"{result.earned + mark.by_hand:g}",
        "possible": f"{result.possible:g}",
        "late": "yes" if mark.is_late else "no",
        "mark": _shown(mark.mark),
        "reason": plain(mark.reason),
    }


def _moodle(mark: Mark) -> dict[str, Any]:
    number = mark.result.identifier
    return {
        "Identifier": f"Participant {number}" if number else "",
        "Full name": plain(mark.result.name),
        "Grade": _shown(mark.mark),
        "Feedback comments": plain("; ".join([*mark.told, *mark.comments])),
    }


CANVAS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")


def _canvas(mark: Mark) -> dict[str, Any]:
    # Canvas reads a number in brackets behind a column's name as an assignment's own number: there is none here.
    return {"Student": plain(mark.result.name), "ID": mark.result.identifier, mark.result.sheet: _shown(mark.mark)}


def _gradescope(mark: Mark) -> dict[str, Any]:
    return {
        "Name": plain(mark.result.name),
        "SID": mark.result.identifier,
        "Email": "",
        "Total Score": _shown(mark.mark),
        "Max Points": "10",
    }


def _shown(mark: float | None) -> str:
    return "" if mark is None else f"{mark:.2f}"


def _merge_students(folder: Path, chosen: Sequence[Mark], scheme: Scheme) -> None:
    """Bring students.csv up to date, which `python -m vitcourse grade project` reads; what a teacher wrote there stays.

    What this command itself put there last is kept in results/: a value that still is the same follows the new marks.
    """
    path, last = folder / STUDENTS, folder / "results" / STUDENTS
    there = tables.read(path, ["student"]) if path.is_file() else {}
    put = {row["student"]: row for row in tables.read(last, ["student"]).values()} if last.is_file() else {}
    rows = tables.unique(there, STUDENTS, "student")
    for name, new in _students(chosen).items():
        empty = dict.fromkeys([c for sheet in scheme.obligatory for c in (sheet, f"{sheet} late")], "")
        row = rows.setdefault(name, {"student": name, "group": "", **empty})
        own = put.setdefault(name, {"student": name})
        for sheet, (mark, late) in new.items():
            # Lateness follows a mark of ours alone: a teacher's own belongs to the hand-in that they looked at.
            for column, value in ((f"{sheet} late", late), (sheet, mark)):
                if all(_is_ours(row.get(name, ""), own.get(name, "")) for name in {sheet, column}):
                    row[column] = value
            own |= {sheet: mark, f"{sheet} late": late}
    if list(rows.values()) != list(there.values()):
        tables.write(path, list(rows.values()))
    tables.write(last, [put[name] for name in sorted(put)], ["student"])


def _students(chosen: Sequence[Mark]) -> dict[str, dict[str, tuple[str, str]]]:
    """For each student and sheet the mark as if in time, and whether it was late: the final mark takes off the rest."""
    names = {(mark.result.name, mark.result.student) for mark in chosen}
    twice = {name for name, _ in names if sum(name == other for other, _ in names) > 1}
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for mark in sorted(chosen, key=lambda mark: mark.result.name):
        result = mark.result
        sheets = found.setdefault(result.student if result.name in twice else plain(result.name), {})
        if result.sheet:
            sheets[result.sheet] = (_shown(mark.in_time), "yes" if mark.is_late else "no")
    return found


def _is_ours(there: str, put: str) -> bool:
    """Whether a value is empty or what was put there: a spreadsheet makes "7.5" or "7,5" of 7.50, and "Yes" of yes."""
    numbers = tables.number(there), tables.number(put)
    return not there or there.lower() == put.lower() or (None not in numbers and numbers[0] == numbers[1])
