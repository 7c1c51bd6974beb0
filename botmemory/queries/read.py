"""Read rows of any table: filters, queries, and models made of the result."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial, reduce
from itertools import islice
from typing import Any, TypeVar

import peewee
from peewee import SQL, Tuple, Value, fn

from .._values import plain_text, to_utc
from ..backends.keys import refuse_unknown_key, require_key
from ..backends.peewee_internals import peewee_errors
from ..database import db
from ..errors import BotMemoryError, StorageError, ValidationError, show
from ..fields import UtcDateTimeField
from ..models import BaseModel, clean_field, key_fields, require_key_of
from . import write
from .codegen import Maker, maker, tuple_maker
from .compiled import Compiled, Param, compiled
from .write import require_open_database

R = TypeVar("R")
Row = TypeVar("Row", bound=BaseModel)

ROWS_PER_READ = 500
KEYS_PER_QUERY = 20  # composite ones: SQLite's parser allows few conditions inside each other

# filters that are not an equality with the field of their name: the field, and the condition
_CONDITIONS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "start_date": ("timestamp", operator.ge),
    "end_date": ("timestamp", operator.le),
    "before": ("timestamp", operator.lt),
    "without_strategy": ("strategy", lambda field, _: field.is_null()),
    "without_exchange": ("exchange", lambda field, _: field.is_null()),
    "without_symbol": ("symbol", lambda field, _: field.is_null()),
}


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
    exchange: str | None = None,
    before: datetime | None = None,
    **equal: Any,
) -> dict[str, Any]:
    """Return the validated filter arguments by name, without those that are None.

    An empty symbol, strategy or exchange is `without_symbol`, `without_strategy` or
    `without_exchange`: only rows that have none. `equal` has the values of other fields.
    """
    values: dict[str, Any] = {}
    if symbol is not None:
        _add_label(values, model, "symbol", symbol)
    if strategy is not None:
        _add_label(values, model, "strategy", strategy)
    if exchange is not None:
        _add_label(values, model, "exchange", exchange)
    for name, value in equal.items():
        if value is not None:
            values[name] = clean_field(_field(model, name), value)
    if not (start_date is None and end_date is None and before is None):
        _require_timestamps(model)
    if before is not None:
        values["before"] = to_utc("before", before)
    if start_date is not None:
        values["start_date"] = to_utc("start_date", start_date)
    if end_date is not None:
        values["end_date"] = end = to_utc("end_date", end_date)
        if start_date is not None and end < (start := values["start_date"]):
            raise ValidationError(f"end_date: {end} is before start_date {start}", field="end_date")
    return values


def _add_label(values: dict[str, Any], model: type[BaseModel], name: str, label: str) -> None:
    """Add the filter for a label of which "" stands for NULL where the field may be null."""
    field = _field(model, name)
    if field.null and isinstance(label, str) and not plain_text(label):
        values[f"without_{name}"] = True
    else:
        values[name] = clean_field(field, label)


def _field(model: type[BaseModel], name: str) -> Any:
    field = model._meta.fields.get(name)
    if field is None:
        raise ValidationError(f"{name}: a {model.__name__} has no such field", field=name)
    return field


def _require_timestamps(model: type[BaseModel]) -> None:
    """Refuse a date filter for a model without a timestamp, or with one that may not be in UTC."""
    field = _field(model, "timestamp")
    if field.null or not isinstance(field, UtcDateTimeField):
        raise ValidationError(
            f"timestamp: that of a {model.__name__} may not be in UTC or may be NULL; declare it "
            "as botmemory.fields.UtcDateTimeField()",
            field="timestamp",
        )


def conditions(
    model: type[BaseModel], names: Iterable[str], values: Mapping[str, Any] | None = None
) -> list[Any]:
    """Return the conditions of filters, with parameters where there are no `values`."""
    expressions = []
    for name in names:
        column, compare = _CONDITIONS.get(name, (name, operator.eq))
        field = model._meta.fields[column]
        expressions.append(compare(field, Param(name, field) if values is None else values[name]))
    return expressions


def select(model: type[BaseModel], where: Sequence[Any], *fields: Any) -> Any:
    query: Any = model.select(*fields)
    return query.where(*where) if where else query


def _time_order(model: type[BaseModel]) -> tuple[Any, ...]:
    """Return the fields to order by: timestamp and key, or the key without a timestamp."""
    timestamp, keys = model._meta.fields.get("timestamp"), key_fields(model)
    if timestamp is None or timestamp.null:
        return tuple(keys)
    # not `timestamp in keys`, as == makes an expression
    return (timestamp, *(key for key in keys if key is not timestamp))


def fetch_all(model: type[Row], query: Compiled, values: Mapping[str, Any]) -> list[Row]:
    """Run a compiled query and return its rows."""
    if require_own_keys(values):
        return db.current().reading_own_keys(partial(_fetch_all, model, query, values))
    return _fetch_all(model, query, values)


def _fetch_all(model: type[Row], query: Compiled, values: Mapping[str, Any]) -> list[Row]:
    require_open_database(model)
    with _translated_errors:
        rows: list[Row] = db.current().fetch_all(query.sql, query.bind(values), maker(model))
        return rows


def scalar(query: Compiled, values: Mapping[str, Any]) -> Any:
    """Run a compiled query whose result is one value."""
    fetch = partial(db.fetch_all, query.sql, query.bind(values), list)
    with _translated_errors:
        return with_own_keys(values, fetch)[0][0]


def fetch(query: peewee.ModelSelect[Row], values: Mapping[str, Any] | None = None) -> list[Row]:
    """Run a Peewee query and return its rows; `values` are the filters in it."""
    with _translated_errors:
        return with_own_keys(values, lambda: list(query))


def stream_query(query: peewee.ModelSelect[Row]) -> Iterator[Row]:
    """Run a Peewee query and yield its rows, reading a few at a time."""
    with _translated_errors:
        yield from _stream_own(query, None)


class _TranslatedErrors:
    """Raises `StorageError` for a damaged page or a row that another program has written wrongly.

    It has no state, so that entering it costs little.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, BotMemoryError):
                _raise_translated(error)
        finally:
            del error, _trace  # which refer to this frame: neither would be freed


