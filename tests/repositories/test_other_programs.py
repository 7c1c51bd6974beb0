"""Positions and PnL agree with those of other programs, after each of the same random fills.

The programs are installed from their packages, and those that ask them are in
`tests/other_programs/`. What they define in another way is translated there, and said there.
"""

from __future__ import annotations

from typing import Any

import pytest
from installed import answer, answer_once
from paths import OTHER_PROGRAMS
from random_fills import (
    BITCOIN,
    BITCOIN_CONTRACT,
    DOGE,
    ETHER_CONTRACT,
    INVERSE,
    INVERSE_ETHER,
    History,
    Market,
    Rules,
    given,
    histories,
)
from samples import at

from botmemory import close_db, init_db
from botmemory.repositories import positions, trades

pytestmark = pytest.mark.long

# most programs calculate with floats of 16 digits, which a sum of many fills rounds many times
ROUNDING = 1e-14


def figures(symbol: str, mark: float) -> dict[str, float | None]:
    held = positions.get(symbol)
    [valued] = positions.value({symbol: mark}) or [held]
    return {
        "quantity": held.quantity,
        "average_entry_price": held.average_entry_price,
        "realized_pnl": held.realized_pnl,
        "net_realized_pnl": held.net_realized_pnl,
        "fees": sum(held.fees.values()),
        "value": valued.value or 0.0,  # None of no position
        "unrealized": valued.unrealized or 0.0,
    }


def compare(
    past: History, answers: list[dict[str, float | None]], rounding: float, rounded_to: float
) -> None:
    """Record the fills in a new database, and compare the figures after each of them.

    Args:
        past: The fills.
        answers: What the other program says after each fill; not all figures are known to each.
        rounding: The part of a price, and of all that was traded, that two figures may differ by.
        rounded_to: What the other program rounds the PnL of each fill to.
    """
    close_db()
    init_db(":memory:")
    market = past.market
    traded, held = 0.0, 0.0
    for number, (fill, theirs) in enumerate(zip(past.fills, answers, strict=True)):
        worth = market.worth(fill.quantity, fill.price)
        signed = fill.quantity if fill.side == "buy" else -fill.quantity
        rate = past.exit_fee_rate if held * signed < 0 else past.fee_rate
        trades.create(
            symbol=market.symbol,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            contract_size=market.contract_size,
            fee=worth * rate,
            timestamp=at(number),
        )
        # a PnL is a difference, so that what was rounded is a part of all that was traded
        traded += worth
        ours = figures(market.symbol, fill.mark)
        tolerance = traded * rounding + (number + 1) * rounded_to / 2
        held = ours["quantity"] or 0.0
        for name, figure in theirs.items():
            where = f"{name} after fill {number} of {market.symbol}"
            if name == "quantity":
                assert ours[name] == figure, where
            elif name == "average_entry_price":
                expected = None if figure is None else pytest.approx(figure, rel=rounding, abs=0)
                assert ours[name] == expected, where
            else:
                assert ours[name] == pytest.approx(figure, rel=0, abs=tolerance), where


def compare_all(
    past: list[History], answers: list[Any], rounding: float = ROUNDING, rounded_to: float = 0
) -> None:
    for each, answers_to_it in zip(past, answers, strict=True):
        compare(each, answers_to_it, rounding, rounded_to)


OF_FREQTRADE = {
    "long": ([BITCOIN, DOGE], Rules(sides=("buy",), flips=False)),
    "short": ([BITCOIN_CONTRACT], Rules(sides=("sell",), flips=False)),
}


@pytest.mark.parametrize("side", OF_FREQTRADE)
def test_freqtrade(side: str, freqtrade: dict[str, str]) -> None:
    past = histories(*OF_FREQTRADE[side], fee_rate=0.001, exit_fee_rate=0.0006)
    answers = answer(OTHER_PROGRAMS / "with_freqtrade.py", given(past), freqtrade)
    compare_all(past, answers, rounded_to=1e-8)  # of the profit of each exit


def test_backtrader(tmp_path_factory: pytest.TempPathFactory) -> None:
    # sizes are floats there, which add up without rounding if they are binary fractions
    markets = [BITCOIN._replace(lot=2**-10), DOGE, ETHER_CONTRACT]
    past = histories(markets, Rules())
    program = OTHER_PROGRAMS / "with_backtrader.py"
    compare_all(past, answer_once(tmp_path_factory, "backtrader==1.9.78.123", program, given(past)))


def test_beancount(tmp_path_factory: pytest.TempPathFactory) -> None:
    past = histories([BITCOIN, DOGE], Rules(), count=3)
    program = OTHER_PROGRAMS / "with_beancount.py"
    answers = answer_once(tmp_path_factory, "beancount==3.2.3", program, given(past))
    compare_all(past, answers, rounding=0)  # its decimals have 28 digits, so that floats are equal


OF_NAUTILUS: dict[str, tuple[list[Market], Rules, bool]] = {
    "linear": ([BITCOIN_CONTRACT, ETHER_CONTRACT], Rules(), False),
    # Its average entry price is the arithmetic mean for inverse contracts, too, at which the PnL of
    # several entries is not the sum of the PnL of each. So a position has one entry here,
    "inverse": ([INVERSE, INVERSE_ETHER], Rules(more_entries=False), False),
    # and there each entry is a position of its own, and an exit closes the same part of each. That
    # is what average cost means: the sums are the figures at the harmonic mean.
    "inverse, many entries": ([INVERSE, INVERSE_ETHER], Rules(divisible=True), True),
}


def of_nautilus(kind: str) -> list[History]:
    markets, rules, hedging = OF_NAUTILUS[kind]
    return histories(markets, rules, hedging=hedging)


@pytest.fixture(scope="module")
def nautilus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What NautilusTrader answers to all histories: it has 600 MB, and is installed once."""
    every = {kind: given(of_nautilus(kind)) for kind in OF_NAUTILUS}
    program = OTHER_PROGRAMS / "with_nautilus.py"
    answers: dict[str, list[Any]] = answer_once(
        tmp_path_factory, "nautilus_trader==1.221.0", program, every
    )
    return answers


@pytest.mark.parametrize("kind", OF_NAUTILUS)
def test_nautilus_trader(kind: str, nautilus: dict[str, list[Any]]) -> None:
    # its money has 16 decimal places, and a fill may change that of ten positions
    compare_all(of_nautilus(kind), nautilus[kind], rounded_to=1e-15)
