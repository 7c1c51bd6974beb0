"""Attribution: the signal behind a trade, and which signals earned how much."""

from __future__ import annotations

import decimal
import uuid
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, signal, trade

from botmemory import NotFoundError, Signal, Trade, ValidationError
from botmemory.analysis.attribution import Bucket, conversion, explain, pnl_by_metadata
from botmemory.analysis.ranges import quantile_edges
from botmemory.repositories import signals

pytestmark = pytest.mark.usefixtures("empty_database")


def act(metadata: Any, pnl: float | None = None, **values: Any) -> Trade:
    """Record a signal with metadata, and the trade it led to."""
    return trade(pnl=pnl, signal=signal(signal_metadata=metadata), **values)


def figures(buckets: list[Bucket]) -> list[tuple[str, int, float]]:
    return [(bucket.label, bucket.trades, bucket.total_pnl) for bucket in buckets]


class TestExplain:
    def test_a_buy(self) -> None:
        metadata = {"rsi": 27.4, "bands": {"lower": 99.0, "names": ["a"]}, "price": 100.0}
        trigger = signal(signal_metadata=metadata, timestamp=at(0))
        bought = trade(price=100.5, signal=trigger, timestamp=at(0) + timedelta(seconds=3))
        for argument in (bought, bought.id, str(bought.id)):
            reason = explain(argument)
            assert (reason.trade, reason.signal) == (bought, trigger)
            assert reason.indicators == {
                "rsi": 27.4,
                "bands.lower": 99.0,
                "bands.names": ["a"],
                "price": 100.0,
            }
            assert reason.delay == timedelta(seconds=3)
            assert reason.signal_price == 100.0
            assert (reason.slippage, reason.slippage_bps) == (0.5, pytest.approx(50.0))

    def test_a_sell_below_the_price_of_the_signal_is_worse(self) -> None:
        assert explain(act({"close": 200}, side="sell", price=199)).slippage == 1.0
        assert explain(act({"close": 200}, side="sell", price=201)).slippage == -1.0
        assert explain(act({"last": 200}, side="buy", price=199)).slippage == -1.0

    def test_the_slippage_is_that_of_the_prices_as_they_print(self) -> None:
        assert explain(act({"close": 0.1}, side="buy", price=0.3)).slippage == 0.2
        assert explain(act({"close": 0.3}, side="sell", price=0.1)).slippage == 0.2

    def test_the_key_of_the_price(self) -> None:
        bought = act({"last": 5, "price": 4, "close": 3, "book": {"ask": 2}}, price=10)
        assert explain(bought).signal_price == 4.0
        assert explain(bought, price_key="book.ask").slippage == 8.0
        assert explain(bought, price_key="bid").slippage is None

    @pytest.mark.parametrize("metadata", [None, {}, [1], "x", {"price": "5"}, {"price": 0}, 5])
    def test_a_signal_without_a_price(self, metadata: Any) -> None:
        reason = explain(act(metadata))
        assert reason.signal is not None
        assert (reason.signal_price, reason.slippage, reason.slippage_bps) == (None, None, None)

    def test_a_trade_without_a_signal(self) -> None:
        bought = trade()
        reason = explain(bought)
        assert (reason.trade, reason.signal, reason.indicators) == (bought, None, {})
        assert (reason.delay, reason.slippage) == (None, None)

    def test_a_signal_of_another_symbol_gives_no_slippage(self) -> None:
        other = signal(symbol="ETH/USDT", signal_metadata={"close": 3000})
        reason = explain(trade(signal=other, timestamp=other.timestamp))
        assert (reason.signal, reason.signal_price) == (other, 3000.0)
        assert (reason.slippage, reason.slippage_bps) == (None, None)
        assert reason.warning == "its signal is of ETH/USDT, not of BTC/USDT"

    def test_a_signal_after_its_trade_is_named(self) -> None:
        late = signal(timestamp=at(2), signal_metadata={"close": 99})
        reason = explain(trade(signal=late, timestamp=at(1)))
        assert (reason.delay, reason.slippage) == (timedelta(hours=-1), 1.0)
        assert reason.warning == "its signal is from 2024-01-01 02:00:00+00:00, after the trade"

    def test_a_slippage_that_no_float_can_hold_in_basis_points(self) -> None:
        assert explain(act({"close": 1e-300}, price=1e9)).slippage_bps is None

    def test_a_deleted_signal_is_named(self) -> None:
        bought = act({"close": 99})
        number = bought.signal_id
        Trade.update(signal=None).execute()
        signals.delete(bought.signal)
        for trade_in_memory in (bought, bought.id):
            reason = explain(trade_in_memory)
            assert (reason.signal, reason.indicators, reason.slippage) == (None, {}, None)
        assert explain(bought).warning == f"its signal {number} was deleted"
        assert explain(bought.id).warning is None

    def test_a_trade_that_does_not_exist(self) -> None:
        with pytest.raises(NotFoundError, match="trade .* is not in"):
            explain(uuid.uuid4())
        with pytest.raises(ValidationError, match="'x' is not a UUID"):
            explain("x")


