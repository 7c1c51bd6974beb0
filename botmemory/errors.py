"""Every exception botmemory raises: `BotMemoryError` and its leaves."""

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
    """Base of everything botmemory raises; the message says what happened and what to do."""


class ConfigError(BotMemoryError):
    """A setting, a target or a configuration file cannot be used as it is."""


class NotInitializedError(BotMemoryError):
    """The database was used before `init_db()` or after `close_db()`."""


class ValidationError(BotMemoryError, ValueError):
    """A value cannot be stored or asked for; nothing was written.

    `field` names the field or the argument that was refused.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(BotMemoryError):
    """The row to change or delete is not in the database."""


class DuplicateError(BotMemoryError):
    """The row already exists; `id` is the id of the one that is.

    A `uuid.UUID` for a trade, an int for a signal.
    """

    def __init__(self, message: str, *, id: object = None) -> None:
        super().__init__(message)
        self.id = id


class SchemaError(BotMemoryError):
    """The tables are not the ones this code works with: pending, edited, foreign or newer."""


class DatabaseBusyError(BotMemoryError):
    """Somebody else held the database for longer than `busy_timeout`; nothing was written.

    `retryable` is True where the database has rolled back a transaction because of another one, so
    that repeating the whole of it soon succeeds; `run_transaction()` does.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StorageError(BotMemoryError):
    """The database cannot be opened, read or written: disk, permissions, damage."""


def show(value: object) -> str:
    """Return `repr(value)`, shortened to what fits in a message."""
    try:
        text = repr(value)
    except Exception:  # a broken __repr__ must not hide the error being reported
        text = f"<{type(value).__name__}>"
        if isinstance(value, int):  # Python writes no more than 4,300 digits
            text = f"<int of {value.bit_length():,} bits>"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"
