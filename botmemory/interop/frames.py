"""Trades and signals as Arrow tables, for pandas and whatever else reads Arrow (extra `frames`).

`frames.trades().to_pandas()` is a data frame: times are `datetime64[us, UTC]`, numbers doubles,
ids text. Rows come in time order; timestamps are in UTC, start and end are included.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .._arguments import checked_call
from .._values import flatten, to_json
from ..errors import ConfigError
from ..models import BaseModel, Signal, Trade
from ..queries import read
from ._columns import kind_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["signals", "trades"]

# so few that they are turned into columns within the processor's caches, and before Python's
# collector of garbage looks at them: larger ones take a third longer
ROWS_PER_READ = 100
READS_PER_ARRAY = 10


@checked_call
def trades(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    expand_metadata: bool = False,
) -> pa.Table:
    """Return the trades as an Arrow table with a column for each of the database's.

    `trade_metadata` is JSON text; with `expand_metadata` each of its keys is a column of its own
    instead, named `trade_metadata.key`, dotted inside objects, as in `signals`. Raises
    `ConfigError` without pyarrow.
    """
    return _table(Trade, symbol, strategy, start_date, end_date, expand_metadata)


@checked_call
def signals(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    expand_metadata: bool = False,
) -> pa.Table:
    """Return the signals as an Arrow table with a column for each of the database's.

    `signal_metadata` is JSON text; with `expand_metadata` each of its keys is a column of its own
    instead, named `signal_metadata.key`, dotted inside objects: a double where all its values are
    numbers, a boolean where all are, text otherwise. Raises `ConfigError` without pyarrow.
    """
    return _table(Signal, symbol, strategy, start_date, end_date, expand_metadata)


def _table(
    model: type[BaseModel],
    symbol: str | None,
    strategy: str | None,
    start_date: datetime | None,
    end_date: datetime | None,
    expand_metadata: bool,
) -> pa.Table:
    try:
        import pyarrow as pa
    except ImportError as error:
        from .._install import install_command

        raise ConfigError(f"data frames need {error.name}: {install_command('frames')}") from error
    filters = read.filters(model, symbol, strategy, start_date, end_date)
    fields: Sequence[Any] = model._meta.sorted_fields
    arrays: list[list[Any]] = [[] for _ in fields]
    metadata: defaultdict[str, list[Any]] = defaultdict(list)
    for columns in _columns(model, filters):
        for field, of_field, values in zip(fields, arrays, columns, strict=True):
            if expand_metadata and kind_of(field) == "json":
                metadata[field.column_name] += map(_flattened, values)
            else:
                of_field.append(_array(pa, field, values))
    found: dict[str, Any] = {}
    for field, of_field in zip(fields, arrays, strict=True):
        if expand_metadata and kind_of(field) == "json":
            found |= _expanded(pa, field.column_name, metadata[field.column_name])
        else:
            found[field.column_name] = pa.chunked_array(of_field, _type(pa, kind_of(field)))
    table = pa.table(found)
    # faster here than where the database would look up each row by its place in an index; and they
    # are mostly recorded in time order
    if _ascends(found["timestamp"]):
        return table
    key: Any = model._meta.primary_key
    return table.sort_by([("timestamp", "ascending"), (key.column_name, "ascending")])


def _ascends(timestamps: pa.ChunkedArray) -> bool:
    """Return whether each timestamp is later than the one before it."""
    import pyarrow.compute as pc

    later = pc.less(timestamps.slice(0, max(len(timestamps) - 1, 0)), timestamps.slice(1))
    return bool(pc.all(later, min_count=0).as_py())


def _columns(model: type[BaseModel], filters: dict[str, Any]) -> Iterator[list[list[Any]]]:
    """Yield some rows at a time, as a list for each column."""
    columns: list[list[Any]] = [[] for _ in model._meta.sorted_fields]
    for number, rows in enumerate(read.batches(model, filters, ROWS_PER_READ), 1):
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column += values
        if number % READS_PER_ARRAY == 0:
            yield columns
            columns = [[] for _ in columns]
    yield columns


def _type(pa: Any, kind: str) -> Any:
    if kind == "timestamp":
        return pa.timestamp("us", tz="UTC")
    return {"number": pa.float64(), "whole": pa.int64()}.get(kind, pa.string())


def _array(pa: Any, field: Any, values: Sequence[Any]) -> Any:
    """Return a column of what the driver gives: SQLite's timestamps and ids are text."""
    kind = kind_of(field)
    first = next((value for value in values if value is not None), None)
    if kind == "timestamp" and isinstance(first, str):
        return pa.array(values, pa.string()).cast(_type(pa, kind))
    if kind == "id":
        return _ids(pa, values, isinstance(first, str))
    if kind == "json" and first is not None and not isinstance(first, str):
        values = [None if value is None else to_json(value) for value in values]
    elif isinstance(first, Enum):
        values = [None if value is None else value.value for value in values]
    return pa.array(values, _type(pa, kind))


def _ids(pa: Any, values: Sequence[Any], are_digits: bool) -> Any:
    """Return ids in their usual spelling, with dashes."""
    import pyarrow.compute as pc

    if not are_digits:
        return pa.array([None if one is None else str(one) for one in values], pa.string())
    digits = pa.array(values, pa.string())
    ends = pairwise((0, 8, 12, 16, 20, 32))
    parts = [pc.utf8_slice_codeunits(digits, first, last) for first, last in ends]
    return pc.binary_join_element_wise(*parts, "-")


def _flattened(value: Any) -> dict[str, Any]:
    return dict(flatten(json.loads(value) if isinstance(value, str) else value))


def _expanded(pa: Any, name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a column for each key of metadata, by their alphabet."""
    keys = sorted({key for row in rows for key in row})
    return {f"{name}.{key}": _typed(pa, [row.get(key) for row in rows]) for key in keys}


def _typed(pa: Any, values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return pa.array([None if one is None else float(one) for one in values], pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    texts = (one if one is None or isinstance(one, str) else to_json(one) for one in values)
    return pa.array(list(texts), pa.string())
