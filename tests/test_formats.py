"""Numbers as people read them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botmemory.formats import amount, count, number, places


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00042, "0.00042"), (-0.000403333, "-0.000403"), (1234567.891, "1,234,567.89"),
        (0.30000000000000004, "0.30"), (0.1, "0.10"), (0.05, "0.05"), (0.0999, "0.0999"),
        (0.0, "0.00"), (-0.0, "0.00"), (-1e-17, "-1e-17"), (12.345, "12.35"), (-5.0, "-5.00"),
        (0.00000001, "0.00000001"), (0.0000000123, "0.00000001"), (1e300, "1e+300"),
        (999_999_999_999.99, "999,999,999,999.99"),
    ],
)  # fmt: skip
def test_an_amount_has_the_digits_that_it_needs(value: float, text: str) -> None:
    assert amount(value) == text


def test_the_amounts_of_a_column_have_the_same_decimals() -> None:
    column = [1234.5, 0.00042, None, -0.0, 1e-17]
    assert places(column) == 5
    texts = [amount(value, places(column)) for value in column if value is not None]
    assert texts == ["1,234.50000", "0.00042", "0.00000", "1e-17"]
    assert places([]) == places([None, 7.0]) == 2
    assert amount(-0.001, 2) == "0.00"


def test_the_sign_of_an_amount() -> None:
    assert [amount(value, sign="+") for value in (0.5, -0.5, 0.00042)] == [
        "+0.50",
        "-0.50",
        "+0.00042",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00001234, "0.00001234"), (0.30000000000000004, "0.3"), (60000.5, "60,000.5"),
        (12345678901.5, "12,345,678,902"), (100.0, "100"), (-0.0, "0"), (1e20, "1e+20"),
        (0.052345678, "0.052345678"), (1e-18, "1e-18"), (-0.25, "-0.25"), (1000.0, "1,000"),
    ],
)  # fmt: skip
def test_a_price_or_a_quantity(value: float, text: str) -> None:
    assert number(value) == text


def test_a_count() -> None:
    assert [count(rows) for rows in (0, 999, 1_234_567)] == ["0", "999", "1,234,567"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_is_unreadable(value: float) -> None:
    for text in (amount(value), number(value)):
        assert len(text) <= 24
        assert not re.fullmatch(r"-[0.,]+", text)
        # as a decimal, because the largest floats are rounded to more than a float can hold
        shown, exact = Decimal(text.replace(",", "")), Decimal(value)
        assert abs(shown - exact) <= max(abs(exact) / 100, Decimal("1e-8"))
