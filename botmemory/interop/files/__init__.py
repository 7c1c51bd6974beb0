"""Export and import of every table, also custom ones, as CSV, JSON Lines and Parquet.

The suffix chooses the format: `.csv`, `.jsonl` or `.parquet` (extra `frames`). Memory is constant
for any number of rows. Columns have the names of the database; in CSV an empty cell is NULL, times
are in ISO 8601 and metadata is JSON. Import signals before their trades.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import peewee

from ..._arguments import checked_call, from_caller, is_from_caller
from ..._values import to_utc
from ...atomic_write import replacing
from ...backends.peewee_internals import values_of
from ...backends.sqlite.errors import translate_errors
from ...config import absolute_path
from ...errors import BotMemoryError, ConfigError, StorageError, ValidationError
from ...models import BaseModel, refuse_unknown_field
from ...queries import read, write
from ...uuid7 import uuid_of
from .._columns import columns_of
from .._result import ImportResult, RowIssue
from . import _csv, _jsonl
from ._recording import record
from ._rows import Line, Progress

__all__ = ["export_file", "import_file"]

ROWS_PER_REPORT = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_REJECTED = 1000  # in the result; the file of rejects has all of them


@checked_call
def export_file(
    model: type[BaseModel],
    path: str | os.PathLike[str],
    *,
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    spreadsheet: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write the rows of a table to a file.

    Args:
        model: `Trade`, `Signal`, `CashFlow` or the model of a custom table.
        path: The file to write. An existing one is replaced when the new one is complete.
        symbol: Only rows of this symbol.
        strategy: Only rows of this strategy; "" for those without one.
        exchange: Only rows of this exchange; "" for those without one.
        start_date: Only rows from this time on.
        end_date: Only rows up to this time, included.
        spreadsheet: In CSV, write an apostrophe before text that a spreadsheet would run as a
            formula. `import_file` does not remove it.
        progress: Called with the number of written rows and the number of all rows.

    Returns:
        The number of rows, which are in time order.

    Raises:
        ConfigError: The suffix is unsupported, or pyarrow is not installed.
        StorageError: The file cannot be written.
        ValidationError: An argument is invalid.
    """
    file = absolute_path("path", path)
    report = from_caller(progress or (lambda done, total: None))
    file_format, columns = _format_of(file), columns_of(model)
    filters = read.filters(model, symbol, strategy, start_date, end_date, exchange)
    total = read.count(model, filters) if progress is not None else 0
    count, latest = 0, None

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal count, latest
        for row in read.stream(model, filters):
            latest = row.get_id()
            yield {
                field.column_name: values_of(row)[field.name] for field in model._meta.sorted_fields
            }
            count += 1
            if count % ROWS_PER_REPORT == 0:
                report(count, total)

    options = {"spreadsheet": spreadsheet} if file_format is _csv else {}
    try:
        with translate_errors(file, "cannot be written"), replacing(file) as unfinished:
            file_format.write(unfinished, columns, rows(), **options)
    except ValueError as error:  # another program may have stored an infinity as JSON
        if isinstance(error, BotMemoryError) or is_from_caller(error):
            raise
        raise StorageError(
            f"{file}: cannot be written: a value does not fit the file ({error}); look at "
            f"{model.__name__} {latest} and the rows before it"
        ) from error
    report(count, count)
    return count


