"""Trades and signals in files: CSV, JSON Lines and Parquet, out and in again to the last bit.

The suffix of a file says which it is: `.csv`, `.jsonl` or `.parquet` (extra `frames`). Any number
of rows goes through in constant memory. A column is called as in the database; in CSV nothing
stands for NULL, times are in ISO 8601 and metadata is JSON. Import signals before the trades they
led to.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import peewee

from ..._arguments import checked_call, from_caller
from ..._values import to_utc
from ...atomic_write import replacing
from ...backends.peewee_internals import values_of
from ...backends.sqlite.errors import translate_errors
from ...config import absolute_path
from ...errors import ConfigError, ValidationError
from ...models import BaseModel
from ...queries import read, write
from ...uuid7 import uuid_of
from .._columns import columns_of
from .._result import ImportResult, RowIssue
from . import _csv, _jsonl
from ._recording import Line, record

__all__ = ["export_file", "import_file"]

ROWS_PER_REPORT = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {"timestamp": "timestamp in ISO 8601", "number": "number", "integer": "whole number"}
REJECTS_SHOWN = 1000  # kept in the result; the file of rejects has all of them

Row = TypeVar("Row", bound=BaseModel)
Progress = Callable[[int, int], object] | None


@checked_call
def export_file(
    model: type[BaseModel],
    path: str | os.PathLike[str],
    *,
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    spreadsheet: bool = False,
    progress: Progress = None,
) -> int:
    """Write the rows of `Trade`, `Signal` or a bot's own model, in time order; return how many.

    What was at `path` is replaced when the new file is whole. `spreadsheet` is for CSV that a
    person opens: a text that a spreadsheet would run as a formula gets an apostrophe before it, and
    such a file is not for `import_file`. `progress` is called with the rows written and the rows in
    all. Raises `ValidationError`, `ConfigError` (another suffix), `StorageError`.
    """
    file = absolute_path("path", path)
    progress = progress and from_caller(progress)
    form = _form(file)
    filters = read.filters(model, symbol, strategy, start_date, end_date)
    total = read.count(model, filters) if progress is not None else 0

    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read.stream(model, filters), 1):
            yield {
                field.column_name: values_of(row)[field.name] for field in model._meta.sorted_fields
            }
            if progress is not None and number % ROWS_PER_REPORT == 0:
                progress(number, total)

    options = {"spreadsheet": spreadsheet} if form is _csv else {}
    with translate_errors(file, "cannot be written"), replacing(file) as unfinished:
        count = int(form.write(unfinished, columns_of(model), rows(), **options))
    if progress is not None:
        progress(count, count)
    return count


@checked_call
def import_file(
    model: type[BaseModel],
    path: str | os.PathLike[str],
    *,
    keep_going: bool = False,
    rejects: str | os.PathLike[str] | None = None,
    progress: Progress = None,
) -> ImportResult:
    """Record the rows of a file; return how many were new and how many were there already.

    A row with the key of one that is there counts as there already when it is the same in every
    column, and is refused when it is not. A row without an id gets one that its line and what the
    file holds decide, where ids are UUIDs: the same file is recorded once. The first row that is
    refused stops the import with its line number, and nothing of the file is recorded. With
    `keep_going` it is counted instead, and written to `rejects` with its reason, a JSON object a
    line. `progress` is called with the bytes read and the bytes in all.

    In a SQLite file other programs record meanwhile: the whole file is read and checked without the
    write lock, the new rows wait in a temporary file, and then they are recorded: 2,000 in one
    transaction, more of them in several that take a fraction of a second each. Readers see the
    finished ones. If a later one fails, or is interrupted, what the others have recorded is deleted
    again. Only a process that is killed then, or a machine that stops, leaves rows behind, and
    repeating the import records the others; signals without ids, which the database counts, would
    be recorded again. On PostgreSQL, and inside `session_scope()`, it is one transaction.

    Raises `ValidationError` naming file, line and column, or the row that another program made
    impossible meanwhile; `ConfigError` (another suffix), `DatabaseBusyError`, and `StorageError`,
    which says so where rows could not be deleted again.
    """
    file = absolute_path("path", path)
    progress = progress and from_caller(progress)
    form = _form(file)
    rejected: list[RowIssue] = []
    rejected_count = 0
    with _open_rejects(rejects) as write_reject:

        def refuse(line: Line, error: Exception) -> None:
            nonlocal rejected_count
            number, text, row = line
            if not keep_going:
                raise ValidationError(f"{file}, line {number}: {error}") from error
            rejected_count += 1
            if len(rejected) < REJECTS_SHOWN:
                rejected.append(RowIssue(number, str(error), row if row is not None else text))
            write_reject({"line": number, "reason": str(error), "text": text})

        lines = form.read(file, columns_of(model), progress)
        counts = record(model, lines, _reader(model, file), refuse)
    return ImportResult(counts[True], counts[False], rejected, rejected_count=rejected_count)


def _form(file: Path) -> Any:
    """Return the module that reads and writes files with this suffix."""
    if file.suffix == ".csv":
        return _csv
    if file.suffix in (".jsonl", ".ndjson"):
        return _jsonl
    if file.suffix != ".parquet":
        raise ConfigError(f"{file}: its suffix says no format; use .csv, .jsonl or .parquet")
    try:
        from . import _parquet
    except ImportError as error:
        from ..._install import install_command

        raise ConfigError(
            f"{file}: Parquet needs {error.name}: {install_command('frames')}"
        ) from error
    return _parquet


def _ids_of_lines(
    model: type[BaseModel], file: Path
) -> Callable[[int, datetime | None], uuid.UUID] | None:
    """Return what makes the id of a row without one, ever the same for a line of this file.

    So a file is recorded once, also when it is imported again after the program was killed.
    It is of version 7, with the time of the row; then come the line and a digest of the file.
    """
    key = write.key_of(model)
    with translate_errors(file, "cannot be read"):
        is_file = file.is_file()
    if not (isinstance(key, peewee.UUIDField) and key.default is not None and is_file):
        return None
    digest: int | None = None

    def id_of(number: int, timestamp: datetime | None) -> uuid.UUID:
        nonlocal digest
        if digest is None:
            with translate_errors(file, "cannot be read"), file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").digest()
            digest = int.from_bytes(found) % 2**42
        milliseconds = 0
        if isinstance(timestamp, datetime):
            since = to_utc("timestamp", timestamp) - EPOCH
            milliseconds = max(0, since // timedelta(milliseconds=1))
        rest = (number % 2**32) << 42 | digest
        high = milliseconds << 16 | 0x7000 | rest >> 62
        return uuid_of(high << 64 | 2 << 62 | rest % 2**62)

    return id_of


def _reader(model: type[BaseModel], file: Path) -> Callable[[Line], dict[str, Any]]:
    """Return what makes the checked values of a line, by the names of the fields."""
    kinds, key = columns_of(model), write.key_of(model).name
    by_column: Mapping[str, Any] = model._meta.columns
    id_of = _ids_of_lines(model, file)

    def values_of(line: Line) -> dict[str, Any]:
        number, text, row = line
        if row is None:
            raise ValidationError(f"it holds no row: {text[:80]!r}")
        values = {}
        for column, value in row.items():
            if column not in by_column:
                write.refuse_unknown_field(model, column, value)
            name = by_column[column].name
            values[name] = _read(name, kinds[column], value) if type(value) is str else value
        if id_of is not None and values.get(key) is None:
            values[key] = id_of(number, values.get("timestamp"))
        return write.prepare(model, values)

    return values_of


def _read(name: str, kind: str, text: str) -> Any:
    """Return the value that a text stands for; the text itself where its field takes that."""
    try:
        if kind == "timestamp":
            return datetime.fromisoformat(text)
        if kind == "number":
            return float(text)
        if kind == "integer":
            return int(text)
    except ValueError:
        raise ValidationError(f"{name}: {text!r} is not a {_KINDS[kind]}", field=name) from None
    return text


@contextmanager
def _open_rejects(
    path: str | os.PathLike[str] | None,
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what writes a refused line to the file for them, if there is to be one."""
    if path is None:
        yield lambda reject: None
        return
    file = absolute_path("rejects", path)
    with translate_errors(file, "cannot be written"):
        out = file.open("w", encoding="utf-8")

    def write(reject: dict[str, Any]) -> None:
        with translate_errors(file, "cannot be written"):
            out.write(json.dumps(reject) + "\n")
            out.flush()  # before anything is recorded: what cannot be written stops the import

    try:
        yield write
    except BaseException:
        with suppress(OSError):  # which must not hide why the import ended
            out.close()
        raise
    with translate_errors(file, "the rows are recorded, but whether it is whole is not known"):
        out.close()
