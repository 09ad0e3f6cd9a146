"""A class's hand-ins to results: every submission run apart, judged outside its reach, written down whole.

Longer than 150 lines because the order of events, from a folder of files to a folder of results, is one story.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitcourse import checks
from vitcourse.checks.report import Report
from vitcourse.grading import curious, judging, matching, running, sandbox
from vitcourse.grading.handed_out import Sheet, recognised
from vitcourse.grading.results import Result, Row
from vitcourse.grading.submissions import Submission, check_there, collect
from vitcourse.grading.workers import in_processes
from vitcourse.progress import ProgressBar
from vitcourse.validation import positive_integer

VERSION = 5  # of the results' form and of what is seen in a hand-in; another one is graded anew
MOST_LETTERS = 20_000  # of a text to mark by hand

Done = tuple["Job", Result]


@dataclass(frozen=True)
class Job:
    """All that a worker needs for one submission.

    Args:
        sheet: the one that it is; None where nothing tells.
        seed: the class's.
        hidden: folders that it must not see.
    """

    submission: Submission
    sheet: Sheet | None
    seed: int
    limits: sandbox.Limits
    hidden: tuple[Path, ...]

    @property
    def key(self) -> str:
        """The same for the same bytes, sheet, checks, seed and limits."""
        sheet, one = self.sheet.text if self.sheet else "", self.submission
        parts = (str(VERSION), _checks(), one.file, sheet, str(self.seed), repr(self.limits), one.problem)
        return hashlib.sha256("\0".join(parts).encode() + one.content).hexdigest()

    @property
    def own_seed(self) -> int:
        """The seed of its hidden inputs: another one for other bytes, so that feedback doesn't tell the next inputs."""
        digest = hashlib.sha256(f"{self.seed}\0".encode() + self.submission.content).digest()
        return int.from_bytes(digest[:4], "big")

    def path(self, out: Path) -> Path:
        """Where its result is kept."""
        place = hashlib.sha256(self.submission.file.encode()).hexdigest()[:8]
        name = self.sheet.name if self.sheet else "unknown"
        return out / "results" / self.submission.student / f"{name}-{place}.json"

    def nothing(self, problem: str) -> Result:
        """A result without points."""
        one, sheet = self.submission, self.sheet
        when = one.handed_in.isoformat(timespec="seconds") if one.handed_in else ""
        rows, name = (), ""
        if sheet:
            missing = (Row(*pair, 0.0, "missing") for pair in matching.graded(sheet.notebook).items())
            rows, name = _titled(missing, sheet), sheet.name
        return Result(one.student, one.name, one.identifier, name, one.file, when, self.key, rows, problem)

    def failed(self, problem: str) -> Done:
        """A failure of ours: no mark is given, and it is run again next time."""
        text = problem.encode("utf-8", "replace").decode()[:300]
        return self, replace(self.nothing(f"the grader failed: {text}"), failed=True)


def grade_all(
    place: Path,
    out: Path,
    sheets: dict[str, Sheet],
    *,
    only: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    limits: sandbox.Limits = sandbox.LIMITS,
    hidden: Sequence[Path] = (),
    mapped: Callable[[Callable, Iterable], Iterator] | None = None,
    collected: Sequence[Submission] | None = None,
) -> list[Result]:
    """Grade everything in `place`; results already in `out` for the same bytes, sheet and seed are kept.

    Args:
        place: a folder or a zip, as `submissions.collect` reads it.
        out: results are kept below it.
        only: the sheet that all of them are; otherwise each is recognised by its answers.
        seed: of the class; each hand-in has its own inputs, drawn from it and from the hand-in's bytes.
        workers: processes at a time; by default one a core.
        hidden: folders that no hand-in may see; `place` and `out` are hidden anyway.
        mapped: hands (function, jobs) to somebody else's workers and yields results as they come.
        collected: what `submissions.collect(place)` gave, if it was asked already.

    Raises:
        FileNotFoundError: nothing in `place`.
        ValueError: `out` lies in `place`, or `workers` is below 1.
    """
    check_places(place, out)
    if workers is not None:
        positive_integer("workers", workers)
    apart = tuple(path.resolve() for path in (place if place.is_dir() else place.parent, out, *hidden))
    submissions = collect(place) if collected is None else collected
    chosen = _sheets_of(submissions, sheets, only)
    jobs = [Job(one, sheet, seed, limits, apart) for one, sheet in zip(submissions, chosen, strict=True)]
    kept = [_kept(job, out) for job in jobs]
    results = [result for result in kept if result]
    left = [job for job, result in zip(jobs, kept, strict=True) if not result]
    spread = mapped or functools.partial(in_processes, workers=workers)
    for job, result in ProgressBar(spread(grade_one, left), total=len(left)) if left else ():
        result.written(job.path(out))
        results.append(result)
    return sorted(results, key=lambda result: (result.student, result.sheet, result.handed_in, result.file))