class TestPnlByMetadata:
    def test_numbers_fall_into_round_ranges(self) -> None:
        for rsi, pnl in ((21, 5), (29.9, -1), (30, 2), (55, None), (71, -4), (90, 8)):
            act({"rsi": rsi}, pnl)
        buckets = pnl_by_metadata("rsi")
        assert figures(buckets) == [
            ("20 to 30", 2, 4.0),
            ("30 to 40", 1, 2.0),
            ("50 to 60", 1, None),  # nothing was closed
            ("70 to 80", 1, -4.0),
            ("80 to 90", 1, 8.0),
        ]
        first = buckets[0]
        assert (first.low, first.high, first.category) == (20.0, 30.0, None)
        assert (first.wins, first.losses, first.win_rate) == (1, 1, 0.5)
        assert (buckets[2].closed_trades, buckets[2].win_rate) == (0, None)
        assert figures(pnl_by_metadata("rsi", 2)) == [("0 to 50", 3, 6.0), ("50 to 100", 3, 4.0)]
        assert figures(pnl_by_metadata("rsi", 1)) == [("0 to 100", 6, 10.0)]

    def test_bins_with_bounds_of_the_caller(self) -> None:
        for rsi in (10, 30, 69.9, 70, 95):
            act({"rsi": rsi}, 1)
        assert figures(pnl_by_metadata("rsi", [30, 70])) == [
            ("below 30", 1, 1.0),
            ("30 to 70", 2, 2.0),
            ("70 or more", 2, 2.0),
        ]

    def test_equal_numbers_and_negative_ones(self) -> None:
        act({"x": -2.5}, 1)
        act({"x": -2.5}, 2)
        assert figures(pnl_by_metadata("x")) == [("-2.5", 2, 3.0)]
        act({"x": 1_000_000}, 4)
        assert figures(pnl_by_metadata("x", 2)) == [
            ("-1,000,000 to 0", 2, 3.0),
            ("0 to 1,000,000", 1, 4.0),
        ]

    def test_categories(self) -> None:
        for regime, pnl in (("up", 1), ("down", -2), ("up", 3), (True, 4), ("true", 5), (7, 6)):
            act({"regime": regime}, pnl)
        act({"regime": None}, 100)
        act({"other": "up"}, 100)
        act(None, 100)
        trade(pnl=100)
        buckets = pnl_by_metadata("regime")
        assert figures(buckets) == [
            ("7", 1, 6.0),
            ("down", 1, -2.0),
            ("true", 1, 5.0),
            ("true", 1, 4.0),
            ("up", 2, 4.0),
        ]
        assert [bucket.category for bucket in buckets] == [None, "down", "true", True, "up"]

    def test_objects_are_one_category_whatever_the_order_of_their_keys(self) -> None:
        act({"state": {"b": 1, "a": 2}}, pnl=4)
        act({"state": {"a": 2, "b": 1}}, pnl=1)
        [bucket] = pnl_by_metadata("state")
        assert (bucket.category, bucket.total_pnl) == ('{"a":2,"b":1}', 5.0)

    @pytest.mark.parametrize("number", [2**53 + 1, -(2**60) - 1])
    def test_whole_numbers_that_no_float_is_equal_to_have_exact_bounds(self, number: int) -> None:
        for change in (0, 2, 4):
            act({"block": number + change}, pnl=change)
        [all_of_them] = pnl_by_metadata("block", 1)
        assert all_of_them.low is not None
        assert all_of_them.high is not None
        assert all_of_them.low <= number < number + 4 <= all_of_them.high
        below, above = pnl_by_metadata("block", [number + 2])
        assert (below.high, below.total_pnl, above.low, above.total_pnl) == (
            number + 2, 0.0, number + 2, 6.0,
        )  # fmt: skip

    def test_one_large_whole_number_is_its_own_range(self) -> None:
        act({"block": 2**53 + 1}, pnl=1)
        [bucket] = pnl_by_metadata("block")
        assert (bucket.low, bucket.high) == (2**53 + 1, 2**53 + 1)

    def test_a_dotted_key_is_a_nested_one(self) -> None:
        act({"bands": {"lower": 5}}, 1)
        act({"bands.lower": 5}, 100)
        assert figures(pnl_by_metadata("bands.lower")) == [("5", 1, 1.0)]

    def test_filters_the_trades(self) -> None:
        for n in range(4):
            act({"x": 1}, 2**n, timestamp=at(n), strategy="ab"[n % 2])
        act({"x": 1}, 100, symbol="ETH/EUR")
        filters = {
            "symbol": "BTC/USDT",
            "strategy": "a",
            "start_date": at(1),
            "end_date": at(3),
        }
        assert figures(pnl_by_metadata("x", **filters)) == [("1", 1, 4.0)]  # type: ignore[arg-type]
        assert figures(pnl_by_metadata("x", quote="EUR")) == [("1", 1, 100.0)]
        with pytest.raises(ValidationError, match="different currencies"):
            pnl_by_metadata("x")
        act({"x": 1}, 200, symbol="ETH/EUR", exchange="okx")
        assert figures(pnl_by_metadata("x", exchange="okx")) == [("1", 1, 200.0)]
        assert figures(pnl_by_metadata("x", exchange="", quote="EUR")) == [("1", 1, 100.0)]

    def test_by_the_signal_of_the_entry(self) -> None:
        act({"rsi": 25}, timestamp=at(0))  # opens a long position
        act({"rsi": 26}, timestamp=at(1))  # adds to it
        act({"rsi": 80}, 5, side="sell", timestamp=at(2))  # closes half
        act({"rsi": 81}, 6, side="sell", timestamp=at(3), quantity=3)  # reverses the position
        trade(pnl=-3, timestamp=at(4), quantity=2)  # closes the short, without a signal
        trade(pnl=50, timestamp=at(5))  # closes nothing
        act({"rsi": 10}, timestamp=at(0), symbol="ETH/USDT", strategy="a")
        trade(pnl=7, side="sell", timestamp=at(6), symbol="ETH/USDT", strategy="a")
        trade(pnl=90, side="sell", timestamp=at(6), symbol="ETH/USDT", strategy="b")
        by_entry = [
            (b.label, b.trades, b.total_pnl)
            for b in pnl_by_metadata("rsi", [20, 50], signal_of="entry")
        ]
        assert by_entry == [("below 20", 1, 7.0), ("20 to 50", 2, 11.0), ("50 or more", 1, -3.0)]
        in_span = pnl_by_metadata("rsi", [50], start_date=at(3), end_date=at(5), signal_of="entry")
        assert figures(in_span) == [("below 50", 1, 6.0), ("50 or more", 1, -3.0)]
        of_strategy = pnl_by_metadata("rsi", [50], "ETH/USDT", "a", signal_of="entry")
        assert figures(of_strategy) == [("below 50", 1, 7.0)]

    def test_the_entry_is_one_of_the_same_exchange(self) -> None:
        act({"rsi": 25}, timestamp=at(0), exchange="okx")
        act({"rsi": 80}, timestamp=at(1), exchange="kraken")
        trade(pnl=3, side="sell", timestamp=at(2), exchange="okx")
        trade(pnl=5, side="sell", timestamp=at(3), exchange="kraken")
        by_entry = pnl_by_metadata("rsi", [50], signal_of="entry")
        assert figures(by_entry) == [("below 50", 1, 3.0), ("50 or more", 1, 5.0)]
        of_one = pnl_by_metadata("rsi", [50], exchange="kraken", signal_of="entry")
        assert figures(of_one) == [("50 or more", 1, 5.0)]

    def test_the_entry_is_the_first_fill_that_left_something(self) -> None:
        fee = {"fee": 1, "fee_currency": "BTC"}  # takes all of what was bought
        act({"rsi": 25}, timestamp=at(0), **fee)
        act({"rsi": 80}, timestamp=at(1))
        trade(pnl=3, side="sell", timestamp=at(2))
        assert figures(pnl_by_metadata("rsi", [50], signal_of="entry")) == [("50 or more", 1, 3.0)]

    def test_round_trips_by_the_signal_of_their_entry_or_exit(self) -> None:
        for rsi, price in ((25, 103), (75, 90), (35, 101)):
            act({"rsi": rsi, "trend": "up"}, fee=0.5, fee_currency="USDT")
            act({"rsi": rsi + 10}, side="sell", price=price)
        by_entry = pnl_by_metadata("rsi", [50], signal_of="entry")
        assert figures(by_entry) == [("below 50", 4, 3.0), ("50 or more", 2, -10.5)]
        assert [bucket.source for bucket in by_entry] == ["fills", "fills"]
        assert [bucket.trades_with_pnl for bucket in by_entry] == [0, 0]
        assert (by_entry[0].fees, by_entry[0].gross_pnl, by_entry[0].wins) == (
            {"USDT": 1.0},
            4.0,
            2,
        )
        assert figures(pnl_by_metadata("rsi", [40])) == [
            ("below 40", 2, 2.5),
            ("40 or more", 4, -10.0),
        ]
        assert figures(pnl_by_metadata("trend")) == []
        assert figures(pnl_by_metadata("trend", signal_of="entry")) == [("up", 6, -7.5)]
        later = pnl_by_metadata("rsi", [50], source="recorded")
        assert [bucket.total_pnl for bucket in later] == [None, None]

    def test_trades_with_a_pnl_are_counted_in_round_trips(self) -> None:
        act({"rsi": 25})
        trade(side="sell", price=103, pnl=5)
        [bucket] = pnl_by_metadata("rsi", [50], source="fills", signal_of="entry")
        assert (bucket.trades, bucket.trades_with_pnl, bucket.total_pnl) == (2, 1, 3.0)

    def test_entry_signals_from_before_the_span_count(self) -> None:
        act({"rsi": 25}, timestamp=at(0))
        trade(side="sell", price=103, timestamp=at(5))
        found = pnl_by_metadata("rsi", [50], start_date=at(3), signal_of="entry")
        assert figures(found) == [("below 50", 2, 3.0)]

    def test_a_fee_without_a_rate_is_named(self) -> None:
        act({"rsi": 25}, fee=0.01, fee_currency="BNB")
        trade(side="sell", price=103)
        [bucket] = pnl_by_metadata("rsi", [50], signal_of="entry")
        assert (bucket.total_pnl, bucket.gross_pnl) == (None, 3.0)
        assert "fees or funding are in BNB" in str(bucket.unknown)
        [bucket] = pnl_by_metadata("rsi", [50], signal_of="entry", rates={"BNB": 100})
        assert bucket.total_pnl == 2.0

    def test_quantiles_have_about_as_many_trades_each(self) -> None:
        for number in (*range(10), 1000, 2000):
            act({"x": number}, 1)
        buckets = pnl_by_metadata("x", 4, quantiles=True)
        assert [(b.low, b.high, b.trades) for b in buckets] == [
            (0.0, 3.0, 3), (3.0, 6.0, 3), (6.0, 9.0, 3), (9.0, 2000.0, 3),
        ]  # fmt: skip

    def test_quantiles_of_equal_numbers(self) -> None:
        for number in (1, 2, 3, 4, 5, 5, 5, 5, 5, 5):
            act({"x": number, "same": 7, "large": 10**400}, 1)
        buckets = pnl_by_metadata("x", 2, quantiles=True)
        assert figures(buckets) == [("1 to 5", 4, 4.0), ("5", 6, 6.0)]
        assert figures(pnl_by_metadata("same", 3, quantiles=True)) == [("7", 10, 10.0)]
        assert [b.trades for b in pnl_by_metadata("large", 3, quantiles=True)] == [10]

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 6))
    def test_edges_of_quantiles(self, numbers: list[int], bins: int) -> None:
        *starts, last = quantile_edges(numbers, bins)
        assert starts == sorted(set(starts))
        assert (starts[0], last) == (min(numbers), max(numbers))
        assert len(starts) <= bins

    def test_edges_do_not_depend_on_the_decimal_context(self) -> None:
        act({"rsi": 30.5}, 1)
        with decimal.localcontext() as context:
            context.prec, context.traps[decimal.FloatOperation] = 3, True
            assert [b.low for b in pnl_by_metadata("rsi", [30.5, 70.123456])] == [30.5]

    def test_edges_are_no_quantiles(self) -> None:
        with pytest.raises(ValidationError, match="bins: .* are edges; pass a number of ranges"):
            pnl_by_metadata("x", [1, 2], quantiles=True)

    def test_without_trades(self) -> None:
        assert pnl_by_metadata("rsi") == pnl_by_metadata("rsi", [5]) == []
        assert pnl_by_metadata("rsi", signal_of="entry") == []

    @pytest.mark.parametrize(
        "bins", [0, -1, 1001, True, "10", None, [], [2, 1], [1, 1], ["x"], 2.5]
    )
    def test_invalid_bins_are_rejected(self, bins: Any) -> None:
        with pytest.raises(ValidationError, match="bins: "):
            pnl_by_metadata("rsi", bins)

    def test_invalid_arguments_are_rejected(self) -> None:
        for key in ("", ".", "a..b", 5):
            with pytest.raises(ValidationError, match="is not a key of the metadata"):
                pnl_by_metadata(key)  # type: ignore[arg-type]
        with pytest.raises(ValidationError, match="signal_of: 'trade' is unknown"):
            pnl_by_metadata("rsi", signal_of="trade")  # type: ignore[arg-type]

    @given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40, unique=True), st.integers(1, 20))
    def test_every_number_is_in_one_range(self, numbers: list[float], bins: int) -> None:
        Trade.delete().execute()
        Signal.delete().execute()
        for number in numbers:
            act({"x": number}, 1)
        buckets = pnl_by_metadata("x", bins)
        assert sum(bucket.trades for bucket in buckets) == len(numbers)
        assert len(buckets) <= bins
        for bucket in buckets:
            assert bucket.low is not None
            assert bucket.high is not None
            inside = [
                n
                for n in numbers
                if bucket.low <= n < bucket.high or n == bucket.high == buckets[-1].high
            ]
            assert len(inside) == bucket.trades


class TestConversion:
    def test_signals_of_each_value_are_counted(self) -> None:
        for n in range(4):
            trade(signal=signal(signal_value=1)) if n < 3 else signal(signal_value=1)
        twice = signal(signal_value=-1)
        trade(signal=twice)
        trade(signal=twice)
        trade()
        signal(signal_value=0)
        assert [
            (group.signal_value, group.signals, group.acted_on, group.rate, group.trades)
            for group in conversion()
        ] == [(1, 4, 3, 0.75, 3), (0, 1, 0, 0.0, 0), (-1, 1, 1, 1.0, 2)]

    def test_filters_the_signals(self) -> None:
        for n in range(4):
            signal(timestamp=at(n), strategy="ab"[n % 2], symbol="XY"[n // 2])
        assert [group.signals for group in conversion("X")] == [2]
        assert [group.signals for group in conversion(strategy="a", start_date=at(1))] == [1]
        assert [group.signals for group in conversion(end_date=at(0))] == [1]
        assert conversion("Z") == []
