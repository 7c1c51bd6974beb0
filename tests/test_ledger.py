"""The ledger agrees with exact fractions, however its fills are divided between calls."""

from __future__ import annotations

import decimal
import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from typing import Any

import pytest
from fill_strategies import contract_sizes, fills, numbers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from paths import ROOT
from position_reference import MARKETS, Account, Fill, Market, money, to_float

from botmemory.ledger import Ledger, fees_in_currency
from botmemory.symbols import instrument_of

SPOT, INVERSE = MARKETS[0], MARKETS[5]
OPTION = MARKETS[7]
RATES = {"BNB": 600.0, "BTC": 60_000.0, "ETH/BTC": 0.03, "USD": 1 / 3}


def columns(fill: Fill) -> tuple[Any, ...]:
    """Return what the ledger takes."""
    change = fill.quantity if fill.side == "buy" else -fill.quantity
    return (
        fill.timestamp,
        change,
        fill.price,
        fill.fee,
        fill.fee_currency,
        fill.contract_size,
    )


def ledger(market: Market, *groups: list[Fill]) -> Ledger:
    made = Ledger(instrument_of(market.symbol))
    for group in groups:
        made.add([columns(fill) for fill in group])
    return made


def paid_fees(
    made: Ledger, currency: str | None, rates: dict[str, float]
) -> tuple[Fraction, list[str]]:
    paid, without_rate = fees_in_currency(
        made.instrument, currency, made.fees, made.fee_value, rates
    )
    return Fraction(paid), without_rate


def figures(made: Ledger, price: float) -> dict[str, Any]:
    """Return what the ledger says, as floats."""
    currency = made.instrument.currency
    gross, entry = made.gross_pnl, None
    if made.is_open:
        entry = abs(made.quantity / made.cost)
        entry = entry if made.instrument.is_inverse else 1 / entry
    said: dict[str, Any] = {
        "quantity": to_float(made.quantity),
        "entry": to_float(entry),
        "opened_at": made.opened_at,
        "value": to_float(made.value(price)),
    }
    for currency_of_fee, fee in made.fees.items():
        said[f"fees in {currency_of_fee}"] = to_float(fee)
    for rates in ({}, RATES):
        paid, without_rate = paid_fees(made, currency, rates)
        is_known = made.problem is None and not without_rate
        said[f"net with {rates}"] = to_float(gross - paid) if is_known else None
    if made.problem is None:
        said["gross"] = to_float(gross)
        said["unrealized"] = to_float(made.unrealized_pnl(price))
    return said


def expected(reference: Account, price: float) -> dict[str, Any]:
    market, size = reference.market, Fraction(repr(reference.size))
    entry = reference.entry if reference.quantity else None
    at_price = market.worth(reference.quantity, Fraction(repr(price)))
    said: dict[str, Any] = {
        "quantity": to_float(reference.quantity),
        "entry": to_float(entry),
        "opened_at": reference.opened_at,
        "value": to_float(size * (-at_price if market.is_inverse else at_price)),
    }
    for currency in {currency for currency, _, _ in reference.fees}:
        paid = [fee for fee_currency, fee, _ in reference.fees if fee_currency == currency]
        said[f"fees in {currency}"] = to_float(sum(paid, Fraction(0)))
    is_known = reference.is_known and market.is_known
    for rates in ({}, RATES):
        total = reference.paid(market.currency, rates)
        net = None if total is None or not is_known else reference.gross - total
        said[f"net with {rates}"] = to_float(net)
    if is_known:
        cost = market.worth(reference.quantity, reference.entry) if reference.quantity else 0
        said["gross"] = to_float(reference.gross)
        said["unrealized"] = to_float(size * (at_price - cost))
    return said


@st.composite
def histories(draw: st.DrawFn) -> tuple[Market, list[list[Fill]]]:
    """Return a market and its fills, in the groups in which they are added.

    A group without fills stands for one that closes the position.
    """
    market = draw(st.sampled_from(MARKETS))
    fill = fills(market, draw(contract_sizes(market)), timestamp=st.integers(0, 10**6))
    return market, draw(st.lists(st.lists(fill, max_size=4), min_size=1, max_size=6))


def check_history(market: Market, groups: list[list[Fill]], price: float) -> None:
    made, reference = ledger(market), Account(market)
    added: list[Fill] = []
    for fills_or_none in groups:
        group = fills_or_none or closing_fills(made, added, price)
        if not group:
            continue
        made.add([columns(fill) for fill in group])
        for fill in group:
            reference.add(fill)
        added += group
        assert as_text(figures(made, price)) == as_text(expected(reference, price))
        if not fills_or_none:
            assert (made.quantity, made.is_open, made.opened_at) == (0, False, None)
        if not made.is_open and made.problem is None:
            gross, net = money(market, added)
            assert to_float(gross) == to_float(made.gross_pnl)
            paid, without_rate = paid_fees(made, market.currency, {})
            assert without_rate or to_float(made.gross_pnl - paid) == to_float(net)
    if added:
        in_one_call = ledger(market, added)
        assert as_text(figures(in_one_call, price)) == as_text(figures(made, price))


def closing_fills(made: Ledger, added: list[Fill], price: float) -> list[Fill]:
    """Return an order that closes what the ledger says is held."""
    held = float(made.quantity)
    if not held:
        return []
    side, size = "sell" if held > 0 else "buy", added[-1].contract_size
    return [Fill(side, abs(held), price, contract_size=size, timestamp=-1)]


def as_text(named: dict[str, Any]) -> dict[str, str]:
    """Return figures in a form in which -0.0 is not 0.0."""
    return {name: repr(figure) for name, figure in named.items()}


# without the phase that explains a failure, which takes longer than finding it
PHASES = set(Phase) - {Phase.explain}


