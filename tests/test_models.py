"""The models: save(), ids, repr, and Peewee queries on them."""

from __future__ import annotations

import json
import pickle
import uuid
from datetime import datetime

import peewee
import pytest
from programs import program
from samples import START, signal, trade, trade_values

from botmemory import (
    BaseModel,
    DuplicateError,
    NotFoundError,
    OrderSide,
    Signal,
    Trade,
    ValidationError,
)
from botmemory.fields import UtcDateTimeField
from botmemory.repositories import signals, trades

pytestmark = pytest.mark.usefixtures("empty_database")


def test_a_new_trade_is_inserted_by_save() -> None:
    created = Trade(**trade_values(id=uuid.uuid4()))
    assert created.save() == 1
    assert trades.get_by_id(created.id) == created


def test_save_writes_the_assigned_fields_alone() -> None:
    created = trade()
    stale = Trade.get_by_id(created.id)
    created.pnl = 5
    created.save()
    stale.strategy = "a"
    stale.save()
    stored = Trade.get_by_id(created.id)
    assert (stored.pnl, stored.strategy) == (5.0, "a")


def test_save_of_a_deleted_row_is_an_error() -> None:
    created = trade()
    trades.delete(created)
    created.pnl = 5
    with pytest.raises(NotFoundError, match=str(created.id)):
        created.save()


def test_save_validates_the_assigned_fields() -> None:
    created = trade()
    created.price = -1
    with pytest.raises(ValidationError, match="price: -1 is not greater than 0"):
        created.save()
    assert Trade.get_by_id(created.id).price == 100.0


def test_an_unchanged_row_is_not_written() -> None:
    assert trade().save() == 0


def test_models_refuse_fields_they_do_not_have() -> None:
    with pytest.raises(ValidationError, match="symbl: a Trade has no such field .*, it has id, "):
        Trade(symbl="X")


def test_the_signal_of_a_trade_is_loaded_on_access() -> None:
    created = trade(signal=signal(signal_metadata={"rsi": 30}))
    stored = Trade.get_by_id(created.id)
    assert stored.signal_id == created.signal_id
    assert stored.signal.signal_metadata == {"rsi": 30}


def test_the_repr_of_rows() -> None:
    assert repr(trade(timestamp=START, quantity=0.5)) == (
        "<Trade: buy 0.5 BTC/USDT at 100.0 on 2024-01-01 00:00:00+00:00>"
    )
    assert repr(signal(timestamp=START, signal_value=-1)) == (
        "<Signal: -1 BTC/USDT on 2024-01-01 00:00:00+00:00>"
    )
    assert "None" in repr(Trade.select(Trade.symbol).get())


def test_peewee_queries_work_on_the_models() -> None:
    for price in (10, 20, 30):
        trade(price=price)
    assert Trade.select().where(Trade.price > 10).count() == 2
    assert Trade.select().where(Trade.price > 0, Trade.side == "BUY").count() == 3
    assert [t.price for t in Trade.select().where(Trade.symbol.contains("BTC"))] == [10, 20, 30]
    assert Trade.select().where(Trade.timestamp > START).count() == 3
    with pytest.raises(ValidationError, match="price: 'ten' is not a number"):
        Trade.select().where(Trade.price > "ten").count()


def test_order_side_takes_any_letter_case() -> None:
    assert OrderSide("BUY") is OrderSide.BUY
    assert OrderSide("Sell") == "sell"
    with pytest.raises(ValueError, match="hold"):
        OrderSide("hold")


def test_errors_can_be_pickled() -> None:
    existing = trade()
    with pytest.raises(DuplicateError) as caught:
        trade(id=existing.id)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.id) == (str(caught.value), existing.id)
    with pytest.raises(ValidationError) as invalid:
        trade(price=0)
    assert pickle.loads(pickle.dumps(invalid.value)).field == "price"


def test_a_custom_table_with_peewees_fields() -> None:
    class EquitySnapshot(BaseModel):
        at = UtcDateTimeField()
        equity = peewee.DoubleField()
        note = peewee.TextField(null=True)

    EquitySnapshot.create_table()
    try:
        created = EquitySnapshot.create(at=START, equity=1_000.5)
        created.equity = 2_000
        created.save()
        stored = EquitySnapshot.get()
        assert (stored.at, stored.equity, stored.note) == (START, 2_000.0, None)
        with pytest.raises(ValidationError, match="equty: a EquitySnapshot has no such field"):
            EquitySnapshot(equty=5)
        with pytest.raises(ValidationError, match="equity: None is not allowed"):
            EquitySnapshot.create(at=START)
    finally:
        EquitySnapshot.drop_table()


def test_peewee_creates_signals_too() -> None:
    created = Signal.create(symbol="X", signal_value=0, signal_metadata=[1, None])
    assert signals.get_by_id(created.id) == created


@pytest.mark.processes
def test_a_subclass_has_the_check_constraints_of_its_model() -> None:
    output = program("""
        from botmemory import Trade
        class PaperTrade(Trade):
            pass
        for option in ("constraints", "sqlite_constraints"):
            print(len(getattr(PaperTrade._meta, option)), len(getattr(Trade._meta, option)))
    """)
    assert output == "11 11\n3 3\n"


def test_a_row_as_data_for_pydantic_and_fastapi() -> None:
    encoders = pytest.importorskip("fastapi.encoders")
    pydantic = pytest.importorskip("pydantic")

    class Shown(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        id: uuid.UUID
        timestamp: datetime
        side: OrderSide
        price: float
        signal_id: int | None

    created = trade(timestamp=START)
    data = created.to_dict()
    assert encoders.jsonable_encoder(data) == data
    shown = Shown.model_validate(data)
    assert (shown.id, shown.timestamp, shown.side) == (created.id, START, OrderSide.BUY)
    from_attributes = Shown.model_validate(created, from_attributes=True)
    assert from_attributes == shown


def test_a_row_as_data_for_json() -> None:
    created = trade(
        timestamp=START,
        signal=signal(),
        pnl=-5,
        exchange="okx",
        trade_metadata={"rsi": 30, "bands": [1.5, None]},
    )
    stored = trades.get_by_id(created.id)
    assert stored is not None
    data = stored.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert created.to_dict() == data
    assert data == {
        "id": str(created.id),
        "timestamp": "2024-01-01 00:00:00.000000+00:00",
        "symbol": "BTC/USDT",
        "side": "buy",
        "price": 100.0,
        "quantity": 1.0,
        "pnl": -5.0,
        "signal_id": created.signal_id,
        "strategy": None,
        "fee": None,
        "fee_currency": None,
        "exchange": "okx",
        "exchange_trade_id": None,
        "trade_metadata": {"rsi": 30, "bands": [1.5, None]},
        "contract_size": None,
    }
