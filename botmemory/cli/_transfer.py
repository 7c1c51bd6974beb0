"""The commands that bring a history in and take it elsewhere."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any, TextIO

import click

from ..errors import ConfigError, StorageError
from ..interop._result import ImportResult
from ..interop.files import export_file, import_file
from ..interop.freqtrade import import_database
from ..models import BaseModel, Signal, Trade
from ..upkeep.copy import copy_database
from ._options import (
    DatabaseOptions,
    answer,
    database_options,
    filter_options,
    form_options,
    reading,
    settings_options,
    writing,
)
from ._output import Column, progress, show

__all__ = ["TRANSFER_COMMANDS"]

TABLES: dict[str, Any] = {"trades": Trade, "signals": Signal}
COPIED = (
    Column("name", "table"),
    Column("rows", "rows", "{:,}".format, right=True),
    Column("copied", "copied now", "{:,}".format, right=True),
    Column("checksum", "checksum of both"),
)
SHOWN = 10  # of the rows that an import refuses, and of those that need a look


@click.command("export")
@database_options
@filter_options("symbol", "strategy", "time")
@click.option("--spreadsheet", is_flag=True, help="CSV for a person: formulas become text.")
@click.argument("table", type=click.Choice(list(TABLES)))
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
@answer
def export_rows(
    options: DatabaseOptions, table: str, file: Path, spreadsheet: bool, **filters: Any
) -> None:
    """Write trades or signals to a CSV, JSONL or Parquet file.

    Its suffix says which: .csv, .jsonl or .parquet. `import` takes it in again to the last bit.
    """
    with reading(options), progress("writing") as report:
        count = export_file(
            TABLES[table], file, spreadsheet=spreadsheet, progress=report, **filters
        )
    click.echo(f"{count:,} {table} in {file}")


@click.command("import")
@database_options
@click.option("--keep-going", is_flag=True, help="Leave out rows that are refused.")
@click.option(
    "--rejects", type=click.Path(path_type=Path), metavar="FILE", help="Where they are written."
)
@click.argument("table", type=click.Choice(list(TABLES)))
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
@answer
def import_rows(
    options: DatabaseOptions, table: str, file: Path, keep_going: bool, rejects: Path | None
) -> None:
    """Record the trades or signals of a file, each once.

    Import signals before the trades they led to. The first row that is refused stops it, and
    nothing is recorded; with --keep-going such rows are left out. Exit 1 if some were.
    """
    _require_readable(file)
    with writing(options), progress("reading") as report:
        found = import_file(
            TABLES[table], file, keep_going=keep_going, rejects=rejects, progress=report
        )
    _tell(found, table, "line {0.index}: {0.reason}")


@click.command("import-freqtrade")
@database_options
@click.option(
    "--notes", type=click.File("w", lazy=False), metavar="FILE", help="All that is said, as JSONL."
)
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
@answer
def import_freqtrade(options: DatabaseOptions, file: Path, notes: TextIO | None) -> None:
    """Record the filled orders of a freqtrade database.

    FILE is its SQLite database of any age; its bot may go on. Each order is recorded once. What
    cannot be recorded is named, and left for the next time. Exit 1 if there was any.
    """
    _require_readable(file)
    with writing(options), progress("reading") as report:
        found = import_database(file, progress=report)
    for kind in ("warnings", "rejected") if notes is not None else ():
        for one in getattr(found, kind):
            row_issue = {"kind": kind, "reason": one.reason, "row": one.row}
            print(json.dumps(row_issue, default=str), file=notes)
    _tell(found, "trades", "{0.reason}")


@click.command("copy")
@settings_options
@click.option("--models", metavar="MODULE", help="Where the models of custom tables are, dotted.")
@click.argument("source")
@click.argument("target")
@form_options
@click.pass_obj
@answer
def copy_all(
    options: DatabaseOptions, source: str, target: str, models: str | None, form: str
) -> None:
    """Copy a whole database into another, and verify that they are equal.

    SOURCE and TARGET are paths or URLs, of SQLite or PostgreSQL. The source is only read, as it is
    at one time; the target is made where it is not there yet. What was interrupted goes on when
    it is called again. Ids count on from where the source stopped.
    """
    own = [] if models is None else _models_of(models)
    with progress("copying") as report:
        tables = copy_database(
            options.settings(db_path=source),
            options.settings(db_path=target),
            models=own,
            progress=report,
        )
    show([dataclasses.asdict(one) for one in tables], COPIED, form, nothing="")


def _models_of(name: str) -> list[type[BaseModel]]:
    """Return the models of custom tables that a module has."""
    sys.path.insert(0, "")  # the working folder, where a command that was installed does not look
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"--models {name}: cannot be imported: {error}") from error
    return [
        one
        for one in vars(module).values()
        if isinstance(one, type)
        and issubclass(one, BaseModel)
        and one not in (BaseModel, Signal, Trade)
    ]


def _require_readable(file: Path) -> None:
    """Refuse a misspelt file before a database is made for what it does not hold."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise StorageError(f"{file}: cannot be read: {error.strerror}") from error


def _tell(found: ImportResult, what: str, line: str) -> None:
    """Say what became of an import, and exit with 1 if something was refused."""
    click.echo(f"{what}: {found.created:,} recorded, {found.skipped:,} there already")
    for notes, count, title in (
        (found.warnings, len(found.warnings), "to look at"),
        (found.rejected, found.rejected_count, "refused"),
    ):
        for one in notes[:SHOWN]:
            click.echo(line.format(one), err=True)
        if notes:
            click.echo(f"{title}: {count:,}", err=True)
    sys.exit(int(bool(found.rejected)))


TRANSFER_COMMANDS = (export_rows, import_rows, import_freqtrade, copy_all)
