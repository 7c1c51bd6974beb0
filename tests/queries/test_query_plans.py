"""Each query uses an index in the order of its rows: its cost does not grow with the table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import at, cash_flow, cash_flow_values, signal, trade, trade_values

from botmemory import State, db, init_db, session_scope
from botmemory.repositories import cash_flows, positions, records, signals, state, trades

FILL = {"exchange": "okx", "exchange_trade_id": "7"}
FLOW = {"exchange": "okx", "exchange_flow_id": "7"}
SPAN = {"start_date": at(0), "end_date": at(10)}
# queries of trades and of signals
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
QUERIES = [
    *((trades, *query) for query in BOTH),
    *((signals, *query) for query in BOTH),
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
    (trades, "get_by_metadata", ("tags",), {"equals": "late", "symbol": "BTC/USDT"}),
    (signals, "get_by_id", (1,), {}),
    (cash_flows, "get_by_id", (1,), {}),
    (cash_flows, "get_or_create", (), FLOW | cash_flow_values()),
    (cash_flows, "get_latest", (), {}),
    (cash_flows, "get_latest", (), {"kind": "funding", "exchange": "okx", "strategy": "a"}),
    (cash_flows, "get_latest", (), {"symbol": "BTC/USDT"}),
    (cash_flows, "get_latest", (), {"symbol": ""}),
    (cash_flows, "get_by_date_range", (at(0), at(10)), {}),
    (cash_flows, "get_by_date_range", (at(0), at(10)), {"currency": "USDT", "kind": "funding"}),
    (cash_flows, "get_by_date_range", (at(0), at(10)), {"symbol": "BTC/USDT"}),
    (cash_flows, "iterate", (), {}),
    (cash_flows, "iterate", (), {"symbol": "BTC/USDT"} | SPAN),
    (cash_flows, "get_total", ("USDT",), {"symbol": "BTC/USDT"}),
    (cash_flows, "get_total", ("USDT",), {"symbol": "BTC/USDT"} | SPAN),
    (cash_flows, "get_total", ("USDT",), {"kind": "funding"} | SPAN),
    (state, "get", ("a",), {}),
    (state, "items", (), {"strategy": "3"}),
    (state, "items", ("grid.",), {"strategy": "3"}),
    (positions, "get", ("BTC/USDT",), {}),
    (positions, "get", ("BTC/USDT", "a"), {}),
    (positions, "get", ("BTC/USDT",), {"exchange": "okx"}),
    (positions, "get_all", (), {}),
    (positions, "get_all", (), {"by_strategy": True}),
]
# the plan of a search in the table itself, which is in the order of its row numbers
OF_TABLE = {
    f'SELECT MAX(rowid) FROM "{table}" AS "t1"': ["SEARCH t1"] for table in ("trade", "cash_flow")
}
# the steps that read the elements of an array in a row that was found
OF_ELEMENTS = ("CORRELATED SCALAR SUBQUERY", "SCAN element VIRTUAL TABLE")


@pytest.fixture
def statements(path: Path) -> list[tuple[str, Any]]:
    """The statements run on a database with rows, from now on."""
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
    cash_flows.create_many(
        cash_flow_values(timestamp=at(n), symbol=f"C{n % 30}", exchange="okx") for n in range(1200)
    )
    cash_flows.create_many(cash_flow_values(timestamp=at(n), kind="fee") for n in range(1200))
    records.create_many(
        State, ({"strategy": f"{n % 9}", "key": f"grid.{n}", "value": n} for n in range(900))
    )
    trade(signal=signal(signal_metadata={"rsi": 20}), **FILL)
    cash_flow(**FLOW)
    database.execute_sql("ANALYZE")
    executed: list[tuple[str, Any]] = []
    database.query_hooks.append(lambda event: executed.append((event.sql, event.params)))
    return executed


def consume(result: Any) -> None:
    if hasattr(result, "__next__"):
        for _ in result:
            pass


@pytest.mark.parametrize(("module", "name", "args", "kwargs"), QUERIES)
def test_every_query_uses_an_index_in_its_order(
    statements: list[tuple[str, Any]], module: Any, name: str, args: Any, kwargs: Any
) -> None:
    query: Callable[..., Any] = getattr(module, name)
    consume(query(*args, **kwargs))
    selects = [(sql, params) for sql, params in statements if sql.startswith("SELECT")]
    assert selects
    database: Any = db.obj
    for sql, params in selects:
        plan = [row[3] for row in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params)]
        if sql in OF_TABLE:
            assert plan == OF_TABLE[sql]
            continue
        plan = [step for step in plan if not step.startswith(OF_ELEMENTS)]
        assert all("INDEX" in step or "PRIMARY KEY" in step for step in plan), (sql, plan)
        assert not any("TEMP B-TREE" in step for step in plan), (sql, plan)
        if "WHERE" in sql and "LIMIT" not in sql:
            assert not any(step.startswith("SCAN") for step in plan), (sql, plan)


def test_the_total_of_a_symbol_is_read_from_the_index_alone(
    statements: list[tuple[str, Any]],
) -> None:
    trades.get_total_pnl("BTC/USDT")
    trades.get_trade_count("BTC/USDT")
    database: Any = db.obj
    for sql, params in list(statements):
        [(*_, plan)] = database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params)
        assert "COVERING INDEX trade_symbol" in plan


def test_a_key_of_a_server_has_an_index_of_its_own(new_database: Callable[[], str]) -> None:
    """A block with a key reads no trade of another strategy or symbol."""
    database: Any = init_db(new_database())
    pairs = [(f"grid-{n % 10}", f"C{n // 10}/USDT") for n in range(100)]
    trades.create_many(
        trade_values(timestamp=at(n), strategy=strategy, symbol=symbol)
        for strategy, symbol in pairs
        for n in range(50)
    )
    database.execute_sql("ANALYZE trade")
    executed: list[tuple[str, Any]] = []
    database.query_hooks.append(lambda event: executed.append((event.sql, event.params)))
    with session_scope(key=("grid-3", "C3/USDT")):
        positions.get("C3/USDT", "grid-3")
    [(sql, params)] = [(sql, params) for sql, params in executed if '"trade"' in sql]
    plan = "\n".join(line for (line,) in database.execute_sql(f"EXPLAIN {sql}", params))
    [condition] = re.findall(r"trade_strategy_symbol.*\n +Index Cond: (.*)", plan)
    assert ("strategy" in condition, "symbol" in condition) == (True, True)
    assert "Filter" not in plan
