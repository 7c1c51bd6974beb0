"""Results, ratios, the equity curve and its drawdowns, from what is recorded or from the fills.

A closed trade is a trade with a `pnl`, which counts as it was recorded, or a round trip, of which
the net PnL counts. PnL is in the quote currency of the symbol (`BTC/USDT` in USDT), of a derivative
in its settlement currency (`BTC/USD:BTC` in BTC). PnL in different currencies is never added up:
filter by a symbol, or by a currency with `quote=`. Times are UTC unless a time zone is given. A
figure that is not known or not defined is None.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Literal, NamedTuple, overload

from .._arguments import checked_call
from .._values import checked_key, checked_rates, checked_time_zone, refuse
from ..database import db
from ..errors import ValidationError
from ..exact import to_float
from ..models import Trade
from ..queries import read
from ..queries.trips import ID, read_trips, timestamp_of
from ..symbols import quote_of
from ._curve import Curve, Drawdown
from ._groups import groups_of_round_trips, groups_of_trades
from .dimensions import Dimension, Grouping, checked_dimensions
from .results import Result, Source, Sums, result_fields
from .selection import Selection, choose_source, count_trades, quotes_of, select, trades_of

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
    totals = Totals()
    with db.read_snapshot():
        selection = select(symbol, strategy, start_date, end_date, exchange, quote)
        chosen = choose_source(selection, source)
        for closed in _closed_trades(selection, chosen, known_rates, totals.sums):
            totals.add(closed)
        if chosen == "fills":
            # without a source, none has a PnL
            counts = count_trades(selection, with_pnl=source is not None)
            totals.sums.trades, totals.sums.with_pnl = counts
    return totals.performance(selection.quote, chosen)


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


@overload
def by(
    dimension: Dimension | tuple[Dimension, Dimension],
    symbol: str | None = ...,
    strategy: str | None = ...,
    start_date: datetime | None = ...,
    end_date: datetime | None = ...,
    *,
    exchange: str | None = ...,
    quote: str | None = ...,
    source: Source | None = ...,
    rates: Mapping[str, float] | None = ...,
    tz: str | tzinfo | None = ...,
    of: None = ...,
) -> list[Group]: ...
@overload
def by(
    dimension: str,
    symbol: str | None = ...,
    strategy: str | None = ...,
    start_date: datetime | None = ...,
    end_date: datetime | None = ...,
    *,
    exchange: str | None = ...,
    quote: str | None = ...,
    source: Source | None = ...,
    rates: Mapping[str, float] | None = ...,
    tz: str | tzinfo | None = ...,
    of: Literal["trade_metadata"],
) -> list[Group]: ...
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
            groups = groups_of_round_trips(grouping, selection, known_rates)
        else:
            groups = groups_of_trades(grouping, selection)
    results = []
    for places in sorted(groups):
        quote_of_group = (
            quote_of(places[by_symbol][1]) if by_symbol is not None else selection.quote
        )
        keys = tuple(key for _, key in places)
        fields = result_fields(quote_of_group, chosen, groups[places])
        results.append(Group(key=keys[0] if len(keys) == 1 else keys, **fields))
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
    return quotes_of(read.distinct(Trade, "symbol", filters))


# --- closed trades in time order ----------------------------------------------------------------


class Closed(NamedTuple):
    """A closed trade; its id is one of a trade, or as the driver returns it."""

    timestamp: datetime
    trade_id: Any
    pnl: Decimal | None
    symbol: str = ""
    unknown: str | None = None
    opened_at: datetime | None = None


def _closed_trades(
    selection: Selection, source: Source, rates: Mapping[str, float], sums: Sums
) -> Iterator[Closed]:
    """Yield the closed trades in time order, and add them to sums."""
    if source == "fills":
        for trip in read_trips(selection.filters, selection.symbols):
            result = trip.result(rates)
            sums.add_round_trip(trip, result)
            last = trip.last
            opened_at, closed_at = timestamp_of(trip.first), timestamp_of(last)
            of_trip = trip.key[0], result.unknown, opened_at
            yield Closed(closed_at, last[ID], result.net, *of_trip)
        return
    for timestamp, trade_id, pnl, fee, currency in trades_of(
        selection, "pnl", "fee", "fee_currency"
    ):
        amount = sums.add_trade(pnl, fee, currency)
        if amount is not None:
            yield Closed(timestamp, trade_id, amount)


def _known(closed: Closed) -> Decimal:
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


class Totals:
    """What a `Performance` follows from; closed trades are added in time order.

    Attributes:
        sums: The sums; what adds to them differs between trades and round trips.
        curve: The cumulative PnL.

    Args:
        drawdowns: How many of the largest drawdowns are kept.
    """

    def __init__(self, drawdowns: int = 1) -> None:
        self.sums, self.curve = Sums(), Curve(drawdowns)
        self._holding_times = _HoldingTimes()

    def add(self, closed: Closed) -> Decimal | None:
        """Add what the sums do not have; return the drawdown, None if the PnL is not known."""
        self._holding_times.add(closed)
        return None if closed.pnl is None else self.curve.add(closed.timestamp, closed.pnl)

    def performance(self, quote: str | None, source: Source) -> Performance:
        """Return the performance of the closed trades that were added."""
        fields = result_fields(quote, source, self.sums)
        is_known = fields["total_pnl"] is not None
        of_curve: dict[str, Any] = self.curve.fields()
        if not is_known:
            of_curve = dict.fromkeys(of_curve)
        of_times: dict[str, Any] = self._holding_times.fields(is_known=is_known)
        return Performance(**fields, **of_curve, **of_times)


class _HoldingTimes:
    """The holding times of round trips."""

    def __init__(self) -> None:
        self._times: dict[str, Any] = {
            name: [0, timedelta(0)] for name in ("", "_of_wins", "_of_losses")
        }

    def add(self, closed: Closed) -> None:
        if closed.opened_at is None:
            return
        held = closed.timestamp - closed.opened_at
        names = ("", "_of_wins" if closed.pnl > 0 else "_of_losses") if closed.pnl else ("",)
        for name in names:
            times = self._times[name]
            times[0] += 1
            times[1] += held

    def fields(self, *, is_known: bool) -> dict[str, timedelta | None]:
        """Return the fields of a `Performance` about holding times.

        Those of wins and of losses are None unless the PnL of each round trip is known.
        """
        averages: dict[str, timedelta | None] = {}
        for name, (number, total) in self._times.items():
            is_asked_for = number and (is_known or not name)
            averages[f"average_holding_time{name}"] = total / number if is_asked_for else None
        return averages
