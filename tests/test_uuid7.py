"""Time-ordered ids: increasing and unique, across threads, signal handlers and forks."""

from __future__ import annotations

import itertools
import random
import select
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from processes import fork_writer, in_child, kill, needs_fork

from botmemory import uuid7 as module
from botmemory.uuid7 import uuid7, uuid_of

# what these tests do on purpose is what Python 3.12 warns of
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def in_order(ids: list[uuid.UUID]) -> bool:
    """Return whether each id is greater than the one before."""
    return all(earlier < later for earlier, later in itertools.pairwise(ids))


def set_clock(patch: pytest.MonkeyPatch, read: Callable[[], int]) -> None:
    class Clock:
        time_ns = staticmethod(read)

    patch.setattr(module, "time", Clock)
    patch.setattr(module, "_ticks", module._new_ticks())


def in_child_or_hang(work: Callable[[], object]) -> list[str]:
    """Run `work` in a child process and return its output after at most ten seconds."""

    def child(acknowledge: Callable[[object], None]) -> None:
        acknowledge(work())
        threading.Event().wait(30)

    pid, words = fork_writer(child)
    select.select([words], [], [], 10)
    return kill(pid, words)


def test_the_bits_are_as_in_the_rfc() -> None:
    before = time.time_ns()
    ids = [uuid7() for _ in range(1_000)]
    after = time.time_ns()
    for id_ in ids:
        assert (id_.version, id_.variant) == (7, uuid.RFC_4122)
        milliseconds, fraction = id_.int >> 80, id_.int >> 64 & 0xFFF
        nanoseconds = milliseconds * 1_000_000 + fraction * 1_000_000 // 4096
        assert before - 1_000 <= nanoseconds <= after
    counters = [id_.int >> 22 & 2**40 - 1 for id_ in ids]
    assert counters == list(range(counters[0], counters[0] + 1_000))
    assert len({id_.int & 2**22 - 1 for id_ in ids}) > 990  # random


def test_uuid_of_equals_uuid_of_the_standard_library() -> None:
    number = uuid.uuid4().int
    assert attributes(uuid_of(number)) == attributes(uuid.UUID(int=number))


def attributes(value: uuid.UUID) -> tuple[Any, ...]:
    return value.int, value.is_safe, hash(value), str(value)


@pytest.mark.parametrize("clock", ["runs", "stands still", "goes back", "jumps"])
def test_many_threads_make_ids_in_order_whatever_the_clock_does(
    clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns()
    past = itertools.count(now, -1_000)
    if clock == "stands still":
        set_clock(monkeypatch, lambda: now)
    elif clock == "goes back":
        set_clock(monkeypatch, lambda: next(past))
    elif clock == "jumps":
        set_clock(monkeypatch, lambda: now + random.randrange(1_000_000))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            lists = list(pool.map(lambda _: [uuid7() for _ in range(2_000)], range(8)))
    finally:
        sys.setswitchinterval(interval)
    assert all(map(in_order, lists))
    assert len(set(itertools.chain(*lists))) == 8 * 2_000


def test_an_id_is_greater_than_those_that_other_threads_have_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns()
    set_clock(monkeypatch, lambda: now + random.randrange(1_000_000))
    latest = [uuid7()]
    wrong: list[uuid.UUID] = []

    def work() -> None:
        for _ in range(2_000):
            returned = latest[0]
            new_id = uuid7()
            if new_id <= returned:
                wrong.append(new_id)
            latest[0] = new_id

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_fork
@pytest.mark.processes
def test_a_signal_handler_makes_ids_in_the_middle_of_one() -> None:
    def work() -> tuple[bool, bool]:
        handled: list[uuid.UUID] = []
        nested: list[uuid.UUID] = []  # in a handler that interrupts a handler
        running = 0

        def handle(*_: object) -> None:
            nonlocal running
            running += 1
            made = uuid7()
            # the one that is interrupted may append its own after this one
            (handled if running == 1 else nested).append(made)
            running -= 1

        signal.signal(signal.SIGALRM, handle)
        ids, end = [], time.monotonic() + 20
        while len(handled) < 500 and time.monotonic() < end:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.000_002, 0.000_05))
            ids.extend([uuid7() for _ in range(50)])
        everything = ids + handled + nested
        good = in_order(ids) and in_order(handled) and len(set(everything)) == len(everything)
        return good, len(handled) >= 500

    assert in_child_or_hang(work) == ["(True, True)"]


class Interrupted(BaseException):
    """What a signal handler raises, as Python's own raises KeyboardInterrupt."""


def interrupt_at(opcode: int) -> bool:
    """Make an id and raise at one of its opcodes; return whether the opcode was reached."""
    left = opcode

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        frame.f_trace_opcodes = frame.f_code.co_filename == module.__file__
        if frame.f_trace_opcodes and event == "opcode":
            left -= 1
            if left < 0:
                raise Interrupted
        return trace

    sys.settrace(trace)
    try:
        uuid7()
    except Interrupted:
        return True
    finally:
        sys.settrace(None)
    return False


@needs_fork
@pytest.mark.processes
@pytest.mark.parametrize("random_numbers", ["left", "used up"])
def test_an_interrupt_anywhere_leaves_no_lock_held(random_numbers: str) -> None:
    def work() -> tuple[bool, bool]:
        ids = [uuid7()]
        for opcode in itertools.count():
            if random_numbers == "used up":
                module._random.clear()
            interrupted = interrupt_at(opcode)
            ids.append(uuid7())
            with ThreadPoolExecutor(1) as pool:
                ids.append(pool.submit(uuid7).result())
            if not interrupted:
                return in_order(ids), opcode > 40
        raise AssertionError

    assert in_child_or_hang(work) == ["(True, True)"]


@needs_fork
@pytest.mark.processes
def test_a_fork_while_other_threads_make_ids_makes_none_twice() -> None:
    end = threading.Event()
    ids: list[uuid.UUID] = []

    def work() -> None:
        while not end.is_set():
            ids.append(uuid7())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            ids.extend(in_child(lambda: [uuid7() for _ in range(200)]))
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert len(set(ids)) == len(ids)


@needs_fork
@pytest.mark.processes
def test_a_child_and_its_parent_make_different_ids_also_while_the_clock_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.time_ns()
    set_clock(monkeypatch, lambda: now)
    for _ in range(20):  # a new counter begins above or below the old one
        before = uuid7()
        of_child = in_child(lambda: [uuid7() for _ in range(64)])
        of_parent = [uuid7() for _ in range(64)]
        assert in_order([before, *of_child])
        assert in_order([before, *of_parent])
        counters = [{i.int >> 22 & 2**40 - 1 for i in ids} for ids in (of_child, of_parent)]
        assert not counters[0] & counters[1]
        numbers = [{i.int & 2**22 - 1 for i in ids} for ids in (of_child, of_parent)]
        assert len(numbers[0] & numbers[1]) < 4  # random ones
