"""Returns: against figures by hand and a second implementation, on a capital and on deposits."""

from __future__ import annotations

import itertools
import math
import statistics
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, trade

from botmemory import Trade, ValidationError
from botmemory.analysis import returns
from botmemory.repositories import cash_flows, trades

pytestmark = pytest.mark.usefixtures("empty_database")


def earn(*pnls: float | None, **values: Any) -> None:
    """Record a trade with each PnL, a day apart; none where it is None."""
    for day, pnl in enumerate(pnls):
        if pnl is not None:
            trade(**{"timestamp": at(24 * day + 5), "pnl": pnl} | values)


def day(number: int) -> datetime:
    return datetime(2024, 1, 1) + timedelta(days=number)


def deposit(amount: float, hours: float, **values: Any) -> None:
    kind = "deposit" if amount > 0 else "withdrawal"
    flow = {"kind": kind, "currency": "USDT", "amount": amount, "timestamp": at(hours)}
    cash_flows.create(**flow | values)


class TestDaily:
    def test_the_pnl_of_each_day_is_a_part_of_the_capital_at_its_start(self) -> None:
        earn(100, -55, None, 52.25)
        expected = {day(0): 0.1, day(1): -0.05, day(2): 0.0, day(3): 0.05}
        assert returns.daily(capital=1000) == expected
        assert list(returns.daily(capital=1000)) == list(expected)

    def test_several_trades_of_a_day_are_one_return(self) -> None:
        for hour, pnl in ((1, 10), (2, -4), (23.99, 4)):
            trade(timestamp=at(hour), pnl=pnl)
        assert returns.daily(capital=100) == {day(0): 0.1}

    def test_the_round_trips_of_fills_count_when_they_are_closed(self) -> None:
        trade(price=100, timestamp=at(0), fee=1, fee_currency="USDT")
        trade(price=112, side="sell", timestamp=at(50), fee=1, fee_currency="USDT")
        assert returns.daily(capital=1000) == {day(2): 0.01}
        assert returns.summarize(capital=1000).source == "fills"  # type: ignore[union-attr]

    def test_days_are_those_of_the_time_zone(self) -> None:
        trade(timestamp=at(23.5), pnl=1)
        assert list(returns.daily(capital=10, tz="Asia/Kolkata")) == [day(1)]
        assert list(returns.daily(capital=10, tz="America/New_York")) == [day(0)]

    def test_the_dates_say_which_days_count(self) -> None:
        earn(None, None, 10, None, 11)
        assert list(returns.daily(capital=100)) == [day(2), day(3), day(4)]
        span: Any = {"start_date": at(0), "end_date": at(24 * 5)}
        assert list(returns.daily(capital=100, **span)) == [day(n) for n in range(6)]
        assert returns.daily(capital=100, start_date=at(24 * 3)) == {day(3): 0.0, day(4): 0.11}
        far = returns.daily(capital=100, end_date=datetime(9999, 1, 1, tzinfo=UTC))
        assert list(far)[-1].date() == datetime.now(UTC).date()
        end: Any = {"end_date": datetime.max.replace(tzinfo=UTC), "tz": "Asia/Tokyo"}
        assert len(returns.daily(capital=100, **end)) >= len(far)

    def test_without_closed_trades_there_are_none(self) -> None:
        assert returns.daily(capital=5) == returns.daily() == {}
        assert returns.summarize(capital=5) is None
        trade()
        assert returns.daily(capital=5) == {}

    def test_the_filters(self) -> None:
        earn(1, strategy="a", exchange="okx")
        earn(2, symbol="ETH/EUR")
        assert returns.daily(capital=10, strategy="a") == {day(0): 0.1}
        assert returns.daily(capital=10, quote="EUR") == {day(0): 0.2}
        assert returns.daily("ETH/EUR", capital=10, exchange="") == {day(0): 0.2}
        with pytest.raises(ValidationError, match="different currencies cannot be added up"):
            returns.daily(capital=10)


