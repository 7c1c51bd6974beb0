"""Connections to a server: how many, what happens when one is lost, TLS, passwords, forks."""

from __future__ import annotations

import gc
import logging
import os
import signal as posix
import socket
import ssl
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import peewee
import pytest
import trustme
from processes import in_child, needs_fork, needs_signals
from programs import in_threads, timed
from proxy import Proxy
from replication import wait_until
from samples import at, signal, trade, trade_values
from servers import Restartable, changed, run

from botmemory import (
    ConfigError,
    DatabaseBusyError,
    DuplicateError,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    db,
    get_db,
    init_db,
    session_scope,
)
from botmemory._url import server_parameters
from botmemory.repositories import signals, trades


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """A network in front of an empty database that is open through it."""
    init_db(url)
    close_db()
    with Proxy(url) as network:
        init_db(network.url())
        yield network
        network.silent = False
        close_db()


def connections(url: str) -> int:
    rows = run(
        url,
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'botmemory'",
    )
    return int(rows[0][0])


# --- the pool -------------------------------------------------------------------------------


def test_many_threads_share_a_few_connections(url: str) -> None:
    init_db(url, pool_size=3)
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda _: trade(), range(200)))
    assert trades.get_trade_count() == 200
    assert 1 <= connections(url) <= 3
    close_db()
    gc.collect()
    assert connections(url) == 0


def test_threads_that_end_leave_no_connection_in_use(url: str) -> None:
    init_db(url, pool_size=2)
    for _ in range(10):
        thread = threading.Thread(target=trades.get_all)
        thread.start()
        thread.join()
    assert trades.get_all() == []


def test_closing_waits_until_no_thread_is_in_a_transaction(url: str) -> None:
    init_db(url)
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with session_scope():
            trade()
            inside.set()
            leave.wait(20)

    with ThreadPoolExecutor(1) as other:
        done = other.submit(work)
        inside.wait(20)
        with pytest.raises(DatabaseBusyError, match="in this thread or another one"):
            close_db()
        leave.set()
        done.result()
    close_db()
    wait_until(lambda: connections(url) == 0)  # a session ends after its connection
    init_db(url)
    assert trades.get_trade_count() == 1


def test_what_the_caller_was_handling_does_not_hide_why_connecting_failed() -> None:
    class CallerError(Exception):
        pass

    try:
        raise CallerError
    except CallerError:
        with pytest.raises(StorageError, match="cannot connect"):
            init_db("postgresql://bot@127.0.0.1:1/memory", call_timeout=0.5)


def test_calls_go_on_while_another_thread_opens_a_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botmemory.backends.server.hosts.AVOIDED", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        host = f"127.0.0.1,{server_parameters(url)['host']}"
        port = f"{silent.getsockname()[1]},5432"
        init_db(changed(url, host=host, port=port, connect_timeout="2"))
        with ThreadPoolExecutor(1) as other, session_scope():
            trades.get_trade_count()
            opening = other.submit(timed, trades.get_all)
            slowest = 0.0
            while not opening.done():
                slowest = max(slowest, timed(trades.get_trade_count).seconds)
        assert opening.result().value == []
        assert opening.result().seconds > 1.5
        assert slowest < 1.0


def test_a_used_up_pool_is_a_named_error(url: str) -> None:
    init_db(url, pool_size=1, busy_timeout=0.3)
    with ThreadPoolExecutor(1) as other, session_scope():
        asked = other.submit(trades.get_all)
        with pytest.raises(DatabaseBusyError, match=r"all 1 connections of the pool \(pool_size"):
            asked.result()
    assert trades.get_all() == []


def test_waiting_too_long_for_a_row_is_a_named_error(url: str) -> None:
    init_db(url, busy_timeout=0.3)
    held = trade()
    with ThreadPoolExecutor(1) as other, session_scope():
        trades.update(held, pnl=1.0)
        with pytest.raises(DatabaseBusyError, match="another writer held it for more than 0.3 s"):
            other.submit(trades.delete, held).result()
    assert trades.get_total_pnl() == 1.0


def test_get_db_releases_its_connection(url: str) -> None:
    init_db(url, pool_size=1)
    for database in get_db():
        database.connection()
    with ThreadPoolExecutor(1) as other:
        assert other.submit(trades.get_all).result() == []


