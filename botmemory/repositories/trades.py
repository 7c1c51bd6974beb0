"""Record and query trades.

Prices, PnL and fees are in the quote currency of the symbol (fees in `fee_currency` where given),
quantities in its base currency or in contracts, times in UTC. Lists are newest first: by timestamp,
then by id.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Required, SupportsFloat, TypedDict, Unpack

from .._arguments import checked_call
from .._values import to_text
from ..database import db
from ..errors import DuplicateError, ValidationError
from ..exact import to_float
from ..models import OrderSide, Signal, Trade
from ..queries import metadata, read, sums, write
from ..symbols import quote_of

__all__ = [
    "NewTrade",
    "TradeChanges",
    "create",
    "create_many",
    "delete",
    "get_all",
    "get_by_date_range",
    "get_by_id",
    "get_by_metadata",
    "get_by_symbol",
    "get_latest",
    "get_or_create",
    "get_total_pnl",
    "get_trade_count",
    "iterate",
    "update",
]


FILL_KEY = ("exchange", "symbol", "exchange_trade_id")  # a unique index


class TradeChanges(TypedDict, total=False):
    """The fields that `update` can write."""

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
    contract_size: SupportsFloat | None


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
    contract_size: SupportsFloat | None


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
    contract_size: SupportsFloat | None = None,
) -> Trade:
    """Record one trade and return it as it is stored.

    Args:
        symbol: 1 to 64 printable characters, as the exchange writes it.
        side: `"buy"` or `"sell"`, or an `OrderSide`.
        price: The price of one unit, above 0, in the quote currency of the symbol.
        quantity: The quantity, above 0: in the base currency of the symbol, of a derivative in
            contracts.
        pnl: The realized PnL as the bot computes it, in the quote currency.
        timestamp: The time of the trade; a naive datetime is taken as UTC; None for the current
            time.
        id: A UUID; None for a new time-ordered one.
        signal: The signal that led to the trade, or its id.
        strategy: The name of the strategy.
        fee: The fee; a negative one is a rebate.
        fee_currency: The currency of the fee.
        exchange: The name of the exchange; required with `exchange_trade_id`.
        exchange_trade_id: The id that the exchange gave to the fill, unique together with
            `exchange` and `symbol`.
        trade_metadata: Any JSON value.
        contract_size: How much one contract is where `quantity` is a number of contracts: in the
            base currency, of an inverse contract in the quote currency; None is 1.

    Raises:
        ValidationError: A value is invalid; the message names the field.
        DuplicateError: A trade with the id, or with the exchange's id, already exists; `error.id`
            is its id.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    values = {
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
        "contract_size": contract_size,
    }
    return _insert(Trade, _prepare(Trade, values))


@checked_call
def create_many(rows: Iterable[NewTrade]) -> int:
    """Record many trades in one transaction, all or none.

    The first 5,000 rows of a generator are read before the transaction begins, the others while it
    is open; on SQLite all other writers wait meanwhile, and what the generator itself records is
    part of the transaction.

    Args:
        rows: Mappings with the arguments of `create`.

    Returns:
        The number of recorded rows.

    Raises:
        ValidationError: As for `create`, naming the row: `rows[2]: price: ...`.
        DuplicateError: As for `create`, naming the row.
        DatabaseBusyError: As for `create`.
        StorageError: As for `create`.
    """
    return write.insert_many(Trade, rows, _prepare, _insert)


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
    contract_size: SupportsFloat | None = None,
) -> tuple[Trade, bool]:
    """Record a fill unless a trade with its exchange id already exists.

    Any number of threads and processes may report the same fill; it is recorded once. The arguments
    are those of `create`.

    Returns:
        The trade, and True where this call recorded it; or the existing trade, unchanged, and
        False.

    Raises:
        ValidationError: As for `create`.
        DuplicateError: `id` was given and another trade has it.
        DatabaseBusyError: As for `create`.
        StorageError: As for `create`.
    """
    write.required("exchange_trade_id", exchange_trade_id)
    values = _prepare(
        Trade,
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
            "contract_size": contract_size,
        },
    )
    trade, is_new = read.insert_or_find(Trade, values, FILL_KEY)
    if trade is None:
        raise _duplicate_error(values)
    return trade, is_new


