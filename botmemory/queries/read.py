"""What the questions of every table share: narrowing them, asking, making models of the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar, cast

import peewee
from peewee import SQL, Tuple, fn

from .._values import to_utc
from ..backends.peewee_internals import peewee_errors
from ..database import db
from ..errors import BotMemoryError, StorageError, ValidationError, show
from ..fields import UtcDateTimeField
from ..models import BaseModel, clean_field
from .codegen import maker, tuple_maker
from .compiled import Compiled, Param, compiled
from .write import key_of

Row = TypeVar("Row", bound=BaseModel)

ROWS_PER_READ = 500


def checked_limit(limit: int | None) -> int | None:
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit < 2**63:
        raise ValidationError(
            f"limit: {show(limit)} is not a number of rows; use 0, 1, 2, ... or None for all",
            field="limit",
        )
    return limit


def filters(
    model: type[BaseModel],
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> dict[str, Any]:
    """Return the checked values of the arguments every question takes, without those not given."""
    values: dict[str, Any] = {}
    if symbol is not None:
        values["symbol"] = clean_field(_field(model, "symbol"), symbol)
    if strategy is not None:
        values["strategy"] = clean_field(_field(model, "strategy"), strategy)
    if not (start_date is None and end_date is None):
        _require_timestamps(model)
    if start_date is not None:
        values["start_date"] = to_utc("start_date", start_date)
    if end_date is not None:
        values["end_date"] = end = to_utc("end_date", end_date)
        if start_date is not None and end < (start := values["start_date"]):
            raise ValidationError(f"end_date: {end} is before start_date {start}", field="end_date")
    return values


def _field(model: type[BaseModel], name: str) -> Any:
    field = model._meta.fields.get(name)
    if field is None:
        raise ValidationError(f"{name}: a {model.__name__} has no such field", field=name)
    return field


def _require_timestamps(model: type[BaseModel]) -> None:
    """Refuse to compare timestamps with what may be none, or be one of another time zone."""
    field = _field(model, "timestamp")
    if field.null or not isinstance(field, UtcDateTimeField):
        raise ValidationError(
            f"timestamp: of a {model.__name__} it is not a timestamp in UTC; declare it as "
            "botmemory.fields.UtcDateTimeField()",
            field="timestamp",
        )


def conditions(
    model: type[BaseModel], names: Iterable[str], values: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return the conditions that filters values stand for; without `values`, for any of them."""
    fields = model._meta.fields

    def given(name: str, field: Any) -> Any:
        return Param(name, field) if values is None else values[name]

    found = []
    for name in names:
        if name == "start_date":
            found.append(fields["timestamp"] >= given(name, fields["timestamp"]))
        elif name == "end_date":
            found.append(fields["timestamp"] <= given(name, fields["timestamp"]))
        else:
            found.append(fields[name] == given(name, fields[name]))
    return found


def _select(model: type[BaseModel], where: Sequence[Any], *fields: Any) -> Any:
    query: Any = model.select(*fields)
    return query.where(*where) if where else query


