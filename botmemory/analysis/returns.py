"""Returns: what was earned each day, as a part of the capital, and the ratios that follow.

Each figure is defined in the guide "Accounting" (`docs/accounting.md`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from itertools import accumulate
from math import fsum, sqrt
from operator import mul
from typing import Any, NamedTuple, SupportsFloat

from .. import exact
from .._arguments import checked_call
from .._values import refuse, to_finite, to_utc
from ..database import db
from ..errors import ValidationError
from ..exact import DIVISION, ZERO, add
from ..formats import amount
from ..models import CashFlow
from ..queries import read
from . import performance
from ._dimensions import checked_time_zone
from ._results import Source

__all__ = ["Returns", "daily", "summarize"]

DAYS_PER_YEAR = 365  # markets that never close


@dataclass(frozen=True, kw_only=True)
class Returns:
    """The returns of a capital, and the ratios that follow from those of each day.

    Each figure is defined in the guide [Accounting](../accounting.md). A year has 365 days; a day
    without closed trades has a return of 0; a part of 0.02 is two percent.

    Attributes:
        quote: The currency; None if the symbols name none.
        source: Where the PnL comes from.
        capital: The capital at the start of the first day, with what was deposited on it.
        days: The number of days, from the first one to the last.
        total_return: The compounded return of all days.
        cagr: The compound annual growth rate, (1 + total return) ^ (365 / days) - 1; None if the
            capital was lost, or if it is larger than a float can hold.
        volatility: The standard deviation of the daily returns, of a sample, x sqrt(365); None for
            fewer than two days.
        sharpe: average / standard deviation of the daily returns x sqrt(365), without a risk-free
            rate (Sharpe, The Sharpe Ratio, 1994); None without a deviation.
        sortino: average daily return / downside deviation x sqrt(365), where the downside deviation
            is the root of the average of the squared returns below 0, over all days (Sortino and
            Price, 1994); None without a return below 0.
        calmar: cagr / relative drawdown (Young, 1991); None without a drawdown.
        relative_drawdown: The largest fall of the compounded capital below its highest value at the
            end of a day or at the start, as a part of that value.
        best_day: The highest return of a day.
        worst_day: The lowest return of a day.
    """

    quote: str | None
    source: Source
    capital: float
    days: int
    total_return: float
    cagr: float | None
    volatility: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    relative_drawdown: float
    best_day: float
    worst_day: float


@checked_call
def daily(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    capital: SupportsFloat | None = None,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
    tz: str | tzinfo | None = None,
) -> dict[datetime, float]:
    """Return the return of each day, which `pandas.Series` and QuantStats take as it is.

    Each figure is defined in the guide [Accounting](../accounting.md).

    The return is the PnL that was closed on the day / the capital at its start, with all PnL before
    and with what was deposited and withdrawn up to the end of the day.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only closed trades from this time on; its day is the first one.
        end_date: Only closed trades up to this time, included; its day is the last one, unless it
            is after today.
        capital: The capital at the start, in the currency of the PnL. None takes the recorded
            deposits and withdrawals in that currency, those on the `exchange` if one is given.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        source: `"recorded"` adds up the `pnl` of the trades, `"fills"` the net PnL of the round
            trips; None takes what is recorded, if any trade has a `pnl`, and else the fills.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`. Of use with fills alone.
        tz: The time zone of the days, such as `"Europe/Berlin"`; None for UTC.

    Returns:
        A return for each calendar day, in time order, from the first with a closed trade to the
        last; 0.0 where nothing was closed. The keys are midnights without a time zone.

    Raises:
        ValidationError: An argument is invalid, the PnL is in different currencies or is not known,
            there is no capital, or it was used up.
    """
    arguments = {
        "symbol": symbol, "strategy": strategy, "start_date": start_date, "end_date": end_date,
        "exchange": exchange, "quote": quote, "source": source, "rates": rates,
    }  # fmt: skip
    return _days(arguments, capital, tz).returns


@checked_call
def summarize(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    capital: SupportsFloat | None = None,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
    tz: str | tzinfo | None = None,
) -> Returns | None:
    """Return the return of the capital, its growth, its risk and the ratios of both.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Args:
        symbol: As for `daily`.
        strategy: As for `daily`.
        start_date: As for `daily`.
        end_date: As for `daily`.
        capital: As for `daily`.
        exchange: As for `daily`.
        quote: As for `daily`.
        source: As for `daily`.
        rates: As for `daily`.
        tz: As for `daily`.

    Returns:
        The figures; None without closed trades.

    Raises:
        ValidationError: As for `daily`.
    """
    arguments = {
        "symbol": symbol, "strategy": strategy, "start_date": start_date, "end_date": end_date,
        "exchange": exchange, "quote": quote, "source": source, "rates": rates,
    }  # fmt: skip
    days = _days(arguments, capital, tz)
    return _summary(days) if days.returns else None


class _Days(NamedTuple):
    """The return of each day, and what they are returns of."""

    quote: str | None
    source: Source
    capital: float
    returns: dict[datetime, float]


def _days(
    arguments: dict[str, Any], capital: SupportsFloat | None, tz: str | tzinfo | None
) -> _Days:
    """Return the return of each day; none without closed trades.

    Args:
        arguments: Those of `performance.by`, but the dimension and the time zone.
        capital: As for `daily`.
        tz: As for `daily`.
    """
    time_zone = checked_time_zone(tz)
    given = None if capital is None else _checked_capital(capital)
    with db.read_snapshot():
        groups = performance.by("day", **arguments, tz=time_zone)
        closed = [group for group in groups if group.closed_trades]
        if not closed:
            return _Days(None, "recorded", 0.0, {})
        quote = closed[0].quote
        flows = _deposits(quote, arguments["exchange"], time_zone) if given is None else {}
    pnls: dict[date, Decimal] = {}
    for group in closed:
        if group.total_pnl is None:
            raise ValidationError(
                f"rates: the PnL of {group.key} is not known: {group.unknown}", field="rates"
            )
        pnls[date.fromisoformat(group.key)] = exact.to_decimal(group.total_pnl)
    first, last = _first_and_last(min(pnls), max(pnls), arguments, time_zone)
    equity = given or ZERO
    for day in [day for day in flows if day <= first]:
        equity = add(equity, flows.pop(day))
    capital_at_start, returns = float(equity), {}
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        equity, pnl = add(equity, flows.get(day, ZERO)), pnls.get(day, ZERO)
        if equity <= 0:
            raise ValidationError(_no_capital(quote, day, equity), field="capital")
        returns[datetime.combine(day, time())] = float(DIVISION.divide(pnl, equity)) + 0.0
        equity = add(equity, pnl)
    return _Days(quote, closed[0].source, capital_at_start, returns)


def _checked_capital(capital: SupportsFloat) -> Decimal:
    number = to_finite("capital", capital)
    if number <= 0:
        refuse("capital", capital, "is not greater than 0")
    return exact.to_decimal(number)


def _deposits(currency: str | None, exchange: str | None, tz: tzinfo) -> dict[date, Decimal]:
    """Return what was deposited less what was withdrawn on each day, in one currency."""
    flows: defaultdict[date, Decimal] = defaultdict(Decimal)
    for kind in ("deposit", "withdrawal") if currency is not None else ():
        filters = read.filters(CashFlow, exchange=exchange, kind=kind, currency=currency)
        for timestamp, _, flow in read.stream_values(CashFlow, filters, "amount"):
            day = timestamp.astimezone(tz).date()
            flows[day] = add(flows[day], exact.to_decimal(flow))
    return flows


def _first_and_last(
    first: date, last: date, arguments: dict[str, Any], tz: tzinfo
) -> tuple[date, date]:
    """Return the first and the last day that count, from those with closed trades."""
    start, end = arguments["start_date"], arguments["end_date"]
    if start is not None:
        first = to_utc("start_date", start).astimezone(tz).date()
    if end is not None:
        today = datetime.now(tz).date()
        last = max(last, min(today, to_utc("end_date", end).astimezone(tz).date()))
    return first, last


def _no_capital(currency: str | None, day: date, equity: Decimal) -> str:
    """Return why a day has no return, and what to do."""
    return (
        f"capital: it is {amount(float(equity))} {currency or ''} on {day}, of which there is no "
        "return; pass what it was at the start, or record all deposits as cash flows"
    )


def _summary(of: _Days) -> Returns:
    returns = list(of.returns.values())
    days = len(returns)
    growth = list(accumulate((1 + value for value in returns), mul, initial=1.0))
    peaks = accumulate(growth, max)
    max_drawdown = max(1 - value / peak for value, peak in zip(growth, peaks, strict=True))
    average = fsum(returns) / days
    variance = fsum((value - average) ** 2 for value in returns) / (days - 1) if days > 1 else 0.0
    downside = sqrt(fsum(value**2 for value in returns if value < 0) / days)
    deviation, per_year = sqrt(variance), sqrt(DAYS_PER_YEAR)
    try:
        cagr = growth[-1] ** (DAYS_PER_YEAR / days) - 1 if growth[-1] > 0 else None
    except OverflowError:  # of a few days
        cagr = None
    return Returns(
        quote=of.quote,
        source=of.source,
        capital=of.capital,
        days=days,
        total_return=growth[-1] - 1,
        cagr=cagr,
        volatility=deviation * per_year if days > 1 else None,
        sharpe=average / deviation * per_year if deviation else None,
        sortino=average / downside * per_year if downside else None,
        calmar=cagr / max_drawdown if cagr is not None and max_drawdown else None,
        relative_drawdown=max_drawdown,
        best_day=max(returns),
        worst_day=min(returns),
    )
