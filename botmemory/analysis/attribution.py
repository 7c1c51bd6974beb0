"""Attribution of PnL to signals: the signal behind a trade, and which signals earned how much.

PnL, prices and slippage are in the quote currency of the symbol; times are UTC. PnL in different
currencies is never added up: see `botmemory.analysis.performance`.
"""

from __future__ import annotations

import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from peewee import JOIN, fn

from .. import exact
from .._arguments import checked_call
from .._values import checked_key, flatten, refuse, to_text
from ..database import db
from ..errors import NotFoundError
from ..models import OrderSide, Signal, Trade
from ..queries import read
from ..repositories import trades
from ._results import Result, Sums, result_fields
from .ranges import bucket_bounds, bucket_of, checked_edges, is_number, round_edges
from .selection import Selection, select

__all__ = ["Bucket", "Conversion", "Explanation", "conversion", "explain", "pnl_by_metadata"]

PRICE_KEYS = ("price", "close", "last")  # where the metadata of a signal may have its price


@dataclass(frozen=True)
class Explanation:
    """Why a trade was made, and what the delay cost.

    All but `trade` is None or empty if the trade has no signal.

    Attributes:
        trade: The trade.
        signal: The signal that triggered it.
        indicators: The metadata of the signal; nested keys are joined by dots.
        delay: The time from the signal to the trade.
        signal_price: The price in the metadata of the signal; None if it has none.
        slippage: How much worse the price of the trade is than that of the signal, for one unit:
            trade price - signal price of a buy, signal price - trade price of a sell. Below 0 it is
            better (Perold, The Implementation Shortfall, 1988).
        slippage_bps: slippage / signal price, in basis points.
    """

    trade: Trade
    signal: Signal | None
    indicators: dict[str, Any]
    delay: timedelta | None
    signal_price: float | None
    slippage: float | None
    slippage_bps: float | None


@dataclass(frozen=True, kw_only=True)
class Bucket(Result):
    """The result of the trades whose signals have a value in one range, or of one category.

    Attributes:
        label: The range or the category as text.
        low: The lower bound of a range, included; None if it is open, and for a category.
        high: The upper bound, excluded except in the last of the round ranges; None if it is open,
            and for a category.
        category: The text or the boolean of a category; None for a range.
    """

    label: str
    low: float | None = None
    high: float | None = None
    category: str | bool | None = None


@dataclass(frozen=True)
class Conversion:
    """How many signals of one value led to trades.

    Attributes:
        signal_value: 1, 0 or -1.
        signals: The number of signals.
        acted_on: The number of signals that at least one trade refers to.
        rate: acted on / signals.
        trades: The number of trades that refer to them.
    """

    signal_value: int
    signals: int
    acted_on: int
    rate: float
    trades: int


@checked_call
def explain(trade: Trade | uuid.UUID | str, *, price_key: str | None = None) -> Explanation:
    """Return the signal that triggered a trade, its indicators, the delay and the slippage.

    Args:
        trade: The trade or its id.
        price_key: The key of the price in the metadata of the signal; a dot separates nested keys.
            None takes the first of `price`, `close` and `last` that is a number above 0.

    Raises:
        NotFoundError: There is no trade with this id.
    """
    if not isinstance(trade, Trade):
        stored = trades.get_by_id(trade)
        if stored is None:
            raise NotFoundError(f"trade {trade} is not in {db.config.label}")
        trade = stored
    signal = trade.signal
    if signal is None:
        return Explanation(trade, None, {}, None, None, None, None)
    indicators = dict(flatten(signal.signal_metadata))
    keys = PRICE_KEYS if price_key is None else (to_text("price_key", price_key),)
    candidates = [indicators[key] for key in keys if is_number(indicators.get(key))]
    prices = (float(number) for number in candidates if 0 < number <= sys.float_info.max)
    price = next(prices, None)
    slippage = None
    if price is not None:
        paid, expected = exact.to_decimal(trade.price), exact.to_decimal(price)
        is_buy = trade.side is OrderSide.BUY
        worse = exact.subtract(paid, expected) if is_buy else exact.subtract(expected, paid)
        slippage = float(worse)
    return Explanation(
        trade=trade,
        signal=signal,
        indicators=indicators,
        delay=trade.timestamp - signal.timestamp,
        signal_price=price,
        slippage=slippage,
        slippage_bps=slippage / price * 10_000 if price and slippage is not None else None,
    )


