"""Threads and processes that read and write at once: no call stalls, no wait is in vain."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import signal
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from paths import VERSION_0001
from processes import needs_proc, needs_signals
from programs import (
    SOON,
    Outcome,
    in_threads,
    program,
    released,
    start_program,
    stored,
    timed,
    watchdog,
    writer_elsewhere,
)
from samples import trade, trade_values

from botmemory import (
    BotMemoryError,
    DatabaseBusyError,
    NotInitializedError,
    Trade,
    aio,
    close_db,
    db,
    get_db,
    init_db,
    session_scope,
)
from botmemory.analysis import performance
from botmemory.backends.sqlite.connection import open_raw
from botmemory.repositories import positions, trades
from botmemory.upkeep.check import check

__all__ = ["released", "watchdog"]  # fixtures

pytestmark = pytest.mark.usefixtures("watchdog", "released")

AT_ONCE = 4.0  # seconds: without waiting it takes milliseconds on an idle machine
RECORD_ONE = """
    import sys
    from botmemory import close_db, init_db
    from samples import trade
    init_db(sys.argv[1])
    trade()
    close_db()
"""
many_rounds = pytest.mark.parametrize("rounds", [30, pytest.param(300, marks=pytest.mark.long)])
every_crowd = pytest.mark.parametrize("threads", [2, 8, 32])
every_holder = pytest.mark.parametrize("by", ["botmemory", "sqlite3"])


def require_no_stall(outcomes: list[Outcome], limit: float = SOON) -> None:
    """Fail on the first call that raised, or that took about as long as `busy_timeout`."""
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    assert max(outcome.seconds for outcome in outcomes) < limit


def count() -> int:
    return trades.get_trade_count()


# --- the order of the locks ---------------------------------------------------------------


@many_rounds
@every_crowd
def test_new_threads_that_read_and_write_do_not_stall(
    path: Path, threads: int, rounds: int
) -> None:
    init_db(path, busy_timeout=20, synchronous="normal")
    for number in range(1, rounds + 1):
        require_no_stall(in_threads(*(trade, count) * (threads // 2)))
        assert count() == number * threads // 2


@many_rounds
def test_an_asyncio_bot_starts_with_many_calls_at_once(path: Path, rounds: int) -> None:
    async def main() -> list[int]:
        calls = [aio.run(trade) if n % 2 else aio.run(count) for n in range(8)]
        return await asyncio.gather(*calls)

    for number in range(1, rounds + 1):
        init_db(path, busy_timeout=20, synchronous="normal")
        require_no_stall([timed(lambda: asyncio.run(main()))])
        assert count() == number * 4
        require_no_stall([timed(close_db)])


@many_rounds
@every_crowd
def test_get_db_blocks_of_many_threads_do_not_stall(path: Path, threads: int, rounds: int) -> None:
    init_db(path, busy_timeout=20, synchronous="normal")
    seconds = []

    def block(call: Callable[[], object]) -> Callable[[], None]:
        def blocks() -> None:
            for _ in range(rounds // 3):
                began = time.monotonic()
                for _ in get_db():
                    call()
                seconds.append(time.monotonic() - began)

        return blocks

    calls = (block(trade), block(count)) * (threads // 2)
    for outcome in in_threads(*calls, timeout=90):
        if outcome.error is not None:
            raise outcome.error
    assert max(seconds) < SOON
    # one that waits for a lock which the other one needs takes a second
    assert statistics.median(seconds) < 0.5
    assert count() == rounds // 3 * (threads // 2)


@many_rounds
def test_closing_while_threads_read_and_write_stalls_nobody(path: Path, rounds: int) -> None:
    init_db(path, busy_timeout=20, synchronous="normal")
    stop = threading.Event()
    acknowledged: list[None] = []

    def until_stopped(call: Callable[[], object], counts: bool) -> Callable[[], float]:
        def loop() -> float:
            longest = 0.0
            while not stop.is_set():
                _, error, seconds = timed(call)
                longest = max(longest, seconds)
                if error is None:
                    if counts:
                        acknowledged.append(None)
                elif isinstance(error, NotInitializedError):
                    time.sleep(0.001)  # spinning threads would keep the others from the interpreter
                else:
                    raise error
            return longest

        return loop

    def open_and_close() -> float:
        longest = 0.0
        try:
            # some trade is recorded in between, also where the machine is busy
            for _ in itertools.takewhile(
                lambda number: number < rounds or not acknowledged, itertools.count()
            ):
                for call in (
                    close_db,
                    lambda: init_db(path, busy_timeout=20, synchronous="normal"),
                    count,
                ):
                    _, error, seconds = timed(call)
                    longest = max(longest, seconds)
                    if error is not None and not (
                        call is close_db and isinstance(error, DatabaseBusyError)
                    ):
                        raise error
        finally:
            stop.set()
        return longest

    outcomes = in_threads(
        open_and_close,
        *(until_stopped(trade, True), until_stopped(count, False)) * 2,
        timeout=90,
    )
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    assert max(outcome.value for outcome in outcomes) < SOON
    assert len(stored(path)) == len(acknowledged) > 0


@many_rounds
def test_threads_connect_while_another_one_closes(target: str, rounds: int) -> None:
    init_db(target)
    stop = threading.Event()

    def connect() -> None:
        while not stop.is_set():
            count()
            db.close()

    def ask() -> None:
        try:
            with session_scope():
                trade()
                for _ in range(200 * rounds):
                    with pytest.raises(DatabaseBusyError):
                        close_db()
        finally:
            stop.set()

    between_switches = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        outcomes = in_threads(ask, *[connect] * 4)
    finally:
        sys.setswitchinterval(between_switches)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    assert stored(target) == [100]


# --- reading never waits ------------------------------------------------------------------


READS: dict[str, Callable[[], object]] = {
    "a first read": count,
    "a list": trades.get_all,
    "iterate": lambda: list(trades.iterate()),
    "get_db around a read": lambda: [count() for _ in get_db()],
    "a connection that is closed": lambda: (count(), db.close()),
    "positions": positions.get_all,
    "performance": performance.summarize,
    "init_db once more": lambda: init_db(db.config),
}


def require_reads_at_once() -> None:
    """Read in this thread, then in a new thread for each way of reading."""
    for name, read in READS.items():
        for outcome in (timed(read), *in_threads(read)):
            assert outcome.error is None, f"{name}: {outcome.error!r}"
            assert outcome.seconds < AT_ONCE, name


def test_reading_does_not_wait_for_a_transaction_elsewhere(target: str) -> None:
    init_db(target, busy_timeout=15)
    trade()
    with writer_elsewhere(target):
        require_reads_at_once()
        assert count() == 1


def test_reading_does_not_wait_for_another_program_that_writes(path: Path) -> None:
    init_db(path, busy_timeout=15)
    trade()
    with writer_elsewhere(path, by="sqlite3"):
        require_reads_at_once()
        assert count() == 1
        assert timed(check).seconds < AT_ONCE


def test_reading_does_not_wait_for_a_transaction_of_another_thread(target: str) -> None:
    init_db(target, busy_timeout=15)
    trade()
    with session_scope():
        trades.get_all()
        trade()
        for name, read in READS.items():
            [outcome] = in_threads(read)
            assert outcome.error is None, f"{name}: {outcome.error!r}"
            assert outcome.seconds < AT_ONCE, name


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "read only"])
def test_opening_does_not_wait_for_a_transaction_elsewhere(target: str, read_only: bool) -> None:
    init_db(target)
    trade()
    close_db()

    def open_and_read() -> int:
        init_db(target, busy_timeout=15, read_only=read_only)
        try:
            return count()
        finally:
            close_db()

    with writer_elsewhere(target):
        for value, error, seconds in [timed(open_and_read) for _ in range(3)]:
            assert (value, error) == (1, None)
            assert seconds < AT_ONCE
        another = """
            import sys
            from programs import timed
            from botmemory import init_db
            from botmemory.repositories import trades

            def open_and_read():
                init_db(sys.argv[1], busy_timeout=15, read_only=sys.argv[2] == "True")
                return trades.get_trade_count()

            print(timed(open_and_read))
            """
        value, error, seconds = eval(program(another, target, read_only), {"Outcome": Outcome})
        assert (value, error) == (1, None)
        assert seconds < AT_ONCE


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "read only"])
def test_opening_does_not_wait_for_another_program_that_writes(path: Path, read_only: bool) -> None:
    init_db(path)
    trade()
    close_db()
    with writer_elsewhere(path, by="sqlite3"):
        opened = timed(lambda: init_db(path, busy_timeout=15, read_only=read_only))
        assert opened.error is None
        assert opened.seconds < AT_ONCE
        assert count() == 1


def test_reading_through_aio_does_not_wait_for_many_that_wait_to_write(target: str) -> None:
    init_db(target, busy_timeout=20, pool_size=20)

    def read_and_record() -> None:
        with session_scope():
            trades.get_all()
            trade()

    async def main() -> list[float]:
        with writer_elsewhere(target) as end:
            writers = [asyncio.ensure_future(aio.run(read_and_record)) for _ in range(16)]
            await asyncio.sleep(0.3)
            seconds = []
            for _ in range(8):
                began = time.monotonic()
                assert await aio.run(count) == 0
                seconds.append(time.monotonic() - began)
            assert not any(writer.done() for writer in writers)
            end()
        await asyncio.gather(*writers)
        return seconds

    assert max(asyncio.run(main())) < AT_ONCE
    assert len(stored(target)) == 16


# --- a transaction belongs to its thread --------------------------------------------------


def require_free(target: str, price: float) -> None:
    """Let another process record, which must not wait."""
    another = """
        import sys
        from botmemory import init_db, session_scope
        from botmemory.repositories import trades
        from samples import trade

        init_db(sys.argv[1], busy_timeout=0.5)
        with session_scope():
            trades.get_all()
            trade(price=float(sys.argv[2]))
        """
    program(another, target, price)


def test_a_scope_left_in_another_thread_is_rolled_back_and_refused(target: str) -> None:
    init_db(target, busy_timeout=20)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        first.submit(count).result()
        second.submit(count).result()
        scope = session_scope()
        first.submit(scope.__enter__).result()
        first.submit(trade, price=1).result()
        left = second.submit(timed, lambda: scope.__exit__(None, None, None)).result()
        assert isinstance(left.error, BotMemoryError)
        assert "thread" in str(left.error)
        assert left.seconds < SOON
        require_free(target, 2)
        for price, pool in ((3, first), (4, second), (5, first)):
            require_no_stall([pool.submit(timed, lambda p=price: trade(price=p)).result()])
        with session_scope():
            trade(price=6)
    assert stored(target) == [2, 3, 4, 5, 6]


def test_a_failed_scope_left_in_another_thread_is_rolled_back(target: str) -> None:
    init_db(target, busy_timeout=20)
    with ThreadPoolExecutor(1) as first:
        scope = session_scope()
        first.submit(scope.__enter__).result()
        first.submit(trade, price=1).result()
        failure = ZeroDivisionError("the block's own")
        left = timed(lambda: scope.__exit__(ZeroDivisionError, failure, None))
        assert not left.value  # which would suppress it
        assert left.error in (None, failure) or isinstance(left.error, BotMemoryError)
        require_free(target, 2)
        require_no_stall([first.submit(timed, lambda: trade(price=3)).result()])
    assert stored(target) == [2, 3]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_thread_that_ends_inside_its_scope_leaves_nothing(target: str) -> None:
    init_db(target, busy_timeout=20)

    def work() -> None:
        kept.append(session_scope())
        kept[0].__enter__()
        trade(price=1)

    kept: list[object] = []
    in_threads(work)
    require_no_stall([timed(lambda: trade(price=2)), timed(count)])
    require_free(target, 3)
    assert stored(target) == [2, 3]


def test_the_database_is_not_closed_while_another_thread_is_in_its_scope(target: str) -> None:
    init_db(target, busy_timeout=20)
    inside, end = threading.Event(), threading.Event()

    def work() -> None:
        with session_scope():
            trade(price=1)
            inside.set()
            end.wait(20)
            trade(price=2)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            assert inside.wait(10)
            with pytest.raises(DatabaseBusyError, match="transaction"):
                close_db()
            with pytest.raises(BotMemoryError):
                init_db(":memory:")
            assert count() == 0
        finally:
            end.set()
        future.result(20)
        close_db()
        init_db(target)
        pool.submit(trade, price=3).result(20)
    close_db()
    assert stored(target) == [1, 2, 3]


# --- generators ---------------------------------------------------------------------------


def recording_scope(*prices: float) -> Iterator[float]:
    """Record in one transaction, and be suspended inside of it after each trade."""
    with session_scope():
        for price in prices:
            trade(price=price)
            yield price


def test_recording_beside_a_suspended_generator_in_its_scope_is_refused(target: str) -> None:
    init_db(target, busy_timeout=20)
    suspended = recording_scope(1, 2)
    next(suspended)
    recorded = timed(lambda: trade(price=10))
    assert isinstance(recorded.error, BotMemoryError)
    assert "session_scope" in str(recorded.error)
    assert recorded.seconds < SOON
    require_free(target, 11)
    trade(price=12)
    # the generator had acknowledged a trade that is rolled back: it must not end as if nothing were
    with pytest.raises(BotMemoryError):
        list(suspended)
    trade(price=13)
    assert stored(target) == [11, 12, 13]


def test_recording_in_the_loop_over_a_generator_in_its_scope_is_refused(target: str) -> None:
    init_db(target, busy_timeout=20)
    acknowledged = []
    with pytest.raises(BotMemoryError, match="session_scope"):
        for price in recording_scope(1, 2, 3):
            trade(price=price + 10)
            acknowledged.append(price + 10)
    trade(price=20)
    assert stored(target) == [*acknowledged, 20] == [20]


@pytest.mark.parametrize(
    "use",
    [
        lambda: trades.create_many([trade_values(price=10)]),
        lambda: session_scope().__enter__(),
        lambda: trades.update(trades.get_all()[0], price=10),
        lambda: db.execute_sql("DELETE FROM trade"),
    ],
    ids=["create_many", "session_scope", "update", "plain SQL"],
)
def test_nothing_gets_into_the_scope_of_a_suspended_generator(
    target: str, use: Callable[[], object]
) -> None:
    init_db(target, busy_timeout=20)
    trade(price=5)
    suspended = recording_scope(1, 2)
    next(suspended)
    with pytest.raises(BotMemoryError, match="session_scope"):
        use()
    suspended.close()
    assert stored(target) == [5]


def test_reading_beside_a_suspended_generator_shows_nothing_uncommitted(target: str) -> None:
    init_db(target, busy_timeout=20)
    suspended = recording_scope(1)
    next(suspended)
    read = timed(count)
    assert read.value == 0 or isinstance(read.error, BotMemoryError)
    assert read.seconds < SOON


def test_a_generator_whose_scope_is_undisturbed_is_stored(target: str) -> None:
    init_db(target)
    assert list(recording_scope(1, 2, 3)) == [1, 2, 3]

    def a_scope_for_each() -> Iterator[float]:
        for price in (4, 6):
            with session_scope():
                trade(price=price)
            yield price

    for price in a_scope_for_each():
        trade(price=price + 1)
    assert stored(target) == [1, 2, 3, 4, 5, 6, 7]


def test_a_generator_that_is_used_up_inside_a_scope_records_into_it(target: str) -> None:
    init_db(target)

    def recording() -> Iterator[float]:
        for price in (1, 2):
            trade(price=price)
            yield price

    with session_scope():
        for price in recording():
            trade(price=price + 10)
    assert stored(target) == [1, 2, 11, 12]


def test_a_generator_with_a_savepoint_loses_nothing_acknowledged(target: str) -> None:
    init_db(target, busy_timeout=20)
    acknowledged = []

    def record_beside() -> None:
        with session_scope():
            trade(price=1)
            for price in recording_scope(2, 3):
                trade(price=price + 10)
                acknowledged.append(price + 10)

    if timed(record_beside).error is None:
        assert stored(target) == [1, 2, 3, *acknowledged]
    else:
        assert stored(target) == []
    trade(price=20)
    assert 20 in stored(target)


def test_a_generator_dropped_inside_its_scope_is_rolled_back(target: str) -> None:
    init_db(target, busy_timeout=20)
    suspended = recording_scope(1, 2)
    next(suspended)
    del suspended
    require_no_stall([timed(lambda: trade(price=10))])
    require_free(target, 11)
    assert stored(target) == [10, 11]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_generator_dropped_in_another_thread_is_rolled_back(target: str) -> None:
    init_db(target, busy_timeout=20)
    kept = [recording_scope(1, 2)]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: next(kept[0]) and None).result()
        kept.clear()
        require_free(target, 10)
        require_no_stall([timed(lambda: trade(price=11))])
        require_no_stall([pool.submit(timed, lambda: trade(price=12)).result()])
    assert stored(target) == [10, 11, 12]


@contextmanager
def unit_of_work(price: float) -> Iterator[None]:
    with session_scope():
        trade(price=price)
        yield


def test_context_managers_around_a_scope_work(target: str) -> None:
    init_db(target)
    with unit_of_work(1):
        trade(price=2)
        with unit_of_work(3):
            trade(price=4)
    with pytest.raises(ZeroDivisionError), unit_of_work(20):
        trade(price=21)
        raise ZeroDivisionError
    assert stored(target) == [1, 2, 3, 4]


def test_scopes_that_are_entered_without_a_with_statement_work(target: str) -> None:
    init_db(target)

    class UnitOfWork:
        def __enter__(self) -> None:
            self.scope = session_scope()
            self.scope.__enter__()

        def __exit__(self, *error: object) -> None:
            self.scope.__exit__(*error)  # type: ignore[arg-type]

    with UnitOfWork():
        trade(price=1)

    def begun() -> ExitStack:
        with ExitStack() as stack:
            stack.enter_context(session_scope())
            stack.enter_context(unit_of_work(2))
            trade(price=3)
            return stack.pop_all()

    with begun():
        trade(price=4)

    @session_scope()
    def decorated(price: float) -> None:
        trade(price=price)

    decorated(5)
    decorated(6)
    assert stored(target) == [1, 2, 3, 4, 5, 6]


def test_a_pytest_fixture_may_hold_a_scope(tmp_path: Path) -> None:
    (tmp_path / "test_bot.py").write_text(
        """
