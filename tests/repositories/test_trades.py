"""The functions of `trades`, on every backend."""

from __future__ import annotations

import inspect
import random
import uuid
from collections import UserDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from samples import START, at, signal, trade, trade_values

from botmemory import (
    DuplicateError,
    NotFoundError,
    OrderSide,
    Trade,
    ValidationError,
    session_scope,
)
from botmemory.queries.write import ROWS_PER_CHUNK
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_database")


def test_a_created_trade_is_returned_as_it_is_stored() -> None:
    created = trade(side="BUY", price=42_000, quantity=Decimal("0.5"))
    stored = trades.get_by_id(created.id)
    assert stored is not None
    assert stored.__data__ == created.__data__
    assert (stored.symbol, stored.side, stored.price, stored.quantity) == (
        "BTC/USDT",
        OrderSide.BUY,
        42_000.0,
        0.5,
    )
    assert stored.pnl is None
    assert stored.timestamp.tzinfo is UTC
    assert abs(datetime.now(UTC) - stored.timestamp) < timedelta(minutes=1)


@pytest.mark.parametrize("record", [trades.create, lambda **row: trades.get_or_create(**row)[0]])
def test_every_field_comes_back(record: Callable[..., Trade]) -> None:
    stored_signal = signal()
    values = {
        "symbol": "ETH/USDT",
        "side": OrderSide.SELL,
        "price": 3_000.25,
        "quantity": 2.0,
        "pnl": -12.5,
        "timestamp": at(1),
        "id": uuid.uuid4(),
        "signal": stored_signal,
        "strategy": "mean-reversion",
        "fee": -0.01,
        "fee_currency": "BNB",
        "exchange": "binance",
        "exchange_trade_id": "28457",
        "trade_metadata": {"maker": True},
        "contract_size": 0.01,
    }
    stored = trades.get_by_id(record(**values).id)
    assert {name: getattr(stored, name) for name in Trade._meta.fields} == values


def test_every_function_that_records_takes_every_field() -> None:
    fields = set(Trade._meta.fields)
    for record in (trades.create, trades.get_or_create):
        assert set(inspect.signature(record).parameters) == fields
    assert set(trades.NewTrade.__annotations__) == fields
    assert set(trades.TradeChanges.__annotations__) == fields - {"id"}


@pytest.mark.parametrize("spelling", [str, lambda i: i.hex, lambda i: f"{{{str(i).upper()}}}"])
def test_an_id_is_found_in_every_spelling(spelling) -> None:
    created = trade()
    assert trades.get_by_id(spelling(created.id)) == created


def test_an_unknown_id_is_none() -> None:
    assert trades.get_by_id(uuid.uuid4()) is None


def test_ids_given_in_order_of_creation_sort_in_that_order() -> None:
    ids = [trade(timestamp=START).id for _ in range(50)]
    assert ids == sorted(ids)
    assert {i.version for i in ids} == {7}
    assert [t.id for t in trades.get_all()] == ids[::-1]


def test_lists_come_newest_first_whatever_the_order_of_recording() -> None:
    hours = list(range(12))
    random.Random(7).shuffle(hours)
    for hour in hours:
        trade(timestamp=at(hour))
    assert [t.timestamp for t in trades.get_all()] == [at(h) for h in reversed(range(12))]
    assert [t.timestamp for t in trades.get_latest()] == [at(h) for h in range(11, 1, -1)]
    assert [t.timestamp for t in trades.get_latest(limit=2)] == [at(11), at(10)]
    assert len(trades.get_latest(limit=None)) == 12
    assert trades.get_all(limit=0) == []


def test_by_symbol_and_strategy() -> None:
    first = trade(timestamp=at(1), strategy="a")
    other = trade(timestamp=at(2), symbol="ETH/USDT", strategy="a")
    last = trade(timestamp=at(3), strategy="b")
    assert trades.get_by_symbol("BTC/USDT") == [last, first]
    assert trades.get_by_symbol("BTC/USDT", 1) == [last]
    assert trades.get_by_symbol("BTC/USDT", strategy="a") == [first]
    assert trades.get_by_symbol("XRP/USDT") == []
    assert trades.get_latest("ETH/USDT") == [other]
    assert trades.get_all(strategy="a") == [other, first]
    assert trades.get_latest(strategy="b") == [last]


