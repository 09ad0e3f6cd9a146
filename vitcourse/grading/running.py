"""Run one hand-in apart and bring back what its answers did.

A cell that ends the run, or keeps it waiting, is left out, and the others run once more: it costs what can't run
without it, and no more.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitcourse.grading import judging, sandbox
from vitcourse.grading.judging import Observed
from vitcourse.grading.matching import Step

CALLED = re.compile(r"check\.(\w+)\(")
MOST_RUNS = 12  # of one hand-in, within its time
COMMAND = (sys.executable, "-P", "-m", "vitcourse.grading.candidate")


@dataclass(frozen=True)
class Job:
    """What to run: the steps, the sheet's check module, the seed of the inputs, and what is allowed."""

    steps: Sequence[Step]
    module: str
    seed: int
    limits: sandbox.Limits
    hidden: Sequence[Path] = ()

    def exercise(self, step: Step) -> str:
        """The name of the exercise that a step checks: its last one."""
        return CALLED.findall(step.source)[-1]

    def seconds(self, step: Step) -> float:
        """What a step may take."""
        own = judging.exercise_of(self.module, self.exercise(step)).seconds if step.check else 0
        return self.limits.cell + own


@dataclass(frozen=True)
class _Run:
    found: dict[str, Observed]
    at: int | None  # the step in which it ended, None at the end
    cut: tuple[int, ...]  # steps that took too long and were stopped from within
    ended: sandbox.Ended


def observe(job: Job) -> tuple[dict[str, Observed], tuple[str, ...]]:
    """What came out, by the grade id of the check, and remarks about cells that were stopped.

    Raises:
        RuntimeError: the run doesn't start at all, which is not the learner's fault.
    """
    found: dict[str, Observed] = {}
    remarks: dict[int, str] = {}
    end = time.monotonic() + job.limits.seconds
    for _ in range(MOST_RUNS):
        left = end - time.monotonic()
        if left < min(5, job.limits.seconds / 2):
            return found, (*remarks.values(), f"stopped after {job.limits.seconds:g} s in all")
        # A name that was missing may be defined behind the cell that ended the run: such an answer is tried again.
        known = {name: one for name, one in found.items() if not _lacked_a_name(one)}
        run = _once(replace(job, limits=replace(job.limits, seconds=left)), known, remarks)
        found |= run.found
        for place in run.cut:
            step = job.steps[place]
            remarks.setdefault(place, f"cell {step.cell}: stopped after {job.seconds(step):g} s")
        if run.at is None:
            return found, (*remarks.values(), *([run.ended.reason] if run.ended.reason else []))
        if run.ended.late:
            reason = f"stopped after {job.limits.seconds:g} s in all"
            return found, (*remarks.values(), f"cell {job.steps[run.at].cell}: {reason}")
        remarks[run.at] = (
            f"cell {job.steps[run.at].cell}: {run.ended.reason or 'it ended the run'}; the others ran without it"
        )
    return found, tuple(remarks.values())


def _lacked_a_name(observed: Observed) -> bool:
    outcomes, refused = observed
    return any(error.startswith("NameError") for error in (refused, *(outcome.error for outcome in outcomes)))


def _once(job: Job, found: dict[str, Observed], left_out: dict[int, str]) -> _Run:
    """Run all steps but those that were stopped before, and those checks of one line whose outcome is known."""
    with sandbox.new_folder() as folder:
        steps = []
        for index, step in enumerate(job.steps):
            source, otherwise = (step.otherwise, "") if index in left_out else (step.source, step.otherwise)
            known = step.check in found and "\n" not in step.source.strip()
            if source and not known:
                about = {"index": index, "cell": step.cell, "check": step.check, "seconds": job.seconds(step)}
                steps.append({**about, "source": source, "otherwise": otherwise})
        (folder / "job.json").write_text(json.dumps({"module": job.module, "steps": steps}), encoding="utf-8")
        longest = max([job.seconds(step) for step in job.steps], default=0)
        limits = replace(job.limits, silence=max(job.limits.silence, 10 + longest))
        key = secrets.token_bytes(32)
        # Not into a file: with the seed in hand a cell could tabulate what the reference gives.
        told = json.dumps({"key": key.hex(), "seed": job.seed}).encode()
        ended = sandbox.run(COMMAND, folder, job.hidden, limits, told)
        if not ended.started:
            raise RuntimeError(f"the run does not start: {ended.reason}; {ended.errors}")
        progress = _progress(folder)
        if progress is None and not ended.reason:
            ended = replace(ended, reason="it ended the run, and took away the note of where it was")
        names = [step.check for step in job.steps if step.check and step.check not in found]
        outcomes = {name: judging.read(judging.place(folder, name, key), key) for name in names}
        at, cut = progress or (None, [])
        places = {step["index"] for step in steps}
        at = at if isinstance(at, int) and at in places else None
        cut = tuple(place for place in dict.fromkeys(cut) if place in places)
        return _Run({name: one for name, one in outcomes.items() if one is not None}, at, cut, ended)


def _progress(folder: Path) -> tuple[Any, list] | None:
    """The step that the program says it was in, and those that it cut short; None if it says nothing sensible."""
    try:
        told = json.loads(sandbox.read_back(folder / sandbox.PROGRESS, 2**16))
        return told["at"], [place for place in told["cut"] if isinstance(place, int)]
    except Exception:  # an adversary's file, or none
        return None
