"""The commands that analyse: results, and the signals that led to them."""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from datetime import datetime, timedelta, tzinfo
from operator import itemgetter
from typing import Any, get_args

import click
from peewee import fn

from ..analysis import attribution, performance, returns, round_trips
from ..analysis.selection import currencies, quotes_of
from ..database import db
from ..errors import NotFoundError, ValidationError
from ..formats import amount, count, number
from ..models import Trade
from ..queries import read
from ..repositories import trades
from ..symbols import quote_of
from ._listing import EXCHANGE, STRATEGY, SYMBOL, json_text, row_of
from ._options import DatabaseOptions, database_command, filter_options, format_options, json_option
from ._output import (
    Column,
    average_column,
    duration,
    fees_text,
    fields_of,
    gain_or_loss,
    middle,
    named_as_options,
    percent,
    print_json,
    print_pairs,
    print_rows,
    ratio,
    time_column,
    timestamp,
    zone_name,
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
        Column("profit_factor", "factor", ratio, right=True, importance=3),
        Column("best", "best", amounts=True, right=True, importance=2),
        Column("worst", "worst", amounts=True, right=True, importance=1),
    ),
    "fills": (
        *CLOSED_COLUMNS,
        Column("profit_factor", "factor", ratio, right=True, importance=2),
        Column("gross_pnl", "gross", amounts=True, right=True, importance=1),
        Column("shown_fees", "fees", right=True, importance=3),
        Column("net_pnl", "net pnl", amounts=True, right=True),
    ),
}
MAX_SYMBOLS = 20  # without a currency, each with a result of its own
FILTERS = ("symbol", "strategy", "exchange", "since", "until", "tz", "quote", "source", "rates")


@database_command("pnl")
@click.option(
    "--by",
    "dimensions",
    metavar="NAME[,NAME]",
    help=f"One or two of {', '.join(get_args(performance.Dimension))}.  [default: symbol]",
)
@click.option("--metadata", metavar="KEY", help="By the value of a key of the trades' metadata.")
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
    blocks: list[tuple[dict[str, Any], list[performance.Group], performance.Performance | None]]
    blocks = []
    with options.open(read_only=True), db.read_snapshot():
        found = _parts(_of_trades(arguments), quote, of_symbols="symbol" in names)
        for part in found:
            of_part = arguments | part
            groups = performance.by(dimension, **of_part, tz=options.zone, of=of)
            # of symbols that name no currency, only one has a total; a trade may have several tags
            is_one = part["quote"] or quote is not None or "symbol" not in names
            has_total = metadata is None and (is_one or len(groups) == 1)
            total = performance.summarize(**of_part) if has_total else None
            if groups:
                blocks.append((part, groups, total))
    if output_format != "table" or not blocks:
        rows = [
            {"key": group.key, **_named(part), **vars(group)}
            for part, groups, _ in blocks
            for group in groups
        ]
        empty = "no trades"
        if found:
            empty = f"no closed trade has {metadata}" if metadata else "nothing was closed"
        fields = dict.fromkeys(["key", "symbol", *fields_of(performance.Group)])
        print_rows(rows, (), output_format, empty=empty, fields=fields)
        return
    for index, (part, groups, total) in enumerate(blocks):
        if index:
            click.echo()
        columns = [_key_column(name) for name in names]
        if total is None:
            columns.append(Column("quote", "in", optional=True))
        columns += RESULT_COLUMNS[groups[0].source]
        rows = [_keys(names, group.key) | _shown(group) for group in groups]
        totals = []
        if total is not None:
            totals = [_keys(names, ("total", "")[: len(names)]) | _shown(total)]
        print_rows(rows, columns, output_format, empty="no trades", totals=totals)
        if total is not None:
            print_source(total, **_named(part))
        elif "symbol" in part:
            click.echo(part["symbol"])


def _key_column(name: str) -> Column:
    """Return the column of the keys of groups."""
    is_hour = name == "hour"
    return Column(f"key {name}", name, right=is_hour, shorten=None if is_hour else middle)


def _keys(names: tuple[str, ...], key: Any) -> dict[str, Any]:
    """Return the keys of a group by column."""
    keys = key if isinstance(key, tuple) else (json.dumps(key) if isinstance(key, bool) else key,)
    return {
        f"key {name}": "(none)" if each is None else each
        for name, each in zip(names, keys, strict=True)
    }


