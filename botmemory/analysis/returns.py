"""Returns: what was earned each day, as a part of the capital, and the ratios that follow.

Each figure is defined in the guide "Accounting" (`docs/accounting.md`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from itertools import accumulate
from math import isfinite
from typing import Any, NamedTuple, SupportsFloat

from .. import exact
from .._arguments import checked_call
from .._values import checked_time_zone, refuse, to_finite, to_utc
from ..database import db
from ..errors import ValidationError
from ..exact import DIVISION, ZERO, add, multiply, subtract
from ..formats import amount
from ..models import CashFlow
from ..queries import read
from . import performance
from .dimensions import local
from .results import Source, factor

divide = DIVISION.divide

__all__ = ["Returns", "daily", "summarize"]

YEAR = Decimal(365)  # days; crypto markets never close
PER_YEAR = DIVISION.sqrt(YEAR)
ONE = Decimal(1)
ROUNDING = Decimal("1e-12")  # of the average, up to which returns differ by rounding alone


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
        cagr: The compound annual growth rate, (1 + total return) ^ (365 / days) - 1; None if
            more than the capital was lost, or if it is larger than a float can hold.
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

    The return is the PnL that was closed on the day / the capital at its start, with all PnL
    before, with what was deposited up to the end of the day, and without what was withdrawn before
    it. It is 0.0 where nothing was closed.

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
    days = days_of(arguments, capital, tz).returns
    return {day: _float(value) for day, value in days.items()}


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
        The figures; None without closed trades.

    Raises:
        ValidationError: An argument is invalid, the PnL is in different currencies or is not known,
            there is no capital, or it was used up.
    """
    arguments = {
        "symbol": symbol, "strategy": strategy, "start_date": start_date, "end_date": end_date,
        "exchange": exchange, "quote": quote, "source": source, "rates": rates,
    }  # fmt: skip
    days = days_of(arguments, capital, tz)
    return summary_of(days) if days.returns else None


class Days(NamedTuple):
    """The return of each day, and what they are returns of; the amounts have 100 digits."""

    quote: str | None
    source: Source
    capital: Decimal
    returns: dict[datetime, Decimal]


def days_of(
    arguments: dict[str, Any], capital: SupportsFloat | None, tz: str | tzinfo | None
) -> Days:
    """Return the return of each day; none without closed trades.

    Args:
        arguments: Those of `performance.by`, but the dimension and the time zone.
        capital: As for `daily`.
        tz: As for `daily`.
    """
    time_zone = checked_time_zone(tz)
    equity = None if capital is None else _checked_capital(capital)
    flows: list[_Flow] = []
    with db.read_snapshot():
        quote, source, pnls = _pnl_of_days(arguments, time_zone)
        if not pnls:
            return Days(None, "recorded", ZERO, {})
        if equity is None:
            flows = _deposits(quote, arguments["exchange"], time_zone)
            equity = ZERO
            if arguments["start_date"] is not None:  # what was earned before it is there, too
                earlier = arguments | {"start_date": None, "source": source}
                equity = _total(_pnl_of_days(earlier, time_zone)[2], minus=_total(pnls))
    first, last = _first_and_last(min(pnls), max(pnls), arguments, time_zone)
    equity = add(equity, exact.sum_of(flow.amount for flow in flows if flow.day < first))
    by_day: defaultdict[date, list[Decimal]] = defaultdict(list)
    for flow in flows:
        by_day[flow.day].append(flow.amount)
    start, returns = ZERO, {}
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        pnl = pnls.get(day, ZERO)
        # what is deposited is there the whole day, and so is what is withdrawn
        equity = add(equity, exact.sum_of(flow for flow in by_day[day] if flow > 0))
        start = equity if number == 0 else start
        if pnl and equity <= 0:
            raise ValidationError(_no_capital(quote, day, equity), field="capital")
        returns[datetime.combine(day, time())] = DIVISION.divide(pnl, equity) if pnl else ZERO
        withdrawn = exact.sum_of(flow for flow in by_day[day] if flow < 0)
        equity = add(add(equity, pnl), withdrawn)
    return Days(quote, source, start, returns)


def _pnl_of_days(
    arguments: dict[str, Any], time_zone: tzinfo
) -> tuple[str | None, Source, dict[date, Decimal]]:
    """Return the currency, the source, and the PnL of each day with closed trades."""
    groups = performance.by("day", **arguments, tz=time_zone)
    closed = [group for group in groups if group.closed_trades]
    pnls: dict[date, Decimal] = {}
    for group in closed:
        if group.total_pnl is None:
            raise ValidationError(f"the PnL of {group.key} is not known: {group.unknown}")
        pnls[date.fromisoformat(group.key)] = exact.to_decimal(group.total_pnl)
    if not closed:
        return None, "recorded", pnls
    return closed[0].quote, closed[0].source, pnls


