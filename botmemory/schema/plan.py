"""What a migration would do: its SQL, and what would be lost. Nothing is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from peewee import SQL, Table, fn

from ..backends.sqlite.backend import SqliteBackend
from ..database import Backend, open_database
from ..errors import SchemaError
from .runner import SafeRunner, named, undone
from .versions import last_applied, pending, runners, status

__all__ = ["losses", "plan"]

# what the transactions around a step send, and its looks at the tables
_AROUND = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SELECT", "PRAGMA", "SHOW")


def plan(database: Backend, target: str | None = None) -> list[tuple[str, list[str]]]:
    """Return the SQL that `up` would run, by the step it belongs to.

    The steps are rehearsed: on SQLite in a copy of the tables without their rows, on PostgreSQL
    in a transaction that is rolled back. Raises `SchemaError` where that cannot be done.
    """
    planned = []
    with named(database.config.label), _rehearsal(database) as rehearsed:
        for runner, names in pending(rehearsed, target):
            runner.complete_history()
            for name in names:
                _require_undoable(rehearsed, runner, [name])
                with _heard(rehearsed, runner.table_name) as statements:
                    runner.up(name)
                planned.append((name, statements))
    return planned


def losses(database: Backend, target: str | None = None) -> list[str]:
    """Return what `down` would drop that holds something: tables and columns, with their rows."""
    with named(database.config.label), _rehearsal(database) as rehearsed:
        last = last_applied(rehearsed, target)
        if last is None:
            return []
        before = _columns(rehearsed)
        runner, name = last
        names = [step.name for step in status(rehearsed)]
        _require_undoable(rehearsed, runner, names[names.index(name) :])
        runner.complete_history()
        runner.down(name)
        after = _columns(rehearsed)
    lost = []
    for table, columns in before.items():
        if table not in after:
            if count := _rows(database, table):
                lost.append(f"{table}: {count:,} rows")
            continue
        for column in columns:
            if column not in after[table] and (count := _rows(database, table, column)):
                lost.append(f"{table}.{column}: {count:,} values")
    return lost


@contextmanager
def _rehearsal(database: Backend) -> Iterator[Backend]:
    """Yield a database with the same tables and history, in which everything may be done."""
    if isinstance(database, SqliteBackend):
        with closing(_empty_copy(database)) as copy:
            yield copy
        return
    if not runners(database)[0].migrator.transactional_ddl:
        raise SchemaError(
            f"{database.config.label}: this engine cannot undo changes of the schema, so they "
            "cannot be tried out; read the files of the migrations ('down --yes' asks nothing)"
        )
    if database.in_transaction():
        raise SchemaError(f"{database.config.label}: leave the transaction first")
    with undone(database):
        yield database


def _require_undoable(rehearsed: Backend, runner: SafeRunner, names: list[str]) -> None:
    """Refuse what a server runs outside a transaction: there is no way to take it back."""
    if isinstance(rehearsed, SqliteBackend):
        return  # which is a copy
    for file in runner.migrations():
        if file.name in names and not getattr(file.load(), "atomic", True):
            raise SchemaError(
                f"{rehearsed.config.label}: {file.name} runs outside a transaction (atomic = "
                f"False), so it cannot be tried out; read {file.path} ('down --yes' asks nothing)"
            )


def _empty_copy(database: SqliteBackend) -> SqliteBackend:
    config = dataclasses.replace(
        database.config, db_path=":memory:", read_only=False, backup_before_migrate=False
    )
    copy: Any = open_database(config)
    # the tables behind a virtual one are made by it
    behind = [row[1] for row in _rows_of(database, "PRAGMA table_list") if row[2] == "shadow"]
    master = Table("sqlite_master").bind(database)
    made = master.select(master.c.sql).where(
        master.c.sql.is_null(False),
        ~master.c.name.startswith("sqlite_"),
        master.c.name.not_in(behind),
    )
    for (sql,) in made.order_by(SQL("rowid")).tuples():
        copy.execute_sql(sql)
    for runner, copied in zip(runners(database), runners(copy), strict=True):
        if records := list(runner.records().values()):
            copied.complete_history()
            copied.History.insert_many(records).execute()
    return copy  # type: ignore[no-any-return]


@contextmanager
def _heard(database: Backend, history: str) -> Iterator[list[str]]:
    """Collect the statements that change something, except those of the history."""
    statements: list[str] = []
    on_server = not isinstance(database, SqliteBackend)

    def hear(event: Any) -> None:
        sql, failed = event.sql.strip(), event.exception is not None
        if on_server:
            sql = sql.replace("%%", "%")  # as the driver sends it
        if not failed and not sql.startswith(_AROUND) and f'"{history}"' not in sql:
            values = f"  -- {', '.join(map(repr, event.params))}" if event.params else ""
            statements.append(f"{sql};{values}")

    database.query_hooks.append(hear)
    try:
        yield statements
    finally:
        database.query_hooks.remove(hear)


def _columns(database: Backend) -> dict[str, list[str]]:
    """Return the columns of every table that holds something of the bot's."""
    histories = {runner.table_name for runner in runners(database)}
    tables = [name for name in database.get_tables() if name not in histories]
    return {
        table: [column.name for column in database.get_columns(table)]
        for table in tables
        if not table.startswith("sqlite_")
    }


def _rows_of(database: Any, sql: str) -> list[tuple[Any, ...]]:
    return list(database.execute_sql(sql).fetchall())


def _rows(database: Backend, table: str, column: str | None = None) -> int:
    """Return how many rows a table has, or how many values there are in one of its columns."""
    source = Table(table).bind(database)
    counted = fn.COUNT(SQL("*") if column is None else getattr(source.c, column))
    return int(source.select(counted).scalar())
