"""What runs beside a learner's code when a class is graded: `python -m vitcourse.grading.candidate FOLDER`.

Reads FOLDER/job.json, runs the cells, and writes for each check what came out, as numbers and text, into
FOLDER/outcomes. It gives no marks: whoever reads its files takes them for what an adversary wrote.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitcourse.checks.watch import Outcome, TooLong, time_limit

CELL_SECONDS = 20.0


class Recorder:
    """Stands where the sheet has its check module: notes what an answer does instead of judging it."""

    def __init__(self, module: Any, seed: int, folder: Path):
        self._module, self._seed, self._folder, self._grade_id = module, seed, folder, ""

    def at(self, grade_id: str) -> Recorder:
        self._grade_id = grade_id
        return self

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        exercise = getattr(self._module, name)

        def observe(answer: Any, *_: Any) -> None:
            refused = exercise.refused(answer)
            outcomes = [] if refused else exercise.observe(answer, self._seed)
            write(self._folder / self._grade_id, name, refused, outcomes)

        return observe


def write(path: Path, exercise: str, refused: str, outcomes: Sequence[Outcome]) -> None:
    """Outcomes as JSON, their tensors beside it as NumPy arrays; renamed when whole."""
    arrays: dict[str, np.ndarray] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            name = f"array{len(arrays)}"
            kind = value.float() if value.dtype == torch.bfloat16 else value
            arrays[name] = kind.resolve_conj().resolve_neg().numpy()
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
    text = json.dumps({"exercise": exercise, "refused": refused, "outcomes": told})
    path.parent.mkdir(exist_ok=True)
    with open(f"{path}.npz.part", "wb") as file:
        np.savez(file, **arrays)
    Path(f"{path}.json.part").write_text(text, encoding="utf-8")
    os.replace(f"{path}.npz.part", f"{path}.npz")
    os.replace(f"{path}.json.part", f"{path}.json")


def main(folder: Path) -> None:
    """Run the job in `folder`."""
    from IPython.core.interactiveshell import InteractiveShell

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    recorder = Recorder(importlib.import_module(f"vitcourse.checks.{job['module']}"), job["seed"], folder / "outcomes")
    for name in [name for name in sys.modules if name.startswith("vitcourse.checks")]:
        del sys.modules[name]  # the learner imports copies of their own; patched ones change nothing here
    import vitcourse

    vars(vitcourse).pop("checks", None)
    torch.set_num_threads(1)
    shell = InteractiveShell.instance()
    for step in job["steps"]:
        if step["check"]:
            _quietly(_check, shell, recorder, step)
        elif not _quietly(_run, shell, step["source"]) and step["otherwise"]:
            _quietly(_run, shell, step["otherwise"])
    sys.stdout.flush()
    os._exit(0)  # whatever threads are left


def _run(shell: Any, source: str) -> bool:
    return shell.run_cell(source, silent=True).success


def _check(shell: Any, recorder: Recorder, step: dict[str, str]) -> bool:
    """Run the sheet's own check cell, with the recorder as `check`, in the learner's names."""
    names = dict(shell.user_ns) | {"check": recorder.at(step["check"])}
    try:
        exec(compile(step["source"], step["cell"], "exec"), names)
    except NotImplementedError as error:
        write(
            recorder._folder / step["check"], "", "" if not error.args else str(error)[:500], [Outcome(unfilled=True)]
        )
    except Exception as error:
        write(recorder._folder / step["check"], "", f"{type(error).__name__}: {str(error)[:500]}", [])
    return True


def _quietly(call: Callable[..., bool], *arguments: Any) -> bool:
    """Call with a limit of time; nothing that it raises ends the run."""
    try:
        with time_limit(CELL_SECONDS):
            return call(*arguments)
    except (TooLong, KeyboardInterrupt, SystemExit, GeneratorExit, Exception):
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
