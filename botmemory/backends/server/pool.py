"""A pool of connections to a server, opened when they are needed and reused.

It has no lock and no counter that an interrupt could leave wrong: idle connections are in a deque,
and the number of connections is that of the open connection objects.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from ..living import LivingObjects, alive

IDLE = TransactionStatus.IDLE
_PAUSE = 0.002  # seconds between two attempts to acquire a connection


class _ServerCursor(psycopg.ServerCursor[Any]):
    """A cursor on the server whose `close` never waits.

    The garbage collector may close it inside another call of its connection, which holds the
    connection's lock: then it is closed locally, and on the server with the transaction.
    """

    def close(self) -> None:
        if self.connection.lock.locked():
            psycopg.Cursor.close(self)
        else:
            super().close()


class ServerConnection(psycopg.Connection[Any]):
    """A connection that is closed when it is garbage collected."""

    used_at = 0.0  # time.monotonic() when it was last acquired
    is_terminated = False  # another thread had to end its transaction

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.server_cursor_factory = _ServerCursor
        self.cache: dict[Hashable, Any] = {}
        self.process = os.getpid()

    def __del__(self) -> None:  # type: ignore[override]
        # a child process must not close what it inherited: the parent goes on with it
        if getattr(self, "process", None) == os.getpid():
            self.pgconn.finish()


class _Opening:
    """A placeholder for a connection that is being opened."""


class Pool:
    """At most `size` connections, opened by `connect` and tested by `is_usable`.

    To release a connection, call `idle.append`, or close it if a transaction is open on it: one
    call into C in a `finally`, so that no interrupt can lose the connection.
    """

    def __init__(
        self,
        size: int,
        connect: Callable[[], ServerConnection],
        is_usable: Callable[[ServerConnection], bool],
    ) -> None:
        self.size = size
        self.idle: deque[ServerConnection] = deque()
        self.is_closed = False
        self._connect = connect
        self._is_usable = is_usable
        self._opened: LivingObjects[ServerConnection] = LivingObjects()
        self._opening: dict[int, weakref.ref[_Opening]] = {}

    def acquire(self, seconds: float) -> ServerConnection | None:
        """Return a connection; None if all are in use for longer than `seconds`."""
        began = time.monotonic()
        while (connection := self._acquire_idle() or self._open()) is None:
            if time.monotonic() - began >= seconds:
                return None
            time.sleep(_PAUSE)
        return connection

    def connections(self) -> list[ServerConnection]:
        """Return all open connections, idle or in use."""
        return [each for each in self._opened.all() if each.pgconn.status != ConnStatus.BAD]

    def close(self) -> None:
        """Close idle connections now, and those in use when they are released."""
        self.is_closed = True
        while self.idle:
            self.idle.pop().close()

    def _acquire_idle(self) -> ServerConnection | None:
        while self.idle:
            connection, usable = None, False
            try:
                connection = self.idle.pop()
                usable = self._is_usable(connection)
                if usable:
                    return connection
            except IndexError:  # another thread has acquired the last one
                return None
            finally:
                if connection is not None and not usable:
                    connection.pgconn.finish()
        return None

    def _open(self) -> ServerConnection | None:
        opening = _Opening()
        key = id(opening)
        connection = None
        is_returned = False
        try:
            self._opening[key] = weakref.ref(opening)
            if len(alive(list(self._opening.values()))) + len(self.connections()) > self.size:
                return None
            connection = self._connect()
            self._opened.add(connection)
            self._opening.pop(key, None)
            is_returned = True  # nothing is called after this, so no interrupt loses it
            return connection
        finally:
            if not is_returned:
                # a traceback may keep this frame, and with it the placeholder
                self._opening.pop(key, None)
                if connection is not None:
                    connection.pgconn.finish()
