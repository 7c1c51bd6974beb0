"""A thread-safe collection of weak references."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class LivingObjects(Generic[T]):
    """Weak references to objects that any thread may add.

    Unlike in a `weakref.WeakSet`, objects may be added while another thread lists them: that raises
    "Set changed size during iteration" there.
    """

    def __init__(self) -> None:
        self._by_id: weakref.WeakValueDictionary[int, T] = weakref.WeakValueDictionary()

    def add(self, item: T) -> None:
        self._by_id[id(item)] = item

    def all(self) -> list[T]:
        """Return the objects that are alive, in the order in which they were added."""
        return alive(self._by_id.valuerefs())  # one call into C, which no other thread interrupts


def alive(references: Iterable[weakref.ref[T]]) -> list[T]:
    """Return the objects that are alive.

    No Python code refers to one of them alone, so that the traceback of an interrupt keeps none.
    """
    return list(filter(None, map(operator.call, references)))
