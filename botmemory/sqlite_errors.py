"""What SQLite reports, said with the file, the cause and what to do."""

from __future__ import annotations

import sqlite3

from .errors import BotMemoryError, DatabaseBusyError, SchemaError, StorageError

__all__ = ["is_busy", "is_damage", "is_unopened", "named_error"]

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
RESTORE = "stop the bot, keep a copy of the file and restore the latest backup"

# the low byte of a result code -> what happened, what to do
_CAUSES = {
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        "nothing was written by this call; free some space and go on with the same memory",
    ),
    sqlite3.SQLITE_IOERR: (
        "the system refused to read or write it",
        "nothing was written by this call; check the disk, its free space and the limit on the "
        "size of files",
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
}


def _code(error: BaseException) -> int:
    """Return the low byte of SQLite's result code, 0 for what is not SQLite's."""
    origin = getattr(error, "orig", error)  # Peewee keeps the driver's exception
    return getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Return whether somebody else had the database."""
    return _code(error) in _BUSY


def is_damage(error: BaseException) -> bool:
    """Return whether the content of the file is broken."""
    return _code(error) in _DAMAGE


def is_unopened(error: BaseException) -> bool:
    """Return whether SQLite could not open the file, or one of those beside it."""
    return _code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


def busy(path: str, timeout: float) -> DatabaseBusyError:
    """Return the error for having waited in vain."""
    return DatabaseBusyError(
        f"{path}: another writer held it for more than {timeout:g} s; "
        "nothing was written, repeat the whole call or raise busy_timeout"
    )


def named_error(error: BaseException, path: str, timeout: float) -> BotMemoryError | None:
    """Return the botmemory error for one of SQLite's, None where there is none."""
    if is_busy(error):
        return busy(path, timeout)
    origin = getattr(error, "orig", error)
    if (code := _code(error)) in _CAUSES:
        cause, remedy = _CAUSES[code]
        return StorageError(f"{path}: {cause} ({origin}); {remedy}")
    if str(origin).startswith(("no such table", "no such column")):
        return SchemaError(
            f"{path}: {origin}; look at 'python -m botmemory.migration_runner status'"
        )
    return None
