"""What happens to open databases when the process forks, and when it ends.

A connection cannot be shared by two processes: SQLite's locks do not survive a fork, but its notes
about them do, so that later commits of a child vanish; two processes on one socket mix their
answers. So both sides open new connections, and what belongs to the parent is never closed in the
child.
"""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from .living import LivingObjects

if TYPE_CHECKING:
    from .base import Backend

__all__ = ["fork_gate", "open_backends"]

open_backends: LivingObjects[Backend] = LivingObjects()
fork_gate = threading.RLock()  # held by a fork, and where a worker begins or ends its use


def _before_fork() -> None:
    fork_gate.acquire()
    for database in open_backends.all():
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in open_backends.all():
        database.after_fork_in_parent()
    fork_gate.release()


def _after_fork_in_child() -> None:
    fork_gate.release()
    for database in open_backends.all():
        database.after_fork_in_child()


def _close_at_exit() -> None:
    for database in open_backends.all():
        with suppress(Exception):  # the program is over: nobody could do anything about it
            database.close_at_exit()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
