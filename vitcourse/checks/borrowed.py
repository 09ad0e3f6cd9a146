"""Whether an answer does its task itself, or calls the package's own code for it."""

from __future__ import annotations

import contextlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from torch import nn

PACKAGE = str(Path(__file__).resolve().parents[1])
# Frames between the learner's and the package's that count as nobody's: `map`, `functools`, `torch.vmap`.
NOBODYS = (
    *{sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")},
    "<frozen",
    "<string>",
)
CALLED_AS_MODULE = nn.Module._call_impl.__code__  # layers that the learner was given, or was allowed to build
FREE = (
    "data",
    "progress",
    "training.seeds",
    "config.ViTConfig.__post_init__",
    "config.ViTConfig.replace",
)  # do no task


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
    before, answers = sys.getprofile(), {_place(code) for code in _code_of(reference)}

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE) and _asked_from_outside(frame):
            name = f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_qualname}".partition(".")[2]
            name = name.removesuffix(".__init__").removesuffix(".forward")
            allowed = (*FREE, *may_use)
            if _place(frame.f_code) in answers:
                found.append("right answer")
            elif not name.startswith(("checks.", *allowed)):
                found.append(name)

    sys.setprofile(look)
    try:
        yield found
    finally:
        sys.setprofile(before)


def _code_of(answer: Any) -> list[CodeType]:
    """The code of a function, or of the methods of a class."""
    functions = vars(answer).values() if isinstance(answer, type) else [answer]
    return [function.__code__ for function in functions if hasattr(function, "__code__")]


def _place(code: CodeType) -> tuple[str, int]:
    """Where it stands, the same for a copy of its module."""
    return code.co_filename, code.co_firstlineno


def _asked_from_outside(frame: FrameType) -> bool:
    caller = frame.f_back
    while caller is not None and caller.f_code.co_filename.startswith(NOBODYS):
        if caller.f_code is CALLED_AS_MODULE:
            return False
        caller = caller.f_back
    return caller is not None and not caller.f_code.co_filename.startswith(PACKAGE)
