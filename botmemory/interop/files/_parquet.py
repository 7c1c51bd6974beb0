"""Parquet: typed columns; timestamps have the time zone UTC, ids and metadata are text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...backends.sqlite.errors import translate_errors
from ...columns import Column
from ...errors import StorageError
from .._columns import arrow_type
from ._layout import Layout
from ._rows import CheckHeader, Columns, Line, Progress, to_cell, with_json

ROWS_PER_GROUP = 20_000


def write(path: Path, columns: Columns, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in groups."""
    types = {name: arrow_type(column.kind) for name, column in columns.items()}
    schema = pa.schema(list(types.items()))
    remaining = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(remaining, ROWS_PER_GROUP)):
            arrays = [
                pa.array([_value(row[name], column) for row in group], types[name])
                for name, column in columns.items()
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _value(value: Any, column: Column) -> Any:
    is_text = column.kind.arrow == "string"
    return to_cell(value, column) if is_text else column.to_typed(value)


def read(
    path: Path, columns: Columns, progress: Progress, layout: Layout, check_header: CheckHeader
) -> Iterator[Line]:
    """Yield the number of each row, its text and its values; report the rows read."""
    number = 0
    with translate_errors(path, "cannot be read"):
        try:
            file = pq.ParquetFile(path)
            names = file.schema_arrow.names
            check_header(names, 1, ", ".join(names))
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP // 10):
                for row in batch.to_pylist():
                    number += 1
                    parsed = with_json(row, columns)
                    yield number, repr(row), parsed
                progress(number, file.metadata.num_rows)
        except pa.ArrowException as error:
            raise StorageError(f"{path}: is not a Parquet file, or is damaged: {error}") from error
