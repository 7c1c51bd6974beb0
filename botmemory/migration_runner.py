"""The script that applies and reverts migrations, and the functions behind it.

    python -m botmemory.migration_runner [--db TARGET | --config FILE] COMMAND

Exit codes: 0 up to date or done, 1 migrations are pending (`status`, `check`) or the tables differ
from the models (`check`), 2 an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import peewee
from playhouse.migrations import Runner

from ._streams import use_utf8
from .backends.base import Backend
from .backends.sqlite.errors import translate_errors
from .config import Config
from .database import open_temporarily
from .errors import BotMemoryError, SchemaError
from .models import MODELS, BaseModel
from .schema import plan
from .schema.drift import drift
from .schema.versions import SCRIPT, down, require_current, stamp, status, up

__all__ = ["down", "main", "require_current", "stamp", "status", "up"]

Result: TypeAlias = tuple[int, Any, list[str]]  # exit code; output as data and as lines

_SETTINGS = ("db_path", "migrations")
_COMMANDS = {
    "up": "apply pending migrations, all or up to and including NAME",
    "down": "revert the latest migration, or all back to and including NAME",
    "status": "list the migrations; exit 1 if some are pending",
    "plan": "show the SQL that 'up' would run, and change nothing",
    "check": "compare tables and models; exit 1 if they differ",
    "create": "write the next file in the folder of --migrations",
    "stamp": "record pending migrations as applied without running them",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script.

    Args:
        argv: The arguments of the command line; None for those of the process.

    Returns:
        The exit code.
    """
    use_utf8()
    arguments = _parser().parse_args(argv)
    try:
        settings = {name: value for name, value in vars(arguments).items() if name in _SETTINGS}
        config = (
            Config.from_file(arguments.config, **settings)
            if "config" in arguments
            else Config.from_env(**settings)
        )
        code, data, lines = _run(config, arguments)
    except BotMemoryError as error:
        message = json.dumps({"error": str(error)}) if "json" in arguments else f"error: {error}"
        print(message, file=sys.stderr)
        return 2
    print(json.dumps(data) if "json" in arguments else "\n".join(lines))
    return code


def _parser() -> argparse.ArgumentParser:
    # an option may stand before or after the command; the default must not overwrite it
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
        "--migrations", metavar="FOLDER", help="custom migrations (BOTMEMORY_MIGRATIONS)"
    )
    options.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(
        prog=SCRIPT,
        parents=[options],
        description="Bring the schema of a botmemory database up to date.",
        epilog="exit codes: 0 up to date or done, 1 migrations are pending (status, check) or the "
        "tables differ from the models (check), 2 an error",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparsers = {
        name: commands.add_parser(name, help=text, description=f"{text}.", parents=[options])
        for name, text in _COMMANDS.items()
    }
    for name in ("up", "down", "plan", "stamp"):
        subparsers[name].add_argument(
            "name", nargs="?", metavar="NAME", help="the name of a migration"
        )
    subparsers["down"].add_argument(
        "--yes", action="store_true", help="revert even if values are dropped"
    )
    subparsers["check"].add_argument(
        "--models", metavar="MODULE", help="the module with the models of custom tables"
    )
    subparsers["create"].add_argument("name", metavar="NAME", help="what it does, as in add_note")
    return parser


def _run(config: Config, arguments: argparse.Namespace) -> Result:
    command = arguments.command
    if command == "create":
        return _create(config, arguments.name)
    show = {"status": _status, "plan": _plan, "check": _check}.get(command)
    if command != "up":  # read-only, so that a misspelt path does not create a file
        with open_temporarily(dataclasses.replace(config, read_only=True)) as database:
            if show is not None and (command == "status" or config.backend == "sqlite"):
                return show(database, arguments)
    with open_temporarily(config) as database:
        if show is not None:  # a server needs a transaction, which is rolled back
            return show(database, arguments)
        if command == "up":
            return _done("applied", up(database, arguments.name), "up to date")
        if command == "stamp":
            return _done("recorded", stamp(database, arguments.name), "nothing to record")
        if not arguments.yes and (losses := plan.losses(database, arguments.name)):
            raise SchemaError(
                f"{config.label}: 'down' would drop {', '.join(losses)}; nothing was changed; "
                "repeat it with --yes to drop them"
            )
        return _done("reverted", down(database, arguments.name), "nothing to revert")


def _done(verb: str, names: list[str], message: str) -> Result:
    return 0, {verb: names}, [f"{verb}: {name}" for name in names] or [message]


def _status(database: Backend, _: argparse.Namespace) -> Result:
    steps = status(database)
    width = max(len(step.name) for step in steps)
    lines = [database.config.label]
    for step in steps:
        when = f"{step.applied:%Y-%m-%d %H:%M:%S} UTC" if step.applied else "pending"
        if step.remaining:
            when = f"unfinished, 'up' goes on with: {step.remaining[0]}"
        lines.append(f"[{'x' if step.applied else ' '}] {step.name:<{width}}  {when}")
    data = [
        {
            "name": step.name,
            "applied": step.applied and f"{step.applied.isoformat(' ')}+00:00",
            "version": step.version,
        }
        | ({"remaining": step.remaining} if step.remaining else {})
        for step in steps
    ]
    return int(any(not step.applied for step in steps)), data, lines


def _plan(database: Backend, arguments: argparse.Namespace) -> Result:
    planned = plan.plan(database, arguments.name)
    data = [{"name": name, "sql": statements} for name, statements in planned]
    lines = [line for name, statements in planned for line in (f"-- {name}", *statements)]
    return 0, data, lines or ["-- up to date"]


def _check(database: Backend, arguments: argparse.Namespace) -> Result:
    if pending := [f"pending: {step.name}" for step in status(database) if not step.applied]:
        return 1, pending, pending
    if not database.can_make_scratch():
        raise SchemaError(
            f"{database.config.label}: comparing tables with models needs temporary tables, which "
            "are not allowed here; use a role that may create them"
        )
    custom = models_of(arguments.models) if arguments.models else []
    differences = drift(database, [*MODELS, *custom])
    differences += [f"{each.what}; {each.advice}" for each in database.schema_findings()]
    return int(bool(differences)), differences, differences or ["the tables match the models"]


def models_of(module: str) -> list[type[BaseModel]]:
    """Return the models of custom tables in a module, which may have imported them.

    An imported model that another one of them inherits from is its base, not a table.
    """
    sys.path.insert(0, "")  # an installed command does not search the working folder by itself
    try:
        values = vars(importlib.import_module(module)).values()
    except Exception as error:  # importing a module may raise anything
        cause = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise SchemaError(f"--models {module}: cannot be imported: {cause}") from error
    finally:
        sys.path.remove("")
    classes = [value for value in values if isinstance(value, type)]
    known = (BaseModel, *MODELS)
    models = [model for model in classes if issubclass(model, BaseModel) and model not in known]
    if not models:
        raise SchemaError(
            f"--models {module}: defines no subclass of botmemory.BaseModel; name another"
        )
    bases = {base for model in models for base in model.__mro__[1:]}
    return [model for model in models if model.__module__ == module or model not in bases]


def _create(config: Config, name: str) -> Result:
    if config.migrations is None:
        raise SchemaError("create: name the folder of the custom migrations with --migrations")
    folder = config.migrations
    with translate_errors(folder, "cannot be written"):
        path = Runner(peewee.SqliteDatabase(None), str(folder)).create(name)
    return 0, path, [path]


if __name__ == "__main__":
    sys.exit(main())
