"""Botmemory's errors for what a server reports."""

from __future__ import annotations

import re

import peewee
import psycopg

from ...config import Config
from ...errors import BotMemoryError, DatabaseBusyError, SchemaError, StorageError
from ..constraints import violation
from ..retry import busy_error

NOTHING_WRITTEN = "nothing was written by this call"
ROLLED_BACK = (
    "the transaction is rolled back, nothing of it is stored: leave session_scope() and begin again"
)
READ_ONLY = "25006"
# SQLSTATE or its class -> what happened, what to do
_CAUSES = {
    "08": ("the connection failed", "check the server and the network, and repeat the call"),
    READ_ONLY: ("it can only be read", "connect to the primary, without read_only=True"),
    "25P02": (
        "an earlier statement of this transaction failed",
        "all of it is rolled back: leave session_scope() and begin again",
    ),
    "34": (
        "the transaction of this iterate() is over",
        "finish it inside session_scope(), or call it outside",
    ),
    "42501": ("this user may not", "have the right granted, or connect as another user"),
    "53": (
        "the server has no resources left",
        f"{NOTHING_WRITTEN}; free disk space, memory or connections",
    ),
    "54": ("a limit of the server is exceeded", NOTHING_WRITTEN),
    "57": ("the server ended it", "repeat the call"),
    "58": (
        "the server's system refused",
        f"{NOTHING_WRITTEN}; check the server's disk and its log",
    ),
    "F0": ("the server's configuration is broken", "see the server's log"),
    "P0": (
        "a trigger or a function of the database refused it",
        f"{NOTHING_WRITTEN}; correct what it refused, or change it",
    ),
    "XX": ("the server found damage or an internal error", "see its log; restore from a backup"),
}
_CONSTRAINTS = {"23502": "null", "23503": "reference", "23505": "unique"}


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error; "" for one that is not the server's."""
    origin = getattr(error, "orig", error)  # Peewee keeps the driver's exception
    return getattr(origin, "sqlstate", None) or ""


def is_stale_plan(error: BaseException) -> bool:
    """Return whether a migration has changed the result of a statement that was prepared."""
    diagnostic = getattr(getattr(error, "orig", error), "diag", None)
    return getattr(diagnostic, "source_function", None) == "RevalidateCachedQuery"


def needs_other_connection(error: BaseException) -> bool:
    """Return whether the open connections are of no use: to a standby, or with a stale plan."""
    return sqlstate(error) == READ_ONLY or is_stale_plan(error)


def may_repeat(error: BotMemoryError) -> bool:
    """Return whether what only reads, or has done nothing yet, may succeed when repeated."""
    return getattr(error, "connection_lost", False) or getattr(error, "retryable", False)


# what libpq and the server say, for which no SQLSTATE is reported while connecting; in other
# languages than English it only takes longer until the error is raised
_PERMANENT = re.compile(
    r"authentication failed|pg_hba\.conf|no password supplied|does not exist|no such database"
    r"|is not permitted|certificate|SSL|TLS|Name or service not known|permission denied"
)


def is_permanent(error: BaseException) -> bool:
    """Return whether connecting will not succeed until somebody corrects something."""
    return _PERMANENT.search(str(error.__cause__ or error)) is not None


def translated_error(error: BaseException, config: Config, waited: float) -> BotMemoryError | None:
    """Return the botmemory error for one of the server's; None if there is none.

    `waited` is how long a lock was waited for, in seconds.
    """
    label = config.label
    code = sqlstate(error)
    origin = getattr(error, "orig", error)
    diagnostic = getattr(origin, "diag", None)
    # not the other lines, which show values of the row
    message = getattr(diagnostic, "message_primary", None) or str(origin)
    if code.startswith("23"):
        column = getattr(diagnostic, "column_name", None) or ""
        return violation(_CONSTRAINTS.get(code, "check"), message, origin, column)
    if isinstance(error, (peewee.DataError, psycopg.DataError)):
        return violation("type", message, origin)
    if code in ("40001", "40P01"):
        return DatabaseBusyError(
            f"{label}: rolled back because of a conflict with another transaction ({message}); "
            "nothing was written, repeat the whole transaction: run_transaction() does",
            retryable=True,
        )
    if is_stale_plan(error):
        return DatabaseBusyError(
            f"{label}: a migration has changed the tables ({message}); nothing was written, repeat "
            "the whole transaction: run_transaction() does",
            retryable=True,
        )
    if code == READ_ONLY and not config.read_only:
        return DatabaseBusyError(
            f"{label}: the server can only be read ({message}), as a standby that was not promoted "
            "yet; nothing was written, repeat the whole transaction: run_transaction() does",
            retryable=True,
        )
    if code in ("25P03", "25P04"):
        return DatabaseBusyError(
            f"{label}: the server ended the transaction, which did nothing for "
            f"{config.transaction_timeout:g} s and kept others waiting ({message}); nothing of it "
            "is stored: repeat all of it, or raise transaction_timeout",
            retryable=True,
        )
    if code == "55P03":
        return busy_error(label, waited)
    if code == "57014":
        return DatabaseBusyError(
            f"{label}: {message}; nothing was written, repeat the whole call or raise the timeout"
        )
    if code in ("42P01", "42703", "3F000", "42704"):
        return SchemaError(
            f"{label}: {message}; look at 'python -m botmemory.migration_runner status'"
        )
    cause = _CAUSES.get(code) or _CAUSES.get(code[:2])
    if code.startswith("P0") and (context := getattr(diagnostic, "context", None)):
        message = f"{message}, {context.partition(chr(10))[0]}"  # the name of the function
    return StorageError(f"{label}: {cause[0]} ({message}); {cause[1]}") if cause else None


def interrupt_behind(error: BaseException, handled: BaseException | None) -> BaseException | None:
    """Return the exception of a signal handler that psycopg replaced by an error of its own.

    It replaces each `Exception` that is raised while it connects, and a time limit is one; and any
    exception while it waits for several answers. `handled` is the exception that the caller was
    handling before.
    """
    cause: BaseException | None = error
    while cause is not None and cause is not handled:
        is_reported = isinstance(cause, (peewee.PeeweeException, psycopg.Error))
        # the system reports with a number: a handler's own TimeoutError has none
        is_reported |= isinstance(cause, OSError) and cause.errno is not None
        if not (is_reported or isinstance(cause, (StopIteration, GeneratorExit))):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
