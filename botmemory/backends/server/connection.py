"""One connection to a server: what it sends together, how long it waits, when it is replaced."""

from __future__ import annotations

import os
import random
import select
import sys
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import peewee
import psycopg
from psycopg.generators import send
from psycopg.pq import ConnStatus, TransactionStatus

from .errors import interrupt_behind

R = TypeVar("R")

IDLE = TransactionStatus.IDLE
INTRANS, INERROR = TransactionStatus.INTRANS, TransactionStatus.INERROR

MAX_AGE = 1800.0  # seconds; a random tenth less, so that not all are replaced at once
IDLE_BEFORE_CHECK = 30.0  # seconds after which an idle connection is tested before it is used
LONGEST_CHECK = 3.0  # seconds for that test

Statement = tuple[str, Sequence[Any]]


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer before the deadline of the call."""


class _Pipeline(psycopg.Pipeline):
    """A pipeline that ends with a Sync, and sends nothing after it.

    psycopg may send a Flush after the Sync, with which PostgreSQL stops its timer for transactions
    that do nothing.
    """

    def _exit_gen(self) -> Generator[Any, Any, None]:
        self._enqueue_sync()
        try:
            yield from self._communicate_gen()
        except psycopg.Error:  # of a statement; after an interrupt there may be nothing to wait for
            yield from self._receive_gen()
            raise
        yield from self._receive_gen()

    def _receive_gen(self) -> Generator[Any, Any, None]:
        # the socket may have taken a part of a large statement, and the server waits for the rest
        if self.pgconn.status == ConnStatus.OK:
            yield from send(self.pgconn)
        yield from self._fetch_gen(flush=False)


# CPython 3.14 may raise an interrupt between the `__enter__` of a lock and the block of its `with`:
# the lock stays held, and psycopg would wait for it where it ends a pipeline, in the same thread
MAY_KEEP_LOCKS = sys.version_info[:2] == (3, 14)


class _UntilDeadline:
    """A generator of psycopg's that ends when the server has not answered in time.

    Not a generator itself, and without a look at the clock where the server answers at once, as
    every statement passes here.
    """

    __slots__ = ("_connection", "_has_received", "_until", "_waiting")

    def __init__(self, connection: ServerConnection, waiting: Generator[Any, Any, Any]) -> None:
        self._connection, self._waiting = connection, waiting
        self._until: float | None = None
        self._has_received = False

    def __next__(self) -> Any:
        return next(self._waiting)

    def send(self, ready: Any) -> Any:
        if ready:
            self._until, self._has_received = None, True
        else:
            self._require_time()
        return self._waiting.send(ready)

    def _require_time(self) -> None:
        """Close the connection and raise if nothing came for too long."""
        now, connection = time.monotonic(), self._connection
        if self._until is None:
            until = now + connection.call_timeout
            self._until = until if self._has_received else min(connection.deadline, until)
        if now >= self._until:
            connection.pgconn.finish()
            raise NoAnswerError("the server did not answer in time")


class ServerConnection(psycopg.Connection[Any]):
    """A connection that waits until a deadline, and is closed when it is garbage collected.

    Attributes:
        deadline: When `time.monotonic()` is past it, a wait for the server ends.
        call_timeout: The seconds after which each wait ends in which nothing was received.
        pending: Statements without a result, which are sent with the next one.
        rollbacks: How often a savepoint was rolled back, which closes cursors.
        is_pooled: Whether a pooler may give each transaction another session of the server.
        is_retired: Whether it must not be used again.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if MAY_KEEP_LOCKS:
            self.lock = threading.RLock()  # type: ignore[assignment]
        self.cache: dict[Hashable, Any] = {}
        self.process = os.getpid()
        self.deadline = self.call_timeout = float("inf")
        self.pending: list[Statement] = []
        self.rollbacks = 0
        self.is_pooled = self.is_retired = False
        self.is_terminated = False  # another thread had to end its transaction
        now = time.monotonic()
        self.opened_at = self.used_at = now
        self.expires_at = now + MAX_AGE * random.uniform(0.9, 1)  # noqa: S311
        self.was_standby = self._is_standby()

    def __del__(self) -> None:  # type: ignore[override]
        # a child process must not close what it inherited: the parent goes on with it
        if getattr(self, "process", None) == os.getpid():
            self.pgconn.finish()

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        # psycopg waits here for every answer, and resumes the generator every 0.1 s
        return super().wait(_UntilDeadline(self, gen), *args, **options)  # type: ignore[arg-type]

    def cursor(self, *args: Any, **options: Any) -> Any:
        # text depends on settings of the session, which another client of a pooler may have changed
        if self.is_pooled:
            options.setdefault("binary", True)
        return super().cursor(*args, **options)

    def run(self, sql: str, params: Sequence[Any] = (), *, prepare: bool | None = None) -> Any:
        """Execute a statement and return its cursor; its text has no values in it."""
        literal: Any = sql  # psycopg asks for one, so that nobody puts values into it
        return self.execute(literal, params, prepare=prepare)

    def run_one(self, sql: str) -> Any:
        """Execute a text that a person wrote, which the server refuses if it has more statements.

        Only with parameters or for a binary result does psycopg use the protocol that does so.
        """
        literal: Any = sql
        return self.execute(literal, binary=True)

    def send(self, call: Callable[[], R]) -> R:
        """Call what executes a statement, and send it together with the pending ones."""
        if not self.pending:
            return call()
        try:
            with self.in_pipeline():
                for sql, params in self.pending:
                    self.run(sql, params, prepare=False)  # their texts differ
                return call()
        finally:
            self.pending = []

    @contextmanager
    def in_pipeline(self) -> Iterator[None]:
        """Send what is executed in the block together, in one round trip.

        An interrupt is raised as it is, and closes the connection: psycopg may have sent the block
        without what ends its transaction, or queue later statements without ever sending them.
        """
        if self.pgconn.pipeline_status:
            yield
            return
        handled = sys.exc_info()[1]
        is_whole = False
        try:
            self._pipeline = self._pipeline or _Pipeline(self)
            with self.pipeline():
                yield
            is_whole = True
        except psycopg.Error as error:
            # psycopg's own, as the answers are still to come
            if (interrupt := interrupt_behind(error, handled)) is None:
                is_whole = True
                raise
            raise interrupt from None
        except (peewee.PeeweeException, ValueError, TypeError):  # of a value that is not sent
            is_whole = True
            raise
        finally:
            if not is_whole:
                self.pgconn.finish()

    def execute_together(self, statements: Sequence[Statement]) -> list[psycopg.Cursor[Any]]:
        """Send statements in one round trip and return their cursors.

        Inside `send`, they have their rows when that returns.
        """
        with self.in_pipeline():
            return [self.run(sql, params) for sql, params in statements]

    @property
    def is_beginning(self) -> bool:
        """Return whether the next statement is the first one of a transaction."""
        return bool(self.pending) and self.pending[0][0].startswith("BEGIN")

    @property
    def has_begun_on_server(self) -> bool:
        """Return whether the server has begun a transaction."""
        return self.pgconn.transaction_status in (INTRANS, INERROR)

    @property
    def has_begun(self) -> bool:
        """Return whether a transaction is open, of which the server may not know yet."""
        return bool(self.pending) or self.has_begun_on_server

    @property
    def has_failed(self) -> bool:
        """Return whether a statement of its transaction has failed."""
        return self.pgconn.transaction_status == INERROR

    @property
    def is_lost(self) -> bool:
        """Return whether the connection to the server was closed or lost."""
        return self.pgconn.status == ConnStatus.BAD

    def is_usable(self) -> bool:
        """Return whether an idle connection can be used; mostly without a query."""
        now = time.monotonic()
        if self.is_retired or now >= self.expires_at or self.pgconn.transaction_status != IDLE:
            return False
        try:
            if self.is_lost_after_input() or self._is_standby() != self.was_standby:
                return False
            if now - self.used_at >= IDLE_BEFORE_CHECK:
                self.deadline = min(self.deadline, now + LONGEST_CHECK)
                self.execute("SELECT 1")
            self.used_at = now
        except psycopg.Error:
            return False
        return True

    def has_input(self) -> bool:
        """Return whether the server has sent something, or closed the connection, by itself."""
        if sys.platform == "win32":  # which has no poll
            return bool(select.select([self.pgconn.socket], [], [], 0)[0])
        waiting = select.poll()  # not one for all calls: a signal handler may interrupt it
        waiting.register(self.pgconn.socket, select.POLLIN)
        return bool(waiting.poll(0))

    def is_lost_after_input(self) -> bool:
        """Read what the server has sent meanwhile, and return whether it closed the connection."""
        try:
            # the first call reads the last message of the server, the second one the end
            self.pgconn.consume_input()
            self.pgconn.consume_input()
        except psycopg.Error:
            pass
        return self.is_lost

    def _is_standby(self) -> bytes | None:
        # servers since PostgreSQL 14 report it, and report again when a standby is promoted
        return self.pgconn.parameter_status(b"in_hot_standby")
