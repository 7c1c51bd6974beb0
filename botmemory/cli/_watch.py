"""The command `watch`: a live view of a database that a bot writes meanwhile."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from operator import itemgetter
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from .._following import FAILURES, FollowedDatabase, Version, latest
from ..analysis import performance
from ..analysis.selection import quotes_of
from ..backends.finding import Finding
from ..database import db
from ..formats import count, counted, number
from ..models import Trade
from ..queries import read
from ..repositories import positions
from ..symbols import quote_of
from ._listing import (
    STRATEGY,
    SYMBOL,
    position_columns,
    position_rows,
    position_totals,
    row_of,
)
from ._options import DatabaseOptions, database_command, filter_options
from ._output import (
    ALWAYS,
    PIPED_WIDTH,
    Column,
    named_as_options,
    output_console,
    percent,
    table_lines,
    time_column,
    zone_name,
)

ERROR_LINES = 3
ROWS = 10  # of the latest trades and signals
LARGEST_SHARE = 0.1  # of the time that is spent on reading
HEALTH_EVERY = 60  # seconds
# lines of open positions, of trades and of signals that are shown before more of the first ones
LEAST_LINES = (5, 4, 3)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Content:
    """What was read from the database in one snapshot."""

    positions: list[dict[str, Any]]
    results: list[dict[str, Any]]
    trades: list[dict[str, Any]]
    signals: list[dict[str, Any]]
    unknown: list[str]  # why figures of the results are missing
    read_at: datetime


@dataclass
class _View:
    """The state of the view between two refreshes."""

    options: DatabaseOptions
    filters: dict[str, Any]
    quote: str | None
    prices: dict[str, float]
    rates: dict[str, float]
    content: _Content | None = None
    error: str | None = None
    findings: list[Finding] = field(default_factory=list)
    version: Version | None = None
    day: object = None
    health_at: float = float("-inf")
    duration: float = 0.0  # of the last reading, in seconds; 0 where it failed

    def __post_init__(self) -> None:
        self.database = FollowedDatabase(self.options.settings())

    def refresh(self) -> None:
        """Read what has changed; where that fails, keep what was read before, and the error."""
        started = time.monotonic()
        try:
            self.read()
            self.duration = time.monotonic() - started
            self.error = None
        except FAILURES as error:
            self.error, self.duration = named_as_options(str(error)), 0.0
            self.database.open_again()

    def read(self) -> None:
        """Read what has changed."""
        version, now = self.database.look(), time.monotonic()
        is_opened = self.version is None or self.version.opened != version.opened
        if is_opened or now >= self.health_at + HEALTH_EVERY:
            self.findings = [f for f in db.current().findings() if f.severity != "info"]
            self.health_at = now
        day = datetime.now(self.options.zone).date()
        if self.version is None or not self.version.is_unchanged(version) or self.day != day:
            with db.read_snapshot():
                self.content = self._read_content()
            self.version, self.day = version, day  # of before: what comes meanwhile is read again

    def _read_content(self) -> _Content:
        filters = read.filters(Trade, **self.filters)
        found = positions.value(
            self.prices,
            self.filters["strategy"],
            exchange=self.filters["exchange"],
            rates=self.rates,
        )
        open_positions = [row for row in position_rows(found) if self._is_wanted(row)]
        # the first ones are shown where there is no room for all: those with a price, then new ones
        open_positions.sort(key=itemgetter("opened_at"), reverse=True)
        open_positions.sort(key=lambda row: row["price"] is None)
        results, unknown = self._results(filters)
        unrealized = {row["quote"]: row["unrealized"] for row in position_totals(open_positions)}
        for row in results:
            row["unrealized"] = unrealized.get(row["quote"])
        trades, signals = latest(self.filters, self.quote, ROWS)
        return _Content(
            positions=open_positions,
            results=results,
            trades=[row_of(trade) for trade in trades],
            signals=[row_of(signal) for signal in signals],
            unknown=unknown,
            read_at=datetime.now(UTC),
        )

    def _is_wanted(self, row: Row) -> bool:
        symbol = self.filters["symbol"]
        return symbol in (None, row["symbol"]) and self.quote in (None, row["quote"] or "")

    def _results(self, filters: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the results of each currency, today's and those of all time."""
        zone = self.options.zone
        midnight = datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        today = {**self.filters, "start_date": midnight.astimezone(UTC)}
        symbols = read.distinct(Trade, "symbol", filters)
        of_today = {*quotes_of(read.distinct(Trade, "symbol", read.filters(Trade, **today)))}
        rows, unknown = [], []
        for quote in quotes_of(symbols):
            if self.quote not in (None, quote):
                continue
            total = performance.summarize(**self.filters, quote=quote, rates=self.rates)
            row: dict[str, Any] = {"quote": quote or "(none)", "total_trades": total.trades}
            if quote or self.quote is not None or len([s for s in symbols if not quote_of(s)]) == 1:
                row |= {"total": _earned(total), "win_rate": total.win_rate, "from": total.source}
                unknown += [] if total.unknown is None else [total.unknown]
            else:
                unknown.append("symbols that name no currency are not added up")
            row["today_trades"] = 0
            if quote in of_today:
                summary = performance.summarize(
                    **today, quote=quote, rates=self.rates, source=total.source
                )
                row["today_trades"] = summary.trades
                row["today"] = _earned(summary) if "total" in row else None
            rows.append(row)
        return rows, [named_as_options(reason) for reason in dict.fromkeys(unknown)]


