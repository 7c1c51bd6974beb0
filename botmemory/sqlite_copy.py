"""Copy a live SQLite database, so that no half-made copy ever has the final name."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .errors import StorageError
from .sqlite import prepare_file

__all__ = ["copy_database", "sync_folder"]

PAGES_PER_STEP = 1024  # between two steps other writers have their turn


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

    try:
        unfinished.unlink(missing_ok=True)
        prepare_file(unfinished, read_only=False)
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
            source.backup(copy, pages=PAGES_PER_STEP, progress=report, sleep=0.001)
            copy.execute("PRAGMA journal_mode = delete")
            verdict = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StorageError(f"{destination}: the copy fails the integrity check: {verdict}")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(destination)
        sync_folder(destination.parent)
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{destination}: the copy failed: {error}; what was copied is untouched"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder through to the disk, where the platform can."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
