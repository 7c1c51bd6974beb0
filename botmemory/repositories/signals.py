"""Record signals and ask for them again.

Times are in UTC. Lists come newest first: by timestamp, then by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Required, SupportsFloat, TypedDict, Unpack

from .._arguments import checked_call
from .._values import checked_key, plain_json, to_finite
from ..database import db
from ..models import Signal
from ..queries import read, write

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
    """What `update` may change."""

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
        signal_value: 1 (buy), -1 (sell) or 0 (nothing).
        signal_metadata: Any JSON value, such as the indicators the bot saw.
        timestamp: Now unless given; naive datetimes are taken as UTC.
        strategy: The name of the strategy.

    Raises:
        ValidationError: A value does not fit; the message names the field.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    return _insert(
        _prepare(
            {
                "symbol": symbol,
                "signal_value": signal_value,
                "signal_metadata": signal_metadata,
                "timestamp": timestamp,
                "strategy": strategy,
            }
        )
    )


@checked_call
def create_many(rows: Iterable[NewSignal]) -> int:
    """Record any number of signals in one transaction, all or none.

    A generator is read as it goes: its first 5,000 rows before the transaction begins, the others
    while it is open, and on SQLite every other writer waits for it.

    Args:
        rows: Mappings with the arguments of `create`.

    Returns:
        How many were recorded.

    Raises:
        ValidationError: As from `create`, naming the row: `rows[2]: symbol: ...`.
        DatabaseBusyError: As from `create`.
        StorageError: As from `create`.
    """
    return write.insert_many(Signal, rows, _prepare, _insert)


@checked_call
def get_by_id(id: int) -> Signal | None:
    """Return the signal with this id, or None.

    Raises:
        ValidationError: The id is no int.
    """
    return read.get_by_id(Signal, id)


@checked_call
def get_all(limit: int | None = None, *, strategy: str | None = None) -> list[Signal]:
    """Return the signals, newest first.

    Args:
        limit: At most so many; None for all.
        strategy: Only the signals of this strategy; None for every strategy.
    """
    return read.newest_first(Signal, read.filters(Signal, strategy=strategy), limit)


@checked_call
def get_by_symbol(
    symbol: str, limit: int | None = None, *, strategy: str | None = None
) -> list[Signal]:
    """Return the signals of one symbol, newest first.

    Args:
        symbol: The symbol.
        limit: At most so many; None for all.
        strategy: Only the signals of this strategy; None for every strategy.
    """
    filters = read.filters(Signal, write.required("symbol", symbol), strategy)
    return read.newest_first(Signal, filters, limit)


@checked_call
def get_latest(
    symbol: str | None = None, limit: int | None = 10, *, strategy: str | None = None
) -> list[Signal]:
    """Return the latest signals, newest first, whatever the order they were recorded in.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        limit: At most so many; None for all.
        strategy: Only the signals of this strategy; None for every strategy.
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
    """Return the signals of a time span in time order, both ends included.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        start_date: The first time; naive datetimes are taken as UTC.
        end_date: The last time; naive datetimes are taken as UTC.
        strategy: Only the signals of this strategy; None for every strategy.

    Raises:
        ValidationError: The end is before the start.
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
        signal_value: 1 (buy), -1 (sell) or 0 (nothing).
        symbol: Only the signals of this symbol; None for every symbol.
        limit: At most so many; None for all.
        strategy: Only the signals of this strategy; None for every strategy.
    """
    filters = read.filters(Signal, symbol, strategy)
    filters["signal_value"] = _value(write.required("signal_value", signal_value))
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
    """Return the signals whose metadata has a key with a value that fits, newest first.

    Args:
        key: The key; a dotted one reaches inside: `"bands.upper"`.
        equals: Text, a number, True or False, which finds its own kind: 20 finds 20.0, not "20"
            and not True. A datetime, a UUID or a member of an Enum finds what was recorded of it.
        minimum: The least number, included.
        maximum: The greatest number, included.
        symbol: Only the signals of this symbol; None for every symbol.
        limit: At most so many; None for all.
        strategy: Only the signals of this strategy; None for every strategy.

    Raises:
        ValidationError: The key or a value cannot be looked for.
    """
    key = checked_key(key)
    bounds = [_number(name, value) for name, value in (("minimum", minimum), ("maximum", maximum))]
    match = db.json_match(Signal.signal_metadata, key.split("."), _comparable(equals), *bounds)
    query = read.select_where(Signal, read.filters(Signal, symbol, strategy), match)
    return read.fetch(query.limit(read.checked_limit(limit)))


@checked_call
def iterate(
    symbol: str | None = None,
    *,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> Iterator[Signal]:
    """Yield signals in time order, any number of them in constant memory.

    On SQLite, signals recorded meanwhile are seen where they come later in time; on PostgreSQL the
    result is of one time. No lock is held between two rows: the loop may record, and may take its
    time. Inside `session_scope()` finish it there.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        strategy: Only the signals of this strategy; None for every strategy.
        start_date: The first time, included; None for the beginning.
        end_date: The last time, included; None for the end.

    Raises:
        ValidationError: An argument does not fit; raised by the call, not by the loop.
        StorageError: The database cannot be read.
    """
    return read.stream(Signal, read.filters(Signal, symbol, strategy, start_date, end_date))


@checked_call
def get_signal_count(
    symbol: str | None = None, signal_value: int | None = None, *, strategy: str | None = None
) -> int:
    """Return how many signals there are.

    Args:
        symbol: Only the signals of this symbol; None for every symbol.
        signal_value: Only the signals of this value; None for every value.
        strategy: Only the signals of this strategy; None for every strategy.
    """
    filters = read.filters(Signal, symbol, strategy)
    if signal_value is not None:
        filters["signal_value"] = _value(signal_value)
    return read.count(Signal, filters)


@checked_call
def update(signal: Signal, **changes: Unpack[SignalChanges]) -> Signal:
    """Write the named fields, and those assigned on `signal` since it was read; return `signal`.

    No other field is written: a stale copy does not revert what others changed.

    Args:
        signal: A signal that was recorded.
        changes: Fields and their new values; the id cannot change.

    Raises:
        ValidationError: A value does not fit, or there is no such field.
        NotFoundError: The signal was deleted.
    """
    write.require(Signal, signal)
    write.update(signal, changes)
    return signal


@checked_call
def delete(signal: Signal) -> None:
    """Delete a signal; the trades it led to stay, without it.

    Raises:
        NotFoundError: It was deleted before.
    """
    write.require(Signal, signal)
    write.delete(signal)


def _prepare(values: Mapping[str, Any]) -> dict[str, Any]:
    return write.prepare(Signal, values)


def _insert(values: dict[str, Any]) -> Signal:
    return write.insert_autoincrement(Signal, values)


def _value(signal_value: int) -> int:
    field: Any = Signal.signal_value
    value: int = field.clean(signal_value)
    return value


def _number(name: str, value: Any) -> float | None:
    return None if value is None else to_finite(name, value)


def _comparable(value: Any) -> str | float | bool | None:
    """Return what `equals` may be compared with in JSON."""
    if value is None:
        return None
    plain = plain_json(value, "equals", 0)
    if isinstance(plain, (str, bool)):
        return plain
    return to_finite("equals", value if plain is None else plain)