def _earned(result: performance.Result) -> float | None:
    return result.total_pnl if result.source == "recorded" else result.net_pnl


@database_command("watch")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look for something new.",
)
@click.option("--once", is_flag=True, help="Print it once and exit, as into a pipe.")
@filter_options("symbol", "strategy", "exchange", "quote", "prices", "rates", "tz")
def watch(
    options: DatabaseOptions,
    every: float,
    once: bool,
    quote: str | None,
    prices: dict[str, float],
    rates: dict[str, float],
    **filters: Any,
) -> None:
    """Show positions, results, trades and signals, live.

    What does not fit the terminal is left out. It only reads, and while nothing changes it asks
    only whether something has. An error is shown until the database can be read again. Ctrl-C ends
    it.
    """
    view = _View(options, filters, quote, prices, rates)
    terminal = output_console()
    try:
        if once or not terminal.is_terminal:
            view.read()
            for line in _frame(view, terminal.width, None):
                terminal.print(line, soft_wrap=True)
            return
        view.database.look()  # a misspelt path is an error before anything is shown
        with suppress(KeyboardInterrupt):
            _show(view, terminal, every)
    finally:
        view.database.close()


def _show(view: _View, terminal: Console, every: float) -> None:
    with Live(console=terminal, screen=True, auto_refresh=False) as live:
        while True:
            view.refresh()
            lines = _frame(view, terminal.width, terminal.height)
            live.update(Group(*lines), refresh=True)
            time.sleep(max(every, view.duration * (1 / LARGEST_SHARE - 1)))


# --- what is shown ------------------------------------------------------------------------------


def _frame(view: _View, width: int, height: int | None) -> list[Text]:
    """Return the lines of the view, which are not wider and not more than the terminal's."""
    zone, content = view.options.zone, view.content
    lines = _head(view, width)
    if content is None:
        return lines
    blocks = [
        _table(_result_columns(content.results), content.results, width, "no trades"),
        _table(
            _position_columns(content.positions, zone),
            _with_ages(content.positions),
            width,
            "no open positions",
        ),
        _table(_trade_columns(zone), content.trades, width, ""),
        _table(_signal_columns(zone), content.signals, width, ""),
    ]
    if height is not None:
        blocks = _cut(blocks, height - len(lines))
    for block in filter(None, blocks):
        lines += [Text(), *block]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _cut(blocks: Sequence[list[Text]], available: int) -> list[list[Text]]:
    """Return what fits of blocks: results first, then positions, trades and signals."""
    sizes = []
    for index, block in enumerate(blocks):
        least = len(block) if index == 0 else min(len(block), LEAST_LINES[index - 1])
        size = max(0, min(least, available - 1))
        sizes.append(size)
        available -= size + 1 if size else 0
    for index, block in enumerate(blocks):
        if sizes[index]:
            more = max(0, min(available, len(block) - sizes[index]))
            sizes[index] += more
            available -= more
    cut = [block[:size] for block, size in zip(blocks, sizes, strict=True)]
    if 1 < sizes[1] < len(blocks[1]):
        cut[1][-1] = Text(f"... and {count(len(blocks[1]) - sizes[1] + 1)} more")
    return cut


