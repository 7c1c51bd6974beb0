"""A statement that writes has ended when it returns, although its rows are read later."""

from __future__ import annotations

import os
import signal as posix
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import peewee
import pytest
from processes import needs_posix, needs_signals
from samples import trade, trade_values

from botmemory import DatabaseBusyError, StorageError, Trade, close_db, db, init_db, session_scope
from botmemory.backends.sqlite.lock import FileLock
from botmemory.repositories import trades


def changed() -> Any:
    return Trade.update(pnl=1.0)


def changed_by_cte() -> Any:
    oldest = Trade.select(Trade.id).order_by(Trade.id).cte("oldest")
    return Trade.update(pnl=1.0).where(Trade.id >= oldest.select(oldest.c.id)).with_cte(oldest)


WITH = "with oldest as (select 1) update trade set pnl = 1"
RETURNING: dict[str, Callable[[], Any]] = {
    "update": lambda: iter(changed().returning(Trade.symbol).tuples().execute()),
    "delete": lambda: iter(Trade.delete().returning(Trade.symbol).tuples().execute()),
    "insert": lambda: iter(
        Trade.insert(side="buy", price=1, quantity=1, symbol="BTC/USDT")
        .returning(Trade.symbol)
        .tuples()
        .execute()
    ),
    "common table": lambda: iter(changed_by_cte().returning(Trade.symbol).tuples().execute()),
    "raw": lambda: iter(db.execute_sql("update trade set pnl = 1 returning symbol")),
    "raw common table": lambda: iter(db.execute_sql(f"{WITH} returning symbol")),
}


@pytest.fixture
def opened(path: Path) -> Path:
    init_db(path, busy_timeout=0.1)
    trade()
    trade()
    return path


