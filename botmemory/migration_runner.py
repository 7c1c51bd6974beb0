"""The script that brings a database from one version of the schema to another.

    python -m botmemory.migration_runner [--db TARGET | --config FILE] COMMAND

Exit codes: 0 up to date or done, 1 steps are pending (`status`, `check`) or the tables differ
from the models (`check`), 2 an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import peewee
from playhouse.migrations import Runner

from .backends.base import Backend
from .backends.sqlite.errors import translate_errors
from .config import Config
from .database import open_temporarily
from .errors import BotMemoryError, SchemaError
from .models import BaseModel, Signal, Trade
from .schema import plan
from .schema.drift import drift
from .schema.versions import SCRIPT, down, require_current, stamp, status, up

__all__ = ["down", "main", "require_current", "stamp", "status", "up"]

_SETTINGS = ("db_path", "migrations")
_COMMANDS = {
    "up": "apply what is pending, or up to and with NAME",
    "down": "revert the latest, or back to and with NAME",
    "status": "list the migrations; exit 1 if some are pending",
    "plan": "show the SQL that 'up' would run, and change nothing",
    "check": "compare tables and models; exit 1 if they differ",
    "create": "write the next file in the folder of --migrations",
    "stamp": "record what is pending up to and with NAME, or all of it, without running it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit code."""
    asked = _parser().parse_args(argv)
    try:
        given = {name: value for name, value in vars(asked).items() if name in _SETTINGS}
        config = (
            Config.from_file(asked.config, **given)
            if "config" in asked
            else Config.from_env(**given)
        )
        code, said, lines = _run(config, asked)
    except BotMemoryError as error:
        what = json.dumps({"error": str(error)}) if "json" in asked else f"error: {error}"
        print(what, file=sys.stderr)
        return 2
    print(json.dumps(said) if "json" in asked else "\n".join(lines))
    return code


def _parser() -> argparse.ArgumentParser:
    # before the command or after it; what is not given is not there
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    source = options.add_mutually_exclusive_group()
    source.add_argument(
        "--db",
        dest="db_path",
        metavar="TARGET",
        help="path or URL (default: BOTMEMORY_DB_PATH, trading_state.db)",
    )
    source.add_argument("--config", metavar="FILE", help="read the settings from a TOML file")
    options.add_argument(
        "--migrations", metavar="FOLDER", help="of custom tables (BOTMEMORY_MIGRATIONS)"
    )
    options.add_argument("--json", action="store_true", help="answer in JSON")
    parser = argparse.ArgumentParser(
        prog=SCRIPT,
        parents=[options],
        description="Bring the schema of a botmemory database up to date.",
        epilog="exit codes: 0 up to date or done, 1 migrations are pending (status, check) or the "
        "tables differ from the models (check), 2 an error",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = {
        name: commands.add_parser(name, help=text, description=f"{text}.", parents=[options])
        for name, text in _COMMANDS.items()
    }
    for name in ("up", "down", "plan", "stamp"):
        one[name].add_argument("name", nargs="?", metavar="NAME", help="a migration, by its name")
    one["down"].add_argument("--yes", action="store_true", help="also where values are dropped")
    one["check"].add_argument(
        "--models", metavar="MODULE", help="the module with the models of custom tables"
    )
    one["create"].add_argument("name", metavar="NAME", help="what it does, as in add_note")
    return parser


def _run(config: Config, asked: argparse.Namespace) -> tuple[int, Any, list[str]]:
    """Return the exit code, and what is said as data and as lines."""
    command = asked.command
    if command == "create":
        return _create(config, asked.name)
    if command != "up":  # never make a file only to say that it is empty
        with open_temporarily(dataclasses.replace(config, read_only=True)) as database:
            if command == "status":
                return _status(database)
            if config.backend == "sqlite" and command in ("plan", "check"):
                return _look(database, asked)
    with open_temporarily(config) as database:
        if command in ("plan", "check"):  # a server shows it in a transaction that is rolled back
            return _look(database, asked)
        if command == "up":
            return _done("applied", up(database, asked.name), "up to date")
        if command == "stamp":
            return _done("recorded", stamp(database, asked.name), "nothing to record")
        if not asked.yes and (lost := plan.losses(database, asked.name)):
            raise SchemaError(
                f"{config.label}: 'down' would drop {', '.join(lost)}; nothing was changed: say "
                "--yes if that may go"
            )
        return _done("reverted", down(database, asked.name), "nothing to revert")


def _done(verb: str, names: list[str], nothing: str) -> tuple[int, Any, list[str]]:
    return 0, {verb: names}, [f"{verb}: {name}" for name in names] or [nothing]


def _status(database: Backend) -> tuple[int, Any, list[str]]:
    steps = status(database)
    width = max(len(step.name) for step in steps)
    lines = [database.config.label]
    for step in steps:
        when = f"{step.applied:%Y-%m-%d %H:%M:%S} UTC" if step.applied else "pending"
        lines.append(f"[{'x' if step.applied else ' '}] {step.name:<{width}}  {when}")
    said = [
        {
            "name": step.name,
            "applied": step.applied and f"{step.applied.isoformat(' ')}+00:00",
            "version": step.version,
        }
        for step in steps
    ]
    return int(any(not step.applied for step in steps)), said, lines


def _look(database: Backend, asked: argparse.Namespace) -> tuple[int, Any, list[str]]:
    if asked.command == "check":
        return _check(database, asked.models)
    return _plan(database, asked.name)


def _plan(database: Backend, target: str | None) -> tuple[int, Any, list[str]]:
    lines = []
    planned = plan.plan(database, target)
    for name, statements in planned:
        lines += [f"-- {name}", *statements]
    said = [{"name": name, "sql": statements} for name, statements in planned]
    return 0, said, lines or ["-- up to date"]


def _check(database: Backend, module: str | None) -> tuple[int, Any, list[str]]:
    if waiting := [f"pending: {step.name}" for step in status(database) if not step.applied]:
        return 1, waiting, waiting
    if not database.can_make_scratch():
        raise SchemaError(f"{database.config.label}: tables and models cannot be compared here")
    found = drift(database, [Signal, Trade, *(_models(module) if module else [])])
    return int(bool(found)), found, found or ["the tables are what the models say"]


def _models(module: str) -> list[type[BaseModel]]:
    """Return the models that a module defines for custom tables."""
    sys.path.insert(0, "")
    try:
        names = vars(importlib.import_module(module))
    except Exception as error:  # a module is a program: anything may be wrong with it
        raise SchemaError(
            f"{module}: cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove("")
    found = [
        model
        for model in names.values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == module
    ]
    if not found:
        raise SchemaError(f"{module}: defines no model on botmemory's BaseModel")
    return found


def _create(config: Config, name: str) -> tuple[int, Any, list[str]]:
    if config.migrations is None:
        raise SchemaError("create: name the folder of the custom migrations with --migrations")
    folder = config.migrations
    with translate_errors(folder, "cannot be written"):
        path = Runner(peewee.SqliteDatabase(None), str(folder)).create(name)
    return 0, path, [path]


if __name__ == "__main__":
    sys.exit(main())
