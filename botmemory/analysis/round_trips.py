"""Round trips: from flat to flat, with what each has earned, from the recorded fills.

Each figure is defined in the guide "Accounting" (`docs/accounting.md`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, Literal

from .._arguments import checked_call
from .._values import checked_key, checked_rates, to_json
from ..exact import DIVISION, to_fraction
from ..ledger import to_number
from ..models import Signal, Trade
from ..queries import read
from ..queries.trips import FIRST_OTHER, Row, Trip, read_trips, timestamp_of
from ..symbols import instrument_of
from .dimensions import values_under
from .ranges import is_number
from .selection import select

__all__ = ["RoundTrip", "round_trips"]

SIGNALS_PER_READ = 500
SIGNAL, METADATA = FIRST_OTHER, FIRST_OTHER + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """A position from the fill that opened it to the one that closed it.

    Each figure is defined in the guide [Accounting](../accounting.md). PnL and funding are in
    `quote`; times are UTC.

    Attributes:
        symbol: The symbol.
        exchange: The exchange, or None.
        strategy: The strategy, or None.
        direction: `"long"` or `"short"`.
        quantity: What was bought to open it, of a short one sold; in the base currency, of a
            derivative in contracts.
        entry_price: The average price of the entries, weighted by quantity; of an inverse contract
            the harmonic one.
        exit_price: That of the exits; None if there is none yet.
        opened_at: The time of the first entry.
        closed_at: The time of the last exit; None if it is open.
        holding_time: closed_at - opened_at; None if it is open.
        gross_pnl: The PnL without fees, of an open one that of what was closed so far; None if it
            is not known.
        fees: The fees of its fills, by `fee_currency` (None where a trade has none).
        funding: The funding that was paid while it was held, below 0 what was paid out; None if it
            is not known.
        net_pnl: gross PnL less fees, and with the funding; None if one of these is not known.
        quote: The currency of the PnL; None if the symbol names none.
        fills: The number of fills, also counting one that closed it and opened the next.
        contract_size: How much one contract is; 1.0 on spot.
        entry_signal_id: The id of the signal of the first entry, or None.
        exit_signal_id: The id of the signal of the last exit, or None.
        tags: What is under `tags` in the metadata of its trades, each once, in their order; what is
            no text as JSON.
        unknown: Why a figure is None; None if each one is known.
        r_multiple: net PnL / the initial risk, which is what the stop in the metadata of the entry
            signal would have lost: the PnL of its quantity from the entry price to the stop (Tharp,
            Trade Your Way to Financial Freedom). None without `stop_key`, without a stop on the
            losing side of the entry price, or if the net PnL is not known.
    """

    symbol: str
    exchange: str | None
    strategy: str | None
    direction: Literal["long", "short"]
    quantity: float
    entry_price: float
    exit_price: float | None
    opened_at: datetime
    closed_at: datetime | None
    holding_time: timedelta | None
    gross_pnl: float | None
    fees: dict[str | None, float] = field(hash=False)
    funding: float | None
    net_pnl: float | None
    quote: str | None
    fills: int
    contract_size: float
    entry_signal_id: int | None
    exit_signal_id: int | None
    tags: tuple[str, ...]
    unknown: str | None
    r_multiple: float | None = None


@checked_call
def round_trips(
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    quote: str | None = None,
    rates: Mapping[str, float] | None = None,
    include_open: bool = False,
    stop_key: str | None = None,
) -> Iterator[RoundTrip]:
    """Yield the round trips of all trades, or of those that match the filters.

    Each figure is defined in the guide [Accounting](../accounting.md).

    A round trip goes from flat to flat, in one symbol, on one exchange and of one strategy. A fill
    that goes beyond flat closes one and opens the next: its quantity and its fee are divided.
    Memory is constant: the trades are read in time order, a few at a time, and no lock is held in
    between.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        exchange: Only trades of this exchange; "" for those without one.
        start_date: Only round trips that were closed from this time on.
        end_date: Only those that were closed up to this time, included. Later trades are not read.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`, or `{"BNB/USDT": 600, "BNB/BTC": 0.01}` in several.
        include_open: Yield those that are still open, too, after the others.
        stop_key: The key of the stop price in the metadata of the entry signals, for `r_multiple`;
            a dot separates nested keys.

    Returns:
        In the order in which they were closed; those that are open in the order in which they were
        opened.

    Raises:
        ValidationError: An argument is invalid.
        StorageError: The database cannot be read.
    """
    selection = select(symbol, strategy, start_date, end_date, exchange, quote, one_currency=False)
    known_rates = checked_rates(rates)
    found = read_trips(
        selection.filters,
        selection.symbols,
        "signal",
        "trade_metadata",
        has_prices=True,
        note=add_tags,
        include_open=bool(include_open),
    )
    trips = (round_trip_of(trip, known_rates) for trip in found)
    return trips if stop_key is None else _with_r_multiples(trips, checked_key(stop_key))


def add_tags(tags: dict[str, None] | None, rows: list[Row]) -> dict[str, None]:
    """Return the tags so far and those of more fills, in their order."""
    tags = {} if tags is None else tags
    field: Any = Trade.trade_metadata
    for row in rows:
        if row[METADATA] is not None:
            for tag in values_under(field.python_value(row[METADATA]), "tags"):
                tags[tag if isinstance(tag, str) else to_json(tag, sort_keys=True)] = None
    return tags


def round_trip_of(trip: Trip, rates: Mapping[str, float]) -> RoundTrip:
    """Return a round trip whose rows have the signal, and whose notes are its tags."""
    symbol, exchange, strategy = trip.key
    number = partial(to_number, symbol)
    result = trip.result(rates)
    opened_at = timestamp_of(trip.first)
    closed_at = timestamp_of(trip.last) if trip.is_closed else None
    return RoundTrip(
        symbol=symbol,
        exchange=exchange,
        strategy=strategy,
        direction="long" if trip.is_long else "short",
        quantity=number(trip.entered.copy_abs()),
        entry_price=_price(trip, trip.entered, trip.entry_value),
        exit_price=_price(trip, trip.exited, trip.exit_value) if trip.exited else None,
        opened_at=opened_at,
        closed_at=closed_at,
        holding_time=None if closed_at is None else closed_at - opened_at,
        gross_pnl=None if result.gross is None else number(result.gross),
        fees={currency: number(fee) for currency, fee in trip.fees.items()},
        funding=None if result.funding is None else number(result.funding),
        net_pnl=None if result.net is None else number(result.net),
        quote=trip.instrument.currency,
        fills=trip.fills,
        contract_size=trip.contract_size,
        entry_signal_id=trip.first[SIGNAL],
        exit_signal_id=trip.last[SIGNAL],
        tags=tuple(trip.notes or ()),
        unknown=result.unknown,
    )


def _price(trip: Trip, quantity: Decimal, value: Decimal) -> float:
    """Return the average price of the entries or of the exits."""
    pair = (quantity, value) if trip.instrument.is_inverse else (value, quantity)
    return to_number(trip.key[0], DIVISION.divide(*pair).copy_abs())


# --- R multiples --------------------------------------------------------------------------------


def _with_r_multiples(trips: Iterator[RoundTrip], stop_key: str) -> Iterator[RoundTrip]:
    """Yield round trips with their R multiples, reading the signals of many at a time."""
    while batch := list(islice(trips, SIGNALS_PER_READ)):
        ids = [trip.entry_signal_id for trip in batch if trip.entry_signal_id is not None]
        query: Any = Signal.select(Signal.id, Signal.signal_metadata)
        rows = read.fetch(query.where(Signal.id.in_(ids)).tuples()) if ids else []
        stops = {signal_id: values_under(metadata, stop_key) for signal_id, metadata in rows}
        for trip in batch:
            stop = next(iter(stops.get(trip.entry_signal_id, ())), None)
            yield replace(trip, r_multiple=_r_multiple(trip, stop))


def _r_multiple(trip: RoundTrip, stop: Any) -> float | None:
    """Return the net PnL as a multiple of what the stop would have lost."""
    if trip.net_pnl is None or not is_number(stop) or not 0 < stop <= sys.float_info.max:
        return None
    entry, at_stop = to_fraction(trip.entry_price), to_fraction(float(stop))
    if instrument_of(trip.symbol).is_inverse:
        entry, at_stop = -1 / entry, -1 / at_stop
    each = entry - at_stop if trip.direction == "long" else at_stop - entry
    risk = each * to_fraction(trip.quantity) * to_fraction(trip.contract_size)
    multiple = to_fraction(trip.net_pnl) / risk if risk > 0 else None
    is_float = multiple is not None and abs(multiple) <= sys.float_info.max
    return float(multiple) + 0.0 if multiple is not None and is_float else None
