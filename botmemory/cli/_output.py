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
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from ..formats import amount, number, places

PIPED_WIDTH = 1_000_000  # a pipe gets every line whole
GAP = 2  # between columns
MIN_WIDTH = 8  # of a column that is shortened
READABLE = 13  # of a name that is shortened before a column is left out
SHORT_ID = 8  # digits of an id
ALWAYS = 9  # the importance of a column that is never left out

Formatter = Callable[[Any], str]
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a printed table.

    Attributes:
        field: The field of a row that it shows.
        title: What is above it.
        formatter: Returns the text of a value.
        amounts: Whether its values are amounts of money, which get the same decimal places, and
            colours by their sign.
        currency: Returns the currency of the amount in a row, if rows differ in it: those of one
            currency get the same decimal places, and all are aligned at the point.
        right: Whether it is aligned at the right.
        optional: Whether it is left out if it is empty, and among the first to be shortened.
        shorten: Returns a text in fewer characters; None if it is never shortened.
        short: Returns, from all of its values, another formatter for a terminal that is too narrow.
        null: The text of None.
        importance: Columns of a lower one are left out first where the terminal is too narrow.
    """

    field: str
    title: str
    formatter: Formatter = str
    amounts: bool = False
    currency: Callable[[Row], str | None] | None = None
    right: bool = False
    optional: bool = False
    shorten: Callable[[str, int], str] | None = None
    short: Callable[[Sequence[Any]], Formatter] | None = None
    null: str = ""
    importance: int = ALWAYS


def middle(text: str, width: int) -> str:
    """Shorten a name to a width: its beginning and its end, by which names differ."""
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    end = text
    while cell_len(end) > tail:
        end = end[1:]
    return f"{set_cell_size(text, width - 1 - tail).rstrip()}…{end}"


def ending(text: str, width: int) -> str:
    """Shorten a text to a width: its beginning."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"


def print_rows(
    results: Iterable[Any],
    columns: Iterable[Column],
    output_format: str,
    *,
    empty: str,
    fields: Iterable[str] = (),
    totals: Sequence[Row] = (),
) -> None:
    """Print mappings or dataclasses: the given columns as a table, all fields as JSON or CSV.

    Args:
        results: The rows.
        columns: The columns of the table.
        output_format: table, json or csv.
        empty: What to print on stderr instead of an empty table.
        fields: The fields of a row, which are the header of an empty CSV.
        totals: The last rows of the table, which are not in JSON and CSV.
    """
    rows = [row if isinstance(row, Mapping) else dataclasses.asdict(row) for row in results]
    if output_format == "json":
        print_json(rows)
    elif output_format == "csv":
        _write_csv(rows, fields)
    elif rows:
        _print_table(rows, columns, totals)
    else:
        print(empty, file=sys.stderr)


def fields_of(result: type[Any]) -> list[str]:
    """Return the names of the fields of a dataclass."""
    return [field.name for field in dataclasses.fields(result)]


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


def print_pairs(pairs: Mapping[str, Any], *, as_is: bool = False) -> None:
    """Print a line for each name with a value that is not None.

    `_` in a name is a space, unless `as_is`.
    """
    pairs = {name: value for name, value in pairs.items() if value is not None}
    width = max(map(len, pairs))
    terminal = output_console()
    for name, value in pairs.items():
        text = value if isinstance(value, Text) else Text(str(value))
        label = f"{name if as_is else name.replace('_', ' '):<{width}}  "
        terminal.print(Text.assemble(label, text), soft_wrap=True)


def gain_or_loss(text: str, value: float | None) -> Text:
    """Return a text in green for a gain, in red for a loss."""
    return Text(text, style="green" if value and value > 0 else "red" if value else "")


@dataclasses.dataclass
class _Cells:
    """The texts of a column, and how wide it is."""

    column: Column
    texts: list[str]
    width: int

    @classmethod
    def of(cls, column: Column, rows: Sequence[Row], *, is_short: bool = False) -> _Cells:
        values = [row.get(column.field) for row in rows]
        if column.amounts:
            texts = _amounts(column, rows)
        else:
            formatter = column.formatter
            if is_short and column.short:
                formatter = column.short([value for value in values if value is not None])
            texts = [column.null if value is None else formatter(value) for value in values]
        return cls(column, texts, max(map(cell_len, (column.title, *texts))))

    def shorten_to(self, width: int) -> None:
        if self.column.shorten is not None:
            self.texts = [self.column.shorten(text, width) for text in self.texts]
            self.width = max(width, cell_len(self.column.title))

    def least_width(self) -> int:
        """Return the width to which it may be shortened; different names stay different."""
        if self.column.shorten is None:
            return self.width
        least = max(MIN_WIDTH, cell_len(self.column.title))
        names = {*self.texts}
        if self.column.shorten is middle:
            while least < self.width and len({middle(name, least) for name in names}) < len(names):
                least += 1
        return min(least, self.width)


def table_lines(
    rows: Sequence[Row], all_columns: Iterable[Column], available: int, totals: Sequence[Row] = ()
) -> list[Text]:
    """Return the lines of a table; they are wider than `available` only if nothing can be left out.

    Where that is too narrow, values with a short form get it, then names are shortened, then the
    columns of the lowest importance are left out. Numbers are whole.
    """
    every = [*rows, *totals]
    columns = [
        column
        for column in all_columns
        if not column.optional or any(row.get(column.field) is not None for row in rows)
    ]
    cells = _fit(columns, every, available)
    head = [_aligned(each.column, each.column.title, each.width) for each in cells]
    lines = [Text(_joined(head), style="bold"), Text("─" * _total(cells))]
    for index, row in enumerate(every):
        line = Text(style="bold" if index >= len(rows) else "")
        for each in cells:
            text = _aligned(each.column, each.texts[index], each.width)
            value = row.get(each.column.field)
            line.append(gain_or_loss(text, value) if each.column.amounts else text)
            line.append(" " * GAP)
        line.rstrip()
        lines.append(line)
    return lines


