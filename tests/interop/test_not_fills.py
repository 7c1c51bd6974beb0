"""Rows among the trades of ccxt that are no fills become cash flows, or are listed as no fills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ccxt_answers import api_of, market_of, parse

from botmemory import CashFlow
from botmemory.interop.ccxt import import_funding, import_trades
from botmemory.repositories import cash_flows, positions, trades

pytestmark = pytest.mark.usefixtures("empty_database")

# an execution of Bybit; its list and its stream have all kinds of them in this form
BYBIT = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "execFee": "0.0679239",
    "execId": "135dbae5-cbed-5275-9290-3956bb2ed907",
    "execPrice": "123498",
    "execQty": "0.001",
    "execType": "Trade",
    "execValue": "123.498",
    "feeRate": "0.00055",
    "orderId": "aee7453a-a100-465f-857a-3db780e9329a",
    "orderType": "Market",
    "side": "Buy",
    "execTime": "1757837580469",
    "isMaker": False,
    "feeCurrency": "USDT",
}
FUNDING = BYBIT | {
    "execFee": "-8.0758617716",  # received
    "execId": "d93e7b3c-8319-4c3e-9d2f-1d3c8a369d56",
    "execPrice": "26898.2",
    "execQty": "3.00238",
    "execType": "Funding",
    "execValue": "80758.617716",
    "feeRate": "0.0001",
    "orderId": "16791",
    "orderType": "UNKNOWN",
    "side": "Sell",
    "execTime": "1679184000000",
    "feeCurrency": "",
}
PHEMEX = {
    "createdAt": 1714990724076,
    "symbol": "BTCUSDT",
    "currency": "USDT",
    "action": 1,
    "tradeType": 1,
    "execQtyRq": "0.003",
    "execPriceRp": "64935",
    "side": 2,
    "orderQtyRq": "0.003",
    "priceRp": "51600",
    "execValueRv": "194.805",
    "feeRateRr": "0.000495",
    "execFeeRv": "0.09642847",
    "ordType": 3,
    "execId": "b3dab3ee-0ee3-5bc2-a4d5-cb3a3c0d27fd",
    "execStatus": 7,
}


def bybit(unified: str = "BTC/USDT:USDT", **values: Any) -> dict[str, Any]:
    return parse("bybit", BYBIT | values, unified)


def bitmex(exec_type: str, **values: Any) -> dict[str, Any]:
    """Return a trade as versions of ccxt have it that know BitMEX."""
    trade = {
        "info": {"symbol": "XBTH25", "execType": exec_type, "execComm": 66, "text": exec_type},
        "id": "7f4ab7f6-0006-3234-76f4-ae1385aad00f",
        "timestamp": 1742558400000,
        "symbol": "BTC/USD:BTC-250328",
        "side": "sell",
        "price": 84000.5,
        "amount": 100.0,
        "cost": 0.0011905,
        "fee": {"cost": 6.6e-7, "currency": "BTC", "rate": 0.0001},
    }
    return trade | values


@pytest.mark.parametrize("funding_first", [False, True])
@pytest.mark.parametrize(
    ("symbol", "currency"), [("BTC/USDT:USDT", "USDT"), ("BTC/USD:BTC", "BTC")]
)
def test_funding_in_a_stream_of_bybit_is_the_payment_of_its_funding_history(
    symbol: str, currency: str, funding_first: bool
) -> None:
    market = market_of(symbol, "BTCUSDT")
    payment = api_of("bybit", market).parse_income(dict(FUNDING), market)
    if funding_first:
        import_funding([payment], exchange="bybit", strategy="trend")
    stream = [bybit(symbol, **FUNDING), bybit(symbol)]
    for flows, fills in ((0 if funding_first else 1, 1), (0, 0)):
        result = import_trades(stream, exchange="bybit", strategy="trend")
        assert (result.created, result.skipped) == (fills, 1 - fills)
        assert (result.flows_created, result.flows_skipped) == (flows, 1 - flows)
        assert (result.rejected, result.rejected_count, result.left_out) == ([], 0, 0)
    again = import_funding([payment], exchange="bybit", strategy="trend")
    assert (again.created, again.skipped) == (0, 1)
    [flow] = cash_flows.iterate()
    assert (flow.kind, flow.amount, flow.currency) == ("funding", 8.0758617716, currency)
    assert (flow.symbol, flow.strategy) == (symbol, "trend")
    [trade] = trades.get_all()
    assert trade.exchange_trade_id == BYBIT["execId"]


def test_funding_that_has_no_time_is_rejected() -> None:
    no_time = {"timestamp": None, "datetime": None}
    result = import_trades([bybit(), bybit(**FUNDING) | no_time], exchange="bybit")
    assert (result.created, result.flows_created) == (1, 0)
    [rejected] = result.rejected
    assert (rejected.index, rejected.reason[:10]) == (1, "timestamp:")


def test_a_stream_of_nothing_but_funding_is_recorded_as_it_comes() -> None:
    def stream() -> Iterator[dict[str, Any]]:
        for number in range(600):
            assert CashFlow.select().count() == number
            yield bybit(**FUNDING | {"execId": str(number)})

    assert import_trades(stream(), exchange="bybit").flows_created == 600


@pytest.mark.parametrize(
    "exec_type",
    ["Trade", "AdlTrade", "BustTrade", "BlockTrade", "MovePosition", "FutureSpread", "", None],
)
def test_what_changes_a_position_on_bybit_is_a_trade(exec_type: str | None) -> None:
    result = import_trades([bybit(execType=exec_type)], exchange="bybit")
    assert (result.created, result.rejected) == (1, [])


@pytest.mark.parametrize("exec_type", ["Delivery", "Settle"])
def test_a_delivery_closes_the_position_at_its_price(exec_type: str) -> None:
    closing = {
        "execType": exec_type,
        "side": "Sell",
        "execId": "2",
        "execPrice": "130000",
        "execValue": "130",
    }
    import_trades([bybit(), bybit(**closing)], exchange="bybit")
    position = positions.get("BTC/USDT:USDT")
    assert position.quantity == 0
    assert position.realized_pnl == pytest.approx(0.001 * (130_000 - 123_498))


def test_a_settlement_of_bitmex_closes_the_position() -> None:
    rows = [bitmex("Trade", side="buy", id="1"), bitmex("Settlement", id="2")]
    assert import_trades(rows, exchange="bitmex").created == 2
    assert positions.get("BTC/USD:BTC-250328").quantity == 0


@pytest.mark.parametrize(
    ("row", "exchange", "reason"),
    [
        (bitmex("Funding"), "bitmex", "info.execType is 'Funding', a funding payment; record it "),
        (bitmex("Insurance"), "bitmex", "info.execType is 'Insurance', a payment"),
        (bitmex("Canceled"), "bitmex", "info.execType is 'Canceled', an event of an order"),
        (bybit(execType="SessionSettlePnL"), "bybit", "info.execType is 'SessionSettlePnL', the"),
        (bybit(execType="Funding", execFee=""), "bybit", "info.execType is 'Funding', a funding"),
        (
            parse("phemex", PHEMEX | {"tradeType": 4}, "BTC/USDT:USDT"),
            "phemex",
            "info.tradeType is '4', a funding payment; record it with import_funding() from",
        ),
    ],
)
def test_what_is_no_fill_is_listed_as_such(row: dict[str, Any], exchange: str, reason: str) -> None:
    result = import_trades([row], exchange=exchange)
    assert (result.created, result.flows_created, result.rejected_count) == (0, 0, 1)
    assert result.rejected[0].reason.startswith(f"not a fill: {reason}")
    assert trades.get_all() == []
    assert list(cash_flows.iterate()) == []


@pytest.mark.parametrize("trade_type", [1, 6, 7])  # a trade, a liquidation, auto-deleveraging
def test_fills_of_phemex_are_trades(trade_type: int) -> None:
    row = parse("phemex", PHEMEX | {"tradeType": trade_type}, "BTC/USDT:USDT")
    assert import_trades([row], exchange="phemex").created == 1


@pytest.mark.parametrize("trade_type", ["trade", "liquidation", "adl", "settlement"])
def test_fills_of_kucoin_are_trades(trade_type: str) -> None:
    answer = {
        "symbol": "DOGEUSDTM",
        "tradeId": "620ec41a96bab27b5f4ced56",
        "orderId": "620ec41a0d1d8a0001560bd0",
        "side": "sell",
        "liquidity": "taker",
        "price": "0.13969",
        "size": 1,
        "value": "13.969",
        "feeRate": "0.0006",
        "feeCurrency": "USDT",
        "fee": "0.0083814",
        "tradeType": trade_type,
        "createdAt": 1645134874858,
    }
    row = parse("kucoinfutures", answer, "DOGE/USDT:USDT", 100)
    assert import_trades([row], exchange="kucoinfutures").created == 1
