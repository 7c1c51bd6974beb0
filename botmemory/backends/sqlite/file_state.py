"""The state of a database file, apart from any open connection: which file it is, what it lost."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from ...errors import StorageError
from .errors import is_busy, result_code, translate_errors

MINIMUM_SIZE = 512  # bytes: one page of the smallest page size


def uri_of(path: str, mode: str) -> str:
    """Return the URI that opens a file and never creates one."""
    uri = Path(path).as_uri()
    if not uri.startswith("file:///"):  # of a share of Windows: SQLite takes no other machine here
        uri = uri.replace("file://", "file:////", 1)
    return f"{uri}?mode={mode}"


def size_of(path: str | Path) -> int:
    """Return the size of a file in bytes; 0 if it is missing."""
    path = Path(path)
    return path.stat().st_size if path.exists() else 0


def identity_of(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one that later has its name."""
    status = path.stat()
    return status.st_dev, status.st_ino


def staged_beside(path: Path) -> Path:
    """Return the path of the copy that a restore is about to put in the place of a file."""
    return path.with_name(f"{path.name}.restoring")


def prepare_file(path: Path, read_only: bool) -> None:
    """Create the file if it is missing, readable by its owner alone."""
    try:
        if path.is_dir():
            raise StorageError(f"{path}: is a folder; name a file inside it")
        if path.exists() and not path.is_file():
            raise StorageError(f"{path}: is not a regular file; name a file for the database")
        if path.exists():
            # SQLite takes a file of a few bytes for an empty database
            if 0 < path.stat().st_size < MINIMUM_SIZE:
                raise StorageError(f"{path}: it is not a SQLite database; check the path")
            return
        staged = staged_beside(path)
        if staged.exists():
            raise StorageError(
                f"{path}: is missing, and {staged.name} beside it was left by a restore() that did "
                f"not end; repeat it, or delete {staged.name} to begin with an empty database"
            )
        if read_only:
            raise StorageError(f"{path}: there is no such database to read; check the path")
        if not path.parent.is_dir():
            raise StorageError(f"{path}: its folder {path.parent} does not exist; create it first")
        path.touch(mode=0o600)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be created: {error.strerror}; check the folder and its permissions"
        ) from error


def files_of(path: str) -> tuple[int, ...]:
    """Return device and inode of the file and of its -wal, the file's mtime and its size.

    An empty tuple if one of the two is missing.
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
    """Return what changes when another program writes a file that is open as immutable."""
    with translate_errors(path, "cannot be looked at"):
        status, has_wal = Path(path).stat(), size_of(path + "-wal") > 0
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, has_wal


def history_of(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return the applied migrations with their times, which differ between two databases.

    An empty set if there are no tables yet.
    """
    tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    if ("schema_migration",) not in tables:
        return set()
    return {*connection.execute("SELECT name, applied FROM schema_migration").fetchall()}


def describe_loss(
    path: str, history: set[tuple[str, str]], before: tuple[int, ...], after: tuple[int, ...]
) -> str | None:
    """Return how data was lost between two results of `files_of`; None if none was.

    `history` is what `history_of` returned when the file was opened.
    """
    if after[:4] != before[:4]:
        return "the file or its -wal was deleted or replaced while it was open"
    if _has_lost_data(path, history, is_smaller=after[-1] < before[-1]):
        return "the file was truncated or overwritten while it was open"
    return None


def _has_lost_data(path: str, history: set[tuple[str, str]], *, is_smaller: bool) -> bool:
    """Return whether a file was truncated or overwritten, rather than checkpointed or vacuumed."""
    uri = uri_of(path, "ro")
    try:
        # the file alone: pages in the -wal would hide what was copied over it
        with closing(sqlite3.connect(f"{uri}&immutable=1", uri=True)) as file:
            in_file = history_of(file)
    except sqlite3.Error as error:
        if result_code(error) == sqlite3.SQLITE_NOTADB:
            return True
        in_file = set()  # a checkpoint of another process may be writing it
    try:
        # a new connection: an old one has pages in its cache
        with closing(sqlite3.connect(uri, timeout=5, uri=True)) as connection:
            is_another = bool(in_file) and history.isdisjoint(in_file)
            if history and (is_another or history.isdisjoint(history_of(connection))):
                return True
            verdict = connection.execute("PRAGMA quick_check(1)") if is_smaller else [("ok",)]
            return list(verdict) != [("ok",)]
    except sqlite3.Error as error:
        return not is_busy(error)


def is_damaged(path: str) -> bool:
    """Return whether a file is damaged; SQLite also reports damage for one failed read."""
    try:
        with closing(sqlite3.connect(uri_of(path, "ro"), uri=True)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return not is_busy(error)
    return bool(verdict != "ok")
