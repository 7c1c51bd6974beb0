"""The models: `Signal`, `Trade`, and `BaseModel` for custom tables."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import peewee
from peewee import Check, Field

from ._values import plain_text
from .backends.peewee_internals import NO_DEFAULTS, assigned_names, values_of
from .database import db
from .errors import NotFoundError, ValidationError, show
from .fields import (
    AutoIdField,
    ChoiceField,
    DoubleField,
    IdField,
    LabelField,
    MetadataField,
    ReferenceField,
    SideField,
    UtcDateTimeField,
)
from .uuid7 import uuid7

__all__ = ["BaseModel", "OrderSide", "Signal", "Trade"]

MAX_DOUBLE = "1.7976931348623157e308"  # infinities and, on SQLite, text compare as greater


class OrderSide(enum.StrEnum):
    """The side of a trade. `OrderSide("BUY")` accepts any letter case."""

    BUY = "buy"
    SELL = "sell"

    @classmethod
    def _missing_(cls, value: object) -> OrderSide | None:
        lower = value.lower() if isinstance(value, str) else value
        return next((side for side in cls if side.value == lower), None)


def now() -> datetime:
    return datetime.now(UTC)


def _check(field: Any) -> str:
    """Return the condition of a column on every database, or ""."""
    column = field.name
    if isinstance(field, LabelField):
        check = f"length({column}) BETWEEN 1 AND {field.max_length} AND {column} = trim({column})"
        if column == "exchange_trade_id":
            check += f" AND ({column} IS NULL OR exchange IS NOT NULL)"
        return check
    if isinstance(field, DoubleField):
        if field.positive:
            return f"{column} > 0 AND {column} <= {MAX_DOUBLE}"
        return f"{column} BETWEEN -{MAX_DOUBLE} AND {MAX_DOUBLE}"
    if isinstance(field, (ChoiceField, SideField)):
        return f"{column} IN {tuple(value for value, _ in field.choices)}"
    return ""


def _sqlite_check(field: Any) -> str:
    """Return the condition of a column that PostgreSQL's type enforces by itself, or ""."""
    column = field.name
    if isinstance(field, IdField):
        return f"length({column}) = 32 AND {column} NOT GLOB '*[^0-9a-f]*'"
    if isinstance(field, UtcDateTimeField):
        # strftime() turns a day that does not exist, such as 31 February, into another one
        return (
            f"length({column}) = 32 AND "
            f"substr({column}, 20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]+00:00' AND "
            f"strftime('%Y-%m-%d %H:%M:%S', substr({column}, 1, 19), '+0 days') "
            f"IS substr({column}, 1, 19)"
        )
    if isinstance(field, MetadataField):
        return f"{column} IS NULL OR json_valid({column})"
    return ""


class BaseModel(peewee.Model):
    """The base class of models in botmemory's database, also of custom tables.

    A `peewee.Model` whose `save()` validates values and writes only the fields that were assigned.

    Raises:
        ValidationError: A keyword argument is not a field of the model.
    """

    if TYPE_CHECKING:

        def get_id(self) -> Any:
            """Return the primary key; None for a row whose id the database has yet to assign."""

    class Meta:
        database = db
        legacy_table_names = False
        only_save_dirty = True
        sqlite_constraints = ()  # declared here, so that subclasses inherit those of a model

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if not hasattr(type(self), name) and name != NO_DEFAULTS:
                raise ValidationError(
                    f"{name}: {type(self).__name__} has no such field; it has "
                    f"{', '.join(self._meta.sorted_field_names)}",
                    field=name,
                )
        super().__init__(*args, **kwargs)

    def save(self, force_insert: bool = False, only: Any = None) -> int:
        """Insert a new row, or update the fields assigned since the row was loaded.

        Other fields are not written: a stale copy does not revert the changes of others.

        Args:
            force_insert: Insert the row also where its id is that of a loaded row.
            only: The fields to write, as in Peewee; None for all assigned ones.

        Returns:
            The number of rows written: 0 where no field was assigned, otherwise 1.

        Raises:
            ValidationError: A value is invalid; the message names the field.
            NotFoundError: The row to update is not in the database.
        """
        key: str = self._meta.primary_key.name  # type: ignore[union-attr]
        assigned, data = assigned_names(self), values_of(self)
        # for an id that was assigned, not loaded, Peewee would update a row that does not exist
        new = force_insert or key in assigned or self.get_id() is None
        changed = bool(assigned)
        for name in self._meta.sorted_field_names if new else list(assigned):
            if name != key or data.get(name) is not None:
                data[name] = clean_field(self._meta.fields[name], data.get(name))
        rows = super().save(force_insert=new, only=only)
        if not rows and changed:
            raise NotFoundError(
                f"{type(self).__name__} {show(self.get_id())} is not in the database"
            )
        return int(rows)


def clean_field(field: Any, value: Any) -> Any:
    """Return a value as its column stores it, or raise `ValidationError` naming the field."""
    if value is not None:
        clean = getattr(field, "clean", None)
        return _clean_peewee_field(field, value) if clean is None else clean(value)
    if not field.null:
        raise ValidationError(f"{field.name}: None is not allowed; pass a value", field=field.name)
    return None


