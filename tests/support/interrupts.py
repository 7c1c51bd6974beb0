"""Interrupt a call at each place where Python may run a signal handler, and look at what is left.

Python runs a signal handler (Ctrl-C, a notebook's stop button, a timeout, a task queue's time
limit) when a function is entered or a generator resumed, after a call of a function written in C,
and on a jump backward. `sweep` calls an operation again and again and interrupts it at one such
place each time: an exception is raised there, or the handler itself uses the database. Then it asks
the operating system and the database what was left behind.

By hand: python tests/support/interrupts.py [OPERATION ...] [--every N] [--all] [--handlers]
[--url URL]
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import gc
import itertools
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import peewee
import playhouse

import botmemory
from botmemory import Trade, close_db, db, get_db, init_db, migrations, run_transaction
from botmemory import session_scope as scope
from botmemory.backends.fork import fork_gate
from botmemory.backends.sqlite.file_locks import write_lock
from botmemory.database import lifecycle
from botmemory.repositories import signals, state, trades

# files of the standard library are here because their Python code runs inside the operations
PLACES = (
    *(str(Path(str(module.__file__)).parent) + os.sep for module in (botmemory, migrations)),
    str(Path(str(playhouse.__file__)).parent) + os.sep,
    *(str(module.__file__) for module in (peewee, contextlib, threading)),
    str(Path(str(contextlib.__file__)).with_name("_weakrefset.py")),
    *map(str, (util.find_spec("psycopg") or migrations.__spec__).submodule_search_locations),
    "<string>",  # the functions that botmemory generates
)
GENERATOR = 0x20  # the flag of its code
POOL = 2  # connections
DEPTH = 3  # functions: places that differ in none of them count as one
Stack = tuple[tuple[types.CodeType, int], ...]


class Place(NamedTuple):
    """Where to interrupt: when this stack is passed for the n-th time, from 1."""

    stack: Stack
    number: int


PATIENCE = 30.0  # seconds after which a call counts as hanging, also on a busy machine


class TimeLimit(Exception):  # noqa: N818  (task queues name theirs like this)
    """What a task queue raises in a task that takes too long: an Exception, unlike Ctrl-C."""


class Hanging(BaseException):
    """Raised by the alarm in a call that does not return."""


# --- the places -----------------------------------------------------------------------------


class Interrupter:
    """Lists the places that this thread passes in a call, or runs a handler at one of them."""

    def __init__(self, place: Place | None, handler: Callable[[], object] | None) -> None:
        self.place, self.handler = place, handler
        self.where: str | None = None  # once the handler has run
        self.stacks: list[Stack] = []  # of each place, where none is interrupted
        self._passed = 0  # times that the stack of `place` was passed
        self._thread = threading.get_ident()
        # of each traced function that runs: its instruction, and what this instruction has called
        self._running: dict[types.FrameType, tuple[str, int]] = {}
        self._entered: dict[types.FrameType, list[types.CodeType]] = {}

    def run(self, call: Callable[[], object]) -> BaseException | None:
        """Call, and return what was raised."""
        start, stop = (
            (self._monitor, self._stop_monitoring)
            if hasattr(sys, "monitoring")
            else (self._trace, self._stop_tracing)
        )
        # the same object all the time: CPython 3.11 may free the one that it is about to call
        self._stepping = self._step
        gc.disable()  # a generator that an earlier interrupt left would end here, and lose this one
        start()
        try:
            call()
        except BaseException as error:
            return error
        finally:
            stop()
            gc.enable()
        return None

    def _counts(self, code: types.CodeType) -> bool:
        """Return whether places in this function count: for one place, in its own function."""
        if self.place is None:
            return code.co_filename.startswith(PLACES)
        return code == self.place.stack[0][0]

    def _pass(self, code: types.CodeType) -> None:
        frame = sys._getframe(1)
        while frame.f_code is not code and frame.f_back is not None:
            frame = frame.f_back  # out of the functions of this class
        stack = _stack(frame)
        if self.place is None:
            self.stacks.append(stack)
            return
        self._passed += stack == self.place.stack
        if self._passed == self.place.number and self.where is None and self.handler is not None:
            file = Path(code.co_filename).name
            line = frame.f_lineno or code.co_firstlineno
            self.where = f"{file}:{line} {code.co_name}"
            self.handler()

    # Python 3.11: a trace function is called before each instruction, and CPython looks for the
    # handler of its exception at the instruction before that one, as it does for a signal's

    def _trace(self) -> None:
        self._entering = self._enter
        sys.settrace(self._entering)

    def _stop_tracing(self) -> None:
        sys.settrace(None)
        self._running.clear()  # frames keep alive what an exception is to let go
        self._entered.clear()

    def _enter(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        if frame.f_back in self._running:
            self._entered.setdefault(frame.f_back, []).append(frame.f_code)
        if not self._counts(frame.f_code):
            frame.f_trace_lines = False
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        delegates = frame.f_code.co_code[frame.f_lasti + 1] >= 2  # to another generator
        self._running[frame] = ("" if delegates else "RESUME", 0)
        return self._stepping

    def _step(self, frame: types.FrameType, event: str, arg: Any) -> Any:
        if event == "exception":  # no place: a signal's handler runs after what has returned
            self._running[frame] = "", 0
        elif event == "opcode":
            name, offset = self._running[frame]
            entered = self._entered.pop(frame, [])
            self._running[frame] = _instructions(frame.f_code)[frame.f_lasti], frame.f_lasti
            if (
                name in ("RESUME", "CALL_FUNCTION_EX")
                or (name == "CALL" and not _is_python_call(entered))
                or ("BACKWARD" in name and frame.f_lasti < offset)
            ):
                self._pass(frame.f_code)
        return self._stepping

    # Python 3.12 and newer tell of each of the places

    def _monitor(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        events = monitoring.events
        monitoring.use_tool_id(monitoring.DEBUGGER_ID, "botmemory interrupts")
        for event, callback in (
            (events.PY_START, self._place),
            (events.PY_RESUME, self._resumed),
            (events.C_RETURN, self._returned),  # comes with CALL
            (events.JUMP, self._jumped),
        ):
            monitoring.register_callback(monitoring.DEBUGGER_ID, event, callback)
        selected = events.PY_START | events.PY_RESUME | events.CALL | events.JUMP
        monitoring.set_events(monitoring.DEBUGGER_ID, selected)

    def _stop_monitoring(self) -> None:
        monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
        monitoring.set_events(monitoring.DEBUGGER_ID, 0)
        monitoring.free_tool_id(monitoring.DEBUGGER_ID)

    def _place(self, code: types.CodeType, offset: int, *_: object) -> None:
        if self._counts(code) and threading.get_ident() == self._thread:
            self._pass(code)

    def _returned(self, code: types.CodeType, offset: int, *_: object) -> None:
        # Python 3.15 looks for no signal between the `__enter__` of a lock and the block
        if sys.version_info < (3, 15) or offset not in _entering(code):
            self._place(code, offset)

    def _resumed(self, code: types.CodeType, offset: int) -> None:
        if code.co_code[offset + 1] & 3 < 2:  # not a delegation to another generator
            self._place(code, offset)

    def _jumped(self, code: types.CodeType, offset: int, to: int) -> None:
        if to <= offset:
            self._place(code, offset)


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and those that it was raised for."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _stack(frame: types.FrameType | None) -> Stack:
    """Return where a frame is, and the functions that have called it."""
    places = []
    while frame is not None and len(places) < DEPTH:
        places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(places)


@cache
def _instructions(code: types.CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


@cache
def _entering(code: types.CodeType) -> set[int]:
    """Return where a function calls an `__enter__`."""
    offsets = [*_instructions(code)]
    return {
        call
        for load, call in itertools.pairwise(offsets)
        if _instructions(code)[load] == "LOAD_SPECIAL" and _instructions(code)[call] == "CALL"
    }


def _is_python_call(entered: list[types.CodeType]) -> bool:
    """Return whether a call entered one Python function directly."""
    return (
        len(entered) == 1
        and entered[0].co_name not in ("__init__", "__new__", "__call__")
        and not entered[0].co_flags & GENERATOR
    )


# --- the databases, observed from outside ---------------------------------------------------

# each row by its table and key, with the columns that an operation may change
Rows = dict[tuple[str, str], tuple[Any, ...]]
ROWS = """
SELECT 'trade', CAST(id AS TEXT), symbol, strategy FROM trade
UNION ALL SELECT 'signal', CAST(id AS TEXT), symbol, strategy FROM signal
"""


class Target(Protocol):
    """A database, observed by other connections and the operating system."""

    def name(self) -> str: ...

    def fresh(self) -> None:
        """Switch to a new database that does not exist yet."""

    def open(self) -> object:
        """Open it; create it if it is missing."""

    def held(self) -> list[str]:
        """Return the locks that are held and the transactions that are open now."""

    def left(self) -> list[str]:
        """Return the same, after a server has had time to notice closed connections."""

    def rows(self) -> Rows: ...

    def clear(self) -> None:
        """Delete every row."""

    def write(self) -> None:
        """Give each trade the strategy "outside"."""

    def disconnect(self) -> None:
        """Close this thread's connection, so that its next call must connect."""

    def part(self) -> None:
        """Close the observing connection until it is needed again."""

    def handles(self) -> Counter[str]:
        """Return the files or connections that this process has open."""

    def pool_problems(self) -> list[str]:
        """Use every connection of the pool together; return the errors."""

    def hold_lock(self, seconds: float) -> threading.Thread:
        """Hold the lock that a writer waits for; return the thread that releases it."""