@checked_call
def pnl_by_metadata(
    key: str,
    bins: int | Sequence[float] = 10,
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
    signal_of: Literal["trade", "entry"] = "trade",
) -> list[Bucket]:
    """Return the result for each range or category of an indicator.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Trades whose signal does not have the indicator are left out.

    Args:
        key: The key of the indicator in the metadata of signals; a dot separates nested keys.
        bins: The largest number of ranges, with round edges; or the edges of the ranges in
            ascending order, with an open range below and above them. Text and booleans are
            categories.
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        signal_of: `trade` counts the PnL of a trade for its own signal. `entry` counts it for the
            signal of the trade that opened the position of its symbol, strategy and exchange: use
            it if trades that close have signals of their own.

    Returns:
        Those with trades: ranges in ascending order, then categories in alphabetical order.

    Raises:
        ValidationError: An argument is invalid, or the PnL is in different currencies.
    """
    key = checked_key(key)
    if signal_of not in ("trade", "entry"):
        refuse("signal_of", signal_of, "is unknown; use 'trade' or 'entry'")
    edges = checked_edges(bins)
    with db.read_snapshot():
        if signal_of == "trade":
            selection = select(symbol, strategy, start_date, end_date, exchange, quote)
            rows = list(_by_own_signal(key, selection))
        else:
            # a position may have been opened before start_date
            selection = select(symbol, strategy, None, None, exchange, quote)
            span = read.filters(Trade, None, None, start_date, end_date)
            rows = list(_by_entry(key, selection, span))
    numbers = [value for value, _ in rows if is_number(value)]
    if isinstance(bins, int) and numbers:
        edges = round_edges(numbers, bins)
    sums: defaultdict[Any, Sums] = defaultdict(Sums)
    for value, pnl in rows:
        sums[bucket_of(value, edges, closed=isinstance(bins, int))].add(pnl)
    return [
        Bucket(**bucket_bounds(bucket, edges), **result_fields(selection.quote, sums[bucket]))
        for bucket in sorted(sums)
    ]


@checked_call
def conversion(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> list[Conversion]:
    """Return how many signals of each value were acted on.

    Args:
        symbol: Only signals of this symbol.
        strategy: Only signals of this strategy; "" for those without one.
        start_date: Only signals from this time on.
        end_date: Only signals up to this time, included.

    Returns:
        Values that some signal has: 1, then 0, then -1.
    """
    filters = read.filters(Signal, symbol, strategy, start_date, end_date)
    query: Any = Signal.select(
        Signal.signal_value,
        fn.COUNT(fn.DISTINCT(Signal.id)),
        fn.COUNT(fn.DISTINCT(Trade.signal)),
        fn.COUNT(Trade.signal),
    ).join(Trade, JOIN.LEFT_OUTER, on=(Trade.signal == Signal.id))
    if conditions := read.conditions(Signal, filters, filters):
        query = query.where(*conditions)
    rows = read.fetch(query.group_by(Signal.signal_value).tuples())
    return [
        Conversion(value, signals, acted_on, acted_on / signals, traded)
        for value, signals, acted_on, traded in sorted(rows, reverse=True)
    ]


# --- the value that each PnL counts for -------------------------------------------------------


def _by_own_signal(key: str, selection: Selection) -> Iterator[tuple[Any, float | None]]:
    """Yield the value in the signal of each trade that has one, and the PnL of the trade."""
    expression, exists = _metadata_value(key)
    query: Any = Trade.select(expression, Trade.pnl).join(Signal)
    for value, pnl in read.stream_query(query.where(exists, *selection.conditions()).tuples()):
        if value is not None:
            yield value, pnl


def _by_entry(
    key: str, selection: Selection, span: Mapping[str, datetime]
) -> Iterator[tuple[Any, float | None]]:
    """Yield the value in the signal of the entry, and the PnL, of each closed trade of a span."""
    expression, exists = _metadata_value(key)
    query: Any = Signal.select(Signal.id, expression).join(Trade, on=(Trade.signal == Signal.id))
    query = query.where(exists, *selection.conditions())
    values = {id_: value for id_, value in read.stream_query(query.tuples()) if value is not None}
    quantities: defaultdict[Any, Decimal] = defaultdict(Decimal)
    entry_signals: dict[Any, Any] = {}
    fields = "symbol", "strategy", "exchange", "side", "quantity", "pnl", "signal"
    rows = read.stream_values(Trade, selection.filters, *fields)
    for timestamp, _, symbol, strategy, exchange, side, quantity, pnl, signal in rows:
        if selection.symbols is not None and symbol not in selection.symbols:
            continue
        position = (symbol, strategy, exchange)
        change = exact.add if side is OrderSide.BUY else exact.subtract
        before = quantities[position]
        after = change(before, exact.to_decimal(quantity))
        inside = span.get("start_date", timestamp) <= timestamp <= span.get("end_date", timestamp)
        if pnl is not None and before and inside and entry_signals[position] in values:
            yield values[entry_signals[position]], pnl
        if (
            not before or (before > 0 > after) or (before < 0 < after)
        ):  # the trade opens a position, or reverses it
            entry_signals[position] = signal
        quantities[position] = after


def _metadata_value(key: str) -> tuple[Any, Any]:
    """Return the expression of a value in the metadata of a signal, and that it exists."""
    field: Any = Signal.signal_metadata
    keys = key.split(".")
    return field.path(*keys), db.json_match(field, keys, None, None, None)
