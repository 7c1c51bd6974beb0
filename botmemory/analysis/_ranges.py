"""Ranges that numbers fall into, and categories for what is no number."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from .._values import to_finite, to_json
from ..errors import ValidationError, show

__all__ = ["bucket_bounds", "bucket_of", "checked_bins", "is_number", "round_ends"]

MOST_BINS = 1000


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def checked_bins(bins: int | Sequence[float]) -> list[float]:
    """Return the given ends of ranges; none for a number of ranges."""
    if isinstance(bins, int) and not isinstance(bins, bool):
        if not 1 <= bins <= MOST_BINS:
            raise ValidationError(
                f"bins: {show(bins)} is not a number from 1 to {MOST_BINS}", field="bins"
            )
        return []
    if isinstance(bins, (bool, str, bytes)) or not isinstance(bins, Sequence) or not bins:
        raise ValidationError(
            f"bins: {show(bins)} is neither a number of ranges nor a list of their ends",
            field="bins",
        )
    ends = [to_finite("bins", end) for end in bins]
    if any(high <= low for low, high in pairwise(ends)):
        raise ValidationError(f"bins: {show(bins)} do not ascend", field="bins")
    return ends


def round_ends(numbers: list[float], bins: int) -> list[float]:
    """Return the ends of at most so many ranges that hold all numbers, each a round number."""
    low, high = Decimal(repr(min(numbers))), Decimal(repr(max(numbers)))
    if low == high:
        return [float(low), float(high)]
    power = Decimal(10) ** (math.floor(math.log10((high - low) / bins)))
    for factor in (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10), Decimal(20)):
        step = power * factor
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first <= bins:
            return [float(number * step) for number in range(first, last + 1)]
    return [float(low), float(high)]  # one range, around a round number


def bucket_of(value: Any, ends: list[float], *, closed: bool) -> tuple[int, Any]:
    """Return where a value belongs: a range by the number of ends up to it, or a category."""
    if not is_number(value):
        return 1, (value if isinstance(value, str) else to_json(value), isinstance(value, bool))
    number = bisect_right(ends, value)
    return 0, min(number, len(ends) - 1) if closed else number


def bucket_bounds(place: tuple[int, Any], ends: list[float]) -> dict[str, Any]:
    """Return how a bucket is called, and where it begins and ends."""
    kind, number = place
    if kind:
        label, boolean = number
        return {"label": label, "category": label == "true" if boolean else label}
    low = ends[number - 1] if number > 0 else None
    high = ends[number] if number < len(ends) else None
    if low is None:
        label = f"below {_short(high)}"
    elif high is None:
        label = f"{_short(low)} or more"
    else:
        label = _short(low) if low == high else f"{_short(low)} to {_short(high)}"
    return {"label": label, "low": low, "high": high}


def _short(number: float | None) -> str:
    return f"{number:,.10g}"
