"""Whether two values are the same answer, and if not, in what they differ: one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, isclose  # bound here: who rebinds it in torch changes nothing


@dataclass(frozen=True)
class Other:
    """A value that isn't compared: what it is, in words."""

    description: str


Value = Tensor | bool | int | float | str | None | Other

# Relative and absolute tolerance, by the type that is expected: a right answer computed in another order differs by
# this much at most. What comes in a shorter type was rounded, and that is no excuse.
TOLERANCES = {torch.float64: (1e-4, 1e-5), torch.float32: (1e-4, 1e-5), torch.float16: (5e-3, 5e-3)}
COARSE = (4e-2, 4e-2)  # bfloat16 and smaller


def difference(expected: Value, got: Value, name: str = "output") -> str:
    """In what `got` isn't `expected`, or "" when it is.

    Floating-point types count as one kind, whatever their width; so do integer types, and a tensor with a single
    number and that number.
    """
    if got is None and expected is not None:
        return f"{name} is None. Does your code end in a `return`?"
    if isinstance(got, Other):
        return f"{name} is {got.description}; expected {kind(expected)}."
    if isinstance(expected, (str, bool)) or expected is None:
        if isinstance(got, Tensor) and got.numel() == 1:
            got = got.item()
        return "" if type(got) is type(expected) and got == expected else f"{name}: expected {expected}, got {got}."
    if isinstance(got, (str, bool)):
        return f"{name} is {got!r}; expected {kind(expected)}."
    if isinstance(expected, Tensor):
        return _tensors(expected, got, name)
    if isinstance(got, Tensor):
        if got.numel() != 1:
            return f"{name} is {kind(got)}; expected {kind(expected)}."
        got = got.item()
    if expected != expected and got != got:  # nan
        return ""
    if math.isclose(expected, got, rel_tol=1e-4, abs_tol=1e-5) and (isinstance(expected, float) or expected == got):
        return ""
    return f"{name}: expected {expected:,}, got {got:,}."


def _tensors(expected: Tensor, got: Value, name: str) -> str:
    if not isinstance(got, Tensor):
        if expected.ndim:
            return f"{name} is {got!r}; expected {kind(expected)}."
        got = torch.tensor(got)
    if got.shape != expected.shape:
        return f"{name} has shape {tuple(got.shape)}; expected {tuple(expected.shape)}."
    if _kind(got) != _kind(expected):
        return f"{name} holds {got.dtype}; expected {expected.dtype}."
    if _kind(expected) == "complex":
        return _tensors(torch.view_as_real(expected), torch.view_as_real(got), name)
    if _kind(expected) == "floating-point":
        if got.isnan().any() and not expected.isnan().any():
            return f"{name} holds nan."
        rtol, atol = TOLERANCES.get(expected.dtype, COARSE)
        wrong = ~isclose(got.double(), expected.double(), rtol=rtol, atol=atol, equal_nan=True)
    else:
        wrong = got.long() != expected.long()
    count = int(wrong.sum())
    if not count:
        return ""
    if not expected.ndim:
        return f"{name}: expected {expected.item():.6g}, got {got.item():.6g}."
    place = tuple(wrong.nonzero()[0].tolist())
    wanted, came = expected[place].item(), got[place].item()
    digits = 4 if f"{wanted:.4g}" != f"{came:.4g}" else 8
    numbers = f"expected {wanted:.{digits}g}, got {came:.{digits}g}"
    return f"{name}: {count} of {expected.numel()} numbers differ; the first one at {list(place)}: {numbers}."


def same(first: Value, second: Value) -> bool:
    """Whether two values are the same answer."""
    if isinstance(first, Other) or isinstance(second, Other):
        return first == second
    return not difference(first, second)


def kind(value: Value) -> str:
    """What a value is, in words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Other):
        return value.description
    return {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}.get(type(value), "nothing")


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "boolean"
    if tensor.is_complex():
        return "complex"
    return "floating-point" if tensor.is_floating_point() else "integer"
