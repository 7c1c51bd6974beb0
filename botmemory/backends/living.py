"""Objects that are known for as long as they live, whichever thread makes or drops them."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

__all__ = ["LivingObjects"]

T = TypeVar("T")


class LivingObjects(Generic[T]):
    """What is alive of the objects that were added.

    Other threads may add while one asks: a `weakref.WeakSet` fails then ("Set changed size during
    iteration").
    """

    def __init__(self) -> None:
        self._by_id: weakref.WeakValueDictionary[int, T] = weakref.WeakValueDictionary()

    def add(self, one: T) -> None:
        self._by_id[id(one)] = one

    def discard(self, one: T) -> None:
        self._by_id.pop(id(one), None)

    def all(self) -> list[T]:
        """Return the living ones, in the order in which they were added."""
        references = self._by_id.valuerefs()  # one call into C: no thread comes between
        return [one for reference in references if (one := reference()) is not None]
