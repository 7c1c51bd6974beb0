"""A private copy of the SQLite file of another program; nothing is written in or beside it."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from .._values import plain_text
from ..atomic_write import SQLITE_MAGIC
from ..backends.sqlite.copy import snapshot
from ..backends.sqlite.errors import cannot_open, translate_errors
from ..config import absolute_path
from ..errors import ConfigError, DatabaseBusyError, StorageError

SUFFIXES = ("", "-wal", "-journal")  # of the files that make up a database
ATTEMPTS, PAUSE = 10, 0.2  # seconds
# of a URL, which a Path has with one slash; also after a quote, or in `db_url=...`
_SCHEME = re.compile(r"""(?:^|[\s'"=])([A-Za-z][A-Za-z0-9+.-]+):/""")


def sqlite_file(path: str | os.PathLike[str], advice: str) -> Path:
    """Return the absolute path of a SQLite file that is named by its path or a URL of SQLAlchemy.

    Raises `ConfigError` for the URL of a server, without showing it, and with the advice.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
    text = plain_text(text) if isinstance(text, str) else ""
    if scheme := _SCHEME.search(text):
        name = scheme[1].lower()
        if name.partition("+")[0] != "sqlite":
            raise ConfigError(f"path: {name}://... is not a SQLite file; {advice}")
        file = text.partition(":///")[2].partition("?")[0]
        if file in ("", ":memory:"):
            raise ConfigError(
                "path: the URL names no file; pass its path, or as text 'sqlite:///relative.sqlite'"
                " or 'sqlite:////absolute.sqlite'"
            )
        return absolute_path("path", file)
    return absolute_path("path", path)


@contextmanager
def private_copy(path: Path) -> Iterator[Path]:
    """Yield the path of a copy, which is deleted at the end.

    Raises `StorageError` if the file is no database or cannot be copied, `DatabaseBusyError` if it
    is written all the time.
    """
    with translate_errors(path, "cannot be read"), path.open("rb") as file:
        header = file.read(20)
    if not header.startswith(SQLITE_MAGIC):
        raise StorageError(f"{path}: is not a SQLite database; check the path")
    with translate_errors(path, "cannot be copied to a temporary folder"):
        folder = tempfile.mkdtemp(prefix="botmemory-")
    try:
        copy = Path(folder, "copy.db")
        with translate_errors(path, f"cannot be copied to {folder}"):
            if not _copy_with_sqlite(path, copy, in_wal=header[18] == 2):
                _copy_files(path, copy)
        _require_undamaged(copy, path)
        yield copy
    finally:
        for _ in range(2):  # again, as an error may have left files
            with suppress(OSError):  # a folder that remains must not fail the import
                shutil.rmtree(folder, ignore_errors=True)


def _copy_with_sqlite(path: Path, copy: Path, *, in_wal: bool) -> bool:
    """Copy with SQLite's own locks; return False if SQLite would create a file beside it."""
    if in_wal and not path.with_name(f"{path.name}-shm").exists():
        return False  # no program has it open; SQLite would create files with another owner
    try:
        with snapshot(path) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except StorageError as error:
        if not cannot_open(error.__cause__ or error):
            raise
        return False
    return True


def _copy_files(path: Path, copy: Path) -> None:
    """Copy the file and its journals as they are at one point in time."""
    for _ in range(ATTEMPTS):
        before = _state(path)
        for suffix in SUFFIXES:
            target = copy.with_name(copy.name + suffix)
            target.unlink(missing_ok=True)
            if suffix in before:
                shutil.copyfile(path.with_name(path.name + suffix), target)
        if _state(path) == before:
            return
        time.sleep(PAUSE)
    raise DatabaseBusyError(f"{path}: is being written all the time; stop its bot and try again")


def _require_undamaged(copy: Path, path: Path) -> None:
    with closing(sqlite3.connect(copy)) as connection:
        try:
            [result] = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            result = str(error)
    if result != "ok":
        raise StorageError(f"{path}: the file is damaged ({result}); import a backup of it")


def _state(path: Path) -> dict[str, tuple[int, ...]]:
    state: dict[str, tuple[int, ...]] = {}
    for suffix in SUFFIXES:
        file = path.with_name(path.name + suffix)
        if file.exists():
            status = file.stat()
            state[suffix] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return state
