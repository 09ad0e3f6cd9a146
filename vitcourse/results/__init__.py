"""Tables of numbers that the notebooks read: what long runs gave. `experiments/` says how each was made."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from vitcourse.files import written_whole
from vitcourse.validation import one_of

_FOLDER = resources.files(__name__)
NAMES = tuple(sorted(file.name.removesuffix(".csv") for file in _FOLDER.iterdir() if file.name.endswith(".csv")))


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a table by column: whole numbers as int, other numbers as float, the rest as text.

    Raises:
        ValueError: an unknown name.
    """
    one_of("name", name, NAMES)
    with _FOLDER.joinpath(f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; the first row's keys are the columns."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def fill(path: Path, points: Iterable[tuple], make: Callable[..., dict[str, Any]], columns: Sequence[str]) -> None:
    """Add to a table the rows `make(*point)` of those points that it lacks, writing it after each.

    Args:
        columns: those that name a row's point, in its order.
    """
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    done = {tuple(str(row[column]) for column in columns) for row in rows}
    for point in points:
        if tuple(map(str, point)) not in done:
            rows.append(make(*point))
            print(rows[-1], flush=True)
            write(path, rows)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
