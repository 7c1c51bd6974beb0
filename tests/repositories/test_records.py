"""Custom tables: the functions of `records`."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any, cast

import peewee
import pytest
from custom_tables import EquitySnapshot, Remark, custom_migrations
from samples import at, signal, trade

from botmemory import (
    BaseModel,
    DuplicateError,
    NotFoundError,
    SchemaError,
    Trade,
    ValidationError,
    db,
    init_db,
    session_scope,
)
from botmemory.repositories import records, trades

pytestmark = pytest.mark.usefixtures("opened")


@pytest.fixture
def opened(new_target: Callable[[], str], tmp_path: Path) -> peewee.Database:
    """An open database with custom tables."""
    return init_db(new_target(), migrations=custom_migrations(tmp_path))


def snapshot(**values: Any) -> EquitySnapshot:
    return records.create(
        EquitySnapshot, **{"timestamp": at(0), "symbol": "BTC/USDT", "equity": 100} | values
    )


def test_a_created_row_is_read_again() -> None:
    created = snapshot(equity=100.5, strategy="a", trade=trade())
    assert isinstance(created, EquitySnapshot)
    stored = records.get_by_id(EquitySnapshot, created.id)
    assert stored is not None
    assert stored == created
    assert (stored.timestamp, stored.symbol, stored.strategy, stored.equity) == (
        at(0),
        "BTC/USDT",
        "a",
        100.5,
    )
    assert records.get_by_id(EquitySnapshot, str(created.id)) == created
    assert records.get_by_id(EquitySnapshot, uuid.uuid4()) is None


def test_a_row_refers_to_a_trade() -> None:
    referenced = trade()
    created = snapshot(trade=referenced)
    for stored in (records.get_by_id(EquitySnapshot, created.id), *records.iterate(EquitySnapshot)):
        assert stored is not None
        assert stored.trade == referenced
        assert stored.__data__["trade"] == referenced.id
    trades.delete(referenced)
    assert [row.trade for row in records.get_all(EquitySnapshot)] == [None]
    with pytest.raises(ValidationError, match="trade: there is no such Trade; record it first"):
        snapshot(trade=uuid.uuid4())


def test_lists_come_newest_first_and_date_ranges_in_time_order() -> None:
    created = [
        snapshot(timestamp=at(n), symbol="AB"[n % 2], strategy="xy"[n // 3]) for n in range(6)
    ]
    assert records.get_all(EquitySnapshot) == created[::-1]
    assert records.get_all(EquitySnapshot, 2, strategy="x") == created[2:0:-1]
    assert records.get_latest(EquitySnapshot, limit=1) == created[-1:]
    assert records.get_by_symbol(EquitySnapshot, "A") == created[4::-2]
    assert records.get_by_date_range(EquitySnapshot, None, at(1), at(3)) == created[1:4]
    assert records.get_by_date_range(EquitySnapshot, "A", at(1), at(3), strategy="x") == [
        created[2]
    ]
    assert list(records.iterate(EquitySnapshot, start_date=at(4))) == created[4:]
    assert records.count(EquitySnapshot) == 6
    assert records.count(EquitySnapshot, "B", strategy="y") == 2


def test_create_many_stores_all_rows_or_none() -> None:
    rows: list[dict[str, Any]] = [
        {"timestamp": at(n), "symbol": "A", "equity": n} for n in range(1500)
    ]
    assert records.create_many(EquitySnapshot, rows) == 1500
    assert [row.equity for row in records.iterate(EquitySnapshot)] == list(range(1500))
    with pytest.raises(ValidationError, match=r"rows\[1\]: equity: 'x' is not a number"):
        records.create_many(EquitySnapshot, [rows[0], rows[1] | {"equity": "x"}])
    assert records.count(EquitySnapshot) == 1500
    assert records.create_many(Remark, ({"text": f"{n}"} for n in range(1200))) == 1200
    assert len(list(records.iterate(Remark))) == 1200


def test_none_is_stored_as_null_also_where_the_column_has_a_default() -> None:
    class Rated(BaseModel):
        text = peewee.CharField()
        stars: Any = peewee.IntegerField(null=True, constraints=[peewee.Default(3)])

    db.create_tables([Rated])
    assert records.create(Rated, text="a").stars is None
    rows: list[dict[str, Any]] = [{"text": "b"}, {"text": "c", "stars": None}]
    assert records.create_many(Rated, rows) == 2
    assert records.create_many(Rated, [{"text": "d"}]) == 1
    assert [(row.text, row.stars) for row in records.iterate(Rated)] == [
        (text, None) for text in "abcd"
    ]


def test_a_table_of_many_columns_has_one_statement_for_all_of_its_rows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f"feature{number}" for number in range(10)]
    fields = {name: peewee.IntegerField(null=True) for name in names}
    features = cast("type[BaseModel]", type("Features", (BaseModel,), fields))
    db.create_tables([features])
    with caplog.at_level(logging.DEBUG, "peewee"):
        created = [records.create(features, **{name: 1}) for name in names]
    statements: list[Any] = [log.msg for log in caplog.records if log.name == "peewee"]
    assert len({sql for sql, _ in statements if sql.startswith("INSERT")}) == 1
    for name, row in zip(names, created, strict=True):
        stored = records.get_by_id(features, row.id)
        assert stored is not None
        assert stored.__data__ == dict.fromkeys(names) | {"id": row.id, name: 1}


def test_a_default_of_the_model_may_be_none_for_some_rows() -> None:
    class Rated(BaseModel):
        text = peewee.CharField()
        stars: Any = peewee.IntegerField(null=True, default=lambda: next(defaults))

    defaults = chain([None, None], repeat(4))  # the first row is prepared twice

    db.create_tables([Rated])
    assert records.create_many(Rated, [{"text": text} for text in "abc"]) == 3
    assert [row.stars for row in records.iterate(Rated)] == [None, 4, 4]


def test_update_writes_the_named_fields_alone() -> None:
    created, stale = snapshot(), records.get_all(EquitySnapshot)[0]
    assert records.update(created, equity=7).equity == 7.0
    records.update(stale, strategy="a")
    [stored] = records.get_all(EquitySnapshot)
    assert (stored.equity, stored.strategy) == (7.0, "a")
    with pytest.raises(ValidationError, match="equty: a EquitySnapshot has no such field"):
        records.update(created, equty=7)
    records.delete(created)
    with pytest.raises(NotFoundError):
        records.delete(stale)
    with pytest.raises(NotFoundError):
        records.update(stale, equity=1)


def test_inside_a_transaction_it_is_part_of_it() -> None:
    with pytest.raises(ZeroDivisionError), session_scope():
        snapshot(trade=trade())
        raise ZeroDivisionError
    assert (records.count(EquitySnapshot), trades.get_trade_count()) == (0, 0)


def test_the_key_of_an_existing_row_is_named() -> None:
    created = snapshot()
    with pytest.raises(
        DuplicateError, match=f"EquitySnapshot {created.id} already exists"
    ) as caught:
        snapshot(id=created.id)
    assert caught.value.id == created.id
    records.create(Remark, text="a")
    with pytest.raises(DuplicateError, match="already exists"):
        records.create(Remark, text="a")
    assert records.count(Remark) == 1


def test_peewees_own_fields_and_a_table_without_a_timestamp() -> None:
    first = records.create(Remark, text="a", about=signal())
    second = records.create(Remark, text="b", stars=5)
    assert (first.id, first.stars, second.stars) == (1, 3, 5)
    assert records.get_all(Remark) == [second, first]
    assert records.get_by_id(Remark, 1) == first
    assert [row.text for row in records.iterate(Remark)] == ["a", "b"]
    with pytest.raises(ValidationError, match="stars: 'many' does not fit its IntegerField"):
        records.create(Remark, text="c", stars="many")
    for number in (2**63, -(2**63) - 1, 10**5000):
        with pytest.raises(ValidationError, match="stars: .* does not fit 32 bits; use a BigInt"):
            records.create(Remark, text="c", stars=number)
        with pytest.raises(ValidationError, match="stars: .* does not fit 32 bits; use a BigInt"):
            Remark.create(text="c", stars=number)
    with pytest.raises(ValidationError, match="id: 'x' does not fit its AutoField"):
        records.get_by_id(Remark, "x")
    with pytest.raises(ValidationError, match="text: None is not allowed"):
        records.create(Remark)
    with pytest.raises(ValidationError, match="txt: a Remark has no such field"):
        records.create(Remark, txt="a")
    with pytest.raises(ValidationError, match="symbol: a Remark has no such field"):
        records.get_by_symbol(Remark, "X")
    with pytest.raises(ValidationError, match="timestamp: a Remark has no such field"):
        records.get_by_date_range(Remark, None, at(0), at(1))


def test_a_date_filter_needs_a_timestamp_in_utc() -> None:
    class Naive(BaseModel):
        timestamp = peewee.DateTimeField()

    with pytest.raises(ValidationError, match="declare it as botmemory.fields.UtcDateTimeField"):
        records.iterate(Naive, start_date=at(0))


def test_a_missing_table_is_an_error_that_says_what_to_do() -> None:
    class Missing(BaseModel):
        text = peewee.TextField()

    for query in (records.get_all, records.count):
        with pytest.raises(SchemaError, match="missing.*migration_runner status"):
            query(Missing)
    with pytest.raises(SchemaError, match="missing"):
        records.create(Missing, text="a")


@pytest.mark.parametrize("model", [peewee.Model, BaseModel, "Trade", None, Trade()])
def test_an_invalid_model_is_refused(model: Any) -> None:
    with pytest.raises(ValidationError, match="model: .* is not a model; pass a class on"):
        records.get_all(model)


def test_a_model_without_a_key_is_refused() -> None:
    class Keyless(BaseModel):
        a = peewee.IntegerField()

        class Meta:
            primary_key = False

    with pytest.raises(ValidationError, match="Keyless has no primary key"):
        records.create(Keyless, a=1)


def test_an_invalid_row_is_refused() -> None:
    for function in (records.delete, records.update):
        with pytest.raises(ValidationError, match="5 is not a BaseModel"):
            function(5)  # type: ignore[type-var]


# --- in a block with a key ----------------------------------------------------------------------

KEY = ("trend", "BTC/USDT")


def test_a_table_with_symbol_and_strategy_has_keys() -> None:
    own, other = snapshot(strategy="trend"), snapshot(strategy="carry")
    with session_scope(key=KEY):
        assert records.get_by_symbol(EquitySnapshot, "BTC/USDT", strategy="trend") == [own]
        records.update(own, equity=2.0)
        with pytest.raises(ValidationError, match=r"^key: .*\('carry', 'BTC/USDT'\)"):
            records.update(other, equity=2.0)
        records.delete(own)
        snapshot(strategy="carry")
    assert records.count(EquitySnapshot) == 2


def test_a_table_without_them_is_only_recorded_in_a_block_with_a_key() -> None:
    remark = records.create(Remark, text="a")
    uses: list[Callable[[], object]] = [
        lambda: records.get_by_id(Remark, remark.id),
        lambda: records.update(remark, stars=1),
        lambda: records.delete(remark),
    ]
    with session_scope(key=KEY):
        for use in uses:
            with pytest.raises(ValidationError, match=r"^key: a Remark belongs to no key"):
                use()
        with pytest.raises(ValidationError, match=r"^key: this query"):
            records.get_all(Remark)
        records.create(Remark, text="b")
        with pytest.raises(DuplicateError):
            records.create(Remark, text="a")
    assert records.count(Remark) == 2


def test_a_trade_is_not_deleted_where_rows_of_another_key_would_change() -> None:
    own = trade(strategy="trend")
    referring = snapshot(strategy="carry", trade=own)
    with (
        session_scope(key=KEY),
        pytest.raises(ValidationError, match=r"^key: .*\('carry', 'BTC/USDT'\)"),
    ):
        trades.delete(own)
    trades.delete(own)
    assert EquitySnapshot.get_by_id(referring.id).trade is None
