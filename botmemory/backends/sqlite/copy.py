"""Copy a live SQLite database, so that no half-made copy ever has the final name."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ..._arguments import from_caller
from ...atomic_write import replacing
from ...errors import StorageError
from .connection import prepare_file
from .errors import translate_errors, translated

__all__ = ["back_up", "copy_to_file", "snapshot", "sync_folder_of"]

PAGES_PER_STEP = 1024
BACKUPS_KEPT = 5


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that sees the file as it is now, whatever is written meanwhile."""
    uri = f"{path.as_uri()}?mode=ro"
    with ExitStack() as opened:
        with translate_errors(path, "cannot be read"):
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
            opened.enter_context(closing(connection))
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection


def copy_to_file(
    source: sqlite3.Connection,
    destination: Path,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Copy with SQLite's backup API, verify, write through to the disk, and only then name it.

    `progress` is called with the pages copied and the pages in all. Raises `StorageError`; what
    was at the destination before is then still there.
    """

    @from_caller
    def report(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    translation = partial(
        translate_errors, destination, "the copy failed, what was copied is untouched"
    )
    with translation():
        _require_alone(destination)
        # inside as well: while the unfinished copy is there, one sees that the disk is full
        with replacing(destination) as unfinished, translation():
            prepare_file(unfinished, read_only=False)
            with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
                source.backup(copy, pages=PAGES_PER_STEP, progress=report)
                _verify(copy, source, destination)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            _require_alone(destination)
    sync_folder_of(destination)


def _verify(copy: sqlite3.Connection, source: sqlite3.Connection, destination: Path) -> None:
    copy.execute("PRAGMA journal_mode = delete")
    verdict = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StorageError(f"{destination}: the copy fails the integrity check: {verdict}")
    if _rows(copy) != _rows(source):
        raise StorageError(f"{destination}: the copy has not the rows of its source")


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


def sync_folder_of(path: Path) -> None:
    """Write the name of a file through to the disk, where the platform can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            with suppress(OSError):  # everything is written by then
                os.close(folder)
    except OSError as error:
        failed = "is in its place, but whether it survives a power cut is not known"
        raise translated(error, path, failed) from error


def back_up(file: Path, number: str) -> None:
    """Copy a file beside itself, verified, and keep the newest five such copies.

    The copy is named after the migration that is about to change the file, and the time.
    """
    before, kind = f"{file.stem}.before-", file.suffix
    name = re.compile(
        rf"{re.escape(before)}\d+-(\d{{8}}T\d{{12}}Z){re.escape(kind)}(\.unfinished.*)?"
    )
    copies = []
    for sibling in file.parent.iterdir():
        if (match := name.fullmatch(sibling.name)) is None:
            continue
        if match[2]:
            _remove(sibling)  # of a process that was killed meanwhile
        else:
            copies.append((match[1], sibling))
    copy = file.with_name(f"{before}{number}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z{kind}")
    with snapshot(file) as source:
        copy_to_file(source, copy)
    for _, old in sorted(copies)[: 1 - BACKUPS_KEPT]:
        _remove(old)


def _remove(file: Path) -> None:
    with suppress(OSError):  # the next migration tries again
        file.unlink()
