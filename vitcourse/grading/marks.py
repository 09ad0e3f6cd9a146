"""From points to marks: what was given by hand, what being late costs, and which of a student's hand-ins counts.

Longer than 150 lines because a mark stands with the rules that make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from vitcourse.grading import by_hand
from vitcourse.grading.by_hand import Given
from vitcourse.grading.project import Scheme, rounded
from vitcourse.grading.results import Result


@dataclass(frozen=True)
class Rules:
    """How points become marks.

    Args:
        deadline: later hand-ins are late.
        attempts: "last" or "best", of a student's hand-ins of one sheet.
        scheme: that of the final mark; its `late` is what a late hand-in loses here, too.
    """

    deadline: datetime | None = None
    attempts: str = "last"
    scheme: Scheme = field(default_factory=Scheme)

    def __post_init__(self):
        if self.attempts not in ("last", "best"):
            raise ValueError(f'attempts must be "last" or "best", got {self.attempts!r}.')

    def is_late(self, result: Result) -> bool:
        """Whether a hand-in came after the deadline; one without a time didn't."""
        return bool(self.deadline and result.handed_in and datetime.fromisoformat(result.handed_in) > self.deadline)


@dataclass(frozen=True)
class Mark:
    """One line of the class's table.

    Args:
        given: what was given by hand, by grade id.
        mark: 0 to 10; None while something is still to be marked, or if the grader failed.
        in_time: the mark without what is lost by being late.
    """

    result: Result
    given: Mapping[str, Given]
    is_late: bool
    mark: float | None
    in_time: float | None

    @property
    def by_hand(self) -> float:
        """Points given by hand."""
        return sum(given.points or 0 for given in self.given.values())

    @property
    def missing(self) -> tuple[str, ...]:
        """The exercises that are still to be marked by hand."""
        return tuple(row.grade_id for row in self.result.texts if _points(self.given, row.grade_id) is None)

    @property
    def told(self) -> tuple[str, ...]:
        """What the learner may read about the hand-in as a whole."""
        return tuple(part for part in (self.result.problem, *self.result.remarks) if part)

    @property
    def comments(self) -> tuple[str, ...]:
        """What was said by hand, each with the heading of its exercise."""
        said = ((row.title or row.grade_id, self.given[row.grade_id].comment) for row in self.result.texts)
        return tuple(f"{title}: {comment}" for title, comment in said if comment)

    @property
    def reason(self) -> str:
        """Everything that a teacher should know, in one cell."""
        waiting = [f"to mark by hand: {', '.join(self.missing)}"] if self.missing else []
        return "; ".join([*self.told, *self.result.notes, *waiting])


def marks(results: Iterable[Result], folder: Path, rules: Rules) -> list[Mark]:
    """One for each student and sheet, with the points by hand that stand in `folder`/by-hand.csv.

    Raises:
        ValueError: points in that file that can't be.
    """
    results = list(results)
    given = by_hand.read(folder, results)
    groups: dict[tuple[str, str], list[Mark]] = {}
    for result in results:
        groups.setdefault((result.student, result.sheet), []).append(_mark(result, given, rules))
    # A hand-in of no sheet doesn't count where the student has one that is.
    known = {student for student, sheet in groups if sheet}
    return [_counted(each, rules) for (student, sheet), each in sorted(groups.items()) if sheet or student not in known]


def deadline(text: str) -> datetime:
    """A moment such as 2026-12-01 or 2026-12-01T23:59; without a zone, that of this machine; a day ends at its end.

    Raises:
        ValueError: not of this form.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"deadline must look like 2026-12-01 or 2026-12-01T23:59, got {text!r}.") from None
    if len(text) <= len("2026-12-01"):
        moment = moment.replace(hour=23, minute=59, second=59)
    return moment.astimezone(UTC)


def _mark(result: Result, lines: Mapping[by_hand.Key, Given], rules: Rules) -> Mark:
    given = {row.grade_id: lines.get(by_hand.key(result, row), Given()) for row in result.texts}
    is_late = rules.is_late(result)
    mark = Mark(result, given, is_late, None, None)
    if mark.missing or result.failed:
        return mark
    in_time = _of_ten(result.earned + mark.by_hand, result)
    return Mark(result, given, is_late, _shown(rules.scheme.less(in_time, is_late)), _shown(in_time))


def _counted(each: list[Mark], rules: Rules) -> Mark:
    """Which of one student's hand-ins of one sheet counts."""
    # A file that is none, say notes of one's own, doesn't count where there is one that is.
    whole = [mark for mark in each if mark.result.failed or not mark.result.problem] or each
    ordered = sorted(whole, key=lambda mark: (mark.result.handed_in, mark.result.file))
    if rules.attempts == "last":
        return ordered[-1]
    # One that waits for a mark by hand is the best as long as it may become so.
    return max(ordered, key=lambda mark: (_most(mark, rules), mark.mark is not None, mark.result.earned))


def _most(mark: Mark, rules: Rules) -> float:
    """The mark, or the highest that it can still become."""
    result = mark.result
    if mark.mark is not None:
        return mark.mark
    open_points = sum(row.points for row in result.texts if row.grade_id in mark.missing)
    value = Decimal(10) if result.failed else _of_ten(result.earned + mark.by_hand + open_points, result)
    return _shown(rules.scheme.less(value, mark.is_late))


def _of_ten(points: float, result: Result) -> Decimal:
    points = round(points, 6)  # a sum of floats: 4.69, not 4.6899999999999995
    return Decimal(str(points)) * 10 / Decimal(str(result.possible)) if result.possible else Decimal(0)


def _shown(mark: Decimal) -> float:
    return float(rounded(mark))


def _points(given: Mapping[str, Given], grade_id: str) -> float | None:
    return given.get(grade_id, Given()).points
