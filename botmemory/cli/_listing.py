"""The commands that list rows: trades, signals, cash flows, state, positions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from ..backends.peewee_internals import values_of
from ..formats import number
from ..models import BaseModel, CashFlow, Signal, State, Trade
from ..queries import read
from ..repositories import positions
from ._options import DatabaseOptions, database_command, filter_options, format_options
from ._output import Column, print_rows, timestamp

SHORT_ID = 13  # characters of a UUID: its timestamp in milliseconds


@database_command("trades")
@filter_options("symbol", "strategy", "exchange", "since", "until", "limit")
@format_options
def show_trades(options: DatabaseOptions, output_format: str, limit: int, **filters: Any) -> None:
    """List the latest trades, newest first.

    The id is shortened; `explain` accepts it.
    """
    with options.open(read_only=True):
        rows = _rows(Trade, limit, filters)
    columns = (
        Column("timestamp", "when (UTC)", timestamp),
        Column("symbol", "symbol"),
        Column("side", "side"),
        Column("quantity", "quantity", number, right=True, importance=2),
        Column("price", "price", number, right=True),
        Column("pnl", "pnl", amounts=True, right=True),
        Column("id", "id", lambda value: str(value)[:SHORT_ID]),
        Column("strategy", "strategy", optional=True, importance=1),
    )
    print_rows(rows, columns, output_format, empty="no trades")


@database_command("signals")
@filter_options("symbol", "strategy", "since", "until", "limit")
@format_options
def show_signals(options: DatabaseOptions, output_format: str, limit: int, **filters: Any) -> None:
    """List the latest signals, newest first."""
    with options.open(read_only=True):
        rows = _rows(Signal, limit, filters)
    columns = (
        Column("id", "id", right=True),
        Column("timestamp", "when (UTC)", timestamp),
        Column("symbol", "symbol"),
        Column("signal_value", "value", right=True),
        Column("strategy", "strategy", optional=True),
        Column("signal_metadata", "metadata", json.dumps, optional=True),
    )
    print_rows(rows, columns, output_format, empty="no signals")


@database_command("cash-flows")
@filter_options("kind", "currency", "symbol", "strategy", "exchange", "since", "until", "limit")
@format_options
def show_cash_flows(
    options: DatabaseOptions, output_format: str, limit: int, **filters: Any
) -> None:
    """List the latest cash flows, newest first.

    They are money that moved without a trade: above 0 what came in.
    """
    with options.open(read_only=True):
        rows = _rows(CashFlow, limit, filters)
    columns = (
        Column("id", "id", right=True),
        Column("timestamp", "when (UTC)", timestamp),
        Column("kind", "kind"),
        Column("amount", "amount", number, right=True),
        Column("currency", "currency"),
        Column("symbol", "symbol", optional=True),
        Column("exchange", "exchange", optional=True),
        Column("strategy", "strategy", optional=True),
    )
    print_rows(rows, columns, output_format, empty="no cash flows")


@database_command("state")
@filter_options("strategy")
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
        Column("strategy", "strategy", optional=True),
        Column("key", "key"),
        Column("value", "value", json.dumps),
        Column("updated_at", "set (UTC)", timestamp),
    )
    print_rows(rows, columns, output_format, empty="no state")


@database_command("positions")
@filter_options("symbol", "strategy", "exchange")
@click.option("--by-strategy", is_flag=True, help="Keep the trades of each strategy apart.")
@format_options
def show_positions(
    options: DatabaseOptions,
    output_format: str,
    symbol: str | None,
    strategy: str | None,
    exchange: str | None,
    by_strategy: bool,
) -> None:
    """Show the open positions, by average cost.

    There is one for each symbol and exchange. With --symbol there is one of all exchanges, and a
    closed one is shown, too. The realized PnL is before fees; JSON and CSV have the net one, too.
    """
    if symbol and by_strategy:
        raise click.UsageError("--symbol and --by-strategy exclude each other; use --strategy")
    with options.open(read_only=True):
        if symbol:
            rows = [positions.get(symbol, strategy, exchange=exchange)]
        else:
            rows = positions.get_all(strategy, exchange=exchange, by_strategy=by_strategy)
    columns = (
        Column("symbol", "symbol"),
        Column("exchange", "exchange", optional=True),
        Column("strategy", "strategy", optional=True),
        Column("quantity", "quantity", number, right=True),
        Column("average_entry_price", "entry price", number, right=True),
        Column("realized_pnl", "realized", amounts=True, right=True),
        Column("fees", "fees", format_fees, right=True, importance=1),
        Column("opened_at", "since (UTC)", timestamp, importance=2),
    )
    print_rows(rows, columns, output_format, empty="no open positions")


LIST_COMMANDS = (show_trades, show_signals, show_cash_flows, show_state, show_positions)


def _rows(model: type[BaseModel], limit: int, filters: dict[str, Any]) -> list[dict[str, Any]]:
    values = read.filters(model, **filters)
    return [row_of(row) for row in read.newest_first(model, values, limit)]


def row_of(row: BaseModel) -> dict[str, Any]:
    """Return the values of a row by column name."""
    fields: Sequence[Any] = row._meta.sorted_fields
    values = values_of(row)
    return {field.column_name: values[field.name] for field in fields}


def format_fees(fees: dict[str | None, float]) -> str:
    return ", ".join(
        f"{number(fee)} {currency}" if currency else number(fee) for currency, fee in fees.items()
    )
