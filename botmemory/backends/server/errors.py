"""What a server reports, said with the database, the cause and what to do."""

from __future__ import annotations

import peewee
import psycopg

from ...errors import BotMemoryError, DatabaseBusyError, SchemaError, StorageError

__all__ = ["busy", "interrupt_behind", "sqlstate", "translated_error", "violated_constraint"]

NOTHING = "nothing was written by this call"
# SQLSTATE, or its class -> what happened, what to do
_CAUSES = {
    "08": ("the connection failed", "check the server and the network, and repeat the call"),
    "25006": ("it can only be read", "connect to the primary, without read_only=True"),
    "25P02": (
        "an earlier statement of this transaction failed",
        "all of it is rolled back: leave session_scope() and begin again",
    ),
    "34": (
        "the transaction in which this was being read is over",
        "use up iterate() inside session_scope(), or call it outside",
    ),
    "42501": ("this user may not", "have the right granted, or connect as another user"),
    "53": ("the server is out of room", f"{NOTHING}; make room, or end what uses it up"),
    "54": ("a limit of the server is exceeded", NOTHING),
    "57": ("the server ended it", "repeat the call"),
    "58": ("the server's system refused", f"{NOTHING}; check the server's disk and its log"),
    "F0": ("the server's configuration is broken", "see the server's log"),
    "XX": ("the server found damage or a fault of its own", "see its log; restore from a backup"),
}
_SCHEMA = frozenset({"42P01", "42703", "3F000", "42704"})
_UNDONE = frozenset({"40001", "40P01"})
_KINDS = {"23503": "reference", "23514": "check", "23502": "null"}


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error, "" for one that is not the server's."""
    origin = getattr(error, "orig", error)  # Peewee keeps the driver's exception
    return getattr(origin, "sqlstate", None) or ""


def busy(label: str, timeout: float, what: str = "another writer held it") -> DatabaseBusyError:
    """Return the error for having waited in vain."""
    return DatabaseBusyError(
        f"{label}: {what} for more than {timeout:g} s; nothing was written, repeat the whole call "
        "or raise busy_timeout"
    )


def translated_error(error: BaseException, label: str, timeout: float) -> BotMemoryError | None:
    """Return the botmemory error for one of the server's, None where there is none."""
    code = sqlstate(error)
    origin = getattr(error, "orig", error)
    # the other lines show the row
    said = getattr(getattr(origin, "diag", None), "message_primary", None) or str(origin)
    if code in _UNDONE:
        return DatabaseBusyError(
            f"{label}: rolled back because of a conflict with another transaction ({said}); "
            "nothing was written, repeat the whole transaction: run_transaction() does",
            retryable=True,
        )
    if code == "55P03":
        return busy(label, timeout)
    if code == "57014":
        return DatabaseBusyError(
            f"{label}: {said}; nothing was written, repeat the whole call or raise the timeout"
        )
    if code in _SCHEMA:
        return SchemaError(
            f"{label}: {said}; look at 'python -m botmemory.migration_runner status'"
        )
    cause = _CAUSES.get(code) or _CAUSES.get(code[:2])
    return StorageError(f"{label}: {cause[0]} ({said}); {cause[1]}") if cause else None


def violated_constraint(error: BaseException) -> str:
    """Return which kind of rule a write broke: `unique`, `reference`, `null` or `check`."""
    code = sqlstate(error)
    return "unique" if code == "23505" else _KINDS.get(code, "check")


def interrupt_behind(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return what a signal handler raised where psycopg says in its own words that it has failed.

    It does so with each `Exception` as it connects, and a time limit is one. `handled` is what the
    caller was handling already.
    """
    found: BaseException | None = error
    while found is not None and found is not handled:
        is_theirs = isinstance(found, (peewee.PeeweeException, psycopg.Error))
        if not is_theirs and type(found).__module__ not in ("builtins", "socket"):
            return found
        found = found.__cause__ or found.__context__
    return None