def test_every_query_is_filtered_by_exchange() -> None:
    first = trade(timestamp=at(1), exchange="okx", strategy="a", pnl=1)
    trade(timestamp=at(2), exchange="kraken", pnl=2)
    last = trade(timestamp=at(3), exchange="okx", pnl=4)
    assert trades.get_all(exchange="okx") == [last, first]
    assert trades.get_all(strategy="a", exchange="kraken") == []
    assert trades.get_by_symbol("BTC/USDT", 1, exchange="okx") == [last]
    assert trades.get_latest(exchange="okx") == [last, first]
    assert trades.get_by_date_range(None, at(1), at(2), exchange="okx") == [first]
    assert list(trades.iterate(exchange="okx")) == [first, last]
    assert trades.get_total_pnl(exchange="okx") == 5.0
    assert trades.get_trade_count(exchange="okx") == 2


def test_an_empty_strategy_or_exchange_asks_for_the_trades_without_one() -> None:
    plain = trade(timestamp=at(1), pnl=1)
    of_strategy = trade(timestamp=at(2), strategy="a", pnl=2)
    of_exchange = trade(timestamp=at(3), exchange="okx", pnl=4)
    trade(timestamp=at(4), strategy="a", exchange="okx", pnl=8)
    assert trades.get_all(strategy="") == [of_exchange, plain]
    assert trades.get_all(exchange="") == [of_strategy, plain]
    assert trades.get_latest("BTC/USDT", strategy="", exchange="") == [plain]
    assert trades.get_by_date_range(None, at(2), at(4), exchange="") == [of_strategy]
    assert list(trades.iterate(strategy="", exchange="okx")) == [of_exchange]
    assert trades.get_total_pnl(strategy="a", exchange="") == 2.0
    assert trades.get_trade_count(strategy="") == 2


def test_iterate_reads_many_pages_of_an_exchange() -> None:
    trades.create_many(
        trade_values(timestamp=at(n), exchange=None if n % 3 else "okx") for n in range(1800)
    )
    assert [row.timestamp for row in trades.iterate(exchange="okx")] == [
        at(n) for n in range(0, 1800, 3)
    ]
    assert sum(1 for _ in trades.iterate(exchange="")) == 1200


def test_a_date_range_is_chronological_and_includes_both_ends() -> None:
    created = [trade(timestamp=at(hour)) for hour in (3, 1, 2, 0, 4)]
    in_time = sorted(created, key=lambda t: t.timestamp)
    other = trade(symbol="ETH/USDT", timestamp=at(2))
    assert trades.get_by_date_range("BTC/USDT", at(1), at(3)) == in_time[1:4]
    assert trades.get_by_date_range(None, at(2), at(2)) == [in_time[2], other]
    assert trades.get_by_date_range("BTC/USDT", at(5), at(6)) == []


def test_a_date_range_takes_naive_dates_as_utc_and_converts_aware_ones() -> None:
    inside = trade(timestamp=at(12))
    trade(timestamp=at(13))
    naive = at(12).replace(tzinfo=None)
    new_york = at(12).astimezone(timezone(timedelta(hours=-5)))
    assert trades.get_by_date_range("BTC/USDT", naive, naive) == [inside]
    assert trades.get_by_date_range("BTC/USDT", new_york, new_york) == [inside]


def test_naive_timestamps_are_utc_and_aware_ones_are_converted() -> None:
    assert trade(timestamp=datetime(2024, 1, 1, 12)).timestamp == at(12)
    tokyo = datetime(2024, 1, 1, 21, tzinfo=timezone(timedelta(hours=9)))
    stored = trades.get_by_id(trade(timestamp=tokyo).id)
    assert stored is not None
    assert (stored.timestamp, stored.timestamp.tzinfo) == (at(12), UTC)


def test_the_total_pnl_of_nothing_is_a_float() -> None:
    assert repr(trades.get_total_pnl()) == "0.0"
    trade()
    assert repr(trades.get_total_pnl("BTC/USDT")) == "0.0"


def test_the_total_pnl_is_the_sum_of_the_recorded_pnl() -> None:
    trade(pnl=10, strategy="a")
    trade(pnl=-2.5)
    trade(pnl=None)
    trade(symbol="ETH/USDT", pnl=100)
    assert trades.get_total_pnl("BTC/USDT") == 7.5
    assert trades.get_total_pnl() == 107.5
    assert trades.get_total_pnl(strategy="a") == 10.0


def test_the_count() -> None:
    assert trades.get_trade_count() == 0
    trade()
    trade(symbol="ETH/USDT", strategy="a")
    assert trades.get_trade_count() == 2
    assert trades.get_trade_count("BTC/USDT") == 1
    assert trades.get_trade_count(strategy="a") == 1


def test_create_many_stores_every_row_of_a_generator() -> None:
    count = ROWS_PER_CHUNK + 100
    rows = (trade_values(timestamp=at(i), pnl=float(i)) for i in range(count))
    assert trades.create_many(rows) == count
    assert trades.get_trade_count() == count
    assert trades.get_latest(limit=1)[0].pnl == count - 1
    assert trades.create_many([]) == 0


