"""What happens to open databases when the process forks, and when it ends.

SQLite's locks do not survive a fork, but its notes about them do: a connection open at that moment
makes later commits of the child vanish. So both sides open a new one. What cannot be closed,
because a transaction is open or another thread owns it, makes the child refuse.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from ...config import MEMORY
from ..living import LivingObjects
from .connection import Connection

if TYPE_CHECKING:
    from .backend import SqliteBackend

__all__ = ["fork_gate", "open_backends", "unusable_after_fork"]

open_backends: LivingObjects[SqliteBackend] = LivingObjects()
unusable_after_fork: dict[str, str] = {}  # path -> why
_inherited: list[Connection] = []
fork_gate = threading.RLock()  # held by a fork, and where a worker begins or ends its use


def _before_fork() -> None:
    fork_gate.acquire()
    for database in open_backends.all():
        database.release()
        for connection in database.connections.all():
            if connection.is_idle:
                connection.close()
                database.connections.discard(connection)
        if database.database != MEMORY:
            _inherited.extend(database.connections.all())


def _after_fork_in_parent() -> None:
    _inherited.clear()
    fork_gate.release()


def _after_fork_in_child() -> None:
    fork_gate.release()
    # _inherited stays: what it holds is the parent's and must never be closed here
    for database in open_backends.all():
        database.forget_connection()
        known = database.connections.all()
        if any(connection in known for connection in _inherited):
            database.unusable = unusable_after_fork[database.database] = (
                f"{database.database}: this process was forked while a transaction was open or "
                "another thread had the memory open, and cannot use it; fork before init_db(), or "
                "start processes with multiprocessing's 'spawn' method"
            )


def _close_at_exit() -> None:
    for database in open_backends.all():
        database.release()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
