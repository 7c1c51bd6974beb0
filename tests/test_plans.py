"""What a question costs does not grow with the memory: each is answered from an index, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import at, signal, trade, trade_values

from botmemory import db, init_db
from botmemory.repositories import positions, signals, trades

FILL = {"exchange": "okx", "exchange_trade_id": "7"}
SPAN = {"start_date": at(0), "end_date": at(10)}
# a question asked of trades and of signals alike
BOTH: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("get_all", (10,), {}),
    ("get_all", (10,), {"strategy": "a"}),
    ("get_by_symbol", ("BTC/USDT",), {}),
    ("get_by_symbol", ("BTC/USDT", 10), {"strategy": "a"}),
    ("get_latest", (), {}),
    ("get_latest", ("BTC/USDT",), {}),
    ("get_latest", (), {"strategy": "a"}),
    ("get_by_date_range", (None, at(0), at(10)), {}),
    ("get_by_date_range", ("BTC/USDT", at(0), at(10)), {}),
    ("get_by_date_range", (None, at(0), at(10)), {"strategy": "a"}),
    ("iterate", (), {}),
    ("iterate", ("BTC/USDT",), {}),
    ("iterate", (), {"strategy": "a"}),
    ("iterate", ("BTC/USDT",), SPAN),
]
QUESTIONS = [
    *((trades, *question) for question in BOTH),
    *((signals, *question) for question in BOTH),
    (trades, "get_trade_count", ("BTC/USDT",), {}),
    (trades, "get_total_pnl", ("BTC/USDT",), {}),
    (trades, "get_total_pnl", (), {"strategy": "a"}),
    (trades, "get_or_create", (), FILL | trade_values()),
    (trades, "get_by_id", ("0190a5a4-7b7c-7000-8000-00000000000a",), {}),
    (signals, "get_signal_count", ("BTC/USDT",), {}),
    (signals, "get_signal_count", ("BTC/USDT", 1), {}),
    (signals, "get_by_signal_value", (1, "BTC/USDT"), {}),
    (signals, "get_by_signal_value", (1,), {"limit": 10}),
    (signals, "get_by_metadata", ("rsi",), {"maximum": 30, "symbol": "BTC/USDT"}),
    (signals, "get_by_id", (1,), {}),
    (positions, "get", ("BTC/USDT",), {}),
    (positions, "get", ("BTC/USDT", "a"), {}),
    (positions, "get_all", (), {}),
]


@pytest.fixture
def asked(path: Path) -> list[tuple[str, Any]]:
    """A database with rows, and the statements that it is asked from now on."""
    database: Any = init_db(path)
    trades.create_many(
        trade_values(timestamp=at(n), symbol=f"C{n % 30}", strategy=f"{n % 9}", pnl=1.0)
        for n in range(1200)
    )
    trades.create_many(trade_values(timestamp=at(n), strategy="a") for n in range(1200))
    signals.create_many(
        {"symbol": f"C{n % 30}", "signal_value": 1, "timestamp": at(n), "strategy": f"{n % 9}"}
        for n in range(1200)
    )
    trade(signal=signal(signal_metadata={"rsi": 20}), **FILL)
    database.execute_sql("ANALYZE")
    statements: list[tuple[str, Any]] = []
    database.query_hooks.append(lambda event: statements.append((event.sql, event.params)))
    return statements


def use_up(answer: Any) -> None:
    if hasattr(answer, "__next__"):
        for _ in answer:
            pass


@pytest.mark.parametrize(("module", "name", "arguments", "named"), QUESTIONS)
def test_every_question_is_answered_from_an_index_in_its_order(
    asked: list[tuple[str, Any]], module: Any, name: str, arguments: Any, named: Any
) -> None:
    question: Callable[..., Any] = getattr(module, name)
    use_up(question(*arguments, **named))
    selects = [(sql, params) for sql, params in asked if sql.startswith("SELECT")]
    assert selects
    database: Any = db.obj
    for sql, params in selects:
        plan = [row[3] for row in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params)]
        assert all("INDEX" in step or "PRIMARY KEY" in step for step in plan), (sql, plan)
        assert not any("TEMP B-TREE" in step for step in plan), (sql, plan)
        if "WHERE" in sql and "LIMIT" not in sql:
            assert not any(step.startswith("SCAN") for step in plan), (sql, plan)


def test_the_total_of_a_symbol_is_read_from_the_index_alone(asked: list[tuple[str, Any]]) -> None:
    trades.get_total_pnl("BTC/USDT")
    trades.get_trade_count("BTC/USDT")
    database: Any = db.obj
    for sql, params in list(asked):
        [(*_, plan)] = database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params)
        assert "COVERING INDEX trade_symbol" in plan
