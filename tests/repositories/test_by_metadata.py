"""`get_by_metadata` of signals and of trades, on every backend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from operator import eq, ge, le
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, signal, trade

from botmemory import Signal, Trade, ValidationError
from botmemory.repositories import signals, trades

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
if sys.platform != "linux":  # there SQLite may read others with an error in the last digit
    FLOATS = FLOATS.filter(lambda number: not number or 1e-75 < abs(number) < 1e115)
NUMBERS = st.one_of(
    st.integers(),
    FLOATS,
    st.builds(
        lambda sign, base, rest: sign * base + rest,
        st.sampled_from((1, -1)),
        st.sampled_from((2**53, 2**63, 2**64, 10**20, 10**400)),
        st.integers(-2, 2),
    ),
    st.sampled_from((2.0**53, 2.0**63, -(2.0**63), 1e20)),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
# few different values too, so that many are equal
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2),
    st.sampled_from(("late", "1", "true", "")),
    NUMBERS,
    TEXT,
)
OBJECTS = st.dictionaries(TEXT, SCALARS, max_size=2)
VALUES = st.one_of(
    SCALARS,
    OBJECTS,
    st.lists(st.one_of(SCALARS, OBJECTS, st.lists(SCALARS, max_size=2)), max_size=4),
)


class Table(NamedTuple):
    """What differs between signals and trades."""

    model: Any
    field: str
    record: Callable[..., Any]
    get_by_metadata: Callable[..., list[Any]]

    def add(self, metadata: Any, hours: int = 0, **values: Any) -> Any:
        return self.record(timestamp=at(hours), **{self.field: metadata}, **values)

    def metadata(self, key: str, **arguments: Any) -> list[Any]:
        return [getattr(row, self.field) for row in self.get_by_metadata(key, **arguments)]


TABLES = {
    "signals": Table(Signal, "signal_metadata", signal, signals.get_by_metadata),
    "trades": Table(Trade, "trade_metadata", trade, trades.get_by_metadata),
}


@pytest.fixture(params=TABLES)
def table(empty_database: object, request: pytest.FixtureRequest) -> Table:
    return TABLES[request.param]


@pytest.fixture
def filled(table: Table) -> Table:
    """The table with a row for each kind of value, and some without the key."""
    for hours, value in enumerate([9, 10, 100.5, "10", "high", True, None, [1], {"x": 1}]):
        table.add({"value": value, "inner": {"value": value}}, hours)
    for hours, metadata in enumerate([None, {"other": 1}, 5], 20):
        table.add(metadata, hours)
    return table


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
        ({"equals": 1}, [[1]]),
        ({"equals": "1"}, []),
        ({"minimum": 10}, [100.5, 10]),
        ({"maximum": 10}, [[1], 10, 9]),
        ({"minimum": 9.5, "maximum": 10}, [10]),
        ({"minimum": -1e308}, [[1], 100.5, 10, 9]),
        ({"equals": 10, "minimum": 11}, []),
        ({"equals": "high", "minimum": 1}, []),
        ({}, [{"x": 1}, [1], None, True, "high", "10", 100.5, 10, 9]),
    ],
)
def test_values_compare_by_their_json_type(
    filled: Table, key: str, arguments: dict[str, Any], expected: list[Any]
) -> None:
    assert [found["value"] for found in filled.metadata(key, **arguments)] == expected


def test_it_filters_and_limits(filled: Table) -> None:
    newer = filled.add({"value": 10}, 30, symbol="ETH/USDT", strategy="a")
    find = filled.get_by_metadata
    assert find("value", equals=10, limit=1) == [newer]
    assert find("value", equals=10, symbol="ETH/USDT") == [newer]
    assert find("value", equals=10, strategy="a") == [newer]
    assert len(find("value", equals=10, strategy="")) == 1
    assert find("value", equals=10, limit=0) == []


def test_trades_are_filtered_by_exchange(empty_database: object) -> None:
    okx = trade(trade_metadata={"tags": ["late"]}, exchange="okx")
    without = trade(trade_metadata={"tags": ["late"]})
    assert trades.get_by_metadata("tags", equals="late", exchange="okx") == [okx]
    assert trades.get_by_metadata("tags", equals="late", exchange="") == [without]


def test_a_missing_key_finds_nothing(filled: Table) -> None:
    assert filled.get_by_metadata("absent") == []
    assert filled.get_by_metadata("value.deeper.still", equals=1) == []


def test_a_tag_of_a_journal_is_found(table: Table) -> None:
    both = table.add({"tags": ["breakout", "late"]}, 3)
    one = table.add({"tags": "late"}, 2)
    nested = table.add({"tags": [["late"], {"late": "late"}, []]}, 1)
    table.add({"tags": []})
    assert table.get_by_metadata("tags", equals="late") == [both, one]
    assert table.get_by_metadata("tags", equals="breakout") == [both]
    assert table.get_by_metadata("tags", equals="break") == []
    assert len(table.get_by_metadata("tags")) == 4
    assert nested in table.get_by_metadata("tags", limit=3)


def test_one_element_must_be_within_both_bounds(table: Table) -> None:
    table.add({"levels": [1, 100]}, 1)
    within = table.add({"levels": [1, 50, "50"]}, 2)
    assert table.get_by_metadata("levels", minimum=40, maximum=60) == [within]
    assert table.get_by_metadata("levels", equals=100, maximum=60) == []
    assert len(table.get_by_metadata("levels", minimum=40)) == 2
    assert len(table.get_by_metadata("levels", maximum=60)) == 2


def test_a_true_in_a_list_is_not_1(table: Table) -> None:
    flags = table.add({"flags": [True, None]}, 2)
    numbers = table.add({"flags": [1, 0]}, 1)
    assert table.get_by_metadata("flags", equals=True) == [flags]
    assert table.get_by_metadata("flags", equals=False) == []
    assert table.get_by_metadata("flags", equals=1) == [numbers]
    assert table.get_by_metadata("flags", maximum=10) == [numbers]


@pytest.mark.parametrize("text", ["it's; --", "\\", "ü", "[0]", "$", "%s", "{}", "?", "a]"])
def test_keys_and_values_are_data_and_never_sql(filled: Table, text: str) -> None:
    quoted = filled.add({text: text}, 40)
    listed = filled.add({"in": {text: [1, text, 10**30]}}, 41)
    assert filled.get_by_metadata(text, equals=text) == [quoted]
    assert filled.get_by_metadata(f"in.{text}", equals=text) == [listed]
    assert filled.get_by_metadata(f"in.{text}", equals=10**30) == [listed]
    assert filled.get_by_metadata(f"in.{text}", minimum=10**30 + 1) == []


@pytest.mark.parametrize("key", ["", ".", "a..b", None, 5])
def test_an_invalid_key_is_refused(table: Table, key: Any) -> None:
    with pytest.raises(ValidationError, match="key: "):
        table.get_by_metadata(key)


def test_a_double_quote_in_a_key(table: Table, empty_database: Any) -> None:
    quoted = table.add({'say "rsi"': 3}, 2)
    listed = table.add({'say "rsi"': [4, "a"]}, 1)
    if empty_database.config.backend == "sqlite":  # which has no way to write such a path
        for arguments in ({}, {"equals": 3}):
            with pytest.raises(ValidationError, match="key: .*double quote"):
                table.get_by_metadata('say "rsi"', **arguments)
    else:
        assert table.get_by_metadata('say "rsi"', equals=3) == [quoted]
        assert table.get_by_metadata('say "rsi"', equals="a") == [listed]


def test_a_number_is_no_index_into_a_list(table: Table) -> None:
    table.add({"levels": [7, 8]})
    assert table.get_by_metadata("levels.0", equals=7) == []


def test_a_key_is_not_looked_up_in_the_objects_of_a_list(table: Table) -> None:
    table.add({"legs": [{"tag": "late"}]})
    assert table.get_by_metadata("legs.tag", equals="late") == []


def test_numbers_beyond_a_double_are_compared(table: Table) -> None:
    listed = table.add({"volume": [1, 10**400]}, 2)
    huge = table.add({"volume": 10**400}, 1)
    assert table.get_by_metadata("volume", minimum=1e308) == [listed, huge]
    assert table.get_by_metadata("volume", maximum=1e308) == [listed]
    assert table.get_by_metadata("volume", minimum=2, maximum=1e308) == []


@given(values=st.lists(NUMBERS, max_size=4), bound=NUMBERS)
def test_numbers_of_any_size_are_compared_exactly(
    table: Table, values: list[int | float], bound: int | float
) -> None:
    table.model.delete().execute()
    for value in {value: value for value in [*values, bound]}.values():
        table.add({"order": value, "orders": ["a", value]})
    for name, compare in (("equals", eq), ("minimum", ge), ("maximum", le)):
        expected = sorted(v for v in {*values, bound} if compare(v, bound))
        for key in ("order", "orders"):
            found = table.metadata(key, **{name: bound})
            assert sorted(metadata["order"] for metadata in found) == expected, (name, key)


def kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def matches(value: Any, equals: Any, minimum: Any, maximum: Any) -> bool:
    """Return what the database should, in plain Python."""
    if equals is None and minimum is None and maximum is None:
        return True
    return any(
        (equals is None or (kind(item) is kind(equals) and item == equals))
        and (minimum is None or (kind(item) is float and item >= minimum))
        and (maximum is None or (kind(item) is float and item <= maximum))
        for item in (value if isinstance(value, list) else [value])
    )


@given(data=st.data(), values=st.lists(VALUES, max_size=6))
def test_any_metadata_is_found_as_python_finds_it(
    table: Table, data: st.DataObject, values: list[Any]
) -> None:
    table.model.delete().execute()
    for number, value in enumerate(values):
        table.add({"number": number, "in": {"value": value}})
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    scalars = [item for item in items if not isinstance(item, (list, dict))]
    numbers = [item for item in scalars if kind(item) is float]
    of_rows = st.sampled_from([None, *scalars])
    bounds = st.one_of(st.none(), st.sampled_from([None, *numbers]), NUMBERS)
    for _ in range(3):
        query = data.draw(st.tuples(st.one_of(of_rows, SCALARS), bounds, bounds))
        arguments = dict(zip(("equals", "minimum", "maximum"), query, strict=True))
        found = {row["number"] for row in table.metadata("in.value", **arguments)}
        assert found == {n for n, value in enumerate(values) if matches(value, *query)}


@pytest.mark.parametrize("arguments", [{"minimum": "a"}, {"maximum": True}, {"equals": []}])
def test_an_invalid_value_is_refused(table: Table, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(arguments))):
        table.get_by_metadata("value", **arguments)
