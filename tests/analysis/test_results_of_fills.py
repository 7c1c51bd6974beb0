"""Results of round trips, net of fees: those of exact fractions, in every way that shows them."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import position_reference as reference
import pytest
from histories import RATES, Row, histories
from hypothesis import Phase, given, settings
from position_reference import to_float
from samples import at, trade

from botmemory import Trade, ValidationError
from botmemory.analysis.performance import Result, by, drawdowns, equity_curve, summarize
from botmemory.analysis.round_trips import round_trips
from botmemory.repositories import cash_flows, positions, trades
from botmemory.symbols import quote_of

pytestmark = pytest.mark.usefixtures("empty_database")

PHASES = set(Phase) - {Phase.explain}


def record(*fills: tuple[str, float, float], symbol: str = "ETH/USDT", **values: Any) -> None:
    """Record trades of side, price and quantity, an hour after one another."""
    first = trades.get_trade_count()
    for hour, (side, price, quantity) in enumerate(fills, first):
        fill = {"side": side, "price": price, "quantity": quantity, "timestamp": at(hour)}
        trades.create(symbol=symbol, **fill | values)


# --- agreement with exact fractions ---------------------------------------------------------


class Closed(NamedTuple):
    """A closed round trip of the reference."""

    row: Row
    closed_at: dt.datetime
    is_long: bool
    fills: int
    gross: Fraction | None
    net: Fraction | None


def closed_trips(rows: list[Row]) -> list[Closed]:
    """Return the round trips in the order in which they were closed."""
    by_key = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    order = {id(row.fill): place for place, row in enumerate(rows)}
    closed = []
    for of_key in by_key.values():
        for trip in reference.round_trips(of_key[0].market, [row.fill for row in of_key]):
            last = trip.parts[-1].fill
            if trip.is_closed:
                is_long = trip.parts[0].change > 0
                figures = len(trip.parts), trip.gross, trip.net(RATES)
                closed.append(
                    (order[id(last)], Closed(of_key[0], last.timestamp, is_long, *figures))
                )
    return [trip for _, trip in sorted(closed, key=lambda pair: pair[0])]


def expected_result(trips: list[Closed]) -> dict[str, Any]:
    """Return the figures of round trips; the PnL is None if one of them is not known."""
    nets = [trip.net for trip in trips if trip.net is not None]
    grosses = [trip.gross for trip in trips if trip.gross is not None]
    is_known = trips and len(nets) == len(trips)
    wins, losses = [net for net in nets if net > 0], [net for net in nets if net < 0]
    names = "total_pnl", "gross_profit", "gross_loss", "best", "worst", "expectancy"
    figures: dict[str, Any] = dict.fromkeys((*names, "wins", "losses", "win_rate"))
    if is_known:
        sums = sum(nets), sum(wins), sum(losses), max(nets), min(nets), sum(nets) / len(nets)
        figures = dict(zip(names, map(to_float, map(Fraction, sums)), strict=True))
        figures |= {"wins": len(wins), "losses": len(losses), "win_rate": len(wins) / len(nets)}
    is_gross_known = trips and len(grosses) == len(trips)
    return figures | {
        "closed_trades": len(trips),
        "net_pnl": figures["total_pnl"],
        "gross_pnl": to_float(Fraction(sum(grosses))) if is_gross_known else None,
    }


def figures_of(result: Result, names: dict[str, Any]) -> dict[str, str]:
    return {name: repr(getattr(result, name)) for name in names}


def as_text(figures: dict[str, Any]) -> dict[str, str]:
    return {name: repr(figure) for name, figure in figures.items()}


KEYS: dict[str, Callable[[Closed], Any]] = {
    "symbol": lambda trip: trip.row.market.symbol,
    "exchange": lambda trip: trip.row.exchange,
    "strategy": lambda trip: trip.row.strategy,
    "direction": lambda trip: "long" if trip.is_long else "short",
    "side": lambda trip: "buy" if trip.is_long else "sell",
    "hour": lambda trip: trip.closed_at.hour,
    "day": lambda trip: trip.closed_at.date().isoformat(),
}


def check(rows: list[Row]) -> None:
    Trade.delete().execute()
    trades.create_many(row.values() for row in rows)
    all_trips = closed_trips(rows)
    arguments: Any = {"source": "fills", "rates": RATES}
    for currency in {quote_of(row.market.symbol) or "" for row in rows}:
        of_currency = [trip for trip in all_trips if (trip.row.market.currency or "") == currency]
        expected = expected_result(of_currency)
        result = summarize(**arguments, quote=currency)
        assert figures_of(result, expected) == as_text(expected)
        assert (result.unknown is None) == (result.total_pnl is not None)
        check_curve(of_currency, {**arguments, "quote": currency}, is_known=result.unknown is None)
        for name, key in KEYS.items():
            groups = {group.key: group for group in by(name, **arguments, quote=currency)}
            members = defaultdict(list)
            for trip in of_currency:
                members[key(trip)].append(trip)
            assert groups.keys() == members.keys()
            for group_key, trips in members.items():
                of_group = expected_result(trips) | {"trades": sum(t.fills for t in trips)}
                assert figures_of(groups[group_key], of_group) == as_text(of_group)
        pairs = by(("exchange", "direction"), **arguments, quote=currency)
        assert sum(pair.closed_trades for pair in pairs) == len(of_currency)


def check_curve(trips: list[Closed], arguments: Any, *, is_known: bool) -> None:
    if trips and not is_known:
        with pytest.raises(ValidationError, match="the PnL of the round trip of .* is not known: "):
            equity_curve(**arguments)
        return
    equities = list(accumulate(trip.net or Fraction(0) for trip in trips))
    peaks = list(accumulate(equities, max, initial=Fraction(0)))[1:]
    falls = [peak - equity for peak, equity in zip(peaks, equities, strict=True)]
    points = equity_curve(**arguments)
    assert [point.equity for point in points] == list(map(to_float, equities))
    assert [point.drawdown for point in points] == list(map(to_float, falls))
    assert [point.timestamp for point in points] == [trip.closed_at for trip in trips]
    episodes = [max(fall) for is_down, fall in groupby_sign(falls) if is_down]
    found = [fall.amount for fall in drawdowns(limit=100, **arguments)]
    assert found == sorted(map(to_float, episodes), reverse=True)
    if trips:
        assert summarize(**arguments).max_drawdown == to_float(max(falls))
        assert summarize(**arguments).current_drawdown == to_float(falls[-1])


def groupby_sign(falls: list[Fraction]) -> list[tuple[bool, list[Fraction]]]:
    return [(key, list(group)) for key, group in groupby(falls, lambda fall: fall > 0)]


@pytest.mark.timeout(600)  # when it fails, an example is looked for that is short
@settings(max_examples=25, phases=PHASES)
@given(histories())
def test_every_result_is_that_of_exact_fractions(rows: list[Row]) -> None:
    check(rows)


@pytest.mark.long
@settings(max_examples=400, phases=PHASES)
@given(histories())
def test_every_result_is_that_of_exact_fractions_in_many_histories(rows: list[Row]) -> None:
    check(rows)


# --- which source -----------------------------------------------------------------------------

FEES = {"fee": 0.5, "fee_currency": "USDT"}


def test_without_recorded_pnl_the_fills_say_what_was_earned() -> None:
    record(("buy", 100, 2), *[("sell", 110 + n, 0.5) for n in range(4)], **FEES)
    result = summarize()
    assert (result.source, result.trades, result.trades_with_pnl) == ("fills", 5, 0)
    assert (result.closed_trades, result.wins, result.win_rate) == (1, 1, 1.0)  # not four wins
    assert (result.gross_pnl, result.fees, result.funding) == (23.0, {"USDT": 2.5}, 0.0)
    assert result.net_pnl == result.total_pnl == 20.5
    assert result.average_holding_time == result.average_holding_time_of_wins == at(4) - at(0)
    assert result.average_holding_time_of_losses is None
    assert result.unknown is None
    assert [(group.source, group.total_pnl) for group in by("day")] == [("fills", 20.5)]
    assert [point.equity for point in equity_curve()] == [20.5]


def test_where_any_trade_has_a_pnl_it_is_what_was_recorded() -> None:
    record(("buy", 100, 2), ("sell", 110, 2), **FEES)
    record(("buy", 100, 2), ("sell", 110, 2), pnl=7)
    result = summarize()
    assert (result.source, result.trades, result.trades_with_pnl) == ("recorded", 4, 2)
    assert (result.total_pnl, result.closed_trades) == (14.0, 2)
    assert result.gross_pnl is result.net_pnl is result.funding is None
    assert result.fees == {"USDT": 1.0}
    fills = summarize(source="fills")
    assert (fills.total_pnl, fills.closed_trades, fills.trades_with_pnl) == (39.0, 2, 2)
    assert summarize(end_date=at(1)).source == "fills"  # the source is that of the selection
    assert [group.fees for group in by("symbol")] == [{"USDT": 1.0}]


@pytest.mark.parametrize("source", [None, "recorded", "fills"])
def test_what_is_not_known_is_never_shown_as_0(source: Any) -> None:
    record(("buy", 100, 2))
    result = summarize(source=source)
    assert result.trades == 1
    for name in ("total_pnl", "net_pnl", "gross_profit", "wins", "max_drawdown", "sqn", "best"):
        assert getattr(result, name) is None, name
    assert result.unknown == {
        "recorded": "no trade has a pnl; source='fills' computes what was earned",
    }.get(source, "no round trip was closed")
    assert equity_curve(source=source) == drawdowns(source=source) == []


def test_an_unknown_source_is_refused() -> None:
    for function in (summarize, equity_curve, drawdowns, lambda **values: by("day", **values)):
        with pytest.raises(ValidationError, match="source: 'fill' is unknown; use 'recorded' or"):
            function(source="fill")  # type: ignore[operator]


def test_a_fee_in_a_third_currency_needs_its_rate() -> None:
    record(("buy", 100, 2), ("sell", 110, 2), fee=0.01, fee_currency="BNB")
    result = summarize()
    assert (result.closed_trades, result.gross_pnl, result.fees) == (1, 20.0, {"BNB": 0.02})
    assert result.total_pnl is result.net_pnl is result.wins is result.max_drawdown is None
    assert result.unknown == "fees or funding are in BNB; pass rates={'BNB': its price in USDT}"
    assert summarize(rates={"BNB": 600}).net_pnl == 8.0
    for function in (equity_curve, drawdowns):
        with pytest.raises(
            ValidationError, match="ETH/USDT closed at .* not known: fees or funding"
        ):
            function()  # type: ignore[operator]
    assert result.average_holding_time == at(1) - at(0)
    assert result.average_holding_time_of_wins is None


def test_stock_bots_name_the_currency_of_their_fees_by_its_rate() -> None:
    record(("buy", 100, 2), ("sell", 110, 2), symbol="AAPL", fee=1, fee_currency="USD")
    assert "pass rates={'USD': 1} if that is the currency of its price" in str(summarize().unknown)
    assert summarize(rates={"USD": 1}).net_pnl == 18.0
    assert next(round_trips(rates={"USD": 1})).net_pnl == 18.0
    positions_of = positions.get("AAPL", rates={"USD": 1}), positions.get("AAPL", quote="USD")
    assert [held.net_realized_pnl for held in positions_of] == [18.0, 18.0]


def test_all_missing_rates_are_named() -> None:
    record(("buy", 100, 2), fee=1, fee_currency="BNB")
    record(("sell", 110, 2), fee=1, fee_currency="XRP")
    assert str(summarize().unknown).endswith(
        "pass rates={'BNB': its price in USDT, 'XRP': its price in USDT}"
    )


def test_funding_is_in_the_result() -> None:
    record(("buy", 100, 2), ("sell", 110, 2), symbol="ETH/USDT:USDT")
    cash_flows.create(
        kind="funding", currency="USDT", amount=-3, symbol="ETH/USDT:USDT", timestamp=at(0.5)
    )
    result = summarize()
    assert (result.gross_pnl, result.funding, result.net_pnl) == (20.0, -3.0, 17.0)


def test_a_result_is_that_of_the_position_that_is_flat_again() -> None:
    record(("buy", 100, 1 / 3), ("buy", 101, 1 / 7), ("sell", 99, 10 / 21), **FEES)
    record(("sell", 98, 0.7), ("buy", 97, 0.2), ("buy", 96, 0.5), **FEES)
    held = positions.get("ETH/USDT")
    assert held.quantity == 0.0
    assert summarize().net_pnl == held.net_realized_pnl == sum_of_trips()
    assert summarize().gross_pnl == held.realized_pnl


def sum_of_trips() -> float:
    return float(sum(Fraction(repr(trip.net_pnl)) for trip in round_trips()))


def test_figures_that_no_float_can_hold_are_none() -> None:
    trade(pnl=-1e-300, timestamp=at(0))
    trade(pnl=1e300, timestamp=at(1))
    result = summarize()
    assert (result.recovery_factor, result.max_drawdown) == (None, 1e-300)


def test_many_payments_of_funding_count_for_the_round_trip_that_was_held() -> None:
    for number in range(40):
        strategy = "ab"[number % 2]
        record(("buy", 100, 1), ("sell", 101, 1), symbol="ETH/USDT:USDT", strategy=strategy)
    cash_flows.create_many(
        {"kind": "funding", "currency": "USDT", "amount": -0.001, "symbol": "ETH/USDT:USDT",
         "timestamp": at(number / 10 + 0.05)}
        for number in range(800)
    )  # fmt: skip
    trips = list(round_trips())
    assert [trip.funding for trip in trips] == [-0.01] * 40
    assert summarize().funding == -0.4


def test_closed_trades_of_a_span_are_those_that_were_closed_in_it() -> None:
    record(*[("buy", 100, 1), ("sell", 101, 1)] * 5)
    assert summarize(start_date=at(3), end_date=at(7)).closed_trades == 3
    assert summarize(start_date=at(2), end_date=at(6)).closed_trades == 2


# --- dimensions -----------------------------------------------------------------------------


def test_two_dimensions() -> None:
    record(("buy", 100, 1), ("sell", 103, 1), strategy="a")
    record(("sell", 100, 1), ("buy", 104, 1), strategy="b")
    record(("buy", 100, 1), ("sell", 101, 1), strategy="b")
    groups = by(("strategy", "direction"))
    assert [(group.key, group.net_pnl) for group in groups] == [
        (("a", "long"), 3.0), (("b", "long"), 1.0), (("b", "short"), -4.0),
    ]  # fmt: skip
    assert [group.key for group in by(("direction", "weekday"))] == [
        ("long", "Monday"), ("short", "Monday"),
    ]  # fmt: skip


def test_the_direction_of_recorded_pnl_is_that_of_what_was_closed() -> None:
    record(("buy", 100, 1))
    record(("sell", 103, 1), pnl=3)
    record(("sell", 100, 1))
    record(("buy", 104, 1), pnl=-4)
    groups = by("direction")
    assert [(group.key, group.trades, group.total_pnl) for group in groups] == [
        ("long", 2, 3.0), ("short", 2, -4.0),
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["recorded", "fills"])
@pytest.mark.parametrize(
    ("zone", "key", "hour"),
    [
        (None, "2024-01-01", 23),
        ("Europe/Berlin", "2024-01-02", 0),
        ("America/New_York", "2024-01-01", 18),
        ("Asia/Kolkata", "2024-01-02", 5),  # + 5:30
        ("Asia/Kathmandu", "2024-01-02", 5),  # + 5:45
        (dt.timezone(dt.timedelta(hours=-10)), "2024-01-01", 13),
    ],
)
def test_days_and_hours_are_those_of_the_time_zone(
    source: Any, zone: Any, key: str, hour: int
) -> None:
    trade(timestamp=at(0))
    trade(side="sell", price=101, pnl=1, timestamp=at(23.5))
    trade(timestamp=at(47.5), pnl=0)
    arguments: Any = {"source": source, "tz": zone, "start_date": at(1), "end_date": at(24)}
    [day], [at_hour] = by("day", **arguments), by("hour", **arguments)
    assert (day.key, at_hour.key, day.total_pnl) == (key, hour, 1.0)


def test_a_clock_that_changes_within_an_hour_of_utc() -> None:
    trade(timestamp=dt.datetime(2010, 11, 7, 3, 30, tzinfo=dt.UTC), pnl=1)
    [day] = by("day", tz="America/Goose_Bay")  # set back from 0:01 to 23:01 at 3:01 UTC
    assert day.key == "2010-11-06"


def test_a_time_outside_of_the_years_of_a_time_zone_is_named() -> None:
    trade(timestamp=dt.datetime(1, 1, 1, 0, 30, tzinfo=dt.UTC), pnl=1)
    with pytest.raises(ValidationError, match="tz: .* has 0001-01-01 .* outside of the years 1 to"):
        by("day", tz="America/New_York")


class NoZone(dt.tzinfo):
    def utcoffset(self, _: dt.datetime | None) -> None:
        return None


@pytest.mark.parametrize("zone", [dt.tzinfo(), NoZone()])
def test_a_tzinfo_without_an_offset_is_refused(zone: dt.tzinfo) -> None:
    with pytest.raises(ValidationError, match="tz: "):
        by("day", tz=zone)


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "/etc", "../UTC", 5, "\0"])
def test_an_unknown_time_zone_is_refused(zone: Any) -> None:
    with pytest.raises(ValidationError, match="tz: .* is not a time zone; use a name such as"):
        by("day", tz=zone)


@pytest.mark.parametrize("names", [(), ("day", "day"), ("day", "hour", "symbol"), ("day", "x"), 5])
def test_other_dimensions_are_refused(names: Any) -> None:
    with pytest.raises(ValidationError, match="dimension: "):
        by(names)


# --- metadata of the trades -----------------------------------------------------------------


@pytest.mark.parametrize("source", ["recorded", "fills"])
def test_by_a_value_in_the_metadata(source: Any) -> None:
    pnl = 1 if source == "recorded" else None
    for reason, price in (("roi", 103), ("stop", 98), ("roi", 101), (None, 150)):
        record(("buy", 100, 1))
        metadata = {"exit": {"reason": reason}} if reason else None
        record(("sell", price, 1), trade_metadata=metadata, pnl=pnl and price - 100)
    groups = by("exit.reason", of="trade_metadata", source=source)
    assert [(group.key, group.closed_trades, group.total_pnl) for group in groups] == [
        ("roi", 2, 4.0), ("stop", 1, -2.0),
    ]  # fmt: skip
    assert by("tags", of="trade_metadata", source=source) == []


@pytest.mark.parametrize("source", ["recorded", "fills"])
def test_each_element_of_an_array_is_a_group(source: Any) -> None:
    pnl = 1 if source == "recorded" else None
    for tags, price in ((["late", "tp"], 103), (["tp", "tp", None], 98), ([], 90), ("tp", 101)):
        record(("buy", 100, 1))
        record(("sell", price, 1), trade_metadata={"tags": tags}, pnl=pnl and price - 100)
    groups = by("tags", of="trade_metadata", source=source)
    assert [(group.key, group.closed_trades, group.total_pnl) for group in groups] == [
        ("late", 1, 3.0), ("tp", 3, 2.0),
    ]  # fmt: skip


def test_values_of_any_type_are_groups_in_an_order() -> None:
    for value in ("b", 2, True, 1.5, {"y": 1, "x": 2}, {"x": 2, "y": 1}, False, "a", 2.0):
        trade(pnl=1, trade_metadata={"key": value})
    trade(pnl=1, trade_metadata={"key": '{"x":2,"y":1}'})
    groups = by("key", of="trade_metadata")
    assert [(group.key, group.trades) for group in groups] == [
        (1.5, 1), (2, 2), (False, 1), (True, 1), ("a", 1), ("b", 1), ('{"x":2,"y":1}', 1),
        ('{"x":2,"y":1}', 2),
    ]  # fmt: skip


def test_a_round_trip_has_the_last_value_and_all_elements_of_its_fills() -> None:
    for side, reason, tags in (
        ("buy", "breakout", ["a"]), ("sell", None, ["b"]), ("sell", "stop", None),
    ):  # fmt: skip
        metadata = {"reason": reason, "tags": tags}
        record((side, 100, 2 if side == "buy" else 1), trade_metadata=metadata)
    assert [group.key for group in by("reason", of="trade_metadata")] == ["stop"]
    assert [group.key for group in by("tags", of="trade_metadata")] == ["a", "b"]


def test_invalid_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="of: 'signal_metadata' is unknown"):
        by("x", of="signal_metadata")  # type: ignore[arg-type]
    for key in ("", "a..b", 5, ("a", "b")):
        with pytest.raises(ValidationError, match="is not a key of the metadata"):
            by(key, of="trade_metadata")  # type: ignore[arg-type]
