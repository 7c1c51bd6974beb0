"""Migrations killed without warning, at every statement and in the middle of some.

After each kill the database is as before or as after a migration, with every row, and the next
`up` finishes. One of the migrations rebuilds a table that other rows refer to.
"""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from custom_tables import OURS, custom_migrations
from killed_migrations import at_statement, die, killed
from paths import VERSION_0001
from processes import needs_fork
from servers import drop_database, run

from botmemory import Config, close_db, init_db
from botmemory.database import open_temporarily
from botmemory.migration_runner import down, status, up

pytestmark = [
    needs_fork,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

# Made by version 0001 of the schema: 40 signals, 120 trades.

ACCOUNTS = '''
"""Create accounts and deposits."""

from peewee import CharField, DoubleField, ForeignKeyField, Model


def up(migrator, db):
    class Account(Model):
        name = CharField(unique=True)

        class Meta:
            database = db

    class Deposit(Model):
        account = ForeignKeyField(Account, on_delete="CASCADE")
        amount = DoubleField()

        class Meta:
            database = db

    db.create_tables([Account, Deposit], safe=False)
    for number in range(50):
        account = Account.create(name=f"account {number}")
        for amount in range(10):
            Deposit.create(account=account, amount=amount)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("deposit"), migrator.drop_table("account"))
'''
REBUILD = '''
"""Add the currency of each account; on SQLite both tables are rebuilt."""

from peewee import CharField


def up(migrator, db):
    currency = CharField(max_length=8, default="USDT")
    migrator.migrate(
        migrator.add_column("account", "currency", currency),
        migrator.alter_column_type("deposit", "amount", CharField()),
        migrator.drop_not_null("account", "name"),
    )


def down(migrator, db):
    migrator.migrate(migrator.drop_column("account", "currency", cascade=False))
'''


@dataclass
class Base:
    """A database with rows and pending migrations, and its schema after each of them."""

    copy: Callable[[], Config]
    statements: int  # that `up` runs
    schemas: list[Any]  # before the first migration and after each
    steps: list[str]


def rows(database: Any) -> dict[str, list[Any]]:
    """Return the columns of every row that all versions have."""
    columns = {
        "signal": "id, timestamp, symbol, signal_value, signal_metadata",
        "trade": "id, timestamp, symbol, side, price, quantity, pnl",
        "account": "id, name",
        "deposit": "id, account_id",
    }
    return {
        table: database.execute_sql(f"SELECT {names} FROM {table} ORDER BY id").fetchall()
        for table, names in columns.items()
    }


def schema(database: Any) -> Any:
    """Return all columns, indexes and foreign keys except those of the histories."""
    return {
        table: (
            [column[:4] for column in database.get_columns(table)],
            sorted((index.name, tuple(index.columns)) for index in database.get_indexes(table)),
            sorted(key[:4] for key in database.get_foreign_keys(table)),
        )
        for table in database.get_tables()
        if not table.endswith("_migration") and table != "sqlite_sequence"
    }


def with_database(config: Config, function: Callable[[Any], Any]) -> Any:
    with open_temporarily(config) as database:
        return function(database)


def pending(database: Any) -> list[str]:
    return [step.name for step in status(database) if not step.applied]


def count_statements(database: Any) -> int:
    """Migrate, and return the number of statements."""
    statements: list[object] = []
    database.query_hooks.append(statements.append)
    up(database)
    return len(statements)


@pytest.fixture(scope="module", params=["file", "postgresql"])
def base(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[str], str],
) -> Base:
    """A database made by migration 0001 that has the custom tables."""
    folder = tmp_path_factory.mktemp("kills")
    migrations = custom_migrations(folder, accounts=ACCOUNTS)
    if request.param == "file":
        original = str(shutil.copy(VERSION_0001, folder / "original.db"))
    else:
        original = new_database("")
        with_database(Config(original), lambda database: up(database, OURS[0]))
        fill_from_old_file(original)
    config = Config(original, migrations=migrations, backup_before_migrate=False)
    with_database(config, up)
    with_database(config, lambda database: down(database, OURS[1]))
    (migrations / "0004_rebuild.py").write_text(REBUILD)

    numbers = itertools.count()

    def copy() -> Config:
        if request.param == "file":
            parent = folder / f"copy {next(numbers)}"
            parent.mkdir()
            return Config(shutil.copy(original, parent / "bot.db"), migrations=migrations)
        name = Config(original).db_path.rpartition("/")[2].partition("?")[0]
        return Config(new_database(f"TEMPLATE {name}"), migrations=migrations)

    one_by_one = copy()
    steps = with_database(one_by_one, pending)
    schemas = [with_database(one_by_one, schema)]
    for step in steps:
        with_database(one_by_one, lambda database, step=step: up(database, step))
        schemas.append(with_database(one_by_one, schema))
    assert steps == [*OURS[1:], "0004_rebuild"]
    return Base(copy, with_database(copy(), count_statements), schemas, steps)


