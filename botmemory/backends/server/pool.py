"""The connections to a server: at most so many, opened when they are needed, used again.

There is no lock and no count that an interrupt could leave wrong: idle connections are in a deque,
and a connection counts for as long as it exists and is open.
"""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

__all__ = ["Pool", "ServerConnection"]

IDLE = TransactionStatus.IDLE
_BAD = ConnStatus.BAD
_PAUSE = 0.002  # seconds between two looks for a connection that has come back


class _ServerCursor(psycopg.ServerCursor[Any]):
    """A cursor on the server that never waits as it is closed.

    The garbage collector closes an abandoned one inside another call of its connection, which
    holds the lock: it is forgotten then, and the server closes it with the transaction.
    """

    def close(self) -> None:
        if self.connection.lock.locked():
            psycopg.Cursor.close(self)
        else:
            super().close()


class ServerConnection(psycopg.Connection[Any]):
    """A connection that remembers when it was taken from the pool, and closes as it goes."""

    used_at = 0.0
    given_up = False  # another thread had to end its transaction

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.server_cursor_factory = _ServerCursor
        self.process = os.getpid()

    def __del__(self) -> None:  # type: ignore[override]
        # a child must not close what it has inherited: the parent goes on with it
        if getattr(self, "process", None) == os.getpid():
            self.pgconn.finish()


class _Opening:
    """Stands for a connection that is being opened."""


class Pool:
    """At most `size` connections, opened by `connect` and looked at by `is_usable`.

    Who is done with a connection calls `idle.append`, or closes it where a transaction is open on
    it: as one call into C in a `finally`, so that no interrupt can lose it.
    """

    def __init__(
        self,
        size: int,
        connect: Callable[[], ServerConnection],
        is_usable: Callable[[ServerConnection], bool],
    ) -> None:
        self.size = size
        self.idle: deque[ServerConnection] = deque()
        self.is_shut = False
        self._connect = connect
        self._is_usable = is_usable
        self._made: dict[int, weakref.ref[Any]] = {}

    def take(self, seconds: float) -> ServerConnection | None:
        """Return a connection, None where all were in use for so many seconds."""
        began = time.monotonic()
        while (connection := self._take_idle() or self._open()) is None:
            if time.monotonic() - began >= seconds:
                return None
            time.sleep(_PAUSE)
        return connection

    def connections(self) -> list[ServerConnection]:
        """Return every connection that is open, idle or in use."""
        return [one for one in self._living() if isinstance(one, ServerConnection)]

    def close_idle(self) -> None:
        while self.idle:
            self.idle.pop().close()

    def _take_idle(self) -> ServerConnection | None:
        while self.idle:
            connection, usable = None, False
            try:
                connection = self.idle.pop()
                usable = self._is_usable(connection)
                if usable:
                    return connection
            except IndexError:  # another thread was faster
                return None
            finally:
                if connection is not None and not usable:
                    connection.pgconn.finish()
        return None

    def _open(self) -> ServerConnection | None:
        opening = _Opening()
        key = id(opening)
        self._made[key] = weakref.ref(opening)
        connection = None
        is_handed_over = False
        try:
            if len(self._living()) > self.size:
                return None
            connection = self._connect()
            self._made[id(connection)] = weakref.ref(connection)
            self._made.pop(key, None)
            is_handed_over = True  # from here on nothing is called, so no interrupt loses it
            return connection
        finally:
            if not is_handed_over:
                # a traceback may keep this frame, and so what it refers to
                self._made.pop(key, None)
                if connection is not None:
                    connection.pgconn.finish()

    def _living(self) -> list[Any]:
        living = []
        for key, reference in self._made.copy().items():
            one = reference()
            if one is None or (isinstance(one, ServerConnection) and one.pgconn.status == _BAD):
                if self._made.get(key) is reference:
                    del self._made[key]
            else:
                living.append(one)
        return living
