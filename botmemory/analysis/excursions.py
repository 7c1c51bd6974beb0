"""Excursions: how far the price went against a round trip, and for it, while it was held.

Each figure is defined in the guide "Accounting" (`docs/accounting.md`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from math import inf
from operator import attrgetter

from .._arguments import checked_call
from .._values import refuse, to_finite, to_utc
from ..exact import to_fraction
from ..ledger import to_number
from ..symbols import instrument_of
from .round_trips import RoundTrip

__all__ = ["Excursion", "excursions"]

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excursion:
    """How far the price went against a round trip, and for it, while it was held.

    Each figure is defined in the guide [Accounting](../accounting.md). All are None if there is no
    price of the time in which the round trip was held; `mae`, `mfe` and their ratios are also None
    if its gross PnL is not known.

    Attributes:
        trip: The round trip.
        lowest: The lowest price.
        highest: The highest price.
        mae: The maximum adverse excursion: the loss at the worst price, in the currency of the PnL,
            before fees; 0 if there was none.
        mfe: The maximum favourable excursion: the gain at the best price, in the same currency,
            before fees; 0 if there was none.
        mae_ratio: `mae` / the value at entry; 0.02 is two percent.
        mfe_ratio: `mfe` / the value at entry.
    """

    trip: RoundTrip
    lowest: float | None
    highest: float | None
    mae: float | None
    mfe: float | None
    mae_ratio: float | None
    mfe_ratio: float | None


@checked_call
def excursions(
    trips: Iterable[RoundTrip], prices: Iterable[tuple[datetime, float, float]]
) -> Iterator[Excursion]:
    """Yield the maximum adverse and favourable excursion of round trips of one symbol.

    Each figure is defined in the guide [Accounting](../accounting.md). The source is John Sweeney,
    *Maximum Adverse Excursion*, 1997.

    The prices from `opened_at` to `closed_at` count, both included, of an open round trip all later
    ones. Those of its own fills count only if they are among the prices. The prices are read once
    and are not kept; where no round trip is open, reading ends with the first one that is later
    than all of them.

    Args:
        trips: Round trips of one symbol, of any exchanges and strategies, in any order, such as
            `round_trips("BTC/USDT", include_open=True)`. All of them are read at the call.
        prices: (timestamp, low, high) in time order: of a bar the time of its end, of a single
            price low and high are the same. A timestamp without a time zone is UTC.

    Returns:
        In the order in which they were closed, each as soon as a later price was read; those that
        are open, when all prices were read, in the order in which they were opened.

    Raises:
        ValidationError: The round trips are of several symbols. Or, when it is read, a price is not
            a finite number above 0, a low is above its high, or a timestamp is before the previous
            one.
    """
    held = _checked_trips(trips)
    if isinstance(prices, (str, bytes, Mapping)) or not isinstance(prices, Iterable):
        refuse("prices", prices, "is not a series of (timestamp, low, high)")
    return _excursions(held, _checked_prices(prices))


class _Held:
    """A round trip, and the range of the prices from its opening to that of the next one.

    Each price then changes one range, however many round trips are open.
    """

    __slots__ = ("closed_at", "highest", "lowest", "opened_at", "trip")

    def __init__(self, trip: RoundTrip, opened_at: datetime, closed_at: datetime) -> None:
        self.trip = trip
        self.opened_at = opened_at
        self.closed_at = closed_at  # NEVER if it is open
        self.lowest, self.highest = inf, 0.0  # of no price

    def include(self, low: float, high: float) -> None:
        if low < self.lowest:
            self.lowest = low
        if high > self.highest:
            self.highest = high


def _checked_trips(trips: Iterable[RoundTrip]) -> list[_Held]:
    if isinstance(trips, (str, bytes, Mapping)) or not isinstance(trips, Iterable):
        refuse("trips", trips, "is not a series of round trips")
    checked = []
    for index, trip in enumerate(trips):
        name = f"trips[{index}]"
        if not isinstance(trip, RoundTrip):
            refuse(name, trip, "is not a RoundTrip; pass those of round_trips()")
        opened_at = to_utc(name, trip.opened_at)
        closed_at = NEVER if trip.closed_at is None else to_utc(name, trip.closed_at)
        if closed_at < opened_at:
            refuse(name, trip.closed_at, "is before it was opened")
        checked.append(_Held(trip, opened_at, closed_at))
    symbols = sorted({held.trip.symbol for held in checked})
    if len(symbols) > 1:
        refuse("trips", symbols, "are several symbols; pass the round trips of one")
    return checked


def _checked_prices(
    prices: Iterable[tuple[datetime, float, float]],
) -> Iterator[tuple[datetime, float, float]]:
    previous = datetime.min.replace(tzinfo=UTC)
    for index, price in enumerate(prices):
        try:
            timestamp, low, high = price
        except (TypeError, ValueError):
            refuse(f"prices[{index}]", price, "is not (timestamp, low, high)")
        # what most prices are is asked first: there may be millions of them
        if type(timestamp) is not datetime or timestamp.tzinfo is not UTC:
            timestamp = to_utc(f"prices[{index}]", timestamp)
        if not (type(low) is float and type(high) is float and 0.0 < low <= high < inf):
            low, high = _checked_range(f"prices[{index}]", low, high)
        if timestamp < previous:
            refuse(f"prices[{index}]", timestamp, f"is before the previous timestamp, {previous}")
        previous = timestamp
        yield timestamp, low, high


def _checked_range(name: str, low: object, high: object) -> tuple[float, float]:
    numbers = to_finite(name, low), to_finite(name, high)
    for number, value in zip(numbers, (low, high), strict=True):
        if number <= 0:
            refuse(name, value, "is not greater than 0")
    if numbers[0] > numbers[1]:
        refuse(name, low, f"is a low above its high, {high}")
    return numbers


def _excursions(
    trips: list[_Held], prices: Iterator[tuple[datetime, float, float]]
) -> Iterator[Excursion]:
    by_opening = sorted(trips, key=attrgetter("opened_at"))
    closed = [held for held in trips if held.closed_at is not NEVER]
    still_open = [held for held in by_opening if held.closed_at is NEVER]
    to_open = deque(by_opening)
    to_close = deque([*sorted(closed, key=attrgetter("closed_at")), *still_open])
    held: list[_Held] = []  # in the order in which they were opened
    for timestamp, low, high in prices:
        while to_open and to_open[0].opened_at <= timestamp:
            held.append(to_open.popleft())
        while to_close and to_close[0].closed_at < timestamp:
            yield _close(held, to_close.popleft())
        if not to_close:
            return
        if held:
            held[-1].include(low, high)
    held += to_open
    while to_close:
        yield _close(held, to_close.popleft())


def _close(held: list[_Held], closing: _Held) -> Excursion:
    """Remove a round trip from those that are held, and return its excursion."""
    place = held.index(closing)
    lowest = min(later.lowest for later in held[place:])
    highest = max(later.highest for later in held[place:])
    del held[place]
    if place:  # those that were opened before it had its prices, too
        held[place - 1].include(closing.lowest, closing.highest)
    return _result(closing.trip, lowest, highest)


def _result(trip: RoundTrip, lowest: float, highest: float) -> Excursion:
    has_price = lowest <= highest
    mae = mfe = mae_ratio = mfe_ratio = None
    if has_price and trip.gross_pnl is not None:
        is_long = trip.direction == "long"
        worst, best = (lowest, highest) if is_long else (highest, lowest)
        loss, gain = max(-_earned(trip, worst), Fraction(0)), max(_earned(trip, best), Fraction(0))
        value = _value_at_entry(trip)
        mae, mfe = to_number(trip.symbol, loss * value), to_number(trip.symbol, gain * value)
        mae_ratio, mfe_ratio = to_number(trip.symbol, loss), to_number(trip.symbol, gain)
    return Excursion(
        trip=trip,
        lowest=lowest if has_price else None,
        highest=highest if has_price else None,
        mae=mae,
        mfe=mfe,
        mae_ratio=mae_ratio,
        mfe_ratio=mfe_ratio,
    )


def _earned(trip: RoundTrip, price: float) -> Fraction:
    """Return the PnL at a price, as a part of the value at entry."""
    change = to_fraction(price) / to_fraction(trip.entry_price)
    earned = 1 - 1 / change if instrument_of(trip.symbol).is_inverse else change - 1
    return earned if trip.direction == "long" else -earned


def _value_at_entry(trip: RoundTrip) -> Fraction:
    """Return the value of what was entered, in the currency of the PnL."""
    entry_price = to_fraction(trip.entry_price)
    each = 1 / entry_price if instrument_of(trip.symbol).is_inverse else entry_price
    return to_fraction(trip.quantity) * to_fraction(trip.contract_size) * each
