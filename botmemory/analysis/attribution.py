"""What triggered what: the signal behind a trade, and which signals made the money.

PnL, prices and slippage are in the quote currency of the symbol, times in UTC, start and end are
included. PnL in different currencies is never added up: see `performance`.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from peewee import JOIN, fn

from .._arguments import checked_call
from .._values import checked_key, flatten, to_text
from ..database import db
from ..errors import NotFoundError, ValidationError, show
from ..models import OrderSide, Signal, Trade
from ..queries import read
from ..repositories import trades
from ._ranges import bucket_bounds, bucket_of, checked_bins, is_number, round_ends
from ._results import Result, Sums, result_fields
from ._selection import Selection, select

__all__ = ["Bucket", "Conversion", "Explanation", "conversion", "explain", "pnl_by_metadata"]

PRICES = ("price", "close", "last")  # where a signal says at which price it was made


@dataclass(frozen=True)
class Explanation:
    """Why a trade was made, and what became of the signal on its way to the market.

    - `signal`: what triggered it; None, like all that follows, where the trade names none.
    - `indicators`: the signal's metadata; what is inside an object has a dotted name.
    - `delay`: from the signal to the trade.
    - `signal_price`: the price the signal was made at, None where its metadata has none.
    - `slippage`: how much worse than that the trade was for one unit, below 0 if better: a buy
      above it, a sell below it (Perold, The Implementation Shortfall, 1988). `slippage_bps`: the
      same in hundredths of a percent of the signal's price.
    """

    trade: Trade
    signal: Signal | None
    indicators: dict[str, Any]
    delay: timedelta | None
    signal_price: float | None
    slippage: float | None
    slippage_bps: float | None


@dataclass(frozen=True, kw_only=True)
class Bucket(Result):
    """The result of the trades whose signals have a value in one range, or one category.

    A range goes from `low`, included, to `high`, excluded except in the last one of round ranges;
    None is open. A category has its `category` instead. `label` says either in words.
    """

    label: str
    low: float | None = None
    high: float | None = None
    category: str | bool | None = None


@dataclass(frozen=True)
class Conversion:
    """How many signals of one value led to a trade, and to how many trades they led.

    `rate` is acted on / signals.
    """

    signal_value: int
    signals: int
    acted_on: int
    rate: float
    trades: int


@checked_call
def explain(trade: Trade | uuid.UUID | str, *, price_key: str | None = None) -> Explanation:
    """Return the signal that triggered a trade, with what it saw, the delay and the slippage.

    The trade is given as itself or by its id. `price_key` names the price in the signal's
    metadata, dotted inside objects; otherwise it is `price`, `close` or `last`. Raises
    `NotFoundError` for an id that is not there.
    """
    if not isinstance(trade, Trade):
        found = trades.get_by_id(trade)
        if found is None:
            raise NotFoundError(f"trade {trade} is not in {db.config.label}")
        trade = found
    signal = trade.signal
    if signal is None:
        return Explanation(trade, None, {}, None, None, None, None)
    indicators = dict(flatten(signal.signal_metadata))
    names = PRICES if price_key is None else (to_text("price_key", price_key),)
    found_prices = [indicators[name] for name in names if is_number(indicators.get(name))]
    price = next((float(one) for one in found_prices if one > 0), None)
    worse = None
    if price is not None:
        worse = trade.price - price if trade.side is OrderSide.BUY else price - trade.price
    return Explanation(
        trade=trade,
        signal=signal,
        indicators=indicators,
        delay=trade.timestamp - signal.timestamp,
        signal_price=price,
        slippage=worse,
        slippage_bps=worse / price * 10_000 if price and worse is not None else None,
    )


@checked_call
def pnl_by_metadata(
    key: str,
    bins: int | Sequence[float] = 10,
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    quote: str | None = None,
    signal_of: Literal["trade", "entry"] = "trade",
) -> list[Bucket]:
    """Return what was earned in each range of an indicator, ascending, then in each category.

    `key` is looked up in the metadata of a trade's own signal, dotted inside objects; trades
    without it are left out. With `signal_of="entry"` PnL counts for the signal of the trade that
    opened the position of its symbol and strategy, which matters where a trade that closes has a
    signal of its own. Numbers fall into at most `bins` ranges with round ends, or into those
    between the given ends and beyond them; text and booleans are categories. Only what has trades
    is returned. Raises `ValidationError`, also where PnL in different currencies would be added up.
    """
    key = checked_key(key)
    if signal_of not in ("trade", "entry"):
        raise ValidationError(
            f"signal_of: {show(signal_of)} is not known; use 'trade' or 'entry'", field="signal_of"
        )
    ends = checked_bins(bins)
    if signal_of == "trade":
        chosen = select(symbol, strategy, start_date, end_date, quote)
        found = list(_by_own_signal(key, chosen))
    else:
        # a position may have been opened before the first of the trades that are asked for
        chosen = select(symbol, strategy, None, None, quote)
        span = read.filters(Trade, None, None, start_date, end_date)
        found = list(_by_entry(key, chosen, span))
    numbers = [value for value, _ in found if is_number(value)]
    ranges = round_ends(numbers, bins) if isinstance(bins, int) and numbers else ends
    sums: dict[Any, Sums] = {}
    for value, pnl in found:
        place = bucket_of(value, ranges, closed=isinstance(bins, int))
        summed = Sums.of(pnl)
        sums[place] = sums[place].plus(summed) if place in sums else summed
    return [
        Bucket(**bucket_bounds(place, ranges), **result_fields(chosen.quote, sums[place]))
        for place in sorted(sums)
    ]


@checked_call
def conversion(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> list[Conversion]:
    """Return how many signals of each value were acted on: 1, then 0, then -1, where there are any.

    The symbol, the strategy and the time are those of the signals. A signal was acted on when at
    least one trade names it.
    """
    filters = read.filters(Signal, symbol, strategy, start_date, end_date)
    query: Any = Signal.select(
        Signal.signal_value,
        fn.COUNT(fn.DISTINCT(Signal.id)),
        fn.COUNT(fn.DISTINCT(Trade.signal)),
        fn.COUNT(Trade.signal),
    ).join(Trade, JOIN.LEFT_OUTER, on=(Trade.signal == Signal.id))
    if conditions := read.conditions(Signal, filters, filters):
        query = query.where(*conditions)
    rows = read.fetch(query.group_by(Signal.signal_value).tuples())
    return [
        Conversion(value, signals, acted_on, acted_on / signals, traded)
        for value, signals, acted_on, traded in sorted(rows, reverse=True)
    ]


# --- which value each PnL counts for --------------------------------------------------------


def _by_own_signal(key: str, chosen: Selection) -> Iterator[tuple[Any, float | None]]:
    """Yield the value in its own signal's metadata, and the PnL, of each trade that has one."""
    value, there = _value(key)
    query: Any = Trade.select(value, Trade.pnl).join(Signal)
    for found, pnl in read.stream_query(query.where(there, *chosen.conditions()).tuples()):
        if found is not None:
            yield found, pnl


