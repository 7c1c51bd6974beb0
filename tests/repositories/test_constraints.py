"""A violated constraint is a named error, and the transaction goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import peewee
import pytest
from samples import signal, trade, trade_values

from botmemory import (
    BaseModel,
    BotMemoryError,
    DuplicateError,
    Signal,
    Trade,
    ValidationError,
    db,
    session_scope,
)
from botmemory.repositories import records, signals, trades

pytestmark = pytest.mark.usefixtures("empty_database", "tables")


class Note(BaseModel):
    """A table with a counted key and constraints of every kind."""

    name = peewee.CharField(unique=True)
    size = peewee.IntegerField(default=1, constraints=[peewee.Check("size > 0")])
    about = peewee.ForeignKeyField(Signal, null=True)


class Review(BaseModel):
    """A table that refers to trades, and keeps them from being deleted."""

    about = peewee.ForeignKeyField(Trade)


class Named(BaseModel):
    """A table whose key is text."""

    name = peewee.CharField(primary_key=True)
    size = peewee.IntegerField(default=1, constraints=[peewee.Check("size > 0")])


class Touched(BaseModel):
    """A table whose rows are saved by a method of its own."""

    name = peewee.CharField(unique=True)
    label = peewee.CharField(null=True)

    def save(self, *args: Any, **options: Any) -> int:
        self.label = self.name.upper()
        return super().save(*args, **options)

    def delete_instance(self, *args: Any, **options: Any) -> int:
        deleted.append(self.name)
        return super().delete_instance(*args, **options)


deleted: list[str] = []
TABLES = (Note, Named, Touched)


@pytest.fixture
def tables(empty_database: peewee.Database) -> Iterator[None]:
    db.create_tables(TABLES)
    yield
    db.drop_tables(TABLES)


def existing_id() -> Any:
    return Note.select(peewee.fn.MAX(Note.id)).scalar()


VIOLATIONS: dict[str, Callable[[], object]] = {
    "create with an id that exists": lambda: records.create(Note, id=existing_id(), name="b"),
    "create with a unique value that exists": lambda: records.create(Note, name="a"),
    "create against a check": lambda: records.create(Note, name="b", size=0),
    "create with an unknown reference": lambda: records.create(Note, name="b", about=12345),
    "create with a text key that exists": lambda: records.create(Named, name="a"),
    "create with a text key against a check": lambda: records.create(Named, name="b", size=0),
    "create_many": lambda: records.create_many(Note, [{"name": "b"}, {"name": "a"}]),
    "update": lambda: records.update(records.get_all(Note)[0], size=-1),
    "a save() of its own": lambda: records.create(Touched, name="a"),
    "save": lambda: Note(name="a").save(),
    "Model.create": lambda: Note.create(name="a"),
    "save of a change": lambda: setattr(row := records.get_all(Note)[0], "size", 0) or row.save(),
    "bulk_create": lambda: Note.bulk_create([Note(name="b"), Note(name="a")]),
    "bulk_update": lambda: Note.bulk_update(
        [Note(id=existing_id(), name="a", size=-1)], fields=[Note.size]
    ),
    "delete": lambda: signals.delete(signals.get_all()[0]),
    "delete_instance": lambda: signals.get_all()[0].delete_instance(),
    "a trade with an unknown signal": lambda: trade(signal=12345),
    "a trade whose id exists": lambda: trade(id=trades.get_all()[0].id),
    "Trade.create": lambda: Trade.create(**trade_values(id=trades.get_all()[0].id)),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_transaction_goes_on_after_a_violated_constraint(name: str, empty_database: Any) -> None:
    if name == "Trade.create" and empty_database.is_partitioned("trade"):
        pytest.skip("the trigger of the partitioned table skips duplicates, whoever inserts them")
    records.create(Note, name="a", about=signal())
    records.create(Named, name="a")
    records.create(Touched, name="a")
    trade()
    with session_scope():
        records.create(Note, name="before")
        with pytest.raises((DuplicateError, ValidationError)):
            VIOLATIONS[name]()
        records.create(Note, name="after")
        trade()
    assert [row.name for row in records.iterate(Note)] == ["a", "before", "after"]
    assert (trades.get_trade_count(), signals.get_signal_count()) == (2, 1)


def test_an_insert_of_peewee_raises_the_errors_of_both() -> None:
    records.create(Note, name="a")
    for error_class in (DuplicateError, BotMemoryError, peewee.IntegrityError):
        with pytest.raises(error_class, match="a row with the same unique values already exists"):
            Note.insert(name="a").execute()
    with pytest.raises(ValidationError, match="name: None is not allowed"):
        Note.insert(size=5).execute()
    with pytest.raises(ValidationError, match="a value violates the check constraint '"):
        Note.insert(name="b", size=0).execute()
    assert Note.get_or_create(name="a")[1] is False


@pytest.mark.parametrize(
    "create",
    [
        lambda: records.create(Note, id=7, name="x"),
        lambda: Note.create(id=7, name="x"),
        lambda: Note(id=7, name="x").save(),
        lambda: records.create_many(Note, [{"id": 7, "name": "x"}]),
    ],
)
def test_ids_go_on_after_one_that_was_given(create: Callable[[], object]) -> None:
    create()
    assert records.create(Note, name="y").id == 8
    assert Note.create(name="z").id == 9


def test_a_signal_that_rows_refer_to_is_not_deleted() -> None:
    first, second = signal(), signal()
    records.create(Note, name="a", about=first)
    records.create(Note, name="b", about=first)
    trade(signal=second)
    for delete in (lambda: signals.delete(first), first.delete_instance):
        with pytest.raises(
            ValidationError, match=rf"Signal {first.id}: it is referred to by 2 rows of note"
        ):
            delete()
    signals.delete(second)  # whose trade keeps no reference
    assert [row.signal_id for row in trades.get_all()] == [None]


def test_a_trade_that_a_row_refers_to_is_not_deleted(empty_database: Any) -> None:
    if empty_database.is_partitioned("trade"):
        pytest.skip("no table can refer to the id of a partitioned one")
    db.create_tables([Review])
    try:
        created = trade()
        review = records.create(Review, about=created)
        with pytest.raises(ValidationError, match=f"Trade {created.id}: .* by 1 row of review;"):
            trades.delete(created)
        records.delete(review)
        trades.delete(created)
        assert trades.get_trade_count() == 0
    finally:
        db.drop_tables([Review])


def test_the_methods_of_a_model_are_called() -> None:
    row = records.create(Touched, name="a")
    assert (row.label, records.get_all(Touched)[0].label) == ("A", "A")
    assert records.update(row, name="b").label == "B"
    assert Touched.get().label == "B"
    assert records.create_many(Touched, [{"name": "c"}, {"name": "d"}]) == 2
    assert [row.label for row in records.iterate(Touched)] == ["B", "C", "D"]
    deleted.clear()
    records.delete(row)
    assert deleted == ["b"]
