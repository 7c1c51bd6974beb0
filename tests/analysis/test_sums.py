"""All sums of one database agree to the last bit, and are those of the printed decimals."""

from __future__ import annotations

import decimal
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, signal, trade, trade_values

from botmemory import Trade, ValidationError, db, init_db
from botmemory.analysis.attribution import explain, pnl_by_metadata
from botmemory.analysis.performance import by, equity_curve, summarize
from botmemory.report import write_report
from botmemory.repositories import trades

EXTREME = st.one_of(
    st.floats(1e-300, 1e300),
    st.floats(-1e300, -1e-300),
    st.sampled_from([0.0, 1e7, 1e7 + 1e-8, 1e23, 2.0**53, 5e-9, -5e-9, 1.5e-8, 0.1, -0.3]),
)
MONEY = st.integers(-(10**15), 10**15).map(lambda units: units / 1e8)
CENTS = st.integers(-(10**6), 10**6).map(lambda cents: cents / 100)


def record(pnls: list[float]) -> None:
    Trade.delete().execute()
    trades.create_many(trade_values(timestamp=at(n / 100), pnl=pnl) for n, pnl in enumerate(pnls))


def expected(pnls: list[float]) -> float:
    return float(sum((Fraction(repr(pnl)) for pnl in pnls), Fraction(0)))


def sums() -> list[float]:
    curve = equity_curve()
    return [
        trades.get_total_pnl(),
        trades.get_total_pnl("BTC/USDT"),
        trades.get_total_pnl(quote="USDT"),
        summarize().total_pnl,
        curve[-1].equity if curve else 0.0,
        *(group.total_pnl for group in by("symbol")),
        *(group.total_pnl for group in by("month")),
    ]


@pytest.mark.parametrize("numbers", [EXTREME, MONEY, CENTS], ids=["extreme", "money", "cents"])
def test_every_sum_is_the_nearest_float(empty_database: Any, numbers: Any) -> None:
    @given(st.lists(numbers, max_size=12))
    def check(pnls: list[float]) -> None:
        record(pnls)
        assert set(map(repr, sums())) == {repr(expected(pnls))}
        result, month = summarize(), by("month")
        profit, loss = [p for p in pnls if p > 0], [p for p in pnls if p < 0]
        assert (result.gross_profit, result.gross_loss) == (expected(profit), expected(loss))
        for group in month:
            assert (group.gross_profit, group.gross_loss) == (expected(profit), expected(loss))
            assert group.expectancy == result.expectancy

    check()


@pytest.mark.parametrize(
    ("pnls", "total"),
    [
        ([0.1] * 10, 1.0),
        ([0.1, 0.2, -0.3], 0.0),
        ([1e16, 1.0, -1e16], 1.0),
        ([0.5e-8, 1.5e-8], 2e-8),  # of which a ROUND goes up, and another one to even
        ([9_999_999.99] * 10_000, 99_999_999_900.0),  # more than 64 bits in units of 1e-8
        ([-9_999_999.99] * 10_000, -99_999_999_900.0),
    ],
)
def test_sums_by_hand(empty_database: Any, pnls: list[float], total: float) -> None:
    record(pnls)
    assert set(map(repr, sums())) == {repr(total)}


def test_the_callers_decimal_context_changes_nothing(empty_database: Any) -> None:
    record([12345.678, 0.01, -0.01, 1.0, 0.004])
    trade(fee=12345.678, fee_currency="X", timestamp=at(9))
    trade(fee=0.0001, fee_currency="X", timestamp=at(9))
    plain = summarize(), equity_curve(), by("symbol")
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = True
        assert (summarize(), equity_curve(), by("symbol")) == plain
    assert (plain[0].max_drawdown, plain[0].fees) == (0.01, {"X": 12345.6781})


def test_an_entry_is_found_whatever_the_decimal_context_is(empty_database: Any) -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        trade(signal=signal(signal_metadata={"rsi": 20}), quantity=1234.5678, timestamp=at(0))
        for hour, quantity in enumerate((1000.0001, 234.5677), 1):
            trade(side="sell", quantity=quantity, pnl=0.1, timestamp=at(hour))
        trade(signal=signal(signal_metadata={"rsi": 80}), quantity=7, timestamp=at(3))
        trade(side="sell", quantity=7, pnl=0.2, timestamp=at(4))
        found = [(b.label, b.total_pnl) for b in pnl_by_metadata("rsi", [50], signal_of="entry")]
    assert found == [("below 50", 0.2), ("50 or more", 0.2)]


def test_a_sum_that_no_float_can_hold_is_refused_by_name(empty_database: Any) -> None:
    record([1e308, 1e308])
    for function in (trades.get_total_pnl, summarize, equity_curve, lambda: by("day")):
        with pytest.raises(ValidationError, match="pnl: the sum has 309 digits"):
            function()
    Trade.update(pnl=1.0, fee=1e308).execute()
    with pytest.raises(ValidationError, match="fee: the sum has 309 digits"):
        summarize()


def test_numbers_in_metadata_may_be_larger_than_a_float(empty_database: Any, path: Path) -> None:
    for number in (10**400, -(10**400), 1.7e308, -1.7e308, 3):
        bought = trade(pnl=1, signal=signal(signal_metadata={"x": number, "price": 10**400}))
    assert explain(bought).signal_price is None
    for bins in (10, 1, [0, 1e308]):
        buckets = pnl_by_metadata("x", bins)  # type: ignore[arg-type]
        assert sum(bucket.trades for bucket in buckets) == 5
    write_report(path.with_name("report.html"))


