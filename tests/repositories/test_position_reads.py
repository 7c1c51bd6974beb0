"""A position is computed from what was recorded since, where nothing else was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from position_check import QUESTIONS, check, recorded
from replication import wait_until
from samples import at, trade, trade_values
from servers import run

from botmemory import db, init_db, session_scope
from botmemory.repositories import positions, trades

TRADES = 20_000
INTERVAL = 10
FEW = 500  # instructions of SQLite's virtual machine; reading one trade takes more than 10


def record_trades() -> None:
    trades.create_many(
        trade_values(timestamp=at(n / 60), side="sell" if n % 2 else "buy", price=100.0 + n % 7)
        for n in range(TRADES)
    )


def get() -> positions.Position:
    return positions.get("BTC/USDT")


@contextmanager
def counted_instructions() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many instructions this connection has executed since."""
    count = 0

    def executed() -> int:
        nonlocal count
        count += INTERVAL
        return 0

    connection = db.connection()
    connection.set_progress_handler(executed, INTERVAL)
    try:
        yield lambda: count
    finally:
        connection.set_progress_handler(None, 0)


@pytest.mark.parametrize("question", [get, positions.get_all])
@pytest.mark.parametrize("name", [":memory:", "file"])
def test_trades_of_a_file_are_read_once(
    question: Callable[[], object], name: str, path: Path
) -> None:
    init_db(path if name == "file" else name)
    record_trades()
    with counted_instructions() as executed:
        question()
        in_all = executed()
        question()
        again = executed() - in_all
        trade(timestamp=at(TRADES))
        before = executed()
        question()
        with_one_more = executed() - before
        with session_scope():
            trade(timestamp=at(TRADES + 1))
            before = executed()
            question()
            in_a_block = executed() - before
        trade(timestamp=at(1))
        before = executed()
        question()
        with_a_late_one = executed() - before
    assert min(in_all, with_a_late_one) > 10 * TRADES
    assert max(again, with_one_more, in_a_block) < FEW
    check(QUESTIONS[0], recorded())


def test_trades_of_a_server_are_read_once(new_database: Callable[[], str]) -> None:
    url = new_database()
    init_db(url)
    record_trades()
    # what a killed program of another test has begun may end later than the program
    wait_until(lambda: not run(url, "SELECT FROM pg_stat_activity WHERE backend_xid IS NOT NULL"))
    queries: list[str] = []
    db.obj.query_hooks.append(lambda event: queries.append(event.sql))
    read = []
    for _ in range(3):
        get()
        read.append(any('FROM "trade"' in sql for sql in queries))
        queries.clear()
    assert read == [True, False, False]
    trade(timestamp=at(1))
    check(QUESTIONS[0], recorded())
