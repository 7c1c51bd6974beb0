"""The SQLite backend: how one file is opened, written, waited for and watched."""

from __future__ import annotations

import dataclasses
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import peewee

from ...config import MEMORY, Config
from ...errors import BotMemoryError, DatabaseBusyError, StorageError, ValidationError
from ..base import Backend, Finding
from ..fork import fork_gate, open_backends
from ..living import LivingObjects
from ..peewee_internals import peewee_errors, prepare_connection
from ..transactions import Atomic, TransactionState
from . import dialect, health
from .connection import (
    NO_LOCK,
    Connection,
    NoLock,
    State,
    content_of,
    files_of,
    has_lost,
    history_of,
    prepare_file,
    uri_of,
)
from .copy import back_up, snapshot
from .errors import (
    RESTORE,
    busy,
    is_busy,
    is_damage,
    is_read_only,
    is_unopened,
    translate_errors,
    translated_error,
    unreadable,
)
from .file_system import other_names
from .lock import FileLock
from .stage import Stage, open_stage

__all__ = ["SqliteBackend"]

OLDEST_SQLITE = (3, 38, 0)  # the first one whose JSON operators Peewee can use
WAL_KEPT = 16 * 1024 * 1024  # bytes of the -wal file that stay after a checkpoint
CHECKED_AT_OPEN = 64 * 1024 * 1024  # a larger file is checked by upkeep.check alone
READS = ("SELECT", "PRAGMA", "WITH", "EXPLAIN", "SAVEPOINT", "RELEASE", "ROLLBACK")

R = TypeVar("R")
Row = TypeVar("Row", bound=peewee.Model)

# where SQLite itself keeps the counters of tables
_Sequence: Any = peewee.Table("sqlite_sequence", ("name", "seq"))
# of a child: the connections of its parent, which must never be closed here, not even by the end
_inherited: list[Connection] = []
_unusable_after_fork: dict[str, str] = {}  # path -> why
_logger = logging.getLogger("peewee")  # which shows every statement at its level DEBUG
_warnings = logging.getLogger("botmemory")


