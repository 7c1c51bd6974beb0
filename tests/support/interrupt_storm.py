"""A program that records while it is interrupted, catches the exceptions and goes on.

python tests/support/interrupt_storm.py KIND TARGET LONGEST. It prints a line for each call
that has returned. After some interrupts it prints "idle", and waits for a byte before it goes on.
It ends at SIGTERM. The name of a group of rows says how many they are.
"""

from __future__ import annotations

import ctypes
import faulthandler
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from botmemory import BotMemoryError, close_db, init_db, run_transaction, session_scope
from botmemory.repositories import trades

HANGS = 20.0  # seconds without a call that returns: print each thread's stack, and exit
IDLE_EACH = 10  # interrupts
SHORTEST = 0.0005  # seconds from one interrupt to the next


class TimeLimit(Exception):  # noqa: N818  (task queues name theirs like this)
    """What a time limit raises."""


# --- what it records ------------------------------------------------------------------------


def create(group: str) -> None:
    trades.create(symbol=group, side="buy", price=1, quantity=1)


def one(group: str) -> None:
    create(f"{group}/1")


def read(group: str) -> None:
    trades.get_all(3)
    for _ in zip(range(20), trades.iterate(), strict=False):
        pass
    create(f"{group}/1")


def scope(group: str) -> None:
    with session_scope():
        create(f"{group}/2")
        trades.get_latest()
        create(f"{group}/2")


def nested(group: str) -> None:
    with session_scope():
        create(f"{group}/2")
        with session_scope():
            create(f"{group}/2")


def many(group: str) -> None:
    trades.create_many(
        {"symbol": f"{group}/3", "side": "buy", "price": 1, "quantity": 1} for _ in range(3)
    )


def repeated(group: str) -> None:
    run_transaction(scope, group)


CALLS: tuple[Callable[[str], None], ...] = (one, scope, nested, many, repeated, read)


class Recorder:
    """Records, and goes on after each exception of one kind."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error
        self.ended = False
        self.is_recording = False  # no interrupt comes where it would not be caught
        self._numbers = itertools.count(1)
        self._interrupted = 0
        self._kept: BaseException | None = None

    def run(self, around: Callable[[Callable[[], None]], None] = lambda call: call()) -> None:
        report("ready")
        while not self.ended:
            try:
                self.is_recording = True
                self._record(around)
            except self.error as error:
                self.is_recording = False
                self._go_on(error)
            finally:
                self.is_recording = False

    def _record(self, around: Callable[[Callable[[], None]], None]) -> None:
        for call in itertools.cycle(CALLS):
            if self.ended:
                return
            group = f"{os.getpid()}-{next(self._numbers)}"
            around(lambda call=call, group=group: call(group))  # type: ignore[misc]
            report(f"stored {group}/{SIZES[call]}")
            faulthandler.dump_traceback_later(HANGS, exit=True)

    def _go_on(self, error: BaseException) -> None:
        self._interrupted += 1
        # with its traceback, as a notebook keeps it; or let go
        self._kept = error if self._interrupted % 2 else None
        report("interrupted")
        if self._interrupted % IDLE_EACH == 0:
            report("idle")
            os.read(0, 1)


SIZES = {one: 1, read: 1, scope: 2, nested: 2, many: 3, repeated: 2}


def report(word: str) -> None:
    os.write(1, f"{word}\n".encode())  # one write, which no interrupt splits


# --- how it is interrupted ------------------------------------------------------------------


def ctrl_c(recorder: Recorder, longest: float) -> None:
    """The parent sends SIGINT."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        if recorder.is_recording:
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    recorder.run()


def alarm(recorder: Recorder, longest: float) -> None:
    """Each call has a time limit, as a decorator sets it."""

    def limited(call: Callable[[], None]) -> None:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(SHORTEST, longest))
        try:
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def limit(*_: object) -> None:
        if recorder.is_recording:
            raise TimeLimit

    signal.signal(signal.SIGALRM, limit)
    recorder.run(limited)


def thread(recorder: Recorder, longest: float) -> None:
    """Another thread raises it in the one that records, as task queues and notebooks do."""
    worker = threading.Thread(target=recorder.run)
    worker.start()
    while not recorder.ended:
        time.sleep(random.uniform(SHORTEST, longest))
        if recorder.is_recording:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(worker.ident or 0), ctypes.py_object(TimeLimit)
            )
    worker.join()


def handler(recorder: Recorder, longest: float) -> None:
    """The handler of a signal, which the parent sends, records as well."""
    numbers = itertools.count(1)
    is_running = False

    def record(*_: object) -> None:
        nonlocal is_running
        if is_running:  # on a busy machine they would pile up, each inside the one before
            return
        is_running = True
        group = f"{os.getpid()}-handler-{next(numbers)}/1"
        try:
            create(group)
            report(f"stored {group}")
        except BotMemoryError as error:
            report(f"refused {error}")
        finally:
            is_running = False

    signal.signal(signal.SIGUSR1, record)
    recorder.run()


def quiet(recorder: Recorder, longest: float) -> None:
    """Nobody interrupts it."""
    recorder.run()


KINDS = {
    function.__name__: (function, error)
    for function, error in (
        (ctrl_c, KeyboardInterrupt),
        (alarm, TimeLimit),
        (thread, TimeLimit),
        (handler, TimeLimit),
        (quiet, TimeLimit),
    )
}


def main() -> None:
    kind, target, longest = sys.argv[1:]
    random.seed(1)
    run, error = KINDS[kind]
    recorder = Recorder(error)

    def end(*_: object) -> None:
        recorder.ended = True

    signal.signal(signal.SIGTERM, end)
    faulthandler.dump_traceback_later(HANGS, exit=True)
    init_db(target, busy_timeout=10 if kind == "quiet" else 5)
    run(recorder, float(longest))
    faulthandler.dump_traceback_later(HANGS, exit=True)  # also where closing or exiting hangs
    close_db()
    report("closed")


if __name__ == "__main__":
    main()
