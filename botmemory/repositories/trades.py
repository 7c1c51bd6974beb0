"""Record trades and read them again.

Prices, PnL and fees are in the quote currency of the symbol (fees in `fee_currency` where given),
quantities in its base currency, times in UTC. Lists come newest first: by timestamp, then by id.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Required, SupportsFloat, TypedDict, Unpack

from .._arguments import checked_call
from ..errors import DuplicateError, ValidationError
from ..models import OrderSide, Signal, Trade
from ..queries import read, write

__all__ = [
    "NewTrade",
    "TradeChanges",
    "create",
    "create_many",
    "delete",
    "get_all",
    "get_by_date_range",
    "get_by_id",
    "get_by_symbol",
    "get_latest",
    "get_or_create",
    "get_total_pnl",
    "get_trade_count",
    "iterate",
    "update",
]


class TradeChanges(TypedDict, total=False):
    """What `update` may change."""

    timestamp: datetime
    symbol: str
    side: OrderSide | str
    price: SupportsFloat
    quantity: SupportsFloat
    pnl: SupportsFloat | None
    signal: Signal | int | None
    strategy: str | None
    fee: SupportsFloat | None
    fee_currency: str | None
    exchange: str | None
    exchange_trade_id: str | None
    trade_metadata: Any


class NewTrade(TypedDict, total=False):
    """One row for `create_many`: the arguments of `create`."""

    symbol: Required[str]
    side: Required[OrderSide | str]
    price: Required[SupportsFloat]
    quantity: Required[SupportsFloat]
    pnl: SupportsFloat | None
    timestamp: datetime | None
    id: uuid.UUID | str | None
    signal: Signal | int | None
    strategy: str | None
    fee: SupportsFloat | None
    fee_currency: str | None
    exchange: str | None
    exchange_trade_id: str | None
    trade_metadata: Any


@checked_call
def create(
    *,
    symbol: str,
    side: OrderSide | str,
    price: SupportsFloat,
    quantity: SupportsFloat,
    pnl: SupportsFloat | None = None,
    timestamp: datetime | None = None,
    id: uuid.UUID | str | None = None,
    signal: Signal | int | None = None,
    strategy: str | None = None,
    fee: SupportsFloat | None = None,
    fee_currency: str | None = None,
    exchange: str | None = None,
    exchange_trade_id: str | None = None,
    trade_metadata: Any = None,
) -> Trade:
    """Record one trade and return it as it is stored.

    Args:
        symbol: 1 to 64 printable characters, as the exchange writes it.
        side: `"buy"` or `"sell"`, or an `OrderSide`.
        price: Of one unit, in the quote currency of the symbol.
        quantity: Above 0, in the base currency of the symbol.
        pnl: What the trade realized, as the bot counts it, in the quote currency.
        timestamp: Now unless given; naive datetimes are taken as UTC.
        id: A UUID; a new one, ordered by time, unless given.
        signal: The signal that led to the trade, or its id.
        strategy: The name of the strategy.
        fee: Negative for a rebate.
        fee_currency: The currency of the fee.
        exchange: The exchange; needed where there is an `exchange_trade_id`.
        exchange_trade_id: The exchange's own id, unique for exchange and symbol.
        trade_metadata: Any JSON value.

    Raises:
        ValidationError: A value does not fit; the message names the field.
        DuplicateError: The id, or the exchange's id, was recorded before; `error.id` is the id of
            that trade.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    return _insert_new(
        _prepare(
            {
                "symbol": symbol,
                "side": side,
                "price": price,
                "quantity": quantity,
                "pnl": pnl,
                "timestamp": timestamp,
                "id": id,
                "signal": signal,
                "strategy": strategy,
                "fee": fee,
                "fee_currency": fee_currency,
                "exchange": exchange,
                "exchange_trade_id": exchange_trade_id,
                "trade_metadata": trade_metadata,
            }
        )
    )


