"""Positions agree with exact fractions to the last bit, on every backend.

Each answer is compared with that of `position_reference`, so that the backends agree, too.
"""

from __future__ import annotations

import decimal
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest
from fill_strategies import contract_sizes, fills, numbers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from position_reference import MARKETS, Account, Fill, Market, account, figures
from samples import at

from botmemory import Trade, ValidationError
from botmemory.queries.fills import FILLS_PER_READ
from botmemory.repositories import positions, trades

pytestmark = pytest.mark.usefixtures("empty_database")

EXCHANGES, STRATEGIES = [None, "binance", "kraken"], [None, "a", "b"]
RATES = {"BNB": 600.0, "BTC": 60_000.0, "ETH/BTC": 0.03, "USD": 1 / 3}
COLUMNS = ("side", "quantity", "price", "fee", "fee_currency", "contract_size", "timestamp")
# without the phase that explains a failure, which takes longer than finding it
PHASES = set(Phase) - {Phase.explain}


@dataclass(frozen=True)
class Row:
    """A recorded fill."""

    market: Market
    exchange: str | None
    strategy: str | None
    fill: Fill

    def values(self) -> dict[str, Any]:
        key = {"symbol": self.market.symbol, "exchange": self.exchange, "strategy": self.strategy}
        return key | asdict(self.fill)


@dataclass(frozen=True)
class Close:
    """An order for what a position is said to be."""

    row: Row


@dataclass(frozen=True)
class Ask:
    """Positions are asked for, so that the next answer is carried on from this one."""


Step = Row | Close | Ask


@st.composite
def histories(draw: st.DrawFn) -> list[Step | list[Row]]:
    """Return what a bot does; a list of rows is recorded by one call."""
    markets = draw(st.lists(st.sampled_from(MARKETS), min_size=1, max_size=2, unique=True))
    exchanges = EXCHANGES[: draw(st.integers(1, 3))]
    sizes = {market: draw(contract_sizes(market)) for market in markets}
    hour = 0

    @st.composite
    def rows(draw: st.DrawFn) -> Row:
        nonlocal hour
        hour += draw(st.sampled_from([0, 0, 1, 1, 1, 1, -3]))
        market = draw(st.sampled_from(markets))
        return Row(
            market,
            draw(st.sampled_from(exchanges)),
            draw(st.sampled_from(STRATEGIES)),
            draw(fills(market, sizes[market], timestamp=st.just(at(hour)))),
        )

    step = rows() | rows() | rows().map(Close) | st.just(Ask()) | st.lists(rows(), max_size=3)
    return draw(st.lists(step, min_size=1, max_size=12))


def matching(
    rows: Sequence[Row], market: Market, exchange: str | None, strategy: str | None
) -> dict[str | None, Account]:
    """Return the accounts by exchange of the rows that filters match."""
    by_exchange = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.fill.timestamp):  # else as they were recorded
        if (
            row.market == market
            and (exchange is None or row.exchange == (exchange or None))
            and (strategy is None or row.strategy == (strategy or None))
        ):
            by_exchange[row.exchange].append(row.fill)
    return {name: account(market, of_exchange) for name, of_exchange in by_exchange.items()}


def text(named: dict[str, Any]) -> dict[str, str]:
    """Return figures in a form in which -0.0 is not 0.0."""
    return {name: repr(figure) for name, figure in named.items()}


def check_position(
    position: positions.Position,
    accounts: Sequence[Account],
    currency: str | None,
    rates: dict[str, float],
) -> None:
    expected = figures(accounts, currency, rates, position.price)
    assert text({name: getattr(position, name) for name in expected}) == text(expected)
    said = [position.realized_pnl, position.net_realized_pnl]
    if position.price is not None:
        said += [position.value, position.unrealized]
    assert (position.unknown is not None) == (None in said)


