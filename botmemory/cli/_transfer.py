"""The commands that import, export, copy and delete rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import click

from .. import formats
from ..atomic_write import refuse_to_replace
from ..backends.sqlite.errors import translate_errors
from ..config import absolute_path
from ..errors import StorageError
from ..formats import count, counted
from ..interop import ImportResult, OnConflict, freqtrade, hummingbot
from ..interop.files import export_file, import_file
from ..interop.foreign_database import sqlite_file
from ..migration_runner import models_of
from ..models import CashFlow, Signal, State, Trade
from ..upkeep.copy import CopiedTable, copy_database
from ..upkeep.prune import PruneResult, prune
from ._layout_options import layout_options
from ._options import (
    A_FILE,
    PATH,
    DatabaseCommand,
    DatabaseOptions,
    database_command,
    filter_options,
    format_options,
    settings_options,
)
from ._output import Column, fields_of, named_as_options, print_pairs, print_rows, progress

TABLES: dict[str, Any] = {
    "trades": Trade,
    "signals": Signal,
    "cash-flows": CashFlow,
    "state": State,
}
WITH_TIMESTAMP = [name for name, model in TABLES.items() if model is not State]
COPY_COLUMNS = (
    Column("name", "table"),
    Column("rows", "rows", count, right=True),
    Column("copied", "copied now", count, right=True),
    Column("checksum", "checksum of both"),
)
models_option = click.option(
    "--models", metavar="MODULE", help="The dotted name of the module with custom models."
)
table_argument = click.argument(
    "table",
    metavar="TABLE",
    shell_complete=lambda _context, _parameter, text: [t for t in TABLES if t.startswith(text)],
)
SHOWN = 10  # messages of an import, for each kind

conflict_option = click.option(
    "--on-conflict",
    type=click.Choice(get_args(OnConflict)),
    default="report",
    show_default=True,
    help="What to do with a row whose id is recorded with other values.",
)


@database_command("export")
@filter_options("symbol", "strategy", "exchange", "since", "until", "tz")
@click.option("--spreadsheet", is_flag=True, help="Write formulas in CSV as text.")
@models_option
@table_argument
@click.argument("file", type=PATH)
def export_rows(
    options: DatabaseOptions,
    table: str,
    file: Path,
    spreadsheet: bool,
    models: str | None,
    **filters: Any,
) -> None:
    """Write trades, signals, cash flows or the state to a CSV, JSONL or Parquet file.

    TABLE is trades, signals, cash-flows, state or, with --models, the name of a custom table. The
    suffix chooses the format: .csv, .jsonl or .parquet. `import` reads it without any loss.
    """
    model = _model(table, models)
    with options.open(read_only=True), progress("writing") as report:
        written = export_file(model, file, spreadsheet=spreadsheet, progress=report, **filters)
    noun = table.removesuffix("s") if table in TABLES else f"{table} row"
    click.echo(f"{counted(written, noun)} in {file}")


def _model(table: str, models: str | None) -> Any:
    """Return the model of a table by the name that the command line has for it."""
    custom = {} if models is None else {m._meta.table_name: m for m in models_of(models)}
    known = TABLES | custom
    if table not in known:
        hint = "" if models else "; a custom table needs --models MODULE"
        raise click.BadParameter(
            f"{table!r} is not one of {', '.join(map(repr, known))}{hint}", param_hint="'TABLE'"
        )
    return known[table]


@database_command("import")
@layout_options
@conflict_option
@click.option("--keep-going", is_flag=True, help="Skip rejected rows.")
@click.option("--rejects", type=PATH, metavar="FILE", help="Write rejected rows to this file.")
@click.option("--dry-run", is_flag=True, help="Record nothing; show what the first rows become.")
@models_option
@table_argument
@click.argument("file", type=PATH)
def import_rows(
    options: DatabaseOptions,
    table: str,
    file: Path,
    dry_run: bool,
    models: str | None,
    **settings: Any,
) -> None:
    """Record the trades, signals, cash flows or state of a file, each once.

    TABLE is trades, signals, cash-flows, state or, with --models, the name of a custom table, which
    its migrations have made.

    A file of another program or of an exchange is read as --layout or the other options say: which
    column is what, how numbers and times are written. --dry-run shows what becomes of it.

    Import signals before their trades. A row that is rejected stops the import, and nothing is
    recorded; with --keep-going rejected rows are skipped. Exit 1 if rows were rejected, or if
    conflicts with what is recorded were only reported.
    """
    model = _model(table, models)
    _require_readable(absolute_path("path", file))
    config = options.settings()
    is_new = config.backend == "sqlite" and not Path(config.db_path).exists()
    target = {"db_path": ":memory:"} if dry_run and is_new else {}
    with options.open(**target), progress("reading") as report:
        result = import_file(model, file, dry_run=dry_run, progress=report, **settings)
    if dry_run:
        _print_preview(result.preview)
    _print_result(
        result, table, "line {0.index}: {0.reason}", settings["on_conflict"], dry_run=dry_run
    )


def _print_preview(rows: list[dict[str, Any]]) -> None:
    """Print the values of each row that are not empty."""
    for row in rows:
        print_pairs({name: _shown(value) for name, value in row.items() if name != "id"})
        click.echo()


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f} UTC"
    if isinstance(value, float):
        return formats.number(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


notes_option = click.option(
    "--notes",
    type=PATH,
    metavar="FILE",
    help="Write warnings, conflicts and rejected rows as JSONL.",
)


@database_command("import-freqtrade")
@notes_option
@conflict_option
@click.argument("file", type=A_FILE)
def import_freqtrade(
    options: DatabaseOptions, file: str, notes: Path | None, on_conflict: OnConflict
) -> None:
    """Record the filled orders and the funding of a freqtrade database.

    FILE is its SQLite database, from any version; the bot may run. Each order is recorded once.
    Orders that are rejected are printed, and tried again by the next import. Exit 1 if there were
    any, or conflicts with what is recorded.
    """
    database = sqlite_file(file, freqtrade.FROM_SERVER)
    _require_readable(database)
    with _open_notes(notes, database) as write_notes:
        with options.open(), progress("reading") as report:
            result = freqtrade.import_database(database, on_conflict=on_conflict, progress=report)
        write_notes(result)
    _print_result(result, "trades", "{0.reason}", on_conflict)


@database_command("import-hummingbot")
@notes_option
@conflict_option
@click.option("--strategy", metavar="NAME", help="The strategy of all rows [hummingbot's own].")
@click.argument("file", type=A_FILE)
def import_hummingbot(
    options: DatabaseOptions,
    file: str,
    notes: Path | None,
    on_conflict: OnConflict,
    strategy: str | None,
) -> None:
    """Record the fills and the funding payments of a hummingbot database.

    FILE is its SQLite database, from any version; the bot may run. Each fill is recorded once.
    Orders without a fill are left out. Exit 1 if rows were rejected, or in conflict with what is
    recorded.
    """
    database = sqlite_file(file, hummingbot.FROM_SERVER)
    _require_readable(database)
    with _open_notes(notes, database) as write_notes:
        with options.open(), progress("reading") as report:
            result = hummingbot.import_database(
                database, strategy=strategy, on_conflict=on_conflict, progress=report
            )
        write_notes(result)
    _print_result(result, "trades", "{0.reason}", on_conflict)


@click.command("copy", cls=DatabaseCommand)
@settings_options
@models_option
@click.argument("source", type=A_FILE)
@click.argument("target", type=A_FILE)
@format_options
@click.pass_obj
def copy_all(
    options: DatabaseOptions, source: str, target: str, models: str | None, output_format: str
) -> None:
    """Copy a database into another, and verify the copy.

    SOURCE and TARGET are paths or URLs, of SQLite or PostgreSQL. The source is read in one snapshot
    and not changed; the target is created if it is missing. Repeat the command to complete an
    interrupted copy. Ids continue after those of the source.
    """
    custom = [] if models is None else models_of(models)
    with progress("copying") as report:
        tables = copy_database(
            options.settings(db_path=source),
            options.settings(db_path=target),
            models=custom,
            progress=report,
        )
    print_rows(tables, COPY_COLUMNS, output_format, empty="", fields=fields_of(CopiedTable))


@database_command("prune")
@filter_options("before", "tz", "symbol", "strategy", "exchange")
@click.option(
    "--include-linked", is_flag=True, help="Also delete signals of trades; the trades stay."
)
@click.option(
    "--export", "export_to", type=PATH, metavar="FILE", help="Write the rows to a new file first."
)
@click.option("--dry-run", is_flag=True, help="Only count the rows.")
@click.option("--yes", is_flag=True, help="Delete without a question.")
@click.argument("table", type=click.Choice(WITH_TIMESTAMP))
def prune_rows(
    options: DatabaseOptions,
    table: str,
    include_linked: bool,
    dry_run: bool,
    yes: bool,
    **arguments: Any,
) -> None:
    """Delete old trades, signals or cash flows while bots go on.

    Signals with trades stay, and so do the trades of positions that were open at that time. With
    --export only what can be read from the complete file is deleted; `import` records it again.
    Exit 1 if the question is answered with no.
    """
    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("this is no terminal to ask on; pass --yes to delete, or --dry-run")
    arguments |= {"keep_linked": not include_linked}
    until = f"{table} before {arguments['before']:%Y-%m-%d %H:%M:%S} UTC"
    with options.open(read_only=True), progress("reading") as report:  # a missing file is an error
        plan = prune(TABLES[table], **arguments, dry_run=True, progress=report)
    line = f"{until}: {count(plan.deleted)} to delete{_kept(plan)}"
    if dry_run or not plan.deleted:
        click.echo(line)
        return
    if not yes:
        click.echo(line, err=True)
        if not click.confirm("delete them?", err=True):
            click.echo("nothing was deleted", err=True)
            sys.exit(1)
    with options.open(), progress("deleting") as report:
        result = prune(TABLES[table], **arguments, progress=report)
    click.echo(f"{until}: {count(result.deleted)} deleted{_kept(result)}")


def _kept(result: PruneResult) -> str:
    """Return how many old rows stay, and why."""
    reasons = {
        "other rows refer to them": result.kept_linked,
        "open positions follow from them": result.kept_open,
        "they were changed meanwhile": result.kept_changed,
    }
    return "".join(f", {count(rows)} kept: {why}" for why, rows in reasons.items() if rows)


def _require_readable(file: Path) -> None:
    """Raise `StorageError` before an import of a misspelt file creates a database."""
    try:
        file.open("rb").close()
    except OSError as error:
        raise StorageError(f"{file}: cannot be read: {error.strerror}") from error


@contextmanager
def _open_notes(path: Path | None, source: Path) -> Iterator[Callable[[ImportResult], None]]:
    """Yield a function that writes what an import has to say of single rows, if there is a file."""
    if path is None:
        yield lambda result: None
        return
    refuse_to_replace("notes", absolute_path("notes", path), source=source)
    with translate_errors(path, "cannot be written"):
        notes = path.open("w", encoding="utf-8")  # before the import, which may take long

    def write(result: ImportResult) -> None:
        with translate_errors(path, "cannot be written, but the rows are recorded"), notes:
            for kind in ("warnings", "conflicts", "rejected"):
                for issue in getattr(result, kind):
                    values = {"kind": kind, "reason": issue.reason, "row": issue.row}
                    print(json.dumps(values, default=str), file=notes)

    with notes:
        yield write


def _print_result(
    result: ImportResult,
    table: str,
    line: str,
    on_conflict: OnConflict,
    *,
    dry_run: bool = False,
) -> None:
    """Print the result of an import, and exit with 1 if rows of it were not recorded."""
    lines = {table: (result.created, result.skipped)}
    if any(flows := (result.flows_created, result.flows_skipped)):
        lines["cash flows"] = flows
    for rows, (created, skipped) in lines.items():
        done = "to record" if dry_run else "recorded"
        click.echo(f"{rows}: {count(created)} {done}, {count(skipped)} already existed")
    if result.left_out:
        click.echo(f"left out: {count(result.left_out)}")
    for issues, number, title in (
        (result.warnings, len(result.warnings), "warnings"),
        (result.conflicts, result.conflict_count, "conflicts"),
        (result.rejected, result.rejected_count, "rejected"),
    ):
        for issue in issues[:SHOWN]:
            click.echo(named_as_options(line.format(issue)), err=True)
        if issues:
            click.echo(f"{title}: {count(number)}", err=True)
    is_incomplete = result.rejected or (result.conflicts and on_conflict == "report")
    sys.exit(int(bool(is_incomplete)))


TRANSFER_COMMANDS = (
    export_rows,
    import_rows,
    import_freqtrade,
    import_hummingbot,
    copy_all,
    prune_rows,
)