class SqliteFile:
    """A file in a folder."""

    def __init__(self, folder: Path) -> None:
        self._files = (folder / f"{number}.db" for number in itertools.count(1))
        self.path = folder / "0.db"
        self._outside: sqlite3.Connection | None = None

    def name(self) -> str:
        return str(self.path)

    def fresh(self) -> None:
        self.part()
        self.path = next(self._files)

    def part(self) -> None:
        if self._outside is not None:
            self._outside.close()
            self._outside = None

    def open(self) -> object:
        return init_db(self.path, busy_timeout=0.5, synchronous="normal")

    def held(self) -> list[str]:
        problems: list[str] = []
        if not self.path.exists():
            return problems
        with self._lock_file() as lock:
            try:
                write_lock(lock.fileno()).acquire()
            except BlockingIOError:
                problems.append("write lock held")
        try:
            self._run("BEGIN IMMEDIATE", "ROLLBACK")
        except sqlite3.OperationalError as error:
            problems.append(f"SQLite: {error}")
        return problems

    def left(self) -> list[str]:
        return self.held()

    def rows(self) -> Rows:
        return {(table, str(key).replace("-", "")): rest for table, key, *rest in self._run(ROWS)}

    def clear(self) -> None:
        self._run("BEGIN IMMEDIATE", "DELETE FROM trade", "DELETE FROM signal", "COMMIT")

    def write(self) -> None:
        self._run("UPDATE trade SET strategy = 'outside'")

    def disconnect(self) -> None:
        db.close()

    def handles(self) -> Counter[str]:
        self.part()
        handles: Counter[str] = Counter()
        for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208  (twice as quick)
            with suppress(FileNotFoundError):  # that of the listing itself
                file = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
                if file.startswith(f"{self.path}-"):  # the file itself SQLite may close later
                    handles[file.removeprefix(f"{self.path}")] += 1
        return handles

    def pool_problems(self) -> list[str]:
        return []  # each thread has its own connection

    def hold_lock(self, seconds: float) -> threading.Thread:
        lock = self._lock_file()
        write_lock(lock.fileno()).acquire()
        thread = threading.Timer(seconds, lock.close)
        thread.start()
        return thread

    def _lock_file(self) -> Any:
        return open(f"{self.path}-lock", "ab")  # noqa: PTH123

    def _run(self, *statements: str) -> list[Any]:
        if self._outside is None:
            self._outside = sqlite3.connect(
                f"{self.path.as_uri()}?mode=rw",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
        return [self._outside.execute(statement).fetchall() for statement in statements][-1]


class Server:
    """A database on a PostgreSQL server, with a pool of two connections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._outside = self._connect()

    def close(self) -> None:
        self._outside.close()

    def name(self) -> str:
        return self.url

    def fresh(self) -> None:
        self.disconnect()
        self._run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def open(self) -> object:
        return init_db(self.url, busy_timeout=5, pool_size=POOL, synchronous="normal")

    def held(self) -> list[str]:
        transactions = self._run(
            "SELECT state || ': ' || left(query, 40) FROM pg_stat_activity WHERE "
            "datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        locks = self._run(
            "SELECT 'advisory lock held' FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return [text for (text,) in transactions + locks]

    def left(self) -> list[str]:
        for _ in range(50):
            problems = self.held()
            if not problems:
                break
            time.sleep(0.02)
        return problems

    def rows(self) -> Rows:
        return {(table, key.replace("-", "")): rest for table, key, *rest in self._run(ROWS)}

    def clear(self) -> None:
        self._run("DELETE FROM trade", "DELETE FROM signal")

    def write(self) -> None:
        self._run("UPDATE trade SET strategy = 'outside'")

    def disconnect(self) -> None:
        self._run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def part(self) -> None:
        pass

    def handles(self) -> Counter[str]:
        [[count]] = self._run(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return Counter({"connections": max(count, POOL)})

    def pool_problems(self) -> list[str]:
        problems = []
        together = threading.Barrier(POOL)

        def use() -> None:
            try:
                with scope():
                    record("POOL")
                    together.wait(PATIENCE / 2)
            except Exception as error:
                problems.append(f"pool: {type(error).__name__}: {str(error)[:90]}")

        threads = [threading.Thread(target=use) for _ in range(POOL)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return problems

    def hold_lock(self, seconds: float) -> threading.Thread:
        holder = self._connect()
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE trade IN ACCESS EXCLUSIVE MODE")
        thread = threading.Timer(seconds, holder.close)
        thread.start()
        return thread

    def _connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.url, autocommit=True)

    def _run(self, *statements: str) -> list[Any]:
        for statement in statements:
            cursor = self._outside.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


# --- the operations -------------------------------------------------------------------------


def record(symbol: str, **values: Any) -> Trade:
    return trades.create(symbol=symbol, side="buy", price=1, quantity=1, **values)


def rows_of_trades(count: int) -> list[Any]:
    return [{"symbol": "A", "side": "buy", "price": 1, "quantity": 1}] * count


def do_nothing(target: Target) -> None:
    pass


@dataclass(frozen=True)
class Operation:
    """What is interrupted; `call` gets a trade that was stored before."""

    call: Callable[[Trade], object] | None  # None: open the database
    before: Callable[[Target], object] = do_nothing
    new_database: bool = False  # without tables
    in_thread: bool = False  # in a new thread each time, which has no connection yet
    waits: bool = False  # another process holds the write lock when it begins
    rolls_back: bool = False  # a part of what is recorded meanwhile


def create(stored: Trade) -> None:
    record("A", strategy="s", trade_metadata={"a": [1]})


def create_signal(stored: Trade) -> None:
    signals.create(symbol="A", signal_value=1)


def create_with_signal(stored: Trade) -> None:
    with scope():
        record("A", signal=signals.create(symbol="A", signal_value=1))


def create_duplicate(stored: Trade) -> None:
    with scope():
        record("A")
        with suppress(botmemory.DuplicateError):
            record("A", id=stored.id)


def create_many(stored: Trade) -> None:
    trades.create_many(rows_of_trades(3))


def create_many_signals(stored: Trade) -> None:
    signals.create_many([{"symbol": "A", "signal_value": 1}] * 3)


def create_many_in_scope(stored: Trade) -> None:
    with scope():
        record("A")
        trades.create_many(rows_of_trades(2))


def get_or_create(stored: Trade) -> None:
    for _ in range(2):
        trades.get_or_create(
            exchange="x", exchange_trade_id="1", symbol="A", side="buy", price=1, quantity=1
        )


def update(stored: Trade) -> None:
    trades.update(stored, strategy="changed")


def update_with_key(stored: Trade) -> None:
    trades.update(stored, pnl=1.0)


def delete(stored: Trade) -> None:
    trades.delete(stored)


def session_scope(stored: Trade) -> None:
    with scope():
        record("A")
        record("A")


def session_scope_that_changes(stored: Trade) -> None:
    with scope():
        trades.get_latest()
        trades.update(stored, strategy="changed")
        record("A")


def session_scope_with_key(stored: Trade) -> None:
    with scope(key=[("", "STORED"), ("s", "A")]):
        with suppress(LookupError), scope():
            trades.get_by_symbol("STORED", strategy="")
            raise LookupError
        trades.update(stored, pnl=1.0)
        record("A", strategy="s")


def state_set(stored: Trade) -> None:
    state.set("a", 1, strategy="s")


def state_with_key(stored: Trade) -> None:
    with scope(key=("s", "A")):
        state.set("n", state.get("n", 0, strategy="s") + 1, strategy="s")
        record("A", strategy="s")


def session_scope_rolled_back(stored: Trade) -> None:
    with suppress(LookupError), scope():
        record("A")
        raise LookupError


def nested(stored: Trade) -> None:
    with scope():
        record("A")
        with scope():
            record("A")
        record("A")


def nested_rolled_back(stored: Trade) -> None:
    with scope():
        record("A")
        with suppress(LookupError), scope():
            record("A")
            raise LookupError
        record("A")


def atomic(stored: Trade) -> None:
    with db.atomic():
        Trade.create(symbol="A", side="buy", price=1, quantity=1)
        Trade.update(strategy="changed").where(Trade.id == stored.id).execute()


def transaction(stored: Trade) -> None:
    with db.transaction():
        record("A")
        with db.savepoint():
            record("A")


def plain_peewee(stored: Trade) -> None:
    Trade.update(strategy="changed").where(Trade.id == stored.id).execute()


def state_compare(stored: Trade) -> None:
    state.set("key", {"a": [1, 2]})
    state.compare_and_set("key", {"a": [1.0, 2]}, 3)


def returning(stored: Trade) -> None:
    changed = Trade.update(strategy="changed").where(Trade.id == stored.id)
    for row in changed.returning(Trade.symbol).execute():
        assert row.symbol


def manual_commit(stored: Trade) -> None:
    with db.manual_commit():
        db.begin()
        record("A")
        record("A")
        db.commit()


def manual_commit_rolled_back(stored: Trade) -> None:
    with suppress(botmemory.StorageError), db.manual_commit():
        db.begin()
        record("A")


def with_db(stored: Trade) -> None:
    with db:
        record("A")


def transaction_repeated(stored: Trade) -> None:
    run_transaction(lambda: (record("A"), record("A")))


def iterate(stored: Trade) -> None:
    for _ in trades.iterate():
        pass


def iterate_in_scope(stored: Trade) -> None:
    with scope():
        for _ in trades.iterate("STORED"):
            record("A")


def get_latest(stored: Trade) -> None:
    trades.get_latest()


def get_latest_in_scope(stored: Trade) -> None:
    with scope():
        trades.get_latest()


def web_request(stored: Trade) -> None:
    with contextmanager(get_db)():
        record("A")


def close(stored: Trade) -> None:
    close_db()


def disconnect(target: Target) -> None:
    target.disconnect()


def close_first(target: Target) -> None:
    close_db()


OPERATIONS = {
    "create": Operation(create),
    "create_signal": Operation(create_signal),
    "create_with_signal": Operation(create_with_signal),
    "create_duplicate": Operation(create_duplicate),
    "create_many": Operation(create_many),
    "create_many_signals": Operation(create_many_signals),
    "create_many_in_scope": Operation(create_many_in_scope),
    "get_or_create": Operation(get_or_create),
    "update": Operation(update),
    "update_with_key": Operation(update_with_key),
    "delete": Operation(delete),
    "session_scope": Operation(session_scope),
    "session_scope_that_changes": Operation(session_scope_that_changes),
    "session_scope_with_key": Operation(session_scope_with_key, rolls_back=True),
    "state_set": Operation(state_set),
    "state_compare": Operation(state_compare),
    "state_with_key": Operation(state_with_key),
    "session_scope_rolled_back": Operation(session_scope_rolled_back, rolls_back=True),
    "nested": Operation(nested),
    "nested_rolled_back": Operation(nested_rolled_back, rolls_back=True),
    "atomic": Operation(atomic),
    "transaction": Operation(transaction),
    "plain_peewee": Operation(plain_peewee),
    "returning": Operation(returning),
    "manual_commit": Operation(manual_commit),
    "manual_commit_rolled_back": Operation(manual_commit_rolled_back, rolls_back=True),
    "with_db": Operation(with_db, disconnect),
    "run_transaction": Operation(transaction_repeated),
    "iterate": Operation(iterate),
    "iterate_in_scope": Operation(iterate_in_scope),
    "get_latest": Operation(get_latest),
    "get_latest_in_scope": Operation(get_latest_in_scope),
    "get_db": Operation(web_request),
    "first_create": Operation(create, disconnect),
    "first_session_scope": Operation(session_scope, disconnect),
    "first_get_latest": Operation(get_latest, disconnect),
    "thread_create": Operation(create, in_thread=True),
    "thread_session_scope": Operation(session_scope, in_thread=True),
    "create_waiting": Operation(create, waits=True),
    "session_scope_waiting": Operation(session_scope, waits=True),
    "close_db": Operation(close),
    "init_db": Operation(None, close_first),
    "init_db_new": Operation(None, close_first, new_database=True),
}


# --- what a handler does --------------------------------------------------------------------


def handle_create() -> Trade:
    return record("HANDLER")


def handle_session_scope() -> Trade:
    with scope():
        trades.get_latest()
        return record("HANDLER")


def handle_iterate() -> Trade | None:
    rows = list(trades.iterate())
    return rows[-1] if rows and rows[-1].symbol == "HANDLER" else None


HANDLERS = (handle_create, handle_session_scope, handle_iterate)


# --- the sweep ------------------------------------------------------------------------------


@dataclass
class Report:
    """What an operation left behind, by what was wrong."""

    operation: str
    points: int = 0  # there are
    tried: int = 0
    missed: int = 0  # attempts that did not come to their place
    failures: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    stopped = ""

    def __str__(self) -> str:
        failed = sum(map(len, self.failures.values()))
        counts = f"{self.points} points, {self.tried} tried, {self.missed} missed, {failed} failed"
        lines = [f"{self.operation}: {counts}"]
        for problems, places in self.failures.items():
            lines += [
                f"  {len(places)} x: {'; '.join(problems)}",
                f"    at {', '.join(places[:6])}",
            ]
        if self.stopped:
            lines.append(f"  stopped at the last of these places: {self.stopped}")
        return "\n".join(lines)


QUEUED_AGAIN = 0.02  # seconds after which a writer queues for the write lock, as in a slow call
CLOSED_EACH = 7  # attempts: closing and opening takes longer than all the other checks
MOST_FAILURES = 60  # each may take seconds, waiting for a lock that is not released
ERRORS = tuple(itertools.product((KeyboardInterrupt, TimeLimit), (False, True)))


def sweep(
    name: str,
    target: Target,
    *,
    tried: set[Stack] | None = None,
    every: int = 1,
    all_kinds: bool = False,
    handlers: bool = False,
) -> Report:
    """Interrupt an operation at each of its places and report what was left behind.

    The exception is Ctrl-C's or a time limit's, and it is dropped at once or kept, as a notebook
    keeps the last one. With `handlers` nothing is raised: one of `HANDLERS` is called. The places
    get these kinds in turn; with `all_kinds` each place gets all of them. Places whose stacks are
    in `tried` are skipped and the others added; of the rest, `every` selects each n-th one.
    """
    operation = OPERATIONS[name]
    report = Report(name)
    unraisable = sys.unraisablehook

    def interrupt(at: int, kind: Any, pause: float = 0.0) -> _Attempt:
        attempt = _Attempt(operation, target, at, whole, pause)
        if handlers:
            attempt.handler = kind
        else:
            attempt.error, attempt.keep = kind[0](), kind[1]
        attempt.run(close=report.tried % CLOSED_EACH == 0)
        return attempt

    _start_again(target)
    try:
        for _ in range(2):  # the first one fills caches
            whole = _Attempt(operation, target)
            whole.run()
            if whole.problems:
                raise AssertionError(f"{name}, not interrupted: {'; '.join(whole.problems)}")
        report.points = len(whole.stacks)
        gc.collect()
        gc.freeze()  # later collections skip the objects that exist now
        for at in _chosen(whole.stacks, tried)[::every]:
            kinds: Sequence[Any] = HANDLERS if handlers else ERRORS
            for kind in kinds if all_kinds else [kinds[report.tried % len(kinds)]]:
                attempt = interrupt(at, kind)
                if attempt.where is None and not attempt.problems:
                    attempt = interrupt(at, kind, QUEUED_AGAIN)
                report.missed += attempt.where is None
                if attempt.problems:
                    how = f"{at}@{attempt.where} {_name(kind)}"
                    report.failures.setdefault(tuple(attempt.problems), []).append(how)
                    _start_again(target)
                failed = sum(map(len, report.failures.values()))
                if attempt.is_stuck or failed == MOST_FAILURES:
                    report.stopped = "this process hangs" if attempt.is_stuck else "that is enough"
                    return report
            report.tried += 1
    finally:
        gc.unfreeze()
        gc.collect()  # what a generator of an attempt still raises is not for the next test
        sys.unraisablehook = unraisable
    return report


def _chosen(stacks: list[Stack], tried: set[Stack] | None) -> list[int]:
    """Return the numbers of the places to try, from 1."""
    if tried is None:
        return list(range(1, len(stacks) + 1))
    chosen = []
    for number, stack in enumerate(stacks, 1):
        if stack not in tried:
            tried.add(stack)
            chosen.append(number)
    return chosen


def _name(kind: Any) -> str:
    if not isinstance(kind, tuple):
        return str(kind.__name__)
    error, keep = kind
    return f"{error.__name__}{' kept' if keep else ''}"


def _start_again(target: Target) -> None:
    with suppress(Exception):
        close_db()
    db.initialize(None)
    gc.collect()
    target.fresh()
    target.open()


class _Attempt:
    """One call of an operation that is interrupted at one place (0: nowhere), and its checks."""

    def __init__(
        self,
        operation: Operation,
        target: Target,
        at: int = 0,
        whole: _Attempt | None = None,
        pause: float = 0.0,
    ) -> None:
        self.operation, self.target, self.at, self.whole = operation, target, at, whole
        self.pause = pause  # seconds to wait before the call
        self.error: BaseException | None = None  # is raised
        self.keep = False
        self.handler: Callable[[], Trade | None] | None = None  # or this is called
        self.problems: list[str] = []
        self.is_stuck = False
        self.where: str | None = None
        self.stacks: list[Stack] = []
        self.handles: Counter[str] = Counter()
        self.change = (0, 0, 0)
        self._acknowledged: set[tuple[str, str]] = set()
        self._phase = "what comes before"
        self._raised = False
        self._ignored = False  # Python ignores what a __del__ raises

    def run(self, *, close: bool = True) -> None:
        """Try it and note the problems; close the database too, which takes longer, if asked."""
        if self.operation.in_thread:
            stored: list[Trade] = []
            self._limited(lambda: stored.append(self._prepare()))
            if stored:
                thread = threading.Thread(target=self._run, args=stored, daemon=True)
                thread.start()
                thread.join(PATIENCE)
                self.is_stuck = thread.is_alive()
        else:
            self._limited(lambda: self._run(self._prepare()))
        if not self.is_stuck:
            self._limited(lambda: self._finish(close))
        if self.is_stuck:
            self.problems.append(f"{self._phase} hangs")

    def _limited(self, call: Callable[[], object]) -> None:
        before = signal.signal(signal.SIGALRM, _hang)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        try:
            self._call(self._phase, call)
        except Hanging:
            self.is_stuck = True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _prepare(self) -> Trade:
        self.target.clear()
        stored = record("STORED")
        if not self.operation.new_database and self.operation.call is not delete:
            self._acknowledged.add(("trade", stored.id.hex))
        return stored

    def _run(self, stored: Trade) -> None:
        target = self.target
        self.operation.before(target)
        if self.operation.new_database:
            target.fresh()
        before = {} if self.operation.new_database else target.rows()
        time.sleep(self.pause)
        threads = threading.active_count()
        self._interrupt(stored)
        self._require_nothing_left("")
        if threading.active_count() > threads:
            self.problems.append("thread left")
        if not self._call("init_db", target.open):
            return
        self._compare(before, target.rows())
        # what this process still reads must not keep it from writing, nor show it what is old
        self._call("writing from outside", target.write)

        def create_next() -> None:
            self._acknowledged.add(("trade", record("NEXT").id.hex))

        def scope_next() -> None:
            with scope():
                first = record("SCOPE")
                self._drop()  # must not end this transaction
                if not target.held():
                    self.problems.append("dropping the exception ended another transaction")
                second = record("SCOPE")
            self._acknowledged.update(("trade", row.id.hex) for row in (first, second))

        def read_next() -> None:
            if ("trade", stored.id.hex) in self._acknowledged:
                read = trades.get_by_id(stored.id)
                if read is None or read.strategy != "outside":
                    raise LookupError("an earlier trade is not problems as it is stored")

        for name, call in (
            ("next create", create_next),
            ("next session_scope", scope_next),
            ("next read", read_next),
        ):
            if self._call(name, call) and self._acknowledged - target.rows().keys():
                self.problems.append(f"{name} acknowledged, not stored")
            self._require_nothing_left(f" after {name}")
        self._drop()

    def _finish(self, close: bool) -> None:
        target = self.target
        self.problems += target.pool_problems()
        self.handles = target.handles()
        if self.whole is not None and self.handles - self.whole.handles:
            gc.collect()  # a database that was closed
            more = target.handles() - self.whole.handles
            for _ in range(50):
                if not more:
                    break
                time.sleep(0.02)  # a server sees later that a connection was closed
                more = target.handles() - self.whole.handles
            self.problems += [f"left open: {count} {what}" for what, count in more.items()]
        if close:
            target.part()  # the last connection to close does more
            self._call("close_db", close_db)
            if self._acknowledged - target.rows().keys():
                self.problems.append("acknowledged row lost by close_db")
            self._require_nothing_left(" after close_db")
            self._call("init_db", target.open)

    def _interrupt(self, stored: Trade) -> None:
        call = self.operation.call
        operation = self.target.open if call is None else lambda: call(stored)
        interrupter = Interrupter(self._place(), self._handle)
        holder = self.target.hold_lock(0.005) if self.operation.waits else None
        sys.unraisablehook = self._ignore
        self._phase = "the interrupted call"
        raised = interrupter.run(operation)
        for lock in (lifecycle, fork_gate):
            # CPython 3.14 may keep the lock of a `with`, later ones do not (docs/platforms.md)
            while sys.version_info[:2] == (3, 14) and lock._is_owned():  # type: ignore[attr-defined]
                lock.release()
        self.stacks, self.where = interrupter.stacks, interrupter.where
        self._raised = raised is not None
        is_ours = raised is self.error or (raised is None and self._ignored)
        if isinstance(self.error, Exception):
            # a migration, and psycopg as it connects, say in an error of theirs what went wrong
            is_ours |= self.error in _chain(raised)
        if holder is not None:
            holder.join()
        if isinstance(raised, Hanging):
            raise raised
        must_raise = self.where is not None and self.error is not None
        if not is_ours if must_raise else raised is not None:
            name = "swallowed"
            if raised is not None:
                name = f"replaced by {type(raised).__name__}: {self._text(raised)}"
            self.problems.append(f"interrupt {name}")
        interrupter.handler = None  # whose exception is in a frame of the traceback
        if not self.keep:
            self._drop()

    def _place(self) -> Place | None:
        if self.whole is None:
            return None
        passed = self.whole.stacks[: self.at]
        return Place(passed[-1], passed.count(passed[-1]))

    def _handle(self) -> None:
        if self.error is not None:
            raise self.error
        if self.handler is None:
            return
        with suppress(botmemory.BotMemoryError):  # it may refuse, and then nothing is stored
            row = self.handler()
            if row is not None and not self.operation.rolls_back:
                self._acknowledged.add(("trade", row.id.hex))

    def _ignore(self, unraisable: Any) -> None:
        if unraisable.exc_value is self.error:
            self._ignored = True
        elif getattr(unraisable.object, "__module__", "").startswith("botmemory"):
            self.problems.append(f"{unraisable.object!r} raises {unraisable.exc_value!r}")

    def _require_nothing_left(self, when: str) -> None:
        for problem in self.target.left():
            if problem not in self.problems:
                self.problems.append(problem + when)
        local: Any = getattr(db.obj, "local", None)
        names = ("reads_own_keys", "changed_keys", "row_key")
        if any(getattr(local, name, None) for name in names):
            self.problems.append("keys of a call left" + when)

    def _compare(self, before: Rows, after: Rows) -> None:
        """Note how many rows the call added, removed and changed: all it is to, or none."""
        before, after = _without_handlers(before), _without_handlers(after)
        both = before.keys() & after.keys()
        self.change = (
            len(after.keys() - both),
            len(before.keys() - both),
            sum(before[key] != after[key] for key in both),
        )
        if self.whole is None or self.change == self.whole.change:
            return
        if self.change != (0, 0, 0) or not self._raised:
            added = "rows added, removed, changed"
            self.problems.append(f"{added}: {self.change} instead of {self.whole.change}")

    def _call(self, name: str, call: Callable[[], object]) -> bool:
        self._phase = name
        try:
            call()
        except Exception as error:
            self.problems.append(f"{name} raises {type(error).__name__}: {self._text(error)}")
            return False
        return True

    def _text(self, error: BaseException) -> str:
        return str(error).replace(self.target.name(), "DATABASE")[:90]

    def _drop(self) -> None:
        self.error = None


def _without_handlers(rows: Rows) -> Rows:
    return {key: values for key, values in rows.items() if values[0] != "HANDLER"}


def _hang(*_: object) -> None:
    raise Hanging


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("operations", nargs="*", default=[*OPERATIONS], metavar="OPERATION")
    parser.add_argument("--every", type=int, default=1, help="try each n-th place only")
    parser.add_argument("--all", action="store_true", help="each kind of interrupt at each place")
    parser.add_argument("--handlers", action="store_true", help="call handlers, raise nothing")
    parser.add_argument("--url", help="an empty PostgreSQL database, instead of a SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target: Target = Server(options.url) if options.url else SqliteFile(Path(folder))
        for name in options.operations:
            began = time.monotonic()
            print(
                sweep(
                    name,
                    target,
                    every=options.every,
                    all_kinds=options.all,
                    handlers=options.handlers,
                )
            )
            print(f"  {time.monotonic() - began:.1f} s", flush=True)
            db.initialize(None)


if __name__ == "__main__":
    main()
