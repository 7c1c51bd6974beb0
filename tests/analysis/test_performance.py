"""Performance: against sums calculated by hand, and against a second implementation."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, trade, trade_values

from botmemory import OrderSide, Trade, ValidationError
from botmemory.analysis.performance import EquityPoint, by, equity_curve, quotes, summarize
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_database")


def earn(*pnls: float | None, **values: Any) -> list[Trade]:
    """Record a trade with each PnL, an hour apart."""
    return [trade(**{"timestamp": at(n), "pnl": pnl} | values) for n, pnl in enumerate(pnls)]


class TestSummary:
    def test_by_hand(self) -> None:
        earn(None, 100, -40, -20, 60, None, 0, -10, 30)
        result = summarize()
        assert (result.trades, result.closed_trades, result.wins, result.losses) == (9, 7, 3, 3)
        assert result.win_rate == pytest.approx(3 / 7)
        assert (result.gross_profit, result.gross_loss, result.total_pnl) == (190.0, -70.0, 120.0)
        assert result.profit_factor == pytest.approx(190 / 70)
        assert result.average_win == pytest.approx(190 / 3)
        assert result.average_loss == pytest.approx(-70 / 3)
        assert result.expectancy == pytest.approx(3 / 7 * 190 / 3 + 3 / 7 * -70 / 3)
        assert (result.best, result.worst) == (100.0, -40.0)
        assert result.longest_losing_streak == 2
        # 100, 60, 40, 100, 100, 90, 120: from the peak of 100 down to 40, and back at 100
        assert result.max_drawdown == 60.0
        assert (result.max_drawdown_start, result.max_drawdown_end) == (at(1), at(4))
        assert result.max_drawdown_duration == timedelta(hours=3)
        assert result.quote == "USDT"

    def test_an_empty_database(self) -> None:
        result = summarize()
        assert (result.trades, result.closed_trades, result.total_pnl) == (0, 0, 0.0)
        assert (result.gross_profit, result.gross_loss, result.max_drawdown) == (0.0, 0.0, 0.0)
        for name in ("win_rate", "profit_factor", "expectancy", "best", "worst"):
            assert getattr(result, name) is None
        assert result.max_drawdown_start is result.max_drawdown_duration is None
        assert (result.fees, result.quote) == ({}, None)
        assert equity_curve() == by("day") == quotes() == []

    def test_trades_that_are_all_open(self) -> None:
        earn(None, None)
        result = summarize()
        assert (result.trades, result.closed_trades, result.win_rate) == (2, 0, None)

    def test_without_losses_there_is_no_profit_factor(self) -> None:
        earn(5, 10)
        result = summarize()
        assert (result.profit_factor, result.average_loss, result.win_rate) == (None, None, 1.0)
        assert (result.max_drawdown, result.max_drawdown_duration) == (0.0, None)

    def test_without_wins(self) -> None:
        earn(-5, -10)
        result = summarize()
        assert (result.profit_factor, result.average_win, result.win_rate) == (0.0, None, 0.0)
        # the drawdown begins at 0 and does not end
        assert (result.max_drawdown, result.longest_losing_streak) == (15.0, 2)
        assert (result.max_drawdown_start, result.max_drawdown_end) == (at(0), None)
        assert result.max_drawdown_duration == timedelta(hours=1)

    def test_the_largest_drawdown_is_returned(self) -> None:
        earn(10, -5, 5, -3, -4, 2, 1, 4, -6, 20)
        result = summarize()
        assert result.max_drawdown == 7.0
        assert (result.max_drawdown_start, result.max_drawdown_end) == (at(2), at(7))

    def test_of_equal_drawdowns_the_first_is_returned(self) -> None:
        earn(10, -5, 5, -5, 5)
        assert summarize().max_drawdown_start == at(0)

    def test_pnl_is_added_up_as_decimals(self) -> None:
        earn(0.1, 0.2, -0.3, 0.3)
        result = summarize()
        assert result.max_drawdown == 0.3
        assert result.max_drawdown_end == at(3)
        assert [point.equity for point in equity_curve()] == [0.1, 0.3, 0.0, 0.3]

    def test_a_break_even_ends_a_losing_streak(self) -> None:
        earn(-1, -1, 0, -1)
        assert summarize().longest_losing_streak == 2

    def test_trades_are_in_time_order_not_in_order_of_recording(self) -> None:
        for hours, pnl in ((2, -1), (0, -1), (1, 5), (3, -1)):
            trade(timestamp=at(hours), pnl=pnl)
        assert summarize().longest_losing_streak == 2

    def test_fees_of_all_trades_are_added_up_by_currency(self) -> None:
        trade(fee=0.5, fee_currency="USDT")
        trade(fee=0.25, fee_currency="USDT", pnl=1)
        trade(fee=-0.1, fee_currency="BNB")
        trade(fee=2)
        trade()
        assert summarize().fees == {None: 2.0, "BNB": -0.1, "USDT": 0.75}

    def test_filters_by_symbol_strategy_and_time(self) -> None:
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

    def test_filters_by_exchange_and_by_none(self) -> None:
        earn(1, 2, exchange="okx", strategy="a", symbol="X/EUR")
        earn(4, exchange="kraken")
        earn(8)
        assert summarize(exchange="okx").total_pnl == 3.0
        assert summarize(exchange="", quote="USDT").total_pnl == 8.0
        assert summarize(strategy="").total_pnl == 12.0
        assert [point.pnl for point in equity_curve(exchange="okx")] == [1.0, 2.0]
        assert quotes(exchange="okx") == ["EUR"]
        assert [group.key for group in by("symbol", exchange="kraken")] == ["BTC/USDT"]

    @given(st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=30))
    def test_against_a_second_implementation(self, pnls: list[int | None]) -> None:
        Trade.delete().execute()
        trades.create_many(trade_values(timestamp=at(n), pnl=pnl) for n, pnl in enumerate(pnls))
        closed = [(at(n), pnl) for n, pnl in enumerate(pnls) if pnl is not None]
        sums = list(itertools.accumulate(pnl for _, pnl in closed))
        drawdowns = [max(0, *sums[: n + 1]) - equity for n, equity in enumerate(sums)]
        result = summarize()
        if pnls and not closed:  # not known, and not 0
            assert result.total_pnl is result.max_drawdown is result.wins is None
            return
        assert result.max_drawdown == max(drawdowns, default=0)
        streaks = [
            len(list(run)) for lost, run in itertools.groupby(closed, lambda c: c[1] < 0) if lost
        ]
        assert result.longest_losing_streak == max(streaks, default=0)
        if result.max_drawdown:
            lowest = drawdowns.index(result.max_drawdown)
            high = max(0, *sums[: lowest + 1])
            peaks = [n for n in range(lowest) if sums[n] == high]
            assert result.max_drawdown_start == closed[max(peaks, default=0)][0]
            recovered = [n for n in range(lowest, len(sums)) if sums[n] >= high]
            assert result.max_drawdown_end == (closed[min(recovered)][0] if recovered else None)
        assert [point.drawdown for point in equity_curve()] == drawdowns
        assert result.total_pnl == sum(pnl for _, pnl in closed)


class TestCurrencies:
    @pytest.fixture(autouse=True)
    def trades_in_four_currencies(self, empty_database: object) -> None:
        earn(1, 2, symbol="BTC/USDT")
        earn(4, symbol="ETH/EUR")
        earn(8, symbol="BTC/USDT:USDT-250328")
        earn(16, symbol="BTC/USD:BTC")
        earn(32, symbol="GOOG")

    @pytest.mark.parametrize(
        "function", [summarize, equity_curve, lambda **filters: by("day", **filters)]
    )
    def test_they_are_never_added_up(self, function: Any) -> None:
        with pytest.raises(
            ValidationError, match="different currencies .*: '', 'BTC', 'EUR', 'USDT'; pass one of"
        ) as error:
            function()
        assert error.value.field == "quote"
        function(quote="EUR")
        function(symbol="GOOG")

    def test_each_currency(self) -> None:
        assert quotes() == ["", "BTC", "EUR", "USDT"]
        totals = {quote: summarize(quote=quote).total_pnl for quote in quotes()}
        assert totals == {"": 32.0, "BTC": 16.0, "EUR": 4.0, "USDT": 11.0}
        assert [point.equity for point in equity_curve(quote="USDT")] == [1.0, 9.0, 11.0]
        assert summarize(quote="").quote is None

    def test_a_currency_without_trades(self) -> None:
        with pytest.raises(ValidationError, match="no trade is in 'UST'; use one of '', 'BTC'"):
            summarize(quote="UST")
        with pytest.raises(ValidationError, match="quote: 5 is not the name of a currency"):
            summarize(quote=5)  # type: ignore[arg-type]

    def test_symbols_without_a_currency_may_have_different_ones(self) -> None:
        earn(64, symbol="SAP", timestamp=at(100))
        days = {"start_date": at(99)}
        assert summarize(**days).total_pnl == 64.0  # type: ignore[arg-type]
        earn(128, symbol="TSLA", timestamp=at(101))
        with pytest.raises(
            ValidationError, match="symbols 'SAP', 'TSLA' do not name a currency; .* quote=''"
        ):
            summarize(**days)  # type: ignore[arg-type]
        assert summarize(**days, quote="").total_pnl == 192.0  # type: ignore[arg-type]
        assert len(by("symbol", **days)) == 2  # type: ignore[arg-type]

    def test_each_symbol_has_its_currency(self) -> None:
        totals = {group.key: (group.quote, group.total_pnl) for group in by("symbol")}
        assert totals == {
            "BTC/USD:BTC": ("BTC", 16.0),
            "BTC/USDT": ("USDT", 3.0),
            "BTC/USDT:USDT-250328": ("USDT", 8.0),
            "ETH/EUR": ("EUR", 4.0),
            "GOOG": (None, 32.0),
        }
        assert [group.key for group in by("symbol", quote="EUR")] == ["ETH/EUR"]


class TestGroups:
    def totals(self, dimension: Any) -> dict[Any, float]:
        return {group.key: group.total_pnl for group in by(dimension)}

    def test_by_columns(self) -> None:
        earn(1, -2, strategy="b", side="sell")
        earn(4, strategy="a")
        earn(8)
        assert list(self.totals("strategy").items()) == [("a", 4.0), ("b", -1.0), (None, 8.0)]
        trade(exchange="okx", pnl=0)
        assert list(self.totals("exchange").items()) == [("okx", 0.0), (None, 11.0)]
        assert list(self.totals("side").items()) == [("buy", 12.0), ("sell", -1.0)]
        sell = by("side")[1]
        assert (sell.trades, sell.wins, sell.losses, sell.win_rate) == (2, 1, 1, 0.5)
        assert (sell.best, sell.worst, sell.profit_factor) == (1.0, -2.0, 0.5)

    def test_by_time(self) -> None:
        times = [
            datetime(2024, 12, 30, 0, tzinfo=UTC),  # a Monday, in the first week of 2025
            datetime(2024, 12, 29, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2025, 1, 1, 13, 30, tzinfo=UTC),
            datetime(2025, 2, 3, 13, tzinfo=UTC),
        ]
        for n, time in enumerate(times):
            trade(timestamp=time, pnl=2**n)
        trade(timestamp=times[2])
        assert list(self.totals("day").items()) == [
            ("2024-12-29", 2.0),
            ("2024-12-30", 1.0),
            ("2025-01-01", 4.0),
            ("2025-02-03", 8.0),
        ]
        assert self.totals("week") == {"2024-W52": 2.0, "2025-W01": 5.0, "2025-W06": 8.0}
        assert self.totals("month") == {"2024-12": 3.0, "2025-01": 4.0, "2025-02": 8.0}
        assert self.totals("hour") == {0: 1.0, 13: 12.0, 23: 2.0}
        assert list(self.totals("weekday").items()) == [
            ("Monday", 9.0),
            ("Wednesday", 4.0),
            ("Sunday", 2.0),
        ]
        assert [(group.trades, group.closed_trades) for group in by("month")] == [
            (2, 2),
            (2, 1),
            (1, 1),
        ]

    @pytest.mark.parametrize(
        ("dimension", "keys"),
        [
            ("day", ["0021-02-03", "2021-02-03"]),
            ("week", ["0021-W05", "2021-W05"]),
            ("month", ["0021-02", "2021-02"]),
        ],
    )
    def test_years_have_four_digits(self, dimension: Any, keys: list[str]) -> None:
        for year in (21, 2021):
            earn(1, timestamp=datetime(year, 2, 3, tzinfo=UTC))
        assert [group.key for group in by(dimension)] == keys

    def test_best_and_worst_of_several_hours(self) -> None:
        earn(None, 3, -4, 9, None)
        [day] = by("day")
        assert (day.best, day.worst, day.trades, day.closed_trades) == (9.0, -4.0, 5, 3)

    @pytest.mark.parametrize("dimension", ["symbol", "strategy", "side", "day", "hour", "weekday"])
    def test_the_groups_add_up_to_the_summary(self, dimension: Any) -> None:
        for n in range(60):
            trade(
                timestamp=at(n * 7),
                pnl=None if n % 5 == 0 else n % 7 - 3,
                side="buy" if n % 2 else OrderSide.SELL,
                strategy="abc"[n % 3],
                symbol=f"C{n % 4}/USDT",
            )
        summary, groups = summarize(), by(dimension)
        for name in ("trades", "closed_trades", "wins", "losses", "total_pnl", "gross_loss"):
            assert sum(getattr(group, name) for group in groups) == getattr(summary, name)

    def test_an_unknown_dimension_is_rejected(self) -> None:
        with pytest.raises(
            ValidationError, match="'year' is unknown; use one or two of symbol, str"
        ):
            by("year")  # type: ignore[arg-type]


def test_the_equity_curve_has_the_ids_of_its_trades() -> None:
    first, _, last = earn(5, None, -3)
    assert equity_curve() == [
        EquityPoint(at(0), first.id, 5.0, 5.0, 0.0),
        EquityPoint(at(2), last.id, -3.0, 2.0, 3.0),
    ]


def test_invalid_arguments_are_named() -> None:
    with pytest.raises(ValidationError, match="symbol: '' has 0 characters"):
        summarize("")
    with pytest.raises(ValidationError, match="end_date: .* is before start_date"):
        by("day", start_date=at(1), end_date=at(0))
    with pytest.raises(ValidationError, match="symbl: .*takes no such argument .did you mean"):
        equity_curve(symbl="X")  # type: ignore[call-arg]


def test_results_cannot_be_changed() -> None:
    earn(1)
    for result in (summarize(), by("day")[0], equity_curve()[0]):
        with pytest.raises(AttributeError):
            result.pnl = 5  # type: ignore[misc, union-attr]


@pytest.mark.parametrize("symbol", ["BTC-USDT", "BTC_USDT", "BTC/USDT", "BTC/USDT:USDT"])
def test_every_way_to_name_a_currency_is_one(symbol: str) -> None:
    trade(symbol=symbol, pnl=2)
    trade(symbol="ETH/USDT", pnl=1)
    assert quotes() == ["USDT"]
    for result in (summarize(), summarize(quote="USDT"), *by("side"), *by("side", quote="USDT")):
        assert (result.quote, result.total_pnl) == ("USDT", 3.0)
    assert {group.quote for group in by("symbol")} == {"USDT"}
    assert trades.get_total_pnl(quote="USDT") == 3.0
