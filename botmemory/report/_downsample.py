"""Fewer points of a long series, with its extremes."""

from __future__ import annotations

from collections.abc import Sequence


def downsample(values: Sequence[float], max_count: int) -> list[int]:
    """Return the indexes of at most `max_count` values, in order.

    The series is cut into equal parts; the first, the last, the lowest and the highest value of
    each are kept.
    """
    if len(values) <= max_count:
        return list(range(len(values)))
    parts = max(1, max_count // 4)
    kept: set[int] = set()
    for part in range(parts):
        first = len(values) * part // parts
        indexes = range(first, len(values) * (part + 1) // parts)
        kept |= {indexes[0], indexes[-1]}
        kept |= {min(indexes, key=values.__getitem__), max(indexes, key=values.__getitem__)}
    return sorted(kept)
