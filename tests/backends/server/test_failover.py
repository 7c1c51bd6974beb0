"""A server that restarts, fails or does not answer: what is stored, and how long a bot waits.

The servers are real ones: a primary, and a standby that is promoted when the primary is killed.
"""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from subprocess import Popen

import pytest
from fleet import bots, count, end_of, wait_for_more
from programs import SOON, Outcome, in_threads, start_program, stored, timed
from proxy import Proxy
from recipes import code_of
from replication import Pair, wait_until
from samples import trade, trade_values
from servers import run

from botmemory import (
    DatabaseBusyError,
    DuplicateError,
    StorageError,
    close_db,
    db,
    init_db,
    run_transaction,
    session_scope,
)
from botmemory.repositories import positions, trades

CALL_TIMEOUT = 2.0
LATE = 2.0  # seconds that a call on a busy machine may take longer than its timeout


def next_line(process: Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    return line.strip() if line else end_of(process)[1]  # why it has ended


def backend_pid() -> int:
    """Return the process of the server that serves the only connection of the pool."""
    return int(db.execute_sql("SELECT pg_backend_pid()").fetchone()[0])


def is_on_standby() -> bool:
    return bool(db.execute_sql("SELECT pg_is_in_recovery()").fetchone()[0])


def read_and_record() -> None:
    with session_scope():
        trades.get_all(limit=1)
        trade()


# what a bot does outside a block, or at the beginning of one
CALLS: dict[str, Callable[[], object]] = {
    "read": trades.get_all,
    "position": lambda: positions.get("BTC/USDT"),
    "iterate": lambda: list(trades.iterate()),
    "create": trade,
    "create_many": lambda: trades.create_many([trade_values(), trade_values()]),
    "update": lambda: trades.update(trades.get_all(limit=1)[0], pnl=1.0),
    "block": read_and_record,
}


def calls_while(
    away: Callable[[], object], calls: Iterable[Callable[[], object]] = CALLS.values()
) -> list[Outcome]:
    """Start all of the calls while a server is away, and return their outcomes."""
    with ThreadPoolExecutor(1) as other:
        returned = other.submit(away)
        outcomes = in_threads(*calls)
        returned.result()
    return outcomes


# --- a failover -----------------------------------------------------------------------------


def test_no_acknowledged_trade_is_lost_or_doubled_in_a_failover(pair: Pair) -> None:
    pair.primary.require_standby()
    ways = ["create", "create", "get_or_create", "get_or_create"]
    with bots(pair.url(), *ways) as end:
        wait_for_more(pair.primary.url, 200)
        pair.fail_over()
        wait_for_more(pair.standby.url, 200)
        acknowledged = end()
    assert len(acknowledged) > 400
    assert stored(pair.standby.url, "id::text") == sorted(acknowledged)


@pytest.mark.long
def test_a_failover_of_ten_seconds_is_bridged(pair: Pair) -> None:
    init_db(pair.url())
    trade()
    pair.wait_for_standby()
    pair.primary.kill()

    def promote_late() -> None:
        time.sleep(10)
        pair.standby.promote()

    for name, outcome in zip(CALLS, calls_while(promote_late), strict=True):
        assert outcome.error is None, (name, outcome)
        assert outcome.seconds < 10 + SOON
    assert trades.get_trade_count() == 1 + 4
    assert not is_on_standby()


@pytest.mark.parametrize("parameters", [{}, {"target_session_attrs": "read-write"}])
def test_one_address_may_lead_to_a_standby_until_that_is_promoted(
    pair: Pair, parameters: dict[str, str]
) -> None:
    with Proxy(pair.primary.url) as address:
        init_db(address.url(**parameters))
        trade()
        # on a standby, what has read first cannot go on with another server
        calls = CALLS | {
            name: partial(run_transaction, CALLS[name]) for name in ("create_many", "block")
        }
        pair.wait_for_standby()
        pair.primary.kill()
        address.parameters["port"] = str(pair.standby.port)

        def promote_late() -> None:
            time.sleep(1)
            pair.standby.promote()

        outcomes = calls_while(promote_late, calls.values())
        for name, outcome in zip(calls, outcomes, strict=True):
            assert outcome.error is None, (name, outcome)
            assert outcome.seconds < 1 + SOON
        assert trades.get_trade_count() == 1 + 4
        close_db()


def test_the_old_primary_may_come_back_as_the_standby(pair: Pair) -> None:
    init_db(pair.url())
    trade()
    pair.wait_for_standby()
    pair.fail_over()
    trade()
    pair.primary.follow(pair.standby)
    trade()
    close_db()
    init_db(pair.url())
    trade()  # not on the first host of the URL
    # and back again, between two calls
    pair.standby.require_standby()
    trade()
    pair.standby.kill()
    pair.primary.promote()
    trade()
    assert trades.get_trade_count() == 6


def test_a_write_that_waits_while_its_server_fails_is_stored_or_not_known(pair: Pair) -> None:
    init_db(pair.url())
    pair.primary.require_standby()
    new = uuid.uuid4()
    with ThreadPoolExecutor(1) as other:
        with pair.standby.paused():
            call = other.submit(trade, id=new)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            wait_until(lambda: run(pair.primary.url, waiting) == [(1,)])
            pair.primary.kill()
            with pytest.raises(StorageError, match="whether it is stored is not known"):
                call.result(SOON)
        pair.standby.promote()
    there = trades.get_trade_count()
    if there:
        with pytest.raises(DuplicateError):
            trade(id=new)
    else:
        trade(id=new)
    assert trades.get_trade_count() == 1


def test_a_block_that_a_failover_interrupts_is_rolled_back_and_says_so(pair: Pair) -> None:
    init_db(pair.url())
    kept = trade()
    pair.wait_for_standby()
    with pytest.raises(StorageError, match="nothing of it is stored"), session_scope():
        trade()
        pair.fail_over()
        trade()
    assert trades.get_all() == [kept]


def test_with_the_settings_of_the_page_a_commit_waits_for_a_standby(pair: Pair) -> None:
    init_db(pair.url(), call_timeout=CALL_TIMEOUT)
    for line in code_of("docs/postgresql.md", "ini").splitlines()[1:]:
        run(pair.primary.url, f"ALTER SYSTEM SET {line}", "SELECT pg_reload_conf()")
    query = "SELECT sync_state FROM pg_stat_replication"
    wait_until(lambda: run(pair.primary.url, query) == [("quorum",)])
    kept = trade()
    pair.fail_over()
    assert trades.get_all() == [kept]


# --- a dashboard ----------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"target_session_attrs": "prefer-standby"}])
def test_a_dashboard_reads_on_the_standby_and_goes_on_after_a_promotion(
    pair: Pair, parameters: dict[str, str]
) -> None:
    init_db(pair.url())
    trade()
    close_db()
    pair.wait_for_standby()
    init_db(pair.url(**parameters), read_only=True)
    assert trades.get_trade_count() == 1
    assert is_on_standby()
    with pytest.raises(StorageError):
        trade()
    pair.fail_over()
    assert trades.get_trade_count() == 1
    run(pair.standby.url, "UPDATE trade SET pnl = 2")
    assert trades.get_total_pnl() == 2.0
    assert not is_on_standby()


def test_a_dashboard_reads_on_the_primary_while_there_is_no_standby(pair: Pair) -> None:
    init_db(pair.url())
    trade()
    close_db()
    pair.wait_for_standby()
    init_db(pair.url(), read_only=True)
    assert trades.get_trade_count() == 1
    pair.standby.kill()
    assert trades.get_trade_count() == 1
    assert not is_on_standby()


# --- a restart ------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", ["one host", "both hosts"])
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_restart_of_a_second_is_bridged(pair: Pair, hosts: str, how: str) -> None:
    init_db(pair.url() if hosts == "both hosts" else pair.primary.url)
    trade()
    if how == "killed":
        pair.primary.kill()
    else:
        pair.primary.stop()

    def start_late() -> None:
        time.sleep(1)
        pair.primary.start()

    for name, outcome in zip(CALLS, calls_while(start_late), strict=True):
        assert outcome.error is None, (name, outcome)
        assert outcome.seconds < 1 + SOON
    assert trades.get_trade_count() == 1 + 4


def test_a_server_that_starts_later_than_the_bot_is_waited_for(pair: Pair) -> None:
    pair.primary.stop()
    late = threading.Timer(1, pair.primary.start)
    late.start()
    try:
        init_db(pair.url())
    finally:
        late.join()
    trade()


# --- a server that does not answer ----------------------------------------------------------


def require_in_time(outcome: Outcome, message: str) -> None:
    assert isinstance(outcome.error, StorageError), outcome
    assert message in str(outcome.error)
    assert outcome.seconds < CALL_TIMEOUT + LATE


def test_a_server_process_that_hangs_holds_no_call_for_longer_than_call_timeout(
    pair: Pair,
) -> None:
    init_db(pair.primary.url, call_timeout=CALL_TIMEOUT, pool_size=1)
    trade()
    with pair.primary.paused(backend_pid()):
        require_in_time(timed(trades.get_all), "")
    trade()
    new = uuid.uuid4()
    with pair.primary.paused(backend_pid()):
        require_in_time(timed(lambda: trade(id=new)), "whether it is stored is not known")
    with pytest.raises(StorageError, match="rolled back"), session_scope():
        trade()
        with pair.primary.paused(backend_pid()):
            require_in_time(timed(trade), "")
            require_in_time(timed(trades.get_all), "")
    # what the process has received, it executes when it goes on
    wait_until(lambda: trades.get_trade_count() == 3)
    with pytest.raises(DuplicateError):
        trade(id=new)


def test_a_server_that_hangs_holds_no_call_for_longer_than_call_timeout(pair: Pair) -> None:
    init_db(pair.primary.url, call_timeout=CALL_TIMEOUT)
    trade()
    with pair.primary.paused():
        read, write = in_threads(trades.get_all, trade)
        require_in_time(read, "")
        require_in_time(write, "whether it is stored is not known")
        # their connections are gone: now new ones are needed, which are not accepted
        read, write = in_threads(trades.get_all, trade)
        require_in_time(read, "")
        require_in_time(write, "nothing was written")
    assert trades.get_trade_count() in (1, 2)


def test_a_broken_network_holds_no_call_for_longer_than_call_timeout(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    with Proxy(url) as network:
        init_db(network.url(), call_timeout=CALL_TIMEOUT)
        trade()
        network.silent = True
        require_in_time(timed(trade), "whether it is stored is not known")
        require_in_time(timed(trade), "nothing was written")
        require_in_time(timed(trades.get_all), "cannot connect")
        network.silent = False
        read_and_record()
        with pytest.raises(StorageError), session_scope():
            trade()
            network.silent = True
            require_in_time(timed(trades.get_all), "")
        close_db()
        outcome = timed(lambda: init_db(network.url(), call_timeout=CALL_TIMEOUT))
        require_in_time(outcome, "cannot connect")
    assert count(url) == 2


def test_a_host_that_does_not_answer_is_passed_over(pair: Pair) -> None:
    with Proxy(pair.standby.url) as network:
        hosts = f"127.0.0.1:{network.port},127.0.0.1:{pair.primary.port}"
        init_db(f"postgresql://postgres@{hosts}/postgres")
        close_db()
        network.silent = True
        # half of the time at most is spent on the first
        init_db(f"postgresql://postgres@{hosts}/postgres", call_timeout=8)
        trade()
        assert timed(trade).seconds < 2  # and the connections after it begin with the other one


def test_a_missing_synchronous_standby_holds_no_bot_for_longer_than_call_timeout(
    pair: Pair,
) -> None:
    init_db(pair.url(), call_timeout=CALL_TIMEOUT)
    pair.primary.require_standby()
    trade()
    pair.standby.kill()
    require_in_time(timed(trade), "whether it is stored is not known")
    assert timed(trades.get_trade_count).seconds < CALL_TIMEOUT  # a read waits for no standby
    require_in_time(timed(read_and_record), "whether it is stored is not known")
    # the locks of what still waits to be committed are held by the server
    pair.primary.require_standby(is_required=False)
    wait_until(lambda: trades.get_trade_count() == 3)
    read_and_record()


# --- a bot that is stopped ------------------------------------------------------------------

# stops inside a block, with the write lock, until a line arrives
STOPPED_BOT = """
    import sys
    from botmemory import DatabaseBusyError, init_db, run_transaction, session_scope
    from botmemory.repositories import trades
    from samples import trade

    init_db(sys.argv[1], transaction_timeout=2)
    calls = []

    def work():
        calls.append(1)
        trades.get_all(limit=1)
        trade(symbol="STOPPED")
        if len(calls) == 1:
            print("inside", flush=True)
            sys.stdin.readline()
        if sys.argv[2] == "statement":
            trade(symbol="STOPPED")

    try:
        with session_scope():
            work()
        print("committed")
    except DatabaseBusyError as error:
        print("retryable" if error.retryable else "not retryable")
    calls.clear()
    run_transaction(work)
    print("called", len(calls))
"""


@pytest.mark.parametrize("next", ["statement", "commit"])
def test_a_bot_that_is_stopped_in_a_block_keeps_others_waiting_for_transaction_timeout(
    new_database: Callable[[], str], next: str
) -> None:
    url = new_database()
    init_db(url)
    first = trade()
    with start_program(STOPPED_BOT, url, next) as bot:
        assert bot.stdin is not None
        for outcome in ("retryable", "called 2"):
            assert next_line(bot) == "inside"
            bot.send_signal(signal.SIGSTOP)
            blocked, recorded = in_threads(lambda: trades.update(first, pnl=1.0), trade)
            assert blocked.error is recorded.error is None
            assert 0.5 < blocked.seconds < 2 + LATE
            assert recorded.seconds < 1  # which needs no lock
            bot.send_signal(signal.SIGCONT)
            bot.stdin.write("\n")
            bot.stdin.flush()
            assert next_line(bot) == outcome
        assert bot.wait(SOON) == 0
    # the second block was repeated
    assert stored(url, "symbol").count("STOPPED") == (2 if next == "statement" else 1)


def test_a_block_that_the_server_has_ended_says_so_at_its_next_statement(
    new_database: Callable[[], str],
) -> None:
    init_db(new_database(), transaction_timeout=0.2)
    for call in (trade, trades.get_all):
        with pytest.raises(DatabaseBusyError, match="did nothing for") as caught, session_scope():
            trade()
            time.sleep(0.5)
            call()
        assert caught.value.retryable
    assert trades.get_trade_count() == 0
