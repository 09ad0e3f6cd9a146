"""The final mark: 0.4 practicals + 0.6 project, from two tables that a teacher keeps in a spreadsheet.

Longer than 150 lines because the scheme, the two tables and the words for what is wrong in them belong together.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from vitcourse.files import write_text
from vitcourse.grading import tables

STUDENTS, PROJECTS, SCHEME, FINAL = "students.csv", "projects.csv", "scheme.toml", "final.csv"
YES = {"yes", "y", "true", "1", "x", "sí", "si", "s"}
NO = {"", "no", "n", "false", "0", "-"}
PARTS = ("report", "code", "evaluation", "presentation")


@dataclass(frozen=True)
class Scheme:
    """How marks are put together; every field can be set in scheme.toml.

    Args:
        practicals, project: the two weights of the final mark.
        obligatory: the sheets whose mean is the practicals' mark; others are written down but don't count.
        report, code, evaluation, presentation: the weights of the project's parts.
        late: points off the mark (0 to 10) of an item handed in late, once, before weighting; never below 0.
        missing: "ask": no final mark while an obligatory mark is missing; "zero": it counts as 0.
    """

    practicals: Decimal = Decimal("0.4")
    project: Decimal = Decimal("0.6")
    obligatory: tuple[str, ...] = ("sheet-3-patches", "sheet-4-vit")
    report: Decimal = Decimal("0.25")
    code: Decimal = Decimal("0.25")
    evaluation: Decimal = Decimal("0.25")
    presentation: Decimal = Decimal("0.25")
    late: Decimal = Decimal(2)
    missing: str = "ask"

    def __post_init__(self):
        for names in (("practicals", "project"), PARTS):
            weights = [getattr(self, name) for name in names]
            if sum(weights) != 1 or min(weights) < 0:
                shown = ", ".join(f"{name} {weight}" for name, weight in zip(names, weights, strict=True))
                raise ValueError(f"{SCHEME}: the weights {shown} must be at least 0 and sum to 1.")
        if not (self.late.is_finite() and 0 <= self.late <= 10):
            raise ValueError(f"{SCHEME}: late must lie between 0 and 10, got {self.late}.")
        if not self.obligatory:
            raise ValueError(f"{SCHEME}: obligatory must name at least one sheet.")
        if self.missing not in ("ask", "zero"):
            raise ValueError(f'{SCHEME}: missing must be "ask" or "zero", got {self.missing!r}.')

    def less(self, mark: Decimal, late: bool) -> Decimal:
        """A mark from 0 to 10 without what being late costs."""
        return max(Decimal(0), mark - self.late) if late else mark

    @classmethod
    def read(cls, path: Path) -> Scheme:
        """The scheme in a TOML file; the default one where there is no file.

        Raises:
            ValueError: not TOML, an unknown name, or a value that can't be.
        """
        if not path.exists():
            return cls()
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path.name} isn't TOML: {error}.") from None
        known = {field.name for field in fields(cls)}
        if unknown := sorted(found.keys() - known):
            raise ValueError(f"{path.name}: {', '.join(unknown)} isn't known; there are {', '.join(sorted(known))}.")
        return cls(**{name: _setting(path.name, name, value) for name, value in found.items()})


def rounded(mark: Decimal | None) -> Decimal | None:
    """To two places, halves up, as on paper."""
    return None if mark is None else mark.quantize(Decimal("0.01"), ROUND_HALF_UP)


def agreed(folder: Path, late: float | None = None) -> Scheme:
    """The scheme of a folder; `late` is written into a new scheme.toml, so that sheets and final marks lose the same.

    Raises:
        ValueError: `late` isn't from 0 to 10, or scheme.toml says something else.
    """
    path = folder / SCHEME
    scheme = Scheme.read(path)
    if late is None or scheme.late == Decimal(str(late)):
        return scheme
    new = replace(scheme, late=Decimal(str(late)))
    if path.exists():
        raise ValueError(f"late {late:g}: {path} says {scheme.late}; leave --late out, or change it there.")
    write_text(path, f"late = {new.late}\n")
    return new


@dataclass(frozen=True)
class Final:
    """One student's line: the parts, the final mark (None: something is missing), and why."""

    student: str
    group: str
    practicals: Decimal | None
    project: Decimal | None
    final: Decimal | None
    remark: str


def final_marks(folder: str | Path) -> list[Final]:
    """Read students.csv, projects.csv and, if there, scheme.toml, and put the marks together; writes nothing.

    Raises:
        FileNotFoundError: a table isn't there.
        ValueError: a mark, a name or a weight that can't be; the message names file, line and column.
    """
    folder = Path(folder)
    scheme = Scheme.read(folder / SCHEME)
    projects = {
        row["group"]: _project(row, scheme) for row in _table(folder / PROJECTS, "group", ("group", *PARTS, "late"))
    }
    needed = ("student", "group", *scheme.obligatory)
    return [_final(row, projects, scheme) for row in _table(folder / STUDENTS, "student", needed)]


