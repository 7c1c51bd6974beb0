"""What Peewee's documentation teaches on models, querying and playhouse works on the models."""

from __future__ import annotations

import copy
import datetime
import functools
import math
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peewee
import playhouse.signals
import pytest
from peewee import JOIN, SQL, Case, Value, fn, prefetch
from playhouse.fields import PickleField
from playhouse.hybrid import hybrid_method, hybrid_property
from playhouse.reflection import generate_models
from playhouse.shortcuts import dict_to_model, model_to_dict, update_model_from_dict
from samples import START, at, signal, trade, trade_values

from botmemory import (
    BaseModel,
    BotMemoryError,
    ConfigError,
    DuplicateError,
    NotFoundError,
    OrderSide,
    Signal,
    Trade,
    ValidationError,
    close_db,
    db,
    init_db,
)
from botmemory.fields import DoubleField, UtcDateTimeField
from botmemory.repositories import signals, trades


class Snapshot(BaseModel):
    symbol = peewee.CharField(max_length=20)
    equity = DoubleField(default=0.0)
    note = peewee.TextField(null=True)
    signal = peewee.ForeignKeyField(Signal, null=True, backref="snapshots", on_delete="SET NULL")


class Comment(BaseModel):
    snapshot = peewee.ForeignKeyField(Snapshot, backref="comments")
    reviewer = peewee.CharField(max_length=20, null=True)
    text = peewee.TextField()


class Reply(BaseModel):
    comment = peewee.ForeignKeyField(Comment, null=True, backref="replies")
    text = peewee.TextField()


class Category(BaseModel):
    name = peewee.CharField(unique=True)
    parent = peewee.ForeignKeyField("self", null=True, backref="children")


class Tag(BaseModel):
    name = peewee.CharField(unique=True)
    snapshots = peewee.ManyToManyField(Snapshot, backref="tags")


class Position(BaseModel):
    symbol = peewee.CharField(max_length=20)
    strategy = peewee.CharField(max_length=20)
    size = DoubleField()

    class Meta:
        primary_key = peewee.CompositeKey("symbol", "strategy")


class LogLine(BaseModel):
    text = peewee.TextField()

    class Meta:
        primary_key = False


class WordsField(peewee.TextField):
    """A list of words, as a field of the user's own."""

    def db_value(self, value: Any) -> Any:
        return None if value is None else " ".join(value)

    def python_value(self, value: Any) -> Any:
        return None if value is None else value.split()


class Draft(BaseModel):
    words = WordsField(null=True)
    state = PickleField(null=True)
    details = peewee.JSONField(null=True)
    flags = peewee.BigBitField(null=True)


class Described(BaseModel):
    """What several tables have in common."""

    details = peewee.JSONField(null=True)
    title = peewee.CharField(max_length=20)


class Article(Described):
    body = peewee.TextField(null=True)


class Measured(BaseModel):
    """A model with an `__init__`, a `save()`, properties and attributes of its own."""

    symbol = peewee.CharField(max_length=20)
    low = DoubleField()
    high = DoubleField()
    saves = peewee.IntegerField(default=0)
    changed = UtcDateTimeField(null=True)
    source: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.origin = "measured"
        self.cache: dict[str, float] = {}

    def save(self, *args: Any, **kwargs: Any) -> int:
        self.saves += 1
        self.changed = START
        return super().save(*args, **kwargs)

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @middle.setter
    def middle(self, value: float) -> None:
        half = (self.high - self.low) / 2
        self.low, self.high = value - half, value + half

    @functools.cached_property
    def ratio(self) -> float:
        return float(self.high / self.low)

    @hybrid_property
    def width(self) -> Any:
        return self.high - self.low

    @hybrid_method
    def contains(self, value: float) -> Any:
        return (self.low <= value) & (self.high >= value)

    def remember(self, name: str, value: float) -> None:
        self.cache[name] = value
        self.last_name = name
        for each in [name]:
            setattr(self, f"{each}_value", value)

    @classmethod
    def flat(cls, symbol: str, value: float) -> Measured:
        made = cls(symbol=symbol, low=value, high=value)
        made.is_flat = True
        return made


class Announced(BaseModel, playhouse.signals.Model):
    text = peewee.TextField()
    size = DoubleField(default=0.0)


class AnnouncedFirst(playhouse.signals.Model, BaseModel):
    text = peewee.TextField()
    size = DoubleField(default=0.0)


class AnnouncedByOptions(playhouse.signals.Model, BaseModel):
    text = peewee.TextField()
    size = DoubleField(default=0.0)

    class Meta:
        database = db
        only_save_dirty = True


ANNOUNCED = [Announced, AnnouncedFirst, AnnouncedByOptions]


TABLES = [
    *(Snapshot, Comment, Reply, Category, Tag, Tag.snapshots.get_through_model(), Position),
    *(LogLine, Draft, Article, Measured, *ANNOUNCED),
]


@pytest.fixture(scope="module")
def tables(shared_database: Any) -> Iterator[None]:
    """The tables of this file, created once on each backend."""
    if shared_database.is_partitioned("trade"):
        pytest.skip("the trigger of the partitioned table skips duplicates, whoever inserts them")
    db.initialize(shared_database)
    db.create_tables(TABLES)
    db.initialize(None)
    yield
    db.initialize(shared_database)
    db.drop_tables(TABLES)
    db.initialize(None)


@pytest.fixture(autouse=True)
def _empty_tables(tables: None, empty_database: Any) -> Iterator[None]:
    yield
    for model in reversed(TABLES):
        model.delete().execute()