def _raise_translated(error: Exception) -> None:
    try:
        with peewee_errors:
            raise error
    except peewee.DatabaseError as of_peewee:
        translated: BotMemoryError | None = db.translated(of_peewee)
        if translated is None:
            raise
        try:
            raise translated from of_peewee
        finally:
            del translated  # its traceback refers to this frame: neither would be freed
    except ValueError as of_value:
        raise StorageError(
            f"{db.config.label}: contains a row that cannot be read ({of_value}), written by "
            "another program; botmemory.upkeep.check.check() names it"
        ) from of_value
    finally:
        del error


_translated_errors = _TranslatedErrors()


def require_own_keys(values: Mapping[str, Any] | None) -> bool:
    """Refuse a read whose filters name no key of the open block; return whether it has keys."""
    keys = db.current().block_keys()
    if keys is None:
        return False
    if values is None or "symbol" not in values or not {"strategy", "without_strategy"} & {*values}:
        refuse_unknown_key(keys, "this query")
    require_key(keys, (values.get("strategy") or None, values["symbol"]))
    return True


def with_own_keys(values: Mapping[str, Any] | None, read: Callable[[], R]) -> R:
    """Call what reads with these filters; refuse those that name no key of the open block."""
    return db.current().reading_own_keys(read) if require_own_keys(values) else read()


def _stream_own(query: Any, values: Mapping[str, Any] | None) -> Iterator[Any]:
    """Yield the rows of a query with these filters."""
    require_own_keys(values)  # of the block that is open at the first row
    yield from db.stream(query)


def get_by_id(model: type[Row], id: object) -> Row | None:
    keys = key_fields(model)
    parts = (id,) if len(keys) == 1 else id
    if not isinstance(parts, (tuple, list)) or len(parts) != len(keys):
        names = ", ".join(key.name for key in keys)
        raise ValidationError(f"id: {show(id)} is not a key; pass a tuple ({names})", field="id")
    pairs = zip(keys, parts, strict=True)
    return find(model, {key.name: clean_field(key, part) for key, part in pairs})


