"""Trades, signals and cash flows as Arrow tables, for pandas and others (extra `frames`).

`frames.trades().to_pandas()` is a data frame. Timestamps are `datetime64[us, UTC]`, numbers are
doubles, ids are text. Rows are in time order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .._arguments import checked_call
from .._values import flatten, to_json
from ..errors import ConfigError
from ..models import BaseModel, CashFlow, Signal, Trade
from ..queries import read
from ._columns import arrow_type, kind_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["cash_flows", "signals", "trades"]

# small enough for the processor's caches, and for less work of Python's garbage collector: larger
# ones take a third longer
ROWS_PER_READ = 100
READS_PER_ARRAY = 10


@checked_call
def trades(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    expand_metadata: bool = False,
) -> pa.Table:
    """Return the trades as an Arrow table with the columns of the database.

    Args:
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        expand_metadata: False keeps `trade_metadata` as a column of JSON text. True replaces it by
            a column for each key, named `trade_metadata.key`; nested keys are joined by dots. The
            type is double if all values are numbers, boolean if all are booleans, otherwise text.

    Raises:
        ConfigError: pyarrow is not installed.
        ValidationError: An argument is invalid.
    """
    return _table(Trade, expand_metadata, symbol, strategy, start_date, end_date, exchange)


@checked_call
def signals(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    expand_metadata: bool = False,
) -> pa.Table:
    """Return the signals as an Arrow table with the columns of the database.

    Args:
        symbol: Only signals of this symbol.
        strategy: Only signals of this strategy; "" for those without one.
        start_date: Only signals from this time on.
        end_date: Only signals up to this time, included.
        expand_metadata: False keeps `signal_metadata` as a column of JSON text. True replaces it by
            a column for each key, named `signal_metadata.key`; nested keys are joined by dots. The
            type is double if all values are numbers, boolean if all are booleans, otherwise text.

    Raises:
        ConfigError: pyarrow is not installed.
        ValidationError: An argument is invalid.
    """
    return _table(Signal, expand_metadata, symbol, strategy, start_date, end_date)


@checked_call
def cash_flows(
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    expand_metadata: bool = False,
) -> pa.Table:
    """Return the cash flows as an Arrow table with the columns of the database.

    Args:
        symbol: Only cash flows of this symbol; "" for those without one.
        strategy: Only cash flows of this strategy; "" for those without one.
        start_date: Only cash flows from this time on.
        end_date: Only cash flows up to this time, included.
        exchange: Only cash flows of this exchange; "" for those without one.
        expand_metadata: False keeps `metadata` as a column of JSON text. True replaces it by a
            column for each key, named `metadata.key`; nested keys are joined by dots. The type
            is double if all values are numbers, boolean if all are booleans, otherwise text.

    Raises:
        ConfigError: pyarrow is not installed.
        ValidationError: An argument is invalid.
    """
    return _table(CashFlow, expand_metadata, symbol, strategy, start_date, end_date, exchange)


def _table(model: type[BaseModel], expand_metadata: bool, *filter_values: Any) -> pa.Table:
    try:
        import pyarrow as pa
        import pyarrow.compute  # so that pa.compute exists
    except ImportError as error:
        from .._install import install_command

        raise ConfigError(f"data frames need {error.name}: {install_command('frames')}") from error
    filters = read.filters(model, *filter_values)
    fields: Sequence[Any] = model._meta.sorted_fields
    expanded = {field for field in fields if expand_metadata and kind_of(field).name == "json"}
    # the values of a field that is expanded, the arrays of another one
    chunks_of: dict[Any, list[Any]] = {field: [] for field in fields}
    for columns in _columns(model, filters):
        for field, values in zip(fields, columns, strict=True):
            if field in expanded:
                chunks_of[field] += values
            else:
                chunks_of[field].append(_array(pa, field, values))
    table_columns: dict[str, Any] = {}
    for field, chunks in chunks_of.items():
        name = field.column_name
        if field in expanded:
            table_columns |= _expanded(pa, name, chunks)
        else:
            table_columns[name] = pa.chunked_array(chunks, arrow_type(kind_of(field)))
    table = pa.table(table_columns)
    # sorting here is faster than reading through the index; most rows are recorded in time order
    if _ascends(pa, table_columns["timestamp"]):
        return table
    key: Any = model._meta.primary_key
    return table.sort_by([("timestamp", "ascending"), (key.column_name, "ascending")])


def _ascends(pa: Any, timestamps: pa.ChunkedArray) -> bool:
    """Return whether each timestamp is later than the one before it."""
    earlier, later = timestamps.slice(0, max(len(timestamps) - 1, 0)), timestamps.slice(1)
    return bool(pa.compute.all(pa.compute.less(earlier, later), min_count=0).as_py())


def _columns(model: type[BaseModel], filters: dict[str, Any]) -> Iterator[list[list[Any]]]:
    """Yield batches of rows as a list of values for each column."""
    columns: list[list[Any]] = [[] for _ in model._meta.sorted_fields]
    for number, rows in enumerate(read.batches(model, filters, ROWS_PER_READ), 1):
        for column, values in zip(columns, zip(*rows, strict=True), strict=True):
            column += values
        if number % READS_PER_ARRAY == 0:
            yield columns
            columns = [[] for _ in columns]
    yield columns


def _array(pa: Any, field: Any, values: Sequence[Any]) -> Any:
    """Return the values of the driver as an array; SQLite's timestamps and ids are text."""
    kind = kind_of(field)
    first = next((value for value in values if value is not None), None)
    if kind.name == "timestamp" and isinstance(first, str):
        return pa.array(values, pa.string()).cast(arrow_type(kind))
    if kind.name == "id":
        return _ids(pa, values, isinstance(first, str))
    if kind.name == "json" and first is not None and not isinstance(first, str):
        values = [None if value is None else to_json(value) for value in values]
    elif isinstance(first, Enum):
        values = [None if value is None else value.value for value in values]
    return pa.array(values, arrow_type(kind))


def _ids(pa: Any, values: Sequence[Any], are_hex: bool) -> Any:
    """Return ids as text with dashes."""
    if not are_hex:
        return pa.array([None if id_ is None else str(id_) for id_ in values], pa.string())
    digits = pa.array(values, pa.string())
    bounds = pairwise((0, 8, 12, 16, 20, 32))
    parts = [pa.compute.utf8_slice_codeunits(digits, first, last) for first, last in bounds]
    return pa.compute.binary_join_element_wise(*parts, "-")


def _expanded(pa: Any, name: str, values: list[Any]) -> dict[str, Any]:
    """Return a column for each key of metadata, in alphabetical order."""
    rows = [dict(flatten(json.loads(v) if isinstance(v, str) else v)) for v in values]
    keys = sorted({key for row in rows for key in row})
    return {f"{name}.{key}": _typed(pa, [row.get(key) for row in rows]) for key in keys}


def _typed(pa: Any, values: list[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    texts = [v if v is None or isinstance(v, str) else to_json(v) for v in values]
    return pa.array(texts, pa.string())
