"""What runs beside a learner's code when a class is graded: `python -P -m vitcourse.grading.candidate`.

Reads job.json in the working folder and a secret from its standard input, runs the cells, and writes for each check
what came out, as numbers and text, into outcomes/. It gives no marks: whoever reads its files takes them for what an
adversary wrote.

Longer than 150 lines because all that happens beside the learner's code stands here, and nothing else does.
"""

from __future__ import annotations

import builtins
import copy
import functools
import hashlib
import importlib
import inspect
import io
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitcourse.checks.watch import Outcome, TooLong, sentence, time_limit

# Put back before each check: who rebinds `abs`, `next` or `torch.equal` changes what their own cells do, and no more.
KEPT = (builtins, copy, inspect, json, json.JSONEncoder, math, np, torch, torch.Tensor, torch.nn.Module, torch.testing)
OUTCOMES, PROGRESS = Path("outcomes").resolve(), Path("progress").resolve()


class Recorder:
    """Stands where the sheet has its check module: notes what an answer does instead of judging it."""

    def __init__(self, module: Any, seed: int, seal: Callable[[bytes], Any], grade_id: str = ""):
        self._module, self._seed, self._seal, self._grade_id = module, seed, seal, grade_id

    def at(self, grade_id: str) -> Recorder:
        return Recorder(self._module, self._seed, self._seal, grade_id)

    @property
    def path(self) -> Path:
        """Where its outcomes go: a name that nobody can guess, so that no other hand writes over them by chance."""
        return OUTCOMES / self._seal(self._grade_id.encode()).hexdigest()[:32]

    def note(self, refused: str, outcomes: Sequence[Outcome]) -> None:
        write(self.path, refused, outcomes, self._seal)

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        exercise = getattr(self._module, name)

        def observe(answer: Any, *_: Any) -> None:
            random.seed(self._seed)
            np.random.seed(self._seed % 2**32)  # noqa: NPY002 - for learners' code that draws from it
            refused = exercise.refused(answer)
            outcomes = [] if refused else exercise.observe(answer, self._seed)
            self.note(refused, outcomes)

        return observe


def write(path: Path, refused: str, outcomes: Sequence[Outcome], seal: Callable[[bytes], Any]) -> None:
    """Outcomes as JSON, their tensors beside it as NumPy arrays; renamed when whole.

    Args:
        seal: the hash of the reader's secret and some bytes, for the first line: a file that another hand wrote is told
            apart. Whoever gets at this process' own memory can still forge it.
    """
    arrays: dict[str, np.ndarray] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            name = f"array{len(arrays)}"
            kind = value.float() if value.dtype == torch.bfloat16 else value
            arrays[name] = np.ascontiguousarray(kind.resolve_conj().resolve_neg().numpy()).reshape(value.shape)
            return {"tensor": name, "dtype": str(value.dtype)}
        if isinstance(value, float):
            return {"float": repr(value)}
        if value is None or isinstance(value, (bool, int, str)):
            return value if not isinstance(value, int) or abs(value) < 2**63 else {"other": "a very large number"}
        return {"other": value.description}

    told = [
        vars(outcome) | {"values": [[name, plain(value)] for name, value in outcome.values.items()]}
        for outcome in outcomes
    ]
    path.parent.mkdir(exist_ok=True)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    parts = json.dumps({"refused": refused, "outcomes": told}).encode(), packed.getvalue()
    sealed = seal(b"\n".join([path.name.encode(), *parts])).hexdigest().encode()
    for suffix, content in (("npz", parts[1]), ("json", sealed + b"\n" + parts[0])):
        Path(f"{path}.{suffix}.part").write_bytes(content)
        os.replace(f"{path}.{suffix}.part", f"{path}.{suffix}")


