"""The migrations one by one, and the migrated schema compared with the models."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import peewee
import pytest
from paths import VERSION_0001
from samples import signal, trade

from botmemory import (
    CashFlow,
    Config,
    SchemaError,
    Signal,
    State,
    Trade,
    close_db,
    init_db,
    session_scope,
)
from botmemory.database import open_database
from botmemory.migration_runner import down, main, require_current, status, up
from botmemory.repositories import signals, trades

pytestmark = pytest.mark.usefixtures("empty_folder")

FIRST = "0001_create_signal_and_trade"
SECOND = "0002_add_signal_strategy_fee_exchange"
THIRD = "0003_cover_pnl_by_symbol"
FOURTH = "0004_lengthen_symbol"
FIFTH = "0005_add_contract_size"
SIXTH = "0006_create_cash_flow"
SEVENTH = "0007_index_strategy_and_symbol"
EIGHTH = "0008_create_state"
EVERY = [FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH, SEVENTH, EIGHTH]
# Written by migration 0001: 40 signals, 120 trades.


@pytest.fixture
def old(path: Path) -> Path:
    """A copy of the database that migration 0001 wrote."""
    shutil.copy(VERSION_0001, path)
    return path


@pytest.fixture
def database(path: Path) -> Iterator[peewee.Database]:
    """An empty database."""
    with closing(open_database(Config(path))) as database:
        yield database


def rows(file: Path, table: str, columns: str = "*") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY id").fetchall()


def rows_of(file: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchall()


def backups(file: Path) -> list[Path]:
    return sorted(file.parent.glob("*.before-*.db"))


class TestOldDatabase:
    def test_every_row_is_intact_and_the_new_fields_are_null(self, old: Path) -> None:
        old_trades = rows(VERSION_0001, "trade")
        old_signals = rows(VERSION_0001, "signal")
        init_db(old)
        assert (trades.get_trade_count(), signals.get_signal_count()) == (120, 40)
        columns = "id, timestamp, symbol, side, price, quantity, pnl"
        assert rows(old, "trade", columns) == old_trades
        assert rows(old, "signal", "id, timestamp, symbol, signal_value, signal_metadata") == (
            old_signals
        )
        migrated = trades.get_all()
        assert {t.strategy for t in migrated} == {t.signal for t in migrated} == {None}
        assert {t.exchange_trade_id for t in migrated} == {None}
        assert {t.trade_metadata for t in migrated} == {None}

    def test_it_is_used_like_a_new_one(self, old: Path) -> None:
        init_db(old)
        latest = signal(strategy="a")
        assert latest.id == 41
        assert trade(signal=latest, fee=0.1).signal == latest
        assert signals.get_by_metadata("rsi", minimum=50)[0].signal_metadata["rsi"] >= 50

    def test_it_is_copied_before_it_is_changed(self, old: Path) -> None:
        init_db(old)
        [copy] = backups(old)
        assert rows(copy, "trade") == rows(VERSION_0001, "trade")
        if os.name == "posix":
            assert copy.stat().st_mode & 0o777 == 0o600

    def test_the_copy_can_be_switched_off(self, old: Path) -> None:
        init_db(old, backup_before_migrate=False)
        assert backups(old) == []

    def test_without_migrating_it_is_an_error_that_names_what_is_pending(self, old: Path) -> None:
        pending = ", ".join(EVERY[1:])
        with pytest.raises(SchemaError, match=f"pending: {pending}; run 'python -m botmemory"):
            init_db(old, migrate=False)
        assert rows(old, "schema_migration", "name") == [(FIRST,)]
        with pytest.raises(SchemaError, match=SECOND):
            init_db(old, read_only=True)
        assert len(rows(old, "trade")[0]) == 7

    def test_a_migration_that_fails_leaves_it_unchanged(self, old: Path) -> None:
        with closing(sqlite3.connect(old)) as connection:
            connection.execute("CREATE INDEX trade_exchange ON trade (price)")
        with pytest.raises(SchemaError, match="was rolled back: .*trade_exchange already exists"):
            init_db(old)
        assert len(rows(old, "trade")[0]) == 7
        assert rows(old, "schema_migration", "name") == [(FIRST,)]


def test_up_and_down_one_by_one(database: peewee.Database) -> None:
    assert up(database, FIRST) == [FIRST]
    assert [s.name for s in status(database) if s.applied] == [FIRST]
    assert up(database) == EVERY[1:]
    assert up(database) == []
    assert down(database) == EVERY[-1:]
    assert down(database, FIRST) == EVERY[-2::-1]
    assert down(database) == []
    assert set(database.get_tables()) <= {"schema_migration", "sqlite_sequence"}
    assert up(database) == EVERY


def test_down_keeps_the_values_of_older_columns(path: Path) -> None:
    init_db(path)
    signal(strategy="a")
    trade(strategy="a", exchange="okx", exchange_trade_id="1", pnl=5)
    close_db()
    with closing(open_database(Config(path))) as database:
        down(database, SECOND)
    assert len(backups(path)) == 1
    init_db(path, backup_before_migrate=False)
    [kept] = trades.get_all()
    assert (kept.pnl, kept.strategy, kept.exchange) == (5.0, None, None)


LONG = "BTC/USDT:USDT-250328-100000-C"


def test_symbols_of_derivatives_fit(old: Path) -> None:
    init_db(old)
    created = trade(symbol=LONG, signal=signal(symbol=LONG))
    assert trades.get_by_symbol(LONG) == [created]
    close_db()
    # the older check constraint does not allow it; the symbol is not truncated
    with closing(open_database(Config(old))) as database:
        with pytest.raises(
            SchemaError,
            match=f"{FOURTH} failed and was rolled back: .* check constraint 'signal_symbol_check'",
        ):
            down(database, FOURTH)
        assert [step.name for step in status(database) if not step.applied] == EVERY[4:]
    init_db(old)
    assert trades.get_by_symbol(LONG)[0].signal.symbol == LONG


def test_a_rebuilt_table_keeps_views_references_triggers_and_sequence(old: Path) -> None:
    with closing(open_database(Config(old))) as database:
        up(database, THIRD)
        for sql in (
            "CREATE VIEW bought AS SELECT * FROM trade WHERE side = 'buy'",
            "CREATE TABLE seen (trade_id TEXT REFERENCES trade (id) ON DELETE CASCADE)",
            "INSERT INTO seen SELECT id FROM trade",
            "CREATE TRIGGER log AFTER INSERT ON trade BEGIN INSERT INTO seen VALUES (NEW.id); END",
            "DELETE FROM signal WHERE id = 40",
        ):
            database.execute_sql(sql)
        before = rows(old, "trade"), rows(old, "signal")
        assert up(database, FOURTH) == [FOURTH]
        assert (rows(old, "trade"), rows(old, "signal")) == before
    init_db(old)
    bought = sum(row[3] == "buy" for row in before[0])
    assert rows_of(old, "SELECT count(*) FROM bought") == [(bought,)]
    created = trade(signal=signal())
    # the id of a deleted signal is not reused
    assert created.signal.id == 41
    assert rows_of(old, "SELECT count(*) FROM seen") == [(121,)]
    trades.delete(created)
    assert rows_of(old, "SELECT count(*) FROM seen") == [(120,)]
    assert main(["--db", str(old), "check"]) == 0


def test_a_table_of_another_program_is_not_changed(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE trade (id INTEGER PRIMARY KEY, amount REAL)")
        connection.execute("INSERT INTO trade VALUES (1, 2.5)")
        connection.commit()
    with pytest.raises(SchemaError, match="has a table 'trade' that botmemory did not make"):
        init_db(path)
    assert rows(path, "trade") == [(1, 2.5)]


def test_a_database_of_a_newer_version_is_refused(path: Path) -> None:
    init_db(path)
    trade()
    close_db()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO schema_migration (name, applied) VALUES ('0099_new', '2030-01-01')"
        )
        connection.commit()
    for settings in ({}, {"migrate": False}, {"read_only": True}):
        with pytest.raises(SchemaError, match="0099_new.* upgrade the package"):
            init_db(path, **settings)


def test_migrating_inside_a_transaction_is_refused(database: peewee.Database) -> None:
    with database.atomic(), pytest.raises(SchemaError, match="inside a transaction"):
        up(database)
    assert database.get_tables() == []


def open_at_once(start: Barrier, files: list[Path]) -> None:
    for file in files:
        start.wait(30)
        init_db(file, backup_before_migrate=False)
        close_db()


def test_processes_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.db" for number in range(12)]
    for file in files:
        shutil.copy(VERSION_0001, file)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    started = [context.Process(target=open_at_once, args=(start, files)) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * 4
    for file in files:
        assert rows(file, "schema_migration", "name") == [(name,) for name in EVERY]
        assert len(rows(file, "trade")) == 120


class TestScript:
    def test_up_status_down(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        db = ["--db", str(path)]
        assert main([*db, "up"]) == 0
        assert capsys.readouterr().out == "".join(f"applied: {name}\n" for name in EVERY)
        assert main([*db, "up"]) == 0
        assert capsys.readouterr().out == "up to date\n"
        assert main([*db, "status"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == str(path)
        assert re.fullmatch(rf"\[x\] {FIRST} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC", lines[1])
        assert max(map(len, lines[1:])) <= 80
        assert main([*db, "down"]) == 0
        assert capsys.readouterr().out == f"reverted: {EVERY[-1]}\n"
        assert main([*db, "status"]) == 1
        assert re.search(rf"\[ \] {EVERY[-1]} +pending", capsys.readouterr().out)
        assert main([*db, "down", FIRST]) == 0
        assert main([*db, "down"]) == 0
        reverted = "".join(f"reverted: {name}\n" for name in EVERY[-2::-1])
        assert capsys.readouterr().out == f"{reverted}nothing to revert\n"

    def test_up_to_a_name(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--db", str(path), "up", FIRST]) == 0
        assert capsys.readouterr().out == f"applied: {FIRST}\n"

    @pytest.mark.parametrize("command", ["status", "down"])
    def test_a_misspelt_path_makes_no_file(
        self, path: Path, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--db", str(path), command]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err == f"error: {path}: there is no such database to read; check the path\n"
        assert not path.exists()

    def test_errors_are_one_line_and_exit_code_2(
        self, path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path.write_bytes(b"not a database" * 100)
        assert main(["--db", str(path), "up"]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"error: {path}: it is not a SQLite database")
        assert err.count("\n") == 1
        assert main(["--db", str(path.with_name("new.db")), "up", "0042_x"]) == 2
        assert "0042_x: there is no such migration" in capsys.readouterr().err

    def test_the_target_comes_from_the_environment_or_a_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("botmemory.toml").write_text("db_path = 'from_file.db'\n")
        assert main(["--config", "botmemory.toml", "up"]) == 0
        assert Path("from_file.db").exists()
        monkeypatch.setenv("BOTMEMORY_DB_PATH", str(path))
        assert main(["up"]) == 0
        assert path.exists()

    def test_it_runs_as_a_module(self, path: Path) -> None:
        command = [sys.executable, "-m", "botmemory.migration_runner", "--db", str(path), "up"]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [f"applied: {name}" for name in EVERY]


# --- the migrated schema against the models -----------------------------------------------


def declared() -> peewee.Database:
    """Return a database whose tables Peewee created from the models."""
    database = open_database(Config(":memory:"))
    with database.bind_ctx([Signal, Trade, CashFlow, State]):
        Signal.create_table()
        Trade.create_table()
        CashFlow.create_table()
        State.create_table()
    return database


def columns(database: peewee.Database, table: str) -> set[tuple[object, ...]]:
    return {
        (c.name, c.data_type, c.null, c.primary_key, c.default) for c in database.get_columns(table)
    }


def indexes(database: peewee.Database, table: str) -> set[tuple[object, ...]]:
    result = set()
    for index in database.get_indexes(table):
        where = re.search(r" WHERE (.*)$", index.sql or "")
        condition = re.sub(r'[()"]', "", where[1]) if where else None
        result.add((index.name, tuple(index.columns), index.unique, condition))
    return result


def references(database: peewee.Database, table: str) -> set[tuple[object, ...]]:
    return {
        (k.column, k.dest_table, k.dest_column, k.on_delete, k.on_update)
        for k in database.get_foreign_keys(table)
    }


def checks(database: peewee.Database, table: str) -> dict[str, str]:
    """Return the named CHECKs of a table; each ends at its closing parenthesis."""
    [(sql,)] = database.execute_sql("SELECT sql FROM sqlite_master WHERE name = ?", (table,))
    result = {}
    for start in re.finditer(r'CONSTRAINT "(\w+)" CHECK \(', sql):
        depth, end = 1, start.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        result[start[1]] = sql[start.end() : end - 1]
    assert sql.count("CHECK") == len(result)
    return result


def declared_checks(model: type[peewee.Model]) -> dict[str, str]:
    """Return the CHECKs a model declares, those for SQLite included."""
    context = peewee.SqliteDatabase(None).get_sql_context
    result = {}
    for node in [*model._meta.constraints, *model._meta.sqlite_constraints]:
        sql, _ = context().sql(node).query()
        name, condition = re.fullmatch(r'CONSTRAINT "(\w+)" CHECK \((.*)\)', sql).groups()
        result[name] = condition
    return result


@pytest.mark.parametrize("model", [Signal, Trade, CashFlow, State])
@pytest.mark.parametrize("start", [None, VERSION_0001])
def test_the_migrated_schema_matches_the_models(
    model: type[peewee.Model], start: Path | None, path: Path
) -> None:
    if start is not None:
        shutil.copy(start, path)
    migrated = init_db(path, backup_before_migrate=False)
    table = model._meta.table_name
    with closing(declared()) as expected:
        assert columns(migrated, table) == columns(expected, table)
        assert indexes(migrated, table) == indexes(expected, table)
        assert references(migrated, table) == references(expected, table)
    assert checks(migrated, table) == declared_checks(model)


def test_after_opening_nothing_is_pending(empty_database: peewee.Database) -> None:
    require_current(empty_database)
    with session_scope():
        assert all(step.applied for step in status(empty_database))
