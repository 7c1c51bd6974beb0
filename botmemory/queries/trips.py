"""The round trips of the recorded fills, read in time order in constant memory.

Amounts are decimals, exact but for quotients of 100 digits. Times, ids and other columns stay as
the driver returns them: few of them are asked for.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import accumulate, compress
from operator import itemgetter
from typing import Any, NamedTuple

from ..exact import DIVISION, ZERO, add, multiply, subtract, to_decimal
from ..fields import UtcDateTimeField
from ..ledger import (
    Added,
    Ledger,
    different_sizes,
    fees_in_currency,
    in_currency,
    without_rate_text,
)
from ..models import CashFlow, Trade
from ..symbols import instrument_of
from . import read
from .fills import fill_columns

Key = tuple[str, str | None, str | None]  # symbol, exchange, strategy
Row = tuple[Any, ...]

FILLS_PER_READ = 2000
# the columns of a row; it begins with those of a `ledger.Fill`
TIMESTAMP, FEE, FEE_CURRENCY, SIZE = 0, 3, 4, 5
SYMBOL, ID, FIRST_OTHER = 6, 9, 10
key_of = itemgetter(slice(SYMBOL, ID))
place_of = itemgetter(TIMESTAMP, ID)  # in the order of time

SHARED_FUNDING = (
    "several strategies held it when funding was paid that names none; record funding with its "
    "strategy"
)


class Funding(NamedTuple):
    """A payment of funding."""

    timestamp: Any
    symbol: str
    exchange: str | None
    strategy: str | None
    currency: str
    amount: float


class Result(NamedTuple):
    """What a round trip has earned, in the currency of its PnL.

    Attributes:
        gross: The PnL without fees; None if it is not known.
        funding: The funding; None if it is not known.
        net: gross less fees, and with the funding; None if one of these is not known.
        unknown: Why a figure is None.
    """

    gross: Decimal | None
    funding: Decimal | None
    net: Decimal | None
    unknown: str | None


class Trip:
    """A round trip so far.

    Attributes:
        key: Symbol, exchange and strategy.
        instrument: What the symbol says.
        is_long: Whether it was bought to open it.
        first: The row of the fill that opened it.
        last: The row of its last fill.
        is_closed: Whether the position is flat.
        fills: The number of its fills.
        contract_size: That of the first fill.
        problem: Why the PnL is not known; None if it is.
        pnl: The PnL for contracts of size 1, of an open one that of what was closed so far.
        fees: The fees by currency.
        fee_value: The value of those in the other currency of the pair.
        funding: The funding by currency; it is replaced, not changed.
        has_shared_funding: Whether it is not known which strategy a payment of funding belongs to.
        entered: The quantity of the entries, below 0 of a short one. It and the next three are
            added up only if prices are asked for.
        entry_value: What the entries cost.
        exited: The quantity of the exits.
        exit_value: What the exits brought.
        notes: What the caller has taken from the rows.
    """

    is_closed = False
    has_shared_funding = False
    pnl = fee_value = ZERO
    entered = entry_value = exited = exit_value = ZERO
    funding: Mapping[str | None, Decimal] = {}
    notes: Any = None

    def __init__(self, first: Row, ledger: Ledger, *, is_long: bool) -> None:
        self.key: Key = first[SYMBOL:ID]
        self.instrument = ledger.instrument
        self.is_long = is_long
        self.first = self.last = first
        self.fills = 0
        self.contract_size: float = first[SIZE] or 1.0
        self.problem = self.instrument.problem
        self.fees: dict[str | None, Decimal] = {}

    def result(self, rates: Mapping[str, float]) -> Result:
        """Return what it has earned.

        Args:
            rates: What one unit of another currency is worth, by `"BNB"` or `"BNB/USDT"`.
        """
        currency = self.instrument.currency
        unknown, gross = self.problem, self.pnl
        if self.contract_size != 1.0:
            gross = multiply(gross, to_decimal(self.contract_size))
        is_plain = unknown is None and not self.funding and not self.has_shared_funding
        if is_plain and (not self.fees or (len(self.fees) == 1 and currency in self.fees)):
            net = subtract(gross, self.fees[currency]) if self.fees else gross
            return Result(gross, ZERO, net, None)
        paid, without_rate = fees_in_currency(
            self.instrument, currency, self.fees, self.fee_value, rates
        )
        funding, funding_without_rate = in_currency(currency, self.funding, rates)
        without_rate += [name for name in funding_without_rate if name not in without_rate]
        if unknown is None and without_rate:
            unknown = without_rate_text(currency, sorted(without_rate))
        if unknown is None and self.has_shared_funding:
            unknown = SHARED_FUNDING
        return Result(
            gross=None if self.problem else gross,
            funding=None if self.has_shared_funding or funding_without_rate else funding,
            net=None if unknown else add(subtract(gross, paid), funding),
            unknown=unknown,
        )


class Part:
    """Fills of one key that were added to its ledger, in sums from the first one on."""

    def __init__(self, ledger: Ledger, rows: list[Row], added: Added, *, has_prices: bool) -> None:
        self.ledger, self.rows, self.added, self.has_prices = ledger, rows, added, has_prices
        self.fee_sums = {
            currency: list(accumulate(fees, initial=0)) for currency, fees in added.fees.items()
        }
        self.fee_value_sums = list(accumulate(added.fee_values, initial=0))
        self.has_one_fee = len(added.fees) == 1 and all(row[FEE] is not None for row in rows)
        self.size = rows[0][SIZE] or 1.0
        self.has_one_size = all((row[SIZE] or 1.0) == self.size for row in rows)

    def add_to(self, trip: Trip, start: int, stop: int) -> None:
        """Add whole fills to a round trip."""
        trip.fills += stop - start
        trip.last = self.rows[stop - 1]
        if not self.has_one_size or trip.contract_size != self.size:
            self._check_sizes(trip, start, stop)
        for currency in self._fee_currencies(start, stop):
            sums = self.fee_sums[currency]
            fee = self.ledger.fee_of(sums[stop] - sums[start])
            trip.fees[currency] = add(trip.fees[currency], fee) if currency in trip.fees else fee
        if self.added.fee_values:
            value = self.ledger.fee_value_of(self.fee_value_sums[stop] - self.fee_value_sums[start])
            trip.fee_value = add(trip.fee_value, value)
        if self.has_prices:
            quantities = self.added.quantities[start:stop]
            values = self.added.values[start:stop]
            is_entry = [(quantity > 0) is trip.is_long for quantity in quantities]
            entered = sum(compress(quantities, is_entry))
            entry_value = sum(compress(values, is_entry))
            self._add_amounts(trip, entered, entry_value, is_entry=True)
            exited, exit_value = sum(quantities) - entered, sum(values) - entry_value
            self._add_amounts(trip, exited, exit_value, is_entry=False)

    def add_share_to(self, trip: Trip, place: int, quantity: int) -> None:
        """Add a part of a fill that closed one position and opened another to a round trip."""
        trip.fills += 1
        trip.last = self.rows[place]
        self._check_sizes(trip, place, place + 1)
        change = self.added.quantities[place]

        def share_of(amount: Decimal) -> Decimal:
            return DIVISION.divide(multiply(amount, Decimal(quantity)), Decimal(change))

        for currency in self._fee_currencies(place, place + 1):
            fee = share_of(self.ledger.fee_of(self.added.fees[currency][place]))
            trip.fees[currency] = add(trip.fees.get(currency, ZERO), fee)
        if self.added.fee_values:
            value = share_of(self.ledger.fee_value_of(self.added.fee_values[place]))
            trip.fee_value = add(trip.fee_value, value)
        if self.has_prices:
            value_of_share = self.added.values[place] * quantity // change
            is_entry = (quantity > 0) is trip.is_long
            self._add_amounts(trip, quantity, value_of_share, is_entry=is_entry)

    def _fee_currencies(self, start: int, stop: int) -> Iterable[str | None]:
        """Return the currencies of the fees of some fills, in the order of the fills."""
        if self.has_one_fee or not self.fee_sums:
            return self.fee_sums
        rows = self.rows[start:stop]
        return dict.fromkeys(row[FEE_CURRENCY] for row in rows if row[FEE] is not None)

    def _check_sizes(self, trip: Trip, start: int, stop: int) -> None:
        """Note that the PnL is not known if the fills have different contract sizes."""
        for row in self.rows[start:stop]:
            size = row[SIZE] or 1.0
            if size != trip.contract_size and trip.problem is None:
                trip.problem = different_sizes(trip.contract_size, size)

    def _add_amounts(self, trip: Trip, units: int, value_units: int, *, is_entry: bool) -> None:
        quantity, value = self.ledger.quantity_of(units), self.ledger.value_of(value_units)
        if is_entry:
            trip.entered = add(trip.entered, quantity)
            trip.entry_value = add(trip.entry_value, value)
        else:
            trip.exited = add(trip.exited, quantity)
            trip.exit_value = add(trip.exit_value, value)


class Trips:
    """The round trips of fills in time order.

    Args:
        payments: The funding in time order.
        has_prices: Whether to add up what entry and exit prices follow from.
        note: Returns the notes of a round trip, from those so far (None at first) and the rows of
            its next fills.
    """

    def __init__(
        self,
        payments: Iterator[Funding],
        *,
        has_prices: bool,
        note: Callable[[Any, list[Row]], Any] | None,
    ) -> None:
        self.payments = Lookahead(payments)
        self._has_prices, self._note = has_prices, note
        self._ledgers: dict[Key, Ledger] = {}
        self._open: dict[Key, Trip] = {}

    def add(self, rows: list[Row]) -> list[Trip]:
        """Add fills, at least one, and return the round trips that they have closed, in order."""
        by_key: defaultdict[Key, list[Row]] = defaultdict(list)
        for row in rows:
            by_key[key_of(row)].append(row)
        closings: list[tuple[Any, Any, Trip]] = []  # with the time and the id of the last fill
        for key, of_key in by_key.items():
            self._add_to(key, of_key, closings)
        closings.sort()
        closed = [trip for _, _, trip in closings]
        self._add_funding(closed, rows[-1][TIMESTAMP])
        return closed

    def open_trips(self) -> list[Trip]:
        """Return the round trips that are not closed, in the order in which they were opened."""
        self._add_funding([], None)
        return sorted(self._open.values(), key=lambda trip: place_of(trip.first))

    def _add_to(self, key: Key, rows: list[Row], closings: list[tuple[Any, Any, Trip]]) -> None:
        """Add fills of one key, and the round trips that they close to `closings`."""
        ledger = self._ledgers.get(key)
        if ledger is None:
            ledger = self._ledgers[key] = Ledger(instrument_of(key[0]))
        columns: Any = rows  # a row begins with those of a fill
        added = ledger.add(columns)
        quantities = added.quantities
        part = Part(ledger, rows, added, has_prices=self._has_prices)
        trip, start = self._open.pop(key, None), 0
        for place, quantity, pnl in added.closings:
            if trip is None:
                trip, start = self._opened(part, start)
            whole = quantities[place] == quantity
            stop = place + 1 if whole else place
            if start < stop:
                part.add_to(trip, start, stop)
            if not whole:
                part.add_share_to(trip, place, quantity)
            trip.pnl, trip.is_closed = ledger.pnl_of(pnl), True
            if self._note is not None:
                trip.notes = self._note(trip.notes, rows[start : place + 1])
            closings.append((rows[place][TIMESTAMP], rows[place][ID], trip))
            trip, start = None, place + 1
            if not whole:
                trip = Trip(rows[place], ledger, is_long=quantity > 0)
                part.add_share_to(trip, place, quantities[place] - quantity)
                if self._note is not None:
                    trip.notes = self._note(None, rows[place : place + 1])
        if trip is None and any(quantities[start:]):
            trip, start = self._opened(part, start)
        if trip is not None:
            if start < len(rows):
                part.add_to(trip, start, len(rows))
                if self._note is not None:
                    trip.notes = self._note(trip.notes, rows[start:])
            trip.pnl = ledger.pnl_of_open
            self._open[key] = trip

    def _opened(self, part: Part, start: int) -> tuple[Trip, int]:
        """Return the round trip that the next change opens, and the place of that.

        Fills that change nothing, as their fee takes all of them, belong to no round trip.
        """
        place, quantities = start, part.added.quantities
        while not quantities[place]:
            place += 1
        return Trip(part.rows[place], part.ledger, is_long=quantities[place] > 0), place

    def _add_funding(self, closed: list[Trip], until: Any) -> None:
        """Add payments up to a time to the round trips that were held then."""
        later: dict[tuple[str, str | None], deque[Trip]] | None = None  # not opened at the payment
        held: defaultdict[tuple[str, str | None], list[Trip]] = defaultdict(list)
        for payment in self.payments.until(until):
            if later is None:
                later = _by_market([*closed, *self._open.values()])
            market, time = (payment.symbol, payment.exchange), payment.timestamp
            trips, waiting = held[market], later.get(market, ())
            while waiting and waiting[0].first[TIMESTAMP] < time:
                trips.append(waiting.popleft())
            trips[:] = [t for t in trips if not t.is_closed or t.last[TIMESTAMP] >= time]
            of_strategy = [t for t in trips if payment.strategy in (None, t.key[2])]
            for trip in of_strategy:
                if len(of_strategy) == 1:
                    so_far = trip.funding.get(payment.currency, ZERO)
                    amount = add(so_far, to_decimal(payment.amount))
                    trip.funding = {**trip.funding, payment.currency: amount}
                else:
                    trip.has_shared_funding = True


def _by_market(trips: list[Trip]) -> dict[tuple[str, str | None], deque[Trip]]:
    """Return round trips by symbol and exchange, in the order in which they were opened."""
    found: defaultdict[tuple[str, str | None], deque[Trip]] = defaultdict(deque)
    for trip in sorted(trips, key=lambda trip: place_of(trip.first)):
        found[trip.key[:2]].append(trip)
    return found


class Lookahead:
    """Payments in time order, of which some are asked for at a time."""

    def __init__(self, payments: Iterator[Funding]) -> None:
        self._payments = payments
        self._next = next(payments, None)

    @property
    def is_empty(self) -> bool:
        return self._next is None

    def until(self, time: Any) -> Iterator[Funding]:
        """Yield the next payments up to a time, included; None for all."""
        while self._next is not None and (time is None or self._next.timestamp <= time):
            yield self._next
            self._next = next(self._payments, None)


def read_trips(
    filters: Mapping[str, Any],
    symbols: frozenset[str] | None = None,
    *others: str,
    has_prices: bool = False,
    note: Callable[[Any, list[Row]], Any] | None = None,
    include_open: bool = False,
) -> Iterator[Trip]:
    """Yield round trips in the order in which they were closed, then those that are open.

    Args:
        filters: Of `read.filters`. The dates are those between which a round trip was closed.
        symbols: Only these; None for all.
        others: The names of more columns, from `FIRST_OTHER` on in each row.
        has_prices: As for `Trips`.
        note: As for `Trips`.
        include_open: Whether to yield those that are open.
    """
    filters = dict(filters)
    start = filters.pop("start_date", None)  # they may have been opened before
    # the other strategies may have shared the funding
    is_one_strategy = "strategy" in filters or "without_strategy" in filters
    wanted = filters.get("strategy")
    all_strategies = {name: filters[name] for name in filters if "strategy" not in name}
    trips = Trips(_funding(all_strategies), has_prices=has_prices, note=note)
    if not trips.payments.is_empty:
        filters = all_strategies

    def asked_for(found: list[Trip]) -> Iterable[Trip]:
        if is_one_strategy:
            found = [trip for trip in found if trip.key[2] == wanted]
        if start is None:
            return found
        return [t for t in found if not t.is_closed or timestamp_of(t.last) >= start]

    for rows in _fills(filters, symbols, others):
        yield from asked_for(trips.add(rows))
    if include_open:
        yield from asked_for(trips.open_trips())


def timestamp_of(row: Row) -> datetime:
    """Return the time of a fill."""
    return _from_driver(row[TIMESTAMP])


_from_driver: Callable[[Any], datetime] = UtcDateTimeField().from_driver


def _fills(
    filters: dict[str, Any], symbols: frozenset[str] | None, others: Iterable[str]
) -> Iterator[list[Row]]:
    """Yield the fills in time order, with the columns of a row."""
    conditions = read.conditions(Trade, filters, filters)
    symbol: Any = Trade.symbol
    if symbols is not None:
        conditions.append(symbol.in_(sorted(symbols)))
    key = (symbol, Trade.exchange, Trade.strategy)
    fields = (*fill_columns(), *key, Trade.id, *(getattr(Trade, name) for name in others))
    return read.ordered_batches(Trade, conditions, FILLS_PER_READ, *fields)


def _funding(filters: dict[str, Any]) -> Iterator[Funding]:
    """Yield the payments of funding in time order, also those that name no strategy."""
    symbol, kind = CashFlow.symbol, CashFlow.kind
    conditions = [*read.conditions(CashFlow, filters, filters), kind == "funding", symbol > ""]
    names = (CashFlow.exchange, CashFlow.strategy, CashFlow.currency, CashFlow.amount)
    fields = (CashFlow.timestamp, symbol, *names, CashFlow.id)
    for rows in read.ordered_batches(CashFlow, conditions, FILLS_PER_READ, *fields):
        for row in rows:
            yield Funding(*row[:-1])
