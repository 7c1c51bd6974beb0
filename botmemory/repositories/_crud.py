"""What the functions of every table share: checking values, writing rows, reading them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import peewee
from peewee import Tuple, __exception_wrapper__, fn  # type: ignore[attr-defined]

from .._calls import suggestion
from ..database import db, session_scope
from ..errors import (
    BotMemoryError,
    DuplicateError,
    NotFoundError,
    StorageError,
    ValidationError,
    show,
)
from ..models import BaseModel, clean_field
from ..values import to_utc

Row = TypeVar("Row", bound=BaseModel)

ROWS_PER_STATEMENT = 500  # SQLite takes 32,766 parameters, PostgreSQL 65,535
ROWS_PER_READ = 1000


# --- checking -------------------------------------------------------------------------------


def prepare(model: type[Row], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return one value for every field, checked and with the defaults filled in."""
    fields = model._meta.fields
    for name, value in values.items():
        if name not in fields:
            refuse_name(model, name, value)
    ready = {}
    for name, field in fields.items():
        value = values.get(name)
        if value is None and field.default is not None:
            value = field.default()
        if value is None and field is model._meta.primary_key:
            continue  # the database counts it
        ready[name] = _ready(field, value)
    return ready


def _ready(field: Any, value: Any) -> Any:
    """Return a checked value; a row stays the row, so that a reference to it needs no look-up."""
    cleaned = clean_field(field, value)
    return value if isinstance(value, BaseModel) else cleaned


def required(name: str, value: Any) -> Any:
    """Return an argument that may not be None."""
    if value is None:
        raise ValidationError(f"{name}: None is not allowed; pass a value", field=name)
    return value


def _key(model: type[BaseModel]) -> Any:
    return model._meta.primary_key


def refuse_name(model: type[BaseModel], name: str, value: object) -> None:
    known = model._meta.sorted_field_names
    raise ValidationError(
        f"{name}: a {model.__name__} has no such field{suggestion(name, known)}; "
        f"got {show(value)}, it has {', '.join(known)}",
        field=name,
    )


def require(model: type[Row], row: Row) -> None:
    """Refuse what is not a row of this table."""
    if not isinstance(row, model):
        name = model.__name__
        raise ValidationError(f"{name.lower()}: {show(row)} is not a {name}", field=name.lower())


def checked_limit(limit: int | None) -> int | None:
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit < 2**63:
        raise ValidationError(
            f"limit: {show(limit)} is not a number of rows; use 0, 1, 2, ... or None for all",
            field="limit",
        )
    return limit