def main() -> None:
    """Run the job in the working folder."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:  # what `%matplotlib inline` asks for
            pass

        def showtraceback(self, *_: Any, **__: Any) -> None:
            pass

    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    module = importlib.import_module(f"vitcourse.checks.{job['module']}")
    for name in [name for name in sys.modules if name.startswith("vitcourse.checks")]:
        del sys.modules[name]  # the learner imports copies of their own; patched ones change nothing here
    import vitcourse

    vars(vitcourse).pop("checks", None)
    torch.set_num_threads(1)
    shell = Shell.instance(config=Config(HistoryManager={"enabled": False, "hist_file": ":memory:"}))
    sys.path.insert(0, "")  # as in a notebook: a module that a cell wrote can be imported
    _say(None, [])
    told = json.loads(sys.stdin.buffer.read())  # comes when that was seen: from here on the run has started
    recorder = Recorder(module, told["seed"], functools.partial(hashlib.blake2b, key=bytes.fromhex(told["key"])))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 2)  # from here on nothing is ours
    as_it_was = [(place, dict(vars(place))) for place in KEPT]
    cut: list[int] = []
    files = _files()
    for step in job["steps"]:
        _say(step["index"], cut)
        if step["check"]:
            _restore(as_it_was)
            _limited(step["seconds"], _check, shell, recorder, step)
            continue
        done, in_time = _limited(step["seconds"], _run, shell, step["source"])
        if not in_time:
            cut.append(step["index"])
        if not done and step["otherwise"]:
            _limited(step["seconds"], _run, shell, step["otherwise"])
        if _left_something(files):
            time.sleep(0.5)  # should it be too much, it is noticed outside while this cell is still the last one
            files = _files()
    for step in job["steps"]:  # a helper that stands further down is there now
        if step["check"] and _lacked_a_name(recorder.at(step["check"]).path):
            _say(step["index"], cut)
            _restore(as_it_was)
            _limited(step["seconds"], _check, shell, recorder, step)
    _say(None, cut)
    os._exit(0)  # whatever threads are left


def _say(index: int | None, cut: Sequence[int]) -> None:
    """Where the run is, for whoever waits outside: the step, None at the end, and the steps that took too long."""
    Path(f"{PROGRESS}.part").write_text(json.dumps({"at": index, "cut": list(cut)}), encoding="utf-8")
    os.replace(f"{PROGRESS}.part", PROGRESS)


def _files() -> set[str]:
    try:
        return set(os.listdir(PROGRESS.parent))
    except OSError:
        return set()


def _left_something(files: set[str]) -> bool:
    """Whether the last cell left new files, or processes that still run."""
    if _files() - files:
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    except (ChildProcessError, AttributeError):  # none; or a system that doesn't say
        return False


def _run(shell: Any, source: str) -> bool:
    result = shell.run_cell(source, silent=True)
    if isinstance(result.error_in_exec, TooLong):
        raise TooLong
    return result.success


def _check(shell: Any, recorder: Recorder, step: dict[str, str]) -> bool:
    """Run the sheet's own check cell, with the recorder as `check`, in the learner's names."""
    here = recorder.at(step["check"])
    names = dict(shell.user_ns) | {"check": here}
    before = dict(names)
    try:
        exec(compile(step["source"], step["cell"], "exec"), names)
    except NotImplementedError as error:
        here.note(str(error)[:500], [Outcome(unfilled=True)])
    except Exception as error:
        here.note(sentence(error), [])
    new = {name for name, value in names.items() if before.get(name) is not value}
    shell.user_ns.update({name: names[name] for name in new - {"check", "__builtins__"}})
    return True


def _restore(as_it_was: Sequence[tuple[Any, dict[str, Any]]]) -> None:
    for place, names in as_it_was:
        for name, value in names.items():
            if vars(place).get(name) is not value:
                setattr(place, name, value)


def _lacked_a_name(path: Path) -> bool:
    try:
        told = json.loads(Path(f"{path}.json").read_bytes().partition(b"\n")[2])
        errors = [told["refused"], *(outcome["error"] for outcome in told["outcomes"])]
        return any(error.startswith("NameError") for error in errors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _limited(seconds: float, call: Callable[..., bool], *arguments: Any) -> tuple[bool, bool]:
    """Whether a call went well, and whether it ended in time; nothing that it raises ends the run."""
    try:
        with time_limit(seconds):
            return call(*arguments), True
    except TooLong:
        return False, False
    except BaseException:
        return False, True


if __name__ == "__main__":
    main()
