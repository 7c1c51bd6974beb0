"""A memory on a server: its pool of connections, its transactions, what happens when it is gone.

Every call takes a connection from the pool and gives it back; a transaction keeps one to its end.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import peewee
import psycopg
from psycopg.pq import TransactionStatus

from ..._url import server_parameters
from ...config import Config
from ...errors import BotMemoryError, ConfigError, StorageError
from ..base import Backend, Finding
from ..fork import open_backends
from ..peewee_internals import peewee_errors, read_server_version
from ..retry import retry_on_conflict
from ..transactions import Atomic, ThreadState, TransactionState
from . import dialect, health
from .dialect import ServerJSONMethods
from .errors import NOTHING, busy, interrupt_behind, translated_error, violated_constraint
from .pool import IDLE, Pool, ServerConnection

__all__ = ["ServerMixin"]

INTRANS, INERROR = TransactionStatus.INTRANS, TransactionStatus.INERROR
UNKNOWN = TransactionStatus.UNKNOWN  # of a connection that is lost
TRUSTED = 30.0  # seconds after which an idle connection is asked whether it is still there
# libpq waits for hours where a network was cut; the URL may say otherwise
PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

NOT_KNOWN = (
    "whether it is stored is not known: look for it, or record with id= or get_or_create(), which "
    "are safe to repeat"
)

R = TypeVar("R")
Row = TypeVar("Row", bound=peewee.Model)

_inherited: list[object] = []  # the parent's connections: never closed here, not even by the end


class _LostError(StorageError):
    """The connection was gone."""


class State(ThreadState):
    """What each thread has of its own."""

    has_write_lock = False
    in_call = False  # a statement is being sent: a signal handler cannot use the connection now


class ServerMixin(TransactionState):
    """What PostgreSQL and the engines that speak it have in common, over Peewee's classes."""

    json_methods = ServerJSONMethods
    isolation_level: str | None = None

    if TYPE_CHECKING:
        server_version: int | None
        connection: Callable[[], Any]
        execute_sql: Callable[..., Any]
        top_transaction: Callable[[], Any]

    def __init__(self, config: Config) -> None:
        self.config = config
        self.unusable: str | None = None  # why nothing can be done with it any more
        self.at_close: list[Callable[[], object]] = [self._shut]
        self.pool = Pool(config.pool_size, self._open_connection, self._is_usable)
        super().__init__(
            State(),
            self.parameters()["dbname"],
            prefer_psycopg3=True,
            isolation_level=self.isolation_level,
        )
        open_backends.add(cast("Backend", self))

    def parameters(self) -> dict[str, str]:
        """Return what libpq is told, with the password."""
        return server_parameters(str(self.config.db_path))

    def session_settings(self) -> dict[str, str]:
        """Return the settings of every connection, by their names on the server."""
        timeout = max(1, round(self.config.busy_timeout * 1000))  # 0 would be for ever
        settings = {
            "TimeZone": "UTC",
            "DateStyle": "ISO",
            "extra_float_digits": "3",
            "lock_timeout": f"{timeout}ms",
        }
        if self.config.read_only:
            settings["default_transaction_read_only"] = "on"
        return settings

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> None:
        """Connect once, and prove that it is a server this library can work with."""
        encoding = self.connection().info.parameter_status("server_encoding")
        self.release()
        if encoding != "UTF8":
            raise StorageError(
                f"{self.config.label}: the database keeps its text in {encoding}; create one "
                "WITH ENCODING 'UTF8' TEMPLATE template0"
            )

    def connect(self, reuse_if_open: bool = False) -> bool:
        state = self.local
        self._require_usable()
        self._forget_given_up()
        if not state.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        connection = self.pool.take(self.config.busy_timeout)
        if connection is None:
            what = f"all {self.config.pool_size} connections of the pool (pool_size) were in use"
            raise busy(self.config.label, self.config.busy_timeout, what)
        state.conn, state.closed = connection, False
        state.ctx, state.transactions, state.commit_callbacks = [], [], []
        connection.used_at = time.monotonic()
        if self.server_version is None:
            read_server_version(self, connection)
        return True

    def _open_connection(self) -> ServerConnection:
        defaults = PATIENCE | {"application_name": "botmemory", "client_encoding": "UTF8"}
        parameters: dict[str, Any] = defaults | self.parameters()
        # no role, database or server decides what is stored or how long a statement waits
        settings = self.session_settings()
        calls = ", ".join(["set_config(%s, %s, false)"] * len(settings))
        with self._connecting(), peewee_errors:
            connection = ServerConnection.connect(**parameters, autocommit=True)
            try:
                connection.execute(
                    f"SELECT {calls}",
                    [text for setting in settings.items() for text in setting],
                )
            except BaseException:
                connection.close()
                raise
        connection.used_at = time.monotonic()
        return connection

    def another_connection(self) -> ServerConnection:
        """Return a connection beside the pool, to be closed by whoever asked for it."""
        return self._open_connection()

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        handled = sys.exc_info()[1]
        try:
            yield
        except peewee.DatabaseError as error:
            if (interrupt := interrupt_behind(error, handled)) is not None:
                raise interrupt from None
            if isinstance(error, peewee.ProgrammingError):  # a parameter that libpq does not know
                raise ConfigError(f"{self.config.label}: {_first_line(error)}") from error
            raise StorageError(
                f"{self.config.label}: cannot connect ({_first_line(error)}); {NOTHING}: check "
                "that the server runs and lets this user in"
            ) from error

    def close(self) -> bool:
        """Give this thread's connection back to the pool and return whether there was one."""
        state = self.local
        self.require_no_transaction()
        idle, was_open = self.pool.idle, not state.closed
        connection, state.conn, state.closed = state.conn, None, True
        state.ctx, state.transactions, state.commit_callbacks = [], [], []
        if connection is not None:
            if connection.pgconn.transaction_status == IDLE and not self.pool.is_shut:
                idle.append(connection)
            else:
                connection.pgconn.finish()
        return was_open

    def is_closed(self) -> bool:
        return bool(self.local.closed)

    def release(self) -> None:
        """Give this thread's connection back to the pool, unless a transaction is open."""
        if not (self.local.transactions and self.in_transaction()):
            self.close()

    def dispose(self) -> None:
        """Forget every connection without closing it."""
        self.local.reset()
        self.pool = Pool(self.config.pool_size, self._open_connection, self._is_usable)

    def used_by_worker(self) -> AbstractContextManager[object]:
        """Do nothing: a connection is in the pool between two calls, and a child leaves it."""
        return nullcontext()

    def has_open_transaction(self) -> bool:
        """Return whether any thread of this process has a transaction open."""
        states = [one.pgconn.transaction_status for one in self.pool.connections()]
        return INTRANS in states or INERROR in states

    def _is_usable(self, conn: ServerConnection) -> bool:
        """Look whether an idle connection can still be used: mostly without asking the server."""
        if conn.closed or conn.pgconn.transaction_status != IDLE:
            return False
        try:
            # a server that went away has left its last words, and after them the end
            conn.pgconn.consume_input()
            conn.pgconn.consume_input()
        except psycopg.Error:
            return False
        if time.monotonic() - conn.used_at < TRUSTED:
            return True
        try:
            conn.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def _forget_given_up(self) -> None:
        """Let go of a connection whose transaction another thread had to end."""
        state = self.local
        if not state.closed and state.conn.given_up:
            connection, state.conn, state.closed = state.conn, None, True
            connection.pgconn.finish()

    def _shut(self) -> None:
        """Close every connection, those in use as soon as they come back."""
        self.pool.is_shut = True
        self.pool.close_idle()

    # --- when the process forks or ends -----------------------------------------------------

    def before_fork(self) -> None:
        pass  # the child leaves the connections alone, and the parent goes on with them

    after_fork_in_parent = before_fork

    def after_fork_in_child(self) -> None:
        _inherited.extend(self.pool.connections())
        self.local.conn, self.local.closed = None, True
        if self.forget_transactions():
            self.unusable = (
                f"{self.config.label}: this process was forked inside a transaction and cannot "
                "use it; fork before session_scope()"
            )
        else:
            self.dispose()

    def close_at_exit(self) -> None:
        self.pool.close_idle()

    # --- statements and transactions --------------------------------------------------------

    def run_statement(self, run: Callable[[], Any], sql: str, options: dict[str, Any]) -> Any:
        if self.local.in_call:
            with self._set_aside():
                return self.run_statement(run, sql, options)
        if (self.local.transactions or self.local.rolled_back) and self.may_use_transaction():
            return self._inside(run, sql)
        self._forget_given_up()
        if options.get("named_cursor"):
            return self._translating(run, "read it again")
        if sql.startswith(("UPDATE", "DELETE")):
            with self.atomic():  # in its turn, as they are inside a transaction
                return self.run_statement(run, sql, options)
        return self._autocommit(run, sql)

    def _inside(self, call: Callable[[], R], sql: str) -> R:
        """Run a statement of the transaction that is open."""
        if sql.startswith("ROLLBACK TO"):
            self.local.has_write_lock = False  # what was locked since the savepoint is free again
        else:
            self.acquire_write_lock(sql)
        return self._translating(
            call,
            "the transaction is rolled back, nothing of it is stored: leave session_scope() and "
            "begin again",
        )

    def _autocommit(self, call: Callable[[], R], sql: str) -> R:
        """Run a statement that is a transaction of its own; its connection goes back at once."""
        if not sql.startswith("SELECT"):
            self.require_outside_of_others()
            return retry_on_conflict(lambda: self._run_once(call, NOT_KNOWN))
        try:
            return self._run_once(call, "repeat the call")
        except _LostError:
            return self._run_once(call, "repeat the call")  # on another connection

    def _run_once(self, call: Callable[[], R], outcome: str) -> R:
        state, pool = self.local, self.pool
        try:
            return self._translating(call, outcome)
        finally:
            # written out wherever a connection is given back: a function of our own could be
            # interrupted as it is entered
            if not state.transactions:
                connection, state.conn, state.closed = state.conn, None, True
                if connection is not None:
                    if connection.pgconn.transaction_status == IDLE and not pool.is_shut:
                        pool.idle.append(connection)
                    else:
                        connection.pgconn.finish()

    def may_use_transaction(self) -> bool:
        # what a signal handler does while a statement is being sent is no part of the transaction
        return not self.local.in_call and super().may_use_transaction()

    def has_begun(self) -> bool:
        conn = self.local.conn
        return conn is not None and conn.pgconn.transaction_status in (INTRANS, INERROR)

    @contextmanager
    def _set_aside(self) -> Iterator[None]:
        """Put the connection that is in use aside while a signal handler uses another one."""
        state = self.local
        in_use = (
            state.conn,
            state.closed,
            state.transactions,
            state.commit_callbacks,
            state.has_write_lock,
        )
        state.conn, state.closed, state.transactions, state.in_call = None, True, [], False
        try:
            yield
        finally:
            state.conn, state.closed, state.transactions, callbacks, has_write_lock = in_use
            state.commit_callbacks, state.has_write_lock, state.in_call = (
                callbacks,
                has_write_lock,
                True,
            )

    def enter_transaction(self, transaction: Atomic, isolation_level: str | None) -> None:
        """Take a connection and begin; where that fails or is interrupted, give it up."""
        if self.local.in_call:  # only a signal handler gets here while a statement is being sent
            with ExitStack() as aside:
                aside.enter_context(self._set_aside())
                self._enter_transaction(transaction, isolation_level)
                transaction.aside = aside.pop_all()
        else:
            self._enter_transaction(transaction, isolation_level)

    def _enter_transaction(self, transaction: Atomic, isolation_level: str | None) -> None:
        state, pool = self.local, self.pool
        self.require_outside_of_others()
        self._forget_given_up()
        position = transaction.position = len(state.transactions)
        transaction.is_changing = True
        try:
            self.begin(isolation_level)
            state.transactions.append(transaction)
            transaction.connection = weakref.ref(state.conn)
            transaction.is_open, transaction.is_changing = True, False
        finally:
            if not transaction.is_open:
                transaction.is_changing = False
                del state.transactions[position:]
                connection, state.conn, state.closed = state.conn, None, True
                if connection is not None:
                    if connection.pgconn.transaction_status == IDLE and not pool.is_shut:
                        pool.idle.append(connection)
                    else:
                        connection.pgconn.finish()

    def leave_transaction(self, transaction: Atomic, *, roll_back: bool) -> None:
        """Commit or roll back, and give the connection back whatever happens."""
        aside, transaction.aside = transaction.aside, None
        if aside is None:
            self._leave_transaction(transaction, roll_back=roll_back)
        else:
            with aside:
                self._leave_transaction(transaction, roll_back=roll_back)

    def _leave_transaction(self, transaction: Atomic, *, roll_back: bool) -> None:
        state, pool, connection = self.local, self.pool, transaction.connection()
        if connection is None or state.conn is not connection:
            self._give_up(transaction, connection)
            return
        position = transaction.position
        try:
            if roll_back:
                self._roll_back()
            else:
                self._commit()
        finally:
            transaction.is_open, transaction.held_by_with = False, None
            del state.transactions[position:]
            state.conn, state.closed = None, True
            if connection.pgconn.transaction_status == IDLE and not pool.is_shut:
                pool.idle.append(connection)
            else:
                connection.pgconn.finish()
        callbacks = [] if roll_back else state.commit_callbacks
        state.commit_callbacks = []
        for callback in callbacks:
            callback()

    def _give_up(self, transaction: Atomic, connection: ServerConnection | None) -> None:
        """End the transaction of another thread, which may be using the connection right now."""
        transaction.is_open, transaction.held_by_with = False, None
        if connection is not None:  # or its thread has ended, and the connection with it
            connection.given_up = True
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)  # the server rolls back

    def begin(self, *args: Any) -> None:
        begin = partial(super().begin, *args)  # type: ignore[misc]
        try:
            self._translating(begin, NOTHING)
        except _LostError:
            self.close()
            self._translating(begin, NOTHING)  # nothing was in it yet: another connection will do
        self.local.has_write_lock = False

    def commit(self) -> None:
        self._commit()
        if not self.local.transactions:
            self.close()

    def rollback(self) -> None:
        self._roll_back()
        if not self.local.transactions:
            self.close()

    def _commit(self) -> None:
        if not self.is_connection_usable():
            # the server would roll back and call it a success
            what = "the connection was lost" if self._lost() else "an earlier statement failed"
            raise StorageError(
                f"{self.config.label}: {what} inside this transaction, and all of it is rolled "
                "back; leave session_scope() when a call raises, and begin again"
            )
        self._translating(super().commit, NOT_KNOWN)  # type: ignore[misc]

    def _roll_back(self) -> None:
        status = self.local.conn.pgconn.transaction_status
        if self.unusable is None and status in (INTRANS, INERROR):
            self._translating(super().rollback, NOTHING)  # type: ignore[misc]

    def is_connection_usable(self) -> bool:
        return not self.is_closed() and self.local.conn.pgconn.transaction_status < INERROR

    def acquire_write_lock(self, sql: str) -> None:
        """Queue before what must not be outrun; engines that see to it by themselves do nothing."""

    def statement(self) -> AbstractContextManager[object]:
        """Return what undoes one statement alone when it fails, and not its whole transaction."""
        return self.atomic() if self.in_transaction() else nullcontext()

    # --- errors -----------------------------------------------------------------------------

    def _lost(self) -> bool:
        """Return whether this thread's connection turned out to be gone."""
        return not self.is_closed() and self._is_gone(self.local.conn)

    def _is_gone(self, connection: ServerConnection) -> bool:
        return connection.pgconn.transaction_status == UNKNOWN

    def _translating(self, call: Callable[[], R], outcome: str) -> R:
        """Raise what the server reports under a name; `outcome` is for a lost connection."""
        self._require_usable()
        state = self.local
        try:
            state.in_call = True
            return call()
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            named = self.lost_or_translated(error, self.local.conn, outcome)
            if named is error:
                raise
            raise named from error
        except BaseException:
            # an interrupt may leave psycopg inside a COPY or a pipeline, and the traceback keep it
            # there: the next statement would wait for its lock, which is this thread's own
            connection = state.conn
            if connection is not None and (
                connection.lock.locked() or connection.pgconn.pipeline_status
            ):
                connection.pgconn.finish()
            raise
        finally:
            state.in_call = False

    def lost_or_translated(
        self, error: Exception, connection: ServerConnection | None, outcome: str
    ) -> Exception:
        """Return the error to raise for one of the driver's: itself where it needs no name."""
        if connection is not None and self._is_gone(connection):
            return _LostError(
                f"{self.config.label}: the connection was lost ({_first_line(error)}); {outcome}"
            )
        return self.translated(error) or error

    def translated(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of the server's, None where there is none."""
        return translated_error(error, self.config.label, self.config.busy_timeout)

    def _require_usable(self) -> None:
        if self.unusable is not None:
            raise StorageError(self.unusable)

    # --- compiled queries -------------------------------------------------------------------

    def fetch_all(
        self,
        sql: str,
        params: Sequence[Any],
        make: Callable[[Iterable[tuple[Any, ...]]], Iterable[R]],
    ) -> list[R]:
        return list(make(self.execute_sql(sql, params).fetchall()))

    def insert_row(self, sql: str, params: Sequence[Any]) -> int:
        return int(self.execute_sql(sql, params).rowcount)

    def insert_autoincrement(self, sql: str, params: Sequence[Any]) -> int:
        return int(self.execute_sql(sql, params).fetchone()[0])

    def insert_rows(
        self, sql: str, rows: Iterable[Sequence[Any]], fields: Sequence[peewee.Field[Any]]
    ) -> int:
        def insert() -> int:
            with peewee_errors, self.connection().cursor() as cursor:
                cursor.executemany(sql, rows)
                return int(cursor.rowcount)

        return self._inside(insert, "INSERT")

    null_in_sql = False  # not of many rows: COPY gives a column that is not named its default
    streams = False

    def stream(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        return iter(query.iterator())

    def stage(self, table: str) -> None:
        return None

    # --- what a server writes in its own way, and what it reports ----------------------------

    def json_text(self, text: str) -> str:
        return dialect.json_text(text)

    def json_match(self, *condition: Any) -> peewee.Expression:
        return dialect.json_match(*condition)

    def hour_of(self, field: peewee.Field[Any]) -> Any:
        return dialect.hour_of(field)

    def violated_constraint(self, error: peewee.IntegrityError) -> str:
        return violated_constraint(error)

    # --- ids --------------------------------------------------------------------------------

    def last_id(self, model: type[peewee.Model]) -> int:
        return 0

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        pass  # ids of CockroachDB are not counted

    # --- schema -----------------------------------------------------------------------------

    check_options = ("constraints",)

    def read_checks(self, table: str, schema: str | None = None) -> dict[str, str]:
        return health.read_checks(self, table, schema)

    def is_partitioned(self, table: str) -> bool:
        return health.is_partitioned(self, table)

    def can_make_scratch(self) -> bool:
        return False

    @contextmanager
    def scratch(self, *, with_tables: bool) -> Iterator[Backend]:
        with self.atomic() as transaction:
            try:
                yield cast("Backend", self)
            finally:
                transaction.rollback()

    def temporary_schema(self) -> str | None:
        return health.temporary_schema(self)

    def orphans(self) -> list[tuple[str, str]]:
        return []

    def back_up(self, number: str) -> None:
        pass  # that is the administrator's, with the server's own tools

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        yield

    # --- health -----------------------------------------------------------------------------

    file = None

    def damage(self, check: str = "quick_check") -> list[str]:
        return []

    def findings(self) -> Iterator[Finding]:
        return iter(())

    def size(self) -> int:
        cursor = self.execute_sql("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        raise ConfigError(
            f"{self.config.label}: a server is copied by its own tool, such as pg_dump; see "
            "docs/postgresql.md"
        )
        yield


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]