class SqliteBackend(TransactionState, peewee.SqliteDatabase):  # type: ignore[misc]
    """One SQLite file, or `:memory:`, opened as `config` says; each thread has a connection.

    Writers of all processes queue at a lock file beside the database, because SQLite's own
    waiting is a lottery that starves some of them. This write lock is the only lock there is: who
    reads, connects or closes takes none, so there is no order of locks to keep.
    """

    field_types = peewee.SqliteDatabase.field_types | {"TIMESTAMPTZ": "TEXT"}

    if TYPE_CHECKING:
        connection: Callable[[], Any]

        def execute_sql(self, sql: str, params: Any = None) -> Any: ...

    def __init__(self, config: Config) -> None:
        self.config = config
        self.unusable: str | None = None  # why nothing can be done with it any more
        self.at_close: list[Callable[[], object]] = []
        self.lock_problem: str | None = None  # why writers do not queue, where they do not
        self._memory_thread: int | None = None
        self._reads_fixed_file = False
        self._history: set[tuple[str, str]] = set()
        self.connections: LivingObjects[Connection] = LivingObjects()
        super().__init__(
            State(),
            config.sqlite_path,
            pragmas={
                "foreign_keys": 1,
                "synchronous": config.synchronous,
                "journal_size_limit": WAL_KEPT,
            },
            timeout=config.busy_timeout,
            # a transaction that reads first and writes later must not find itself outrun
            lock_type=None if config.read_only else "IMMEDIATE",
        )
        self._locks = self.database != MEMORY and not config.read_only
        open_backends.add(self)

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> None:
        """Create the file if it may be created, connect, and prove that it is a sound database."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StorageError(
                f"this Python comes with SQLite {sqlite3.sqlite_version}; "
                "botmemory needs 3.38 or newer: use a newer Python"
            )
        self.unusable = _unusable_after_fork.get(self.database)
        self._require_usable()
        if self.database == MEMORY:
            self.connect()
            return
        with translate_errors(self.database, "cannot be opened"):
            prepare_file(Path(self.database), self.config.read_only)
            for name in other_names(Path(self.database)):
                _warnings.warning(
                    "%s %s: a program that opens it by another name does not see what this one "
                    "records, and both may damage it; botmemory.upkeep.check.check() says more",
                    self.database,
                    name,
                )
            self.connect()
            try:
                self._verify()
            except BaseException:
                self.close()
                raise

    def _verify(self) -> None:
        path = Path(self.database)
        if not self.config.read_only and self.pragma("journal_mode") != "wal":
            with self.exclusive():
                mode = self.pragma("journal_mode", "wal")
            if mode != "wal":
                raise StorageError(
                    f"{path}: SQLite uses its '{mode}' journal here instead of WAL; "
                    "keep the file on a local disk"
                )
        if path.stat().st_size <= CHECKED_AT_OPEN and (said := self.damage()):
            raise StorageError(f"{path}: the file is damaged ({said[0]}); {RESTORE}")
        self._remember_files()

    def connect(self, reuse_if_open: bool = False) -> bool:
        state = self.local
        if not state.closed:
            if reuse_if_open:
                return False
            raise peewee.OperationalError("Connection already opened.")
        with translate_errors(self.database, "cannot be opened"):
            held = self._retry_while_busy(self._new_connection, self.config.busy_timeout)
        # at once: a signal handler that connects too must not leave one half of each
        state.held, state.conn, state.closed = held, held.raw, False
        state.transactions, state.commit_callbacks, state.ctx = [], [], []
        return True

    def _new_connection(self) -> Connection:
        with peewee_errors:
            return self._open_connection()

    def _open_connection(self) -> Connection:
        if self.database == MEMORY:
            self._claim_memory()
            held = Connection(self._open_raw(MEMORY))
        elif self.config.read_only:
            held = self._connect_to_read()
        else:
            # never "create": a file that was deleted must not come back empty
            held = Connection(self._open_raw(uri_of(self.database, "rw")), self.database)
        if self._locks:
            held.files = files_of(self.database)
        self.connections.add(held)
        return held

    def _connect_to_read(self) -> Connection:
        wal = Path(self.database + "-wal")
        has_wal = wal.exists() and wal.stat().st_size > 0
        target = uri_of(self.database, "ro")
        try:
            held = Connection(self._open_raw(target), self.database)
        except sqlite3.OperationalError as error:
            if has_wal or not is_unopened(error):
                raise
            # in a folder that cannot be written SQLite reads the file alone, and never looks again
            # whether another program writes it: that is done here
            content = content_of(self.database)
            held = Connection(self._open_raw(f"{target}&immutable=1"), self.database)
            held.reads_fixed_file = content
            self._reads_fixed_file = True
        held.leaves_wal = not has_wal
        return held

    def _open_raw(self, target: str) -> sqlite3.Connection:
        raw = sqlite3.connect(
            target,
            timeout=0,  # waiting is done here, where it can be interrupted and has one time limit
            isolation_level=None,
            uri=True,
            check_same_thread=False,  # the last reference may go in another thread
        )
        try:
            prepare_connection(self, raw)
            raw.execute("PRAGMA schema_version").fetchone()  # opens the -wal
        except BaseException:
            raw.close()
            raise
        return raw

    def close(self) -> bool:
        """Close this thread's connection and return whether there was one."""
        state = self.local
        self.require_no_transaction()
        held, was_open = state.held, not state.closed
        # forgotten before it is closed: an interrupt leaves no closed connection in use
        state.held, state.conn, state.closed = None, None, True
        state.transactions, state.commit_callbacks, state.ctx = [], [], []
        if held is not None:
            self.connections.discard(held)
            held.close()
        return was_open

    def _claim_memory(self) -> None:
        here = threading.get_ident()
        if self._memory_thread is None:
            self._memory_thread = here
        elif self._memory_thread == here:
            raise StorageError(
                "the ':memory:' database was closed and what it held is gone; "
                "call close_db() and init_db(':memory:') for a new one"
            )
        else:
            raise StorageError(
                "a ':memory:' database belongs to the thread that opened it; "
                "use a file when several threads share one memory"
            )

    def release(self) -> None:
        """Close this thread's connection, unless that would lose something."""
        if self.database != MEMORY and not (self.local.transactions and self.in_transaction()):
            self.close()

    @contextmanager
    def used_by_worker(self) -> Iterator[None]:
        """Use this thread's connection for one call; a fork between two calls closes it."""
        state = self.local
        with fork_gate:
            if state.held is not None:
                state.held.is_idle = False
                if state.held.closed:
                    state.held, state.conn, state.closed = None, None, True
        try:
            yield
        finally:
            with fork_gate:
                if state.held is not None and not state.transactions:
                    state.held.is_idle = True

    def has_open_transaction(self) -> bool:
        """Return whether any thread of this process has a transaction open."""
        return any(one.raw.in_transaction for one in self.connections.all() if not one.closed)

    # --- when the process forks or ends -----------------------------------------------------

    def before_fork(self) -> None:
        self.release()
        for connection in self.connections.all():
            if connection.is_idle:
                connection.close()
                self.connections.discard(connection)
        if self.database != MEMORY:
            _inherited.extend(self.connections.all())

    def after_fork_in_parent(self) -> None:
        _inherited.clear()

    def after_fork_in_child(self) -> None:
        state = self.local
        self.forget_transactions()
        if state.held is not None:
            state.held.lock.close()
            state.held.lock = NO_LOCK
        if self.database != MEMORY:
            state.held, state.conn, state.closed = None, None, True
        known = self.connections.all()
        if any(connection in known for connection in _inherited):
            self.unusable = _unusable_after_fork[self.database] = (
                f"{self.database}: this process was forked while a transaction was open or another "
                "thread had the database open, and cannot use it; fork before init_db(), or start "
                "processes with multiprocessing's 'spawn' method"
            )

    def close_at_exit(self) -> None:
        self.release()

    # --- statements and transactions --------------------------------------------------------

    def run_statement(self, run: Callable[[], Any], sql: str, options: dict[str, Any]) -> Any:
        state = self.local
        if (state.transactions or state.rolled_back) and self.is_in_transaction():
            if state.conn.in_transaction:
                return self._translating(run)
            if sql.startswith("ROLLBACK"):
                return state.conn.cursor()  # SQLite has rolled back all of it by itself
            raise self._rolled_back()
        if sql.startswith(READS):
            self._reopen_if_changed()
            return self._retry_while_busy(run, self.config.busy_timeout)
        held = self._held()
        is_locked = held.is_locked
        try:
            left = self.config.busy_timeout if is_locked else self._acquire_write_lock(held)
            self._require_same_files(held, "nothing was written by this call")
            cursor = self._retry_while_busy(run, left)
        finally:
            if not is_locked:
                held.is_locked = False
                held.lock.release()
        return cursor

    def has_begun(self) -> bool:
        conn = self.local.conn
        return conn is not None and bool(conn.in_transaction)

    def is_in_transaction(self) -> bool:
        """Return whether what runs now is part of a transaction that is open."""
        if not self.may_use_transaction():
            return False
        # manual_commit() begins one when it is told to
        return isinstance(self.local.transactions[0], Atomic) or self.has_begun()

    def enter_transaction(self, transaction: Atomic, lock_type: str | None) -> None:
        """Take the write lock and begin; where that fails or is interrupted, undo both."""
        held, transactions = self._held(), self.local.transactions
        transaction.connection = weakref.ref(held)
        position = transaction.position = len(transactions)
        is_locked = transaction.is_in_lock = held.is_locked
        transaction.is_changing = True
        try:
            transactions.append(transaction)
            self._begin(held, lock_type)
            transaction.is_open, transaction.is_changing = True, False
        finally:
            if not transaction.is_open:
                try:
                    held.raw.rollback()
                finally:
                    transaction.is_changing = False
                    del transactions[position:]
                    if not is_locked:
                        held.is_locked = False
                        held.lock.release()

    def leave_transaction(self, transaction: Atomic, *, roll_back: bool) -> None:
        """Commit or roll back, and give the write lock back whatever happens."""
        held, state = transaction.connection(), self.local
        if held is None:  # its thread has ended
            transaction.is_open = False
            return
        is_ours, position = held is state.held, transaction.position
        try:
            try:
                transaction.is_changing = True
                if not roll_back:
                    self._commit(held)
            finally:
                held.raw.rollback()  # does nothing after a commit
        except sqlite3.Error as error:
            raise self.translated(error) or error from error
        finally:
            transaction.is_open, transaction.is_changing = False, False
            transaction.held_by_with = None
            if is_ours:
                del state.transactions[position:]
            if not transaction.is_in_lock:
                held.is_locked = False
                held.lock.release()
        if roll_back:
            self.clear_commit_callbacks()
        else:
            self._require_same_files(held, "whether this call is stored is not known")
            self.run_commit_callbacks()

    def begin(self, lock_type: str | None = None) -> None:
        held, begun = self._held(), False
        is_locked = held.is_locked
        try:
            self._begin(held, lock_type)
            begun = True
        finally:
            if not (begun or is_locked):
                held.is_locked = False
                held.lock.release()

    def commit(self) -> None:
        held = self._held()
        try:
            self._commit(held)
        finally:
            if not (held.is_kept or held.raw.in_transaction):
                held.is_locked = False
                held.lock.release()
        self._require_same_files(held, "whether this call is stored is not known")

    def rollback(self) -> None:
        held = self._held()
        try:
            # SQLite rolls back by itself after a full disk; a second try would hide the cause
            if held.raw.in_transaction:
                self._translating(super().rollback)
        finally:
            if not held.is_kept:
                held.is_locked = False
                held.lock.release()

    def _begin(self, held: Connection, lock_type: str | None) -> None:
        if held.raw.in_transaction:
            raise DatabaseBusyError(
                f"{self.config.label}: this thread is beginning a transaction already; a signal "
                "handler cannot begin another one inside it"
            )
        left = self.config.busy_timeout if held.is_locked else self._acquire_write_lock(held)
        self._require_same_files(held, "nothing was written by this call")
        self._retry_while_busy(lambda: super(SqliteBackend, self).begin(lock_type), left)

    def _commit(self, held: Connection) -> None:
        if not held.raw.in_transaction:
            raise self._rolled_back()
        self._translating(super().commit)

    def _rolled_back(self) -> StorageError:
        return StorageError(
            f"{self.database}: SQLite has rolled back the transaction after an earlier error; "
            "leave session_scope() and begin again"
        )

    def _retry_while_busy(self, call: Callable[[], R], seconds: float) -> R:
        """Repeat for `seconds` what SQLite gives up at once because somebody else is busy."""
        deadline = 0.0
        while True:
            try:
                return self._translating(call)
            except DatabaseBusyError:
                now = time.monotonic()
                deadline = deadline or now + seconds
                if now >= deadline:
                    raise
                time.sleep(min(0.005, deadline - now))

    def _translating(self, call: Callable[[], R]) -> R:
        """Raise what SQLite reports as an error that says the file, the cause and the remedy."""
        self._require_usable()
        try:
            return call()
        except (peewee.DatabaseError, sqlite3.DatabaseError) as error:
            translated = self.translated(error)
            if translated is None:
                raise
            raise translated from error
        except OverflowError as error:
            raise ValidationError(
                f"{self.database}: a whole number of this query has more than 64 bits; no column "
                "holds it"
            ) from error

    def translated(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of SQLite's, None where there is none."""
        translated = translated_error(error, self.database, self.config.busy_timeout)
        held = self.local.held
        if is_read_only(error) and held is not None and os.access(self.database, os.W_OK):
            # SQLite opens a file read-only where it could not open it to write at that moment
            held.must_reopen = True
        if is_damage(error):
            if not self._is_damaged():
                return unreadable(error, self.database)
            self.unusable = str(translated)  # a broken file takes no more writes
        return translated

    def _is_damaged(self) -> bool:
        """Return whether the file is damaged: SQLite says so of a read that fails once, too."""
        if self.database == MEMORY:
            return True
        try:
            with closing(sqlite3.connect(uri_of(self.database, "ro"), uri=True)) as look:
                (verdict,) = look.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            return not is_busy(error)
        return bool(verdict != "ok")

    # --- the write lock ---------------------------------------------------------------------

    def _held(self) -> Connection:
        """Return this thread's connection, which is made where there is none."""
        state = self.local
        if state.held is not None and state.held.must_reopen and not state.transactions:
            self.close()
        if state.closed:
            self.connect()
        return cast(Connection, state.held)

    def _acquire_write_lock(self, held: Connection) -> float:
        """Take the write lock and return the seconds of `busy_timeout` that are left.

        It is given back by `held.lock.release()` in a `finally` around this call, also where this
        call is interrupted: giving back what is not held does nothing. `is_locked` says so to a
        signal handler that records meanwhile: who waited for its turn now would wait for itself.
        """
        held.is_locked = True
        self._require_usable()
        if not self._locks:
            return self.config.busy_timeout
        self.require_outside_of_others()
        try:
            lock = held.lock
            if isinstance(lock, NoLock):
                lock = held.open_lock()
            acquired = lock.acquire(self.config.busy_timeout)
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
            raise busy(self.database, self.config.busy_timeout)
        return self.config.busy_timeout - lock.waited

    def find_lock_problem(self) -> str | None:
        """Return why writers of several processes do not queue; None where they do."""
        if self._locks and self.lock_problem is None:
            lock = FileLock(self.database + "-lock", like=self.database)
            self.lock_problem = lock.problem
            lock.close()
        return self.lock_problem

    # --- the file underneath ----------------------------------------------------------------

    def _remember_files(self) -> None:
        """Remember what tells whether the file is another one, or holds another database."""
        held = self.local.held
        if held is not None and self._locks:
            held.files = files_of(self.database)
            self._history = self._retry_while_busy(
                partial(history_of, held.raw), self.config.busy_timeout
            )

    def _require_same_files(self, held: Connection, outcome: str) -> None:
        """Raise before a commit is acknowledged that went into a file nobody will find.

        Asked before a write, and after a transaction, which may have taken its time: a file that
        goes during a single statement might as well have gone after it.
        """
        if not self._locks:
            return
        try:
            now = files_of(self.database)
        except StorageError as error:
            raise StorageError(f"{error}; {outcome}") from error
        if now == held.files:
            return
        how = ""
        if now[:4] != held.files[:4]:
            how = "the file or its -wal was deleted or replaced while it was open"
        elif has_lost(self.database, self._history, is_smaller=now[-1] < held.files[-1]):
            how = "the file was truncated or overwritten while it was open"
        if not how:
            held.files = now
        else:
            held.leak_on_purpose()
            lost = f"{self.database}: {how}"
            remedy = "look for the file, put it back, then close_db() and init_db()"
            self.unusable = f"{lost}; nothing was written by this call: {remedy}"
            raise StorageError(f"{lost}; {outcome}: {remedy}")

    def _require_usable(self) -> None:
        if self.unusable is not None:
            raise StorageError(self.unusable)

    # --- compiled queries -------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold off every other writer while the schema is changed."""
        held = self._held()
        if held.is_locked:
            yield
            return
        try:
            self._acquire_write_lock(held)
            held.is_kept = True
            yield
            self._remember_files()
        finally:
            try:
                self.roll_back_leftover()
            finally:
                held.is_kept = held.is_locked = False
                held.lock.release()

    def statement(self) -> AbstractContextManager[object]:
        """Return what undoes one statement alone when it fails: SQLite does so by itself."""
        return nullcontext()

    streams = False

    def stream(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        return iter(query.iterator())

    null_in_sql = True  # of many rows too, where none of them has a value

    def fetch_all(
        self,
        sql: str,
        params: Sequence[Any],
        make: Callable[[Iterable[tuple[Any, ...]]], Iterable[R]],
    ) -> list[R]:
        """Run a compiled question and return what `make` makes of its rows."""
        state = self.local
        fixed = self._reads_fixed_file
        if state.closed:
            self.connect()
        direct = not (self.unusable or fixed or self._is_watched())
        if direct and (state.transactions or state.rolled_back):
            direct = self.is_in_transaction() and state.conn.in_transaction
        if direct:
            try:
                return list(make(state.conn.execute(sql, params).fetchall()))
            except sqlite3.Error:
                pass  # the long way waits, or says what it is
        return self._translating(lambda: self._fetch_all(sql, params, make))

    def _fetch_all(
        self, sql: str, params: Sequence[Any], make: Callable[[Any], Iterable[R]]
    ) -> list[R]:
        while True:
            with peewee_errors:
                rows = list(make(self.execute_sql(sql, params).fetchall()))
            if not self._reopen_if_changed():
                return rows

    def _reopen_if_changed(self) -> bool:
        """Connect again where a file was written that SQLite takes as fixed; return whether."""
        held = self.local.held
        if held is None or not held.reads_fixed_file or self.local.transactions:
            return False
        if held.reads_fixed_file == content_of(self.database):
            return False
        self.close()
        self.connect()
        return True

    def insert_row(self, sql: str, params: Sequence[Any]) -> int:
        """Run a compiled INSERT of one row and return how many were stored."""
        return int(self._insert_one(sql, params).rowcount)

    def insert_autoincrement(self, sql: str, params: Sequence[Any]) -> int:
        """Run a compiled INSERT of one row and return the id it was given."""
        return int(self._insert_one(sql, params).lastrowid)

    def _insert_one(self, sql: str, params: Sequence[Any]) -> Any:
        state = self.local
        if state.closed or self._is_watched():
            return self.execute_sql(sql, params)
        held = cast(Connection, state.held)
        if (state.transactions or state.rolled_back) and self.is_in_transaction():
            self._require_usable()
            if not held.raw.in_transaction:
                raise self._rolled_back()
            try:
                return held.raw.execute(sql, params)
            except sqlite3.Error:
                return self.execute_sql(sql, params)  # the long way says what it is
        if held.must_reopen:
            return self.execute_sql(sql, params)
        is_locked = held.is_locked
        try:
            if not is_locked:
                self._acquire_write_lock(held)
            self._require_same_files(held, "nothing was written by this call")
            try:
                cursor = held.raw.execute(sql, params)
            except sqlite3.Error:
                cursor = self.execute_sql(sql, params)
        finally:
            if not is_locked:
                held.is_locked = False
                held.lock.release()
        return cursor

    def insert_rows(
        self, sql: str, rows: Iterable[Sequence[Any]], fields: Sequence[peewee.Field[Any]]
    ) -> int:
        """Run a compiled INSERT for each row and return how many were stored."""
        self.may_use_transaction()
        return self._translating(lambda: self._insert_rows(sql, rows))

    def _insert_rows(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        with peewee_errors:
            return int(self.local.conn.executemany(sql, rows).rowcount)

    def stage(self, table: str) -> Stage | None:
        """Return where many new rows of a table wait; None where recording them is in no one's way.

        The caller closes it.
        """
        return open_stage(self, table) if self._locks else None

    def _is_watched(self) -> bool:
        """Return whether somebody wants to see every statement."""
        return bool(self.query_hooks) or _logger.isEnabledFor(logging.DEBUG)

    # --- what SQLite writes in its own way, and what it reports -----------------------------

    def json_text(self, text: str) -> str:
        return text

    def json_match(self, *condition: Any) -> peewee.Expression:
        return dialect.json_match(*condition)

    def hour_of(self, field: peewee.Field[Any]) -> Any:
        return dialect.hour_of(field)

    def violated_constraint(self, error: peewee.IntegrityError) -> str:
        """Return which kind of rule a write broke: `unique`, `reference`, `check` or `null`."""
        name: str = getattr(getattr(error, "orig", error), "sqlite_errorname", "")
        kinds = {"FOREIGNKEY": "reference", "CHECK": "check", "NOTNULL": "null"}
        return kinds.get(name.removeprefix("SQLITE_CONSTRAINT_"), "unique")

    # --- ids --------------------------------------------------------------------------------

    def last_id(self, model: type[peewee.Model]) -> int:
        """Return the highest id that the table has had, 0 where it counts none."""
        sequence = _Sequence.bind(self)
        mine = sequence.name == model._meta.table_name
        return sequence.select(sequence.seq).where(mine).scalar() or 0

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        """Count on from `least`, or from the highest id that was given: the latter SQLite does."""
        if least > self.last_id(model):
            sequence = _Sequence.bind(self)
            table = model._meta.table_name
            sequence.delete().where(sequence.name == table).execute()
            sequence.insert({sequence.name: table, sequence.seq: least}).execute()

    # --- schema -----------------------------------------------------------------------------

    check_options = ("constraints", "sqlite_constraints")

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
        beside = SqliteBackend(config)
        try:
            beside.open()
            for sql in health.table_statements(self) if with_tables else ():
                beside.execute_sql(sql)
            yield beside
        finally:
            beside.close()

    def temporary_schema(self) -> str | None:
        return None

    def orphans(self) -> list[tuple[str, str]]:
        return health.orphans(self)

    def back_up(self, number: str) -> None:
        if self.file is not None:
            back_up(self.file, number)

    # --- health -----------------------------------------------------------------------------

    @property
    def file(self) -> Path | None:
        return None if self.config.in_memory else Path(self.database)

    def damage(self, check: str = "quick_check") -> list[str]:
        """Return what is broken in the file, by `quick_check` or `integrity_check`."""
        return self._retry_while_busy(lambda: health.damage(self, check), self.config.busy_timeout)

    def findings(self) -> Iterator[Finding]:
        return iter(()) if self.file is None else health.findings(self, self.file)

    def size(self) -> int:
        """Return the bytes of the file and its -wal."""
        files = (Path(self.database), Path(self.database + "-wal"))
        with translate_errors(self.database, "cannot be looked at"):
            return sum(file.stat().st_size for file in files if file.exists())

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        if self.file is None:
            yield self.connection()
        else:
            with snapshot(self.file) as connection:
                yield connection