def _shown(result: performance.Result) -> dict[str, Any]:
    """Return the fields of a result, with its fees as text, without the currency of the PnL."""
    is_plain = result.fees.keys() <= {result.quote}
    fees = amount(sum(result.fees.values())) if is_plain else fees_text(result.fees)
    return {**vars(result), "shown_fees": fees}


def print_source(result: performance.Result, symbol: str | None = None) -> None:
    """Print where a result comes from, and why figures are missing."""
    where = f"in {result.quote}, " if result.quote else f"{symbol}, " if symbol else ""
    if result.source == "fills":
        trips = "round trip" if result.closed_trades == 1 else "round trips"
        click.echo(f"{where}net PnL of {count(result.closed_trades)} {trips}, from the fills")
    else:
        with_pnl, trades = count(result.trades_with_pnl), count(result.trades)
        click.echo(f"{where}as recorded: {with_pnl} of {trades} trades have a PnL")
    if result.unknown:
        click.echo(f"not known: {named_as_options(result.unknown)}")


@database_command("performance")
@filter_options("capital", *FILTERS)
@format_options
def show_performance(
    options: DatabaseOptions,
    output_format: str,
    quote: str | None,
    capital: dict[str, float | None],
    **filters: Any,
) -> None:
    """Show the performance for each quote currency."""
    with options.open(read_only=True), db.read_snapshot():
        chosen = _parts(_of_trades(filters), quote)
        summaries = [performance.summarize(**(filters | part)) for part in chosen]
        on_capital = [
            _on_capital(capital, filters | part, options.zone, is_only=len(chosen) == 1)
            for part in chosen
        ]
    results = [
        _named(part) | more | vars(summary)
        for part, summary, (more, _) in zip(chosen, summaries, on_capital, strict=True)
    ]
    if output_format != "table" or not summaries:
        columns = dict.fromkeys(["symbol", *fields_of(performance.Performance)])
        print_rows(results, (), output_format, empty="no trades", fields=columns)
        for _, problem in on_capital:
            if problem:
                click.echo(problem, err=True)
        return
    each = zip(chosen, summaries, on_capital, strict=True)
    for index, (part, summary, (more, problem)) in enumerate(each):
        if index:
            click.echo()
        shown = {name: value for name, value in vars(summary).items() if name not in IN_WORDS}
        added = {n: value for n, value in more.items() if n not in (*shown, *IN_WORDS)}
        print_pairs(
            _named(part)
            | {name: _format_field(name, value, options.zone) for name, value in shown.items()}
            | {
                name: gain_or_loss(percent(value), value)
                if name in PERCENTAGES and value is not None
                else _format_field(name, value, options.zone)
                for name, value in added.items()
            }
        )
        print_source(summary, **_named(part))
        if problem:
            click.echo(problem)


IN_WORDS = ("source", "unknown")  # in a line of their own
# of a capital
PERCENTAGES = ("total_return", "cagr", "volatility", "relative_drawdown", "best_day", "worst_day")


def _on_capital(
    capitals: dict[str, float | None], filters: dict[str, Any], zone: tzinfo, *, is_only: bool
) -> tuple[dict[str, Any], str | None]:
    """Return the figures of a capital by name, and why they are missing where others are not."""
    if not capitals:
        return {}, None
    currency = filters["quote"]
    missing: dict[str, Any] = dict.fromkeys(fields_of(returns.Returns))
    capital = capitals.get(currency, capitals.get(""))
    if currency not in capitals and "" not in capitals:
        return missing, f"returns are not known: pass --capital {currency}=AMOUNT, too"
    if capital is not None and not is_only and (not currency or currency not in capitals):
        what = f"pass --capital {currency}={capital:g}" if currency else "pass one --symbol, too"
        return missing, f"returns are not known: {what}"
    arguments: Any = {**filters, "capital": capital, "tz": zone}
    try:
        found = returns.summarize(**arguments)
    except ValidationError as error:
        if is_only or error.field != "capital":
            raise
        return missing, f"returns are not known: {error}"
    return missing if found is None else vars(found), None


