"""Custom tables hold each field type of Peewee: what is recorded is read again, also by files."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import peewee
import pytest
from samples import signal

from botmemory import BaseModel, DuplicateError, Signal, ValidationError, db
from botmemory.interop.files import export_file, import_file
from botmemory.repositories import records

pytestmark = pytest.mark.usefixtures("empty_database", "tables")
every_format = pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])


class EnumField(peewee.CharField):
    """A field with a conversion of its own, as Peewee's documentation shows."""

    def db_value(self, value: Any) -> Any:
        return None if value is None else {True: "long", False: "short"}[value]

    def python_value(self, value: Any) -> Any:
        return None if value is None else value == "long"


class Everything(BaseModel):
    """A column of each type."""

    flag = peewee.BooleanField(null=True)
    small = peewee.SmallIntegerField(null=True)
    whole = peewee.IntegerField(null=True, column_name="whole_number")
    big = peewee.BigIntegerField(null=True)
    bits = peewee.BitField(null=True, default=None)
    real = peewee.FloatField(null=True)
    double = peewee.DoubleField(null=True)
    amount = peewee.DecimalField(null=True, max_digits=20, decimal_places=8)
    label = peewee.CharField(null=True, max_length=20)
    code = peewee.FixedCharField(null=True, max_length=5)
    text = peewee.TextField(null=True)
    blob = peewee.BlobField(null=True)
    many_bits = peewee.BigBitField(null=True, default=None)
    identity = peewee.UUIDField(null=True)
    binary_id = peewee.BinaryUUIDField(null=True)
    day = peewee.DateField(null=True)
    clock = peewee.TimeField(null=True)
    at = peewee.DateTimeField(null=True)
    stamp = peewee.TimestampField(null=True, default=None, utc=True)
    fine_stamp = peewee.TimestampField(null=True, default=None, utc=True, resolution=6)
    address = peewee.IPField(null=True)
    data = peewee.JSONField(null=True)
    about = peewee.ForeignKeyField(Signal, null=True, index=False)
    long = EnumField(null=True, max_length=5)


class Coded(BaseModel):
    """A key that is text."""

    code = peewee.CharField(primary_key=True, max_length=10)
    value = peewee.IntegerField()


class Cell(BaseModel):
    """A key of two fields."""

    row = peewee.CharField(max_length=10)
    column = peewee.IntegerField()
    value = peewee.TextField(null=True)

    class Meta:
        primary_key = peewee.CompositeKey("row", "column")


