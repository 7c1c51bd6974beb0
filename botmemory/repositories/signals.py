"""Record and query signals.

Times are in UTC. Lists are newest first: by timestamp, then by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Required, SupportsFloat, TypedDict, Unpack

from .._arguments import checked_call
from ..models import Signal
from ..queries import metadata, read, write

__all__ = [
    "NewSignal",
    "SignalChanges",
    "create",
    "create_many",
    "delete",
    "get_all",
    "get_by_date_range",
    "get_by_id",
    "get_by_metadata",
    "get_by_signal_value",
    "get_by_symbol",
    "get_latest",
    "get_signal_count",
    "iterate",
    "update",
]


class SignalChanges(TypedDict, total=False):
    """The fields that `update` can write."""

    timestamp: datetime
    symbol: str
    signal_value: int
    signal_metadata: Any
    strategy: str | None


class NewSignal(TypedDict, total=False):
    """One row for `create_many`: the arguments of `create`."""

    symbol: Required[str]
    signal_value: Required[int]
    signal_metadata: Any
    timestamp: datetime | None
    strategy: str | None


@checked_call
def create(
    *,
    symbol: str,
    signal_value: int,
    signal_metadata: Any = None,
    timestamp: datetime | None = None,
    strategy: str | None = None,
) -> Signal:
    """Record one signal and return it as it is stored.

    Args:
        symbol: 1 to 64 printable characters, as the exchange writes it.
        signal_value: 1 (buy), -1 (sell) or 0 (neutral).
        signal_metadata: Any JSON value, such as the indicators that led to the signal.
        timestamp: The time of the signal; a naive datetime is taken as UTC; None for the current
            time.
        strategy: The name of the strategy.

    Raises:
        ValidationError: A value is invalid; the message names the field.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    values = {
        "symbol": symbol,
        "signal_value": signal_value,
        "signal_metadata": signal_metadata,
        "timestamp": timestamp,
        "strategy": strategy,
    }
    return write.insert_autoincrement(Signal, write.prepare(Signal, values))


@checked_call
def create_many(rows: Iterable[NewSignal]) -> int:
    """Record many signals in one transaction, all or none.

    The first 5,000 rows of a generator are read before the transaction begins, the others while it
    is open; on SQLite all other writers wait meanwhile, and what the generator itself records is
    part of the transaction.

    Args:
        rows: Mappings with the arguments of `create`.

    Returns:
        The number of recorded rows.

    Raises:
        ValidationError: As for `create`, naming the row: `rows[2]: symbol: ...`.
        DatabaseBusyError: As for `create`.
        StorageError: As for `create`.
    """
    return write.insert_many(Signal, rows, write.prepare, write.insert_autoincrement)


@checked_call
def get_by_id(id: int) -> Signal | None:
    """Return the signal with this id, or None.

    Raises:
        ValidationError: The id is not an int.
    """
    return read.get_by_id(Signal, id)


@checked_call
def get_all(limit: int | None = None, *, strategy: str | None = None) -> list[Signal]:
    """Return the signals, newest first.

    Args:
        limit: The maximum number of rows; None for all.
        strategy: Only the signals of this strategy; "" for those without one; None for all.
    """
    return read.newest_first(Signal, read.filters(Signal, strategy=strategy), limit)


@checked_call
def get_by_symbol(
    symbol: str, limit: int | None = None, *, strategy: str | None = None
) -> list[Signal]:
    """Return the signals of one symbol, newest first.

    Args:
        symbol: The symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the signals of this strategy; "" for those without one; None for all.
    """
    filters = read.filters(Signal, write.required("symbol", symbol), strategy)
    return read.newest_first(Signal, filters, limit)


@checked_call
def get_latest(
    symbol: str | None = None, limit: int | None = 10, *, strategy: str | None = None
) -> list[Signal]:
    """Return the signals with the latest timestamps, newest first.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the signals of this strategy; "" for those without one; None for all.
    """
    return read.newest_first(Signal, read.filters(Signal, symbol, strategy), limit)


@checked_call
def get_by_date_range(
    symbol: str | None,
    start_date: datetime,
    end_date: datetime,
    *,
    strategy: str | None = None,
) -> list[Signal]:
    """Return the signals of a time range, oldest first, both ends included.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        start_date: The start, included; a naive datetime is taken as UTC.
        end_date: The end, included; a naive datetime is taken as UTC.
        strategy: Only the signals of this strategy; "" for those without one; None for all.

    Raises:
        ValidationError: `end_date` is before `start_date`.
    """
    write.required("start_date", start_date)
    write.required("end_date", end_date)
    filters = read.filters(Signal, symbol, strategy, start_date, end_date)
    return read.oldest_first(Signal, filters)


