"""Compare what `positions` answers with positions computed from a plain SELECT of all trades."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction
from typing import Any, NamedTuple

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

ALL_FUNDING = (
    "SELECT symbol, exchange, strategy, currency, amount FROM cash_flow WHERE kind = 'funding'"
)

Figures = tuple[Any, ...]
Row = tuple[Any, ...]
Key = tuple[str, str | None, str | None]


class Recorded(NamedTuple):
    trades: list[Row]
    funding: list[Row]


def recorded() -> Recorded:
    """Return all that this connection sees now, by queries that nothing else uses."""
    queries = (ALL_TRADES, ALL_FUNDING)
    return Recorded(*([*map(tuple, db.execute_sql(query).fetchall())] for query in queries))


def check_all() -> None:
    """Compare every question of `questions`."""
    rows = recorded()
    for question in QUESTIONS:
        check(question, rows)


def check_some(choice: random.Random, count: int) -> None:
    """Compare some questions, chosen at random."""
    rows = recorded()
    for question in choice.sample(QUESTIONS, count):
        check(question, rows)


def check(question: dict[str, Any], rows: Recorded) -> None:
    answer = positions.get(**question) if "symbol" in question else positions.get_all(**question)
    expected = _expected_one(question, rows) if "symbol" in question else _expected(question, rows)
    found = _figures(answer) if isinstance(answer, Position) else [*map(_figures, answer)]
    assert found == expected, f"{question}: {found} instead of {expected}"


QUESTIONS: list[dict[str, Any]] = [
    {"symbol": SYMBOLS[0], "strategy": None, "exchange": None},
    {"symbol": SYMBOLS[0], "strategy": "a", "exchange": "x"},
    {"symbol": SYMBOLS[0], "strategy": "", "exchange": ""},
    {"symbol": SYMBOLS[1], "strategy": None, "exchange": "x"},
    {"symbol": SYMBOLS[2], "strategy": "b", "exchange": None},
    {"strategy": None, "exchange": None, "by_strategy": False},
    {"strategy": None, "exchange": None, "by_strategy": True},
    {"strategy": "a", "exchange": "", "by_strategy": False},
]


def _figures(position: Position) -> Figures:
    return (
        (position.symbol, position.exchange, position.strategy),
        position.quantity,
        position.average_entry_price,
        position.realized_pnl,
        position.opened_at,
        position.fees,
        position.funding,
    )


def _expected_one(question: dict[str, Any], rows: Recorded) -> Figures:
    symbol, strategy, exchange = (question[name] for name in ("symbol", "strategy", "exchange"))
    of_symbol = Recorded(*([row for row in some if row[0] == symbol] for some in rows))
    found = _ledgers(of_symbol, strategy, exchange, False)
    exchanges = {of_exchange for _, of_exchange, _ in found}
    only = exchanges.pop() if len(exchanges) == 1 else None
    return _combined((symbol, exchange or only, strategy or None), [*found.values()])


def _expected(question: dict[str, Any], rows: Recorded) -> list[Figures]:
    found = _ledgers(rows, question["strategy"], question["exchange"], question["by_strategy"])
    keys = sorted(found, key=lambda key: [(part is not None, part or "") for part in key])
    return [_combined(key, [found[key]]) for key in keys if found[key].is_open]


def _ledgers(
    rows: Recorded, strategy: str | None, exchange: str | None, by_strategy: bool
) -> dict[Key, Ledger]:
    """Return the ledgers of the fills and funding by symbol, exchange and strategy."""

    def key_of(symbol: str, of_exchange: str | None, of_strategy: str | None) -> Key | None:
        if (exchange is None or of_exchange == (exchange or None)) and (
            strategy is None or of_strategy == (strategy or None)
        ):
            named = by_strategy or strategy is not None
            return symbol, of_exchange, of_strategy if named else None
        return None

    fills: defaultdict[Key | None, list[Any]] = defaultdict(list)
    funding: defaultdict[Key | None, list[Any]] = defaultdict(list)
    for *names, timestamp, side, quantity, price, fee, currency, size in rows.trades:
        change = quantity if side == "buy" else -quantity
        fills[key_of(*names)].append((timestamp, change, price, fee, currency, size))
    for *names, currency, amount in rows.funding:
        funding[key_of(*names)].append((currency, amount))
    found = {}
    for key in (fills.keys() | funding.keys()) - {None}:
        found[key] = Ledger(instrument_of(key[0]))
        if fills[key]:
            found[key].add(fills[key])
        for currency, amount in funding[key]:
            found[key].add_funding(currency, amount)
    return found


def _combined(key: Key, ledgers: list[Ledger]) -> Figures:
    held = [ledger for ledger in ledgers if ledger.is_open]
    quantity = sum((ledger.quantity for ledger in held), Fraction(0))
    cost = sum((ledger.cost for ledger in held), Fraction(0))
    average = None
    if held and len({ledger.quantity > 0 for ledger in held}) == 1:
        average = float(-quantity / cost if held[0].instrument.is_inverse else cost / quantity)
    fees: defaultdict[str | None, Fraction] = defaultdict(Fraction)
    for ledger in ledgers:
        for currency, fee in ledger.fees.items():
            fees[currency] += Fraction(fee)
    problem = any(ledger.problem for ledger in ledgers)
    timestamp: Any = Trade.timestamp
    return (
        key,
        float(quantity),
        average,
        None if problem else float(sum((ledger.gross_pnl for ledger in ledgers), Fraction(0))),
        min((timestamp.python_value(ledger.opened_at) for ledger in held), default=None),
        {currency: float(fee) for currency, fee in fees.items()},
        float(sum(Fraction(paid) for ledger in ledgers for paid in ledger.funding.values())),
    )
