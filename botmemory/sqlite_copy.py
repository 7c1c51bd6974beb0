"""Copy a live SQLite database, so that no half-made copy ever has the final name."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .errors import StorageError
from .sqlite_connection import prepare_file
from .sqlite_errors import named_error

__all__ = ["copy_database", "snapshot", "sync_folder"]

PAGES_PER_STEP = 1024


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that sees the file as it is now, whatever is written meanwhile."""
    with closing(
        sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=30)
    ) as connection:
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise named_error(error, str(path), 30) or error from error
        yield connection


def copy_database(
    source: sqlite3.Connection,
    destination: Path,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Copy with SQLite's backup API, verify, write through to the disk, and only then name it.

    `progress` is called with the pages copied and the pages in all. Raises `StorageError`; what
    was at the destination before is then still there.
    """
    unfinished = destination.with_name(destination.name + ".unfinished")

    def report(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    _require_alone(destination)
    try:
        unfinished.unlink(missing_ok=True)
        prepare_file(unfinished, read_only=False)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
            source.backup(copy, pages=PAGES_PER_STEP, progress=report)
            copy.execute("PRAGMA journal_mode = delete")
            verdict = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if verdict != "ok":
                raise StorageError(f"{destination}: the copy fails the integrity check: {verdict}")
            if _rows(copy) != _rows(source):
                raise StorageError(f"{destination}: the copy has not the rows of its source")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        _require_alone(destination)
        unfinished.replace(destination)
        sync_folder(destination.parent)
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{destination}: the copy failed: {error}; what was copied is untouched"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _require_alone(destination: Path) -> None:
    """Refuse to replace a file whose journal SQLite would then write into the copy."""
    for journal in ("-wal", "-journal"):
        left = destination.with_name(destination.name + journal)
        if left.exists() and left.stat().st_size:
            raise StorageError(
                f"{destination}: has a {journal} beside it: a program has it open, or was killed "
                "while it had; open and close it once, or name another file"
            )


def _rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    quoted = {name: '"' + name.replace('"', '""') + '"' for (name,) in tables}
    return {
        name: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        for name, table in quoted.items()
    }


def sync_folder(folder: Path) -> None:
    """Write the names in a folder through to the disk, where the platform can."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
