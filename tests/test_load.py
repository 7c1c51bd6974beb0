"""Many processes on one file: nothing lost, nobody starved, nothing torn."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from processes import disk, fork_writer, kill, needs_fork
from samples import at, trade, trade_values

from botmemory import close_db, init_db, session_scope
from botmemory.repositories import trades

__all__ = ["disk"]

PROCESSES = 8
spawn = multiprocessing.get_context("spawn")


def at_once(work: Callable[..., Any], *arguments: Any, processes: int = PROCESSES) -> list[Any]:
    """Run `work` in processes that begin at the same moment; return what they answered."""
    start, answers = spawn.Barrier(processes), spawn.Queue()
    started = [
        spawn.Process(target=work, args=(start, answers, number, *arguments))
        for number in range(processes)
    ]
    for process in started:
        process.start()
    found = []
    while len(found) < processes:
        try:
            found.append(answers.get(timeout=1))
        except Empty:
            assert not any(process.exitcode for process in started), "a process failed"
    for process in started:
        process.join()
    return found


def record(start: Barrier, answers: Any, number: int, path: Path, count: int) -> None:
    init_db(path)
    start.wait(60)
    ids, seconds = [], []
    for _ in range(count):
        began = time.perf_counter()
        ids.append(trade(strategy=str(number)).id)
        seconds.append(time.perf_counter() - began)
    close_db()
    answers.put((ids, seconds))


@pytest.mark.parametrize("count", [25, pytest.param(500, marks=pytest.mark.long)])
def test_eight_processes_record_on_a_slow_disk(
    path: Path, disk: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_db(path)
    close_db()
    monkeypatch.setenv("LD_PRELOAD", str(disk))
    monkeypatch.setenv("DISK_DELAY_MS", "5")
    found = at_once(record, path, count)
    monkeypatch.undo()
    init_db(path)
    acknowledged = {key for ids, _ in found for key in ids}
    assert len(acknowledged) == PROCESSES * count
    assert {t.id for t in trades.iterate()} == acknowledged
    seconds = [second for _, some in found for second in some]
    # no limit in seconds: starving shows as a call that waits for hundreds of others
    assert max(seconds) < 60 * statistics.median(seconds)


def read_then_write(start: Barrier, answers: Any, number: int, path: Path, count: int) -> None:
    init_db(path)
    start.wait(60)
    for _ in range(count):
        with session_scope():
            [last] = trades.get_latest(limit=1)
            trades.update(last, quantity=last.quantity + 1)
    answers.put(number)


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.long)])
def test_eight_processes_read_then_write(path: Path, count: int) -> None:
    init_db(path)
    trade(quantity=1)
    close_db()
    at_once(read_then_write, path, count)
    init_db(path)
    assert [t.quantity for t in trades.get_all()] == [1.0 + PROCESSES * count]


def open_and_record(start: Barrier, answers: Any, number: int, paths: list[Path]) -> None:
    for path in paths:
        start.wait(60)
        init_db(path)
        trade(strategy=str(number))
        close_db()
    answers.put(number)


@pytest.mark.parametrize("rounds", [8, pytest.param(100, marks=pytest.mark.long)])
def test_eight_processes_open_a_new_file_at_the_same_moment(tmp_path: Path, rounds: int) -> None:
    paths = [tmp_path / f"{number}.db" for number in range(rounds)]
    at_once(open_and_record, paths)
    for path in paths:
        init_db(path, read_only=True)
        assert {t.strategy for t in trades.get_all()} == {str(n) for n in range(PROCESSES)}
        close_db()


def fills(start: Barrier, answers: Any, number: int, path: Path, count: int) -> None:
    init_db(path)
    start.wait(60)
    created = 0
    for fill in range(count):
        values = trade_values(exchange="okx", exchange_trade_id=str(fill), timestamp=at(fill))
        created += trades.get_or_create(**values)[1]
    answers.put(created)


def test_processes_that_report_the_same_fills_record_each_once(path: Path) -> None:
    init_db(path)
    close_db()
    assert sum(at_once(fills, path, 50, processes=4)) == 50
    init_db(path)
    assert trades.get_trade_count() == 50


@needs_fork
@pytest.mark.parametrize("rounds", [10, pytest.param(100, marks=pytest.mark.long)])
def test_a_killed_process_tears_no_transaction(path: Path, rounds: int) -> None:
    init_db(path)
    close_db()
    chance = random.Random(11)
    acknowledged: set[str] = set()

    def writer(name: str) -> Callable[[Callable[[Any], None]], None]:
        def work(acknowledge: Callable[[Any], None]) -> None:
            init_db(path)
            for batch in range(10_000):
                label = f"{name}-{batch}"
                with session_scope():
                    for _ in range(10):
                        trade(strategy=label)
                acknowledge(label)

        return work

    for number in range(rounds):
        writers = [fork_writer(writer(f"{number}{who}")) for who in "ab"]
        time.sleep(chance.uniform(0.02, 0.15))
        for child, words in writers:
            acknowledged.update(kill(child, words))
    database = init_db(path)
    stored: dict[str, int] = {}
    for kept in trades.iterate():
        assert kept.strategy is not None
        stored[kept.strategy] = stored.get(kept.strategy, 0) + 1
    assert len(acknowledged) > rounds
    assert acknowledged <= stored.keys()
    assert set(stored.values()) == {10}
    assert database.pragma("integrity_check") == "ok"


@needs_fork
def test_a_killed_process_does_not_keep_the_others_waiting(path: Path) -> None:
    init_db(path)
    close_db()

    def work(acknowledge: Callable[[Any], None]) -> None:
        init_db(path)
        with session_scope():
            trade()
            acknowledge("holds the lock")
            time.sleep(60)

    child, words = fork_writer(work)
    assert os.read(words, 100)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(words)
    with closing(init_db(path, busy_timeout=1)):
        trade()
        assert trades.get_trade_count() == 1
