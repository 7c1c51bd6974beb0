"""The commands that analyse: results, and the signals that led to them."""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, get_args

import click

from ..analysis import attribution, performance, returns, round_trips
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
    named_as_options,
    percent,
    print_json,
    print_pairs,
    print_rows,
    timestamp,
)

CLOSED_COLUMNS = (
    Column("closed_trades", "closed", count, right=True),
    Column("win_rate", "win rate", percent, right=True),
)
RESULT_COLUMNS = {
    "recorded": (
        Column("trades", "trades", count, right=True, importance=4),
        *CLOSED_COLUMNS,
        Column("total_pnl", "pnl", amounts=True, right=True),
        Column("profit_factor", "factor", amounts=True, right=True, importance=3),
        Column("best", "best", amounts=True, right=True, importance=2),
        Column("worst", "worst", amounts=True, right=True, importance=1),
    ),
    "fills": (
        *CLOSED_COLUMNS,
        Column("profit_factor", "factor", amounts=True, right=True, importance=2),
        Column("gross_pnl", "gross", amounts=True, right=True, importance=1),
        Column("shown_fees", "fees", right=True, importance=3),
        Column("net_pnl", "net pnl", amounts=True, right=True),
    ),
}
FILTERS = ("symbol", "strategy", "exchange", "since", "until", "quote", "source", "rates")


@database_command("pnl")
@click.option(
    "--by",
    "dimensions",
    metavar="NAME[,NAME]",
    help=f"One or two of {', '.join(get_args(performance.Dimension))}.  [default: symbol]",
)
@click.option("--metadata", metavar="KEY", help="By the value of a key of the trades' metadata.")
@click.option("--tz", metavar="ZONE", help="Time zone of days and hours, such as Europe/Berlin.")
@filter_options(*FILTERS)
@format_options
def show_pnl(
    options: DatabaseOptions,
    output_format: str,
    dimensions: str | None,
    metadata: str | None,
    quote: str | None,
    **arguments: Any,
) -> None:
    """Show the results by symbol or something else.

    Each currency has a table and a total of its own.
    """
    if dimensions is not None and metadata is not None:
        raise click.UsageError("--by and --metadata exclude each other")
    names = tuple((dimensions or "symbol").split(",")) if metadata is None else (metadata,)
    dimension: Any = names[0] if len(names) == 1 else names
    of: Any = None if metadata is None else "trade_metadata"
    filters = {name: value for name, value in arguments.items() if name != "tz"}
    blocks: list[tuple[list[performance.Group], performance.Performance | None]] = []
    with options.open(read_only=True), db.read_snapshot():
        found = currencies(_of_trades(filters), quote, of_symbols="symbol" in names)
        for currency in found:
            groups = performance.by(dimension, **arguments, quote=currency, of=of)
            # of symbols that name no currency, only one has a total; a trade may have several tags
            has_total = currency or quote is not None or "symbol" not in names or len(groups) == 1
            has_total = has_total and metadata is None
            total = performance.summarize(**filters, quote=currency) if has_total else None
            if groups:
                blocks.append((groups, total))
    if output_format != "table" or not blocks:
        all_groups = [group for groups, _ in blocks for group in groups]
        rows = [{"key": group.key, **vars(group)} for group in all_groups]
        empty = "no trades"
        if found:
            empty = f"no closed trade has {metadata}" if metadata else "nothing was closed"
        print_rows(rows, (), output_format, empty=empty)
        return
    for index, (groups, total) in enumerate(blocks):
        if index:
            click.echo()
        columns = [Column(f"key {name}", name, right=name == "hour") for name in names]
        if total is None:
            columns.append(Column("quote", "in", optional=True))
        columns += RESULT_COLUMNS[groups[0].source]
        rows = [_keys(names, group.key) | _shown(group) for group in groups]
        if total is not None:
            rows.append(_keys(names, ("total", "")[: len(names)]) | _shown(total))
        print_rows(rows, columns, output_format, empty="no trades")
        if total is not None:
            print_source(total)