def _print_table(rows: Sequence[Row], columns: Iterable[Column], totals: Sequence[Row]) -> None:
    terminal = output_console()
    for line in table_lines(rows, columns, terminal.width, totals):
        terminal.print(line, soft_wrap=True)


def _fit(columns: Sequence[Column], rows: Sequence[Row], available: int) -> list[_Cells]:
    """Return the cells of the columns that fit, or of those that are never left out."""
    kept = list(columns)
    while True:
        cells = [_Cells.of(column, rows) for column in kept]
        for index in sorted(range(len(kept)), key=lambda index: kept[index].importance):
            if _total(cells) <= available:
                break
            cells[index] = _Cells.of(kept[index], rows, is_short=True)
        _shorten(cells, available, optional=True, least=0)
        _shorten(cells, available, optional=False, least=READABLE)
        if _total(cells) <= available:
            return cells
        dropped = min(reversed(kept), key=lambda column: column.importance, default=None)
        if dropped is None or dropped.importance == ALWAYS:
            _shorten(cells, available, optional=False, least=0)
            return cells
        kept.remove(dropped)


def _shorten(cells: Sequence[_Cells], available: int, *, optional: bool, least: int) -> None:
    """Shorten the widest columns with text until all fit, if they may be as narrow."""
    some = [each for each in cells if each.column.shorten and each.column.optional == optional]
    bounds = {id(each): max(each.least_width(), min(least, each.width)) for each in some}
    widths = {id(each): each.width for each in some}
    excess = _total(cells) - available
    while excess > 0:
        widest = max(widths, key=lambda key: widths[key] - bounds[key], default=None)
        if widest is None or widths[widest] <= bounds[widest]:
            break
        widths[widest] -= 1
        excess -= 1
    for each in some:
        if widths[id(each)] < each.width:
            each.shorten_to(widths[id(each)])


def _total(cells: Sequence[_Cells]) -> int:
    return sum(each.width for each in cells) + GAP * (len(cells) - 1)


def _joined(texts: Sequence[str]) -> str:
    return (" " * GAP).join(texts).rstrip()


def _aligned(column: Column, text: str, width: int) -> str:
    space = " " * (width - cell_len(text))
    return space + text if column.right else text + space


def _amounts(column: Column, rows: Sequence[Row]) -> list[str]:
    """Return amounts with the same decimal places, those of each currency by themselves."""
    values = [row.get(column.field) for row in rows]
    of = [None if column.currency is None else column.currency(row) for row in rows]
    decimals = {
        currency: places(value for value, each in zip(values, of, strict=True) if each == currency)
        for currency in of
    }
    most = max(decimals.values(), default=0)
    return [
        ""
        if value is None
        else amount(value, decimals[currency]) + " " * (most - decimals[currency])
        for value, currency in zip(values, of, strict=True)
    ]


def output_console() -> Console:
    """Return a console as wide as the terminal; a pipe gets every line whole."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def _write_csv(rows: Sequence[Row], fields: Iterable[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(fields)
    if names:
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


def timestamp(value: datetime, zone: tzinfo = UTC) -> str:
    return f"{value.astimezone(zone):%Y-%m-%d %H:%M}"


def zone_name(zone: tzinfo) -> str:
    """Return the name of a time zone for people: Berlin for Europe/Berlin."""
    return str(zone).rpartition("/")[2].replace("_", " ")


def time_column(
    field: str, title: str, zone: tzinfo, *, null: str = "", importance: int = ALWAYS
) -> Column:
    """Return a column of times in a time zone; its short form has no year if it is this one."""

    def short(values: Sequence[datetime]) -> Formatter:
        local = [value.astimezone(zone) for value in values]
        if {value.year for value in local} == {datetime.now(zone).year}:
            return lambda value: f"{value.astimezone(zone):%m-%d %H:%M}"
        return partial(timestamp, zone=zone)

    return Column(
        field,
        f"{title} ({zone_name(zone)})",
        partial(timestamp, zone=zone),
        short=short,
        null=null,
        importance=importance,
    )


def id_column(field: str, title: str, importance: int) -> Column:
    """Return a column of UUIDs; their short form is their end, by which those shown differ."""

    def short(values: Sequence[uuid.UUID]) -> Formatter:
        digits = SHORT_ID
        while len({value.hex[-digits:] for value in values}) < len({*values}):
            digits += 1
        return lambda value: value.hex[-digits:]

    return Column(field, title, short=short, importance=importance)


def average_column(field: str, title: str, importance: int = ALWAYS) -> Column:
    """Return a column of average prices; their short form has six significant digits."""
    return Column(
        field,
        title,
        number,
        right=True,
        short=lambda _: partial(number, digits=6),
        importance=importance,
    )


def ratio(value: float) -> str:
    return amount(value, 2)


def fees_text(fees: Mapping[str | None, float]) -> str:
    """Format the fees in each currency."""
    return ", ".join(
        f"{amount(fee)} {currency}" if currency else amount(fee) for currency, fee in fees.items()
    )


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