@pytest.fixture
def known_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Signal` and `Trade` be referred to by the tables that are there, and no others."""
    for model in (Signal, Trade):
        known = {
            field: other
            for field, other in model._meta.backrefs.items()
            if other in (Trade, Snapshot)
        }
        monkeypatch.setattr(model._meta, "backrefs", known)


@pytest.fixture
def three() -> list[Trade]:
    """A trade of A that won 1, one of A that won 2, and one of B that lost 5."""
    return [
        trade(timestamp=at(0), symbol="A", price=10, pnl=1),
        trade(timestamp=at(1), symbol="A", price=20, pnl=2),
        trade(timestamp=at(2), symbol="B", price=30, pnl=-5, side="sell"),
    ]


def snapshot(**values: Any) -> Snapshot:
    return Snapshot.create(**({"symbol": "A", "equity": 100.0} | values))


# --- selecting --------------------------------------------------------------------------------


def test_an_aggregate_is_an_attribute_of_the_model(three: list[Trade]) -> None:
    query = (
        Trade.select(Trade.symbol, fn.SUM(Trade.pnl).alias("total"), fn.COUNT(Trade.id).alias("n"))
        .group_by(Trade.symbol)
        .order_by(Trade.symbol)
    )
    assert [(row.symbol, row.total, row.n) for row in query] == [("A", 3.0, 2), ("B", -5.0, 1)]
    assert all(type(row) is Trade for row in query)


def test_an_alias_may_have_the_name_of_a_field(three: list[Trade]) -> None:
    query = Trade.select(Trade.symbol, fn.MAX(Trade.price).alias("price")).group_by(Trade.symbol)
    assert {row.symbol: row.price for row in query} == {"A": 20.0, "B": 30.0}


def test_a_row_with_an_alias_is_changed_and_saved(three: list[Trade]) -> None:
    row = Trade.select(Trade, (Trade.price * Trade.quantity).alias("worth")).order_by(Trade.price)
    first = row.get()
    assert (first.worth, first.is_dirty()) == (10.0, False)
    first.worth += 1
    first.pnl = 7
    assert first.save() == 1
    assert (first.worth, Trade.get_by_id(first.id).pnl) == (11.0, 7.0)


def test_a_row_with_an_alias_is_copied_and_pickled(three: list[Trade]) -> None:
    row = Trade.select(Trade, fn.LOWER(Trade.symbol).alias("lower")).order_by(Trade.price).get()
    for made in (copy.copy(row), copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        assert (made, made.lower, made.price) == (row, "a", 10.0)


def test_having_filters_the_groups(three: list[Trade]) -> None:
    total = fn.SUM(Trade.pnl)
    query = Trade.select(Trade.symbol, total.alias("total")).group_by(Trade.symbol)
    assert [row.total for row in query.having(total > 0)] == [3.0]


def test_objects_have_all_the_columns_of_a_join() -> None:
    trade(signal=signal(strategy="a"), price=10)
    query = Trade.select(Trade.price, Signal.strategy.alias("why")).join(Signal)
    assert [(row.price, row.why) for row in query.objects()] == [(10.0, "a")]


def test_objects_are_made_by_the_callers_own_class(three: list[Trade]) -> None:
    query = Trade.select(Trade.symbol, Trade.price).order_by(Trade.price).objects(dict)
    assert query.first() == {"symbol": "A", "price": 10.0}


def test_dicts_tuples_and_namedtuples(three: list[Trade]) -> None:
    query = Trade.select(Trade.id, Trade.side, Trade.timestamp, Trade.pnl).order_by(Trade.pnl)
    last = three[2]
    expected = (last.id, OrderSide.SELL, at(2), -5.0)
    assert query.dicts().get() == dict(
        zip(("id", "side", "timestamp", "pnl"), expected, strict=True)
    )
    assert query.tuples().get() == expected
    named = query.namedtuples().get()
    assert (named.id, named.side, named.timestamp, named.pnl) == expected


def test_metadata_is_read_in_each_form() -> None:
    signal(signal_metadata={"rsi": [1, 2.5, None]})
    query = Signal.select(Signal.signal_metadata)
    assert query.dicts().get() == {"signal_metadata": {"rsi": [1, 2.5, None]}}
    assert query.tuples().get() == ({"rsi": [1, 2.5, None]},)
    assert query.get().signal_metadata == {"rsi": [1, 2.5, None]}


def test_raw_sql_is_read_as_models(three: list[Trade]) -> None:
    mark = db.param
    sql = f"SELECT id, symbol, side, price * 2 AS double FROM trade WHERE price > {mark}"
    query = Trade.raw(f"{sql} ORDER BY price", 15)
    assert [(row.id, row.symbol, row.side, row.double) for row in query] == [
        (three[1].id, "A", OrderSide.BUY, 40.0),
        (three[2].id, "B", OrderSide.SELL, 60.0),
    ]
    assert Trade.raw(sql, 25).dicts().execute()[0]["double"] == 60.0
    assert Trade.raw(sql, 25).tuples().execute()[0][1:] == ("B", "sell", 60.0)


def test_a_fragment_of_sql_in_a_query(three: list[Trade]) -> None:
    query = Trade.select(Trade.symbol, SQL("price + 1 AS more")).order_by(SQL("more DESC"))
    assert [row.more for row in query] == [31.0, 21.0, 11.0]


def test_get_and_its_variants(three: list[Trade]) -> None:
    last = three[2]
    assert Trade.get(Trade.symbol == "B") == last
    assert Trade.get(symbol="B", side="sell") == last
    assert Trade.get_by_id(last.id) == Trade.get_by_id(str(last.id)) == Trade[last.id] == last
    assert Trade.get_or_none(Trade.symbol == "B") == last
    assert Trade.get_or_none(Trade.symbol == "C") is None
    assert Trade.select().where(Trade.symbol == "C").get_or_none() is None
    with pytest.raises(Trade.DoesNotExist):
        Trade.get(Trade.symbol == "C")
    with pytest.raises(peewee.DoesNotExist):
        Trade.get_by_id(uuid.uuid4())
    with pytest.raises(Signal.DoesNotExist):
        Signal.get(1)


def test_filter_takes_the_lookups_of_django() -> None:
    trade(symbol="A", price=10, signal=signal(strategy="a"))
    trade(symbol="B", price=20)
    assert [row.symbol for row in Trade.filter(price__gt=15)] == ["B"]
    assert [row.symbol for row in Trade.filter(symbol__in=["A"])] == ["A"]
    assert [row.symbol for row in Trade.filter(signal__strategy="a")] == ["A"]
    assert [row.symbol for row in Trade.filter(peewee.DQ(symbol="A") | peewee.DQ(price=20))] == [
        "A",
        "B",
    ]


def test_the_operators_of_a_condition(three: list[Trade]) -> None:
    def prices(*condition: Any) -> list[float]:
        return [row.price for row in Trade.select().where(*condition).order_by(Trade.price)]

    assert prices(Trade.price.between(10, 20)) == [10, 20]
    assert prices(Trade.price << [10, 30]) == prices(Trade.price.in_([10, 30])) == [10, 30]
    assert prices(Trade.price.not_in([10])) == [20, 30]
    assert prices(~(Trade.symbol == "A")) == [30]
    assert prices((Trade.symbol == "B") | (Trade.price < 15)) == [10, 30]
    assert prices(Trade.symbol.startswith("A"), Trade.price != 10) == [20]
    assert prices(Trade.signal.is_null()) == [10, 20, 30]
    assert prices(Trade.side == OrderSide.SELL) == prices(Trade.side == "sell") == [30]
    assert prices(Trade.id.in_([three[0].id, str(three[1].id)])) == [10, 20]
    assert prices(Trade.timestamp >= at(1)) == [20, 30]
    assert prices(Trade.price[10:20]) == [10, 20]


def test_a_row_stands_for_its_id_in_a_condition() -> None:
    first = signal()
    created = trade(signal=first)
    assert Trade.get(Trade.signal == first) == Trade.get(Trade.signal == first.id) == created
    assert Trade.get(Trade.signal_id == first.id) == created
    assert Trade.get(Trade.signal.in_([first])) == created


def test_conditions_on_metadata() -> None:
    signal(symbol="A", signal_metadata={"rsi": 20, "bands": {"low": 1}})
    signal(symbol="B", signal_metadata={"rsi": 70, "bands": {"low": 2}})
    rsi = Signal.signal_metadata["rsi"]
    assert [row.symbol for row in Signal.select().where(rsi == 70)] == ["B"]
    low = Signal.signal_metadata["bands"]["low"].alias("low")
    assert [row.low for row in Signal.select(low).order_by(Signal.symbol)] == [1, 2]


def test_scalars_first_peek_and_slices(three: list[Trade]) -> None:
    query = Trade.select().order_by(Trade.price)
    assert Trade.select(fn.SUM(Trade.pnl)).scalar() == -2.0
    assert Trade.select(fn.MIN(Trade.price), fn.MAX(Trade.price)).scalar(as_tuple=True) == (10, 30)
    assert Trade.select(Trade.side).order_by(Trade.price.desc()).scalar() is OrderSide.SELL
    assert list(Trade.select(Trade.price).order_by(Trade.price).scalars()) == [10, 20, 30]
    assert query.first() == three[0]
    again = Trade.select().order_by(Trade.price)
    assert (again.peek(), again.peek(n=2), list(again)) == (three[0], three[:2], three)
    assert Trade.select().order_by(Trade.price).first(n=2) == three[:2]
    assert (again[0], again[-1], again[1:3]) == (three[0], three[2], three[1:])
    assert Trade.select().where(Trade.price > 99).first() is None


def test_counting_and_existence(three: list[Trade]) -> None:
    assert (Trade.select().count(), len(Trade), len(Trade.select())) == (3, 3, 3)
    assert Trade.select(Trade.symbol).distinct().count() == 2
    assert Trade.select().limit(2).count() == 2
    assert Trade.select().limit(2).count(clear_limit=True) == 3
    assert Trade.select().where(Trade.symbol == "B").exists()
    assert not Trade.select().where(Trade.symbol == "C").exists()
    assert three[0].id in Trade
    assert uuid.uuid4() not in Trade


def test_pages_limits_and_iteration(three: list[Trade]) -> None:
    query = Trade.select().order_by(Trade.price)
    assert list(query.paginate(1, 2)) == three[:2]
    assert list(query.paginate(2, 2)) == three[2:]
    assert list(query.limit(1).offset(1)) == [three[1]]
    assert list(query.iterator()) == three
    assert list(query.dicts().iterator())[2]["symbol"] == "B"
    assert {row.id for row in Trade} == {row.id for row in three}


def test_a_case_expression(three: list[Trade]) -> None:
    won = Case(None, [(Trade.pnl > 0, "won")], "lost")
    query = Trade.select(won.alias("result")).order_by(Trade.price)
    assert [row.result for row in query] == ["won", "won", "lost"]
    name = Case(Trade.symbol, (("A", 1), ("B", 2)), 0)
    assert [row.n for row in Trade.select(name.alias("n")).order_by(Trade.price)] == [1, 1, 2]
    assert Trade.select(fn.SUM(Case(None, [(Trade.pnl > 0, 1)], 0))).scalar() == 2


def test_an_aggregate_with_a_filter(three: list[Trade]) -> None:
    won = fn.COUNT(Trade.id).filter(Trade.pnl > 0)
    assert Trade.select(won).scalar() == 2


def test_conversion_and_coercion_of_functions(three: list[Trade]) -> None:
    assert Trade.select(fn.MIN(Trade.timestamp)).scalar() == at(0)
    assert Trade.select(fn.MAX(Trade.timestamp).alias("last")).get().last == at(2)
    text = Trade.price.cast("text").alias("text")
    assert Trade.select(text).order_by(Trade.price).get().text in ("10", "10.0")
    upper = fn.LOWER(Trade.symbol).converter(lambda value: f"<{value}>")
    assert Trade.select(upper).where(Trade.symbol == "B").scalar() == "<b>"


# --- joins ------------------------------------------------------------------------------------


def test_a_left_outer_join_counts_the_trades_of_each_signal() -> None:
    first, second = signal(symbol="A"), signal(symbol="B")
    for _ in range(2):
        trade(signal=first)
    query = (
        Signal.select(Signal, fn.COUNT(Trade.id).alias("n"))
        .join(Trade, JOIN.LEFT_OUTER)
        .group_by(Signal.id)
        .order_by(Signal.symbol)
    )
    assert [(row, row.n) for row in query] == [(first, 2), (second, 0)]


def test_a_joined_row_is_an_attribute() -> None:
    created = trade(signal=signal(strategy="a"))
    row = Trade.select(Trade, Signal).join(Signal).get()
    with db.atomic():
        assert (row, row.signal.strategy, row.signal) == (created, "a", created.signal)
    assert not row.is_dirty()
    assert not row.signal.is_dirty()
    named = Trade.select(Trade, Signal).join(Signal, attr="reason").get()
    assert named.reason.strategy == "a"


def test_a_join_names_its_condition_and_its_attribute() -> None:
    first = signal(symbol="A", strategy="a")
    trade(symbol="A")
    query = Trade.select(Trade, Signal).join(Signal, on=(Trade.symbol == Signal.symbol))
    assert query.get().signal == first
    aliased = Trade.select(Trade, Signal).join(
        Signal, on=(Trade.symbol == Signal.symbol).alias("latest")
    )
    row = aliased.get()
    assert (row.latest, row.signal) == (first, None)
    assert row.save() == 0


def test_joins_from_a_signal_to_its_trades() -> None:
    first = signal()
    created = trade(signal=first, price=10)
    row = Signal.select(Signal, Trade).join(Trade).get()
    assert (row, row.trade) == (first, created)
    assert list(first.trades) == [created]
    assert first.trades.where(Trade.price > 10).count() == 0


def test_a_join_across_several_tables() -> None:
    first = signal(strategy="a")
    trade(signal=first, price=7)
    created = snapshot(signal=first)
    Comment.create(snapshot=created, text="x")
    query = (
        Comment.select(Comment, Snapshot, Signal, Trade)
        .join(Snapshot)
        .join(Signal)
        .join(Trade)
        .switch(Snapshot)
    )
    row = query.get()
    assert (row.text, row.snapshot.symbol, row.snapshot.signal.strategy) == ("x", "A", "a")
    assert row.snapshot.signal.trade.price == 7.0
    other = Comment.select(Comment, Snapshot).join_from(Comment, Snapshot).get()
    assert other.snapshot == created


def test_a_table_is_joined_with_itself(three: list[Trade]) -> None:
    later = Trade.alias()
    query = (
        Trade.select(Trade, later)
        .join(later, on=((later.symbol == Trade.symbol) & (later.timestamp > Trade.timestamp)))
        .objects()
    )
    assert len(list(query)) == 1
    named = Trade.select(Trade, later).join(
        later, on=(Trade.symbol == later.symbol).alias("next"), attr="next"
    )
    rows = named.where(later.price > Trade.price)
    assert [(row.price, row.next.price) for row in rows] == [(10.0, 20.0)]


def test_an_alias_is_selected_alone(three: list[Trade]) -> None:
    other = Trade.alias("other")
    query = other.select().where(other.symbol.startswith("B"), other.side == "sell")
    assert [row.price for row in query] == [30.0]
    row = signal(signal_metadata={"rsi": 5})
    same = Signal.alias()
    assert same.select(same.signal_metadata).where(same.id == row.id).get().signal_metadata == {
        "rsi": 5
    }


def test_a_query_is_a_column_a_source_and_a_condition(three: list[Trade]) -> None:
    other = Trade.alias()
    highest = other.select(fn.MAX(other.price)).where(other.symbol == Trade.symbol)
    query = Trade.select(Trade.symbol, Trade.price).where(Trade.price == highest)
    assert {row.symbol: row.price for row in query} == {"A": 20.0, "B": 30.0}
    count = other.select(fn.COUNT(other.id)).where(other.symbol == Trade.symbol)
    rows = Trade.select(Trade.symbol, count.alias("n")).order_by(Trade.price)
    assert [row.n for row in rows] == [2, 2, 1]
    totals = (
        Trade.select(Trade.symbol, fn.SUM(Trade.pnl).alias("total"))
        .group_by(Trade.symbol)
        .alias("totals")
    )
    joined = (
        Trade.select(Trade.price, totals.c.total)
        .join(totals, on=(Trade.symbol == totals.c.symbol))
        .order_by(Trade.price)
    )
    assert [row["total"] for row in joined.dicts()] == [3.0, 3.0, -5.0]
    assert [row.total for row in joined.objects()] == [3.0, 3.0, -5.0]
    symbols = Trade.select(Trade.symbol).where(Trade.pnl < 0)
    assert Trade.select().where(Trade.symbol.in_(symbols)).count() == 1
    exists = fn.EXISTS(other.select().where(other.symbol == Trade.symbol, other.pnl < 0))
    assert [row.symbol for row in Trade.select().where(exists)] == ["B"]


def test_a_query_selects_from_another(three: list[Trade]) -> None:
    inner = Trade.select(Trade.symbol, Trade.price).where(Trade.price > 10)
    assert inner.select_from(fn.SUM(inner.c.price)).scalar() == 50.0
    source = inner.alias("source")
    outer = Trade.select(source.c.symbol, source.c.price).from_(source).order_by(source.c.price)
    assert list(outer.tuples()) == [("A", 20.0), ("B", 30.0)]


def test_a_foreign_key_to_the_same_table() -> None:
    root = Category.create(name="root")
    child = Category.create(name="child", parent=root)
    assert list(root.children) == [child]
    parent = Category.alias()
    query = Category.select(Category, parent).join(parent, on=(Category.parent == parent.id))
    assert [(row.name, row.parent.name) for row in query] == [("child", "root")]


def test_many_to_many() -> None:
    first, second = snapshot(symbol="A"), snapshot(symbol="B")
    tag = Tag.create(name="x")
    tag.snapshots.add([first, second])
    assert [row.symbol for row in tag.snapshots.order_by(Snapshot.symbol)] == ["A", "B"]
    assert list(first.tags) == [tag]
    tag.snapshots.remove(first)
    assert list(first.tags) == []
    tag.snapshots = [first]
    assert list(tag.snapshots) == [first]
    tag.snapshots.clear()
    assert list(tag.snapshots) == []


# --- prefetch ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [peewee.PREFETCH_TYPE.WHERE, peewee.PREFETCH_TYPE.JOIN])
def test_prefetch_of_the_trades_of_each_signal(kind: Any) -> None:
    first, second = signal(symbol="A"), signal(symbol="B")
    trades = [trade(timestamp=at(hour), signal=first) for hour in range(2)]
    rows = prefetch(
        Signal.select().order_by(Signal.symbol),
        Trade.select().order_by(Trade.timestamp),
        prefetch_type=kind,
    )
    assert [(row, row.trades) for row in rows] == [(first, trades), (second, [])]
    assert rows[0].trades[0].signal is rows[0]
    assert not any(row.is_dirty() for row in [*rows, *rows[0].trades])


def test_prefetch_of_the_signal_of_each_trade() -> None:
    first = signal(strategy="a")
    trade(timestamp=at(0), signal=first)
    trade(timestamp=at(1))
    rows = Trade.select().order_by(Trade.timestamp).prefetch(Signal)
    assert [row.signal and row.signal.strategy for row in rows] == ["a", None]
    assert [row.save() for row in rows] == [0, 0]


def test_prefetch_over_three_tables() -> None:
    first = signal()
    created = snapshot(signal=first)
    comment = Comment.create(snapshot=created, text="x")
    rows = prefetch(Signal.select(), Snapshot.select(), Comment.select())
    assert rows[0].snapshots[0].comments == [comment]


def test_related_rows_are_loaded_with_the_query() -> None:
    first = signal(symbol="A")
    created = trade(signal=first)
    rows = list(Signal.select().with_related(Signal.trades))
    assert rows[0].trades == [created]
    assert Trade.select().with_related(Trade.signal)[0].signal == first


# --- common tables, windows and compound queries ----------------------------------------------


def test_a_common_table(three: list[Trade]) -> None:
    totals = (
        Trade.select(Trade.symbol, fn.SUM(Trade.pnl).alias("total"))
        .group_by(Trade.symbol)
        .cte("totals")
    )
    query = (
        Trade.select(Trade.price, totals.c.total)
        .join(totals, on=(Trade.symbol == totals.c.symbol))
        .with_cte(totals)
        .order_by(Trade.price)
    )
    assert [row.totals["total"] for row in query] == [3.0, 3.0, -5.0]
    assert [row.total for row in query.objects()] == [3.0, 3.0, -5.0]
    rows = totals.select_from(totals.c.symbol, totals.c.total).order_by(totals.c.symbol)
    assert list(rows.tuples()) == [("A", 3.0), ("B", -5.0)]


def test_a_recursive_common_table() -> None:
    root = Category.create(name="a")
    child = Category.create(name="b", parent=root)
    Category.create(name="c", parent=child)
    base = (
        Category.select(Category.id, Category.name, Value(0).alias("level"))
        .where(Category.parent.is_null())
        .cte("tree", recursive=True, columns=("id", "name", "level"))
    )
    below = Category.alias()
    term = below.select(below.id, below.name, base.c.level + 1).join(
        base, on=(below.parent == base.c.id)
    )
    tree = base.union_all(term)
    query = tree.select_from(tree.c.name, tree.c.level).order_by(tree.c.level)
    assert list(query.tuples()) == [("a", 0), ("b", 1), ("c", 2)]


def test_window_functions(three: list[Trade]) -> None:
    rank = fn.RANK().over(partition_by=[Trade.symbol], order_by=[Trade.price.desc()])
    query = Trade.select(Trade.price, rank.alias("rank")).order_by(Trade.price)
    assert [(row.price, row.rank) for row in query] == [(10.0, 2), (20.0, 1), (30.0, 1)]
    so_far = fn.SUM(Trade.pnl).over(order_by=[Trade.timestamp])
    assert [row.so_far for row in Trade.select(so_far.alias("so_far")).order_by(SQL("1"))] == [
        *(-2.0, 1.0, 3.0)
    ]
    window = peewee.Window(
        order_by=[Trade.timestamp],
        start=peewee.Window.preceding(1),
        end=peewee.Window.CURRENT_ROW,
    )
    mean = fn.AVG(Trade.price).over(window)
    rows = Trade.select(Trade.timestamp, mean.alias("mean")).window(window)
    assert [row.mean for row in rows.order_by(Trade.timestamp)] == [10.0, 15.0, 25.0]
    before = fn.LAG(Trade.price, 1).over(order_by=[Trade.timestamp])
    lagged = Trade.select(before.alias("before")).order_by(Trade.timestamp)
    assert [row.before for row in lagged] == [None, 10.0, 20.0]


def test_compound_queries(three: list[Trade]) -> None:
    cheap = Trade.select(Trade.symbol).where(Trade.price < 25)
    dear = Trade.select(Trade.symbol).where(Trade.price > 15)
    assert sorted(row.symbol for row in cheap | dear) == ["A", "B"]
    assert sorted(row.symbol for row in cheap.union(dear)) == ["A", "B"]
    assert sorted(row.symbol for row in cheap + dear) == ["A", "A", "A", "B"]
    assert [row.symbol for row in cheap & dear] == ["A"]
    assert [row.symbol for row in dear - cheap] == ["B"]
    signal(symbol="C")
    both = (cheap | Signal.select(Signal.symbol)).order_by(SQL("symbol"))
    assert [row.symbol for row in both] == ["A", "C"]
    assert both.count() == 2


# --- another database -------------------------------------------------------------------------


@pytest.fixture
def plain(known_references: None) -> Iterator[peewee.SqliteDatabase]:
    """A database of Peewee's own, in memory."""
    database = peewee.SqliteDatabase(":memory:")
    yield database
    database.close()


def test_models_are_bound_to_another_database_for_a_block(plain: peewee.SqliteDatabase) -> None:
    with Trade.bind_ctx(plain):
        plain.create_tables([Signal, Trade])
        first = Signal.create(symbol="A", signal_value=1)
        created = Trade.create(**trade_values(signal=first, pnl=1))
        created.pnl = 2
        assert created.save() == 1
        assert (Trade.select().count(), Trade.get().pnl, Trade.get().signal) == (1, 2.0, first)
        with pytest.raises(ValidationError, match="price: -1"):
            Trade.create(**trade_values(price=-1))
        with pytest.raises(peewee.IntegrityError):
            Trade.create(**trade_values(id=created.id))
        assert created.delete_instance() == 1
    assert (Trade.select().count(), Signal.select().count()) == (0, 0)
    trade()
    assert (Trade.select().count(), Trade._meta.database) == (1, db)
    with plain.bind_ctx([Trade]):
        assert Trade.select().count() == 0


def test_the_functions_record_into_the_bound_database_and_read_from_no_other(
    plain: peewee.SqliteDatabase,
) -> None:
    with plain.bind_ctx([Signal, Trade]):
        plain.create_tables([Signal, Trade])
        created = trade(signal=signal(signal_metadata={"a": 1}))
        trades.update(created, pnl=5)
        for read in (trades.get_all, trades.get_trade_count, lambda: list(trades.iterate())):
            with pytest.raises(ConfigError, match="Trade: it is bound to another database"):
                read()
        [stored] = Trade.select()
        assert (stored.pnl, stored.signal.signal_metadata) == (5.0, {"a": 1})
        trades.delete(created)
        assert Trade.select().count() == 0
    assert trades.get_trade_count() == 0
    assert signals.get_signal_count() == 0


def test_metadata_goes_into_the_bound_database(plain: peewee.SqliteDatabase) -> None:
    with plain.bind_ctx([Signal, Trade]):
        plain.create_tables([Signal, Trade])
        created = Signal.create(symbol="A", signal_value=1, signal_metadata={"rsi": 1})
        created.signal_metadata["rsi"] = 2
        assert created.save() == 1
        assert Signal.get().signal_metadata == {"rsi": 2}
    assert signal(signal_metadata={"rsi": 3}).signal_metadata == {"rsi": 3}
    assert Signal.get().signal_metadata == {"rsi": 3}


def test_models_are_bound_to_another_database(plain: peewee.SqliteDatabase) -> None:
    try:
        plain.bind([Signal, Trade, Snapshot])
        plain.create_tables([Signal, Trade, Snapshot])
        snapshot(signal=Signal.create(symbol="A", signal_value=0))
        Trade.bulk_create([Trade(**trade_values()) for _ in range(3)])
        assert Trade.update(pnl=1).execute() == 3
        with plain.atomic() as transaction:
            Trade.delete().execute()
            transaction.rollback()
        assert (len(Trade), len(Signal), len(Snapshot)) == (3, 1, 1)
    finally:
        for model in (Signal, Trade, Snapshot):
            model.bind(db)
    assert (len(Trade), len(Signal), len(Snapshot)) == (0, 0, 0)


def test_models_are_bound_to_the_open_database_again(plain: peewee.SqliteDatabase) -> None:
    Trade.bind(plain)
    try:
        db.bind([Trade, Signal])
        assert Trade._meta.database is db
        with db.bind_ctx([Trade]):
            assert Trade._meta.database is db
    finally:
        Trade.bind(db)


def test_a_bound_database_works_while_no_other_is_open(
    plain: peewee.SqliteDatabase, empty_database: peewee.Database
) -> None:
    db.initialize(None)
    try:
        with plain.bind_ctx([Signal, Trade]):
            plain.create_tables([Signal, Trade])
            Trade.create(**trade_values(trade_metadata={"order": 1}))
            assert Trade.get().trade_metadata == {"order": 1}
    finally:
        db.initialize(empty_database)


# --- playhouse.shortcuts and playhouse.reflection ---------------------------------------------


def test_a_row_becomes_a_dict() -> None:
    first = signal(timestamp=START, signal_metadata={"rsi": 1}, strategy="a")
    created = trade(timestamp=at(1), signal=first)
    row = Trade.get_by_id(created.id)
    plain_signal = {
        "id": first.id,
        "timestamp": START,
        "symbol": "BTC/USDT",
        "signal_value": 1,
        "signal_metadata": {"rsi": 1},
        "strategy": "a",
    }
    as_dict = model_to_dict(row)
    assert list(as_dict) == Trade._meta.sorted_field_names
    assert (as_dict["id"], as_dict["signal"]) == (created.id, plain_signal)
    assert model_to_dict(row, recurse=False)["signal"] == first.id
    assert model_to_dict(row, only=[Trade.symbol]) == {"symbol": "BTC/USDT"}
    assert "price" not in model_to_dict(row, exclude=[Trade.price])
    assert model_to_dict(row, only=[Trade.symbol], extra_attrs=["signal_id"])["signal_id"] == (
        first.id
    )


def test_a_row_becomes_a_dict_with_those_that_refer_to_it(known_references: None) -> None:
    first = signal()
    created = trade(signal=first)
    as_dict = model_to_dict(first, backrefs=True)
    assert [row["id"] for row in as_dict["trades"]] == [created.id]
    assert as_dict["snapshots"] == []


def test_a_dict_of_the_columns_of_a_query(three: list[Trade]) -> None:
    query = Trade.select(Trade.symbol, fn.SUM(Trade.pnl).alias("total")).group_by(Trade.symbol)
    found = [model_to_dict(row, fields_from_query=query) for row in query]
    assert sorted(found, key=str) == [
        {"symbol": "A", "total": 3.0},
        {"symbol": "B", "total": -5.0},
    ]


def test_a_dict_becomes_a_row(known_references: None) -> None:
    first = signal(strategy="a")
    created = trade(signal=first, pnl=4)
    made = dict_to_model(Trade, model_to_dict(created))
    assert (made, made.pnl, made.signal, made.signal.strategy) == (created, 4.0, first, "a")
    back = dict_to_model(Signal, model_to_dict(first, backrefs=True))
    assert [row.id for row in back.trades] == [created.id]
    fresh = dict_to_model(Trade, trade_values(price=3))
    assert fresh.save(force_insert=True) == 1
    assert Trade.get_by_id(fresh.id).price == 3.0


def test_a_dict_with_unknown_names() -> None:
    with pytest.raises(AttributeError, match="pln"):
        dict_to_model(Trade, trade_values(pln=5))
    made = dict_to_model(Trade, trade_values(pln=5), ignore_unknown=True)
    assert made.pln == 5


def test_a_row_is_updated_from_a_dict() -> None:
    first = signal(strategy="a")
    created = trade(signal=first)
    row = Trade.get_by_id(created.id)
    assert update_model_from_dict(row, {"pnl": 5}) is row
    assert (row.pnl, row.save()) == (5, 1)
    update_model_from_dict(row.signal, {"strategy": "b"}).save()
    stored = Trade.get_by_id(created.id)
    assert (stored.pnl, stored.price, stored.signal.strategy) == (5.0, 100.0, "b")
    # Peewee makes a new signal of it, which is not stored, and would set the reference to NULL
    update_model_from_dict(stored := Trade.get_by_id(created.id), {"signal": {"strategy": "c"}})
    with pytest.raises(ValidationError, match="signal: .* is not stored yet"):
        stored.save()


def test_models_are_generated_from_the_tables(three: list[Trade]) -> None:
    models = generate_models(db)
    assert {"signal", "trade", "snapshot"} <= models.keys()
    query = models["trade"].select().order_by(models["trade"].price)
    assert [(row.symbol, row.price) for row in query] == [("A", 10.0), ("A", 20.0), ("B", 30.0)]
    first = signal()
    trade(price=99, signal=first)
    assert query.order_by(models["trade"].price.desc()).get().signal.id == first.id


def test_pwiz_writes_models_of_a_file(path: Path, empty_database: peewee.Database) -> None:
    db.initialize(None)
    try:
        init_db(path)
        trade(price=5)
        close_db()
    finally:
        db.initialize(empty_database)
    done = subprocess.run(
        [sys.executable, "-m", "pwiz", "-e", "sqlite", str(path)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    written: dict[str, Any] = {"__name__": "written"}
    exec(done.stdout, written)
    assert [row.price for row in written["Trade"].select()] == [5.0]
    assert "signal" in written["Trade"]._meta.fields
    written["database"].close()
    models = generate_models(database := peewee.SqliteDatabase(path))
    assert models["trade"].select().count() == 1
    database.close()


# --- models of one's own ----------------------------------------------------------------------


def test_a_model_has_its_own_init_and_save() -> None:
    created = Measured.create(symbol="A", low=1, high=3)
    assert (created.origin, created.cache, created.saves, created.changed) == (
        *("measured", {}, 1),
        START,
    )
    row = Measured.get_by_id(created.id)
    assert (row.origin, row.saves, row.is_dirty()) == ("measured", 1, False)
    row.low = 2
    assert row.save() == 1
    assert (Measured.get().saves, Measured.get().low) == (2, 2.0)
    assert [each.cache for each in Measured.select().objects()] == [{}]
    assert [each.origin for each in Measured.raw("SELECT * FROM measured")] == ["measured"]


def test_a_model_has_properties_of_its_own() -> None:
    row = Measured.create(symbol="A", low=1, high=3)
    assert (row.middle, row.ratio) == (2.0, 3.0)
    assert row.ratio == 3.0
    row.middle = 5
    assert (row.low, row.high, row.save()) == (4.0, 6.0, 1)
    assert Measured.get().middle == 5.0
    assert Measured(symbol="B", low=1, high=3, middle=10).low == 9.0
    with pytest.raises(ValidationError, match="centre: a Measured has no such field"):
        row.centre = 5


def test_a_hybrid_property_is_a_value_and_a_condition() -> None:
    for high in (2, 4):
        Measured.create(symbol="A", low=1, high=high)
    assert Measured.get(Measured.width > 2).width == 3.0
    assert Measured.select().where(Measured.contains(3)).count() == 1
    assert Measured.get().contains(1.5)
    widths = Measured.select(Measured.width.alias("w")).order_by(Measured.width)
    assert [row.w for row in widths] == [1.0, 3.0]
    other = Measured.alias()
    assert other.select().where(other.width == 3).count() == 1


def test_the_methods_of_a_model_set_any_attribute() -> None:
    row = Measured.create(symbol="A", low=1, high=3)
    row.remember("x", 1.5)
    assert (row.cache, row.last_name, row.x_value) == ({"x": 1.5}, "x", 1.5)
    assert Measured.flat("B", 1).is_flat
    row.source = "declared"
    assert row.source == "declared"
    row.last_name = "changed"
    row._anything = 1
    assert row.save() == 1


def test_a_model_inherits_the_fields_of_another() -> None:
    assert set(Article._meta.fields) == {"id", "details", "title", "body"}
    created = Article.create(title="x", details={"a": [1]})
    created.details["a"].append(2)
    assert created.save() == 1
    assert (Article.get().details, Article.get().title) == ({"a": [1, 2]}, "x")


def test_subclasses_of_the_models_have_all_their_fields() -> None:
    class PaperSignal(Signal):
        pass

    assert PaperSignal._meta.sorted_field_names == Signal._meta.sorted_field_names
    db.create_tables([PaperSignal])
    try:
        PaperSignal.create(symbol="A", signal_value=1, signal_metadata={"rsi": 1})
        assert PaperSignal.get().signal_metadata == {"rsi": 1}
    finally:
        db.drop_tables([PaperSignal])


def test_a_composite_key() -> None:
    created = Position.create(symbol="A", strategy="x", size=1)
    created.size = 2
    assert created.save() == 1
    row = Position.get((Position.symbol == "A") & (Position.strategy == "x"))
    assert (row.size, row._pk) == (2.0, ("A", "x"))
    with pytest.raises(DuplicateError):
        Position.create(symbol="A", strategy="x", size=3)
    assert row.delete_instance() == 1
    assert len(Position) == 0


def test_a_table_without_a_key() -> None:
    LogLine.create(text="a")
    LogLine(text="b").save()
    assert sorted(row.text for row in LogLine.select()) == ["a", "b"]
    assert LogLine.delete().where(LogLine.text == "a").execute() == 1


# --- playhouse.signals ------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    """What the handlers of the signals heard; one of them changes a field before it is saved."""
    events: list[Any] = []

    def before_save(_: Any, row: Any, created: bool) -> None:
        events.append(("pre_save", created))
        row.size = len(row.text)

    def after_save(_: Any, row: Any, created: bool) -> None:
        events.append(("post_save", created, row.id is not None))

    def before_delete(_: Any, row: Any) -> None:
        events.append(("pre_delete", row.text))

    def after_delete(_: Any, row: Any) -> None:
        events.append(("post_delete", row.text))

    handlers = {
        "pre_save": before_save,
        "post_save": after_save,
        "pre_delete": before_delete,
        "post_delete": after_delete,
    }
    for name, handler in handlers.items():
        getattr(playhouse.signals, name).connect(handler)
    yield events
    for name, handler in handlers.items():
        getattr(playhouse.signals, name).disconnect(handler)


@pytest.mark.parametrize("model", ANNOUNCED)
def test_handlers_hear_of_what_is_saved_and_deleted(model: Any, heard: list[Any]) -> None:
    assert model._meta.database is db
    created = model.create(text="abc")
    assert heard == [("pre_save", True), ("post_save", True, True)]
    assert (created.size, model.get().size) == (3.0, 3.0)
    heard.clear()
    row = model.get()
    row.text = "abcdef"
    assert row.save() == 1
    assert heard == [("pre_save", False), ("post_save", False, True)]
    assert (row.size, type(row.size), model.get().size) == (6.0, float, 6.0)
    heard.clear()
    assert row.delete_instance() == 1
    assert heard == [("pre_delete", "abcdef"), ("post_delete", "abcdef")]
    assert len(model) == 0


@pytest.mark.parametrize("model", ANNOUNCED)
def test_a_handler_changes_a_row_that_nobody_else_changed(model: Any, heard: list[Any]) -> None:
    created = model.create(text="abc")
    model.update(size=0).execute()
    row = model.get()
    assert row.save() == 1
    assert model.get().size == 3.0
    model.delete().execute()
    created.text = "x"
    with pytest.raises(NotFoundError):
        created.save()
    loaded = model.create(text="abc")
    loaded = model.get()
    model.delete().execute()
    with pytest.raises(NotFoundError):
        loaded.save()


@pytest.mark.parametrize("model", ANNOUNCED)
def test_the_values_of_announced_rows_are_validated(model: Any, heard: list[Any]) -> None:
    with pytest.raises(ValidationError, match="text: None is not allowed"):
        model.insert(text=None).execute()
    with pytest.raises(ValidationError, match="txt: a Announced"):
        model(text="x").txt = 5


# --- writing ----------------------------------------------------------------------------------


def test_save_and_create() -> None:
    row = Snapshot(symbol="A")
    assert (row.id, row.is_dirty()) == (None, True)
    row.equity = 5
    assert (row.save(), row.is_dirty(), row.dirty_fields) == (1, False, [])
    assert Snapshot.get_by_id(row.id).equity == 5.0
    row.note = "x"
    assert row.dirty_fields == [Snapshot.note]
    assert row.dirty_field_names == ["note"]
    assert row.save() == 1
    created = Snapshot.create(symbol="B", note="y")
    assert (created.id, created.equity, created.note) == (row.id + 1, 0.0, "y")


def test_save_of_some_fields_alone_keeps_the_others_for_later() -> None:
    row = trade(price=10, pnl=1)
    row.price, row.pnl = 20, 2
    assert row.save(only=[Trade.price]) == 1
    stored = Trade.get_by_id(row.id)
    assert (stored.price, stored.pnl) == (20.0, 1.0)
    assert row.dirty_fields == [Trade.pnl]
    assert row.save() == 1
    assert Trade.get_by_id(row.id).pnl == 2.0


def test_save_of_the_changed_fields() -> None:
    row = trade(price=10)
    row.pnl = 3
    assert row.save(only=row.dirty_fields) == 1
    assert row.save(only=["price"]) == 1
    assert Trade.get_by_id(row.id).pnl == 3.0


def test_save_of_an_expression() -> None:
    row = trade(price=10)
    stale = Trade.get_by_id(row.id)
    row.price = 30
    row.save()
    stale.price = Trade.price + 5
    assert stale.save() == 1
    assert Trade.get_by_id(row.id).price == 35.0


def test_a_signal_that_is_saved_after_it_was_assigned() -> None:
    first = Signal(symbol="A", signal_value=1)
    created = Trade(**trade_values(signal=first))
    first.save()
    created.save(force_insert=True)
    assert Trade.get().signal == first


def test_a_signal_that_was_never_saved_is_refused() -> None:
    created = Trade(**trade_values(signal=Signal(symbol="A", signal_value=1)))
    with pytest.raises(ValidationError, match="signal: .* is not stored yet"):
        created.save()
    assert len(Trade) == 0


def test_a_foreign_key_is_assigned_by_row_and_by_id() -> None:
    first, second = signal(), signal()
    created = trade(signal=first)
    created.signal = second
    assert (created.save(), Trade.get().signal) == (1, second)
    created.signal_id = first.id
    assert (created.save(), Trade.get().signal, created.signal) == (1, first, first)
    created.signal = None
    assert (created.save(), Trade.get().signal) == (1, None)
    assert Trade.create(**trade_values(signal_id=first.id)).signal == first


def test_rows_are_equal_by_their_keys() -> None:
    created = trade()
    same = Trade.get_by_id(created.id)
    assert created == same
    assert len({created, same}) == 1
    assert created != trade()


def test_delete_instance() -> None:
    first = signal()
    created = trade(signal=first)
    assert (first.delete_instance(), first.delete_instance()) == (1, 0)
    assert Trade.get().signal is None
    assert created.delete_instance() == 1
    assert len(Trade) == 0


def test_delete_instance_with_what_refers_to_it() -> None:
    created = snapshot()
    comment = Comment.create(snapshot=created, text="x")
    Reply.create(comment=comment, text="y")
    with pytest.raises(ValidationError, match="by 1 row of comment;"):
        created.delete_instance()
    with pytest.raises(peewee.IntegrityError):
        created.delete_instance()
    with db.atomic():
        with pytest.raises(BotMemoryError):
            created.delete_instance()
        snapshot(symbol="B")
    assert created.delete_instance(recursive=True) == 1
    assert (len(Comment), [row.comment for row in Reply]) == (0, [None])
    other = snapshot()
    Reply.create(comment=Comment.create(snapshot=other, text="x"), text="z")
    assert other.delete_instance(recursive=True, delete_nullable=True) == 1
    assert [row.text for row in Reply] == ["y"]


def test_delete_instance_of_a_signal_with_its_trades(known_references: None) -> None:
    first = signal()
    trade(signal=first)
    assert first.delete_instance(recursive=True) == 1
    assert Trade.get().signal is None
    second = signal()
    trade(signal=second)
    assert second.delete_instance(recursive=True, delete_nullable=True) == 1
    assert len(Trade) == 1


def test_insert() -> None:
    number = Snapshot.insert(symbol="A", equity=1).execute()
    assert Snapshot.get_by_id(number).equity == 1.0
    assert Snapshot.insert({Snapshot.symbol: "B", "note": "x"}).execute() == number + 1
    made = uuid.uuid4()
    Trade.insert(trade_values(id=made, trade_metadata={"a": 1})).execute()
    assert Trade.get_by_id(made).trade_metadata == {"a": 1}
    Trade.insert(trade_values(symbol="B")).execute()
    assert isinstance(Trade.get(Trade.symbol == "B").id, uuid.UUID)


def test_insert_many_with_dicts() -> None:
    rows = [trade_values(price=price) for price in (1, 2)]
    assert Trade.insert_many(rows).as_rowcount().execute() == 2
    Trade.insert_many(
        {Trade.symbol: "B", **row} for row in [{k: v for k, v in rows[0].items() if k != "symbol"}]
    ).execute()
    assert sorted(row.price for row in Trade) == [1, 1, 2]
    assert Trade.select().where(Trade.symbol == "B").count() == 1


def test_insert_many_with_tuples() -> None:
    fields = [Trade.symbol, Trade.side, Trade.price, Trade.quantity]
    Trade.insert_many([("A", "buy", 1, 1), ("B", "SELL", 2, 1)], fields=fields).execute()
    Trade.insert_many((row for row in [["C", "buy", 3, 1]]), fields=fields).execute()
    names = ["symbol", "side", "price", "quantity"]
    Trade.insert_many((("D", "buy", 4, 1),), names).execute()
    query = Trade.select().order_by(Trade.price)
    assert [row.symbol for row in query] == ["A", "B", "C", "D"]
    assert query[1].side is OrderSide.SELL
    Snapshot.insert_many([("A", 1, None, None)]).execute()
    assert Snapshot.get().equity == 1.0


def test_insert_many_takes_none_for_what_a_later_row_leaves_out() -> None:
    Trade.insert_many([trade_values(pnl=1), trade_values()]).execute()
    assert {row.pnl for row in Trade} == {None, 1.0}


def test_insert_many_refuses_a_later_row_without_a_value() -> None:
    later = trade_values()
    del later["quantity"]
    with pytest.raises(BotMemoryError, match="quantity"):
        Trade.insert_many([trade_values(), later]).execute()
    assert len(Trade) == 0


def test_insert_many_in_batches() -> None:
    rows = [trade_values(price=price) for price in range(1, 26)]
    with db.atomic():
        for batch in peewee.chunked(rows, 10):
            Trade.insert_many(batch).execute()
    assert Trade.select(fn.SUM(Trade.price)).scalar() == 325.0


def test_insert_from_a_query(three: list[Trade]) -> None:
    query = Trade.select(Trade.symbol, fn.SUM(Trade.pnl)).group_by(Trade.symbol)
    Snapshot.insert_from(query, [Snapshot.symbol, Snapshot.equity]).execute()
    assert {row.symbol: row.equity for row in Snapshot} == {"A": 3.0, "B": -5.0}


def test_bulk_create() -> None:
    first = signal()
    rows = [Trade(**trade_values(price=price, signal=first)) for price in range(1, 6)]
    Trade.bulk_create(rows, batch_size=2)
    assert {row.id for row in Trade} == {row.id for row in rows}
    Snapshot.bulk_create([Snapshot(symbol="A"), Snapshot(symbol="B", signal=first)])
    assert [row.signal for row in Snapshot.select().order_by(Snapshot.symbol)] == [None, first]


def test_rows_of_bulk_create_are_changed_and_saved() -> None:
    row = Trade(**trade_values())
    Trade.bulk_create([row])
    row.pnl = 5
    assert row.save() == 1
    assert [each.pnl for each in Trade] == [5.0]
    made = Snapshot(symbol="A")
    Snapshot.bulk_create([made])
    if made.id is not None:  # a server returns the ids
        made.note = "x"
        assert made.save() == 1
        assert [each.note for each in Snapshot] == ["x"]


def test_bulk_update() -> None:
    rows = [trade(price=price) for price in (1, 2, 3)]
    for row in rows:
        row.price += 10
        row.pnl = row.price
        row.trade_metadata = {"price": row.price}
    fields = [Trade.price, "pnl", Trade.trade_metadata]
    assert Trade.bulk_update(rows, fields=fields, batch_size=2) == 3
    query = Trade.select().order_by(Trade.price)
    assert [(row.price, row.pnl, row.trade_metadata) for row in query] == [
        (11.0, 11.0, {"price": 11.0}),
        (12.0, 12.0, {"price": 12.0}),
        (13.0, 13.0, {"price": 13.0}),
    ]
    rows[0].price = Trade.price * 2
    assert Trade.bulk_update(rows[:1], [Trade.price]) == 1
    assert Trade.get_by_id(rows[0].id).price == 22.0


def test_bulk_update_of_foreign_keys() -> None:
    first = signal()
    row = trade()
    row.signal = first
    assert Trade.bulk_update([row], [Trade.signal]) == 1
    assert Trade.get().signal == first


def test_replace_where_the_database_has_it(empty_database: peewee.Database) -> None:
    created = trade(price=1)
    values = trade_values(id=created.id, price=2)
    if not isinstance(empty_database, peewee.SqliteDatabase):
        with pytest.raises(ValueError, match="conflict resolution"):
            Trade.replace(values).execute()
        return
    Trade.replace(values).execute()
    Trade.replace_many([values | {"price": 3}]).execute()
    Trade.insert(values | {"price": 4}).on_conflict_replace().execute()
    assert [row.price for row in Trade] == [4.0]
    with pytest.raises(ValidationError, match="price: -1"):
        Trade.replace(values | {"price": -1}).execute()


def test_on_conflict() -> None:
    created = trade(price=1, quantity=1)
    values = trade_values(id=created.id, price=5, quantity=7)
    Trade.insert(values).on_conflict_ignore().execute()
    assert Trade.get().price == 1.0
    Trade.insert(values).on_conflict("ignore").execute()
    Trade.insert(values).on_conflict(
        conflict_target=[Trade.id], preserve=[Trade.price], update={Trade.quantity: 2}
    ).execute()
    assert (Trade.get().price, Trade.get().quantity) == (5.0, 2.0)
    Trade.insert(values).on_conflict(
        conflict_target=(Trade.id,),
        update={Trade.price: Trade.price + peewee.EXCLUDED.price},
        where=(Trade.price < 6),
    ).execute()
    assert Trade.get().price == 10.0
    Category.create(name="a")
    Category.insert(name="a").on_conflict(
        conflict_target=[Category.name], update={"name": "b"}
    ).execute()
    assert [row.name for row in Category] == ["b"]


def test_on_conflict_with_a_partial_index() -> None:
    keys = {"exchange": "okx", "exchange_trade_id": "1"}
    trade(**keys, pnl=1)
    Trade.insert(trade_values(**keys, pnl=2)).on_conflict(
        conflict_target=[Trade.exchange, Trade.symbol, Trade.exchange_trade_id],
        conflict_where=Trade.exchange_trade_id.is_null(False),
        preserve=[Trade.pnl],
    ).execute()
    assert [row.pnl for row in Trade] == [2.0]


def test_get_or_create() -> None:
    row, created = Category.get_or_create(name="a")
    assert (row.name, created) == ("a", True)
    assert Category.get_or_create(name="a") == (row, False)
    made, created = Trade.get_or_create(symbol="A", defaults=trade_values(symbol="A", pnl=1))
    assert (made.pnl, created) == (1, True)
    assert Trade.get_or_create(symbol="A") == (made, False)
    with pytest.raises(ValidationError, match="price: 0 is not greater"):
        Trade.get_or_create(symbol="B", defaults=trade_values(symbol="B", price=0))
    with pytest.raises(BotMemoryError):
        Trade.get_or_create(symbol="B", side="buy")
    assert len(Trade) == 1


def test_update_with_expressions(three: list[Trade]) -> None:
    assert Trade.update(price=Trade.price * 2).where(Trade.symbol == "A").execute() == 2
    assert [row.price for row in Trade.select().order_by(Trade.timestamp)] == [20, 40, 30]
    assert Trade.update({Trade.pnl: None, "fee": 1}).execute() == 3
    assert {(row.pnl, row.fee) for row in Trade} == {(None, 1.0)}
    other = Trade.alias()
    highest = other.select(fn.MAX(other.price)).where(other.symbol == Trade.symbol)
    Trade.update(pnl=highest).execute()
    assert [row.pnl for row in Trade.select().order_by(Trade.timestamp)] == [40, 40, 30]
    assert Trade.update(side=Case(None, [(Trade.price > 25, "sell")], "buy")).execute() == 3
    assert Trade.select().where(Trade.side == "sell").count() == 2


def test_update_from_another_table() -> None:
    first = signal(strategy="a")
    trade(signal=first)
    Trade.update(strategy=Signal.strategy).from_(Signal).where(Trade.signal == Signal.id).execute()
    assert Trade.get().strategy == "a"


def test_updates_and_deletes_by_id() -> None:
    created = trade()
    Trade.set_by_id(created.id, {"pnl": 3})
    assert Trade[created.id].pnl == 3.0
    Trade[created.id] = {"pnl": 4}
    assert Trade[created.id].pnl == 4.0
    del Trade[created.id]
    assert len(Trade) == 0
    second = trade()
    assert Trade.delete_by_id(second.id) == 1


def test_delete_with_conditions(three: list[Trade]) -> None:
    assert Trade.delete().where(Trade.symbol == "A", Trade.price > 15).execute() == 1
    losers = Trade.select(Trade.id).where(Trade.pnl < 0)
    assert Trade.delete().where(Trade.id.in_(losers)).execute() == 1
    assert list(Trade.select()) == [three[0]]


def test_returning(three: list[Trade]) -> None:
    made = Trade.insert(trade_values(price=7)).returning(Trade).execute()
    assert [(type(row), row.price, row.side) for row in made] == [(Trade, 7.0, OrderSide.BUY)]
    changed = Trade.update(price=Trade.price + 1).where(Trade.symbol == "B")
    assert [row.price for row in changed.returning(Trade.price).execute()] == [31.0]
    rows = [trade_values(price=price, symbol="C") for price in (1, 2)]
    many = Trade.insert_many(rows).returning(Trade.price, Trade.symbol).tuples().execute()
    assert sorted(many) == [(1.0, "C"), (2.0, "C")]
    gone = Trade.delete().where(Trade.symbol == "A").returning(Trade.id).dicts().execute()
    assert sorted(row["id"] for row in gone) == sorted(row.id for row in three[:2])
    with db.atomic():
        assert Trade.delete().returning(Trade.symbol).execute()[0].symbol in ("B", "C", "BTC/USDT")
    assert len(Trade) == 0


# --- values that are changed in place ---------------------------------------------------------


def test_metadata_changed_in_place_is_saved() -> None:
    created = Signal.create(symbol="A", signal_value=1, signal_metadata={"rsi": 1, "bands": [1]})
    created.signal_metadata["rsi"] = 99
    assert created.is_dirty()
    assert created.dirty_fields == [Signal.signal_metadata]
    assert created.save() == 1
    row = Signal.get()
    assert (row.signal_metadata["rsi"], row.is_dirty()) == (99, False)
    row.signal_metadata["bands"].append({"low": 2})
    assert (row.save(), row.save()) == (1, 0)
    assert Signal.get().signal_metadata == {"rsi": 99, "bands": [1, {"low": 2}]}
    joined = Trade.select(Trade, Signal).join(Signal)
    trade(signal=row)
    found = joined.get()
    found.signal.signal_metadata["rsi"] = 5
    assert (found.save(), found.signal.save()) == (0, 1)
    assert Signal.get().signal_metadata["rsi"] == 5


def test_metadata_changed_in_place_is_validated() -> None:
    row = signal(signal_metadata={"rsi": 1})
    row.signal_metadata["rsi"] = object()
    with pytest.raises(ValidationError, match=r"signal_metadata\.rsi"):
        row.save()
    assert Signal.get().signal_metadata == {"rsi": 1}


def test_metadata_that_is_read_is_not_written() -> None:
    row = signal(signal_metadata={"rsi": [1.5, None, "x"]})
    stale = Signal.get()
    assert stale.signal_metadata["rsi"][0] == 1.5
    row.signal_metadata = {"rsi": 2}
    row.save()
    stale.strategy = "a"
    stale.save()
    assert Signal.get().signal_metadata == {"rsi": 2}


@pytest.mark.parametrize("name", ["details", "state", "words"])
def test_any_value_changed_in_place_is_saved(name: str) -> None:
    Draft.create(**{name: ["a"]})
    row = Draft.get()
    assert getattr(row, name) == ["a"]
    getattr(row, name).append("b")
    assert row.save() == 1
    assert getattr(Draft.get(), name) == ["a", "b"]


def test_bits_changed_in_place_are_saved() -> None:
    row = Draft.create(flags=b"\x00")
    row = Draft.get()
    row.flags.set_bit(1)
    assert row.save() == 1
    assert Draft.get().flags.is_set(1)


# --- attributes that are no fields ------------------------------------------------------------


def set_by_self(self: Any) -> None:
    self.pln = 5


def set_by_trade(trade: Any) -> None:
    trade.pln = 5


def set_by_name(row: Any) -> None:
    setattr(row, "pln", 5)  # noqa: B010


def set_in_a_loop(row: Any) -> None:
    [setattr(each, "pln", 5) for each in [row]]


def set_by_lambda(row: Any) -> None:
    (lambda self: setattr(self, "pln", 5))(row)


def set_by_class(row: Any) -> None:
    class Trade:
        def save(self, other: Any) -> None:
            other.pln = 5

    Trade().save(row)


def set_by_code_without_a_module(row: Any) -> None:
    exec("row.pln = 5", {"row": row})


def set_by_init(_: Any) -> None:
    Trade(**trade_values(), pln=5)


def set_by_create(_: Any) -> None:
    Trade.create(**trade_values(), pln=5)


def set_by_update(_: Any) -> None:
    Trade.update(pln=5).execute()


def set_by_insert(_: Any) -> None:
    Trade.insert(**trade_values(), pln=5).execute()


def set_by_insert_many(_: Any) -> None:
    Trade.insert_many([trade_values(pln=5)]).execute()


@pytest.mark.parametrize(
    "assign",
    [
        *(set_by_self, set_by_trade, set_by_name, set_in_a_loop, set_by_lambda, set_by_class),
        *(set_by_code_without_a_module, set_by_init, set_by_create, set_by_update, set_by_insert),
        set_by_insert_many,
    ],
)
def test_a_misspelt_attribute_is_refused(assign: Callable[[Any], None]) -> None:
    for row in (trade(), Trade.select().get(), Trade(**trade_values())):
        with pytest.raises(ValidationError, match=r"pln: .* \(did you mean 'pnl'\?\)") as caught:
            assign(row)
        assert caught.value.field == "pln"
        assert not hasattr(row, "pln")
    assert len(Trade) == 1


# --- transactions -----------------------------------------------------------------------------


def test_atomic_as_a_decorator() -> None:
    @db.atomic()
    def record(price: float) -> Trade:
        """Record a trade, and fail where its price is high."""
        created = trade(price=price)
        if price > 10:
            raise RuntimeError
        return created

    assert record(5).price == 5.0
    with pytest.raises(RuntimeError):
        record(50)
    assert record.__name__ == "record"
    assert [row.price for row in Trade] == [5.0]


def test_atomic_as_a_context_manager() -> None:
    with db.atomic() as transaction:
        trade(price=1)
        with db.atomic() as inner:
            trade(price=2)
            inner.rollback()
        with pytest.raises(RuntimeError), db.savepoint():
            trade(price=3)
            raise RuntimeError
        trade(price=4)
        transaction.commit()
        trade(price=5)
        transaction.rollback()
        trade(price=6)
    assert sorted(row.price for row in Trade) == [1, 4, 6]
    with pytest.raises(RuntimeError), db.transaction():
        trade(price=7)
        raise RuntimeError
    with Trade._meta.database.atomic():
        trade(price=8)
    assert not db.in_transaction()
    assert sorted(row.price for row in Trade) == [1, 4, 6, 8]


def test_a_model_method_that_fails_does_not_end_the_transaction() -> None:
    created = trade()
    unknown = Trade.get_by_id(created.id)
    unknown.signal = 999
    with db.atomic():
        for fail in (
            lambda: Trade.create(**trade_values(id=created.id)),
            lambda: Trade(**trade_values(signal=999)).save(),
            lambda: Trade.bulk_create([Trade(**trade_values(id=created.id))]),
            lambda: Trade.bulk_update([unknown], ["signal"]),
            lambda: snapshot(signal=999),
        ):
            with pytest.raises(BotMemoryError) as caught:
                fail()
            assert isinstance(caught.value, peewee.IntegrityError)
        trade(price=5)
    assert sorted(row.price for row in Trade) == [5, 100]


# --- what breaks a rule -----------------------------------------------------------------------


def by_save(values: dict[str, Any]) -> None:
    Trade(**values).save()


def by_forced_save(values: dict[str, Any]) -> None:
    Trade(**values).save(force_insert=True)


def by_create(values: dict[str, Any]) -> None:
    Trade.create(**values)


def by_insert(values: dict[str, Any]) -> None:
    Trade.insert(values).execute()


def by_insert_keywords(values: dict[str, Any]) -> None:
    Trade.insert(**values).execute()


def by_insert_of_a_list(values: dict[str, Any]) -> None:
    Trade.insert([values]).execute()


def by_insert_many(values: dict[str, Any]) -> None:
    Trade.insert_many([values]).execute()


def by_insert_many_tuples(values: dict[str, Any]) -> None:
    Trade.insert_many([tuple(values.values())], fields=list(values)).execute()


def by_insert_many_of_a_generator(values: dict[str, Any]) -> None:
    Trade.insert_many(row for row in [values]).execute()


def by_bulk_create(values: dict[str, Any]) -> None:
    Trade.bulk_create([Trade(**trade_values()), Trade(**values)])


def by_get_or_create(values: dict[str, Any]) -> None:
    Trade.get_or_create(strategy="never", defaults=values)


def by_dict_to_model(values: dict[str, Any]) -> None:
    dict_to_model(Trade, values).save(force_insert=True)


def by_item_of_none(values: dict[str, Any]) -> None:
    Trade.set_by_id(None, values)


INSERTS: list[Callable[[dict[str, Any]], None]] = [
    *(by_save, by_forced_save, by_create, by_insert, by_insert_keywords, by_insert_of_a_list),
    *(by_insert_many, by_insert_many_tuples, by_insert_many_of_a_generator, by_bulk_create),
    *(by_get_or_create, by_dict_to_model, by_item_of_none),
]
BAD: dict[str, dict[str, Any]] = {
    "a price below 0": {"price": -1},
    "a price of NaN": {"price": math.nan},
    "a PnL of NaN": {"pnl": math.nan},
    "an infinite PnL": {"pnl": math.inf},
    "an unknown signal": {"signal": 999},
    "an empty symbol": {"symbol": ""},
    "a symbol that is no text": {"symbol": 5},
    "an unknown side": {"side": "hold"},
    "a time that is text": {"timestamp": "2024-01-01"},
    "metadata that is no JSON": {"trade_metadata": {"a": object()}},
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("write", INSERTS)
def test_each_way_to_insert_refuses(write: Callable[[dict[str, Any]], None], bad: str) -> None:
    with pytest.raises(ValidationError):
        write(trade_values(**BAD[bad]))
    assert len(Trade) == 0


@pytest.mark.parametrize("write", INSERTS)
def test_each_way_to_insert_refuses_a_duplicate(write: Callable[[dict[str, Any]], None]) -> None:
    created = trade()
    for values in (
        trade_values(id=created.id),
        trade_values(id=str(created.id).upper(), symbol="B"),
    ):
        with pytest.raises(DuplicateError):
            write(values)
        with pytest.raises(peewee.IntegrityError):
            write(values)
    assert list(Trade.select()) == [created]


@pytest.mark.parametrize("write", INSERTS)
def test_each_way_to_insert_refuses_a_missing_value(
    write: Callable[[dict[str, Any]], None],
) -> None:
    values = trade_values()
    del values["quantity"]
    with pytest.raises(BotMemoryError):
        write(values)
    assert len(Trade) == 0


def by_assignment(row: Trade, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def by_assignment_of_one_field(row: Trade, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save(only=list(values))


def by_update_query(row: Trade, values: dict[str, Any]) -> None:
    Trade.update(values).where(Trade.id == row.id).execute()


def by_update_keywords(row: Trade, values: dict[str, Any]) -> None:
    Trade.update(**values).execute()


def by_bulk_update(row: Trade, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    Trade.bulk_update([row], fields=list(values))


def by_item(row: Trade, values: dict[str, Any]) -> None:
    Trade[row.id] = values


def by_conflict(row: Trade, values: dict[str, Any]) -> None:
    Trade.insert(trade_values(id=row.id)).on_conflict(
        conflict_target=[Trade.id], update=values
    ).execute()


def by_update_model_from_dict(row: Trade, values: dict[str, Any]) -> None:
    update_model_from_dict(row, values).save()


UPDATES: list[Callable[[Trade, dict[str, Any]], None]] = [
    *(by_assignment, by_assignment_of_one_field, by_update_query, by_update_keywords),
    *(by_bulk_update, by_item, by_conflict, by_update_model_from_dict),
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("write", UPDATES)
def test_each_way_to_update_refuses(
    write: Callable[[Trade, dict[str, Any]], None], bad: str
) -> None:
    created = trade(pnl=1)
    with pytest.raises(ValidationError):
        write(Trade.get_by_id(created.id), BAD[bad])
    row = Trade.get()
    assert (row.price, row.pnl, row.symbol, row.side) == (100.0, 1.0, "BTC/USDT", OrderSide.BUY)


@pytest.mark.parametrize("write", UPDATES)
def test_each_way_to_update_refuses_a_duplicate(
    write: Callable[[Trade, dict[str, Any]], None],
) -> None:
    keys = {"exchange": "okx", "exchange_trade_id": "1"}
    trade(**keys)
    second = trade(exchange="okx", exchange_trade_id="2")
    with pytest.raises(DuplicateError) as caught:
        write(Trade.get_by_id(second.id), keys)
    assert isinstance(caught.value, peewee.IntegrityError)
    assert sorted(row.exchange_trade_id for row in Trade) == ["1", "2"]


def test_expressions_that_break_a_rule_are_refused(three: list[Trade]) -> None:
    with pytest.raises(ValidationError):
        Trade.update(price=Trade.price - 20).execute()
    row = three[0]
    row.price = Trade.price * -1
    with pytest.raises(ValidationError):
        row.save()
    with pytest.raises(ValidationError):
        Trade.bulk_update([row], ["price"])
    names = ["id", "timestamp", "symbol", "side", "price", "quantity"]
    columns = [Trade.timestamp, Trade.symbol, Trade.side, Trade.price, Trade.quantity]
    new_id = Value(uuid.uuid4().hex).cast(Trade.id.field_type)
    lost = Trade.select(new_id, *columns[:3], Trade.pnl, Trade.quantity).where(Trade.pnl < 0)
    with pytest.raises(ValidationError):
        Trade.insert_from(lost, names).execute()
    with pytest.raises(DuplicateError):
        Trade.insert_from(Trade.select(Trade.id, *columns), names).execute()
    assert sorted(row.price for row in Trade) == [10, 20, 30]


def test_comparisons_with_bad_values_are_refused() -> None:
    for condition in (
        lambda: Trade.select().where(Trade.price == "ten").count(),
        lambda: Trade.get_by_id("x"),
        lambda: Trade.get_or_none(id="x"),
        lambda: Trade.delete().where(Trade.side == "hold").execute(),
    ):
        with pytest.raises(ValidationError):
            condition()


def test_a_custom_model_refuses_what_breaks_a_rule() -> None:
    with pytest.raises(ValidationError, match="symbol: None is not allowed"):
        Snapshot.create(equity=1)
    for equity in (math.nan, math.inf, "ten", True):
        with pytest.raises(ValidationError, match="equity: "):
            snapshot(equity=equity)
    with pytest.raises(ValidationError) as caught:
        snapshot(signal=999)
    assert isinstance(caught.value, peewee.IntegrityError)
    Category.create(name="a")
    with pytest.raises(DuplicateError):
        Category(name="a").save()
    with pytest.raises(peewee.IntegrityError):
        Category.insert(name="a").execute()
    assert (len(Snapshot), len(Category)) == (0, 1)


def test_dates_and_times_in_queries(three: list[Trade]) -> None:
    naive = datetime.datetime(2024, 1, 1, 1)
    assert Trade.select().where(Trade.timestamp > naive).count() == 1
    assert Trade.select().where(Trade.timestamp.between(at(0), at(1))).count() == 2
