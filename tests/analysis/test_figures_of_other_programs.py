"""Round trips, results and returns agree with those of other programs, on random histories.

The programs are installed from their packages, and those that ask them are in
`tests/other_programs/`. What they define in another way is translated here, and said here.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from installed import answer, answer_once
from paths import OTHER_PROGRAMS
from random_fills import (
    BITCOIN,
    BITCOIN_CONTRACT,
    DOGE,
    ETHER_CONTRACT,
    History,
    Rules,
    given,
    histories,
)
from samples import START, at

from botmemory import init_db
from botmemory.analysis import performance, returns
from botmemory.analysis.performance import Performance
from botmemory.analysis.round_trips import round_trips
from botmemory.repositories import trades

pytestmark = pytest.mark.long

HISTORIES = 300  # of closed trades
ROUNDING = 1e-12  # of figures that are computed from some hundred floats


def equal(figure: float, rel: float = ROUNDING, scale: float = 1.0) -> Any:
    """Return what equals a figure but for rounding.

    Args:
        figure: The figure.
        rel: The part of it that rounding may be.
        scale: How large the numbers are that it is a difference of.
    """
    return pytest.approx(figure, rel=rel, abs=rel * scale)


# --- histories of closed trades -----------------------------------------------------------------


@dataclass
class ClosedTrades:
    """When trades were closed, with what PnL, and the capital before the first one."""

    closed: list[tuple[datetime, float]]
    capital: float

    @property
    def balances(self) -> list[tuple[datetime, float]]:
        """The capital on the day before the first trade, and at the end of each day."""
        first, last = self.closed[0][0].date(), self.closed[-1][0].date()
        before = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=1)
        days = [before + timedelta(days=day) for day in range((last - first).days + 2)]
        return [
            (day, self.capital + sum(pnl for when, pnl in self.closed if when.date() <= day.date()))
            for day in days
        ]


def closed_trades(number: int) -> ClosedTrades:
    """Return a random history, the same one in each run.

    The PnL are binary fractions, so that each program adds them up without rounding: where one of
    them finds the same height twice, the others do.
    """
    rng = random.Random(f"closed trades {number}")
    count, span = rng.choice([1, 3, 10, 30, 80]), rng.choice([6, 30, 100])  # hours in between
    draw = {
        "any": lambda: round(rng.gauss(1, 100) * 64) / 64,
        "wins": lambda: rng.randint(1, 9999) / 64,
        "losses": lambda: -rng.randint(1, 9999) / 64,
        "few amounts": lambda: float(rng.choice([-2, -1, 0, 1, 1, 2])),
    }[rng.choice(["any", "any", "any", "wins", "losses", "few amounts"])]
    closed, minutes, equity, needed = [], 0, 0.0, 1.0
    of_days: defaultdict[int, float] = defaultdict(float)
    for _ in range(count):
        minutes += rng.randint(1, 60 * span)
        pnl = draw()
        equity += pnl
        of_days[minutes // (24 * 60)] += pnl
        needed = max(needed, -equity, *of_days.values())
        closed.append((at(minutes / 60), pnl))
    capital = float(math.ceil(needed * rng.choice([1.1, 2, 10, 1000])))
    if number % 20 == 0:  # a bot that loses all, or more than that
        rest = capital + equity
        closed.append((at(minutes / 60 + 24), -rest * rng.choice([1.0, 1.5])))
    return ClosedTrades(closed, capital)


def record_closed(past: Iterable[ClosedTrades]) -> None:
    """Record the trades of each history, with its number as their strategy."""
    trades.create_many(
        {
            "symbol": "BTC/USDT",
            "side": "sell",
            "price": 100.0,
            "quantity": 1.0,
            "strategy": str(number),
            "timestamp": timestamp,
            "pnl": pnl,
        }
        for number, each in enumerate(past)
        for timestamp, pnl in each.closed
    )


def record_fills(past: Iterable[History]) -> None:
    """Record the fills of each history, with its number as their strategy."""
    trades.create_many(
        {
            "symbol": each.market.symbol,
            "side": fill.side,
            "quantity": fill.quantity,
            "price": fill.price,
            "contract_size": each.market.contract_size,
            "fee": each.market.worth(fill.quantity, fill.price) * each.fee_rate,
            "strategy": str(number),
            "timestamp": at(hour),
        }
        for number, each in enumerate(past)
        for hour, fill in enumerate(each.fills)
    )


# --- backtrader: round trips --------------------------------------------------------------------


def test_round_trips_of_backtrader(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its broker executes the fills, and its trades go from flat to flat as round trips do.

    Not compared: the price of a trade, which is that of what is left of it, and not of all entries.
    """
    # sizes are floats there, which add up without rounding if they are binary fractions
    past = histories([BITCOIN._replace(lot=2**-10), DOGE, ETHER_CONTRACT], Rules(), count=70)
    program = OTHER_PROGRAMS / "with_backtrader_trades.py"
    answers = answer_once(tmp_path_factory, "backtrader==1.9.78.123", program, given(past))
    init_db(":memory:")
    record_fills(past)
    for number, (each, theirs) in enumerate(zip(past, answers, strict=True)):
        traded = sum(each.market.worth(fill.quantity, fill.price) for fill in each.fills)
        compare_trades(str(number), theirs["trades"], traded)
        compare_statistics(str(number), theirs, traded)


