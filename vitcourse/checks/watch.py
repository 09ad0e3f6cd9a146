"""What runs beside a learner's code: call it, survive whatever it does, and keep plain data of what came out.

Longer than 150 lines because all that can go wrong in someone else's function is caught in this one place.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import inspect
import io
import linecache
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, equal, nan_to_num  # bound here: who rebinds them in torch changes nothing

from vitcourse.checks.compare import Other, Value, same

MOST_NUMBERS = 10**7  # a larger result is described, not kept
HERE = Path(__file__).parent.parent


class TooLong(BaseException):
    """The time is up. Not an Exception, so that an `except Exception` in the learner's code doesn't swallow it."""


@dataclass(frozen=True)
class Outcome:
    """What one call did, as plain data.

    Args:
        values: what it returned, by name; before an error, if `call` yields (name, value) pairs.
        error: type and message of what it raised, or "".
        line: the learner's line that raised.
        unfilled: it raised the bare `NotImplementedError` of a task not yet filled in.
        timed_out: it did not return in time.
        changed: arguments that it changed in place.
        unstable: "" or "random" or "state": what makes a second call with the same input give something else.
        printed: the beginning of what it printed.
        borrowed: what of the package it called that does the task for it.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    line: str = ""
    unfilled: bool = False
    timed_out: bool = False
    changed: tuple[str, ...] = ()
    unstable: str = ""
    printed: str = ""
    borrowed: str = ""


def watch(call: Callable[..., Any], arguments: Mapping[str, Any], seconds: float, repeat: bool = True) -> Outcome:
    """Call `call(*arguments.values())` on copies and say what happened; nothing that it raises comes out.

    Args:
        seconds: what all calls together may take.
        repeat: call again with the same input, to notice randomness and state.
    """
    sink, started = _Sink(), time.monotonic()
    values: dict[str, Value] = {}
    mine = copy.deepcopy(dict(arguments))
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), torch.random.fork_rng(devices=[]):
            with time_limit(seconds):
                _values(_call(call, mine, 1), values)
            changed = tuple(name for name, value in arguments.items() if not _equal(value, mine[name]))
            unstable = ""
            if repeat:
                with time_limit(max(0.1, seconds - time.monotonic() + started)):
                    again, same_seed = (_values(_call(call, copy.deepcopy(dict(arguments)), seed)) for seed in (2, 1))
                if not _alike(values, again):
                    unstable = "random" if _alike(values, same_seed) else "state"
    except TooLong:
        return Outcome(timed_out=True, printed=sink.text())
    except KeyboardInterrupt:  # the learner pressed stop
        raise
    except NotImplementedError as error:
        if not error.args:
            return Outcome(unfilled=True)
        return Outcome(values, error=sentence(error), line=line_of(error), printed=sink.text())
    except BaseException as error:  # SystemExit and GeneratorExit too: the notebook goes on
        return Outcome(values, error=sentence(error), line=line_of(error), printed=sink.text())
    return Outcome(values, changed=changed, unstable=unstable, printed=sink.text())


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooLong` in this thread when the block takes longer; again each second, should it be swallowed."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):

        def ring(*_: Any) -> None:
            raise TooLong

        started, before = time.monotonic(), signal.signal(signal.SIGALRM, ring)
        left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # of a limit around this one
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if left:
                signal.setitimer(signal.ITIMER_REAL, max(0.01, left - time.monotonic() + started), interval)
        return
    # Windows, and threads other than the first: cannot cut short a call that waits in C.
    target, over, lock = threading.get_ident(), threading.Event(), threading.Lock()

    def wait() -> None:
        while not over.wait(max(seconds, 0.01)):
            with lock:
                if not over.is_set():
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(target), ctypes.py_object(TooLong))

    watchman = threading.Thread(target=wait, daemon=True)
    watchman.start()
    try:
        yield
    finally:
        with lock:
            over.set()
        watchman.join()


class _Sink(io.TextIOBase):
    """Takes any amount of print and keeps its beginning."""

    def __init__(self, keep: int = 300):
        self.keep, self.kept = keep, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.kept += text[: self.keep - len(self.kept)]
        return len(text)

    def text(self) -> str:
        return self.kept


def _call(call: Callable[..., Any], arguments: dict[str, Any], seed: int) -> Any:
    torch.manual_seed(seed)
    return call(*arguments.values())


def _values(result: Any, values: dict[str, Value] | None = None) -> dict[str, Value]:
    """What came out, by name; added to `values` one by one, so that those before an error are kept."""
    values = {} if values is None else values
    if isinstance(result, Mapping):
        pairs = iter(result.items())
    elif isinstance(result, tuple):
        pairs = ((f"output[{index}]", value) for index, value in enumerate(result))
    else:
        pairs = result if inspect.isgenerator(result) else iter([("output", result)])
    for name, value in pairs:
        values[str(name)] = _value(value)
    return values


def _value(value: Any) -> Value:
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = torch.from_numpy(np.array(value))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Tensor):
        if value.numel() > MOST_NUMBERS:
            return Other(f"a tensor of shape {tuple(value.shape)}")
        return value.detach().cpu().clone()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return Other(f"a list of {len(value)}")
    return Other(f"an object of type {type(value).__name__}")


def _alike(first: Mapping[str, Value], second: Mapping[str, Value]) -> bool:
    """Whether two calls gave the same answer; the last bit may differ, as not every routine repeats it."""
    return first.keys() == second.keys() and all(same(value, second[name]) for name, value in first.items())


def _equal(first: Any, second: Any) -> bool:
    """Whether an argument is as it was, to the last bit (NaN is NaN); unknown things are taken as equal."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return (
            first.shape == second.shape
            and first.dtype == second.dtype
            and equal(nan_to_num(first.detach()), nan_to_num(second.detach()))
        )
    if isinstance(first, torch.nn.Module) and isinstance(second, torch.nn.Module):
        return _equal(first.state_dict(), second.state_dict())
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_equal, first, second))
    if isinstance(first, (bool, int, float, str)):
        return first == second or first != first
    return type(first) is type(second)


def sentence(error: BaseException) -> str:
    """Type and message of an error, also of one whose message fails."""
    try:
        text = str(error).strip()
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}"[:600] if text else type(error).__name__


def line_of(error: BaseException) -> str:
    """The last line of the traceback that is the learner's: in no library, and not in this package."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = frame.filename
        foreign = "site-packages" in path or "dist-packages" in path or path.startswith("<frozen")
        if not foreign and HERE not in Path(path).parents:
            text = linecache.getline(path, frame.lineno or 0).strip()
            return f"line {frame.lineno}, in {frame.name}: {text}" if text else f"line {frame.lineno}, in {frame.name}"
    return ""
