"""The SQLite backend: how one file is opened, written, waited for and watched."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import peewee
from peewee import __exception_wrapper__  # type: ignore[attr-defined]

from .config import MEMORY, Config
from .errors import BotMemoryError, DatabaseBusyError, StorageError
from .filelock import FileLock
from .sqlite_calendar import hour_of
from .sqlite_connection import Connection, State, files_of, prepare_file
from .sqlite_errors import RESTORE, busy, is_damage, named_error
from .sqlite_fork import open_backends, unusable_after_fork
from .sqlite_health import damage
from .sqlite_json import json_match
from .tasks import current_task, require_own_task

__all__ = ["SqliteBackend"]

OLDEST_SQLITE = (3, 38, 0)  # the first one whose JSON operators Peewee can use
WAL_KEPT = 16 * 1024 * 1024  # bytes of the -wal file that stay after a checkpoint
CHECKED_AT_OPEN = 64 * 1024 * 1024  # a larger file is checked by upkeep.check alone
READS = ("SELECT", "PRAGMA", "WITH", "EXPLAIN", "SAVEPOINT", "RELEASE", "ROLLBACK")

R = TypeVar("R")

# where SQLite itself keeps the counters of tables
_Counter: Any = peewee.Table("sqlite_sequence", ("name", "seq"))
_logger = logging.getLogger("peewee")  # which shows every statement at its level DEBUG


class SqliteBackend(peewee.SqliteDatabase):
    """One SQLite file, or `:memory:`, opened as `config` says; each thread has a connection.

    Writers of all processes queue at a lock file beside the database, because SQLite's own
    waiting is a lottery that starves some of them.
    """

    field_types = peewee.SqliteDatabase.field_types | {"TIMESTAMPTZ": "TEXT"}

    if TYPE_CHECKING:
        _lock: threading.Lock
        _timeout: float

        def _add_conn_hooks(self, connection: sqlite3.Connection) -> None: ...

        def execute_sql(self, sql: str, params: Any = None) -> Any: ...

    def __init__(self, config: Config) -> None:
        self.config = config
        self.unusable: str | None = None  # why nothing can be done with it any more
        self.at_close: list[Callable[[], object]] = []
        self._memory_thread: int | None = None
        self.connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        super().__init__(
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
        self._state = State()
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
        self.unusable = unusable_after_fork.get(self.database)
        self._require_usable()
        if self.database == MEMORY:
            self.connect()
            return
        prepare_file(Path(self.database), self.config.read_only)
        self._take_turn()
        try:
            self.connect()
            try:
                self._prove()
            except BaseException:
                self.close()
                raise
        finally:
            self._end_turn()

    def _prove(self) -> None:
        path = Path(self.database)
        if not self.config.read_only and (mode := self.pragma("journal_mode", "wal")) != "wal":
            raise StorageError(
                f"{path}: SQLite uses its '{mode}' journal here instead of WAL; "
                "keep the file on a local disk"
            )
        if path.stat().st_size <= CHECKED_AT_OPEN and (said := damage(self)):
            raise StorageError(f"{path}: the file is damaged ({said[0]}); {RESTORE}")
        self._remember_files()

    def connect(self, reuse_if_open: bool = False) -> bool:
        return self._patiently(lambda: super(SqliteBackend, self).connect(reuse_if_open))

    def _connect(self) -> sqlite3.Connection:
        tidy = None
        if self.database == MEMORY:
            self._claim_memory()
            target = MEMORY
        else:
            # never "create": a file that was deleted must not come back empty
            mode = "ro" if self.config.read_only else "rw"
            target = f"{Path(self.database).as_uri()}?mode={mode}"
            if self.config.read_only and not Path(self.database + "-wal").exists():
                tidy = self.database
        self._take_turn()
        try:
            raw = sqlite3.connect(
                target,
                timeout=self._timeout,
                isolation_level=None,
                uri=True,
                check_same_thread=False,  # the last reference may go in another thread
            )
            try:
                self._add_conn_hooks(raw)
                raw.execute("PRAGMA schema_version").fetchone()  # opens the -wal
            except BaseException:
                raw.close()
                raise
        finally:
            self._end_turn()
        self._state.held = Connection(raw, self._state.lock, tidy)
        self.connections.add(self._state.held)
        self._remember_files()
        return raw

    def _close(self, conn: sqlite3.Connection) -> None:
        held = self._state.held
        self._state.held = None
        if held is not None:
            self.connections.discard(held)
            held.close()

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
        if not self.is_closed() and not self.in_transaction() and self.database != MEMORY:
            self.close()

    # --- statements and transactions --------------------------------------------------------

    def _execute_cursor(self, sql: str, params: Any, **options: Any) -> Any:
        run = super()._execute_cursor  # type: ignore[misc]
        state = self._state
        if state.transactions and state.depth:
            require_own_task(state.task, self.database)
            if not state.conn.in_transaction:
                if sql.startswith("ROLLBACK"):
                    return state.conn.cursor()  # SQLite has rolled back all of it by itself
                raise self._rolled_back()
            return self._named(lambda: run(sql, params, **options))
        if sql.startswith(READS):
            return self._patiently(lambda: run(sql, params, **options))
        self._take_turn()
        try:
            self._require_same_files("nothing was written by this call")
            return self._patiently(lambda: run(sql, params, **options))
        finally:
            self._end_turn()

    def begin(self, lock_type: str | None = None) -> None:
        self._take_turn()
        try:
            self._require_same_files("nothing was written by this call")
            self._patiently(lambda: super(SqliteBackend, self).begin(lock_type))
        except BaseException:
            self._end_turn()
            raise
        self._state.task = current_task()

    def commit(self) -> None:
        if self._state.conn is not None and not self._state.conn.in_transaction:
            raise self._rolled_back()
        self._named(super().commit)
        self._end_turn()
        self._require_same_files("whether this call is stored is not known")

    def rollback(self) -> None:
        try:
            # SQLite rolls back by itself after a full disk; a second try would hide the cause
            if self._state.conn is not None and self._state.conn.in_transaction:
                self._named(super().rollback)
        finally:
            self._end_turn()

    def _rolled_back(self) -> StorageError:
        return StorageError(
            f"{self.database}: SQLite has rolled back the transaction after an earlier error; "
            "leave session_scope() and begin again"
        )

    def _patiently(self, call: Callable[[], R]) -> R:
        """Repeat what SQLite gives up at once because somebody else is busy."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._named(call)
            except DatabaseBusyError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.005)

    def _named(self, call: Callable[[], R]) -> R:
        """Raise what SQLite reports as an error that says the file, the cause and the remedy."""
        self._require_usable()
        try:
            return call()
        except peewee.DatabaseError as error:
            named = self.named_error(error)
            if named is None:
                raise
            raise named from error

    def named_error(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of SQLite's, None where there is none."""
        named = named_error(error, self.database, self._timeout)
        if is_damage(error):
            self.unusable = str(named)  # a broken file takes no more writes
        return named

    # --- the lock between writers -----------------------------------------------------------

    def _take_turn(self) -> None:
        self._require_usable()
        state = self._state
        if state.depth == 0 and self._locks:
            if state.lock is None:
                try:
                    state.lock = FileLock(self.database + "-lock")
                except OSError as error:
                    raise StorageError(
                        f"{self.database}-lock: cannot be opened: {error.strerror}; check the "
                        "folder, its permissions and the limit on open files"
                    ) from error
            if not state.lock.acquire(self._timeout):
                raise busy(self.database, self._timeout)
        state.depth += 1

    def _end_turn(self) -> None:
        state = self._state
        if state.depth == 0:
            return
        state.depth -= 1
        if state.depth == 0 and state.lock is not None:
            state.lock.release()

    def leave_queue(self) -> None:
        """Forget the lock a child has inherited: what it did to it, it would do to its parent's."""
        if self._state.lock is not None:
            self._state.lock.close()
        self._state.lock, self._state.depth = None, 0

    # --- the file underneath ----------------------------------------------------------------

    def _remember_files(self) -> None:
        held = self._state.held
        if held is not None and self._locks:
            held.files = files_of(self.database)

    def _require_same_files(self, outcome: str) -> None:
        """Raise before a commit is acknowledged that went into a file nobody will find.

        Asked before a write, and after a transaction, which may have taken its time: a file that
        goes during a single statement might as well have gone after it.
        """
        held = self._state.held
        if held is None or not self._locks:
            return
        now = files_of(self.database)
        if not now or now != held.files:
            held.abandon()
            lost = (
                f"{self.database}: the file or its -wal was deleted or replaced while it was open"
            )
            remedy = "look for the file, put it back, then close_db() and init_db()"
            self.unusable = f"{lost}; nothing was written by this call: {remedy}"
            raise StorageError(f"{lost}; {outcome}: {remedy}")

    def _require_usable(self) -> None:
        if self.unusable is not None:
            raise StorageError(self.unusable)

    # --- what differs between the backends --------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold off every other writer while the schema is changed."""
        self._take_turn()
        try:
            yield
        finally:
            self._end_turn()

    def statement(self) -> AbstractContextManager[object]:
        """Return what undoes one statement alone when it fails: SQLite does so by itself."""
        return nullcontext()

    streams = False  # rows are asked for page by page
    null_in_sql = True  # of many rows too, where none of them has a value

    def ask(
        self,
        sql: str,
        params: Sequence[Any],
        make: Callable[[Iterable[tuple[Any, ...]]], Iterable[R]],
    ) -> list[R]:
        """Run a compiled question and return what `make` makes of its rows."""
        state = self._state
        if not (state.closed or state.transactions or self.unusable or self._is_watched()):
            try:
                return list(make(state.conn.execute(sql, params).fetchall()))
            except sqlite3.Error:
                pass  # the long way waits, or says what it is
        return self._named(lambda: self._ask(sql, params, make))

    def _ask(self, sql: str, params: Sequence[Any], make: Callable[[Any], Iterable[R]]) -> list[R]:
        with __exception_wrapper__:
            return list(make(self.execute_sql(sql, params).fetchall()))

    def change(self, sql: str, params: Sequence[Any]) -> int:
        """Run a compiled INSERT of one row and return how many were stored."""
        return int(self._change(sql, params).rowcount)

    def insert_counted(self, sql: str, params: Sequence[Any]) -> int:
        """Run a compiled INSERT of one row and return the id it was given."""
        return int(self._change(sql, params).lastrowid)

    def _change(self, sql: str, params: Sequence[Any]) -> Any:
        state = self._state
        if state.closed or self._is_watched():
            return self.execute_sql(sql, params)
        if state.transactions:
            self._require_usable()
            require_own_task(state.task, self.database)
            if not state.conn.in_transaction:
                raise self._rolled_back()
            try:
                return state.conn.execute(sql, params)
            except sqlite3.Error:
                return self.execute_sql(sql, params)  # the long way says what it is
        self._take_turn()
        try:
            self._require_same_files("nothing was written by this call")
            try:
                return state.conn.execute(sql, params)
            except sqlite3.Error:
                return self.execute_sql(sql, params)
        finally:
            self._end_turn()

    def insert_rows(
        self, sql: str, rows: Iterable[Sequence[Any]], fields: Sequence[peewee.Field[Any]]
    ) -> int:
        """Run a compiled INSERT for each row and return how many were stored."""
        require_own_task(self._state.task, self.database)
        return self._named(lambda: self._insert_rows(sql, rows))

    def _insert_rows(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        with __exception_wrapper__:
            return int(self._state.conn.executemany(sql, rows).rowcount)

    def _is_watched(self) -> bool:
        """Return whether somebody wants to see every statement."""
        return bool(self.query_hooks) or _logger.isEnabledFor(logging.DEBUG)

    @staticmethod
    def json_text(text: str) -> str:
        """Return JSON as the database is to get it."""
        return text

    def broken_rule(self, error: peewee.IntegrityError) -> str:
        """Return which kind of rule a write broke: `unique`, `reference`, `check` or `null`."""
        name: str = getattr(getattr(error, "orig", error), "sqlite_errorname", "")
        kinds = {"FOREIGNKEY": "reference", "CHECK": "check", "NOTNULL": "null"}
        return kinds.get(name.removeprefix("SQLITE_CONSTRAINT_"), "unique")

    def last_counted(self, model: type[peewee.Model]) -> int:
        """Return the highest id that the table has had, 0 where it counts none."""
        counter = _Counter.bind(self)
        mine = counter.name == model._meta.table_name
        return counter.select(counter.seq).where(mine).scalar() or 0

    def raise_counter(self, model: type[peewee.Model], least: int = 0) -> None:
        """Count on from `least`, or from the highest id that was given: the latter SQLite does."""
        if least > self.last_counted(model):
            counter = _Counter.bind(self)
            table = model._meta.table_name
            counter.delete().where(counter.name == table).execute()
            counter.insert({counter.name: table, counter.seq: least}).execute()

    def size(self) -> int:
        """Return the bytes of the file and its -wal."""
        files = (Path(self.database), Path(self.database + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    json_match = staticmethod(json_match)
    hour_of = staticmethod(hour_of)