def write_final_marks(folder: str | Path) -> list[Final]:
    """As `final_marks`, and write them to final.csv, whole or not at all; the teacher's tables stay as they are."""
    folder = Path(folder)
    marks = final_marks(folder)
    names = [field.name for field in fields(Final)]
    tables.write(folder / FINAL, [{name: _written(getattr(mark, name)) for name in names} for mark in marks], names)
    return marks


def start(folder: str | Path) -> list[Path]:
    """Write empty tables into a folder; a file that is there stays as it is. Returns the new ones."""
    sheets = [column for sheet in Scheme().obligatory for column in (sheet, f"{sheet} late")]
    headers = {STUDENTS: ["student", "group", *sheets], PROJECTS: ["group", *PARTS, "late"]}
    new = []
    for name, columns in headers.items():
        path = Path(folder) / name
        if not path.exists():
            tables.write(path, [], columns)
            new.append(path)
    return new


def as_table(marks: Iterable[Final]) -> str:
    """The marks as text, a line for each student."""
    marks = list(marks)
    width = max([len(mark.student) for mark in marks], default=0)
    lines = [
        f"{mark.student:<{width}}  {'-' if mark.final is None else mark.final:>5}  {mark.remark}".rstrip()
        for mark in marks
    ]
    return "\n".join(lines) if lines else f"{STUDENTS} names nobody yet."


# ---- inside


def _setting(file: str, name: str, value: Any) -> Any:
    if name == "obligatory":
        if not (isinstance(value, list) and all(isinstance(sheet, str) for sheet in value)):
            raise ValueError(f"{file}: obligatory must be a list of sheets, got {value!r}.")
        return tuple(value)
    if name == "missing":
        return value
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError(f"{file}: {name} must be a number, got {value!r}.")
    return Decimal(value)


def _table(path: Path, key: str, needed: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a table, with "line" added; the values of the column `key` are unique."""
    if not path.exists():
        raise FileNotFoundError(
            f"{path} isn't there. `python -m vitcourse grade project {path.parent} --new` makes it."
        )
    rows = tables.read(path, needed)
    each = tables.unique(rows, path.name, key).values()
    return [{**row, "line": f"{path.name}, line {line}"} for line, row in zip(rows, each, strict=True)]


def _mark(row: Mapping[str, str], column: str) -> Decimal | None:
    text = row.get(column, "")
    if not text:
        return None
    mark = tables.number(text)
    if mark is None or not 0 <= mark <= 10:
        raise ValueError(f"{row['line']}, column {column}: a mark must be a number from 0 to 10, got {text!r}.")
    return mark


def _is_late(row: Mapping[str, str], column: str) -> bool:
    text = row.get(column, "").lower()
    if text not in YES | NO:
        raise ValueError(f"{row['line']}, column {column}: write yes or no, got {text!r}.")
    return text in YES


def _project(row: Mapping[str, str], scheme: Scheme) -> tuple[Decimal | None, list[str], bool]:
    """A group's mark before rounding, the parts that are missing, and whether it was late."""
    marks = {part: _mark(row, part) for part in PARTS}
    missing = [f"project {part}" for part, mark in marks.items() if mark is None]
    late = _is_late(row, "late")
    if missing and scheme.missing == "ask":
        return None, missing, late
    mark = sum(((marks[part] or Decimal(0)) * getattr(scheme, part) for part in PARTS), Decimal(0))
    return scheme.less(mark, late), missing, late


def _final(row: Mapping[str, str], projects: Mapping[str, tuple], scheme: Scheme) -> Final:
    found = {sheet: _mark(row, sheet) for sheet in scheme.obligatory}
    late = [sheet for sheet in scheme.obligatory if _is_late(row, f"{sheet} late") and found[sheet] is not None]
    missing = [sheet for sheet, mark in found.items() if mark is None]
    practicals = None
    if not missing or scheme.missing == "zero":
        marks = [scheme.less(mark or Decimal(0), sheet in late) for sheet, mark in found.items()]
        practicals = sum(marks, Decimal(0)) / len(marks)
    group = row["group"]
    if group and group not in projects:
        raise ValueError(f"{row['line']}, column group: {group!r} isn't in {PROJECTS}.")
    project, parts, project_late = projects[group] if group else (None, ["group"], False)
    if not group and scheme.missing == "zero":
        project = Decimal(0)
    final = None
    if practicals is not None and project is not None:
        final = rounded(scheme.practicals * practicals + scheme.project * project)
    remarks = []
    if missing or parts:
        how = "missing, counted as 0: " if scheme.missing == "zero" else "missing: "
        remarks.append(how + ", ".join([*missing, *parts]))
    if late or project_late:
        remarks.append("late: " + ", ".join([*late, *(["project"] if project_late else [])]))
    return Final(row["student"], group, rounded(practicals), rounded(project), final, "; ".join(remarks))


def _written(value: Any) -> str:
    return "" if value is None else tables.plain(str(value))
