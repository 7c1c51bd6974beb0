"""The commands that bring a history in and take it elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..interop._result import ImportResult
from ..interop.files import export_file, import_file
from ..interop.freqtrade import import_database
from ..models import Signal, Trade
from ._options import Memory, answer, memory_options, narrowing, reading, writing
from ._output import progress

__all__ = ["MOVING"]

TABLES: dict[str, Any] = {"trades": Trade, "signals": Signal}
SHOWN = 10  # of the rows that an import refuses, and of those that need a look


@click.command("export")
@memory_options
@narrowing("symbol", "strategy", "time")
@click.option("--spreadsheet", is_flag=True, help="CSV for a person: formulas become text.")
@click.argument("table", type=click.Choice(list(TABLES)))
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
@answer
def export_rows(memory: Memory, table: str, file: Path, spreadsheet: bool, **narrowed: Any) -> None:
    """Write trades or signals to a .csv, .jsonl or .parquet file.

    The other command, `import`, takes them in again to the last bit.
    """
    with reading(memory), progress("writing") as report:
        count = export_file(
            TABLES[table], file, spreadsheet=spreadsheet, progress=report, **narrowed
        )
    click.echo(f"{count:,} {table} in {file}")


@click.command("import")
@memory_options
@click.option("--keep-going", is_flag=True, help="Leave out rows that are refused.")
@click.option(
    "--rejects", type=click.Path(path_type=Path), metavar="FILE", help="Where they are written."
)
@click.argument("table", type=click.Choice(list(TABLES)))
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
@answer
def import_rows(
    memory: Memory, table: str, file: Path, keep_going: bool, rejects: Path | None
) -> None:
    """Record the trades or signals of a file, each once.

    Import signals before the trades they led to. The first row that is refused stops it, and
    nothing is recorded; with --keep-going such rows are left out. Exit 1 if some were.
    """
    with writing(memory), progress("reading") as report:
        found = import_file(
            TABLES[table], file, keep_going=keep_going, rejects=rejects, progress=report
        )
    _tell(found, table, "line {0.index}: {0.reason}")


@click.command("import-freqtrade")
@memory_options
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
@answer
def import_freqtrade(memory: Memory, file: Path) -> None:
    """Record the filled orders of a freqtrade database, each once.

    FILE is its SQLite database of any age; its bot may go on. What cannot be recorded is named, and
    left for the next time. Exit 1 if there was any.
    """
    with writing(memory), progress("reading") as report:
        found = import_database(file, progress=report)
    _tell(found, "trades", "{0.reason}")


def _tell(found: ImportResult, what: str, line: str) -> None:
    """Say what became of an import, and exit with 1 if something was refused."""
    click.echo(f"{what}: {found.created:,} recorded, {found.skipped:,} there already")
    for notes, count, title in (
        (found.remarks, len(found.remarks), "to look at"),
        (found.rejected, found.refused, "refused"),
    ):
        for one in notes[:SHOWN]:
            click.echo(line.format(one), err=True)
        if notes:
            click.echo(f"{title}: {count:,}", err=True)
    sys.exit(int(bool(found.rejected)))


MOVING = (export_rows, import_rows, import_freqtrade)