import pytest
from botmemory import close_db, init_db, session_scope
from botmemory.repositories import trades
from samples import trade


@pytest.fixture(params=["file", "memory"])
def database(request, tmp_path):
    yield init_db(tmp_path / "bot.db" if request.param == "file" else ":memory:")
    close_db()


@pytest.fixture
def transaction(database):
    with session_scope():
        trade()
        yield


def test_recording(transaction):
    trade()
    with session_scope():
        trade()
    assert trades.get_trade_count() == 3


@pytest.mark.usefixtures("transaction")
class TestMore:
    def test_recording(self):
        trade()
        assert trades.get_trade_count() == 2
"""
    )
    # without plugins, which take seconds to import
    tests = (
        "import os, sys, pytest; os.environ['PYTEST_DISABLE_PLUGIN_AUTOLOAD'] = '1'; "
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'temporary'}")
    assert "4 passed" in program(tests, *options, tmp_path / "test_bot.py")


# --- waiting leaves nothing behind --------------------------------------------------------


def threads_and_descriptors() -> tuple[int, ...]:
    """Return the numbers of threads and open descriptors of this process."""
    found: list[tuple[int, ...]] = []
    while (
        len(found) < 5 or len(set(found[-5:])) > 1
    ):  # a thread that has ended disappears a little later
        time.sleep(0.02)
        folders = Path("/proc/self/task"), Path("/proc/self/fd")
        found.append(tuple(len(list(folder.iterdir())) for folder in folders))
    return found[-1]


@needs_proc
@pytest.mark.parametrize("waits", [150, pytest.param(800, marks=pytest.mark.long)])
@every_holder
def test_a_wait_that_times_out_leaves_no_thread_and_no_descriptor(
    path: Path, by: str, waits: int
) -> None:
    init_db(path, busy_timeout=0.005)
    trade()
    with writer_elsewhere(path, by) as end:
        before = threads_and_descriptors()
        for number in range(waits):
            with pytest.raises(DatabaseBusyError):
                trade() if number % 2 else session_scope().__enter__()
        assert threads_and_descriptors() == before
        end()
    trade()
    assert len(stored(path)) == 2


@needs_proc
def test_many_threads_that_time_out_leave_nothing(path: Path) -> None:
    init_db(path, busy_timeout=0.02)
    trade()

    def wait_in_vain() -> None:
        for _ in range(20):
            with pytest.raises(DatabaseBusyError):
                trade()

    with writer_elsewhere(path):
        in_threads(*[wait_in_vain] * 8)  # SQLite keeps a descriptor of each for the next ones
        before = threads_and_descriptors()
        for outcome in in_threads(*[wait_in_vain] * 8):
            assert outcome.error is None
        assert threads_and_descriptors() == before


@every_holder
def test_one_wait_takes_the_busy_timeout_once(path: Path, by: str) -> None:
    init_db(path, busy_timeout=1.5)
    kept = trade()
    writes: dict[str, Callable[[], object]] = {
        "create": trade,
        "session_scope": lambda: session_scope().__enter__(),
        "create_many": lambda: trades.create_many([trade_values()]),
        "update": lambda: trades.update(kept, price=5),
        "delete": lambda: trades.delete(kept),
        "a new thread": lambda: in_threads(trade)[0],
    }
    with writer_elsewhere(path, by):
        for name, write in writes.items():
            outcome = timed(write)
            if isinstance(outcome.value, Outcome):
                outcome = outcome.value
            assert isinstance(outcome.error, DatabaseBusyError), name
            assert 1.4 < outcome.seconds < 2.8, name
    assert stored(path) == [100]


def test_opening_a_file_that_must_be_migrated_waits_the_busy_timeout_once(path: Path) -> None:
    shutil.copy(VERSION_0001, path)
    with writer_elsewhere(path, by="sqlite3"):
        outcome = timed(lambda: init_db(path, busy_timeout=1.5))
        assert isinstance(outcome.error, DatabaseBusyError)
        assert 1.4 < outcome.seconds < 2.8
    init_db(path)
    assert count() == 120


def test_opening_an_old_file_in_wal_mode_waits_the_busy_timeout_once(path: Path) -> None:
    shutil.copy(VERSION_0001, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        with writer_elsewhere(path, by="sqlite3"):
            outcome = timed(lambda: init_db(path, busy_timeout=1.5))
    assert isinstance(outcome.error, DatabaseBusyError)
    assert 1.4 < outcome.seconds < 2.8
    init_db(path)
    assert count() == 120


def test_waiting_behind_one_that_waits_takes_the_busy_timeout_once(path: Path) -> None:
    init_db(path, busy_timeout=2.5)

    def later() -> Outcome:
        time.sleep(0.3)
        return timed(trade)

    with writer_elsewhere(path, by="sqlite3"):
        first, second = in_threads(trade, later)
    assert isinstance(first.error, DatabaseBusyError)
    assert isinstance(second.value.error, DatabaseBusyError)
    assert 2.4 < second.value.seconds < 4.3


WAITS_UNTIL_INTERRUPTED = """
    import sys, threading, time
    from botmemory import init_db, session_scope
    from samples import trade

    init_db(sys.argv[1], busy_timeout=30)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        trade() if sys.argv[2] == "create" else session_scope().__enter__()
    except KeyboardInterrupt:
        print("interrupted", threading.active_count(), flush=True)
    sys.stdin.readline()
    trade()
    print("recorded", flush=True)
    """


@needs_signals
@every_holder
@pytest.mark.parametrize("call", ["create", "session_scope"])
def test_waiting_can_be_interrupted_at_once(path: Path, by: str, call: str) -> None:
    init_db(path, busy_timeout=15)
    with (
        start_program(WAITS_UNTIL_INTERRUPTED, path, call) as waiter,
        writer_elsewhere(path, by) as end,
    ):
        assert waiter.stdout.readline() == "ready\n"
        waiter.stdin.write("\n")
        waiter.stdin.flush()
        time.sleep(0.5)
        waiter.send_signal(signal.SIGINT)
        outcome = timed(waiter.stdout.readline)
        assert outcome.value == "interrupted 1\n"
        assert outcome.seconds < AT_ONCE
        end()
        require_no_stall([timed(trade)])  # an interrupted waiter does not hold the lock later
        waiter.stdin.write("\n")
        waiter.stdin.flush()
        assert waiter.stdout.readline() == "recorded\n"
    assert len(stored(path)) == 2


def open_files() -> list[str]:
    """Return the paths of the files that this process has open."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(link.readlink()))
    return links


