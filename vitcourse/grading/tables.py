"""CSV tables that people open in spreadsheets: read as a spreadsheet saves them, written so that it can open them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from vitcourse.files import written_whole


def read(path: Path, needed: Iterable[str]) -> dict[int, dict[str, str]]:
    """The rows by their line in the file; whichever separator was chosen, without empty rows.

    Args:
        needed: columns that must be there; there may be more.

    Raises:
        FileNotFoundError: no file.
        ValueError: not UTF-8, a column that is missing, a row with more values than columns, or a quote left open.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} isn't UTF-8: save it from the spreadsheet as 'CSV UTF-8'.") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    # Strictly: an open quote would swallow all rows below it.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey="", restval="", strict=True)
    rows, line = {}, 1
    try:
        columns = [(name or "").strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        if absent := [name for name in needed if name not in columns]:
            raise ValueError(f"{path.name} has no column {', '.join(absent)}; it has {', '.join(columns) or 'none'}.")
        for row in reader:
            line = reader.line_num
            # A spreadsheet may end its lines with empty columns; their values arrive as text or as a list.
            if any(map(str.strip, row.pop("", None) or ())):
                raise ValueError(
                    f"{path.name}, line {line}: more values than columns; put quotes around a value with "
                    f"{separator!r} in it."
                )
            if any(map(str.strip, row.values())):
                rows[line] = row
    except csv.Error as error:
        raise ValueError(
            f"{path.name}, after line {line}: {error}. Quote a value that holds a quote, and write that one twice."
        ) from None
    return rows


def unique(rows: Mapping[int, Mapping[str, str]], file: str, key: str) -> dict[str, dict[str, str]]:
    """The rows that `read` gave by their value in the column `key`, all without spaces around.

    Raises:
        ValueError: no value there, or one that stands there twice.
    """
    found, lines = {}, {}
    for line, row in rows.items():
        clean = {name: value.strip() for name, value in row.items()}
        value = clean[key]
        if not value:
            raise ValueError(f"{file}, line {line}: the column {key} is empty.")
        if value in found:
            raise ValueError(f"{file}, line {line}: {key} {value!r} stands in line {lines[value]} already.")
        found[value], lines[value] = clean, line
    return found


def write(path: Path, rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """Rows as CSV in UTF-8, whole or not at all.

    Args:
        columns: come first; those that only some rows have follow.
    """
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def number(text: str) -> Decimal | None:
    """A number with a point or a comma; None for what is none, infinity and NaN included."""
    try:
        value = Decimal(text.strip().replace(",", "."))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def plain(text: str) -> str:
    """One line that no spreadsheet takes for a formula."""
    text = " ".join(text.split())
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text
