"""The commands that list rows: trades, signals, cash flows, state, positions."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from operator import itemgetter
from typing import Any

import click

from ..backends.peewee_internals import values_of
from ..formats import number
from ..models import BaseModel, CashFlow, Signal, State, Trade
from ..queries import metadata, read
from ..repositories import positions
from ..symbols import quote_of
from ._options import DatabaseOptions, database_command, filter_options, format_options
from ._output import (
    ALWAYS,
    Column,
    average_column,
    ending,
    fees_text,
    fields_of,
    id_column,
    middle,
    print_rows,
    time_column,
)

SYMBOL = Column("symbol", "symbol", shorten=middle)
EXCHANGE = Column("exchange", "exchange", optional=True, shorten=middle, importance=2)
STRATEGY = Column("strategy", "strategy", optional=True, shorten=middle, importance=3)


@database_command("trades")
@filter_options(
    "symbol", "side", "strategy", "exchange", "metadata", "since", "until", "tz", "limit"
)
@format_options
def show_trades(options: DatabaseOptions, output_format: str, limit: int, **filters: Any) -> None:
    """List the latest trades, newest first.

    Where the terminal is narrow, the end of the id is shown; `explain` accepts it.
    """
    with options.open(read_only=True):
        rows = _rows(Trade, "trade_metadata", limit, filters)
    columns = (
        time_column("timestamp", "when", options.zone),
        SYMBOL,
        Column("side", "side"),
        Column("quantity", "quantity", number, right=True, importance=8),
        Column("price", "price", number, right=True, importance=8),
        Column("pnl", "pnl", amounts=True, currency=_quote, right=True, importance=7),
        id_column("id", "id", importance=6),
        STRATEGY,
        EXCHANGE,
    )
    print_rows(rows, columns, output_format, empty="no trades", fields=_names(Trade))


def _quote(row: Mapping[str, Any]) -> str | None:
    return quote_of(row["symbol"])


@database_command("signals")
@filter_options("symbol", "value", "strategy", "metadata", "since", "until", "tz", "limit")
@format_options
def show_signals(options: DatabaseOptions, output_format: str, limit: int, **filters: Any) -> None:
    """List the latest signals, newest first."""
    with options.open(read_only=True):
        rows = _rows(Signal, "signal_metadata", limit, filters)
    columns = (
        Column("id", "id", right=True),
        time_column("timestamp", "when", options.zone),
        SYMBOL,
        Column("signal_value", "value", right=True),
        STRATEGY,
        Column(
            "signal_metadata", "metadata", json_text, optional=True, shorten=ending, importance=1
        ),
    )
    print_rows(rows, columns, output_format, empty="no signals", fields=_names(Signal))


@database_command("cash-flows")
@filter_options(
    "kind", "currency", "symbol", "strategy", "exchange", "metadata", "since", "until", "tz",
    "limit",
)  # fmt: skip
@format_options
def show_cash_flows(
    options: DatabaseOptions, output_format: str, limit: int, **filters: Any
) -> None:
    """List the latest cash flows, newest first.

    They are money that moved without a trade: above 0 what came in.
    """
    with options.open(read_only=True):
        rows = _rows(CashFlow, "metadata", limit, filters)
    symbol = dataclasses.replace(SYMBOL, importance=4)
    columns = (
        Column("id", "id", right=True, importance=6),
        time_column("timestamp", "when", options.zone),
        Column("kind", "kind"),
        Column("amount", "amount", amounts=True, currency=itemgetter("currency"), right=True),
        Column("currency", "in"),
        *([] if all(row["symbol"] is None for row in rows) else [symbol]),
        EXCHANGE,
        STRATEGY,
    )
    print_rows(rows, columns, output_format, empty="no cash flows", fields=_names(CashFlow))


@database_command("state")
@filter_options("strategy", "tz")
@click.option("--prefix", metavar="TEXT", default="", help="Only keys that begin with this.")
@format_options
def show_state(
    options: DatabaseOptions, output_format: str, strategy: str | None, prefix: str
) -> None:
    """List what the bots have set to find after a restart, by strategy and key."""
    with options.open(read_only=True):
        values = read.filters(State, strategy=strategy)
        query = read.select(State, read.conditions(State, values, values))
        rows = [row_of(row) for row in read.fetch(query) if row.key.startswith(prefix)]
    rows.sort(key=lambda row: (row["strategy"], row["key"]))
    rows = [row | {"strategy": row["strategy"] or None} for row in rows]
    columns = (
        STRATEGY,
        Column("key", "key", shorten=middle),
        Column("value", "value", json_text, shorten=ending),
        time_column("updated_at", "set", options.zone, importance=4),
    )
    print_rows(rows, columns, output_format, empty="no state", fields=_names(State))


@database_command("positions")
@filter_options("symbol", "strategy", "exchange", "quote", "prices", "rates", "tz")
@click.option("--by-strategy", is_flag=True, help="Keep the trades of each strategy apart.")
@format_options
def show_positions(
    options: DatabaseOptions,
    output_format: str,
    symbol: str | None,
    quote: str | None,
    prices: dict[str, float],
    **arguments: Any,
) -> None:
    """Show the open positions, by average cost.

    There is one for each symbol and exchange. With --symbol there is one of all exchanges, and a
    closed one is shown, too. The realized PnL is before fees; JSON and CSV have the net one, too.
    The last rows are the totals of each currency. --price adds the unrealized PnL of a symbol.
    """
    if symbol and arguments["by_strategy"]:
        raise click.UsageError("--symbol and --by-strategy exclude each other; use --strategy")
    if symbol and prices:
        raise click.UsageError("--symbol and --price exclude each other")
    with options.open(read_only=True):
        if symbol:
            arguments.pop("by_strategy")
            found = [positions.get(symbol, **arguments)]
        else:
            found = positions.value(prices, **arguments)
    kept = [each for each in found if quote is None or (quote_of(each.symbol) or "") == quote]
    if output_format == "table":
        rows = position_rows(kept)
        columns = position_columns(rows, options.zone)
        totals = position_totals(rows) if len(rows) > 1 else []
        print_rows(rows, columns, output_format, empty="no open positions", totals=totals)
    else:
        print_rows(kept, (), output_format, empty="", fields=fields_of(positions.Position))


def position_rows(found: Iterable[positions.Position]) -> list[dict[str, Any]]:
    """Return positions as rows of a table, with the currency of their PnL."""
    return [dataclasses.asdict(each) | {"quote": quote_of(each.symbol)} for each in found]


def position_columns(rows: Sequence[Mapping[str, Any]], zone: tzinfo) -> list[Column]:
    """Return the columns of open positions; the unrealized PnL only where there is a price."""
    # what tells positions in the same symbol apart
    several = len({row["symbol"] for row in rows}) < len(rows)
    importance = ALWAYS if several else STRATEGY.importance
    columns = [
        SYMBOL,
        dataclasses.replace(EXCHANGE, importance=importance),
        dataclasses.replace(STRATEGY, importance=importance),
        Column("quantity", "quantity", number, right=True, importance=8),
        average_column("average_entry_price", "entry price", importance=8),
    ]
    if any(row["price"] is not None for row in rows):
        columns += [
            Column("price", "price", number, right=True, importance=5),
            _money("unrealized", "unrealized"),
        ]
    return [
        *columns,
        _money("realized_pnl", "realized"),
        Column("quote", "in", optional=True),
        time_column("opened_at", "since", zone, importance=6),
        Column("fees", "fees", fees_text, right=True, importance=1),
    ]


def position_totals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row with the total of each currency."""
    totals = []
    for quote in sorted({row["quote"] for row in rows if row["quote"] is not None}):
        some = [row for row in rows if row["quote"] == quote]
        fees: defaultdict[str | None, list[float]] = defaultdict(list)
        for row in some:
            for currency, fee in row["fees"].items():
                fees[currency].append(fee)
        total = {name: _sum(row[name] for row in some) for name in ("unrealized", "realized_pnl")}
        summed = {currency: math.fsum(of) for currency, of in fees.items()}
        totals.append({"symbol": "total", "quote": quote, "fees": summed, **total})
    return totals


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum; None if a value is not known."""
    known = list(values)
    return None if None in known else math.fsum(value for value in known if value is not None)


def _money(field: str, title: str) -> Column:
    currency = itemgetter("quote")
    return Column(field, title, amounts=True, currency=currency, right=True)


LIST_COMMANDS = (show_trades, show_signals, show_cash_flows, show_state, show_positions)


def _rows(
    model: type[BaseModel],
    metadata_field: str,
    limit: int,
    filters: dict[str, Any],
) -> list[dict[str, Any]]:
    wanted = filters.pop("metadata")
    values = read.filters(model, **filters)
    if wanted is None:
        return [row_of(row) for row in read.newest_first(model, values, limit)]
    key, equals = wanted
    bounds: dict[str, Any] = {"equals": equals, "minimum": None, "maximum": None}
    found = metadata.newest_first(model, metadata_field, key, values, limit, **bounds)
    return [row_of(row) for row in found]


def row_of(row: BaseModel) -> dict[str, Any]:
    """Return the values of a row by column name."""
    fields: Sequence[Any] = row._meta.sorted_fields
    values = values_of(row)
    return {field.column_name: values[field.name] for field in fields}


def _names(model: type[BaseModel]) -> list[str]:
    return [field.column_name for field in model._meta.sorted_fields]


def json_text(value: Any) -> str:
    """Return JSON as people read it: not only ASCII, but without control characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