@checked_call
def get_by_id(id: uuid.UUID | str) -> Trade | None:
    """Return the trade with this id, or None.

    Raises:
        ValidationError: The id is not a UUID.
    """
    return read.get_by_id(Trade, id)


@checked_call
def get_all(
    limit: int | None = None, *, strategy: str | None = None, exchange: str | None = None
) -> list[Trade]:
    """Return the trades, newest first.

    Args:
        limit: The maximum number of rows; None for all.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
    """
    return read.newest_first(
        Trade, read.filters(Trade, strategy=strategy, exchange=exchange), limit
    )


@checked_call
def get_by_symbol(
    symbol: str,
    limit: int | None = None,
    *,
    strategy: str | None = None,
    exchange: str | None = None,
) -> list[Trade]:
    """Return the trades of one symbol, newest first.

    Args:
        symbol: The symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
    """
    filters = read.filters(Trade, write.required("symbol", symbol), strategy, exchange=exchange)
    return read.newest_first(Trade, filters, limit)


@checked_call
def get_latest(
    symbol: str | None = None,
    limit: int | None = 10,
    *,
    strategy: str | None = None,
    exchange: str | None = None,
) -> list[Trade]:
    """Return the trades with the latest timestamps, newest first.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
    """
    filters = read.filters(Trade, symbol, strategy, exchange=exchange)
    return read.newest_first(Trade, filters, limit)


