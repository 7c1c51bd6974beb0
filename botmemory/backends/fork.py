"""Open databases when the process forks, and when it ends.

Two processes cannot share a connection. On SQLite the child does not inherit the file locks, but
SQLite's record of them, so that its commits are lost; on a server two processes would read each
other's results from one socket. So the child opens new connections and never closes the parent's.
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

open_backends: LivingObjects[Backend] = LivingObjects()
fork_gate = threading.RLock()  # held during a fork, and while a worker begins or ends a call


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
        with suppress(Exception):  # the program ends: nobody could handle an error
            database.close_at_exit()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
