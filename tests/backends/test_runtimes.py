"""Tasks, greenlets, signal handlers and forks: each has its own transactions, and none hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from processes import needs_fork
from programs import (
    SOON,
    program,
    released,
    start_program,
    stored,
    timed,
    watchdog,
    writer_elsewhere,
)
from samples import trade

from botmemory import (
    BotMemoryError,
    DatabaseBusyError,
    aio,
    close_db,
    db,
    get_db,
    init_db,
    session_scope,
)
from botmemory.repositories import trades

__all__ = ["released", "watchdog"]  # fixtures

pytestmark = pytest.mark.usefixtures("watchdog", "released")

Sleep = Callable[[float], Awaitable[None]]


class StopError(Exception):
    """Raised by a test inside a transaction."""


# --- tasks --------------------------------------------------------------------------------


def run_with_asyncio(*tasks: Callable[[Sleep], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.gather(*(task(asyncio.sleep) for task in tasks))

    asyncio.run(main())


def run_with_trio(*tasks: Callable[[Sleep], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task, trio.sleep)

    trio.run(main)


def run_with_anyio(backend: str) -> Callable[..., None]:
    def run(*tasks: Callable[[Sleep], Awaitable[None]]) -> None:
        async def main() -> None:
            async with anyio.create_task_group() as group:
                for task in tasks:
                    group.start_soon(task, anyio.sleep)

        anyio.run(main, backend=backend)

    return run


every_framework = pytest.mark.parametrize(
    "run_tasks",
    [run_with_asyncio, run_with_trio, run_with_anyio("asyncio"), run_with_anyio("trio")],
    ids=["asyncio", "trio", "anyio on asyncio", "anyio on trio"],
)


@every_framework
def test_a_scope_across_an_await_takes_in_nothing_of_another_task(
    target: str, run_tasks: Callable[..., None]
) -> None:
    init_db(target, busy_timeout=20)
    refused: list[float] = []

    async def holds(sleep: Sleep) -> None:
        with suppress(StopError), session_scope():
            trade(price=1)
            await sleep(0.2)
            raise StopError

    async def uses(sleep: Sleep) -> None:
        await sleep(0.05)
        for use in (trade, trades.get_all, lambda: session_scope().__enter__()):
            outcome = timed(use)
            assert isinstance(outcome.error, BotMemoryError)
            refused.append(outcome.seconds)
        await sleep(0.3)
        trade(price=2)

    run_tasks(holds, uses)
    assert len(refused) == 3
    assert max(refused) < SOON
    assert stored(target) == [2]


@every_framework
def test_a_task_goes_on_in_its_own_scope_after_an_await(
    target: str, run_tasks: Callable[..., None]
) -> None:
    init_db(target)

    async def records(sleep: Sleep) -> None:
        with session_scope():
            trade(price=1)
            await sleep(0.01)
            with session_scope():
                trade(price=2)
                await sleep(0.01)
            trade(price=3)

    run_tasks(records)
    assert stored(target) == [1, 2, 3]


@every_framework
def test_a_scope_around_the_whole_loop_takes_in_its_tasks(
    target: str, run_tasks: Callable[..., None]
) -> None:
    init_db(target)

    async def records(sleep: Sleep) -> None:
        await sleep(0.01)
        trade(price=2)

    with session_scope():
        trade(price=1)
        run_tasks(records)
    assert stored(target) == [1, 2]


def test_an_asynchronous_generator_left_in_its_scope_loses_nothing_acknowledged(
    target: str,
) -> None:
    init_db(target, busy_timeout=20)
    acknowledged: list[float] = []

    async def recording() -> AsyncIterator[int]:
        with session_scope():
            trade(price=1)
            yield 1
            yield 2

    async def main() -> None:
        async for _ in recording():
            break
        for price in (2, 3):
            outcome = timed(lambda p=price: trade(price=p))
            assert outcome.seconds < SOON
            if outcome.error is None:
                acknowledged.append(price)
            else:
                assert isinstance(outcome.error, BotMemoryError)

    asyncio.run(main())
    trade(price=4)
    assert stored(target) == [*acknowledged, 4]


def test_an_asynchronous_generator_that_is_used_up_is_stored(target: str) -> None:
    init_db(target)

    async def recording() -> AsyncIterator[float]:
        with session_scope():
            for price in (1, 2):
                trade(price=price)
                await asyncio.sleep(0)
                yield price

    async def main() -> list[float]:
        return [price async for price in recording()]

    assert asyncio.run(main()) == [1, 2]
    assert stored(target) == [1, 2]


def test_an_asynchronous_context_manager_may_hold_a_scope(target: str) -> None:
    init_db(target)

    @contextlib.asynccontextmanager
    async def unit_of_work() -> AsyncIterator[None]:
        with session_scope():
            trade(price=1)
            yield

    async def main() -> None:
        async with unit_of_work():
            trade(price=2)

    asyncio.run(main())
    assert stored(target) == [1, 2]


# --- aio ----------------------------------------------------------------------------------


def test_aio_inside_a_scope_of_the_same_task_is_refused_at_once(target: str) -> None:
    init_db(target, busy_timeout=20)

    async def main() -> None:
        with session_scope():
            trade(price=1)
            began = time.monotonic()
            with pytest.raises(BotMemoryError, match="session_scope"):
                await aio.run(trade, price=2)
            assert time.monotonic() - began < SOON
            trade(price=3)
        await aio.run(trade, price=4)

    asyncio.run(main())
    assert stored(target) == [1, 3, 4]


def test_aio_of_another_task_waits_for_a_scope_of_the_loop(target: str) -> None:
    init_db(target, busy_timeout=20)

    async def holds() -> None:
        with session_scope():
            trade(price=1)
            await asyncio.sleep(0.2)

    async def main() -> None:
        holder = asyncio.create_task(holds())
        await asyncio.sleep(0.05)
        await asyncio.gather(holder, *(aio.run(trade, price=2) for _ in range(6)))

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < SOON
    assert stored(target) == [1, 2, 2, 2, 2, 2, 2]


def test_aio_on_the_loop_of_trio_is_right_or_refused_by_name(target: str) -> None:
    init_db(target)
    trade()
    outcome = timed(lambda: trio.run(aio.run, trades.get_trade_count))
    assert outcome.value == 1 or isinstance(outcome.error, BotMemoryError)


def test_closing_through_aio_ends_the_workers_and_the_program(target: str) -> None:
    output = program(
        """
        import asyncio, sys
        from botmemory import NotInitializedError, aio, close_db, init_db
        from botmemory.repositories import trades
        from samples import trade

        async def main():
            for number in range(1, 4):
                init_db(sys.argv[1])
                await asyncio.gather(*(aio.run(trade) for _ in range(8)))
                assert await aio.run(trades.get_trade_count) == 8 * number
                await asyncio.wait_for(aio.run(close_db), 10)
                try:
                    await aio.run(trades.get_all)
                except NotInitializedError:
                    print("closed")

        asyncio.run(main())
        """,
        target,
        timeout=30,
    )
    assert output == "closed\n" * 3
    assert len(stored(target)) == 24


@needs_fork
def test_aio_works_in_a_forked_child(target: str) -> None:
    output = program(
        """
        import asyncio, os, sys, warnings
        from botmemory import aio, init_db
        from botmemory.repositories import trades
        from samples import trade

        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads

        async def record():
            await asyncio.wait_for(asyncio.gather(*(aio.run(trade) for _ in range(8))), 10)
            return await asyncio.wait_for(aio.run(trades.get_trade_count), 10)

        init_db(sys.argv[1])
        print(asyncio.run(record()), flush=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                trade()
                print(asyncio.run(record()), flush=True)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        print(asyncio.run(record()))
        """,
        target,
        timeout=40,
    )
    assert output.split() == ["8", "17", "25"]
    assert len(stored(target)) == 25


@needs_fork
def test_a_child_forked_on_the_loop_starts_a_loop_of_its_own(path: Path) -> None:
    output = program(
        """
        import asyncio, multiprocessing, sys, warnings
        from botmemory import aio, init_db
        from botmemory.repositories import trades
        from samples import trade

        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads

        def child():
            asyncio.run(asyncio.wait_for(aio.run(trade), 10))

        async def main():
            init_db(sys.argv[1])
            await aio.run(trade)
            process = multiprocessing.get_context("fork").Process(target=child)
            process.start()
            while process.is_alive():
                await aio.run(trade)
                await asyncio.sleep(0.01)
            process.join()
            assert process.exitcode == 0
            print(await aio.run(trades.get_trade_count))

        asyncio.run(main())
        """,
        path,
        timeout=40,
    )
    assert len(stored(path)) == int(output) > 2


# --- greenlets ----------------------------------------------------------------------------

GREENLETS = {
    "gevent": """
from gevent import monkey; monkey.patch_all()
import gevent
from gevent import sleep, spawn
def join(greenlets): gevent.joinall(greenlets, raise_error=True)
""",
    "eventlet": """
import eventlet; eventlet.monkey_patch()
from eventlet import sleep, spawn
def join(greenlets): [greenlet.wait() for greenlet in greenlets]
""",
}

IMPORTS = """
import json, sys, time, warnings
from botmemory import BotMemoryError, init_db, session_scope
from botmemory.repositories import trades
from samples import trade
"""

WORK = """
class Undo(Exception):
    pass

ticks = 0
result = {}

def heartbeat():
    global ticks
    while True:
        sleep(0.02)
        ticks += 1

def holds():
    try:
        with session_scope():
            trades.get_all()
            trade(price=1)
            sleep(0.6)
            trade(price=1)
            raise Undo
    except Undo:
        pass
    except BotMemoryError as error:
        result["holder refused"] = str(error)

def records(price=2):
    sleep(0.1)
    began, ticked = time.monotonic(), ticks
    try:
        with session_scope():
            trades.get_all()
            trade(price=price)
        result["recorded"] = True
    except BotMemoryError as error:
        result["refused"] = f"{type(error).__name__}: {error}"
    result["seconds"] = time.monotonic() - began
    result["ticks"] = ticks - ticked
"""


def greenlets(kind: str, work: str, target: object, *, late: str = "") -> Any:
    """Run a program in a patched process and return what it printed last as JSON."""
    code = "import warnings; warnings.simplefilter('ignore')\n"
    if late:
        opens = "init_db(sys.argv[1]); trade(price=9)\n" if late == "open" else ""
        code += IMPORTS + opens + GREENLETS[kind]
    else:
        code += GREENLETS[kind] + IMPORTS
    output = program(code + WORK + textwrap.dedent(work), target, timeout=30)
    return json.loads(output.splitlines()[-1])


every_greenlet = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=pytest.mark.skipif(find_spec(kind) is None, reason=f"{kind} is not installed"),
        )
        for kind in GREENLETS
    ],
)

ONE_HOLDS = """
init_db(sys.argv[1], busy_timeout=20)
spawn(heartbeat)
join([spawn(holds), spawn(records)])
print(json.dumps(result))
"""


@every_greenlet
def test_a_greenlet_waits_for_the_scope_of_another_and_lets_others_run(
    path: Path, kind: str
) -> None:
    result = greenlets(kind, ONE_HOLDS, path)
    assert result.get("recorded"), result
    assert 0.3 < result["seconds"] < SOON
    assert result["ticks"] > 8
    assert stored(path) == [2]


def test_greenlets_on_a_server_have_transactions_of_their_own(
    new_database: Callable[[], str],
) -> None:
    target = new_database()
    result = greenlets("gevent", ONE_HOLDS, target)
    assert result.get("recorded"), result
    assert 0.3 < result["seconds"] < SOON
    assert result["ticks"] > 8
    assert stored(target) == [2]


@every_greenlet
def test_many_greenlets_record_at_once(path: Path, kind: str) -> None:
    work = """
    init_db(sys.argv[1], busy_timeout=20, synchronous="normal")

    def work(number):
        for _ in range(5):
            with session_scope():
                before = trades.get_trade_count()
                trade(price=number)
                sleep(0.002)
                assert trades.get_trade_count() == before + 1
            trade(price=number)
            sleep(0)

    join([spawn(work, number) for number in range(1, 21)])
    print(json.dumps(trades.get_trade_count()))
    """
    assert greenlets(kind, work, path) == 200
    assert stored(path) == [float(n) for n in range(1, 21) for _ in range(10)]


@every_greenlet
@pytest.mark.parametrize("by", ["botmemory", "sqlite3"])
def test_a_greenlet_that_waits_for_another_process_lets_others_run(
    path: Path, kind: str, by: str
) -> None:
    work = """
    init_db(sys.argv[1], busy_timeout=1.5)
    spawn(heartbeat)
    join([spawn(records)])
    print(json.dumps(result))
    """
    init_db(path)
    close_db()
    with writer_elsewhere(path, by):
        result = greenlets(kind, work, path)
    assert result["refused"].startswith("DatabaseBusyError"), result
    assert 1.4 < result["seconds"] < 2.8
    assert result["ticks"] > 10


@every_greenlet
@pytest.mark.parametrize("late", ["imported", "open"])
def test_patching_late_mixes_no_transactions(path: Path, kind: str, late: str) -> None:
    work = """
    init_db(sys.argv[1])
    spawn(heartbeat)
    join([spawn(holds), spawn(records)])
    print(json.dumps(result))
    """
    init_db(path, busy_timeout=20)
    close_db()
    result = greenlets(
        kind,
        work.replace(
            "init_db(sys.argv[1])",
            "" if late == "open" else "init_db(sys.argv[1], busy_timeout=20)",
        ),
        path,
        late=late,
    )
    acknowledged = [2] if result.get("recorded") else []
    assert acknowledged or result["refused"]
    assert stored(path) == [*acknowledged, *([9] if late == "open" else [])]


# --- signal handlers and logging handlers -------------------------------------------------

RECORDS_IN_A_HANDLER = """
import faulthandler, json, random, signal, sys, time
from botmemory import BotMemoryError, db, init_db, session_scope
from samples import trade

mode, seconds = sys.argv[2], float(sys.argv[3])
init_db(sys.argv[1], busy_timeout=20, synchronous="normal")
acknowledged = {"main": 0, "outside": 0, "inside": 0}
errors = {}
active = False

class Undo(Exception):
    pass

def note(where, error):
    key = f"{where} {type(error).__name__}: {error}"[:300]
    errors[key] = errors.get(key, 0) + 1

def handler(*_):
    global active
    if active:
        return
    active = True
    try:
        where = "inside" if db.in_transaction() else "outside"
        trade(strategy=where)
        acknowledged[where] += 1
    except BotMemoryError as error:
        note("refused", error)
    except BaseException as error:
        note("unnamed", error)
    finally:
        active = False

def record():
    if mode == "create":
        trade(strategy="main")
        acknowledged["main"] += 1
    elif mode == "scope":
        with session_scope():
            trade(strategy="main")
            trade(strategy="main")
        acknowledged["main"] += 2
    else:
        try:
            with session_scope():
                trade(strategy="main")
                trade(strategy="main")
                raise Undo
        except Undo:
            pass

signal.signal(signal.SIGALRM, handler)
until = time.monotonic() + seconds
while time.monotonic() < until:
    faulthandler.dump_traceback_later(15, exit=True)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0004), 0.0003)
    for _ in range(20):
        try:
            record()
        except Exception as error:
            note("main", error)
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
signal.signal(signal.SIGALRM, signal.SIG_IGN)
assert not db.in_transaction()
print(json.dumps([acknowledged, errors]))
"""


def require_what_was_acknowledged(target: str, mode: str, output: str) -> dict[str, int]:
    """Require that the rows a program has reported are stored; return their counts."""
    acknowledged, errors = json.loads(output.splitlines()[-1])
    assert [error for error in errors if not error.startswith("refused")] == []
    rows = stored(target, "strategy")
    counts = {where: rows.count(where) for where in ("main", "outside", "inside")}
    assert counts["main"] == acknowledged["main"]
    assert counts["outside"] == acknowledged["outside"]
    if mode == "rollback":
        assert counts["inside"] <= acknowledged["inside"]
    else:
        assert counts["inside"] == acknowledged["inside"]
    return acknowledged


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no setitimer")
@pytest.mark.parametrize("mode", ["create", "scope", "rollback"])
@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.long)])
def test_a_signal_handler_records_while_the_main_thread_does(
    target: str, mode: str, seconds: int
) -> None:
    output = program(RECORDS_IN_A_HANDLER, target, mode, seconds, timeout=seconds + 30)
    acknowledged = require_what_was_acknowledged(target, mode, output)
    assert acknowledged["outside"] + acknowledged["inside"] > 50 * seconds


def close_in_a_handler(number: int, frame: object) -> None:
    with suppress(DatabaseBusyError):
        db.close()


def fork_in_a_handler(number: int, frame: object) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def call_with_signal_at(call: Callable[[], object], place: int) -> bool:
    """Raise a signal as function number `place` is entered; return whether there were more."""
    entered = 0

    def enter(frame: object, event: str, argument: object) -> None:
        nonlocal entered
        if event == "call":
            entered += 1
            if entered == place:
                signal.raise_signal(signal.SIGUSR1)

    sys.setprofile(enter)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered > place


@needs_fork
@pytest.mark.parametrize("handler", [close_in_a_handler, fork_in_a_handler])
@pytest.mark.parametrize("scope", [session_scope, contextlib.nullcontext])
def test_a_signal_handler_that_closes_or_forks_during_a_call_loses_nothing(
    path: Path,
    handler: Callable[[int, object], None],
    scope: Callable[[], contextlib.AbstractContextManager[object]],
) -> None:
    def record() -> None:
        with scope():
            trade()
        acknowledged.append(1)

    init_db(path, busy_timeout=2)
    acknowledged: list[int] = []
    place, goes_on = 0, True
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        while goes_on:
            place += 1
            with suppress(BotMemoryError):
                goes_on = call_with_signal_at(record, place)
            assert len(stored(path)) == len(acknowledged), f"signal at function {place}"
            trade()  # no lock is held, and no transaction is open
            acknowledged.append(1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert place > 20


def record_in_a_scope() -> None:
    with session_scope():
        trade()


@pytest.mark.parametrize("use", [trade, trades.get_all, record_in_a_scope])
def test_a_get_db_that_is_collected_inside_a_call_leaves_its_connection(
    target: str, use: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """The garbage collector ends an abandoned generator wherever a thread happens to be."""
    database = init_db(target)
    trade()
    abandoned: list[Iterator[object]] = []
    closed = []

    class Collector(logging.Handler):
        """Drops the generator in the middle of a call: each statement is logged there."""

        def emit(self, record: logging.LogRecord) -> None:
            was_open = not database.is_closed()
            abandoned.clear()
            closed.append(was_open and database.is_closed())

    caplog.set_level(logging.DEBUG, "peewee")
    logger, collector = logging.getLogger("peewee"), Collector()
    logger.addHandler(collector)
    try:
        abandoned.append(get_db())
        next(abandoned[0])
        use()
    finally:
        logger.removeHandler(collector)
    assert abandoned == []
    assert True not in closed
    before = len(stored(target))
    trade()
    assert len(stored(target)) == before + 1


RECORDS_WHAT_IS_LOGGED = """
import json, logging, sys
from botmemory import BotMemoryError, db, init_db, session_scope
from samples import trade

