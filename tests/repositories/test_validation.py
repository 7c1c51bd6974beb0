"""Invalid input: an error names it and nothing is stored, on every backend."""

from __future__ import annotations

import csv
import math
import re
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import peewee
import pytest
from samples import at, signal, trade, trade_values

from botmemory import BotMemoryError, OrderSide, Signal, Trade, ValidationError
from botmemory.repositories import signals, trades

pytestmark = pytest.mark.usefixtures("empty_database")

NOT_A_NUMBER = [
    True, False, math.nan, math.inf, -math.inf, "abc", "100", "", b"1", [1], {}, None, 1 + 0j,
    10**400, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), np.nan, np.float32("inf"),
    np.bool_(True), np.array([1.0]), np.array(1.0), pd.NA, pd.NaT, object(),
]  # fmt: skip
NOT_A_LABEL = [
    "", " ", " BTC", "BTC ", "x" * 65, "a\0b", "a\nb", "\t", "\ud800", "a\u200b", "\u00a0a",
    b"BTC", 5, True, None, [], OrderSide,
]  # fmt: skip
OPTIONAL_LABEL = [value for value in NOT_A_LABEL if value is not None]
OPTIONAL_NUMBER = [value for value in NOT_A_NUMBER if value is not None]
BAD_VALUES = {
    "price": [*NOT_A_NUMBER, 0, -1, 0.0, -0.0],
    "quantity": [*NOT_A_NUMBER, 0, -1],
    "contract_size": [*OPTIONAL_NUMBER, 0, -1],
    "pnl": OPTIONAL_NUMBER,
    "fee": OPTIONAL_NUMBER,
    "symbol": NOT_A_LABEL,
    "strategy": [*(value for value in OPTIONAL_LABEL if value != "x" * 65), "x" * 65],
    "fee_currency": OPTIONAL_LABEL,
    "exchange": ["", " okx", "x" * 33, 5],
    "exchange_trade_id": ["", 5, "x" * 129],
    "side": ["hold", "", "b", 1, True, None, b"buy", [], math.nan],
    "timestamp": [
        "2024-01-01", 0, 1704067200.0, date(2024, 1, 1), True, pd.NaT, np.datetime64("2024"),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
    "id": ["", "abc", 5, b"x" * 16, True, "0" * 31, [uuid.uuid4()]],
    "signal": ["1", 1.0, True, -1, 2**63, uuid.uuid4(), []],
    "trade_metadata": [
        object(), {1, 2}, b"bytes", {"a": {"b": object()}}, {1: "a"}, {None: 1}, {("a",): 1},
        "a\0b", {"a\0": 1}, {"k": "\ud800"}, [1 + 0j], np.array([1]), timedelta(1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("field", BAD_VALUES)
def test_a_bad_trade_is_refused_by_name(field: str) -> None:
    for value in BAD_VALUES[field]:
        with pytest.raises(ValidationError, match=rf"^{field}\b") as caught:
            trades.create(**trade_values(exchange="okx") | {field: value})
        assert caught.value.field == field, value
        assert trades.get_trade_count() == 0, value


@pytest.mark.parametrize("value", [2, -2, True, False, 0.5, "1", None, math.nan, np.bool_(True)])
def test_a_bad_signal_value_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="^signal_value: "):
        signal(signal_value=value)
    assert signals.get_signal_count() == 0


@pytest.mark.parametrize("value", [np.sign(-0.5), np.sign(np.int32(7)), 0.0, np.float32(1)])
def test_a_whole_float_is_a_signal_value(value: object) -> None:
    created = signal(signal_value=value)
    assert type(created.signal_value) is int
    assert created.signal_value == value


def test_metadata_deeper_than_64_levels_is_refused() -> None:
    deep: list = []
    for _ in range(63):
        deep = [deep]
    stored = signals.get_by_id(signal(signal_metadata=deep).id)
    assert stored is not None
    assert stored.signal_metadata == deep
    endless: list = []
    endless.append(endless)
    for too_deep in ([deep], endless):
        with pytest.raises(ValidationError, match=r"signal_metadata.* deeper than 64 levels"):
            signal(signal_metadata=too_deep)
    assert signals.get_signal_count() == 1


class Key(str):
    """Text that a dict stores as another key than equal text."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def test_duplicate_keys_are_refused() -> None:
    assert signal(signal_metadata={Key("rsi"): 1}).signal_metadata == {"rsi": 1}
    with pytest.raises(ValidationError, match="signal_metadata: .* is a duplicate key"):
        signal(signal_metadata={"rsi": 1, Key("rsi"): 2})


def test_metadata_over_a_mebibyte_is_refused() -> None:
    assert signal(signal_metadata="x" * (2**20 - 2)).id
    for value in ("x" * (2**20 - 1), {"deep": ["\u00fc" * 2**19]}):
        with pytest.raises(ValidationError, match=r"signal_metadata: .* at most 1,048,576 are"):
            signal(signal_metadata=value)
    assert signals.get_signal_count() == 1


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (trades.create, {"symbl": "X"}, r"symbl: .* \(did you mean 'symbol'\?\)"),
        (trades.create, {"symbol": "X", "side": "buy", "price": 1}, "quantity: .* needs quantity"),
        (trades.create, {}, "symbol: .* needs symbol, side, price, quantity"),
        (trades.get_or_create, trade_values(), "exchange: .* needs exchange, exchange_trade_id"),
        (
            trades.get_or_create,
            trade_values(exchange=None, exchange_trade_id="1"),
            "exchange: an exchange_trade_id needs",
        ),
        (signals.create, {"symbol": "X"}, "signal_value: .* needs signal_value"),
        (signals.create, {"symbol": "X", "signal_value": 1, "id": 5}, "id: .* no such argument"),
        (trades.get_all, {"limt": 5}, r"limt: .* \(did you mean 'limit'\?\)"),
    ],
)
def test_a_wrong_argument_list_names_the_argument(function, arguments, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        function(**arguments)
    assert trades.get_trade_count() == signals.get_signal_count() == 0


def test_too_many_positional_arguments_are_refused() -> None:
    with pytest.raises(ValidationError, match="takes 1 arguments by position, got 2"):
        trades.get_all(1, 2)  # type: ignore[call-arg]


def test_a_type_error_of_the_caller_is_not_translated() -> None:
    def rows():
        yield trade_values()
        raise TypeError("the feed's own")

    with pytest.raises(TypeError, match="the feed's own"):
        trades.create_many(rows())


def test_a_line_longer_than_its_header_is_refused_by_row() -> None:
    lines = ["symbol,side,price,quantity", "X,buy,1,1,9"]
    [row] = csv.DictReader(lines)
    rows: Any = [trade_values(), dict(row, price=1.0, quantity=1.0)]
    with pytest.raises(
        ValidationError, match=r"rows\[1\]: None: a Trade has no such field; got \['9'\]"
    ):
        trades.create_many(rows)
    rows[1] = trade_values() | {3: 4}
    with pytest.raises(ValidationError, match=r"rows\[1\]: 3: a Trade has no such field; got 4"):
        trades.create_many(rows)
    assert trades.get_trade_count() == 0


@pytest.mark.parametrize("rows", [None, 5, "abc", {"symbol": "X"}, ["abc"], [None], [{"a": 1}]])
def test_invalid_rows_are_refused(rows) -> None:
    with pytest.raises(ValidationError, match="rows|a: "):
        trades.create_many(rows)
    assert trades.get_trade_count() == 0


@pytest.mark.parametrize("limit", [-1, 1.0, "5", True, math.inf, 2**63])
@pytest.mark.parametrize("repository", [trades, signals])
def test_a_bad_limit_is_refused(repository, limit) -> None:
    for query in (
        lambda: repository.get_all(limit),
        lambda: repository.get_latest(limit=limit),
        lambda: repository.get_by_symbol("X", limit),
    ):
        with pytest.raises(ValidationError, match="^limit: "):
            query()


@pytest.mark.parametrize("repository", [trades, signals])
def test_a_bad_date_range_is_refused(repository) -> None:
    with pytest.raises(ValidationError, match="end_date: .* is before start_date"):
        repository.get_by_date_range("X", at(1), at(0))
    for start, end in ((None, at(1)), (at(0), None), ("2024", at(1)), (at(0), date(2024, 1, 2))):
        with pytest.raises(ValidationError, match="^(start|end)_date: "):
            repository.get_by_date_range("X", start, end)


@pytest.mark.parametrize("id", ["abc", 5, None, 1.5, b"", ""])
def test_an_invalid_trade_id_is_refused(id) -> None:
    with pytest.raises(ValidationError, match="^id: "):
        trades.get_by_id(id)


@pytest.mark.parametrize("id", ["abc", "5", None, 1.5, True, 2**63])
def test_an_invalid_signal_id_is_refused(id) -> None:
    with pytest.raises(ValidationError, match="^id: "):
        signals.get_by_id(id)


@pytest.mark.parametrize("row", [None, 5, "abc", {}])
def test_an_invalid_row_is_refused(row) -> None:
    for function in (trades.delete, trades.update):
        with pytest.raises(ValidationError, match="^trade: .* is not a Trade"):
            function(row)
    with pytest.raises(ValidationError, match="^signal: .* is not a Signal"):
        signals.delete(row)


def test_an_unsaved_signal_is_refused() -> None:
    with pytest.raises(ValidationError, match="^signal: .* is not stored yet"):
        trade(signal=Signal(symbol="X", signal_value=1))


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (7, 7.0),
        (Decimal("0.1"), 0.1),
        (Fraction(1, 4), 0.25),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7.0),
        (5e-324, 5e-324),
        (1.7976931348623157e308, 1.7976931348623157e308),
    ],
)
def test_numbers_of_other_types_become_floats(value, stored: float) -> None:
    created = trade(price=value)
    assert (type(created.price), created.price) == (float, stored)


def test_metadata_of_other_types_becomes_json() -> None:
    key = uuid.uuid4()
    aware = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    created = signal(
        signal_metadata={
            "float32": np.float32(0.5),
            "float64": np.float64(0.1),
            "int": np.int64(-3),
            "bool": np.bool_(True),
            "decimal": Decimal("0.25"),
            "aware": aware,
            "naive": datetime(2024, 1, 1),
            "day": date(2024, 1, 1),
            "pandas": pd.Timestamp("2024-01-01", tz="UTC"),
            "numpy": np.datetime64("2024-01-01T10:00"),
            "uuid": key,
            "side": OrderSide.BUY,
            "tuple": (1, (2,)),
            "nan": [
                math.nan,
                math.inf,
                np.nan,
                Decimal("NaN"),
                pd.NA,
                pd.NaT,
                np.datetime64("NaT", "s"),
            ],
        }
    )
    plain = {
        "float32": 0.5,
        "float64": 0.1,
        "int": -3,
        "bool": True,
        "decimal": 0.25,
        "aware": "2024-01-01T10:00:00+00:00",
        "naive": "2024-01-01T00:00:00+00:00",
        "day": "2024-01-01",
        "pandas": "2024-01-01T00:00:00+00:00",
        "numpy": "2024-01-01T10:00:00+00:00",
        "uuid": str(key),
        "side": "buy",
        "tuple": [1, [2]],
        "nan": [None] * 7,
    }
    stored = signals.get_by_id(created.id)
    assert stored is not None
    assert created.signal_metadata == plain
    assert stored.signal_metadata == plain


@pytest.mark.parametrize("side", ["buy", "BUY", "Buy", OrderSide.BUY])
def test_a_side_is_taken_in_any_letter_case(side) -> None:
    assert trade(side=side).side is OrderSide.BUY


def test_a_pandas_timestamp_is_a_datetime() -> None:
    created = trade(timestamp=pd.Timestamp("2024-01-01 00:00:00.123456", tz="Europe/Berlin"))
    assert type(created.timestamp) is datetime
    assert created.timestamp == datetime(2023, 12, 31, 23, 0, 0, 123456, tzinfo=UTC)


def test_nanoseconds_are_refused() -> None:
    precise = pd.Timestamp("2024-01-01 00:00:00.123456789", tz="UTC")
    with pytest.raises(ValidationError, match=r"timestamp: .* has nanoseconds.*floor\('us'\)"):
        trade(timestamp=precise)
    for value in (precise, precise.to_datetime64()):
        with pytest.raises(ValidationError, match=r"trade_metadata\.at: .* has nanoseconds"):
            trade(trade_metadata={"at": value})
    assert trades.get_trade_count() == 0


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (np.array([1.5, 2]), "value.tolist()"),
        (pd.Series([1.5]), "value.to_dict(), or value.tolist()"),
        (pd.Index([1]), "value.tolist()"),
        (pd.DataFrame({"a": [1]}), "value.to_dict('records')"),
        (pd.Timedelta(minutes=5), "value.total_seconds()"),
        (timedelta(minutes=5), "value.total_seconds()"),
        ({1, 2}, "sorted(value)"),
        (frozenset([1]), "sorted(value)"),
        (b"x", "value.decode(), or value.hex()"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_json_is_refused_with_its_conversion(value: object, remedy: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(f"; pass {remedy}")) as caught:
        signal(signal_metadata={"a": [value]})
    assert str(caught.value).startswith("signal_metadata.a[0]: ")


@pytest.mark.parametrize(
    "values",
    [
        {"price": 0},
        {"price": -1},
        {"quantity": math.inf},
        {"pnl": math.inf},
        {"symbol": ""},
        {"symbol": "x" * 65},
        {"symbol": " X"},
        {"fee": -math.inf},
        {"exchange_trade_id": "1"},
    ],
    ids=str,
)
def test_the_check_constraints_refuse_the_same_values(values) -> None:
    # text that is too long for its column is a DataError on PostgreSQL
    with pytest.raises((peewee.IntegrityError, peewee.DataError)):
        # Peewee's own method, without the validation of the model's
        vars(peewee.Model)["insert"].__func__(Trade, trade_values() | values).execute()
    assert trades.get_trade_count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("pnll", 5), ("price", "abc"), ("side", "hold"), ("symbol", "x" * 65), ("price", -1)],
)
def test_a_model_with_an_invalid_value_is_not_saved(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=f"^{field}: "):
        Trade(**trade_values() | {field: value}).save()
    created = trade()
    with pytest.raises(BotMemoryError, match=f"{field}: "):
        trades.update(created, **{field: value})
