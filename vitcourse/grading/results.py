"""From results to what a teacher needs: tables for the university's system, pages for learners, a look at the class.

Longer than 150 lines because every table is a dozen lines that belong together.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vitcourse.files import written_whole
from vitcourse.grading import statistics
from vitcourse.grading.classroom import Result
from vitcourse.grading.project import Scheme

BY_HAND = ("student", "sheet", "exercise", "possible", "points", "comment")


@dataclass(frozen=True)
class Rules:
    """How points become marks.

    Args:
        deadline: later hand-ins lose `late`.
        late: points off the mark (0 to 10), once, never below 0.
        attempts: "last" or "best", of a student's hand-ins of one sheet.
    """

    deadline: datetime | None = None
    late: float = 2.0
    attempts: str = "last"


@dataclass(frozen=True)
class Mark:
    """One line of the class's table."""

    result: Result
    by_hand: float
    missing: tuple[str, ...]
    is_late: bool
    mark: float | None
    in_time: float | None  # the mark without what is lost by being late

    @property
    def told(self) -> tuple[str, ...]:
        """What the learner may read about the hand-in as a whole."""
        return tuple(part for part in (self.result.problem, *self.result.remarks) if part)

    @property
    def reason(self) -> str:
        """Everything that a teacher should know, in one cell."""
        waiting = [f"to mark by hand: {', '.join(self.missing)}"] if self.missing else []
        return "; ".join([*self.told, *self.result.notes, *waiting])


def marks(results: Iterable[Result], folder: Path, rules: Rules) -> list[Mark]:
    """One for each student and sheet, with the points by hand that stand in `folder`/by-hand.csv."""
    given = read_by_hand(folder / "by-hand.csv")
    groups: dict[tuple[str, str], list[Mark]] = {}
    for result in results:
        groups.setdefault((result.student, result.sheet), []).append(_mark(result, given, rules))
    # A hand-in of no sheet doesn't count where the student has one that is.
    known = {student for student, sheet in groups if sheet}
    chosen = []
    for (student, sheet), each in sorted(groups.items()):
        if not sheet and student in known:
            continue
        # A file that is none, say notes of one's own, doesn't count where there is one that is.
        whole = [mark for mark in each if mark.result.failed or not mark.result.problem] or each
        ordered = sorted(whole, key=lambda mark: (mark.result.handed_in, mark.result.file))
        best = (
            max(ordered, key=lambda mark: (mark.mark or 0, mark.result.earned))
            if rules.attempts == "best"
            else ordered[-1]
        )
        chosen.append(best)
    return chosen


def _mark(result: Result, given: Mapping[tuple[str, str, str], float], rules: Rules) -> Mark:
    keys = {row.grade_id: (result.student, result.sheet, row.grade_id) for row in result.rows if row.earned is None}
    missing = tuple(grade_id for grade_id, key in keys.items() if key not in given)
    by_hand = sum(given[key] for key in keys.values() if key in given)
    is_late = bool(rules.deadline and result.handed_in and datetime.fromisoformat(result.handed_in) > rules.deadline)
    if missing or result.failed:
        return Mark(result, by_hand, missing, is_late, None, None)
    value = 10 * (result.earned + by_hand) / result.possible if result.possible else 0.0
    less = max(0.0, value - rules.late * is_late)
    return Mark(result, by_hand, missing, is_late, round(less, 2), round(value, 2))


def read_by_hand(path: Path) -> dict[tuple[str, str, str], float]:
    """Points given by hand, by (student, sheet, exercise); empty cells are still to come.

    Raises:
        ValueError: points that are no number, or outside 0 and what is possible.
    """
    given = {}
    for number, row in enumerate(_read(path), start=2):
        text = (row.get("points") or "").strip().replace(",", ".")
        if not text:
            continue
        try:
            points, possible = float(text), float((row.get("possible") or "inf").replace(",", "."))
        except ValueError:
            raise ValueError(f"{path.name}, line {number}: points {text!r} is no number.") from None
        if not 0 <= points <= possible:
            raise ValueError(f"{path.name}, line {number}: points {text} must lie between 0 and {possible:g}.")
        given[row["student"], row["sheet"], row["exercise"]] = points
    return given


