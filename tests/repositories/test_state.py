"""The functions of `state`, on every backend."""

from __future__ import annotations

import copy
import enum
import json
import pickle
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import in_threads
from samples import trade

from botmemory import (
    ConfigError,
    State,
    ValidationError,
    db,
    run_transaction,
    session_scope,
)
from botmemory.repositories import positions, records, state, trades

KEY = ("trend", "BTC/USDT")
VALUES: list[Any] = [
    None,
    True,
    0,
    -1.5,
    1e300,
    2**70,
    "",
    "grün 'quoted' \"\\ 日本",
    [],
    {},
    [1, [2.5, {"a": None}], "x", False],
    {"levels": [41_800.0, 41_900.0], "filled": {"41800": True}, "last": None},
]


class Symbol(str, enum.Enum):  # noqa: UP042  (what str() of a member is differs)
    BTC = "BTC/USDT"


pytestmark = pytest.mark.usefixtures("empty_database")


# --- get and set ------------------------------------------------------------------------------


def test_a_key_without_a_value_gives_the_default() -> None:
    assert state.get("last_candle") is None
    assert state.get("last_candle", 0) == 0
    assert state.get("last_candle", default=state.MISSING) is state.MISSING
    default: list[int] = []
    assert state.get("last_candle", default, strategy="trend") is default


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_was_set_is_returned(value: Any) -> None:
    state.set("a", value)
    assert json.dumps(state.get("a", "default"), sort_keys=True) == json.dumps(
        value, sort_keys=True
    )
    state.set("a", [value])
    assert state.get("a") == [value]
    assert records.count(State) == 1


def test_none_is_a_value_and_not_a_missing_key() -> None:
    state.set("a", None)
    assert state.get("a", 7) is None
    assert state.items() == {"a": None}
    assert state.delete("a")
    assert state.get("a", 7) == 7


def test_values_are_converted_and_refused_as_metadata_is() -> None:
    time = datetime(2024, 1, 31, 9, tzinfo=UTC)
    state.set("a", {"n": np.int64(3), "d": Decimal("1.5"), "t": time, "s": Symbol.BTC, "x": np.nan})
    assert state.get("a") == {
        "n": 3, "d": 1.5, "t": "2024-01-31T09:00:00+00:00", "s": "BTC/USDT", "x": None,
    }  # fmt: skip
    for value, problem in [
        ({"levels": [{1, 2}]}, r"value\.levels\[0\]: .* pass sorted\(value\)"),
        ({1: 2}, "value: 1 is used as a key; JSON keys are text"),
        ("\0", "value: .* has a NUL character"),
        (object(), "value: .* cannot be stored as JSON"),
        (state.MISSING, "value: state.MISSING cannot be stored as JSON"),
    ]:
        with pytest.raises(ValidationError, match=problem) as caught:
            state.set("a", value)
        assert caught.value.field == "value"
        with pytest.raises(ValidationError, match=problem):
            state.compare_and_set("a", state.MISSING, value)
    assert state.get("a")["n"] == 3


def test_a_value_is_limited_in_size_as_metadata_is() -> None:
    limit = db.config.max_metadata_bytes
    state.set("a", "x" * (limit - 2))
    with pytest.raises(ValidationError, match=f"^value: .* at most {limit:,} are allowed"):
        state.set("a", "x" * (limit - 1))
    assert len(state.get("a")) == limit - 2


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "has 0 characters; 1 to 128 are allowed"),
        ("x" * 129, "has 129 characters; 1 to 128 are allowed"),
        (" a", "begins or ends with a space"),
        ("a\n", "contains a character that is not printable"),
        ("\0", "contains a character that is not printable"),
        (5, "is not text"),
        (None, "None is not allowed"),
    ],
)
def test_a_key_has_the_rules_of_a_symbol(key: Any, problem: str) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: state.get(key),
        lambda: state.set(key, 1),
        lambda: state.compare_and_set(key, state.MISSING, 1),
        lambda: state.delete(key),
    ]
    for call in calls:
        with pytest.raises(ValidationError, match=f"^key: .*{problem}") as caught:
            call()
        assert caught.value.field == "key"
    assert records.count(State) == 0


