"""Record and read the rows of custom tables, as `trades` and `signals` do for theirs.

Each function takes the model first: a class on `BaseModel`, with one primary key. A model with a
`timestamp` is asked in time order, any other one in the order of its key; `symbol` and `strategy`
filter a query where the model has them. The tables themselves are made by the bot's own
migrations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import peewee

from .._arguments import checked_call
from ..errors import DuplicateError, ValidationError, show
from ..models import BaseModel
from ..queries import read, write

__all__ = [
    "count",
    "create",
    "create_many",
    "delete",
    "get_all",
    "get_by_date_range",
    "get_by_id",
    "get_by_symbol",
    "get_latest",
    "iterate",
    "update",
]

Row = TypeVar("Row", bound=BaseModel)


@checked_call
def create(model: type[Row], /, **values: Any) -> Row:
    """Record one row and return it as it is stored, with its key and its defaults.

    Args:
        model: The model of the table.
        values: Fields and their values.

    Raises:
        ValidationError: A value does not fit; the message names the field.
        DuplicateError: A row with its key or another unique value already exists.
        SchemaError: The table does not exist.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    _require_model(model)
    return _insert(model, write.prepare(model, values))


@checked_call
def create_many(model: type[BaseModel], rows: Iterable[Mapping[str, Any]]) -> int:
    """Record any number of rows in one transaction, all or none.

    A generator is read as it goes: its first 5,000 rows before the transaction begins, the others
    while it is open, and on SQLite every other writer waits for it.

    Args:
        model: The model of the table.
        rows: Mappings of field names to values.

    Returns:
        How many were recorded.

    Raises:
        ValidationError: As from `create`, naming the row: `rows[2]: equity: ...`.
        DuplicateError: As from `create`, naming the row.
        DatabaseBusyError: As from `create`.
        StorageError: As from `create`.
    """
    _require_model(model)
    return write.insert_many(
        model,
        rows,
        lambda values: write.prepare(model, values),
        lambda values: _insert(model, values),
    )


@checked_call
def get_by_id(model: type[Row], id: Any) -> Row | None:
    """Return the row with this primary key, or None.

    Raises:
        ValidationError: The key does not fit its field.
    """
    _require_model(model)
    return read.get_by_id(model, id)


@checked_call
def get_all(
    model: type[Row], limit: int | None = None, *, strategy: str | None = None
) -> list[Row]:
    """Return the rows, newest first.

    Args:
        model: The model of the table.
        limit: At most so many; None for all.
        strategy: Only the rows of this strategy; None for every strategy.
    """
    _require_model(model)
    return read.newest_first(model, read.filters(model, strategy=strategy), limit)


@checked_call
def get_by_symbol(
    model: type[Row], symbol: str, limit: int | None = None, *, strategy: str | None = None
) -> list[Row]:
    """Return the rows of one symbol, newest first.

    Args:
        model: The model of the table.
        symbol: The symbol.
        limit: At most so many; None for all.
        strategy: Only the rows of this strategy; None for every strategy.
    """
    _require_model(model)
    filters = read.filters(model, write.required("symbol", symbol), strategy)
    return read.newest_first(model, filters, limit)


@checked_call
def get_latest(
    model: type[Row],
    symbol: str | None = None,
    limit: int | None = 10,
    *,
    strategy: str | None = None,
) -> list[Row]:
    """Return the latest rows, newest first, whatever the order they were recorded in.

    Args:
        model: The model of the table.
        symbol: Only the rows of this symbol; None for every symbol.
        limit: At most so many; None for all.
        strategy: Only the rows of this strategy; None for every strategy.
    """
    _require_model(model)
    return read.newest_first(model, read.filters(model, symbol, strategy), limit)


@checked_call
def get_by_date_range(
    model: type[Row],
    symbol: str | None,
    start_date: datetime,
    end_date: datetime,
    *,
    strategy: str | None = None,
) -> list[Row]:
    """Return the rows of a time span in time order, both ends included.

    Args:
        model: The model of the table, which has a `timestamp`.
        symbol: Only the rows of this symbol; None for every symbol.
        start_date: The first time; naive datetimes are taken as UTC.
        end_date: The last time; naive datetimes are taken as UTC.
        strategy: Only the rows of this strategy; None for every strategy.

    Raises:
        ValidationError: The end is before the start, or the model has no `timestamp`.
    """
    _require_model(model)
    write.required("start_date", start_date)
    write.required("end_date", end_date)
    filters = read.filters(model, symbol, strategy, start_date, end_date)
    return read.oldest_first(model, filters)


@checked_call
def iterate(
    model: type[Row],
    symbol: str | None = None,
    *,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> Iterator[Row]:
    """Yield rows in time order, any number of them in constant memory, as `trades.iterate` does.

    Args:
        model: The model of the table.
        symbol: Only the rows of this symbol; None for every symbol.
        strategy: Only the rows of this strategy; None for every strategy.
        start_date: The first time, included; None for the beginning.
        end_date: The last time, included; None for the end.

    Raises:
        ValidationError: An argument does not fit; raised by the call, not by the loop.
        StorageError: The database cannot be read.
    """
    _require_model(model)
    return read.stream(model, read.filters(model, symbol, strategy, start_date, end_date))


@checked_call
def count(model: type[BaseModel], symbol: str | None = None, *, strategy: str | None = None) -> int:
    """Return how many rows there are.

    Args:
        model: The model of the table.
        symbol: Only the rows of this symbol; None for every symbol.
        strategy: Only the rows of this strategy; None for every strategy.
    """
    _require_model(model)
    return read.count(model, read.filters(model, symbol, strategy))


@checked_call
def update(row: Row, /, **changes: Any) -> Row:
    """Write the named fields, and those assigned on `row` since it was read; return `row`.

    No other field is written: a stale copy does not revert what others changed.

    Args:
        row: A row that was recorded.
        changes: Fields and their new values; the key cannot change.

    Raises:
        ValidationError: A value does not fit, or there is no such field.
        NotFoundError: The row was deleted.
        DuplicateError: Another row has a unique value.
    """
    write.require(_model_of(row), row)
    write.update(row, changes)
    return row


@checked_call
def delete(row: BaseModel) -> None:
    """Delete one row.

    Raises:
        NotFoundError: It was deleted before.
    """
    write.require(_model_of(row), row)
    write.delete(row)


def _insert(model: type[Row], values: dict[str, Any]) -> Row:
    key = write.key_of(model)
    if isinstance(key, peewee.AutoField):
        return write.insert_autoincrement(model, values)
    row = write.insert_if_new(model, values)
    if row is not None:
        return row
    there = values[key.name]
    if read.get_by_id(model, there) is None:  # it is another unique value
        raise DuplicateError(f"a {model.__name__} with these unique values already exists")
    raise DuplicateError(f"{model.__name__} {there} already exists", id=there)


def _model_of(row: BaseModel) -> type[BaseModel]:
    return type(row) if isinstance(row, BaseModel) else BaseModel


def _require_model(model: type[BaseModel]) -> None:
    """Refuse what is not the model of a table whose rows can be found again."""
    if not isinstance(model, type) or not issubclass(model, BaseModel) or model is BaseModel:
        raise ValidationError(
            f"model: {show(model)} is not a model; pass a class on botmemory's BaseModel",
            field="model",
        )
    if model._meta.composite_key or not model._meta.primary_key:
        raise ValidationError(
            f"model: {model.__name__} has no primary key of one field", field="model"
        )