def compare_trades(strategy: str, theirs: list[dict[str, Any]], traded: float) -> None:
    ours = list(round_trips(strategy=strategy))
    for trip, trade in zip(ours, theirs, strict=True):
        assert trip.direction == trade["direction"]
        assert trip.opened_at == datetime.fromisoformat(trade["opened_at"])
        assert trip.closed_at == datetime.fromisoformat(trade["closed_at"])
        assert trip.gross_pnl == equal(trade["gross_pnl"], scale=traded)
        assert trip.net_pnl == equal(trade["net_pnl"], scale=traded)
        assert sum(trip.fees.values()) == equal(trade["fees"])


def compare_statistics(strategy: str, theirs: dict[str, Any], traded: float) -> None:
    """Compare what its analyzers find.

    They divide by the standard deviation of a population; and a trade that breaks even, of which
    there is none here, is won.
    """
    ours = performance.summarize(strategy=strategy, source="fills")
    count = ours.closed_trades
    assert ours.sqn is not None
    assert ours.sqn == equal(theirs["sqn"] * math.sqrt((count - 1) / count), rel=1e-9)
    assert ours.longest_winning_streak == theirs["streak"]["won"]["longest"]
    assert ours.longest_losing_streak == theirs["streak"]["lost"]["longest"]
    assert ours.gross_pnl == equal(theirs["pnl"]["gross"]["total"], scale=traded)
    assert ours.net_pnl == equal(theirs["pnl"]["net"]["total"], scale=traded)
    assert ours.expectancy == equal(theirs["pnl"]["net"]["average"], scale=traded)
    for name, average, extreme in (
        ("won", ours.average_win, ours.best),
        ("lost", ours.average_loss, ours.worst),
    ):
        assert (average or 0.0) == equal(theirs[name]["pnl"]["average"], scale=traded)
        assert extreme == equal(theirs[name]["pnl"]["max"], scale=traded) or not average
    assert (ours.wins, ours.losses) == (theirs["won"]["total"], theirs["lost"]["total"])
    groups = {
        group.key: group for group in performance.by("direction", strategy=strategy, source="fills")
    }
    for direction in ("long", "short"):
        group, expected = groups.get(direction), theirs[direction]
        assert (group.closed_trades if group else 0) == expected["total"]
        assert (group.wins if group else 0) == expected["won"]
        assert (group.net_pnl if group else 0) == equal(expected["pnl"]["total"], scale=traded)
    assert theirs["open"] == sum(
        trip.closed_at is None for trip in round_trips(strategy=strategy, include_open=True)
    )


# --- freqtrade: results -------------------------------------------------------------------------