def test_the_longest_names_and_those_of_enums_are_stored_as_they_are() -> None:
    key, strategy = "k" * 128, "s" * 64
    state.set(key, 1, strategy=strategy)
    state.set(Symbol.BTC, 2, strategy=Symbol.BTC)
    assert state.items(strategy=strategy) == {key: 1}
    assert state.get("BTC/USDT", strategy="BTC/USDT") == 2
    for bad, problem in [
        ("s" * 65, "1 to 64"),
        (0, "is not text"),
        ("a ", "ends with a space"),
        (5, "is not text"),
    ]:
        with pytest.raises(ValidationError, match=f"^strategy: .*{problem}"):
            state.set("a", 1, strategy=bad)  # type: ignore[arg-type]


def test_each_strategy_has_keys_of_its_own_and_none_has_them_too() -> None:
    state.set("a", 1)
    state.set("a", 2, strategy="trend")
    state.set("a", 3, strategy="carry")
    assert [state.get("a", strategy=s) for s in (None, "", "trend", "carry")] == [1, 1, 2, 3]
    state.set("a", 4, strategy="")  # the same row as that without a strategy
    assert (state.get("a"), records.count(State)) == (4, 3)
    assert state.delete("a", strategy="trend")
    assert (state.items(strategy="trend"), state.items(strategy="carry")) == ({}, {"a": 3})


def test_it_shows_when_a_value_was_set() -> None:
    state.set("a", 1, strategy="trend")
    first = State.get(State.key == "a")
    assert first.updated_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - first.updated_at) < timedelta(minutes=1)
    state.set("a", 1, strategy="trend")
    second = State.get(State.key == "a")
    assert second.updated_at > first.updated_at
    assert state.compare_and_set("a", 1, 2, strategy="trend")
    assert State.get(State.key == "a").updated_at > second.updated_at
    assert str(first) == f"trend a, set on {first.updated_at}"


def test_delete_says_whether_there_was_a_value() -> None:
    assert not state.delete("a")
    state.set("a", 1)
    assert state.delete("a")
    assert not state.delete("a")


def test_wrong_arguments_are_named() -> None:
    wrong: Any = state
    with pytest.raises(ValidationError, match=r"state.set\(\) takes no such argument .*'strategy'"):
        wrong.set("a", 1, strateg="trend")
    with pytest.raises(ValidationError, match=r"value: state.set\(\) needs value"):
        wrong.set("a")


# --- items --------------------------------------------------------------------------------------

LABELS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6)


def test_items_are_in_the_order_of_their_characters() -> None:
    keys = ["B", "a", "Z", "ä", "grid.10", "grid.2", "日本", "_x", "~", "ab", "aB", "😀", "\uffee"]
    for key in random.Random(3).sample(keys, len(keys)):
        state.set(key, key.upper(), strategy="trend")
    state.set("other", 1)
    found = state.items(strategy="trend")
    assert list(found) == sorted(keys)
    assert found["grid.2"] == "GRID.2"


def test_a_prefix_is_taken_as_it_is() -> None:
    for key in ("grid%1", "grid_1", "gridx1", "GRID%1", "grid\\1", "a*b", "a?b", "a[b]", "äa", "ä"):
        state.set(key, 1)
    for prefix, expected in [
        ("grid%", ["grid%1"]),
        ("grid_", ["grid_1"]),
        ("grid\\", ["grid\\1"]),
        ("GRID", ["GRID%1"]),
        ("%", []),
        ("a*", ["a*b"]),
        ("a?", ["a?b"]),
        ("a[", ["a[b]"]),
        ("ä", ["ä", "äa"]),
        (" ", []),
        ("x" * 500, []),
    ]:
        assert list(state.items(prefix)) == expected, prefix
    assert len(state.items("")) == 10
    for bad in ("\0", "a\n", 5, None):
        with pytest.raises(ValidationError, match="^prefix: "):
            state.items(bad)  # type: ignore[arg-type]


@given(values=st.dictionaries(LABELS, st.integers()), prefix=st.text(max_size=2))
def test_items_are_those_that_begin_with_the_prefix(values: dict[str, int], prefix: str) -> None:
    State.delete().execute()
    for key, value in values.items():
        state.set(key, value)
    if not prefix.isprintable():
        return
    expected = {key: values[key] for key in sorted(values) if key.startswith(prefix)}
    assert list(state.items(prefix).items()) == list(expected.items())


# --- compare and set ----------------------------------------------------------------------------


def test_a_value_is_set_if_it_is_the_expected_one() -> None:
    assert state.compare_and_set("a", state.MISSING, 1, strategy="trend")
    assert not state.compare_and_set("a", state.MISSING, 2, strategy="trend")
    assert not state.compare_and_set("a", 2, 3, strategy="trend")
    assert state.get("a", strategy="trend") == 1
    assert state.compare_and_set("a", 1, 3, strategy="trend")
    assert state.get("a", strategy="trend") == 3
    assert not state.compare_and_set("a", 3, 4)  # the key without a strategy
    assert state.items() == {}