def check_all(rows: Sequence[Row], price: float) -> None:
    """Compare every answer about the rows."""
    markets = {row.market for row in rows}
    filters = [(e, s) for e in (None, "", "binance", "kraken") for s in (None, "", "a", "b")]
    for market in markets:
        for exchange, strategy in filters:
            accounts = list(matching(rows, market, exchange, strategy).values())
            quote = market.currency or "USDT"
            options = {"exchange": exchange, "quote": quote, "rates": RATES}
            if len({part.size for part in accounts if part.quantity}) > 1:
                with pytest.raises(ValidationError, match="different sizes on different exchanges"):
                    positions.get(market.symbol, strategy, **options)
                continue
            if not accounts:
                assert positions.get(market.symbol, strategy, **options) == flat(
                    market, exchange, strategy
                )
                continue
            known = positions.get(market.symbol, strategy, **options)
            check_position(known, accounts, quote, RATES)
            plain = positions.get(market.symbol, strategy, exchange=exchange)
            check_position(plain, accounts, market.currency, {})
    check_open(rows, price, markets)


def flat(market: Market, exchange: str | None, strategy: str | None) -> positions.Position:
    return positions.Position(market.symbol, exchange=exchange or None, strategy=strategy or None)


def check_open(rows: Sequence[Row], price: float, markets: set[Market]) -> None:
    prices = {market.symbol: price for market in markets}
    for by_strategy in (False, True):
        expected = {}
        for market in markets:
            for strategy in ["" if s is None else s for s in STRATEGIES] if by_strategy else [None]:
                for exchange, part in matching(rows, market, None, strategy).items():
                    if part.quantity:
                        expected[market.symbol, exchange, strategy or None] = part
        found = positions.get_all(by_strategy=by_strategy)
        valued = positions.value(prices, by_strategy=by_strategy, rates=RATES)
        order = [(p.symbol, p.exchange, p.strategy) for p in found]
        assert order == [(p.symbol, p.exchange, p.strategy) for p in valued]
        assert order == sorted(expected, key=lambda key: [(part or "") for part in key])
        for position, key in zip(found + valued, order * 2, strict=True):
            rates = RATES if position.price is not None else {}
            check_position(position, [expected[key]], expected[key].market.currency, rates)


def closing_row(row: Row) -> Row | None:
    """Return an order for what a position is said to be; None if it is flat."""
    held = positions.get(
        row.market.symbol, row.strategy or "", exchange=row.exchange or ""
    ).quantity
    if not held:
        return None
    order = replace(row.fill, side="sell" if held > 0 else "buy", quantity=abs(held), fee=None)
    return replace(row, fill=replace(order, timestamp=at(1000)))


def check_history(history: Sequence[Step | list[Row]], price: float) -> None:
    Trade.delete().execute()
    rows: list[Row] = []
    for step in history:
        if isinstance(step, Ask):
            check_all(rows, price)
        elif isinstance(step, list):
            trades.create_many(row.values() for row in step)
            rows += step
        elif isinstance(step, Row):
            trades.create(**step.values())
            rows.append(step)
        elif order := closing_row(step.row):
            trades.create(**order.values())
            rows.append(order)
            closed = positions.get(
                order.market.symbol, order.strategy or "", exchange=order.exchange or ""
            )
            assert (closed.quantity, closed.opened_at, closed.average_entry_price) == (
                0.0,
                None,
                None,
            )
    check_all(rows, price)


@pytest.mark.timeout(600)  # when it fails, an example is looked for that is short
@settings(max_examples=25, phases=PHASES)
@given(histories(), numbers)
def test_every_answer_is_that_of_exact_fractions(
    history: list[Step | list[Row]], price: float
) -> None:
    check_history(history, price)


@pytest.mark.long
@settings(max_examples=300, phases=PHASES)
@given(histories(), numbers)
def test_every_answer_is_that_of_exact_fractions_in_many_histories(
    history: list[Step | list[Row]], price: float
) -> None:
    check_history(history, price)


