"""What is PostgreSQL's own: column types, settings of the session, COPY, cursors, turns."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peewee
import psycopg
import pytest
from paths import FAULTS
from samples import at, signal, trade, trade_values
from servers import changed, run

from botmemory import (
    Config,
    ConfigError,
    DatabaseBusyError,
    DuplicateError,
    SchemaError,
    Signal,
    StorageError,
    Trade,
    close_db,
    db,
    init_db,
    run_transaction,
    session_scope,
)
from botmemory._install import install_command
from botmemory._url import server_parameters
from botmemory.analysis import performance
from botmemory.analysis.round_trips import round_trips
from botmemory.migration_runner import main
from botmemory.repositories import positions, signals, trades
from botmemory.upkeep.backup import backup, restore
from botmemory.upkeep.check import check


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


TYPES = {
    "signal": {
        "id": "bigint",
        "timestamp": "timestamp with time zone",
        "symbol": "character varying(64)",
        "signal_value": "smallint",
        "signal_metadata": "jsonb",
        "strategy": "character varying(64)",
    },
    "trade": {
        "id": "uuid",
        "timestamp": "timestamp with time zone",
        "symbol": "character varying(64)",
        "side": "character varying(4)",
        "price": "double precision",
        "quantity": "double precision",
        "pnl": "double precision",
        "signal_id": "bigint",
        "strategy": "character varying(64)",
        "fee": "double precision",
        "fee_currency": "character varying(20)",
        "exchange": "character varying(32)",
        "exchange_trade_id": "character varying(128)",
        "trade_metadata": "jsonb",
        "contract_size": "double precision",
    },
}
CHECKED = {
    "signal": {"symbol", "signal_value", "strategy"},
    "trade": {"symbol", "side", "price", "quantity", "pnl", "strategy", "fee", "fee_currency"}
    | {"exchange", "exchange_trade_id", "contract_size"},
}
NULLABLE = {
    "signal": {"signal_metadata", "strategy"},
    "trade": {"pnl", "signal_id", "strategy", "fee", "fee_currency", "exchange"}
    | {"exchange_trade_id", "trade_metadata", "contract_size"},
}


@pytest.mark.parametrize("model", [Signal, Trade])
def test_the_types_and_checks_in_the_catalog(url: str, model: Any) -> None:
    init_db(url)
    table = model._meta.table_name
    columns = run(
        url,
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
        "WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped",
        table=table,
    )
    assert {name: kind for name, kind, _ in columns} == TYPES[table]
    assert {name for name, _, required in columns if not required} == NULLABLE[table]
    checks = run(
        url,
        "SELECT conname FROM pg_constraint WHERE conrelid = %(table)s::regclass "
        "AND contype = 'c' AND convalidated",
        table=table,
    )
    assert {name for (name,) in checks} == {f"{table}_{column}_check" for column in CHECKED[table]}
    references = run(
        url,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = %(table)s::regclass AND contype = 'f'",
        table=table,
    )
    to_signal = "FOREIGN KEY (signal_id) REFERENCES signal(id) ON DELETE SET NULL"
    assert references == ([(to_signal,)] if model is Trade else [])


@pytest.mark.parametrize(
    "setting",
    [
        "timezone = 'America/New_York'",
        "timezone = 'Pacific/Kiritimati'",
        "datestyle = 'SQL, DMY'",
        "extra_float_digits = 0",
        "extra_float_digits = -15",
        "default_transaction_isolation = 'serializable'",
        "standard_conforming_strings = on",
        "bytea_output = 'escape'",
        "client_encoding = 'LATIN1'",
        "intervalstyle = 'sql_standard'",
        "synchronous_commit = off",
    ],
)
def test_what_a_role_or_a_database_sets_changes_nothing(url: str, setting: str) -> None:
    name = url.rpartition("/")[2].partition("?")[0]
    run(url, f'ALTER DATABASE "{name}" SET {setting}')
    init_db(url)
    times = [
        datetime(2024, 3, 10, 7, 30, 0, 123456, UTC),  # the clocks of New York go forward
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(1850, 1, 1, tzinfo=UTC),  # a zone with seconds in its offset
    ]
    for timestamp in times:
        created = trade(timestamp=timestamp, price=0.1 + 0.2, pnl=1e-300, symbol="Ω/€🔑")
        read = trades.get_by_id(created.id)
        assert (read.timestamp, read.price, read.pnl) == (timestamp, 0.1 + 0.2, 1e-300)
        assert read.symbol == "Ω/€🔑"
        assert trades.get_by_date_range(None, timestamp, timestamp) == [created]
        assert list(trades.iterate(start_date=timestamp, end_date=timestamp)) == [created]
        [(stored,)] = run(
            url,
            "SELECT to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') "
            "FROM trade WHERE id = %(id)s",
            id=created.id,
        )
        assert stored == f"{timestamp.replace(tzinfo=None).isoformat(' ', 'microseconds')}"


def test_a_time_zone_set_in_the_session_changes_nothing(url: str) -> None:
    init_db(url)
    with session_scope() as database:
        database.execute_sql("SET LOCAL TIME ZONE 'Asia/Kathmandu'")
        created = trade(timestamp=at(5))
        read = trades.get_by_id(created.id)
        assert (read.timestamp, read.timestamp.tzinfo) == (at(5), UTC)


def test_a_full_commit_waits_for_the_disk_and_a_normal_one_does_not(url: str) -> None:
    for synchronous, expected in (("full", "on"), ("normal", "off")):
        database = init_db(url, synchronous=synchronous)
        [(found,)] = database.execute_sql("SHOW synchronous_commit").fetchall()
        assert found == expected
        close_db()


def test_a_database_that_does_not_keep_all_text_is_refused(new_database: Any) -> None:
    url = new_database("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(StorageError, match="stores its text in LATIN1; create one WITH ENCODING"):
        init_db(url)


def test_read_only_writes_nothing_and_sees_one_snapshot(url: str) -> None:
    with pytest.raises(SchemaError, match="pending"):
        init_db(url, read_only=True)
    init_db(url)
    trade()
    close_db()
    init_db(url, read_only=True)
    with pytest.raises(StorageError, match="can only be read"):
        trade()
    with session_scope():
        assert trades.get_trade_count() == 1
        run(url, "INSERT INTO trade (id, timestamp, symbol, side, price, quantity) "
                 "VALUES (gen_random_uuid(), now(), 'X', 'buy', 1, 1)")  # fmt: skip
        assert trades.get_trade_count() == 1
    assert trades.get_trade_count() == 2


def test_the_collation_of_the_database_does_not_matter(new_database: Any) -> None:
    init_db(new_database("TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"))
    for symbol in ("b", "B", "a", "Ä"):
        trade(symbol=symbol)
    assert [position.symbol for position in positions.get_all()] == ["B", "a", "b", "Ä"]


# --- bulk -----------------------------------------------------------------------------------


def test_create_many_goes_through_copy(url: str) -> None:
    init_db(url)
    run(
        url,
        "CREATE TABLE statements (statement text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO statements VALUES (current_query()); RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER INSERT ON trade FOR EACH STATEMENT EXECUTE FUNCTION note()",
    )
    assert trades.create_many(trade_values(signal=signal()) for _ in range(3)) == 3
    [(statements,)] = run(url, "SELECT statement FROM statements")
    assert statements.startswith('COPY "trade"')


def test_create_many_in_one_copy_names_the_row_that_is_there(url: str) -> None:
    init_db(url)
    fills = [trade_values(exchange="okx", exchange_trade_id=str(n)) for n in (1, 2, 2)]
    with pytest.raises(DuplicateError, match=r"rows\[2\]: okx trade 2 of BTC/USDT"):
        trades.create_many(fills)
    assert trades.get_trade_count() == 0


@pytest.mark.parametrize(
    ("backend", "count"),
    [
        ("file", 20_000),
        ("postgresql", 20_000),
        pytest.param("postgresql", 300_000, marks=pytest.mark.long),
    ],
)
def test_bulk_takes_constant_memory_on_both_sides(
    url: str, path: Path, backend: str, count: int
) -> None:
    target = url if backend == "postgresql" else str(path)
    script = FAULTS / "bulk.py"
    command = [sys.executable, str(script), target, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    grown, server = map(float, done.stdout.split())
    assert grown < 20e6
    assert server < 60e6  # its work_mem and buffers; 300,000 of these rows have 90 MB


# --- turns, deadlocks -----------------------------------------------------------------------


def test_a_statement_larger_than_the_buffers_of_a_socket_is_sent_with_others(url: str) -> None:
    database: Any = init_db(url, call_timeout=5)
    size = database.config.max_metadata_bytes - 2
    made = trade()
    for _ in range(15):  # how much a socket takes at once depends on how fast the server reads
        with session_scope():
            trade(trade_metadata="x" * size)
        trades.update(made, trade_metadata="y" * size)
        with pytest.raises(DuplicateError), session_scope():
            trade(id=made.id, trade_metadata="z" * size)
    assert trades.get_trade_count() == 16


def test_transactions_that_only_record_wait_for_nobody(url: str) -> None:
    init_db(url, busy_timeout=5)
    with ThreadPoolExecutor(1) as other, session_scope():
        trades.get_all()  # this one has its turn
        other.submit(trade).result()

        def pair() -> None:
            with session_scope():
                trade(signal=signal())

        other.submit(pair).result()
    assert trades.get_trade_count() == 2


@pytest.mark.parametrize("change", [lambda row: trades.update(row, pnl=2.0), trades.delete])
def test_transactions_that_read_or_change_run_one_after_another(url: str, change: Any) -> None:
    init_db(url, busy_timeout=0.3)
    held = trade(pnl=1.0)
    with ThreadPoolExecutor(1) as other, session_scope():
        assert trades.get_total_pnl() == 1.0
        with pytest.raises(DatabaseBusyError, match="another writer held it"):
            other.submit(change, held).result()
        assert trades.get_total_pnl() == 1.0  # what was read is still true


def test_the_write_lock_is_acquired_again_after_a_savepoint_was_rolled_back(url: str) -> None:
    init_db(url, busy_timeout=0.3)
    held = trade()

    def read_in_part() -> None:
        with session_scope():
            trades.get_all()
            raise LookupError

    with ThreadPoolExecutor(1) as other, session_scope():
        with pytest.raises(LookupError):
            read_in_part()
        trades.get_all()
        with pytest.raises(DatabaseBusyError):
            other.submit(trades.delete, held).result()


class Meeting:
    """Where two threads wait for each other once."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.over = False

    def wait(self) -> None:
        if not self.over:
            self.barrier.wait(20)
            self.over = True


