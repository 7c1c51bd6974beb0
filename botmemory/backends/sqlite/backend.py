"""The SQLite backend: connections, transactions and statements on one file."""

from __future__ import annotations

import dataclasses
import logging
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import peewee

from ..._paths import is_same_file
from ...config import MEMORY, Config
from ...errors import BotMemoryError, DatabaseBusyError, StorageError, ValidationError
from ..change_marker import ChangeMarker
from ..finding import Finding
from ..fork import fork_gate, open_backends
from ..living import LivingObjects
from ..peewee_internals import peewee_errors, prepare_connection
from ..reference import Reference
from ..retry import busy_error
from ..statements import begins_transaction, only_selects
from ..transactions import Atomic, TransactionState
from . import dialect, file_state, health, select
from .connection import Connection, State, open_raw, open_read_only
from .cursor import ReadingCursor
from .errors import (
    NOTHING_WRITTEN,
    OUTCOME_UNKNOWN,
    RESTORE,
    is_damage,
    is_outdated_read,
    result_code,
    translate_errors,
    translated_error,
    unreadable_error,
)
from .file_system import other_names
from .lock import FileLock
from .stage import Stage, open_stage

if TYPE_CHECKING:
    from ..base import Backend, Fields, MakeObjects, Migrator, Statement, Values

MINIMUM_SQLITE = (3, 38, 0)  # the first one whose JSON operators Peewee can use
# on macOS, fsync leaves what it writes in the cache of the disk, which a power cut empties
FULL_SYNC = {"fullfsync": 1, "checkpoint_fullfsync": 1} if sys.platform == "darwin" else {}
MAX_WAL_SIZE = 16 * 1024 * 1024  # bytes of the -wal file that stay after a checkpoint
MAX_SIZE_CHECKED_AT_OPEN = 64 * 1024 * 1024  # bytes; upkeep.check checks a larger file
# statements that need no write lock, beside those that select rows
WITHOUT_LOCK = ("PRAGMA", "EXPLAIN", "RELEASE", "ROLLBACK")

R = TypeVar("R")
Row = TypeVar("Row", bound=peewee.Model)

# in a child process: the connections of its parent, which must never be closed here
_inherited: list[Connection] = []
_unusable_after_fork: dict[str, str] = {}  # path -> reason
_logger = logging.getLogger("peewee")  # logs each statement at level DEBUG
_warnings = logging.getLogger("botmemory")


