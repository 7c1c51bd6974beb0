"""Parquet: typed columns; timestamps have the time zone UTC, ids and metadata are text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..._arguments import is_from_caller
from ...backends.sqlite.errors import translate_errors
from ...columns import BYTES, Column
from ...errors import StorageError, show
from .._arrow import rows_of
from .._columns import arrow_type
from ._layout import Layout
from ._rows import CheckHeader, Columns, Line, Progress, to_cell, with_json
from ._translate import names_of

ROWS_PER_GROUP = 20_000
ROWS_PER_READ = 2000
MAGIC = b"PAR1"  # a file begins and ends with it
SMALLEST = 12  # bytes of both and of the length of what is between


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
    read_errors = translate_errors(path, "cannot be read")
    with read_errors, _translated_errors(path), pq.ParquetFile(path) as file:
        names = names_of(file.schema_arrow.names)
        check_header(names, None, ", ".join(names))
        for row in rows_of(file.iter_batches(batch_size=ROWS_PER_READ), names):
            number += 1
            yield number, repr(row), row if isinstance(row, str) else _parsed(row, columns)
            if number % ROWS_PER_READ == 0:
                progress(number, file.metadata.num_rows)
        progress(number, number)


def _parsed(row: dict[str, Any], columns: Columns) -> dict[str, Any] | str:
    """Return a row with its texts as such, which other programs may have written as bytes."""
    for name, value in row.items():
        if isinstance(value, bytes) and (name not in columns or columns[name].kind is not BYTES):
            try:
                row[name] = value.decode()
            except UnicodeDecodeError:
                return f"{name}: {show(value)} is no text in UTF-8"
    return with_json(row, columns)


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Raise `StorageError` for a file that pyarrow cannot read, and for one that is no Parquet."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if is_from_caller(error):
            raise
        number = getattr(error, "errno", None)
        if number is not None:  # the system's, such as a missing file, in pyarrow's words
            raise OSError(number, os.strerror(number)) from error
        problem = _problem(path, "crypt" in str(error))
        raise StorageError(f"{path}: {problem}; pyarrow says: {_line(error)}") from error


def _problem(path: Path, is_encrypted: bool) -> str:
    if path.is_dir():
        return "is a folder; name the files in it, one after the other"
    if is_encrypted:
        return "is encrypted; save it without encryption"
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        end = file.read(4)
        size = file.tell()
    if not start:
        return "is not a Parquet file: it is empty"
    if start != MAGIC:
        return "is not a Parquet file; give it the suffix of its format, such as .csv"
    if end != MAGIC or size < SMALLEST:
        return "is not complete, or damaged; get it once more"
    return "is damaged, or of a form that pyarrow cannot read; get or save it once more"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
