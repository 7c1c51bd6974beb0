"""Many processes on one database: no row is lost, no process starves, no transaction is torn."""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import signal
import statistics
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from processes import disk, fork_writer, kill, needs_fork
from samples import at, trade, trade_values

from botmemory import close_db, init_db, session_scope
from botmemory.backends.sqlite.backend import SqliteBackend
from botmemory.repositories import trades

__all__ = ["disk"]

PROCESSES = 8
spawn = multiprocessing.get_context("spawn")
# its processes are forked by one that has imported this and opened nothing
forkserver = multiprocessing.get_context("forkserver") if hasattr(os, "fork") else spawn
forkserver.set_forkserver_preload(["pytest", "botmemory.bootstrap", "botmemory.repositories"])


def at_once(
    work: Callable[..., Any],
    *arguments: Any,
    processes: int = PROCESSES,
    context: BaseContext = forkserver,
) -> list[Any]:
    """Run `work` in processes that start together; return their results."""
    start, results = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=work, args=(start, results, number, *arguments))
        for number in range(processes)
    ]
    for process in started:
        process.start()
    found = []
    try:
        while len(found) < processes:
            try:
                found.append(results.get(timeout=1))
            except Empty:
                assert not any(process.exitcode for process in started), "a process failed"
    except BaseException:
        for process in started:  # what is left of them would break the barrier of the next test
            process.kill()
        raise
    finally:
        for process in started:
            process.join()
    return found


def record(start: Barrier, results: Any, number: int, target: str, count: int) -> None:
    init_db(target)
    start.wait(60)
    ids, seconds = [], []
    for _ in range(count):
        began = time.perf_counter()
        ids.append(trade(strategy=str(number)).id)
        seconds.append(time.perf_counter() - began)
    close_db()
    results.put((ids, seconds))


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.long)])
def test_eight_processes_record_at_once(target: str, count: int) -> None:
    found = at_once(record, target, count)
    init_db(target)
    acknowledged = {key for ids, _ in found for key in ids}
    assert len(acknowledged) == PROCESSES * count
    assert {t.id for t in trades.iterate()} == acknowledged


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.long)])
def test_eight_processes_record_on_a_slow_disk(
    path: Path, disk: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_db(path)
    close_db()
    monkeypatch.setenv("LD_PRELOAD", str(disk))
    monkeypatch.setenv("DISK_DELAY_MS", "5")
    found = at_once(record, str(path), count, context=spawn)  # in this environment
    monkeypatch.undo()
    init_db(path)
    acknowledged = {key for ids, _ in found for key in ids}
    assert len(acknowledged) == PROCESSES * count
    assert {t.id for t in trades.iterate()} == acknowledged
    seconds = [second for _, some in found for second in some]
    # no limit in seconds: starving shows as a call that waits for hundreds of others
    assert max(seconds) < 60 * statistics.median(seconds)


def read_then_write(start: Barrier, results: Any, number: int, target: str, count: int) -> None:
    init_db(target)
    start.wait(60)
    for _ in range(count):
        with session_scope():
            [last] = trades.get_latest(limit=1)
            trades.update(last, quantity=last.quantity + 1)
    results.put(number)


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.long)])
def test_eight_processes_read_then_write(target: str, count: int) -> None:
    init_db(target)
    trade(quantity=1)
    close_db()
    at_once(read_then_write, target, count)
    init_db(target)
    assert [t.quantity for t in trades.get_all()] == [1.0 + PROCESSES * count]


def open_and_record(start: Barrier, results: Any, number: int, targets: list[str]) -> None:
    for target in targets:
        start.wait(60)
        init_db(target)
        trade(strategy=str(number))
        close_db()
    results.put(number)


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.long)])
def test_eight_processes_open_a_new_database_at_the_same_time(
    new_target: Callable[[], str], rounds: int
) -> None:
    targets = [new_target() for _ in range(rounds)]
    at_once(open_and_record, targets)
    for target in targets:
        init_db(target, read_only=True)
        assert {t.strategy for t in trades.get_all()} == {str(n) for n in range(PROCESSES)}
        close_db()


def fills(start: Barrier, results: Any, number: int, target: str, count: int) -> None:
    init_db(target)
    start.wait(60)
    created = 0
    for fill in range(count):
        values = trade_values(exchange="okx", exchange_trade_id=str(fill), timestamp=at(fill))
        created += trades.get_or_create(**values)[1]
    results.put(created)


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.long)])
def test_processes_that_report_the_same_fills_record_each_once(target: str, count: int) -> None:
    assert sum(at_once(fills, target, count)) == count
    init_db(target)
    there = [t.exchange_trade_id for t in trades.iterate()]
    assert there == [str(number) for number in range(count)]


@needs_fork
@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.long)])
def test_a_killed_process_tears_no_transaction(target: str, rounds: int) -> None:
    chance = random.Random(11)
    acknowledged: set[str] = set()

    def writer(name: str) -> Callable[[Callable[[Any], None]], None]:
        def work(acknowledge: Callable[[Any], None]) -> None:
            init_db(target)
            for batch in range(10_000):
                label = f"{name}-{batch}"
                with session_scope():
                    for _ in range(10):
                        trade(strategy=label)
                acknowledge(label)

        return work

    for number in range(rounds):
        writers = [fork_writer(writer(f"{number}{who}")) for who in "ab"]
        if number % 2:  # the others may be killed while they open the database
            for _, words in writers:
                select.select([words], [], [], 30)
        time.sleep(chance.uniform(0.02, 0.15))
        for child, words in writers:
            acknowledged.update(kill(child, words))
    database = init_db(target)
    stored: dict[str, int] = {}
    for kept in trades.iterate():
        assert kept.strategy is not None
        stored[kept.strategy] = stored.get(kept.strategy, 0) + 1
    assert len(acknowledged) >= rounds
    assert acknowledged <= stored.keys()
    assert set(stored.values()) == {10}
    if isinstance(database, SqliteBackend):
        assert database.pragma("integrity_check") == "ok"


@needs_fork
def test_a_killed_process_does_not_keep_the_others_waiting(target: str) -> None:
    def work(acknowledge: Callable[[Any], None]) -> None:
        init_db(target)
        with session_scope():
            trades.get_all()
            trade()
            acknowledge("holds the lock")
            time.sleep(60)

    child, words = fork_writer(work)
    assert os.read(words, 100)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(words)
    init_db(target, busy_timeout=1)
    with session_scope():
        assert trades.get_all() == []
        trade()
    assert trades.get_trade_count() == 1
