"""From what a learner's process wrote to marks: nothing of it is executed or unpickled, only compared."""

from __future__ import annotations

import importlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitcourse.checks import Exercise
from vitcourse.checks.compare import Other, Value
from vitcourse.checks.report import Report
from vitcourse.checks.watch import Outcome

MOST_JSON, MOST_NUMBERS, MOST_OUTCOMES = 2**22, 10**8, 50


def report(path: Path, module: str, exercise: str, seed: int) -> Report:
    """The report on one exercise, from the files `path`.json and `path`.npz; without them it is wrong, 0 points."""
    task: Exercise = getattr(importlib.import_module(f"vitcourse.checks.{module}"), exercise)
    try:
        outcomes, refused = read(path)
    except FileNotFoundError:
        return task.judge([], seed, "Nothing came out: the run ended before this check.")
    except (ValueError, KeyError, TypeError, OSError, AttributeError, zipfile.BadZipFile) as error:
        return task.judge([], seed, f"What came out can't be read ({type(error).__name__}).")
    return task.judge(outcomes, seed, refused)


def read(path: Path) -> tuple[list[Outcome], str]:
    """Outcomes, and why the answer was refused, as `vitcourse.grading.candidate` writes them.

    Raises:
        FileNotFoundError: there is none.
        ValueError: too large, or not of this form.
    """
    text, arrays = Path(f"{path}.json"), Path(f"{path}.npz")
    if text.is_symlink() or arrays.is_symlink():
        raise ValueError("a link")
    if text.stat().st_size > MOST_JSON:
        raise ValueError("too large")
    told = json.loads(text.read_text(encoding="utf-8"))
    tensors = _tensors(arrays)
    outcomes = [_outcome(one, tensors) for one in told["outcomes"][:MOST_OUTCOMES]]
    return outcomes, str(told["refused"])[:600]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Arrays of numbers; their sizes are looked at before they are unpacked."""
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > 8 * MOST_NUMBERS:
            raise ValueError("too large")
    with np.load(path, allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _outcome(told: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Outcome:
    return Outcome(
        values={str(name)[:200]: _value(value, tensors) for name, value in told["values"]},
        error=_text(told["error"]),
        line=_text(told["line"]),
        unfilled=told["unfilled"] is True,
        timed_out=told["timed_out"] is True,
        changed=tuple(_text(name) for name in told["changed"]),
        unstable=_text(told["unstable"]) if told["unstable"] in ("", "random", "state") else "state",
        printed=_text(told["printed"]),
    )


def _value(told: Any, tensors: dict[str, torch.Tensor]) -> Value:
    if isinstance(told, dict):
        if "tensor" in told:
            return tensors[told["tensor"]]
        if "float" in told:
            return float(told["float"])
        return Other(_text(told["other"]))
    if isinstance(told, float):
        return told if math.isfinite(told) else float("nan")
    if told is None or isinstance(told, (bool, int, str)):
        return told
    raise ValueError("an unknown kind of value")


def _text(told: Any) -> str:
    return str(told)[:2000]