def test_a_missing_key_and_one_whose_value_is_none_are_two_things() -> None:
    assert not state.compare_and_set("a", None, 1)
    assert state.compare_and_set("a", state.MISSING, None)
    assert not state.compare_and_set("a", state.MISSING, 1)
    assert not state.compare_and_set("a", False, 1)
    assert not state.compare_and_set("a", 0, 1)
    assert state.compare_and_set("a", None, 1)
    assert not state.compare_and_set("a", None, 2)
    assert state.get("a") == 1


def test_missing_is_itself_however_it_was_copied() -> None:
    assert repr(state.MISSING) == "state.MISSING"
    for copied in (copy.deepcopy(state.MISSING), pickle.loads(pickle.dumps(state.MISSING))):
        state.delete("a")
        assert state.compare_and_set("a", copied, 1)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_get_returns_is_what_compare_and_set_expects(value: Any) -> None:
    state.set("a", value)
    assert state.compare_and_set("a", state.get("a", state.MISSING), {"next": value})
    assert state.compare_and_set("a", state.get("a", state.MISSING), value)


EQUAL: list[tuple[Any, Any]] = [
    ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}),
    (1, 1.0),
    (-0.0, 0),
    ([1.0, {"a": 2}], [1, {"a": 2.0}]),
    (1e22, 10**22),
    (Decimal("0.5"), 0.5),
    (float("nan"), None),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (1, True),
    (0, False),
    ([1], [True]),
    ("1", 1),
    ([1, 2], [2, 1]),
    ([1], [1, 1]),
    ({"a": 1}, {"a": 1, "b": None}),
    ({"a": None}, {}),
    ([], {}),
    ("", None),
    (2**60, 2**60 + 1),
    (9007199254740993, 9007199254740992.0),
    ("a", "A"),
]


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_values_that_are_the_same_json_are_equal(first: Any, second: Any) -> None:
    for stored, expected in ((first, second), (second, first)):
        state.set("a", stored)
        assert state.compare_and_set("a", expected, "new")


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_values_that_are_other_json_are_not_equal(first: Any, second: Any) -> None:
    for stored, expected in ((first, second), (second, first)):
        state.set("a", stored)
        assert not state.compare_and_set("a", expected, "new")
        assert state.get("a") == stored


def test_an_expected_value_is_checked_too() -> None:
    with pytest.raises(ValidationError, match=r"^expected\.x: .* cannot be stored as JSON") as it:
        state.compare_and_set("a", {"x": object()}, 1)
    assert it.value.field == "expected"


def test_one_of_several_threads_gets_the_key() -> None:
    if db.config.in_memory:
        pytest.skip("a :memory: database belongs to one thread")
    for number in range(10):
        key = f"owner.{number}"
        outcomes = in_threads(
            *(
                lambda me=me, key=key: state.compare_and_set(key, state.MISSING, me)
                for me in range(4)
            )
        )
        assert [outcome.error for outcome in outcomes] == [None] * 4
        [winner] = [me for me, outcome in enumerate(outcomes) if outcome.value]
        assert state.get(key) == winner


# --- transactions -------------------------------------------------------------------------------


class CancelError(Exception):
    pass


def test_what_a_block_sets_and_deletes_is_rolled_back_with_it() -> None:
    state.set("kept", 1)
    state.set("deleted", 2)
    with pytest.raises(CancelError), session_scope():
        state.set("kept", 10)
        state.set("new", 11)
        assert state.compare_and_set("other", state.MISSING, 12)
        assert state.delete("deleted")
        assert state.items() == {"kept": 10, "new": 11, "other": 12}
        trade()
        raise CancelError
    assert state.items() == {"deleted": 2, "kept": 1}
    assert trades.get_trade_count() == 0


def test_an_inner_block_is_rolled_back_alone() -> None:
    with session_scope():
        state.set("a", 1)
        with pytest.raises(CancelError), session_scope():
            state.set("a", 2)
            raise CancelError
        assert state.get("a") == 1
        with pytest.raises(ValidationError):
            state.set("a", object())
        state.set("b", 3)
    assert state.items() == {"a": 1, "b": 3}


