"""Opening, closing, transactions, threads and processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

import peewee
import pytest
from processes import needs_posix, needs_proc
from samples import signal, trade, trade_values

import botmemory
from botmemory import (
    BotMemoryError,
    Config,
    ConfigError,
    DatabaseBusyError,
    NotInitializedError,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    db,
    get_db,
    init_db,
    session_scope,
)
from botmemory.backends.sqlite.lock import FileLock
from botmemory.repositories import cash_flows, positions, signals, trades

pytestmark = pytest.mark.usefixtures("empty_folder")


class StopError(Exception):
    """Raised by a test inside a transaction."""


def in_a_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


# --- opening and closing ------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        trade,
        signal,
        trades.get_all,
        lambda: positions.get("X"),
        lambda: trades.get_by_id("0190a5a4-7b7c-7000-8000-00000000000a"),
        lambda: list(trades.iterate()),
        lambda: signals.get_by_metadata("a"),
        lambda: Trade.select().count(),
        lambda: Trade.create(symbol="X", side="buy", price=1, quantity=1),
        lambda: next(iter(get_db())),
        lambda: session_scope().__enter__(),
        lambda: db.atomic().__enter__(),
        lambda: db.__enter__(),
        lambda: db.connect(),
        lambda: db.execute_sql("SELECT 1"),
        lambda: db.anything_at_all,
    ],
)
def test_use_before_init_is_a_clear_error(use) -> None:
    for _ in range(2):
        with pytest.raises(NotInitializedError, match=r"call botmemory.init_db\(\) first"):
            use()
        init_db(":memory:")
        close_db()


def test_importing_touches_no_disk(tmp_path: Path) -> None:
    code = "import botmemory, botmemory.repositories, botmemory.migration_runner"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=exec, args=(code,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def test_importing_loads_no_module_that_peewee_has_not_loaded() -> None:
    code = f"""
import sys
sys.path[:] = {sys.path!r}
sys.modules["psycopg"] = None  # Peewee imports it where it is installed, with many modules
import peewee
before = set(sys.modules)
import botmemory
print(*sorted(set(sys.modules) - before))
"""
    program = [sys.executable, "-I", "-S", "-c", code]
    output = subprocess.run(program, check=True, capture_output=True, encoding="utf-8").stdout
    others = {name for name in output.split() if name.partition(".")[0] != "botmemory"}
    # contextvars is a few lines around a built-in module, and those of math are such modules
    assert {name.partition(".")[0].strip("_") for name in others} <= {
        *("future", "dataclasses", "contextvars", "math", "math_integer", "typing"),
    }


@pytest.mark.parametrize("public", [Config, init_db, session_scope, get_db, close_db])
def test_annotations_are_resolved_at_run_time(public: Any) -> None:
    assert get_type_hints(public)


def test_the_same_target_is_the_same_database(path: Path) -> None:
    database = init_db(path)
    assert init_db(path) is database
    assert init_db(str(path)) is database
    assert init_db(f"sqlite:///{path}") is database
    assert init_db(os.path.relpath(path)) is database
    assert init_db(Config(path)) is database
    assert init_db(path, synchronous="full") is database


def test_another_target_or_setting_is_an_error_until_closed(path: Path) -> None:
    database = init_db(path)
    with pytest.raises(ConfigError, match=r"other.db: the database is already open as .*bot.db"):
        init_db("other.db")
    with pytest.raises(ConfigError, match="already open as"):
        init_db(":memory:")
    with pytest.raises(ConfigError, match="synchronous: the database is already open with 'full'"):
        init_db(path, synchronous="normal")
    with pytest.raises(ConfigError, match="busy_timeout: "):
        init_db(Config(path, busy_timeout=1))
    assert not Path("other.db").exists()
    close_db()
    other = init_db("other.db")
    assert other is not database


def test_closing_twice_is_safe(target: str) -> None:
    close_db()
    init_db(target)
    close_db()
    close_db()
    with pytest.raises(NotInitializedError):
        trades.get_all()


def test_recorded_rows_exist_after_reopening(target: str) -> None:
    init_db(target)
    created = trade(signal=signal(signal_metadata={"rsi": 20}))
    close_db()
    init_db(target)
    [stored] = trades.get_all()
    assert stored == created
    assert stored.signal is not None
    assert stored.signal.signal_metadata == {"rsi": 20}


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"syncronous: .*\(did you mean 'synchronous'\?\)"):
        init_db(":memory:", syncronous="full")  # type: ignore[call-arg]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch) -> None:
    init_db("bot.db")
    trade()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert in_a_thread(trades.get_trade_count) == 1
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "missing" / "bot.db", "its folder .*missing does not exist"),
        (lambda p: p, "is a folder; name a file inside it"),
    ],
)
def test_an_unusable_path_is_explained(make, message: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=message):
        init_db(make(tmp_path))
    assert list(tmp_path.iterdir()) == []
    init_db(":memory:")


def test_a_file_that_is_not_a_database_is_not_changed(path: Path) -> None:
    content = b"date,open,high\n" * 500
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"bot.db: it is not a SQLite database .*check the path"):
        init_db(path)
    assert path.read_bytes() == content


@needs_posix
def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        init_db(path)
        trade()
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    names = ("bot.db", "bot.db-wal", "bot.db-shm", "bot.db-lock")
    assert modes == dict.fromkeys(names, 0o600)


@pytest.mark.parametrize(("mode", "level"), [("full", 2), ("normal", 1)])
def test_the_pragmas_of_every_connection(path: Path, mode, level: int) -> None:
    database = init_db(path, synchronous=mode)

    def pragmas() -> list[object]:
        names = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        return [database.pragma(name) for name in names]

    assert pragmas() == in_a_thread(pragmas) == ["wal", 1, level, 0]  # botmemory waits, not SQLite


def test_read_only_reads_and_never_writes(path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such database to read"):
        init_db(path, read_only=True)
    assert not path.exists()
    init_db(path)
    trade()
    close_db()
    init_db(path, read_only=True)
    with session_scope():
        assert trades.get_trade_count() == 1
    with pytest.raises(StorageError, match="cannot be written .*read_only"):
        trade()


def test_reading_only_leaves_no_file_behind(path: Path) -> None:
    init_db(path)
    trade()
    close_db()
    Path(f"{path}-lock").unlink()
    init_db(path, read_only=True)
    assert trades.get_trade_count() == 1
    assert in_a_thread(trades.get_trade_count) == 1
    close_db()
    assert [file.name for file in path.parent.iterdir()] == ["bot.db"]


def test_a_reader_sees_the_rows_of_a_running_writer(path: Path) -> None:
    code = f"""