def narrowed(
    model: type[BaseModel],
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> list[Any]:
    """Return the conditions that the arguments every question takes stand for."""
    conditions = []
    for name, value in (("symbol", symbol), ("strategy", strategy)):
        if value is not None:
            field = model._meta.fields[name]
            conditions.append(field == field.clean(value))
    moment = model._meta.fields["timestamp"]
    start = None if start_date is None else to_utc("start_date", start_date)
    end = None if end_date is None else to_utc("end_date", end_date)
    if start is not None and end is not None and end < start:
        raise ValidationError(f"end_date: {end} is before start_date {start}", field="end_date")
    if start is not None:
        conditions.append(moment >= start)
    if end is not None:
        conditions.append(moment <= end)
    return conditions


# --- writing --------------------------------------------------------------------------------


class _NotAllStoredError(Exception):
    pass


def insert_counted(model: type[Row], values: dict[str, Any]) -> Row:
    """Store one prepared row and return it with the id the database gave it."""
    with _broken_rules(model, values):
        counted = model.insert(values).execute()
    return _as_loaded(model(**values, **{_key(model).name: counted}))


def insert_if_new(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Store one prepared row and return it; None when a row with its keys is there already."""
    # not by way of an error: PostgreSQL gives up a whole transaction after one
    query = model.insert(values).on_conflict(action="nothing").as_rowcount()
    with _broken_rules(model, values):
        stored = query.execute()
    return _as_loaded(model(**values)) if stored else None


def insert_many(
    model: type[Row],
    rows: Iterable[Mapping[str, Any]],
    prepare_one: Callable[[Mapping[str, Any]], dict[str, Any]],
    insert_one: Callable[[dict[str, Any]], object],
) -> int:
    """Store rows in one transaction, all or none, and return how many there were.

    Where the database refuses a chunk, its rows are stored singly to say which one it was.
    """
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise ValidationError(f"rows: {show(rows)} is not a series of mappings", field="rows")
    numbered = enumerate(rows)
    count = 0
    with session_scope():
        while chunk := list(islice(numbered, ROWS_PER_STATEMENT)):
            ready = []
            for index, row in chunk:
                with _located(index):
                    if not isinstance(row, Mapping):
                        raise ValidationError(f"{show(row)} is not a mapping of field names")
                    ready.append(prepare_one(row))
            try:
                with session_scope():
                    if db.insert_rows(model, ready) < len(ready):
                        raise _NotAllStoredError
            except (_NotAllStoredError, peewee.IntegrityError, peewee.DataError):
                for (index, _), values in zip(chunk, ready, strict=True):
                    with _located(index):
                        insert_one(values)
            count += len(ready)
    return count


def update(row: Row, changes: Mapping[str, Any]) -> None:
    """Write the named fields and those assigned on `row` since it was loaded, and no others."""
    model = type(row)
    key = _key(model).name
    for name in vars(row).keys() - {"__data__", "__rel__", "_dirty"}:
        refuse_name(model, name, getattr(row, name))
    values = {name: row.__data__[name] for name in row._dirty} | dict(changes)
    for name, value in values.items():
        if name not in model._meta.fields:
            refuse_name(model, name, value)
        if name == key:
            raise ValidationError(f"{key}: cannot be changed; got {show(value)}", field=key)
    if not values:
        name = model.__name__.lower()
        raise ValidationError(
            f"nothing to change; name a field, as in update({name}, strategy='a')"
        )
    ready = {name: _ready(model._meta.fields[name], value) for name, value in values.items()}
    with _broken_rules(model):
        if not model.update(ready).where(row._pk_expr()).execute():
            raise _gone(row)
    for name, value in ready.items():
        setattr(row, name, value)
    _as_loaded(row)


def delete(row: BaseModel) -> None:
    """Delete one row; raise `NotFoundError` if it is gone already."""
    if not type(row).delete().where(row._pk_expr()).execute():
        raise _gone(row)


def _as_loaded(row: Row) -> Row:
    row._dirty.clear()
    return row


def _gone(row: BaseModel) -> NotFoundError:
    return NotFoundError(
        f"{type(row).__name__} {row._pk} is not in {db.config.label}: deleted, or never stored"
    )


@contextmanager
def _located(index: int) -> Iterator[None]:
    """Say in the message which of several rows was refused."""
    try:
        yield
    except (ValidationError, DuplicateError) as error:
        error.args = (f"rows[{index}]: {error}",)
        raise


@contextmanager
def _broken_rules(model: type[BaseModel], new: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Raise what the schema refuses as the error the caller knows, and undo no more than that.

    Of a `new` row, checked before, the database can refuse a reference only.
    """
    safe = new is not None and all(new[field.name] is None for field in model._meta.refs)
    try:
        with nullcontext() if safe else db.statement():
            yield
    except (peewee.IntegrityError, peewee.DataError) as error:
        kind = db.broken_rule(error)
        if kind == "reference":
            names = [
                f"{field.name}: there is no such {parent.__name__}"
                for field, parent in model._meta.refs.items()
            ]
            raise ValidationError(
                f"{', '.join(names)}; record it first", field=names[0].partition(":")[0]
            ) from error
        if kind == "unique":
            raise DuplicateError(f"a {model.__name__} with these keys is there already") from error
        raise ValidationError(f"the schema refuses it: {error}") from error


# --- reading --------------------------------------------------------------------------------


def fetch(query: peewee.ModelSelect[Row]) -> list[Row]:
    """Run a query to its end and return its rows; a damaged page is a named error."""
    try:
        with __exception_wrapper__:
            return list(query)
    except peewee.DatabaseError as error:
        named: BotMemoryError | None = db.named_error(error)
        if named is None:
            raise
        raise named from error
    except BotMemoryError:
        raise
    except ValueError as error:
        raise StorageError(
            f"{db.config.label}: holds a row that cannot be read ({error}); another program has "
            "written it: botmemory.upkeep.check.check() names it"
        ) from error


def select(model: type[Row], conditions: Sequence[Any], *fields: Any) -> peewee.ModelSelect[Row]:
    query = model.select(*fields)
    return query.where(*conditions) if conditions else query


def first(query: peewee.ModelSelect[Row]) -> Row | None:
    return next(iter(fetch(query.limit(1))), None)


def _in_time(model: type[BaseModel]) -> tuple[Any, Any]:
    """Return the fields that put rows in order: the moment, and the id for equal ones."""
    return model._meta.fields["timestamp"], _key(model)


def get_by_id(model: type[Row], id: object) -> Row | None:
    key = _key(model)
    return first(model.select().where(key == key.clean(id)))


def newest_first(model: type[Row], conditions: Sequence[Any], limit: int | None) -> list[Row]:
    query = select(model, conditions).order_by(*(field.desc() for field in _in_time(model)))
    return fetch(query.limit(checked_limit(limit)))


def oldest_first(model: type[Row], conditions: Sequence[Any]) -> peewee.ModelSelect[Row]:
    return select(model, conditions).order_by(*_in_time(model))


def stream(model: type[Row], conditions: Sequence[Any]) -> Iterator[Row]:
    """Yield rows in time order, reading some at a time: no lock and no snapshot is held between."""
    fields = _in_time(model)
    query = oldest_first(model, conditions)
    streamed: Iterator[Row] | None = db.stream(query)
    if streamed is not None:
        yield from streamed
        return
    query = query.limit(ROWS_PER_READ)
    rows = fetch(query)
    yield from rows
    while len(rows) == ROWS_PER_READ:
        last = [field.to_value(getattr(rows[-1], field.name)) for field in fields]
        rows = fetch(query.where(Tuple(*fields) > Tuple(*last)))
        yield from rows


def count(model: type[BaseModel], conditions: Sequence[Any]) -> int:
    return int(select(model, conditions, fn.COUNT(model._meta.primary_key)).scalar())