def test_a_trade_and_the_state_are_stored_together() -> None:
    def on_candle(candle: int) -> None:
        if candle > state.get("last_candle", 0, strategy="trend"):
            trade(strategy="trend", symbol="BTC/USDT")
            state.set("last_candle", candle, strategy="trend")

    for candle in (1, 1, 2, 2, 1):
        run_transaction(on_candle, candle, key=KEY)
    assert trades.get_trade_count() == 2


# --- blocks with keys ---------------------------------------------------------------------------


def test_a_block_with_keys_uses_the_state_of_any_strategy() -> None:
    state.set("a", 1, strategy="trend")
    state.set("a", 2, strategy="carry")
    with session_scope(key=KEY):
        assert state.get("a", strategy="trend") == 1
        assert state.get("a", strategy="carry") == 2
        assert state.get("a", "none") == "none"
        state.set("a", 3, strategy="trend")
        state.set("a", 4)
        assert state.compare_and_set("a", 2, 5, strategy="carry")
        assert not state.compare_and_set("a", 2, 6, strategy="carry")
        assert state.compare_and_set("b", state.MISSING, 7)
        assert state.delete("a")
        assert not state.delete("a")
        assert positions.get("BTC/USDT", "trend").quantity == 0
        with session_scope():
            state.set("c", 8, strategy="trend")
    assert state.items(strategy="trend") == {"a": 3, "c": 8}
    assert state.items(strategy="carry") == {"a": 5}
    assert state.items() == {"b": 7}


def test_what_reads_many_keys_is_refused_in_a_block_with_keys_and_the_block_goes_on() -> None:
    state.set("a", 1)
    row = State.get(State.key == "a")
    with session_scope(key=KEY):
        with pytest.raises(ValidationError, match=r"^key: others may set other keys .* state.get"):
            state.items()
        for call, problem in [
            (lambda: list(State.select()), "may use other rows"),
            (lambda: State.update(value=2).execute(), "may use other rows"),
            (lambda: records.get_all(State), "may use other rows"),
            (lambda: records.get_by_id(State, ("", "a")), "a State belongs to no key"),
            (lambda: records.update(row, value=2), "a State belongs to no key"),
            (lambda: records.delete(row), "a State belongs to no key"),
        ]:
            with pytest.raises(ValidationError, match=f"^key: .*{problem}"):
                call()
        state.set("a", 3)
    with session_scope():
        assert state.items() == {"a": 3}


# --- as a model ---------------------------------------------------------------------------------


def test_it_is_a_model_of_peewee_and_of_records() -> None:
    created = records.create(State, key="a", value={"x": 1})
    assert (created.strategy, created.get_id()) == ("", ("", "a"))
    records.create(State, key="a", strategy="trend", value=2)
    assert records.create_many(State, [{"key": "b", "value": 3}, {"key": "c"}]) == 2
    assert [row.key for row in records.get_all(State, strategy="")] == ["c", "b", "a"]
    row = records.get_by_id(State, ("trend", "a"))
    assert row is not None
    row.value = {"x": [2]}
    row.value["x"].append(3)
    row.save()
    assert state.get("a", strategy="trend") == {"x": [2, 3]}
    assert State(strategy="trend", key="z", value=1).save(force_insert=True) == 1
    assert state.items(strategy="trend") == {"a": {"x": [2, 3]}, "z": 1}
    assert row.delete_instance() == 1
    assert state.get("a", strategy="trend") is None
    assert row.to_dict()["value"] == {"x": [2, 3]}
    with pytest.raises(peewee.IntegrityError, match="already exists"):
        State.create(key="a", value=1)


def test_a_model_that_is_bound_elsewhere_is_refused() -> None:
    other = peewee.SqliteDatabase(":memory:")
    with State.bind_ctx(other):
        for call in (
            lambda: state.get("a"),
            lambda: state.set("a", 1),
            lambda: state.compare_and_set("a", 1, 2),
            lambda: state.delete("a"),
            state.items,
        ):
            with pytest.raises(ConfigError, match="it is bound to another database"):
                call()


def test_setting_a_value_keeps_what_is_known_of_positions(empty_database: Any) -> None:
    trade()
    positions.get("BTC/USDT")
    before = positions.get("BTC/USDT")
    executed: list[str] = []
    state.set("a", 1)
    empty_database.query_hooks.append(lambda event: executed.append(event.sql))
    try:
        assert positions.get("BTC/USDT") == before
    finally:
        del empty_database.query_hooks[:]
    if empty_database.row_number is not None:  # on a server any change may be one of trades
        assert not [sql for sql in executed if '"price"' in sql]