def in_scope() -> None:
    with session_scope():
        trade()


@pytest.mark.parametrize(
    "record",
    [trade, in_scope, lambda: Trade.create(**trade_values())],
    ids=["one", "scope", "peewee"],
)
def test_a_write_that_no_wait_can_help_is_refused_at_once(
    path: Path, record: Callable[[], object]
) -> None:
    """A query whose rows are not all fetched keeps SQLite at the state when it began."""
    init_db(path)
    for _ in range(3):
        trade()
    rows = Trade.select().iterator()
    next(rows)
    program(RECORD_ONE, path)
    outcome = timed(record)
    assert outcome.seconds < AT_ONCE
    assert isinstance(outcome.error, DatabaseBusyError)
    assert "a query of this thread" in str(outcome.error)
    assert len(list(rows)) == 2
    record()
    assert count() == 5


@needs_proc
def test_closing_leaves_no_file_open(path: Path) -> None:
    init_db(path)
    trade()
    with session_scope():
        trade()
    asyncio.run(aio.run(trade))
    assert [file for file in open_files() if file.startswith(str(path))]
    close_db()
    assert [file for file in open_files() if file.startswith(str(path))] == []


# --- fairness -----------------------------------------------------------------------------

RECORDS_IN_A_LOOP = """
    import sys, time
    from botmemory import init_db, session_scope
    from samples import trade

    init_db(sys.argv[1], synchronous="normal")
    pause = float(sys.argv[2])
    print("ready", flush=True)
    until = float(sys.stdin.readline())
    count, longest = 0, 0.0
    while time.monotonic() < until:
        began = time.monotonic()
        if pause:
            with session_scope():
                trade()
                time.sleep(pause)
        else:
            trade()
        count += 1
        longest = max(longest, time.monotonic() - began)
    print(count, longest)
    """


