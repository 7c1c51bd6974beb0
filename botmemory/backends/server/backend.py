"""The backend of PostgreSQL: connections, transactions, lost connections.

Each call acquires a connection from the pool and releases it; a transaction keeps one to its end.
Statements that return nothing (BEGIN, a savepoint, the write lock) wait in the connection's
`pending` and are sent with the next one, so that they cost no round trip.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import peewee
import psycopg
import psycopg.sql
from peewee import fn
from playhouse.postgres_ext import PostgresqlExtDatabase

from ..._url import server_parameters
from ...config import Config
from ...errors import (
    BotMemoryError,
    ConfigError,
    DatabaseBusyError,
    StorageError,
    ValidationError,
)
from ..base import Backend, Fields, MakeObjects, Migrator, Statement, Values
from ..change_marker import ChangeMarker
from ..finding import Finding
from ..fork import open_backends
from ..keys import Key, Keys
from ..peewee_internals import (
    announce,
    isolation_level_name,
    peewee_errors,
    read_server_version,
    rows_of,
)
from ..retry import busy_error, retry_on_conflict
from ..statements import begins_transaction, changes_rows, only_selects, uses_rows
from ..transactions import Atomic, Manual, ThreadState, TransactionState
from . import catalog, dialect, online
from .connection import IDLE, NoAnswerError, ServerConnection
from .cursor import RowsOnServer
from .dialect import ServerJSONMethods
from .errors import (
    NOTHING_WRITTEN,
    ROLLED_BACK,
    interrupt_behind,
    is_permanent,
    is_stale_plan,
    may_repeat,
    needs_other_connection,
    sqlstate,
    translated_error,
)
from .hosts import Hosts
from .loaders import register_loaders
from .locks import ALL_KEYS, acquire_migration_lock, lock_of_keys
from .pool import Pool

OLDEST_VERSION, OLDEST_RELEASE = 12_00_00, "PostgreSQL 12"
FIRST_WITH_SNAPSHOTS = 13_00_00
FIRST_WITH_CLIENT_CHECK = 14_00_00  # whether the bot is still there, while its statement runs
LEAST_WAIT = 1.0  # seconds for the first answer on a new connection
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two attempts to connect
# a lock is waited for a little less than for an answer, so that the server says who was waiting
LOCK_SHARE = 0.9
# with these the server notices within half a minute that the machine of a bot is gone
KEEPALIVES = {
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

# the snapshot is equal while no transaction begins to write and none ends, on one server; role and
# schemas say which tables are read, and a policy may hide rows by any setting
MARKER: Statement = (
    "SELECT pg_current_snapshot()::text, pg_postmaster_start_time()::text, current_user::text, "
    "current_schemas(true)::text, "
    "pg_current_xact_id_if_assigned() IS NULL AND NOT pg_is_in_recovery() "
    "AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy)",
    (),
)
SYNTAX_ERROR = "42601"
# SQLSTATEs of a person's SQL that are not those of its text
REFUSED_SQL = {
    "08P01": "it has a parameter, such as $1, for which there is no value",
    "25006": "it would write; only a SELECT is run",
}
BEGIN_SNAPSHOT: Statement = ("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", ())

OUTCOME_UNKNOWN = (
    "whether it is stored is not known: look for it, or record with id= or get_or_create(), which "
    "are safe to repeat"
)

R = TypeVar("R")
Begin = Callable[[ServerConnection], list[Statement]]  # what is sent before the first statement
Row = TypeVar("Row", bound=peewee.Model)

_warnings = logging.getLogger("botmemory")
# in a child process: the connections of its parent, which must never be closed here
_inherited: list[object] = []


class State(ThreadState):
    """What each thread has of its own."""

    has_write_lock = False
    is_executing = False
    changed_keys: Keys | None = None  # of the rows that a statement outside of a block changes
    row_key: Key | None = None  # of the row that a statement uses, which has a lock of its own

    def is_inside_call(self) -> bool:
        """Return whether a call is using the connection, which a signal handler cannot use then."""
        connection = self.conn  # once: a signal handler may release it
        return self.is_executing or (connection is not None and connection.lock.locked())


class PostgresBackend(TransactionState, PostgresqlExtDatabase):  # type: ignore[misc]
    """A PostgreSQL database, opened as `config` says.

    A transaction acquires an advisory lock, the write lock, with its first statement that reads,
    changes or deletes, and holds it to the end: what it has read is still true when it writes. An
    INSERT needs no lock.
    """

    # Peewee's REAL would keep 7 digits of a FloatField
    field_types = PostgresqlExtDatabase.field_types | {"FLOAT": "DOUBLE PRECISION"}
    json_methods = ServerJSONMethods
    snapshot_mode = "REPEATABLE READ"

    if TYPE_CHECKING:
        server_version: int | None

        execute_sql: Callable[..., Any]  # pyright: ignore[reportIncompatibleMethodOverride]

        def top_transaction(self) -> Any: ...

    def __init__(self, config: Config) -> None:
        self.config = config
        self.unusable: str | None = None  # the reason
        self.at_close: list[Callable[[], object]] = [self.close_at_exit]
        self.call_timeout = config.call_timeout
        parameters = server_parameters(str(config.db_path))
        self._hosts = Hosts(parameters, read_only=config.read_only)
        self.pool = Pool(config.pool_size, self._open_connection)
        # after waiting for the write lock, a transaction must see what was committed meanwhile
        self._level = "REPEATABLE READ" if config.read_only else "READ COMMITTED"
        super().__init__(State(), parameters["dbname"], prefer_psycopg3=True)
        open_backends.add(cast("Backend", self))

    @property
    def lock_timeout(self) -> float:
        """Return the seconds to wait for a lock."""
        return min(self.config.busy_timeout, self.call_timeout * LOCK_SHARE)

    def transaction_settings(self, version: int) -> dict[str, str]:
        """Return the settings that each transaction needs, by their names on such a server."""
        config = self.config
        settings = {
            "lock_timeout": f"{max(1, round(self.lock_timeout * 1000))}ms",  # 0 means no limit
            "idle_in_transaction_session_timeout": f"{round(config.transaction_timeout * 1000)}ms",
        }
        if config.synchronous == "normal":
            settings["synchronous_commit"] = "off"
        if version >= FIRST_WITH_CLIENT_CHECK:
            settings["client_connection_check_interval"] = "5s"
        return settings

    def session_settings(self, version: int) -> dict[str, str]:
        """Return the settings of a connection that keeps its session of the server."""
        settings = self.transaction_settings(version) | KEEPALIVES
        settings |= {"TimeZone": "UTC", "DateStyle": "ISO", "extra_float_digits": "3"}
        if self.config.read_only:
            settings["default_transaction_read_only"] = "on"
        return settings

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> None:
        """Connect once, and verify that botmemory can work with this server."""
        encoding = self.connection().info.parameter_status("server_encoding")
        self.release()
        # a pooler may not report it
        if encoding not in ("UTF8", None):
            raise StorageError(
                f"{self.config.label}: the database stores its text in {encoding}; create one "
                "WITH ENCODING 'UTF8' TEMPLATE template0"
            )
        if (self.server_version or 0) < OLDEST_VERSION:
            raise StorageError(
                f"{self.config.label}: the server is older than {OLDEST_RELEASE}; use a newer one"
            )

    def connect(self, reuse_if_open: bool = False) -> bool:
        local = self.local
        self._drop_terminated()
        if not local.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        connection = self.acquire_connection(self._deadline())
        local.conn, local.closed = connection, False
        local.ctx, local.commit_callbacks = [], []
        if self.server_version is None:
            read_server_version(self, connection)
        return True

    def _deadline(self) -> float:
        return time.monotonic() + self.call_timeout

    def acquire_connection(self, deadline: float) -> ServerConnection:
        """Return a connection of the pool, which the caller releases.

        While the server restarts, or another one takes over, it tries again until the deadline.
        """
        self.require_usable()
        pause = FIRST_PAUSE
        while True:
            try:
                connection = self.pool.acquire(self.config.busy_timeout, deadline)
                break
            except StorageError as error:
                # a random pause, so that not all bots return at once
                seconds = random.uniform(pause / 2, pause)  # noqa: S311
                if is_permanent(error) or time.monotonic() + seconds >= deadline:
                    raise
                if pause == FIRST_PAUSE:
                    remaining = deadline - time.monotonic()
                    _warnings.warning("%s; trying again for %.0f s", error, remaining)
            time.sleep(seconds)
            pause = min(2 * pause, LONGEST_PAUSE)
        if connection is None:
            reason = f"all {self.config.pool_size} connections of the pool (pool_size) were in use"
            raise busy_error(self.config.label, self.config.busy_timeout, reason)
        connection.call_timeout = self.call_timeout
        return connection

    def _open_connection(self, deadline: float) -> ServerConnection:
        """Return a new connection, which the caller closes or puts into the pool."""
        handled = sys.exc_info()[1]
        try:
            with peewee_errors:
                connection = self._hosts.connect(deadline)
                is_ready = False
                try:
                    self._prepare(connection, deadline)
                    is_ready = True
                finally:
                    if not is_ready:
                        connection.pgconn.finish()
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            if (interrupt := interrupt_behind(error, handled)) is not None:
                raise interrupt from None
            if isinstance(error, peewee.ProgrammingError):  # an unknown parameter
                raise ConfigError(f"{self.config.label}: {_first_line(error)}") from error
            raise StorageError(
                f"{self.config.label}: cannot connect ({_first_line(error)}); {NOTHING_WRITTEN}: "
                "check that the server runs and accepts this user"
            ) from error
        return connection

    def _prepare(self, connection: ServerConnection, deadline: float) -> None:
        """Set what each connection needs, unless a pooler would give the settings to others.

        A pooler makes up the number of the server's process that it reports, because it gives each
        transaction another session: `is_pooled`, and nothing may outlive a transaction.
        """
        settings = self.session_settings(connection.info.server_version)
        pid = connection.info.backend_pid
        # a pooler without a free session accepts a connection and lets it wait
        waits = max(self.config.busy_timeout, LEAST_WAIT)
        connection.deadline = min(deadline, time.monotonic() + waits)
        part = psycopg.sql.SQL
        is_own = part("pg_backend_pid() = %s")
        setting = part("CASE WHEN pg_backend_pid() = %s THEN set_config(%s, %s, false) END")
        query = part("SELECT ") + part(", ").join([is_own, *[setting] * len(settings)])
        values = [value for name, text in settings.items() for value in (pid, name, text)]
        try:
            row = connection.execute(query, [pid, *values]).fetchone()
        except NoAnswerError as error:
            reason = "no session of the server was free at its pooler"
            raise busy_error(self.config.label, waits, reason) from error
        connection.is_pooled = row is not None and not row[0]
        connection.deadline = deadline
        if connection.is_pooled:
            connection.prepare_threshold = None  # the next session does not know the statement
            register_loaders(connection.adapters)

    def close(self) -> bool:
        """Release this thread's connection to the pool and return whether there was one."""
        local = self.local
        self.require_no_transaction()
        pool, was_open = self.pool, not local.closed
        connection, local.conn, local.closed = local.conn, None, True
        local.ctx, local.transactions, local.commit_callbacks = [], [], []
        if connection is not None:
            is_over = connection.pending or connection.is_retired or pool.is_closed
            if connection.pgconn.transaction_status == IDLE and not is_over:
                pool.idle.append(connection)
            else:
                connection.pgconn.finish()
        return was_open

    def used_by_worker(self) -> AbstractContextManager[object]:
        return nullcontext()  # between two calls the connection is in the pool

    def has_open_transaction(self) -> bool:
        """Return whether any thread of this process has a transaction open."""
        return any(each.has_begun for each in self.pool.connections())

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
            self.pool = Pool(self.config.pool_size, self._open_connection)

    def close_at_exit(self) -> None:
        self.pool.close()

    # --- statements -------------------------------------------------------------------------

    def cursor(self, named_cursor: Any = None) -> Any:
        return self.connection().cursor()

    def run_statement(self, run: Callable[..., Any], sql: str, options: dict[str, Any]) -> Any:
        local = self.local
        if local.is_inside_call():
            interrupted = self._use_other_connection()
            try:
                return self.run_statement(run, sql, options)
            finally:
                local.__dict__.update(interrupted)
        if (local.transactions or local.rolled_back) and self.is_in_transaction():
            self.require_own_keys(sql)
            return self._run_in_transaction(run, sql)
        if begins_transaction(sql):
            self.refuse_begin(sql)
        self._drop_terminated()
        return self._autocommit(run, sql)

    def _run_in_transaction(self, call: Callable[[], R], sql: str) -> R:
        """Run a statement of the transaction that is open."""
        local = self.local
        try:
            local.is_executing = True  # a signal handler must not send what is pending
            if sql.startswith("ROLLBACK TO"):
                local.has_write_lock = False  # the server releases locks that are newer
            else:
                self.acquire_write_lock(sql)
            self._require_not_ended(local.conn)
            is_first, together = local.conn.is_beginning, local.conn.pending
            deadline = self._deadline() if is_first else 0.0
            while True:
                try:
                    return self._send(call, ROLLED_BACK)
                except BotMemoryError as error:
                    # with its first statement, the transaction may begin on another connection
                    if not (is_first and may_repeat(error)) or time.monotonic() >= deadline:
                        raise
                self._begin_on_other_connection(together, deadline)
        finally:
            local.is_executing = False

    def _begin_on_other_connection(self, together: list[Statement], deadline: float) -> None:
        local = self.local
        connection = self.acquire_connection(deadline)
        connection.deadline, connection.pending = float("inf"), together
        lost, local.conn = local.conn, connection
        for transaction in local.transactions[:1]:
            if isinstance(transaction, Atomic):
                transaction.connection = weakref.ref(connection)
        lost.pgconn.finish()

    def _autocommit(self, call: Callable[[], R], sql: str) -> R:
        """Run a statement that is a transaction of its own, and release its connection."""
        deadline = self._deadline()
        if only_selects(sql):
            return self._read(call, _nothing, deadline)
        self.refuse_self_deadlock()
        begin = partial(self._transaction_of, sql)
        return retry_on_conflict(lambda: self._run_once(call, begin, OUTCOME_UNKNOWN, deadline))

    def _read(self, call: Callable[[], R], begin: Begin, deadline: float) -> R:
        """Run what only reads, again if the connection was lost."""
        while True:
            try:
                return self._run_once(call, begin, "repeat the call", deadline)
            except BotMemoryError as error:
                if not may_repeat(error) or time.monotonic() >= deadline:
                    raise

    def _run_once(self, call: Callable[[], R], begin: Begin, outcome: str, deadline: float) -> R:
        """Run a transaction in one round trip, together with what begins it."""
        local, pool = self.local, self.pool
        in_manual_commit = bool(local.transactions) and isinstance(local.transactions[0], Manual)
        try:
            local.is_executing = True  # a signal handler must not use and release the connection
            if local.closed:
                local.conn = self.acquire_connection(deadline)
                local.closed = False
            local.conn.deadline = deadline
            local.conn.pending = begin(local.conn)
            return self._send(call, outcome)
        finally:
            # repeated wherever a connection is released: a function of our own could be interrupted
            # as it is entered
            local.is_executing = False
            if not local.transactions or in_manual_commit:
                connection, local.conn, local.closed = local.conn, None, True
                if connection is not None:
                    is_over = connection.pending or connection.is_retired or pool.is_closed
                    if connection.pgconn.transaction_status == IDLE and not is_over:
                        pool.idle.append(connection)
                    else:
                        connection.pgconn.finish()

    def _transaction_of(self, sql: str, connection: ServerConnection) -> list[Statement]:
        """Return what is sent with a statement that is a transaction of its own.

        All that is sent together is one transaction, without a BEGIN.
        """
        if not changes_rows(sql):
            return []
        statements = self._settings_of(connection)
        row_key = self.local.row_key
        if (uses_rows(sql) or row_key) and not self.config.read_only:
            keys = frozenset([row_key]) if row_key else self.local.changed_keys
            statements.append(self._lock_of(keys))
        return statements

    def _settings_of(self, connection: ServerConnection) -> list[Statement]:
        """Return what sets the settings of one transaction of a pooler."""
        if not connection.is_pooled:
            return []
        settings = self.transaction_settings(connection.info.server_version)
        if self.config.read_only:
            settings["transaction_read_only"] = "on"
        calls = ", ".join(["set_config(%s, %s, true)"] * len(settings))
        return [("SELECT " + calls, tuple(text for pair in settings.items() for text in pair))]

    def _send(self, call: Callable[[], R], outcome: str) -> R:
        """Run a statement together with those that wait for it: one round trip."""
        local, connection = self.local, self.local.conn
        is_sent = False
        try:
            result: R = self._translate_errors(partial(connection.send, call), outcome)
            is_sent = True
            return result
        finally:
            if not is_sent and local.transactions and not connection.has_begun_on_server:
                connection.pgconn.finish()  # what follows would be a transaction of its own

    def execute_later(self, sql: str) -> None:
        """Execute a statement of the open transaction, which returns nothing, with the next one."""
        self.local.conn.pending.append((sql, ()))

    def in_transaction(self) -> bool:
        # a signal handler that interrupts a statement is not part of the transaction
        return not self.local.is_inside_call() and super().in_transaction()

    def is_in_transaction(self) -> bool:
        # one that was lost inside manual_commit() is over when the program says so
        connection = self.local.conn
        return super().is_in_transaction() or (
            bool(self.local.transactions) and connection is not None and connection.is_lost
        )

    def open_connection(self) -> ServerConnection | None:
        connection: ServerConnection | None = self.local.conn
        return connection

    def has_begun(self) -> bool:
        connection = self.local.conn
        return connection is not None and connection.has_begun

    def _use_other_connection(self) -> dict[str, Any]:
        """Let a signal handler use another connection than the statement that it interrupts.

        Return the state of that statement; `self.local.__dict__.update(...)`, which is one call
        into C, restores it.
        """
        local = self.local
        names = ("conn", "closed", "transactions", "commit_callbacks", "has_write_lock")
        others = ("is_executing", "reads_own_keys", "changed_keys", "row_key")
        interrupted = {name: getattr(local, name) for name in (*names, *others)}
        local.conn, local.closed, local.transactions, local.is_executing = None, True, [], False
        local.reads_own_keys, local.changed_keys, local.row_key = False, None, None
        return interrupted

    # --- transactions -----------------------------------------------------------------------

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
            local.transactions.append(transaction)
            local.is_executing = True  # a signal handler must not use and release the connection
            self.begin(mode)
            # which one that only reads must not wait for
            local.has_write_lock = transaction.only_reads
            transaction.connection = weakref.ref(local.conn)
            transaction.is_open, transaction.is_changing = True, False
        finally:
            local.is_executing = False
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
            has_failed = connection.is_lost or connection.has_failed
            if roll_back or (transaction.only_reads and has_failed):
                self._roll_back()
            else:
                self._commit()
        finally:
            transaction.is_open, transaction.exit_reference = False, None
            del local.transactions[transaction.position :]
            callbacks, local.commit_callbacks = local.commit_callbacks, []
            local.conn, local.closed = None, True
            try:
                is_over = connection.pending or connection.is_retired or pool.is_closed
                if connection.pgconn.transaction_status == IDLE and not is_over:
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

    def begin(self, isolation_level: Any = None) -> None:
        """Begin a transaction: on the server together with its first statement."""
        if not self.local.transactions:
            self.refuse_begin("begin()")
        level = isolation_level_name(self, isolation_level) or self._level
        self.require_usable()
        connection = self.connection()
        connection.deadline = float("inf")  # each statement has its own
        connection.pending = [
            (f"BEGIN TRANSACTION ISOLATION LEVEL {level}", ()),
            *self._settings_of(connection),
        ]
        self.local.has_write_lock = False

    def commit(self) -> None:
        self._commit()
        if not self.local.transactions:
            self.close()

    def rollback(self) -> None:
        local = self.local
        if local.conn is None:  # nothing has begun
            return
        self._roll_back()
        if not local.transactions:
            self.close()
        elif local.conn.is_lost and isinstance(local.transactions[0], Manual):
            local.conn, local.closed = None, True

    def _commit(self) -> None:
        connection = self.local.conn
        if connection is not None and connection.is_beginning:
            connection.pending = []
            # unless a signal handler has done something in it meanwhile
            if not (connection.has_begun_on_server or connection.is_lost):
                return
        # a server that has ended the transaction meanwhile has rolled it back
        self._require_not_ended(connection)
        if connection is None or connection.is_lost_after_input() or connection.has_failed:
            is_lost = connection is not None and connection.is_lost
            reason = "the connection was lost" if is_lost else "an earlier statement failed"
            raise StorageError(
                f"{self.config.label}: {reason} inside this transaction, and all of it is rolled "
                "back; leave session_scope() when a call raises, and begin again"
            )
        self._send(partial(connection.execute, "COMMIT"), OUTCOME_UNKNOWN)

    def _require_not_ended(self, connection: ServerConnection | None) -> None:
        """Raise the error with which the server has ended the open transaction.

        A statement alone gets that error; one that is sent in a pipeline, only a lost connection.
        """
        if connection is not None and connection.has_begun_on_server and connection.has_input():
            self._translate_errors(partial(connection.execute, "SELECT 1"), ROLLED_BACK)

    def _roll_back(self) -> None:
        connection = self.local.conn
        connection.pending = []
        if self.unusable is None and connection.has_begun_on_server:
            self._translate_errors(connection.rollback, NOTHING_WRITTEN)

    def roll_back_savepoint(self, name: str) -> None:
        """Roll back to a savepoint, which is forgotten if the server does not know it yet."""
        connection = self.local.conn
        connection.rollbacks += 1
        pending, connection.pending = connection.pending, []
        for number, (sql, _) in enumerate(pending):
            if sql == f"SAVEPOINT {name}":
                connection.pending = pending[:number]
                self.local.has_write_lock = False  # what acquires it may be among them
                return
        self.execute_sql(f"ROLLBACK TO SAVEPOINT {name}")

    def acquire_write_lock(self, sql: str) -> None:
        """Have the write lock acquired before this statement, if it needs it."""
        local = self.local
        if self.config.read_only or not (uses_rows(sql) or local.row_key):
            return
        keys: Keys | None = getattr(local.transactions[0], "keys", None)
        row_key = None if keys is None else local.row_key
        pending, place = local.conn.pending, len(local.conn.pending)
        if local.has_write_lock:
            if row_key is not None:
                pending.append(self._lock_of(frozenset([row_key])))
            return
        # before savepoints that are not sent yet: rolled back, they would release it
        while place and pending[place - 1][0].startswith("SAVEPOINT"):
            place -= 1
        pending.insert(place, self._lock_of(keys, *([] if row_key is None else [row_key])))
        local.has_write_lock = True  # last: an interrupt must not leave it without the statement

    def _lock_of(self, keys: Keys | None, *later: Key) -> Statement:
        if keys is None:
            return ALL_KEYS
        return lock_of_keys(keys, round(self.lock_timeout * 1000), *later)

    has_key_locks = True

    def block_keys(self) -> Keys | None:
        # a signal handler that interrupts a statement is not part of the block
        return None if self.local.is_inside_call() else super().block_keys()

    def changing(self, key: Key | None, call: Callable[[], R]) -> R:
        """Call what has an UPDATE or DELETE wait for blocks with this key alone."""
        local = self.local
        if local.is_inside_call():
            interrupted = self._use_other_connection()
            try:
                return self.changing(key, call)
            finally:
                local.__dict__.update(interrupted)
        keys = None if key is None else frozenset([key])
        before, local.changed_keys = local.changed_keys, keys
        try:
            return self.reading_own_keys(call)
        finally:
            local.changed_keys = before

    def using_row(self, key: Key, call: Callable[[], R]) -> R:
        """Call what acquires the lock of one row, where it writes or is in a block with keys."""
        local = self.local
        if local.is_inside_call():
            interrupted = self._use_other_connection()
            try:
                return self.using_row(key, call)
            finally:
                local.__dict__.update(interrupted)
        before, local.row_key = local.row_key, key
        try:
            return self.reading_own_keys(call)
        finally:
            local.row_key = before

    def statement(self) -> AbstractContextManager[object]:
        in_block = self.in_transaction() and isinstance(self.local.transactions[0], Atomic)
        return self.atomic() if in_block else nullcontext()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from changing the schema; a statement may take any time then."""
        connection = self._open_connection(self._deadline())
        self.call_timeout = float("inf")
        try:
            try:
                with peewee_errors:
                    acquire_migration_lock(
                        connection,
                        self._settings_of(connection),
                        self.config.label,
                        self.config.busy_timeout,
                    )
            except peewee.DatabaseError as error:
                raise self.lost_or_translated(error, connection, "nothing was changed") from error
            yield
        finally:
            self.call_timeout = self.config.call_timeout
            try:
                self.roll_back_leftover()
            finally:
                connection.close()

    # --- errors -----------------------------------------------------------------------------

    def _translate_errors(self, call: Callable[[], R], outcome: str) -> R:
        """Call, and raise the botmemory error for an error of the server.

        `outcome` ends the message for a lost connection.
        """
        self.require_usable()
        local = self.local
        try:
            local.is_executing = True
            try:
                return call()
            except psycopg.Error:  # of what was sent together with the statement
                with peewee_errors:
                    raise
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
        if needs_other_connection(error):
            self.pool.retire()
            if not (is_stale_plan(error) or self.config.read_only):
                self._hosts.avoid_standbys()
        translated = self.translated(error)
        # the server says that it has ended the transaction, before it ends the connection
        if isinstance(translated, DatabaseBusyError):
            return translated
        if connection is not None and connection.is_lost:
            return StorageError(
                f"{self.config.label}: the connection was lost ({_first_line(error)}); {outcome}",
                connection_lost=True,
            )
        return translated or error

    def translated(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of the server's; None if there is none."""
        return translated_error(error, self.config, self.lock_timeout)

    # --- compiled queries -------------------------------------------------------------------

    def fetch_all(self, sql: str, params: Values, make: MakeObjects[R]) -> list[R]:
        return list(make(self.execute_sql(sql, params).fetchall()))

    def insert_row(self, sql: str, params: Values) -> int:
        return int(self.execute_sql(sql, params).rowcount)

    def insert_or_fetch(self, insert: Statement, select: Statement) -> list[tuple[Any, ...]] | None:
        if self.local.is_inside_call() or self.is_in_transaction():
            return None if self.insert_row(*insert) else self.execute_sql(*select).fetchall()
        self.refuse_self_deadlock()
        began, deadline = time.perf_counter(), self._deadline()
        inserted, found = retry_on_conflict(
            lambda: self._run_once(
                lambda: self.local.conn.execute_together([insert, select]),
                self._settings_of,
                OUTCOME_UNKNOWN,
                deadline,
            )
        )
        announce(self, [insert, select], began)
        return None if inserted.rowcount else found.fetchall()

    def fetch_with_marker(
        self, statements: Sequence[Statement]
    ) -> tuple[ChangeMarker | None, list[list[tuple[Any, ...]]]]:
        """Return a change marker and the rows of SELECTs, in one snapshot and one round trip."""
        if self.local.is_inside_call() or (self.server_version or 0) < FIRST_WITH_SNAPSHOTS:
            with self.read_snapshot():
                return None, [self.execute_sql(*each).fetchall() for each in statements]
        together, began = [MARKER, *statements], time.perf_counter()

        def fetch() -> list[Any]:
            return list(self.local.conn.execute_together(together))

        def fetch_and_commit() -> list[Any]:
            return [*fetch(), self.local.conn.execute("COMMIT")][:-1]

        if self.is_in_transaction():
            cursors = self._run_in_transaction(fetch, "SELECT")
        else:
            cursors = self._read(
                fetch_and_commit,
                lambda connection: [BEGIN_SNAPSHOT, *self._settings_of(connection)],
                self._deadline(),
            )
        announce(self, together, began)
        return _marker(cursors[0]), [cursor.fetchall() for cursor in cursors[1:]]

    def insert_autoincrement(self, sql: str, params: Values) -> int:
        return int(self.execute_sql(sql, params).fetchone()[0])

    null_in_sql = False  # COPY stores the default in a column that is not named
    has_exact_decimals = True

    def insert_rows(self, sql: str, rows: Iterable[Values], fields: Fields) -> int:
        table, schema = fields[0].model._meta.table_name, fields[0].model._meta.schema
        copy_in = psycopg.sql.SQL("COPY {} ({}) FROM STDIN").format(
            psycopg.sql.Identifier(*filter(None, (schema, table))),
            psycopg.sql.SQL(", ").join(psycopg.sql.Identifier(f.column_name) for f in fields),
        )

        def copy_rows() -> int:
            with self.connection().cursor() as cursor:
                with cursor.copy(copy_in) as copy:
                    for row in rows:
                        copy.write_row(row)
                return int(cursor.rowcount)

        if self.local.conn.pending:  # COPY is not sent together with anything
            self._run_in_transaction(lambda: None, "")
        return self._run_in_transaction(copy_rows, "COPY")

    def stage(self, table: str) -> None:
        return None

    # --- queries whose rows are read some at a time -----------------------------------------

    streams = True

    def stream(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        """Yield the rows of a query through a cursor on the server, some at a time.

        Outside a transaction they are read in one of their own, on another connection, without a
        lock: in one snapshot.
        """
        if self.is_in_transaction():
            yield from self._stream_in_transaction(query)
            return
        with self._rows_in_snapshot(*query.sql()) as rows:
            yield from rows_of(query, rows)

    @contextmanager
    def read_sql(self, sql: str) -> Iterator[tuple[list[str], Iterator[Values]]]:
        try:
            # a cursor is declared for one SELECT that changes nothing, and not for several
            with self._rows_in_snapshot(sql.rstrip().rstrip(";"), None) as rows:
                yield [column.name for column in rows.description], iter(rows.fetchone, None)
        except (peewee.PeeweeException, StorageError, DatabaseBusyError) as error:
            code = sqlstate(error.__cause__ or error)
            if isinstance(error, BotMemoryError) and code not in REFUSED_SQL:
                raise
            problem = REFUSED_SQL.get(code) or str(error).partition("\n")[0]
            if code == SYNTAX_ERROR:
                problem += "; only one SELECT is run"
            raise ValidationError(f"sql: {problem}", field="sql") from error

    @contextmanager
    def _rows_in_snapshot(self, sql: str, params: Values | None) -> Iterator[RowsOnServer]:
        """Return a block with the rows of a query, in a transaction that only reads.

        Without `params` the text is a person's: it is sent in a way that allows one statement only,
        and not together with others, of whose failure psycopg would warn.
        """
        pool, connection = self.pool, None
        try:
            connection = self.acquire_connection(self._deadline())
            connection.deadline = float("inf")
            with self._translated_errors(connection):
                connection.pending = [BEGIN_SNAPSHOT, *self._settings_of(connection)]
                if params is None:
                    connection.send(lambda: None)
                yield RowsOnServer(connection, sql, params)
                connection.rollback()
        finally:
            if connection is not None:
                # a connection with an open cursor must not return to the pool
                is_over = connection.pending or connection.is_retired or pool.is_closed
                if connection.pgconn.transaction_status == IDLE and not is_over:
                    pool.idle.append(connection)
                else:
                    connection.pgconn.finish()

    def _stream_in_transaction(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        """Yield rows while the open transaction lasts; then its connection is used by others."""
        transaction = self.top_transaction()
        rows = self._run_in_transaction(
            lambda: RowsOnServer(self.local.conn, *query.sql()), "DECLARE"
        )
        try:
            with self._translated_errors(self.local.conn):
                for row in rows_of(query, rows):
                    yield row
                    if self.top_transaction() is not transaction:
                        raise StorageError(
                            f"{self.config.label}: the transaction of this iterate() is over; "
                            "finish it inside session_scope(), or call it outside"
                        )
        finally:
            if self.top_transaction() is transaction:
                rows.close()

    @contextmanager
    def _translated_errors(self, connection: ServerConnection) -> Iterator[None]:
        try:
            with peewee_errors:
                yield
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            raise self.lost_or_translated(error, connection, "read it again") from error

    # --- SQL and errors of the engine ---------------------------------------------------------

    json_text = staticmethod(dialect.json_text)
    json_match = staticmethod(dialect.json_match)
    compares_json = True
    hour_of = staticmethod(dialect.hour_of)

    # --- ids --------------------------------------------------------------------------------

    def last_id(self, model: type[peewee.Model]) -> int:
        key: Any = model._meta.primary_key
        if not isinstance(key, peewee.AutoField):
            return 0
        last_value = fn.PG_SEQUENCE_LAST_VALUE(_sequence_of(key).cast("regclass"))
        highest = fn.GREATEST(last_value, model.select(fn.MAX(key)), 0)
        return int(peewee.Select(columns=[highest]).bind(self).scalar())

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        last = max(least, self.reading_own_keys(partial(self.last_id, model)))
        if last:
            sequence = _sequence_of(model._meta.primary_key)
            # never back: the id of a deleted row is not used again
            is_behind = fn.COALESCE(fn.PG_SEQUENCE_LAST_VALUE(sequence.cast("regclass")), 0) < last
            query = peewee.Select(columns=[fn.SETVAL(sequence, last)]).where(is_behind)
            self.reading_own_keys(query.bind(self).execute)

    # --- changes ----------------------------------------------------------------------------

    row_number: peewee.SQL | None = None

    def change_marker(self) -> ChangeMarker | None:
        if (self.server_version or 0) < FIRST_WITH_SNAPSHOTS:
            return None
        return _marker(self.reading_own_keys(partial(self.execute_sql, *MARKER)))

    # --- schema -----------------------------------------------------------------------------

    check_options: tuple[str, ...] = ("constraints",)
    index_options: tuple[str, ...] = ("server_indexes",)

    read_checks = catalog.read_checks
    references = catalog.references
    is_partitioned = catalog.is_partitioned
    can_make_scratch = catalog.can_make_scratch
    temporary_schema = catalog.temporary_schema
    size = catalog.size
    schema_findings = online.schema_findings

    @contextmanager
    def scratch(self, *, with_tables: bool) -> Iterator[Backend]:
        with self.atomic() as transaction:
            try:
                self.local.has_write_lock = True  # which nothing here needs
                if with_tables:
                    online.copy_tables(self)
                yield cast("Backend", self)
            finally:
                transaction.rollback()

    def orphans(self) -> list[tuple[str, str]]:
        return []

    def migrator(self) -> Migrator:
        return online.OnlineMigrator(self)

    def back_up(self, number: str) -> None:
        pass  # a server is backed up by its own tools

    # --- health -----------------------------------------------------------------------------

    file = None

    def damage(self, check: str = "quick_check") -> list[str]:
        return []

    def findings(self) -> Iterator[Finding]:
        cursor = self.execute_sql("SELECT current_setting('synchronous_commit')")
        if self.config.synchronous == "full" and cursor.fetchone()[0] == "off":
            yield Finding(
                "error",
                "a crash of the server may lose the last transactions: synchronous_commit is off, "
                "although synchronous is 'full'",
                "turn it on for the server, the database or the role: ALTER DATABASE ... SET "
                "synchronous_commit = on",
            )
        if cursor.connection.is_pooled:
            yield Finding(
                "info",
                "the connection leads through a pooler, which may give each transaction another "
                "session of the server",
                "nothing is kept in a session; let no other program change its settings with SET",
            )

    def snapshot(self) -> NoReturn:
        raise ConfigError(
            f"{self.config.label}: a server is copied by its own tool, such as pg_dump; see "
            "docs/postgresql.md"
        )


def _nothing(_connection: ServerConnection) -> list[Statement]:
    return []


def _marker(cursor: Any) -> ChangeMarker | None:
    """Return the change marker that `MARKER` has read; None if it does not show all changes."""
    *version, is_complete = cursor.fetchone()
    connection = cursor.connection
    # not with changes of its own; a standby does not list all that is in progress, and behind a
    # pooler the next answer may come from another server
    is_complete = is_complete and not connection.is_pooled
    return ChangeMarker(tuple(version), True, connection.cache) if is_complete else None


def _sequence_of(key: Any) -> Any:
    """Return the name of the sequence of a key."""
    return fn.PG_GET_SERIAL_SEQUENCE(key.model._meta.table_name, key.column_name)


def _first_line(error: BaseException) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]
