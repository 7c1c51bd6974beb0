"""What the functions of every table share: checking values, writing rows, reading them back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar, cast

import peewee
from peewee import SQL, Tuple, __exception_wrapper__, fn  # type: ignore[attr-defined]

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
from ._compiled import Compiled, Param, compiled, maker

Row = TypeVar("Row", bound=BaseModel)

ROWS_PER_STATEMENT = 500  # SQLite takes 32,766 parameters, PostgreSQL 65,535
ROWS_PER_READ = 500


# --- checking -------------------------------------------------------------------------------


def prepare(model: type[Row], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return one value for every field, checked and with the defaults filled in."""
    fields = model._meta.fields
    if not values.keys() <= fields.keys():
        for name, value in values.items():
            if name not in fields:
                refuse_name(model, name, value)
    ready = {}
    for name, field in fields.items():
        value = values.get(name)
        if value is not None:
            ready[name] = _ready(field, value)
        elif field.default is not None:
            ready[name] = field.default()
        elif field is not model._meta.primary_key:  # which the database counts
            ready[name] = None if field.null else _ready(field, None)
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
) -> dict[str, Any]:
    """Return the checked values of the arguments every question takes, without those not given."""
    fields = model._meta.fields
    values: dict[str, Any] = {}
    if symbol is not None:
        values["symbol"] = fields["symbol"].clean(symbol)
    if strategy is not None:
        values["strategy"] = fields["strategy"].clean(strategy)
    if start_date is not None:
        values["start_date"] = to_utc("start_date", start_date)
    if end_date is not None:
        values["end_date"] = end = to_utc("end_date", end_date)
        if start_date is not None and end < (start := values["start_date"]):
            raise ValidationError(f"end_date: {end} is before start_date {start}", field="end_date")
    return values


# --- writing --------------------------------------------------------------------------------


class _NotAllStoredError(Exception):
    pass


