"""Attribution of PnL to signals: the signal behind a trade, and which signals earned how much.

PnL, prices and slippage are in the quote currency of the symbol; times are UTC. PnL in different
currencies is never added up: see `botmemory.analysis.performance`.
"""

from __future__ import annotations

import math
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any, Literal

from peewee import JOIN, fn

from .. import exact
from .._arguments import checked_call
from .._values import checked_key, checked_rates, flatten, refuse, to_text
from ..database import db
from ..errors import NotFoundError
from ..models import OrderSide, Signal, Trade
from ..queries import read
from ..queries.trips import FEE, FEE_CURRENCY, FIRST_OTHER, Row, Trip, read_trips, timestamp_of
from ..queries.trips import Result as TripResult
from ..repositories import signals, trades
from .ranges import (
    bucket_bounds,
    bucket_of,
    checked_edges,
    is_number,
    quantile_edges,
    round_edges,
)
from .results import Result, Source, Sums, result_fields
from .selection import Selection, choose_source, select

__all__ = ["Bucket", "Conversion", "Explanation", "conversion", "explain", "pnl_by_metadata"]

PRICE_KEYS = ("price", "close", "last")  # where the metadata of a signal may have its price


@dataclass(frozen=True)
class Explanation:
    """Why a trade was made, and what the delay cost.

    All but `trade` and `warning` is None or empty if the trade has no signal.

    Attributes:
        trade: The trade.
        signal: The signal that triggered it.
        indicators: The metadata of the signal; nested keys are joined by dots.
        delay: The time from the signal to the trade.
        signal_price: The price in the metadata of the signal; None if it has none.
        slippage: How much worse the price of the trade is than that of the signal, for one unit:
            trade price - signal price of a buy, signal price - trade price of a sell. Below 0 it is
            better (Perold, The Implementation Shortfall, 1988).
            None for a signal of another symbol.
        slippage_bps: slippage / signal price, in basis points.
        warning: What is wrong with the signal: it was deleted, it is of another symbol, or it is
            later than the trade; None if nothing is.
    """

    trade: Trade
    signal: Signal | None
    indicators: dict[str, Any]
    delay: timedelta | None
    signal_price: float | None
    slippage: float | None
    slippage_bps: float | None
    warning: str | None = None


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
    signal = None if trade.signal_id is None else signals.get_by_id(trade.signal_id)
    if signal is None:
        deleted = f"its signal {trade.signal_id} was deleted" if trade.signal_id else None
        return Explanation(trade, None, {}, None, None, None, None, deleted)
    indicators = dict(flatten(signal.signal_metadata))
    keys = PRICE_KEYS if price_key is None else (to_text("price_key", price_key),)
    candidates = [indicators[key] for key in keys if is_number(indicators.get(key))]
    prices = (float(number) for number in candidates if 0 < number <= sys.float_info.max)
    price, slippage, warnings = next(prices, None), None, []
    if signal.symbol != trade.symbol:
        warnings.append(f"its signal is of {signal.symbol}, not of {trade.symbol}")
    elif price is not None:
        paid, expected = exact.to_decimal(trade.price), exact.to_decimal(price)
        is_buy = trade.side is OrderSide.BUY
        worse = exact.subtract(paid, expected) if is_buy else exact.subtract(expected, paid)
        slippage = float(worse)
    if signal.timestamp > trade.timestamp:
        warnings.append(f"its signal is from {signal.timestamp}, after the trade")
    return Explanation(
        trade=trade,
        signal=signal,
        indicators=indicators,
        delay=trade.timestamp - signal.timestamp,
        signal_price=price,
        slippage=slippage,
        slippage_bps=_basis_points(slippage, price),
        warning="; ".join(warnings) or None,
    )


