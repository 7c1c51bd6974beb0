"""Parquet: typed columns; timestamps have the time zone UTC, ids and metadata are text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...backends.sqlite.errors import translate_errors
from ...errors import StorageError
from .._columns import arrow_type
from ._rows import Line, Progress, to_cell, with_json

ROWS_PER_GROUP = 20_000


def write(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in groups."""
    schema = pa.schema([(name, arrow_type(kind)) for name, kind in columns.items()])
    remaining = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(remaining, ROWS_PER_GROUP)):
            arrays = [
                pa.array([_value(row[name], kind) for row in group], arrow_type(kind))
                for name, kind in columns.items()
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _value(value: Any, kind: str) -> Any:
    return value if kind == "timestamp" else to_cell(value, kind)


def read(path: Path, columns: Mapping[str, str], progress: Progress) -> Iterator[Line]:
    """Yield the number of each row, its text and its values; report the rows read."""
    number = 0
    with translate_errors(path, "cannot be read"):
        try:
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP // 10):
                for row in batch.to_pylist():
                    number += 1
                    parsed = with_json(row, columns)
                    yield number, repr(row), parsed
                progress(number, file.metadata.num_rows)
        except pa.ArrowException as error:
            raise StorageError(f"{path}: is not a Parquet file, or is damaged: {error}") from error
