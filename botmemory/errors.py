"""Every exception botmemory raises: `BotMemoryError` and its subclasses."""

from __future__ import annotations

__all__ = [
    "BotMemoryError",
    "ConfigError",
    "DatabaseBusyError",
    "DuplicateError",
    "NotFoundError",
    "NotInitializedError",
    "SchemaError",
    "StorageError",
    "ValidationError",
    "show",
]


class BotMemoryError(Exception):
    """Base class of every error that botmemory raises.

    The message says what happened, where, and what to do.
    """


class ConfigError(BotMemoryError):
    """A setting, a database URL or a configuration file is invalid."""


class NotInitializedError(BotMemoryError):
    """No database is open: `init_db()` was not called yet, or `close_db()` was."""


class ValidationError(BotMemoryError, ValueError):
    """A value or an argument is invalid; nothing was written.

    Attributes:
        field: The name of the invalid field or argument, or None where no single one is.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(BotMemoryError):
    """The row to update or delete is not in the database."""


class DuplicateError(BotMemoryError):
    """A row with the same id or another unique value already exists.

    Attributes:
        id: The id of the existing row: a `uuid.UUID` for a trade, an int for a signal. None where
            it is not known.
    """

    def __init__(self, message: str, *, id: object = None) -> None:
        super().__init__(message)
        self.id = id


class SchemaError(BotMemoryError):
    """The tables do not fit the code.

    A migration is pending or was edited, a table is missing or belongs to another program, or a
    newer version of botmemory made it.
    """


class DatabaseBusyError(BotMemoryError):
    """Another transaction or connection blocks the database; nothing was written.

    It is raised after waiting `busy_timeout` seconds for a lock or a connection, or at once where
    waiting cannot help.

    Attributes:
        retryable: True where the database rolled the transaction back because of a deadlock, of a
            conflict, of a migration, or because it did nothing for `transaction_timeout`. The
            whole transaction may succeed when it is repeated, as `run_transaction()` does.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StorageError(BotMemoryError):
    """The database or a file cannot be opened, read or written: disk, permissions, damage.

    Attributes:
        connection_lost: True where the connection to a server was lost, or no answer came within
            `call_timeout`. The message says whether the call may have been stored.
    """

    def __init__(self, message: str, *, connection_lost: bool = False) -> None:
        super().__init__(message)
        self.connection_lost = connection_lost


def show(value: object) -> str:
    """Return `repr(value)`, shortened to fit in a message."""
    try:
        text = repr(value)
    except Exception:  # a broken __repr__ must not hide the error being reported
        text = f"<{type(value).__name__}>"
        if isinstance(value, int):  # Python writes no more than 4,300 digits
            text = f"<int of {value.bit_length():,} bits>"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
