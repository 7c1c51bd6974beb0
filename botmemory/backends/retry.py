"""Repeat what the database has undone for the sake of another transaction."""

from __future__ import annotations

import time
from collections.abc import Callable

from .._typing import TYPE_CHECKING
from ..errors import DatabaseBusyError

__all__ = ["repeat_undone"]

ATTEMPTS = 10
LONGEST_PAUSE = 1.0  # seconds

if TYPE_CHECKING:
    from typing import TypeVar

    R = TypeVar("R")


def repeat_undone(call: Callable[[], R]) -> R:
    """Return what `call` returns, calling it up to ten times in all while it is undone."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except DatabaseBusyError as error:
            if not error.undone:
                raise
        import random  # late: most programs never get here

        # at random, so that those in conflict part
        time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.005 * 2**attempt)))  # noqa: S311
    return call()
