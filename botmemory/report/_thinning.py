"""Fewer points of a long series, without its look."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["thinned"]


def thinned(values: Sequence[float], most: int) -> list[int]:
    """Return the places of at most `most` values, in order.

    The series is cut into equal stretches, of which the first, the last, the lowest and the
    highest value are kept: what stands out is still there.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = max(1, most // 4)
    kept: set[int] = set()
    for number in range(stretches):
        first = len(values) * number // stretches
        places = range(first, len(values) * (number + 1) // stretches)
        kept |= {places[0], places[-1]}
        kept |= {min(places, key=values.__getitem__), max(places, key=values.__getitem__)}
    return sorted(kept)