@checked_call
def get_by_signal_value(
    signal_value: int,
    symbol: str | None = None,
    limit: int | None = None,
    *,
    strategy: str | None = None,
) -> list[Signal]:
    """Return the signals of one value, newest first.

    Args:
        signal_value: 1 (buy), -1 (sell) or 0 (neutral).
        symbol: Only the signals of this symbol; None for every symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the signals of this strategy; "" for those without one; None for all.
    """
    write.required("signal_value", signal_value)
    filters = read.filters(Signal, symbol, strategy, signal_value=signal_value)
    return read.newest_first(Signal, filters, limit)


@checked_call
def get_by_metadata(
    key: str,
    *,
    equals: Any = None,
    minimum: SupportsFloat | None = None,
    maximum: SupportsFloat | None = None,
    symbol: str | None = None,
    limit: int | None = None,
    strategy: str | None = None,
) -> list[Signal]:
    """Return the signals whose metadata has a key, newest first, filtered by its value.

    Where the value is a list, a signal matches if an element of the list does: `equals="late"`
    finds `{"tags": ["breakout", "late"]}`. The element must be within both bounds. Lists inside the
    list are not searched.

    Args:
        key: The key; a dotted one is the key of a nested object: `"bands.upper"`.
        equals: The value: text, a number, True or False. Values of another JSON type are not equal:
            20 matches 20.0, but neither "20" nor True. A datetime, a UUID or a member of an Enum
            matches the text or number that was recorded for it. None for any value.
        minimum: The lower bound, included; only numbers match; None for no bound.
        maximum: The upper bound, included; only numbers match; None for no bound.
        symbol: Only the signals of this symbol; None for every symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the signals of this strategy; "" for those without one; None for all.

    Raises:
        ValidationError: An argument is invalid, such as an empty key or a list in `equals`.
    """
    return metadata.newest_first(
        Signal,
        "signal_metadata",
        key,
        read.filters(Signal, symbol, strategy),
        limit,
        equals=equals,
        minimum=minimum,
        maximum=maximum,
    )


@checked_call
def iterate(
    symbol: str | None = None,
    *,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> Iterator[Signal]:
    """Yield signals in time order, in constant memory.

    No lock is held between two rows, so that the loop may record and may be slow. Signals recorded
    meanwhile with a later timestamp are yielded on SQLite; on PostgreSQL the result is one
    snapshot. An iterator that is made inside `session_scope()` must be finished inside it.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        strategy: Only the signals of this strategy; "" for those without one; None for all.
        start_date: The start, included; a naive datetime is taken as UTC; None for no limit.
        end_date: The end, included; a naive datetime is taken as UTC; None for no limit.

    Raises:
        ValidationError: An argument is invalid. It is raised by the call, not by the loop.
        StorageError: The database cannot be read.
    """
    return read.stream(Signal, read.filters(Signal, symbol, strategy, start_date, end_date))


@checked_call
def get_signal_count(
    symbol: str | None = None, signal_value: int | None = None, *, strategy: str | None = None
) -> int:
    """Return the number of signals.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        signal_value: Only the signals of this value; None for every value.
        strategy: Only the signals of this strategy; "" for those without one; None for all.
    """
    filters = read.filters(Signal, symbol, strategy, signal_value=signal_value)
    return read.count(Signal, filters)


@checked_call
def update(signal: Signal, **changes: Unpack[SignalChanges]) -> Signal:
    """Write the given fields and those assigned on `signal` since it was read; return `signal`.

    Other fields are not written: a stale copy does not revert the changes of others.

    Args:
        signal: A recorded signal.
        changes: The fields to write; the id cannot be changed.

    Raises:
        ValidationError: A value is invalid, or there is no such field.
        NotFoundError: The signal is not in the database.
    """
    return write.update(Signal, signal, changes)


@checked_call
def delete(signal: Signal) -> None:
    """Delete a signal; its trades remain, and their `signal` becomes None.

    Raises:
        NotFoundError: The signal is not in the database.
    """
    write.delete(Signal, signal)
