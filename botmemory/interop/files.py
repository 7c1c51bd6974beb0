"""Trades and signals in files: CSV, JSON Lines and Parquet, out and in again to the last bit.

The suffix of a file says which it is: `.csv`, `.jsonl` or `.parquet` (extra `frames`). Any number
of rows goes through in constant memory. A column is called as in the database; in CSV nothing
stands for NULL, moments are in ISO 8601 and metadata is JSON. Import signals before the trades they
led to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from .._calls import checked_call, from_caller
from ..atomic_write import replacing
from ..config import absolute_path
from ..database import db, session_scope
from ..errors import ConfigError, DuplicateError, ValidationError
from ..models import BaseModel
from ..repositories import _crud, _questions
from ..sqlite_errors import translate_errors
from . import _csv, _jsonl
from ._kinds import columns_of, kind_of
from ._result import ImportResult, Noted

__all__ = ["export_file", "import_file"]

ROWS_PER_CHUNK = 1000
_KINDS = {"moment": "moment in ISO 8601", "number": "number", "whole": "whole number"}
REJECTS_SHOWN = 1000  # kept in the result; the file of rejects has all of them

Row = TypeVar("Row", bound=BaseModel)
Progress = Callable[[int, int], object] | None
Line = tuple[int, str, dict[str, Any] | None]  # its number, its text, and the row it holds


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
    narrowed = _questions.narrowed(model, symbol, strategy, start_date, end_date)
    total = _questions.count(model, narrowed) if progress is not None else 0

    def rows() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(_questions.stream(model, narrowed), 1):
            yield {
                field.column_name: row.__data__[field.name] for field in model._meta.sorted_fields
            }
            if progress is not None and number % ROWS_PER_CHUNK == 0:
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
    column, and is refused when it is not. The first row that is refused stops the import with its
    line number, and nothing of the file is recorded. With `keep_going` it is counted instead, and
    written to `rejects` with its reason, a JSON object a line. `progress` is called with the bytes
    read and the bytes in all. Raises `ValidationError` naming file, line and column, `ConfigError`
    (another suffix), `StorageError`, `DatabaseBusyError`.
    """
    file = absolute_path("path", path)
    progress = progress and from_caller(progress)
    form = _form(file)
    refused: list[Noted] = []
    counts = {True: 0, False: 0}
    refusals = 0
    with session_scope(), _rejects_file(rejects) as write_reject:

        def refuse(line: Line, error: Exception) -> None:
            nonlocal refusals
            number, text, row = line
            if not keep_going:
                raise ValidationError(f"{file}, line {number}: {error}") from error
            refusals += 1
            if len(refused) < REJECTS_SHOWN:
                refused.append(Noted(number, str(error), row if row is not None else text))
            write_reject({"line": number, "reason": str(error), "text": text})

        lines = form.read(file, columns_of(model), progress)
        while some := list(islice(lines, ROWS_PER_CHUNK)):
            for created, count in _record(model, some, refuse):
                counts[created] += count
        db.raise_counter(model)
    return ImportResult(counts[True], counts[False], refused, refused=refusals)


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
        raise ConfigError(
            f"{file}: Parquet needs {error.name}: pip install 'botmemory[frames]'"
        ) from error
    return _parquet


def _record(
    model: type[BaseModel], lines: list[Line], refuse: Callable[[Line, Exception], None]
) -> Iterator[tuple[bool, int]]:
    """Record some lines, at once where they are new; yield how many were and were not."""
    ready: list[tuple[Line, dict[str, Any]]] = []
    for line in lines:
        try:
            ready.append((line, _values(model, line)))
        except ValidationError as error:
            refuse(line, error)
    if not ready:
        return
    chunk: Any = [(number, values) for number, (_, values) in enumerate(ready)]
    as_it_is: Any = lambda _, values: values  # noqa: E731
    if _crud.stored_at_once(model, chunk, as_it_is):
        yield True, len(ready)
        return
    for line, values in ready:
        try:
            yield _record_one(model, values), 1
        except (ValidationError, DuplicateError) as error:
            refuse(line, error)


def _record_one(model: type[BaseModel], values: dict[str, Any]) -> bool:
    """Record one row and return whether it is new; refuse one that is there as another."""
    if _crud.insert_if_new(model, dict(values)) is not None:
        return True
    key = _crud.key_of(model)
    there = _questions.get_by_id(model, values[key.name]) if key.name in values else None
    if there is None:
        raise DuplicateError(f"another {model.__name__} has its unique values already")
    for name, value in values.items():
        if there.__data__[name] != value:
            raise DuplicateError(
                f"{key.name}: {values[key.name]} is there already, and its {name} is "
                f"{there.__data__[name]!r}, not {value!r}",
                id=there.__data__[key.name],
            )
    return False


def _values(model: type[BaseModel], line: Line) -> dict[str, Any]:
    """Return the checked values of a line, by the names of the fields."""
    _, text, row = line
    if row is None:
        raise ValidationError(f"it holds no row: {text[:80]!r}")
    by_column: Mapping[str, Any] = model._meta.columns
    values = {}
    for column, value in row.items():
        if column not in by_column:
            _crud.refuse_name(model, column, value)
        field = by_column[column]
        values[field.name] = _read(field, value)
    return _crud.prepare(model, values)


def _read(field: Any, value: Any) -> Any:
    """Return a value as its field takes it; text where the format has no other way."""
    if value is None or not isinstance(value, str):
        return value
    kind = kind_of(field)
    try:
        if kind == "moment":
            return datetime.fromisoformat(value)
        if kind == "number":
            return float(value)
        if kind == "whole":
            return int(value)
    except ValueError:
        raise ValidationError(
            f"{field.name}: {value!r} is not a {_KINDS[kind]}", field=field.name
        ) from None
    return value


@contextmanager
def _rejects_file(
    path: str | os.PathLike[str] | None,
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what writes a refused line to the file for them, if there is to be one.

    The file is whole before the rows are committed: where it cannot be, nothing is recorded.
    """
    if path is None:
        yield lambda reject: None
        return
    file = absolute_path("rejects", path)
    with translate_errors(file, "cannot be written"):
        out = file.open("w", encoding="utf-8")

    def write(reject: dict[str, Any]) -> None:
        with translate_errors(file, "cannot be written"):
            out.write(json.dumps(reject) + "\n")

    try:
        yield write
    except BaseException:
        with suppress(OSError):  # which must not hide why nothing is recorded
            out.close()
        raise
    with translate_errors(file, "cannot be written"):
        out.close()