@compiled
def _insert(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    fields = model._meta.fields
    row = {fields[name]: Param(name, fields[name]) for name in names}
    # not by way of an error: PostgreSQL gives up a whole transaction after one
    return model.insert(row).on_conflict(action="nothing")


@compiled
def _insert_counted(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    fields = model._meta.fields
    return model.insert({fields[name]: Param(name, fields[name]) for name in names})


def insert_counted(model: type[Row], values: dict[str, Any]) -> Row:
    """Store one prepared row and return it with the id the database gave it."""
    query = _insert_counted(model, tuple(values))
    params = query.bind(values)
    with _broken_rules(model, values):
        counted = db.opened().insert_counted(query.sql, params)
    return _stored(model, {_key(model).name: counted, **values})


def insert_if_new(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Store one prepared row and return it; None when a row with its keys is there already."""
    query = _insert(model, tuple(values))
    params = query.bind(values)
    with _broken_rules(model, values):
        stored = db.opened().change(query.sql, params)
    return _stored(model, values) if stored else None


def _stored(model: type[Row], values: dict[str, Any]) -> Row:
    """Return the model of a row that was stored; a row it refers to needs no look-up."""
    made: Any = model.__new__(model)
    made.__data__, made.__rel__, made._dirty = values, {}, set()
    for field in model._meta.refs:
        if isinstance(row := values[field.name], BaseModel):
            values[field.name], made.__rel__[field.name] = row._pk, row
    stored: Row = made
    return stored


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
            ready, bound = [], []
            query: Compiled | None = None
            for index, row in chunk:
                try:
                    if not isinstance(row, Mapping):
                        raise ValidationError(f"{show(row)} is not a mapping of field names")
                    values = prepare_one(row)
                    if query is None or len(values) != len(query.names):  # some bring their key
                        query = _insert(model, tuple(values))
                    bound.append(query.bind(values))
                except ValidationError as error:
                    _locate(error, index)
                    raise
                ready.append(values)
            if not _stored_at_once(model, cast(Compiled, query), bound):
                for (index, _), values in zip(chunk, ready, strict=True):
                    try:
                        insert_one(values)
                    except (ValidationError, DuplicateError) as error:
                        _locate(error, index)
                        raise
            count += len(ready)
    return count


def _stored_at_once(model: type[BaseModel], query: Compiled, rows: list[list[Any]]) -> bool:
    """Store a chunk of rows, all or none, and return whether the database took them."""
    if any(len(row) != len(query.names) for row in rows):
        return False
    fields = [model._meta.fields[name] for name in query.names]
    try:
        with session_scope():
            if db.insert_rows(query.sql, rows, fields) < len(rows):
                raise _NotAllStoredError
    except (_NotAllStoredError, peewee.IntegrityError, peewee.DataError):
        return False
    return True


def _locate(error: ValidationError | DuplicateError, index: int) -> None:
    """Say in the message which of several rows was refused."""
    error.args = (f"rows[{index}]: {error}",)


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


class _broken_rules:  # noqa: N801  (used as a function; a generator would take twice the time)
    """Raise what the schema refuses as the error the caller knows, and undo no more than that.

    Of a `new` row, checked before, the database can refuse a reference only.
    """

    def __init__(self, model: type[BaseModel], new: Mapping[str, Any] | None = None) -> None:
        self._model = model
        safe = new is not None and all(new[field.name] is None for field in model._meta.refs)
        self._undone = None if safe else db.opened().statement()

    def __enter__(self) -> None:
        if self._undone is not None:
            self._undone.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._undone is not None:
            self._undone.__exit__(kind, error, trace)
        if isinstance(error, (peewee.IntegrityError, peewee.DataError)):
            raise _refused(self._model, error) from error


def _refused(model: type[BaseModel], error: peewee.PeeweeException) -> Exception:
    kind = db.broken_rule(error)
    if kind == "reference":
        names = [
            f"{field.name}: there is no such {parent.__name__}"
            for field, parent in model._meta.refs.items()
        ]
        return ValidationError(
            f"{', '.join(names)}; record it first", field=names[0].partition(":")[0]
        )
    if kind == "unique":
        return DuplicateError(f"a {model.__name__} with these keys is there already")
    return ValidationError(f"the schema refuses it: {error}")


# --- reading --------------------------------------------------------------------------------


def _conditions(
    model: type[BaseModel], names: Iterable[str], values: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return the conditions that narrowed values stand for; without `values`, for any of them."""
    fields = model._meta.fields

    def given(name: str, field: Any) -> Any:
        return Param(name, field) if values is None else values[name]

    conditions = []
    for name in names:
        if name == "start_date":
            conditions.append(fields["timestamp"] >= given(name, fields["timestamp"]))
        elif name == "end_date":
            conditions.append(fields["timestamp"] <= given(name, fields["timestamp"]))
        else:
            conditions.append(fields[name] == given(name, fields[name]))
    return conditions


def _select(model: type[BaseModel], conditions: Sequence[Any], *fields: Any) -> Any:
    query: Any = model.select(*fields)
    return query.where(*conditions) if conditions else query


def _in_time(model: type[BaseModel]) -> tuple[Any, Any]:
    """Return the fields that put rows in order: the moment, and the id for equal ones."""
    return model._meta.fields["timestamp"], _key(model)


def ask(model: type[Row], query: Compiled, values: Mapping[str, Any]) -> list[Row]:
    """Run a compiled question and return its rows."""
    with _readable():
        rows: list[Row] = db.ask(query.sql, query.bind(values), maker(model))
        return rows


def ask_one(query: Compiled, values: Mapping[str, Any]) -> Any:
    """Run a compiled question whose answer is one value."""
    with _readable():
        return db.ask(query.sql, query.bind(values), list)[0][0]


def fetch(query: peewee.ModelSelect[Row]) -> list[Row]:
    """Run a question that is not compiled to its end and return its rows."""
    with _readable():
        return list(query)


@contextmanager
def _readable() -> Iterator[None]:
    """Say what is wrong with a page, or with a row that another program has written."""
    try:
        with __exception_wrapper__:
            yield
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


@compiled
def _by_key(model: type[BaseModel]) -> Any:
    key = _key(model)
    return model.select().where(key == Param("id", key))


def get_by_id(model: type[Row], id: object) -> Row | None:
    rows = ask(model, _by_key(model), {"id": _key(model).clean(id)})
    return rows[0] if rows else None


@compiled
def _find(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return _select(model, _conditions(model, names)).limit(1)


def find(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Return the row that has these values, of which there is one at most."""
    rows = ask(model, _find(model, tuple(values)), values)
    return rows[0] if rows else None


@compiled
def _newest_first(model: type[BaseModel], names: tuple[str, ...], limited: bool) -> Any:
    query = _select(model, _conditions(model, names))
    query = query.order_by(*(field.desc() for field in _in_time(model)))
    return query.limit(Param("limit")) if limited else query


def newest_first(model: type[Row], values: dict[str, Any], limit: int | None) -> list[Row]:
    """Return the rows that fit the narrowed values, newest first."""
    limited = checked_limit(limit) is not None
    query = _newest_first(model, tuple(values), limited)
    return ask(model, query, values | {"limit": limit} if limited else values)


@compiled
def _oldest_first(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return _select(model, _conditions(model, names)).order_by(*_in_time(model))


def oldest_first(model: type[Row], values: dict[str, Any]) -> list[Row]:
    """Return the rows that fit the narrowed values, in time order."""
    return ask(model, _oldest_first(model, tuple(values)), values)


@compiled
def _page(model: type[BaseModel], names: tuple[str, ...], first: bool) -> Any:
    fields = _in_time(model)
    query = _select(model, _conditions(model, names)).order_by(*fields).limit(ROWS_PER_READ)
    if first:
        return query
    return query.where(Tuple(*fields) > Tuple(*(Param(f"last_{f.name}", f) for f in fields)))


def stream(model: type[Row], values: dict[str, Any]) -> Iterator[Row]:
    """Yield rows in time order, reading some at a time: no lock and no snapshot is held between."""
    fields = _in_time(model)
    if db.streams:
        yield from db.stream(_select(model, _conditions(model, values, values)).order_by(*fields))
        return
    rows = ask(model, _page(model, tuple(values), True), values)
    yield from rows
    while len(rows) == ROWS_PER_READ:
        last = {f"last_{field.name}": getattr(rows[-1], field.name) for field in fields}
        rows = ask(model, _page(model, tuple(values), False), values | last)
        yield from rows


@compiled
def _count(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return _select(model, _conditions(model, names), fn.COUNT(SQL("*")))


def count(model: type[BaseModel], values: dict[str, Any]) -> int:
    return int(ask_one(_count(model, tuple(values)), values))


@compiled
def _total(model: type[BaseModel], field: str, names: tuple[str, ...]) -> Any:
    return _select(model, _conditions(model, names), fn.SUM(model._meta.fields[field]))


def total(model: type[BaseModel], field: str, values: dict[str, Any]) -> float:
    return float(ask_one(_total(model, field, tuple(values)), values) or 0.0)


def select_where(model: type[Row], values: dict[str, Any], *more: Any) -> peewee.ModelSelect[Row]:
    """Return a question that is not compiled, newest first, for conditions that are never alike."""
    conditions = [*_conditions(model, values, values), *more]
    query: peewee.ModelSelect[Row] = _select(model, conditions)
    return query.order_by(*(field.desc() for field in _in_time(model)))


def distinct(model: type[BaseModel], field: str, values: dict[str, Any]) -> list[Any]:
    """Return the values of a field, each once, in no order."""
    query = _distinct(model, field, tuple(values))
    with _readable():
        return [value for (value,) in db.ask(query.sql, query.bind(values), list)]


@compiled
def _distinct(model: type[BaseModel], field: str, names: tuple[str, ...]) -> Any:
    return _select(model, _conditions(model, names), model._meta.fields[field]).distinct()