@checked_call
def import_file(
    model: type[BaseModel],
    path: str | os.PathLike[str],
    *,
    keep_going: bool = False,
    rejects: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Record the rows of a file, each once, and all or none.

    A row with the key of an existing row is skipped if both are the same in every column, and
    rejected otherwise. A row without an id, where ids are UUIDs, gets one that depends only on its
    line and the contents of the file, so that importing the file again skips it.

    Other programs can write meanwhile. On SQLite the file is read and checked without the write
    lock; then up to 2,000 new rows are recorded in one transaction, more in several that take a
    fraction of a second each. Readers see the rows of finished transactions. If a later one fails
    or is interrupted, the rows of the earlier ones are deleted. Only after a kill or a power cut
    they stay: repeat the import to record the others (signals without ids would be recorded again).
    On PostgreSQL, and inside `session_scope()`, there is one transaction.

    Args:
        model: `Trade`, `Signal`, `CashFlow` or the model of a custom table.
        path: The file to read.
        keep_going: False stops at the first rejected row and records nothing. True skips rejected
            rows.
        rejects: A file to write rejected rows to, as JSON Lines with `line`, `reason` and `text`.
        progress: Called with the bytes that were read (rows of Parquet), and all of them.

    Returns:
        The counts, and the first thousand rejected rows.

    Raises:
        ValidationError: A row was rejected; the message names file, line and column, or the key of
            a row that another program made invalid meanwhile.
        DuplicateError: Another program recorded a row with the same unique values meanwhile.
        ConfigError: The suffix is unsupported, or pyarrow is not installed.
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: A file or the database cannot be read or written. The message says so if rows
            of a failed import could not be deleted.
    """
    file = absolute_path("path", path)
    report = from_caller(progress or (lambda done, total: None))
    file_format = _format_of(file)
    rejected: list[RowIssue] = []
    rejected_count = 0
    with _open_rejects(rejects) as write_reject:

        def reject(line: Line, error: Exception) -> None:
            nonlocal rejected_count
            number, text, row = line
            if not keep_going:
                raise ValidationError(f"{file}, line {number}: {error}") from error
            rejected_count += 1
            if len(rejected) < MAX_REJECTED:
                rejected.append(RowIssue(number, str(error), row if row is not None else text))
            write_reject({"line": number, "reason": str(error), "text": text})

        lines = file_format.read(file, columns_of(model), report)
        counts = record(model, lines, _parser(model, file), reject)
    return ImportResult(counts[True], counts[False], rejected, rejected_count=rejected_count)


def _format_of(file: Path) -> Any:
    """Return the module that reads and writes files with this suffix."""
    if file.suffix == ".csv":
        return _csv
    if file.suffix in (".jsonl", ".ndjson"):
        return _jsonl
    if file.suffix != ".parquet":
        raise ConfigError(f"{file}: unsupported suffix; use .csv, .jsonl or .parquet")
    try:
        from . import _parquet
    except ImportError as error:
        from ..._install import install_command

        raise ConfigError(
            f"{file}: Parquet needs {error.name}: {install_command('frames')}"
        ) from error
    return _parquet


def _parser(model: type[BaseModel], file: Path) -> Callable[[Line], dict[str, Any]]:
    """Return a function that returns the checked values of a line by the names of the fields."""
    columns, key = columns_of(model), write.key_of(model)
    by_column: Any = model._meta.columns
    with translate_errors(file, "cannot be read"):
        is_file = file.is_file()
    makes_ids = isinstance(key, peewee.UUIDField) and key.default is not None and is_file
    digest = cache(_digest)

    def parse(line: Line) -> dict[str, Any]:
        number, text, row = line
        if row is None:
            raise ValidationError(f"not a valid row: {text[:80]!r}")
        values = {}
        for column, value in row.items():
            if column not in columns:
                refuse_unknown_field(model, column, value)
            values[by_column[column].name] = columns[column].from_json(value)
        if makes_ids and values.get(key.name) is None:
            values[key.name] = _id_of(number, values.get("timestamp"), digest(file))
        return write.prepare(model, values)

    return parse


def _digest(file: Path) -> int:
    """Return 42 bits that depend on the contents of a file."""
    with translate_errors(file, "cannot be read"), file.open("rb") as stream:
        return int.from_bytes(hashlib.file_digest(stream, "sha256").digest()) % 2**42


def _id_of(number: int, timestamp: object, digest: int) -> uuid.UUID:
    """Return the id of a line: it is the same each time, so that a repeated import finds the row.

    It is a UUID of version 7: the time of the row, the number of the line, the digest of the file.
    """
    milliseconds = 0
    if isinstance(timestamp, datetime):
        elapsed = to_utc("timestamp", timestamp) - EPOCH
        milliseconds = max(0, elapsed // timedelta(milliseconds=1))
    low = (number % 2**32) << 42 | digest
    high = milliseconds << 16 | 0x7000 | low >> 62
    return uuid_of(high << 64 | 2 << 62 | low % 2**62)


@contextmanager
def _open_rejects(
    path: str | os.PathLike[str] | None,
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that writes a rejected row to the file, if there is one."""
    if path is None:
        yield lambda reject: None
        return
    file = absolute_path("rejects", path)
    with translate_errors(file, "cannot be written"):
        # flushed after each line, so that an error stops the import before rows are recorded
        out = file.open("w", encoding="utf-8", buffering=1)

    def write(reject: dict[str, Any]) -> None:
        with translate_errors(file, "cannot be written"):
            out.write(json.dumps(reject) + "\n")

    try:
        yield write
    except BaseException:
        with suppress(OSError):  # it must not hide the first error
            out.close()
        raise
    with translate_errors(
        file, "the rows are recorded, but whether this file is complete is not known"
    ):
        out.close()
