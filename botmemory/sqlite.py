"""The SQLite backend: how one file is opened, written, waited for and watched."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import peewee
from peewee import Case, Expression, Value, fn

from .config import MEMORY, Config
from .errors import BotMemoryError, DatabaseBusyError, StorageError, ValidationError, show
from .filelock import FileLock
from .sqlite_errors import RESTORE, busy, is_damage, named_error

__all__ = ["SqliteBackend", "prepare_file"]

OLDEST_SQLITE = (3, 38, 0)  # the first one whose JSON operators Peewee can use
WAL_KEPT = 16 * 1024 * 1024  # bytes of the -wal file that stay after a checkpoint
CHECKED_AT_OPEN = 64 * 1024 * 1024  # a larger file is checked by upkeep.check alone
SMALLEST_FILE = 512  # one page of the smallest size
READS = ("SELECT", "PRAGMA", "WITH", "EXPLAIN", "SAVEPOINT", "RELEASE", "ROLLBACK")

R = TypeVar("R")


class _Connection:
    """The connection of one thread, and the files it is on; closed when the thread ends."""

    def __init__(self, raw: sqlite3.Connection, lock: FileLock | None) -> None:
        self.raw = raw
        self.lock = lock
        self.process = os.getpid()
        self.files: tuple[tuple[int, int], ...] = ()
        self.closed = False

    def close(self, patience: float = 1.0) -> None:
        """Close under the lock: the last one to close writes the -wal back into the file."""
        if self.closed:
            return
        self.closed = True
        # not by waiting in the queue: that takes a thread, and the interpreter may be ending
        deadline = time.monotonic() + patience
        held = self.lock is None or self.lock.acquire(0)
        while not held and self.lock is not None and time.monotonic() < deadline:
            time.sleep(0.005)
            held = self.lock.acquire(0)
        self.raw.close()
        if held and self.lock is not None:
            self.lock.release()

    def __del__(self) -> None:
        # a child must not close what it has inherited: the parent goes on with it
        if self.process == os.getpid():
            self.close(patience=0.1)
            if self.lock is not None:
                self.lock.close()


class _State(peewee._ConnectionLocal):
    """What each thread has of its own."""

    held: _Connection | None = None
    lock: FileLock | None = None
    depth = 0  # how often this thread holds the lock
    task: object = None  # the asyncio task whose transaction is open


class SqliteBackend(peewee.SqliteDatabase):
    """One SQLite file, or `:memory:`, opened as `config` says; each thread has a connection.

    Writers of all processes queue at a lock file beside the database, because SQLite's own
    waiting is a lottery that starves some of them.
    """

    if TYPE_CHECKING:
        _lock: threading.Lock
        _timeout: float

        def _add_conn_hooks(self, connection: sqlite3.Connection) -> None: ...

    def __init__(self, config: Config) -> None:
        self.config = config
        self.unusable: str | None = None  # why nothing can be done with it any more
        self.at_close: list[Callable[[], object]] = []
        self._memory_thread: int | None = None
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
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
        self._state = _State()
        self._locks = self.database != MEMORY and not config.read_only
        _backends.add(self)

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> None:
        """Create the file if it may be created, connect, and prove that it is a sound database."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StorageError(
                f"this Python comes with SQLite {sqlite3.sqlite_version}; "
                "botmemory needs 3.38 or newer: use a newer Python"
            )
        self.unusable = _inherited_paths.get(self.database)
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
        if path.stat().st_size <= CHECKED_AT_OPEN and (said := self.pragma("quick_check(1)")) != (
            "ok"
        ):
            raise StorageError(f"{path}: the file is damaged ({said}); {RESTORE}")
        self._remember_files()

    def connect(self, reuse_if_open: bool = False) -> bool:
        return self._patiently(lambda: super(SqliteBackend, self).connect(reuse_if_open))

    def _connect(self) -> sqlite3.Connection:
        if self.database == MEMORY:
            self._claim_memory()
            target = MEMORY
        else:
            # never "create": a file that was deleted must not come back empty
            mode = "ro" if self.config.read_only else "rw"
            target = f"{Path(self.database).as_uri()}?mode={mode}"
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
        self._state.held = _Connection(raw, self._state.lock)
        self._connections.add(self._state.held)
        self._remember_files()
        return raw

    def _close(self, conn: sqlite3.Connection) -> None:
        held = self._state.held
        self._state.held = None
        if held is not None:
            self._connections.discard(held)
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
        if state.transactions:
            if state.task is not None and state.task is not _current_task():
                raise DatabaseBusyError(
                    f"{self.database}: another task of this thread holds a transaction across an "
                    "await; record through 'await aio.run(...)', or leave session_scope() before "
                    "the await"
                )
            if not state.conn.in_transaction:
                if sql.startswith("ROLLBACK"):
                    return state.conn.cursor()  # SQLite has rolled back all of it by itself
                raise self._rolled_back()
            return self._named(lambda: run(sql, params, **options))
        if sql.startswith(READS):
            return self._patiently(lambda: run(sql, params, **options))
        self._take_turn()
        try:
            cursor = self._patiently(lambda: run(sql, params, **options))
        finally:
            self._end_turn()
        self._require_same_files()
        return cursor

    def begin(self, lock_type: str | None = None) -> None:
        self._take_turn()
        try:
            self._patiently(lambda: super(SqliteBackend, self).begin(lock_type))
        except BaseException:
            self._end_turn()
            raise
        self._state.task = _current_task()

    def commit(self) -> None:
        if self._state.conn is not None and not self._state.conn.in_transaction:
            raise self._rolled_back()
        self._named(super().commit)
        self._end_turn()
        self._require_same_files()

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

    # --- the file underneath ----------------------------------------------------------------

    def _remember_files(self) -> None:
        held = self._state.held
        if held is not None and self._locks:
            held.files = self._files()

    def _files(self) -> tuple[tuple[int, int], ...]:
        """Return device and inode of the file and of its -wal, as their names lead to them now."""
        found = []
        for name in (self.database, self.database + "-wal"):
            try:
                status = os.stat(name)  # noqa: PTH116  (half the time of Path.stat, at each commit)
            except FileNotFoundError:
                continue
            found.append((status.st_dev, status.st_ino))
        return tuple(found)

    def _require_same_files(self) -> None:
        """Raise before a commit is acknowledged that went into a file nobody will find."""
        held = self._state.held
        if held is not None and self._locks and held.files != self._files():
            self.unusable = (
                f"{self.database}: the file or its -wal was deleted or replaced while it was open; "
                "the last call is not stored: put the file back, then close_db() and init_db()"
            )
            raise StorageError(self.unusable)

    def _require_usable(self) -> None:
        if self.unusable is not None:
            raise StorageError(self.unusable)

    # --- what differs between the backends --------------------------------------------------

    def broken_rule(self, error: peewee.IntegrityError) -> str:
        """Return which kind of rule a write broke: `unique`, `reference`, `check` or `null`."""
        name: str = getattr(getattr(error, "orig", error), "sqlite_errorname", "")
        kinds = {"FOREIGNKEY": "reference", "CHECK": "check", "NOTNULL": "null"}
        return kinds.get(name.removeprefix("SQLITE_CONSTRAINT_"), "unique")

    def json_match(
        self,
        field: peewee.JSONField,
        keys: Sequence[str],
        equals: Any,
        minimum: float | None,
        maximum: float | None,
    ) -> Expression:
        """Return the condition on a value inside a JSON column; numbers compare as numbers."""
        if any('"' in key for key in keys):
            raise ValidationError(
                f"key: {show('.'.join(keys))} holds a double quote, which SQLite cannot look up",
                field="key",
            )
        path = field._helper._path(keys)  # type: ignore[attr-defined]
        kind = fn.json_type(field, path)
        value = fn.json_extract(field, path)
        number = Case(None, [(kind.in_(("integer", "real")), value)])
        found = kind.is_null(False)
        if minimum is not None:
            found &= number >= Value(minimum, converter=False)
        if maximum is not None:
            found &= number <= Value(maximum, converter=False)
        if isinstance(equals, bool):
            found &= kind == ("true" if equals else "false")
        elif isinstance(equals, str):
            found &= (kind == "text") & (value == Value(equals, converter=False))
        elif equals is not None:
            found &= number == Value(equals, converter=False)
        return found


