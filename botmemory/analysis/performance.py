"""Results, ratios, the equity curve and its drawdowns, from what is recorded or from the fills.

A closed trade is a trade with a `pnl`, which counts as it was recorded, or a round trip, of which
the net PnL counts. PnL is in the quote currency of the symbol (`BTC/USDT` in USDT), of a derivative
in its settlement currency (`BTC/USD:BTC` in BTC). PnL in different currencies is never added up:
filter by a symbol, or by a currency with `quote=`. Times are UTC unless a time zone is given. A
figure that is not known or not defined is None.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import partial
from typing import Any, Literal, NamedTuple

from peewee import SQL, Case, fn

from .. import exact
from .._arguments import checked_call
from .._values import checked_key, checked_rates, refuse
from ..database import db
from ..errors import ValidationError
from ..exact import to_float
from ..models import OrderSide, Trade
from ..queries import read
from ..queries.sums import fetch_sums, parse_sum, whole_sum
from ..queries.trips import FIRST_OTHER, ID, Row, Trip, read_trips, timestamp_of
from ..symbols import quote_of
from ._curve import Curve, Drawdown
from ._dimensions import (
    TIME,
    Dimension,
    Grouping,
    Place,
    checked_dimensions,
    checked_time_zone,
    direction_of,
    has_array_under,
    places_of,
    values_under,
)
from ._results import Result, Source, Sums, result_fields
from .selection import Selection, choose_source, count_trades, select

__all__ = [
    "Dimension",
    "Drawdown",
    "EquityPoint",
    "Group",
    "Performance",
    "Result",
    "Source",
    "by",
    "drawdowns",
    "equity_curve",
    "quotes",
    "summarize",
]


@dataclass(frozen=True, kw_only=True)
class Group(Result):
    """The result of the closed trades that have something in common.

    `trades` is the number of trades in the group, with fills that of the round trips in it.

    Attributes:
        key: The symbol, the strategy or the exchange (None for trades without one), the direction
            (`long`), the side (`buy`), the day (`2024-01-31`), the ISO week (`2024-W05`), the month
            (`2024-01`), the hour of the day (0 to 23), the weekday (`Monday`), or the value in the
            metadata; of two dimensions a tuple of both.
    """

    key: Any


@dataclass(frozen=True, kw_only=True)
class Performance(Result):
    """A result with what depends on the order of the closed trades.

    Attributes:
        sqn: The system quality number: sqrt(n) x average / standard deviation of the PnL of a
            sample of n closed trades (Tharp, Definitive Guide to Position Sizing); None for fewer
            than two or if all are equal.
        recovery_factor: total PnL / maximum drawdown; None without a drawdown.
        longest_winning_streak: The largest number of wins in a row.
        longest_losing_streak: The largest number of losses in a row.
        average_holding_time: The average holding time of the round trips; None for recorded PnL.
        average_holding_time_of_wins: That of those with a PnL above 0.
        average_holding_time_of_losses: That of those with a PnL below 0.
        max_drawdown: The largest fall of the cumulative PnL below its highest value so far, which
            is 0 before the first closed trade; 0 or above (Magdon-Ismail and Atiya, Maximum
            Drawdown, 2004).
        max_drawdown_start: The time of the closed trade with that highest value, or of the first
            one; None without a drawdown.
        max_drawdown_end: The time of the first closed trade that reached that value again; None if
            none did.
        max_drawdown_duration: The time from the start to the end, or to the last closed trade; None
            without a drawdown.
        current_drawdown: How far the cumulative PnL is below its highest value at the end.
        longest_drawdown: The longest time that a drawdown lasted, as its duration is counted; None
            without a drawdown.
    """

    sqn: float | None
    recovery_factor: float | None
    longest_winning_streak: int | None
    longest_losing_streak: int | None
    average_holding_time: timedelta | None
    average_holding_time_of_wins: timedelta | None
    average_holding_time_of_losses: timedelta | None
    max_drawdown: float | None
    max_drawdown_start: datetime | None
    max_drawdown_end: datetime | None
    max_drawdown_duration: timedelta | None
    current_drawdown: float | None
    longest_drawdown: timedelta | None


@dataclass(frozen=True)
class EquityPoint:
    """A closed trade on the equity curve.

    Attributes:
        timestamp: The time of the trade, of a round trip that of its last fill.
        trade_id: The id of that trade.
        pnl: The PnL of the closed trade.
        equity: The sum of the PnL up to this trade, included.
        drawdown: How far `equity` is below its highest value so far; 0 or above.
    """

    timestamp: datetime
    trade_id: uuid.UUID
    pnl: float
    equity: float
    drawdown: float


@checked_call
def summarize(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
) -> Performance:
    """Return the performance of all trades, or of those that match the filters.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Memory is constant: the trades are read once, in time order.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only closed trades from this time on.
        end_date: Only closed trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        source: `"recorded"` adds up the `pnl` of the trades, `"fills"` the net PnL of the round
            trips; None takes what is recorded, if any trade has a `pnl`, and else the fills.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`. Of use with fills alone.

    Raises:
        ValidationError: An argument is invalid, or the PnL is in different currencies.
    """
    known_rates = checked_rates(rates)
    sums, curve, holding_times = Sums(), Curve(), _HoldingTimes()
    with db.read_snapshot():
        selection = select(symbol, strategy, start_date, end_date, exchange, quote)
        chosen = choose_source(selection, source)
        for closed in _closed_trades(selection, chosen, known_rates, sums):
            holding_times.add(closed)
            if closed.pnl is not None:
                curve.add(closed.timestamp, closed.pnl)
        if chosen == "fills":
            # without a source, none has a PnL
            sums.trades, sums.with_pnl = count_trades(selection, with_pnl=source is not None)
    fields = result_fields(selection.quote, chosen, sums)
    of_curve: dict[str, Any] = curve.fields()
    if fields["total_pnl"] is None:
        of_curve = dict.fromkeys(of_curve)
    of_times: dict[str, Any] = holding_times.fields(is_known=fields["total_pnl"] is not None)
    return Performance(**fields, **of_curve, **of_times)


@checked_call
def equity_curve(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
) -> list[EquityPoint]:
    """Return the closed trades, each with the sum of the PnL so far.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only closed trades from this time on.
        end_date: Only closed trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        source: `"recorded"` adds up the `pnl` of the trades, `"fills"` the net PnL of the round
            trips; None takes what is recorded, if any trade has a `pnl`, and else the fills.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`. Of use with fills alone.

    Returns:
        One point for each closed trade, in time order.

    Raises:
        ValidationError: An argument is invalid, the PnL is in different currencies, or that of a
            round trip is not known.
    """
    known_rates = checked_rates(rates)
    points, curve = [], Curve()
    with db.read_snapshot():
        selection = select(symbol, strategy, start_date, end_date, exchange, quote)
        chosen = choose_source(selection, source)
        for closed in _closed_trades(selection, chosen, known_rates, Sums()):
            pnl = _known(closed)
            drawdown = curve.add(closed.timestamp, pnl)
            amounts = (to_float("pnl", amount) for amount in (pnl, curve.equity, drawdown))
            points.append(EquityPoint(closed.timestamp, _id(closed.trade_id), *amounts))
    return points


@checked_call
def drawdowns(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    limit: int = 5,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
) -> list[Drawdown]:
    """Return the largest drawdowns of the cumulative PnL, the largest first.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only closed trades from this time on.
        end_date: Only closed trades up to this time, included.
        limit: How many, at least 1.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        source: `"recorded"` adds up the `pnl` of the trades, `"fills"` the net PnL of the round
            trips; None takes what is recorded, if any trade has a `pnl`, and else the fills.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`. Of use with fills alone.

    Raises:
        ValidationError: An argument is invalid, the PnL is in different currencies, or that of a
            round trip is not known.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        refuse("limit", limit, "is not a number of drawdowns, at least 1")
    known_rates = checked_rates(rates)
    curve = Curve(limit)
    with db.read_snapshot():
        selection = select(symbol, strategy, start_date, end_date, exchange, quote)
        chosen = choose_source(selection, source)
        for closed in _closed_trades(selection, chosen, known_rates, Sums()):
            curve.add(closed.timestamp, _known(closed))
    return curve.drawdowns()


@checked_call
def by(
    dimension: Dimension | tuple[Dimension, Dimension] | str,
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
    tz: str | tzinfo | None = None,
    of: Literal["trade_metadata"] | None = None,
) -> list[Group]:
    """Return the result for each symbol, strategy, exchange, direction, side or span of time.

    Each figure is defined in the guide [Accounting](../accounting.md).

    With `of="trade_metadata"` the groups are those of a value in the metadata of the trades, such
    as an exit reason; each element of an array, such as tags, is a group. Trades without it are
    left out. Of a round trip it is the value in the last of its fills that has one, and all
    elements of arrays.

    Args:
        dimension: What the trades of a group have in common, or a tuple of two dimensions; or the
            key of the metadata, where a dot separates the keys of nested objects. Time is that of
            the close, the side of a round trip that of its entry, and the direction that of the
            position that was closed, or opened by a trade without a `pnl`.
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only closed trades from this time on.
        end_date: Only closed trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        source: `"recorded"` adds up the `pnl` of the trades, `"fills"` the net PnL of the round
            trips; None takes what is recorded, if any trade has a `pnl`, and else the fills.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`. Of use with fills alone.
        tz: The time zone of days and hours, such as `"Europe/Berlin"`; None for UTC.
        of: `"trade_metadata"` if `dimension` is a key of it.

    Returns:
        Groups with trades: in alphabetical order (None last), in time order, or from Monday on.
        Values of metadata: numbers, False, True, text.

    Raises:
        ValidationError: An argument is invalid, or the PnL of a group is in different currencies.
    """
    known_rates = checked_rates(rates)
    time_zone = checked_time_zone(tz)
    if of is None:
        grouping = Grouping(checked_dimensions(dimension), time_zone)
    elif of == "trade_metadata":
        grouping = Grouping((), key=checked_key(dimension))
    else:
        refuse("of", of, "is unknown; use 'trade_metadata'")
    names = grouping.names
    by_symbol = names.index("symbol") if "symbol" in names else None
    with db.read_snapshot():
        selection = select(
            symbol, strategy, start_date, end_date, exchange, quote, one_currency=by_symbol is None
        )
        chosen = choose_source(selection, source)
        if chosen == "fills":
            groups = _groups_of_round_trips(grouping, selection, known_rates)
        else:
            groups = _groups_of_trades(grouping, selection)
    results = []
    for places in sorted(groups):
        quote_of_group = (
            quote_of(places[by_symbol][1]) if by_symbol is not None else selection.quote
        )
        results.append(_group(places, quote_of_group, chosen, groups[places]))
    return results


@checked_call
def quotes(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
) -> list[str]:
    """Return the currencies of the PnL of the trades.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.

    Returns:
        The currencies in alphabetical order; "" for symbols that name none.
    """
    filters = read.filters(Trade, symbol, strategy, start_date, end_date, exchange)
    return sorted({quote_of(name) or "" for name in read.distinct(Trade, "symbol", filters)})


# --- closed trades in time order ----------------------------------------------------------------


class _Closed(NamedTuple):
    """A closed trade; its id is one of a trade, or as the driver returns it."""

    timestamp: datetime
    trade_id: Any
    pnl: Decimal | None
    symbol: str = ""
    unknown: str | None = None
    opened_at: datetime | None = None


def _closed_trades(
    selection: Selection, source: Source, rates: Mapping[str, float], sums: Sums
) -> Iterator[_Closed]:
    """Yield the closed trades in time order, and add them to sums."""
    if source == "fills":
        for trip in read_trips(selection.filters, selection.symbols):
            result = trip.result(rates)
            sums.add_round_trip(trip, result)
            last = trip.last
            opened_at, closed_at = timestamp_of(trip.first), timestamp_of(last)
            of_trip = trip.key[0], result.unknown, opened_at
            yield _Closed(closed_at, last[ID], result.net, *of_trip)
        return
    for timestamp, trade_id, pnl, fee, currency in _trades(selection, "pnl", "fee", "fee_currency"):
        amount = sums.add_trade(pnl, fee, currency)
        if amount is not None:
            yield _Closed(timestamp, trade_id, amount)


def _known(closed: _Closed) -> Decimal:
    """Return the PnL of a closed trade; refuse one that is not known."""
    if closed.pnl is None:
        raise ValidationError(
            f"the PnL of the round trip of {closed.symbol} closed at {closed.timestamp} is not "
            f"known: {closed.unknown}"
        )
    return closed.pnl


def _id(value: Any) -> uuid.UUID:
    field: Any = Trade.id
    trade_id: uuid.UUID = field.python_value(value)
    return trade_id


def _trades(selection: Selection, *fields: str) -> Iterator[tuple[Any, ...]]:
    """Yield the timestamp, the id and the named fields of trades in time order."""
    rows = read.stream_values(Trade, selection.filters, "symbol", *fields)
    symbols = selection.symbols
    for timestamp, trade_id, symbol, *values in rows:
        if symbols is None or symbol in symbols:
            yield timestamp, trade_id, *values


class _HoldingTimes:
    """The holding times of round trips."""

    def __init__(self) -> None:
        self._times = {name: [0, timedelta(0)] for name in ("", "_of_wins", "_of_losses")}

    def add(self, closed: _Closed) -> None:
        if closed.opened_at is None:
            return
        held = closed.timestamp - closed.opened_at
        names = ("", "_of_wins" if closed.pnl > 0 else "_of_losses") if closed.pnl else ("",)
        for name in names:
            times: Any = self._times[name]
            times[0] += 1
            times[1] += held

    def fields(self, *, is_known: bool) -> dict[str, timedelta | None]:
        """Return the fields of a `Performance` about holding times.

        Those of wins and of losses are None unless the PnL of each round trip is known.
        """
        times: Any = self._times.items()
        return {
            f"average_holding_time{name}": total / number
            if number and is_known >= bool(name)
            else None
            for name, (number, total) in times
        }


# --- groups -------------------------------------------------------------------------------------

Groups = dict[tuple[Place, ...], Sums]


def _group(places: tuple[Place, ...], quote: str | None, source: Source, sums: Sums) -> Group:
    keys = tuple(key for _, key in places)
    return Group(key=keys[0] if len(keys) == 1 else keys, **result_fields(quote, source, sums))


def _groups_of_trades(grouping: Grouping, selection: Selection) -> Groups:
    """Return the sums of trades for each group."""
    groups = None if grouping.key else _groups_in_database(grouping, selection)
    if groups is not None:
        return groups
    groups = defaultdict(Sums)
    fields = ("pnl", "fee", "fee_currency", "side", *grouping.fields)
    for timestamp, _, pnl, fee, currency, side, *values in _trades(selection, *fields):
        if grouping.key:
            all_places = places_of(values_under(values[0], grouping.key))
        else:
            named = dict(zip(grouping.fields, values, strict=True))
            named |= {TIME: timestamp, "direction": direction_of(side, pnl)}
            all_places = {grouping.place(named)}
        for places in all_places:
            groups[places].add_trade(pnl, fee, currency)
    return groups


def _groups_in_database(grouping: Grouping, selection: Selection) -> Groups | None:
    """Return the sums of trades for each group; None if the trades must be read."""
    pnl, fee = Trade.pnl, Trade.fee
    keys = [column.alias(f"key{n}") for n, column in enumerate(grouping.expressions())]
    columns = (
        fn.COUNT(SQL("*")),
        fn.COUNT(pnl),
        fn.COUNT(Case(None, [(pnl > 0, 1)])),
        fn.COUNT(Case(None, [(pnl < 0, 1)])),
        fn.MAX(pnl),
        fn.MIN(pnl),
        whole_sum(pnl, unless=pnl <= 0),
        whole_sum(pnl, unless=pnl >= 0),
    )
    conditions = selection.conditions()
    query = read.select(Trade, conditions, *keys, *columns).group_by(*keys)
    rows = fetch_sums(query.tuples())
    has_fee = [*conditions, fee.is_null(False)]
    query = read.select(Trade, has_fee, *keys, Trade.fee_currency, whole_sum(fee))
    fee_rows = fetch_sums(query.group_by(*keys, Trade.fee_currency).tuples())
    if rows is None or fee_rows is None:
        return None
    groups: Groups = defaultdict(Sums)
    for row in rows:
        places = grouping.place_in_database(row[: len(keys)])
        trades, closed, wins, losses, best, worst, profit_text, loss_text = row[len(keys) :]
        profit, loss = parse_sum(profit_text), parse_sum(loss_text)
        if places is None or profit is None or loss is None:
            return None
        best, worst = (None if pnl is None else exact.to_decimal(pnl) for pnl in (best, worst))
        sums = Sums(trades, closed, closed, wins, losses, best, worst, profit, loss)
        groups[places].merge(sums)
    for *values, currency, fee_text in fee_rows:
        places, total = grouping.place_in_database(values), parse_sum(fee_text)
        if places is None or total is None:
            return None
        groups[places].add_fee(total, currency)
    return groups


PNL, METADATA = FIRST_OTHER, FIRST_OTHER + 1


class _Notes:
    """What a group of round trips takes from their fills."""

    def __init__(self) -> None:
        self.with_pnl = 0
        self.places: set[tuple[Place, ...]] = set()
        self._has_elements = False

    def add(self, rows: list[Row], key: str | None) -> None:
        field: Any = Trade.trade_metadata
        for row in rows:
            self.with_pnl += row[PNL] is not None
            if key is not None and row[METADATA] is not None:
                metadata = field.python_value(row[METADATA])
                if places := places_of(values_under(metadata, key)):
                    self._add_places(places, are_elements=has_array_under(metadata, key))

    def _add_places(self, places: set[tuple[Place, ...]], *, are_elements: bool) -> None:
        """Take the value of a later fill, or add its elements to those so far."""
        if are_elements and self._has_elements:
            self.places |= places
        else:
            self.places = places
        self._has_elements = are_elements


def _note(key: str | None, notes: _Notes | None, rows: list[Row]) -> _Notes:
    notes = notes or _Notes()
    notes.add(rows, key)
    return notes


def _groups_of_round_trips(
    grouping: Grouping, selection: Selection, rates: Mapping[str, float]
) -> Groups:
    """Return the sums of round trips for each group."""
    groups: Groups = defaultdict(Sums)
    others = ("pnl", "trade_metadata") if grouping.key else ("pnl",)
    filters, symbols = selection.filters, selection.symbols
    for trip in read_trips(filters, symbols, *others, note=partial(_note, grouping.key)):
        result = trip.result(rates)
        notes = trip.notes
        all_places = notes.places if grouping.key else {grouping.place(_dimensions_of(trip))}
        for places in all_places:
            sums = groups[places]
            sums.trades += trip.fills
            sums.with_pnl += notes.with_pnl
            sums.add_round_trip(trip, result)
    return groups


def _dimensions_of(trip: Trip) -> dict[str, Any]:
    symbol, exchange, strategy = trip.key
    return {
        "symbol": symbol,
        "exchange": exchange,
        "strategy": strategy,
        "direction": "long" if trip.is_long else "short",
        "side": OrderSide.BUY if trip.is_long else OrderSide.SELL,
        TIME: timestamp_of(trip.last),
    }
