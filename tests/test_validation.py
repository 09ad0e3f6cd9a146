"""Checks of one value: what they let through, and what they say of the rest."""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from vitcourse.validation import (
    known_fields,
    not_negative,
    one_of,
    positive_integer,
    positive_number,
    probability,
    side_or_pair,
    true_or_false,
    whole_number,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "value", "result"),
    [
        (positive_integer, 1, 1),
        (positive_integer, np.int64(7), 7),
        (whole_number, 0, 0),
        (whole_number, np.int32(30), 30),
        (side_or_pair, 32, 32),
        (side_or_pair, (32, 24), (32, 24)),
        (side_or_pair, [np.int32(32), 24], (32, 24)),
        (side_or_pair, (32, 32), 32),
        (probability, 0, 0.0),
        (probability, np.float64(0.5), 0.5),
        (positive_number, 1, 1.0),
        (not_negative, 0, 0.0),
        (not_negative, np.float32(2.5), 2.5),
        (positive_number, np.float32(0.5), 0.5),
        (positive_number, np.int64(2), 2.0),
        (not_negative, 2.5, 2.5),
        (true_or_false, False, False),
    ],
)
def test_a_fitting_value_comes_back_as_a_plain_python_object(check, value, result):
    checked = check("size", value)
    assert checked == result
    assert type(checked) is type(result)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        *((positive_integer, value) for value in (True, np.True_, 4.0, "4", None, np.array([4, 4]))),
        *((whole_number, value) for value in (False, np.False_, 0.0, "0", None)),
        *((side_or_pair, value) for value in (True, 32.0, "32", None, (32, 16.0), (32, True))),
        *((probability, value) for value in (True, "0.1", None)),
        *((positive_number, value) for value in (False, np.True_, "1", None, [1.0])),
        *((not_negative, value) for value in (False, "0", None)),
        *((true_or_false, value) for value in (0, 1, "True", None)),
    ],
)
def test_a_wrong_type_is_refused_with_name_and_value(check, value):
    wrong = value[1] if isinstance(value, tuple) else value
    with pytest.raises(TypeError, match=f"size .*{re.escape(repr(wrong))} of type {type(wrong).__name__}"):
        check("size", value)


@pytest.mark.parametrize(
    ("check", "value", "shown"),
    [
        *((positive_integer, value, str(value)) for value in (0, -1)),
        *((whole_number, value, str(value)) for value in (-1, -7)),
        *((side_or_pair, value, shown) for value, shown in ((0, "0"), ((32, -4), "-4"), ((32,), "(32,)"))),
        *((side_or_pair, value, str(value)) for value in ((), (8, 8, 8))),
        *((probability, value, str(value)) for value in (-0.1, 1.0, NAN, INF)),
        *((positive_number, value, str(value)) for value in (0.0, -1.0, NAN, INF)),
        *((not_negative, value, str(value)) for value in (-1, -0.1, NAN, INF)),
    ],
)
def test_a_value_out_of_range_is_refused_with_name_and_value(check, value, shown):
    with pytest.raises(ValueError, match=f"size .*got {re.escape(shown)}"):
        check("size", value)


def test_a_whole_number_may_have_a_highest():
    assert whole_number("magnitude", 30, highest=30) == 30
    with pytest.raises(ValueError, match="magnitude must be at most 30, got 31"):
        whole_number("magnitude", 31, highest=30)


def test_a_value_must_be_one_of_the_allowed_ones():
    assert one_of("pooling", "cls", ("cls", "mean")) == "cls"
    assert type(one_of("pooling", np.str_("cls"), ("cls", "mean"))) is str
    assert type(one_of("level", np.int64(20), (6, 20, 82))) is int
    with pytest.raises(ValueError, match="level must be one of 6, 20, 82, got 7"):
        one_of("level", 7, (6, 20, 82))
    with pytest.raises(ValueError, match="pooling must be one of 'cls', 'mean', got 'avg'"):
        one_of("pooling", "avg", ("cls", "mean"))


def test_a_key_must_be_a_field():
    @dataclass
    class Size:
        height: int
        width: int

    assert known_fields(Size, {"width": 3}) == {"width": 3}
    with pytest.raises(ValueError, match=r"Unknown field 'depth', 'tall'\. Known fields: height, width"):
        known_fields(Size, {"tall": 2, "width": 3, "depth": 4})
