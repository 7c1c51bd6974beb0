"""A transaction that the program itself begins is one that a block ends, on every backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from samples import trade

from botmemory import StorageError, Trade, ValidationError, db, session_scope
from botmemory.repositories import state, trades

pytestmark = pytest.mark.usefixtures("empty_database")


def strategies() -> list[str | None]:
    return [row.strategy for row in trades.iterate()]


class StopError(Exception):
    pass


def test_what_is_not_committed_is_rolled_back_where_an_error_leaves_manual_commit() -> None:
    with pytest.raises(StopError), db.manual_commit():
        db.begin()
        trade(strategy="inside")
        raise StopError
    assert not db.in_transaction()
    trade(strategy="later")
    state.set("key", 1)
    with session_scope():
        trade(strategy="in a block")
    assert strategies() == ["later", "in a block"]


def test_leaving_manual_commit_without_a_commit_is_an_error() -> None:
    with (
        pytest.raises(StorageError, match=r"manual_commit\(\) was left before commit\(\)"),
        db.manual_commit(),
    ):
        db.begin()
        trade(strategy="inside")
    trade(strategy="later")
    assert strategies() == ["later"]


def test_calls_in_manual_commit_before_and_after_a_transaction_are_stored_at_once() -> None:
    with db.manual_commit():
        trade(strategy="before")
        assert strategies() == ["before"]
        assert Trade.select().count() == len(trades.get_all()) == 1
        db.begin()
        trade(strategy="rolled back")
        db.rollback()
        trade(strategy="between")
        db.begin()
        row = trade(strategy="committed")
        row.pnl = 1.0
        row.save()
        trades.update(row, pnl=2.0)
        assert strategies() == ["before", "between", "committed"]
        db.commit()
        trade(strategy="after")
        assert trades.get_total_pnl() == 2.0
    with pytest.raises(StopError), db.manual_commit():
        raise StopError
    assert strategies() == ["before", "between", "committed", "after"]


def test_an_inner_manual_commit_leaves_the_transaction_to_the_outer_one() -> None:
    @db.manual_commit()
    def record() -> None:
        db.begin()
        trade()

    with db.manual_commit():
        record()
        db.commit()
    assert len(strategies()) == 1


BEGINS: dict[str, Callable[[], object]] = {
    "begin()": lambda: db.begin(),
    "BEGIN": lambda: db.execute_sql("BEGIN"),
    "begin": lambda: db.execute_sql(" begin"),
    "SAVEPOINT": lambda: db.execute_sql("SAVEPOINT a"),
    "START TRANSACTION": lambda: db.execute_sql("START TRANSACTION"),
}


@pytest.mark.parametrize("name", BEGINS)
def test_a_transaction_that_nothing_would_end_is_not_begun(name: str) -> None:
    with pytest.raises(ValidationError, match=r"begins a transaction that no block ends; begin"):
        BEGINS[name]()
    if name != "begin()":
        with pytest.raises(ValidationError, match="that no block ends"), db.manual_commit():
            BEGINS[name]()
    with session_scope():
        trade()
    assert len(strategies()) == 1


def test_a_program_sets_savepoints_of_its_own_in_a_block() -> None:
    with session_scope() as database:
        trade(strategy="kept")
        database.execute_sql("SAVEPOINT a")
        trade(strategy="taken back")
        database.execute_sql("ROLLBACK TO SAVEPOINT a")
        database.execute_sql("RELEASE SAVEPOINT a")
    assert strategies() == ["kept"]