class TestCapital:
    def test_recorded_deposits_are_the_capital(self) -> None:
        deposit(600, -100)
        deposit(400, 1)  # on the first day
        deposit(1000, 24 * 1.9)
        deposit(-500, 24 * 2.5)  # is there until the end of its day
        deposit(999, 0, currency="BNB")
        cash_flows.create(kind="payout", currency="USDT", amount=999, timestamp=at(0))
        earn(100, 210, None, 181, None)
        expected = {day(0): 0.1, day(1): 0.1, day(2): 0.0, day(3): 0.1}
        assert returns.daily() == pytest.approx(expected, rel=1e-15)
        summary = returns.summarize()
        assert summary is not None
        assert (summary.capital, summary.days) == (1000.0, 4)
        assert summary.total_return == pytest.approx(0.331, rel=1e-12)

    def test_deposits_are_those_of_the_exchange(self) -> None:
        deposit(100, -1, exchange="okx")
        deposit(900, -1, exchange="kraken")
        earn(10, exchange="okx")
        assert returns.daily(exchange="okx") == {day(0): 0.1}
        assert returns.daily() == {day(0): 0.01}

    def test_without_a_capital_the_error_says_what_to_do(self) -> None:
        earn(10)
        with pytest.raises(ValidationError, match="capital: it is 0.00 USDT on 2024-01-01, on wh"):
            returns.daily()
        deposit(100, 24)  # too late
        with pytest.raises(ValidationError, match="record all deposits as cash flows"):
            returns.summarize()

    def test_a_capital_that_was_used_up_is_named(self) -> None:
        earn(-60, -60, 10)
        with pytest.raises(ValidationError, match="capital: it is -20.00 USDT on 2024-01-03"):
            returns.daily(capital=100)

    def test_what_was_earned_before_the_start_is_a_part_of_the_capital(self) -> None:
        deposit(1000, 0)
        earn(None, 1000, None, 100, -210)
        assert returns.daily()[day(3)] == 0.05
        assert returns.daily(start_date=at(24 * 2)) == {day(2): 0.0, day(3): 0.05, day(4): -0.1}
        summary = returns.summarize(start_date=at(24 * 3))
        assert summary is not None
        assert summary.capital == 2000.0
        noon = returns.daily(start_date=at(24 * 3 + 12))  # the trade of the day was before
        assert noon == {day(3): 0.0, day(4): -0.1}

    def test_a_withdrawal_counts_from_the_next_day(self) -> None:
        deposit(1000, 0)
        deposit(-1090, 24 + 20)  # in the evening, after the trade
        earn(None, 100, 1)
        assert returns.daily() == {day(1): 0.1, day(2): 0.1}

    def test_a_day_without_trades_needs_no_capital(self) -> None:
        deposit(1000, 24 * 2)
        deposit(-1100, 24 * 3 + 23)
        deposit(500, 24 * 6)
        earn(None, None, None, 100, None, None, 50)
        assert returns.daily(start_date=at(0)) == {
            **{day(number): 0.0 for number in range(6)}, day(3): 0.1, day(6): 0.1,
        }  # fmt: skip

    def test_a_return_that_no_float_can_hold_is_named(self) -> None:
        earn(1e200, -1e200)
        with pytest.raises(ValidationError, match="capital: .* larger than a float can hold"):
            returns.summarize(capital=1e-200)
        summary = returns.summarize(capital=1)
        assert summary is not None
        assert summary.best_day == 1e200

    @pytest.mark.parametrize("capital", [0, -1, math.nan, math.inf, "100", True, [1]])
    def test_an_invalid_capital_is_refused(self, capital: Any) -> None:
        with pytest.raises(ValidationError, match="capital: "):
            returns.daily(capital=capital)

    def test_a_pnl_that_is_not_known_is_named(self) -> None:
        trade(price=100, timestamp=at(0), fee=0.1, fee_currency="BNB")
        trade(price=112, side="sell", timestamp=at(50))
        with pytest.raises(ValidationError, match="the PnL of 2024-01-03 is not known: fees"):
            returns.daily(capital=1000)
        assert returns.daily(capital=1000, rates={"BNB": 20}) == {day(2): 0.01}