def by_hand(folder: Path) -> dict[tuple[str, str, str], dict[str, str]]:
    """The lines of `folder`/by-hand.csv, by student, sheet and exercise."""
    return {(row["student"], row["sheet"], row["exercise"]): row for row in _read(folder / "by-hand.csv")}


def write(all_results: Sequence[Result], folder: Path, rules: Rules) -> list[Mark]:
    """Every table and page in `folder`; what a teacher wrote into by-hand.csv stays."""
    _write_by_hand(all_results, folder)
    chosen = marks(all_results, folder, rules)
    comments = by_hand(folder)
    _table(folder / "marks.csv", [_line(mark) for mark in chosen])
    sheets = sorted({mark.result.sheet for mark in chosen if mark.result.sheet})
    for sheet in sheets:
        here = [mark for mark in chosen if mark.result.sheet == sheet]
        _table(folder / f"moodle-{sheet}.csv", [_moodle(mark) for mark in here])
        _table(folder / f"canvas-{sheet}.csv", [_canvas(mark) for mark in here])
        _table(folder / f"gradescope-{sheet}.csv", [_gradescope(mark) for mark in here])
    counted = [mark.result for mark in chosen]
    _table(folder / "exercises.csv", statistics.by_exercise(counted))
    _table(folder / "misconceptions.csv", statistics.misconceptions(counted))
    statistics.draw(folder / "statistics.png", counted)
    _text(folder / "by-hand.html", _texts(chosen))
    _write_students(chosen, folder / "students.csv")
    for mark in chosen:
        name = mark.result.sheet or "unknown"
        _text(folder / "feedback" / mark.result.student / f"{name}.html", _page(mark, comments))
    return chosen


def _write_students(chosen: Sequence[Mark], path: Path) -> None:
    """Add students and fill empty marks; a mark, a group or a column that is there stays as it is."""
    there = _read(path, ("student",))
    rows = {row["student"]: dict(row) for row in there}
    for new in _students(chosen):
        row = rows.setdefault(new["student"], {})
        waiting = {column for column in new if not row.get(column.removesuffix(" late"))}
        row |= {column: value for column, value in new.items() if column in waiting or column not in row}
    if list(rows.values()) != there:
        _table(path, list(rows.values()))


def _write_by_hand(results: Sequence[Result], folder: Path) -> None:
    """Add lines for what is new; lines that are there, filled in or not, stay as they are."""
    path = folder / "by-hand.csv"
    rows = list(_read(path))
    before = len(rows)
    known = {(row["student"], row["sheet"], row["exercise"]) for row in rows}
    for result in results:
        for row in result.rows:
            key = (result.student, result.sheet, row.grade_id)
            if row.earned is None and key not in known:
                known.add(key)
                rows.append(dict(zip(BY_HAND, (*key, f"{row.points:g}", "", ""), strict=True)))
    if len(rows) > before:
        _table(path, sorted(rows, key=lambda row: (row["sheet"], row["exercise"], row["student"])))


def _line(mark: Mark) -> dict[str, Any]:
    result = mark.result
    return {
        "student": result.student,
        "name": _plain(result.name),
        "identifier": result.identifier,
        "sheet": result.sheet,
        "file": _plain(result.file),
        "points": f"{result.earned + mark.by_hand:g}",
        "possible": f"{result.possible:g}",
        "late": "yes" if mark.is_late else "no",
        "mark": "" if mark.mark is None else f"{mark.mark:.2f}",
        "reason": _plain(mark.reason),
    }


def _moodle(mark: Mark) -> dict[str, Any]:
    number = mark.result.identifier
    return {
        "Identifier": f"Participant {number}" if number else "",
        "Full name": _plain(mark.result.name),
        "Grade": "" if mark.mark is None else f"{mark.mark:.2f}",
        "Feedback comments": _plain("; ".join(mark.told)),
    }


def _canvas(mark: Mark) -> dict[str, Any]:
    column = f"{mark.result.sheet} (10)"
    value = "" if mark.mark is None else f"{mark.mark:.2f}"
    return {
        "Student": _plain(mark.result.name),
        "ID": mark.result.identifier,
        "SIS User ID": "",
        "SIS Login ID": "",
        "Section": "",
        column: value,
    }


def _gradescope(mark: Mark) -> dict[str, Any]:
    value = "" if mark.mark is None else f"{mark.mark:.2f}"
    return {
        "Name": _plain(mark.result.name),
        "SID": mark.result.identifier,
        "Email": "",
        "Total Score": value,
        "Max Points": "10",
    }


