"""Bring a database from one version of the schema to another; also the script.

    python -m botmemory.migration_runner [--db TARGET] up|down|status [NAME]

Exit codes: 0 up to date or done, 1 steps are pending (`status`), 2 an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peewee
from playhouse.migrations import Migration, MigrationError, Runner

from .config import Config
from .database import Backend, close_database, open_database
from .errors import BotMemoryError, SchemaError
from .sqlite import SqliteBackend
from .sqlite_copy import copy_database, snapshot

__all__ = ["down", "main", "require_current", "status", "up"]

HISTORY = "schema_migration"
SCRIPT = "python -m botmemory.migration_runner"


class _DoneByAnotherError(Exception):
    pass


class _SafeRunner(Runner):  # type: ignore[misc]
    """Peewee's runner; its history is in UTC, and of several processes one does the work."""

    def __init__(self, database: Backend) -> None:
        spec = find_spec("botmemory.migrations")
        if spec is None or spec.origin is None:
            raise SchemaError("botmemory's migrations are not installed: install it with pip")
        super().__init__(database, str(Path(spec.origin).parent), table_name=HISTORY)

        class History(database.Model):  # type: ignore[misc, name-defined]
            name = peewee.CharField(unique=True)
            applied = peewee.DateTimeField(default=_utc_now)

            class Meta:
                table_name = HISTORY

        self.History = History

    def _run(self, name: str, module: Any, direction: str, fake: bool = False) -> None:
        def step(migrator: Any, database: Backend) -> None:
            # the transaction has begun: whoever was first is finished and in the history
            if (name in self.applied()) == (direction == "up"):
                raise _DoneByAnotherError
            getattr(module, direction)(migrator, database)

        guarded = SimpleNamespace(**{direction: step, "atomic": getattr(module, "atomic", True)})
        with suppress(_DoneByAnotherError):
            super()._run(name, guarded, direction, fake=fake)


def status(database: Backend) -> list[Migration]:
    """Return the migrations in their order, each with `name` and `applied`.

    `applied` is a naive datetime in UTC, None while the step is pending. Raises `SchemaError`
    when the database was migrated by a newer botmemory, or when another program made the tables.
    """
    return _steps(database, _SafeRunner(database))


def _steps(database: Backend, runner: _SafeRunner) -> list[Migration]:
    # the tables first: another process may make both between the two questions
    present = {"signal", "trade"}.intersection(database.get_tables())
    steps: list[Migration] = runner.status()
    unknown = [step.name for step in steps if step.path is None]
    if unknown:
        raise SchemaError(
            f"{_label(database)}: has migration {unknown[-1]}, which this botmemory does not "
            "know; it was written by a newer version: upgrade the package"
        )
    if present and not any(step.applied for step in steps):
        raise SchemaError(
            f"{_label(database)}: has a table '{min(present)}' that botmemory did not make; "
            "use another file"
        )
    return steps


def up(database: Backend, target: str | None = None) -> list[str]:
    """Apply what is pending, or what is pending up to and with `target`; return the names.

    A SQLite file that holds tables is copied first, next to itself, unless its config says
    `backup_before_migrate=False`. Raises `SchemaError` and changes nothing on any failure.
    """
    runner = _SafeRunner(database)
    steps = _steps(database, runner)
    _require_name(steps, target)
    if not _pending(steps, target):
        return []
    with _migrating(database, runner):
        steps = _steps(database, runner)  # another process may have done it meanwhile
        pending = _pending(steps, target)
        if pending and any(step.applied for step in steps):
            _back_up(database, pending[0])
        return list(runner.up(target))


def down(database: Backend, target: str | None = None) -> list[str]:
    """Revert the latest migration, or every one back to and with `target`; return the names.

    What the older tables cannot hold is dropped; a SQLite file is copied first as in `up`.
    Raises `SchemaError` and changes nothing on any failure.
    """
    runner = _SafeRunner(database)
    steps = _steps(database, runner)
    _require_name(steps, target)
    if not any(step.applied for step in steps):
        return []
    with _migrating(database, runner):
        _back_up(database, target or max(step.name for step in steps if step.applied))
        return list(runner.down(target))


