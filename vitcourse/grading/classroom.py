"""A class's hand-ins to marks: every submission run apart, marked outside its reach, written down whole.

Longer than 150 lines because the order of events, from a folder of files to a folder of marks, is one story.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from vitcourse.files import written_whole
from vitcourse.grading import judging, matching, sandbox
from vitcourse.grading.submissions import Submission, collect
from vitcourse.progress import ProgressBar

VERSION = 1  # of the results' form; another one is graded anew
CHECKS = re.compile(r"from vitcourse\.checks import (\w+) as check")
CALLED = re.compile(r"check\.(\w+)\(")
# Names that an honest answer to these sheets doesn't need. They cost nothing: the teacher is told where to look.
CURIOUS = {"reference", "_getframe", "get_objects", "settrace", "ctypes", "subprocess", "socket", "_exit", "fork"}


@dataclass(frozen=True)
class Sheet:
    """One sheet as it was handed out."""

    name: str
    text: str

    @property
    def notebook(self) -> Any:
        """The notebook."""
        return nbformat.reads(self.text, as_version=4)

    @property
    def module(self) -> str:
        """The name of its check module."""
        found = CHECKS.search("\n".join(cell.source for cell in self.notebook.cells))
        if not found:
            raise ValueError(f"sheet {self.name!r} imports no module of vitcourse.checks as check.")
        return found[1]


@dataclass(frozen=True)
class Row:
    """One exercise of one submission; `earned` is None for what is marked by hand."""

    grade_id: str
    points: float
    earned: float | None
    state: str
    problem: str = ""
    belief: str = ""
    sure: bool = False
    card: str = ""
    text: str = ""


@dataclass(frozen=True)
class Result:
    """What one submission got, and why."""

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

    @property
    def earned(self) -> float:
        """Points that the checks gave."""
        return round(sum(row.earned or 0 for row in self.rows), 2)

    @property
    def possible(self) -> float:
        """Points of the whole sheet, those by hand included."""
        return sum(row.points for row in self.rows)

    def written(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Result:
        """What `written` wrote.

        Raises:
            ValueError: another form, or damaged.
        """
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            rows = tuple(Row(**row) for row in told.pop("rows"))
            return cls(**told | {"rows": rows, "remarks": tuple(told["remarks"])})
        except (TypeError, KeyError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{str(path)!r} isn't a result ({type(error).__name__}).") from None


def sheets_in(folder: Path) -> dict[str, Sheet]:
    """The sheets as they were handed out, by name: `folder`/NAME/NAME.ipynb.

    Raises:
        FileNotFoundError: none there.
    """
    paths = sorted(folder.glob("*/*.ipynb"))
    found = {
        path.stem: Sheet(path.stem, path.read_text(encoding="utf-8")) for path in paths if path.parent.name == path.stem
    }
    if not found:
        raise FileNotFoundError(f"sheets {str(folder)!r} holds no NAME/NAME.ipynb: name the course's folder exercises.")
    return found


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
) -> list[Result]:
    """Grade everything in `place`; results already in `out` for the same bytes, sheet and seed are kept.

    Args:
        only: the sheet that all of them are; otherwise each is recognised by its answers.
        mapped: hands (function, jobs) to somebody else's workers and yields results as they come.
    """
    submissions = collect(place)
    jobs, results = [], []
    apart = tuple(path.resolve() for path in (place if place.is_dir() else place.parent, out, *hidden))
    for submission in submissions:
        job = Job(submission, _sheet_of(submission, sheets, only), seed, limits, apart)
        path = job.path(out)
        try:
            kept = Result.read(path)
        except (FileNotFoundError, ValueError):
            kept = None
        if kept and kept.key == job.key:
            results.append(kept)
        else:
            jobs.append(job)
    spread = mapped or (lambda function, todo: _in_processes(function, todo, workers))
    for job, result in ProgressBar(spread(grade_one, jobs), total=len(jobs)):
        result.written(job.path(out))
        results.append(result)
    return sorted(results, key=lambda result: (result.student, result.sheet, result.handed_in, result.file))


@dataclass(frozen=True)
class Job:
    """All that a worker needs for one submission."""

    submission: Submission
    sheet: Sheet | None
    seed: int
    limits: sandbox.Limits
    hidden: tuple[Path, ...]

    @property
    def key(self) -> str:
        """The same for the same bytes, sheet, seed and limits."""
        sheet = self.sheet.text if self.sheet else ""
        parts = (str(VERSION), self.submission.file, sheet, str(self.seed), repr(self.limits), self.submission.problem)
        return hashlib.sha256("\0".join(parts).encode() + self.submission.content).hexdigest()

    def path(self, out: Path) -> Path:
        """Where its result is kept."""
        place = hashlib.sha256(self.submission.file.encode()).hexdigest()[:8]
        name = self.sheet.name if self.sheet else "unknown"
        return out / "results" / self.submission.student / f"{name}-{place}.json"


def grade_one(job: Job) -> tuple[Job, Result]:
    """Run one submission apart and mark what came out. Never raises: a failure of ours is a remark for the teacher."""
    one, sheet = job.submission, job.sheet
    when = one.handed_in.isoformat(timespec="seconds") if one.handed_in else ""
    base = Result(one.student, one.name, one.identifier, sheet.name if sheet else "", one.file, when, job.key)
    if sheet is None:
        return job, _with(base, problem=one.problem or _unreadable(one) or "it is none of the sheets")
    try:
        points = matching.graded(sheet.notebook)
        nothing = tuple(Row(grade_id, value, 0.0, "missing") for grade_id, value in points.items())
        if one.problem:
            return job, _with(base, problem=one.problem, rows=nothing)
        try:
            matched = matching.match(sheet.notebook, matching.read(one.content))
        except ValueError as error:
            return job, _with(base, problem=str(error), rows=nothing)
        return job, _run(job, base, sheet, matched, points)
    except Exception as error:
        return job, _with(base, problem=f"the grader failed: {type(error).__name__}: {str(error)[:200]}")


def _run(job: Job, base: Result, sheet: Sheet, matched: matching.Matched, points: dict[str, float]) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="vitcourse-")).resolve()
    try:
        steps = [asdict(step) for step in matched.steps]
        told = {"module": sheet.module, "seed": job.seed, "steps": steps}
        (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")
        command = [sys.executable, "-m", "vitcourse.grading.candidate", str(folder)]
        stopped = sandbox.run(command, folder, job.hidden, job.limits)
        checks = {step.check: CALLED.findall(step.source)[-1] for step in matched.steps if step.check}
        rows = tuple(
            _row(grade_id, value, checks, folder, sheet.module, job.seed, matched) for grade_id, value in points.items()
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    remarks = [*matched.remarks, *([stopped] if stopped else []), *_curious(matched)]
    return _with(base, rows=rows, remarks=tuple(remarks))


def _row(
    grade_id: str,
    points: float,
    checks: dict[str, str],
    folder: Path,
    module: str,
    seed: int,
    matched: matching.Matched,
) -> Row:
    if grade_id not in checks:
        text = matched.texts.get(grade_id, "")
        return Row(grade_id, points, None, "by hand", text=text[:20_000])
    report = judging.report(folder / "outcomes" / grade_id, module, checks[grade_id], seed)
    return Row(
        grade_id,
        points,
        round(report.score * points, 2),
        report.state,
        report.problem,
        report.belief,
        bool(report.belief_name),
        report._repr_html_(),
    )


def _sheet_of(submission: Submission, sheets: dict[str, Sheet], only: str | None) -> Sheet | None:
    """The sheet that it is: as told, else the one with most of its answers, else by the file's name."""
    if only:
        return sheets[only]
    try:
        notebook = matching.read(submission.content)
    except ValueError:
        notebook = None
    if notebook is not None:
        ids = {cell.get("id") for cell in notebook.cells} | {
            cell.get("metadata", {}).get("nbgrader", {}).get("grade_id") for cell in notebook.cells
        }
        shared = {name: len(ids & set(matching.graded(sheet.notebook))) for name, sheet in sheets.items()}
        best = max(shared, key=lambda name: shared[name])
        if shared[best]:
            return sheets[best]
        fits = [name for name, sheet in sheets.items() if _fits(sheet, notebook)]
        if len(fits) == 1:
            return sheets[fits[0]]
    named = [name for name in sheets if name in submission.file]
    return sheets[named[0]] if len(named) == 1 else None


