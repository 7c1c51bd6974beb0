"""Results, ratios, the equity curve and its drawdowns, from the recorded PnL.

A trade with a `pnl` counts as closed. `pnl` is in the quote currency of the symbol (`BTC/USDT` in
USDT, `BTC/USDT:USDT` in the currency after the colon) and is added up as it was recorded. PnL in
different currencies is never added up: filter by a symbol, or by a currency with `quote=`. Times
are UTC. A figure that is not defined is None.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from peewee import SQL, Case, fn

from .._arguments import checked_call
from .._values import plain_text, refuse
from ..database import db
from ..models import OrderSide, Trade
from ..queries import read
from ._results import Result, Sums, result_fields
from .selection import Selection, quote_of, select

__all__ = [
    "Dimension",
    "EquityPoint",
    "Group",
    "Performance",
    "Result",
    "by",
    "equity_curve",
    "quotes",
    "summarize",
]

Dimension = Literal[
    "symbol", "strategy", "exchange", "side", "day", "week", "month", "hour", "weekday"
]


@dataclass(frozen=True, kw_only=True)
class Group(Result):
    """The result of the trades that have one dimension in common.

    Attributes:
        key: The symbol, the strategy or the exchange (None for trades without one), the side
            (`buy`), the day (`2024-01-31`), the ISO week (`2024-W05`), the month (`2024-01`), the
            hour of the day (0 to 23) or the weekday (`Monday`).
    """

    key: str | int | None


@dataclass(frozen=True, kw_only=True)
class Performance(Result):
    """A result with its fees, and with what depends on the order of the trades.

    Attributes:
        longest_losing_streak: The largest number of losses in a row.
        max_drawdown: The largest fall of the cumulative PnL below its highest value so far, which
            is 0 before the first trade; 0 or above (Magdon-Ismail and Atiya, Maximum Drawdown,
            2004).
        max_drawdown_start: The time of the trade with that highest value, or of the first trade;
            None without a drawdown.
        max_drawdown_end: The time of the first trade that reached that value again; None if none
            did.
        max_drawdown_duration: The time from the start to the end, or to the last closed trade; None
            without a drawdown.
        fees: The sum of `fee` of all trades, closed or not, by `fee_currency` (None for fees
            without one).
    """

    longest_losing_streak: int
    max_drawdown: float
    max_drawdown_start: datetime | None
    max_drawdown_end: datetime | None
    max_drawdown_duration: timedelta | None
    fees: dict[str | None, float]


@dataclass(frozen=True)
class EquityPoint:
    """A closed trade on the equity curve.

    Attributes:
        timestamp: The time of the trade.
        trade_id: The id of the trade.
        pnl: Its PnL.
        equity: The sum of the PnL up to this trade, included.
        drawdown: How far `equity` is below its highest value so far; 0 or above.
    """

    timestamp: datetime
    trade_id: uuid.UUID
    pnl: float
    equity: float
    drawdown: float


@checked_call
def summarize(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
) -> Performance:
    """Return the performance of all trades, or of those that match the filters.

    Memory is constant: the database sums up, and the trades are read once in time order.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.

    Raises:
        ValidationError: An argument is invalid, or the PnL is in different currencies.
    """
    selection = select(symbol, strategy, start_date, end_date, exchange, quote)
    [sums] = read.fetch(_sums_query(selection))
    return Performance(
        **result_fields(selection.quote, Sums(*sums)),
        **_ordered_fields(_points(selection)),
        fees=_fees(selection),
    )


@checked_call
def equity_curve(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
) -> list[EquityPoint]:
    """Return the closed trades, each with the sum of the PnL so far.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.

    Returns:
        One point for each closed trade, in time order.

    Raises:
        ValidationError: An argument is invalid, or the PnL is in different currencies.
    """
    selection = select(symbol, strategy, start_date, end_date, exchange, quote)
    return [
        EquityPoint(timestamp, trade_id, pnl, float(equity), float(drawdown))
        for timestamp, trade_id, pnl, equity, drawdown in _points(selection)
    ]


@checked_call
def by(
    dimension: Dimension,
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
) -> list[Group]:
    """Return the result for each symbol, strategy, exchange, side or span of time.

    Args:
        dimension: What the trades of a group have in common. Days and hours are UTC.
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.

    Returns:
        Groups with trades: in alphabetical order (None last), in time order, or from Monday on.

    Raises:
        ValidationError: An argument is invalid, or the PnL of a group is in different currencies.
    """
    name = plain_text(dimension) if isinstance(dimension, str) else None
    if name not in _TIME_KEYS:
        refuse("dimension", dimension, f"is unknown; use {', '.join(_TIME_KEYS)}")
    by_symbol = name == "symbol"
    selection = select(
        symbol, strategy, start_date, end_date, exchange, quote, one_currency=not by_symbol
    )
    time_key = _TIME_KEYS[name]
    column: Any = db.hour_of(Trade.timestamp) if time_key else getattr(Trade, name)
    rows: defaultdict[Any, list[Sums]] = defaultdict(list)
    for value, *sums in read.fetch(_sums_query(selection, column.alias("key"))):
        order = time_key(value) if time_key else (value is None, value)
        rows[order].append(Sums(*sums))
    groups = []
    for (_, key), of_group in sorted(rows.items()):
        name_of_key = str(key) if isinstance(key, OrderSide) else key
        currency = quote_of(key) if by_symbol else selection.quote
        groups.append(Group(key=name_of_key, **result_fields(currency, Sums.total(of_group))))
    return groups


@checked_call
def quotes(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
) -> list[str]:
    """Return the currencies of the PnL of the trades.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.

    Returns:
        The currencies in alphabetical order; "" for symbols that name none.
    """
    filters = read.filters(Trade, symbol, strategy, start_date, end_date, exchange)
    return sorted({quote_of(name) or "" for name in read.distinct(Trade, "symbol", filters)})


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# for each dimension the order and the key of the group of an hour, as the database groups by hours;
# None for a dimension that is a column
_TIME_KEYS: dict[str, Callable[[datetime], tuple[Any, Any]] | None] = {
    "symbol": None,
    "strategy": None,
    "exchange": None,
    "side": None,
    "day": lambda hour: (hour.date(), f"{hour:%Y-%m-%d}"),
    "week": lambda hour: (hour.isocalendar()[:2], f"{hour:%G-W%V}"),
    "month": lambda hour: ((hour.year, hour.month), f"{hour:%Y-%m}"),
    "hour": lambda hour: (hour.hour, hour.hour),
    "weekday": lambda hour: (hour.weekday(), _WEEKDAYS[hour.weekday()]),
}


def _sums_query(selection: Selection, *keys: Any) -> Any:
    """Return the query for the `Sums` of the selected trades, grouped by the keys."""
    pnl: Any = Trade.pnl
    won, lost = pnl > 0, pnl < 0
    query: Any = Trade.select(
        *keys,
        fn.COUNT(SQL("*")),
        fn.COUNT(pnl),
        fn.COUNT(Case(None, [(won, 1)])),
        fn.COUNT(Case(None, [(lost, 1)])),
        fn.SUM(Case(None, [(won, pnl)], 0.0)),
        fn.SUM(Case(None, [(lost, pnl)], 0.0)),
        fn.MAX(pnl),
        fn.MIN(pnl),
    )
    if conditions := selection.conditions():
        query = query.where(*conditions)
    return query.group_by(*keys).tuples()


def _fees(selection: Selection) -> dict[str | None, float]:
    fee, currency = Trade.fee, Trade.fee_currency
    query: Any = Trade.select(currency, fn.SUM(fee)).where(
        fee.is_null(False), *selection.conditions()
    )
    rows = read.fetch(query.group_by(currency).tuples())
    return dict(sorted(rows, key=lambda row: row[0] or ""))


_Point = tuple[datetime, uuid.UUID, float, Decimal, Decimal]  # PnL, its sum so far, drawdown


def _points(selection: Selection) -> Iterator[_Point]:
    """Yield the closed trades in time order, with the sums so far as exact decimals."""
    equity = peak = Decimal(0)
    rows: Iterable[Any] = read.stream_values(Trade, selection.filters, "symbol", "pnl")
    for timestamp, trade_id, symbol, pnl in rows:
        if pnl is None or (selection.symbols is not None and symbol not in selection.symbols):
            continue
        # as decimals, where 0.1 + 0.2 - 0.3 is 0
        equity += Decimal(repr(pnl))
        peak = max(peak, equity)
        yield timestamp, trade_id, pnl, equity, peak - equity


def _ordered_fields(points: Iterable[_Point]) -> dict[str, Any]:
    """Return the fields of a `Performance` that depend on the order of the trades."""
    streak = longest_streak = 0
    max_drawdown = Decimal(0)
    peak_time = start = end = duration = None
    for timestamp, _, pnl, _, drawdown in points:
        streak = streak + 1 if pnl < 0 else 0
        longest_streak = max(longest_streak, streak)
        peak_time = peak_time or timestamp
        if drawdown > max_drawdown:
            max_drawdown, start, end = drawdown, peak_time, None
        if start is not None and end is None:  # it is in the largest drawdown so far
            duration = timestamp - start
            end = None if drawdown else timestamp
        if not drawdown:
            peak_time = timestamp
    return {
        "longest_losing_streak": longest_streak,
        "max_drawdown": float(max_drawdown),
        "max_drawdown_start": start,
        "max_drawdown_end": end,
        "max_drawdown_duration": duration,
    }