def require_current(database: Backend) -> None:
    """Raise `SchemaError` naming the pending migrations, if there are any."""
    pending = [step.name for step in status(database) if not step.applied]
    if pending:
        raise SchemaError(
            f"{_label(database)}: migrations are pending: {', '.join(pending)}; "
            f"run '{SCRIPT} up' or open it with migrate=True"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    parser = argparse.ArgumentParser(
        prog=SCRIPT,
        description="Bring the schema of a botmemory database up to date.",
        epilog="exit codes: 0 up to date or done, 1 migrations are pending (status), 2 an error",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--db", metavar="TARGET", help="path or URL (default: BOTMEMORY_DB_PATH, trading_state.db)"
    )
    source.add_argument("--config", metavar="FILE", help="read the settings from a TOML file")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "apply what is pending, or up to and with NAME"),
        ("down", "revert the latest, or back to and with NAME"),
    ):
        commands.add_parser(name, help=text).add_argument("name", nargs="?", metavar="NAME")
    commands.add_parser("status", help="list the migrations; exit 1 if some are pending")
    arguments = parser.parse_args(argv)
    try:
        config = Config.from_file(arguments.config) if arguments.config else Config.from_env()
        if arguments.db:
            config = dataclasses.replace(config, db_path=arguments.db)
        return _run_command(config, arguments.command, getattr(arguments, "name", None))
    except BotMemoryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run_command(config: Config, command: str, name: str | None) -> int:
    if command != "up":  # never make a file only to say that it is empty
        with _open(dataclasses.replace(config, read_only=True)) as database:
            if command == "status":
                return _print_status(config, status(database))
    with _open(config) as database:
        if command == "up":
            _print_names("applied", up(database, name), "up to date")
        else:
            _print_names("reverted", down(database, name), "nothing to revert")
    return 0


@contextmanager
def _open(config: Config) -> Iterator[Backend]:
    database = open_database(config)
    try:
        yield database
    finally:
        close_database(database)


def _print_status(config: Config, steps: list[Migration]) -> int:
    print(config.label)
    width = max(len(step.name) for step in steps)
    for step in steps:
        when = f"{step.applied:%Y-%m-%d %H:%M:%S} UTC" if step.applied else "pending"
        print(f"[{'x' if step.applied else ' '}] {step.name:<{width}}  {when}")
    return int(any(not step.applied for step in steps))


def _print_names(verb: str, names: list[str], nothing: str) -> None:
    for name in names:
        print(f"{verb}: {name}")
    if not names:
        print(nothing)


@contextmanager
def _migrating(database: Backend, runner: _SafeRunner) -> Iterator[None]:
    if database.in_transaction():
        raise SchemaError(
            f"{_label(database)}: cannot migrate inside a transaction; leave it first"
        )
    try:
        with database.exclusive():
            yield
    except (MigrationError, peewee.PeeweeException) as error:
        outcome = (
            "failed and was rolled back"
            if runner.migrator.transactional_ddl
            else "failed half-way, and this engine cannot undo it: compare the tables with the file"
        )
        raise SchemaError(f"{_label(database)}: the migration {outcome}: {error}") from error


def _back_up(database: Backend, step: str) -> None:
    if not isinstance(database, SqliteBackend) or database.config.in_memory:
        return
    if database.config.backup_before_migrate:
        file = Path(database.database)
        moment = f"{_utc_now():%Y%m%dT%H%M%S%f}Z"
        copy = file.with_name(f"{file.stem}.before-{step[:4]}-{moment}.db")
        with snapshot(file) as source:
            copy_database(source, copy)


def _require_name(steps: list[Migration], target: str | None) -> None:
    if target is not None and target not in {step.name for step in steps}:
        raise SchemaError(
            f"{target}: there is no such migration; there are "
            f"{', '.join(step.name for step in steps)}"
        )


def _pending(steps: list[Migration], target: str | None) -> list[str]:
    return [
        step.name for step in steps if not step.applied and (target is None or step.name <= target)
    ]


def _label(database: Backend) -> str:
    return database.config.label


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


if __name__ == "__main__":
    sys.exit(main())