def _head(view: _View, width: int) -> list[Text]:
    """Return the lines about the database: where it is, how old what is shown is, its health."""
    zone, content = view.options.zone, view.content
    label = view.options.settings().label
    clock = f"{datetime.now(zone):%H:%M:%S} {zone_name(zone)}"
    space = max(1, width - len(clock) - 2)
    name = label if len(label) <= space else "…" + label[len(label) - space + 1 :]
    padding = " " * (space - len(name)) if width < PIPED_WIDTH else ""
    lines = [Text.assemble((name, "bold"), padding, "  ", clock)]
    if content is not None:
        ages = [f"last {kind} {_ago(rows)}" for kind, rows in _latest(content)]
        lines.append(Text(", ".join([*ages, *_health(view)])))
        lines += [Text(f"not known: {reason}") for reason in content.unknown]
    if view.error is not None:
        if content is not None:
            lines.append(Text(f"what is shown is of {_clock(content.read_at, zone)}"))
        error = f"error: {view.error.removeprefix(f'{label}: ')}"
        wrapped = textwrap.wrap(error, width, max_lines=ERROR_LINES, placeholder=" ...")
        lines += [Text(line, style="bold red") for line in wrapped]
    lines += [
        Text(f"{finding.severity}: {finding.what}", style="yellow") for finding in view.findings
    ]
    return lines


def _clock(timestamp: datetime, zone: tzinfo) -> str:
    return f"{timestamp.astimezone(zone):%H:%M:%S}"


def _latest(content: _Content) -> list[tuple[str, list[dict[str, Any]]]]:
    return [("trade", content.trades), ("signal", content.signals)]


def _ago(rows: Sequence[Row]) -> str:
    return f"{_age(rows[0]['timestamp'])} ago" if rows else "never"


def _health(view: _View) -> list[str]:
    if view.error is not None:
        return []
    problems = len(view.findings)
    return [counted(problems, "problem") if problems else "health ok"]


def _age(timestamp: datetime) -> str:
    """Return how long ago something was, in two units at most."""
    seconds = max(timedelta(), datetime.now(UTC) - timestamp).total_seconds()
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{count(days)}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds:02}s" if minutes else f"{seconds}s"


def _with_ages(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**row, "age": _age(row["opened_at"])} for row in rows]


def _table(columns: Sequence[Column], rows: Sequence[Row], width: int, empty: str) -> list[Text]:
    """Return the lines of a table without the rule below its header."""
    if not rows:
        return [Text(empty)] if empty else []
    head, _, *body = table_lines(rows, columns, width)
    head.stylize("underline")
    return [head, *body]


def _result_columns(rows: Sequence[Row]) -> list[Column]:
    currency = itemgetter("quote")
    columns = [
        Column("quote", "results in"),
        Column("today", "today", amounts=True, currency=currency, right=True),
        Column("today_trades", "trades", count, right=True, importance=3),
        Column("total", "total", amounts=True, currency=currency, right=True),
        Column("total_trades", "trades", count, right=True, importance=2),
        Column("win_rate", "win rate", percent, right=True, importance=2),
        Column("from", "from", optional=True, importance=1),
    ]
    if any(row["unrealized"] is not None for row in rows):
        unrealized = Column("unrealized", "unrealized", amounts=True, currency=currency, right=True)
        columns.insert(1, unrealized)
    return columns


def _position_columns(rows: Sequence[Row], zone: tzinfo) -> list[Column]:
    columns = [column for column in position_columns(rows, zone) if column.field != "fees"]
    age = Column("age", "age", right=True, importance=ALWAYS)
    return [age if column.field == "opened_at" else column for column in columns]


def _trade_columns(zone: tzinfo) -> tuple[Column, ...]:
    currency = lambda row: quote_of(row["symbol"])  # noqa: E731
    return (
        time_column("timestamp", "last trades", zone),
        SYMBOL,
        Column("side", "side"),
        Column("quantity", "quantity", number, right=True, importance=8),
        Column("price", "price", number, right=True, importance=8),
        Column("pnl", "pnl", amounts=True, currency=currency, right=True, importance=7),
        STRATEGY,
    )


def _signal_columns(zone: tzinfo) -> tuple[Column, ...]:
    return (
        time_column("timestamp", "last signals", zone),
        SYMBOL,
        Column("signal_value", "value", right=True),
        STRATEGY,
    )