def record_in_loops(path: Path, *pauses: float) -> list[tuple[int, float]]:
    """Let a process for each pause record for 2 s; return counts and the longest calls."""
    with ExitStack() as stack:
        recorders = [
            stack.enter_context(start_program(RECORDS_IN_A_LOOP, path, pause)) for pause in pauses
        ]
        for recorder in recorders:
            assert recorder.stdout.readline() == "ready\n"
        until = time.monotonic() + 2  # the same clock in every process
        for recorder in recorders:
            recorder.stdin.write(f"{until}\n")
            recorder.stdin.flush()
        results = [recorder.communicate(timeout=30)[0].split() for recorder in recorders]
    return [(int(number), float(longest)) for number, longest in results]


def test_no_process_starves_while_all_record_continuously(path: Path) -> None:
    init_db(path)
    counts = [number for number, _ in record_in_loops(path, 0, 0, 0, 0)]
    assert min(counts) > 0.05 * sum(counts)
    assert len(stored(path)) == sum(counts)


def test_long_transactions_do_not_starve_a_bot_that_records_single_trades(path: Path) -> None:
    init_db(path)
    (long_ones, _), (single, longest) = record_in_loops(path, 0.05, 0)
    assert single > long_ones / 4
    assert longest < AT_ONCE
    assert len(stored(path)) == long_ones + single


def test_the_connection_of_the_driver_does_not_warn_where_it_is_freed_first(path: Path) -> None:
    """As in a cycle, such as that of an error which is kept."""
    init_db(path)
    close_db()
    connection = open_raw(path.as_uri(), lambda raw: None)
    del connection  # a warning in a finalizer is an error of pytest's
    gc.collect()
    opened = Path("/proc/self/fd")
    if opened.exists():
        assert not [each for each in opened.iterdir() if str(path) in os.path.realpath(each)]
