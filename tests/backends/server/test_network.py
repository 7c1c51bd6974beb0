"""How often a call waits for the network: each wait is a round trip."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxy import Proxy
from samples import cash_flow, signal, trade, trade_values

from botmemory import Trade, db, init_db, run_transaction, session_scope
from botmemory.repositories import cash_flows, positions, state, trades

DELAY = 0.04  # longer than a busy machine takes to send a few statements
FILL = {"exchange": "okx", "exchange_trade_id": "1"} | trade_values()


@pytest.fixture(scope="module")
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture(params=["direct", "pooled"])
def network(request: pytest.FixtureRequest, url: str) -> Iterator[Proxy]:
    """An open database behind a slow network, or behind a slow network and a pooler."""
    target = url
    if request.param == "pooled":
        target = request.getfixturevalue("pgbouncer").url(url)
    with Proxy(target, delay=DELAY) as network:
        init_db(network.url())
        Trade.delete().execute()
        for connection in db.obj.pool.connections():
            connection.prepare_threshold = None  # preparing a statement is one more, once
        yield network


def count(network: Proxy, call: Callable[[], Any]) -> int:
    before = network.round_trips
    call()
    return network.round_trips - before


def test_each_call_is_one_round_trip(network: Proxy) -> None:
    stored = trade(signal=signal(), timestamp=None)
    flow = cash_flow(symbol="BTC/USDT")
    calls: dict[str, Callable[[], Any]] = {
        "create": trade,
        "create with a reference": lambda: trade(signal=stored.signal_id),
        "get_by_id": lambda: trades.get_by_id(stored.id),
        "get_latest": lambda: trades.get_latest("BTC/USDT"),
        "get_total_pnl": trades.get_total_pnl,
        "update": lambda: trades.update(stored, pnl=1.0),
        "get_or_create, new": lambda: trades.get_or_create(**FILL),
        "get_or_create, known": lambda: trades.get_or_create(**FILL),
        "positions.get": lambda: positions.get("BTC/USDT"),
        "positions.get, unchanged": lambda: positions.get("BTC/USDT"),
        "positions.get_all": positions.get_all,
        "iterate, first row": lambda: next(trades.iterate()),
        "state.set": lambda: state.set("a", 1, strategy="trend"),
        "state.get": lambda: state.get("a", strategy="trend"),
        "state.compare_and_set": lambda: state.compare_and_set("a", 1, 2, strategy="trend"),
        "state.compare_and_set, new": lambda: state.compare_and_set("b", state.MISSING, 1),
        "state.items": state.items,
        "state.delete": lambda: state.delete("b"),
        # of a row to which no table refers; otherwise those rows are asked for first
        "delete": lambda: cash_flows.delete(flow),
    }
    assert {name: count(network, call) for name, call in calls.items()} == dict.fromkeys(calls, 1)


@pytest.mark.parametrize("key", [None, ("trend", "BTC/USDT")])
def test_a_block_is_one_for_each_call_and_one_for_its_end(network: Proxy, key: Any) -> None:
    strategy = None if key is None else "trend"
    stored = trade(strategy=strategy)

    def nothing() -> None:
        with session_scope(key=key):
            pass

    def read_and_record() -> None:
        held = positions.get("BTC/USDT", strategy=strategy)
        trade(quantity=held.quantity, strategy=strategy, signal=None)

    def nested() -> None:
        with session_scope(key=key):
            with session_scope():
                trade(strategy=strategy)
            with session_scope():
                trades.update(stored, pnl=2.0)

    def rolled_back() -> None:
        with pytest.raises(ZeroDivisionError), session_scope(key=key):
            trade(strategy=strategy)
            raise ZeroDivisionError

    def uses_state() -> None:
        with session_scope(key=key):
            candle = state.get("candle", 0, strategy="trend")
            trade(strategy=strategy)
            state.set("candle", candle + 1, strategy="trend")

    assert count(network, uses_state) == 4
    assert count(network, nothing) == 0
    assert count(network, lambda: run_transaction(read_and_record, key=key)) == 3
    assert count(network, nested) == 3
    assert count(network, rolled_back) == 2


def test_an_error_costs_no_more_than_the_end_of_the_block(network: Proxy) -> None:
    with session_scope():
        first = trade(id=uuid.uuid4())
        with pytest.raises(Exception, match="already exists"):
            trade(id=first.id)
        trade()
    assert trades.get_trade_count() == 2
