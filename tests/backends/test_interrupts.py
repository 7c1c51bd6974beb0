"""An interrupt anywhere leaves no lock held, no transaction open and no connection lost.

It is an exception, or a signal handler that uses the database and lets the call go on.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from interrupt_storm import SHORTEST
from interrupts import OPERATIONS, Report, Server, SqliteFile, Stack, sweep
from paths import TESTS
from processes import needs_signals
from servers import changed, run

from botmemory import close_db, init_db

pytestmark = [
    needs_signals,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # psycopg's, of a cursor left open
    pytest.mark.timeout(600),  # tracing each instruction takes a minute on a busy machine
]

STORM = str(TESTS / "support" / "interrupt_storm.py")
FEW = {"init_db": 7, "init_db_new": 60}  # of the places, of which these have thousands


@pytest.fixture
def sqlite_file(memory_path: Path) -> SqliteFile:
    return SqliteFile(memory_path)


_tried: defaultdict[str, set[Stack]] = defaultdict(set)


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> set[Stack]:
    """The places where this test has interrupted another operation."""
    return _tried[request.function.__name__]


def require_clean(report: Report) -> None:
    assert report.points
    assert report.missed <= (1 + report.tried) / 2, report
    if report.failures:
        pytest.fail(str(report), pytrace=False)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_sqlite_operation_interrupted_leaves_nothing(
    operation: str, sqlite_file: SqliteFile, tried: set[Stack]
) -> None:
    require_clean(sweep(operation, sqlite_file, tried=tried, every=FEW.get(operation, 1)))


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_sqlite_operation_interrupted_anywhere_leaves_nothing(
    operation: str, sqlite_file: SqliteFile
) -> None:
    require_clean(sweep(operation, sqlite_file, every=FEW.get(operation, 1)))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_sqlite_operation_goes_on_after_a_signal_handler_that_uses_the_database(
    operation: str, sqlite_file: SqliteFile, tried: set[Stack]
) -> None:
    every = FEW.get(operation, 1) * 6
    require_clean(sweep(operation, sqlite_file, tried=tried, every=every, handlers=True))


@pytest.mark.long
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in FEW])
def test_sqlite_operation_goes_on_after_any_signal_handler_that_uses_the_database(
    operation: str, sqlite_file: SqliteFile, tried: set[Stack]
) -> None:
    require_clean(sweep(operation, sqlite_file, tried=tried, handlers=True))


@pytest.fixture(scope="module")
def postgres(new_database: Callable[[], str]) -> Iterator[Server]:
    target = Server(new_database())
    yield target
    target.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_postgres_operation_interrupted_leaves_nothing(
    operation: str, postgres: Server, tried: set[Stack]
) -> None:
    every = FEW.get(operation, 1) * 16
    require_clean(sweep(operation, postgres, tried=tried, every=every))


@pytest.mark.long
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in FEW])
def test_postgres_operation_interrupted_anywhere_leaves_nothing(
    operation: str, postgres: Server, tried: set[Stack]
) -> None:
    require_clean(sweep(operation, postgres, tried=tried))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_postgres_operation_goes_on_after_a_signal_handler_that_uses_the_database(
    operation: str, postgres: Server, tried: set[Stack]
) -> None:
    every = FEW.get(operation, 1) * 32
    require_clean(sweep(operation, postgres, tried=tried, every=every, handlers=True))


@pytest.mark.long
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name not in FEW])
def test_postgres_operation_goes_on_after_any_signal_handler_that_uses_the_database(
    operation: str, postgres: Server, tried: set[Stack]
) -> None:
    require_clean(sweep(operation, postgres, tried=tried, every=3, handlers=True))


# --- a storm of real signals ----------------------------------------------------------------


class Program:
    """The program of interrupt_storm.py, and the words that it prints."""

    def __init__(
        self, kind: str, target: str, longest: float, look: Callable[[], list[str]]
    ) -> None:
        self._look = look
        self.left: list[str] = []  # by an interrupt, while the program did nothing
        self.words: Counter[str] = Counter()
        self.stored: list[str] = []
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (a pipe would fill up)
        self.process = subprocess.Popen(
            [sys.executable, STORM, kind, target, str(longest)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
        )
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._ready.wait(20), "the program does not begin"

    def _read(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        for line in self.process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            self.words[word] += 1
            if word == "stored":
                self.stored.append(rest)
            elif word == "idle":
                self.left += self._look()
                self.process.stdin.write("x")
                self.process.stdin.flush()
            elif word == "ready":
                self._ready.set()
        self._ready.set()

    def end(self) -> str:
        """End it and return what it wrote to its error output."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join()
        with self.process, self._errors:
            self._errors.seek(0)
            return self._errors.read()