class TestFigures:
    def test_by_hand(self) -> None:
        earn(100, -55, None, 52.25)
        summary = returns.summarize(capital=1000)
        assert summary is not None
        growth = 1.1 * 0.95 * 1.05
        assert summary.total_return == pytest.approx(growth - 1, rel=1e-12)
        assert summary.cagr == pytest.approx(growth ** (365 / 4) - 1, rel=1e-12)
        assert (summary.best_day, summary.worst_day) == (0.1, -0.05)
        assert summary.relative_drawdown == pytest.approx(0.05, rel=1e-12)
        values = [0.1, -0.05, 0.0, 0.05]
        deviation = statistics.stdev(values)
        assert summary.volatility == pytest.approx(deviation * math.sqrt(365), rel=1e-12)
        assert summary.sharpe == pytest.approx(0.025 / deviation * math.sqrt(365), rel=1e-12)
        downside = math.sqrt(0.05**2 / 4)
        assert summary.sortino == pytest.approx(0.025 / downside * math.sqrt(365), rel=1e-12)
        assert summary.calmar == pytest.approx(summary.cagr / 0.05, rel=1e-12)  # type: ignore[operator]
        assert (summary.quote, summary.source, summary.capital) == ("USDT", "recorded", 1000.0)

    @pytest.mark.parametrize("pnls", [(100, 110, 121), (-100, -90, -81), (0, 0, 0)])
    def test_equal_returns_have_no_sharpe_ratio(self, pnls: tuple[int, ...]) -> None:
        earn(*pnls)
        summary = returns.summarize(capital=1000)
        assert summary is not None
        assert (summary.volatility, summary.sharpe) == (0.0, None)
        growth = 1 + sum(pnls) / 1000
        assert summary.total_return == pytest.approx(growth - 1, rel=1e-15)
        assert summary.relative_drawdown == pytest.approx(max(0, 1 - growth), rel=1e-15)

    def test_what_is_not_defined_is_none(self) -> None:
        earn(10)
        summary = returns.summarize(capital=1000)
        assert summary is not None
        for name in ("volatility", "sharpe", "sortino", "calmar"):
            assert getattr(summary, name) is None
        assert summary.relative_drawdown == 0.0
        earn(10_000)
        assert returns.summarize(capital=10).cagr is None  # type: ignore[union-attr]
        Trade.delete().execute()
        earn(-100)
        lost = returns.summarize(capital=100)
        assert lost is not None
        assert (lost.total_return, lost.cagr, lost.calmar) == (-1.0, -1.0, -1.0)

    @given(st.lists(st.none() | st.integers(-50, 60), min_size=1, max_size=25))
    def test_against_a_second_implementation(self, pnls: list[int | None]) -> None:
        Trade.delete().execute()
        trades.create_many(
            {"symbol": "BTC/USDT", "side": "sell", "price": 1, "quantity": 1, "pnl": pnl,
             "timestamp": at(24 * number)}
            for number, pnl in enumerate(pnls) if pnl is not None
        )  # fmt: skip
        while pnls and pnls[0] is None:
            pnls = pnls[1:]
        while pnls and pnls[-1] is None:
            pnls = pnls[:-1]
        summary = returns.summarize(capital=10_000)
        if not pnls:
            assert summary is None
            return
        assert summary is not None
        capital, capitals = Fraction(10_000), [Fraction(10_000)]
        for pnl in pnls:
            capital += pnl or 0
            capitals.append(capital)
        values = [later / before - 1 for before, later in itertools.pairwise(capitals)]
        assert list(returns.daily(capital=10_000).values()) == [float(value) for value in values]
        assert summary.days == len(values)
        assert summary.total_return == float(capital / 10_000 - 1)
        falls = [1 - c / max(capitals[: n + 1]) for n, c in enumerate(capitals)]
        assert summary.relative_drawdown == float(max(falls))
        if len(set(values)) > 1:
            ratio = float(statistics.mean(values)) / statistics.stdev(values)
            assert summary.sharpe == pytest.approx(ratio * math.sqrt(365), rel=1e-12, abs=1e-12)
