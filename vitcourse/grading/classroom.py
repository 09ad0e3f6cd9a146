"""A class's hand-ins to marks: every submission run apart, marked outside its reach, written down whole.

Longer than 150 lines because the order of events, from a folder of files to a folder of marks, is one story.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import torch

from vitcourse import checks
from vitcourse.checks.report import Report
from vitcourse.files import written_whole
from vitcourse.grading import judging, matching, running, sandbox
from vitcourse.grading.submissions import Submission, collect
from vitcourse.progress import ProgressBar

VERSION = 3  # of the results' form; another one is graded anew
CHECKS = re.compile(r"from vitcourse\.checks import (\w+) as check")
# What an honest answer to these sheets doesn't need. It costs nothing: the teacher is told where to look.
CURIOUS_MODULES = {
    *("builtins", "ctypes", "gc", "importlib", "inspect", "multiprocessing", "pickle", "signal", "socket"),
    *("concurrent", "subprocess", "threading"),
}
CURIOUS_NAMES = {"exec", "eval", "__import__", "__builtins__"}
CURIOUS_ATTRIBUTES = {
    *("reference", "_getframe", "_current_frames", "f_back", "tb_frame", "get_objects", "settrace"),
    *("__globals__", "__closure__", "__code__", "_exit", "fork", "system", "popen", "setprofile"),
}


@dataclass(frozen=True)
class Sheet:
    """One sheet as it was handed out."""

    name: str
    text: str

    @functools.cached_property
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
    belief_name: str = ""  # if it explains all that came out
    card: str = ""
    text: str = ""


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
            return cls(**told | {"rows": rows, **{name: tuple(told[name]) for name in ("remarks", "notes")}})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
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
    if out.resolve().is_relative_to(place.resolve()):
        raise ValueError(f"out {str(out)!r} lies among the submissions: name a folder outside of {str(place)!r}.")
    submissions = collect(place)
    found = [_sheet_of(submission, sheets, only) for submission in submissions]
    # Where all that can be recognised are one sheet, so are those that can't: they then stand in its tables.
    names = {sheet.name: sheet for sheet in found if sheet}
    default = next(iter(names.values())) if len(names) == 1 else None
    jobs, results = [], []
    apart = tuple(path.resolve() for path in (place if place.is_dir() else place.parent, out, *hidden))
    for submission, sheet in zip(submissions, found, strict=True):
        job = Job(submission, sheet or default, seed, limits, apart)
        path = job.path(out)
        try:
            kept = Result.read(path)
        except (FileNotFoundError, ValueError):
            kept = None
        if kept and kept.key == job.key and not kept.failed:
            results.append(_as_handed_in(kept, job))
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
        """The same for the same bytes, sheet, checks, seed and limits."""
        sheet, one = self.sheet.text if self.sheet else "", self.submission
        parts = (str(VERSION), _checks(), one.file, sheet, str(self.seed), repr(self.limits), one.problem)
        return hashlib.sha256("\0".join(parts).encode() + self.submission.content).hexdigest()

    def path(self, out: Path) -> Path:
        """Where its result is kept."""
        place = hashlib.sha256(self.submission.file.encode()).hexdigest()[:8]
        name = self.sheet.name if self.sheet else "unknown"
        return out / "results" / self.submission.student / f"{name}-{place}.json"


Done = tuple[Job, Result]


def grade_one(job: Job) -> Done:
    """Run one submission apart and mark what came out. Never raises: a failure of ours is a remark for the teacher."""
    one, sheet, base = job.submission, job.sheet, _base(job)
    if sheet is None:
        return job, replace(base, problem=one.problem or _unreadable(one) or "it is none of the sheets")
    try:
        points = matching.graded(sheet.notebook)
        if one.problem:
            return job, replace(base, problem=one.problem)
        try:
            matched = matching.match(sheet.notebook, matching.read(one.content))
        except ValueError as error:
            return job, replace(base, problem=str(error))
        return job, _run(job, base, sheet, matched, points)
    except Exception as error:
        text = str(error).encode("utf-8", "replace").decode()[:300]
        return job, replace(base, problem=f"the grader failed: {type(error).__name__}: {text}", failed=True)


@functools.cache
def _checks() -> str:
    """A hash of the checks: where they were repaired, all is judged anew."""
    sources = (path.read_bytes() for path in sorted(Path(checks.__file__).parent.glob("*.py")))
    return hashlib.sha256(b"\0".join(sources)).hexdigest()


def _as_handed_in(kept: Result, job: Job) -> Result:
    """A kept result with what doesn't hang on the bytes: who handed it in, and when."""
    base = _base(job)
    return replace(kept, name=base.name, identifier=base.identifier, handed_in=base.handed_in)


