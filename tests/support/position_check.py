"""Compare what `positions` answers with positions computed from a plain SELECT of all trades."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction
from typing import Any

from botmemory import Trade, db
from botmemory.ledger import Ledger
from botmemory.repositories import positions
from botmemory.repositories.positions import Position
from botmemory.symbols import instrument_of

SYMBOLS = ("BTC/USDT", "ETH/USDT", "XBT/USD:XBT")
STRATEGIES = ("a", "b", None)
EXCHANGES = ("x", "y", None)
ALL_TRADES = (
    "SELECT symbol, exchange, strategy, timestamp, side, quantity, price, fee, fee_currency, "
    "contract_size FROM trade ORDER BY timestamp, id"
)

Figures = tuple[Any, ...]
Row = tuple[Any, ...]


def all_trades() -> list[Row]:
    """Return all trades as this connection sees them now, by a query that nothing else uses."""
    return [tuple(row) for row in db.execute_sql(ALL_TRADES).fetchall()]


def check_all() -> None:
    """Compare every question of `questions`."""
    rows = all_trades()
    for question in QUESTIONS:
        check(question, rows)


def check_some(choice: random.Random, count: int) -> None:
    """Compare some questions, chosen at random."""
    rows = all_trades()
    for question in choice.sample(QUESTIONS, count):
        check(question, rows)


def check(question: dict[str, Any], rows: list[Row]) -> None:
    answer = positions.get(**question) if "symbol" in question else positions.get_all(**question)
    expected = _expected_one(question, rows) if "symbol" in question else _expected(question, rows)
    found = _figures(answer) if isinstance(answer, Position) else [*map(_figures, answer)]
    assert found == expected, f"{question}: {found} instead of {expected}"


_FILTERS = ((None, None), ("a", None), (None, "x"), ("a", "x"), ("", ""))
QUESTIONS: list[dict[str, Any]] = [
    *({"symbol": SYMBOLS[0], "strategy": s, "exchange": e} for s, e in _FILTERS),
    *({"symbol": symbol, "strategy": None, "exchange": None} for symbol in SYMBOLS[1:]),
    *({"strategy": s, "exchange": e, "by_strategy": False} for s, e in _FILTERS[:3]),
    {"strategy": None, "exchange": None, "by_strategy": True},
]


def _figures(position: Position) -> Figures:
    return (
        (position.symbol, position.exchange, position.strategy),
        position.quantity,
        position.average_entry_price,
        position.realized_pnl,
        position.opened_at,
        position.fees,
    )


def _expected_one(question: dict[str, Any], rows: list[Row]) -> Figures:
    symbol, strategy, exchange = (question[name] for name in ("symbol", "strategy", "exchange"))
    found = _ledgers([row for row in rows if row[0] == symbol], strategy, exchange, False)
    exchanges = {of_exchange for _, of_exchange, _ in found}
    only = exchanges.pop() if len(exchanges) == 1 else None
    return _combined((symbol, exchange or only, strategy or None), [*found.values()])


def _expected(question: dict[str, Any], rows: list[Row]) -> list[Figures]:
    found = _ledgers(rows, question["strategy"], question["exchange"], question["by_strategy"])
    keys = sorted(found, key=lambda key: [(part is not None, part or "") for part in key])
    return [_combined(key, [found[key]]) for key in keys if found[key].is_open]


def _ledgers(
    rows: list[Row], strategy: str | None, exchange: str | None, by_strategy: bool
) -> dict[tuple[Any, ...], Ledger]:
    """Return the ledgers of the trades by symbol, exchange and strategy."""
    fills = defaultdict(list)
    for symbol, of_exchange, of_strategy, timestamp, side, quantity, *rest in rows:
        if (exchange is None or of_exchange == (exchange or None)) and (
            strategy is None or of_strategy == (strategy or None)
        ):
            change = quantity if side == "buy" else -quantity
            named = by_strategy or strategy is not None
            key = (symbol, of_exchange, of_strategy if named else None)
            fills[key].append((timestamp, change, *rest))
    found = {}
    for key, of_key in fills.items():
        found[key] = Ledger(instrument_of(key[0]))
        found[key].add(of_key)
    return found


def _combined(key: tuple[Any, ...], ledgers: list[Ledger]) -> Figures:
    held = [ledger for ledger in ledgers if ledger.is_open]
    quantity = sum((ledger.quantity for ledger in held), Fraction(0))
    cost = sum((ledger.cost for ledger in held), Fraction(0))
    average = None
    if held and len({ledger.quantity > 0 for ledger in held}) == 1:
        average = float(-quantity / cost if held[0].instrument.is_inverse else cost / quantity)
    fees: defaultdict[str | None, Fraction] = defaultdict(Fraction)
    for ledger in ledgers:
        for currency, fee in ledger.fees.items():
            fees[currency] += fee
    problem = any(ledger.problem for ledger in ledgers)
    timestamp: Any = Trade.timestamp
    return (
        key,
        float(quantity),
        average,
        None if problem else float(sum((ledger.gross_pnl for ledger in ledgers), Fraction(0))),
        min((timestamp.python_value(ledger.opened_at) for ledger in held), default=None),
        {currency: float(fee) for currency, fee in fees.items()},
    )