def compare_results(
    ours: Performance,
    theirs: dict[str, Any],
    closed: Sequence[tuple[datetime, float]],
    rel: float = ROUNDING,
) -> None:
    """Compare the results of the same closed trades.

    Where a figure is None here, freqtrade has a number that says so: -100 for the SQN, 100 for the
    expectancy ratio, 0 for the profit factor.
    """
    count, turnover = len(closed), sum(abs(pnl) for _, pnl in closed)
    draws = theirs["draws"]
    assert (ours.wins, ours.losses) == (theirs["wins"], theirs["losses"])
    assert ours.closed_trades == count == theirs["wins"] + theirs["losses"] + draws
    assert ours.win_rate == theirs["winrate"]
    assert ours.total_pnl == equal(theirs["profit_total_abs"], rel, turnover)
    assert ours.expectancy == equal(theirs["expectancy"], rel, turnover / count)
    if ours.losses:
        assert ours.profit_factor == equal(theirs["profit_factor"], rel)
        # (1 + payoff ratio) x win rate - 1 counts a trade that breaks even as an average loss
        assert ours.expectancy_ratio == equal(theirs["expectancy_ratio"] + draws / count, rel)
    else:
        assert (ours.profit_factor, theirs["profit_factor"]) == (None, 0)
        assert (ours.expectancy_ratio, theirs["expectancy_ratio"]) == (None, 100)
    if ours.sqn is None:  # of equal profits it may divide by what rounding leaves of no deviation
        assert theirs["sqn"] == -100 or abs(theirs["sqn"]) > 1e12
    else:  # it rounds to 4 digits
        assert ours.sqn == pytest.approx(theirs["sqn"], rel=0, abs=0.5e-4 + 1e-9)
    assert ours.longest_winning_streak == theirs["winning_streak"]
    if not draws:  # which belong to a losing streak there, and to none here
        assert ours.longest_losing_streak == theirs["losing_streak"]
    assert ours.max_drawdown == equal(theirs["max_drawdown"], rel, turnover)
    assert ours.current_drawdown == equal(theirs["current_drawdown"], rel, turnover)


def compare_drawdown(
    strategy: str,
    ours: Performance,
    theirs: dict[str, Any],
    closed: Sequence[tuple[datetime, float]],
) -> None:
    """Compare when the largest drawdown was; where there is none, freqtrade has the first trade.

    It starts there when the highest value was reached first, and here when it was so last.
    """
    if not ours.max_drawdown:
        assert (ours.max_drawdown_start, theirs["high_date"]) == (None, theirs["low_date"])
        return
    low_date = datetime.fromisoformat(theirs["low_date"])
    equity, start = 0.0, closed[0][0]  # of a height of 0 before the first trade
    for timestamp, pnl in closed:
        equity += pnl
        if equity == theirs["high_value"] and timestamp < low_date:
            start = timestamp
    assert ours.max_drawdown_start == start >= datetime.fromisoformat(theirs["high_date"])
    [largest] = performance.drawdowns(limit=1, strategy=strategy)
    assert (largest.low, largest.start) == (low_date, start)


def compare_balances(strategy: str, past: ClosedTrades, theirs: dict[str, Any]) -> None:
    """Compare the returns on a capital.

    Its CAGR takes the days that have passed from the first trade to the last, one fewer than ours:
    its formula is given ours here. Its Sharpe ratio, where it is that of balances, divides by the
    standard deviation of a population.

    Not compared: the Sharpe and the Sortino ratio of trades, which divide the profit of a day by
    the deviation of trades; the Sortino ratio of balances, which divides by the deviation of the
    negative returns from their own average; and its Calmar ratio, which is 100 x the profit of a
    day / drawdown x sqrt(365), without compounding.
    """
    ours = returns.summarize(strategy=strategy, capital=past.capital)
    assert ours is not None
    balances = past.balances
    assert ours.days == len(balances) - 1
    assert ours.relative_drawdown == equal(theirs["relative_drawdown"])
    final = balances[-1][1]
    if final < 0:
        assert (ours.cagr, theirs["cagr"]) == (None, 0)
    else:
        assert ours.cagr == equal(theirs["cagr"], rel=1e-10)
    if ours.sharpe is None:
        assert theirs["sharpe"] == -100
    else:  # a deviation that is small beside the average has as many digits fewer
        of_sample = math.sqrt((ours.days - 1) / ours.days)
        rel = 1e-12 * (1 + abs(ours.sharpe))
        assert ours.sharpe == equal(theirs["sharpe"] * of_sample, rel)


