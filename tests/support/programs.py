"""Threads and processes of a test, each with a limit on its time: what hangs fails the test."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from servers import run

from botmemory import BotMemoryError, close_db, db

__all__ = [
    "SOON",
    "Outcome",
    "in_threads",
    "program",
    "released",
    "start_program",
    "stored",
    "timed",
    "watchdog",
    "writer_elsewhere",
]

SOON = 8.0  # seconds: far more than a call takes on a busy machine, and far less than busy_timeout

# programs that hold the write lock until stdin is closed, and store nothing
HOLDERS = {
    "botmemory": """
        import sys
        from botmemory import init_db, session_scope
        from botmemory.repositories import trades
        from samples import trade

        class Rollback(Exception):
            pass

        init_db(sys.argv[1])
        try:
            with session_scope():
                trades.get_all(limit=1)
                trade(symbol="HELD")
                print("held", flush=True)
                sys.stdin.read()
                raise Rollback
        except Rollback:
            pass
        """,
    "sqlite3": """
        import sqlite3, sys

        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        print("held", flush=True)
        sys.stdin.read()
        connection.execute("ROLLBACK")
        """,
}


class Outcome(NamedTuple):
    """What a call returned or raised, and how long it took."""

    value: Any
    error: BaseException | None
    seconds: float


def timed(call: Callable[[], Any]) -> Outcome:
    """Call and return the outcome."""
    began = time.monotonic()
    try:
        value, error = call(), None
    except BaseException as raised:
        value, error = None, raised
    return Outcome(value, error, time.monotonic() - began)


def in_threads(*calls: Callable[[], Any], timeout: float = 40) -> list[Outcome]:
    """Start the calls together, each in a new thread; return the outcomes in this order."""
    barrier = threading.Barrier(len(calls))
    outcomes: dict[int, Outcome] = {}

    def work(number: int, call: Callable[[], Any]) -> None:
        barrier.wait(timeout)
        outcomes[number] = timed(call)

    # daemons, so that a thread that hangs does not keep the tests from ending
    threads = [
        threading.Thread(target=work, args=(number, call), daemon=True)
        for number, call in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    if len(outcomes) < len(calls):
        faulthandler.dump_traceback()
        pytest.fail(f"{len(calls) - len(outcomes)} of {len(calls)} threads hang")
    return [outcomes[number] for number in range(len(calls))]


@contextmanager
def start_program(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a program in a process of its own, with pipes; it is killed at the end of the block."""
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    # not by PYTHONPATH, which the embeddable Python for Windows ignores
    text = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    text += "\n".join(line[indent:] for line in lines)
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", text, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def program(code: str, *arguments: object, timeout: float = 40) -> str:
    """Run a program to its end and return what it printed; one that hangs shows where it does."""
    with start_program(code, *arguments) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            if os.name == "posix":
                process.send_signal(signal.SIGABRT)  # faulthandler prints where every thread is
            else:
                process.kill()
            output, errors = process.communicate()
            pytest.fail(f"hangs after {timeout} s:\n{output}\n{errors}")
        assert process.returncode == 0, f"exit {process.returncode}:\n{output}\n{errors}"
        return output


@contextmanager
def writer_elsewhere(target: object, by: str = "botmemory") -> Iterator[Callable[[], None]]:
    """Run another process inside a transaction; yield a function that ends it early."""
    with start_program(HOLDERS[by], target) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            process.stdin.close()
            process.wait(10)

        if process.stdout.readline() != "held\n":
            pytest.fail(f"the holder failed:\n{process.communicate()[1]}")
        yield end
        end()


def stored(target: object, column: str = "price") -> list[Any]:
    """Return one column of all trades, sorted, as another program sees the database now."""
    query = f"SELECT {column} FROM trade ORDER BY 1"
    if re.match("postgres", str(target)):
        return [row[0] for row in run(str(target), query)]
    with closing(sqlite3.connect(str(target))) as connection:
        return [row[0] for row in connection.execute(query)]


@pytest.fixture
def watchdog() -> Iterator[None]:
    """Fail a test that hangs in the main thread, and print the stack of every thread.

    Where the platform has no such signal, pytest-timeout ends it.
    """
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def fail(*_: object) -> NoReturn:
        faulthandler.dump_traceback()
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, 120)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def released() -> Iterator[None]:
    """Drop a database that a failed test has left in a transaction."""
    yield
    try:
        close_db()
    except BotMemoryError:
        db.initialize(None)
