"""The contract size of a fill comes from markets, from its cost, or from other fills."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from ccxt_answers import market_of, parse
from hypothesis import given
from hypothesis import strategies as st

from botmemory import ValidationError
from botmemory.interop.ccxt import import_trades
from botmemory.repositories import trades

with_database = pytest.mark.usefixtures("empty_database")
LINEAR, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"


def fill(**values: Any) -> dict[str, Any]:
    return {
        "id": "1",
        "timestamp": 1_700_000_000_123,
        "symbol": LINEAR,
        "side": "buy",
        "price": 64123.4,
        "amount": 3,
    } | values


def sizes() -> dict[str | None, float | None]:
    return {trade.exchange_trade_id: trade.contract_size for trade in trades.get_all()}


@with_database
class TestMarkets:
    def test_the_size_comes_from_markets(self) -> None:
        markets = {LINEAR: market_of(LINEAR, contract_size=0.01)}
        result = import_trades([fill()], exchange="okx", markets=markets)
        assert (sizes(), result.warnings) == ({"1": 0.01}, [])

    @pytest.mark.parametrize("listed", ["0.01", Decimal("0.01")])
    def test_it_may_be_text(self, listed: Any) -> None:
        markets = {LINEAR: market_of(LINEAR) | {"contractSize": listed}}
        import_trades([fill()], exchange="okx", markets=markets)
        assert sizes() == {"1": 0.01}

    @pytest.mark.parametrize("market", [None, {}, {"contractSize": None}, {"contractSize": 0}, 5])
    def test_a_market_without_a_size(self, market: Any) -> None:
        result = import_trades([fill()], exchange="okx", markets={LINEAR: market})
        assert sizes() == {"1": None}
        [warning] = result.warnings
        assert warning.reason == (
            "contract_size: that of BTC/USDT:USDT is not known, and counts as 1; markets has none "
            "for it: pass exchange.markets after load_markets()"
        )

    def test_spot_has_none(self) -> None:
        markets = {"BTC/USDT": market_of("BTC/USDT") | {"contractSize": 1}}
        rows = [fill(symbol="BTC/USDT", cost=3 * 64123.4)]
        result = import_trades(rows, exchange="okx", markets=markets)
        assert (sizes(), result.warnings) == ({"1": None}, [])

    def test_a_multiplier_of_okx_is_part_of_the_size(self) -> None:
        option = "BTC/USD:BTC-220325-194000-P"
        info = {"ctVal": "1", "ctMult": "0.1"}
        markets = {option: market_of(option) | {"info": info}}
        import_trades([fill(symbol=option, price=0.0415)], exchange="okx", markets=markets)
        assert sizes() == {"1": 0.1}

    def test_amounts_in_units_of_the_quote_currency(self) -> None:
        # Deribit's amounts of inverse contracts are dollars; its contract size is another matter
        answers = [
            {
                "trade_id": f"{n}",
                "timestamp": 1639684927932 + n,
                "price": 47946.5,
                "instrument_name": "BTC-PERPETUAL",
                "direction": "buy",
                "amount": 580.0,
                "fee": 0.00000604,
                "fee_currency": "BTC",
            }
            for n in range(3)
        ]
        rows = [parse("deribit", answer, INVERSE, 10) for answer in answers]
        markets = {INVERSE: market_of(INVERSE, contract_size=10)}
        result = import_trades(rows, exchange="deribit", markets=markets)
        assert sizes() == {"0": 1.0, "1": 1.0, "2": 1.0}
        [warning] = result.warnings
        assert warning.index == 0
        assert warning.reason.startswith(
            "contract_size: 1.0 is recorded for BTC/USD:BTC; markets has 10.0, from which the cost "
        )

    def test_quantities_that_are_no_contracts_have_a_warning(self) -> None:
        # Bitget's amounts of inverse contracts are coins
        row = fill(symbol=INVERSE, price=27198.5, amount=0.028, cost=761.558)
        markets = {INVERSE: market_of(INVERSE, contract_size=1)}
        result = import_trades([row], exchange="bitget", markets=markets)
        assert sizes() == {"1": 1.0}
        [warning] = result.warnings
        assert "from which the cost 761.558 does not follow" in warning.reason

    def test_a_cost_at_a_rounded_average_price_agrees(self) -> None:
        markets = {LINEAR: market_of(LINEAR, contract_size=0.01)}
        row = fill(cost=1923.75)  # 1923.702 at the price
        result = import_trades([row], exchange="okx", markets=markets)
        assert (sizes(), result.warnings) == ({"1": 0.01}, [])

    @pytest.mark.parametrize("markets", [[], "markets", 5])
    def test_another_argument_is_rejected(self, markets: Any) -> None:
        with pytest.raises(ValidationError, match="markets: .* is not a dict of markets"):
            import_trades([fill()], exchange="okx", markets=markets)
        assert trades.get_trade_count() == 0


@with_database
class TestCosts:
    @pytest.mark.parametrize(
        ("symbol", "price", "amount", "cost", "expected"),
        [
            (LINEAR, 64123.4, 3, 1923.702, 0.01),
            (LINEAR, 64123.4, 3, "1923.7020", 0.01),
            (LINEAR, 64123.4, 3, Decimal("1923.702"), 0.01),
            (LINEAR, 9000.0, 1000, 900.0, 0.0001),
            (LINEAR, 47263.4, 0.01, 472.63, 1.0),  # rounded
            (LINEAR, 1.75, 2, "3.50000000", 1.0),
            (LINEAR, 0.1, 3, 0.1 * 3 * 1000, 1000.0),  # a rounded float
            ("BTC/USD:USDC", 64123.4, 3, 1923.702, 0.01),
            ("BTC/USDT:USDT-240927", 64123.4, 3, 1923.702, 0.01),
            ("BTC/USDT:USDT-240927-70000-C", 333.5, 20, 66.7, 0.01),
            (INVERSE, 40000.0, 100, 0.25, 100.0),  # in base currency
            (INVERSE, 50000.0, 100, 0.2, 100.0),
            (INVERSE, 2498.15, 1, 0.00400296, 10.0),  # rounded
            (INVERSE, 43210.7, 3, 300, 100.0),  # in quote currency
            ("XRP/USD:XRP-240927", 0.5123, 10, 195.19812609799, 10.0),
            ("XRP/USD:XRP-240927", 0.5123, 10, 100, 10.0),
            # not certain
            (LINEAR, 1.75, 2, 3.5, None),  # the last digit is a third of a percent
            (LINEAR, 64123.4, 3, 1923.9, None),  # no short number
            (LINEAR, 64123.4, 3, 0, None),
            (LINEAR, 64123.4, 3, "much", None),
            (LINEAR, 64123.4, 3, None, None),
            (INVERSE, 10.0, 1, 1.0, None),  # 1 in quote currency, or 10 in base currency
            (INVERSE, 27198.5, 0.028, 761.558, None),
            # ccxt divides by a price in base currency
            ("BTC/USD:BTC-240927-70000-C", 0.05, 1, 20, None),
            ("ETH/USD:BTC", 2500, 1, 0.0025, None),  # ETH priced in USD, settled in BTC
        ],
    )
    def test_the_size_follows_from_the_cost_where_that_is_certain(
        self, symbol: str, price: float, amount: float, cost: Any, expected: float | None
    ) -> None:
        row = fill(symbol=symbol, price=price, amount=amount, cost=cost)
        result = import_trades([row], exchange="okx")
        assert sizes() == {"1": expected}
        assert bool(result.warnings) == (expected is None)

    def test_another_fill_of_the_symbol_gives_it(self) -> None:
        rows = [
            fill(id="1", price=1.7501, amount=2, cost=3.5),
            fill(id="2", price=1.7503, amount=2000, cost=3500.6),
            fill(id="3", symbol="ETH/USDT:USDT"),
        ]
        result = import_trades(rows, exchange="okx")
        assert sizes() == {"1": 1.0, "2": 1.0, "3": None}
        assert [warning.index for warning in result.warnings] == [2]

    def test_also_one_that_is_recorded_later(self) -> None:
        rows = [fill(id=str(n), timestamp=1_700_000_000_000 + n) for n in range(1200)]
        rows.append(fill(id="last", timestamp=1_700_000_009_000, cost=1923.702))
        result = import_trades(iter(rows), exchange="okx")
        assert (result.created, result.warnings) == (1201, [])
        assert set(sizes().values()) == {0.01}


@with_database
class TestRecordedTrades:
    def test_a_recorded_fill_of_the_exchange_and_symbol_gives_it(self) -> None:
        import_trades([fill(cost=1923.702)], exchange="okx")
        result = import_trades([fill(id="2")], exchange="okx")
        assert (sizes(), result.warnings) == ({"1": 0.01, "2": 0.01}, [])
        import_trades([fill(id="3")], exchange="gate")
        import_trades([fill(id="4", symbol="ETH/USDT:USDT")], exchange="okx")
        assert sizes() == {"1": 0.01, "2": 0.01, "3": None, "4": None}

    def test_a_second_import_with_markets_completes_the_first(self) -> None:
        rows = [fill(id="1"), fill(id="2"), fill(id="3", symbol="ETH/USDT")]
        assert len(import_trades(rows, exchange="okx").warnings) == 1
        before = trades.get_all()
        markets = {LINEAR: market_of(LINEAR, contract_size=0.01)}
        result = import_trades(rows, exchange="okx", markets=markets)
        assert (result.created, result.skipped, result.warnings) == (0, 3, [])
        assert sizes() == {"1": 0.01, "2": 0.01, "3": None}
        assert [trade.id for trade in trades.get_all()] == [trade.id for trade in before]

    def test_one_that_markets_contradicts_has_its_warning_then_too(self) -> None:
        import_trades([fill()], exchange="deribit")
        markets = {LINEAR: market_of(LINEAR, contract_size=0.01)}
        rows = [fill(cost=64123.4 * 3), fill(id="2")]
        [warning] = import_trades(rows, exchange="deribit", markets=markets).warnings
        assert warning.reason.startswith("contract_size: 1.0 is recorded for BTC/USDT:USDT; ")
        assert sizes() == {"1": 1.0, "2": 1.0}

    def test_a_size_that_is_recorded_is_kept(self) -> None:
        import_trades([fill(cost=1923.702)], exchange="okx")
        markets = {LINEAR: market_of(LINEAR, contract_size=0.1)}
        import_trades([fill()], exchange="okx", markets=markets)
        assert sizes() == {"1": 0.01}

    def test_trades_that_are_not_imported_are_left_alone(self) -> None:
        own = trades.create(symbol=LINEAR, side="buy", price=1, quantity=1, exchange="okx")
        import_trades([fill(cost=1923.702)], exchange="okx")
        found = trades.get_by_id(own.id)
        assert found is not None
        assert found.contract_size is None


@with_database
def test_an_unknown_size_is_one_warning_for_a_symbol() -> None:
    rows = [fill(id=str(n), timestamp=1_700_000_000_009 - n) for n in range(5)]
    rows += [fill(id=str(n), symbol=INVERSE) for n in range(5, 8)]
    result = import_trades(rows, exchange="okx")
    assert (result.created, set(sizes().values())) == (8, {None})
    assert sorted(warning.reason for warning in result.warnings) == [
        f"contract_size: that of {symbol} is not known, and counts as 1; import the fills again "
        "with markets=exchange.markets"
        for symbol in (INVERSE, LINEAR)
    ]
    again = import_trades(rows, exchange="okx")
    assert (again.skipped, len(again.warnings)) == (8, 2)


@with_database
def test_a_symbol_that_cannot_be_recorded_is_rejected() -> None:
    [rejected] = import_trades([fill(symbol="B/U:" + "U" * 65)], exchange="okx").rejected
    assert "has 69 characters" in rejected.reason


# what exchanges use
linear_sizes = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.sampled_from([1, 2, 5, 10, 15, 25]),
    st.integers(-5, 5),
)
prices = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.integers(1, 10**7),
    st.integers(-6, 0),
)
rounding_modes = st.sampled_from([ROUND_DOWN, ROUND_HALF_UP])
quote_roundings = st.none() | st.tuples(st.integers(2, 8), rounding_modes)
coin_roundings = st.none() | st.tuples(st.integers(6, 10), rounding_modes)


@with_database
@given(linear_sizes, prices, st.integers(1, 10**5), quote_roundings)
def test_a_size_of_a_linear_contract_is_right_or_not_known(
    size: Decimal, price: Decimal, amount: int, rounding: Any
) -> None:
    check(LINEAR, size, price, amount, price * amount * size, rounding)


@with_database
@given(st.sampled_from([1, 10, 100]), prices, st.integers(1, 10**5), coin_roundings, st.booleans())
def test_a_size_of_an_inverse_contract_is_right_or_not_known(
    size: int, price: Decimal, amount: int, rounding: Any, is_in_quote_currency: bool
) -> None:
    cost = Decimal(amount * size) / (1 if is_in_quote_currency else price)
    check(INVERSE, Decimal(size), price, amount, cost, rounding)


def check(
    symbol: str, size: Decimal, price: Decimal, amount: int, cost: Decimal, rounding: Any
) -> None:
    """Import a fill, and see that no other size is recorded."""
    if rounding is not None:
        digits, mode = rounding
        cost = cost.quantize(Decimal(1).scaleb(-digits), mode)
    row = fill(symbol=symbol, price=float(price), amount=amount, cost=float(cost))
    for trade in trades.get_all():
        trades.delete(trade)
    import_trades([row], exchange="okx")
    [trade] = trades.get_all()
    assert trade.contract_size in (None, float(size))