def _students(chosen: Sequence[Mark]) -> list[dict[str, Any]]:
    """What `python -m vitcourse grade project` reads, a line for each student; it takes off what late ones lose."""
    names = {(mark.result.name, mark.result.student) for mark in chosen}
    twice = {name for name, _ in names if sum(name == other for other, _ in names) > 1}
    rows: dict[str, dict[str, Any]] = {}
    for mark in chosen:
        result = mark.result
        name = result.student if result.name in twice else _plain(result.name)
        empty = {column: "" for sheet in Scheme().obligatory for column in (sheet, f"{sheet} late")}
        row = rows.setdefault(name, {"student": name, "group": "", **empty})
        if result.sheet:
            row[result.sheet] = "" if mark.in_time is None else f"{mark.in_time:.2f}"
            row[f"{result.sheet} late"] = "yes" if mark.is_late else "no"
    return [rows[name] for name in sorted(rows)]


def _texts(chosen: Sequence[Mark]) -> str:
    """A page with all texts to mark by hand, question by question, for the teacher."""
    texts: dict[tuple[str, str], list[str]] = {}
    for mark in chosen:
        for row in mark.result.rows:
            if row.earned is None:
                said = f"<h3>{html.escape(mark.result.student)}</h3><pre>{html.escape(row.text)}</pre>"
                texts.setdefault((mark.result.sheet, row.grade_id), []).append(said)
    parts = [f"<h2>{html.escape(' · '.join(key))}</h2>\n" + "\n".join(each) for key, each in sorted(texts.items())]
    return _document("by-hand.csv", "\n".join(parts))


def _page(mark: Mark, comments: Mapping[tuple[str, str, str], Mapping[str, str]]) -> str:
    """The learner's page: marks, cards, and what was said by hand. No script, nothing from elsewhere."""
    result = mark.result
    parts = []
    for row in result.rows:
        said = comments.get((result.student, result.sheet, row.grade_id), {})
        points = said.get("points", "") if row.earned is None else f"{row.earned:g}"
        name = row.grade_id.removeprefix("check-")
        parts.append(f"<h2>{html.escape(name)}: {html.escape(points or 'to come')} of {row.points:g}</h2>")
        parts.append(row.card if row.earned is not None else f"<p>{html.escape(said.get('comment', ''))}</p>")
    total = "to come" if mark.mark is None else f"{mark.mark:.2f} of 10" + (" (late)" if mark.is_late else "")
    notes = "".join(f"<p>{html.escape(part)}</p>" for part in mark.told)
    title = f"{result.name} · {result.sheet}"
    return _document(title, f"<p>Mark: {total}</p>\n{notes}\n" + "\n".join(parts))


def _document(title: str, body: str) -> str:
    style = (
        "body{font-family:sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:white}"
        "pre{white-space:pre-wrap}"
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{html.escape(title)}</title><style>{style}</style>"
    )
    main = f"<body><main><h1>{html.escape(title)}</h1>\n{body}\n</main></body>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n{main}</html>\n'


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, on one line."""
    text = " ".join(text.split())
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text


def _read(path: Path, columns: Sequence[str] = BY_HAND) -> list[dict[str, str]]:
    """The rows of a table of ours with at least these columns, whatever a spreadsheet made of it."""
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} isn't UTF-8: save it from the spreadsheet as 'CSV UTF-8'.") from None
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), restval="")
    if absent := [name for name in columns if name not in (reader.fieldnames or [])]:
        raise ValueError(f"{path.name} has no column {', '.join(absent)}.")
    rows = list(reader)
    if any(None in row for row in rows):
        raise ValueError(f"{path.name}: a line has more values than there are columns; put quotes around its comment.")
    return rows


def _table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV, in UTF-8; columns that only some of them have are kept."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _text(path: Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def deadline(text: str) -> datetime:
    """A moment such as 2026-12-01 or 2026-12-01T23:59; without a zone, that of this machine; a day ends at its end.

    Raises:
        ValueError: not of this form.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"deadline must look like 2026-12-01 or 2026-12-01T23:59, got {text!r}.") from None
    if "T" not in text and " " not in text:
        moment = moment.replace(hour=23, minute=59, second=59)
    return moment.astimezone(UTC)