def _base(job: Job) -> Result:
    one, sheet = job.submission, job.sheet
    when = one.handed_in.isoformat(timespec="seconds") if one.handed_in else ""
    rows = tuple(Row(*pair, 0.0, "missing") for pair in matching.graded(sheet.notebook).items()) if sheet else ()
    return Result(one.student, one.name, one.identifier, sheet.name if sheet else "", one.file, when, job.key, rows)


def _run(job: Job, base: Result, sheet: Sheet, matched: matching.Matched, points: dict[str, float]) -> Result:
    work = running.Job(matched.steps, sheet.module, job.seed, job.limits, job.hidden)
    observed, stopped = running.observe(work)
    tasks = {step.check: work.exercise(step) for step in matched.steps if step.check}
    rows = tuple(
        Row(grade_id, value, None, "by hand", text=matched.texts.get(grade_id, "")[:20_000])
        if grade_id not in tasks
        else _row(grade_id, value, judging.report(observed.get(grade_id), sheet.module, tasks[grade_id], job.seed))
        for grade_id, value in points.items()
    )
    return replace(base, rows=rows, remarks=(*matched.remarks, *stopped), notes=_curious(matched, sheet))


def _row(grade_id: str, points: float, report: Report) -> Row:
    earned = round(report.score * points, 2)
    card = report._repr_html_()
    return Row(grade_id, points, earned, report.state, report.problem, report.belief, report.belief_name, card)


def _sheet_of(submission: Submission, sheets: dict[str, Sheet], only: str | None) -> Sheet | None:
    """The sheet that it is: as told, else the one with most of its answers, else by the file's name."""
    if only:
        return sheets[only]
    try:
        notebook = matching.read(submission.content)
    except ValueError:
        notebook = None
    if notebook is not None:
        ids = {cell.id for cell in notebook.cells} | matching.grade_ids(notebook)
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


def _curious(matched: matching.Matched, sheet: Sheet) -> tuple[str, ...]:
    """Where the teacher may want to look: names that an honest answer doesn't need."""
    handed_out = {cell.source.strip() for cell in sheet.notebook.cells}
    found = set()
    for step in matched.steps:
        tree = matching.parsed(step.source) if step.source.strip() not in handed_out else None
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                words = {part for name in names for part in name.split(".")} & CURIOUS_MODULES
            elif isinstance(node, ast.Attribute):
                words = {node.attr} & CURIOUS_ATTRIBUTES
            else:
                words = {node.id} & CURIOUS_NAMES if isinstance(node, ast.Name) else set()
            found |= {(step.cell, word) for word in words}
    return tuple(f"look at cell {cell}: it uses {word}" for cell, word in sorted(found))


def _in_processes(function: Callable[[Job], Done], jobs: Sequence[Job], workers: int | None) -> Iterator[Done]:
    """In processes of our own, new ones and not copies; one that dies, say for want of memory, takes nothing along."""
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    if workers <= 1:
        yield from map(function, jobs)
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before they import torch: spinning threads slow each other
    left = list(jobs)
    with _pool(workers) as pool:
        futures = {pool.submit(function, job): job for job in jobs}
        try:
            for done in as_completed(futures):
                with contextlib.suppress(BrokenProcessPool):
                    yield done.result()
                    left.remove(futures[done])
        finally:
            pool.shutdown(cancel_futures=True)
    for job in left:
        with _pool(1) as alone:
            try:
                yield alone.submit(function, job).result()
            except BrokenProcessPool:
                yield job, replace(_base(job), problem="the grader failed: its process died", failed=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))


def on_dask(address: str) -> Callable[[Callable, Iterable], Iterator]:
    """Hand the work to the Dask cluster at `address`, whose workers have this package and see nothing but the jobs.

    Raises:
        ImportError: `distributed` isn't installed.
        ConnectionError: nobody answers there.
    """
    try:
        from distributed import Client
        from distributed import as_completed as completed
    except ImportError:
        raise ImportError("--dask needs the package distributed: install the extra teach.") from None

    def spread(function: Callable[[Job], Done], jobs: Iterable[Job]) -> Iterator[Done]:
        try:
            client = Client(address)
        except OSError:
            raise ConnectionError(
                f"--dask {address}: no scheduler answers there; start one with `dask scheduler`, and give its address."
            ) from None
        with client:
            futures = {client.submit(function, job, pure=False): job for job in jobs}
            for done in completed(futures):
                if done.status == "finished":
                    yield done.result()
                else:
                    problem = f"the grader failed: {done.exception()}"
                    yield futures[done], replace(_base(futures[done]), problem=problem, failed=True)

    return spread