def _total(pnls: dict[date, Decimal], minus: Decimal = ZERO) -> Decimal:
    return subtract(exact.sum_of(pnls.values()), minus)


def _checked_capital(capital: SupportsFloat) -> Decimal:
    number = to_finite("capital", capital)
    if number <= 0:
        refuse("capital", capital, "is not greater than 0")
    return exact.to_decimal(number)


class _Flow(NamedTuple):
    """A deposit, or below 0 a withdrawal."""

    day: date
    amount: Decimal


def _deposits(currency: str | None, exchange: str | None, tz: tzinfo) -> list[_Flow]:
    """Return the deposits and withdrawals in a currency."""
    flows = []
    for kind in ("deposit", "withdrawal") if currency is not None else ():
        filters = read.filters(CashFlow, exchange=exchange, kind=kind, currency=currency)
        for timestamp, _, flow in read.stream_values(CashFlow, filters, "amount"):
            flows.append(_Flow(local(timestamp, tz).date(), exact.to_decimal(flow)))
    return flows


def _first_and_last(
    first: date, last: date, arguments: dict[str, Any], tz: tzinfo
) -> tuple[date, date]:
    """Return the first and the last day that count, from those with closed trades."""
    start, end = arguments["start_date"], arguments["end_date"]
    if start is not None:
        first = local(to_utc("start_date", start), tz).date()
    if end is not None:
        now = datetime.now(UTC)
        last = max(last, local(min(now, to_utc("end_date", end)), tz).date())
    return first, last


def _no_capital(currency: str | None, day: date, equity: Decimal) -> str:
    """Return why a day has no return, and what to do."""
    where = f" {currency}" if currency else ""
    return (
        f"capital: it is {amount(float(equity))}{where} on {day}, on which something was earned or "
        "lost; pass what it was at the start, or record all deposits as cash flows"
    )


def summary_of(of: Days) -> Returns:
    returns, days = list(of.returns.values()), len(of.returns)
    growth = list(accumulate((add(value, ONE) for value in returns), _times, initial=ONE))
    peaks = accumulate(growth, max)
    falls = [subtract(ONE, divide(value, peak)) for value, peak in zip(growth, peaks, strict=True)]
    drawdown = max(falls)
    average = divide(exact.sum_of(returns), Decimal(days))
    squares = exact.sum_of(
        multiply(change, change) for change in (subtract(r, average) for r in returns)
    )
    variance = divide(squares, Decimal(days - 1)) if days > 1 else ZERO
    deviation = _without_rounding(DIVISION.sqrt(variance), average)
    losses = exact.sum_of(multiply(value, value) for value in returns if value < 0)
    downside = DIVISION.sqrt(divide(losses, Decimal(days)))
    cagr = None
    if growth[-1] >= 0:
        cagr = subtract(DIVISION.power(growth[-1], divide(YEAR, Decimal(days))), ONE)
    return Returns(
        quote=of.quote,
        source=of.source,
        capital=float(of.capital),
        days=days,
        total_return=_float(subtract(growth[-1], ONE)),
        cagr=None if cagr is None else factor(cagr, ONE),
        volatility=factor(multiply(deviation, PER_YEAR), ONE) if days > 1 else None,
        sharpe=factor(multiply(average, PER_YEAR), deviation),
        sortino=factor(multiply(average, PER_YEAR), downside),
        calmar=None if cagr is None else factor(cagr, drawdown),
        relative_drawdown=_float(drawdown),
        best_day=_float(max(returns)),
        worst_day=_float(min(returns)),
    )


def _times(left: Decimal, right: Decimal) -> Decimal:
    return DIVISION.multiply(left, right)


def _without_rounding(deviation: Decimal, average: Decimal) -> Decimal:
    """Return a deviation; 0 if it is that of returns that are equal but for their rounding."""
    smallest = multiply(average.copy_abs(), ROUNDING)
    return deviation if deviation > smallest else ZERO


def _float(part: Decimal) -> float:
    """Return the nearest float; refuse a return that is larger than a float can hold."""
    number = float(part) + 0.0
    if not isfinite(number):
        raise ValidationError(
            "capital: it is so small that a return is larger than a float can hold; pass what it "
            "was at the start",
            field="capital",
        )
    return number
