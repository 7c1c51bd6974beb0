"""Rehearse migrations: the SQL of `up`, and what `down` would drop. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import peewee
from peewee import SQL, Table, fn

from ..backends.base import Backend
from ..errors import SchemaError
from .runner import SafeRunner, translate_migration_errors
from .versions import last_applied, pending, runners, status, user_tables

# statements of the transactions around a migration, and queries
_NOT_IN_PLAN = (
    *("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"),
    *("SELECT", "PRAGMA", "SHOW", "SET LOCAL"),
)


def plan(database: Backend, target: str | None = None) -> list[tuple[str, list[str]]]:
    """Run the pending migrations in a scratch database and return the SQL of each.

    It has the tables without their rows: on SQLite in memory, on PostgreSQL as temporary tables in
    a transaction that is rolled back.

    Args:
        target: The last migration to run; None for all that are pending.

    Returns:
        The name of each migration with its SQL statements.

    Raises:
        SchemaError: A migration cannot be rehearsed, or the files and the history do not match.
    """
    planned = []
    with translate_migration_errors(database.config.label), _rehearsal(database) as scratch:
        for runner, names in pending(scratch, target):
            runner.complete_history()
            for name in names:
                if scratch is database:
                    _require_transactional(runner, [name])
                with _record_statements(scratch, runner.table_name) as statements:
                    runner.finish()
                    runner.up(name)
                planned.append((name, statements))
    return planned


def losses(database: Backend, target: str | None = None) -> list[str]:
    """Return the tables and columns that `down` would drop although they hold values.

    Args:
        target: The last migration to revert; None for the latest alone.

    Returns:
        Lines such as `trade.fee: 12 values`.

    Raises:
        SchemaError: A migration cannot be rehearsed, or the files and the history do not match.
    """
    with translate_migration_errors(database.config.label), _rehearsal(database) as scratch:
        last = last_applied(scratch, target)
        if last is None:
            return []
        before = _columns(scratch)
        runner, name = last
        names = [step.name for step in status(scratch)]
        if scratch is database:
            _require_transactional(runner, names[names.index(name) :])
        runner.complete_history()
        runner.down(name)
        after = _columns(scratch)
    lost = []
    for table, columns in before.items():
        if table not in after:
            if count := _count(database, table):
                lost.append(f"{table}: {count:,} rows")
            continue
        for column in columns:
            if column not in after[table] and (count := _count(database, table, column)):
                lost.append(f"{table}.{column}: {count:,} values")
    return lost


@contextmanager
def _rehearsal(database: Backend) -> Iterator[Backend]:
    """Yield a scratch database that has the same tables and history."""
    if database.in_transaction():
        raise SchemaError(
            f"{database.config.label}: cannot rehearse inside a transaction; leave it first"
        )
    if not runners(database)[0].migrator.transactional_ddl:
        raise SchemaError(
            f"{database.config.label}: this engine cannot roll back changes of the schema, so "
            "migrations cannot be rehearsed; read their files ('down --yes' runs without a "
            "rehearsal)"
        )
    if not database.can_make_scratch():
        raise SchemaError(
            f"{database.config.label}: a rehearsal needs temporary tables, which are not allowed "
            "here; use a role that has the right TEMPORARY on the database ('down --yes' runs "
            "without a rehearsal)"
        )
    histories = [list(runner.records().values()) for runner in runners(database)]
    with database.scratch(with_tables=True) as scratch:
        for runner, records in zip(runners(scratch), histories, strict=True):
            if records:
                runner.complete_history()
                runner.History.insert_many(records).execute()
        yield scratch


def _require_transactional(runner: SafeRunner, names: list[str]) -> None:
    """Raise `SchemaError` for a migration that cannot be rolled back."""
    for file in runner.migrations():
        if file.name in names and not getattr(file.load(), "atomic", True):
            raise SchemaError(
                f"{runner.database.config.label}: {file.name} runs outside a transaction (atomic "
                f"= False), so it cannot be rehearsed; read {file.path} ('down --yes' runs "
                "without a rehearsal)"
            )


@contextmanager
def _record_statements(database: Backend, history: str) -> Iterator[list[str]]:
    """Collect the statements that change something outside the history table."""
    statements: list[str] = []

    def record(event: Any) -> None:
        # not allowed in the transaction of a rehearsal
        sql = event.sql.strip().replace("/* CONCURRENTLY */", "CONCURRENTLY")
        if database.param == "%s":
            sql = sql.replace("%%", "%")  # as the driver sends it
        if event.exception is not None or sql.startswith(_NOT_IN_PLAN) or f'"{history}"' in sql:
            return
        values = f"  -- {', '.join(map(repr, event.params))}" if event.params else ""
        statements.append(f"{sql};{values}")

    database.query_hooks.append(record)
    try:
        yield statements
    finally:
        database.query_hooks.remove(record)


def _columns(database: Backend) -> dict[str, list[str]]:
    """Return the columns of every table except the history tables."""
    return {
        table: [column.name for column in database.get_columns(table)]
        for table in user_tables(database)
    }


def _count(database: Backend, table: str, column: str | None = None) -> int:
    """Return the number of rows of a table, or of the values in one of its columns."""
    source = Table(table).bind(cast("peewee.Database", database))
    count = fn.COUNT(SQL("*") if column is None else getattr(source.c, column))
    return int(source.select(count).scalar())