def _clean_peewee_field(field: Any, value: Any) -> Any:
    if isinstance(value, str):
        value = plain_text(value)
    try:
        stored = field.db_value(value)
    except (ValueError, TypeError, ArithmeticError):
        fits = False
    else:
        # Peewee does not convert text that is not a number, and SQLite would store it
        is_number = isinstance(field, (peewee.IntegerField, peewee.FloatField))
        fits = not (is_number and isinstance(stored, str))
        if isinstance(stored, int):
            fits = -(2**63) <= stored < 2**63  # the range of a BIGINT
    if not fits:
        kind = type(field).__name__
        raise ValidationError(
            f"{field.name}: {show(value)} does not fit its {kind}", field=field.name
        )
    return value


class Signal(BaseModel):
    """A signal of a strategy: buy (1), sell (-1) or neutral (0), and what it is based on.

    Attributes:
        id: An int that the database assigns.
        timestamp: UTC; the current time by default.
        symbol: 1 to 64 printable characters.
        signal_value: 1, -1 or 0.
        signal_metadata: Any JSON value, such as indicators, or None.
        strategy: The name of the strategy, or None.
        trades: A query of the trades that refer to this signal.
    """

    id: Field[int] = AutoIdField()
    timestamp: Field[datetime] = UtcDateTimeField(default=now)
    symbol: Field[str] = LabelField(max_length=64)
    signal_value: Field[int] = ChoiceField(choices=(1, -1, 0))  # pyright: ignore[reportArgumentType]
    signal_metadata: Field[Any] = MetadataField(null=True)
    strategy: Field[str | None] = LabelField(max_length=64, null=True)

    if TYPE_CHECKING:
        trades: peewee.ModelSelect[Trade]

    def __str__(self) -> str:
        return f"{self.signal_value} {self.symbol} on {self.timestamp}"


class Trade(BaseModel):
    """A trade: one fill of an order.

    Attributes:
        id: A `uuid.UUID`; a new time-ordered one (version 7) by default.
        timestamp: UTC; the current time by default.
        symbol: 1 to 64 printable characters.
        side: `OrderSide.BUY` or `OrderSide.SELL`.
        price: The price of one unit, above 0.
        quantity: Above 0, also of a sale.
        pnl: The realized PnL that the bot recorded, or None.
        signal: The signal that led to the trade, or None; `signal_id` is its id.
        strategy: The name of the strategy, or None.
        fee: The fee; a negative one is a rebate; or None.
        fee_currency: The currency of the fee, or None.
        exchange: The name of the exchange, or None.
        exchange_trade_id: The id that the exchange gave to the fill, or None; unique together with
            `exchange` and `symbol`.
        trade_metadata: Any JSON value, or None.
    """

    id: Field[uuid.UUID] = IdField(primary_key=True, default=uuid7)
    timestamp: Field[datetime] = UtcDateTimeField(default=now)
    symbol: Field[str] = LabelField(max_length=64)
    side: Field[OrderSide] = SideField(OrderSide, max_length=4)  # pyright: ignore[reportCallIssue]
    price: Field[float] = DoubleField(positive=True)  # pyright: ignore[reportCallIssue]
    quantity: Field[float] = DoubleField(positive=True)  # pyright: ignore[reportCallIssue]
    pnl: Field[float | None] = DoubleField(null=True)
    signal: Field[Signal | None] = ReferenceField(
        Signal, null=True, index=False, backref="trades", on_delete="SET NULL"
    )
    strategy: Field[str | None] = LabelField(max_length=64, null=True)
    fee: Field[float | None] = DoubleField(null=True)
    fee_currency: Field[str | None] = LabelField(max_length=20, null=True)
    exchange: Field[str | None] = LabelField(max_length=32, null=True)
    exchange_trade_id: Field[str | None] = LabelField(max_length=128, null=True)
    trade_metadata: Field[Any] = MetadataField(null=True)

    if TYPE_CHECKING:
        signal_id: int | None

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} {self.symbol} at {self.price} on {self.timestamp}"


for _model in (Signal, Trade):
    _table = _model._meta.table_name
    for _option, _condition in (("constraints", _check), ("sqlite_constraints", _sqlite_check)):
        _checks = {field.name: _condition(field) for field in _model._meta.sorted_fields}
        _named = [Check(sql, f"{_table}_{column}_check") for column, sql in _checks.items() if sql]
        setattr(_model._meta, _option, _named)
    # each index serves a query of the repositories and has its rows in the order of the result
    _time_order = (_model.timestamp, _model.id)
    _model.add_index(*_time_order, name=f"{_table}_timestamp")
    # a covering index for the total PnL of a symbol
    _covered = (Trade.pnl,) if _model is Trade else ()
    _model.add_index(_model.symbol, *_time_order, *_covered, name=f"{_table}_symbol")
    _model.add_index(
        _model.strategy,
        *_time_order,
        name=f"{_table}_strategy",
        where=_model.strategy.is_null(False),
    )
Trade.add_index(Trade.signal, name="trade_signal", where=Trade.signal.is_null(False))
Trade.add_index(
    Trade.exchange,
    Trade.symbol,
    Trade.exchange_trade_id,
    name="trade_exchange",
    unique=True,
    where=Trade.exchange_trade_id.is_null(False),
)
