"""The queue of writers: one at a time, for as long as one is willing to wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from processes import needs_signals

from botmemory.backends.sqlite.lock import FileLock


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "bot.db-lock")


def test_one_thread_holds_the_lock_at_a_time(file: str) -> None:
    first, second = FileLock(file), FileLock(file)
    assert first.acquire(0)
    assert not second.acquire(0)
    first.release()
    assert second.acquire(0)
    if os.name == "posix":
        assert Path(file).stat().st_mode & 0o777 == 0o600


def test_a_waiter_acquires_the_lock_as_soon_as_it_is_released(file: str) -> None:
    first, second = FileLock(file), FileLock(file)
    assert first.acquire(0)
    threading.Timer(0.05, first.release).start()
    assert second.acquire(10)
    assert not first.acquire(0)


def test_a_waiter_that_timed_out_does_not_hold_the_lock_later(file: str) -> None:
    first, second = FileLock(file), FileLock(file)
    assert first.acquire(0)
    assert not second.acquire(0.05)
    first.release()
    assert FileLock(file).acquire(5)


def test_the_lock_can_be_acquired_after_a_timeout(file: str) -> None:
    first, second = FileLock(file), FileLock(file)
    assert first.acquire(0)
    assert not second.acquire(0.05)
    first.release()
    assert second.acquire(5)
    assert not first.acquire(0)


@needs_signals
def test_an_interrupted_waiter_does_not_hold_the_lock_later(file: str) -> None:
    class InterruptedByUserError(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise InterruptedByUserError

    first, second = FileLock(file), FileLock(file)
    assert first.acquire(0)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(InterruptedByUserError):
            second.acquire(10)
    finally:
        signal.signal(signal.SIGALRM, before)
    first.release()
    assert FileLock(file).acquire(5)


def test_the_lock_is_released_with_its_object(file: str) -> None:
    assert FileLock(file).acquire(0)
    assert FileLock(file).acquire(5)


def test_many_threads_acquire_the_lock_in_turn(file: str) -> None:
    inside: list[int] = []
    most = []

    def work() -> None:
        lock = FileLock(file)
        for _ in range(20):
            assert lock.acquire(30)
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.0005)
            inside.pop()
            lock.release()

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1] * 120
