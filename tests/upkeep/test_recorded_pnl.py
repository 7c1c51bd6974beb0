"""Recorded PnL that does not follow from the fills is found."""

from __future__ import annotations

from typing import Any

import pytest
from samples import at, trade

from botmemory.repositories import cash_flows, positions
from botmemory.upkeep.check import Finding, check

pytestmark = pytest.mark.usefixtures("empty_database")


def record(*fills: tuple[str, float, float, float | None], **values: Any) -> None:
    """Record fills of side, price, quantity and PnL, an hour apart."""
    for hour, (side, price, quantity, pnl) in enumerate(fills):
        shared = {"symbol": "ETH/USDT", "timestamp": at(hour)} | values
        trade(side=side, price=price, quantity=quantity, pnl=pnl, **shared)


def findings() -> list[Finding]:
    return [finding for finding in check() if "recorded PnL" in finding.what]


FEES = {"fee": 0.5, "fee_currency": "USDT"}


@pytest.mark.parametrize("pnl", [20, 19, 18.9])
def test_gross_net_and_with_funding_are_all_right(pnl: float) -> None:
    record(("buy", 100, 2, None), ("sell", 110, 2, pnl), **FEES)
    cash_flows.create(
        kind="funding", currency="USDT", amount=-0.1, symbol="ETH/USDT", timestamp=at(0.5)
    )
    assert findings() == []


@pytest.mark.parametrize("pnl", [20.01, 18.89, -20, 40])
def test_anything_else_is_named(pnl: float) -> None:
    record(("buy", 100, 2, None), ("sell", 110, 2, pnl), exchange="okx", **FEES)
    cash_flows.create(
        kind="funding", currency="USDT", amount=-0.1, symbol="ETH/USDT", exchange="okx"
    )
    [finding] = findings()
    assert finding.severity == "warning"
    assert f"ETH/USDT on okx (recorded {pnl:.2f}, gross 20.00 by fills)" in finding.what
    assert "source='fills'" in finding.advice


def test_pnl_may_be_rounded_to_the_digits_that_it_has() -> None:
    third = 1 / 3
    record(*[("buy", 100, third, None), ("sell", 101, third, 0.33)] * 50)
    assert findings() == []
    record(*[("buy", 100, third, None), ("sell", 101, third, 0.333333333333)] * 50, symbol="A/USDT")
    assert findings() == []
    record(*[("buy", 100, third, None), ("sell", 101, third, 0.32)] * 50, symbol="B/USDT")
    assert "B/USDT (recorded 16.00" in findings()[0].what


def test_strategies_may_share_a_position_or_have_their_own() -> None:
    record(("buy", 100, 1, None), ("sell", 130, 1, 30), strategy="a")
    record(("buy", 110, 1, None), ("sell", 120, 1, 10), strategy="b")
    assert findings() == []
    shared = [("buy", 100, 1, None), ("buy", 110, 1, None), ("sell", 120, 1, 15)]
    for hour, (side, price, quantity, pnl) in enumerate(shared):
        trade(
            symbol="SOL/USDT", side=side, price=price, quantity=quantity, pnl=pnl,
            timestamp=at(hour), strategy="ab"[hour % 2],
        )  # fmt: skip
    assert positions.get("SOL/USDT").realized_pnl == 15.0
    assert findings() == []


def test_a_part_of_an_open_position_may_be_recorded_or_not() -> None:
    record(("buy", 100, 2, None), ("sell", 110, 1, 10))
    later = ("buy", 100, 2, None), ("sell", 110, 1, None)
    record(("buy", 100, 1, None), ("sell", 110, 1, 10), *later, symbol="SOL/USDT")
    assert findings() == []


def test_fees_in_a_third_currency_bound_it_from_above() -> None:
    record(("buy", 100, 2, None), ("sell", 110, 2, 5), fee=0.01, fee_currency="BNB")
    assert findings() == []
    record(("buy", 100, 2, None), ("sell", 110, 2, 5000), symbol="X/USDT", fee=0.01,
           fee_currency="BNB")  # fmt: skip
    assert "X/USDT (recorded 5,000.00, gross 20.00 by fills)" in findings()[0].what


def test_absurd_pnl_is_a_finding_and_no_crash() -> None:
    record(("sell", 1, 1, 1e308), ("sell", 1, 1, 1e308))
    assert "recorded 200,000,000," in findings()[0].what


def test_what_is_not_known_is_not_compared() -> None:
    record(("buy", 100, 2, None), ("sell", 110, 2, 5), fee=-0.01, fee_currency="BNB")
    record(("buy", 100, 2, None), ("sell", 110, 2, 5), symbol="ETH/USD:BTC")
    record(("buy", 100, 2, None), ("sell", 110, 2, None), symbol="XRP/USDT")
    assert findings() == []


def test_many_symbols_are_counted() -> None:
    for number in range(8):
        record(("buy", 100, 2, None), ("sell", 110, 2, 5), symbol=f"C{number}/USDT")
    [finding] = findings()
    assert finding.what.endswith("C4/USDT (recorded 5.00, gross 20.00 by fills), ...")
