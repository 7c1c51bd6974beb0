"""The positions computed from trades, on every backend."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, trade

from botmemory import ValidationError, session_scope
from botmemory.repositories import cash_flows, positions, trades
from botmemory.repositories.positions import Position

pytestmark = pytest.mark.usefixtures("empty_database")


def record(*fills: tuple[str, float, float], symbol: str = "BTC/USDT", **values: object) -> None:
    for hour, (side, quantity, price) in enumerate(fills):
        trade(
            side=side, quantity=quantity, price=price, timestamp=at(hour), symbol=symbol, **values
        )


def test_nothing_traded_is_flat() -> None:
    assert positions.get("BTC/USDT") == Position(symbol="BTC/USDT")
    assert positions.get_all() == []


def test_buying_more_averages_the_entry_price() -> None:
    record(("buy", 1, 100), ("buy", 3, 200))
    assert positions.get("BTC/USDT") == Position(
        symbol="BTC/USDT", quantity=4.0, average_entry_price=175.0, opened_at=at(0)
    )


def test_a_partial_close_realizes_its_part_and_keeps_the_entry_price() -> None:
    record(("buy", 4, 100), ("sell", 1, 130))
    position = positions.get("BTC/USDT")
    assert (position.quantity, position.average_entry_price) == (3.0, 100.0)
    assert position.realized_pnl == 30.0


def test_closing_makes_it_flat_and_keeps_what_was_realized() -> None:
    record(("buy", 2, 100), ("sell", 2, 90))
    position = positions.get("BTC/USDT")
    assert (position.quantity, position.average_entry_price) == (0.0, None)
    assert (position.realized_pnl, position.opened_at) == (-20.0, None)
    assert positions.get_all() == []


def test_a_short_position_earns_when_the_price_falls() -> None:
    record(("sell", 2, 100), ("buy", 1, 80))
    position = positions.get("BTC/USDT")
    assert (position.quantity, position.average_entry_price) == (-1.0, 100.0)
    assert position.realized_pnl == 20.0


@pytest.mark.parametrize(("first", "second", "sign"), [("buy", "sell", 1), ("sell", "buy", -1)])
def test_a_flip_closes_one_side_and_opens_the_other(first: str, second: str, sign: int) -> None:
    record((first, 10, 100), (second, 15, 110))
    assert positions.get("BTC/USDT") == Position(
        symbol="BTC/USDT",
        quantity=-5.0 * sign,
        average_entry_price=110.0,
        realized_pnl=100.0 * sign,
        opened_at=at(1),
    )


def test_tenths_add_up_to_flat() -> None:
    record(("buy", 0.1, 100), ("buy", 0.2, 100), ("sell", 0.3, 100))
    assert positions.get("BTC/USDT").quantity == 0.0
    assert positions.get_all() == []


def test_the_order_is_time_not_recording() -> None:
    trade(side="sell", quantity=1, price=120, timestamp=at(2))
    trade(side="buy", quantity=1, price=100, timestamp=at(1))
    assert positions.get("BTC/USDT").realized_pnl == 20.0


def test_fees_are_kept_by_currency() -> None:
    record(("buy", 1, 100), ("sell", 1, 110), fee=0.1, fee_currency="USDT")
    trade(fee=-0.5, fee_currency="BNB")
    trade(fee=2)
    assert positions.get("BTC/USDT").fees == {"USDT": 0.2, "BNB": -0.5, None: 2.0}


def test_strategies_have_separate_positions() -> None:
    record(("buy", 1, 100), strategy="a")
    record(("sell", 1, 110), strategy="b")
    assert positions.get("BTC/USDT").quantity == 0.0
    assert positions.get("BTC/USDT", "a").quantity == 1.0
    assert positions.get("BTC/USDT", strategy="b").quantity == -1.0
    assert [p.quantity for p in positions.get_all(strategy="b")] == [-1.0]


def test_all_open_positions_are_sorted_by_symbol() -> None:
    record(("buy", 1, 1), symbol="ETH/USDT")
    record(("sell", 1, 1), symbol="ADA/USDT")
    record(("buy", 1, 1), ("sell", 1, 1), symbol="BTC/USDT")
    assert [(p.symbol, p.quantity) for p in positions.get_all()] == [
        ("ADA/USDT", -1.0),
        ("ETH/USDT", 1.0),
    ]


def test_a_position_cannot_be_edited() -> None:
    position = positions.get("BTC/USDT")
    with pytest.raises(FrozenInstanceError):
        position.quantity = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("symbol", ["", None, 5, "x" * 65])
def test_an_invalid_symbol_is_refused(symbol: object) -> None:
    with pytest.raises(ValidationError, match="symbol: "):
        positions.get(symbol)  # type: ignore[arg-type]


def test_a_contract_is_worth_its_size_in_the_base_currency() -> None:
    swap = {"symbol": "BTC/USDT:USDT", "contract_size": 0.0001, "exchange": "gate"}
    record(("buy", 1000, 9_000), ("sell", 400, 9_500), **swap)
    position = positions.get("BTC/USDT:USDT")
    assert (position.quantity, position.average_entry_price) == (600.0, 9_000.0)
    assert (position.realized_pnl, position.contract_size) == (20.0, 0.0001)
    [valued] = positions.value({"BTC/USDT:USDT": 10_000})
    assert (valued.value, valued.unrealized) == (600.0, 60.0)


def test_an_inverse_contract_is_an_amount_of_the_quote_currency() -> None:
    coin_margined = {"symbol": "BTC/USD:BTC", "contract_size": 100}
    record(("buy", 50, 40_000), ("buy", 50, 60_000), **coin_margined)
    assert positions.get("BTC/USD:BTC").average_entry_price == 48_000.0
    [valued] = positions.value({"BTC/USD:BTC": 50_000})
    assert (valued.value, valued.unrealized) == (0.2, 1 / 120)
    trade(side="sell", quantity=100, price=50_000, timestamp=at(2), **coin_margined)
    assert positions.get("BTC/USD:BTC").realized_pnl == 1 / 120


def test_an_inverse_short_position_earns_when_the_price_falls() -> None:
    record(("sell", 100, 50_000), ("buy", 100, 40_000), symbol="BTC/USD:BTC", contract_size=100)
    assert positions.get("BTC/USD:BTC").realized_pnl == 0.05


def test_an_option_settled_in_its_base_currency_is_priced_in_it() -> None:
    record(("buy", 10, 0.02), ("sell", 10, 0.05), symbol="BTC/USD:BTC-250328-60000-C")
    assert positions.get("BTC/USD:BTC-250328-60000-C").realized_pnl == 0.3


def test_what_is_not_known_is_none_with_a_reason() -> None:
    record(("buy", 1, 100), ("sell", 1, 110), symbol="ETH/USD:BTC")
    quanto = positions.get("ETH/USD:BTC")
    assert (quanto.quantity, quanto.realized_pnl, quanto.net_realized_pnl) == (0.0, None, None)
    assert quanto.unknown is not None
    assert "settled in BTC, neither" in quanto.unknown
    trade(symbol="BTC/USDT:USDT", quantity=1, contract_size=0.01)
    trade(symbol="BTC/USDT:USDT", quantity=1)
    mixed = positions.get("BTC/USDT:USDT")
    assert (mixed.quantity, mixed.realized_pnl) == (2.0, None)
    assert mixed.unknown is not None
    assert "contract sizes 0.01 and 1" in mixed.unknown
    assert [p.unrealized for p in positions.value({"BTC/USDT:USDT": 5})] == [None]


def test_a_contract_size_may_change_while_the_position_is_flat() -> None:
    symbol = "BTC/USDT:USDT"
    record(("buy", 1, 100), ("sell", 1, 110), symbol=symbol)
    for hour, side, price in ((5, "buy", 100), (6, "sell", 110)):
        trade(symbol=symbol, side=side, price=price, timestamp=at(hour), contract_size=0.5)
    assert positions.get(symbol).realized_pnl == 15.0


def test_fees_in_the_base_currency_come_out_of_the_wallet() -> None:
    symbol = "ATOM/USDT"
    trade(symbol=symbol, side="buy", price=20, quantity=20, fee=0.02, fee_currency="ATOM")
    held = positions.get(symbol)
    assert (held.quantity, held.average_entry_price) == (19.98, 20.0)
    trade(
        symbol=symbol, side="sell", price=21, quantity=held.quantity, timestamp=at(1),
        fee=0.42, fee_currency="USDT",
    )  # fmt: skip
    flat = positions.get(symbol)
    assert (flat.quantity, flat.opened_at, positions.get_all()) == (0.0, None, [])
    wallet = -20 * 20 + 19.98 * 21 - 0.42
    assert flat.net_realized_pnl == pytest.approx(wallet, rel=1e-12)
    assert flat.fees == {"ATOM": 0.02, "USDT": 0.42}


def test_a_fee_in_the_base_currency_is_added_to_what_a_sale_removes() -> None:
    trade(symbol="ATOM/USDT", side="buy", price=20, quantity=20)
    trade(
        symbol="ATOM/USDT", side="sell", price=21, quantity=10, timestamp=at(1),
        fee=0.01, fee_currency="ATOM",
    )  # fmt: skip
    assert positions.get("ATOM/USDT").quantity == 9.99


def test_a_derivative_keeps_its_contracts_whatever_currency_the_fee_is_in() -> None:
    trade(symbol="BTC/USDT:USDT", quantity=3, fee=0.1, fee_currency="BTC")
    trade(symbol="BTC/USD:BTC", quantity=3, fee=0.1, fee_currency="BTC")
    assert [p.quantity for p in positions.get_all()] == [3.0, 3.0]


def test_the_net_pnl_needs_a_rate_for_a_third_currency() -> None:
    record(("buy", 1, 100), ("sell", 1, 110), fee=0.001, fee_currency="BNB")
    without = positions.get("BTC/USDT")
    assert (without.realized_pnl, without.net_realized_pnl) == (10.0, None)
    assert without.unknown is not None
    assert "pass rates={'BNB': its price in USDT}" in without.unknown
    assert positions.get("BTC/USDT", rates={"BNB": 600}).net_realized_pnl == 8.8
    several = {"BNB/USDT": 500, "BNB": 0.01}
    assert positions.get("BTC/USDT", rates=several).net_realized_pnl == 9.0


def test_a_symbol_that_names_no_currency_has_that_of_the_caller() -> None:
    record(("buy", 1, 100), ("sell", 1, 110), symbol="AAPL", fee=1, fee_currency="USD")
    assert positions.get("AAPL").net_realized_pnl is None
    assert positions.get("AAPL", quote="USD").net_realized_pnl == 8.0
    with pytest.raises(ValidationError, match="quote: 'EUR' is not the currency of BTC/USDT"):
        positions.get("BTC/USDT", quote="EUR")


@pytest.mark.parametrize("quantities", [[100 / 3] * 3, [1000 / 29871.13, 1000 / 29650.07]])
def test_selling_what_is_reported_makes_the_position_flat(quantities: list[float]) -> None:
    record(*(("buy", quantity, 30_000) for quantity in quantities))
    held = positions.get("BTC/USDT").quantity
    trade(side="sell", quantity=held, price=30_010, timestamp=at(9))
    flat = positions.get("BTC/USDT")
    assert (flat.quantity, flat.average_entry_price, flat.opened_at) == (0.0, None, None)


def test_the_parts_of_what_is_reported_make_the_position_flat() -> None:
    record(("buy", 0.7, 100), ("buy", 1 / 3, 100))
    third = positions.get("BTC/USDT").quantity / 3
    record(*[("sell", third, 110.0)] * 2, symbol="BTC/USDT", strategy=None)
    trade(side="sell", quantity=third, price=110, timestamp=at(9))
    assert positions.get("BTC/USDT").quantity == 0.0


def test_fills_of_one_timestamp_count_in_the_order_of_recording() -> None:
    for side, price in (("buy", 100), ("sell", 110), ("buy", 120)):
        trade(side=side, price=price, quantity=1, timestamp=at(0))
    position = positions.get("BTC/USDT")
    assert (position.realized_pnl, position.average_entry_price) == (10.0, 120.0)


def test_long_on_one_exchange_and_short_on_another_is_not_flat() -> None:
    record(("buy", 1, 40_000), exchange="binance")
    record(("sell", 1, 40_500), exchange="kraken")
    record(("buy", 2, 40_000))
    opened = [(p.exchange, p.quantity) for p in positions.get_all()]
    assert opened == [(None, 2.0), ("binance", 1.0), ("kraken", -1.0)]
    assert positions.get("BTC/USDT", exchange="kraken").average_entry_price == 40_500.0
    assert positions.get("BTC/USDT", exchange="").quantity == 2.0
    together = positions.get("BTC/USDT")
    assert (together.quantity, together.realized_pnl, together.exchange) == (2.0, 0.0, None)
    assert (together.average_entry_price, together.opened_at) == (None, at(0))


def test_exchanges_in_one_direction_have_one_average_entry_price() -> None:
    record(("buy", 1, 100), exchange="okx")
    record(("buy", 3, 200), exchange="gate")
    assert positions.get("BTC/USDT").average_entry_price == 175.0


def test_contracts_of_different_sizes_are_not_added_up() -> None:
    trade(symbol="BTC/USDT:USDT", quantity=1, contract_size=0.01, exchange="okx")
    trade(symbol="BTC/USDT:USDT", quantity=1, contract_size=1, exchange="bybit")
    with pytest.raises(ValidationError, match="exchange: .* different sizes .*0.01, 1.*pass one"):
        positions.get("BTC/USDT:USDT")
    assert len(positions.get_all()) == 2


def test_positions_by_strategy() -> None:
    record(("buy", 1, 100), strategy="a")
    record(("sell", 3, 110), strategy="b")
    record(("buy", 5, 110))
    assert [p.quantity for p in positions.get_all()] == [3.0]
    apart = positions.get_all(by_strategy=True)
    assert [(p.strategy, p.quantity) for p in apart] == [(None, 5.0), ("a", 1.0), ("b", -3.0)]
    assert positions.get("BTC/USDT", "").quantity == 5.0


def test_the_funding_of_a_position_is_in_its_net_pnl() -> None:
    symbol = "BTC/USDT:USDT"
    record(("buy", 1, 100), ("sell", 1, 110), symbol=symbol, exchange="okx", fee=1)
    funding = {"kind": "funding", "symbol": symbol, "exchange": "okx", "currency": "USDT"}
    cash_flows.create(**funding, amount=-0.3)
    assert positions.get(symbol).net_realized_pnl == 7.7
    cash_flows.create(**funding, amount=0.1)
    cash_flows.create(**funding | {"kind": "rebate"}, amount=50)
    cash_flows.create(**funding | {"symbol": "ETH/USDT:USDT"}, amount=50)
    position = positions.get(symbol, exchange="okx")
    assert (position.funding, position.net_realized_pnl) == (-0.2, 7.8)
    assert positions.get(symbol, exchange="gate").funding == 0.0
    cash_flows.create(**funding | {"currency": "BTC"}, amount=0.1)
    unknown = positions.get(symbol)
    assert (unknown.funding, unknown.net_realized_pnl) == (None, None)
    assert positions.get(symbol, rates={"BTC": 100}).funding == 9.8


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"prices": [1]}, r"prices: .* is not a mapping"),
        ({"prices": {"BTC/USDT": 0}}, r"prices\['BTC/USDT'\]: 0 is not greater than 0"),
        ({"prices": {"BTC/USDT": "1"}}, r"prices\['BTC/USDT'\]: '1' is not a number"),
        ({"prices": {5: 1}}, "prices: 5 is not text"),
        ({"prices": {}, "rates": {"BNB": -1}}, r"rates\['BNB'\]: -1 is not greater"),
    ],
)
def test_an_invalid_price_or_rate_is_refused(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        positions.value(**argument)


def test_an_answer_cannot_change_a_later_one() -> None:
    record(("buy", 1, 100), fee=1, fee_currency="USDT")
    positions.get("BTC/USDT").fees["USDT"] = 99.0
    assert positions.get("BTC/USDT").fees == {"USDT": 1.0}


def test_a_number_too_large_for_a_float_is_an_error_by_name() -> None:
    record(("buy", 1e300, 1e300), ("sell", 1e300, 1e301))
    with pytest.raises(ValidationError, match="BTC/USDT: .* larger than a float can hold"):
        positions.get("BTC/USDT")


hundredths = st.integers(1, 10_000).map(lambda n: n / 100)


@given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), hundredths, hundredths), max_size=12))
def test_cash_and_holdings_always_agree_with_the_pnl(fills) -> None:
    """Money received minus money paid is the PnL less the cost of what is held."""

    class RollbackError(Exception):
        pass

    with pytest.raises(RollbackError), session_scope():
        record(*fills)
        position = positions.get("BTC/USDT")
        signed = [(q if side == "buy" else -q, price) for side, q, price in fills]
        assert position.quantity == pytest.approx(sum(q for q, _ in signed), abs=1e-9)
        cost = position.quantity * (position.average_entry_price or 0.0)
        cash = -sum(q * price for q, price in signed)
        assert cash + cost == pytest.approx(position.realized_pnl, abs=1e-6)
        raise RollbackError
    assert trades.get_trade_count() == 0