def _keys(names: tuple[str, ...], key: Any) -> dict[str, Any]:
    """Return the keys of a group by column."""
    keys = key if isinstance(key, tuple) else (json.dumps(key) if isinstance(key, bool) else key,)
    return {f"key {name}": each for name, each in zip(names, keys, strict=True)}


def _shown(result: performance.Result) -> dict[str, Any]:
    """Return the fields of a result, with its fees as text, without the currency of the PnL."""
    is_plain = result.fees.keys() <= {result.quote}
    fees = amount(sum(result.fees.values())) if is_plain else format_fees(result.fees)
    return {**vars(result), "shown_fees": fees}


def print_source(result: performance.Result) -> None:
    """Print where a result comes from, and why figures are missing."""
    where = f"in {result.quote}, " if result.quote else ""
    if result.source == "fills":
        trips = "round trip" if result.closed_trades == 1 else "round trips"
        click.echo(f"{where}net PnL of {count(result.closed_trades)} {trips}, from the fills")
    else:
        with_pnl, trades = count(result.trades_with_pnl), count(result.trades)
        click.echo(f"{where}as recorded: {with_pnl} of {trades} trades have a PnL")
    if result.unknown:
        click.echo(f"not known: {named_as_options(result.unknown)}")


@database_command("performance")
@click.option(
    "--capital",
    metavar="AMOUNT",
    callback=lambda _context, _parameter, text: None if text is None else _capital(text),
    help="The capital at the start, for returns in percent; or the word deposits, for those that "
    "are recorded.",
)
@click.option("--tz", metavar="ZONE", help="Time zone of the days of returns.")
@filter_options(*FILTERS)
@format_options
def show_performance(
    options: DatabaseOptions,
    output_format: str,
    quote: str | None,
    capital: tuple[float | None] | None,
    tz: str | None,
    **filters: Any,
) -> None:
    """Show the performance for each quote currency."""
    if tz is not None and capital is None:
        raise click.UsageError("--tz is that of the days of returns; pass --capital, too")
    with options.open(read_only=True), db.read_snapshot():
        chosen = currencies(_of_trades(filters), quote)
        if capital is not None and capital[0] is not None and len(chosen) > 1:
            raise click.UsageError(
                f"--capital: the PnL is in {', '.join(chosen)}; pass one of them as --quote"
            )
        summaries = [performance.summarize(**filters, quote=currency) for currency in chosen]
        on_capital: list[dict[str, Any]] = [{} for _ in chosen]
        if capital is not None:
            arguments: Any = {**filters, "capital": capital[0], "tz": tz}
            found = [returns.summarize(**arguments, quote=currency) for currency in chosen]
            empty = dict.fromkeys(field.name for field in fields(returns.Returns))
            on_capital = [empty if result is None else vars(result) for result in found]
    results = [more | vars(s) for s, more in zip(summaries, on_capital, strict=True)]
    if output_format != "table" or not summaries:
        print_rows(results, (), output_format, empty="no trades")
        return
    for index, (summary, more) in enumerate(zip(summaries, on_capital, strict=True)):
        if index:
            click.echo()
        shown = {name: value for name, value in vars(summary).items() if name not in IN_WORDS}
        pairs = {name: _format_field(name, value) for name, value in shown.items()}
        pairs |= {
            name: percent(value)
            if name in PERCENTAGES and value is not None
            else _format_field(name, value)
            for name, value in more.items()
            if name not in (*shown, *IN_WORDS)
        }
        print_pairs(pairs)
        print_source(summary)


IN_WORDS = ("source", "unknown")  # in a line of their own
# of a capital
PERCENTAGES = ("total_return", "cagr", "volatility", "relative_drawdown", "best_day", "worst_day")


