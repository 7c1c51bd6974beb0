"""The CockroachDB backend, on PostgreSQL: the same protocol, not the same engine.

No CockroachDB comes from pip. What is its own is tested as far as PostgreSQL can show it: which
statements are sent, which are not, and that a transaction is repeated that was rolled back with
SQLSTATE 40001.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from samples import at, signal, trade, trade_values
from servers import changed, run

from botmemory import (
    Config,
    DatabaseBusyError,
    StorageError,
    init_db,
    run_transaction,
    session_scope,
)
from botmemory.backends.server.postgres import CockroachBackend
from botmemory.repositories import positions, signals, trades


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    url: str = changed(new_database(), port="5432")
    return url.replace("postgresql://", "cockroachdb://")


@pytest.fixture(autouse=True)
def _new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    # PostgreSQL 18 would be taken for a CockroachDB of that number, without savepoints
    monkeypatch.setattr(CockroachBackend, "oldest_version", 0)


@pytest.fixture
def database(url: str) -> Any:
    return init_db(url)


def test_a_version_without_savepoints_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CockroachBackend, "oldest_version", 200100)
    with pytest.raises(StorageError, match="older than CockroachDB 20.1"):
        init_db(url)


def test_its_port_and_user_unless_the_url_says_otherwise() -> None:
    backend: Any = CockroachBackend(Config("cockroachdb://db.example/bots"))
    assert backend.parameters() == {
        "user": "root",
        "port": "26257",
        "host": "db.example",
        "dbname": "bots",
    }
    other: Any = CockroachBackend(Config("cockroachdb://bot:pw@db.example:26258/bots"))
    assert (other.parameters()["user"], other.parameters()["port"]) == ("bot", "26258")
    assert "CockroachDatabase" in [kind.__name__ for kind in type(other).__mro__]


def test_the_functions_work_on_it(database: Any) -> None:
    with session_scope():
        because = signal(signal_metadata={"rsi": 27.4, "volume": 1e16})
        bought = trade(signal=because, pnl=0.1)
    sold = trade(side="sell", quantity=0.4, timestamp=at(10**5))
    assert trades.get_all() == [sold, bought] or trades.get_all() == [bought, sold]
    assert positions.get("BTC/USDT").quantity == 0.6
    assert signals.get_by_metadata("rsi", maximum=30) == [because]
    fill = {"exchange": "okx", "exchange_trade_id": "1"} | trade_values()
    assert [trades.get_or_create(**fill)[1] for _ in range(2)] == [True, False]
    assert trades.create_many(trade_values(timestamp=at(n)) for n in range(2500)) == 2500
    assert len(list(trades.iterate())) == trades.get_trade_count() == 2503
    trades.update(bought, pnl=2.0)
    trades.delete(sold)
    assert trades.get_total_pnl() == 2.0


def test_a_part_of_a_transaction_can_be_rolled_back(database: Any) -> None:
    with session_scope():
        kept = trade()
        with pytest.raises(LookupError), session_scope():
            trade()
            raise LookupError
    assert trades.get_all() == [kept]


def test_no_statement_is_sent_that_cockroachdb_does_not_know(url: str) -> None:
    plain = url.replace("cockroachdb://", "postgresql://")
    name = plain.rpartition("/")[2].partition("?")[0]
    # PostgreSQL refuses here what CockroachDB has not: advisory locks
    hidden = "advisory locks are not there"
    run(
        plain,
        "CREATE SCHEMA other",
        *(
            f"CREATE FUNCTION other.{function}(bigint) RETURNS void LANGUAGE plpgsql "
            f"AS $$ BEGIN RAISE EXCEPTION '{hidden}'; END $$"
            for function in ("pg_advisory_lock", "pg_advisory_xact_lock")
        ),
        f'ALTER DATABASE "{name}" SET search_path = public, other, pg_catalog',
        f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable',
    )
    with pytest.raises(psycopg.errors.RaiseException, match=hidden):
        run(plain, "SELECT pg_advisory_xact_lock(1)")
    init_db(url)
    with session_scope() as database:
        assert trades.get_all() == []
        trade()
        [(level,)] = database.execute_sql("SHOW transaction_isolation").fetchall()
    assert level == "serializable"
    assert trades.get_trade_count() == 1


def test_run_transaction_repeats_a_serialization_failure(database: Any, url: str) -> None:
    plain = url.replace("cockroachdb://", "postgresql://")
    row = trade(pnl=0.0)
    calls = []

    def add_one() -> None:
        if not calls:
            database.execute_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        calls.append(1)
        read = trades.get_by_id(row.id)
        if len(calls) == 1:
            run(plain, "UPDATE trade SET pnl = 10")
        trades.update(row, pnl=read.pnl + 1)

    run_transaction(add_one)
    assert len(calls) == 2
    assert trades.get_total_pnl() == 11.0
    calls.clear()
    with pytest.raises(DatabaseBusyError, match="run_transaction"), session_scope():
        add_one()
