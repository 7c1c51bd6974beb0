"""The `botmemory` command, and the commands for a whole database."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import click
import peewee

from .. import migration_runner
from .._version import __version__
from ..backends.base import Backend
from ..backends.finding import Finding
from ..database import open_temporarily
from ..fields import UtcDateTimeField
from ..formats import count
from ..models import CashFlow, Signal, State, Trade
from ..report import write_report
from ..schema.versions import status as schema_status
from ..upkeep.backup import backup
from ..upkeep.check import check
from ._analysis import ANALYSIS_COMMANDS
from ._listing import LIST_COMMANDS
from ._options import (
    PATH,
    DatabaseOptions,
    capital_of_report,
    database_command,
    database_options,
    filter_options,
    format_options,
    json_option,
)
from ._output import fields_of, print_json, print_pairs, print_rows, progress
from ._query import run_query
from ._serve import serve
from ._transfer import TRANSFER_COMMANDS
from ._watch import watch

EPILOG = """\b
Exit codes: 0 done; 1 migrations are pending (status), an error was found
(check), rows were rejected (import) or the answer was no (prune); 2 an error.
Only data goes to stdout.
"""


@database_command("status")
@json_option
def show_status(options: DatabaseOptions, as_json: bool) -> None:
    """Show where the database is, its size and its rows.

    Exit 1 if migrations are pending.
    """
    with open_temporarily(options.settings(read_only=True)) as database:  # with any schema
        steps = schema_status(database)
        pending = [step.name for step in steps if not step.applied]
        applied = [step for step in steps if step.applied]
        values: dict[str, Any] = {
            "database": database.config.label,
            "backend": database.config.backend,
            "size": database.size(),
            "botmemory": __version__,
            "schema": applied[-1].name if applied else None,
            "pending": pending,
        }
        tables = database.get_tables() if applied else []
        for model in (Trade, Signal, CashFlow, State):
            values |= _count_rows(database, model) if model._meta.table_name in tables else {}
    if as_json:
        print_json(values)
    else:
        values["size"] = f"{values['size'] / 1e6:,.1f} MB"
        values["pending"] = ", ".join(pending) or "nothing"
        print_pairs({name: _format(value) for name, value in values.items()})
    sys.exit(int(bool(pending)))


def _count_rows(database: Backend, model: type[peewee.Model]) -> dict[str, Any]:
    name: str = model._meta.table_name
    # not by the model, which may have columns that an older table lacks
    table: Any = peewee.Table(name).bind(cast("peewee.Database", database))
    time = table.c.updated_at if model is State else table.c.timestamp
    [(rows, last)] = table.select(peewee.fn.COUNT(peewee.SQL("*")), peewee.fn.MAX(time)).tuples()
    timestamp = UtcDateTimeField().python_value(last)
    return {name if model is State else f"{name}s": rows, f"last_{name}": timestamp}


def _format(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, int):
        return count(value)
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else str(value)


@click.command("migrate", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def migrate(options: DatabaseOptions, arguments: tuple[str, ...]) -> None:
    """Run the migration runner: up, down, status, plan, ...

    `botmemory migrate --help` shows its commands and options.
    """
    argv = [f"--{name}={value}" for name, value in vars(options).items() if value is not None]
    sys.exit(migration_runner.main([*argv, *arguments]))


@database_command("backup")
@click.argument("destination", type=PATH)
def make_backup(options: DatabaseOptions, destination: Path) -> None:
    """Copy the database to a file while bots write."""
    with options.open(read_only=True), progress("copying") as report:
        path = backup(destination, progress=report)
    click.echo(path)


@database_command("report")
@click.option("--out", type=PATH, default="report.html", show_default=True, metavar="FILE")
@filter_options(
    "symbol", "strategy", "exchange", "since", "until", "quote", "source", "rates", "capital"
)
def make_report(
    options: DatabaseOptions, out: Path, capital: dict[str, float | None], **filters: Any
) -> None:
    """Write a report with charts as one HTML file.

    It needs no other file and no network. Prints its path.
    """
    with options.open(read_only=True), progress("reading") as report:
        path = write_report(out, **filters, capital=capital_of_report(capital), progress=report)
    click.echo(path)


@database_command("check")
@click.option("--full", is_flag=True, help="Also check every index and every row.")
@format_options
def check_database(options: DatabaseOptions, full: bool, output_format: str) -> None:
    """Check the file, the schema and the rows.

    Prints what to do about each finding. Exit 1 for an error.
    """
    with options.open(read_only=True):
        findings = check(full=full)
    if output_format != "table" or not findings:
        fields = fields_of(Finding)
        print_rows(findings, (), output_format, empty="no findings", fields=fields)
    else:
        for finding in findings:
            click.echo(f"{finding.severity}: {finding.what}\n  {finding.advice}")
    sys.exit(int(any(finding.severity == "error" for finding in findings)))


DATABASE_COMMANDS = (
    show_status,
    migrate,
    make_backup,
    make_report,
    check_database,
    watch,
    serve,
    run_query,
)


@click.group(
    commands=[*LIST_COMMANDS, *ANALYSIS_COMMANDS, *TRANSFER_COMMANDS, *DATABASE_COMMANDS],
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(version)s")
@database_options
@click.pass_context
def cli(context: click.Context) -> None:
    """Query, check, copy and migrate the database of a trading bot.

    Commands that only read open the database read-only: they do not disturb a running bot, and a
    missing file is an error.
    """
    context.ensure_object(DatabaseOptions)