def _parts(
    filters: dict[str, Any], quote: str | None, *, of_symbols: bool = False
) -> list[dict[str, Any]]:
    """Return the arguments of each result: its currency, or a symbol that names none.

    Several symbols that name no currency are not added up: each one has a result of its own, of
    very many those with the most trades; that the others are left out is said.
    """
    if quote is not None or of_symbols:
        return [{"quote": each} for each in currencies(filters, quote, of_symbols=of_symbols)]
    values = read.filters(Trade, **filters)
    symbols = read.distinct(Trade, "symbol", values)
    nameless = [symbol for symbol in symbols if not quote_of(symbol)]
    if len(nameless) < 2:
        return [{"quote": each} for each in quotes_of(symbols)]
    symbol: Any = Trade.symbol
    trades_of = fn.COUNT(Trade.id)
    query = read.select(
        Trade, [*read.conditions(Trade, values, values), symbol.in_(nameless)], symbol
    )
    query = query.group_by(symbol).order_by(trades_of.desc(), symbol).limit(MAX_SYMBOLS)
    most = sorted(name for (name,) in read.fetch(query.tuples()))
    if len(nameless) > len(most):
        number = count(len(nameless) - len(most))
        click.echo(
            f"left out: {number} more symbols that name no currency; pass --quote '' if all of "
            "them have the same one, or --symbol",
            err=True,
        )
    named = [{"quote": each} for each in quotes_of(symbols) if each]
    return [*[{"quote": "", "symbol": each} for each in most], *named]


def _named(part: dict[str, Any]) -> dict[str, str | None]:
    """Return the symbol of a result, where its currency does not say what it is of."""
    return {"symbol": part.get("symbol")}


def _of_trades(filters: dict[str, Any]) -> dict[str, Any]:
    """Return the filters that say which trades are meant."""
    return {name: value for name, value in filters.items() if name not in ("source", "rates")}


@database_command("round-trips")
@filter_options("symbol", "strategy", "exchange", "since", "until", "tz", "quote", "rates", "limit")
@click.option("--direction", type=click.Choice(["long", "short"]), help="Only this direction.")
@click.option("--open", "include_open", is_flag=True, help="Show those that are open, too.")
@click.option(
    "--stop-key",
    metavar="KEY",
    help="Show R multiples, by the stop under this key in the entry signals' metadata.",
)
@format_options
def show_round_trips(
    options: DatabaseOptions,
    output_format: str,
    limit: int,
    direction: str | None,
    **arguments: Any,
) -> None:
    """List the round trips that were closed last, newest first.

    A round trip is a position from flat to flat. The net PnL is after fees and with funding.
    """
    with options.open(read_only=True):
        found = round_trips.round_trips(**arguments)
        some = (trip for trip in found if direction in (None, trip.direction))
        latest = deque(some, maxlen=limit)
    columns = (
        time_column("closed_at", "closed", options.zone, null="open"),
        SYMBOL,
        Column("direction", "side"),
        Column("quantity", "quantity", number, right=True, importance=6),
        average_column("entry_price", "entry", importance=7),
        average_column("exit_price", "exit", importance=7),
        Column("net_pnl", "net pnl", amounts=True, currency=itemgetter("quote"), right=True),
        Column("quote", "in", optional=True),
        *([Column("r_multiple", "R", ratio, right=True)] if arguments["stop_key"] else []),
        STRATEGY,
        EXCHANGE,
    )
    fields = fields_of(round_trips.RoundTrip)
    print_rows(reversed(latest), columns, output_format, empty="no round trips", fields=fields)
    if output_format == "table":
        for reason in dict.fromkeys(trip.unknown for trip in latest if trip.unknown):
            click.echo(f"net pnl is not known: {named_as_options(reason)}", err=True)


