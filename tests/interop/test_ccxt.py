"""Fills of ccxt, which ccxt itself parsed from responses of exchanges, are recorded once."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from ccxt_answers import parse

from botmemory import OrderSide, ValidationError, init_db
from botmemory.interop.ccxt import import_funding, import_trades
from botmemory.repositories import cash_flows, positions, trades

with_database = pytest.mark.usefixtures("empty_database")

# a trade of the user in a response of each exchange, from its documentation
BINANCE = {
    "symbol": "BNBBTC",
    "id": 28457,
    "orderId": 100234,
    "orderListId": -1,
    "price": "4.00000100",
    "qty": "12.00000000",
    "quoteQty": "48.000012",
    "commission": "10.10000000",
    "commissionAsset": "BNB",
    "time": 1499865549590,
    "isBuyer": True,
    "isMaker": False,
    "isBestMatch": True,
}
BYBIT = {
    "symbol": "ETHPERP",
    "orderType": "Market",
    "orderLinkId": "",
    "side": "Buy",
    "orderId": "8c065341-7b52-4ca9-ac2c-37e31ac55c94",
    "stopOrderType": "UNKNOWN",
    "leavesQty": "0",
    "execTime": "1672282722429",
    "feeCurrency": "",
    "isMaker": False,
    "execFee": "0.071409",
    "feeRate": "0.0006",
    "execId": "e0cbe81d-0f18-5866-9415-cf319b5dab3b",
    "markPrice": "1183.54",
    "execPrice": "1190.15",
    "orderQty": "0.1",
    "orderPrice": "1236.9",
    "execValue": "119.015",
    "execType": "Trade",
    "execQty": "0.1",
    "closedSize": "",
    "seq": 4688002127,
}
KRAKEN = {
    "id": "THVRQM-33VKH-UCI7BS",
    "ordertxid": "OQCLML-BW3P3-BUCMWZ",
    "postxid": "TKH2SE-M7IF5-CFI7LT",
    "pair": "XXBTZUSD",
    "time": 1688667796.8802,
    "type": "buy",
    "ordertype": "limit",
    "price": "30010.00000",
    "cost": "600.20000",
    "fee": "0.00000",
    "vol": "0.02000000",
    "margin": "0.00000",
    "misc": "",
    "trade_id": 40274859,
    "maker": True,
}
OKX = {
    "instType": "FUTURES",
    "instId": "BTC-USD-200329",
    "tradeId": "123",
    "ordId": "123445",
    "clOrdId": "b16",
    "billId": "1111",
    "tag": "",
    "fillPx": "999",
    "fillSz": "3",
    "side": "sell",
    "posSide": "long",
    "execType": "M",
    "feeCcy": "BTC",
    "fee": "0.0001",  # a rebate
    "ts": "1597026383085",
}


START = 1_700_000_000_000  # milliseconds


def fill(**values: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "timestamp": 1_700_000_000_123,
        "symbol": "BTC/USDT",
        "side": "buy",
        "price": 100.0,
        "amount": 0.5,
        "info": {"raw": "1"},
    } | values


@with_database
@pytest.mark.parametrize(
    ("exchange", "response", "symbol", "expected"),
    [
        (
            "binance",
            BINANCE,
            "BNB/BTC",
            ("28457", "buy", 4.000001, 12.0, 10.1, "BNB", 1499865549590),
        ),
        (
            "bybit",
            BYBIT,
            "ETH/USDC:USDC",
            (BYBIT["execId"], "buy", 1190.15, 0.1, 0.071409, "USDC", 1672282722429),
        ),
        (
            "kraken",
            KRAKEN,
            "BTC/USD",
            (KRAKEN["id"], "buy", 30010.0, 0.02, 0.0, "USD", 1688667796880),
        ),
        (
            "okx",
            OKX,
            "BTC/USD:BTC-200329",
            ("123", "sell", 999.0, 3.0, -0.0001, "BTC", 1597026383085),
        ),
    ],
)
def test_a_trade_of_each_exchange_is_recorded_once(
    exchange: str, response: dict[str, Any], symbol: str, expected: tuple[Any, ...]
) -> None:
    unified = parse(exchange, response, symbol)
    result = import_trades([unified], exchange=exchange, strategy="a")
    assert (result.created, result.skipped, result.rejected, result.warnings) == (1, 0, [], [])
    [trade] = trades.get_by_symbol(symbol)
    milliseconds = int(trade.timestamp.timestamp() * 1000 + 0.5)
    assert expected == (
        trade.exchange_trade_id,
        trade.side,
        trade.price,
        trade.quantity,
        trade.fee,
        trade.fee_currency,
        milliseconds,
    )
    assert (trade.exchange, trade.strategy, trade.pnl) == (exchange, "a", None)
    assert trade.trade_metadata["info"] == unified["info"] == response
    assert trade.trade_metadata["order"] == unified["order"]
    again = import_trades([unified], exchange=exchange)
    assert (again.created, again.skipped) == (0, 1)
    assert trades.get_all() == [trade]


@with_database
class TestOnce:
    @pytest.mark.parametrize(
        "same", [153082133, "153082133", 153082133.0, np.int64(153082133), Decimal(153082133)]
    )
    def test_one_number_is_one_id_whatever_its_type(self, same: Any) -> None:
        import_trades([fill(id="153082133")], exchange="okx")
        result = import_trades([fill(id=same)], exchange="okx")
        assert (result.created, result.skipped) == (0, 1)

    def test_numpy_has_whole_timestamps(self) -> None:
        import_trades([fill(timestamp=np.int64(1_700_000_000_123))], exchange="okx")
        [recorded] = trades.get_all()
        assert recorded.timestamp.isoformat() == "2023-11-14T22:13:20.123000+00:00"

    def test_an_exchange_has_one_name_whatever_its_case(self) -> None:
        import_trades([fill()], exchange="OKX")
        result = import_trades([fill(), fill(id="2")], exchange="okx")
        assert (result.created, result.skipped) == (1, 1)
        import_funding([fill(code="USDT", amount=-1.0, id="f")], exchange="Okx", strategy="trend")
        assert {trade.exchange for trade in trades.get_all()} == {"OKX"}
        assert [flow.exchange for flow in cash_flows.iterate()] == ["OKX"]

    def test_a_fill_is_identified_by_exchange_symbol_and_id(self) -> None:
        fills = [fill(), fill(id="2"), fill(symbol="ETH/USDT"), fill(), fill(id=1)]
        result = import_trades(fills, exchange="okx")
        assert (result.created, result.skipped) == (3, 2)
        assert import_trades(fills, exchange="bybit").created == 3
        assert trades.get_trade_count() == 6

    def test_order_ids_may_repeat(self) -> None:
        fills = [fill(id=str(n), order="7", symbol="AB"[n]) for n in range(2)]
        assert import_trades(fills, exchange="okx").created == 2

    def test_any_number_of_fills_from_a_generator(self) -> None:
        result = import_trades(
            (fill(id=str(n), timestamp=1_700_000_000_000 + n) for n in range(1234)), exchange="okx"
        )
        assert (result.created, trades.get_trade_count()) == (1234, 1234)
        assert positions.get("BTC/USDT").quantity == 617.0

    def test_fills_before_an_error_of_the_exchange_are_recorded(self) -> None:
        def failing() -> Any:
            yield from (fill(id=str(n)) for n in range(600))
            raise ConnectionError

        with pytest.raises(ConnectionError):
            import_trades(failing(), exchange="okx")
        assert trades.get_trade_count() == 500
        result = import_trades((fill(id=str(n)) for n in range(600)), exchange="okx")
        assert (result.created, result.skipped) == (100, 500)


def test_two_bots_that_import_at_once_record_each_fill_once(target: str) -> None:
    init_db(target)
    results: list[Any] = []

    def work() -> None:
        results.append(import_trades((fill(id=str(n)) for n in range(300)), exchange="okx"))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.created for result in results) == trades.get_trade_count() == 300
    assert sum(result.skipped for result in results) == 300


def recorded_ids() -> list[str | None]:
    """Return the ids of the exchange, in the order in which positions take the fills."""
    return [trade.exchange_trade_id for trade in trades.iterate()]


@with_database
class TestOrder:
    @pytest.mark.parametrize("given", [("9", "10", "100"), ("100", "10", "9"), ("10", "100", "9")])
    def test_numeric_ids_of_one_timestamp_are_recorded_as_numbers(
        self, given: tuple[str, ...]
    ) -> None:
        import_trades((fill(id=name) for name in given), exchange="okx")
        assert recorded_ids() == ["9", "10", "100"]

    def test_other_ids_of_one_timestamp_keep_the_order_in_which_they_are_given(self) -> None:
        given = ["T2", "T10", "9", "T1"]
        import_trades([fill(id=name) for name in given], exchange="kraken")
        assert recorded_ids() == given

    def test_fills_from_the_newest_to_the_oldest(self) -> None:
        times = {"e": 5, "d": 4, "c": 4, "b": 4, "a": 3}
        fills = [fill(id=name, timestamp=START + time) for name, time in times.items()]
        import_trades(fills, exchange="kraken")
        assert recorded_ids() == ["a", "b", "c", "d", "e"]

    def test_unsorted_fills(self) -> None:
        times = {"d": 4, "a": 1, "b": 4, "c": 2}
        fills = [fill(id=name, timestamp=START + time) for name, time in times.items()]
        import_trades(fills, exchange="kraken")
        assert recorded_ids() == ["a", "c", "d", "b"]

    def test_a_position_that_is_closed_and_opened_within_one_millisecond(self) -> None:
        fills = [
            fill(id="99", side="buy", price=100.0, amount=1),
            fill(id="100", side="sell", price=110.0, amount=1),
            fill(id="101", side="sell", price=120.0, amount=1),
        ]
        as_text = sorted(fills, key=lambda row: row["id"])  # as ccxt sorts them
        assert [row["id"] for row in as_text] == ["100", "101", "99"]
        import_trades(as_text, exchange="okx")
        held = positions.get("BTC/USDT")
        assert (held.quantity, held.average_entry_price, held.realized_pnl) == (-1, 120.0, 10.0)

    @pytest.mark.parametrize("is_newest_first", [False, True])
    def test_fills_of_one_timestamp_that_are_read_apart(self, is_newest_first: bool) -> None:
        # the 500th and the 501st fill are of one timestamp
        times = [n + 1000 for n in range(498)] + [5000] * 6 + [n + 6000 for n in range(498)]
        fills = [fill(id=f"T{n}", timestamp=START + time) for n, time in enumerate(times)]
        given = reversed(fills) if is_newest_first else iter(fills)
        assert import_trades(given, exchange="kraken").created == len(times)
        assert recorded_ids() == [f"T{n}" for n in range(len(times))]

    def test_numeric_ids_that_are_read_apart(self) -> None:
        times = [n + 1000 for n in range(498)] + [5000] * 6
        ids = [*range(498), 503, 502, 501, 500, 499, 498]
        fills = [
            fill(id=name, timestamp=START + time) for name, time in zip(ids, times, strict=True)
        ]
        import_trades(iter(fills), exchange="okx")
        assert recorded_ids() == [str(n) for n in range(504)]

    def test_issues_have_the_index_of_the_input(self) -> None:
        fees = [{"cost": 0.1, "currency": "USDT"}, {"cost": 0.02, "currency": "BNB"}]
        fills = [
            fill(id="4", timestamp=START + 4, fees=fees),
            fill(id="3", timestamp=START + 3, price=0),
            fill(id="2", timestamp=None),
            fill(id="1", timestamp=START + 1, fees=fees),
            fill(id="0", timestamp=START + 0, side="x"),
        ]
        result = import_trades(fills, exchange="okx")
        assert [(issue.index, issue.row["id"]) for issue in result.rejected] == [
            (1, "3"),
            (2, "2"),
            (4, "0"),
        ]
        assert [(issue.index, issue.row["id"]) for issue in result.warnings] == [(0, "4"), (3, "1")]


@with_database
class TestValues:
    def import_fill(self, **values: Any) -> Any:
        result = import_trades([fill(**values)], exchange="okx")
        assert result.rejected == []
        [trade] = trades.get_all()
        return trade

    @pytest.mark.parametrize(
        ("values", "fee", "currency"),
        [
            ({}, None, None),
            ({"fee": None, "fees": []}, None, None),
            ({"fee": {}}, None, None),
            ({"fee": {"cost": 0.1, "currency": "USDT"}, "fees": None}, 0.1, "USDT"),
            ({"fee": {"cost": None, "currency": "USDT"}}, None, None),
            ({"fee": {"cost": 0.1, "currency": None}}, 0.1, None),
            ({"fee": {"cost": -0.1, "currency": "BNB"}}, -0.1, "BNB"),
            ({"fee": {"cost": "0.1", "currency": "BNB"}}, 0.1, "BNB"),
            ({"fee": {"cost": Decimal("0.1"), "currency": "BNB"}}, 0.1, "BNB"),
            (
                {
                    "fee": {},
                    "fees": [{"cost": 0.1, "currency": "U"}, {"cost": 0.2, "currency": "U"}],
                },
                0.3,
                "U",
            ),
            (
                {"fees": [{"cost": 0, "currency": "A"}, {"cost": 0.2, "currency": "B"}]},
                0.2,
                "B",
            ),
        ],
    )
    def test_fees(self, values: dict[str, Any], fee: float | None, currency: str | None) -> None:
        trade = self.import_fill(**values)
        assert (trade.fee, trade.fee_currency) == (fee, currency)

    def test_fees_in_several_currencies_are_a_warning_and_kept(self) -> None:
        fees = [{"cost": 0.1, "currency": "USDT"}, {"cost": 0.02, "currency": "BNB"}]
        result = import_trades([fill(id="0"), fill(fees=fees)], exchange="okx")
        [warning] = result.warnings
        assert warning.index == 1
        assert warning.reason == (
            "fees: only the one in USDT has a column; 0.02 BNB is in trade_metadata.fees"
        )
        trade = trades.get_or_create(
            exchange="okx",
            exchange_trade_id="1",
            symbol="BTC/USDT",
            side="buy",
            price=1,
            quantity=1,
        )[0]
        assert (trade.fee, trade.fee_currency) == (0.1, "USDT")
        assert trade.trade_metadata["fees"] == fees

    def test_a_missing_price_is_computed_from_the_cost(self) -> None:
        assert self.import_fill(price=None, cost=60, amount=0.5).price == 120.0

    def test_a_missing_price_of_a_contract_is_not_computed(self) -> None:
        row = fill(symbol="BTC/USDT:USDT", price=None, cost=60, amount=5)
        [rejected] = import_trades([row], exchange="okx").rejected
        assert rejected.reason == "price: None is not a number"

    def test_fees_are_added_up_exactly_in_any_decimal_context(self) -> None:
        fees = [{"cost": 12.3456789012, "currency": "U"}, {"cost": 0.1, "currency": "U"}]
        with localcontext(prec=3):
            assert self.import_fill(fees=fees).fee == 12.4456789012

    def test_numbers_as_text(self) -> None:
        trade = self.import_fill(price="100.25", amount="0.125")
        assert (trade.price, trade.quantity) == (100.25, 0.125)

    def test_a_time_as_text(self) -> None:
        trade = self.import_fill(timestamp=None, datetime="2023-11-14T22:13:20.123Z")
        assert trade.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)

    def test_no_order_and_a_side_in_capitals(self) -> None:
        trade = self.import_fill(side="SELL", order=None)
        assert trade.side is OrderSide.SELL
        assert trade.trade_metadata == {"info": {"raw": "1"}}

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            ({"id": None}, "id: missing"),
            ({"id": math.nan}, "id: missing"),
            ({"id": "NaN"}, "id: missing"),
            ({"id": " <NA> "}, "id: missing"),
            ({"id": np.nan}, "id: missing"),
            ({"id": 1.5}, "id: 1.5 is no id; read ids as text or whole numbers"),
            ({"id": 2.0**60}, r"id: 1.15.*e\+18 is no id; read ids as text"),
            ({"id": math.inf}, "id: inf is no id"),
            ({"id": True}, "id: True is no id"),
            ({"timestamp": 1_700_000_000}, "1700000000 is not in milliseconds .* be in seconds"),
            ({"timestamp": 1_700_000_000_000_000}, "is not in milliseconds .* in microseconds"),
            ({"timestamp": 0}, "0 is not in milliseconds"),
            ({"id": ""}, "id: missing"),
            ({"side": None}, "side: None is not allowed"),
            ({"side": "stop"}, "side: 'stop' is not a side"),
            ({"timestamp": None}, "timestamp: neither None nor datetime None is a time"),
            ({"timestamp": "soon"}, "timestamp: neither 'soon'"),
            ({"price": None}, "price: None is not a number"),
            ({"price": 0}, "price: 0.0 is not greater than 0"),
            ({"amount": None}, "amount: None is not a number"),
            ({"amount": 0, "price": None, "cost": 5}, "price: None is not a number"),
            ({"amount": float("nan")}, "quantity: nan is not a finite number"),
            ({"symbol": None}, "symbol: None is not allowed"),
            ({"symbol": "x" * 65}, "symbol: .* has 65 characters"),
            ({"fee": {"cost": "much"}}, "cost: 'much' is not a number"),
            ({"info": {"a": "\0"}}, "trade_metadata.info.a: "),
        ],
    )
    def test_a_fill_that_cannot_be_recorded_is_rejected(
        self, values: dict[str, Any], reason: str
    ) -> None:
        row = fill(**values)
        result = import_trades([fill(id="0"), row, fill(id="2")], exchange="okx")
        assert (result.created, result.skipped) == (2, 0)
        [rejected] = result.rejected
        assert (rejected.index, rejected.row) == (1, row)
        assert re.search(reason, rejected.reason), rejected.reason

    def test_values_that_are_no_trades_are_rejected(self) -> None:
        result = import_trades([None, "x", 5, fill()], exchange="okx")  # type: ignore[list-item]
        assert result.created == 1
        assert [issue.index for issue in result.rejected] == [0, 1, 2]


@with_database
@pytest.mark.parametrize("argument", [fill(), "fills", 5, None])
def test_an_argument_that_is_no_list_is_rejected(argument: Any) -> None:
    with pytest.raises(ValidationError, match="unified_trades: .* is not a list of trades"):
        import_trades(argument, exchange="okx")


@with_database
def test_invalid_arguments_are_rejected_before_a_fill_is_recorded() -> None:
    for exchange in ("", "x" * 33, None):
        with pytest.raises(ValidationError, match="exchange: "):
            import_trades([fill()], exchange=exchange)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="strategy: "):
        import_trades([fill()], exchange="okx", strategy="")
    assert trades.get_trade_count() == 0


def test_an_empty_list(empty_database: Callable[[], object]) -> None:
    result = import_trades([], exchange="okx")
    assert (result.created, result.skipped, result.rejected) == (0, 0, [])


@with_database
@pytest.mark.parametrize("fees", [[], [{}], [{"cost": None, "currency": None}], None])
def test_a_fee_counts_where_the_list_of_fees_has_none(fees: Any) -> None:
    import_trades([fill(fees=fees, fee={"cost": 0.5, "currency": "USDT"})], exchange="binance")
    [trade] = trades.get_all()
    assert (trade.fee, trade.fee_currency) == (0.5, "USDT")


@with_database
def test_a_number_too_large_for_a_float_rejects_its_fill_alone() -> None:
    rows = [fill(), fill(id="2", amount=10**400), fill(id="3", fee={"cost": 10**400})]
    result = import_trades(rows, exchange="binance")
    assert (result.created, [issue.index for issue in result.rejected]) == (1, [1, 2])
