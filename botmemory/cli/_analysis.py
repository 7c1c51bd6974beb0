"""The commands that judge: what was earned, and what triggered what."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from datetime import datetime, timedelta
from typing import Any, get_args

import click
from rich.text import Text

from ..analysis import attribution, performance
from ..errors import NotFoundError, ValidationError
from ..models import Trade
from ..queries import read
from ..repositories import trades
from ._listing import in_currencies, row_of
from ._options import (
    DatabaseOptions,
    answer,
    database_options,
    filter_options,
    form_options,
    reading,
)
from ._output import Column, amount, console, duration, number, percent, plain, show, timestamp

__all__ = ["ANALYSIS_COMMANDS", "print_pairs"]

RESULT = (
    Column("trades", "trades", right=True),
    Column("closed_trades", "closed", right=True),
    Column("win_rate", "win rate", percent, right=True),
    Column("total_pnl", "pnl", amount, right=True),
    Column("profit_factor", "factor", amount, right=True),
    Column("best", "best", amount, right=True),
    Column("worst", "worst", amount, right=True),
)


@click.command("pnl")
@database_options
@click.option(
    "--by",
    "dimension",
    type=click.Choice(get_args(performance.Dimension)),
    default="symbol",
    show_default=True,
)
@filter_options("symbol", "strategy", "time", "quote")
@form_options
@click.pass_obj
@answer
def show_pnl(
    options: DatabaseOptions, form: str, dimension: performance.Dimension, **filters: Any
) -> None:
    """Show what was earned, by symbol or something else."""
    with reading(options):
        found = performance.by(dimension, **filters)
    # a column of numbers reads best from its right edge
    right = dimension == "hour"
    columns = (
        Column("key", dimension, right=right),
        Column("quote", "in", may_be_cut=True),
        *RESULT,
    )
    rows = [{"key": one.key, **dataclasses.asdict(one)} for one in found]
    show(rows, columns, form, nothing="no trades")


@click.command("performance")
@database_options
@filter_options("symbol", "strategy", "time", "quote")
@form_options
@click.pass_obj
@answer
def show_performance(
    options: DatabaseOptions, form: str, quote: str | None, **filters: Any
) -> None:
    """Show how the trades have done, currency by currency."""
    with reading(options):
        quotes = performance.quotes(**filters) if quote is None else [quote]
        found = [performance.summarize(**filters, quote=one) for one in quotes]
    if form != "table":
        show([dataclasses.asdict(one) for one in found], (), form, nothing="")
    elif not found:
        show([], (), form, nothing="no trades")
    for number_of, one in enumerate(found if form == "table" else ()):
        if number_of:
            click.echo()
        pairs = {name: _said(name, value) for name, value in dataclasses.asdict(one).items()}
        print_pairs({name: value for name, value in pairs.items() if value is not None})


@click.command("explain")
@database_options
@click.option("--price-key", metavar="KEY", help="Where the signal's metadata has its price.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("id")
@click.pass_obj
@answer
def explain_trade(options: DatabaseOptions, id: str, price_key: str | None, as_json: bool) -> None:
    """Show which signal triggered a trade, and the slippage.

    ID is the trade's, or its first digits as `trades` shows them.
    """
    with reading(options):
        found = attribution.explain(_trade(id), price_key=price_key)
        trade = row_of(found.trade)
        signal = None if found.signal is None else row_of(found.signal)
    if as_json:
        rest = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
        click.echo(json.dumps(plain(rest | {"trade": trade, "signal": signal}), indent=2))
        return
    pairs: dict[str, Any] = {
        "trade": f"{trade['side']} {number(trade['quantity'])} {trade['symbol']} at "
        f"{number(trade['price'])}",
        "when": f"{trade['timestamp']:%Y-%m-%d %H:%M:%S} UTC",
        "id": trade["id"],
        "strategy": trade["strategy"],
        "pnl": None if trade["pnl"] is None else amount(trade["pnl"]),
        "signal": "none is named",
    }
    if signal is not None:
        pairs["signal"] = f"{signal['signal_value']:+d}, number {signal['id']}"
        pairs["delay"] = duration(found.delay or timedelta())
        if found.slippage is not None and found.signal_price is not None:
            pairs["signal price"] = number(found.signal_price)
            pairs["slippage"] = f"{number(found.slippage)} ({found.slippage_bps:,.1f} bps)"
        pairs |= {
            f"  {name}": number(value) if isinstance(value, float) else json.dumps(value)
            for name, value in found.indicators.items()
        }
    print_pairs({name: value for name, value in pairs.items() if value is not None})


@click.command("attribution")
@database_options
@click.option("--bins", type=int, default=10, show_default=True, metavar="N", help="Ranges.")
@click.option("--ends", metavar="A,B,...", help="The ends of the ranges, instead of --bins.")
@click.option("--entry", is_flag=True, help="What the entry's signal saw, not the exit's.")
@filter_options("symbol", "strategy", "time", "quote")
@form_options
@click.argument("key")
@click.pass_obj
@answer
def show_attribution(
    options: DatabaseOptions,
    form: str,
    key: str,
    bins: int,
    ends: str | None,
    entry: bool,
    **filters: Any,
) -> None:
    """Show where in the range of an indicator money was made.

    KEY is a key of the signals' metadata, dotted inside objects.
    """
    try:
        ranges: Any = bins if ends is None else [float(end) for end in ends.split(",")]
    except ValueError:
        raise click.BadParameter(f"{ends!r} are not numbers, as in 30,70") from None
    signal_of: Any = "entry" if entry else "trade"
    with reading(options):
        found = attribution.pnl_by_metadata(key, ranges, **filters, signal_of=signal_of)
    columns = (
        Column("label", key, right=all(one.category is None for one in found)),
        *RESULT,
    )
    rows = [dataclasses.asdict(one) for one in found]
    show(rows, columns, form, nothing=f"no trade has a signal with {key}")


@click.command("conversion")
@database_options
@filter_options("symbol", "strategy", "time")
@form_options
@click.pass_obj
@answer
def show_conversion(options: DatabaseOptions, form: str, **filters: Any) -> None:
    """Show how many signals of each value were acted on."""
    with reading(options):
        found = attribution.conversion(**filters)
    columns = (
        Column("signal_value", "value", right=True),
        Column("signals", "signals", right=True),
        Column("acted_on", "acted on", right=True),
        Column("rate", "rate", percent, right=True),
        Column("trades", "trades", right=True),
    )
    show([dataclasses.asdict(one) for one in found], columns, form, nothing="no signals")


ANALYSIS_COMMANDS = (show_pnl, show_performance, explain_trade, show_attribution, show_conversion)


def _trade(text: str) -> Trade:
    """Return the one trade whose id begins so."""
    digits = text.replace("-", "").lower()
    if len(digits) >= 32 or not re.fullmatch(r"[0-9a-f]{4,}", digits):
        found = trades.get_by_id(text)
        if found is None:
            raise NotFoundError(f"id: there is no trade {text}")
        return found
    first, last = (uuid.UUID(digits.ljust(32, fill)) for fill in "0f")
    key: Any = Trade.id
    query: Any = Trade.select().where(key.between(first, last)).limit(2)
    some = read.fetch(query)
    if not some:
        raise NotFoundError(f"id: there is no trade whose id begins with {text}")
    if len(some) > 1:
        raise ValidationError(f"id: several trades begin with {text}; give more of its digits")
    trade: Trade = some[0]
    return trade


def _said(name: str, value: Any) -> str | None:
    """Return a field of a `Performance` in words; None where there is nothing to say."""
    if name == "fees":
        return in_currencies(value) or None
    if name == "win_rate":
        return None if value is None else percent(value)
    if isinstance(value, datetime):
        return f"{timestamp(value)} UTC"
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, float):
        return amount(value)
    return None if value is None else str(value)


def print_pairs(pairs: dict[str, Any]) -> None:
    """Print names and what they are, a line each."""
    width = max(map(len, pairs))
    printed = console()
    for name, value in pairs.items():
        printed.print(Text(f"{name.replace('_', ' '):<{width}}  {value}"), soft_wrap=True)
