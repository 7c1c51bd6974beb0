"""Exact arithmetic with floats, each taken as the decimal that it prints as.

So 0.1 + 0.2 - 0.3 is 0, and a sum is rounded once, to the nearest float. The caller's decimal
context has no influence: its precision may be too small, and its traps may raise.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import reduce
from math import isinf

from .errors import ValidationError

__all__ = [
    "DIVISION",
    "WIDE",
    "ZERO",
    "add",
    "divide",
    "multiply",
    "scale",
    "subtract",
    "sum_of",
    "to_decimal",
    "to_float",
    "to_fraction",
    "total",
]

ZERO = Decimal(0)


def _context(digits: int) -> Context:
    """Return a context that takes nothing from the caller's defaults."""
    return Context(
        prec=digits, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, capitals=1, clamp=0,
        flags=[], traps=[],
    )  # fmt: skip


# a sum of floats has fewer than 800 digits, from 1e308 to the 17th digit of 1e-323; one of products
# of two floats has twice as many
WIDE = _context(1600)
# of a quotient, so many digits that no float depends on those that are missing
DIVISION = _context(100)

add, subtract, multiply, divide = WIDE.add, WIDE.subtract, WIDE.multiply, WIDE.divide
scale = WIDE.scaleb


def to_decimal(number: float) -> Decimal:
    """Return the decimal that a float prints as."""
    return Decimal(repr(number))


def to_fraction(number: float) -> Fraction:
    """Return the decimal that a float prints as, to divide by it."""
    return Fraction(repr(number))


def total(numbers: Iterable[float]) -> Decimal:
    """Return the exact sum of floats."""
    return reduce(add, map(Decimal, map(repr, numbers)), ZERO)


def sum_of(numbers: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of decimals."""
    return reduce(add, numbers, ZERO)


def to_float(field: str, exact: Decimal) -> float:
    """Return the nearest float, never -0.0; raise `ValidationError` if there is none."""
    number = float(exact)
    if isinf(number):
        raise ValidationError(
            f"{field}: the sum has {exact.adjusted() + 1} digits and is larger than a float can "
            "hold (1.798e+308); correct the rows with wrong values, or filter them out",
            field=field,
        )
    return number + 0.0
