"""What the commands print: tables for people, JSON and CSV for machines, on stdout alone."""

from __future__ import annotations

import csv
import dataclasses
import enum
import json
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

__all__ = [
    "Column",
    "amount",
    "duration",
    "number",
    "percent",
    "plain",
    "progress",
    "show",
    "timestamp",
]

PIPED = 1_000_000  # columns: what is read by a program is not cut
GAP = 2  # between columns
NARROWEST = 4  # of a column that may be cut


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: which field it shows, under which title, and in which words."""

    field: str
    title: str
    words: Callable[[Any], str] = str
    right: bool = False
    may_be_cut: bool = False


def show(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], form: str, *, nothing: str
) -> None:
    """Print rows as a table of some columns, or whole as JSON or CSV."""
    if form == "json":
        print(json.dumps([plain(row) for row in rows], indent=2))
    elif form == "csv":
        _write_csv(rows)
    elif rows:
        _print_table(rows, [column for column in columns if _is_used(column, rows)])
    else:
        print(nothing, file=sys.stderr)


def _is_used(column: Column, rows: Iterable[Mapping[str, Any]]) -> bool:
    return not column.may_be_cut or any(row[column.field] is not None for row in rows)


def _print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    printed = console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    widths = [max(len(c.title), *(len(_cell(c, row[c.field])) for row in rows)) for c in columns]
    cut = [number for number, column in enumerate(columns) if column.may_be_cut]
    room = printed.width - GAP * (len(columns) - 1)
    for left, number in zip(range(len(cut), 0, -1), cut, strict=True):
        others = sum(width for place, width in enumerate(widths) if place not in cut[-left:])
        widths[number] = min(widths[number], max(NARROWEST, (room - others) // left))
    for column, width in zip(columns, widths, strict=True):
        # what is not cut is folded where the terminal is too narrow
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            width=width if column.may_be_cut else None,
            no_wrap=column.may_be_cut,
            overflow="ellipsis" if column.may_be_cut else "fold",
        )
    for row in rows:
        table.add_row(*(_cell(column, row[column.field]) for column in columns))
    printed.print(table)


def _cell(column: Column, value: Any) -> Text:
    # a Text, because a string would be searched for markup: a symbol may be called "[red]"
    return Text("" if value is None else column.words(value))


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPED, highlight=False)


def _write_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        values = [plain(value) for value in row.values()]
        writer.writerow(json.dumps(one) if isinstance(one, (dict, list)) else one for one in values)


def plain(value: Any) -> Any:
    """Return what JSON can hold of a value: timestamps in ISO 8601, durations in seconds."""
    if isinstance(value, Mapping):
        return {"" if key is None else str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, uuid.UUID):
        return str(value)
    return value.value if isinstance(value, enum.Enum) else value


def timestamp(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M}"


def number(value: float) -> str:
    """Return a price or a quantity with the digits it has, up to ten."""
    return f"{value:,.10g}"


def amount(value: float) -> str:
    """Return an amount of money."""
    return f"{value:,.2f}"


def duration(value: timedelta) -> str:
    """Return how long something took: in days where it is days."""
    return f"{value.days:,} days" if abs(value) >= timedelta(days=2) else str(value)


def percent(value: float) -> str:
    return f"{value:.1%}"


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how much of how much is done, and shows it where somebody looks."""
    seen = sys.stderr.isatty() and sys.stdout.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not seen) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
