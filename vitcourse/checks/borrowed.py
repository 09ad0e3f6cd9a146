"""Whether an answer does its task itself, or has the package's own code do it."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from torch import nn

PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
# Frames between the learner's and the package's that count as nobody's: `map`, `functools`, `torch.vmap`.
NOBODYS = (
    *{sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")},
    "<frozen",
    "<string>",
)
CALLED_AS_MODULE = nn.Module._call_impl.__code__
# What does no task by itself.
FREE = ("data", "progress", "training.seeds", "config.ViTConfig.__post_init__", "config.ViTConfig.replace")


def handed_in(answer: Any, may_use: Sequence[str] = (), reference: Any = None) -> bool:
    """Whether what was handed in is the package's own, as it is or in another dress.

    Args:
        answer: a function, a class or a callable object.
        may_use, reference: as in `watched`.
    """
    while isinstance(answer, functools.partial):
        answer = answer.func
    if not isinstance(answer, type):
        code = getattr(answer, "__code__", None)
        return _named(getattr(answer, "__module__", "")) is not None or (code is not None and _is_ours(code))
    theirs = _name(reference) if isinstance(reference, type) else None
    names = [name for name in map(_name, answer.__mro__) if name]
    return any(
        name == theirs if name.startswith("checks.") else not name.startswith((*FREE, *may_use)) for name in names
    )


@contextlib.contextmanager
def watched(may_use: Sequence[str] = (), reference: Any = None) -> Iterator[list[str]]:
    """Notice which of the package's functions and classes the code in this block calls from outside the package.

    Args:
        may_use: beginnings of names that are allowed: "layers.mlp"; "" allows all.
        reference: the right answer; of `checks` only this is not allowed, for what else stands there is met unasked.

    Yields:
        The names that were called and aren't allowed, in order; filled while the block runs.
    """
    found: list[str] = []
    before, answers = (sys.getprofile(), threading.getprofile()), {_place(code) for code in _code_of(reference)}

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and _is_ours(frame.f_code) and _asked_from_outside(frame):
            name = f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_qualname}".partition(".")[2]
            name = name.removesuffix(".__init__").removesuffix(".forward")
            if _place(frame.f_code) in answers:
                found.append("right answer")
            elif not name.startswith(("checks.", *FREE, *may_use)) or name.startswith("checks.borrowed"):
                found.append(name)

    threading.setprofile(look)  # of threads that start in the block
    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before[0])
        threading.setprofile(before[1])


def _code_of(answer: Any) -> list[CodeType]:
    """The code of a function, or of the methods of a class."""
    functions = vars(answer).values() if isinstance(answer, type) else [answer]
    return [function.__code__ for function in functions if hasattr(function, "__code__")]


def _place(code: CodeType) -> tuple[str, int]:
    """Where it stands, the same for a copy of its module."""
    return code.co_filename, code.co_firstlineno


def _is_ours(code: CodeType) -> bool:
    return code.co_filename.startswith(PACKAGE)


def _named(module: Any) -> str | None:
    """The name of a module below the package, or None if it is another's."""
    first, _, rest = str(module).partition(".")
    return rest if first == "vitcourse" else None


def _name(cls: type) -> str | None:
    """`layers.mlp.MLP`, or None for a class of somebody else's."""
    module = _named(cls.__module__)
    return None if module is None else f"{module}.{cls.__qualname__}"


def _asked_from_outside(frame: FrameType) -> bool:
    """Whether code of ours was called by somebody else's, or by a thread of somebody else's."""
    caller = frame.f_back
    while caller is not None and not _is_ours(caller.f_code) and caller.f_code.co_filename.startswith(NOBODYS):
        if caller.f_code is CALLED_AS_MODULE:  # a layer of ours, which was given or could be built
            return _name(type(caller.f_locals.get("self"))) is None
        caller = caller.f_back
    return caller is None or not _is_ours(caller.f_code)
