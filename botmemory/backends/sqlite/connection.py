"""The connection of one thread to one file: how it is made, kept and closed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from ...errors import StorageError
from ..transactions import ThreadState
from .errors import is_busy, is_no_database, translate_errors
from .lock import FileLock

__all__ = [
    "Connection",
    "State",
    "content_of",
    "files_of",
    "has_lost",
    "history_of",
    "prepare_file",
    "uri_of",
]

SMALLEST_FILE = 512  # one page of the smallest size


class NoLock:
    """Stands for the lock file until it is opened for the first write."""

    release: Callable[[], object] = bool
    close: Callable[[], object] = bool


NO_LOCK = NoLock()


class Connection:
    """The connection of one thread to one file, and its write lock; closed when the thread ends.

    `path` is None for `:memory:`.
    """

    process: int | None = None  # also of an object that an interrupt has left half made
    closed = True

    def __init__(self, raw: sqlite3.Connection, path: str | None = None) -> None:
        self.raw = raw
        self.path = path
        # `lock.release()` gives the write lock back, if it is held: one call into C
        self.lock: FileLock | NoLock = NO_LOCK
        self.is_idle = False  # the connection of a worker between two calls: a fork closes it
        self.is_locked = False  # somebody further out in this thread holds the write lock
        self.is_kept = False  # and keeps it beyond a transaction, while the schema is changed
        self.process = os.getpid()
        self.must_reopen = False  # before the next write
        self.files: tuple[int, ...] = ()
        self.leaves_wal = False  # it only reads, and has made a -wal that it cannot take away
        self.reads_fixed_file: tuple[object, ...] = ()  # what the file was, if SQLite looks no more
        self.closed = False

    def open_lock(self) -> FileLock:
        """Open the lock file of the database, for the first write."""
        lock = self.lock = FileLock(f"{self.path}-lock", like=self.path)
        return lock

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        lock, self.lock = self.lock, NO_LOCK
        self.raw.close()
        lock.close()
        if self.leaves_wal and self.path is not None:
            # a connection that may write takes an empty -wal away with it, if it is the last one
            target = uri_of(self.path, "rw")
            with suppress(sqlite3.Error), closing(sqlite3.connect(target, 0, uri=True)) as last:
                last.execute("PRAGMA schema_version")

    def leak_on_purpose(self) -> None:
        """Leave it open for good: closing would write an orphaned -wal over newer pages."""
        import ctypes  # late: hardly anybody needs it, and everybody would wait for it

        self.closed = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.raw))

    def __del__(self) -> None:
        # a child must not close what it has inherited: the parent goes on with it
        if self.process == os.getpid():
            self.close()


class State(ThreadState):
    """What each thread has of its own."""

    held: Connection | None = None


def uri_of(path: str, mode: str) -> str:
    """Return the URI that opens a file and never creates one."""
    return f"{Path(path).as_uri()}?mode={mode}"


def files_of(path: str) -> tuple[int, ...]:
    """Return device and inode of the file and its -wal, and when the file was written and its size.

    As their names lead to them now; nothing, where one of the two is missing.
    """
    try:
        # half the time of Path.stat, at each commit
        file, wal = os.stat(path), os.stat(path + "-wal")  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise StorageError(
            f"{path}: the system does not say whether the file and its -wal are still there: "
            f"{error.strerror}; check the disk"
        ) from error
    return file.st_dev, file.st_ino, wal.st_dev, wal.st_ino, file.st_mtime_ns, file.st_size


def content_of(path: str) -> tuple[object, ...]:
    """Return what tells that a file which SQLite takes as fixed has been written all the same."""
    file, wal = Path(path), Path(path + "-wal")
    with translate_errors(path, "cannot be looked at"):
        status = file.stat()
        written = wal.exists() and wal.stat().st_size > 0
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, written


def history_of(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return which migrations were applied, and when: databases with the same tables differ in it.

    Nothing, where there are no tables yet.
    """
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    if ("schema_migration",) not in tables:
        return set()
    return {*connection.execute("SELECT name, applied FROM schema_migration").fetchall()}


def has_lost(path: str, history: set[tuple[str, str]], *, is_smaller: bool) -> bool:
    """Return whether a file that was written has lost what it held.

    By a checkpoint it has not, nor by VACUUM; it has where it was truncated, or another file was
    copied over it. A new connection has no page of it in its cache.
    """
    uri = uri_of(path, "ro")
    try:
        # the file alone: what was copied over it is hidden by the pages that the -wal holds
        with closing(sqlite3.connect(f"{uri}&immutable=1", uri=True)) as file:
            in_file = history_of(file)
    except sqlite3.Error as error:
        if is_no_database(error):
            return True
        in_file = set()  # a checkpoint of another process may be writing it
    try:
        with closing(sqlite3.connect(uri, 5, uri=True)) as connection:
            is_another = bool(in_file) and history.isdisjoint(in_file)
            if history and (is_another or history.isdisjoint(history_of(connection))):
                return True
            verdict = connection.execute("PRAGMA quick_check(1)") if is_smaller else [("ok",)]
            return list(verdict) != [("ok",)]
    except sqlite3.Error as error:
        return not is_busy(error)


def prepare_file(path: Path, read_only: bool) -> None:
    """Create the file where it is missing, for its owner only; explain what is in the way."""
    try:
        if path.is_dir():
            raise StorageError(f"{path}: is a folder; name a file inside it")
        if path.exists() and not path.is_file():
            raise StorageError(f"{path}: is not a regular file; name a file for the database")
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
