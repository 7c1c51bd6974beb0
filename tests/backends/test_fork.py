"""After a fork both processes record, or the child refuses; nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import select
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import fork_writer, in_child, kill, needs_fork
from samples import trade

from botmemory import DatabaseBusyError, StorageError, close_db, init_db, session_scope
from botmemory.database import lifecycle
from botmemory.repositories import trades

pytestmark = [
    needs_fork,
    # what these tests do on purpose is what Python 3.12 warns of
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


def test_parent_and_child_record_after_a_fork(path: Path) -> None:
    init_db(path)
    trade(price=1)
    in_child(lambda: [trade(price=2) for _ in range(20)] and None)
    for _ in range(20):
        trade(price=3)
    assert trades.get_trade_count() == 41


def test_a_child_that_goes_on_after_its_parent_has_closed_loses_nothing(path: Path) -> None:
    init_db(path)
    trade(price=1)
    parent_closed, closing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            trade(price=2)
            os.read(parent_closed, 1)
            for _ in range(50):
                trade(price=2)
            code = 0
        finally:
            os._exit(code)
    trade(price=3)
    close_db()
    os.write(closing, b"x")
    assert os.waitpid(child, 0)[1] == 0
    os.close(parent_closed)
    os.close(closing)
    init_db(path)
    assert trades.get_trade_count() == 53


def refused() -> str:
    """Return the message of the error that each call in the child raises."""
    with pytest.raises(StorageError, match="this process was forked while") as first:
        trade()
    with pytest.raises(StorageError):
        trades.get_all()
    with pytest.raises(StorageError), session_scope():
        pass
    return str(first.value)


def test_a_transaction_of_the_parent_cannot_be_used_in_the_child(path: Path) -> None:
    init_db(path)
    with session_scope():
        trade()
        text = in_child(refused)
        trade()
    assert "spawn" in text
    assert trades.get_trade_count() == 2


def test_opening_again_in_such_a_child_is_refused_too(path: Path) -> None:
    init_db(path)

    def child() -> None:
        from botmemory import db

        db.initialize(None)
        with pytest.raises(StorageError, match="this process was forked while"):
            init_db(path)
        init_db(path.with_name("another.db"))
        trade()

    with session_scope():
        trade()
        in_child(child)
    assert trades.get_trade_count() == 1


def test_a_connection_of_another_thread_makes_the_child_refuse(path: Path) -> None:
    init_db(path)
    connected, done = threading.Event(), threading.Event()

    def work() -> None:
        trade()
        connected.set()
        done.wait(10)
        trade()

    thread = threading.Thread(target=work)
    thread.start()
    connected.wait(10)
    in_child(refused)
    done.set()
    thread.join()
    in_child(trade)
    assert trades.get_trade_count() == 3


def test_parent_and_child_wait_for_each_other(path: Path) -> None:
    init_db(path, busy_timeout=0.2)
    trade()

    in_child(trade)
    holder, words = fork_writer(hold)
    assert os.read(words, 10)
    with pytest.raises(DatabaseBusyError):
        trade()
    locks = Path("/proc/locks").read_text() if Path("/proc/locks").exists() else f" {holder} "
    assert f" {holder} " in locks
    kill(holder, words)
    trade()
    assert trades.get_trade_count() == 3


def hold(acknowledge: Callable[[object], None]) -> None:
    with session_scope():
        trade()
        acknowledge("holds")
        threading.Event().wait(30)


def test_a_fork_waits_for_a_thread_that_opens_the_database(path: Path) -> None:
    opening = threading.Event()

    def work() -> None:
        with lifecycle:
            opening.set()
            time.sleep(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    opening.wait(10)

    def child(acknowledge: Callable[[object], None]) -> None:
        close_db()
        acknowledge("closed")

    pid, words = fork_writer(child)
    ready, _, _ = select.select([words], [], [], 10)
    assert kill(pid, words)
    assert ready
    thread.join()


def test_a_pool_of_forked_workers_records(path: Path) -> None:
    init_db(path)
    trade()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(3) as pool:
            pool.map(work_in_pool, range(30))
            pool.close()
            pool.join()
    assert trades.get_trade_count() == 31


def work_in_pool(number: int) -> None:
    trade(price=number + 1)


def test_an_in_memory_database_is_copied_to_the_child(path: Path) -> None:
    init_db(":memory:")
    trade()

    def child() -> int:
        trade()
        return trades.get_trade_count()

    assert in_child(child) == 2
    assert trades.get_trade_count() == 1
