"""The `botmemory` command and what it does to a database as a whole."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, cast

import click
import peewee

from .. import migration_runner
from .._version import __version__
from ..backends.base import Backend
from ..database import open_temporarily
from ..fields import UtcDateTimeField
from ..models import Signal, Trade
from ..report import write_report
from ..schema.versions import status as schema_status
from ..upkeep.backup import backup
from ..upkeep.check import check
from ._analysis import ANALYSIS_COMMANDS, print_pairs
from ._listing import LIST_COMMANDS
from ._options import (
    DatabaseOptions,
    answer,
    database_options,
    filter_options,
    form_options,
    reading,
)
from ._output import plain, progress, show
from ._transfer import TRANSFER_COMMANDS

__all__ = ["cli"]

EPILOG = """\b
Exit codes: 0 done, 1 something is pending (status), wrong (check) or
refused (import), 2 an error. Nothing but data goes to the standard output.
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
@database_options
@click.pass_context
def cli(context: click.Context) -> None:
    """Look at the database of a trading bot, copy it, check it, migrate it.

    What only reads opens the database read-only: a running bot is not disturbed, and a file that is
    not there is an error.
    """
    context.ensure_object(DatabaseOptions)


for command in (*LIST_COMMANDS, *ANALYSIS_COMMANDS, *TRANSFER_COMMANDS):
    cli.add_command(command)


@cli.command("status")
@database_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
@answer
def show_status(options: DatabaseOptions, as_json: bool) -> None:
    """Show where the database is, and what it holds.

    Exit 1 when migrations are pending.
    """
    with open_temporarily(options.settings(read_only=True)) as database:  # of any version
        steps = schema_status(database)
        pending = [step.name for step in steps if not step.applied]
        applied = [step for step in steps if step.applied]
        said: dict[str, Any] = {
            "database": database.config.label,
            "backend": database.config.backend,
            "size": database.size(),
            "botmemory": __version__,
            "schema": applied[-1].name if applied else None,
            "pending": pending,
        }
        for model in (Trade, Signal):
            said |= _counted(database, model) if applied else {}
    if as_json:
        click.echo(json.dumps(plain(said), indent=2))
    else:
        said["size"] = f"{said['size'] / 1e6:,.1f} MB"
        said["pending"] = ", ".join(pending) or "nothing"
        print_pairs({name: _said(value) for name, value in said.items()})
    sys.exit(int(bool(pending)))


def _counted(database: Backend, model: type[peewee.Model]) -> dict[str, Any]:
    name: str = model._meta.table_name
    # the model may have columns that an older table has not
    table: Any = peewee.Table(name).bind(cast("peewee.Database", database))
    counted = peewee.fn.COUNT(peewee.SQL("*")), peewee.fn.MAX(table.c.timestamp)
    [(count, last)] = table.select(*counted).tuples()
    timestamp = UtcDateTimeField().python_value(last)
    return {f"{name}s": count, f"last_{name}": timestamp}


def _said(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return (
        "none"
        if value is None
        else f"{value:%Y-%m-%d %H:%M:%S} UTC"
        if hasattr(value, "tzinfo")
        else str(value)
    )


@cli.command(
    "migrate",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
@answer
def migrate(options: DatabaseOptions, arguments: tuple[str, ...]) -> None:
    """Run the migration runner: up, down, status, plan, ...

    `botmemory migrate --help` shows what it takes.
    """
    named: list[str] = []
    for option in ("db", "config", "migrations"):
        if (value := getattr(options, option)) is not None:
            named += [f"--{option}", value]
    sys.exit(migration_runner.main([*named, *arguments]))


@cli.command("backup")
@database_options
@click.argument("destination", type=click.Path(path_type=Path))
@click.pass_obj
@answer
def make_backup(options: DatabaseOptions, destination: Path) -> None:
    """Copy the database to a file while bots go on writing."""
    with reading(options), progress("copying") as report:
        path = backup(destination, progress=report)
    click.echo(path)


@cli.command("report")
@database_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE",
)
@filter_options("symbol", "strategy", "time")
@click.pass_obj
@answer
def make_report(options: DatabaseOptions, out: Path, **filters: Any) -> None:
    """Write a report with charts, as one HTML file.

    It needs no other file and no network. Prints where it is.
    """
    with reading(options), progress("drawing") as report:
        path = write_report(out, **filters, progress=report)
    click.echo(path)


@cli.command("check")
@database_options
@click.option("--full", is_flag=True, help="Also every index and every row.")
@form_options
@click.pass_obj
@answer
def check_database(options: DatabaseOptions, full: bool, form: str) -> None:
    """Look for damage, drift and broken rows.

    Says what to do about each finding. Exit 1 for an error.
    """
    with reading(options):
        found = check(full=full)
    if form == "table":
        for one in found:
            click.echo(f"{one.severity}: {one.what}\n  {one.advice}")
        if not found:
            click.echo("nothing is wrong", err=True)
    else:
        show([dataclasses.asdict(one) for one in found], (), form, nothing="")
    sys.exit(int(any(one.severity == "error" for one in found)))
