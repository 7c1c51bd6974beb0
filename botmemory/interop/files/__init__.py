"""Export and import of every table, also custom ones, as CSV, JSON Lines and Parquet.

The suffix chooses the format: `.csv`, `.jsonl` or `.parquet` (extra `frames`). Memory is constant
for any number of rows. Columns have the names of the database; in CSV an empty cell is NULL, times
are in ISO 8601 and metadata is JSON. Import signals before their trades. A `Layout` says how a file
of an exchange or of another program is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ..._arguments import checked_call, from_caller, is_from_caller
from ...atomic_write import refuse_to_replace, replacing
from ...backends.peewee_internals import values_of
from ...backends.sqlite.errors import translate_errors
from ...config import absolute_path
from ...database import db
from ...errors import BotMemoryError, ConfigError, StorageError, ValidationError
from ...models import BaseModel
from ...queries import read, write
from .._columns import columns_of
from .._conflicts import OnConflict, check_on_conflict
from .._result import ImportResult
from . import _csv, _jsonl
from ._identity import is_id_of_content as is_id_of_content
from ._importing import record_lines, row_checker
from ._layout import Layout, Others, load_layout
from ._rows import Progress
from ._translate import Translator

__all__ = ["Layout", "Others", "export_file", "import_file", "load_layout"]

ROWS_PER_REPORT = 1000
OTHER_CSV = (".tsv", ".txt")  # as which other programs write CSV


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
        model: `Trade`, `Signal`, `CashFlow`, `State` or the model of a custom table.
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
    require_format(model, file)
    filters = read.filters(model, symbol, strategy, start_date, end_date, exchange)
    total = read.count(model, filters) if progress is not None else 0
    count = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in read.stream(model, filters):
            yield values_of(row)
            count += 1
            if count % ROWS_PER_REPORT == 0:
                report(count, total)

    write_file(model, file, rows(), spreadsheet=spreadsheet)
    report(count, count)
    return count


@checked_call
def import_file(
    model: type[BaseModel],
    path: str | os.PathLike[str],
    *,
    layout: Layout | str | os.PathLike[str] | None = None,
    on_conflict: OnConflict = "report",
    keep_going: bool = False,
    rejects: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportResult:
    """Record the rows of a file, each once, and all or none.

    A row is identified by its id; without one by its unique columns, such as `exchange_trade_id`;
    without these by its content, and by how many rows of that content come before it in the file.
    Of a trade the content is timestamp, symbol, side, price and quantity, and the exchange where
    both rows have one; of another row everything that the file has. So the same file, and a longer
    one of the same account, add only what is new. A row that exists is skipped, and one that exists
    with other values in the columns of the file is in conflict.

    Other programs can write meanwhile. On SQLite the file is read and checked without the write
    lock; then up to 2,000 new rows are recorded in one transaction, more in several that take a
    fraction of a second each. Readers see the rows of finished transactions. If a later one fails
    or is interrupted, the rows of the earlier ones are deleted. Only after a kill or a power cut
    they stay: repeat the import to record the others. Conflicts that are to be written are, in one
    transaction after the others. On PostgreSQL, and inside `session_scope()`, there is one
    transaction.

    Args:
        model: `Trade`, `Signal`, `CashFlow`, `State` or the model of a custom table.
        path: The file to read.
        layout: How a file from elsewhere is read: a `Layout`, a TOML file with one, or the name of
            one that comes with botmemory, such as "kraken".
        on_conflict: What to do with a row that is in conflict: "report" lists it and leaves the
            recorded one; "error" raises; "update" writes the columns of the file; "keep_both"
            records it too, with another id.
        keep_going: False stops at the first rejected row and records nothing. True skips rejected
            rows.
        rejects: A file to write rejected rows to, as JSON Lines with `line`, `reason` and `text`.
        dry_run: Record nothing. `preview` of the result has the first rows as they would be
            recorded.
        progress: Called with the bytes that were read (rows of Parquet), and all of them.

    Returns:
        The counts, and the first thousand rejected rows and conflicts. `warnings` has the first row
        that is recorded with the time of the import, because the file has none, and rows whose
        local time is ambiguous. `left_out` is the number of rows that the layout leaves out.

    Raises:
        ValidationError: A column is not known; the message names all of them. Or a row was
            rejected; the message names file, line and column, or the key of a row that another
            program made invalid meanwhile.
        DuplicateError: A row is in conflict and `on_conflict` is "error", or another program
            recorded a row with the same unique values meanwhile.
        ConfigError: The suffix is unsupported, pyarrow is not installed, or there is no such
            layout.
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: A file or the database cannot be read or written. The message says so if rows
            of a failed import could not be deleted.
    """
    check_on_conflict(on_conflict)
    file = absolute_path("path", path)
    report = from_caller(progress or (lambda done, total: None))
    file_format = _format_of(file)
    if rejects is not None:
        rejects = absolute_path("rejects", rejects)
        refuse_to_replace("rejects", rejects, database=db.current().file, source=file)
    if layout is None:
        layout = Layout()
    elif not isinstance(layout, Layout):
        layout = load_layout(layout)
    translator = Translator(model, layout, str(file))
    lines = file_format.read(file, columns_of(model), report, layout, translator.check_header)
    return record_lines(
        model,
        lines,
        translator,
        f"{file}, {_unit(file)} ",
        newest_first=layout.newest_first,
        on_conflict=on_conflict,
        keep_going=keep_going,
        rejects=rejects,
        dry_run=dry_run,
    )


def require_format(model: type[BaseModel], file: Path) -> None:
    """Raise an error if a file with this suffix cannot hold the rows of a model."""
    _format_of(file, to_write=True)
    columns_of(model)


def write_file(
    model: type[BaseModel],
    file: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    spreadsheet: bool = False,
) -> None:
    """Write rows, which have their values by the names of the fields, to a file."""
    file_format, columns = _format_of(file, to_write=True), columns_of(model)
    refuse_to_replace("path", file, database=db.current().file)
    latest = None

    def by_column() -> Iterator[dict[str, Any]]:
        nonlocal latest
        for row in rows:
            latest = write.key_value(model, row)
            yield {field.column_name: row[field.name] for field in model._meta.sorted_fields}

    options = {"spreadsheet": spreadsheet} if file_format is _csv else {}
    try:
        with translate_errors(file, "cannot be written"), replacing(file) as unfinished:
            file_format.write(unfinished, columns, by_column(), **options)
    except ValueError as error:  # another program may have stored an infinity as JSON
        if isinstance(error, BotMemoryError) or is_from_caller(error):
            raise
        raise StorageError(
            f"{file}: cannot be written: a value does not fit the file ({error}); look at "
            f"{model.__name__} {latest} and the rows before it"
        ) from error


def read_file(model: type[BaseModel], file: Path) -> Iterator[dict[str, Any]]:
    """Yield the values of the rows of a file by the names of the fields, as they are imported."""
    layout = Layout()
    translator = Translator(model, layout, str(file))
    check, columns = row_checker(model, translator), columns_of(model)
    nothing: Progress = lambda done, total: None  # noqa: E731
    for line in _format_of(file).read(file, columns, nothing, layout, translator.check_header):
        try:
            row = check(line)
        except ValidationError as error:
            raise ValidationError(f"{file}, {_unit(file)} {line[0]}: {error}") from error
        if row is not None:
            yield row.values


def _unit(file: Path) -> str:
    return "row" if file.suffix.lower() == ".parquet" else "line"


def _format_of(file: Path, *, to_write: bool = False) -> Any:
    """Return the module that reads and writes files with this suffix."""
    suffix = file.suffix.lower()
    if suffix == ".csv" or (suffix in OTHER_CSV and not to_write):
        return _csv
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl
    if suffix != ".parquet":
        advice = "save a spreadsheet as CSV, and unpack an archive"
        raise ConfigError(f"{file}: unsupported suffix; use .csv, .jsonl or .parquet; {advice}")
    try:
        from . import _parquet
    except ImportError as error:
        from ..._install import install_command

        raise ConfigError(
            f"{file}: Parquet needs {error.name}: {install_command('frames')}"
        ) from error
    return _parquet
