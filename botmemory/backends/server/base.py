"""The backend of a database server: connection pool, transactions, lost connections.

Each call acquires a connection from the pool and releases it; a transaction keeps one to its end.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import peewee
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL

from ..._url import server_parameters
from ...config import Config
from ...errors import BotMemoryError, ConfigError, StorageError
from ..base import Backend, Fields, MakeObjects, Values
from ..change_marker import ChangeMarker
from ..finding import Finding
from ..fork import open_backends
from ..peewee_internals import peewee_errors, read_server_version
from ..reference import Reference
from ..retry import busy_error, retry_on_conflict
from ..transactions import Atomic, ThreadState, TransactionState
from . import dialect
from .dialect import ServerJSONMethods
from .errors import (
    NOTHING_WRITTEN,
    interrupt_behind,
    translated_error,
)
from .pool import IDLE, Pool, ServerConnection

INTRANS, INERROR = TransactionStatus.INTRANS, TransactionStatus.INERROR
UNKNOWN = TransactionStatus.UNKNOWN  # of a connection that is lost
IDLE_BEFORE_CHECK = 30.0  # seconds after which an idle connection is tested before it is used
# without these, libpq waits for hours on a broken network; the URL overrides them
CONNECTION_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "botmemory",
    "client_encoding": "UTF8",
}

# what the server calls the actions of a foreign key that change the referring row
ON_DELETE = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
OUTCOME_UNKNOWN = (
    "whether it is stored is not known: look for it, or record with id= or get_or_create(), which "
    "are safe to repeat"
)

R = TypeVar("R")

# in a child process: the connections of its parent, which must never be closed here
_inherited: list[object] = []


class _LostError(StorageError):
    """The connection to the server was lost."""


class State(ThreadState):
    """What each thread has of its own."""

    has_write_lock = False
    is_executing = False

    def is_inside_call(self) -> bool:
        """Return whether a call is using the connection, which a signal handler cannot use then."""
        connection = self.conn  # once: a signal handler may release it
        return self.is_executing or (connection is not None and connection.lock.locked())


class ServerMixin(TransactionState):
    """The part that PostgreSQL and CockroachDB share; it precedes Peewee's class in the bases."""

    json_methods = ServerJSONMethods
    isolation_level: str | None = None
    snapshot_mode: str | None = None  # each transaction of CockroachDB reads one state
    oldest_version: int
    oldest_release: str

    if TYPE_CHECKING:
        server_version: int | None

        def execute_sql(self, sql: str, params: Any = None) -> Any: ...
        def top_transaction(self) -> Any: ...

    def __init__(self, config: Config) -> None:
        self.config = config
        self.unusable: str | None = None  # the reason
        self.at_close: list[Callable[[], object]] = [self.close_at_exit]
        self.pool = Pool(config.pool_size, self.another_connection, self._is_usable)
        super().__init__(
            State(),
            self.parameters()["dbname"],
            prefer_psycopg3=True,
            isolation_level=self.isolation_level,
        )
        open_backends.add(cast("Backend", self))

    def parameters(self) -> dict[str, str]:
        """Return the connection parameters of libpq, with the password."""
        return server_parameters(str(self.config.db_path))

    def session_settings(self) -> dict[str, str]:
        """Return the settings of every connection, by their names on the server."""
        timeout = max(1, round(self.config.busy_timeout * 1000))  # 0 means no limit
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
        """Connect once, and verify that botmemory can work with this server."""
        encoding = self.connection().info.parameter_status("server_encoding")
        self.release()
        if encoding != "UTF8":
            raise StorageError(
                f"{self.config.label}: the database stores its text in {encoding}; create one "
                "WITH ENCODING 'UTF8' TEMPLATE template0"
            )
        if (self.server_version or 0) < self.oldest_version:
            raise StorageError(
                f"{self.config.label}: the server is older than {self.oldest_release}; "
                "use a newer one"
            )

    def connect(self, reuse_if_open: bool = False) -> bool:
        local = self.local
        self._drop_terminated()
        if not local.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        connection = self.acquire_connection()
        local.conn, local.closed = connection, False
        local.ctx, local.transactions, local.commit_callbacks = [], [], []
        if self.server_version is None:
            read_server_version(self, connection)
        return True

    def acquire_connection(self) -> ServerConnection:
        """Return a connection of the pool, which the caller releases."""
        self.require_usable()
        connection = self.pool.acquire(self.config.busy_timeout)
        if connection is None:
            reason = f"all {self.config.pool_size} connections of the pool (pool_size) were in use"
            raise busy_error(self.config.label, self.config.busy_timeout, reason)
        return connection

    def another_connection(self) -> ServerConnection:
        """Return a new connection, which the caller closes or puts into the pool."""
        parameters: dict[str, Any] = CONNECTION_DEFAULTS | self.parameters()
        # these override the settings of the role, the database and the server
        settings = self.session_settings()
        calls = SQL(", ").join([SQL("set_config(%s, %s, false)")] * len(settings))
        handled = sys.exc_info()[1]
        try:
            with peewee_errors:
                connection = ServerConnection.connect(**parameters, autocommit=True)
                try:
                    connection.execute(
                        SQL("SELECT {}").format(calls),
                        [text for setting in settings.items() for text in setting],
                    )
                except BaseException:
                    connection.close()
                    raise
        except peewee.DatabaseError as error:
            if (interrupt := interrupt_behind(error, handled)) is not None:
                raise interrupt from None
            if isinstance(error, peewee.ProgrammingError):  # an unknown parameter
                raise ConfigError(f"{self.config.label}: {_first_line(error)}") from error
            raise StorageError(
                f"{self.config.label}: cannot connect ({_first_line(error)}); {NOTHING_WRITTEN}: "
                "check that the server runs and accepts this user"
            ) from error
        connection.used_at = time.monotonic()
        return connection

    def close(self) -> bool:
        """Release this thread's connection to the pool and return whether there was one."""
        local = self.local
        self.require_no_transaction()
        pool, was_open = self.pool, not local.closed
        connection, local.conn, local.closed = local.conn, None, True
        local.ctx, local.transactions, local.commit_callbacks = [], [], []
        if connection is not None:
            if connection.pgconn.transaction_status == IDLE and not pool.is_closed:
                pool.idle.append(connection)
            else:
                connection.pgconn.finish()
        return was_open

    def used_by_worker(self) -> AbstractContextManager[object]:
        return nullcontext()  # between two calls the connection is in the pool

    def has_open_transaction(self) -> bool:
        """Return whether any thread of this process has a transaction open."""
        statuses = [each.pgconn.transaction_status for each in self.pool.connections()]
        return INTRANS in statuses or INERROR in statuses

    def _is_usable(self, conn: ServerConnection) -> bool:
        """Return whether an idle connection can be used; mostly without a query."""
        if conn.closed or conn.pgconn.transaction_status != IDLE:
            return False
        try:
            # reads the last message of a server that has closed the connection, then the end
            conn.pgconn.consume_input()
            conn.pgconn.consume_input()
            now = time.monotonic()
            if now - conn.used_at >= IDLE_BEFORE_CHECK:
                conn.execute("SELECT 1")
            conn.used_at = now
        except psycopg.Error:
            return False
        return True

    def _drop_terminated(self) -> None:
        """Close a connection whose transaction another thread had to end."""
        local = self.local
        if not local.closed and local.conn.is_terminated:
            local.conn.pgconn.finish()
            local.conn, local.closed = None, True

    # --- when the process forks or ends -----------------------------------------------------

    def before_fork(self) -> None:
        pass  # the child does not use these connections, and the parent goes on with them

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
            self.local.reset()
            self.pool = Pool(self.config.pool_size, self.another_connection, self._is_usable)

    def close_at_exit(self) -> None:
        self.pool.close()

    # --- statements and transactions --------------------------------------------------------

    def run_statement(self, run: Callable[[], Any], sql: str, options: dict[str, Any]) -> Any:
        local = self.local
        own = options.get("named_cursor")
        if isinstance(own, ServerConnection) and own is not local.conn:
            return run()  # `stream` uses a connection of its own
        if local.is_inside_call():
            interrupted = self._use_other_connection()
            try:
                return self.run_statement(run, sql, options)
            finally:
                local.__dict__.update(interrupted)
        if (local.transactions or local.rolled_back) and self.in_transaction():
            return self._run_in_transaction(run, sql)
        self._drop_terminated()
        if own:
            return self._translate_errors(run, "read it again")
        if sql.startswith(("UPDATE", "DELETE")):
            with self.atomic():  # with the write lock, as inside a transaction
                return self.run_statement(run, sql, options)
        return self._autocommit(run, sql)

    def _run_in_transaction(self, call: Callable[[], R], sql: str) -> R:
        """Run a statement of the transaction that is open."""
        if sql.startswith("ROLLBACK TO"):
            self.local.has_write_lock = False  # the server releases locks that are newer
        else:
            self.acquire_write_lock(sql)
        return self._translate_errors(
            call,
            "the transaction is rolled back, nothing of it is stored: leave session_scope() and "
            "begin again",
        )

    def _autocommit(self, call: Callable[[], R], sql: str) -> R:
        """Run a statement that is a transaction of its own, and release its connection."""
        if not sql.startswith("SELECT"):
            self.refuse_self_deadlock()
            return retry_on_conflict(lambda: self._run_once(call, OUTCOME_UNKNOWN))
        try:
            return self._run_once(call, "repeat the call")
        except _LostError:
            return self._run_once(call, "repeat the call")  # on another connection

    def _run_once(self, call: Callable[[], R], outcome: str) -> R:
        local, pool = self.local, self.pool
        try:
            return self._translate_errors(call, outcome)
        finally:
            # repeated wherever a connection is released: a function of our own could be interrupted
            # as it is entered
            if not local.transactions:
                connection, local.conn, local.closed = local.conn, None, True
                if connection is not None:
                    if connection.pgconn.transaction_status == IDLE and not pool.is_closed:
                        pool.idle.append(connection)
                    else:
                        connection.pgconn.finish()

    def in_transaction(self) -> bool:
        # a signal handler that interrupts a statement is not part of the transaction
        return not self.local.is_inside_call() and super().in_transaction()

    def has_begun(self) -> bool:
        conn = self.local.conn
        return conn is not None and conn.pgconn.transaction_status in (INTRANS, INERROR)

    def _use_other_connection(self) -> dict[str, Any]:
        """Let a signal handler use another connection than the statement that it interrupts.

        Return the state of that statement; `self.local.__dict__.update(...)`, which is one call
        into C, restores it.
        """
        local = self.local
        names = ("conn", "closed", "transactions", "commit_callbacks", "has_write_lock")
        interrupted = {name: getattr(local, name) for name in (*names, "is_executing")}
        local.conn, local.closed, local.transactions, local.is_executing = None, True, [], False
        return interrupted

    def enter_transaction(self, transaction: Atomic, mode: str | None) -> None:
        """Acquire a connection and begin; close it if that fails or is interrupted."""
        if not transaction.only_reads:
            self.refuse_self_deadlock()
        local = self.local
        transaction.is_changing = True
        # only a signal handler gets here during a statement
        transaction.interrupted = self._use_other_connection() if local.is_inside_call() else {}
        try:
            self._drop_terminated()
            transaction.position = len(local.transactions)
            self.begin(mode)
            # which one that only reads must not wait for
            local.has_write_lock = transaction.only_reads
            local.transactions.append(transaction)
            transaction.connection = weakref.ref(local.conn)
            transaction.is_open, transaction.is_changing = True, False
        finally:
            if not transaction.is_open:
                transaction.is_changing = False
                del local.transactions[transaction.position :]
                connection, local.conn, local.closed = local.conn, None, True
                try:
                    if connection is not None:
                        connection.pgconn.finish()
                finally:
                    local.__dict__.update(transaction.interrupted)

    def leave_transaction(self, transaction: Atomic, *, roll_back: bool) -> None:
        """Commit or roll back, and release the connection whatever happens."""
        local, pool, connection = self.local, self.pool, transaction.connection()
        if connection is None or local.conn is not connection:
            self._terminate(transaction, connection)
            return
        try:
            status = connection.pgconn.transaction_status
            if roll_back or (transaction.only_reads and status != INTRANS):
                self._roll_back()
            else:
                self._commit()
        finally:
            transaction.is_open, transaction.exit_reference = False, None
            del local.transactions[transaction.position :]
            callbacks, local.commit_callbacks = local.commit_callbacks, []
            local.conn, local.closed = None, True
            try:
                if connection.pgconn.transaction_status == IDLE and not pool.is_closed:
                    pool.idle.append(connection)
                else:
                    connection.pgconn.finish()
            finally:
                local.__dict__.update(transaction.interrupted)
        if not roll_back:
            for callback in callbacks:
                callback()

    def _terminate(self, transaction: Atomic, connection: ServerConnection | None) -> None:
        """End the transaction of another thread, which may be using the connection now."""
        transaction.is_open, transaction.exit_reference = False, None
        if connection is not None:  # None: its thread has ended, and closed the connection
            connection.is_terminated = True
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)  # the server rolls back

    def begin(self, *args: Any) -> None:
        begin = partial(super().begin, *args)  # type: ignore[misc]
        try:
            self._translate_errors(begin, NOTHING_WRITTEN)
        except _LostError:
            self.close()  # nothing was written yet, so another connection can be used
            self._translate_errors(begin, NOTHING_WRITTEN)
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
        connection = self.local.conn
        status = INERROR if connection is None else connection.pgconn.transaction_status
        if status in (INERROR, UNKNOWN):
            # the server would roll back and report success
            is_lost = status == UNKNOWN
            reason = "the connection was lost" if is_lost else "an earlier statement failed"
            raise StorageError(
                f"{self.config.label}: {reason} inside this transaction, and all of it is rolled "
                "back; leave session_scope() when a call raises, and begin again"
            )
        self._translate_errors(super().commit, OUTCOME_UNKNOWN)  # type: ignore[misc]

    def _roll_back(self) -> None:
        status = self.local.conn.pgconn.transaction_status
        if self.unusable is None and status in (INTRANS, INERROR):
            self._translate_errors(super().rollback, NOTHING_WRITTEN)  # type: ignore[misc]

    def acquire_write_lock(self, sql: str) -> None:
        """Acquire the write lock if this statement needs it; nothing on CockroachDB."""

    def statement(self) -> AbstractContextManager[object]:
        return self.atomic() if self.in_transaction() else nullcontext()

    # --- errors -----------------------------------------------------------------------------

    def _translate_errors(self, call: Callable[[], R], outcome: str) -> R:
        """Call, and raise the botmemory error for an error of the server.

        `outcome` ends the message for a lost connection.
        """
        self.require_usable()
        local = self.local
        try:
            local.is_executing = True
            return call()
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            translated = self.lost_or_translated(error, local.conn, outcome)
            if translated is error:
                raise
            try:
                raise translated from error
            finally:
                del translated  # its traceback refers to this frame: neither would be freed
        except BaseException:
            # an interrupt may leave psycopg inside a COPY or a pipeline with its lock held, for
            # which the next statement of this thread would wait for ever
            connection = local.conn
            if connection is not None and (
                connection.lock.locked() or connection.pgconn.pipeline_status
            ):
                connection.pgconn.finish()
            raise
        finally:
            local.is_executing = False

    def lost_or_translated(
        self, error: Exception, connection: ServerConnection | None, outcome: str
    ) -> Exception:
        """Return the botmemory error for one of the driver's; the same error if there is none."""
        if connection is not None and connection.pgconn.transaction_status == UNKNOWN:
            return _LostError(
                f"{self.config.label}: the connection was lost ({_first_line(error)}); {outcome}"
            )
        return self.translated(error) or error

    def translated(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of the server's; None if there is none."""
        return translated_error(error, self.config.label, self.config.busy_timeout)

    # --- compiled queries -------------------------------------------------------------------

    def fetch_all(self, sql: str, params: Values, make: MakeObjects[R]) -> list[R]:
        return list(make(self.execute_sql(sql, params).fetchall()))

    def insert_row(self, sql: str, params: Values) -> int:
        return int(self.execute_sql(sql, params).rowcount)

    def insert_autoincrement(self, sql: str, params: Values) -> int:
        return int(self.execute_sql(sql, params).fetchone()[0])

    def insert_rows(self, sql: str, rows: Iterable[Values], fields: Fields) -> int:
        def insert() -> int:
            with peewee_errors, self.connection().cursor() as cursor:
                cursor.executemany(sql, rows)
                return int(cursor.rowcount)

        return self._run_in_transaction(insert, "INSERT")

    null_in_sql = False  # COPY stores the default in a column that is not named
    has_exact_decimals = True

    def stage(self, table: str) -> None:
        return None

    # --- SQL and errors of the engine ---------------------------------------------------------

    json_text = staticmethod(dialect.json_text)
    json_match = staticmethod(dialect.json_match)
    hour_of = staticmethod(dialect.hour_of)

    # --- ids --------------------------------------------------------------------------------

    def last_id(self, model: type[peewee.Model]) -> int:
        return 0

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        pass  # CockroachDB has no sequences

    # --- changes ----------------------------------------------------------------------------

    row_number: peewee.SQL | None = None

    def change_marker(self) -> ChangeMarker | None:
        return None

    # --- schema -----------------------------------------------------------------------------

    check_options: tuple[str, ...] = ("constraints",)

    def read_checks(self, table: str, schema: str | None = None) -> dict[str, str]:
        """Return the validated CHECK constraints of a table by name.

        Without casts and parentheses, which a restored dump writes in another way.
        """
        quoted = ".".join(f'"{name}"' for name in (schema, table) if name is not None)
        cursor = self.execute_sql(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = to_regclass(%s) AND contype = 'c' AND convalidated",
            (quoted,),
        )
        ignored = re.compile(r"::(?:double precision|character varying|[a-z]+)(?:\[\])?|[()']")
        return {
            name: ignored.sub("", check).removeprefix("CHECK ") for name, check in cursor.fetchall()
        }

    def is_partitioned(self, table: str) -> bool:
        sql = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)"
        return bool(self.execute_sql(sql, (f'"{table}"',)).fetchone() == (True,))

    def can_make_scratch(self) -> bool:
        return False

    @contextmanager
    def scratch(self, *, with_tables: bool) -> Iterator[Backend]:
        with self.atomic() as transaction:
            try:
                yield cast("Backend", self)
            finally:
                transaction.rollback()

    def temporary_schema(self) -> str:
        cursor = self.execute_sql("SELECT pg_my_temp_schema()::regnamespace::text")
        return str(cursor.fetchone()[0])

    def references(self, table: str, schema: str | None = None) -> list[Reference]:
        quoted = ".".join(f'"{name}"' for name in (schema, table) if name is not None)
        # not Peewee's query, which shows a role only the foreign keys to its own tables
        cursor = self.execute_sql(
            "SELECT relname, a.attname, b.attname, confdeltype, nspname FROM pg_constraint c "
            "JOIN pg_class t ON t.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace "
            "CROSS JOIN unnest(conkey, confkey) AS k (referring, referred) "
            "JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = referring "
            "JOIN pg_attribute b ON b.attrelid = confrelid AND b.attnum = referred "
            "WHERE contype = 'f' AND confrelid = to_regclass(%s) AND conparentid = 0",
            (quoted,),
        )
        return [
            Reference(name, column, referred_column, ON_DELETE.get(action, "NO ACTION"), schema)
            for name, column, referred_column, action, schema in cursor.fetchall()
        ]

    def orphans(self) -> list[tuple[str, str]]:
        return []

    def back_up(self, number: str) -> None:
        pass  # a server is backed up by its own tools

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()

    # --- health -----------------------------------------------------------------------------

    file = None

    def damage(self, check: str = "quick_check") -> list[str]:
        return []

    def findings(self) -> Iterator[Finding]:
        return iter(())

    def size(self) -> int:
        cursor = self.execute_sql("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])

    def snapshot(self) -> NoReturn:
        raise ConfigError(
            f"{self.config.label}: a server is copied by its own tool, such as pg_dump; see "
            "docs/postgresql.md"
        )


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]