@pytest.mark.parametrize("in_scope", [True, False])
def test_an_iterate_that_is_collected_inside_a_call_waits_for_nothing(
    url: str, in_scope: bool
) -> None:
    """The garbage collector may end it while psycopg holds the lock of its connection."""
    init_db(url, pool_size=2)
    trades.create_many(trade_values(timestamp=at(i)) for i in range(1500))

    def collect() -> int:
        with session_scope() if in_scope else nullcontext():
            rows = trades.iterate()
            next(rows)
            for connection in db.obj.pool.connections():
                connection.lock.acquire()
            rows.close()
            for connection in db.obj.pool.connections():
                connection.lock.release()
            return trades.get_trade_count()

    for outcome in (*in_threads(collect), *in_threads(collect)):
        assert outcome.error is None
        assert outcome.value == 1500
    assert len(db.obj.pool.connections()) <= 2


def test_a_loop_over_iterate_may_record(url: str) -> None:
    init_db(url, pool_size=2)
    trades.create_many(trade_values(timestamp=at(i)) for i in range(2500))
    for number, seen in enumerate(trades.iterate()):
        assert seen.timestamp == at(number)
        if number % 500 == 0:
            trades.update(seen, pnl=1.0)
    assert trades.get_total_pnl() == 5.0
    half_read = trades.iterate()
    next(half_read)
    del half_read
    gc.collect()
    assert len(db.obj.pool.connections()) == len(db.obj.pool.idle)


def test_iterate_outlives_no_transaction(url: str) -> None:
    init_db(url)
    trades.create_many(trade_values() for _ in range(3000))
    with session_scope():
        trade(timestamp=at(-1))
        rows = trades.iterate()
        assert next(rows).timestamp == at(-1)  # it sees what the transaction has done
    with session_scope():
        with pytest.raises(StorageError, match="transaction .* is over; finish it inside"):
            next(rows)
        trade()  # and the transaction after it is none the worse
    with session_scope():
        rows = trades.iterate()
        next(rows)
    del rows
    gc.collect()
    assert trades.get_trade_count() == 3002


# --- lost connections -----------------------------------------------------------------------


def test_a_server_that_restarts_between_two_calls_is_reconnected_to(
    restartable: Restartable,
) -> None:
    init_db(restartable.url)
    before = trade(price=1)
    there = trades.get_trade_count()
    restartable.restart()
    assert trades.get_by_id(before.id) == before
    restartable.restart()
    with session_scope():
        trade(price=2)
    restartable.restart(kill=True)
    trade(price=3)
    restartable.restart()
    assert len(list(trades.iterate())) == there + 2


def test_a_server_that_stays_away_is_a_named_error(restartable: Restartable) -> None:
    init_db(restartable.url, call_timeout=1)
    trade()
    restartable.stop()
    try:
        for call in (trade, trades.get_all, lambda: list(trades.iterate())):
            with pytest.raises(StorageError, match=r"cannot connect .* nothing was written"):
                call()
        with pytest.raises(StorageError, match="cannot connect"), session_scope():
            trade()
        close_db()
        with pytest.raises(StorageError, match="check that the server runs"):
            init_db(restartable.url, call_timeout=1)
    finally:
        restartable.start()
    init_db(restartable.url)
    assert trades.get_trade_count() >= 1


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_inside_a_transaction_undoes_it_and_says_so(
    restartable: Restartable, kill: bool
) -> None:
    init_db(restartable.url)
    there = trades.get_trade_count()
    message = "nothing of it is stored: leave session_scope"
    with pytest.raises(StorageError, match=message), session_scope():
        trade()
        restartable.restart(kill=kill)
        trade()
    with pytest.raises(StorageError, match="connection was lost") as caught, session_scope():
        trade()
        restartable.restart(kill=kill)
        with pytest.raises(StorageError):  # a bot that swallows it loses it at the commit
            trade()
        with pytest.raises(StorageError):
            trades.get_all()
    assert "lost inside this transaction, and all of it is rolled back" in str(caught.value)
    assert trades.get_trade_count() == there
    trade()
    assert trades.get_trade_count() == there + 1


def test_a_connection_lost_between_two_calls_is_replaced(proxy: Proxy) -> None:
    first = trade()
    proxy.cut()
    assert trades.get_all() == [first]
    proxy.cut()
    trade()
    proxy.cut()
    with session_scope():
        trade()
    assert trades.get_trade_count() == 3


def test_a_record_whose_answer_was_lost_is_never_repeated(proxy: Proxy) -> None:
    proxy.lose_response_to = b"INSERT"
    with pytest.raises(StorageError, match=r"whether it is stored is not known: .* id= or"):
        trade()
    assert trades.get_trade_count() == 1  # it was stored, and once