def _capital(text: str) -> tuple[float | None]:
    """Return the argument `capital`, which is None for the recorded deposits."""
    try:
        return (None if text == "deposits" else float(text),)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither an amount nor 'deposits'") from None


def _of_trades(filters: dict[str, Any]) -> dict[str, Any]:
    """Return the filters that say which trades are meant."""
    return {name: value for name, value in filters.items() if name not in ("source", "rates")}


@database_command("round-trips")
@filter_options("symbol", "strategy", "exchange", "since", "until", "quote", "rates", "limit")
@click.option("--open", "include_open", is_flag=True, help="Show those that are open, too.")
@click.option(
    "--stop-key",
    metavar="KEY",
    help="Show R multiples, by the stop under this key in the entry signals' metadata.",
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
        Column("exchange", "exchange", optional=True, importance=2),
        Column("strategy", "strategy", optional=True, importance=1),
        Column("direction", "direction"),
        Column("quantity", "quantity", number, right=True, importance=3),
        Column("entry_price", "entry", number, right=True, importance=5),
        Column("exit_price", "exit", number, right=True, importance=4),
        Column("net_pnl", "net pnl", amounts=True, right=True),
        Column("quote", "in", optional=True),
        *([Column("r_multiple", "R", amounts=True, right=True)] if arguments["stop_key"] else []),
    )
    print_rows(reversed(latest), columns, output_format, empty="no round trips")
    if output_format == "table":
        for reason in dict.fromkeys(trip.unknown for trip in latest if trip.unknown):
            click.echo(f"net pnl is not known: {named_as_options(reason)}", err=True)


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
        "signal": explanation.warning or "none",
    }
    if signal is not None:
        pairs["signal"] = f"{signal['signal_value']:+d}, number {signal['id']}"
        pairs["delay"] = duration(explanation.delay or timedelta())
        if explanation.slippage is not None and explanation.signal_price is not None:
            pairs["signal price"] = number(explanation.signal_price)
            pairs["slippage"] = (
                f"{number(explanation.slippage)} ({explanation.slippage_bps:z,.1f} bps)"
            )
        pairs["warning"] = explanation.warning
        pairs |= {
            f"  {name}": number(value) if isinstance(value, float) else json.dumps(value)
            for name, value in explanation.indicators.items()
        }
    print_pairs(pairs)


@database_command("attribution")
@click.option("--bins", type=int, metavar="N", help="The largest number of ranges.  [default: 10]")
@click.option("--ends", metavar="A,B,...", help="The bounds of the ranges, instead of --bins.")
@click.option("--quantiles", is_flag=True, help="Ranges with about as many trades each.")
@click.option("--entry", is_flag=True, help="Use the signal of the entry, not of the exit.")
@filter_options(*FILTERS)
@format_options
@click.argument("key")
def show_attribution(
    options: DatabaseOptions,
    output_format: str,
    key: str,
    bins: int | None,
    ends: str | None,
    entry: bool,
    **filters: Any,
) -> None:
    """Show the results by ranges of an indicator.

    KEY is a key of the signals' metadata; a dot separates the keys of nested objects.
    """
    if bins is not None and ends is not None:
        raise click.UsageError("--bins and --ends exclude each other")
    try:
        ranges: Any = (
            (10 if bins is None else bins)
            if ends is None
            else [float(end) for end in ends.split(",")]
        )
    except ValueError:
        raise click.BadParameter(f"{ends!r} are not numbers such as 30,70") from None
    signal_of: Any = "entry" if entry else "exit"
    with options.open(read_only=True):
        groups = attribution.pnl_by_metadata(key, ranges, **filters, signal_of=signal_of)
    source = groups[0].source if groups else "recorded"
    columns = (
        Column("label", key, right=all(group.category is None for group in groups)),
        *RESULT_COLUMNS[source],
    )
    rows: list[Any] = [_shown(group) for group in groups] if output_format == "table" else groups
    print_rows(rows, columns, output_format, empty=f"no trade has a signal with {key}")


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
