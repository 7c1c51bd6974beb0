"""Positions are right after every kind of change, also those that nobody tells botmemory of.

`positions` goes on from what it has read before while only newer fills are recorded. Each test
changes the trades in one way, and compares each position with one computed from all trades.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from interrupts import Interrupter, Place
from position_check import check, check_all, recorded
from processes import fork_writer, kill, needs_fork
from programs import in_threads
from samples import at, signal, trade, trade_values
from servers import Restartable, changed, run

from botmemory import (
    BotMemoryError,
    CashFlow,
    Config,
    DatabaseBusyError,
    Trade,
    close_db,
    db,
    init_db,
    migration_runner,
    session_scope,
)
from botmemory._url import server_parameters
from botmemory.backends.sqlite import backend, connection
from botmemory.queries import fills
from botmemory.repositories import cash_flows, positions, trades
from botmemory.upkeep import backup as upkeep

# where a handler could come between reading the trades and what tells of their changes
FILES = {fills.__file__, backend.__file__, connection.__file__}
LAST = 2**63 - 1  # the highest number of a row of SQLite
# what `ask` asks
BOTH = [
    {"symbol": "BTC/USDT", "strategy": None, "exchange": None},
    {"strategy": None, "exchange": None, "by_strategy": False},
]


class RollbackError(Exception):
    pass


@contextmanager
def rolled_back() -> Iterator[None]:
    with suppress(RollbackError), session_scope():
        yield
        raise RollbackError


def record_some(count: int = 4) -> None:
    for hour in range(count):
        trade(timestamp=at(hour), strategy="a", exchange="x", price=100.0 + hour)
    check_all()


@pytest.fixture
def file(path: Path) -> Path:
    """An open SQLite file with trades, whose positions were asked for."""
    init_db(path)
    record_some()
    return path


@pytest.fixture
def memory() -> sqlite3.Connection:
    """The connection of a `:memory:` database with trades, whose positions were asked for."""
    init_db(":memory:")
    record_some()
    raw: sqlite3.Connection = db.connection()
    return raw


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """An open PostgreSQL database with trades, whose positions were asked for."""
    target = new_database()
    init_db(target)
    record_some()
    return target


def first() -> Trade:
    [found] = Trade.select().order_by(Trade.timestamp, Trade.id).limit(1)
    return found


# --- by the functions and by Peewee, on each backend ----------------------------------------------

CHANGES: dict[str, Callable[[], object]] = {
    "a newer fill": lambda: trade(timestamp=at(9)),
    "a fill of the same timestamp": lambda: trade(timestamp=at(3), price=50.0),
    "a late fill": lambda: trade(timestamp=at(1), side="sell", price=150.0),
    "a late fill of another symbol": lambda: trade(timestamp=at(1), symbol="ETH/USDT"),
    "a smaller id at the same timestamp": lambda: trade(
        timestamp=at(3), side="sell", quantity=5, id=uuid.UUID(int=1)
    ),
    "many": lambda: trades.create_many(trade_values(timestamp=at(n)) for n in (1, 9, 10)),
    "an update": lambda: trades.update(first(), quantity=3),
    "a deletion": lambda: trades.delete(first()),
    "an update by Peewee": lambda: Trade.update(price=1).execute(),
    "one row updated, one recorded": lambda: (
        Trade.update(price=1).where(Trade.id == first().id).execute(),
        signal(),
    ),
    "a deletion by Peewee": lambda: Trade.delete().where(Trade.timestamp < at(2)).execute(),
    "all deleted": lambda: Trade.delete().execute(),
    "deleted and recorded again": lambda: (Trade.delete().execute(), record_some(3)),
    "an insert by Peewee": lambda: Trade.insert_many([trade_values(timestamp=at(1))]).execute(),
    "a saved row": lambda: Trade(**trade_values(timestamp=at(1))).save(force_insert=True),
    "a rolled back fill": lambda: roll_back_a_fill(),
    "funding": lambda: fund(),
    "funding of nothing held": lambda: fund(symbol="ETH/USDT"),
    "funding that is changed": lambda: (
        fund(),
        check_all(),
        CashFlow.update(amount=3).execute(),
        check_all(),
        CashFlow.delete().execute(),
    ),
    "raw SQL": lambda: db.execute_sql("UPDATE trade SET quantity = 9"),
    "raw SQL of the driver": lambda: db.connection().execute("UPDATE trade SET quantity = 9"),
}


def fund(amount: float = -0.5, symbol: str = "BTC/USDT") -> None:
    cash_flows.create(kind="funding", currency="USDT", amount=amount, symbol=symbol, exchange="x")


def roll_back_a_fill() -> None:
    with rolled_back():
        trade(timestamp=at(9))
        check_all()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("empty_database")
def test_a_change(change: str) -> None:
    record_some()
    CHANGES[change]()
    check_all()
    trade(timestamp=at(20))
    check_all()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.usefixtures("empty_database")
def test_a_change_in_a_transaction(change: str) -> None:
    record_some()
    with rolled_back():
        check_all()
        CHANGES[change]()
        check_all()
    check_all()
    with session_scope():
        with rolled_back():
            CHANGES[change]()
            check_all()
        check_all()
        CHANGES[change]()
        with rolled_back():
            trade(timestamp=at(30))
        check_all()
    check_all()


def test_an_upsert(target: str) -> None:
    init_db(target)
    record_some()
    for row in (first(), Trade(**trade_values(timestamp=at(1)))):
        query = Trade.insert_many([row.__data__])
        query.on_conflict(conflict_target=[Trade.id], update={Trade.quantity: 7}).execute()
        check_all()


@pytest.mark.usefixtures("empty_database")
def test_a_fill_after_a_rollback_takes_the_place_of_the_one_that_was_rolled_back() -> None:
    record_some()
    with rolled_back():
        trade(timestamp=at(9), quantity=5)
        check_all()
    trade(timestamp=at(9), quantity=2)  # its row has the same number
    check_all()


@pytest.mark.usefixtures("empty_database")
def test_the_newest_fill_is_replaced() -> None:
    record_some()
    for quantity in (2, 3):
        trades.delete(trade(timestamp=at(9), quantity=quantity))
        trade(timestamp=at(9), quantity=quantity)
        check_all()


@pytest.mark.usefixtures("empty_database")
def test_an_answer_is_not_changed_by_its_receiver() -> None:
    trade(fee=1, fee_currency="USDT")
    positions.get("BTC/USDT").fees["USDT"] = 5.0
    check_all()


@pytest.mark.usefixtures("empty_database")
def test_statements_that_are_observed() -> None:
    record_some()
    db.obj.query_hooks.append(lambda *_: None)
    try:
        trade(timestamp=at(9))
        check_all()
    finally:
        db.obj.query_hooks.clear()
    trade(timestamp=at(10))
    check_all()


@pytest.mark.usefixtures("empty_database")
def test_statements_that_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    record_some()
    with caplog.at_level(logging.DEBUG, logger="peewee"):
        trade(timestamp=at(9))
        check_all()
    trade(timestamp=at(10))
    check_all()


@pytest.mark.usefixtures("empty_database")
def test_manual_commit() -> None:
    record_some()
    db.connect(reuse_if_open=True)
    with db.manual_commit():
        db.begin()
        trade(timestamp=at(9))
        check_all()
        db.rollback()
        check_all()
        db.begin()
        check_all()
        trade(timestamp=at(10))
        check_all()
        db.commit()
    check_all()


@pytest.mark.usefixtures("empty_database")
def test_a_transaction_that_goes_on_after_its_rollback() -> None:
    record_some()
    with db.atomic() as transaction:
        trade(timestamp=at(9))
        check_all()
        transaction.rollback()
        check_all()
        trade(timestamp=at(10))
        transaction.commit()
        check_all()
    check_all()


@pytest.mark.usefixtures("empty_database")
def test_rows_that_an_update_still_returns() -> None:
    record_some()
    updated = iter(Trade.update(quantity=7).returning(Trade.id).execute())
    next(updated)
    check_all()
    assert len([*updated]) == 3
    check_all()


@pytest.mark.usefixtures("empty_database")
def test_rows_that_an_update_returned_before_it_was_rolled_back() -> None:
    record_some()
    with rolled_back():
        updated = iter(Trade.update(quantity=7).returning(Trade.id).execute())
        next(updated)
        check_all()
    check_all()
    del updated
    check_all()


def test_a_fill_and_its_funding_are_recorded_while_a_position_is_read(target: str) -> None:
    init_db(target)
    record_some()

    def record_both(event: Any) -> None:
        if 'FROM "trade"' in event.sql and "CASE" in event.sql:
            db.obj.query_hooks.clear()
            in_another_thread(both)

    def both() -> None:
        with session_scope():
            trade(timestamp=at(9), exchange="x")
            fund()

    Trade.update(price=100).execute()  # so that all is read
    db.obj.query_hooks.append(record_both)
    position = positions.get("BTC/USDT")
    assert not db.obj.query_hooks
    assert (position.quantity, position.funding) in [(4.0, 0.0), (5.0, -0.5)]
    check_all()


# --- by a signal handler --------------------------------------------------------------------------


def ask() -> None:
    positions.get("BTC/USDT")
    positions.get_all()


def record_and_ask() -> None:
    trade(timestamp=at(20), quantity=5)
    ask()


def ask_in_a_block() -> None:
    with rolled_back():
        ask()


def update_one() -> None:
    Trade.update(quantity=Trade.quantity + 1).where(Trade.id == first().id).execute()


HANDLERS: dict[str, Callable[[], object]] = {
    "records": lambda: trade(timestamp=at(30), side="sell", quantity=0.5),
    "records late": lambda: trade(timestamp=at(1), side="sell", quantity=3, price=7),
    "records a signal": lambda: signal(),
    "records funding": lambda: fund(),
    "updates": update_one,
    "asks": ask,
}
CALLS = (ask, lambda: trade(timestamp=at(20), quantity=5), record_and_ask, ask_in_a_block)


@pytest.mark.parametrize("places", [1, pytest.param(25, marks=pytest.mark.long)])
@pytest.mark.parametrize("handler", HANDLERS)
def test_a_signal_handler(handler: str, places: int) -> None:
    def handle() -> None:
        with suppress(DatabaseBusyError):  # it may not begin a transaction everywhere
            HANDLERS[handler]()

    init_db(":memory:")  # on a server a handler uses a connection of its own
    record_some(3)
    choice = random.Random(handler)
    for call, is_known in product(CALLS, (True, False)):
        reached = 0
        for place in _places(call, is_known, places, choice):
            (ask if is_known else update_one)()
            interrupter = Interrupter(place, handle)
            error = interrupter.run(call)
            assert error is None or isinstance(error, DatabaseBusyError)
            reached += interrupter.where is not None
            # what the handler has read may have the version that an update leads to
            for more in choice.choice([(signal, update_one), (update_one, signal)]):
                more()
                rows = recorded()
                for question in BOTH:
                    check(question, rows)
            if len(rows.trades) > 60:
                Trade.delete().where(Trade.timestamp > at(2)).execute()
        assert reached


def _places(
    call: Callable[[], object], is_known: bool, count: int, choice: random.Random
) -> list[Place]:
    (ask if is_known else update_one)()
    counter = Interrupter(None, None)
    assert counter.run(call) is None
    # those in functions of Peewee's that make the SQL are thousands
    ours = {stack: None for stack in counter.stacks if stack[0][0].co_filename in FILES}
    return [Place(stack, 1) for stack in choice.sample([*ours], min(count, len(ours)))]


# --- SQLite ---------------------------------------------------------------------------------------


def in_another_thread(call: Callable[[], object]) -> None:
    [outcome] = in_threads(call)
    assert outcome.error is None, outcome.error


def by_another_program(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def insert_of(rowid: int, hour: int) -> str:
    return (
        "INSERT INTO trade (rowid, id, timestamp, symbol, side, price, quantity) VALUES "
        f"({rowid}, '{uuid.uuid4().hex}', '{at(hour):%Y-%m-%d %H:%M:%S}.000000+00:00', 'BTC/USDT', "
        "'buy', 100, 1)"
    )


def test_another_thread_changes_trades(file: Path) -> None:
    for change in (
        lambda: trade(timestamp=at(9)),
        lambda: trade(timestamp=at(1)),
        lambda: trades.delete(first()),
        lambda: Trade.update(quantity=3).execute(),
    ):
        in_another_thread(change)
        check_all()


def test_another_program_changes_trades(file: Path) -> None:
    for statement in (
        "UPDATE trade SET quantity = 5 WHERE rowid = 1",
        "INSERT OR REPLACE INTO trade SELECT * FROM trade WHERE rowid = 2",
        "UPDATE OR REPLACE trade SET id = (SELECT id FROM trade WHERE rowid = 3) WHERE rowid = 1",
        "DELETE FROM trade",
        insert_of(1, 1),
    ):
        by_another_program(file, statement)
        check_all()


def test_another_program_deletes_the_newest_row_and_its_number_is_used_again(file: Path) -> None:
    by_another_program(file, "DELETE FROM trade WHERE rowid = 4")
    trade(timestamp=at(9), quantity=7)
    check_all()


@needs_fork
def test_a_writer_is_killed(file: Path) -> None:
    close_db()

    def work(acknowledge: Callable[[object], None]) -> None:
        init_db(file)
        trade(timestamp=at(8))
        with session_scope():
            trade(timestamp=at(1))
            Trade.update(quantity=9).execute()
            acknowledge("changed")
            threading.Event().wait()

    child, words = fork_writer(work)
    assert os.read(words, 1) == b"c"
    init_db(file)
    check_all()
    kill(child, words)
    check_all()
    trade(timestamp=at(9))
    check_all()


def test_a_row_is_replaced_by_sql_of_this_connection(file: Path) -> None:
    raw = db.connection()
    for statement in (
        "INSERT OR REPLACE INTO trade SELECT * FROM trade WHERE rowid = 2",
        "UPDATE OR REPLACE trade SET id = (SELECT id FROM trade WHERE rowid = 3) WHERE rowid = 1",
    ):
        raw.execute(statement)
        check_all()
    Trade.replace_many([first().__data__ | {"quantity": 9}]).execute()
    check_all()


def test_as_many_rows_are_changed_as_were_inserted(file: Path) -> None:
    trade(timestamp=at(9))
    db.connection().execute("UPDATE trade SET quantity = 5 WHERE rowid = 1")
    check_all()
    signal()
    db.connection().execute("DELETE FROM trade WHERE rowid = 1")
    check_all()


def test_a_transaction_that_the_driver_began(file: Path) -> None:
    raw = db.connection()
    for end in ("ROLLBACK", "COMMIT"):
        raw.execute("BEGIN")
        check_all()
        raw.execute("UPDATE trade SET quantity = quantity + 1")
        check_all()
        trade(timestamp=at(9))
        check_all()
        raw.execute(end)
        check_all()


def test_a_savepoint_that_the_driver_began(file: Path) -> None:
    raw = db.connection()
    raw.execute("SAVEPOINT outer_one")
    check_all()
    trade(timestamp=at(9))
    check_all()
    raw.execute("ROLLBACK TO outer_one")
    check_all()
    raw.execute("RELEASE outer_one")
    check_all()


@pytest.mark.parametrize("kind", ["", "TEMP"])
def test_a_trigger_changes_other_rows(file: Path, kind: str) -> None:
    db.connection().execute(
        f"CREATE {kind} TRIGGER changes_others AFTER INSERT ON trade BEGIN "
        "UPDATE trade SET quantity = quantity + 1 WHERE rowid = 1; END"
    )
    check_all()
    for hour in (8, 9):
        trade(timestamp=at(hour))
        check_all()
    trades.create_many(trade_values(timestamp=at(hour)) for hour in (10, 11))
    check_all()


def test_a_trigger_of_signals_changes_trades(file: Path) -> None:
    db.connection().execute(
        "CREATE TRIGGER by_signal AFTER INSERT ON signal BEGIN "
        "INSERT OR REPLACE INTO trade SELECT * FROM trade WHERE rowid = 1; "
        "DELETE FROM trade WHERE rowid = 2; END"
    )
    check_all()
    signal()
    check_all()


def test_a_trigger_ignores_the_row(file: Path) -> None:
    db.connection().execute(
        "CREATE TRIGGER ignores BEFORE INSERT ON trade BEGIN "
        "UPDATE trade SET quantity = quantity + 1 WHERE rowid = 1; SELECT RAISE(IGNORE); END"
    )
    check_all()
    trades.create_many([])
    with suppress(BotMemoryError):
        trade(timestamp=at(9))
    check_all()


def test_the_file_is_rewritten(file: Path) -> None:
    trades.delete(first())
    for statement in ("VACUUM", "REINDEX", "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"):
        db.connection().execute(statement)
        check_all()
        trade(timestamp=at(9))
        check_all()
        by_another_program(file, statement)
        check_all()
        trade(timestamp=at(10))
        check_all()


def test_the_table_is_rebuilt(file: Path) -> None:
    statements = (
        "ALTER TABLE trade RENAME TO old_trade",
        "CREATE TABLE trade AS SELECT * FROM old_trade WHERE rowid > 1 ORDER BY rowid DESC",
        "DROP TABLE old_trade",
    )
    for statement in statements:
        db.connection().execute(statement)
    check_all()
    trade(timestamp=at(9))
    check_all()


def test_a_table_is_dropped_in_a_transaction_that_is_rolled_back(file: Path) -> None:
    raw = db.connection()
    raw.execute("CREATE TABLE others AS SELECT * FROM trade")
    raw.execute("UPDATE others SET quantity = 9")
    check_all()

    def replace_table() -> None:
        raw.execute("DROP TABLE trade")
        raw.execute("CREATE TABLE trade AS SELECT * FROM others")

    def version() -> tuple[int, int]:
        return raw.execute("PRAGMA schema_version").fetchone()[0], raw.total_changes

    with rolled_back():
        replace_table()
        check_all()
        dropped = version()
    while version() < dropped:  # without a change of the rows
        raw.execute("CREATE TABLE other (x)")
        if version() < dropped:
            raw.execute("DROP TABLE other")
    assert version() == dropped
    check_all()


def test_the_schema_is_changed_by_migrations(file: Path) -> None:
    migration_runner.down(db.obj)
    by_another_program(file, "DELETE FROM trade WHERE rowid = 1")
    migration_runner.up(db.obj)
    check_all()


def test_a_backup_is_restored(file: Path, tmp_path: Path) -> None:
    copy = upkeep.backup(tmp_path / "copy.db")
    Trade.update(quantity=9).execute()
    check_all()
    close_db()
    upkeep.restore(copy, file)
    init_db(file)
    check_all()


def test_another_database_is_copied_into_the_connection(memory: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(":memory:")) as copy:
        memory.backup(copy)
        Trade.update(quantity=9).execute()
        check_all()
        copy.backup(memory)
    check_all()
    trade(timestamp=at(9))
    check_all()


def test_another_database_is_put_in_place_of_the_one_in_memory(memory: sqlite3.Connection) -> None:
    content = memory.serialize()
    Trade.update(quantity=9).execute()
    check_all()
    memory.deserialize(content)
    check_all()
    Trade.update(quantity=8).execute()
    check_all()
    memory.deserialize(content)
    check_all()


def test_the_file_is_attached_under_another_name(file: Path) -> None:
    raw = db.connection()
    raw.execute("ATTACH ? AS other", (str(file),))
    raw.execute("UPDATE other.trade SET quantity = 5 WHERE rowid = 1")
    check_all()
    raw.execute("DELETE FROM other.trade WHERE rowid = 4")
    trade(timestamp=at(9))
    check_all()


def test_a_temporary_table_hides_the_trades(file: Path) -> None:
    Trade.delete().execute()
    trade(timestamp=at(1))
    check_all()
    db.connection().execute("CREATE TEMP TABLE trade AS SELECT * FROM main.trade WHERE false")
    trade(timestamp=at(9), quantity=5)  # it is the first row there, too
    check_all()


def test_rows_are_numbered_at_random_after_the_highest_number(file: Path) -> None:
    db.connection().execute(insert_of(LAST - 1, 5))
    check_all()
    for hour in range(6, 12):
        trade(timestamp=at(hour))
        check_all()
    assert db.execute_sql("SELECT MAX(rowid) FROM trade").fetchone() == (LAST,)


def test_rows_with_numbers_below_zero(file: Path) -> None:
    Trade.delete().execute()
    db.connection().execute(insert_of(-3, 1))
    check_all()
    for hour in range(2, 6):
        trade(timestamp=at(hour))
        check_all()


@pytest.mark.xfail(strict=True, reason="SQLite counts the changes when the statement has ended")
def test_a_cursor_of_the_driver_still_returns_the_rows_of_an_update(file: Path) -> None:
    cursor = db.connection().execute("UPDATE trade SET quantity = 7 RETURNING id")
    cursor.fetchone()
    check_all()


@pytest.mark.xfail(strict=True, reason="SQLite does not count what blobopen() writes")
def test_a_text_is_overwritten_by_incremental_input(file: Path) -> None:
    db.execute_sql("UPDATE trade SET fee = 1, fee_currency = 'USDT'")
    check_all()
    with db.connection().blobopen("trade", "fee_currency", 1) as text:
        text.write(b"USDC")
    check_all()


def test_a_connection_is_closed_and_opened_again(file: Path) -> None:
    db.close()
    by_another_program(file, "UPDATE trade SET quantity = 5 WHERE rowid = 1")
    check_all()
    db.close()
    trade(timestamp=at(9))
    check_all()


def test_a_reader_sees_what_another_program_records(file: Path) -> None:
    close_db()
    init_db(Config(db_path=str(file), read_only=True))
    check_all()
    by_another_program(file, "UPDATE trade SET quantity = 5 WHERE rowid = 1", insert_of(9, 9))
    check_all()
    with session_scope():
        check_all()
        by_another_program(file, "DELETE FROM trade WHERE rowid = 1")
        check_all()
    check_all()


# --- PostgreSQL -----------------------------------------------------------------------------------


@contextmanager
def another_session(url: str) -> Iterator[psycopg.Connection[Any]]:
    with closing(psycopg.connect(**server_parameters(url))) as connection:
        yield connection


INSERT = (
    "INSERT INTO trade (id, timestamp, symbol, side, price, quantity) VALUES "
    "(gen_random_uuid(), '2024-01-01 01:30:00+00', 'BTC/USDT', 'sell', 100, 7)"
)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_began_before_the_answer_and_ends_after_it(url: str, end: str) -> None:
    with another_session(url) as early, another_session(url) as late:
        early.execute("UPDATE trade SET quantity = 5 WHERE price = 100")
        check_all()
        late.execute(INSERT)
        check_all()
        trade(timestamp=at(9))
        check_all()
        getattr(late, end)()
        check_all()
        getattr(early, end)()
        check_all()


def test_a_savepoint_of_another_session(url: str) -> None:
    with another_session(url) as other:
        other.execute("SAVEPOINT one")
        other.execute(INSERT)
        check_all()
        other.execute("ROLLBACK TO one")
        check_all()
        other.execute(INSERT)
        other.execute("RELEASE one")
        check_all()
        other.commit()
        check_all()


def test_a_prepared_transaction(restartable: Restartable) -> None:
    run(restartable.url, "ALTER SYSTEM SET max_prepared_transactions = 4")
    restartable.restart()
    run(restartable.url, "CREATE DATABASE prepared")
    target = changed(restartable.url, dbname="prepared")
    init_db(target)
    record_some()
    with another_session(target) as other:
        for end in ("COMMIT", "ROLLBACK"):
            other.execute(INSERT)
            other.execute("PREPARE TRANSACTION 'one'")
            check_all()
            other.autocommit = True
            other.execute(f"{end} PREPARED 'one'")
            other.autocommit = False
            check_all()


def test_statements_that_change_whole_tables(url: str) -> None:
    for statement in (
        "ALTER TABLE trade ALTER quantity TYPE double precision USING quantity + 1",
        "CREATE TABLE copied (LIKE trade INCLUDING ALL)",
        "INSERT INTO copied SELECT * FROM trade LIMIT 2",
        "DROP TABLE trade",
        "ALTER TABLE copied RENAME TO trade",
        "TRUNCATE trade",
        INSERT,
        "VACUUM FULL trade",
    ):
        run(url, statement)
        if "DROP" not in statement:
            check_all()


def test_a_trigger_of_the_server_changes_other_rows(url: str) -> None:
    run(
        url,
        "CREATE FUNCTION changes_others() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN UPDATE trade SET quantity = quantity + 1 WHERE price = 100; RETURN NULL; END'",
        "CREATE TRIGGER changes_others AFTER INSERT ON signal EXECUTE FUNCTION changes_others()",
    )
    check_all()
    signal()
    check_all()


def test_another_schema_hides_the_trades(url: str) -> None:
    tables = [f"CREATE TABLE other.{t} (LIKE {t} INCLUDING ALL)" for t in ("trade", "cash_flow")]
    run(url, "CREATE SCHEMA other", *tables)
    check_all()
    with session_scope():
        db.execute_sql("SET LOCAL search_path TO other")
        check_all()
    check_all()


def test_a_policy_hides_trades(url: str) -> None:
    run(
        url,
        "DROP ROLE IF EXISTS only_some",
        "CREATE ROLE only_some",
        "GRANT ALL ON trade, cash_flow TO only_some",
        "ALTER TABLE trade ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY expensive ON trade USING (price > current_setting('bot.price')::float)",
    )
    with session_scope():
        db.execute_sql("SET LOCAL ROLE only_some")
        for price in (101, 102, 0):
            db.execute_sql("SELECT set_config('bot.price', %s, true)", (str(price),))
            check_all()
        db.execute_sql("RESET ROLE")
        check_all()
    run(url, "DROP POLICY expensive ON trade", "DROP OWNED BY only_some", "DROP ROLE only_some")


def test_a_temporary_table_of_a_session_hides_the_trades(url: str) -> None:
    with session_scope():
        check_all()
        db.execute_sql("CREATE TEMP TABLE trade (LIKE trade INCLUDING ALL) ON COMMIT DROP")
        check_all()
    check_all()


def test_other_connections_of_the_pool(url: str) -> None:
    with session_scope():
        for hour in (9, 1):
            in_another_thread(lambda: trade(timestamp=at(hour)))  # noqa: B023
            check_all()
    check_all()


def test_a_connection_is_lost(url: str) -> None:
    trade(timestamp=at(1))
    run(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
        "current_database() AND pid <> pg_backend_pid()",
    )
    check_all()