def test_a_transaction_whose_answer_was_lost_is_never_repeated(proxy: Proxy) -> None:
    with pytest.raises(StorageError, match="whether it is stored is not known"), session_scope():
        trade()
        trade()
        proxy.lose_response_to = b"COMMIT"
    assert trades.get_trade_count() == 2


def test_a_record_with_an_id_is_safe_to_repeat(proxy: Proxy) -> None:
    proxy.lose_response_to = b"INSERT"
    fill = {"exchange": "okx", "exchange_trade_id": "1"} | trade_values()
    with pytest.raises(StorageError, match="get_or_create"):
        trades.get_or_create(**fill)
    assert trades.get_or_create(**fill)[1] is False
    assert trades.get_trade_count() == 1


def test_a_query_whose_result_was_lost_is_repeated(proxy: Proxy) -> None:
    there = trade()
    proxy.lose_response_to = b"SELECT"
    assert trades.get_all() == [there]


def test_a_query_of_peewee_whose_result_was_lost_is_repeated(proxy: Proxy) -> None:
    there = trade()
    query = Trade.select().order_by(Trade.id)
    for each in (query, query | query, query.with_cte(Trade.select(Trade.id).cte("a"))):
        proxy.lose_response_to = b"SELECT"
        assert list(each) == [there]


def test_a_transaction_of_manual_commit_whose_connection_was_lost_is_not_stored_in_part(
    proxy: Proxy,
) -> None:
    with db.manual_commit():
        db.begin()
        trade(strategy="lost")
        proxy.cut()
        for _ in range(2):  # what would be a transaction of its own
            with pytest.raises(StorageError, match="lost"):
                trade(strategy="lost")
        db.rollback()
        trade(strategy="later")
    assert [row.strategy for row in trades.get_all()] == ["later"]


def test_manual_commit_goes_on_after_a_failed_statement_and_gives_its_connection_back(
    url: str,
) -> None:
    init_db(url, pool_size=1)
    row = trade()
    with db.manual_commit():
        with pytest.raises(DuplicateError):
            trade(id=row.id)
        trade(strategy="later")
        db.begin()
        with pytest.raises(DuplicateError):
            trade(id=row.id)
        db.rollback()
        db.rollback()  # again, with nothing to do
        assert len(trades.get_all()) == 2
        db.begin()
        trade(strategy="later")
        db.commit()
    [outcome] = in_threads(trades.get_trade_count)
    assert outcome.value == 3, outcome


def test_a_connection_that_was_idle_for_long_is_tested_first(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botmemory.backends.server.connection.IDLE_BEFORE_CHECK", 0.0)
    trade()
    proxy.lose_response_to = b"\0"  # gone without a word, as behind a router that forgot it
    trade()
    assert trades.get_trade_count() == 2


def test_a_network_that_is_cut_is_noticed_within_minutes(proxy: Proxy) -> None:
    with db.obj.acquire_connection(time.monotonic() + 30) as connection:
        raw = socket.socket(fileno=os.dup(connection.fileno()))
        with raw:
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


# --- TLS and passwords ----------------------------------------------------------------------


def test_the_tls_options_of_the_url_hold(url: str, tmp_path: Path) -> None:
    init_db(url)
    close_db()
    authority, stranger = trustme.CA(), trustme.CA()
    trusted, other = tmp_path / "trusted.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(str(trusted))
    stranger.cert_pem.write_to_path(str(other))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with Proxy(url, tls=context) as network:
        init_db(network.url("localhost", sslmode="verify-full", sslrootcert=str(trusted)))
        trade()
        assert network.tls_connections > 0
        close_db()
        for host, root, said in (
            ("localhost", other, "certificate verify failed"),
            ("127.0.0.1", trusted, "does not match host name"),
        ):
            with pytest.raises(StorageError, match=said):
                init_db(network.url(host, sslmode="verify-full", sslrootcert=str(root)))
    with Proxy(url) as network, pytest.raises(StorageError, match="SSL"):
        init_db(network.url(sslmode="require"))


def test_an_option_that_libpq_does_not_know_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"'sslmodus' .*did you mean 'sslmode'"):
        init_db(changed(url, sslmodus="require"))