def test_create_many_takes_rows_with_different_fields() -> None:
    stored_signal = signal()
    rows = [trade_values(), trade_values(pnl=5, signal=stored_signal), trade_values(strategy="a")]
    assert trades.create_many(rows) == 3
    assert trades.get_total_pnl() == 5.0
    assert [t.pnl for t in stored_signal.trades] == [5.0]


def test_create_many_takes_a_mapping_whose_get_finds_more_than_it_iterates() -> None:
    class WithDefaultFee(UserDict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            return 2.5 if name == "fee" else super().get(name, default)

    rows: Any = [WithDefaultFee(trade_values()), trade_values()]
    assert trades.create_many(rows) == 2
    assert sorted(t.fee or 0.0 for t in trades.get_all()) == [0.0, 2.5]


@pytest.mark.parametrize("position", [0, 700, ROWS_PER_CHUNK + 1])
def test_create_many_stores_nothing_when_a_row_is_refused(position: int) -> None:
    rows = [trade_values() for _ in range(ROWS_PER_CHUNK + 100)]
    rows[position]["price"] = -1
    with pytest.raises(ValidationError, match=rf"rows\[{position}\]: price: -1 is not greater"):
        trades.create_many(rows)
    assert trades.get_trade_count() == 0


def test_create_many_names_the_row_that_already_exists() -> None:
    existing = trade()
    rows = [trade_values(id=uuid.uuid4()), trade_values(id=existing.id)]
    with pytest.raises(DuplicateError, match=rf"rows\[1\]: trade {existing.id} already") as caught:
        trades.create_many(rows)
    assert caught.value.id == existing.id
    assert trades.get_all() == [existing]


def test_create_many_names_the_row_that_is_a_duplicate() -> None:
    fill = {"exchange": "okx", "exchange_trade_id": "1"}
    with pytest.raises(DuplicateError, match=r"rows\[1\]: okx trade 1 of BTC/USDT"):
        trades.create_many([trade_values(**fill), trade_values(**fill)])
    assert trades.get_trade_count() == 0


def test_create_many_names_the_row_whose_signal_is_missing() -> None:
    with pytest.raises(ValidationError, match=r"rows\[1\]: signal: there is no such Signal"):
        trades.create_many([trade_values(), trade_values(signal=77)])
    assert trades.get_trade_count() == 0


def test_create_many_stores_nothing_when_the_generator_fails() -> None:
    def rows():
        for _ in range(ROWS_PER_CHUNK + 100):
            yield trade_values()
        raise RuntimeError("the feed broke")

    with pytest.raises(RuntimeError, match="the feed broke"):
        trades.create_many(rows())
    assert trades.get_trade_count() == 0


def test_an_id_is_recorded_once() -> None:
    existing = trade(id="0190a5a4-7b7c-7000-8000-00000000000a")
    with pytest.raises(DuplicateError, match="0190a5a4-7b7c-7000-8000-00000000000a") as caught:
        trade(id=existing.id, price=999)
    assert caught.value.id == existing.id
    assert [t.price for t in trades.get_all()] == [100.0]


def test_a_fill_of_an_exchange_is_recorded_once() -> None:
    fill = {"exchange": "binance", "exchange_trade_id": "1"}
    existing = trade(**fill)
    with pytest.raises(DuplicateError, match=f"as trade {existing.id}") as caught:
        trade(**fill)
    assert caught.value.id == existing.id
    # the exchange's ids are its own, and count for each symbol by itself
    trade(exchange="okx", exchange_trade_id="1")
    trade(symbol="ETH/USDT", **fill)
    assert trades.get_trade_count() == 3


def test_a_duplicate_leaves_the_transaction_usable() -> None:
    existing = trade()
    with session_scope():
        with pytest.raises(DuplicateError):
            trade(id=existing.id)
        trade()
    assert trades.get_trade_count() == 2


def test_get_or_create_records_a_fill_once_and_keeps_the_first() -> None:
    values = trade_values(exchange="kraken", exchange_trade_id="T-1")
    first, created = trades.get_or_create(**values)
    assert created
    again, created_again = trades.get_or_create(**values | {"price": 999})
    assert not created_again
    assert (again.id, again.price) == (first.id, 100.0)
    assert trades.get_trade_count() == 1


def test_get_or_create_reports_an_id_that_another_trade_has() -> None:
    existing = trade()
    with pytest.raises(DuplicateError) as caught:
        trades.get_or_create(
            **trade_values(exchange="kraken", exchange_trade_id="T-1", id=existing.id)
        )
    assert caught.value.id == existing.id


def test_an_exchange_trade_id_needs_its_exchange() -> None:
    with pytest.raises(ValidationError, match="exchange: an exchange_trade_id needs"):
        trade(exchange_trade_id="1")
    assert trade(exchange="binance").exchange_trade_id is None


def test_update_writes_the_named_fields_alone() -> None:
    created = trade(pnl=1)
    stale = trades.get_by_id(created.id)
    assert stale is not None
    assert trades.update(created, pnl=5) is created
    assert created.pnl == 5.0
    trades.update(stale, fee="0.1" and 0.1)
    stored = trades.get_by_id(created.id)
    assert stored is not None
    assert (stored.pnl, stored.fee) == (5.0, 0.1)


def test_update_writes_what_was_assigned() -> None:
    created = trade()
    created.pnl = 7
    trades.update(created, strategy="a")
    stored = trades.get_by_id(created.id)
    assert stored is not None
    assert (stored.pnl, stored.strategy) == (7.0, "a")


def test_update_can_link_and_unlink_a_signal() -> None:
    created, stored_signal = trade(), signal()
    trades.update(created, signal=stored_signal)
    assert list(stored_signal.trades) == [created]
    trades.update(created, signal=None)
    assert list(stored_signal.trades) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pnll": 5}, r"pnll: a Trade has no such field \(did you mean 'pnl'\?\)"),
        ({"id": uuid.uuid4()}, "id: cannot be changed"),
        ({"price": 0}, "price: 0 is not greater than 0"),
        ({"symbol": None}, "symbol: None is not allowed"),
        ({}, "nothing to change"),
    ],
)
def test_update_refuses_invalid_changes(changes, message: str) -> None:
    created = trade()
    with pytest.raises(ValidationError, match=message):
        trades.update(created, **changes)
    stored = trades.get_by_id(created.id)
    assert stored is not None
    assert stored.__data__ == created.__data__