def test_results_of_freqtrade(freqtrade: dict[str, str]) -> None:
    past = [closed_trades(number) for number in range(HISTORIES)]
    asked = [
        {
            "closed": [(timestamp.isoformat(), pnl) for timestamp, pnl in each.closed],
            "balances": [(day.isoformat(), balance) for day, balance in each.balances],
            "capital": each.capital,
        }
        for each in past
    ]
    answers = answer(OTHER_PROGRAMS / "with_freqtrade_metrics.py", asked, freqtrade)
    init_db(":memory:")
    record_closed(past)
    for number, (each, theirs) in enumerate(zip(past, answers, strict=True)):
        ours = performance.summarize(strategy=str(number), source="recorded")
        compare_results(ours, theirs, each.closed)
        compare_drawdown(str(number), ours, theirs, each.closed)
        compare_balances(str(number), each, theirs)


def test_results_of_freqtrade_from_fills(freqtrade: dict[str, str]) -> None:
    """Its own trades are made of the same fills; it rounds the profit of each exit to 1e-8."""
    past = histories([BITCOIN], Rules(sides=("buy",), flips=False), count=60)
    past += histories([BITCOIN_CONTRACT], Rules(sides=("sell",), flips=False), count=60)
    answers = answer(OTHER_PROGRAMS / "with_freqtrade_metrics.py", given(past), freqtrade)
    init_db(":memory:")
    record_fills(past)
    for number, theirs in enumerate(answers):
        ours = performance.summarize(strategy=str(number), source="fills")
        points = performance.equity_curve(strategy=str(number), source="fills")
        closed = [(point.timestamp, point.pnl) for point in points]
        compare_results(ours, theirs, closed, rel=1e-8)
        start = START if ours.max_drawdown_start is None else ours.max_drawdown_start
        assert start.isoformat() == theirs["high_date"]
        [largest] = performance.drawdowns(limit=1, strategy=str(number), source="fills")
        assert largest.low.isoformat() == theirs["low_date"]


# --- QuantStats and empyrical: returns ----------------------------------------------------------


def daily_returns(past: Iterable[ClosedTrades]) -> list[dict[str, float]]:
    """Return the returns of each recorded history as JSON holds them."""
    return [
        {
            day.isoformat(): value
            for day, value in returns.daily(strategy=str(number), capital=each.capital).items()
        }
        for number, each in enumerate(past)
    ]


def compare_returns(past: Sequence[ClosedTrades], answers: list[dict[str, float]]) -> None:
    """Compare the figures; where one is None here, the other program divides by 0 or has NaN."""
    for number, (each, theirs) in enumerate(zip(past, answers, strict=True)):
        ours = returns.summarize(strategy=str(number), capital=each.capital)
        assert ours is not None
        for name, expected in theirs.items():
            where = f"{name} of {number}"
            figure = getattr(ours, name)
            if figure is not None:
                assert figure == equal(expected, rel=1e-10), where
            elif name in ("cagr", "calmar") and ours.total_return < -1:
                # no root of a debt is a growth; that of empyrical is any number if it is a power
                assert math.isnan(expected) or 365 % ours.days == 0, where
            else:
                assert not math.isfinite(expected), where


def test_returns_of_quantstats(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With 365 periods of a year, its definitions are ours; `daily` is taken as it is.

    Returns without a loss and with one above 100 % are not in the histories: it takes them for
    prices.
    """
    past = [closed_trades(number) for number in range(HISTORIES)]
    init_db(":memory:")
    record_closed(past)
    program = OTHER_PROGRAMS / "with_quantstats.py"
    asked = daily_returns(past)
    compare_returns(past, answer_once(tmp_path_factory, "quantstats==0.0.86", program, asked))


def test_returns_of_empyrical(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With 365 periods of a year, its definitions are ours.

    Of a single day it has no Sortino ratio, which is defined here if the return is below 0.
    """
    past = [closed_trades(number) for number in range(HISTORIES)]
    init_db(":memory:")
    record_closed(past)
    answers = answer_once(
        tmp_path_factory,
        "empyrical-reloaded==0.7.1",
        OTHER_PROGRAMS / "with_empyrical.py",
        daily_returns(past),
        dependencies=("bottleneck", "pytz", "scipy"),  # but a Peewee of which there is no wheel
    )
    for each, theirs in zip(past, answers, strict=True):
        if len(each.balances) == 2:
            assert math.isnan(theirs.pop("sortino"))
    compare_returns(past, answers)