@pytest.mark.parametrize("password", ["s3cr3t", "p@ss/w:rd?#&= 'x\"%41\\", "пароль🔑", "%", "@"])
def test_any_password_works_and_appears_nowhere(
    restartable: Restartable, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    user = f"bot_{uuid.uuid4().hex}"
    quoted = password.replace("'", "''")
    run(restartable.url, f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{quoted}'")
    [(file,)] = run(restartable.url, "SHOW hba_file")
    before = Path(file).read_text()
    Path(file).write_text(f"local all {user} scram-sha-256\n{before}")
    try:
        run(restartable.url, "SELECT pg_reload_conf()")
        database = init_db(changed(restartable.url, user=user, password=password))
        trade()
        shown = [repr(database), repr(vars(database)), repr(db.config), str(db.config.label)]
        close_db()
        with pytest.raises(StorageError, match="password authentication failed") as caught:
            init_db(changed(restartable.url, user=user, password=password + "x"))
        shown += [str(caught.value), repr(caught.value.__cause__)]
        with pytest.raises(StorageError, match="no password supplied"):
            init_db(changed(restartable.url, user=user))
        raw = server_parameters(changed(restartable.url, user=user, password=password))
        assert raw["password"] == password
    finally:
        Path(file).write_text(before)
        run(restartable.url, "SELECT pg_reload_conf()")
    shown.append("\n".join(str(record.__dict__) for record in caplog.records))
    if len(password) > 1:
        assert [text for text in shown if password in text] == []


# --- transactions ---------------------------------------------------------------------------


def test_a_failed_call_inside_a_transaction_undoes_only_itself(url: str) -> None:
    init_db(url)
    with session_scope():
        kept = trade()
        with pytest.raises(ValidationError, match="signal"):
            trade(signal=999)
        also = trade(signal=signal())
    assert {row.id for row in trades.get_all()} == {kept.id, also.id}


def test_a_broken_transaction_is_never_called_committed(url: str) -> None:
    init_db(url)
    message = "earlier statement failed .* all of it is rolled back"
    with pytest.raises(StorageError, match=message), session_scope() as database:
        trade()
        with pytest.raises(peewee.ProgrammingError, match="syntax"):
            database.execute_sql("SELEC")
    assert trades.get_trade_count() == 0
    with pytest.raises(StorageError, match="earlier statement"), session_scope() as database:
        with pytest.raises(peewee.ProgrammingError, match="syntax"):
            database.execute_sql("SELEC")
        trade()
    trade()
    assert trades.get_trade_count() == 1


# --- forks ----------------------------------------------------------------------------------


@needs_fork
def test_parent_and_child_both_record(url: str) -> None:
    init_db(url)
    trade()
    with ThreadPoolExecutor(1) as other:  # another thread's connection is no obstacle
        other.submit(trade).result()

        def child() -> tuple[int, list[str]]:
            trade()
            gc.collect()
            count = trades.get_trade_count()
            close_db()
            return count, [str(warning.message) for warning in said]

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert in_child(child) == (3, [])
    for _ in range(3):
        trade()
    assert trades.get_trade_count() == 6


@needs_fork
def test_a_child_forked_inside_a_transaction_is_refused_and_harms_nothing(url: str) -> None:
    init_db(url)

    def child() -> str:
        try:
            trade()
        except StorageError as error:
            return str(error)
        return "recorded"

    with session_scope():
        trade()
        assert "forked inside a transaction" in in_child(child)
        trade()
    assert trades.get_trade_count() == 2


def test_signals_of_one_batch_have_ids_of_their_own(url: str) -> None:
    init_db(url)
    first = signal()
    signals.create_many({"symbol": "X", "signal_value": 1} for _ in range(1000))
    ids = {row.id for row in signals.iterate()}
    assert len(ids) == 1001
    assert min(ids) == first.id
    assert Trade.select().count() == 0


class TimeLimitError(Exception):
    """Raised by a signal handler."""


@needs_signals
@pytest.mark.parametrize("error_class", [TimeLimitError, TimeoutError, KeyboardInterrupt])
def test_what_a_signal_handler_raises_during_a_wait_is_raised_as_it_is(
    error_class: type[BaseException], url: str
) -> None:
    init_db(url)

    def interrupt(*_: object) -> None:
        raise error_class("enough")

    before = posix.signal(posix.SIGALRM, interrupt)
    try:
        posix.setitimer(posix.ITIMER_REAL, 0.2)
        # the statement is sent together with others, in a pipeline of psycopg's
        with pytest.raises(error_class, match="enough"), session_scope() as database:
            database.execute_sql("SELECT pg_sleep(20)")
    finally:
        posix.setitimer(posix.ITIMER_REAL, 0)
        posix.signal(posix.SIGALRM, before)
    trade()
    assert trades.get_trade_count() == 1