def test_the_total_of_a_currency(empty_database: Any) -> None:
    for symbol, pnl in (("A/USDT", 1), ("B/USDT:USDT", 2), ("A/BTC", 4), ("X", 8)):
        trade(symbol=symbol, pnl=pnl, exchange="okx" if pnl == 2 else None)
    assert trades.get_total_pnl() == 15.0
    assert trades.get_total_pnl(quote="USDT") == 3.0
    assert trades.get_total_pnl(quote="USDT", exchange="") == 1.0
    assert trades.get_total_pnl("A/BTC", quote="BTC") == 4.0
    assert trades.get_total_pnl(quote="") == 8.0
    assert trades.get_total_pnl("A/BTC", quote="USDT") == trades.get_total_pnl(quote="EUR") == 0.0
    with pytest.raises(ValidationError, match="quote: 5 is not text"):
        trades.get_total_pnl(quote=5)  # type: ignore[arg-type]


class TestOneMoment:
    """An answer from several queries is about one state of the database."""

    @pytest.fixture(params=["file", "postgresql"])
    def target(self, request: pytest.FixtureRequest, path: Path) -> Any:
        return path if request.param == "file" else request.getfixturevalue("new_database")()

    @pytest.fixture
    def recorded(self, target: Any) -> Iterator[list[int]]:
        """Record a trade on another connection after each query, and count them."""
        database: Any = init_db(target)
        pnls = [1.0, 0.123456789] * 600
        trades.create_many(trade_values(timestamp=at(n), pnl=pnl) for n, pnl in enumerate(pnls))
        trigger = signal(signal_metadata={"x": 1})
        trade(timestamp=at(0), pnl=1, signal=trigger)
        counts = [0]
        here = threading.get_ident()

        def record() -> None:
            trade(timestamp=at(2000 + counts[0]), pnl=1000.0, signal=trigger)
            db.close()

        def hook(event: Any) -> None:
            if threading.get_ident() == here and event.sql.startswith(("SELECT", "DECLARE")):
                counts[0] += 1
                thread = threading.Thread(target=record)
                thread.start()
                thread.join()

        database.query_hooks.append(hook)
        yield counts
        database.query_hooks.remove(hook)

    def test_a_summary_and_its_curve(self, recorded: list[int]) -> None:
        result = summarize()
        assert recorded[0] > 1
        assert (result.trades, result.best, result.quote) == (1201, 1.0, "USDT")
        assert trades.get_trade_count() > 1201

    def test_a_curve(self, recorded: list[int]) -> None:
        assert len(equity_curve()) == 1201

    def test_groups_whose_rows_must_be_read(self, recorded: list[int]) -> None:
        assert sum(group.trades for group in by("day")) == 1201
        assert recorded[0] > 1

    def test_the_total_of_a_currency(self, recorded: list[int]) -> None:
        assert trades.get_total_pnl(quote="USDT") == 601 + 600 * 0.123456789
        assert recorded[0] > 1

    def test_buckets(self, recorded: list[int]) -> None:
        assert [bucket.trades for bucket in pnl_by_metadata("x")] == [1]
        assert recorded[0] > 1

    def test_a_report(self, recorded: list[int], path: Path) -> None:
        text = write_report(path.with_name("report.html")).read_text(encoding="utf-8")
        assert "1,201 / 1,201" in text
        assert "1,000.00" not in text

    def test_a_transaction_of_the_caller_is_used_as_it_is(self, target: Any) -> None:
        init_db(target)
        with db.atomic():
            trade(pnl=1)
            assert summarize().total_pnl == trades.get_total_pnl(quote="USDT") == 1.0
            trade(pnl=2)
            assert summarize().total_pnl == 3.0

    def test_a_writer_is_not_waited_for_and_does_not_wait(self, target: Any) -> None:
        init_db(target)
        trade(pnl=1)
        wrote, may_end, results = threading.Event(), threading.Event(), []

        def write() -> None:
            with db.atomic():
                trade(pnl=2)
                wrote.set()
                may_end.wait(30)
            db.close()

        writer = threading.Thread(target=write)
        writer.start()
        wrote.wait(30)
        try:
            results = [summarize().total_pnl, by("symbol")[0].total_pnl]
        finally:
            may_end.set()
            writer.join()
        assert results == [1.0, 1.0]
        with db.read_snapshot():
            assert trades.get_total_pnl() == 3.0
            threads = [threading.Thread(target=lambda: (trade(pnl=4), db.close()))]
            threads[0].start()
            threads[0].join(30)
            assert not threads[0].is_alive()
            assert trades.get_total_pnl() == 3.0
        assert trades.get_total_pnl() == 7.0

    def test_what_a_callback_records_meanwhile_is_kept(self, target: Any, path: Path) -> None:
        init_db(target)
        trade(pnl=1)

        def progress(done: int, _: int) -> None:
            if done == 1:
                trade(pnl=2)

        write_report(path.with_name("report.html"), progress=progress)
        assert trades.get_total_pnl() == 3.0
