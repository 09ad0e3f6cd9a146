"""From what a learner's process wrote to marks: nothing of it is executed or unpickled, only compared."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import io
import json
import math
import re
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitcourse.checks import Exercise
from vitcourse.checks.compare import Other, Value
from vitcourse.checks.report import Report
from vitcourse.checks.watch import Outcome
from vitcourse.grading.sandbox import read_back

MOST_JSON, MOST_BYTES, MOST_OUTCOMES, MOST_VALUES = 2**22, 2**26, 50, 200
# The head of an array as NumPy writes it, and the kinds of numbers that there can be.
HEAD = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][a-z]\d+)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n",
    re.DOTALL,
)
KINDS = {"<f2", "<f4", "<f8", "<i2", "<i4", "<i8", "|i1", "|u1", "|b1", "<c8", "<c16"}

# Calling a right answer seeds torch and takes over what is printed, for the whole process: threads take turns.
TURN = threading.Lock()

Observed = tuple[list[Outcome], str]  # what came out, and why the answer was refused


def exercise_of(module: str, name: str) -> Exercise:
    """The exercise `name` of vitcourse.checks.`module`."""
    return getattr(importlib.import_module(f"vitcourse.checks.{module}"), name)


def report(observed: Observed | None, module: str, exercise: str, seed: int) -> Report:
    """The report on one exercise; without outcomes it is wrong, 0 points. Never raises for what came from outside.

    Raises:
        TimeoutError: this machine is too slow to judge by, which is not the learner's fault.
    """
    task = exercise_of(module, exercise)
    if observed is None:
        problem = "Nothing came out: the run ended before this check, or in it; the remarks say where it ended."
        return task.judge([], seed, problem)
    try:
        with TURN:
            found = task.judge(observed[0], seed, observed[1])
        str(found)  # what can't be shown can't be kept either
        return found
    except TimeoutError:
        raise
    except Exception as error:
        return task.judge([], seed, f"What came out can't be compared ({type(error).__name__}).")


def place(folder: Path, grade_id: str, key: bytes) -> Path:
    """Where `vitcourse.grading.candidate` writes the outcomes of a check, without the suffix."""
    return folder / "outcomes" / hashlib.blake2b(grade_id.encode(), key=key).hexdigest()[:32]


def read(path: Path, key: bytes) -> Observed | None:
    """What `vitcourse.grading.candidate` wrote to `path`.json and `path`.npz; None where it wrote nothing.

    Args:
        key: the secret with which it sealed them; another hand's files are refused.
    """
    try:
        seal, _, text = read_back(Path(f"{path}.json"), MOST_JSON).partition(b"\n")
        arrays = read_back(Path(f"{path}.npz"), MOST_BYTES)
        wanted = hashlib.blake2b(b"\n".join([path.name.encode(), text, arrays]), key=key).hexdigest().encode()
        if not hmac.compare_digest(seal, wanted):
            return [], "What came out was not written by the run itself."
        told, tensors = json.loads(text), _tensors(arrays)
        outcomes = [_outcome(one, tensors) for one in told["outcomes"][:MOST_OUTCOMES]]
        return outcomes, _text(told["refused"])[:600]
    except FileNotFoundError:
        return None
    except Exception as error:  # an adversary's file: whatever is wrong with it, it is wrong
        return [], f"What came out can't be read ({type(error).__name__})."


def _tensors(content: bytes) -> dict[str, torch.Tensor]:
    """Arrays of numbers from an .npz; one that is packed, or whose head isn't as NumPy writes it, is refused."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist()[: MOST_OUTCOMES * MOST_VALUES]:
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > MOST_BYTES:
                raise ValueError("packed")
            data = archive.read(info)
            head = HEAD.match(data)
            if not head or (kind := head[1].decode()) not in KINDS:
                raise ValueError("not an array of numbers")
            shape = [int(size) for size in head[2].split(b",") if size.strip()]
            array = np.frombuffer(data, "|u1" if kind == "|b1" else kind, offset=head.end()).reshape(shape)
            tensor = torch.from_numpy(array.copy())
            found[info.filename.removesuffix(".npy")] = tensor != 0 if kind == "|b1" else tensor
    return found


def _outcome(told: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Outcome:
    if len(told["values"]) > MOST_VALUES:
        raise ValueError("too many values")
    return Outcome(
        values={_text(name)[:100]: _value(value, tensors) for name, value in told["values"]},
        error=_text(told["error"])[:700],
        line=_text(told["line"])[:300],
        unfilled=told["unfilled"] is True,
        timed_out=told["timed_out"] is True,
        changed=tuple(_text(name)[:100] for name in told["changed"][:20]),
        unstable=told["unstable"] if told["unstable"] in ("", "random", "state") else "state",
        printed=_text(told["printed"])[:300],
        borrowed=_text(told["borrowed"])[:100],
    )


def _value(told: Any, tensors: dict[str, torch.Tensor]) -> Value:
    if isinstance(told, dict):
        if "tensor" in told:
            coarse = told.get("dtype") == "torch.bfloat16"
            return tensors[told["tensor"]].bfloat16() if coarse else tensors[told["tensor"]]
        if "float" in told:
            return float(told["float"])
        return Other(_text(told["other"])[:300])
    if isinstance(told, float):
        return told if math.isfinite(told) else float("nan")
    if isinstance(told, int) and abs(told) >= 2**63:
        return Other("a very large number")
    if isinstance(told, str):
        return _text(told)
    if told is None or isinstance(told, (bool, int)):
        return told
    raise ValueError("an unknown kind of value")


def _text(told: Any) -> str:
    """Text that can be written and shown, the same each time: no lone surrogates, no addresses in memory."""
    text = str(told)[:2000].encode("utf-8", "replace").decode()
    text = "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
    return re.sub(r"\b0x[0-9a-f]{6,16}\b", "0x…", text)