def _fits(sheet: Sheet, notebook: Any) -> bool:
    try:
        matching.match(sheet.notebook, notebook)
    except ValueError:
        return False
    return True


def _unreadable(submission: Submission) -> str:
    try:
        matching.read(submission.content)
    except ValueError as error:
        return str(error)
    return ""


def _curious(matched: matching.Matched) -> list[str]:
    """Where the teacher may want to look: names that an honest answer doesn't need."""
    found = set()
    for step in matched.steps:
        if step.check:
            continue
        try:
            tree = ast.parse(step.source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
            names = {name} | (
                {alias.name for alias in node.names} if isinstance(node, (ast.Import, ast.ImportFrom)) else set()
            )
            found |= {(step.cell, word) for word in names & CURIOUS}
    return [f"look at cell {cell}: it uses {word}" for cell, word in sorted(found)]


def _in_processes(function: Callable, jobs: Sequence[Job], workers: int | None) -> Iterator[tuple[Job, Result]]:
    workers = min(workers or os.cpu_count() or 1, max(len(jobs), 1))
    if workers == 1:
        yield from map(function, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            for done in as_completed([pool.submit(function, job) for job in jobs]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def on_dask(address: str) -> Callable[[Callable, Iterable], Iterator]:
    """Hand the work to the Dask cluster at `address`, whose workers have this package and see nothing but the jobs.

    Raises:
        ImportError: `distributed` isn't installed.
    """
    try:
        from distributed import Client
        from distributed import as_completed as completed
    except ImportError:
        raise ImportError("--dask needs the package distributed: pip install distributed.") from None

    def spread(function: Callable, jobs: Iterable) -> Iterator:
        with Client(address) as client:
            for done in completed(client.map(function, list(jobs), pure=False)):
                yield done.result()

    return spread


def _with(result: Result, **changes: Any) -> Result:
    return Result(**{**{name: getattr(result, name) for name in result.__dataclass_fields__}, **changes})
