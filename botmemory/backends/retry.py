"""Repeat what the database has rolled back because of a conflict with another transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import DatabaseBusyError

__all__ = ["retry_on_conflict"]

ATTEMPTS = 10
LONGEST_PAUSE = 1.0  # seconds

R = TypeVar("R")


def retry_on_conflict(call: Callable[[], R]) -> R:
    """Return what `call` returns, calling it up to ten times in all while it is rolled back."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except DatabaseBusyError as error:
            if not error.retryable:
                raise
        import random  # late: most programs never get here

        # at random, so that those in conflict part
        time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.005 * 2**attempt)))  # noqa: S311
    return call()