TABLES = (Everything, Coded, Cell)
ID = uuid.UUID(int=5)
# what is given -> what is read again
HELD: dict[str, list[tuple[Any, Any]]] = {
    "flag": [(True, True), (False, False), (1, True)],
    "small": [(-(2**15), -(2**15)), (2**15 - 1, 2**15 - 1)],
    "whole": [(-(2**31), -(2**31)), (2**31 - 1, 2**31 - 1), ("5", 5), (5.0, 5)],
    "big": [(-(2**63), -(2**63)), (2**63 - 1, 2**63 - 1), (2**53 + 1, 2**53 + 1)],
    "bits": [(5, 5)],
    "real": [(0.1, 0.1), (1 / 3, 1 / 3), (Decimal("1.5"), 1.5), (-0.0, 0.0)],
    "double": [(0.1, 0.1), (1e300, 1e300), (5, 5.0)],
    "amount": [
        (Decimal("1.10"), Decimal("1.1")),
        (0.1, Decimal("0.1")),
        ("2.5", Decimal("2.5")),
        (Decimal("-0"), Decimal(0)),
        (12, Decimal(12)),
        (Decimal("1234567.12345678"), Decimal("1234567.12345678")),
    ],
    "label": [("a", "a"), ("", ""), (" x ", " x "), ("=1+1", "=1+1"), ("é,\"'", "é,\"'")],
    "code": [("ab", "ab"), ("abcde", "abcde")],
    "text": [("a\r\nb", "a\r\nb"), ("a\nb\rc", "a\nb\rc"), ("", ""), ('"', '"'), ("null", "null")],
    "blob": [(b"\x00\xff", b"\x00\xff"), (b"", b""), (bytearray(b"a"), b"a"), ("abc", b"abc")],
    "many_bits": [(b"\x05", b"\x05"), (b"", b"")],
    "identity": [(ID, ID), (str(ID), ID), (ID.bytes, ID)],
    "binary_id": [(ID, ID), (ID.hex, ID)],
    "day": [(date(2024, 1, 2), date(2024, 1, 2)), ("2024-01-02", date(2024, 1, 2))],
    "clock": [
        (time(3, 4), time(3, 4)),
        (time(3, 4, 5, 6), time(3, 4, 5, 6)),
        ("03:04", time(3, 4)),
    ],
    "at": [
        (datetime(2024, 1, 2, 3, 4), datetime(2024, 1, 2, 3, 4)),
        (datetime(2024, 1, 2, 3, 4, 5, 6), datetime(2024, 1, 2, 3, 4, 5, 6)),
        ("2024-01-02 03:04:05", datetime(2024, 1, 2, 3, 4, 5)),
    ],
    "stamp": [
        (datetime(2024, 1, 2, 3, 4), datetime(2024, 1, 2, 3, 4)),
        (datetime(2024, 1, 2, 3, 4, 5, 6), datetime(2024, 1, 2, 3, 4, 5)),
    ],
    "fine_stamp": [(datetime(2024, 1, 2, 3, 4, 5, 6), datetime(2024, 1, 2, 3, 4, 5, 6))],
    "address": [("127.0.0.1", "127.0.0.1")],
    "data": [({"a": [1, None, True]}, {"a": [1, None, True]}), ("s", "s"), (3, 3), ([], [])],
    "long": [(True, True), (False, False)],
}
REFUSED: dict[str, list[Any]] = {
    "flag": ["no", 2, 0.5],
    "small": [2**15],
    "whole": [2**31, 5.7, "many", None.__class__, math.nan],
    "big": [2**63, "5.5"],
    "real": [math.nan, math.inf, "many", True],
    "double": [math.nan, 10**400],
    "amount": [Decimal("0.000000001"), 10**12, math.nan, "many", Decimal("Infinity")],
    "label": [5, "x" * 21, "a\0", "\ud800"],
    "code": ["abcdef"],
    "text": [5, b"x", "a\0"],
    "blob": [5],
    "many_bits": [5],
    "identity": ["nope", 5, b"short"],
    "binary_id": ["nope", 5],
    "day": ["garbage", 5],
    "clock": ["garbage", 5, time(1, tzinfo=UTC)],
    "at": ["garbage", 5, datetime(2024, 1, 2, tzinfo=UTC)],
    "stamp": ["garbage", b"x"],
    "address": ["nope", "1.2", "::1", 5],
    "data": [{1, 2}, {1: 2}],
    "about": [12345, "x"],
    "long": ["long", 5],
}


@pytest.fixture
def tables(empty_database: peewee.Database) -> Iterator[None]:
    db.create_tables(TABLES)
    yield
    db.drop_tables(TABLES)


def read(row: Everything, name: str) -> Any:
    value = getattr(row, name)
    return bytes(value) if name == "many_bits" else value


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("name", HELD)
def test_what_is_recorded_is_read_again(name: str) -> None:
    for given, expected in HELD[name]:
        created = records.create(Everything, **{name: given})
        stored = records.get_by_id(Everything, created.id)
        assert stored is not None
        assert same(read(created, name), expected), given
        assert same(read(stored, name), expected), given
        records.create_many(Everything, [{name: given}])
        by_model = Everything.create(**{name: given})
        assert same(read(by_model, name), expected), given
        inserted = Everything.insert({name: given}).execute()
        for key in (created.id + 1, by_model.id, inserted):
            assert same(read(Everything.get_by_id(key), name), expected), given
        changed = records.update(records.create(Everything), **{name: given})
        assert same(read(changed, name), expected), given
        assert same(read(Everything.get_by_id(changed.id), name), expected), given


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_field_cannot_hold_is_refused(name: str) -> None:
    row = records.create(Everything)
    for value in REFUSED[name]:
        for write in (
            lambda value=value: records.create(Everything, **{name: value}),
            lambda value=value: records.create_many(Everything, [{name: value}]),
            lambda value=value: records.update(row, **{name: value}),
            lambda value=value: Everything.create(**{name: value}),
            lambda value=value: Everything.insert({name: value}).execute(),
            lambda value=value: Everything.insert_many([{name: value}]).execute(),
            lambda value=value: Everything.update({name: value}).execute(),
        ):
            # the database refuses an INSERT of Peewee without the name of the foreign key
            with pytest.raises(ValidationError, match=name if value != 12345 else "no such|exist"):
                write()
    assert [stored.id for stored in records.get_all(Everything)] == [row.id]