@checked_call
def get_by_date_range(
    symbol: str | None,
    start_date: datetime,
    end_date: datetime,
    *,
    strategy: str | None = None,
    exchange: str | None = None,
) -> list[Trade]:
    """Return the trades of a time range, oldest first, both ends included.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        start_date: The start, included; a naive datetime is taken as UTC.
        end_date: The end, included; a naive datetime is taken as UTC.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.

    Raises:
        ValidationError: `end_date` is before `start_date`.
    """
    write.required("start_date", start_date)
    write.required("end_date", end_date)
    filters = read.filters(Trade, symbol, strategy, start_date, end_date, exchange)
    return read.oldest_first(Trade, filters)


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
    exchange: str | None = None,
) -> list[Trade]:
    """Return the trades whose metadata has a key, newest first, filtered by its value.

    Where the value is a list, a trade matches if an element of the list does: `equals="late"`
    finds `{"tags": ["breakout", "late"]}`. The element must be within both bounds. Lists inside the
    list are not searched.

    Args:
        key: The key; a dotted one is the key of a nested object: `"setup.rating"`.
        equals: The value: text, a number, True or False. Values of another JSON type are not equal:
            20 matches 20.0, but neither "20" nor True. A datetime, a UUID or a member of an Enum
            matches the text or number that was recorded for it. None for any value.
        minimum: The lower bound, included; only numbers match; None for no bound.
        maximum: The upper bound, included; only numbers match; None for no bound.
        symbol: Only the trades of this symbol; None for every symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.

    Raises:
        ValidationError: An argument is invalid, such as an empty key or a list in `equals`.
    """
    return metadata.newest_first(
        Trade,
        "trade_metadata",
        key,
        read.filters(Trade, symbol, strategy, exchange=exchange),
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
    exchange: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> Iterator[Trade]:
    """Yield trades in time order, in constant memory.

    No lock is held between two rows, so that the loop may record and may be slow. Trades recorded
    meanwhile with a later timestamp are yielded on SQLite; on PostgreSQL the result is one
    snapshot. An iterator that is made inside `session_scope()` must be finished inside it.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
        start_date: The start, included; a naive datetime is taken as UTC; None for no limit.
        end_date: The end, included; a naive datetime is taken as UTC; None for no limit.

    Raises:
        ValidationError: An argument is invalid. It is raised by the call, not by the loop.
        StorageError: The database cannot be read.
    """
    filters = read.filters(Trade, symbol, strategy, start_date, end_date, exchange)
    return read.stream(Trade, filters)


@checked_call
def get_total_pnl(
    symbol: str | None = None,
    *,
    strategy: str | None = None,
    exchange: str | None = None,
    quote: str | None = None,
) -> float:
    """Return the sum of the recorded PnL, or 0.0.

    Each figure is defined in the guide [Accounting](../accounting.md).

    It is exact, and rounded once: 0.1 + 0.2 - 0.3 is 0.0. The recorded numbers are added up
    whatever their currency is: pass a symbol or `quote` where symbols have different ones.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
        quote: Only the trades with PnL in this currency; "" for symbols that name none; None for
            all.

    Raises:
        ValidationError: An argument is invalid, or the sum is larger than a float can hold.
    """
    filters = read.filters(Trade, symbol, strategy, exchange=exchange)
    if quote is None:
        pnl = sums.total(Trade, "pnl", filters)
    else:
        currency = to_text("quote", quote) or None
        with db.read_snapshot():
            symbols = [
                name
                for name in read.distinct(Trade, "symbol", filters)
                if quote_of(name) == currency
            ]
            field: Any = Trade.symbol
            pnl = sums.total(Trade, "pnl", filters, field.in_(symbols))
    return to_float("pnl", pnl)


@checked_call
def get_trade_count(
    symbol: str | None = None, *, strategy: str | None = None, exchange: str | None = None
) -> int:
    """Return the number of trades.

    Args:
        symbol: Only the trades of this symbol; None for every symbol.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
    """
    return read.count(Trade, read.filters(Trade, symbol, strategy, exchange=exchange))


@checked_call
def update(trade: Trade, **changes: Unpack[TradeChanges]) -> Trade:
    """Write the given fields and those assigned on `trade` since it was read; return `trade`.

    Other fields are not written: a stale copy does not revert the changes of others.

    Args:
        trade: A recorded trade.
        changes: The fields to write; the id cannot be changed.

    Raises:
        ValidationError: A value is invalid, or there is no such field.
        NotFoundError: The trade is not in the database.
        DuplicateError: Another trade has the same exchange id.
    """
    return write.update(Trade, trade, changes)


@checked_call
def delete(trade: Trade) -> None:
    """Delete a trade.

    Raises:
        NotFoundError: The trade is not in the database.
    """
    write.delete(Trade, trade)


def _prepare(model: type[Trade], values: Mapping[str, Any]) -> dict[str, Any]:
    row = write.prepare(model, values)
    if row["exchange_trade_id"] is not None and row["exchange"] is None:
        raise ValidationError(
            "exchange: an exchange_trade_id needs the exchange it comes from", field="exchange"
        )
    return row


def _insert(model: type[Trade], values: dict[str, Any]) -> Trade:
    trade = write.insert_if_new(model, values)
    if trade is None:
        raise _duplicate_error(values)
    return trade


def _find_fill(values: dict[str, Any]) -> Trade | None:
    """Return the trade with the same id of the exchange, for an error that names it."""
    if values["exchange_trade_id"] is None:
        return None
    fill = {name: values[name] for name in FILL_KEY}
    return read.find_duplicate(Trade, fill)


def _duplicate_error(values: dict[str, Any]) -> DuplicateError:
    existing = _find_fill(values)
    if existing is None:
        return DuplicateError(f"trade {values['id']} already exists", id=values["id"])
    return DuplicateError(
        f"{values['exchange']} trade {values['exchange_trade_id']} of {values['symbol']} already "
        f"exists, as trade {existing.id}; get_or_create() returns it",
        id=existing.id,
    )
