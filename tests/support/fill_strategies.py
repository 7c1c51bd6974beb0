"""Hypothesis strategies of fills: the numbers of real bots, and the worst that they could be."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from position_reference import Fill, Market

SMALLEST, LARGEST = 1e-12, 1e12
FEE_CURRENCIES = [None, "BTC", "ETH", "SOL", "USDT", "USDC", "USD", "BNB"]
CONTRACT_SIZES = [None, 1.0, 0.0001, 100.0, 1e9]


def within(value: float) -> float:
    return min(max(value, SMALLEST), LARGEST)


few_digits = st.integers(1, 30).map(float)
cents = st.integers(1, 10_000_000).map(lambda units: units / 100)
satoshis = st.integers(1, 10**12).map(lambda units: units / 10**8)
anything = st.floats(SMALLEST, LARGEST)
# a stake divided by a price
stakes = st.tuples(st.integers(1, 10_000), st.floats(0.01, 100_000)).map(
    lambda pair: within(pair[0] / pair[1])
)
numbers = few_digits | few_digits | cents | satoshis | stakes | anything
rates_of_fees = st.sampled_from([0.0, 0.001, 0.00075, -0.00025, 1.0, 1.5, 1 / 3])


@st.composite
def contract_sizes(draw: st.DrawFn, market: Market) -> st.SearchStrategy[float | None]:
    """Return a strategy: one size for all fills, but for a few histories; none on spot."""
    if market.base is not None:
        return st.none()
    if draw(st.integers(0, 9)) == 0:
        return st.sampled_from(CONTRACT_SIZES)
    return st.just(draw(st.sampled_from(CONTRACT_SIZES)))


@st.composite
def fills(
    draw: st.DrawFn, market: Market, sizes: st.SearchStrategy[float | None], **values: Any
) -> Fill:
    """Return a fill, with other `values` drawn from strategies.

    The fee is a part of the quantity, all of it, or more; or a number of its own.
    """
    quantity = draw(numbers)
    of_market = [None, market.currency, market.other]
    return Fill(
        side=draw(st.sampled_from(["buy", "sell"])),
        quantity=quantity,
        price=draw(numbers),
        fee=draw(st.none() | rates_of_fees.map(lambda rate: quantity * rate + 0.0) | numbers),
        fee_currency=draw(st.sampled_from([*of_market, *of_market, *FEE_CURRENCIES])),
        contract_size=draw(sizes),
        **{name: draw(strategy) for name, strategy in values.items()},
    )