@every_format
def test_a_file_brings_back_each_value_and_its_type(tmp_path: Path, file_format: str) -> None:
    about = signal()
    records.create(Everything, about=about)
    for name, values in HELD.items():
        for given, _ in values:
            records.create(Everything, **{name: given})
    before = [dict(row.__data__) for row in records.iterate(Everything)]
    file = tmp_path / f"everything.{file_format}"
    assert export_file(Everything, file) == len(before)
    Everything.delete().execute()
    result = import_file(Everything, file)
    assert (result.created, result.skipped) == (len(before), 0)
    after = [dict(row.__data__) for row in records.iterate(Everything)]
    assert after == before
    for old, new in zip(before, after, strict=True):
        assert {k: type(v) for k, v in new.items()} == {k: type(v) for k, v in old.items()}
    assert import_file(Everything, file).skipped == len(before)


@pytest.mark.parametrize("model", [Coded, Cell])
@every_format
def test_keys_that_are_no_number(tmp_path: Path, file_format: str, model: type[BaseModel]) -> None:
    rows = [
        {"code": name, "value": 1} if model is Coded else {"row": name, "column": n, "value": "v"}
        for name in ("b", "a", "")
        for n in (range(1) if model is Coded else range(2))
    ]
    created = [records.create(model, **row) for row in rows]
    for row in created:
        stored: Any = records.get_by_id(model, row.get_id())
        assert stored.__data__ == row.__data__
    in_order = sorted(row.get_id() for row in created)
    assert [row.get_id() for row in records.iterate(model)] == in_order
    assert [row.get_id() for row in records.get_all(model, 2)] == in_order[:-3:-1]
    assert records.count(model) == len(rows)
    with pytest.raises(DuplicateError) as caught:
        records.create(model, **rows[0])
    assert caught.value.id == created[0].get_id()
    with pytest.raises(ValidationError):
        records.get_by_id(model, ("a", "b", "c"))
    assert records.update(created[0], value=5 if model is Coded else "w") == created[0]
    records.delete(created[1])
    file = tmp_path / f"t.{file_format}"
    assert export_file(model, file) == len(rows) - 1
    before = [row.__data__ for row in records.iterate(model)]
    model.delete().execute()
    assert import_file(model, file).created == len(rows) - 1
    assert import_file(model, file).skipped == len(rows) - 1
    assert [row.__data__ for row in records.iterate(model)] == before


def test_a_default_is_returned_as_it_is_stored() -> None:
    class Stamped(BaseModel):
        at = peewee.TimestampField()
        day = peewee.DateField(default=lambda: datetime(2024, 1, 2, 3, tzinfo=UTC))

    db.create_tables([Stamped])
    try:
        created = records.create(Stamped)
        stored = records.get_by_id(Stamped, created.id)
        assert stored is not None
        assert (created.at, created.day) == (stored.at, date(2024, 1, 2))
        assert stored.day == date(2024, 1, 2)
    finally:
        db.drop_tables([Stamped])


@every_format
def test_a_type_that_files_cannot_hold_is_refused_by_name(tmp_path: Path, file_format: str) -> None:
    class Unknown(peewee.Field):
        field_type = "TEXT"

    class Odd(BaseModel):
        odd = Unknown()

    db.create_tables([Odd])
    file = tmp_path / f"odd.{file_format}"
    try:
        assert records.create(Odd, odd="x").odd == "x"
        with pytest.raises(ValidationError, match="odd: files cannot hold the values of a Unknown"):
            export_file(Odd, file)
        assert not file.exists()
    finally:
        db.drop_tables([Odd])


def test_a_bit_that_is_set_in_place_is_saved() -> None:
    row = records.create(Everything, many_bits=b"", data={"a": [1]})
    row.many_bits.set_bit(3)
    assert row.save() == 1
    stored = Everything.get_by_id(row.id)
    assert bytes(stored.many_bits) == b"\x08"
    stored.data["a"].append(2)
    assert stored.is_dirty()
    records.update(stored, label="x")
    assert Everything.get_by_id(row.id).data == {"a": [1, 2]}
    assert not stored.is_dirty()
