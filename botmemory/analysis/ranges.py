"""Buckets for values of metadata: ranges for numbers, categories for text and booleans."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from .._values import refuse, to_finite, to_json

MAX_BINS = 1000


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def checked_edges(bins: int | Sequence[float]) -> list[float]:
    """Return the edges that `bins` names; an empty list for a number of ranges."""
    if isinstance(bins, int) and not isinstance(bins, bool):
        if not 1 <= bins <= MAX_BINS:
            refuse("bins", bins, f"is not a number from 1 to {MAX_BINS}")
        return []
    if isinstance(bins, (bool, str, bytes)) or not isinstance(bins, Sequence) or not bins:
        problem = "is neither a number of ranges nor a list of their edges; pass 10 or [30, 70]"
        refuse("bins", bins, problem)
    edges = [to_finite("bins", edge) for edge in bins]
    if any(high <= low for low, high in pairwise(edges)):
        refuse("bins", bins, "is not in ascending order")
    return edges


def round_edges(numbers: list[float], bins: int) -> list[float]:
    """Return round edges of at most `bins` ranges that contain all numbers."""
    low, high = Decimal(repr(min(numbers))), Decimal(repr(max(numbers)))
    if low == high:
        return [float(low), float(high)]
    power = Decimal(10) ** (math.floor(math.log10((high - low) / bins)))
    for factor in (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10), Decimal(20)):
        step = power * factor
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first <= bins:
            return [float(multiple * step) for multiple in range(first, last + 1)]
    return [float(low), float(high)]  # one range, around a round number


def bucket_of(value: Any, edges: list[float], *, closed: bool) -> tuple[int, Any]:
    """Return the bucket of a value as a key that sorts.

    It is (0, how many edges are not above the value) for a number, (1, category) for anything else.
    `closed`: the last range includes its upper edge.
    """
    if not is_number(value):
        return 1, (value if isinstance(value, str) else to_json(value), isinstance(value, bool))
    index = bisect_right(edges, value)
    return 0, min(index, len(edges) - 1) if closed else index


def bucket_bounds(bucket: tuple[int, Any], edges: list[float]) -> dict[str, Any]:
    """Return the label of a bucket, and its bounds or its category."""
    is_category, index = bucket
    if is_category:
        label, is_boolean = index
        return {"label": label, "category": label == "true" if is_boolean else label}
    low = edges[index - 1] if index > 0 else None
    high = edges[index] if index < len(edges) else None
    if low is None:
        label = f"below {_short(high)}"
    elif high is None:
        label = f"{_short(low)} or more"
    else:
        label = _short(low) if low == high else f"{_short(low)} to {_short(high)}"
    return {"label": label, "low": low, "high": high}


def _short(number: float | None) -> str:
    return f"{number:,.10g}"
