"""What was earned: sums, ratios, the equity curve and its drawdowns, from the recorded PnL.

A trade counts as closed when it has a `pnl`: what it has realized, in the quote currency of its
symbol (`BTC/USDT` in USDT, `BTC/USDT:USDT` in what it settles in), before fees. PnL in different
currencies is never added up: name a symbol, or one currency with `quote=` (`quote=""` for symbols
that name none, where all of them are in one). Times are in UTC, start and end are included. What
is not defined is None.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from peewee import SQL, Case, fn

from .._arguments import checked_call
from .._values import plain_text
from ..database import db
from ..errors import ValidationError, show
from ..models import OrderSide, Trade
from ..queries import read
from ._results import Result, Sums, result_fields
from ._selection import Selection, quote_of, select

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

Dimension = Literal["symbol", "strategy", "side", "day", "week", "month", "hour", "weekday"]


@dataclass(frozen=True, kw_only=True)
class Group(Result):
    """A result of the trades that have one thing in common.

    `key` is the symbol, the strategy (None for trades without one), the side (`buy`), the day
    (`2024-01-31`), the ISO week (`2024-W05`), the month (`2024-01`), the hour of the day in UTC
    (0 to 23) or the weekday (`Monday`).
    """

    key: str | int | None


@dataclass(frozen=True, kw_only=True)
class Performance(Result):
    """A result with what depends on the order of the trades, and with their fees.

    - `longest_losing_streak`: the most losses in a row.
    - `max_drawdown`: the deepest fall of the summed PnL below its highest point so far, which is 0
      before the first trade; 0 or above (Magdon-Ismail and Atiya, Maximum Drawdown, 2004).
    - `max_drawdown_start`: the trade at the highest point, or the first one; `max_drawdown_end`:
      the trade that was back there, None if none was yet; None without a drawdown.
    - `max_drawdown_duration`: from start to end, or to the last closed trade.
    - `fees`: what all trades have paid, by `fee_currency` (None where it was not given).
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

    `equity` is the sum of all PnL up to and with it, `drawdown` how far that is below the highest
    sum so far (0 or above).
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
    quote: str | None = None,
) -> Performance:
    """Return how the trades have done, all of them or those that are named.

    The database adds up; for what depends on their order the trades are read once, a few at a
    time. Raises `ValidationError` where PnL in different currencies would be added up.
    """
    chosen = select(symbol, strategy, start_date, end_date, quote)
    [sums] = read.fetch(_summed(chosen))
    path = _Path()
    for point in _points(chosen):
        path.add(point)
    return Performance(
        **result_fields(chosen.quote, Sums(*sums)),
        longest_losing_streak=path.longest_losing_streak,
        max_drawdown=float(path.max_drawdown),
        max_drawdown_start=path.start,
        max_drawdown_end=path.end,
        max_drawdown_duration=path.duration(),
        fees=_fees(chosen),
    )


@checked_call
def equity_curve(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    quote: str | None = None,
) -> list[EquityPoint]:
    """Return the closed trades in time order, each with the sum of the PnL up to it.

    Raises `ValidationError` where PnL in different currencies would be added up.
    """
    chosen = select(symbol, strategy, start_date, end_date, quote)
    return [
        EquityPoint(one.timestamp, one.trade_id, one.pnl, float(one.equity), float(one.drawdown))
        for one in _points(chosen)
    ]


@checked_call
def by(
    dimension: Dimension,
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    quote: str | None = None,
) -> list[Group]:
    """Return a result for each symbol, strategy, side, day, week, month, hour or weekday.

    Only those with trades, in the order of their keys: by alphabet (None last), in time order,
    from Monday on. Raises `ValidationError` for another dimension, and where PnL in different
    currencies would be added up.
    """
    name = plain_text(dimension) if isinstance(dimension, str) else None
    if name not in _KEYS:
        raise ValidationError(
            f"dimension: {show(dimension)} is not one; use {', '.join(_KEYS)}", field="dimension"
        )
    by_symbol = name == "symbol"
    chosen = select(symbol, strategy, start_date, end_date, quote, added_up=not by_symbol)
    of_time = _KEYS[name]
    grouped: Any = db.hour_of(Trade.timestamp) if of_time else getattr(Trade, name)
    sums: dict[Any, Sums] = {}
    for value, *summed in read.fetch(_summed(chosen, grouped.alias("key"))):
        place = of_time(value) if of_time else (value is None, value)
        sums[place] = sums[place].plus(Sums(*summed)) if place in sums else Sums(*summed)
    groups = []
    for place in sorted(sums):
        key = place[1]
        key = str(key) if isinstance(key, OrderSide) else key
        quote_of_group = quote_of(str(key)) if by_symbol else chosen.quote
        groups.append(Group(key=key, **result_fields(quote_of_group, sums[place])))
    return groups


