"""What was earned: against sums done by hand, and by another way of doing them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, trade, trade_values

from botmemory import OrderSide, Trade, ValidationError
from botmemory.analysis import performance
from botmemory.analysis.performance import by, equity_curve, quotes, summarize
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("memory")


def earn(*pnls: float | None, **values: Any) -> list[Trade]:
    """Record trades, an hour apart, that have earned so much."""
    return [trade(**{"timestamp": at(n), "pnl": pnl} | values) for n, pnl in enumerate(pnls)]


class TestSummary:
    def test_by_hand(self) -> None:
        earn(None, 100, -40, -20, 60, None, 0, -10, 30)
        found = summarize()
        assert (found.trades, found.closed_trades, found.wins, found.losses) == (9, 7, 3, 3)
        assert found.win_rate == pytest.approx(3 / 7)
        assert (found.gross_profit, found.gross_loss, found.total_pnl) == (190.0, -70.0, 120.0)
        assert found.profit_factor == pytest.approx(190 / 70)
        assert found.average_win == pytest.approx(190 / 3)
        assert found.average_loss == pytest.approx(-70 / 3)
        assert found.average_pnl == pytest.approx(120 / 7)
        assert found.expectancy == pytest.approx(3 / 7 * 190 / 3 + 3 / 7 * -70 / 3)
        assert (found.best, found.worst) == (100.0, -40.0)
        assert found.longest_losing_streak == 2
        # 100, 60, 40, 100, 100, 90, 120: from the peak of 100 down to 40, and back at 100
        assert found.max_drawdown == 60.0
        assert (found.max_drawdown_start, found.max_drawdown_end) == (at(1), at(4))
        assert found.max_drawdown_duration == timedelta(hours=3)
        assert found.quote == "USDT"

    def test_an_empty_memory(self) -> None:
        found = summarize()
        assert (found.trades, found.closed_trades, found.total_pnl) == (0, 0, 0.0)
        assert (found.gross_profit, found.gross_loss, found.max_drawdown) == (0.0, 0.0, 0.0)
        for name in ("win_rate", "profit_factor", "expectancy", "average_pnl", "best", "worst"):
            assert getattr(found, name) is None
        assert found.max_drawdown_start is found.max_drawdown_duration is None
        assert (found.fees, found.quote) == ({}, None)
        assert equity_curve() == by("day") == quotes() == []

    def test_trades_that_are_all_open(self) -> None:
        earn(None, None)
        found = summarize()
        assert (found.trades, found.closed_trades, found.win_rate) == (2, 0, None)

    def test_without_losses_there_is_no_profit_factor(self) -> None:
        earn(5, 10)
        found = summarize()
        assert (found.profit_factor, found.average_loss, found.win_rate) == (None, None, 1.0)
        assert (found.max_drawdown, found.max_drawdown_duration) == (0.0, None)

    def test_without_wins(self) -> None:
        earn(-5, -10)
        found = summarize()
        assert (found.profit_factor, found.average_win, found.win_rate) == (0.0, None, 0.0)
        # below 0, where it began, and never back
        assert (found.max_drawdown, found.longest_losing_streak) == (15.0, 2)
        assert (found.max_drawdown_start, found.max_drawdown_end) == (at(0), None)
        assert found.max_drawdown_duration == timedelta(hours=1)

    def test_the_deepest_drawdown_is_the_one(self) -> None:
        earn(10, -5, 5, -3, -4, 2, 1, 4, -6, 20)
        found = summarize()
        assert found.max_drawdown == 7.0
        assert (found.max_drawdown_start, found.max_drawdown_end) == (at(2), at(7))

    def test_of_equal_drawdowns_the_first_counts(self) -> None:
        earn(10, -5, 5, -5, 5)
        assert summarize().max_drawdown_start == at(0)

    def test_decimals_are_added_up_as_they_were_written(self) -> None:
        earn(0.1, 0.2, -0.3, 0.3)
        found = summarize()
        assert found.max_drawdown == 0.3
        assert found.max_drawdown_end == at(3)
        assert [point.equity for point in equity_curve()] == [0.1, 0.3, 0.0, 0.3]

    def test_a_break_even_ends_a_losing_streak(self) -> None:
        earn(-1, -1, 0, -1)
        assert summarize().longest_losing_streak == 2

    def test_the_order_is_that_of_time_not_of_recording(self) -> None:
        for hours, pnl in ((2, -1), (0, -1), (1, 5), (3, -1)):
            trade(timestamp=at(hours), pnl=pnl)
        assert summarize().longest_losing_streak == 2

    def test_fees_are_those_of_all_trades_by_currency(self) -> None:
        trade(fee=0.5, fee_currency="USDT")
        trade(fee=0.25, fee_currency="USDT", pnl=1)
        trade(fee=-0.1, fee_currency="BNB")
        trade(fee=2)
        trade()
        assert summarize().fees == {None: 2.0, "BNB": -0.1, "USDT": 0.75}

    def test_it_is_narrowed_by_symbol_strategy_and_time(self) -> None:
        earn(1, 2, 4, 8, strategy="a")
        earn(16, strategy="b")
        earn(32, symbol="ETH/USDT", strategy="a")
        assert summarize().total_pnl == 63.0
        assert summarize("BTC/USDT").total_pnl == 31.0
        assert summarize(strategy="a").total_pnl == 47.0
        assert summarize("BTC/USDT", "a", at(1), at(2)).total_pnl == 6.0
        assert summarize(start_date=at(3)).total_pnl == 8.0
        assert summarize("XRP/USDT").trades == 0
        assert [point.pnl for point in equity_curve("BTC/USDT", "a", at(1), at(2))] == [2.0, 4.0]

    @given(st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=30))
    def test_against_another_way(self, pnls: list[int | None]) -> None:
        Trade.delete().execute()
        trades.create_many(trade_values(timestamp=at(n), pnl=pnl) for n, pnl in enumerate(pnls))
        closed = [(at(n), pnl) for n, pnl in enumerate(pnls) if pnl is not None]
        sums = list(itertools.accumulate(pnl for _, pnl in closed))
        falls = [max(0, *sums[: n + 1]) - equity for n, equity in enumerate(sums)]
        found = summarize()
        assert found.max_drawdown == max(falls, default=0)
        streaks = [
            len(list(run)) for lost, run in itertools.groupby(closed, lambda c: c[1] < 0) if lost
        ]
        assert found.longest_losing_streak == max(streaks, default=0)
        if found.max_drawdown:
            deepest = falls.index(found.max_drawdown)
            high = max(0, *sums[: deepest + 1])
            peaks = [n for n in range(deepest) if sums[n] == high]
            assert found.max_drawdown_start == closed[max(peaks, default=0)][0]
            back = [n for n in range(deepest, len(sums)) if sums[n] >= high]
            assert found.max_drawdown_end == (closed[min(back)][0] if back else None)
        assert [point.drawdown for point in equity_curve()] == falls
        assert found.total_pnl == sum(pnl for _, pnl in closed)


class TestCurrencies:
    @pytest.fixture(autouse=True)
    def four(self, memory: object) -> None:
        earn(1, 2, symbol="BTC/USDT")
        earn(4, symbol="ETH/EUR")
        earn(8, symbol="BTC/USDT:USDT-250328")
        earn(16, symbol="BTC/USD:BTC")
        earn(32, symbol="GOOG")

    @pytest.mark.parametrize("ask", [summarize, equity_curve, lambda **more: by("day", **more)])
    def test_they_are_never_added_up(self, ask: Any) -> None:
        with pytest.raises(
            ValidationError, match="different currencies, .*: '', 'BTC', 'EUR', 'USDT'; name one"
        ) as told:
            ask()
        assert told.value.field == "quote"
        ask(quote="EUR")
        ask(symbol="GOOG")

    def test_each_by_itself(self) -> None:
        assert quotes() == ["", "BTC", "EUR", "USDT"]
        totals = {quote: summarize(quote=quote).total_pnl for quote in quotes()}
        assert totals == {"": 32.0, "BTC": 16.0, "EUR": 4.0, "USDT": 11.0}
        assert [point.equity for point in equity_curve(quote="USDT")] == [1.0, 9.0, 11.0]
        assert summarize(quote="").quote is None

    def test_a_currency_that_is_not_there(self) -> None:
        with pytest.raises(ValidationError, match="no trade is in 'UST'; there are '', 'BTC'"):
            summarize(quote="UST")
        with pytest.raises(ValidationError, match="quote: 5 is not the name of a currency"):
            summarize(quote=5)  # type: ignore[arg-type]

    def test_symbols_that_name_none_may_be_in_different_ones(self) -> None:
        earn(64, symbol="SAP", timestamp=at(100))
        days = {"start_date": at(99)}
        assert summarize(**days).total_pnl == 64.0  # type: ignore[arg-type]
        earn(128, symbol="TSLA", timestamp=at(101))
        with pytest.raises(ValidationError, match="symbols 'SAP', 'TSLA' do not say .* quote=''"):
            summarize(**days)  # type: ignore[arg-type]
        assert summarize(**days, quote="").total_pnl == 192.0  # type: ignore[arg-type]
        assert len(by("symbol", **days)) == 2  # type: ignore[arg-type]

    def test_by_symbol_nothing_is_added_up(self) -> None:
        found = {group.key: (group.quote, group.total_pnl) for group in by("symbol")}
        assert found == {
            "BTC/USD:BTC": ("BTC", 16.0),
            "BTC/USDT": ("USDT", 3.0),
            "BTC/USDT:USDT-250328": ("USDT", 8.0),
            "ETH/EUR": ("EUR", 4.0),
            "GOOG": (None, 32.0),
        }
        assert [group.key for group in by("symbol", quote="EUR")] == ["ETH/EUR"]


class TestGroups:
    def keys(self, dimension: Any) -> dict[Any, float]:
        return {group.key: group.total_pnl for group in by(dimension)}

    def test_by_what_a_trade_is(self) -> None:
        earn(1, -2, strategy="b", side="sell")
        earn(4, strategy="a")
        earn(8)
        assert list(self.keys("strategy").items()) == [("a", 4.0), ("b", -1.0), (None, 8.0)]
        assert list(self.keys("side").items()) == [("buy", 12.0), ("sell", -1.0)]
        sell = by("side")[1]
        assert (sell.trades, sell.wins, sell.losses, sell.win_rate) == (2, 1, 1, 0.5)
        assert (sell.best, sell.worst, sell.profit_factor) == (1.0, -2.0, 0.5)

    def test_by_when_it_was(self) -> None:
        moments = [
            datetime(2024, 12, 30, 0, tzinfo=UTC),  # a Monday, in the first week of 2025
            datetime(2024, 12, 29, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2025, 1, 1, 13, 30, tzinfo=UTC),
            datetime(2025, 2, 3, 13, tzinfo=UTC),
        ]
        for n, moment in enumerate(moments):
            trade(timestamp=moment, pnl=2**n)
        trade(timestamp=moments[2])
        assert list(self.keys("day").items()) == [
            ("2024-12-29", 2.0),
            ("2024-12-30", 1.0),
            ("2025-01-01", 4.0),
            ("2025-02-03", 8.0),
        ]
        assert self.keys("week") == {"2024-W52": 2.0, "2025-W01": 5.0, "2025-W06": 8.0}
        assert self.keys("month") == {"2024-12": 3.0, "2025-01": 4.0, "2025-02": 8.0}
        assert self.keys("hour") == {0: 1.0, 13: 12.0, 23: 2.0}
        assert list(self.keys("weekday").items()) == [
            ("Monday", 9.0),
            ("Wednesday", 4.0),
            ("Sunday", 2.0),
        ]
        assert [(group.trades, group.closed_trades) for group in by("month")] == [
            (2, 2),
            (2, 1),
            (1, 1),
        ]

    def test_best_and_worst_of_hours_that_are_put_together(self) -> None:
        earn(None, 3, -4, 9, None)
        [day] = by("day")
        assert (day.best, day.worst, day.trades, day.closed_trades) == (9.0, -4.0, 5, 3)

    @pytest.mark.parametrize("dimension", ["symbol", "strategy", "side", "day", "hour", "weekday"])
    def test_the_groups_add_up_to_the_whole(self, dimension: Any) -> None:
        for n in range(60):
            trade(
                timestamp=at(n * 7),
                pnl=None if n % 5 == 0 else n % 7 - 3,
                side="buy" if n % 2 else OrderSide.SELL,
                strategy="abc"[n % 3],
                symbol=f"C{n % 4}/USDT",
            )
        whole, groups = summarize(), by(dimension)
        for name in ("trades", "closed_trades", "wins", "losses", "total_pnl", "gross_loss"):
            assert sum(getattr(group, name) for group in groups) == getattr(whole, name)

    def test_another_dimension_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="dimension: 'year' is not one; use symbol, str"):
            by("year")  # type: ignore[arg-type]


def test_the_equity_curve_names_its_trades() -> None:
    made = earn(5, None, -3)
    assert [
        (one.timestamp, one.trade_id, one.pnl, one.equity, one.drawdown) for one in equity_curve()
    ] == [
        (at(0), made[0].id, 5.0, 5.0, 0.0),
        (at(2), made[2].id, -3.0, 2.0, 3.0),
    ]


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="symbol: '' has 0 characters"):
        summarize("")
    with pytest.raises(ValidationError, match="end_date: .* is before start_date"):
        by("day", start_date=at(1), end_date=at(0))
    with pytest.raises(ValidationError, match="symbl: .*takes no such argument .did you mean"):
        equity_curve(symbl="X")  # type: ignore[call-arg]


def test_results_cannot_be_changed() -> None:
    earn(1)
    for found in (summarize(), by("day")[0], equity_curve()[0]):
        with pytest.raises(AttributeError):
            found.pnl = 5  # type: ignore[misc, union-attr]
    assert performance.__all__
