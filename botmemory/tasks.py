"""Which asyncio task a transaction belongs to: no other one may get into it."""

from __future__ import annotations

import sys

from .errors import DatabaseBusyError

__all__ = ["current_task", "require_own_task"]


def current_task() -> object:
    """Return the asyncio task that runs now, None outside of one."""
    asyncio = sys.modules.get("asyncio")  # a bot without asyncio does not pay for its import
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task() or "a callback of the event loop"


def require_own_task(owner: object, label: str) -> None:
    """Raise when the transaction that is open in this thread is another task's."""
    if owner is not None and owner is not current_task():
        raise DatabaseBusyError(
            f"{label}: another task of this thread holds a transaction across an await; record "
            "through 'await aio.run(...)', or leave session_scope() before the await"
        )
