"""Checks of one value each, which return the value or say what is wrong with it. No PyTorch.

Every message names the argument, its value and what was expected.
"""

from __future__ import annotations

import math
import operator
from dataclasses import fields
from numbers import Real
from typing import Any, TypeVar

T = TypeVar("T")


def positive_integer(name: str, value: Any) -> int:
    """`value` as an int of at least 1; NumPy's integers are taken too.

    Raises:
        TypeError: no whole number; a bool and 4.0 aren't one.
        ValueError: below 1.
    """
    integer = _integer(name, value)
    if integer < 1:
        raise ValueError(f"{name} must be at least 1, got {integer}.")
    return integer


def whole_number(name: str, value: Any, highest: int | None = None) -> int:
    """`value` as an int from 0 to `highest`.

    Raises:
        TypeError: no whole number.
        ValueError: below 0, or above `highest`.
    """
    integer = _integer(name, value)
    if integer < 0:
        raise ValueError(f"{name} must be at least 0, got {integer}.")
    if highest is not None and integer > highest:
        raise ValueError(f"{name} must be at most {highest}, got {integer}.")
    return integer


def side_or_pair(name: str, value: Any) -> int | tuple[int, int]:
    """`value` as one side, or as a pair (height, width) where they differ, so that equal sizes compare equal.

    Raises:
        TypeError: a side that is no whole number.
        ValueError: a side below 1, or not two of them.
    """
    if not isinstance(value, (tuple, list)):
        return positive_integer(name, value)
    if len(value) != 2:
        raise ValueError(f"{name} must be one side or a pair (height, width), got {value!r}.")
    height, width = (positive_integer(name, side) for side in value)
    return height if height == width else (height, width)


def probability(name: str, value: Any) -> float:
    """`value` as a float from 0 up to, but not including, 1.

    Raises:
        TypeError: no number.
        ValueError: outside, or NaN.
    """
    value = _number(name, value)
    if not 0 <= value < 1:  # written so that NaN fails
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}.")
    return value


def positive_number(name: str, value: Any) -> float:
    """`value` as a float above 0.

    Raises:
        TypeError: no number.
        ValueError: zero, negative, infinite or NaN.
    """
    value = _number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}.")
    return value


def not_negative(name: str, value: Any) -> float:
    """`value` as a float of at least 0.

    Raises:
        TypeError: no number.
        ValueError: negative, infinite or NaN.
    """
    value = _number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value!r}.")
    return value


def true_or_false(name: str, value: Any) -> bool:
    """`value`, a bool.

    Raises:
        TypeError: anything else, 0 and 1 included.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r} of type {type(value).__name__}.")
    return value


def one_of(name: str, value: Any, allowed: tuple[T, ...]) -> T:
    """The one of the `allowed` values that equals `value`.

    Raises:
        ValueError: another one.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}.")
    return allowed[allowed.index(value)]  # a plain text or number, where `value` is NumPy's


def known_fields(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """`values`, whose keys are all fields of the dataclass `cls`.

    Raises:
        ValueError: a key that is none.
    """
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"Unknown field {', '.join(map(repr, unknown))}. Known fields: {', '.join(known)}.")
    return values


def _integer(name: str, value: Any) -> int:
    try:
        is_bool = type(value).__name__ in ("bool", "bool_")  # Python's and NumPy's, which was an index before 2.0
        integer = None if is_bool else operator.index(value)
    except TypeError:
        integer = None
    if integer is None:
        raise TypeError(f"{name} must be a whole number, got {value!r} of type {type(value).__name__}.")
    return integer


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):  # NumPy's numbers are Real, too
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}.")
    return float(value)
