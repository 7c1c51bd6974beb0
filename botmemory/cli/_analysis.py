"""The commands that analyse: results, and the signals that led to them."""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from datetime import datetime, timedelta
from typing import Any, get_args

import click

from ..analysis import attribution, performance, round_trips
from ..analysis.selection import currencies
from ..database import db
from ..errors import NotFoundError, ValidationError
from ..formats import amount, count, number
from ..models import Trade
from ..queries import read
from ..repositories import trades
from ._listing import format_fees, row_of
from ._options import DatabaseOptions, database_command, filter_options, format_options, json_option
from ._output import (
    Column,
    duration,
    percent,
    print_json,
    print_pairs,
    print_rows,
    timestamp,
)

RESULT_COLUMNS = (
    Column("trades", "trades", count, right=True),
    Column("closed_trades", "closed", count, right=True),
    Column("win_rate", "win rate", percent, right=True),
    Column("total_pnl", "pnl", amounts=True, right=True),
    Column("profit_factor", "factor", amounts=True, right=True),
    Column("best", "best", amounts=True, right=True),
    Column("worst", "worst", amounts=True, right=True),
)


@database_command("pnl")
@click.option(
    "--by",
    "dimension",
    type=click.Choice(get_args(performance.Dimension)),
    default="symbol",
    show_default=True,
)
@filter_options("symbol", "strategy", "exchange", "since", "until", "quote")
@format_options
def show_pnl(
    options: DatabaseOptions, output_format: str, dimension: performance.Dimension, **filters: Any
) -> None:
    """Show the results by symbol or something else."""
    with options.open(read_only=True):
        groups = performance.by(dimension, **filters)
    columns = (
        Column("key", dimension, right=dimension == "hour"),
        Column("quote", "in", optional=True),
        *RESULT_COLUMNS,
    )
    rows = [{"key": group.key, **vars(group)} for group in groups]
    print_rows(rows, columns, output_format, empty="no trades")


@database_command("performance")
@filter_options("symbol", "strategy", "exchange", "since", "until", "quote")
@format_options
def show_performance(
    options: DatabaseOptions, output_format: str, quote: str | None, **filters: Any
) -> None:
    """Show the performance for each quote currency."""
    with options.open(read_only=True), db.read_snapshot():
        summaries = [
            performance.summarize(**filters, quote=currency)
            for currency in currencies(filters, quote)
        ]
    if output_format != "table" or not summaries:
        print_rows(summaries, (), output_format, empty="no trades")
        return
    for index, summary in enumerate(summaries):
        if index:
            click.echo()
        print_pairs({name: _format_field(name, value) for name, value in vars(summary).items()})


@database_command("round-trips")
@filter_options("symbol", "strategy", "exchange", "since", "until", "quote", "limit")
@click.option("--open", "include_open", is_flag=True, help="Show those that are open, too.")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    metavar="BNB=PRICE",
    callback=lambda _context, _parameter, values: dict(map(_rate, values)),
    help="The price of another currency, for fees in it.",
)
@format_options
def show_round_trips(
    options: DatabaseOptions, output_format: str, limit: int, **arguments: Any
) -> None:
    """List the round trips that were closed last, newest first.

    A round trip is a position from flat to flat. The net PnL is after fees and with funding.
    """
    with options.open(read_only=True):
        latest = deque(round_trips.round_trips(**arguments), maxlen=limit)
    columns = (
        Column("closed_at", "closed (UTC)", timestamp),
        Column("symbol", "symbol"),
        Column("exchange", "exchange", optional=True),
        Column("strategy", "strategy", optional=True),
        Column("direction", "side"),
        Column("quantity", "quantity", number, right=True),
        Column("entry_price", "entry", number, right=True),
        Column("exit_price", "exit", number, right=True),
        Column("net_pnl", "net pnl", amounts=True, right=True),
        Column("quote", "in"),
    )
    print_rows(reversed(latest), columns, output_format, empty="no round trips")
    if output_format == "table":
        for reason in dict.fromkeys(trip.unknown for trip in latest if trip.unknown):
            click.echo(f"net pnl is not known: {reason}", err=True)


def _rate(text: str) -> tuple[str, float]:
    currency, _, price = text.partition("=")
    try:
        return currency, float(price)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a currency and its price: BNB=600") from None


