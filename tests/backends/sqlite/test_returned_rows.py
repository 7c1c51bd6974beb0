"""A statement that writes has ended when it returns, although its rows are read later."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from samples import trade

from botmemory import DatabaseBusyError, StorageError, Trade, db, init_db, session_scope
from botmemory.backends.sqlite.lock import FileLock


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


def test_a_change_with_a_common_table_is_not_made_in_a_lost_file(opened: Path) -> None:
    opened.unlink()
    with pytest.raises(StorageError, match="deleted or replaced"):
        changed_by_cte().execute()


def test_a_query_with_a_common_table_needs_no_lock_and_is_read_as_asked_for(opened: Path) -> None:
    n = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    sql = f"{n} SELECT i, 'DELETE FROM', replace('a', 'b', 'c') AS \"update\" FROM n"
    other = FileLock(f"{opened}-lock")
    assert other.acquire(0)
    rows = iter(db.execute_sql(sql))  # of which there is no end
    assert next(rows)[0] == 1