import sys
from botmemory import init_db
from botmemory.repositories import trades
init_db({str(path)!r})
for line in sys.stdin:
    trades.create(symbol="X", side="buy", price=1, quantity=1)
    print("done", flush=True)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as writer:
        for count in range(1, 4):
            writer.stdin.write("record\n")
            writer.stdin.flush()
            writer.stdout.readline()
            init_db(path, read_only=True)
            assert trades.get_trade_count() == count
            with pytest.raises(StorageError, match="cannot be written"):
                trade()
            if count == 2:
                close_db()


def test_the_limit_on_metadata_can_be_set() -> None:
    init_db(":memory:", max_metadata_bytes=20)
    signal(signal_metadata={"rsi": 20})
    with pytest.raises(ValidationError, match="takes 25 bytes; at most 20 are allowed"):
        signal(signal_metadata={"rsi": 20, "note": "abcde"})
    row = {"symbol": "X", "signal_value": 1}
    rows = [row, row | {"signal_metadata": {"rsi": 20, "note": "abcde"}}]
    with pytest.raises(ValidationError, match=r"rows\[1\]: signal_metadata: .* takes 25 bytes"):
        signals.create_many(rows)


# --- transactions -------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_database")
class TestSessionScope:
    def test_it_commits_at_its_end(self) -> None:
        with session_scope() as database:
            assert database is db.obj
            trade()
            trade()
        assert trades.get_trade_count() == 2

    def test_it_rolls_back_on_an_exception(self) -> None:
        with pytest.raises(StopError), session_scope():
            trade()
            signal()
            raise StopError
        assert (trades.get_trade_count(), signals.get_signal_count()) == (0, 0)

    def test_an_inner_scope_is_a_savepoint(self) -> None:
        with session_scope():
            trade(price=1)
            with pytest.raises(StopError), session_scope():
                trade(price=2)
                raise StopError
            with session_scope():
                trade(price=3)
        assert sorted(t.price for t in trades.get_all()) == [1.0, 3.0]

    def test_an_outer_exception_rolls_the_inner_scope_back_too(self) -> None:
        with pytest.raises(StopError), session_scope():
            with session_scope():
                trade()
            raise StopError
        assert trades.get_trade_count() == 0

    def test_bulk_inside_a_scope_is_part_of_it(self) -> None:
        row = {"symbol": "X", "side": "buy", "price": 1, "quantity": 1}
        with pytest.raises(StopError), session_scope():
            assert trades.create_many([row] * 3) == 3
            raise StopError
        assert trades.get_trade_count() == 0

    def test_the_database_cannot_be_closed_inside(self) -> None:
        with session_scope():
            trade()
            with pytest.raises(DatabaseBusyError, match=r"leave session_scope\(\)"):
                close_db()
        assert trades.get_trade_count() == 1

    def test_errors_of_the_block_are_not_translated(self) -> None:
        with pytest.raises(ZeroDivisionError), session_scope():
            raise ZeroDivisionError


