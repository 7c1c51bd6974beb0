"""Buckets for values of metadata: ranges for numbers, categories for text and booleans."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from .. import exact
from .._values import refuse, to_exact, to_json
from ..formats import number

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
    edges = [_edge(Decimal(repr(to_exact("bins", edge)))) for edge in bins]
    if any(high <= low for low, high in pairwise(edges)):
        refuse("bins", bins, "is not in ascending order")
    return edges


def round_edges(numbers: list[float], bins: int) -> list[float]:
    """Return round edges of at most `bins` ranges that contain all numbers."""
    low, high = exact.to_decimal(min(numbers)), exact.to_decimal(max(numbers))
    if low == high:
        return [_edge(low), _edge(high)]
    power = exact.divide(exact.subtract(high, low), bins).adjusted()
    for factor in ("1", "2", "2.5", "5", "10", "20"):
        step = exact.scale(Decimal(factor), power)
        first = math.floor(exact.divide(low, step))
        last = math.ceil(exact.divide(high, step))
        if last - first <= bins:
            return [_edge(exact.multiply(step, n)) for n in range(first, last + 1)]
    return [_edge(low), _edge(high)]  # one range, around a round number


def quantile_edges(numbers: list[float], bins: int) -> list[float]:
    """Return the edges of at most `bins` ranges with about as many of the numbers each.

    The last range is one number if many are equal to the largest.
    """
    ordered = sorted(numbers)
    places = (len(ordered) * part // bins for part in range(bins))
    edges = [*sorted({ordered[place] for place in places}), ordered[-1]]
    return [_edge(Decimal(repr(edge))) for edge in edges]


def _edge(number: Decimal) -> float:
    """Return the nearest float; a whole number that none is equal to is an int.

    The largest float stands for what is beyond it.
    """
    nearest = max(-sys.float_info.max, min(sys.float_info.max, float(number)))
    is_whole = number == number.to_integral_value() and math.isfinite(float(number))
    return int(number) if is_whole and nearest != number else nearest


def bucket_of(value: Any, edges: list[float], *, closed: bool) -> tuple[int, Any]:
    """Return the bucket of a value as a key that sorts.

    It is (0, how many edges are not above the value) for a number, (1, category) for anything else.
    `closed`: the last range includes its upper edge.
    """
    if not is_number(value):
        # PostgreSQL has an order of its own for the keys of an object
        category = value if isinstance(value, str) else to_json(value, sort_keys=True)
        return 1, (category, isinstance(value, bool))
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
    if low is None or high is None:
        label = f"below {number(edges[0])}" if low is None else f"{number(low)} or more"
    else:
        label = number(low) if low == high else f"{number(low)} to {number(high)}"
    return {"label": label, "low": low, "high": high}
