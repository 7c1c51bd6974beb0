"""Bring a database from one version of its schema to another, and never lose what it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..backends.base import Backend
from ..errors import SchemaError
from .runner import SafeRunner, Step, checked_steps, folders, translate_migration_errors

__all__ = ["down", "require_current", "stamp", "status", "up"]

SCRIPT = "python -m botmemory.migration_runner"


def status(database: Backend) -> list[Step]:
    """Return the migrations in their order: botmemory's, then those of the bot's own folder.

    Raises `SchemaError` when files and history do not fit together (an applied file was edited
    or is missing, two share a number, one comes late), when the database was migrated by a newer
    botmemory, or when another program made the tables.
    """
    return [step for runner in runners(database) for step in _steps(runner)]


def require_current(database: Backend) -> None:
    """Raise `SchemaError` naming the pending migrations, if there are any."""
    waiting = [step.name for step in status(database) if not step.applied]
    if waiting:
        own = database.config.migrations
        script = SCRIPT if own is None else f"{SCRIPT} --migrations {own}"
        raise SchemaError(
            f"{database.config.label}: migrations are pending: {', '.join(waiting)}; "
            f"run '{script} up' or open it with migrate=True"
        )


def up(database: Backend, target: str | None = None) -> list[str]:
    """Apply what is pending, or what is pending up to and with `target`; return the names.

    Of several processes that call it at once one does the work, the others wait and find it done.
    A SQLite file that holds tables is copied first, next to itself, unless its config says
    `backup_before_migrate=False`; the newest five such copies are kept. Raises `SchemaError` when
    a step fails, of which then nothing is there, and `StorageError` when the copy cannot be made.
    """
    if not pending(database, target):
        return []
    with _migrating(database):
        planned = pending(database, target)  # another process may have done it meanwhile
        if planned:
            _back_up(database, planned[0][1][0])
        done = []
        for runner, names in planned:
            runner.complete_history()
            done += runner.up(names[-1])
        return done


def down(database: Backend, target: str | None = None) -> list[str]:
    """Revert the latest migration, or every one back to and with `target`; return the names.

    What the older tables cannot hold is dropped (`schema_plan.losses` names it); a SQLite file is
    copied first as in `up`. Raises as `up` does.
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
    """Record what is pending up to and with `name`, or all of it, without running it.

    It is for tables that are already as the files would make them. A migration that is recorded is
    recorded again as its file is now, if it is named: an edited one is accepted so. Returns the
    names. Raises `SchemaError` for an unknown name.
    """
    with _migrating(database):
        every = runners(database)
        _require_name(name, [file.name for runner in every for file in runner.migrations()])
        stamped = []
        for runner in every:
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
    """Return the steps that `up` has to apply, by the runner that does it."""
    found, known = [], []
    for runner in runners(database):
        steps = _steps(runner)
        names = [step.name for step in steps]
        known += names
        upto = steps[: names.index(target) + 1] if target in names else steps
        if waiting := [step.name for step in upto if not step.applied]:
            found.append((runner, waiting))
        if target in names:
            return found
    _require_name(target, known)
    return found


def last_applied(database: Backend, target: str | None = None) -> tuple[SafeRunner, str] | None:
    """Return the step that `down` goes back to, and what runs it; None when nothing is applied.

    Without a target it is the last step of the folder of which one was applied last.
    """
    steps = {runner: _steps(runner) for runner in runners(database)}
    _require_name(target, [step.name for of_one in steps.values() for step in of_one])
    lasts = []
    for runner, of_one in steps.items():
        applied = [step for step in of_one if step.applied and target in (None, step.name)]
        if applied:
            lasts.append((max(str(step.applied) for step in applied), runner, applied[-1].name))
    if not lasts:
        return None
    # one of the bot's own comes after botmemory's where both are of one time
    _, runner, name = max(reversed(lasts), key=lambda last: last[0])
    return runner, name


def runners(database: Backend) -> list[SafeRunner]:
    """Return what runs the migrations of each folder, botmemory's own first."""
    return [SafeRunner(database, folder) for folder in folders(database.config)]


def _steps(runner: SafeRunner) -> list[Step]:
    # the tables first: another process may make both between the two questions
    present = {"signal", "trade"}.intersection(runner.database.get_tables())
    steps = checked_steps(runner)
    if present and runner.folder.owner == "botmemory" and not any(s.applied for s in steps):
        raise SchemaError(
            f"{runner.database.config.label}: has a table '{min(present)}' that botmemory did not "
            "make; use another file"
        )
    return steps


@contextmanager
def _migrating(database: Backend) -> Iterator[None]:
    """Hold off the others while the schema is changed."""
    label = database.config.label
    if database.in_transaction():
        raise SchemaError(f"{label}: cannot migrate inside a transaction; leave it first")
    with translate_migration_errors(label), database.exclusive():
        yield


def _back_up(database: Backend, step: str) -> None:
    """Copy a file that holds tables before a step changes it."""
    if not database.config.backup_before_migrate:
        return
    histories = {runner.table_name for runner in runners(database)}
    if {*database.get_tables()} - histories - {"sqlite_sequence"}:
        database.back_up(re.sub(r"\D.*", "", step))


def _require_name(target: str | None, known: list[str]) -> None:
    if target is not None and target not in known:
        raise SchemaError(f"{target}: there is no such migration; there are {', '.join(known)}")
