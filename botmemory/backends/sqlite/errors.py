"""Botmemory's errors for what SQLite and the operating system report of a file."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from ..._arguments import is_from_caller
from ...errors import BotMemoryError, DatabaseBusyError, SchemaError, StorageError
from ..constraints import violation
from ..retry import busy_error

RESTORE = "stop the bot, keep a copy of the file and restore the latest backup"
NOTHING_WRITTEN = "nothing was written by this call"
OUTCOME_UNKNOWN = "whether this call is stored is not known"
SPACE_TO_OPEN = 64 * 1024  # bytes: SQLite creates a -shm of 32 KiB before it writes a page

# low byte of the result code -> what happened, what to do
_CAUSES = {
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        f"{NOTHING_WRITTEN}; free some space and repeat the call",
    ),
    sqlite3.SQLITE_IOERR: (
        "the system refused to read or write it",
        f"{NOTHING_WRITTEN}; check the disk, its free space and the limit on the size of files",
    ),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written",
        "check the permissions of the file, of its -wal and -shm and of its folder, and whether it "
        "was opened with read_only=True",
    ),
    sqlite3.SQLITE_PERM: ("access is denied", "check the permissions of the file"),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "check that the file is there, the permissions of its folder, and the limit on open files",
    ),
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database",
        "check the path; the file was left as it is",
    ),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", RESTORE),
    sqlite3.SQLITE_NOMEM: ("there is not enough memory", "free some memory and repeat the call"),
    sqlite3.SQLITE_PROTOCOL: (
        "it cannot be locked",
        f"{NOTHING_WRITTEN}; repeat the call, and keep the file on a local disk",
    ),
}

_CONSTRAINTS = {
    "FOREIGNKEY": "reference",
    "NOTNULL": "null",
    "PRIMARYKEY": "unique",
    "ROWID": "unique",
    "UNIQUE": "unique",
}

_CHECK_DISK = "check the disk and repeat the call"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEDIES = {
    **dict.fromkeys(_FULL, "free some space and repeat the call"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "check the permissions of the file and of its folder",
    ),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files, or close some"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), "check the path"),
}


def result_code(error: BaseException) -> int:
    """Return the low byte of SQLite's result code; 0 for another error."""
    origin = getattr(error, "orig", error)  # Peewee keeps the driver's exception
    return getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Return whether another connection had the database locked."""
    return result_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_outdated_read(error: BaseException) -> bool:
    """Return whether it refused a write because this connection reads an older snapshot."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", sqlite3.SQLITE_OK)
    return bool(code == sqlite3.SQLITE_BUSY_SNAPSHOT)


def cannot_open(error: BaseException) -> bool:
    """Return whether SQLite could not open the file, its -wal or its -shm."""
    return result_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def is_damage(error: BaseException) -> bool:
    """Return whether SQLite says that the file is damaged."""
    return result_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def translated_error(error: BaseException, path: str, timeout: float) -> BotMemoryError | None:
    """Return the botmemory error for one of SQLite's; None if there is none."""
    if is_outdated_read(error):
        return DatabaseBusyError(
            f"{path}: another writer has changed it since a query of this thread began, whose rows "
            f"are not all fetched; {NOTHING_WRITTEN}: fetch them first, or read and write in one "
            "session_scope()"
        )
    if is_busy(error):
        return busy_error(path, timeout)
    if (cause := _cause(error, path)) is not None:
        return StorageError(f"{path}: {'; '.join(cause)}")
    origin: Any = getattr(error, "orig", error)
    if result_code(error) == sqlite3.SQLITE_CONSTRAINT:
        name = origin.sqlite_errorname.removeprefix("SQLITE_CONSTRAINT_")
        # "NOT NULL constraint failed: trade.price"
        column = str(origin).rpartition(".")[2]
        return violation(_CONSTRAINTS.get(name, "check"), str(origin), origin, column)
    if str(origin).startswith(("no such table", "no such column")):
        return SchemaError(
            f"{path}: {origin}; look at 'python -m botmemory.migration_runner status'"
        )
    return None


def unreadable_error(error: BaseException, path: str) -> StorageError:
    """Return the error for a failed read that SQLite reports as damage."""
    return StorageError(
        f"{path}: the system refused to read it ({getattr(error, 'orig', error)}), and it is "
        f"not damaged now; {NOTHING_WRITTEN}; {_CHECK_DISK}"
    )


def _cause(error: BaseException, path: str) -> tuple[str, str] | None:
    """Return what happened, and what to do; None for an error of another kind."""
    origin: Any = getattr(error, "orig", error)
    code = result_code(error)
    if code not in _CAUSES:
        return None
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _is_full(path):
        code = sqlite3.SQLITE_FULL  # which SQLite reports for the database file, not for the -shm
    cause, remedy = _CAUSES[code]
    if code == sqlite3.SQLITE_IOERR and origin.sqlite_errorcode == sqlite3.SQLITE_IOERR_FSYNC:
        # the commit is complete in the -wal, where a later reader may find it
        remedy = f"{OUTCOME_UNKNOWN}: look before you repeat it; check the disk and its free space"
    return f"{cause} ({origin})", remedy


def _is_full(path: str) -> bool:
    """Return whether the disk has no space for the files that SQLite creates on opening."""
    from shutil import disk_usage  # imported late: only errors need it

    try:
        return disk_usage(os.path.dirname(path) or ".").free < SPACE_TO_OPEN  # noqa: PTH120
    except OSError:
        return False


def translated(error: Exception, path: str | os.PathLike[str], failed: str) -> BotMemoryError:
    """Return the botmemory error for an error of the system, SQLite or Peewee.

    `failed` says what failed, as in "cannot be copied".
    """
    if isinstance(error, BotMemoryError):
        return error
    path = os.fspath(path)
    if isinstance(error, OSError):
        return StorageError(f"{path}: {failed}: {_system_cause(error, path)}")
    if is_busy(error):
        return DatabaseBusyError(f"{path}: {failed}: another program is writing it; try again")
    reason, remedy = _cause(error, path) or (str(getattr(error, "orig", error)), _CHECK_DISK)
    remedy = remedy.removeprefix(f"{NOTHING_WRITTEN}; ")  # a longer call may have written
    return StorageError(f"{path}: {failed}: {reason}; {remedy}")


def _system_cause(error: OSError, path: str) -> str:
    cause, number = error.strerror or str(error), error.errno
    if sys.platform == "win32":
        if error.winerror in (32, 33):
            return f"another program has it open ({cause}); close it there and repeat the call"
        refused = error.filename2 or error.filename or path
        if number == errno.EACCES and os.path.isdir(refused):  # noqa: PTH112
            return f"{cause}: {refused} is a folder; check the path and its permissions"
        if error.winerror == 5 and error.filename2 is not None:  # a rename
            return f"{cause}: close it in programs that have it open; check its permissions"
    if number in _FULL:
        cause = f"the disk is full ({cause})"
    if error.filename is not None and os.fspath(error.filename) != path:
        cause = f"{cause}: {os.fspath(error.filename)}"
    return f"{cause}; {_REMEDIES.get(number or 0, _CHECK_DISK)}"


@contextmanager
def translate_errors(path: str | os.PathLike[str], failed: str) -> Iterator[None]:
    """Raise errors of the system, SQLite and Peewee as the botmemory error for them."""
    try:
        yield
    except (OSError, sqlite3.Error, peewee.PeeweeException) as error:
        if is_from_caller(error):
            raise
        raise translated(error, path, failed) from error