@database_command("explain")
@click.option("--price-key", metavar="KEY", help="The key of the price in the signal's metadata.")
@filter_options("tz")
@json_option
@click.argument("id")
def explain_trade(options: DatabaseOptions, id: str, price_key: str | None, as_json: bool) -> None:
    """Show which signal triggered a trade, and the slippage.

    ID is the id of the trade, or any part of it that no other trade has.
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
        "when": _time(trade["timestamp"], options.zone, seconds=True),
        "id": trade["id"],
        "strategy": trade["strategy"],
        "pnl": None if trade["pnl"] is None else gain_or_loss(amount(trade["pnl"]), trade["pnl"]),
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
            f"  {name}": number(value) if isinstance(value, float) else json_text(value)
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
    quote: str | None,
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
    of_trades = _of_trades({name: v for name, v in filters.items() if name != "quantiles"})
    signal_of: Any = "entry" if entry else "exit"
    with options.open(read_only=True), db.read_snapshot():
        found = [
            (
                part,
                attribution.pnl_by_metadata(key, ranges, **(filters | part), signal_of=signal_of),
            )
            for part in _parts(of_trades, quote)
        ]
    blocks = [(part, groups) for part, groups in found if groups]
    if output_format != "table" or not blocks:
        rows = [_named(part) | vars(group) for part, groups in blocks for group in groups]
        empty = f"no trade has a signal with {key}"
        fields = dict.fromkeys(["symbol", *fields_of(attribution.Bucket)])
        print_rows(rows, (), output_format, empty=empty, fields=fields)
        return
    for index, (part, groups) in enumerate(blocks):
        if index:
            click.echo()
        is_category = any(group.category is not None for group in groups)
        columns = (
            Column("label", key, right=not is_category, shorten=middle if is_category else None),
            *RESULT_COLUMNS[groups[0].source],
        )
        print_rows([_shown(group) for group in groups], columns, output_format, empty="")
        if "symbol" in part:
            click.echo(part["symbol"])
        elif len(blocks) > 1:
            click.echo(f"in {groups[0].quote}" if groups[0].quote else "symbols without a currency")


@database_command("conversion")
@filter_options("symbol", "strategy", "since", "until", "tz")
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
    fields = fields_of(attribution.Conversion)
    total = {name: sum(vars(group)[name] for group in groups) for name in fields[1:]}
    if total["signals"]:
        total |= {"signal_value": "total", "rate": total["acted_on"] / total["signals"]}
    print_rows(groups, columns, output_format, empty="no signals", fields=fields, totals=[total])


ANALYSIS_COMMANDS = (
    show_pnl,
    show_performance,
    show_round_trips,
    explain_trade,
    show_attribution,
    show_conversion,
)


def _find_trade(text: str) -> Trade:
    """Return the trade whose id has a text in it: at its beginning, at its end or in between."""
    digits = text.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,31}", digits):
        trade = trades.get_by_id(text)
        if trade is None:
            raise NotFoundError(f"id: there is no trade {text}")
        return trade
    first, last = (uuid.UUID(digits.ljust(32, fill)) for fill in "0f")
    key: Any = Trade.id
    whole: Any = fn.REPLACE(key.cast("TEXT"), "-", "")
    matches = _some_trades(key.between(first, last))  # by the index
    if len(matches) != 1:
        matches = _some_trades(whole.contains(digits))
    if not matches:
        raise NotFoundError(f"id: there is no trade whose id has {text} in it")
    if len(matches) > 1:
        examples = ", ".join(str(trade.id) for trade in matches[:2])
        raise ValidationError(
            f"id: several trades have {text} in it, such as {examples}; give more of its digits"
        )
    return matches[0]


def _some_trades(condition: Any) -> list[Trade]:
    """Return at most three trades that meet a condition, the newest first."""
    order: Any = Trade.timestamp
    query: Any = Trade.select().where(condition).order_by(order.desc()).limit(3)
    matches: list[Trade] = read.fetch(query)
    return matches


def _format_field(name: str, value: Any, zone: tzinfo) -> Any:
    """Format a field of a `Performance`; None for one without a value."""
    if name == "fees":
        return fees_text(value) or None
    if name == "win_rate":
        return None if value is None else percent(value)
    if isinstance(value, datetime):
        return _time(value, zone)
    if isinstance(value, timedelta):
        return duration(value)
    if isinstance(value, float):
        return gain_or_loss(amount(value), value) if name in SIGNED else amount(value)
    if isinstance(value, int):
        return count(value)
    return None if value is None else str(value)


def _time(value: datetime, zone: tzinfo, *, seconds: bool = False) -> str:
    text = f"{value.astimezone(zone):%Y-%m-%d %H:%M:%S}" if seconds else timestamp(value, zone)
    return f"{text} {zone_name(zone)}"


# what is above 0 for a gain, and below 0 for a loss
SIGNED = (
    "average_loss", "average_win", "best", "expectancy", "gross_loss", "gross_pnl", "gross_profit",
    "net_pnl", "total_pnl", "worst",
)  # fmt: skip
