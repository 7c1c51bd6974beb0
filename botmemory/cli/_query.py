"""The command `query`: the result of one SELECT."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any

import click

from ..database import db
from ..formats import counted
from ._options import DatabaseOptions, database_command, format_options
from ._output import Column, ending, output_console, print_pairs, table_lines

ROWS_IN_TABLE = 1000  # unless --limit says otherwise
Row = Sequence[Any]


@database_command("query")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"The largest number of rows.  [default: {ROWS_IN_TABLE} of a table, else all]",
)
@format_options
@click.argument("sql")
def run_query(options: DatabaseOptions, output_format: str, limit: int | None, sql: str) -> None:
    """Print the result of one SELECT.

    SQL is that of the database; - reads it from the standard input. What would write is refused.
    """
    text = sys.stdin.read() if sql == "-" else sql
    with options.open(read_only=True), db.read_sql(text) as (columns, rows):
        names = _different(columns)
        if output_format == "json":
            _print_json(names, islice(rows, limit))
        elif output_format == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(map(_to_csv, islice(rows, limit)))
        else:
            _print_table(names, rows, ROWS_IN_TABLE if limit is None else limit)


def _different(columns: Iterable[str]) -> list[str]:
    """Return the names of columns; the second `id` is `id_2`, so that JSON has both."""
    names: list[str] = []
    for column in columns:
        name, number = column, 1
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    return names


# --- JSON and CSV, row by row -------------------------------------------------------------------


def _print_json(names: Sequence[str], rows: Iterable[Row]) -> None:
    separator = "["
    for row in rows:
        values = {name: _plain(value) for name, value in zip(names, row, strict=True)}
        print(f"{separator}\n  {json.dumps(values, allow_nan=False)}", end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")


def _to_csv(row: Row) -> Iterator[Any]:
    for value in map(_plain, row):
        is_nested = isinstance(value, (bool, dict, list))
        yield json.dumps(value) if is_nested else value


def _plain(value: Any) -> Any:
    """Return a value that JSON has: times in ISO 8601, durations in seconds, bytes as hex."""
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        number = float(value)
        is_exact = math.isfinite(number) and Decimal(repr(number)) == value
        return number if is_exact else str(value)
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


# --- a table ------------------------------------------------------------------------------------


def _print_table(names: Sequence[str], rows: Iterator[Row], limit: int) -> None:
    """Print rows as a table, or each as a block of lines where a table is too wide."""
    shown = [dict(zip(names, row, strict=True)) for row in islice(rows, limit)]
    has_more = next(rows, None) is not None
    terminal = output_console()
    if shown:
        columns = [_column(name, [row[name] for row in shown]) for name in names]
        lines = table_lines(shown, columns, terminal.width)
        if lines[1].cell_len <= terminal.width:
            for line in lines:
                terminal.print(line, soft_wrap=True)
        else:
            for index, row in enumerate(shown):
                if index:
                    click.echo()
                print_pairs({_text(name): _text(value) for name, value in row.items()}, as_is=True)
    elif not has_more:
        click.echo("no rows", err=True)
    if has_more:
        click.echo(f"more than {counted(limit, 'row')}; pass --limit, --json or --csv", err=True)


def _column(name: str, values: Sequence[Any]) -> Column:
    is_number = all(isinstance(value, (int, float, Decimal, type(None))) for value in values)
    return Column(
        name,
        _text(name),
        _text,
        right=is_number,
        shorten=None if is_number else ending,
        null="NULL",
    )


def _text(value: Any) -> str:
    """Return a value as it is, but in one line."""
    if value is None:
        return "NULL"
    plain = _plain(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