def prepare_file(path: Path, read_only: bool) -> None:
    """Create the file where it is missing, for its owner only; explain what is in the way."""
    try:
        if path.is_dir():
            raise StorageError(f"{path}: is a folder; name a file inside it")
        if path.exists():
            # SQLite itself takes a few bytes of something else for nothing at all
            if 0 < path.stat().st_size < SMALLEST_FILE:
                raise StorageError(f"{path}: it is not a SQLite database; check the path")
            return
        if read_only:
            raise StorageError(f"{path}: there is no such database to read; check the path")
        if not path.parent.is_dir():
            raise StorageError(f"{path}: its folder {path.parent} does not exist; create it first")
        path.touch(mode=0o600)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be created: {error.strerror}; check the folder and its permissions"
        ) from error


def _current_task() -> object:
    """Return the asyncio task that runs now, None outside of one."""
    asyncio = sys.modules.get("asyncio")  # a bot without asyncio does not pay for its import
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task() or "a callback of the event loop"


# --- fork ---------------------------------------------------------------------------------
# SQLite's locks do not survive a fork, but its notes about them do: a connection open at that
# moment makes later commits of the child vanish. So both sides open a new one. What cannot be
# closed, because a transaction is open or another thread owns it, makes the child refuse.

_backends: weakref.WeakSet[SqliteBackend] = weakref.WeakSet()
_inherited: list[_Connection] = []
_inherited_paths: dict[str, str] = {}


def _before_fork() -> None:
    for database in list(_backends):
        database.release()
        if database.database != MEMORY:
            _inherited.extend(database._connections)


def _after_fork_in_parent() -> None:
    _inherited.clear()


def _after_fork_in_child() -> None:
    # _inherited stays: what it holds is the parent's and must never be closed here
    for database in list(_backends):
        database._lock = threading.Lock()  # another thread of the parent may have held it
        if any(connection in database._connections for connection in _inherited):
            database.unusable = _inherited_paths[database.database] = (
                f"{database.database}: this process was forked while a transaction was open or "
                "another thread had the memory open, and cannot use it; fork before init_db(), or "
                "start processes with multiprocessing's 'spawn' method"
            )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