@database_command("explain")
@click.option("--price-key", metavar="KEY", help="The key of the price in the signal's metadata.")
@json_option
@click.argument("id")
def explain_trade(options: DatabaseOptions, id: str, price_key: str | None, as_json: bool) -> None:
    """Show which signal triggered a trade, and the slippage.

    ID is the id of the trade, or its first digits as shown by `trades`.
    """
    with options.open(read_only=True):
        explanation = attribution.explain(_find_trade(id), price_key=price_key)
        trade = row_of(explanation.trade)
        signal = None if explanation.signal is None else row_of(explanation.signal)
    if as_json:
        print_json(vars(explanation) | {"trade": trade, "signal": signal})
        return
    pairs: dict[str, Any] = {
        "trade": f"{trade['side']} {number(trade['quantity'])} {trade['symbol']} at "
        f"{number(trade['price'])}",
        "when": f"{trade['timestamp']:%Y-%m-%d %H:%M:%S} UTC",
        "id": trade["id"],
        "strategy": trade["strategy"],
        "pnl": None if trade["pnl"] is None else amount(trade["pnl"]),
        "signal": "none",
    }
    if signal is not None:
        pairs["signal"] = f"{signal['signal_value']:+d}, number {signal['id']}"
        pairs["delay"] = duration(explanation.delay or timedelta())
        if explanation.slippage is not None and explanation.signal_price is not None:
            pairs["signal price"] = number(explanation.signal_price)
            pairs["slippage"] = (
                f"{number(explanation.slippage)} ({explanation.slippage_bps:z,.1f} bps)"
            )
        pairs |= {
            f"  {name}": number(value) if isinstance(value, float) else json.dumps(value)
            for name, value in explanation.indicators.items()
        }
    print_pairs(pairs)


@database_command("attribution")
@click.option(
    "--bins", type=int, default=10, show_default=True, metavar="N", help="The number of ranges."
)
@click.option("--ends", metavar="A,B,...", help="The bounds of the ranges, instead of --bins.")
@click.option("--entry", is_flag=True, help="Use the signal of the entry, not of the exit.")
@filter_options("symbol", "strategy", "exchange", "since", "until", "quote")
@format_options
@click.argument("key")
def show_attribution(
    options: DatabaseOptions,
    output_format: str,
    key: str,
    bins: int,
    ends: str | None,
    entry: bool,
    **filters: Any,
) -> None:
    """Show the results by ranges of an indicator.

    KEY is a key of the signals' metadata; a dot separates the keys of nested objects.
    """
    try:
        ranges: Any = bins if ends is None else [float(end) for end in ends.split(",")]
    except ValueError:
        raise click.BadParameter(f"{ends!r} are not numbers such as 30,70") from None
    signal_of: Any = "entry" if entry else "trade"
    with options.open(read_only=True):
        groups = attribution.pnl_by_metadata(key, ranges, **filters, signal_of=signal_of)
    columns = (
        Column("label", key, right=all(group.category is None for group in groups)),
        *RESULT_COLUMNS,
    )
    print_rows(groups, columns, output_format, empty=f"no trade has a signal with {key}")


@database_command("conversion")
@filter_options("symbol", "strategy", "since", "until")
@format_options
def show_conversion(options: DatabaseOptions, output_format: str, **filters: Any) -> None:
    """Show how many signals of each value led to a trade."""
    with options.open(read_only=True):
        groups = attribution.conversion(**filters)
    columns = (
        Column("signal_value", "value", right=True),
        Column("signals", "signals", count, right=True),
        Column("acted_on", "acted on", count, right=True),
        Column("rate", "rate", percent, right=True),
        Column("trades", "trades", count, right=True),
    )
    print_rows(groups, columns, output_format, empty="no signals")


ANALYSIS_COMMANDS = (
    show_pnl,
    show_performance,
    show_round_trips,
    explain_trade,
    show_attribution,
    show_conversion,
)


def _find_trade(text: str) -> Trade:
    """Return the trade whose id begins with a text."""
    digits = text.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{4,31}", digits):
        trade = trades.get_by_id(text)
        if trade is None:
            raise NotFoundError(f"id: there is no trade {text}")
        return trade
    first, last = (uuid.UUID(digits.ljust(32, fill)) for fill in "0f")
    key: Any = Trade.id
    query: Any = Trade.select().where(key.between(first, last)).limit(2)
    matches: list[Trade] = read.fetch(query)
    if not matches:
        raise NotFoundError(f"id: there is no trade whose id begins with {text}")
    if len(matches) > 1:
        raise ValidationError(f"id: several trades begin with {text}; give more of its digits")
    return matches[0]


def _format_field(name: str, value: Any) -> str | None:
    """Format a field of a `Performance`; None for one without a value."""
    if name == "fees":
        return format_fees(value) or None
    if name == "win_rate":
        return None if value is None else percent(value)
    if isinstance(value, datetime):
        return f"{timestamp(value)} UTC"
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, float):
        return amount(value)
    if isinstance(value, int):
        return count(value)
    return None if value is None else str(value)
