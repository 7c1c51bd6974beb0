"""Behind a pooler that gives each transaction any of a few sessions of the server."""

from __future__ import annotations

import signal as system_signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pooler import SERVER_CONNECTIONS, PgBouncer
from programs import SOON
from samples import at, signal, trade, trade_values
from servers import advisory_locks, run

from botmemory import DatabaseBusyError, close_db, db, init_db, session_scope
from botmemory.repositories import positions, signals, trades
from botmemory.upkeep.check import check

THREADS = 8
# what another program may leave in a session; it holds it meanwhile, so that all are changed
STRANGE = """
BEGIN;
SET extra_float_digits = -15;
SET DateStyle = 'German';
SET lock_timeout = '1ms';
SET idle_in_transaction_session_timeout = '50ms';
SELECT pg_sleep(0.04);
COMMIT
"""


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


def sessions(url: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    return int(run(url, query)[0][0]) - 1


def test_many_threads_share_few_sessions(url: str, pgbouncer: PgBouncer) -> None:
    init_db(pgbouncer.url(url), pool_size=THREADS)

    def work(number: int) -> float:
        symbol = f"S{number}/USDT"
        for step in range(20):
            trades.create(**trade_values(symbol=symbol, strategy="a", timestamp=at(step)))
            with session_scope(key=("a", symbol)):
                held = positions.get(symbol, strategy="a").quantity
                stored = trade(symbol=symbol, strategy="a", side="sell", quantity=held / 2)
                trades.update(stored, pnl=1.0)
            fill = {"exchange": "okx", "exchange_trade_id": str(step)}
            for _ in range(2):
                trades.get_or_create(**fill, **trade_values(symbol=symbol))
            assert len(list(trades.iterate(symbol))) == 3 * (step + 1)
        return trades.get_total_pnl(symbol)

    with ThreadPoolExecutor(THREADS) as threads:
        assert list(threads.map(work, range(THREADS))) == [20.0] * THREADS
    assert trades.get_trade_count() == THREADS * 60
    assert sessions(url) <= SERVER_CONNECTIONS


def test_settings_of_a_stranger_change_no_number_and_no_time(
    url: str, pgbouncer: PgBouncer
) -> None:
    init_db(url)
    close_db()
    pooled = pgbouncer.url(url)
    with ThreadPoolExecutor(SERVER_CONNECTIONS) as threads:
        list(threads.map(lambda _: run(pooled, STRANGE), range(4 * SERVER_CONNECTIONS)))
    assert run(pooled, "SELECT 0.1::float8 + 0.2::float8") == [(0.3,)]  # 0.30000000000000004
    init_db(pooled)
    metadata = {"rsi": 27.400000000000002, "big": 2**70}
    recorded = [
        trade(price=0.1 + 0.2, quantity=1 / 3, timestamp=at(n), trade_metadata=metadata)
        for n in range(10)
    ]
    for _ in range(3):
        assert trades.get_all() == recorded[::-1]
        assert [row.to_dict() for row in trades.iterate()] == [row.to_dict() for row in recorded]
    with session_scope():
        assert trades.get_all() == recorded[::-1]
        time.sleep(0.2)  # longer than the stranger's limit for transactions that do nothing
        trade()
    assert trades.get_trade_count() == 11


def test_a_query_that_a_bot_gives_up_ends_on_the_server(url: str, pgbouncer: PgBouncer) -> None:
    def give_up(*_: object) -> None:
        raise TimeoutError

    def read() -> None:
        system_signal.setitimer(system_signal.ITIMER_REAL, 0.5)
        with db.read_sql("SELECT pg_sleep(600)"):
            pass

    init_db(pgbouncer.url(url))
    before = system_signal.signal(system_signal.SIGALRM, give_up)
    try:
        with pytest.raises(TimeoutError):
            read()
    finally:
        system_signal.signal(system_signal.SIGALRM, before)
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND state = 'active' AND pid <> pg_backend_pid()"
    )
    until = time.monotonic() + 30
    while run(url, running) != [(0,)]:
        assert time.monotonic() < until
        time.sleep(0.5)


def test_nothing_is_left_in_a_session(url: str, pgbouncer: PgBouncer) -> None:
    names = "'lock_timeout', 'synchronous_commit', 'TimeZone', 'DateStyle', 'extra_float_digits'"
    query = f"SELECT name, setting FROM pg_settings WHERE name IN ({names}) ORDER BY name"
    before = run(pgbouncer.url(url), query)
    init_db(pgbouncer.url(url), synchronous="normal", busy_timeout=5)
    stored = trade(signal=signal())
    with session_scope():
        trades.update(stored, pnl=1.0)
        list(trades.iterate())
    positions.get_all()
    signals.get_all()
    for _ in range(2 * SERVER_CONNECTIONS):
        assert run(pgbouncer.url(url), query) == before
        left = (
            "SELECT count(*) FROM pg_prepared_statements UNION ALL SELECT count(*) FROM pg_cursors"
        )
        assert run(pgbouncer.url(url), left) == [(0,), (0,)]
    assert advisory_locks(url) == []


def test_a_pooler_without_a_free_session_is_a_busy_database(
    url: str, start_pgbouncer: Callable[[str], PgBouncer]
) -> None:
    init_db(url)
    close_db()
    pooler = start_pgbouncer("session")
    with ThreadPoolExecutor(SERVER_CONNECTIONS) as threads:
        held = [
            threads.submit(run, pooler.url(url), "SELECT pg_sleep(4)")
            for _ in range(SERVER_CONNECTIONS)
        ]
        time.sleep(0.5)
        began = time.monotonic()
        with pytest.raises(DatabaseBusyError, match="no session of the server was free"):
            init_db(pooler.url(url), busy_timeout=1.5, migrate=False)
        assert 1.4 <= time.monotonic() - began < SOON
        for each in held:
            each.result()


def test_check_tells_of_a_pooler_and_of_a_server_that_does_not_wait_for_the_disk(
    url: str, pgbouncer: PgBouncer
) -> None:
    init_db(url)
    assert check() == []
    close_db()
    name = url.rpartition("/")[2].partition("?")[0]
    run(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    init_db(url)
    assert [(finding.severity, finding.what[:40]) for finding in check()] == [
        ("error", "a crash of the server may lose the last ")
    ]
    close_db()
    init_db(url, synchronous="normal")
    assert check() == []
    close_db()
    init_db(pgbouncer.url(url), synchronous="normal")
    [finding] = check()
    assert (finding.severity, finding.what[:35]) == ("info", "the connection leads through a pool")
    database: Any = db.obj
    assert {each.is_pooled for each in database.pool.connections()} == {True}