def test_more_fills_than_one_read_has() -> None:
    rng = random.Random(6)
    rows = [
        Row(
            market,
            rng.choice(EXCHANGES),
            rng.choice(STRATEGIES),
            Fill(
                rng.choice(["buy", "sell"]),
                quantity=rng.choice([rng.randint(1, 9) / 10, 100 / rng.uniform(20, 30)]),
                price=rng.randint(1, 99) / 10,
                fee=rng.choice([None, 0.01]),
                fee_currency=rng.choice(["USDT", "BTC", "BNB"]),
                timestamp=at(hour // 3),
            ),
        )
        for hour in range(700)
        for market in (MARKETS[0], MARKETS[3], MARKETS[5])
    ]
    trades.create_many(row.values() for row in rows)
    assert len(rows) > FILLS_PER_READ
    check_all(rows, 5.5)


def record(symbol: str, *given_fills: tuple[str, float, float], **values: Any) -> None:
    for hour, (side, quantity, price) in enumerate(given_fills):
        trades.create(
            symbol=symbol,
            side=side,
            quantity=quantity,
            price=price,
            timestamp=at(hour),
            **{name: given_values[hour] for name, given_values in values.items()},
        )


def test_a_loss_too_small_for_a_float_is_no_negative_zero() -> None:
    record("BTC/USDT", ("buy", 1e-200, 2e-200), ("sell", 1e-200, 1e-200))
    assert repr(positions.get("BTC/USDT").realized_pnl) == "0.0"


@pytest.mark.parametrize(
    ("symbol", "sizes"), [("ETH/USD:BTC", [1, 1]), ("BTC/USDT:USDT", [1, 100])]
)
def test_what_a_position_is_worth_is_not_known_if_its_pnl_is_not(
    symbol: str, sizes: list[float]
) -> None:
    record(symbol, ("buy", 1, 100), ("buy", 1, 100), contract_size=sizes)
    [position] = positions.value({symbol: 100})
    assert (position.value, position.unrealized, position.realized_pnl) == (None, None, None)
    assert position.unknown is not None


@pytest.mark.parametrize(
    "context",
    [
        decimal.Context(prec=3),
        decimal.Context(prec=3, traps=[decimal.Inexact, decimal.Rounded, decimal.FloatOperation]),
        decimal.Context(prec=28, Emax=1, Emin=-1, traps=list(decimal.getcontext().flags)),
    ],
)
def test_the_decimal_context_of_the_program_changes_nothing(context: decimal.Context) -> None:
    record(
        "BTC/USDT",
        ("buy", 0.30000000000000004, 61234.56789),
        ("buy", 1e-12, 1e12),
        ("sell", 0.123456789012345, 1e-7),
        fee=[1e-9, 1.23456789012, -1e-7],
        fee_currency=["BTC", "BNB", "USDT"],
    )
    rows = [
        Row(MARKETS[0], None, None, Fill(*(getattr(trade, name) for name in COLUMNS)))
        for trade in reversed(trades.get_all())
    ]
    with decimal.localcontext(context):
        check_all(rows, 61_000.1)


TOO_LARGE = "larger than a float can hold; correct the price or the quantity of its trades"


@pytest.mark.parametrize(("symbol", "worst"), [("BTC/USDT", 1e300), ("BTC/USD:BTC", 1e-300)])
def test_figures_too_large_for_a_float_are_refused(symbol: str, worst: float) -> None:
    record(symbol, ("buy", 1e300, 1))
    assert positions.get(symbol).quantity == 1e300
    with pytest.raises(ValidationError, match=TOO_LARGE):
        positions.value({symbol: worst})
    trades.create(symbol=symbol, side="sell", quantity=1e300, price=worst, timestamp=at(1))
    for _ in range(2):
        with pytest.raises(ValidationError, match=TOO_LARGE):
            positions.get(symbol)
    assert positions.get_all() == []


def test_the_largest_floats_have_positions() -> None:
    largest = 1.7976931348623157e308
    record("BTC/USDT", ("buy", largest, largest))
    position = positions.get("BTC/USDT")
    assert (position.quantity, position.average_entry_price) == (largest, largest)
    trades.create(symbol="BTC/USDT", side="sell", quantity=largest, price=largest, timestamp=at(1))
    assert positions.get("BTC/USDT").realized_pnl == 0.0