def _by_entry(
    key: str, chosen: Selection, span: Mapping[str, datetime]
) -> Iterator[tuple[Any, float | None]]:
    """Yield the value in the entry's signal, and the PnL, of each closed trade of a time span."""
    value, there = _value(key)
    query: Any = Signal.select(Signal.id, value).join(Trade, on=(Trade.signal == Signal.id))
    query = query.where(there, *chosen.conditions())
    known = {id_: found for id_, found in read.stream_query(query.tuples()) if found is not None}
    held: defaultdict[Any, Decimal] = defaultdict(Decimal)
    entries: dict[Any, Any] = {}
    rows = read.stream_values(
        Trade, chosen.filters, "symbol", "strategy", "side", "quantity", "pnl", "signal"
    )
    for timestamp, _, symbol, strategy, side, quantity, pnl, signal in rows:
        if chosen.symbols is not None and symbol not in chosen.symbols:
            continue
        place = (symbol, strategy)
        change = Decimal(repr(quantity)) * (1 if side is OrderSide.BUY else -1)
        before, after = held[place], held[place] + change
        inside = span.get("start_date", timestamp) <= timestamp <= span.get("end_date", timestamp)
        if pnl is not None and before and inside and entries[place] in known:
            yield known[entries[place]], pnl
        if not before or before * after < 0:
            entries[place] = signal  # it opens a position, or turns it over
        held[place] = after


def _value(key: str) -> tuple[Any, Any]:
    """Return what reads a value of a signal's metadata, and the condition that it is there."""
    field: Any = Signal.signal_metadata
    keys = key.split(".")
    return field.path(*keys), db.json_match(field, keys, None, None, None)
