"""A busy database: the error of a wait that was too long, and the retry after a conflict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..errors import DatabaseBusyError

ATTEMPTS = 10
LONGEST_PAUSE = 1.0  # seconds

R = TypeVar("R")


def busy_error(
    label: str, timeout: float, reason: str = "another writer held it"
) -> DatabaseBusyError:
    """Return the error for a wait that took longer than `timeout` seconds."""
    return DatabaseBusyError(
        f"{label}: {reason} for more than {timeout:g} s; nothing was written, repeat the whole "
        "call or raise busy_timeout"
    )


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