@checked_call
def create_many(rows: Iterable[NewTrade]) -> int:
    """Record any number of trades in one transaction, all or none.

    A generator is read as it goes: its first 5,000 rows before the transaction begins, the others
    while it is open, and on SQLite every other writer waits for it.

    Args:
        rows: Mappings with the arguments of `create`.

    Returns:
        How many were recorded.

    Raises:
        ValidationError: As from `create`, naming the row: `rows[2]: price: ...`.
        DuplicateError: As from `create`, naming the row.
        DatabaseBusyError: As from `create`.
        StorageError: As from `create`.
    """
    return write.insert_many(Trade, rows, _prepare, _insert_new)


@checked_call
def get_or_create(
    *,
    exchange: str,
    exchange_trade_id: str,
    symbol: str,
    side: OrderSide | str,
    price: SupportsFloat,
    quantity: SupportsFloat,
    pnl: SupportsFloat | None = None,
    timestamp: datetime | None = None,
    id: uuid.UUID | str | None = None,
    signal: Signal | int | None = None,
    strategy: str | None = None,
    fee: SupportsFloat | None = None,
    fee_currency: str | None = None,
    trade_metadata: Any = None,
) -> tuple[Trade, bool]:
    """Record a fill once, however often and from however many processes it is reported.

    The arguments are those of `create`. The exchange's id counts together with exchange and symbol.

    Returns:
        The trade, and True where it was recorded now; or the one that was recorded before,
        unchanged, and False.

    Raises:
        ValidationError: As from `create`.
        DuplicateError: `id` was given and another trade has it.
        DatabaseBusyError: As from `create`.
        StorageError: As from `create`.
    """
    write.required("exchange_trade_id", exchange_trade_id)
    values = _prepare(
        {
            "symbol": symbol,
            "side": side,
            "price": price,
            "quantity": quantity,
            "pnl": pnl,
            "timestamp": timestamp,
            "id": id,
            "signal": signal,
            "strategy": strategy,
            "fee": fee,
            "fee_currency": fee_currency,
            "exchange": exchange,
            "exchange_trade_id": exchange_trade_id,
            "trade_metadata": trade_metadata,
        }
    )
    trade = write.insert_if_new(Trade, values)
    if trade is not None:
        return trade, True
    there = _same_fill(values)
    if there is None:
        raise _duplicate(values)
    return there, False


@checked_call
def get_by_id(id: uuid.UUID | str) -> Trade | None:
    """Return the trade with this id, or None.

    Raises:
        ValidationError: The id is no UUID.
    """
    return read.get_by_id(Trade, id)


@checked_call
def get_all(limit: int | None = None, *, strategy: str | None = None) -> list[Trade]:
    """Return the trades, newest first.

    Args:
        limit: At most so many; None for all.
        strategy: Only the trades of this strategy; None for every strategy.
    """
    return read.newest_first(Trade, read.filters(Trade, strategy=strategy), limit)


@checked_call
def get_by_symbol(
    symbol: str, limit: int | None = None, *, strategy: str | None = None
) -> list[Trade]:
    """Return the trades of one symbol, newest first.

    Args:
        symbol: The symbol.
        limit: At most so many; None for all.
        strategy: Only the trades of this strategy; None for every strategy.
    """
    filters = read.filters(Trade, write.required("symbol", symbol), strategy)
    return read.newest_first(Trade, filters, limit)


@checked_call
def get_latest(
    symbol: str | None = None, limit: int | None = 10, *, strategy: str | None = None
) -> list[Trade]:
    """Return the latest trades, newest first, whatever the order they were recorded in.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        limit: At most so many; None for all.
        strategy: Only the trades of this strategy; None for every strategy.
    """
    return read.newest_first(Trade, read.filters(Trade, symbol, strategy), limit)


