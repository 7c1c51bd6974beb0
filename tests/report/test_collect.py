"""The figures of the report are those of the functions of `analysis`."""

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from samples import at, cash_flow, signal, trade

from botmemory import ValidationError
from botmemory.analysis import attribution, performance, returns
from botmemory.analysis.round_trips import round_trips
from botmemory.report import _collect
from botmemory.report._figures import Currency, Report

FILTERS = {
    "symbol": None, "strategy": None, "start_date": None, "end_date": None, "exchange": None,
}  # fmt: skip
RATES = {"BNB": 600.0}
FIGURES = ("key", "closed_trades", "wins", "win_rate", "total_pnl", "profit_factor", "unknown")


def collect(
    quote: str | None = None,
    source: Any = None,
    rates: Any = RATES,
    capital: Any = None,
    **filters: Any,
) -> Report:
    return _collect.collect({**FILTERS, **filters}, quote, source, rates, capital, None)


def currency(quote: str, **arguments: Any) -> Currency:
    return next(each for each in collect(**arguments).currencies if each.quote == quote)


@pytest.fixture
def history(empty_database: Any) -> None:
    """Spot, a linear and an inverse contract, partial exits, shorts, fees in three currencies."""
    generator = random.Random(11)
    held: dict[Any, float] = {}
    symbols = {
        "BTC/USDT": None, "ETH/USDT:USDT": 0.01, "ETH/BTC": None, "BTC/USD:BTC": 100.0,
        "ETH/EUR": None,
    }  # fmt: skip
    for n in range(240):
        symbol, strategy = generator.choice(list(symbols)), generator.choice(["a", "b", None])
        key = symbol, strategy
        quantity = held.get(key, 0.0)
        if quantity:
            change = -quantity if generator.random() < 0.7 else -quantity / 2
        else:
            change = generator.choice([4.0, -4.0, 8.0])
        held[key] = quantity + change
        is_exit = bool(quantity)
        because = signal(
            symbol=symbol,
            timestamp=at(7 * n),
            signal_metadata={"rsi": generator.uniform(10, 90), "regime": generator.choice("xy")},
        )
        trade(
            symbol=symbol,
            strategy=strategy,
            side="buy" if change > 0 else "sell",
            quantity=abs(change),
            price=round(generator.uniform(90, 110), 2),
            timestamp=at(7 * n),
            contract_size=symbols[symbol],
            fee=round(generator.uniform(0, 0.01), 6),
            fee_currency=generator.choice(["BNB", "USDT"]) if "USDT" in symbol else None,
            pnl=round(generator.uniform(-5, 5), 3) if is_exit and symbol == "ETH/EUR" else None,
            signal=because,
        )
    cash_flow(symbol="ETH/USDT:USDT", strategy="a", amount=-0.25, timestamp=at(900))


