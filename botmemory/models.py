"""The models: `Signal`, `Trade`, `CashFlow`, `State`, and `BaseModel` for custom tables."""

from __future__ import annotations

import enum
import json
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime
from functools import cache, partial, reduce
from numbers import Number
from operator import and_
from typing import TYPE_CHECKING, Any, NoReturn

import peewee
from peewee import Check, Field

from ._arguments import suggestion
from ._values import refuse
from .backends.constraints import ForeignKeyError
from .backends.keys import Key, Keys, refuse_row_without_key, require_key
from .backends.peewee_internals import NO_DEFAULTS, assigned_names, related_of, values_of
from .columns import clean_value, json_value, may_change_in_place
from .database import db
from .errors import NotFoundError, ValidationError, show
from .fields import (
    AutoIdField,
    ChoiceField,
    DoubleField,
    IdField,
    LabelField,
    MetadataField,
    OptionalLabelField,
    ReferenceField,
    SideField,
    TextChoiceField,
    UtcDateTimeField,
)
from .uuid7 import uuid7

__all__ = ["BaseModel", "CashFlow", "OrderSide", "Signal", "State", "Trade"]

CASH_FLOW_KINDS = (
    "funding",
    "interest",
    "rebate",
    "deposit",
    "withdrawal",
    "payout",
    "fee",
    "transfer",
    "other",
)
KEY_FIELDS = frozenset(("strategy", "symbol"))  # of a `backends.keys.Key`
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
    if isinstance(field, (ChoiceField, SideField, TextChoiceField)):
        return f"{column} IN {tuple(value for value, _ in field.choices)}"
    if isinstance(field, LabelField):
        check = f"length({column}) BETWEEN {field.min_length} AND {field.max_length}"
        check += f" AND {column} = trim({column})"
        if column in ("exchange_trade_id", "exchange_flow_id"):
            check += f" AND ({column} IS NULL OR exchange IS NOT NULL)"
        return check
    if isinstance(field, DoubleField):
        if field.positive:
            return f"{column} > 0 AND {column} <= {MAX_DOUBLE}"
        return f"{column} BETWEEN -{MAX_DOUBLE} AND {MAX_DOUBLE}"
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


class _Metadata(peewee.Metadata):
    """What Peewee knows of a model, with values that may be changed in place tracked."""

    def __init__(self, model: Any, **options: Any) -> None:
        if options.get("database") is None:  # the first of several base classes is not a BaseModel
            options |= {"database": db, "legacy_table_names": False, "only_save_dirty": True}
        super().__init__(model, **options)

    def add_field(self, field_name: str, field: Any, set_attribute: bool = True) -> None:
        super().add_field(field_name, field, set_attribute)
        accessor = vars(self.model).get(field_name)
        if isinstance(accessor, peewee.FieldAccessor) and may_change_in_place(field):
            setattr(self.model, field_name, TrackedAccessor(accessor))
        elif type(accessor) is peewee.ForeignKeyAccessor:
            setattr(self.model, field_name, ReferenceAccessor(self.model, field, accessor.name))