@checked_call
def get_by_date_range(
    symbol: str | None,
    start_date: datetime,
    end_date: datetime,
    *,
    strategy: str | None = None,
) -> list[Trade]:
    """Return the trades of a time span in time order, both ends included.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        start_date: The first time; naive datetimes are taken as UTC.
        end_date: The last time; naive datetimes are taken as UTC.
        strategy: Only the trades of this strategy; None for every strategy.

    Raises:
        ValidationError: The end is before the start.
    """
    write.required("start_date", start_date)
    write.required("end_date", end_date)
    filters = read.filters(Trade, symbol, strategy, start_date, end_date)
    return read.oldest_first(Trade, filters)


@checked_call
def iterate(
    symbol: str | None = None,
    *,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> Iterator[Trade]:
    """Yield trades in time order, any number of them in constant memory.

    On SQLite, trades recorded meanwhile are seen where they come later in time; on PostgreSQL the
    result is of one time. No lock is held between two rows: the loop may record, and may take its
    time. Inside `session_scope()` finish it there.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        strategy: Only the trades of this strategy; None for every strategy.
        start_date: The first time, included; None for the beginning.
        end_date: The last time, included; None for the end.

    Raises:
        ValidationError: An argument does not fit; raised by the call, not by the loop.
        StorageError: The database cannot be read.
    """
    return read.stream(Trade, read.filters(Trade, symbol, strategy, start_date, end_date))


@checked_call
def get_total_pnl(symbol: str | None = None, *, strategy: str | None = None) -> float:
    """Return the sum of the recorded PnL, 0.0 where there is none.

    It is in the quote currency: name a symbol where symbols have different ones.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        strategy: Only the trades of this strategy; None for every strategy.
    """
    return read.total(Trade, "pnl", read.filters(Trade, symbol, strategy))


@checked_call
def get_trade_count(symbol: str | None = None, *, strategy: str | None = None) -> int:
    """Return how many trades there are.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        strategy: Only the trades of this strategy; None for every strategy.
    """
    return read.count(Trade, read.filters(Trade, symbol, strategy))


@checked_call
def update(trade: Trade, **changes: Unpack[TradeChanges]) -> Trade:
    """Write the named fields, and those assigned on `trade` since it was read; return `trade`.

    No other field is written: a stale copy does not revert what others changed.

    Args:
        trade: A trade that was recorded.
        changes: Fields and their new values; the id cannot change.

    Raises:
        ValidationError: A value does not fit, or there is no such field.
        NotFoundError: The trade was deleted.
        DuplicateError: Another trade has the exchange's id.
    """
    write.require(Trade, trade)
    write.update(trade, changes)
    return trade


@checked_call
def delete(trade: Trade) -> None:
    """Delete a trade.

    Raises:
        NotFoundError: It was deleted before.
    """
    write.require(Trade, trade)
    write.delete(trade)


def _prepare(values: Mapping[str, Any]) -> dict[str, Any]:
    ready = write.prepare(Trade, values)
    if ready["exchange_trade_id"] is not None and ready["exchange"] is None:
        raise ValidationError(
            "exchange: an exchange_trade_id needs the exchange it comes from", field="exchange"
        )
    return ready


def _insert_new(values: dict[str, Any]) -> Trade:
    trade = write.insert_if_new(Trade, values)
    if trade is None:
        raise _duplicate(values)
    return trade


def _same_fill(values: dict[str, Any]) -> Trade | None:
    """Return the trade the exchange has reported under the same id."""
    if values["exchange_trade_id"] is None:
        return None
    fill = {name: values[name] for name in ("exchange", "symbol", "exchange_trade_id")}
    return read.find(Trade, fill)


def _duplicate(values: dict[str, Any]) -> DuplicateError:
    there = _same_fill(values)
    if there is None:
        return DuplicateError(f"trade {values['id']} already exists", id=values["id"])
    return DuplicateError(
        f"{values['exchange']} trade {values['exchange_trade_id']} of {values['symbol']} already "
        f"exists, as trade {there.id}; get_or_create() returns it",
        id=there.id,
    )
