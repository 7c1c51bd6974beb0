"""Back up a database that is in use, and restore a backup."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from .._paths import is_same_file
from ..atomic_write import SIDECARS
from ..backends.sqlite.copy import copy_to_file, snapshot, sync_folder_of
from ..backends.sqlite.errors import is_busy, translate_errors
from ..backends.sqlite.file_state import staged_beside
from ..backends.sqlite.lock import FileLock
from ..config import Target, absolute_path, config_of
from ..database import db
from ..errors import ConfigError, DatabaseBusyError, SchemaError, StorageError

__all__ = ["backup", "restore"]


def backup(
    destination: str | os.PathLike[str], *, progress: Callable[[int, int], object] | None = None
) -> Path:
    """Copy the open database to a file while bots write.

    The copy is one snapshot of the database. It is verified and flushed to the disk before it gets
    its name, and replaces an existing file. Only its owner may read it (mode 0600), but on Windows
    those who may read its folder.

    Args:
        destination: The path of the copy.
        progress: Called with the pages copied so far and the pages in all.

    Returns:
        The absolute path of the copy.

    Raises:
        ConfigError: The database is on a server, which is copied by its own tool.
        DatabaseBusyError: A transaction is open in this thread.
        StorageError: The copy cannot be made.
    """
    database = db.current()
    path = absolute_path("destination", destination)
    if database.in_transaction():
        raise DatabaseBusyError(
            f"{path}: a transaction is open in this thread; leave session_scope() before backup()"
        )
    if database.file is not None and is_same_file(path, database.file):
        raise StorageError(f"{path}: is the database itself; name another file for the copy")
    with database.snapshot() as source:
        copy_to_file(source, path, progress)
    return path


def restore(source: str | os.PathLike[str], target: Target = None) -> Path | None:
    """Replace a database, which no process may have open, by a copy of it.

    The copy is verified first. The replaced file is kept beside it under another name.

    Args:
        source: The path of the copy.
        target: What `init_db` takes; None for the environment.

    Returns:
        The new path of the replaced file; None if there was none.

    Raises:
        ConfigError: The target is not a SQLite file.
        DatabaseBusyError: A process has the database open; nothing is changed.
        StorageError: The source is missing or damaged; nothing is changed.
        SchemaError: The source has no tables of botmemory; nothing is changed.
    """
    config = config_of(target)
    if config.backend != "sqlite" or config.in_memory:
        raise ConfigError(f"{config.label}: only a SQLite file can be restored")
    path, source_path = Path(config.sqlite_path), absolute_path("source", source)
    if is_same_file(path, source_path):
        raise StorageError(f"{source_path}: is the database itself; name the copy to restore")
    if db.obj is not None and db.config.is_same_database(config):
        raise DatabaseBusyError(f"{path}: this process has the database open; close_db() first")
    with translate_errors(path, "cannot be restored"):
        if not source_path.is_file():
            raise StorageError(f"{source_path}: there is no such file to restore; check the path")
        with _exclusive(path):
            return _replace(path, source_path)


def _replace(path: Path, source_path: Path) -> Path | None:
    staged = staged_beside(path)
    if is_same_file(source_path, staged):  # the copy that a killed restore has left
        staged = staged_beside(staged)
    was_left = staged.exists()  # by a killed restore: it may be all that there is
    kept = path.with_name(f"{path.stem}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z.db")
    is_replaced = path.exists()
    try:
        with snapshot(source_path) as copy:
            _require_copy(copy, source_path)
            copy_to_file(copy, staged)
        if path.exists() is not is_replaced:
            done = "deleted" if is_replaced else "made"
            raise DatabaseBusyError(
                f"{path}: a process has {done} it meanwhile; stop the bot first"
            )
        _rename_sidecars(path, kept)  # SQLite would apply those of a missing file to the copy
        if is_replaced:
            _keep(path, kept)
        staged.replace(path)
    except BaseException:
        if staged.exists():  # the copy is not in place
            with suppress(OSError):  # it must not hide the first error
                _take_back(path, kept)
                if not was_left:
                    staged.unlink()
        raise
    sync_folder_of(path)
    return kept if is_replaced else None


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the write lock; raise `DatabaseBusyError` if a process has the database open."""
    busy = DatabaseBusyError(f"{path}: a process has the database open; stop the bot first")
    lock = FileLock(f"{path}-lock")
    try:
        if not lock.acquire(5):
            raise busy
        if path.exists():
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
                # it leaves WAL mode only for the last connection; in another mode, others may write
                for statement in ("PRAGMA journal_mode = delete", "BEGIN EXCLUSIVE", "ROLLBACK"):
                    try:
                        connection.execute(statement).fetchall()
                    except sqlite3.DatabaseError as error:  # a damaged file may be replaced
                        if is_busy(error):
                            raise busy from error
        yield
    finally:
        lock.close()


def _require_copy(connection: sqlite3.Connection, path: Path) -> None:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if not {"trade", "signal", "schema_migration"} <= names:
        raise SchemaError(
            f"{path}: is not a copy of a database of botmemory: it has no trades and signals; "
            "name another file"
        )


def _keep(path: Path, kept: Path) -> None:
    """Give a file another name, too.

    Where the file system or its owner refuses a second name, it is renamed. It is on Windows, too:
    the second name of a file that a program has open could not be removed there. A process that is
    killed then leaves no file under the name, and `prepare_file` makes no empty one in its place.
    """
    try:
        if sys.platform == "win32":
            raise OSError
        os.link(path, kept)
    except OSError:
        path.rename(kept)


def _take_back(path: Path, kept: Path) -> None:
    """Undo what `_keep` and `_rename_sidecars` have done so far.

    Going by the files: an interrupt may be raised before a rename or after it.
    """
    if not path.exists():
        with suppress(FileNotFoundError):  # there was none
            kept.rename(path)
    elif is_same_file(path, kept):
        kept.unlink()
    _rename_sidecars(kept, path)


def _rename_sidecars(path: Path, new_path: Path) -> None:
    for suffix in SIDECARS:
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{new_path}{suffix}")