def fill_from_old_file(target: str) -> None:
    with closing(sqlite3.connect(VERSION_0001)) as connection:
        for table in ("signal", "trade"):
            for row in connection.execute(f"SELECT * FROM {table}"):
                names = [f"v{number}" for number in range(len(row))]
                marks = ", ".join(f"%({name})s" for name in names)
                run(
                    target,
                    f"INSERT INTO {table} VALUES ({marks})",
                    **dict(zip(names, row, strict=True)),
                )


def inside_statements(steps: int) -> Callable[[Any], None]:
    """Return a function that makes the process die after that many steps of SQLite's VM."""

    def arm(database: Any) -> None:
        remaining = itertools.count(steps, -1)
        database.connection().set_progress_handler(lambda: 0 if next(remaining) else die(), 1)

    return arm


def require_whole(base: Base, config: Config, expected: dict[str, list[Any]]) -> int:
    """Verify that every migration is applied whole or not at all; return how many are."""

    def verify(database: Any) -> int:
        names = pending(database)
        done = len(base.steps) - len(names)
        assert names == base.steps[done:]
        assert schema(database) == base.schemas[done]
        assert rows(database) == expected
        return done

    done = with_database(config, verify)
    if config.backend == "sqlite":
        with closing(sqlite3.connect(config.sqlite_path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    init_db(config)  # the next start of the bot
    try:
        assert with_database(config, pending) == []
        assert with_database(config, schema) == base.schemas[-1]
        assert with_database(config, rows) == expected
    finally:
        close_db()
    return int(done)


def kill_and_verify(base: Base, config: Config, arm: Callable[[Any], None]) -> int | None:
    """Kill a migration; return how many were applied, or None if the process was not killed."""
    expected = with_database(config, rows)
    assert [len(rows) for rows in expected.values()] == [40, 120, 50, 500]
    applied = require_whole(base, config, expected) if killed(config, arm) else None
    if config.backend == "sqlite":
        shutil.rmtree(Path(config.sqlite_path).parent)
    else:
        drop_database(str(config.db_path))
    return applied


def kill_after_statements(base: Base, kills: int) -> None:
    """Kill after statements of `up` that are spread evenly."""
    numbers = [base.statements * n // kills for n in range(1, kills + 1)]
    applied = [kill_and_verify(base, base.copy(), at_statement(number)) for number in numbers]
    assert None not in applied
    assert applied == sorted(applied)  # type: ignore[type-var]
    assert set(range(len(base.steps))) <= set(applied)


def test_killed_after_a_statement(base: Base) -> None:
    kill_after_statements(base, 60 if base.copy().backend == "sqlite" else 20)


@pytest.mark.long
def test_killed_after_any_statement(base: Base) -> None:
    kill_after_statements(base, base.statements)


def kill_inside_the_rebuild(base: Base, kills: int, first: int = 1, step: int = 1) -> None:
    """Kill at points that are spread evenly over the rebuild of two tables.

    Only each `step`-th of these points is used, from the `first` one on.
    """
    total = 0

    def count_step() -> int:
        nonlocal total
        total += 1
        return 0

    def count(database: Any) -> None:
        up(database, OURS[-1])
        database.connection().set_progress_handler(count_step, 1)
        up(database)

    with_database(base.copy(), count)
    applied = []
    for number in range(first, kills + 1, step):
        config = base.copy()
        with_database(config, lambda database: up(database, OURS[-1]))
        arm = inside_statements(total * number // (kills + 1))
        applied.append(kill_and_verify(base, config, arm))
    assert applied
    assert set(applied) == {len(base.steps) - 1}


@pytest.mark.parametrize("base", ["file"], indirect=True)
def test_killed_inside_a_rebuild(base: Base) -> None:
    kill_inside_the_rebuild(base, 25)


@pytest.mark.long
@pytest.mark.parametrize("base", ["file"], indirect=True)
@pytest.mark.parametrize("first", [1, 2, 3, 4])  # each takes a minute; workers share them
def test_killed_inside_a_rebuild_at_many_points(base: Base, first: int) -> None:
    kill_inside_the_rebuild(base, 200, first, 4)
