"""The positions computed from trades, on every backend."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, trade

from botmemory import ValidationError, session_scope
from botmemory.repositories import positions, trades
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
