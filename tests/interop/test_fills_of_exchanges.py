"""Fills as exchanges report them and ccxt parses them bring what accounting needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from ccxt_answers import market_of, parse

from botmemory.interop.ccxt import import_trades
from botmemory.repositories import positions, trades


@dataclass
class Case:
    """An answer of an exchange, and what it means.

    Attributes:
        contract_size: Of the contract, as the exchange documents it; None on spot.
        wallet: What comes into the wallet and goes out of it, by currency. Of a derivative that is
            the fee alone.
        value: The value of the fill in quote currency, of an inverse contract in its base currency.
    """

    exchange: str
    symbol: str
    answer: dict[str, Any]
    price: float
    quantity: float
    fee: float | None
    fee_currency: str | None
    wallet: dict[str, float]
    value: float
    contract_size: float | None = None


CASES = {
    "binance spot": Case(
        "binance",
        "ADA/USDT",
        {
            "symbol": "ADAUSDT",
            "id": 470227543,
            "orderId": 4421170947,
            "price": "0.53880000",
            "qty": "10.00000000",
            "quoteQty": "5.38800000",
            "commission": "0.00538800",
            "commissionAsset": "USDT",
            "time": 1707545780522,
            "isBuyer": False,
            "isMaker": False,
            "isBestMatch": True,
        },
        price=0.5388,
        quantity=10,
        fee=0.005388,
        fee_currency="USDT",
        wallet={"ADA": -10, "USDT": 10 * 0.5388 - 0.005388},
        value=5.388,
    ),
    "okx spot, a fee in the coin that was bought": Case(
        "okx",
        "ETH/USDT",
        {
            "side": "buy",
            "fillSz": "0.007533",
            "fillPx": "2654.98",
            "fee": "-0.000007533",
            "ordId": "317321390244397056",
            "instType": "SPOT",
            "instId": "ETH-USDT",
            "billId": "317321390265368576",
            "execType": "T",
            "tradeId": "107601752",
            "feeCcy": "ETH",
            "ts": "1621927314985",
        },
        price=2654.98,
        quantity=0.007533,
        fee=0.000007533,
        fee_currency="ETH",
        wallet={"ETH": 0.007533 - 0.000007533, "USDT": -0.007533 * 2654.98},
        value=19.99996434,
    ),
    "kraken spot": Case(
        "kraken",
        "BTC/USD",
        {
            "id": "TBP7O6-PNXI-CONU",
            "ordertxid": "OSJVN7-A2AE-63WZV",
            "pair": "XXBTZUSD",
            "time": 1710429248.3052235,
            "type": "sell",
            "ordertype": "market",
            "price": "72026.50000",
            "cost": "7.20265",
            "fee": "0.01873",
            "vol": "0.00010000",
            "margin": "0.00000",
            "misc": "",
            "trade_id": 68230622,
            "maker": False,
        },
        price=72026.5,
        quantity=0.0001,
        fee=0.01873,
        fee_currency="USD",
        wallet={"BTC": -0.0001, "USD": 0.0001 * 72026.5 - 0.01873},
        value=7.20265,
    ),
    "bybit spot, a fee in the coin that was bought": Case(
        "bybit",
        "QNT/USDT",
        {
            "symbol": "QNTUSDT",
            "orderType": "Limit",
            "orderId": "1549452573428424448",
            "execTime": "1699445151998",
            "feeRate": "0.00025",
            "execPrice": "102.8",
            "execValue": "1.028",
            "execType": "Trade",
            "side": "Buy",
            "isMaker": True,
            "execFee": "0.0000025",
            "feeCurrency": "QNT",
            "execId": "2210000000101610464",
            "execQty": "0.01",
        },
        price=102.8,
        quantity=0.01,
        fee=0.0000025,
        fee_currency="QNT",
        wallet={"QNT": 0.01 - 0.0000025, "USDT": -1.028},
        value=1.028,
    ),
    "binance linear": Case(
        "binanceusdm",
        "BTC/USDT:USDT",
        {
            "symbol": "BTCUSDT",
            "id": 4575108247,
            "orderId": 261942655610,
            "side": "SELL",
            "price": "47263.40",
            "qty": "0.010",
            "realizedPnl": "27.38400000",
            "marginAsset": "USDT",
            "quoteQty": "472.63",  # rounded
            "commission": "0.18905360",
            "commissionAsset": "USDT",
            "time": 1707530039409,
            "buyer": False,
            "maker": False,
            "positionSide": "LONG",
        },
        price=47263.4,
        quantity=0.01,
        fee=0.1890536,
        fee_currency="USDT",
        wallet={"USDT": -0.1890536},
        value=472.634,
        contract_size=1,
    ),
    "binance inverse": Case(
        "binancecoinm",
        "ETH/USD:ETH",
        {
            "symbol": "ETHUSD_PERP",
            "id": 701907838,
            "orderId": 71548909034,
            "pair": "ETHUSD",
            "side": "SELL",
            "price": "2498.15",
            "qty": "1",
            "realizedPnl": "0.00012517",
            "marginAsset": "ETH",
            "baseQty": "0.00400296",  # rounded
            "commission": "0.00000160",
            "commissionAsset": "ETH",
            "time": 1707530317519,
            "positionSide": "LONG",
            "buyer": False,
            "maker": False,
        },
        price=2498.15,
        quantity=1,
        fee=0.0000016,
        fee_currency="ETH",
        wallet={"ETH": -0.0000016},
        value=10 / 2498.15,
        contract_size=10,
    ),
    "bybit linear": Case(
        "bybit",
        "BTC/USDT:USDT",
        {
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
        },
        price=123498,
        quantity=0.001,
        fee=0.0679239,
        fee_currency="USDT",
        wallet={"USDT": -0.0679239},
        value=123.498,
        contract_size=1,
    ),
    "bybit inverse": Case(
        "bybit",
        "BTC/USD:BTC",
        {
            "category": "inverse",
            "symbol": "BTCUSD",
            "execFee": "0.00000204",
            "execId": "a1b2c3d4-0000-5865-9415-cf319b5dab3b",
            "execPrice": "27000.5",
            "execQty": "100",
            "execType": "Trade",
            "execValue": "0.00370363",  # rounded
            "feeRate": "0.00055",
            "orderId": "8c065341-7b52-4ca9-ac2c-37e31ac55c94",
            "orderType": "Market",
            "side": "Sell",
            "execTime": "1672282722429",
            "isMaker": False,
        },
        price=27000.5,
        quantity=100,
        fee=0.00000204,
        fee_currency="BTC",
        wallet={"BTC": -0.00000204},
        value=100 / 27000.5,
        contract_size=1,
    ),
    "okx linear, a rebate": Case(
        "okx",
        "BTC/USDT:USDT",
        {
            "side": "sell",
            "fillSz": "3",
            "fillPx": "64123.4",
            "fee": "0.0961851",
            "ordId": "123445",
            "instType": "SWAP",
            "instId": "BTC-USDT-SWAP",
            "execType": "M",
            "tradeId": "123",
            "feeCcy": "USDT",
            "ts": "1716800399334",
        },
        price=64123.4,
        quantity=3,
        fee=-0.0961851,
        fee_currency="USDT",
        wallet={"USDT": 0.0961851},
        value=3 * 0.01 * 64123.4,
        contract_size=0.01,
    ),
    "okx inverse": Case(
        "okx",
        "BTC/USD:BTC",
        {
            "side": "buy",
            "fillSz": "7",
            "fillPx": "64123.4",
            "fee": "-0.00000545823",
            "ordId": "123446",
            "instType": "SWAP",
            "instId": "BTC-USD-SWAP",
            "execType": "T",
            "tradeId": "124",
            "feeCcy": "BTC",
            "ts": "1716800399335",
        },
        price=64123.4,
        quantity=7,
        fee=0.00000545823,
        fee_currency="BTC",
        wallet={"BTC": -0.00000545823},
        value=7 * 100 / 64123.4,
        contract_size=100,
    ),
    "gate linear": Case(
        "gate",
        "DOGE/USDT:USDT",
        {
            "size": -50,
            "order_id": "130264979823",
            "id": 26884791,
            "role": "taker",
            "create_time": 1645465199.5472,
            "contract": "DOGE_USDT",
            "price": "0.136888",
            "fee": "0.034222",
        },
        price=0.136888,
        quantity=50,
        fee=0.034222,
        fee_currency="USDT",
        wallet={"USDT": -0.034222},
        value=50 * 10 * 0.136888,
        contract_size=10,
    ),
    "htx linear": Case(
        "htx",
        "BTC/USDT:USDT",
        {
            "id": "1513834754679549965",
            "contract_code": "BTC-USDT",
            "order_id": "1513834754585190400",
            "trade_id": "152022944",
            "side": "sell",
            "position_side": "long",
            "margin_mode": "cross",
            "type": "market",
            "role": "TAKER",
            "trade_price": "62688.2",
            "trade_volume": "2",
            "trade_turnover": "125.3764",
            "created_time": "1780967931197",
            "fee_currency": "USDT",
            "trade_fee": "-0.07522584",
            "contract_type": "swap",
        },
        price=62688.2,
        quantity=2,
        fee=0.07522584,
        fee_currency="USDT",
        wallet={"USDT": -0.07522584},
        value=125.3764,
        contract_size=0.001,
    ),
    "htx inverse, a cost in quote currency": Case(
        "htx",
        "BTC/USD:BTC",
        {
            "match_id": 28306009410,
            "order_id": 941137865226903554,
            "contract_code": "BTC-USD",
            "direction": "buy",
            "offset": "open",
            "trade_volume": 3,
            "trade_price": 43210.7,
            "trade_turnover": 300,
            "trade_fee": -0.00000347,
            "create_date": 1644426352999,
            "role": "Taker",
            "id": "28306009410-941137865226903554-1",
            "fee_asset": "BTC",
        },
        price=43210.7,
        quantity=3,
        fee=0.00000347,
        fee_currency="BTC",
        wallet={"BTC": -0.00000347},
        value=3 * 100 / 43210.7,
        contract_size=100,
    ),
    "kucoin linear": Case(
        "kucoinfutures",
        "DOGE/USDT:USDT",
        {
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
            "settleCurrency": "USDT",
            "orderType": "market",
            "tradeType": "trade",
            "createdAt": 1645134874858,
        },
        price=0.13969,
        quantity=1,
        fee=0.0083814,
        fee_currency="USDT",
        wallet={"USDT": -0.0083814},
        value=13.969,
        contract_size=100,
    ),
}


def wallet_change(trade: Any) -> dict[str, float]:
    """Return what a trade moves in the wallet."""
    base, _, rest = trade.symbol.partition("/")
    quote, _, settle = rest.partition(":")
    changes = {base: 0.0, quote: 0.0}
    if not settle:
        sign = 1 if trade.side == "buy" else -1
        changes[base] += sign * trade.quantity
        changes[quote] -= sign * trade.quantity * trade.price
    if trade.fee:
        changes[trade.fee_currency] = changes.get(trade.fee_currency, 0.0) - trade.fee
    return {currency: change for currency, change in changes.items() if change}


def value(trade: Any) -> float:
    base, _, rest = trade.symbol.partition("/")
    if rest.partition(":")[2] == base:
        return float(trade.quantity * trade.contract_size / trade.price)
    return float(trade.quantity * (trade.contract_size or 1) * trade.price)


@pytest.mark.usefixtures("empty_database")
@pytest.mark.parametrize("with_markets", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_fill_brings_fee_quantity_and_contract_size(name: str, with_markets: bool) -> None:
    case = CASES[name]
    unified = parse(case.exchange, case.answer, case.symbol, case.contract_size or 1)
    markets = {case.symbol: market_of(case.symbol, contract_size=case.contract_size or 1)}
    result = import_trades(
        [unified], exchange=case.exchange, markets=markets if with_markets else None
    )
    assert (result.created, result.rejected, result.warnings) == (1, [], [])
    [trade] = trades.get_all()
    assert (trade.price, trade.quantity) == (case.price, case.quantity)
    assert (trade.fee, trade.fee_currency) == (case.fee, case.fee_currency)
    assert trade.contract_size == case.contract_size
    assert value(trade) == pytest.approx(case.value, rel=1e-12)
    assert wallet_change(trade) == pytest.approx(case.wallet, rel=1e-12)
    # on spot the position is what the wallet holds, elsewhere it is in contracts
    contracts = trade.quantity if trade.side == "buy" else -trade.quantity
    held = contracts if ":" in trade.symbol else case.wallet[trade.symbol.partition("/")[0]]
    assert positions.get(trade.symbol).quantity == pytest.approx(held, rel=1e-12)


@pytest.mark.usefixtures("empty_database")
def test_a_fee_in_points_stays_as_it_is_reported() -> None:
    answer = {
        "id": "2876130500",
        "create_time": "1645464610",
        "create_time_ms": "1645464610777.399200",
        "currency_pair": "DOGE_USDT",
        "contract": "DOGE_USDT",
        "side": "sell",
        "role": "taker",
        "amount": "10.97",
        "price": "0.137384",
        "order_id": "125924049993",
        "fee": "0",
        "fee_currency": "USDT",
        "point_fee": "1.1",
        "gt_fee": "0",
    }
    result = import_trades([parse("gate", answer, "DOGE/USDT")], exchange="gate")
    assert (result.created, result.warnings) == (1, [])
    [trade] = trades.get_all()
    assert (trade.fee, trade.fee_currency) == (1.1, "GATEPOINT")
    assert (trade.quantity, trade.contract_size) == (10.97, None)