def _basis_points(slippage: float | None, price: float | None) -> float | None:
    """Return a slippage as a part of the price; None if it is larger than a float can hold."""
    points = slippage / price * 10_000 if price and slippage is not None else math.inf
    return points if math.isfinite(points) else None


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
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
    signal_of: Literal["exit", "entry"] = "exit",
    quantiles: bool = False,
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
        start_date: Only closed trades from this time on.
        end_date: Only closed trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        source: `"recorded"` adds up the `pnl` of the trades, `"fills"` the net PnL of the round
            trips; None takes what is recorded, if any trade has a `pnl`, and else the fills.
        rates: What one unit of another currency is worth, for fees in a third currency.
        signal_of: `exit` counts the PnL for the signal of the trade that has it, of a round trip
            for that of its last fill. `entry` counts it for the signal of the fill that opened the
            round trip: use it if trades that close have signals of their own, or none.
        quantiles: Make ranges that have about as many closed trades each, instead of round ones.

    Returns:
        Those with trades: ranges in ascending order, then categories in alphabetical order.

    Raises:
        ValidationError: An argument is invalid, or the PnL is in different currencies.
    """
    key = checked_key(key)
    if signal_of not in ("exit", "entry"):
        refuse("signal_of", signal_of, "is unknown; use 'exit' or 'entry'")
    edges = checked_edges(bins)
    if quantiles and edges:
        refuse("bins", bins, "are edges; pass a number of ranges with quantiles=True")
    known_rates = checked_rates(rates)
    with db.read_snapshot():
        selection = select(symbol, strategy, start_date, end_date, exchange, quote)
        chosen = choose_source(selection, source)
        if chosen == "fills":
            rows = _round_trips(key, selection, known_rates, signal_of)
        elif signal_of == "exit":
            rows = _trades_by_own_signal(key, selection)
        else:
            rows = _trades_by_entry(key, selection)
        counted = list(rows)
    numbers = [value for value, _ in counted if is_number(value)]
    if isinstance(bins, int) and numbers:
        edges = quantile_edges(numbers, bins) if quantiles else round_edges(numbers, bins)
    sums: defaultdict[Any, Sums] = defaultdict(Sums)
    for value, add in counted:
        add(sums[bucket_of(value, edges, closed=isinstance(bins, int))])
    return [
        Bucket(**bucket_bounds(bucket, edges), **result_fields(selection.quote, chosen, in_bucket))
        for bucket, in_bucket in sorted(sums.items(), key=itemgetter(0))
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

# the value of the indicator, and what adds the closed trade to sums
Counted = Iterator[tuple[Any, Callable[[Sums], object]]]
SIGNAL, PNL = FIRST_OTHER, FIRST_OTHER + 1  # columns of a row of round trips


def _trades_by_own_signal(key: str, selection: Selection) -> Counted:
    """Yield the value in the signal of each trade that has one, and the trade."""
    expression, exists = metadata_value(key)
    query: Any = Trade.select(expression, Trade.pnl, Trade.fee, Trade.fee_currency).join(Signal)
    query = query.where(exists, *selection.conditions()).tuples()
    for value, *of_trade in read.stream_query(query):
        if value is not None:
            yield value, partial(_add_trade, *of_trade)


def _add_trade(pnl: float | None, fee: float | None, currency: str | None, sums: Sums) -> None:
    sums.add_trade(pnl, fee, currency)


def _trades_by_entry(key: str, selection: Selection) -> Counted:
    """Yield the value in the signal of the entry, and the trade, of each trade with a PnL.

    A round trip may have been opened before the start, so that all are read.
    """
    values = _values_of_signals(key, selection)
    filters, span = dict(selection.filters), {}
    for name in ("start_date", "end_date"):
        if name in filters:
            span[name] = filters.pop(name)

    def with_pnl(closing: list[Row] | None, rows: list[Row]) -> list[Row]:
        # the first fill has closed nothing, or the round trip before
        later = rows[1:] if closing is None else rows
        closing = closing or []
        closing += [row for row in later if row[PNL] is not None]
        return closing

    trips = read_trips(
        filters, selection.symbols, "signal", "pnl", note=with_pnl, include_open=True
    )
    for trip in trips:
        value = values.get(trip.first[SIGNAL])
        for row in trip.notes if value is not None else ():
            time = timestamp_of(row)
            if span.get("start_date", time) <= time <= span.get("end_date", time):
                yield value, partial(_add_trade, row[PNL], row[FEE], row[FEE_CURRENCY])


def _round_trips(
    key: str, selection: Selection, rates: Mapping[str, float], signal_of: str
) -> Counted:
    """Yield the value in the signal of the entry or of the exit, and the round trip."""
    values = _values_of_signals(key, selection)
    filters, symbols = selection.filters, selection.symbols
    for trip in read_trips(filters, symbols, "signal", "pnl", note=_count_pnl):
        row = trip.first if signal_of == "entry" else trip.last
        value = values.get(row[SIGNAL])
        if value is not None:
            yield value, partial(_add_round_trip, trip, trip.result(rates))


def _count_pnl(count: int | None, rows: list[Row]) -> int:
    return (count or 0) + sum(row[PNL] is not None for row in rows)


def _add_round_trip(trip: Trip, result: TripResult, sums: Sums) -> None:
    sums.trades += trip.fills
    sums.with_pnl += trip.notes
    sums.add_round_trip(trip, result)


def _values_of_signals(key: str, selection: Selection) -> dict[int, Any]:
    """Return the value in each signal of a trade, of any time, by the number of the signal."""
    expression, exists = metadata_value(key)
    query: Any = Signal.select(Signal.id, expression).join(Trade, on=(Trade.signal == Signal.id))
    query = query.where(exists, *selection.at_any_time().conditions()).tuples()
    return {id_: value for id_, value in read.stream_query(query) if value is not None}


def metadata_value(key: str) -> tuple[Any, Any]:
    """Return the expression of a value in the metadata of a signal, and that it exists."""
    field: Any = Signal.signal_metadata
    keys = key.split(".")
    return field.path(*keys), db.json_match(field, keys, None, None, None)
