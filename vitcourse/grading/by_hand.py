"""Points and comments that a person gives to texts, in by-hand.csv; each belongs to one text and to no other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitcourse.grading import tables
from vitcourse.grading.results import Result, Row

FILE = "by-hand.csv"
KEY = ("student", "sheet", "exercise", "text")
OLD = ("student", "sheet", "exercise", "possible", "points", "comment")  # a file from before texts had signs
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Given:
    """What stands in one line; `points` is None while they are still to come."""

    points: float | None = None
    comment: str = ""


def sign(text: str) -> str:
    """A short sign of a text, another one for every other text; no spreadsheet takes it for a number."""
    return "t-" + hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def key(result: Result, row: Row) -> Key:
    """Which line of the table is about a text."""
    return result.student, result.sheet, row.grade_id, sign(row.text)


def read(folder: Path, results: Iterable[Result]) -> dict[Key, Given]:
    """What was given, by student, sheet, exercise and the text's sign.

    Args:
        results: all hand-ins, to find the text of lines without a sign; where a student wrote several, such a line
            counts for none of them.

    Raises:
        ValueError: points that are no number, or outside 0 and what is possible.
    """
    given = {}
    for line, row in _rows(folder / FILE, results).items():
        where = f"{FILE}, line {line}"
        text, limit = (row.get(column, "").strip() for column in ("points", "possible"))
        points, possible = tables.number(text), tables.number(limit)
        if text and points is None:
            raise ValueError(f"{where}: points {text!r} is no number.")
        if limit and possible is None:
            raise ValueError(f"{where}: possible {limit!r} is no number; write what the exercise is worth.")
        if points is not None and (points < 0 or (possible is not None and points > possible)):
            raise ValueError(f"{where}: points {text} must lie between 0 and {limit or 'what is possible'}.")
        given[_key(row)] = Given(None if points is None else float(points), row["comment"].strip())
    return given


def ask(folder: Path, results: Sequence[Result], counted: Iterable[Result]) -> None:
    """Add a line for each text of `counted` that has none; lines that somebody wrote into stay as they are.

    Args:
        results: all hand-ins, as for `read`.
        counted: those whose texts are to be marked; an empty line of another text goes.
    """
    path = folder / FILE
    wanted = {key(result, row): f"{row.points:g}" for result in counted for row in result.texts}
    before = list(tables.read(path, OLD).values()) if path.is_file() else []
    rows = [row for row in _rows(path, results).values() if _key(row) in wanted or _is_written(row)]
    new = wanted.keys() - {_key(row) for row in rows}
    rows += [{**dict(zip(KEY, one, strict=True)), "possible": wanted[one]} for one in new]
    if rows != before:
        order = sorted(rows, key=lambda row: (row["sheet"], row["exercise"], row["student"], row["text"]))
        tables.write(path, order, (*KEY, *OLD[3:]))


def _rows(path: Path, results: Iterable[Result]) -> dict[int, dict[str, str]]:
    """The lines of the table, each with its text's sign where that is known."""
    if not path.is_file():
        return {}
    signs: dict[tuple[str, ...], set[str]] = {}
    for result in results:
        for row in result.texts:
            *place, its_sign = key(result, row)
            signs.setdefault(tuple(place), set()).add(its_sign)
    rows = tables.read(path, OLD)
    for row in rows.values():
        found = signs.get(tuple(row[column] for column in KEY[:3]), set())
        row["text"] = row.get("text", "").strip() or (next(iter(found)) if len(found) == 1 else "")
    return rows


def _key(row: dict[str, str]) -> Key:
    return tuple(row[column] for column in KEY)


def _is_written(row: dict[str, str]) -> bool:
    """Whether somebody wrote something into a line: points, a comment, or a column of their own."""
    return any(value.strip() for column, value in row.items() if column not in (*KEY, "possible"))
