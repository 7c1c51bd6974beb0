"""The functions of `signals`, on every backend."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from samples import at, signal, trade

from botmemory import NotFoundError, Signal, ValidationError
from botmemory.repositories import signals, trades

pytestmark = pytest.mark.usefixtures("empty_database")


def test_a_created_signal_is_returned_as_it_is_stored() -> None:
    created = signal(signal_value=-1, strategy="a")
    stored = signals.get_by_id(created.id)
    assert stored is not None
    assert stored.__data__ == created.__data__
    assert (stored.symbol, stored.signal_value, stored.strategy) == ("BTC/USDT", -1, "a")
    assert stored.timestamp.tzinfo is UTC
    assert abs(datetime.now(UTC) - stored.timestamp) < timedelta(minutes=1)


def test_metadata_may_be_missing() -> None:
    stored = signals.get_by_id(signal(signal_metadata=None).id)
    assert stored is not None
    assert stored.signal_metadata is None


def test_nested_metadata_comes_back_equal() -> None:
    metadata = {
        "rsi": 25.5,
        "bands": {"upper": 10, "lower": -1.5e-300, "names": ["a", "ü", "\U0001f680", '"', "\\"]},
        "flags": [True, False, None],
        "empty": {},
    }
    stored = signals.get_by_id(signal(signal_metadata=metadata).id)
    assert stored is not None
    assert stored.signal_metadata == metadata


def test_ids_increase_and_are_not_reused() -> None:
    first, second = signal(), signal()
    assert 0 < first.id < second.id
    signals.delete(second)
    assert signal().id > second.id


def test_an_unknown_id_is_none() -> None:
    assert signals.get_by_id(1) is None


def test_lists_come_newest_first_whatever_the_order_of_recording() -> None:
    hours = list(range(12))
    random.Random(7).shuffle(hours)
    for hour in hours:
        signal(timestamp=at(hour))
    assert [s.timestamp for s in signals.get_all()] == [at(h) for h in reversed(range(12))]
    assert [s.timestamp for s in signals.get_latest(limit=2)] == [at(11), at(10)]
    assert len(signals.get_latest()) == 10
    assert signals.get_all(0) == []


def test_equal_timestamps_come_highest_id_first() -> None:
    ids = [signal(timestamp=at(0)).id for _ in range(5)]
    assert [s.id for s in signals.get_all()] == ids[::-1]


def test_by_symbol_value_and_strategy() -> None:
    buy = signal(timestamp=at(1), strategy="a")
    sell = signal(timestamp=at(2), signal_value=-1)
    other = signal(timestamp=at(3), symbol="ETH/USDT")
    assert signals.get_by_symbol("BTC/USDT") == [sell, buy]
    assert signals.get_by_symbol("BTC/USDT", strategy="a") == [buy]
    assert signals.get_all(strategy="") == [other, sell]
    assert signals.get_signal_count("BTC/USDT", strategy="") == 1
    assert signals.get_latest("ETH/USDT") == [other]
    assert signals.get_by_signal_value(1) == [other, buy]
    assert signals.get_by_signal_value(1, "BTC/USDT") == [buy]
    assert signals.get_by_signal_value(1, limit=1) == [other]
    assert signals.get_by_signal_value(0) == []
    assert signals.get_signal_count() == 3
    assert signals.get_signal_count("BTC/USDT") == 2
    assert signals.get_signal_count(signal_value=1) == 2
    assert signals.get_signal_count("BTC/USDT", -1) == 1


def test_a_date_range_is_chronological_and_includes_both_ends() -> None:
    created = {hour: signal(timestamp=at(hour)) for hour in (3, 1, 2, 0)}
    assert signals.get_by_date_range("BTC/USDT", at(1), at(2)) == [created[1], created[2]]
    naive = at(3).replace(tzinfo=None)
    assert signals.get_by_date_range(None, naive, naive) == [created[3]]


def test_create_many_and_iterate() -> None:
    rows = (
        {"symbol": "BTC/USDT", "signal_value": i % 3 - 1, "timestamp": at(i)} for i in range(1_100)
    )
    assert signals.create_many(rows) == 1_100
    assert [s.timestamp for s in signals.iterate()] == [at(i) for i in range(1_100)]
    with pytest.raises(ValidationError, match=r"rows\[1\]: signal_value: 2 is not one of"):
        signals.create_many(
            [{"symbol": "X", "signal_value": 1}, {"symbol": "X", "signal_value": 2}]
        )
    assert signals.get_signal_count() == 1_100


def test_create_many_takes_rows_with_and_without_an_id() -> None:
    rows = [{"symbol": "A", "signal_value": 1, "id": 50}, {"symbol": "B", "signal_value": 1}]
    assert signals.create_many(rows) == 2
    assert {s.symbol for s in signals.get_all()} == {"A", "B"}
    assert signals.get_by_symbol("A")[0].id == 50


def test_update() -> None:
    created = signal(strategy="a")
    signals.update(created, signal_metadata={"rsi": 1})
    stored = signals.get_by_id(created.id)
    assert stored is not None
    assert (stored.signal_metadata, stored.strategy) == ({"rsi": 1}, "a")
    with pytest.raises(ValidationError, match="id: cannot be changed"):
        signals.update(created, id=5)  # type: ignore[call-arg]


def test_deleting_a_signal_keeps_its_trades() -> None:
    deleted = signal()
    linked = trade(signal=deleted)
    signals.delete(deleted)
    stored = trades.get_by_id(linked.id)
    assert stored is not None
    assert stored.signal is None
    with pytest.raises(NotFoundError):
        signals.delete(deleted)


def test_signals_saved_by_peewee_itself_are_the_same() -> None:
    created = Signal(symbol="BTC/USDT", signal_value=0)
    created.save()
    assert signals.get_all() == [created]
