"""Exact arithmetic: a sum is rounded once, whatever the caller's decimal context is."""

from __future__ import annotations

import decimal
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmemory import ValidationError, exact
from botmemory.exact import to_decimal, to_float, total

floats = st.floats(-1e300, 1e300, allow_nan=False)


@given(st.lists(floats, max_size=20))
def test_a_sum_is_the_nearest_float_of_the_decimals(numbers: list[float]) -> None:
    expected = sum((Fraction(repr(number)) for number in numbers), Fraction(0))
    assert to_float("pnl", total(numbers)) == float(expected)


def test_the_smallest_and_the_largest_floats_are_added_exactly() -> None:
    assert to_float("pnl", total([1.7e308, 5e-324, -1.7e308])) == 5e-324


def test_a_zero_is_never_negative() -> None:
    for numbers in ([-0.0], [-0.1, 0.1], [4.4e-323, -4e-323, -5e-324]):
        assert math.copysign(1, to_float("pnl", total(numbers))) == 1.0


def test_the_callers_context_changes_nothing() -> None:
    traps = {decimal.Inexact: True, decimal.Rounded: True, decimal.FloatOperation: True}
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps.update(traps)
        assert to_float("pnl", total([12345.678, 0.1, -0.001])) == 12345.777
        assert float(exact.divide(to_decimal(1.0), 3)) == 1 / 3


def test_a_sum_that_no_float_can_hold_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="fee: the sum has 309 digits") as raised:
        to_float("fee", total([1e308, 1e308]))
    assert raised.value.field == "fee"
