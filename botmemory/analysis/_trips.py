"""How fills and funding become round trips; the amounts are exact."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from itertools import compress
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from ..exact import to_fraction
from ..ledger import Added, Ledger, different_sizes
from ..models import OrderSide
from ..symbols import instrument_of

Key = tuple[str, str | None, str | None]  # symbol, exchange, strategy


class Fill(NamedTuple):
    """A trade; it begins with the columns of a `ledger.Fill`."""

    timestamp: datetime
    change: float  # below 0 of a sale
    price: float
    fee: float | None
    fee_currency: str | None
    contract_size: float | None
    key: Key
    signal_id: int | None
    metadata: Any

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Fill:
        """Return the fill of a row with the values of `COLUMNS` after its timestamp and its id."""
        timestamp, _, side, quantity, price, fee, currency, size = row[:8]
        change = quantity if side is OrderSide.BUY else -quantity
        return cls(timestamp, change, price, fee, currency, size, row[8:11], *row[11:])


# of a trade, for `Fill.of`
COLUMNS = (
    *("side", "quantity", "price", "fee", "fee_currency", "contract_size"),
    *("symbol", "exchange", "strategy", "signal", "trade_metadata"),
)


class Funding(NamedTuple):
    """A payment of funding."""

    timestamp: datetime
    symbol: str
    exchange: str | None
    strategy: str | None
    currency: str
    amount: float


class Trip:
    """A round trip so far."""

    def __init__(self, first: Fill, number: int, *, is_long: bool) -> None:
        self.number = number  # of the fill that opened it, among all
        self.key = first.key
        self.instrument = instrument_of(first.key[0])
        self.is_long = is_long
        self.opened_at = self.last_at = first.timestamp
        self.closed_at: datetime | None = None
        self.entry_signal_id = self.exit_signal_id = first.signal_id
        self.contract_size = first.contract_size or 1.0
        self.problem = self.instrument.problem
        self.fills = 0
        self.tags: dict[str, None] = {}  # in their order
        self.pnl = Fraction(0)  # for contracts of size 1
        self.entered = self.entry_value = self.exited = self.exit_value = Fraction(0)
        self.fees: defaultdict[str | None, Fraction] = defaultdict(Fraction)
        self.fee_value = Fraction(0)  # of those in the other currency of the pair
        self.funding: defaultdict[str | None, Fraction] = defaultdict(Fraction)
        self.shared_funding = False

    def add(self, ledger: Ledger, added: Added, fills: list[Fill], start: int, stop: int) -> None:
        """Add some of the fills that were added to a ledger."""
        quantities, values = added.quantities[start:stop], added.values[start:stop]
        is_entry = [(quantity > 0) is self.is_long for quantity in quantities]
        entered, entry_value = sum(compress(quantities, is_entry)), sum(compress(values, is_entry))
        self._add_amounts(ledger, entered, entry_value, is_entry=True)
        exited, exit_value = sum(quantities) - entered, sum(values) - entry_value
        self._add_amounts(ledger, exited, exit_value, is_entry=False)
        for fill in fills[start:stop]:
            self._note(fill)
        currencies = (fill.fee_currency for fill in fills[start:stop] if fill.fee is not None)
        for currency in dict.fromkeys(currencies):  # in their order
            self.fees[currency] += ledger.fee(sum(added.fees[currency][start:stop]))
        self.fee_value += ledger.fee_value(sum(added.fee_values[start:stop]))

    def add_part(self, ledger: Ledger, added: Added, fill: Fill, index: int, quantity: int) -> None:
        """Add a part of a fill that closed one position and opened another."""
        change = added.quantities[index]
        value = added.values[index] * quantity // change
        self._add_amounts(ledger, quantity, value, is_entry=(quantity > 0) is self.is_long)
        self._note(fill)
        share = Fraction(quantity, change)
        if fill.fee is not None:
            self.fees[fill.fee_currency] += ledger.fee(added.fees[fill.fee_currency][index]) * share
        if added.fee_values:
            self.fee_value += ledger.fee_value(added.fee_values[index]) * share

    def _add_amounts(self, ledger: Ledger, quantity: int, value: int, *, is_entry: bool) -> None:
        exact_quantity, exact_value = ledger.amounts(quantity, value)
        if is_entry:
            self.entered += exact_quantity
            self.entry_value += exact_value
        else:
            self.exited += exact_quantity
            self.exit_value += exact_value

    def _note(self, fill: Fill) -> None:
        """Take what is no amount from a fill."""
        self.fills += 1
        self.last_at, self.exit_signal_id = fill.timestamp, fill.signal_id
        size = fill.contract_size or 1.0
        if size != self.contract_size and self.problem is None:
            self.problem = different_sizes(self.contract_size, size)
        if isinstance(fill.metadata, Mapping):
            tags = fill.metadata.get("tags")
            for tag in [tags] if isinstance(tags, str) else tags if isinstance(tags, list) else ():
                self.tags[str(tag)] = None

    def had(self, payment: Funding) -> bool:
        """Whether a payment was made while it was held."""
        is_mine = payment.strategy in (None, self.key[2])
        ended = self.closed_at is not None and self.closed_at < payment.timestamp
        return is_mine and self.opened_at < payment.timestamp and not ended


class Trips:
    """The round trips of fills in time order."""

    def __init__(self, payments: Iterator[Funding]) -> None:
        self._ledgers: dict[Key, Ledger] = {}
        self._open: dict[Key, Trip] = {}
        self._payments = Lookahead(payments)
        self._count = 0

    def add(self, fills: list[Fill]) -> list[Trip]:
        """Add fills, at least one, and return the round trips that they have closed, in order."""
        by_key: defaultdict[Key, tuple[list[int], list[Fill]]] = defaultdict(lambda: ([], []))
        for number, fill in enumerate(fills, self._count):
            numbers, of_key = by_key[fill.key]
            numbers.append(number)
            of_key.append(fill)
        self._count += len(fills)
        closed = [
            numbered for key, of_key in by_key.items() for numbered in self._add_to(key, *of_key)
        ]
        trips = [trip for _, trip in sorted(closed, key=itemgetter(0))]
        self._add_funding(trips, fills[-1].timestamp)
        return trips

    def open_trips(self) -> list[Trip]:
        """Return the round trips that are not closed, in the order in which they were opened."""
        self._add_funding([], None)
        return sorted(self._open.values(), key=attrgetter("number"))

    def _add_to(
        self, key: Key, numbers: list[int], fills: list[Fill]
    ) -> Iterator[tuple[int, Trip]]:
        """Yield the round trips that fills of one key close, with the number of the last fill."""
        ledger = self._ledgers.setdefault(key, Ledger(instrument_of(key[0])))
        columns: Any = fills  # a fill begins with those of the ledger
        added = ledger.add(columns)
        quantities = added.quantities

        def opened(start: int) -> tuple[Trip, int]:
            """Return the round trip that the next change opens, and the place of that.

            Fills that change nothing, as their fee takes all of them, belong to no round trip.
            """
            place = next(place for place in range(start, len(fills)) if quantities[place])
            return Trip(fills[place], numbers[place], is_long=quantities[place] > 0), place

        trip, start = self._open.pop(key, None), 0
        for place, quantity, pnl in added.closings:
            if trip is None:
                trip, start = opened(start)
            trip.add(ledger, added, fills, start, place)
            trip.add_part(ledger, added, fills[place], place, quantity)
            trip.pnl, trip.closed_at = ledger.pnl(pnl), fills[place].timestamp
            yield numbers[place], trip
            trip, start = None, place + 1
            if rest := quantities[place] - quantity:
                trip = Trip(fills[place], numbers[place], is_long=rest > 0)
                trip.add_part(ledger, added, fills[place], place, rest)
        if trip is None and any(quantities[start:]):
            trip, start = opened(start)
        if trip is not None:
            trip.add(ledger, added, fills, start, len(fills))
            trip.pnl = ledger.pnl_of_open
            self._open[key] = trip

    def _add_funding(self, closed: list[Trip], until: datetime | None) -> None:
        """Add payments up to a time to the round trips that were held then."""
        for payment in self._payments.until(until):
            trips = [
                trip
                for trip in [*closed, *self._open.values()]
                if trip.key[:2] == (payment.symbol, payment.exchange) and trip.had(payment)
            ]
            for trip in trips:
                if len(trips) == 1:
                    trip.funding[payment.currency] += to_fraction(payment.amount)
                else:
                    trip.shared_funding = True


class Lookahead:
    """Payments in time order, of which some are asked for at a time."""

    def __init__(self, payments: Iterator[Funding]) -> None:
        self._payments = payments
        self._next = next(payments, None)

    def until(self, time: datetime | None) -> Iterator[Funding]:
        """Yield the next payments up to a time, included; None for all."""
        while self._next is not None and (time is None or self._next.timestamp <= time):
            yield self._next
            self._next = next(self._payments, None)