def test_a_transaction_that_reads_and_writes_loses_no_update(target: str) -> None:
    init_db(target)
    trade(quantity=1, timestamp=None)

    def add_one() -> None:
        for _ in range(20):
            with session_scope():
                [last] = trades.get_latest(limit=1)
                trades.update(last, quantity=last.quantity + 1)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(add_one) for _ in range(4)]:
            future.result()
    assert [t.quantity for t in trades.get_all()] == [81.0]


def test_waiting_too_long_is_a_named_error(path: Path) -> None:
    init_db(path, busy_timeout=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for write in (trade, lambda: session_scope().__enter__()):
            with pytest.raises(DatabaseBusyError, match=r"bot.db: another writer .* 0.05 s"):
                write()
        assert trades.get_trade_count() == 0
        other.execute("ROLLBACK")
    trade()
    assert trades.get_trade_count() == 1


# --- threads, processes, dependency injection ---------------------------------------------


def test_every_thread_has_its_own_connection(path: Path) -> None:
    database = init_db(path)
    barrier = threading.Barrier(4)

    def work(number: int) -> int:
        barrier.wait()
        for _ in range(10):
            trade(price=number + 1)
        return id(database.connection())

    with ThreadPoolExecutor(4) as pool:
        connections = set(pool.map(work, range(4)))
    assert len(connections | {id(database.connection())}) == 5
    assert trades.get_trade_count() == 40


def test_a_rollback_of_one_thread_does_not_affect_another(path: Path) -> None:
    init_db(path)
    recorded = threading.Event()

    def record() -> None:
        trade(price=2)
        recorded.set()

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(StopError), session_scope():
            trade(price=1)
            future = pool.submit(record)
            assert not recorded.wait(0.05)
            raise StopError
        future.result()
    assert [t.price for t in trades.get_all()] == [2.0]


def test_an_in_memory_database_in_a_second_thread_is_a_clear_error() -> None:
    init_db(":memory:")
    trade()
    with pytest.raises(StorageError, match="belongs to the thread that opened it; use a file"):
        in_a_thread(trades.get_all)
    with pytest.raises(StorageError, match="belongs to the thread"):
        in_a_thread(trade)
    assert trades.get_trade_count() == 1


def test_a_closed_in_memory_database_is_never_silently_empty() -> None:
    database = init_db(":memory:")
    trade()
    database.close()
    with pytest.raises(StorageError, match="its rows are gone"):
        trades.get_trade_count()
    close_db()
    init_db(":memory:")
    assert trades.get_trade_count() == 0


def test_get_db_yields_the_database_and_closes_the_connection(path: Path) -> None:
    database = init_db(path)
    dependency = get_db()
    assert next(dependency) is database
    trade()
    assert not database.is_closed()
    assert list(dependency) == []
    assert database.is_closed()
    assert trades.get_trade_count() == 1


def test_get_db_closes_after_an_error_too(target: str) -> None:
    database = init_db(target)
    dependency = get_db()
    next(dependency)
    with pytest.raises(StopError):
        dependency.throw(StopError)
    assert database.is_closed()


def test_get_db_keeps_a_connection_whose_closing_would_lose_rows(path: Path) -> None:
    init_db(":memory:")
    for _ in get_db():
        trade()
    assert trades.get_trade_count() == 1
    close_db()
    init_db(path)
    with session_scope():
        for _ in get_db():
            trade()
    assert trades.get_trade_count() == 1


def test_writers_wait_for_the_lock_also_after_a_connection_was_closed(path: Path) -> None:
    init_db(path)
    for _ in range(2):
        assert len(list(get_db())) == 1
        gc.collect()
        with session_scope():
            assert not FileLock(f"{path}-lock").acquire(0)
    assert FileLock(f"{path}-lock").acquire(0)


@needs_proc
@pytest.mark.parametrize("count", [300, pytest.param(2_000, marks=pytest.mark.long)])
def test_short_threads_leave_no_descriptor_open(path: Path, count: int) -> None:
    init_db(path)
    trade()

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def work() -> None:
        trades.get_trade_count()

    before, most = descriptors(), 0
    for number in range(count):
        if number % 100 == 0:
            trade()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        most = max(most, descriptors())
    assert most <= before + 2


def fail_in_a_scope() -> None:
    with session_scope():
        trade()
        raise ValidationError("no")


def fail_in_a_nested_scope() -> None:
    with session_scope():
        trade()
        with session_scope():
            trade(exchange="okx", exchange_trade_id="1")


def fail_on_an_unreadable_row() -> None:
    db.execute_sql("UPDATE trade SET timestamp = 'soon'")
    trades.get_all()


FAILURES = {
    "a refused value": lambda: trade(price=-1),
    "a duplicate": lambda: trade(exchange="okx", exchange_trade_id="1"),
    "a duplicate among many": lambda: trades.create_many(
        [trade_values(), trade_values(exchange="okx", exchange_trade_id="1")]
    ),
    "a duplicate of a cash flow": lambda: cash_flows.create(
        kind="funding", currency="USDT", amount=1, exchange="okx", exchange_flow_id="1"
    ),
    "a missing signal": lambda: trade(signal=10**6),
    "a constraint of Peewee's insert": lambda: Trade.insert(trade_values(signal=10**6)).execute(),
    "a constraint of SQL": lambda: db.execute_sql("UPDATE trade SET price = -1"),
    "SQL that is wrong": lambda: db.execute_sql("SELECT nothing"),
    "a query that is wrong": lambda: list(Trade.raw("SELECT nothing")),
    "an unreadable row": fail_on_an_unreadable_row,
    "an error in a scope": fail_in_a_scope,
    "an error in a nested scope": fail_in_a_nested_scope,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_in_a_thread_keeps_no_connection_open(path: Path, failure: str) -> None:
    init_db(path)
    trade(exchange="okx", exchange_trade_id="1")
    cash_flows.create(kind="funding", currency="USDT", amount=1, exchange="okx",
                      exchange_flow_id="1")  # fmt: skip

    def connections() -> int:
        return sum(isinstance(found, sqlite3.Connection) for found in gc.get_objects())

    raised = []

    def work() -> None:
        try:
            FAILURES[failure]()
        except (BotMemoryError, peewee.PeeweeException) as error:
            raised.append(type(error))

    gc.collect()
    before = connections()
    gc.disable()
    try:
        for _ in range(2):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        assert (len(raised), connections()) == (2, before)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "read",
    [
        lambda: trades.get_all(limit=1),
        lambda: trades.get_latest("BTC/USDT"),
        lambda: trades.get_by_symbol("BTC/USDT", 2),
        lambda: trades.get_total_pnl(),
        lambda: trades.get_trade_count(),
        lambda: trades.get_by_id("0190a5a4-7b7c-7000-8000-00000000000a"),
        lambda: next(trades.iterate()),
        lambda: signals.get_by_metadata("rsi"),
        lambda: positions.get("BTC/USDT"),
        lambda: positions.get_all(),
    ],
)
def test_reading_leaves_no_snapshot_open(path: Path, read) -> None:
    init_db(path)
    for _ in range(5):
        trade()
    kept = read()
    with closing(sqlite3.connect(path, timeout=0)) as other:
        busy, *_ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0, kept


def test_the_wal_shrinks_after_a_long_reader(path: Path) -> None:
    init_db(path, synchronous="normal")
    wal = path.with_name("bot.db-wal")
    note = {"note": "x" * 9_000}
    row = {"symbol": "X", "side": "buy", "price": 1, "quantity": 1, "trade_metadata": note}
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM trade").fetchone()
        for _ in range(5):
            trades.create_many([row] * 500)
        grown = wal.stat().st_size
        reader.execute("ROLLBACK")
    for _ in range(3):
        trade()
    assert grown > 20_000_000
    assert wal.stat().st_size < 20_000_000


def test_everything_raised_has_one_base() -> None:
    leaves = [getattr(botmemory, name) for name in botmemory.__all__ if name.endswith("Error")]
    assert len(leaves) == 9
    assert all(issubclass(leaf, BotMemoryError) for leaf in leaves)
    assert issubclass(botmemory.ValidationError, ValueError)


def test_a_bot_may_record_while_it_ends(path: Path) -> None:
    """At exit no thread can be started, and another process may be writing."""
    init_db(path)
    code = f"""
import atexit
from botmemory import init_db
from botmemory.repositories import trades
atexit.register(trades.create, symbol="X", side="buy", price=1, quantity=1)
init_db({str(path)!r})
print("open", flush=True)
input()
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as ending:
        ending.stdout.readline()
        with session_scope():
            ending.stdin.write(b"end\n")
            ending.stdin.flush()
            time.sleep(0.3)
        assert ending.stderr.read() == b""
    assert trades.get_trade_count() == 1


def test_the_models_are_bound_to_the_proxy(empty_database: peewee.Database) -> None:
    assert Trade._meta.database is db
    assert db.obj is empty_database