def _in_time(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return the fields that put rows in order: the timestamp, and the id for equal ones.

    The id alone where there is no timestamp, or may be none.
    """
    timestamp = model._meta.fields.get("timestamp")
    return (key_of(model),) if timestamp is None or timestamp.null else (timestamp, key_of(model))


def fetch_all(model: type[Row], query: Compiled, values: Mapping[str, Any]) -> list[Row]:
    """Run a compiled question and return its rows."""
    with _readable():
        rows: list[Row] = db.fetch_all(query.sql, query.bind(values), maker(model))
        return rows


def scalar(query: Compiled, values: Mapping[str, Any]) -> Any:
    """Run a compiled question whose answer is one value."""
    with _readable():
        return db.fetch_all(query.sql, query.bind(values), list)[0][0]


def fetch(query: peewee.ModelSelect[Row]) -> list[Row]:
    """Run a question that is not compiled to its end and return its rows."""
    with _readable():
        return list(query)


def each(query: peewee.ModelSelect[Row]) -> Iterator[Row]:
    """Yield what a question that is not compiled finds, a few rows at a time."""
    with _readable():
        yield from db.stream(query)


@contextmanager
def _readable() -> Iterator[None]:
    """Say what is wrong with a page, or with a row that another program has written."""
    try:
        with peewee_errors:
            yield
    except peewee.DatabaseError as error:
        named: BotMemoryError | None = db.translated(error)
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
    key = key_of(model)
    return model.select().where(key == Param("id", key))


def get_by_id(model: type[Row], id: object) -> Row | None:
    rows = fetch_all(model, _by_key(model), {"id": clean_field(key_of(model), id)})
    return rows[0] if rows else None


@compiled
def _find(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return _select(model, conditions(model, names)).limit(1)


def find(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Return the row that has these values, of which there is one at most."""
    rows = fetch_all(model, _find(model, tuple(values)), values)
    return rows[0] if rows else None


@compiled
def _newest_first(model: type[BaseModel], names: tuple[str, ...], limited: bool) -> Any:
    query = _select(model, conditions(model, names))
    query = query.order_by(*(field.desc() for field in _in_time(model)))
    return query.limit(Param("limit")) if limited else query


def newest_first(model: type[Row], values: dict[str, Any], limit: int | None) -> list[Row]:
    """Return the rows that fit the filters values, newest first."""
    limited = checked_limit(limit) is not None
    query = _newest_first(model, tuple(values), limited)
    return fetch_all(model, query, values | {"limit": limit} if limited else values)


@compiled
def _oldest_first(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return _select(model, conditions(model, names)).order_by(*_in_time(model))


def oldest_first(model: type[Row], values: dict[str, Any]) -> list[Row]:
    """Return the rows that fit the filters values, in time order."""
    return fetch_all(model, _oldest_first(model, tuple(values)), values)


@compiled
def _page(
    model: type[BaseModel], names: tuple[str, ...], first: bool, chosen: tuple[str, ...]
) -> Any:
    fields = _in_time(model)
    query = _select(model, conditions(model, names), *(model._meta.fields[n] for n in chosen))
    query = query.order_by(*fields).limit(ROWS_PER_READ)
    if first:
        return query
    return query.where(Tuple(*fields) > Tuple(*(Param(field.name) for field in fields)))


def stream(model: type[Row], values: dict[str, Any]) -> Iterator[Row]:
    """Yield rows in time order, reading some at a time: no lock and no snapshot is held between."""
    if db.streams:
        return cast("Iterator[Row]", db.stream(_all_in_time(model, values)))
    return _paged(model, values, tuple(model._meta.sorted_field_names), maker(model))


def stream_values(
    model: type[BaseModel], values: dict[str, Any], *chosen: str
) -> Iterator[tuple[Any, ...]]:
    """Yield what `stream` does, as tuples of the timestamp, the id and the chosen fields."""
    names = tuple(field.name for field in _in_time(model)) + chosen
    if db.streams:
        fields = [model._meta.fields[name] for name in names]
        return cast("Iterator[Any]", db.stream(_all_in_time(model, values, *fields).tuples()))
    return _paged(model, values, names, tuple_maker(model, names))


def batches(
    model: type[BaseModel], values: dict[str, Any], size: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows of one time in no order, as tuples of what the driver gives for every field."""
    query = _select(model, conditions(model, values, values)).tuples()
    with _readable():
        if db.streams:
            rows = iter(db.stream(query))
            while some := list(islice(rows, size)):
                yield some
        else:
            cursor: Any = db.execute(query)
            while some := cursor.fetchmany(size):
                yield some


def _all_in_time(model: type[BaseModel], values: dict[str, Any], *fields: Any) -> Any:
    query = _select(model, conditions(model, values, values), *fields)
    return query.order_by(*_in_time(model))


def _paged(
    model: type[BaseModel],
    values: dict[str, Any],
    chosen: tuple[str, ...],
    make: Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]],
) -> Iterator[Any]:
    after: dict[str, Any] = {}
    while True:
        query = _page(model, tuple(values), not after, chosen)
        with _readable():
            rows = db.fetch_all(query.sql, query.bind(values | after), list)
            yield from make(rows)
        if len(rows) < ROWS_PER_READ:
            return
        last = dict(zip(chosen, rows[-1], strict=True))
        after = {field.name: last[field.name] for field in _in_time(model)}


@compiled
def _count(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return _select(model, conditions(model, names), fn.COUNT(SQL("*")))


def count(model: type[BaseModel], values: dict[str, Any]) -> int:
    return int(scalar(_count(model, tuple(values)), values))


@compiled
def _total(model: type[BaseModel], field: str, names: tuple[str, ...]) -> Any:
    return _select(model, conditions(model, names), fn.SUM(model._meta.fields[field]))


def total(model: type[BaseModel], field: str, values: dict[str, Any]) -> float:
    return float(scalar(_total(model, field, tuple(values)), values) or 0.0)


def select_where(model: type[Row], values: dict[str, Any], *more: Any) -> peewee.ModelSelect[Row]:
    """Return a question that is not compiled, newest first, for conditions that are never alike."""
    query: peewee.ModelSelect[Row] = _select(model, [*conditions(model, values, values), *more])
    return query.order_by(*(field.desc() for field in _in_time(model)))


def distinct(model: type[BaseModel], field: str, values: dict[str, Any]) -> list[Any]:
    """Return the values of a field, each once, in no order."""
    query = _distinct(model, field, tuple(values))
    with _readable():
        return [value for (value,) in db.fetch_all(query.sql, query.bind(values), list)]


@compiled
def _distinct(model: type[BaseModel], field: str, names: tuple[str, ...]) -> Any:
    return _select(model, conditions(model, names), model._meta.fields[field]).distinct()