def crossing(first: str, second: str, meeting: Meeting) -> None:
    """Record two fills; two threads that do so in opposite order wait for each other."""
    trades.get_or_create(exchange="okx", exchange_trade_id=first, **trade_values())
    meeting.wait()
    trades.get_or_create(exchange="okx", exchange_trade_id=second, **trade_values())


def test_a_deadlock_is_a_named_error(url: str) -> None:
    init_db(url)
    meeting = Meeting()

    def work(first: str, second: str) -> bool:
        try:
            with session_scope():
                crossing(first, second, meeting)
        except DatabaseBusyError as error:
            return error.retryable and "nothing was written, repeat the whole" in str(error)
        return False

    with ThreadPoolExecutor(2) as threads:
        rolled_back = list(threads.map(work, "ab", "ba"))
    assert sorted(rolled_back) == [False, True]
    assert trades.get_trade_count() == 2


def test_run_transaction_repeats_what_was_rolled_back(url: str) -> None:
    init_db(url)
    meeting, calls = Meeting(), []

    def work(first: str, second: str) -> None:
        calls.append(first)
        crossing(first, second, meeting)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda names: run_transaction(work, *names), ["ab", "ba"]))
    assert len(calls) == 3
    assert trades.get_trade_count() == 2


def test_run_transaction_gives_up_after_ten_attempts(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botmemory.backends.retry.LONGEST_PAUSE", 0.001)
    database: Any = init_db(url)
    row = trade()
    calls = []

    def outrun() -> None:
        database.execute_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        calls.append(trades.get_by_id(row.id))
        run(url, "UPDATE trade SET pnl = coalesce(pnl, 0) + 1")
        trade(pnl=1.0)
        trades.update(row, pnl=0.0)

    with pytest.raises(DatabaseBusyError, match="because of a conflict with another") as caught:
        run_transaction(outrun)
    assert caught.value.retryable
    assert len(calls) == 10
    assert trades.get_total_pnl() == 10.0


def test_run_transaction_inside_another_one_is_not_repeated(
    empty_database: peewee.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botmemory.backends.retry.LONGEST_PAUSE", 0.001)
    calls = []

    def rolled_back() -> None:
        calls.append(trade())
        raise DatabaseBusyError("rolled back", retryable=True)

    with session_scope(), pytest.raises(DatabaseBusyError):
        run_transaction(rolled_back)
    assert len(calls) == 1
    with pytest.raises(DatabaseBusyError):
        run_transaction(rolled_back)
    assert len(calls) == 11
    assert trades.get_trade_count() == 0


def test_run_transaction_returns_or_raises_as_the_function_does(
    empty_database: peewee.Database,
) -> None:
    def double(quantity: float, *, fail: bool) -> float:
        trade(quantity=quantity)
        if fail:
            raise LookupError
        return 2 * quantity

    assert run_transaction(double, 2.0, fail=False) == 4.0
    with pytest.raises(LookupError):
        run_transaction(double, 3.0, fail=True)
    assert [t.quantity for t in trades.get_all()] == [2.0]


# --- migrations, upkeep, the script ---------------------------------------------------------


def test_the_script_migrates_a_server(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--db", url, "status"]) == 1
    assert main(["--db", url, "up"]) == 0
    assert main(["--db", url, "status"]) == 0
    assert "[x] 0001_create_signal_and_trade" in capsys.readouterr().out
    init_db(url, migrate=False)
    trade()
    close_db()
    assert main(["--db", url, "down"]) == 0
    with pytest.raises(SchemaError, match="0008_.* run 'python -m"):
        init_db(url, migrate=False)
    assert main(["--db", url, "up"]) == 0
    init_db(url)
    assert trades.get_trade_count() == 1
    assert check(full=True) == []


def test_only_one_process_migrates_at_a_time(url: str) -> None:
    first: Any = init_db(url)
    close_db()
    with first.exclusive():
        began = time.monotonic()
        assert main(["--db", url, "up"]) == 0  # nothing is to be done: nobody waits
        with pytest.raises(DatabaseBusyError, match="another writer held it"):
            # down has something to do
            from botmemory.database import close_database, open_database
            from botmemory.migration_runner import down

            second = open_database(Config(url, busy_timeout=0.3))
            try:
                down(second)
            finally:
                close_database(second)
        assert time.monotonic() - began < 10


def test_a_foreign_table_is_left_alone(url: str) -> None:
    run(url, "CREATE TABLE trade (note text)", "INSERT INTO trade VALUES ('mine')")
    with pytest.raises(SchemaError, match="has a table 'trade' that botmemory did not make"):
        init_db(url)
    assert run(url, "SELECT note FROM trade") == [("mine",)]


def test_a_missing_right_is_named(url: str) -> None:
    init_db(url)
    close_db()
    run(
        url,
        "DROP ROLE IF EXISTS stranger",
        "CREATE ROLE stranger LOGIN",
        "GRANT SELECT ON schema_migration TO stranger",
    )
    init_db(changed(url, user="stranger"))
    with pytest.raises(StorageError, match="this user may not .*trade.*have the right granted"):
        trades.get_all()
    close_db()
    run(url, "REVOKE ALL ON schema_migration FROM stranger", "DROP ROLE stranger")


def test_check_finds_what_another_program_changed(url: str) -> None:
    init_db(url)
    trade(timestamp=at(0))
    trade(timestamp=at(0))
    [finding] = check()
    assert "more than once" in finding.what
    run(url, "ALTER TABLE trade DROP CONSTRAINT trade_price_check", "UPDATE trade SET price = -1")
    [finding] = [finding for finding in check() if finding.severity == "error"]
    assert "trade: the check trade_price_check is missing: price > 0 AND" in finding.what
    run(
        url,
        "ALTER TABLE trade ADD CONSTRAINT trade_price_check CHECK (price > 0) NOT VALID",
        "ALTER TABLE trade ALTER COLUMN pnl TYPE real",
        "ALTER TABLE signal ALTER COLUMN signal_value DROP NOT NULL",
        "DROP INDEX trade_symbol",
    )
    found = "\n".join(finding.what for finding in check())
    for statements in (
        "trade_price_check",
        "pnl is real NULL, not double",
        "signal_value is smallint NULL",
        "symbol",
    ):
        assert statements in found


def test_a_server_is_not_backed_up_as_a_file(url: str, tmp_path: Any) -> None:
    init_db(url)
    with pytest.raises(ConfigError, match="pg_dump"):
        backup(tmp_path / "copy.db")
    with pytest.raises(ConfigError, match="only a SQLite file can be restored"):
        restore(tmp_path / "copy.db", url)


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ConfigError, match=f"extra: {re.escape(install_command('postgres'))}$"):
        init_db("postgresql://bot:s3cret@127.0.0.1:1/bots")


def test_signals_are_streamed_in_order(url: str) -> None:
    init_db(url)
    signals.create_many(
        {"symbol": "X", "signal_value": 0, "timestamp": at(-number)} for number in range(1500)
    )
    assert [s.timestamp for s in signals.iterate()] == [at(-n) for n in reversed(range(1500))]


def test_a_sequence_is_not_set_behind_ids_that_others_got_meanwhile(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend: Any = init_db(url)
    signal()
    ask = backend.last_id

    def meanwhile(model: type[peewee.Model]) -> int:
        found = ask(model)
        run(url, *["SELECT nextval(pg_get_serial_sequence('signal', 'id'))"] * 3)
        return int(found)

    monkeypatch.setattr(backend, "last_id", meanwhile)
    backend.advance_sequence(Signal)
    assert signal().id == 5


def test_a_trigger_that_refuses_a_row_is_named(url: str) -> None:
    init_db(url)
    kept = trade(pnl=1.0)
    run(
        url,
        "CREATE FUNCTION only_profits() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.pnl < 0 THEN RAISE 'no losses here'; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER only_profits BEFORE INSERT OR UPDATE ON trade "
        "FOR EACH ROW EXECUTE FUNCTION only_profits()",
    )
    message = r"refused it \(no losses here, PL/pgSQL function only_profits\(\) .* nothing was"
    for call in (lambda: trade(pnl=-1.0), lambda: trades.update(kept, pnl=-1.0)):
        with pytest.raises(StorageError, match=message) as caught:
            call()
        assert type(caught.value).__name__ == "StorageError"
    trade(pnl=2.0)
    assert trades.get_total_pnl() == 3.0


def test_what_several_reads_wait_for_in_vain_is_said(url: str) -> None:
    init_db(url)
    trade()
    close_db()
    init_db(url, read_only=True, busy_timeout=0.3)
    with psycopg.connect(**server_parameters(url)) as holder:
        holder.execute("LOCK TABLE trade")
        for read in (positions.get_all, lambda: list(round_trips()), performance.summarize):
            with (
                pytest.raises(DatabaseBusyError, match="another writer held it"),
                db.read_snapshot(),
            ):
                read()
    assert len(trades.get_all()) == 1
