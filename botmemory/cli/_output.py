"""Print results on stdout as a table, JSON or CSV."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shlex
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from ..formats import amount, places

PIPED_WIDTH = 1_000_000  # a pipe gets every line whole
GAP = 2  # between columns
MIN_WIDTH = 8  # of a column that is shortened
ALWAYS = 9  # the importance of a column that is never left out


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a printed table; all of its `amounts` get the same decimal places."""

    field: str
    title: str
    formatter: Callable[[Any], str] = str
    amounts: bool = False
    right: bool = False
    optional: bool = False  # omitted if empty, and the first to be shortened
    importance: int = ALWAYS  # a lower one is left out where the terminal is too narrow

    @property
    def is_text(self) -> bool:
        """Whether its values may be shortened."""
        return self.formatter is str and not self.amounts and not self.right


def print_rows(
    results: Iterable[Any], columns: Iterable[Column], output_format: str, *, empty: str
) -> None:
    """Print mappings or dataclasses: the given columns as a table, all fields as JSON or CSV."""
    rows = [row if isinstance(row, Mapping) else dataclasses.asdict(row) for row in results]
    if output_format == "json":
        print_json(rows)
    elif output_format == "csv":
        _write_csv(rows)
    elif rows:
        _print_table(rows, columns)
    else:
        print(empty, file=sys.stderr)


def named_as_options(message: str) -> str:
    """Return a message with the options of the command line in place of arguments."""
    message = re.sub(r"rates=\{'([^']+)': its price in [^}]*\}", r"--rate \1=PRICE", message)
    message = re.sub(r"map=\{([^}]*)\}", _map_options, message)
    message = re.sub(
        r"values=\{'(\w+)': \{(['\"])(.*?)\2: '(\w+)'\}\}",
        lambda found: f"--values {shlex.quote(f'{found[1]}:{found[3]}={found[4]}')}",
        message,
    )
    names = (
        "date_format decimal encoding layout on_conflict others quote skip_footer source thousands"
    )
    named = rf"\b({'|'.join(names.split())})="
    message = re.sub(named, lambda found: f"--{found[1].replace('_', '-')} ", message)
    without_quotes = re.sub(
        r"--[a-z-]+ '[\w-]+'(?:(?:, | or )'[\w-]+')*",
        lambda found: found[0].replace("'", ""),
        message,
    )
    return without_quotes.replace(" ,", ",")


def _map_options(found: re.Match[str]) -> str:
    pairs = re.findall(r"(['\"])(.*?)\1: '(.*?)'", found[1])
    return " ".join(f"--map {shlex.quote(f'{column}={name}')}" for _, column, name in pairs)


def print_json(value: Any) -> None:
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print a line for each name with a value that is not None."""
    pairs = {name: value for name, value in pairs.items() if value is not None}
    width = max(map(len, pairs))
    terminal = _console()
    for name, value in pairs.items():
        terminal.print(Text(f"{name.replace('_', ' '):<{width}}  {value}"), soft_wrap=True)


def _print_table(rows: Sequence[Mapping[str, Any]], all_columns: Iterable[Column]) -> None:
    """Print a table whose numbers are whole.

    Where the terminal is too narrow, optional text is shortened first, then other text, then the
    columns of the lowest importance are left out.
    """
    terminal = _console()
    columns = [
        column
        for column in all_columns
        if not column.optional or any(row[column.field] is not None for row in rows)
    ]
    columns = [_with_places(column, rows) if column.amounts else column for column in columns]
    widths = _widths(columns, rows, terminal.width)
    while sum(widths) + GAP * (len(widths) - 1) > terminal.width:
        least = min(columns, key=lambda column: column.importance)
        if least.importance == ALWAYS:
            break
        columns.remove(least)
        widths = _widths(columns, rows, terminal.width)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            width=width,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*(_cell(column, row[column.field]) for column in columns))
    # longer lines than the terminal's rather than broken numbers
    _console(max(terminal.width, sum(widths) + GAP * len(widths))).print(table)


def _widths(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], available: int
) -> list[int]:
    """Return the widths of columns, of which those with text are narrower if they must."""
    widths = [max(len(c.title), *(len(_cell(c, row[c.field])) for row in rows)) for c in columns]
    optional = [index for index, column in enumerate(columns) if column.optional]
    texts = [index for index, c in enumerate(columns) if c.is_text and not c.optional]
    for shrinking in (optional, texts):
        while shrinking and sum(widths) + GAP * (len(widths) - 1) > available:
            widest = max(shrinking, key=lambda index: widths[index])
            if widths[widest] <= MIN_WIDTH:
                break
            widths[widest] -= 1
    return widths


def _with_places(column: Column, rows: Sequence[Mapping[str, Any]]) -> Column:
    decimals = places(row[column.field] for row in rows)
    return dataclasses.replace(column, formatter=partial(amount, decimals=decimals))


def _cell(column: Column, value: Any) -> Text:
    # a Text, because rich would take a symbol such as "[red]" for markup in a string
    return Text("" if value is None else column.formatter(value))


def _console(width: int | None = None) -> Console:
    """Return a console of some width, of the terminal's, or for a pipe."""
    return Console(width=width if width or sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def _write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer.writerow(names)
    for row in rows:
        values = [_plain(row.get(name)) for name in names]
        writer.writerow(json.dumps(v) if isinstance(v, (bool, dict, list)) else v for v in values)


def _plain(value: Any) -> Any:
    """Convert a value to one that JSON has: timestamps in ISO 8601, durations in seconds."""
    if isinstance(value, Mapping):
        return {"" if key is None else str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, uuid.UUID) else value


def timestamp(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M}"


def duration(value: timedelta) -> str:
    """Format a duration in seconds, from two days on in days."""
    if abs(value) >= timedelta(days=2):
        return f"{value.days:,} days"
    return str(timedelta(seconds=round(value.total_seconds())))


def percent(value: float) -> str:
    return f"{value:,.1%}" if abs(value) < 1e6 else f"{100 * value:.3g}%"


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback that shows progress on a terminal; it takes what is done and the total."""
    interactive = sys.stderr.isatty() and sys.stdout.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=not interactive
    ) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
