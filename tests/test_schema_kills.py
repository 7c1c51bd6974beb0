"""Migrations killed without warning, at every statement and in the middle of some.

After each kill the database is as it was before a migration or after it, with every row, and the
next `up` finishes. One of the migrations rebuilds a table whose rows others refer to.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from own import OURS, own_folder
from processes import needs_fork
from servers import run

from botmemory import Config, close_db, init_db
from botmemory.database import open_database, open_temporarily
from botmemory.migration_runner import down, status, up

pytestmark = [
    needs_fork,
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

# Made by version 0001 of the schema: 40 signals, 120 trades.
OLD_FILE = Path(__file__).parent / "data" / "version_0001.db"

ACCOUNTS = '''
"""Create accounts and what was paid into them."""

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
"""Name the currency of each account: on SQLite both tables are rebuilt."""

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
    """A database of three botmemory steps behind, with rows, and what it becomes."""

    copy: Callable[[], Config]
    statements: int  # that `up` runs
    schemas: list[Any]  # after each of the steps, the one before all of them first
    steps: list[str]


def rows(database: Any) -> dict[str, list[Any]]:
    """Return what every version holds of every row."""
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
    """Return every column and index there is, without the histories."""
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


def up_counted(database: Any) -> int:
    """Migrate, and return how many statements it took."""
    heard: list[object] = []
    database.query_hooks.append(heard.append)
    up(database)
    return len(heard)


@pytest.fixture(scope="module", params=["file", "postgresql"])
def base(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[str], str],
) -> Base:
    """A database that was made with version 0001, and has the bot's accounts already."""
    folder = tmp_path_factory.mktemp("kills")
    migrations = own_folder(folder, accounts=ACCOUNTS)
    if request.param == "file":
        original = str(shutil.copy(OLD_FILE, folder / "original.db"))
    else:
        original = new_database("")
        as_is = Config(original)
        with_database(as_is, lambda database: up(database, OURS[0]))
        fill_from_old_file(original)
    config = Config(original, migrations=migrations, backup_before_migrate=False)
    with_database(config, up)
    with_database(config, lambda database: down(database, OURS[1]))
    (migrations / "0004_rebuild.py").write_text(REBUILD)

    def copy() -> Config:
        if request.param == "file":
            there = folder / f"copy {len(list(folder.iterdir()))}"
            there.mkdir()
            return Config(shutil.copy(original, there / "bot.db"), migrations=migrations)
        name = Config(original).db_path.rpartition("/")[2].partition("?")[0]
        return Config(new_database(f"TEMPLATE {name}"), migrations=migrations)

    one_by_one = copy()
    steps = with_database(one_by_one, pending)
    schemas = [with_database(one_by_one, schema)]
    for step in steps:
        with_database(one_by_one, lambda database, step=step: up(database, step))
        schemas.append(with_database(one_by_one, schema))
    assert steps == [*OURS[1:], "0004_rebuild"]
    return Base(copy, with_database(copy(), up_counted), schemas, steps)


def fill_from_old_file(target: str) -> None:
    with closing(sqlite3.connect(OLD_FILE)) as connection:
        for table in ("signal", "trade"):
            for row in connection.execute(f"SELECT * FROM {table}"):
                names = [f"v{number}" for number in range(len(row))]
                marks = ", ".join(f"%({name})s" for name in names)
                run(
                    target,
                    f"INSERT INTO {table} VALUES ({marks})",
                    **dict(zip(names, row, strict=True)),
                )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_statement(number: int) -> Callable[[Any], None]:
    """Return what lets a process die when it has run so many statements."""

    def arm(database: Any) -> None:
        heard: list[object] = []

        def hear(event: object) -> None:
            heard.append(event)
            if len(heard) == number:
                die()

        database.query_hooks.append(hear)

    return arm


def inside_statements(steps: int) -> Callable[[Any], None]:
    """Return what lets a process die after so many steps of SQLite's machine."""

    def arm(database: Any) -> None:
        left = itertools.count(steps, -1)
        database.connection().set_progress_handler(lambda: 0 if next(left) else die(), 1)

    return arm


def killed(config: Config, arm: Callable[[Any], None]) -> bool:
    """Migrate in a process that may die of it, and return whether it did."""
    child = os.fork()
    if child == 0:
        try:
            database = open_database(config)
            arm(database)
            up(database)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, code = os.waitpid(child, 0)
    assert os.WIFSIGNALED(code) or os.WEXITSTATUS(code) == 0
    return os.WIFSIGNALED(code)


def require_whole(base: Base, config: Config, expected: dict[str, list[Any]]) -> int:
    """Fail unless a database is before or after a migration, with all it held; return where."""

    def look(database: Any) -> int:
        waiting = pending(database)
        done = len(base.steps) - len(waiting)
        assert waiting == base.steps[done:]
        assert schema(database) == base.schemas[done]
        assert rows(database) == expected
        return done

    done = with_database(config, look)
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


def kill_and_look(base: Base, config: Config, arm: Callable[[Any], None]) -> int | None:
    """Kill a migration; return how many steps were done then, or None if it lived."""
    expected = with_database(config, rows)
    assert [len(rows) for rows in expected.values()] == [40, 120, 50, 500]
    return require_whole(base, config, expected) if killed(config, arm) else None


def kill_after_statements(base: Base, how_many: int) -> None:
    """Kill after so many statements of all that `up` runs, evenly chosen."""
    numbers = [base.statements * n // how_many for n in range(1, how_many + 1)]
    ends = [kill_and_look(base, base.copy(), at_statement(number)) for number in numbers]
    assert None not in ends
    assert ends == sorted(ends)  # type: ignore[type-var]
    assert set(range(len(base.steps))) <= set(ends)


def test_killed_after_a_statement(base: Base) -> None:
    kill_after_statements(base, 60 if base.copy().backend == "sqlite" else 12)


@pytest.mark.long
def test_killed_after_any_statement(base: Base) -> None:
    kill_after_statements(base, base.statements)


def kill_inside_the_rebuild(base: Base, how_many: int, first: int = 1, step: int = 1) -> None:
    """Kill at so many points that lie evenly in what SQLite does to rebuild two tables.

    Of these points, only each `step`-th one is taken, from the `first` one on.
    """
    counted = 0

    def one_more() -> int:
        nonlocal counted
        counted += 1
        return 0

    def count(database: Any) -> None:
        up(database, OURS[-1])
        database.connection().set_progress_handler(one_more, 1)
        up(database)

    with_database(base.copy(), count)
    ends = []
    for number in range(first, how_many + 1, step):
        config = base.copy()
        with_database(config, lambda database: up(database, OURS[-1]))
        arm = inside_statements(counted * number // (how_many + 1))
        ends.append(kill_and_look(base, config, arm))
    assert ends
    assert set(ends) == {len(base.steps) - 1}


@pytest.mark.parametrize("base", ["file"], indirect=True)
def test_killed_inside_a_rebuild(base: Base) -> None:
    kill_inside_the_rebuild(base, 25)


@pytest.mark.long
@pytest.mark.parametrize("base", ["file"], indirect=True)
@pytest.mark.parametrize("first", [1, 2, 3, 4])  # each takes a minute; workers share them
def test_killed_inside_a_rebuild_at_many_points(base: Base, first: int) -> None:
    kill_inside_the_rebuild(base, 200, first, 4)
