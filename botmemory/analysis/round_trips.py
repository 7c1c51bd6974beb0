"""Round trips: from flat to flat, with what each has earned, from the recorded fills.

Each figure is defined in the guide "Accounting" (`docs/accounting.md`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any, Literal

from .._arguments import checked_call
from .._values import positive_numbers
from ..exact import to_fraction
from ..ledger import in_currency, to_number, without_rate_text
from ..models import CashFlow, Trade
from ..queries import read
from ._trips import COLUMNS, Fill, Funding, Trip, Trips
from .selection import select

__all__ = ["RoundTrip", "round_trips"]

FILLS_PER_READ = 1000
SHARED_FUNDING = (
    "several strategies held it when funding was paid that names none; record funding with its "
    "strategy"
)


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
        tags: The texts under `tags` in the metadata of its trades, each once, in their order.
        unknown: Why a figure is None; None if each one is known.
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

    Returns:
        In the order in which they were closed; those that are open in the order in which they were
        opened.

    Raises:
        ValidationError: An argument is invalid.
        StorageError: The database cannot be read.
    """
    selection = select(symbol, strategy, start_date, end_date, exchange, quote, one_currency=False)
    known_rates = {} if rates is None else positive_numbers("rates", rates)
    return _round_trips(selection.filters, selection.symbols, known_rates, bool(include_open))


def _round_trips(
    filters: dict[str, Any],
    symbols: frozenset[str] | None,
    rates: Mapping[str, float],
    include_open: bool,
) -> Iterator[RoundTrip]:
    # those that were closed since the start may have been opened before
    start = filters.pop("start_date", None)
    # the other strategies may have shared the funding
    of_one_strategy = "strategy" in filters or "without_strategy" in filters
    filters.pop("without_strategy", None)
    strategy = filters.pop("strategy", None)
    trips = Trips(_funding(filters))
    rows = read.stream_values(Trade, filters, *COLUMNS)
    fills = (fill for fill in map(Fill.of, rows) if symbols is None or fill.key[0] in symbols)
    while batch := list(islice(fills, FILLS_PER_READ)):
        for trip in trips.add(batch):
            in_range = start is None or trip.last_at >= start
            if in_range and (not of_one_strategy or trip.key[2] == strategy):
                yield _result(trip, rates)
    for trip in trips.open_trips() if include_open else ():
        if not of_one_strategy or trip.key[2] == strategy:
            yield _result(trip, rates)


def _funding(filters: dict[str, Any]) -> Iterator[Funding]:
    """Yield the payments of funding in time order, also those that name no strategy."""
    names = "symbol", "exchange", "strategy", "currency", "amount"
    of_funding = filters | read.filters(CashFlow, kind="funding")
    for timestamp, _, symbol, *others in read.stream_values(CashFlow, of_funding, *names):
        if symbol is not None:
            yield Funding(timestamp, symbol, *others)


def _result(trip: Trip, rates: Mapping[str, float]) -> RoundTrip:
    symbol, exchange, strategy = trip.key
    instrument = trip.instrument
    number = partial(to_number, symbol)
    other_fees = {name: fee for name, fee in trip.fees.items() if name != instrument.other_currency}
    if None in trip.fees:  # of the currency of the PnL
        other_fees[None] = trip.fees[None]
    paid, without_rate = in_currency(instrument.currency, other_fees, rates)
    funding, funding_without_rate = in_currency(instrument.currency, trip.funding, rates)
    without_rate += [name for name in funding_without_rate if name not in without_rate]
    gross = trip.pnl * to_fraction(trip.contract_size)
    unknown = trip.problem
    if unknown is None and without_rate:
        unknown = without_rate_text(instrument.currency, sorted(without_rate))
    if unknown is None and trip.shared_funding:
        unknown = SHARED_FUNDING
    has_funding = not (trip.shared_funding or funding_without_rate)
    return RoundTrip(
        symbol=symbol,
        exchange=exchange,
        strategy=strategy,
        direction="long" if trip.is_long else "short",
        quantity=number(abs(trip.entered)),
        entry_price=_price(trip, trip.entered, trip.entry_value),
        exit_price=_price(trip, trip.exited, trip.exit_value) if trip.exited else None,
        opened_at=trip.opened_at,
        closed_at=trip.closed_at,
        holding_time=None if trip.closed_at is None else trip.closed_at - trip.opened_at,
        gross_pnl=None if trip.problem else number(gross),
        fees={currency: number(fee) for currency, fee in trip.fees.items()},
        funding=number(funding) if has_funding else None,
        net_pnl=number(gross - paid - trip.fee_value + funding) if unknown is None else None,
        quote=instrument.currency,
        fills=trip.fills,
        contract_size=trip.contract_size,
        entry_signal_id=trip.entry_signal_id,
        exit_signal_id=trip.exit_signal_id,
        tags=tuple(trip.tags),
        unknown=unknown,
    )


def _price(trip: Trip, quantity: Fraction, value: Fraction) -> float:
    """Return the average price of the entries or of the exits."""
    price = quantity / value if trip.instrument.is_inverse else value / quantity
    return to_number(trip.key[0], abs(price))
