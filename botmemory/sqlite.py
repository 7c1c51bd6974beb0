"""The SQLite backend: how one file is opened, waited for and spoken about when it fails."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import peewee
from peewee import Case, Expression, Value, fn

from .config import MEMORY, Config
from .errors import (
    BotMemoryError,
    DatabaseBusyError,
    SchemaError,
    StorageError,
    ValidationError,
    show,
)

__all__ = ["SqliteBackend", "copy_database"]

OLDEST_SQLITE = (3, 38, 0)  # the first one whose JSON operators Peewee can use

P = ParamSpec("P")
R = TypeVar("R")

# the low byte of an SQLite result code -> what happened, what to do
_CAUSES = {
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space, then go on with the same memory"),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written",
        "check the permissions of the file and of its folder, or open it with read_only=True",
    ),
    sqlite3.SQLITE_PERM: ("access is denied", "check the permissions of the file"),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "check that the file and its folder exist, their permissions, and the open-files limit",
    ),
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database",
        "check the path; the file was left as it is",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged",
        "stop the bot, keep a copy of the file and restore the latest backup",
    ),
    sqlite3.SQLITE_IOERR: ("the disk failed to read or write", "check the disk and its free space"),
    sqlite3.SQLITE_NOMEM: ("there is not enough memory", "free some memory and repeat the call"),
}
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_open_backends: weakref.WeakSet[SqliteBackend] = weakref.WeakSet()


def _named_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Let a database method raise StorageError or DatabaseBusyError for what SQLite reports."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except peewee.DatabaseError as error:
            named = args[0].named_error(error)  # type: ignore[attr-defined]
            if named is None:
                raise
            raise named from error

    return call


class _Closer:
    """Closes a connection when the thread that owns it has ended."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class SqliteBackend(peewee.SqliteDatabase):
    """One SQLite file, or `:memory:`, opened as `config` says; each thread has a connection."""

    if TYPE_CHECKING:
        _state: Any
        _timeout: float

        def _add_conn_hooks(self, connection: sqlite3.Connection) -> None: ...

    def __init__(self, config: Config) -> None:
        self.config = config
        self._memory_thread: int | None = None
        super().__init__(
            config.sqlite_path,
            pragmas={"foreign_keys": 1, "synchronous": config.synchronous},
            timeout=config.busy_timeout,
            # a transaction that reads first and writes later must not find itself outrun
            lock_type=None if config.read_only else "IMMEDIATE",
        )
        _open_backends.add(self)

    def open(self) -> None:
        """Create the file if it may be created, connect, and prove that it is a database."""
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StorageError(
                f"this Python comes with SQLite {sqlite3.sqlite_version}; "
                "botmemory needs 3.38 or newer: use a newer Python"
            )
        if self.database != MEMORY:
            _prepare_file(Path(self.database), self.config.read_only)
        self.connect()
        try:
            if self.config.read_only or self.database == MEMORY:
                self.pragma("schema_version")
            elif (mode := self.pragma("journal_mode", "wal")) != "wal":
                raise StorageError(
                    f"{self.database}: SQLite uses its '{mode}' journal here instead of WAL; "
                    "keep the file on a local disk"
                )
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        if self.database == MEMORY:
            self._claim_memory()
            target = MEMORY
        else:
            # never "create": a file that was deleted must not come back empty
            mode = "ro" if self.config.read_only else "rw"
            target = f"{Path(self.database).as_uri()}?mode={mode}"
        connection = sqlite3.connect(
            target,
            timeout=self._timeout,
            isolation_level=None,
            uri=True,
            check_same_thread=False,  # so that _Closer may run wherever the last reference goes
        )
        try:
            self._add_conn_hooks(connection)
        except BaseException:
            connection.close()
            raise
        self._state.closer = _Closer(connection)
        return connection

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

    connect = _named_errors(peewee.SqliteDatabase.connect)
    begin = _named_errors(peewee.SqliteDatabase.begin)
    commit = _named_errors(peewee.SqliteDatabase.commit)
    _execute_cursor = _named_errors(peewee.SqliteDatabase._execute_cursor)  # type: ignore[attr-defined]

    def rollback(self) -> None:
        # SQLite has rolled back by itself after a full disk; a second try would hide the cause
        connection: sqlite3.Connection = self.connection()  # type: ignore[no-untyped-call]
        if connection.in_transaction:
            super().rollback()

    def release(self) -> None:
        """Close this thread's connection, unless that would lose something."""
        if not self.is_closed() and not self.in_transaction() and self.database != MEMORY:
            self.close()

    def named_error(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of SQLite's, None where there is none."""
        origin = getattr(error, "orig", error)
        code = getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
        if code in _BUSY:
            return DatabaseBusyError(
                f"{self.database}: another writer held it for more than {self._timeout:g} s; "
                "nothing was written, repeat the whole call or raise busy_timeout"
            )
        if code in _CAUSES:
            cause, remedy = _CAUSES[code]
            return StorageError(f"{self.database}: {cause} ({origin}); {remedy}")
        if str(origin).startswith(("no such table", "no such column")):
            return SchemaError(
                f"{self.database}: {origin}; look at 'python -m botmemory.migration_runner status'"
            )
        return None

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


def _prepare_file(path: Path, read_only: bool) -> None:
    """Create the file where it is missing, for its owner only; explain what is in the way."""
    if path.is_dir():
        raise StorageError(f"{path}: is a folder; name a file inside it")
    if path.exists():
        return
    if read_only:
        raise StorageError(f"{path}: there is no such database to read; check the path")
    if not path.parent.is_dir():
        raise StorageError(f"{path}: its folder {path.parent} does not exist; create it first")
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise StorageError(f"{path}: cannot be created: {error.strerror}") from error


def copy_database(database: SqliteBackend, destination: Path) -> None:
    """Copy a live database with SQLite's backup API; verified before it gets its final name.

    Raises `StorageError`; the destination is then not there.
    """
    unfinished = destination.with_name(destination.name + ".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        _prepare_file(unfinished, read_only=False)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
            database.connection().backup(copy)  # type: ignore[no-untyped-call]
            copy.execute("PRAGMA journal_mode = delete")
            verdict = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StorageError(
                f"{database.database}: its copy fails the integrity check: {verdict}"
            )
        unfinished.replace(destination)
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{destination}: the copy of {database.database} failed: {error}; "
            "the database itself is untouched"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _close_before_fork() -> None:
    # POSIX locks and SQLite's notes about them do not survive a fork: a connection open at that
    # moment makes later commits of the child vanish. Both sides simply open a new one.
    for database in list(_open_backends):
        database.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_before_fork)
