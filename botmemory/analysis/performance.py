"""Results, ratios, the equity curve and its drawdowns, from the recorded PnL.

A trade with a `pnl` counts as closed. `pnl` is in the quote currency of the symbol (`BTC/USDT` in
USDT), of a derivative in its settlement currency (`BTC/USD:BTC` in BTC), and is added up as it was
recorded. PnL in different currencies is never added up: filter by a symbol, or by a currency with
`quote=`. Times are UTC. A figure that is not defined is None.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from peewee import SQL, Case, fn

from .. import exact
from .._arguments import checked_call
from .._values import plain_text, refuse
from ..database import db
from ..exact import to_float
from ..models import OrderSide, Trade
from ..queries import read
from ..queries.sums import fetch_sums, parse_sum, whole_sum
from ..symbols import quote_of
from ._results import Result, Sums, result_fields
from .selection import Selection, select

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

    Each figure is defined in the guide [Accounting](../accounting.md).

    Memory is constant: the trades are read once, in time order.

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
    sums, curve, fees = Sums(), _Curve(), _Fees()
    with db.read_snapshot():
        selection = select(symbol, strategy, start_date, end_date, exchange, quote)
        for timestamp, _, pnl, fee, currency in _trades(selection, "fee", "fee_currency"):
            if fee is not None:
                fees.add(fee, currency)
            amount = sums.add(pnl)
            if amount is not None:
                curve.add(timestamp, amount)
    return Performance(
        **result_fields(selection.quote, sums), **curve.fields(), fees=fees.by_currency()
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

    Each figure is defined in the guide [Accounting](../accounting.md).

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
    points, curve = [], _Curve()
    with db.read_snapshot():
        selection = select(symbol, strategy, start_date, end_date, exchange, quote)
        for timestamp, trade_id, pnl in _trades(selection):
            if pnl is not None:
                drawdown = curve.add(timestamp, exact.to_decimal(pnl))
                sums = to_float("pnl", curve.equity), to_float("pnl", drawdown)
                points.append(EquityPoint(timestamp, trade_id, pnl, *sums))
    return points


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

    Each figure is defined in the guide [Accounting](../accounting.md).

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
    time_key = _TIME_KEYS[name]
    column: Any = db.hour_of(Trade.timestamp) if time_key else getattr(Trade, name)
    filters = symbol, strategy, start_date, end_date, exchange, quote
    with db.read_snapshot():
        selection = select(*filters, one_currency=not by_symbol)
        values: dict[Any, Sums] | None = _sums_in_database(column, selection)
        if values is None:
            values = _sums_here(column, selection, Trade.timestamp if time_key else column)
    groups: defaultdict[Any, Sums] = defaultdict(Sums)
    for value, sums in values.items():
        groups[time_key(value) if time_key else (value is None, value)].merge(sums)
    return [
        Group(
            key=str(key) if isinstance(key, OrderSide) else key,
            **result_fields(quote_of(key) if by_symbol else selection.quote, groups[order, key]),
        )
        for order, key in sorted(groups)
    ]


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


ROWS_PER_READ = 1000
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# for each dimension the order and the key of the group of an hour, as the database groups by hours;
# None for a dimension that is a column
_TIME_KEYS: dict[str, Callable[[datetime], tuple[Any, Any]] | None] = {
    "symbol": None,
    "strategy": None,
    "exchange": None,
    "side": None,
    "day": lambda hour: (hour.date(), hour.date().isoformat()),
    "week": lambda hour: (week := hour.isocalendar()[:2], "{:04}-W{:02}".format(*week)),
    "month": lambda hour: ((hour.year, hour.month), f"{hour.year:04}-{hour.month:02}"),
    "hour": lambda hour: (hour.hour, hour.hour),
    "weekday": lambda hour: (hour.weekday(), _WEEKDAYS[hour.weekday()]),
}


def _sums_in_database(column: Any, selection: Selection) -> dict[Any, Sums] | None:
    """Return the sums of trades for each value of a column; None if they must be read."""
    pnl: Any = Trade.pnl
    key = column.alias("key")
    columns = (
        key,
        fn.COUNT(SQL("*")),
        fn.COUNT(pnl),
        fn.COUNT(Case(None, [(pnl > 0, 1)])),
        fn.COUNT(Case(None, [(pnl < 0, 1)])),
        fn.MAX(pnl),
        fn.MIN(pnl),
        whole_sum(pnl, unless=pnl <= 0),
        whole_sum(pnl, unless=pnl >= 0),
    )
    query = read.select(Trade, selection.conditions(), *columns).group_by(key)
    rows = fetch_sums(query.tuples())
    if rows is None:
        return None
    groups = {}
    for value, trades, closed, wins, losses, best, worst, profit_text, loss_text in rows:
        profit, loss = parse_sum(profit_text), parse_sum(loss_text)
        if profit is None or loss is None:
            return None
        groups[value] = Sums(trades, closed, wins, losses, best, worst, profit, loss)
    return groups


def _sums_here(column: Any, selection: Selection, field: Any) -> dict[Any, Sums]:
    """Return the sums of trades for each value of a column, from the trades.

    `field` is the one that the column is made from, which converts its values.
    """
    groups: defaultdict[Any, Sums] = defaultdict(Sums)
    fields = column.alias("key"), Trade.pnl
    for batch in read.batches(Trade, {}, ROWS_PER_READ, *fields, where=selection.conditions()):
        for value, pnl in batch:
            groups[value].add(pnl)
    return {field.python_value(value): sums for value, sums in groups.items()}


def _trades(selection: Selection, *fields: str) -> Iterator[tuple[Any, ...]]:
    """Yield the timestamp, the id, the PnL and the named fields of trades in time order."""
    rows = read.stream_values(Trade, selection.filters, "symbol", "pnl", *fields)
    symbols = selection.symbols
    for timestamp, trade_id, symbol, *values in rows:
        if symbols is None or symbol in symbols:
            yield timestamp, trade_id, *values


class _Fees:
    """The exact sum of fees for each currency."""

    def __init__(self) -> None:
        self._sums: defaultdict[str | None, Decimal] = defaultdict(Decimal)

    def add(self, fee: float, currency: str | None) -> None:
        self._sums[currency] = exact.add(self._sums[currency], exact.to_decimal(fee))

    def by_currency(self) -> dict[str | None, float]:
        currencies = sorted(self._sums, key=lambda currency: currency or "")
        return {currency: to_float("fee", self._sums[currency]) for currency in currencies}


class _Curve:
    """The cumulative PnL of closed trades in time order, and its largest drawdown."""

    def __init__(self) -> None:
        self.equity = self._peak = self._max_drawdown = exact.ZERO
        self._streak = self._longest_streak = 0
        self._peak_time: datetime | None = None
        self._start: datetime | None = None
        self._end: datetime | None = None
        self._duration: timedelta | None = None

    def add(self, timestamp: datetime, pnl: Decimal) -> Decimal:
        """Add a trade, and return how far the cumulative PnL is below its peak."""
        self._streak = self._streak + 1 if pnl < 0 else 0
        self._longest_streak = max(self._longest_streak, self._streak)
        self.equity = exact.add(self.equity, pnl)
        self._peak = max(self._peak, self.equity)
        self._peak_time = self._peak_time or timestamp
        drawdown = exact.subtract(self._peak, self.equity)
        if drawdown > self._max_drawdown:
            self._max_drawdown, self._start, self._end = drawdown, self._peak_time, None
        if self._start is not None and self._end is None:  # it is in the largest drawdown so far
            self._duration = timestamp - self._start
            self._end = None if drawdown else timestamp
        if not drawdown:
            self._peak_time = timestamp
        return drawdown

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `Performance` that depend on the order of the trades."""
        return {
            "longest_losing_streak": self._longest_streak,
            "max_drawdown": to_float("pnl", self._max_drawdown),
            "max_drawdown_start": self._start,
            "max_drawdown_end": self._end,
            "max_drawdown_duration": self._duration,
        }