class SqliteBackend(TransactionState, peewee.SqliteDatabase):  # type: ignore[misc]
    """One SQLite file, or `:memory:`, opened as `config` says; each thread has a connection.

    Writers of all processes queue for a lock file beside the database, because SQLite's own waiting
    is not fair and starves some of them. This write lock is the only lock: reading, connecting and
    closing acquire none, so no lock order has to be kept.
    """

    field_types = peewee.SqliteDatabase.field_types | {"TIMESTAMPTZ": "TEXT"}

    if TYPE_CHECKING:

        def execute_sql(self, sql: str, params: Any = None) -> Any: ...

    def __init__(self, config: Config) -> None:
        self.config = config
        self.busy_timeout = config.busy_timeout
        self.unusable: str | None = None  # the reason
        self.at_close: list[Callable[[], object]] = []
        self.lock_problem: str | None = None  # the reason why writers do not queue
        self._memory_thread: int | None = None  # that opened `:memory:`
        self._history: set[tuple[str, str]] = set()
        self.connections: LivingObjects[Connection] = LivingObjects()
        super().__init__(
            State(),
            config.sqlite_path,
            pragmas={
                "foreign_keys": 1,
                "synchronous": config.synchronous,
                "journal_size_limit": MAX_WAL_SIZE,
                **FULL_SYNC,
            },
            timeout=config.busy_timeout,
            # a transaction that reads first and writes later must not fail because of another one
            lock_type=None if config.read_only else "IMMEDIATE",
        )
        self.file = None if config.in_memory else Path(self.database)
        self._locks = not (config.in_memory or config.read_only)
        open_backends.add(self)

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> None:
        """Create the file if it may be created, connect, and verify that it is not damaged."""
        if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
            raise StorageError(
                f"this Python comes with SQLite {sqlite3.sqlite_version}; "
                "botmemory needs 3.38 or newer: use a newer Python"
            )
        reasons = _unusable_after_fork.items()
        found = (reason for path, reason in reasons if is_same_file(path, self.database))
        self.unusable = next(found, None)
        self.require_usable()
        if self.file is None:
            self.connect()
            return
        with translate_errors(self.file, "cannot be opened"):
            file_state.prepare_file(self.file, self.config.read_only)
            for name in other_names(self.file):
                _warnings.warning(
                    "%s %s: a program that opens it by another name does not see what this one "
                    "records, and both may damage it; botmemory.upkeep.check.check() says more",
                    self.database,
                    name,
                )
            opened = file_state.identity_of(self.file)
            self.connect()
            try:
                self._verify(self.file, opened)
            except BaseException:
                self.close()
                raise

    def _verify(self, path: Path, opened: tuple[int, int]) -> None:
        if not self.config.read_only and self.pragma("journal_mode") != "wal":
            with self.exclusive():
                # by a restore: the -wal of the file that was opened would be applied to the copy
                if file_state.identity_of(path) != opened:
                    raise StorageError(
                        f"{path}: was replaced while it was opened; call init_db() again"
                    )
                mode = self.pragma("journal_mode", "wal")
            if mode != "wal":
                raise StorageError(
                    f"{path}: SQLite uses its '{mode}' journal here instead of WAL; "
                    "keep the file on a local disk"
                )
        if path.stat().st_size <= MAX_SIZE_CHECKED_AT_OPEN and (problems := self.damage()):
            raise StorageError(f"{path}: the file is damaged ({problems[0]}); {RESTORE}")
        self._remember_files()

    def connect(self, reuse_if_open: bool = False) -> bool:
        local = self.local
        if not local.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        with translate_errors(self.database, "cannot be opened"):
            connection = self._retry_while_busy(self._open_connection, self.busy_timeout)
        # in one statement: a signal handler that connects too must not mix two connections
        local.connection, local.conn, local.closed = connection, connection.raw, False
        return True

    def _open_connection(self) -> Connection:
        prepare = partial(prepare_connection, self)
        with peewee_errors:
            if self.file is None:
                self._claim_memory()
                connection = Connection(open_raw(MEMORY, prepare))
            elif self.config.read_only:
                connection = open_read_only(self.database, prepare)
            else:
                # never "create": a file that was deleted must not come back empty
                uri = file_state.uri_of(self.database, "rw")
                connection = Connection(open_raw(uri, prepare), self.database)
        if self._locks:
            connection.files = file_state.files_of(self.database)
        self.connections.add(connection)
        return connection

    def close(self) -> bool:
        """Close this thread's connection and return whether there was one."""
        local = self.local
        self.require_no_transaction()
        connection, was_open = local.connection, not local.closed
        # removed before it is closed: an interrupt must not leave a closed connection in use
        local.reset()
        if connection is not None:
            connection.close()
        return was_open

    def _claim_memory(self) -> None:
        here = threading.get_ident()
        if self._memory_thread is None:
            self._memory_thread = here
        elif self._memory_thread == here:
            raise StorageError(
                "the ':memory:' database was closed and its rows are gone; "
                "call close_db() and init_db(':memory:') for a new one"
            )
        else:
            raise StorageError(
                "a ':memory:' database belongs to the thread that opened it; "
                "use a file when several threads share one database"
            )

    close_at_exit = TransactionState.release

    @contextmanager
    def used_by_worker(self) -> Iterator[None]:
        """Use this thread's connection for one call; a fork between two calls closes it."""
        local = self.local
        with fork_gate:
            if local.connection is not None:
                local.connection.is_idle = False
                if local.connection.closed:
                    local.reset()
        try:
            yield
        finally:
            with fork_gate:
                if local.connection is not None and not local.transactions:
                    local.connection.is_idle = True

    def has_open_transaction(self) -> bool:
        """Return whether any thread of this process has a transaction open."""
        return any(connection.raw.in_transaction for connection in self._open_connections())

    def _open_connections(self) -> Iterator[Connection]:
        return (connection for connection in self.connections.all() if not connection.closed)

    # --- when the process forks or ends -----------------------------------------------------

    def before_fork(self) -> None:
        self.release()
        for connection in self._open_connections():
            if connection.is_idle:
                connection.close()
        if self.file is not None:
            # a leaked one too: SQLite goes on to keep account of its locks
            _inherited.extend(
                each for each in self.connections.all() if each.is_leaked or not each.closed
            )

    def after_fork_in_parent(self) -> None:
        _inherited.clear()

    def after_fork_in_child(self) -> None:
        local = self.local
        self.forget_transactions()
        if local.connection is not None:
            local.connection.lock.close()
        if self.file is not None:
            local.connection, local.conn, local.closed = None, None, True
        known = self.connections.all()
        if any(connection in known for connection in _inherited):
            self.unusable = _unusable_after_fork[self.database] = (
                f"{self.database}: this process was forked while a transaction was open or another "
                "thread had the database open, and cannot use it; fork before init_db(), or start "
                "processes with multiprocessing's 'spawn' method"
            )

    # --- statements and transactions --------------------------------------------------------

    def cursor(self, named_cursor: Any = None, *, reads_all: bool = False) -> Any:
        cursor = super().cursor()
        return ReadingCursor(cursor, self.local.connection) if reads_all else cursor

    def run_statement(self, run: Callable[..., Any], sql: str, options: dict[str, Any]) -> Any:
        local = self.local
        if local.transactions:
            self.require_own_keys(sql)
        selects = only_selects(sql)
        if not selects:
            run = partial(run, reads_all=True)
            if not sql.startswith(("PRAGMA", "EXPLAIN")):
                self._require_no_statement(local.connection)
        if (local.transactions or local.rolled_back) and self.is_in_transaction():
            if local.conn.in_transaction:
                return self._translate_errors(run)
            if sql.startswith("ROLLBACK"):
                return local.conn.cursor()  # SQLite has rolled back all of it by itself
            raise self._rolled_back()
        if not selects and begins_transaction(sql) and not self.has_begun():
            self.refuse_begin(sql)
        if selects or sql.startswith(WITHOUT_LOCK):
            self._reopen_if_changed()
            return self._retry_while_busy(run, self.busy_timeout)
        return self._autocommit(
            self._thread_connection(), lambda left: self._retry_while_busy(run, left)
        )

    def _autocommit(self, connection: Connection, write: Callable[[float], R]) -> R:
        """Run a statement that is a transaction of its own, with the write lock.

        `write` gets the seconds of `busy_timeout` that are left.
        """
        had_write_lock = connection.has_write_lock
        try:
            left = self._acquire_write_lock(connection)
            self._require_same_files(connection, NOTHING_WRITTEN)
            return write(left)
        finally:
            if not had_write_lock:
                connection.has_write_lock = False
                connection.lock.release()

    def open_connection(self) -> Connection | None:
        connection = self.local.connection
        return None if connection is None or connection.closed else connection

    def has_begun(self) -> bool:
        conn = self.local.conn
        return conn is not None and bool(conn.in_transaction)

    def enter_transaction(self, transaction: Atomic, mode: str | None) -> None:
        """Acquire the write lock and begin; undo both if that fails or is interrupted."""
        connection, transactions = self._thread_connection(), self.local.transactions
        self._require_not_begun(connection)
        transaction.connection = weakref.ref(connection)
        position = transaction.position = len(transactions)
        had_write_lock = transaction.had_write_lock = connection.has_write_lock
        transaction.is_changing = True
        try:
            transactions.append(transaction)
            if transaction.only_reads:
                begin = partial(super().begin, mode)
                connection.note_changes()
                self._retry_while_busy(begin, self.busy_timeout)
            else:
                self._begin(connection, mode)
            transaction.is_open, transaction.is_changing = True, False
        finally:
            if not transaction.is_open:
                try:
                    if not connection.closed:
                        connection.raw.rollback()
                finally:
                    transaction.is_changing = False
                    del transactions[position:]
                    if not had_write_lock:
                        connection.has_write_lock = False
                        connection.lock.release()

    def leave_transaction(self, transaction: Atomic, *, roll_back: bool) -> None:
        """Commit or roll back, and release the write lock whatever happens."""
        connection, local = transaction.connection(), self.local
        if connection is None:  # its thread has ended, and SQLite has rolled back
            transaction.is_open = False
            if not roll_back:
                raise self._rolled_back()
            return
        is_of_this_thread, position = connection is local.connection, transaction.position
        try:
            try:
                transaction.is_changing = True
                if not roll_back:
                    self._commit(connection)
            finally:
                connection.raw.rollback()  # does nothing after a commit
        except sqlite3.Error as error:
            raise self.translated(error) or error from error
        finally:
            transaction.is_open, transaction.is_changing = False, False
            transaction.exit_reference = None
            if is_of_this_thread:
                del local.transactions[position:]
            if not transaction.had_write_lock:
                connection.has_write_lock = False
                connection.lock.release()
        if roll_back:
            local.commit_callbacks = []
        else:
            if not transaction.only_reads:
                self._require_same_files(connection, OUTCOME_UNKNOWN)
            self.run_commit_callbacks()

    def begin(self, lock_type: str | None = None) -> None:
        if not self.local.transactions:
            self.refuse_begin("begin()")
        connection, begun = self._thread_connection(), False
        self._require_not_begun(connection)
        had_write_lock = connection.has_write_lock
        try:
            self._begin(connection, lock_type)
            begun = True
        finally:
            if not begun:
                try:
                    if not connection.closed:
                        connection.raw.rollback()
                finally:
                    if not had_write_lock:
                        connection.has_write_lock = False
                        connection.lock.release()

    def _begin(self, connection: Connection, lock_type: str | None) -> None:
        """Acquire the write lock and begin; if it raises, the caller undoes both."""
        left = self._acquire_write_lock(connection)
        self._require_same_files(connection, NOTHING_WRITTEN)
        connection.note_changes()  # before BEGIN, as a signal handler may record right after it
        self._retry_while_busy(lambda: super(SqliteBackend, self).begin(lock_type), left)

    def _require_not_begun(self, connection: Connection) -> None:
        self._require_no_statement(connection)
        if not connection.closed and connection.raw.in_transaction:
            raise DatabaseBusyError(
                f"{self.config.label}: this thread has begun a transaction, and cannot begin "
                "another one inside it: in a signal handler, record in one call; or commit what "
                "the program has begun in SQL"
            )

    def _require_no_statement(self, connection: Connection | None) -> None:
        """Refuse to write while a function in Python that a statement calls is interrupted."""
        if connection is not None and connection.is_executing:
            raise DatabaseBusyError(
                f"{self.config.label}: a statement of this thread that writes is running, and what "
                "a function that it calls or a signal handler writes would be part of it; repeat "
                "the call later"
            )

    def commit(self) -> None:
        connection = self._thread_connection()
        try:
            self._commit(connection)
        finally:
            if not (connection.keeps_write_lock or connection.raw.in_transaction):
                connection.has_write_lock = False
                connection.lock.release()
        self._require_same_files(connection, OUTCOME_UNKNOWN)

    def rollback(self) -> None:
        connection = self._thread_connection()
        try:
            # SQLite rolls back by itself when the disk is full; a second one would hide the cause
            if connection.raw.in_transaction:
                self._translate_errors(super().rollback)
        finally:
            if not connection.keeps_write_lock:
                connection.has_write_lock = False
                connection.lock.release()

    snapshot_mode = "DEFERRED"  # without the write lock

    def read_snapshot(self) -> AbstractContextManager[object]:
        if self.file is None:
            return nullcontext()  # one thread alone uses it
        self._reopen_if_changed()
        connection = self.local.connection
        if connection is not None and connection.raw.in_transaction:
            return nullcontext()  # one that the program, or what a signal interrupts, has begun
        return super().read_snapshot()

    def statement(self) -> AbstractContextManager[object]:
        return nullcontext()  # SQLite itself undoes a statement that fails

    def _commit(self, connection: Connection) -> None:
        if not connection.raw.in_transaction:
            raise self._rolled_back()
        self._translate_errors(super().commit)

    def _rolled_back(self) -> StorageError:
        return StorageError(
            f"{self.database}: SQLite has rolled back the transaction after an earlier error; "
            "leave session_scope() and begin again"
        )

    def _retry_while_busy(self, call: Callable[[], R], seconds: float) -> R:
        """Repeat a call for up to `seconds` while another connection has the database locked."""
        deadline = 0.0
        while True:
            try:
                return self._translate_errors(call)
            except DatabaseBusyError as error:
                now = time.monotonic()
                deadline = deadline or now + seconds
                if now >= deadline or is_outdated_read(error.__cause__ or error):
                    raise
                time.sleep(min(0.005, deadline - now))

    def _translate_errors(self, call: Callable[[], R]) -> R:
        """Call, and raise an error of SQLite as the botmemory error for it."""
        self.require_usable()
        try:
            return call()
        except (peewee.DatabaseError, sqlite3.DatabaseError) as error:
            translated = self.translated(error)
            if translated is None:
                raise
            try:
                raise translated from error
            finally:
                del translated  # its traceback refers to this frame: neither would be freed
        except OverflowError as error:
            raise ValidationError(
                f"{self.database}: a whole number of this query has more than 64 bits; no column "
                "holds it"
            ) from error

    @contextmanager
    def read_sql(self, sql: str) -> Iterator[tuple[list[str], Iterator[Values]]]:
        raw = self._thread_connection().raw
        raised: list[BaseException] = []

        def execute() -> sqlite3.Cursor:
            with self._errors_of_sql(raised):
                return select.execute(raw, sql, raised)

        cursor = self._retry_while_busy(execute, self.busy_timeout)
        rows = self._rows_of_sql(cursor, raised)
        try:
            if cursor.description is None:
                raise ValidationError("sql: there is no SELECT in it", field="sql")
            yield [column[0] for column in cursor.description], rows
        finally:
            rows.close()
            cursor.close()
            raw.set_progress_handler(None, 0)

    def _rows_of_sql(
        self, cursor: sqlite3.Cursor, raised: list[BaseException]
    ) -> Generator[Values, None, None]:
        with self._errors_of_sql(raised):
            yield from cursor

    @contextmanager
    def _errors_of_sql(self, raised: list[BaseException]) -> Iterator[None]:
        """Raise `ValidationError` for an error in the SQL itself, or what a signal handler did."""
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning) as error:
            if raised:
                raise raised[0] from None
            code, problem = result_code(error), str(error)
            if code == sqlite3.SQLITE_AUTH:
                problem = "it would write, or change a setting; only a SELECT is run"
            elif code not in (sqlite3.SQLITE_OK, sqlite3.SQLITE_ERROR):
                translated = self.translated(error)
                if translated is not None:
                    raise translated from error
            raise ValidationError(f"sql: {problem}", field="sql") from error

    def translated(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of SQLite's; None if there is none."""
        translated = translated_error(error, self.database, self.busy_timeout)
        connection = self.local.connection
        is_read_only = result_code(error) == sqlite3.SQLITE_READONLY
        if is_read_only and connection is not None and os.access(self.database, os.W_OK):
            # SQLite opens a file read-only if it could not open it for writing at that time
            connection.must_reopen = True
        if is_damage(error):
            if self.file is not None and not file_state.is_damaged(self.database):
                return unreadable_error(error, self.database)
            self.unusable = str(translated)  # a damaged file gets no more writes
        return translated

    # --- the write lock ---------------------------------------------------------------------

    def _thread_connection(self) -> Connection:
        """Return this thread's connection; connect if there is none."""
        local = self.local
        if local.connection is not None and local.connection.must_reopen and not local.transactions:
            self.close()
        self.connection()
        return cast(Connection, local.connection)

    def _acquire_write_lock(self, connection: Connection) -> float:
        """Acquire the write lock, if it is not held, and return the rest of `busy_timeout`.

        The caller releases it by `connection.lock.release()` in a `finally` around this call, also
        when this call is interrupted: releasing a lock that is not held does nothing.
        `has_write_lock` is set first: a signal handler that records during the wait must not wait
        for the lock of its own thread.
        """
        if connection.has_write_lock:
            return self.busy_timeout
        connection.has_write_lock = True
        self.require_usable()
        if connection.closed:
            raise DatabaseBusyError(
                f"{self.config.label}: a signal handler has closed the connection of this call; "
                f"{NOTHING_WRITTEN}: repeat it"
            )
        if not self._locks:
            return self.busy_timeout
        self.refuse_self_deadlock()
        lock = connection.lock
        try:
            acquired = lock.acquire(self.busy_timeout)
        except OSError as error:
            raise StorageError(
                f"{self.database}-lock: cannot be opened or locked: {error.strerror}; check the "
                "folder, its permissions and the limit on open files"
            ) from error
        if lock.problem is not None and self.lock_problem is None:
            self.lock_problem = lock.problem
            _warnings.warning(
                "%s; writers of other processes do not queue, and some may fail with 'busy': let "
                "this user read and write it",
                lock.problem,
            )
        if not acquired:
            raise busy_error(self.database, self.busy_timeout)
        return self.busy_timeout - lock.waited

    def find_lock_problem(self) -> str | None:
        """Return why writers of several processes do not queue; None if they do."""
        if self._locks and self.lock_problem is None:
            lock = FileLock(self.database + "-lock", like=self.database)
            lock.open()
            self.lock_problem = lock.problem
            lock.close()
        return self.lock_problem

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep every other writer out while the schema is changed."""
        connection = self._thread_connection()
        if connection.has_write_lock:
            yield
            return
        try:
            self._acquire_write_lock(connection)
            connection.keeps_write_lock = True
            yield
            self._remember_files()
        finally:
            try:
                self.roll_back_leftover()
            finally:
                connection.keeps_write_lock = connection.has_write_lock = False
                connection.lock.release()

    # --- replaced or truncated files ----------------------------------------------------------

    def _remember_files(self) -> None:
        """Remember which file is open, to notice when it is replaced or overwritten."""
        connection = self.local.connection
        if connection is not None and self._locks:
            connection.files = file_state.files_of(self.database)
            read_history = partial(file_state.history_of, connection.raw)
            self._history = self._retry_while_busy(read_history, self.busy_timeout)

    def _require_same_files(self, connection: Connection, outcome: str) -> None:
        """Raise `StorageError` if the file was deleted, replaced or overwritten.

        It is called before a write, and after a transaction, which may have taken long, before the
        commit is acknowledged. It is not called after a single statement, which is short.
        """
        if not self._locks:
            return
        try:
            files = file_state.files_of(self.database)
        except StorageError as error:
            raise StorageError(f"{error}; {outcome}") from error
        if files == connection.files or connection.closed:  # a signal handler may have closed it
            return
        loss = file_state.describe_loss(self.database, self._history, connection.files, files)
        if loss is None:
            connection.files = files
        else:
            connection.leak_on_purpose()
            remedy = "look for the file, put it back, then close_db() and init_db()"
            self.unusable = f"{self.database}: {loss}; {NOTHING_WRITTEN}: {remedy}"
            raise StorageError(f"{self.database}: {loss}; {outcome}: {remedy}")

    # --- compiled queries -------------------------------------------------------------------

    null_in_sql = True
    has_exact_decimals = False  # a fraction is stored as a double

    def fetch_all(self, sql: str, params: Values, make: MakeObjects[R]) -> list[R]:
        local = self.local
        if local.closed:
            self.connection()
        if local.transactions:
            self.require_own_keys(sql)
        connection = local.connection  # once: a signal handler may close it
        if (
            connection is not None
            and not (self.unusable or connection.immutable_content or self._is_observed())
            and (
                not (local.transactions or local.rolled_back)
                or (self.is_in_transaction() and connection.raw.in_transaction)
            )
        ):
            try:
                return list(make(connection.raw.execute(sql, params).fetchall()))
            except sqlite3.Error:
                pass  # below it is run again, with waiting and with translated errors

        def fetch() -> list[R]:
            while True:
                with peewee_errors:
                    rows = list(make(self.execute_sql(sql, params).fetchall()))
                if not self._reopen_if_changed():
                    return rows

        return self._translate_errors(fetch)

    def _reopen_if_changed(self) -> bool:
        """Connect again if a file that is open as immutable was written; return whether it was."""
        connection = self.local.connection
        if connection is None or not connection.immutable_content or self.local.transactions:
            return False
        if connection.immutable_content == file_state.content_of(self.database):
            return False
        self.close()
        self.connection()
        return True

    def insert_row(self, sql: str, params: Values) -> int:
        return int(self._insert_one(sql, params).rowcount)

    def fetch_with_marker(
        self, statements: Sequence[Statement]
    ) -> tuple[ChangeMarker | None, list[list[tuple[Any, ...]]]]:
        raise NotImplementedError  # there are row numbers

    def insert_or_fetch(self, insert: Statement, select: Statement) -> list[tuple[Any, ...]] | None:
        return None if self.insert_row(*insert) else self.fetch_all(*select, list)

    def insert_autoincrement(self, sql: str, params: Values) -> int:
        return int(self._insert_one(sql, params).lastrowid)

    def _insert_one(self, sql: str, params: Values) -> Any:
        local = self.local
        connection = local.connection  # once: a signal handler may close it
        if connection is None or connection.must_reopen or self._is_observed():
            return self.execute_sql(sql, params)
        self._require_no_statement(connection)

        def insert(_: float) -> Any:
            try:
                cursor = connection.raw.execute(sql, params)
                connection.rows_inserted += cursor.rowcount
                return cursor
            except sqlite3.Error:
                if connection.closed:  # by a signal handler: another one needs the lock
                    connection.lock.close()
                return self.execute_sql(sql, params)  # fails again, with a translated error

        if not ((local.transactions or local.rolled_back) and self.is_in_transaction()):
            return self._autocommit(connection, insert)
        self.require_usable()
        if not connection.raw.in_transaction:
            raise self._rolled_back()
        return insert(0)

    def insert_rows(self, sql: str, rows: Iterable[Values], fields: Fields) -> int:
        def insert() -> int:
            connection = self.local.connection
            with peewee_errors:
                count = int(connection.raw.executemany(sql, rows).rowcount)
            connection.rows_inserted += count
            return count

        self.in_transaction()
        return self._translate_errors(insert)

    def stage(self, table: str) -> Stage | None:
        return open_stage(self, table) if self._locks else None

    def _is_observed(self) -> bool:
        """Return whether a hook or the log must be given each statement."""
        return bool(self.query_hooks) or _logger.isEnabledFor(logging.DEBUG)

    # --- SQL and errors of the engine -------------------------------------------------------

    json_match = staticmethod(dialect.json_match)
    compares_json = False
    hour_of = staticmethod(dialect.hour_of)

    def json_text(self, text: str) -> str:
        return text

    # --- ids --------------------------------------------------------------------------------

    def last_id(self, model: type[peewee.Model]) -> int:
        sql = "SELECT seq FROM sqlite_sequence WHERE name = ?"
        row = self.execute_sql(sql, (model._meta.table_name,)).fetchone()
        return row[0] if row else 0

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        self.reading_own_keys(partial(self._advance_sequence, model, least))

    def _advance_sequence(self, model: type[peewee.Model], least: int) -> None:
        # SQLite itself goes on after the highest id in the table
        highest = peewee.fn.MAX(model._meta.primary_key)
        if least > self.last_id(model) and least > (model.select(highest).scalar() or 0):
            table = model._meta.table_name
            self.execute_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            insert = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"
            self.execute_sql(insert, (table, least))

    # --- changes ----------------------------------------------------------------------------

    def change_marker(self) -> ChangeMarker | None:
        local = self.local
        connection = local.connection
        if connection is None or connection.immutable_content or local.rolled_back:
            return None
        raw = connection.raw
        if connection.has_write_lock and not raw.in_transaction:
            return None  # in a signal handler, which has interrupted a write before it was counted
        # in one statement, because a signal handler may record before the next one
        changes, not_inserted = raw.total_changes, raw.total_changes - connection.rows_inserted
        try:
            schema_version = connection.pragma("schema_version")  # a new one after VACUUM, too
            by_others = connection.pragma("data_version")
            # a temporary table may hide one of the database
            has_temporary_schema = connection.pragma("temp.schema_version") != 0
            # a database that `deserialize` has put in place lacks the settings of this one; a file
            # in WAL mode cannot be replaced like that
            is_replaced = (
                self.file is None and connection.pragma("journal_size_limit") != MAX_WAL_SIZE
            )
        except sqlite3.Error:
            return None
        if has_temporary_schema or is_replaced:
            return None
        is_committed = (
            not raw.in_transaction or (changes, schema_version) == connection.before_transaction
        )
        return ChangeMarker(
            (by_others, schema_version, not_inserted), is_committed, connection.cache
        )

    row_number: peewee.SQL | None = peewee.SQL("rowid")

    # --- schema -----------------------------------------------------------------------------

    check_options: tuple[str, ...] = ("constraints", "sqlite_constraints")
    index_options: tuple[str, ...] = ()

    def read_checks(self, table: str, schema: str | None = None) -> dict[str, str]:
        return health.read_checks(self, table)

    def is_partitioned(self, table: str) -> bool:
        return False

    def can_make_scratch(self) -> bool:
        return True

    @contextmanager
    def scratch(self, *, with_tables: bool) -> Iterator[Backend]:
        config = dataclasses.replace(
            self.config, db_path=MEMORY, read_only=False, backup_before_migrate=False
        )
        scratch = SqliteBackend(config)
        try:
            scratch.open()
            for sql in health.table_statements(self) if with_tables else ():
                scratch.execute_sql(sql)
            yield scratch
        finally:
            scratch.close()

    def temporary_schema(self) -> str | None:
        return None

    def references(self, table: str, schema: str | None = None) -> list[Reference]:
        return [
            Reference(key.table, key.column, key.dest_column, key.on_delete or "NO ACTION")
            for name in self.get_tables()
            for key in self.get_foreign_keys(name)
            if key.dest_table.lower() == table.lower()
        ]

    def orphans(self) -> list[tuple[str, str]]:
        cursor = self.execute_sql("PRAGMA foreign_key_check")
        return [(table, parent) for table, _, parent, _ in cursor.fetchall()]

    def migrator(self) -> Migrator:
        from .migrator import SqliteMigrator  # late: a bot with a current file migrates nothing

        return SqliteMigrator(self)

    def schema_findings(self) -> Iterator[Finding]:
        return iter(())

    def back_up(self, number: str) -> None:
        from .copy import (
            back_up,  # late: a bot that starts on a new or a current file needs no copy
        )

        if self.file is not None:
            back_up(self.file, number)

    # --- health -----------------------------------------------------------------------------

    def damage(self, check: str = "quick_check") -> list[str]:
        return self._retry_while_busy(lambda: health.damage(self, check), self.busy_timeout)

    def findings(self) -> Iterator[Finding]:
        if self.file is not None:
            with translate_errors(self.file, "cannot be looked at"):
                yield from health.findings(self, self.file)

    def size(self) -> int:
        with translate_errors(self.database, "cannot be looked at"):
            return file_state.size_of(self.database) + file_state.size_of(self.database + "-wal")

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        from .copy import snapshot

        return nullcontext(self.connection()) if self.file is None else snapshot(self.file)
