"""Trades, signals and cash flows as Arrow tables, for pandas and others (extra `frames`).

`frames.trades().to_pandas()` is a data frame. Timestamps are `datetime64[us, UTC]`, numbers are
doubles, ids are text. Rows are in time order. `import_trades` records the rows of a data frame.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .._arguments import checked_call
from .._values import flatten, refuse, to_json
from ..errors import ConfigError, show
from ..models import BaseModel, CashFlow, Signal, Trade
from ..queries import read
from ._arrow import rows_of
from ._columns import arrow_type, kind_of
from ._conflicts import OnConflict, check_on_conflict
from ._result import ImportResult
from .files import Layout, load_layout
from .files._importing import record_lines
from .files._translate import Translator, names_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["cash_flows", "import_trades", "signals", "trades"]

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


@checked_call
def import_trades(
    frame: Any,
    columns: Mapping[Any, str] | None = None,
    *,
    exchange: str | None = None,
    strategy: str | None = None,
    layout: Layout | str | os.PathLike[str] | None = None,
    on_conflict: OnConflict = "report",
    keep_going: bool = False,
    dry_run: bool = False,
) -> ImportResult:
    """Record the trades of a data frame, each once, and all or none, as `import_file` does.

    NaN, NaT and NA are missing values, and nanoseconds are cut off. The index of a pandas frame is
    a column where it has a name; one of times without a name is the column `index`.

    Args:
        frame: A data frame of pandas or polars, an Arrow table, or an iterable of mappings.
        columns: What columns of the frame are, such as `{"EntryTime": "timestamp", "Size":
            "signed_quantity"}`; as `map` of `Layout`, which has the names beside those of the
            table. Those with the name of a column of the table need not be named.
        exchange: The exchange of all of them.
        strategy: The strategy of all of them.
        layout: What else there is to know about the frame, such as its time zone and what to do
            with other columns, which are refused by default.
        on_conflict: What to do with a row whose id is recorded with other values, as `import_file`
            has it.
        keep_going: False stops at the first rejected row and records nothing. True skips rejected
            rows.
        dry_run: Record nothing. `preview` of the result has the first rows as they would be
            recorded.

    Returns:
        The counts, and the first thousand rejected rows and conflicts; the index of a row is its
        position, from 0 on.

    Raises:
        ValidationError: A column is not known, a row was rejected, or an argument is invalid.
        DuplicateError: A row is in conflict and `on_conflict` is "error".
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    check_on_conflict(on_conflict)
    if columns is not None and not isinstance(columns, Mapping):
        refuse("columns", columns, "is not a mapping of the frame's columns to what they are")
    names, rows = _names_and_rows(frame)
    given = {
        name: value for name, value in (("exchange", exchange), ("strategy", strategy)) if value
    }
    for name, value in given.items():
        if not isinstance(value, str):
            refuse(name, value, "is not text")
    base = layout if isinstance(layout, Layout) else load_layout(layout) if layout else Layout()
    mapped = {str(name): meaning for name, meaning in (columns or {}).items()}
    for name, meaning in mapped.items():
        if not name.strip():
            refuse("columns", name, "is not the name of a column")
        if not isinstance(meaning, str):
            refuse(f"columns[{name!r}]", meaning, "is not text")
    used = replace(base, map={**base.map, **mapped}, set={**base.set, **given})
    translator = Translator(Trade, used, "frame", map_name="columns")
    if names is not None:
        translator.check_header(names, None, ", ".join(names))
    return record_lines(
        Trade,
        ((number, show(row), row) for number, row in enumerate(rows)),
        translator,
        "frame, row ",
        newest_first=used.newest_first,
        on_conflict=on_conflict,
        keep_going=keep_going,
        rejects=None,
        dry_run=dry_run,
    )


def _names_and_rows(frame: Any) -> tuple[list[str] | None, Iterator[dict[str, Any] | str]]:
    """Return the names of the columns of a data frame, if it has any, and its rows."""
    if hasattr(frame, "itertuples"):  # pandas
        index = frame.index
        # with neither name nor times it is a number for each row
        if index.dtype.kind == "M" or any(name is not None for name in index.names):
            frame = frame.reset_index(allow_duplicates=True)
        names = names_of([str(name) for name in frame.columns])
        return names, (dict(zip(names, row, strict=True)) for row in frame.itertuples(False, None))
    if hasattr(frame, "iter_rows"):  # polars
        return list(frame.columns), frame.iter_rows(named=True)
    if hasattr(frame, "to_batches"):  # Arrow
        names = names_of(frame.column_names)
        return names, rows_of(frame.to_batches(), names)
    if isinstance(frame, (str, bytes, Mapping)) or not isinstance(frame, Iterable):
        refuse("frame", frame, "is no data frame, Arrow table or list of mappings")
    return None, map(_checked_row, frame)


def _checked_row(row: Any) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        refuse("frame", row, "is no mapping of columns to values")
    return {str(name): value for name, value in row.items()}


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