def stored(path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        [count] = other.execute("SELECT COUNT(*) FROM trade WHERE strategy = 'later'").fetchone()
    return int(count)


@pytest.mark.parametrize("name", RETURNING)
def test_what_is_recorded_before_the_rows_are_read_is_stored(name: str, opened: Path) -> None:
    rows = RETURNING[name]()
    trade(strategy="later")
    assert stored(opened) == 1
    with session_scope():
        trade(strategy="later")
    assert stored(opened) == 2
    assert next(rows) == ("BTC/USDT",)


@pytest.mark.parametrize("name", RETURNING)
def test_another_program_writes_before_the_rows_are_read(name: str, opened: Path) -> None:
    rows = RETURNING[name]()
    with closing(sqlite3.connect(opened, timeout=0, isolation_level=None)) as other:
        other.execute("UPDATE trade SET strategy = 'later'")
    assert next(rows) == ("BTC/USDT",)


def test_rows_returned_in_a_block_are_read_after_it(opened: Path) -> None:
    with session_scope():
        rows = RETURNING["update"]()
        trade(strategy="later")
    assert stored(opened) == 1
    assert list(rows) == [("BTC/USDT",)] * 2


def test_a_cursor_with_returned_rows(opened: Path) -> None:
    def execute() -> Any:
        return db.execute_sql("UPDATE trade SET pnl = 1 RETURNING rowid, pnl")

    cursor = execute()
    assert [column[0] for column in cursor.description] == ["rowid", "pnl"]
    assert cursor.rowcount == 2
    assert cursor.fetchone() == (1, 1.0)
    assert cursor.fetchmany() == [(2, 1.0)]
    assert cursor.fetchmany(3) == cursor.fetchall() == []
    assert cursor.fetchone() is None
    assert list(execute()) == execute().fetchall() == execute().fetchmany(3)
    cursor = execute()
    assert next(cursor) == (1, 1.0)
    cursor.close()
    assert cursor.fetchone() is None


@pytest.mark.parametrize("sql", [WITH, f"{WITH} returning symbol", WITH.upper()])
def test_a_change_with_a_common_table_has_the_write_lock(sql: str, opened: Path) -> None:
    other = FileLock(f"{opened}-lock")
    assert other.acquire(0)
    with pytest.raises(DatabaseBusyError, match="another writer held it"):
        db.execute_sql(sql)
    other.release()
    db.execute_sql(sql)


@needs_posix  # Windows deletes no file that is open
def test_a_change_with_a_common_table_is_not_made_in_a_lost_file(opened: Path) -> None:
    opened.unlink()
    with pytest.raises(StorageError, match="deleted or replaced"):
        changed_by_cte().execute()


def test_a_query_with_a_common_table_needs_no_lock_and_is_read_as_asked_for(opened: Path) -> None:
    n = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    sql = f"{n} SELECT i, 'DELETE', replace('a', 'b', 'c') AS \"update\" FROM n"
    other = FileLock(f"{opened}-lock")
    assert other.acquire(0)
    rows = iter(db.execute_sql(sql))  # of which there is no end
    assert next(rows)[0] == 1


def test_rows_that_cannot_be_read_end_the_statement(opened: Path) -> None:
    """As of text that another program has written in another encoding."""
    with closing(sqlite3.connect(opened, isolation_level=None)) as other:
        other.execute("UPDATE trade SET strategy = CAST(x'ff41' AS TEXT)")
    update = Trade.update(pnl=1.0).returning(Trade.strategy)
    with pytest.raises(peewee.OperationalError, match="Could not decode") as raised:
        update.execute()
    trade(strategy="later")
    assert stored(opened) == 1
    assert raised.value  # is kept until here, as by a notebook
    with session_scope():
        trade(strategy="later")
    assert stored(opened) == 2


WRITES: dict[str, Callable[[], object]] = {
    "create": lambda: trade(strategy="later"),
    "session_scope": lambda: recorded_in_block(),
    "create_many": lambda: trades.create_many([trade_values(strategy="later")]),
    "update of Peewee": lambda: Trade.update(strategy="later").execute(),
}


def recorded_in_block() -> None:
    with session_scope():
        trade(strategy="later")


@needs_signals
@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("in_block", [False, True])
def test_a_signal_handler_is_refused_inside_a_function_that_a_change_calls(
    name: str, in_block: bool, opened: Path
) -> None:
    """What it wrote would be committed or rolled back with the change."""
    refused: list[DatabaseBusyError] = []

    def handle(*_: object) -> None:
        try:
            WRITES[name]()
        except DatabaseBusyError as error:
            refused.append(error)

    def doubled(number: float) -> float:
        os.kill(os.getpid(), posix.SIGUSR1)
        return number * 2

    db.obj.register_function(doubled, "doubled", 1)
    change = Trade.update(price=peewee.fn.doubled(Trade.price))
    before = posix.signal(posix.SIGUSR1, handle)
    try:
        with session_scope() if in_block else nullcontext():
            assert change.execute() == 2
    finally:
        posix.signal(posix.SIGUSR1, before)
    assert len(refused) == 2
    assert "a statement of this thread that writes is running" in str(refused[0])
    assert [row.price for row in trades.get_all()] == [200.0, 200.0]
    assert stored(opened) == 0
    trade(strategy="later")
    assert stored(opened) == 1


def test_a_block_that_cannot_begin_keeps_what_the_program_has_begun(opened: Path) -> None:
    db.connection().execute("BEGIN")
    trade(strategy="later")
    with pytest.raises(DatabaseBusyError, match="this thread has begun a transaction"):
        recorded_in_block()
    db.connection().execute("COMMIT")
    assert stored(opened) == 1


@needs_signals
def test_a_signal_handler_that_closes_the_database_and_ends_the_program_ends_it(
    opened: Path,
) -> None:
    def end(*_: object) -> None:
        close_db()
        raise SystemExit(3)

    before = posix.signal(posix.SIGALRM, end)
    posix.setitimer(posix.ITIMER_REAL, 0.05)
    count = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000)"
    try:
        with pytest.raises(SystemExit):
            db.execute_sql(f"UPDATE trade SET pnl = ({count} SELECT count(*) FROM n)")
    finally:
        posix.setitimer(posix.ITIMER_REAL, 0)
        posix.signal(posix.SIGALRM, before)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "OR ROLLBACK"])
def test_the_write_lock_is_released_however_a_manual_transaction_ends(
    end: str, opened: Path
) -> None:
    with db.manual_commit():
        db.begin()
        row = trade()
        if end == "OR ROLLBACK":
            again = "INSERT OR ROLLBACK INTO trade SELECT * FROM trade WHERE id = ?"
            with pytest.raises(peewee.IntegrityError):
                db.execute_sql(again, (row.id.hex,))
        else:
            db.execute_sql(end)
    assert FileLock(f"{opened}-lock").acquire(0)


def test_a_savepoint_in_a_transaction_of_the_driver_is_no_beginning(opened: Path) -> None:
    db.connection().execute("BEGIN")
    db.execute_sql("SAVEPOINT a")
    trade(strategy="later")
    db.connection().execute("COMMIT")
    assert stored(opened) == 1
