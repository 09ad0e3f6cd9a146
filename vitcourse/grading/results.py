"""What one hand-in got, and why; kept as JSON, so that nothing is run twice."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vitcourse.files import write_text


@dataclass(frozen=True)
class Row:
    """One exercise of one submission; `earned` is None for what is marked by hand."""

    grade_id: str
    points: float
    earned: float | None
    state: str
    problem: str = ""
    belief: str = ""
    belief_name: str = ""  # if it explains all that came out
    card: str = ""
    text: str = ""
    title: str = ""  # its heading in the sheet


@dataclass(frozen=True)
class Result:
    """What one submission got, and why; `remarks` are for the learner too, `notes` for the teacher alone."""

    student: str
    name: str
    identifier: str
    sheet: str
    file: str
    handed_in: str
    key: str
    rows: tuple[Row, ...] = ()
    problem: str = ""
    remarks: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    failed: bool = False  # ours: no mark is given, and it is run again next time

    @property
    def earned(self) -> float:
        """Points that the checks gave."""
        return round(sum(row.earned or 0 for row in self.rows), 2)

    @property
    def possible(self) -> float:
        """Points of the whole sheet, those by hand included."""
        return sum(row.points for row in self.rows)

    @property
    def texts(self) -> tuple[Row, ...]:
        """What is marked by hand."""
        return tuple(row for row in self.rows if row.earned is None)

    def written(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(path, json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Result:
        """What `written` wrote.

        Raises:
            FileNotFoundError: no file.
            ValueError: another form, or damaged.
        """
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(Row(**row) for row in told.pop("rows"))
            return cls(**told | {"rows": rows, **{name: tuple(told[name]) for name in ("remarks", "notes")}})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"{str(path)!r} isn't a result ({type(error).__name__}).") from None
