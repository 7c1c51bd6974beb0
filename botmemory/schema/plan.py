"""What a migration would do: its SQL, and what would be lost. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import peewee
from peewee import SQL, Table, fn

from ..backends.base import Backend
from ..errors import SchemaError
from .runner import SafeRunner, translate_migration_errors
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
    with translate_migration_errors(database.config.label), _rehearsal(database) as rehearsed:
        for runner, names in pending(rehearsed, target):
            runner.complete_history()
            for name in names:
                if rehearsed is database:
                    _require_transactional(runner, [name])
                with _recorded_statements(rehearsed, runner.table_name) as statements:
                    runner.up(name)
                planned.append((name, statements))
    return planned


def losses(database: Backend, target: str | None = None) -> list[str]:
    """Return what `down` would drop that holds something: tables and columns, with their rows."""
    with translate_migration_errors(database.config.label), _rehearsal(database) as rehearsed:
        last = last_applied(rehearsed, target)
        if last is None:
            return []
        before = _columns(rehearsed)
        runner, name = last
        names = [step.name for step in status(rehearsed)]
        if rehearsed is database:
            _require_transactional(runner, names[names.index(name) :])
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
    if database.in_transaction():
        raise SchemaError(f"{database.config.label}: leave the transaction first")
    with database.scratch(with_tables=True) as scratch:
        if scratch is database:
            if not runners(database)[0].migrator.transactional_ddl:
                raise SchemaError(
                    f"{database.config.label}: this engine cannot roll back changes of the schema, "
                    "so they cannot be tried out; read the files of the migrations ('down --yes' "
                    "asks nothing)"
                )
        else:
            for runner, copied in zip(runners(database), runners(scratch), strict=True):
                if records := list(runner.records().values()):
                    copied.complete_history()
                    copied.History.insert_many(records).execute()
        yield scratch


def _require_transactional(runner: SafeRunner, names: list[str]) -> None:
    """Refuse what a server runs outside a transaction: it cannot be rolled back."""
    for file in runner.migrations():
        if file.name in names and not getattr(file.load(), "atomic", True):
            raise SchemaError(
                f"{runner.database.config.label}: {file.name} runs outside a transaction (atomic "
                f"= False), so it cannot be tried out; read {file.path} ('down --yes' asks nothing)"
            )


@contextmanager
def _recorded_statements(database: Backend, history: str) -> Iterator[list[str]]:
    """Collect the statements that change something, except those of the history."""
    statements: list[str] = []

    def record(event: Any) -> None:
        sql, failed = event.sql.strip(), event.exception is not None
        if database.param == "%s":
            sql = sql.replace("%%", "%")  # as the driver sends it
        if not failed and not sql.startswith(_AROUND) and f'"{history}"' not in sql:
            values = f"  -- {', '.join(map(repr, event.params))}" if event.params else ""
            statements.append(f"{sql};{values}")

    database.query_hooks.append(record)
    try:
        yield statements
    finally:
        database.query_hooks.remove(record)


def _columns(database: Backend) -> dict[str, list[str]]:
    """Return the columns of every table that holds something of the bot's."""
    histories = {runner.table_name for runner in runners(database)}
    tables = [name for name in database.get_tables() if name not in histories]
    return {
        table: [column.name for column in database.get_columns(table)]
        for table in tables
        if not table.startswith("sqlite_")
    }


def _rows(database: Backend, table: str, column: str | None = None) -> int:
    """Return how many rows a table has, or how many values there are in one of its columns."""
    source = Table(table).bind(cast("peewee.Database", database))
    counted = fn.COUNT(SQL("*") if column is None else getattr(source.c, column))
    return int(source.select(counted).scalar())