@checked_call
def quotes(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> list[str]:
    """Return the currencies the trades are in, by alphabet; "" for symbols that name none."""
    filters = read.filters(Trade, symbol, strategy, start_date, end_date)
    return sorted({quote_of(one) or "" for one in read.distinct(Trade, "symbol", filters)})


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
# Where a group stands, and its key: for an hour, since hours are what the database sums up by.
_KEYS: dict[str, Callable[[datetime], tuple[Any, Any]] | None] = {
    "symbol": None,
    "strategy": None,
    "side": None,
    "day": lambda hour: (hour.date(), f"{hour:%Y-%m-%d}"),
    "week": lambda hour: (hour.isocalendar()[:2], f"{hour:%G-W%V}"),
    "month": lambda hour: ((hour.year, hour.month), f"{hour:%Y-%m}"),
    "hour": lambda hour: (hour.hour, hour.hour),
    "weekday": lambda hour: (hour.weekday(), _WEEKDAYS[hour.weekday()]),
}


def _summed(chosen: Selection, *keys: Any) -> Any:
    """Return the question for the sums of the chosen trades, for each of the keys if there are."""
    pnl: Any = Trade.pnl
    won, lost = pnl > 0, pnl < 0
    query: Any = Trade.select(
        *keys,
        fn.COUNT(SQL("*")),
        fn.COUNT(pnl),
        fn.SUM(Case(None, [(won, 1)], 0)),
        fn.SUM(Case(None, [(lost, 1)], 0)),
        fn.SUM(Case(None, [(won, pnl)], 0.0)),
        fn.SUM(Case(None, [(lost, pnl)], 0.0)),
        fn.MAX(pnl),
        fn.MIN(pnl),
    )
    if conditions := chosen.conditions():
        query = query.where(*conditions)
    return query.group_by(*keys).tuples() if keys else query.tuples()


def _fees(chosen: Selection) -> dict[str | None, float]:
    fee, currency = Trade.fee, Trade.fee_currency
    query: Any = Trade.select(currency, fn.SUM(fee)).where(fee.is_null(False), *chosen.conditions())
    rows = read.fetch(query.group_by(currency).tuples())
    return dict(sorted(rows, key=lambda row: row[0] or ""))


class _Point(NamedTuple):
    timestamp: datetime
    trade_id: uuid.UUID
    pnl: float
    equity: Decimal
    drawdown: Decimal


def _points(chosen: Selection) -> Iterator[_Point]:
    """Yield the closed trades in time order, with the sums so far as exact decimals."""
    equity = peak = Decimal(0)
    rows: Iterable[Any] = read.stream_values(Trade, chosen.filters, "symbol", "pnl")
    for timestamp, trade_id, symbol, pnl in rows:
        if pnl is None or (chosen.symbols is not None and symbol not in chosen.symbols):
            continue
        # as the decimals they were written as: 0.1 + 0.2 - 0.3 is back at the peak
        equity += Decimal(repr(pnl))
        peak = max(peak, equity)
        yield _Point(timestamp, trade_id, pnl, equity, peak - equity)


class _Path:
    """What depends on the order of the trades."""

    def __init__(self) -> None:
        self.longest_losing_streak = self._streak = 0
        self.max_drawdown = Decimal(0)
        self.start: datetime | None = None
        self.end: datetime | None = None
        self._peak_at: datetime | None = None
        self._last: datetime | None = None
        self._inside = False  # the deepest drawdown, which is not over yet

    def add(self, point: _Point) -> None:
        self._streak = self._streak + 1 if point.pnl < 0 else 0
        self.longest_losing_streak = max(self.longest_losing_streak, self._streak)
        self._last = point.timestamp
        if self._peak_at is None:
            self._peak_at = point.timestamp
        if point.drawdown > self.max_drawdown:
            self.max_drawdown, self.start, self.end = point.drawdown, self._peak_at, None
            self._inside = True
        elif not point.drawdown:
            if self._inside:
                self.end, self._inside = point.timestamp, False
            self._peak_at = point.timestamp

    def duration(self) -> timedelta | None:
        until = self.end or self._last
        return until - self.start if self.start is not None and until is not None else None