def test_update_refuses_a_misspelt_attribute() -> None:
    created = trade()
    with pytest.raises(
        ValidationError, match=r"pnll: a Trade has no such field \(did you mean 'pnl'"
    ):
        created.pnll = 5
    trades.update(created, fee=1)


def test_update_and_delete_of_a_deleted_trade() -> None:
    created = trade()
    trades.delete(created)
    assert trades.get_by_id(created.id) is None
    with pytest.raises(NotFoundError, match=str(created.id)):
        trades.delete(created)
    with pytest.raises(NotFoundError, match=str(created.id)):
        trades.update(created, pnl=1)


def test_update_to_the_exchange_id_of_another_trade() -> None:
    trade(exchange="okx", exchange_trade_id="1")
    second = trade(exchange="okx", exchange_trade_id="2")
    with pytest.raises(DuplicateError):
        trades.update(second, exchange_trade_id="1")
    stored = trades.get_by_id(second.id)
    assert stored is not None
    assert stored.exchange_trade_id == "2"


def test_a_trade_has_its_signal_and_a_signal_its_trades() -> None:
    stored_signal = signal(signal_metadata={"rsi": 25})
    created = trade(signal=stored_signal)
    by_id = trade(signal=stored_signal.id)
    stored = trades.get_by_id(created.id)
    assert stored is not None
    assert stored.signal is not None
    assert stored.signal.signal_metadata == {"rsi": 25}
    assert set(stored_signal.trades) == {created, by_id}


def test_a_missing_signal_is_refused() -> None:
    with pytest.raises(ValidationError, match="signal: there is no such Signal; record it first"):
        trade(signal=12345)
    assert trades.get_trade_count() == 0


def test_iterate_streams_in_time_order() -> None:
    trades.create_many(trade_values(timestamp=at(i % 7), quantity=i + 1) for i in range(1_100))
    streamed = list(trades.iterate())
    assert len({t.id for t in streamed}) == 1_100
    assert [(t.timestamp, t.id) for t in streamed] == sorted((t.timestamp, t.id) for t in streamed)
    in_range = list(trades.iterate("BTC/USDT", start_date=at(2), end_date=at(3)))
    assert {t.timestamp for t in in_range} == {at(2), at(3)}
    assert list(trades.iterate("ETH/USDT")) == []


def test_the_loop_over_iterate_may_record() -> None:
    trades.create_many(trade_values(timestamp=at(-i)) for i in range(1_100))
    for number, _ in enumerate(trades.iterate(end_date=at(0))):
        if number % 500 == 0:
            trade(timestamp=at(1))
    assert trades.get_trade_count() == 1_103


def test_iterate_refuses_at_the_call_and_not_at_the_first_row() -> None:
    with pytest.raises(ValidationError, match="end_date"):
        trades.iterate(start_date=at(1), end_date=at(0))


def test_trades_saved_by_peewee_itself_are_the_same() -> None:
    created = Trade(**trade_values(timestamp=at(0)))
    created.save()
    assert trades.get_all() == [created]
