"""The functions of `signals`, on every backend."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from operator import eq, ge, le

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, signal, trade

from botmemory import NotFoundError, Signal, ValidationError
from botmemory.repositories import signals, trades

NUMBERS = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.builds(
        lambda sign, base, rest: sign * base + rest,
        st.sampled_from((1, -1)),
        st.sampled_from((2**53, 2**63, 2**64, 10**20, 10**400)),
        st.integers(-2, 2),
    ),
    st.sampled_from((2.0**53, 2.0**63, -(2.0**63), 1e20)),
)
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


class TestByMetadata:
    @pytest.fixture(autouse=True)
    def _signals(self, empty_database: object) -> None:
        for hour, value in enumerate([9, 10, 100.5, "10", "high", True, None, [1], {"x": 1}]):
            signal(timestamp=at(hour), signal_metadata={"value": value, "inner": {"value": value}})
        signal(timestamp=at(20), signal_metadata=None)
        signal(timestamp=at(21), signal_metadata={"other": 1})
        signal(timestamp=at(22), signal_metadata=5)

    @pytest.mark.parametrize("key", ["value", "inner.value"])
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"equals": 10}, [10]),
            ({"equals": 10.0}, [10]),
            ({"equals": 100.5}, [100.5]),
            ({"equals": "10"}, ["10"]),
            ({"equals": "high"}, ["high"]),
            ({"equals": True}, [True]),
            ({"equals": False}, []),
            ({"equals": 1}, []),
            ({"minimum": 10}, [100.5, 10]),
            ({"maximum": 10}, [10, 9]),
            ({"minimum": 9.5, "maximum": 10}, [10]),
            ({"minimum": -1e308}, [100.5, 10, 9]),
            ({}, [{"x": 1}, [1], None, True, "high", "10", 100.5, 10, 9]),
        ],
    )
    def test_values_compare_by_their_json_type(self, key: str, arguments, expected) -> None:
        assert [
            s.signal_metadata["value"] for s in signals.get_by_metadata(key, **arguments)
        ] == expected

    def test_it_filters_and_limits(self) -> None:
        newer = signal(timestamp=at(30), symbol="ETH/USDT", signal_metadata={"value": 10})
        assert signals.get_by_metadata("value", equals=10, limit=1) == [newer]
        assert signals.get_by_metadata("value", equals=10, symbol="ETH/USDT") == [newer]

    def test_a_missing_key_finds_nothing(self) -> None:
        assert signals.get_by_metadata("absent") == []
        assert signals.get_by_metadata("value.deeper.still", equals=1) == []

    @pytest.mark.parametrize("text", ["it's; --", "\\", "ü"])
    def test_keys_and_values_are_data_and_never_sql(self, text: str) -> None:
        quoted = signal(timestamp=at(40), signal_metadata={text: text})
        assert signals.get_by_metadata(text, equals=text) == [quoted]

    @pytest.mark.parametrize("key", ["", ".", "a..b", None, 5])
    def test_an_invalid_key_is_refused(self, key) -> None:
        with pytest.raises(ValidationError, match="key: "):
            signals.get_by_metadata(key)

    def test_a_double_quote_in_a_key(self, empty_database) -> None:
        quoted = signal(timestamp=at(40), signal_metadata={'say "rsi"': 3})
        if empty_database.config.backend == "sqlite":  # which has no way to write such a path
            with pytest.raises(ValidationError, match="key: .*double quote"):
                signals.get_by_metadata('say "rsi"')
        else:
            assert signals.get_by_metadata('say "rsi"', equals=3) == [quoted]

    def test_a_number_is_no_index_into_a_list(self) -> None:
        signal(timestamp=at(40), signal_metadata={"levels": [7, 8]})
        assert signals.get_by_metadata("levels.0", equals=7) == []

    def test_numbers_beyond_a_double_are_compared(self) -> None:
        huge = signal(timestamp=at(40), signal_metadata={"volume": 10**400})
        assert signals.get_by_metadata("volume", minimum=1e308) == [huge]
        assert signals.get_by_metadata("volume", maximum=1e308) == []

    @given(st.lists(NUMBERS, max_size=4), NUMBERS)
    def test_numbers_of_any_size_are_compared_exactly(
        self, values: list[int | float], bound: int | float
    ) -> None:
        Signal.delete().execute()
        for value in {value: value for value in [*values, bound]}.values():
            signal(timestamp=at(1), signal_metadata={"order": value})
        for name, compare in (("equals", eq), ("minimum", ge), ("maximum", le)):
            found = signals.get_by_metadata("order", **{name: bound})
            numbers = sorted(row.signal_metadata["order"] for row in found)
            assert numbers == sorted(v for v in {*values, bound} if compare(v, bound)), name

    @pytest.mark.parametrize("arguments", [{"minimum": "a"}, {"maximum": True}, {"equals": []}])
    def test_an_invalid_value_is_refused(self, arguments) -> None:
        with pytest.raises(ValidationError, match=next(iter(arguments))):
            signals.get_by_metadata("value", **arguments)


def test_signals_saved_by_peewee_itself_are_the_same() -> None:
    created = Signal(symbol="BTC/USDT", signal_value=0)
    created.save()
    assert signals.get_all() == [created]
