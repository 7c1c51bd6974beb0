"""The commands that list what the database holds: trades, signals, positions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import click

from ..backends.peewee_internals import values_of
from ..models import BaseModel, Signal, Trade
from ..queries import read
from ..repositories import positions
from ._options import (
    DatabaseOptions,
    answer,
    database_options,
    filter_options,
    form_options,
    reading,
)
from ._output import Column, amount, number, show, timestamp

__all__ = ["LIST_COMMANDS", "in_currencies", "row_of"]

SHORT = 13  # digits of an id, with its dash: the millisecond in which it was made


@click.command("trades")
@database_options
@filter_options("symbol", "strategy", "time", "limit")
@form_options
@click.pass_obj
@answer
def show_trades(options: DatabaseOptions, form: str, limit: int, **filters: Any) -> None:
    """List the latest trades, newest first.

    The id is shortened; `explain` takes it so.
    """
    with reading(options):
        rows = _rows(Trade, limit, filters)
    columns = (
        Column("timestamp", "when (UTC)", timestamp),
        Column("symbol", "symbol"),
        Column("side", "side"),
        Column("quantity", "quantity", number, right=True),
        Column("price", "price", number, right=True),
        Column("pnl", "pnl", amount, right=True),
        Column("id", "id", lambda one: str(one)[:SHORT]),
        Column("strategy", "strategy", may_be_cut=True),
    )
    show(rows, columns, form, nothing="no trades")


@click.command("signals")
@database_options
@filter_options("symbol", "strategy", "time", "limit")
@form_options
@click.pass_obj
@answer
def show_signals(options: DatabaseOptions, form: str, limit: int, **filters: Any) -> None:
    """List the latest signals, newest first."""
    with reading(options):
        rows = _rows(Signal, limit, filters)
    columns = (
        Column("id", "id", right=True),
        Column("timestamp", "when (UTC)", timestamp),
        Column("symbol", "symbol"),
        Column("signal_value", "value", right=True),
        Column("strategy", "strategy", may_be_cut=True),
        Column("signal_metadata", "metadata", json.dumps, may_be_cut=True),
    )
    show(rows, columns, form, nothing="no signals")


@click.command("positions")
@database_options
@filter_options("symbol", "strategy")
@form_options
@click.pass_obj
@answer
def show_positions(
    options: DatabaseOptions, form: str, symbol: str | None, strategy: str | None
) -> None:
    """Show what is held, by average cost.

    A symbol that is named is shown when nothing of it is held, too.
    """
    with reading(options):
        found = [positions.get(symbol, strategy)] if symbol else positions.get_all(strategy)
    columns = (
        Column("symbol", "symbol"),
        Column("quantity", "quantity", number, right=True),
        Column("average_entry_price", "entry price", number, right=True),
        Column("realized_pnl", "realized", amount, right=True),
        Column("fees", "fees", in_currencies, right=True),
        Column("opened_at", "since (UTC)", timestamp),
    )
    show([dataclasses.asdict(one) for one in found], columns, form, nothing="nothing is held")


LIST_COMMANDS = (show_trades, show_signals, show_positions)


def _rows(model: type[BaseModel], limit: int, filters: dict[str, Any]) -> list[dict[str, Any]]:
    values = read.filters(model, **filters)
    return [row_of(row) for row in read.newest_first(model, values, limit)]


def row_of(row: BaseModel) -> dict[str, Any]:
    """Return the fields of a row by the names of their columns."""
    fields: Sequence[Any] = row._meta.sorted_fields
    values = values_of(row)
    return {field.column_name: values[field.name] for field in fields}


def in_currencies(fees: dict[str | None, float]) -> str:
    return ", ".join(
        f"{number(paid)} {currency}" if currency else number(paid)
        for currency, paid in fees.items()
    )
