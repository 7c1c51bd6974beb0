"""The SQL and the commands of docs/postgresql.md are run: roles, backups, partitions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from paths import ROOT
from programs import SOON
from recipes import blocks, code_of, sql
from samples import at, cash_flow, cash_flow_values, signal, trade, trade_values
from servers import changed, programs, run

from botmemory import (
    DuplicateError,
    SchemaError,
    StorageError,
    Trade,
    close_db,
    init_db,
    session_scope,
)
from botmemory.backends.keys import number_of
from botmemory.repositories import cash_flows, positions, state, trades
from botmemory.upkeep.check import check

BLOCKS = blocks(ROOT / "docs" / "postgresql.md")
ROLES = ("memory_owner", "bot", "dashboard")


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


def test_the_page_has_the_blocks_that_are_tested() -> None:
    assert [block.language for block in BLOCKS].count("sql") == 6


def test_who_holds_the_lock_can_be_queried(url: str) -> None:
    init_db(url)
    [query] = [block.code for block in BLOCKS if "pg_locks" in block.code]
    with session_scope():
        trades.get_all()
        [(_, application, _, granted, lock, waits_for)] = run(url, query)
        assert (application, granted, lock, waits_for) == ("botmemory", True, "all keys", None)
    assert run(url, query) == []
    key = ("trend", "BTC/USDT")
    row = trade(strategy="trend")
    with ThreadPoolExecutor(1) as other:
        with session_scope(key=key):
            positions.get("BTC/USDT", "trend")
            waiting = other.submit(trades.delete, row)
            deadline = time.monotonic() + SOON
            while len(found := run(url, query)) < 4:
                assert time.monotonic() < deadline
        waiting.result()
    locks = sorted((row[-2], row[-3], row[-1]) for row in found if row[-3])
    [holder] = {row[0] for row in found if row[-2] == f"key {number_of(key)}" and row[-3]}
    assert [name for name, *_ in locks] == [f"key {number_of(key)}", "some keys", "some keys"]
    [(pid, *_, lock, waits_for)] = [row for row in found if not row[-3]]
    assert (lock, waits_for) == (f"key {number_of(key)}", [holder])
    assert pid != holder
    assert trades.get_trade_count() == 0


@pytest.fixture
def roles(url: str) -> Iterator[dict[str, str]]:
    """The URLs of the roles that the page makes, and of the superuser, on an empty database."""
    suffix = uuid.uuid4().hex[:8]
    names = {role: f"{role}_{suffix}" for role in ROLES}
    database = url.rpartition("/")[2].partition("?")[0]

    def adapted(block: str) -> str:
        block = block.replace("DATABASE bots", f'DATABASE "{database}"')
        return re.sub(r"\b(memory_owner|bot|dashboard)\b", lambda found: names[found[0]], block)

    run(url, adapted(sql("roles, once")))
    urls = {role: changed(url, user=name) for role, name in names.items()}
    init_db(urls["memory_owner"])
    close_db()
    run(urls["memory_owner"], adapted(sql("rights, once the tables exist")))
    yield urls | {"superuser": url, "rights": adapted(sql("rights, once the tables exist"))}
    close_db()
    for name in names.values():
        run(url, f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def test_a_bot_records_and_updates_and_deletes_nothing(roles: dict[str, str]) -> None:
    init_db(roles["bot"], migrate=False)
    made = trade(signal=signal())
    trades.create_many(trade_values() for _ in range(3))
    fill = {"exchange": "okx", "exchange_trade_id": "1"} | trade_values()
    assert [trades.get_or_create(**fill)[1] for _ in range(2)] == [True, False]
    trades.update(made, pnl=1.0)
    flow = {"exchange": "okx", "exchange_flow_id": "1"} | cash_flow_values()
    assert [cash_flows.get_or_create(**flow)[1] for _ in range(2)] == [True, False]
    cash_flows.update(cash_flow(), amount=1.0)
    state.set("a", 1)
    assert state.compare_and_set("a", 1, 2)
    assert state.delete("a")
    with session_scope():
        assert positions.get("BTC/USDT").quantity == 5.0
    with pytest.raises(StorageError, match=r"this user may not \(permission denied.*trade"):
        trades.delete(made)
    with pytest.raises(StorageError, match="may not"), session_scope() as database:
        database.execute_sql("DROP TABLE trade")
    assert trades.get_trade_count() == 5
    assert [finding for finding in check() if finding.severity == "error"] == []


def test_a_bot_without_update_only_records(roles: dict[str, str]) -> None:
    name = roles["bot"].partition("://")[2].partition("@")[0]
    run(roles["memory_owner"], f"REVOKE UPDATE ON trade, signal FROM {name}")
    init_db(roles["bot"], migrate=False)
    made = trade()
    with pytest.raises(StorageError, match="may not"):
        trades.update(made, pnl=1.0)
    assert trades.get_total_pnl() == 0.0


def test_a_dashboard_reads_and_writes_nothing(roles: dict[str, str]) -> None:
    init_db(roles["bot"])
    made = trade(pnl=1.0)
    close_db()
    init_db(roles["dashboard"], read_only=True)
    assert trades.get_all() == [made]
    assert list(trades.iterate()) == [made]
    assert positions.get("BTC/USDT").quantity == 1.0
    close_db()
    init_db(roles["dashboard"], migrate=False)
    assert state.get("a", "none") == "none"
    changes = (lambda: trades.update(made, pnl=2.0), lambda: state.set("a", 1))
    for call in (trade, signal, cash_flow, *changes):
        with pytest.raises(StorageError, match="may not"):
            call()
    assert trades.get_total_pnl() == 1.0


def test_bots_are_told_what_the_owner_has_to_migrate(roles: dict[str, str]) -> None:
    script = [sys.executable, "-m", "botmemory.migration_runner", "--db", roles["memory_owner"]]
    to_first = [*script, "down", "0002_add_signal_strategy_fee_exchange"]
    subprocess.run(to_first, check=True, capture_output=True)
    with pytest.raises(SchemaError, match="pending: 0002_"):
        init_db(roles["bot"], migrate=False)
    with pytest.raises(StorageError, match="this user may not .* connect as another user"):
        init_db(roles["bot"])
    subprocess.run([*script, "up"], check=True, capture_output=True)
    init_db(roles["bot"], migrate=False)
    trade(strategy="a")


def in_shell(command: str, **environ: str) -> str:
    path = f"{Path(sys.executable).parent}:{programs()}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", command],
        env=os.environ | {"PATH": path} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dump_restores_everything(
    url: str, new_database: Callable[[], str], tmp_path: Path
) -> None:
    init_db(url)
    because = signal(timestamp=at(0), signal_metadata={"rsi": 1e16, "ü": [None, True]})
    for number in range(100):
        values = {"price": 0.1 + number / 3, "pnl": -0.1, "fee": 0.1, "fee_currency": "USDT"}
        trade(timestamp=at(number), signal=because, **values)
    before = [row.__data__ for row in trades.iterate()]
    close_db()
    new = new_database()
    in_shell(f"cd {tmp_path}; {code_of('docs/postgresql.md', 'sh')}", OWNER_URL=url, NEW_URL=new)
    init_db(new, migrate=False)
    assert [row.__data__ for row in trades.iterate()] == before
    assert trades.get_all(1)[0].signal.signal_metadata == because.signal_metadata
    assert check(full=True) == []
    assert signal().id == because.id + 1


# --- partitions -----------------------------------------------------------------------------


def test_a_database_with_rows_is_partitioned(url: str) -> None:
    init_db(url)
    because = signal()
    fill = {"exchange": "okx", "exchange_trade_id": "1"} | trade_values(timestamp=at(0))
    kept, _ = trades.get_or_create(**fill)
    trades.create_many(
        trade_values(timestamp=at(24 * number), signal=because, strategy="a")
        for number in range(90)
    )
    before = [row.__data__ for row in trades.iterate()]
    held = positions.get("BTC/USDT")
    run(url, sql("partitions"))
    assert [row.__data__ for row in trades.iterate()] == before
    assert positions.get("BTC/USDT") == held
    counts = run(
        url,
        "SELECT tableoid::regclass::text, count(*) FROM trade GROUP BY 1 ORDER BY 1",
    )
    assert counts == [("trade_2024_01", 32), ("trade_2024_02", 29), ("trade_2024_03", 30)]
    assert trades.get_or_create(**fill) == (kept, False)
    run(url, sql("partitions of the next year"))


def test_what_is_unique_stays_unique_over_all_partitions(url: str) -> None:
    init_db(url)
    run(url, sql("partitions"))
    fill = {"exchange": "okx", "exchange_trade_id": "1"}
    first = trade(timestamp=at(0), **fill)
    later = at(24 * 400)
    with pytest.raises(DuplicateError) as caught:
        trade(timestamp=later, **fill)
    assert caught.value.id == first.id
    with pytest.raises(DuplicateError):
        trade(timestamp=later, id=first.id)
    with pytest.raises(DuplicateError, match=r"rows\[1\]"):
        trades.create_many([trade_values(), trade_values(timestamp=later, **fill)])
    other = trade(timestamp=later, exchange="okx", exchange_trade_id="2")
    with pytest.raises(DuplicateError):
        trades.update(other, exchange_trade_id="1")
    trades.update(first, timestamp=later)  # it moves to another partition
    trades.update(first, exchange_trade_id="3")
    trades.update(other, exchange_trade_id="1")
    assert {t.exchange_trade_id for t in trades.get_all()} == {"1", "3"}
    trades.delete(other)
    trade(timestamp=at(0), **fill)
    assert run(url, "SELECT count(*) FROM trade_key") == [(trades.get_trade_count(),)]
    [finding] = check(full=True)
    assert (finding.severity, "partitioned" in finding.what) == ("info", True)


def test_a_month_is_dropped_with_its_keys(url: str) -> None:
    init_db(url)
    fill = {"exchange": "okx", "exchange_trade_id": "1"} | trade_values(timestamp=at(0))
    trades.get_or_create(**fill)
    kept = trade(timestamp=at(24 * 40), exchange="okx", exchange_trade_id="2")
    run(url, sql("partitions"))
    run(url, sql("drop a month"))
    assert trades.get_all() == [kept]
    assert run(url, "SELECT id FROM trade_key") == [(kept.id,)]
    assert trades.get_or_create(**fill)[1] is True
    with pytest.raises(DuplicateError):
        trade(timestamp=at(0), exchange="okx", exchange_trade_id="2")


def test_a_partitioned_database_is_searched_by_its_indexes(url: str) -> None:
    init_db(url)
    run(url, sql("partitions"))
    trades.create_many(trade_values(timestamp=at(24 * n)) for n in range(700))
    run(url, "ANALYZE trade")
    queries = (
        "SELECT * FROM trade WHERE symbol = 'BTC/USDT' ORDER BY timestamp DESC, id DESC LIMIT 10",
        "SELECT * FROM trade WHERE id = '0190a5a4-7b7c-7000-8000-00000000000a'",
    )
    with psycopg.connect(url) as connection:
        connection.execute("SET enable_seqscan = off")
        for query in queries:
            plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}"))
            assert "Index" in plan
            assert not re.search(r"\bSort +\(cost", plan)  # merging sorted partitions is none


def test_later_migrations_reach_every_partition(url: str) -> None:
    init_db(url)
    run(url, sql("partitions"))
    made = trade()
    run(url, "ALTER TABLE trade ADD COLUMN note text")
    run(url, "UPDATE trade SET note = 'x'")
    assert trades.get_all() == [made]
    different, partitioned = check()
    assert "the column note is not in the model" in different.what
    assert partitioned.severity == "info"
    assert Trade.select().count() == 1
