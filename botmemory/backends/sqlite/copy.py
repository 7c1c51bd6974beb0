"""Copy a live SQLite database; an incomplete copy never has the final name."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ..._arguments import from_caller
from ...atomic_write import replacing
from ...errors import StorageError
from .errors import translate_errors, translated
from .file_state import prepare_file, size_of, uri_of

if sys.platform == "darwin":
    import fcntl

PAGES_PER_STEP = 1024
BACKUPS_KEPT = 5


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that sees the file as it is now, whatever is written meanwhile."""
    with ExitStack() as stack:
        with translate_errors(path, "cannot be read"):
            uri = uri_of(str(path), "ro")
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30)
            stack.enter_context(closing(connection))
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection


def copy_to_file(
    source: sqlite3.Connection,
    destination: Path,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Copy with SQLite's backup API, verify, sync to the disk, then rename to `destination`.

    `progress` is called with the pages copied and all pages. After a `StorageError` the file that
    was at the destination before is still there.
    """

    @from_caller
    def report(_: int, remaining: int, total: int) -> None:
        if progress is not None:
            progress(total - remaining, total)

    translation = partial(translate_errors, destination, "the copy failed, its source is unchanged")
    with translation():
        _require_no_journal(destination)
        # translated inside too: a full disk is noticed only while the unfinished copy exists
        with replacing(destination) as unfinished, translation():
            prepare_file(unfinished, read_only=False)
            with closing(sqlite3.connect(unfinished, isolation_level=None)) as copy:
                source.backup(copy, pages=PAGES_PER_STEP, progress=report)
                _verify(copy, source, destination)
            sync_to_disk(unfinished)
            _require_no_journal(destination)
    sync_folder_of(destination)


def _verify(copy: sqlite3.Connection, source: sqlite3.Connection, destination: Path) -> None:
    copy.execute("PRAGMA journal_mode = delete")
    verdict = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StorageError(f"{destination}: the copy fails the integrity check: {verdict}")
    if _row_counts(copy) != _row_counts(source):
        raise StorageError(f"{destination}: the copy does not have the rows of its source")


def _require_no_journal(destination: Path) -> None:
    """Refuse to replace a file with a journal: SQLite would apply the journal to the copy."""
    for journal in ("-wal", "-journal"):
        if size_of(f"{destination}{journal}"):
            raise StorageError(
                f"{destination}: has a {journal} beside it: a program has it open, or was killed "
                "while it had it open; open and close it once, or name another file"
            )


def _row_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    quoted = {name: '"' + name.replace('"', '""') + '"' for (name,) in tables}
    return {
        name: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        for name, table in quoted.items()
    }


def sync_to_disk(file: Path) -> None:
    """Have the content of a file written to the disk."""
    with file.open("r+b") as opened:  # Windows syncs only what may be written
        if sys.platform == "darwin":  # where fsync leaves it in the cache of the disk
            with suppress(OSError):  # a file system that has no such call
                fcntl.fcntl(opened.fileno(), fcntl.F_FULLFSYNC)
                return
        os.fsync(opened.fileno())


def sync_folder_of(path: Path) -> None:
    """Sync the folder of a file to the disk, if the platform can."""
    if sys.platform == "win32":  # which has no such call
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            with suppress(OSError):  # all is synced by then
                os.close(folder)
    except OSError as error:
        failed = "is written, but whether it survives a power cut is not known"
        raise translated(error, path, failed) from error


def back_up(file: Path, number: str) -> None:
    """Copy a file before migration `number` changes it, and keep the newest five such copies."""
    before, suffix = f"{file.stem}.before-", file.suffix
    name = re.compile(
        rf"{re.escape(before)}\d+-(\d{{8}}T\d{{12}}Z){re.escape(suffix)}(\.unfinished.*)?"
    )
    copies = []
    for sibling in file.parent.iterdir():
        if (match := name.fullmatch(sibling.name)) is None:
            continue
        if match[2]:
            _remove(sibling)  # the process that wrote it was killed
        else:
            copies.append((match[1], sibling))
    copy = file.with_name(f"{before}{number}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z{suffix}")
    with snapshot(file) as source:
        copy_to_file(source, copy)
    for _, old in sorted(copies)[: 1 - BACKUPS_KEPT]:
        _remove(old)


def _remove(file: Path) -> None:
    with suppress(OSError):  # the next migration tries again
        file.unlink()
