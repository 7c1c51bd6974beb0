"""Excursions: how far the price went against a round trip, and for it, while it was held."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from fill_strategies import CONTRACT_SIZES, numbers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from position_reference import MARKETS
from samples import at

from botmemory import ValidationError
from botmemory.analysis.excursions import Excursion, excursions
from botmemory.analysis.round_trips import RoundTrip, round_trips
from botmemory.repositories import trades

PHASES = set(Phase) - {Phase.explain}
IS_INVERSE = {market.symbol: market.is_inverse for market in MARKETS}


def trip(opened: float = 0, closed: float | None = 10, **values: Any) -> RoundTrip:
    """Return a round trip that was opened and closed at these hours."""
    made = RoundTrip(
        symbol="ETH/USDT",
        exchange=None,
        strategy=None,
        direction="long",
        quantity=2.0,
        entry_price=100.0,
        exit_price=None if closed is None else 104.0,
        opened_at=at(opened),
        closed_at=None if closed is None else at(closed),
        holding_time=None if closed is None else timedelta(hours=closed - opened),
        gross_pnl=8.0,
        fees={},
        funding=0.0,
        net_pnl=8.0,
        quote="USDT",
        fills=2,
        contract_size=1.0,
        entry_signal_id=None,
        exit_signal_id=None,
        tags=(),
        unknown=None,
    )
    return replace(made, **values)


def bars(*ranges: tuple[float, float], start: float = 1) -> list[tuple[datetime, float, float]]:
    """Return bars of an hour each, of which the first ends at an hour."""
    return [(at(start + hour), low, high) for hour, (low, high) in enumerate(ranges)]


def only(of: RoundTrip, *ranges: tuple[float, float]) -> Excursion:
    [found] = excursions([of], bars(*ranges))
    return found


def figures(found: Excursion) -> tuple[float | None, ...]:
    return found.mae, found.mfe, found.mae_ratio, found.mfe_ratio


# --- the formulas, by hand --------------------------------------------------------------------


def test_a_long_one_loses_at_the_lowest_price_and_gains_at_the_highest() -> None:
    held = trip()
    found = only(held, (98, 101), (95, 103), (99, 112))
    assert found.trip is held
    assert (found.lowest, found.highest) == (95.0, 112.0)
    assert figures(found) == (10.0, 24.0, 0.05, 0.12)


def test_a_short_one_loses_at_the_highest_price_and_gains_at_the_lowest() -> None:
    found = only(trip(direction="short"), (98, 101), (95, 103), (99, 112))
    assert (found.lowest, found.highest) == (95.0, 112.0)
    assert figures(found) == (24.0, 10.0, 0.12, 0.05)


def test_a_linear_contract_has_its_size() -> None:
    linear = trip(symbol="BTC/USDT:USDT", quantity=30.0, contract_size=0.001, entry_price=60_000.0)
    assert figures(only(linear, (57_000, 61_500))) == (90.0, 45.0, 0.05, 0.025)


def test_an_inverse_contract_earns_the_difference_of_the_reciprocals() -> None:
    # 100 contracts of 100 USD were worth 0.2 BTC at 50,000
    inverse = {"symbol": "BTC/USD:BTC", "quantity": 100.0, "contract_size": 100.0, "quote": "BTC"}
    long = only(trip(entry_price=50_000.0, **inverse), (40_000, 62_500))
    assert figures(long) == (0.05, 0.04, 0.25, 0.2)
    short = only(trip(entry_price=50_000.0, direction="short", **inverse), (40_000, 62_500))
    assert figures(short) == (0.04, 0.05, 0.2, 0.25)


def test_an_option_that_is_settled_in_its_base_currency_is_not_inverse() -> None:
    option = trip(symbol="BTC/USD:BTC-250328-60000-C", quantity=4.0, entry_price=0.02)
    assert figures(only(option, (0.015, 0.03))) == (0.02, 0.04, 0.25, 0.5)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(101, 103, (0.0, 6.0)), (90, 99, (20.0, 0.0))]
)
def test_what_was_never_lost_or_gained_is_zero(
    low: float, high: float, expected: tuple[float, float]
) -> None:
    found = only(trip(), (low, high))
    assert (found.mae, found.mfe) == expected
    mirrored = only(trip(direction="short"), (low, high))
    assert (mirrored.mfe, mirrored.mae) == expected
    assert "-0.0" not in repr((figures(found), figures(mirrored)))


def test_figures_are_those_of_the_decimals_and_rounded_once() -> None:
    with decimal.localcontext(decimal.Context(prec=1)):
        found = only(trip(quantity=3.0, entry_price=0.3), (0.1, 0.7))
    assert figures(found) == (0.6, 1.2, 2 / 3, 4 / 3)


def test_an_unknown_gross_pnl_leaves_the_prices_alone() -> None:
    found = only(trip(symbol="ETH/USD:BTC", gross_pnl=None), (98, 101))
    assert (found.lowest, found.highest) == (98.0, 101.0)
    assert figures(found) == (None, None, None, None)


def test_what_no_float_can_hold_is_refused() -> None:
    with pytest.raises(ValidationError, match="ETH/USDT: its position or PnL is larger than"):
        only(trip(quantity=1e300), (1e200, 1e200))


# --- which prices count -----------------------------------------------------------------------


def test_both_ends_are_included() -> None:
    ranges = [(1, 999), (97, 100), (99, 105), (1, 999)]
    [found] = excursions([trip(1, 2)], bars(*ranges, start=0))
    assert (found.lowest, found.highest) == (97.0, 105.0)


@pytest.mark.parametrize("start", [-5, 1.5, 5])
def test_without_a_price_in_its_time_nothing_is_known(start: float) -> None:
    [found] = excursions([trip(1, 1.25)], bars((90, 110), start=start))
    assert (found.lowest, found.highest, *figures(found)) == (None,) * 6


def test_without_prices_nothing_is_known() -> None:
    found = list(excursions([trip(), trip(1, None)], []))
    assert [(each.trip.opened_at, each.mae) for each in found] == [(at(0), None), (at(1), None)]


def test_an_open_one_has_all_later_prices() -> None:
    found = list(excursions([trip(2, None)], bars((1, 999), (99, 101), (98, 100), (100, 120))))
    assert [(each.lowest, each.highest) for each in found] == [(98.0, 120.0)]


def test_one_that_was_closed_at_the_time_it_was_opened() -> None:
    [found] = excursions([trip(2, 2)], bars((1, 999), (98, 101), (1, 999)))
    assert (found.lowest, found.highest) == (98.0, 101.0)


def test_prices_of_one_timestamp_all_count() -> None:
    [found] = excursions([trip(1, 1)], [(at(1), 99, 99), (at(1), 97, 97), (at(1), 103, 103)])
    assert (found.lowest, found.highest) == (97.0, 103.0)


def test_a_timestamp_without_a_time_zone_is_utc() -> None:
    naive = at(1).replace(tzinfo=None)
    elsewhere = at(2).astimezone(timezone(timedelta(hours=9)))
    [found] = excursions([trip(1, 2)], [(naive, 99, 99), (elsewhere, 97, 98), (at(3), 1, 999)])
    assert (found.lowest, found.highest) == (97.0, 99.0)


def test_other_numbers_are_taken_as_floats() -> None:
    numpy = pytest.importorskip("numpy")
    [found] = excursions(
        [trip()], [(at(1), Decimal("99.5"), 101), (at(2), *numpy.array([98, 99.5]))]
    )
    assert (found.lowest, found.highest) == (98.0, 101.0)
    assert (type(found.lowest), type(found.highest)) == (float, float)


# --- several round trips ----------------------------------------------------------------------


def test_round_trips_that_overlap_have_their_own_prices_each() -> None:
    ranges = [(100 - hour, 100 + hour) for hour in range(1, 10)]
    held = [trip(1, 6, strategy="a"), trip(2, 3, strategy="b"), trip(4, 8, exchange="okx")]
    found = list(excursions(held, bars(*ranges)))
    assert [each.trip for each in found] == [held[1], held[0], held[2]]
    assert [(each.lowest, each.highest) for each in found] == [(97, 103), (94, 106), (92, 108)]


def test_one_that_was_opened_last_leaves_its_prices_to_those_before_it() -> None:
    held = [trip(1, None), trip(2, 7), trip(3, 4)]
    ranges = [(99, 101), (99, 101), (90, 110), (99, 101), (99, 101), (99, 101)]
    found = list(excursions(held, bars(*ranges)))
    assert [each.trip for each in found] == [held[2], held[1], held[0]]
    assert [(each.lowest, each.highest) for each in found] == [(90, 110)] * 3


def test_they_come_as_they_were_closed_and_open_ones_as_they_were_opened() -> None:
    held = [trip(5, None), trip(3, 8), trip(1, None), trip(4, 8), trip(2, 9), trip(6, 7)]
    order = [held[index] for index in (5, 1, 3, 4, 2, 0)]
    for length in (0, 4, 20):
        found = excursions(iter(held), bars(*[(99, 101)] * length))
        assert [each.trip for each in found] == order


def test_prices_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def series() -> Iterator[tuple[datetime, float, float]]:
        for hour in range(100):
            read.append(hour)
            yield at(hour), 99.0, 101.0

    found = excursions([trip(1, 3), trip(2, 6)], series())
    assert read == []
    assert next(found).trip.closed_at == at(3)
    assert read[-1] == 4
    assert [each.trip.closed_at for each in found] == [at(6)]
    assert read[-1] == 7
    assert list(excursions([], bars((99, 101)))) == []


@pytest.mark.usefixtures("empty_database")
def test_of_recorded_round_trips() -> None:
    made = [("buy", 100, 1), ("buy", 110, 1), ("sell", 120, 1), ("sell", 90, 2), ("buy", 80, 0.5)]
    for hour, (side, price, quantity) in enumerate(made):
        trade = {"symbol": "ETH/USDT", "side": side, "price": price, "quantity": quantity}
        trades.create(timestamp=at(hour), **trade)
    ranges = [(97, 112), (105, 121), (89, 119), (79, 93), (70, 84)]
    long, short = excursions(round_trips(include_open=True), bars(*ranges, start=0.5))
    # of its whole quantity at the average entry price, although a part was closed before the end
    assert (long.trip.quantity, long.trip.entry_price) == (2.0, 105.0)
    assert (long.lowest, long.highest, long.mae, long.mfe) == (89.0, 121.0, 32.0, 32.0)
    assert (short.trip.quantity, short.trip.closed_at) == (1.0, None)
    assert (short.lowest, short.highest, short.mae, short.mfe) == (70.0, 93.0, 3.0, 20.0)


# --- invalid input ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trips", "message"),
    [
        (
            [trip(), trip(symbol="BTC/USDT")],
            r"trips: \['BTC/USDT', 'ETH/USDT'\] are several symbols; pass the round trips of one",
        ),
        ([trip(), "ETH/USDT"], r"trips\[1\]: 'ETH/USDT' is not a RoundTrip"),
        ([trip(2, 1)], r"trips\[0\]: datetime.* is before it was opened"),
        (trip(), "trips: RoundTrip.* is not a series of round trips"),
        ("ETH/USDT", "trips: 'ETH/USDT' is not a series of round trips"),
    ],
)
def test_invalid_round_trips_are_refused_at_the_call(trips: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        excursions(trips, [])
    assert caught.value.field == "trips"


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ((at(3), 0.0, 1.0), "0.0 is not greater than 0"),
        ((at(3), 1.0, -1.0), "-1.0 is not greater than 0"),
        ((at(3), float("nan"), 1.0), "nan is not a finite number"),
        ((at(3), 1.0, float("nan")), "nan is not a finite number"),
        ((at(3), 1.0, float("inf")), "inf is not a finite number"),
        ((at(3), "1", 1.0), "'1' is not a number"),
        ((at(3), True, 1.0), "True is not a number"),
        ((at(3), 1.0, None), "None is not a number"),
        ((at(3), 101.0, 100.5), r"101.0 is a low above its high, 100.5"),
        ((at(1.5), 1.0, 1.0), r"datetime.* is before the previous timestamp, 2024-01-01 02:00:00"),
        (("2024-01-01", 1.0, 1.0), "'2024-01-01' is not a datetime"),
        ((1704067200000, 1.0, 1.0), "1704067200000 is not a datetime"),
        ((at(3), 1.0), r"\(datetime.* is not \(timestamp, low, high\)"),
        (None, r"None is not \(timestamp, low, high\)"),
    ],
)
def test_an_invalid_price_is_refused_by_its_index(price: Any, message: str) -> None:
    found = excursions([trip()], [*bars((99, 101), (99, 101)), price])
    with pytest.raises(ValidationError, match=rf"^prices\[2\]: {message}") as caught:
        list(found)
    assert caught.value.field == "prices"


@pytest.mark.parametrize("prices", [None, 100.0, "prices", {at(1): 100.0}])
def test_prices_that_are_no_series_are_refused_at_the_call(prices: Any) -> None:
    with pytest.raises(ValidationError, match=r"prices: .* is not a series of \(timestamp, low"):
        excursions([trip()], prices)


def test_a_wrong_argument_list_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"prices: excursions\(\) needs prices"):
        excursions([])  # type: ignore[call-arg]


def test_what_the_series_of_prices_raises_is_left_alone() -> None:
    def broken() -> Iterator[tuple[datetime, float, float]]:
        yield at(1), 99.0, 101.0
        raise TypeError("of the caller")

    with pytest.raises(TypeError, match="of the caller"):
        list(excursions([trip()], broken()))


def test_an_excursion_does_not_change() -> None:
    found = only(trip(), (98, 101))
    with pytest.raises(FrozenInstanceError):
        found.mae = 0.0  # type: ignore[misc]
    assert found in {found}


# --- agreement with exact fractions -----------------------------------------------------------


@st.composite
def held_trips(draw: st.DrawFn) -> list[RoundTrip]:
    """Return round trips of one symbol, of several at one time, in any order."""
    symbol = draw(st.sampled_from([*IS_INVERSE]))
    hours = st.integers(0, 12)
    trips = []
    for _ in range(draw(st.integers(0, 6))):
        opened = draw(hours)
        trips.append(
            trip(
                opened,
                draw(st.none() | hours.map(lambda hours, opened=opened: opened + hours)),
                symbol=symbol,
                direction=draw(st.sampled_from(["long", "short"])),
                quantity=draw(numbers),
                entry_price=draw(numbers),
                contract_size=draw(st.sampled_from(CONTRACT_SIZES)) or 1.0,
                gross_pnl=draw(st.sampled_from([0.0, 0.0, 0.0, None])),
            )
        )
    return trips


@st.composite
def price_series(draw: st.DrawFn) -> list[tuple[datetime, float, float]]:
    hours = sorted(draw(st.lists(st.integers(-2, 16), max_size=20)))
    return [(at(hour), *sorted((draw(numbers), draw(numbers)))) for hour in hours]


def expected(of: RoundTrip, prices: list[tuple[datetime, float, float]]) -> Excursion:
    """Return the excursion, by the definitions of docs/accounting.md."""

    def decimal_of(number: float) -> Fraction:
        return Fraction(str(number))

    in_time = [
        price
        for price in prices
        if of.opened_at <= price[0] and (of.closed_at is None or price[0] <= of.closed_at)
    ]
    lowest = min((low for _, low, _ in in_time), default=None)
    highest = max((high for _, _, high in in_time), default=None)
    names = ("mae", "mfe", "mae_ratio", "mfe_ratio")
    found: dict[str, float | None] = dict.fromkeys(names)
    if lowest is not None and highest is not None and of.gross_pnl is not None:
        size = decimal_of(of.quantity) * decimal_of(of.contract_size)
        entry = decimal_of(of.entry_price)
        value = size / entry if IS_INVERSE[of.symbol] else size * entry
        pnls = []
        for price in (decimal_of(lowest), decimal_of(highest)):
            pnl = size / entry - size / price if IS_INVERSE[of.symbol] else size * (price - entry)
            pnls.append(pnl if of.direction == "long" else -pnl)
        mae, mfe = max(-min(pnls), 0), max(*pnls, 0)
        each = (mae, mfe, mae / value, mfe / value)
        found = dict(zip(names, map(float, each), strict=True))
    return Excursion(trip=of, lowest=lowest, highest=highest, **found)


def check(trips: list[RoundTrip], prices: list[tuple[datetime, float, float]]) -> None:
    never = datetime.max.replace(tzinfo=UTC)
    ends = [
        (of.closed_at or never, of.opened_at if of.closed_at is None else at(0)) for of in trips
    ]
    order = sorted(range(len(trips)), key=ends.__getitem__)  # ties stay as they were passed
    found = list(excursions(trips, iter(prices)))
    assert [id(each.trip) for each in found] == [id(trips[index]) for index in order]
    # by their text, in which -0.0 is not 0.0
    assert [*map(repr, found)] == [repr(expected(trips[index], prices)) for index in order]


@settings(max_examples=200, phases=PHASES)
@given(held_trips(), price_series())
def test_every_excursion_is_that_of_exact_fractions(
    trips: list[RoundTrip], prices: list[tuple[datetime, float, float]]
) -> None:
    check(trips, prices)


@pytest.mark.long
@settings(max_examples=5000, phases=PHASES)
@given(held_trips(), price_series())
def test_every_excursion_is_that_of_exact_fractions_in_many_markets(
    trips: list[RoundTrip], prices: list[tuple[datetime, float, float]]
) -> None:
    check(trips, prices)
