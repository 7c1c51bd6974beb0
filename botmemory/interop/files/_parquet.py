"""Parquet: typed columns; timestamps have the time zone UTC, ids and metadata are text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...backends.sqlite.errors import translate_errors
from ...errors import StorageError
from ._jsonl import to_plain

__all__ = ["read", "write"]

ROWS_PER_GROUP = 20_000
_TYPES = {
    "timestamp": pa.timestamp("us", tz="UTC"),
    "number": pa.float64(),
    "integer": pa.int64(),
    "json": pa.string(),
    "id": pa.string(),
    "text": pa.string(),
}


def write(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows in groups and return their number."""
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
    count, remaining = 0, iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(remaining, ROWS_PER_GROUP)):
            arrays = [
                pa.array([_value(row[name], kind) for row in group], _TYPES[kind])
                for name, kind in columns.items()
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(group)
    return count


def _value(value: Any, kind: str) -> Any:
    if value is None or kind == "timestamp":
        return value
    return json.dumps(value, ensure_ascii=False) if kind == "json" else to_plain(value)


def read(
    path: Path, columns: Mapping[str, str], progress: Callable[[int, int], object] | None
) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """Yield the number of each row, its text and its values; report the rows read."""
    with translate_errors(path, "cannot be read"):
        try:
            yield from _rows(pq.ParquetFile(path), columns, progress)
        except pa.ArrowException as error:
            raise StorageError(f"{path}: is not a Parquet file, or is damaged: {error}") from error


def _rows(
    file: Any, columns: Mapping[str, str], progress: Callable[[int, int], object] | None
) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    number, total = 0, file.metadata.num_rows
    for batch in file.iter_batches(batch_size=ROWS_PER_GROUP // 10):
        for row in batch.to_pylist():
            number += 1
            valid = True
            for name, value in row.items():
                if columns.get(name) == "json" and isinstance(value, str):
                    try:
                        row[name] = json.loads(value)
                    except ValueError:
                        valid = False
            yield number, repr(row), row if valid else None
        if progress is not None:
            progress(number, total)