mode = sys.argv[2]
init_db(sys.argv[1], busy_timeout=20, synchronous="normal")
acknowledged = {"main": 0, "outside": 0, "inside": 0}
errors = {}
messages = []

class Undo(Exception):
    pass

class Recorder(logging.Handler):
    active = False

    def emit(self, record):
        if self.active:
            return
        self.active = True
        messages.append(record.getMessage())
        try:
            where = "inside" if db.in_transaction() else "outside"
            trade(strategy=where)
            acknowledged[where] += 1
        except BotMemoryError as error:
            errors[f"refused {error}"] = 1
        except BaseException as error:
            errors[f"unnamed {type(error).__name__} {error}"] = 1
        finally:
            self.active = False

logging.getLogger().addHandler(Recorder())
logging.getLogger().setLevel(logging.DEBUG)
for _ in range(30):
    try:
        if mode == "create":
            trade(strategy="main")
            acknowledged["main"] += 1
        elif mode == "scope":
            with session_scope():
                trade(strategy="main")
                trade(strategy="main")
            acknowledged["main"] += 2
        else:
            try:
                with session_scope():
                    trade(strategy="main")
                    raise Undo
            except Undo:
                pass
    except Exception as error:
        errors[f"main {type(error).__name__} {error}"] = 1
logging.getLogger().setLevel(logging.WARNING)
assert not db.in_transaction()
assert messages
print(json.dumps([acknowledged, errors]))
"""


@pytest.mark.parametrize("mode", ["create", "scope", "rollback"])
def test_a_logging_handler_records_what_is_logged(target: str, mode: str) -> None:
    output = program(RECORDS_WHAT_IS_LOGGED, target, mode, timeout=30)
    acknowledged = require_what_was_acknowledged(target, mode, output)
    assert acknowledged["outside"] + acknowledged["inside"] > 10


WAITS_WITH_A_HANDLER = """
import signal, sys, time
from botmemory import DatabaseBusyError, init_db
from samples import trade

init_db(sys.argv[1], busy_timeout=2)
handled = []

def handler(*_):
    began = time.monotonic()
    try:
        trade(strategy="handler")
    except DatabaseBusyError:
        pass
    handled.append(time.monotonic() - began)

signal.signal(signal.SIGALRM, handler)
print("ready", flush=True)
sys.stdin.readline()
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    trade(strategy="main")
except DatabaseBusyError:
    print(len(handled), max(handled) < 3.9, flush=True)
sys.stdin.readline()
trade(strategy="later")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no setitimer")
def test_a_signal_handler_records_while_the_main_thread_waits(path: Path) -> None:
    init_db(path)
    with start_program(WAITS_WITH_A_HANDLER, path) as waiter:
        assert waiter.stdout.readline() == "ready\n"
        with writer_elsewhere(path):
            waiter.stdin.write("\n")
            waiter.stdin.flush()
            outcome = timed(waiter.stdout.readline)
            assert outcome.value == "1 True\n"
            assert outcome.seconds < SOON
        waiter.communicate("\n", timeout=20)
    assert stored(path, "strategy") == ["later"]