class BaseModel(peewee.Model):
    """The base class of models in botmemory's database, also of custom tables.

    A `peewee.Model` whose methods validate values, and whose `save()` writes only the fields that
    were assigned or changed in place.

    Raises:
        ValidationError: A keyword argument, or an attribute that is assigned, is not a field or
            another attribute of the model.
    """

    if TYPE_CHECKING:

        def get_id(self) -> Any:
            """Return the primary key; None for a row whose id the database has yet to assign."""

    class Meta:
        database = db
        legacy_table_names = False
        model_metadata_class = _Metadata
        only_save_dirty = True
        sqlite_constraints = ()  # declared here, so that subclasses inherit those of a model

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if NO_DEFAULTS not in kwargs:  # Peewee makes a row of a query, which may have aliases
            for name, value in kwargs.items():
                # a method is no value to set
                if callable(getattr(type(self), name, len)):
                    refuse_unknown_field(type(self), name, value)
        super().__init__(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        model = type(self)
        if name[0] != "_" and not (hasattr(model, name) or name in vars(self)):
            frame = sys._getframe(1)
            module = frame.f_globals.get("__name__") or ""
            is_own = _is_own_code(model, module, frame.f_code.co_qualname)
            if not (is_own or _is_declared(model, name)):
                refuse_unknown_field(model, name, value)
        super().__setattr__(name, value)

    @property
    def dirty_fields(self) -> list[Field[Any]]:
        """The fields assigned or changed in place since the row was loaded."""
        assigned_names(self).update(changed_in_place(self))
        fields: list[Field[Any]] = super().dirty_fields
        return fields

    def is_dirty(self) -> bool:
        """Return whether a field was assigned or changed in place since the row was loaded."""
        return bool(self.dirty_fields)

    def save(self, force_insert: bool = False, only: Any = None) -> int:
        """Insert a new row, or update the fields assigned or changed since the row was loaded.

        Other fields are not written: a stale copy does not revert the changes of others.

        Args:
            force_insert: Insert the row also where its id is that of a loaded row.
            only: The fields to write, as in Peewee; None for all assigned ones.

        Returns:
            The number of rows written: 0 where no field was assigned, otherwise 1.

        Raises:
            ValidationError: A value is invalid; the message names the field.
            DuplicateError: A row with the same id or another unique value already exists.
            NotFoundError: The row to update is not in the database.
        """
        fields, values, related = self._meta.fields, values_of(self), related_of(self)
        for field in self._meta.refs:
            if values.get(field.name) is None and related.get(field.name) is not None:
                clean_field(field, related[field.name])  # refuses a row that is not stored yet
        keys = {field.name for field in key_fields(type(self))}
        assigned = {field.name for field in self.dirty_fields}
        # for an id that was assigned, not loaded, Peewee would update a row that does not exist
        new = force_insert or not assigned.isdisjoint(keys) or self.get_id() is None
        with alone(type(self)):
            rows = super().save(force_insert=new, only=only)
        if not rows and rows is not False:  # which says that there was nothing to save
            raise NotFoundError(
                f"{type(self).__name__} {show(self.get_id())} is not in the database"
            )
        if new and self._meta.auto_increment and not assigned.isdisjoint(keys):
            _advance_sequence(type(self), self.get_id())
        saved = fields if only is None else _names_of(type(self), only)
        for name in values.keys() & saved:
            values[name] = _cleaned_value(fields[name], values[name])
        forget_changes(self, saved)
        return int(rows)

    def delete_instance(self, recursive: bool = False, delete_nullable: bool = False) -> int:
        """Delete the row, as in Peewee.

        Returns:
            The number of rows deleted, 0 or 1, without those that referred to it.

        Raises:
            ValidationError: A row of another table refers to it.
        """
        with naming_references(self):
            return int(super().delete_instance(recursive, delete_nullable))

    def to_dict(self) -> dict[str, Any]:
        """Return the values by column, as JSON has them.

        Returns:
            What a line of an exported JSON Lines file has: text, int, float, bool, None, and for
            metadata dict and list. Times are text in ISO 8601, of a Trade or Signal in UTC; ids are
            text; of a reference, there is the id (`signal_id`).
        """
        columns = {field.column_name: field for field in self._meta.sorted_fields}
        values = values_of(self)
        return {name: json_value(field, values.get(field.name)) for name, field in columns.items()}

    # Peewee runs all that writes values through these four; they only add the validation

    @classmethod
    def insert(cls, data: Any = None, /, **values: Any) -> Any:
        return super().insert(_cleaned(cls, data, values))

    @classmethod
    def update(cls, data: Any = None, /, **values: Any) -> Any:
        return super().update(_cleaned(cls, data, values))

    @classmethod
    def insert_many(cls, rows: Any, fields: Any = None) -> Any:
        return super().insert_many(_cleaned_rows(cls, rows, fields), fields)

    @classmethod
    def bulk_update(cls, model_list: Any, fields: Any, batch_size: int | None = None) -> int:
        rows = list(model_list)
        changed = [cls._meta.combined[f] if isinstance(f, str) else f for f in fields]
        for row in rows:
            values = values_of(row)
            for field in changed:
                values[field.name] = _cleaned_value(field, values.get(field.name))
        with alone(cls):
            count = int(super().bulk_update(rows, changed, batch_size))  # type: ignore[no-untyped-call]
        for row in rows:
            forget_changes(row, {field.name for field in changed})
        return count

    @classmethod
    def bulk_create(cls, model_list: Any, batch_size: int | None = None) -> None:
        rows = list(model_list)
        with alone(cls):
            super().bulk_create(rows, batch_size)
        for row in rows:
            if row.get_id() is not None:  # SQLite does not tell the ids that it assigns
                values = values_of(row)
                for name, value in values.items():
                    values[name] = _cleaned_value(cls._meta.fields[name], value)
                forget_changes(row, cls._meta.fields)


# --- what was changed -------------------------------------------------------------------------

# the attribute of a row with what its mutable values were when they were first used
LOADED = "_loaded"


class TrackedAccessor(peewee.FieldAccessor):
    """Gives a row's value, and remembers what it was, so that a change in place is noticed."""

    def __init__(self, accessor: Any) -> None:
        super().__init__(accessor.model, accessor.field, accessor.name)
        self.accessor = accessor

    def __get__(self, row: Any, model: Any = None) -> Any:
        value = self.accessor.__get__(row, model)
        if row is not None and value is not None:
            loaded = vars(row).setdefault(LOADED, {})
            if self.name not in loaded:
                loaded[self.name] = _fingerprint(value)
        return value

    def __set__(self, row: Any, value: Any) -> None:
        try:
            self.accessor.__set__(row, value)
        except ValueError:  # of a BigBitField
            refuse(self.name, value, f"does not fit its {type(self.field).__name__}")


class ReferenceAccessor(peewee.ForeignKeyAccessor):
    """Gives the row that a foreign key refers to, if the open block may read it."""

    def get_rel_instance(self, instance: Any) -> Any:
        read = partial(super().get_rel_instance, instance)
        related = related_of(instance)
        if self.name in related or not is_in_open_database(self.rel_model):
            return read()
        database = db.current()
        keys = database.block_keys()
        if keys is None:
            return read()
        row = database.reading_own_keys(read)
        if self.name in related:  # it was read now
            del related[self.name]
            require_key_of(keys, row)
            related[self.name] = row
        return row


def _fingerprint(value: Any) -> object:
    """Return what differs when a value was changed in place."""
    if value is None or isinstance(value, (str, Number, bytes, uuid.UUID, date)):
        return value
    if isinstance(value, (bytearray, peewee.BigBitFieldData)):
        return bytes(value)
    import pickle  # here: values of other types are rare

    try:
        return json.dumps(value) if isinstance(value, (dict, list)) else pickle.dumps(value)
    except (TypeError, ValueError, AttributeError, pickle.PicklingError):
        return repr(value)


def changed_in_place(row: peewee.Model) -> set[str]:
    """Return the names of the fields whose values were changed without an assignment."""
    values = values_of(row)
    return {
        name
        for name, fingerprint in vars(row).get(LOADED, {}).items()
        if _fingerprint(values.get(name)) != fingerprint
    }


def forget_changes(row: peewee.Model, names: Iterable[str]) -> None:
    """Take the values of these fields as those that are stored."""
    assigned, loaded = assigned_names(row), vars(row).get(LOADED, {})
    for name in names:
        assigned.discard(name)
        loaded.pop(name, None)


# --- what may be assigned -----------------------------------------------------------------------


@cache
def overrides(model: type[BaseModel], name: str) -> bool:
    """Return whether a model, or another base class of it, has a method of its own."""
    known = (BaseModel, *BaseModel.__mro__)
    return any(name in vars(cls) for cls in model.__mro__ if cls not in known)


@cache
def _is_declared(model: type[BaseModel], name: str) -> bool:
    return any(name in vars(cls).get("__annotations__", {}) for cls in model.__mro__)


@cache
def _is_own_code(model: type[BaseModel], module: str, function: str) -> bool:
    """Return whether a function is Peewee's or a method of the model.

    Both may give a row any attribute: an alias of a query, or what `__init__` adds.
    """
    if module.partition(".")[0] in ("peewee", "playhouse"):
        return True
    return any(
        module == cls.__module__ and function.startswith(f"{cls.__qualname__}.")
        for cls in model.__mro__
    )


def refuse_unknown_field(model: type[BaseModel], key: object, value: object) -> NoReturn:
    """Raise `ValidationError` for a name that is no field of a model."""
    known = model._meta.sorted_field_names
    # csv.DictReader uses the key None for the surplus values of a line
    name = key if isinstance(key, str) else show(key)
    raise ValidationError(
        f"{name}: a {model.__name__} has no such field{suggestion(name, known)}; "
        f"got {show(value)}, it has {', '.join(known)}",
        field=name,
    )


# --- validating -------------------------------------------------------------------------------


def is_in_open_database(model: type[BaseModel]) -> bool:
    """Return whether a model is bound to the database that `init_db` opened."""
    database = model._meta.database
    return database is db or (database is not None and database is db.obj)


def key_fields(model: type[BaseModel]) -> list[Any]:
    """Return the fields of the primary key: one, several of a composite key, or none."""
    meta: Any = model._meta
    return list(meta.get_primary_keys()) if meta.primary_key else []


def key_of_row(row: BaseModel) -> Key | None:
    """Return the key of a row; None if it has none."""
    values, fields = values_of(row), row._meta.fields
    if not values.keys() >= KEY_FIELDS or values["symbol"] is None:
        return None
    try:  # a value may be assigned, and not validated yet
        strategy = clean_field(fields["strategy"], values["strategy"] or None)
        return strategy, clean_field(fields["symbol"], values["symbol"])
    except ValidationError:
        return None


def require_key_of(keys: Keys, row: BaseModel) -> None:
    """Refuse a row that is not one of the keys of a block.

    Raises:
        ValidationError: The message names the key of the row.
    """
    key = key_of_row(row)
    if key is None:
        name = type(row).__name__
        refuse_row_without_key(
            keys, f"a {name} without a symbol" if "symbol" in row._meta.fields else f"a {name}"
        )
    require_key(keys, key)


def references_to(model: type[BaseModel]) -> list[Any]:
    """Return the foreign keys of other models that change where a row of this one is deleted."""
    classes: list[Any] = [base for base in model.__mro__ if hasattr(base, "_meta")]
    fields: list[Any] = [field for each in classes for field in each._meta.backrefs]
    return [f for f in fields if (f.on_delete or "").upper() in ("CASCADE", "SET NULL")]


def is_row(row: BaseModel) -> Any:
    """Return the condition for a row with the key of this one."""
    values = values_of(row)
    return reduce(and_, [key == values.get(key.name) for key in key_fields(type(row))])


@contextmanager
def naming_references(row: BaseModel) -> Iterator[None]:
    """Delete a row in a block that undoes a failed statement, and names what refers to it."""
    database = db.current() if is_in_open_database(type(row)) else None
    try:
        with database.statement() if database is not None else nullcontext():
            yield
    except ForeignKeyError as error:
        find = partial(_describe_references, row)
        references = find() if database is None else database.reading_own_keys(find)
        raise ForeignKeyError(
            f"{type(row).__name__} {row.get_id()}: it is referred to by {references}; delete those "
            "first, or let them refer to another one"
        ) from error


def _describe_references(row: BaseModel) -> str:
    """Return how many rows of which tables refer to a row."""
    database, table = row._meta.database, row._meta.table_name
    found = []
    for name in database.get_tables():
        for key in database.get_foreign_keys(name):
            # others are deleted or set to NULL with the row
            if key.dest_table == table and key.on_delete not in ("CASCADE", "SET NULL"):
                referring, field = peewee.Table(name), row._meta.columns[key.dest_column]
                value = field.db_value(values_of(row)[field.name])
                condition = getattr(referring.c, key.column) == value
                count = referring.select().where(condition).bind(database).count()
                if count:
                    found.append(f"{count} {'row' if count == 1 else 'rows'} of {name}")
    return " and ".join(found) or "rows of another table"


def _advance_sequence(model: type[BaseModel], id: int) -> None:
    """Let a server's sequence go on after an id that was given."""
    if is_in_open_database(model):
        db.current().advance_sequence(model, id)


@contextmanager
def alone(model: type[BaseModel]) -> Iterator[None]:
    """Undo a failed statement, but not its whole transaction, and name a missing reference."""
    try:
        with db.current().statement() if is_in_open_database(model) else nullcontext():
            yield
    except ForeignKeyError as error:
        raise missing_reference(model, ForeignKeyError) from error


def missing_reference(
    model: type[BaseModel], error_class: type[ValidationError] = ValidationError
) -> ValidationError:
    """Return the error for a row that refers to one that does not exist."""
    missing = ", ".join(
        f"{field.name}: there is no such {parent.__name__}"
        for field, parent in model._meta.refs.items()
    )
    return error_class(f"{missing}; record it first", field=missing.partition(":")[0])


def _cleaned(model: type[BaseModel], data: Any, values: dict[str, Any]) -> Any:
    """Return the validated values of an INSERT or UPDATE of Peewee by their fields."""
    if data is not None and not isinstance(data, Mapping):
        return _cleaned_rows(model, data, None)
    cleaned = {}
    for key, value in {**(data or {}), **values}.items():
        field = model._meta.combined.get(key) if isinstance(key, str) else key
        if field is None:
            refuse_unknown_field(model, key, value)
        cleaned[field] = _cleaned_value(field, value)
    return cleaned


def _cleaned_rows(model: type[BaseModel], rows: Any, fields: Any) -> Any:
    if isinstance(rows, peewee.Node):
        return rows
    known = model._meta.combined
    columns = [known.get(f, f) if isinstance(f, str) else f for f in fields or ()]
    first: set[Any] = set()  # the fields of the first row

    def clean(row: Any) -> Any:
        if isinstance(row, Mapping):
            cleaned = _cleaned(model, row, {})
            # Peewee takes the columns from the first row, and ignores others later
            if first and (more := cleaned.keys() - first):
                name = more.pop().name
                raise ValidationError(f"{name}: the first row has no such value", field=name)
            first.update(cleaned)
            for field in first - cleaned.keys():
                if field.default is None:
                    clean_field(field, None)
            return cleaned
        # without names, Peewee takes the values of all fields but an id that it assigns
        names = columns or [f for f in model._meta.sorted_fields if not f.auto_increment]
        values = list(row)
        if len(values) != len(names):
            return values  # Peewee refuses it
        return [_cleaned_value(field, value) for field, value in zip(names, values, strict=True)]

    # a list may be read again, as a retry does
    return [clean(row) for row in rows] if isinstance(rows, list) else map(clean, rows)


def _names_of(model: type[BaseModel], fields: Iterable[Any]) -> set[str]:
    """Return the names of fields, which may be given by their names."""
    return {(model._meta.combined[f] if isinstance(f, str) else f).name for f in fields}


def _cleaned_value(field: Any, value: Any) -> Any:
    is_expression = isinstance(value, peewee.Node) and not isinstance(value, peewee.Model)
    if is_expression or not isinstance(field, Field) or (value is None and field.primary_key):
        return value
    return clean_field(field, value)


def clean_field(field: Any, value: Any) -> Any:
    """Return a value as its column stores it, or raise `ValidationError` naming the field."""
    if value is not None:
        return field.clean(value) if hasattr(field, "clean") else _clean_peewee_field(field, value)
    if not field.null:
        raise ValidationError(f"{field.name}: None is not allowed; pass a value", field=field.name)
    return None


def _clean_peewee_field(field: Any, value: Any) -> Any:
    if isinstance(field, peewee.ForeignKeyField):
        if isinstance(value, field.rel_model):
            row, value = value, getattr(value, field.rel_field.name)
            if value is None:
                refuse(field.name, row, "is not stored yet; record it first")
        try:
            return clean_field(field.rel_field, value)
        except ValidationError:
            name = field.rel_model.__name__
            refuse(field.name, value, f"is neither a {name} nor the id of one")
    return clean_value(field, value)


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
        contract_size: How much one contract of `quantity` is: in the base currency, of an inverse
            contract in the quote currency; None is 1.
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
    contract_size: Field[float | None] = DoubleField(  # pyright: ignore[reportCallIssue]
        null=True, positive=True
    )

    if TYPE_CHECKING:
        signal_id: int | None

    def __str__(self) -> str:
        return f"{self.side} {self.quantity} {self.symbol} at {self.price} on {self.timestamp}"


class CashFlow(BaseModel):
    """Money that moved without a trade: funding, interest, a deposit, a payout.

    Attributes:
        id: An int that the database assigns.
        timestamp: UTC; the current time by default.
        kind: `"funding"`, `"interest"`, `"rebate"` (one that is paid apart from the trades),
            `"deposit"`, `"withdrawal"`, `"payout"`, `"fee"` (one that belongs to no trade),
            `"transfer"` or `"other"`.
        currency: The currency of the amount, 1 to 20 printable characters.
        amount: Above 0 what comes in, below 0 what goes out. It may be 0, as a funding payment is
            at a rate of 0.
        symbol: The symbol of the position that it was paid for, or None.
        strategy: The name of the strategy, or None.
        exchange: The name of the exchange, or None.
        exchange_flow_id: The id that the exchange gave to it, or None; unique together with
            `exchange`.
        metadata: Any JSON value, or None.
    """

    id: Field[int] = AutoIdField()
    timestamp: Field[datetime] = UtcDateTimeField(default=now)
    kind: Field[str] = TextChoiceField(choices=CASH_FLOW_KINDS)  # pyright: ignore[reportArgumentType]
    currency: Field[str] = LabelField(max_length=20)
    amount: Field[float] = DoubleField()
    symbol: Field[str | None] = LabelField(max_length=64, null=True)
    strategy: Field[str | None] = LabelField(max_length=64, null=True)
    exchange: Field[str | None] = LabelField(max_length=32, null=True)
    exchange_flow_id: Field[str | None] = LabelField(max_length=128, null=True)
    metadata: Field[Any] = MetadataField(null=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} {self.currency} on {self.timestamp}"


class State(BaseModel):
    """A value that a bot needs after a restart, by its strategy and its key.

    Attributes:
        strategy: The name of the strategy; "" for none, as a column of the key cannot be NULL.
        key: 1 to 128 printable characters; unique in its strategy.
        value: Any JSON value, or None.
        updated_at: UTC; when the value was set.
    """

    strategy: Field[str] = OptionalLabelField(max_length=64, default="")
    key: Field[str] = LabelField(max_length=128)
    value: Field[Any] = MetadataField(null=True)
    updated_at: Field[datetime] = UtcDateTimeField(default=now)

    class Meta:  # pyright: ignore[reportIncompatibleVariableOverride]
        primary_key = peewee.CompositeKey("strategy", "key")

    def __str__(self) -> str:
        return f"{self.strategy} {self.key}, set on {self.updated_at}".lstrip()


# the models of botmemory's own tables, each after those that it refers to
MODELS = (Signal, Trade, CashFlow, State)

# each index serves a query of the repositories and has its rows in the order of the result
for _model in MODELS:
    _table = _model._meta.table_name
    for _option, _condition in (("constraints", _check), ("sqlite_constraints", _sqlite_check)):
        _checks = {field.name: _condition(field) for field in _model._meta.sorted_fields}
        _named = [Check(sql, f"{_table}_{column}_check") for column, sql in _checks.items() if sql]
        setattr(_model._meta, _option, _named)
for _model in (Signal, Trade, CashFlow):
    _table = _model._meta.table_name
    _time_order = (_model.timestamp, _model.id)
    _model.add_index(*_time_order, name=f"{_table}_timestamp")
    # a covering index for the total PnL of a symbol
    _covered = (Trade.pnl,) if _model is Trade else ()
    _has_symbol = _model.symbol.is_null(False) if _model.symbol.null else None
    _by_symbol = (_model.symbol, *_time_order, *_covered)
    _model.add_index(*_by_symbol, name=f"{_table}_symbol", where=_has_symbol)
for _model in (Signal, Trade):
    _model.add_index(
        _model.strategy,
        _model.timestamp,
        _model.id,
        name=f"{_model._meta.table_name}_strategy",
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
CashFlow.add_index(
    CashFlow.exchange,
    CashFlow.exchange_flow_id,
    name="cash_flow_exchange",
    unique=True,
    where=CashFlow.exchange_flow_id.is_null(False),
)
# for blocks with a key; in a file it would cost an INSERT more than readers gain
_meta: Any = Trade._meta
_meta.server_indexes = [
    Trade.index(
        Trade.strategy,
        Trade.symbol,
        Trade.timestamp,
        Trade.id,
        name="trade_strategy_symbol",
        where=Trade.strategy.is_null(False),
    )
]
