"""Round trips: from flat to flat, with what each has earned."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

import position_reference as reference
import pytest
from histories import RATES, Row, histories
from hypothesis import Phase, given, settings
from samples import at, signal, trade

from botmemory import Trade, ValidationError
from botmemory.analysis.round_trips import RoundTrip, round_trips
from botmemory.queries import trips as module
from botmemory.repositories import cash_flows, positions, trades

pytestmark = pytest.mark.usefixtures("empty_database")

PHASES = set(Phase) - {Phase.explain}


def record(*made: tuple[str, float, float], symbol: str = "ETH/USDT", **values: Any) -> None:
    """Record trades of side, price and quantity, an hour after one another."""
    first = trades.get_trade_count()
    for hour, (side, price, quantity) in enumerate(made, first):
        fill = {"side": side, "price": price, "quantity": quantity, "timestamp": at(hour)}
        trades.create(symbol=symbol, **fill, **values)


def only(**arguments: Any) -> RoundTrip:
    [trip] = round_trips(**arguments)
    return trip


# --- agreement with exact fractions ---------------------------------------------------------


def expected_trips(rows: list[Row]) -> list[dict[str, Any]]:
    """Return the figures of the round trips: closed ones as they were closed, then open ones."""
    by_key = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    order = {id(row.fill): place for place, row in enumerate(rows)}
    trips = []
    for key, of_key in by_key.items():
        for trip in reference.round_trips(of_key[0].market, [row.fill for row in of_key]):
            ends = (
                order[id(trip.parts[-1].fill)] if trip.is_closed else order[id(trip.parts[0].fill)]
            )
            names = dict(zip(("symbol", "exchange", "strategy"), key, strict=True))
            trips.append((not trip.is_closed, ends, names | trip.figures(RATES)))
    return [figures for _, _, figures in sorted(trips, key=lambda trip: trip[:2])]


def text(figures: dict[str, Any]) -> dict[str, str]:
    """Return figures in a form in which -0.0 is not 0.0."""
    return {name: repr(figure) for name, figure in figures.items()}


def check(rows: list[Row]) -> None:
    Trade.delete().execute()
    trades.create_many(row.values() for row in rows)
    expected = expected_trips(rows)
    found = list(round_trips(rates=RATES, include_open=True))
    for number in (1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "FILLS_PER_READ", number)
            assert list(round_trips(rates=RATES, include_open=True)) == found
    assert [
        text({name: getattr(trip, name) for name in figures})
        for trip, figures in zip(found, expected, strict=True)
    ] == list(map(text, expected))
    for trip in found:
        assert (trip.unknown is None) == (trip.net_pnl is not None)
    assert list(round_trips(rates=RATES)) == [trip for trip in found if trip.closed_at]


@pytest.mark.timeout(600)  # when it fails, an example is looked for that is short
@settings(max_examples=40, phases=PHASES)
@given(histories())
def test_every_round_trip_is_that_of_exact_fractions(rows: list[Row]) -> None:
    check(rows)


@pytest.mark.long
@settings(max_examples=500, phases=PHASES)
@given(histories())
def test_every_round_trip_is_that_of_exact_fractions_in_many_histories(rows: list[Row]) -> None:
    check(rows)


# --- what belongs to a round trip -------------------------------------------------------------


def test_nothing_traded_has_no_round_trips() -> None:
    assert list(round_trips(include_open=True)) == []


def test_partial_exits_are_one_round_trip() -> None:
    record(("buy", 100, 9))
    record(*[("sell", 101 + part, 1) for part in range(9)])
    trip = only()
    assert (trip.direction, trip.quantity, trip.fills) == ("long", 9.0, 10)
    assert (trip.entry_price, trip.exit_price, trip.gross_pnl) == (100.0, 105.0, 45.0)
    assert (trip.opened_at, trip.closed_at) == (at(0), at(9))
    assert trip.holding_time == timedelta(hours=9)


def test_a_flip_divides_its_fill_and_its_fee() -> None:
    record(("buy", 100, 1), ("sell", 110, 4), ("buy", 105, 3), fee=0.4, fee_currency="USDT")
    long, short = round_trips()
    assert (long.direction, long.gross_pnl, long.fees) == ("long", 10.0, {"USDT": 0.5})
    assert (short.direction, short.quantity, short.gross_pnl) == ("short", 3.0, 15.0)
    assert (short.fees, long.closed_at, short.opened_at) == ({"USDT": 0.7}, at(1), at(1))
    assert (long.fills, short.fills) == (2, 2)
    assert positions.get("ETH/USDT").net_realized_pnl == long.net_pnl + short.net_pnl == 23.8


def test_an_open_one_has_what_was_closed_of_it_so_far() -> None:
    record(("buy", 100, 2), ("sell", 110, 0.5))
    assert list(round_trips()) == []
    trip = only(include_open=True)
    assert (trip.closed_at, trip.holding_time, trip.exit_price) == (None, None, 110.0)
    assert (trip.quantity, trip.gross_pnl) == (2.0, 5.0)
    record(("buy", 1, 1), symbol="SOL/USDT")
    opened = round_trips(include_open=True)
    assert [(t.symbol, t.exit_price) for t in opened] == [("ETH/USDT", 110.0), ("SOL/USDT", None)]


def test_signals_and_tags() -> None:
    entry, exit_ = signal(), signal(signal_value=-1)
    trade(side="buy", signal=entry, timestamp=at(0), trade_metadata={"tags": ["dip", "news"]})
    trade(side="sell", signal=exit_, timestamp=at(1), trade_metadata={"tags": "dip", "note": 1})
    trip = only()
    assert (trip.entry_signal_id, trip.exit_signal_id) == (entry.id, exit_.id)
    assert trip.tags == ("dip", "news")


def test_exchanges_and_strategies_are_kept_apart() -> None:
    for exchange, strategy in (("okx", "a"), ("okx", None), ("kraken", "a")):
        record(("buy", 100, 1), ("sell", 101, 1), exchange=exchange, strategy=strategy)
    record(("sell", 100, 1), exchange="kraken")
    keys = [(trip.exchange, trip.strategy) for trip in round_trips(include_open=True)]
    assert keys == [("okx", "a"), ("okx", None), ("kraken", "a"), ("kraken", None)]
    assert [trip.exchange for trip in round_trips(strategy="a")] == ["okx", "kraken"]
    assert only(strategy="").exchange == "okx"
    assert only(exchange="kraken").strategy == "a"


def test_the_range_is_that_of_their_ends() -> None:
    record(*[("buy", 100, 1), ("sell", 101, 1)] * 3)
    ends = [trip.closed_at for trip in round_trips(start_date=at(2), end_date=at(5))]
    assert ends == [at(3), at(5)]
    early = only(end_date=at(2), include_open=False)
    assert early.closed_at == at(1)
    assert [t.closed_at for t in round_trips(end_date=at(2), include_open=True)] == [at(1), None]
    # it was opened before the start
    assert only(start_date=at(3), end_date=at(3)).opened_at == at(2)


def test_a_currency_may_be_asked_for() -> None:
    for symbol in ("ETH/USDT", "ETH/BTC", "GOOG"):
        record(("buy", 100, 1), ("sell", 101, 1), symbol=symbol)
    assert [trip.quote for trip in round_trips()] == ["USDT", "BTC", None]
    assert only(quote="BTC").symbol == "ETH/BTC"
    assert only(quote="").symbol == "GOOG"
    with pytest.raises(ValidationError, match="quote: no trade is in 'EUR'"):
        round_trips(quote="EUR")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symbol": ""}, "symbol: '' has 0 characters"),
        ({"start_date": at(2), "end_date": at(1)}, "end_date: .* is before start_date"),
        ({"rates": {"BNB": -1}}, r"rates\['BNB'\]: -1 is not greater than 0"),
        ({"rates": 600}, "rates: 600 is not a mapping"),
        ({"quote": 1}, "quote: 1 is not the name of a currency"),
    ],
)
def test_an_invalid_argument_is_refused_at_the_call(arguments: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        round_trips(**arguments)


def test_trades_may_be_recorded_in_the_loop() -> None:
    record(*[("buy", 100, 1), ("sell", 101, 1)] * 5)
    for number, _ in enumerate(round_trips()):
        trade(symbol="SOL/USDT", timestamp=at(100 + number))
    assert trades.get_trade_count("SOL/USDT") == 5


def test_a_round_trip_may_be_longer_than_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILLS_PER_READ", 1000)
    trades.create_many(
        {"symbol": "ETH/USDT", "side": side, "price": price, "quantity": 1, "timestamp": at(hour)}
        for hour, (side, price) in enumerate([("buy", 100)] * 1000 + [("sell", 101)] * 1000)
    )
    trip = only()
    assert (trip.fills, trip.quantity, trip.gross_pnl) == (2000, 1000.0, 1000.0)


# --- funding ----------------------------------------------------------------------------------


def pay(hour: float, amount: float, **values: Any) -> None:
    flow = {"symbol": "ETH/USDT:USDT", "currency": "USDT", "timestamp": at(hour)} | values
    cash_flows.create(kind="funding", amount=amount, **flow)


def test_funding_belongs_to_the_round_trip_that_was_held_then() -> None:
    record(*[("buy", 100, 1), ("sell", 101, 1)] * 2, symbol="ETH/USDT:USDT")
    for hour, amount in ((-1, 64), (0.5, -1), (1, -2), (1.5, 32), (2.5, -4), (9, 16)):
        pay(hour, amount)
    first, second = round_trips()
    assert (first.funding, first.net_pnl) == (-3.0, -2.0)
    assert (second.funding, second.net_pnl) == (-4.0, -3.0)


def test_funding_at_the_time_of_a_flip_belongs_to_the_one_it_closed() -> None:
    record(("buy", 100, 1), ("sell", 101, 2), ("buy", 100, 1), symbol="ETH/USDT:USDT")
    pay(1, -0.5)
    assert [trip.funding for trip in round_trips()] == [-0.5, 0.0]


def test_funding_without_a_strategy_belongs_to_the_only_one_that_held() -> None:
    perpetual = {"symbol": "ETH/USDT:USDT"}
    record(("buy", 100, 1), ("sell", 101, 1), strategy="a", **perpetual)
    pay(0.5, -1)
    pay(0.5, -2, strategy="a")
    pay(0.5, -4, strategy="b")
    pay(0.5, -8, exchange="okx")
    assert only().funding == -3.0
    assert only(strategy="a").funding == -3.0


def test_funding_that_several_strategies_share_is_not_known() -> None:
    for strategy in ("a", "b"):
        for hour, (side, price) in enumerate((("buy", 100), ("sell", 101))):
            trade(
                symbol="ETH/USDT:USDT",
                side=side,
                price=price,
                strategy=strategy,
                timestamp=at(hour),
            )
    pay(0.5, -1)
    for trip in round_trips():
        assert (trip.gross_pnl is None, trip.funding, trip.net_pnl) == (False, None, None)
        assert trip.unknown is not None
        assert "record funding with its strategy" in trip.unknown
    # also where one of them is asked for
    assert [trip.funding for trip in round_trips(strategy="a")] == [None]
    assert list(round_trips(strategy="", include_open=True)) == []


def test_funding_in_another_currency_needs_its_rate() -> None:
    record(("buy", 100, 1), ("sell", 101, 1), symbol="ETH/USDT:USDT")
    pay(0.5, -0.5, currency="USDC")
    assert (only().funding, only().net_pnl) == (None, None)
    assert only(rates={"USDC": 2}).net_pnl == 0.0


# --- R multiples ------------------------------------------------------------------------------


def with_stop(stop: Any, *fills: tuple[str, float, float], **values: Any) -> None:
    """Record fills of which the first has a signal with a stop in its metadata."""
    (side, price, quantity), *others = fills
    entry = signal(signal_metadata={"risk": {"stop": stop}})
    record((side, price, quantity), signal=entry, **values)
    record(*others, **values)


@pytest.mark.parametrize(
    ("fills", "values", "stop", "expected"),
    [
        ([("buy", 100, 2), ("sell", 110, 2)], {}, 95, 2.0),
        ([("buy", 100, 2), ("sell", 95, 2)], {}, 95.0, -1.0),
        ([("sell", 100, 2), ("buy", 97, 2)], {}, 106, 0.5),
        ([("buy", 100, 1), ("buy", 110, 1), ("sell", 120, 2)], {}, 95, 1.5),  # entry price 105
        ([("buy", 100, 2), ("sell", 110, 2)], {"fee": 1, "fee_currency": "USDT"}, 95, 1.8),
        (
            [("buy", 100, 5), ("sell", 110, 5)],
            {"symbol": "ETH/USDT:USDT", "contract_size": 0.1},
            90,
            1.0,
        ),
        (
            [("buy", 40_000, 4), ("sell", 50_000, 4)],  # 1/40000 - 1/50000 to 1/32000 - 1/40000
            {"symbol": "BTC/USD:BTC", "contract_size": 100},
            32_000,
            0.8,
        ),
    ],
)
def test_the_r_multiple_is_the_net_pnl_by_what_the_stop_risked(
    fills: Any, values: dict[str, Any], stop: float, expected: float
) -> None:
    with_stop(stop, *fills, **values)
    assert only(stop_key="risk.stop").r_multiple == expected
    assert only().r_multiple is None


@pytest.mark.parametrize(
    "stop", [None, 100, 101, 0, -5, "95", True, [], {}, 10**400, float(2**1023)]
)
def test_a_stop_that_risks_nothing_has_no_r_multiple(stop: Any) -> None:
    with_stop(stop, ("buy", 100, 2), ("sell", 110, 2))
    assert only(stop_key="risk.stop").r_multiple is None
    assert only(stop_key="stop").r_multiple is None


def test_r_multiples_of_many_round_trips_and_of_those_without_a_signal() -> None:
    for number in range(7):
        with_stop(90, ("buy", 100, 1), ("sell", 100 + number, 1))
    record(("buy", 100, 1), ("sell", 101, 1), ("buy", 100, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botmemory.analysis.round_trips.SIGNALS_PER_READ", 3)
        multiples = [
            trip.r_multiple for trip in round_trips(stop_key="risk.stop", include_open=True)
        ]
    assert multiples == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, None, None]


def test_an_r_multiple_that_no_float_can_hold_is_none() -> None:
    with_stop(100 - 1e-10, ("buy", 100, 1), ("sell", 1e300, 1))
    assert only(stop_key="risk.stop").r_multiple is None


def test_tags_are_the_same_on_every_database() -> None:
    tags = ["a", {"b": 1, "a": [True]}, None, 0, False, 1.5]
    record(("buy", 100, 1), ("sell", 101, 1), trade_metadata={"tags": tags})
    assert only().tags == ("a", '{"a":[true],"b":1}', "0", "false", "1.5")


def test_an_invalid_key_of_the_stop_is_refused_by_the_call() -> None:
    with pytest.raises(ValidationError, match="is not a key of the metadata"):
        round_trips(stop_key="a..b")
