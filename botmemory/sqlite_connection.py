"""The connection of one thread to one file: how it is made, kept and closed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import peewee

from .errors import StorageError
from .filelock import FileLock

__all__ = ["Connection", "State", "files_of", "prepare_file"]

SMALLEST_FILE = 512  # one page of the smallest size


class Connection:
    """The connection of one thread, and the files it is on; closed when the thread ends."""

    def __init__(
        self, raw: sqlite3.Connection, lock: FileLock | None, tidy: str | None = None
    ) -> None:
        self.raw = raw
        self.lock = lock
        self.tidy = tidy  # the file beside which reading alone has made a -wal
        self.process = os.getpid()
        self.files: tuple[int, ...] = ()
        self.closed = False

    def close(self, patience: float = 1.0) -> None:
        """Close under the lock: the last one to close writes the -wal back into the file."""
        if self.closed:
            return
        self.closed = True
        held = self.lock is not None and self.lock.acquire_by_trying(patience)
        self.raw.close()
        if held and self.lock is not None:
            self.lock.release()
        if self.tidy is not None:
            # a connection that may write takes an empty -wal away with it, if it is the last one
            with suppress(sqlite3.Error), closing(sqlite3.connect(self.tidy, timeout=0)) as last:
                last.execute("PRAGMA schema_version")

    def abandon(self) -> None:
        """Leave it open for good: closing would write an orphaned -wal over newer pages."""
        import ctypes  # late: hardly anybody needs it, and everybody would wait for it

        self.closed = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.raw))

    def __del__(self) -> None:
        # a child must not close what it has inherited: the parent goes on with it
        if self.process == os.getpid():
            self.close(patience=0.1)


class State(peewee._ConnectionLocal):
    """What each thread has of its own."""

    held: Connection | None = None
    lock: FileLock | None = None
    depth = 0  # how often this thread holds the lock
    task: object = None  # the asyncio task whose transaction is open


def files_of(path: str) -> tuple[int, ...]:
    """Return device and inode of the file and of its -wal, as their names lead to them now.

    Nothing, where one of the two is missing.
    """
    try:
        # half the time of Path.stat, at each commit
        file, wal = os.stat(path), os.stat(path + "-wal")  # noqa: PTH116
    except FileNotFoundError:
        return ()
    return file.st_dev, file.st_ino, wal.st_dev, wal.st_ino


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