@pytest.mark.timeout(600)  # when it fails, an example is looked for that is short
@settings(max_examples=100, phases=PHASES)
@given(histories(), numbers)
def test_every_figure_is_that_of_exact_fractions(
    history: tuple[Market, list[list[Fill]]], price: float
) -> None:
    check_history(*history, price)


@pytest.mark.long
@settings(max_examples=5000, phases=PHASES)
@given(histories(), numbers)
def test_every_figure_is_that_of_exact_fractions_in_many_histories(
    history: tuple[Market, list[list[Fill]]], price: float
) -> None:
    check_history(*history, price)


USD = {"fee": 1.0, "fee_currency": "USD"}


def bought(quantity: float, price: float, **values: Any) -> Fill:
    return Fill("buy", quantity, price, **values)


def sold(quantity: float, price: float, **values: Any) -> Fill:
    return Fill("sell", quantity, price, **values)


def test_fees_in_the_quote_currency_of_an_inverse_contract_add_up_over_calls() -> None:
    made = ledger(INVERSE, [bought(1, 1, **USD)], [bought(1, 1000, **USD)])
    assert paid_fees(made, "BTC", {}) == (Fraction("1.001"), [])


def test_what_was_bought_and_sold_at_one_price_has_earned_nothing_whatever_comes_later() -> None:
    made = ledger(INVERSE, [bought(7, 3), sold(3, 3), sold(4, 3)])
    assert made.gross_pnl == 0
    made.add([columns(bought(1e-40, 3))])
    assert made.gross_pnl == 0


def test_a_fee_of_an_option_is_counted_once() -> None:
    made = ledger(OPTION, [bought(1, 0.05, fee=0.0003, fee_currency="BTC")])
    assert paid_fees(made, "BTC", {}) == (Fraction("0.0003"), [])


def test_a_fee_in_the_base_currency_is_not_valued_at_the_price_of_an_option() -> None:
    option = Market("BTC/USDT:USDT-250328-60000-C", "USDT")
    made = ledger(option, [bought(1, 1500, fee=0.001, fee_currency="BTC")])
    assert paid_fees(made, "USDT", {}) == (0, ["BTC"])
    assert paid_fees(made, "USDT", {"BTC": 60_000}) == (60, [])


@pytest.mark.parametrize(
    ("market", "fills"),
    [
        (INVERSE, [bought(1, 3), sold(1, 3)]),
        (INVERSE, [bought(1, 3), bought(1, 3), sold(2, 3)]),
        (INVERSE, [sold(1, 7), bought(1, 7)]),
        # sold at prices that make up for each other, out of an average of 1.666...
        (SPOT, [bought(1, 1), bought(2, 2), sold(1, 2.2), sold(0.8, 1)]),
        (INVERSE, [bought(1, 3, **USD), sold(1, 3, fee=-1.0, fee_currency="USD")]),
    ],
)
def test_a_pnl_of_zero_is_zero(market: Market, fills: list[Fill]) -> None:
    made = ledger(market, fills)
    paid, _ = paid_fees(made, market.currency, {})
    assert (made.gross_pnl, paid) == (0, 0)


@pytest.mark.parametrize("market", [SPOT, INVERSE])
def test_closing_at_the_entry_price_earns_nothing(market: Market) -> None:
    made = ledger(market, [bought(1, 3), bought(2, 3)])
    assert made.unrealized_pnl(3) == 0


@pytest.mark.parametrize("number", [1e300, 1e301, 1.7976931348623157e308, 5e-324])
@pytest.mark.parametrize("market", [SPOT, INVERSE])
def test_the_largest_and_smallest_floats(market: Market, number: float) -> None:
    fill = bought(number, number, fee=number, fee_currency=market.currency)
    made = ledger(market, [fill], [sold(number, number), sold(1, 1)])
    assert (made.quantity, made.gross_pnl) == (-1, 0)
    assert made.fees == {market.currency: Fraction(repr(number))}


def test_the_currencies_of_fees_are_in_order_of_appearance() -> None:
    names = ["USDT", "BNB", None, "BTC", "OKB", "USD", "EUR"]
    made = ledger(SPOT, [bought(1, 1, fee=1.0, fee_currency=name) for name in names])
    assert list(made.fees) == names


@pytest.mark.parametrize(
    "context",
    [
        decimal.Context(prec=3),
        decimal.Context(prec=1, rounding=decimal.ROUND_UP, Emin=-2, Emax=2),
        decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded, decimal.FloatOperation]),
        decimal.Context(prec=28, traps=list(decimal.getcontext().flags)),
    ],
)
def test_the_decimal_context_of_the_caller_changes_nothing(context: decimal.Context) -> None:
    fills = [
        bought(0.30000000000000004, 61234.56789, fee=1e-9, fee_currency="BTC"),
        bought(1e-12, 1e12, fee=1.23456789012, fee_currency="BNB"),
        sold(0.123456789012345, 1e-7, fee=-1e-7, fee_currency="USDT"),
        sold(1e12, 123456789.123, contract_size=None),
    ]
    for market in MARKETS:
        known = figures(ledger(market, fills[:2], fills[2:]), 1e-9)
        with decimal.localcontext(context):
            assert figures(ledger(market, fills[:2], fills[2:]), 1e-9) == known


@pytest.mark.processes
def test_the_default_decimal_context_of_the_program_changes_nothing() -> None:
    program = """
        import decimal
        default = decimal.DefaultContext
        default.prec, default.Emin, default.Emax = 3, -5, 5
        for signal in default.traps:
            default.traps[signal] = True
        decimal.setcontext(default)
        from botmemory.ledger import fees_in_currency, to_units
        print(to_units([1e-12, 1e20], 8))
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", f"([1, {10**32}], 12)\n")