def check_places(place: Path, out: Path) -> None:
    """Refuse hand-ins that aren't there, and results among them.

    Raises:
        FileNotFoundError, ValueError: as `grade_all`.
    """
    check_there(place)
    if out.resolve().is_relative_to(place.resolve()):
        raise ValueError(f"out {str(out)!r} lies among the submissions: name a folder outside of {str(place)!r}.")


def grade_one(job: Job) -> Done:
    """Run one submission apart and judge what came out. Never raises: a failure of ours is a remark for the teacher."""
    one, sheet = job.submission, job.sheet
    if sheet is None:
        return job, job.nothing(one.problem or _unreadable(one) or "it is none of the sheets")
    try:
        if one.problem:
            return job, job.nothing(one.problem)
        try:
            matched = matching.match(sheet.notebook, matching.read(one.content))
        except ValueError as error:
            return job, job.nothing(str(error))
        return job, _run(job, sheet, matched)
    except Exception as error:
        return job.failed(f"{type(error).__name__}: {error}")


def _sheets_of(submissions: Sequence[Submission], sheets: dict[str, Sheet], only: str | None) -> list[Sheet | None]:
    """The sheet of each submission. Where all that can be recognised are one, so are those that can't."""
    if only:
        return [sheets[only]] * len(submissions)
    found = [recognised(submission, sheets) for submission in submissions]
    names = {sheet.name for sheet in found if sheet}
    default = sheets[names.pop()] if len(names) == 1 else None
    return [sheet or default for sheet in found]


def _kept(job: Job, out: Path) -> Result | None:
    """The result of an earlier run, with what doesn't hang on the bytes: who handed it in, and when."""
    try:
        kept = Result.read(job.path(out))
    except (FileNotFoundError, ValueError):
        return None
    if kept.failed or kept.key != job.key:
        return None
    now = job.nothing("")
    return replace(kept, name=now.name, identifier=now.identifier, handed_in=now.handed_in)


@functools.cache
def _checks() -> str:
    """A hash of the checks: where they were repaired, all is judged anew."""
    sources = (path.read_bytes() for path in sorted(Path(checks.__file__).parent.glob("*.py")))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()


def _run(job: Job, sheet: Sheet, matched: matching.Matched) -> Result:
    work = running.Job(matched.steps, sheet.module, job.own_seed, job.limits, job.hidden)
    observed, stopped = running.observe(work)
    tasks = {step.check: work.exercise(step) for step in matched.steps if step.check}
    rows = tuple(
        Row(grade_id, points, None, "by hand", text=matched.texts.get(grade_id, "")[:MOST_LETTERS])
        if grade_id not in tasks
        else _row(grade_id, points, judging.report(observed.get(grade_id), sheet.module, tasks[grade_id], work.seed))
        for grade_id, points in matching.graded(sheet.notebook).items()
    )
    notes = curious.remarks(matched, sheet)
    return replace(job.nothing(""), rows=_titled(rows, sheet), remarks=(*matched.remarks, *stopped), notes=notes)


def _titled(rows: Iterable[Row], sheet: Sheet) -> tuple[Row, ...]:
    return tuple(replace(row, title=sheet.titles[row.grade_id]) for row in rows)


def _row(grade_id: str, points: float, report: Report) -> Row:
    earned = round(report.score * points, 2)
    card = report._repr_html_()
    return Row(grade_id, points, earned, report.state, report.problem, report.belief, report.belief_name, card)


def _unreadable(submission: Submission) -> str:
    try:
        matching.read(submission.content)
    except ValueError as error:
        return str(error)
    return ""