def require_whole(symbols: Counter[str], *programs: Program) -> None:
    """Require that each group of rows is stored as a whole, and each that was acknowledged."""
    parts = {symbol: count for symbol, count in symbols.items() if count != size(symbol)}
    assert not parts
    for program in programs:
        assert set(program.stored) <= symbols.keys()


def size(symbol: str) -> int:
    return int(symbol.rpartition("/")[2])


def storm(
    kind: str,
    count: int,
    longest: float,
    target: str,
    other_target: str,
    look: Callable[[], list[str]],
    read: Callable[[], Counter[str]],
) -> None:
    init_db(target)
    close_db()
    choice = random.Random(1)
    other = Program("quiet", other_target, 0, look)
    program = Program(kind, target, longest, look)

    def few() -> bool:
        handled = sum("handler" in group for group in list(program.stored))
        return max(handled, program.words["interrupted"]) <= count / 10

    try:
        sent = {"ctrl_c": signal.SIGINT, "handler": signal.SIGUSR1}.get(kind)
        sent_count, deadline = 0, time.monotonic() + 300
        # a busy machine delays signals, and several become one
        while program.process.poll() is None and (
            sent_count < count or (few() and time.monotonic() < deadline)
        ):
            sent_count += 1
            time.sleep(choice.uniform(SHORTEST, longest))
            if sent is not None:
                program.process.send_signal(sent)
    finally:
        errors = program.end(), other.end()
    for ended in (program, other):
        # Python itself may report there that it ignores an exception in a generator that it closes
        assert ended.process.returncode == 0, "\n".join(errors)
        assert ended.words["closed"] == 1, "\n".join(errors)
    assert program.left == []
    assert len(other.stored) > 10
    assert not few(), program.words
    if kind != "handler":
        assert program.words["idle"] > 1
    require_whole(read(), program, other)


@pytest.mark.parametrize("kind", ["ctrl_c", "alarm", "thread", "handler"])
@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.long)])
def test_storm_of_interrupts_on_sqlite_stops_nobody(
    kind: str, count: int, sqlite_file: SqliteFile
) -> None:
    """What returned is stored, all or nothing; and another process records all the time."""

    def look() -> list[str]:
        problems = sqlite_file.left()  # the other process writes, and releases its lock soon
        for _ in range(100):
            if not problems:
                break
            time.sleep(0.005)
            problems = sqlite_file.left()
        return problems

    def read() -> Counter[str]:
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            return Counter(row for (row,) in connection.execute("SELECT symbol FROM trade"))

    path = sqlite_file.name()
    storm(kind, count, 0.008, path, path, look, read)


@pytest.mark.parametrize("kind", ["ctrl_c", "alarm", "thread", "handler"])
@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.long)])
def test_storm_of_interrupts_on_postgres_stops_no_process(
    kind: str, count: int, new_database: Callable[[], str]
) -> None:
    """What returned is stored, all or nothing; and another process records all the time."""
    other = new_database()

    def look() -> list[str]:
        for _ in range(100):
            problems = run(
                other,
                "SELECT state || ': ' || query FROM pg_stat_activity "
                "WHERE application_name = 'storm' AND state <> 'idle'",
            )
            if not problems:
                break
            time.sleep(0.005)  # the server sees later that a connection was closed
        return [text for (text,) in problems]

    def read() -> Counter[str]:
        return Counter(row for (row,) in run(other, "SELECT symbol FROM trade"))

    # an interrupted connection is replaced by a new one, which takes time
    storm(kind, count, 0.04, changed(other, application_name="storm"), other, look, read)
