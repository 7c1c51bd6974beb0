"""Apply and revert migrations, safely for the rows of the database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import SchemaError
from .runner import SafeRunner, Step, checked_steps, folders, translate_migration_errors

if TYPE_CHECKING:
    from ..backends.base import Backend

SCRIPT = "python -m botmemory.migration_runner"


def status(database: Backend) -> list[Step]:
    """Return the migrations of a database, applied and pending.

    Returns:
        The migrations in order: botmemory's, then the custom ones.

    Raises:
        SchemaError: The files and the history do not match (an applied file was edited or is
            missing, two files have one number, a pending file comes before an applied one), a newer
            botmemory migrated the database, or another program created its tables.
    """
    return [step for runner in runners(database) for step in _steps(runner)]


def require_current(database: Backend) -> None:
    """Verify that no migration is pending.

    Raises:
        SchemaError: Migrations are pending, which the message names, or as `status`.
    """
    names = [step.name for step in status(database) if not step.applied]
    if names:
        custom = database.config.migrations
        script = SCRIPT if custom is None else f"{SCRIPT} --migrations {custom}"
        raise SchemaError(
            f"{database.config.label}: migrations are pending: {', '.join(names)}; "
            f"run '{script} up' or open it with migrate=True"
        )


def up(database: Backend, target: str | None = None) -> list[str]:
    """Apply pending migrations.

    If several processes call it at once, one applies them and the others wait. A SQLite file that
    has tables is copied first, next to itself, unless `Config.backup_before_migrate` is False; the
    newest five copies are kept.

    Args:
        target: The name of the last migration to apply; None for all that are pending.

    Returns:
        The names of the migrations that were applied, in order.

    Raises:
        SchemaError: A migration failed and was rolled back, a transaction is open in this thread,
            or as `status`.
        StorageError: The copy cannot be made; nothing was applied.
    """
    if not pending(database, target):
        return []
    with _migrating(database):
        planned = pending(database, target)  # another process may have applied some meanwhile
        if planned:
            _back_up(database, planned[0][1][0])
        applied = []
        for runner, names in planned:
            runner.complete_history()
            applied += runner.finish()
            applied += runner.up(names[-1])
        return applied


def down(database: Backend, target: str | None = None) -> list[str]:
    """Revert the latest migration, or several.

    Values that the older tables cannot hold are dropped; `schema.plan.losses` names them. A SQLite
    file is copied first, as by `up`.

    Args:
        target: The name of the last migration to revert; None for the latest alone.

    Returns:
        The names of the migrations that were reverted, the latest first.

    Raises:
        SchemaError: As `up`.
        StorageError: The copy cannot be made; nothing was reverted.
    """
    if last_applied(database, target) is None:
        return []
    with _migrating(database):
        if (last := last_applied(database, target)) is None:
            return []
        runner, name = last
        _back_up(database, name)
        runner.complete_history()
        return list(runner.down(name))


def stamp(database: Backend, name: str | None = None) -> list[str]:
    """Record pending migrations as applied without running them.

    For tables that are already as the files would make them.

    Args:
        name: The last migration to record; None for all that are pending. One that is applied is
            recorded again with the checksum of its file, which accepts an edited file.

    Returns:
        The names of the migrations that were recorded, in order.

    Raises:
        SchemaError: No migration has that name, or a transaction is open in this thread.
    """
    with _migrating(database):
        all_runners = runners(database)
        _require_name(name, [file.name for runner in all_runners for file in runner.migrations()])
        stamped = []
        for runner in all_runners:
            runner.complete_history()
            applied = runner.applied()
            for file in runner.migrations():
                if file.name == name or file.name not in applied:
                    runner.stamp(file.name)
                    stamped.append(file.name)
                if file.name == name:
                    return stamped
        return stamped


def pending(database: Backend, target: str | None = None) -> list[tuple[SafeRunner, list[str]]]:
    """Return the runners that have pending migrations up to `target`, with their names."""
    result, all_names = [], []
    for runner in runners(database):
        steps = _steps(runner)
        names = [step.name for step in steps]
        all_names += names
        if target in names:
            steps = steps[: names.index(target) + 1]
        if not_applied := [step.name for step in steps if not step.applied]:
            result.append((runner, not_applied))
        if target in names:
            return result
    _require_name(target, all_names)
    return result


def last_applied(database: Backend, target: str | None = None) -> tuple[SafeRunner, str] | None:
    """Return the last migration that `down` reverts and its runner; None if none is applied.

    Without a target that is the last one of the folder that was migrated latest.
    """
    steps = {runner: _steps(runner) for runner in runners(database)}
    _require_name(target, [step.name for of_runner in steps.values() for step in of_runner])
    candidates = []
    for runner, of_runner in steps.items():
        applied = [
            step
            for step in of_runner
            if (step.applied or step.remaining) and target in (None, step.name)
        ]
        if applied:
            # an unfinished one is the latest
            latest = max(str(step.applied or "unfinished") for step in applied)
            candidates.append((latest, runner, applied[-1].name))
    if not candidates:
        return None
    # with equal times, custom migrations were applied after botmemory's
    _, runner, name = max(reversed(candidates), key=lambda candidate: candidate[0])
    return runner, name


def runners(database: Backend) -> list[SafeRunner]:
    """Return the runner of each folder, botmemory's first."""
    return [SafeRunner(database, folder) for folder in folders(database.config)]


def user_tables(database: Backend) -> list[str]:
    """Return the names of the tables without SQLite's own and the histories."""
    histories = {runner.table_name for runner in runners(database)}
    names = [name for name in database.get_tables() if not name.startswith("sqlite_")]
    return [name for name in names if name not in histories]


def _steps(runner: SafeRunner) -> list[Step]:
    # tables before the history: another process may create both between the two queries
    tables = {"signal", "trade", "cash_flow", "state"}.intersection(runner.database.get_tables())
    steps = checked_steps(runner)
    if tables and runner.folder.owner == "botmemory" and not any(s.applied for s in steps):
        raise SchemaError(
            f"{runner.database.config.label}: has a table '{min(tables)}' that botmemory did not "
            "make; use another file"
        )
    return steps


@contextmanager
def _migrating(database: Backend) -> Iterator[None]:
    """Keep other processes from migrating, and translate errors."""
    label = database.config.label
    if database.in_transaction():
        raise SchemaError(f"{label}: cannot migrate inside a transaction; leave it first")
    with translate_migration_errors(label), database.exclusive():
        yield


def _back_up(database: Backend, migration: str) -> None:
    """Copy a file that has tables before a migration changes it."""
    if not database.config.backup_before_migrate:
        return
    if user_tables(database):
        database.back_up(re.sub(r"\D.*", "", migration))


def _require_name(name: str | None, names: list[str]) -> None:
    if name is not None and name not in names:
        raise SchemaError(f"{name}: there is no such migration; there are {', '.join(names)}")