@compiled
def _find(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    fields = [model._meta.fields[name] for name in names]
    return model.select().where(*(field == Param(field.name, field) for field in fields))


def find(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Return the row with these values of a key or of another unique index."""
    database = db.current()
    query, keys = _find(model, tuple(values)), database.block_keys()
    if keys is None:
        rows = _fetch_all(model, query, values)
        return rows[0] if rows else None
    rows = database.reading_own_keys(partial(_fetch_all, model, query, values))
    for row in rows:
        require_key_of(keys, row)
    return rows[0] if rows else None


def find_duplicate(model: type[Row], values: dict[str, Any]) -> Row | None:
    """Return the row, of any key, with the unique values of one that is refused for them."""
    return db.current().reading_own_keys(partial(find, model, values))


def have_keys(model: type[BaseModel], rows: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """Yield conditions, each for another query, for the rows with the keys of these values."""
    keys = key_fields(model)
    if len(keys) == 1:
        yield keys[0].in_([row[keys[0].name] for row in rows])
        return
    for start in range(0, len(rows), KEYS_PER_QUERY):
        some = rows[start : start + KEYS_PER_QUERY]
        is_match = [reduce(operator.and_, (key == row[key.name] for key in keys)) for row in some]
        yield reduce(operator.or_, is_match)


def insert_or_find(
    model: type[Row], values: dict[str, Any], names: tuple[str, ...]
) -> tuple[Row | None, bool]:
    """Insert one prepared row and return it and True; or the row with the same unique values.

    `names` are those of a unique index. The row is None where the new one has another duplicate.
    """
    database = db.current()
    unique = {name: values[name] for name in names}
    if write.calls_save(model) or database.block_keys() is not None:
        new = write.insert_if_new(model, values)
        return (find(model, unique), False) if new is None else (new, True)
    query = _find(model, names)
    rows = write.insert_or_fetch(model, values, (query.sql, query.bind(unique)))
    if rows is None:
        return write.to_model(model, values), True
    with _translated_errors:
        return next(maker(model)(rows), None), False


@compiled
def _newest_first(model: type[BaseModel], names: tuple[str, ...], limited: bool) -> Any:
    query = select(model, conditions(model, names))
    query = query.order_by(*(field.desc() for field in _time_order(model)))
    return query.limit(Param("limit")) if limited else query


def newest_first(model: type[Row], values: dict[str, Any], limit: int | None) -> list[Row]:
    """Return the rows that match the filters, newest first."""
    limited = checked_limit(limit) is not None
    query = _newest_first(model, tuple(values), limited)
    return fetch_all(model, query, values | {"limit": limit} if limited else values)


@compiled
def _oldest_first(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return select(model, conditions(model, names)).order_by(*_time_order(model))


def oldest_first(model: type[Row], values: dict[str, Any]) -> list[Row]:
    """Return the rows that match the filters, in time order."""
    return fetch_all(model, _oldest_first(model, tuple(values)), values)


@compiled
def _page(
    model: type[BaseModel], names: tuple[str, ...], is_first: bool, columns: tuple[str, ...]
) -> Any:
    order = _time_order(model)
    query = select(model, conditions(model, names), *(model._meta.fields[n] for n in columns))
    query = query.order_by(*order).limit(ROWS_PER_READ)
    if is_first:
        return query
    return query.where(Tuple(*order) > Tuple(*(Param(field.name) for field in order)))


def stream(model: type[Row], values: dict[str, Any]) -> Iterator[Row]:
    """Yield rows in time order, reading a few at a time; no lock is held in between."""
    require_open_database(model)
    require_own_keys(values)
    # outside of a transaction, a cursor of the server would have to read all rows first
    if db.streams and db.is_in_transaction():
        return _stream_own(_all_in_time_order(model, values), values)
    return stream_pages(model, values)


def stream_pages(model: type[Row], values: dict[str, Any]) -> Iterator[Row]:
    """Yield rows as `stream` does, with a query for each page: the caller may delete them."""
    require_open_database(model)
    return _stream_pages(model, values, tuple(model._meta.sorted_field_names), maker(model))


def stream_values(
    model: type[BaseModel], values: dict[str, Any], *names: str
) -> Iterator[tuple[Any, ...]]:
    """Yield rows as `stream` does, as tuples of the timestamp, the id and the named fields."""
    require_open_database(model)
    columns = tuple(field.name for field in _time_order(model)) + names
    if db.streams:
        require_own_keys(values)
        fields = [model._meta.fields[name] for name in columns]
        return _stream_own(_all_in_time_order(model, values, *fields).tuples(), values)
    return _stream_pages(model, values, columns, tuple_maker(model, columns))


def batches(
    model: type[BaseModel],
    values: dict[str, Any],
    size: int,
    *fields: Any,
    where: Sequence[Any] = (),
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield all rows of one query in no order, as tuples of the driver's values.

    They are of every field where none is given.
    """
    require_open_database(model)
    query = select(model, [*conditions(model, values, values), *where], *fields)
    return driver_rows(query, size, values)


def ordered_batches(
    model: type[BaseModel], where: Sequence[Any], size: int, *fields: Any
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows in time order, as tuples of the driver's values; no lock is held in between.

    `fields` has those by which rows are ordered, the timestamp and the key.
    """
    require_open_database(model)
    order = _time_order(model)
    query = select(model, where, *fields).order_by(*order)
    if db.streams:
        yield from driver_rows(query, size)
        return
    places = [next(n for n, field in enumerate(fields) if field is part) for part in order]
    page = query
    while rows := next(driver_rows(page.limit(size), size), []):
        yield rows
        if len(rows) < size:
            return
        last = (Value(rows[-1][place], converter=False) for place in places)
        page = query.where(Tuple(*order) > Tuple(*last))


def driver_rows(
    query: Any, size: int, values: Mapping[str, Any] | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    """Run a Peewee query and yield its rows, in one snapshot, as tuples of the driver's values.

    `values` are the filters in it.
    """
    query = query.tuples()
    with _translated_errors:
        if db.streams:
            rows = _stream_own(query, values)
            while batch := list(islice(rows, size)):
                yield batch
        else:
            cursor: Any = with_own_keys(values, partial(db.execute, query))
            while batch := cursor.fetchmany(size):
                yield batch


def _all_in_time_order(model: type[BaseModel], values: dict[str, Any], *fields: Any) -> Any:
    query = select(model, conditions(model, values, values), *fields)
    return query.order_by(*_time_order(model))


def _stream_pages(
    model: type[BaseModel],
    values: dict[str, Any],
    columns: tuple[str, ...],
    make: Maker,
) -> Iterator[Any]:
    position: dict[str, Any] = {}
    while True:
        query = _page(model, tuple(values), not position, columns)
        with _translated_errors:
            fetch = partial(db.fetch_all, query.sql, query.bind(values | position), list)
            rows = with_own_keys(values, fetch)
            yield from make(rows)
        if len(rows) < ROWS_PER_READ:
            return
        last = dict(zip(columns, rows[-1], strict=True))
        position = {field.name: last[field.name] for field in _time_order(model)}


@compiled
def _count(model: type[BaseModel], names: tuple[str, ...]) -> Any:
    return select(model, conditions(model, names), fn.COUNT(SQL("*")))


def count(model: type[BaseModel], values: dict[str, Any]) -> int:
    require_open_database(model)
    return int(scalar(_count(model, tuple(values)), values))


def select_where(model: type[Row], values: dict[str, Any], *where: Any) -> peewee.ModelSelect[Row]:
    """Return a Peewee query, newest first, for conditions that are not worth compiling."""
    query: peewee.ModelSelect[Row] = select(model, [*conditions(model, values, values), *where])
    return query.order_by(*(field.desc() for field in _time_order(model)))


def distinct(model: type[BaseModel], field: str, values: dict[str, Any]) -> list[Any]:
    """Return the distinct values of a field, in no order."""
    query = _distinct(model, field, tuple(values))
    fetch = partial(db.fetch_all, query.sql, query.bind(values), list)
    with _translated_errors:
        return [value for (value,) in with_own_keys(values, fetch)]


@compiled
def _distinct(model: type[BaseModel], field: str, names: tuple[str, ...]) -> Any:
    return select(model, conditions(model, names), model._meta.fields[field]).distinct()
