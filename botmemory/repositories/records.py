"""Record and query the rows of custom tables, as `trades` and `signals` do for theirs.

The first argument is the model: a subclass of `BaseModel` with a primary key. Rows are
ordered by `timestamp` where the model has one, otherwise by the key; `symbol` and `strategy` filter
models that have these fields. Custom migrations create the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import peewee

from .._arguments import checked_call
from ..errors import DuplicateError
from ..models import BaseModel, key_fields
from ..queries import read, write
from ..queries.write import checked_model

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
        values: The values by field.

    Raises:
        ValidationError: A value is invalid; the message names the field.
        DuplicateError: A row with its key or another unique value already exists.
        SchemaError: The table does not exist.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    return _insert(model, write.prepare(checked_model(model), values))


@checked_call
def create_many(model: type[BaseModel], rows: Iterable[Mapping[str, Any]]) -> int:
    """Record many rows in one transaction, all or none.

    The first 5,000 rows of a generator are read before the transaction begins, the others while it
    is open; on SQLite all other writers wait meanwhile, and what the generator itself records is
    part of the transaction.

    Args:
        model: The model of the table.
        rows: Mappings of field names to values.

    Returns:
        The number of recorded rows.

    Raises:
        ValidationError: As for `create`, naming the row: `rows[2]: equity: ...`.
        DuplicateError: As for `create`, naming the row.
        DatabaseBusyError: As for `create`.
        StorageError: As for `create`.
    """
    return write.insert_many(checked_model(model), rows, write.prepare, _insert)


@checked_call
def get_by_id(model: type[Row], id: Any) -> Row | None:
    """Return the row with this primary key, or None.

    Args:
        model: The model of the table.
        id: The key; a tuple for a composite one, in the order of its fields.

    Raises:
        ValidationError: The key is invalid.
    """
    return read.get_by_id(checked_model(model), id)


@checked_call
def get_all(
    model: type[Row], limit: int | None = None, *, strategy: str | None = None
) -> list[Row]:
    """Return the rows, newest first.

    Args:
        model: The model of the table.
        limit: The maximum number of rows; None for all.
        strategy: Only the rows of this strategy; "" for those without one; None for all.
    """
    return read.newest_first(model, read.filters(checked_model(model), strategy=strategy), limit)


@checked_call
def get_by_symbol(
    model: type[Row], symbol: str, limit: int | None = None, *, strategy: str | None = None
) -> list[Row]:
    """Return the rows of one symbol, newest first.

    Args:
        model: The model of the table.
        symbol: The symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the rows of this strategy; "" for those without one; None for all.
    """
    filters = read.filters(checked_model(model), write.required("symbol", symbol), strategy)
    return read.newest_first(model, filters, limit)


@checked_call
def get_latest(
    model: type[Row],
    symbol: str | None = None,
    limit: int | None = 10,
    *,
    strategy: str | None = None,
) -> list[Row]:
    """Return the rows with the latest timestamps, newest first.

    Args:
        model: The model of the table.
        symbol: Only the rows of this symbol; None for every symbol.
        limit: The maximum number of rows; None for all.
        strategy: Only the rows of this strategy; "" for those without one; None for all.
    """
    return read.newest_first(model, read.filters(checked_model(model), symbol, strategy), limit)


@checked_call
def get_by_date_range(
    model: type[Row],
    symbol: str | None,
    start_date: datetime,
    end_date: datetime,
    *,
    strategy: str | None = None,
) -> list[Row]:
    """Return the rows of a time range, oldest first, both ends included.

    Args:
        model: The model of the table, with a `timestamp`.
        symbol: Only the rows of this symbol; None for every symbol.
        start_date: The start, included; a naive datetime is taken as UTC.
        end_date: The end, included; a naive datetime is taken as UTC.
        strategy: Only the rows of this strategy; "" for those without one; None for all.

    Raises:
        ValidationError: `end_date` is before `start_date`, or the model has no `timestamp`.
    """
    checked_model(model)
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
    """Yield rows in time order, in constant memory, with the guarantees of `trades.iterate`.

    Args:
        model: The model of the table.
        symbol: Only the rows of this symbol; None for every symbol.
        strategy: Only the rows of this strategy; "" for those without one; None for all.
        start_date: The start, included; a naive datetime is taken as UTC; None for no limit.
        end_date: The end, included; a naive datetime is taken as UTC; None for no limit.

    Raises:
        ValidationError: An argument is invalid. It is raised by the call, not by the loop.
        StorageError: The database cannot be read.
    """
    filters = read.filters(checked_model(model), symbol, strategy, start_date, end_date)
    return read.stream(model, filters)


@checked_call
def count(model: type[BaseModel], symbol: str | None = None, *, strategy: str | None = None) -> int:
    """Return the number of rows.

    Args:
        model: The model of the table.
        symbol: Only the rows of this symbol; None for every symbol.
        strategy: Only the rows of this strategy; "" for those without one; None for all.
    """
    return read.count(model, read.filters(checked_model(model), symbol, strategy))


@checked_call
def update(row: Row, /, **changes: Any) -> Row:
    """Write the given fields and those assigned on `row` since it was read; return `row`.

    Other fields are not written: a stale copy does not revert the changes of others.

    Args:
        row: A recorded row.
        changes: The fields to write; the key cannot be changed.

    Raises:
        ValidationError: A value is invalid, or there is no such field.
        NotFoundError: The row is not in the database.
        DuplicateError: Another row has the same unique value.
    """
    return write.update(BaseModel, row, changes)


@checked_call
def delete(row: BaseModel) -> None:
    """Delete one row.

    Raises:
        NotFoundError: The row is not in the database.
    """
    write.delete(BaseModel, row)


def _insert(model: type[Row], values: dict[str, Any]) -> Row:
    if write.calls_save(model):
        return write.save(model, values)
    if isinstance(write.key_of(model), peewee.AutoField):
        return write.insert_autoincrement(model, values)
    row = write.insert_if_new(model, values)
    if row is not None:
        return row
    key = write.key_value(model, values)
    if (
        read.find_duplicate(model, {f.name: values[f.name] for f in key_fields(model)}) is None
    ):  # another unique value is the duplicate
        raise DuplicateError(f"a {model.__name__} with these unique values already exists")
    raise DuplicateError(f"{model.__name__} {key} already exists", id=key)