@pytest.mark.usefixtures("history")
class TestFigures:
    @pytest.mark.parametrize("quote", ["USDT", "BTC", "EUR"])
    @pytest.mark.parametrize("source", [None, "fills", "recorded"])
    def test_the_figures_are_those_of_the_functions(self, quote: str, source: Any) -> None:
        found = currency(quote, source=source)
        expected = performance.summarize(quote=quote, source=source, rates=RATES)
        arguments: Any = {"quote": quote, "source": expected.source, "rates": RATES}
        of_fills: Any = {**arguments, "source": "fills"}
        expected = performance.summarize(**arguments)
        assert asdict(found.summary) == asdict(expected)
        assert asdict(found.of_fills) == asdict(performance.summarize(**of_fills))
        for each in found.strategies:
            of_strategy = performance.summarize(strategy=each.name or "", **arguments)
            assert asdict(each.summary) == asdict(of_strategy), each.name
        for dimension, parts in (
            ("symbol", found.symbols),
            ("direction", found.directions),
            ("month", found.months),
            ("day", found.days),
            ("hour", found.hours),
        ):
            groups: Any = {each.key: each for each in performance.by(dimension, **arguments)}
            groups = {key: each for key, each in groups.items() if each.closed_trades}
            assert {each.key for each in parts} == set(groups), dimension
            for each in parts:
                group = groups[each.key]
                for name in FIGURES:
                    assert getattr(each, name) == getattr(group, name), (dimension, name)

    @pytest.mark.parametrize("quote", ["USDT", "EUR"])
    def test_the_curve_and_its_drawdowns_are_those_of_the_functions(self, quote: str) -> None:
        found = currency(quote)
        arguments: Any = {"quote": quote, "rates": RATES}
        points = performance.equity_curve(**arguments)
        assert list(found.equity.values) == [point.equity for point in points]
        assert list(found.equity.times) == [point.timestamp.timestamp() for point in points]
        assert list(found.drawdown.values) == [point.drawdown for point in points]
        assert list(found.pnls) == [point.pnl for point in points]
        assert found.drawdowns == performance.drawdowns(**arguments)

    def test_the_round_trips_are_those_of_the_function(self) -> None:
        found = currency("USDT")
        trips = list(round_trips(quote="USDT", rates=RATES))
        assert found.trips == trips[::-1]
        assert found.total_trips == len(trips)
        best = sorted(trips, key=lambda trip: trip.net_pnl or 0.0)
        assert found.worst_trips == [trip for trip in best[:10] if (trip.net_pnl or 0) < 0]
        assert found.best_trips == [trip for trip in best[:-11:-1] if (trip.net_pnl or 0) > 0]
        bounds = [*_collect.LOWER_BOUNDS, float("inf")]
        for n, each in enumerate(found.holding_times):
            within = [
                trip.net_pnl or 0.0
                for trip in trips
                if bounds[n] <= (trip.holding_time or timedelta()).total_seconds() < bounds[n + 1]
            ]
            assert each.result.closed_trades == len(within), each.label
            if within:
                assert each.result.total_pnl == pytest.approx(sum(within)), each.label
        paid = sum(
            trip.gross_pnl + trip.funding - trip.net_pnl  # type: ignore[operator]
            for trip in trips
        )
        assert found.paid_fees.values[-1] == pytest.approx(paid)

    def test_the_results_by_metadata_are_those_of_the_function(self) -> None:
        for quote, signal_of in (("USDT", "entry"), ("EUR", "exit")):
            found = currency(quote)
            assert [key for key, _ in found.metadata] == ["regime", "rsi"]
            buckets: Any = attribution.pnl_by_metadata(
                "regime",
                quote=quote,
                rates=RATES,
                signal_of=signal_of,  # type: ignore[arg-type]
            )
            of_regime = [bucket for bucket in buckets if bucket.closed_trades]
            parts = dict(found.metadata)["regime"]
            assert [part.key for part in parts] == [bucket.label for bucket in of_regime]
            for part, bucket in zip(parts, of_regime, strict=True):
                assert (part.closed_trades, part.total_pnl, part.win_rate) == (
                    bucket.closed_trades, bucket.total_pnl, bucket.win_rate,
                )  # fmt: skip
            closed = sum(part.closed_trades for part in dict(found.metadata)["rsi"])
            assert closed == found.summary.closed_trades

    def test_returns_are_those_of_a_capital(self) -> None:
        found = currency("USDT", capital={"USDT": 1000, "EUR": 50})
        arguments: Any = {"quote": "USDT", "rates": RATES, "capital": 1000}
        assert found.returns == returns.summarize(**arguments)
        daily = returns.daily(**arguments)
        assert found.daily_returns == {f"{day:%Y-%m-%d}": part for day, part in daily.items()}
        assert currency("BTC", capital={"USDT": 1000}).returns is None

    def test_a_capital_that_fits_no_currency_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="pass a capital for each"):
            collect(capital=1000)
        with pytest.raises(ValidationError, match="no trade is in 'GBP'; use one of BTC, EUR"):
            collect(capital={"GBP": 1})
        with pytest.raises(ValidationError, match="'all' is neither an amount nor 'deposits'"):
            collect(capital="all")
        only = collect(quote="EUR", source="fills", capital=1e6).currencies
        assert [each.returns is not None for each in only] == [True]

    def test_a_currency_without_enough_deposits_says_why_it_has_no_returns(self) -> None:
        cash_flow(kind="deposit", currency="USDT", amount=1000, timestamp=at(0))
        report = {each.quote: each for each in collect(capital="deposits").currencies}
        assert report["USDT"].returns == returns.summarize(quote="USDT", rates=RATES)
        assert "record all deposits as cash flows" in str(report["EUR"].no_returns)

    def test_the_currency_with_the_most_closed_trades_is_the_first(self) -> None:
        closed = [each.summary.closed_trades for each in collect().currencies]
        assert closed == sorted(closed, reverse=True)
        assert len(closed) == 3

    def test_filters_are_those_of_the_functions(self) -> None:
        filters: Any = {"strategy": "a", "start_date": at(300), "end_date": at(1300)}
        for each in collect(**filters).currencies:
            expected = performance.summarize(quote=each.quote, rates=RATES, **filters)
            assert asdict(each.summary) == asdict(expected)
            trips = list(round_trips(quote=each.quote, rates=RATES, **filters))
            assert each.trips == trips[::-1]


def test_exposure_is_the_value_at_entry_of_what_is_open(empty_database: Any) -> None:
    fills = (
        (0, "a", "buy", 100, 2),
        (10, "b", "buy", 50, 1),
        (20, "a", "sell", 110, 2),
        (30, "b", "sell", 60, 1),
        (50, "a", "sell", 100, 1),
        (60, "a", "buy", 90, 1),
    )
    for hours, strategy, side, price, quantity in fills:
        trade(strategy=strategy, side=side, price=price, quantity=quantity, timestamp=at(hours))
    found = currency("USDT")
    hours = [(time - at(0).timestamp()) / 3600 for time in found.exposure.times]
    assert hours == [0, 10, 20, 30, 50, 60]
    assert list(found.exposure.values) == [200, 250, 50, 0, 100, 0]
    assert found.time_in_market == pytest.approx(40 / 60)


def test_the_rolling_win_rate_is_that_of_the_last_trades(empty_database: Any) -> None:
    for n, pnl in enumerate([1, -1, 1, 1, -1, 0, 1, 1, 1, 1]):
        trade(pnl=pnl, timestamp=at(n))
    found = currency("USDT")
    assert found.rolling == 5
    assert list(found.win_rate.values) == [0.6, 0.4, 0.6, 0.6, 0.6, 0.8]
    assert found.win_rate.times[0] == (at(4)).timestamp()


def test_of_many_round_trips_the_latest_the_best_and_the_worst_are_kept(
    empty_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_collect, "MAX_TRIPS", 100)
    for n in range(150):
        price = {5: 900, 6: 1}.get(n, 101)
        trade(side="buy", timestamp=at(n))
        trade(side="sell", price=price, timestamp=at(n) + timedelta(minutes=1))
    found = currency("USDT")
    assert found.total_trips == 150
    results = [trip.net_pnl for trip in found.trips]
    assert len(results) == 100 + 10 + 1  # the latest, the best, and the only loss
    assert {800.0, -99.0} <= set(results)
