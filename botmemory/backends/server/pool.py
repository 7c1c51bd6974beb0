"""A pool of connections to a server, opened when they are needed and reused.

It has no lock and no counter that an interrupt could leave wrong: idle connections are in a deque,
and the number of connections is that of the open connection objects.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..living import LivingObjects, alive
from .connection import ServerConnection

MAX_IDLE = 300.0  # seconds after which a connection that nobody needed is closed
_PAUSE = 0.002  # seconds between two attempts to acquire a connection


class _Opening:
    """A placeholder for a connection that is being opened."""


class Pool:
    """At most `size` connections, opened by `connect`, which takes a deadline.

    To release a connection, call `idle.append`, or close it if a transaction is open on it: one
    call into C in a `finally`, so that no interrupt can lose the connection.
    """

    def __init__(
        self,
        size: int,
        connect: Callable[[float], ServerConnection],
    ) -> None:
        self.size = size
        self.idle: deque[ServerConnection] = deque()
        self.is_closed = False
        self._connect = connect
        self._opened: LivingObjects[ServerConnection] = LivingObjects()
        self._opening: dict[int, weakref.ref[_Opening]] = {}

    def acquire(self, seconds: float, deadline: float) -> ServerConnection | None:
        """Return a connection; None if all are in use for longer than `seconds`."""
        until = None
        while (connection := self._acquire_idle(deadline) or self._open(deadline)) is None:
            until = until or min(time.monotonic() + seconds, deadline)
            if time.monotonic() >= until:
                return None
            time.sleep(_PAUSE)
        return connection

    def retire(self) -> None:
        """Have each connection that is open now used no more by another call."""
        for connection in self.connections():
            connection.is_retired = True

    def connections(self) -> list[ServerConnection]:
        """Return all open connections, idle or in use."""
        return [each for each in self._opened.all() if not each.is_lost]

    def close(self) -> None:
        """Close idle connections now, and those in use when they are released."""
        self.is_closed = True
        while self.idle:
            self.idle.pop().close()

    def _acquire_idle(self, deadline: float) -> ServerConnection | None:
        if len(self.idle) > 1:
            self._close_oldest()
        while self.idle:
            connection, usable = None, False
            try:
                connection = self.idle.pop()
                connection.deadline = deadline
                usable = connection.is_usable()
                if usable:
                    connection.deadline = deadline
                    return connection  # nothing is called before this, so no interrupt loses it
                if connection.is_lost:  # the others may be, too, and each test may take its time
                    self.retire()
            except IndexError:  # another thread has acquired the last one
                return None
            finally:
                if connection is not None and not usable:
                    connection.pgconn.finish()
        return None

    def _close_oldest(self) -> None:
        """Close the connections that nobody has needed for long."""
        with suppress(IndexError):  # another thread has acquired or closed it
            while time.monotonic() - self.idle[0].used_at > MAX_IDLE:
                self.idle.popleft().pgconn.finish()

    def _open(self, deadline: float) -> ServerConnection | None:
        opening = _Opening()
        key = id(opening)
        connection = None
        is_returned = False
        try:
            self._opening[key] = weakref.ref(opening)
            if len(alive(list(self._opening.values()))) + len(self.connections()) > self.size:
                return None
            connection = self._connect(deadline)
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
