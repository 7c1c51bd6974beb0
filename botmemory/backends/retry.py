"""Retry a transaction that the database rolled back because of a conflict with another one."""

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
    """Return the result of `call`, which is called up to ten times while it is rolled back."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except DatabaseBusyError as error:
            if not error.retryable:
                raise
        import random  # here: most programs never need it

        # a random pause, so that two transactions do not conflict again
        time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.005 * 2**attempt)))  # noqa: S311
    return call()
