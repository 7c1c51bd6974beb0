"""The lines of a file are checked and recorded, and what becomes of each is in the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...backends.sqlite.errors import translate_errors
from ...columns import Column
from ...errors import DuplicateError, ValidationError, show
from ...models import BaseModel
from ...queries import write
from .._conflicts import OnConflict, conflict
from .._result import Conflict, ImportResult, RowIssue
from ._identity import Checked
from ._recording import DiffersError, Handlers, record
from ._resolution import last_step
from ._rows import Line
from ._translate import Translator

MAX_ISSUES = 1000  # of each kind in the result; the file of rejects has all rejected rows
PREVIEWED = 10


def record_lines(
    model: type[BaseModel],
    lines: Iterator[Line],
    translator: Translator,
    place: str,
    *,
    newest_first: bool,
    on_conflict: OnConflict,
    keep_going: bool,
    rejects: Path | None,
    dry_run: bool,
) -> ImportResult:
    """Record the rows of lines, as `import_file` says; `place` comes before a line's number."""
    rejected: list[RowIssue] = []
    conflicts: list[Conflict] = []
    warnings: list[RowIssue] = []
    preview: list[dict[str, Any]] = []
    rejected_count = conflict_count = first_fee = without_time = 0
    # a dry run leaves the recorded row, whatever the import would do
    resolution: OnConflict = "report" if dry_run and on_conflict != "error" else on_conflict
    check = row_checker(model, translator)

    def parse(line: Line) -> Checked | None:
        nonlocal first_fee, without_time
        row = check(line)
        if not first_fee and translator.signs_of_fees:
            first_fee = line[0]
        if row is not None:
            number, text, _ = line
            if "timestamp" in row.values and "timestamp" not in row.given:
                without_time += 1
                if without_time == 1:
                    warnings.append(RowIssue(number, NO_TIMES, text))
            if translator.warning and len(warnings) < MAX_ISSUES:
                warnings.append(RowIssue(number, translator.warning, text))
            if dry_run and len(preview) < PREVIEWED:
                preview.append(row.values)
        return row

    with _open_rejects(rejects) as write_reject:

        def reject(line: Line, error: Exception) -> None:
            nonlocal rejected_count
            number, text, row = line
            if not keep_going:
                raise ValidationError(f"{place}{number}: {error}") from error
            rejected_count += 1
            if len(rejected) < MAX_ISSUES:
                rejected.append(RowIssue(number, str(error), text if isinstance(row, str) else row))
            write_reject({"line": number, "reason": str(error), "text": text})

        def differ(error: DiffersError) -> Callable[[], None] | None:
            nonlocal conflict_count
            row, names = error.row, error.names
            number, _, values = row.line
            identity = ", ".join(f"{name} {show(_plain(row.values[name]))}" for name in names)
            try:
                found = conflict(
                    number, identity, values, error.recorded, error.changes, resolution
                )
            except DuplicateError as duplicate:
                raise DuplicateError(f"{place}{number}: {duplicate}", id=duplicate.id) from error
            conflict_count += 1
            if len(conflicts) < MAX_ISSUES:
                conflicts.append(found)
            return last_step(model, row, names, error.changes, on_conflict)

        counts = record(model, lines, Handlers(parse, reject, differ), newest_first, dry_run)
    if translator.signs_of_fees == {False}:
        warnings.append(RowIssue(first_fee, REBATES, None))
    kept = conflict_count if on_conflict == "keep_both" and not dry_run else 0
    return ImportResult(
        counts[True] + kept,
        counts[False],
        rejected,
        warnings,
        rejected_count,
        translator.left_out,
        conflicts=conflicts,
        conflict_count=conflict_count,
        preview=preview,
    )


REBATES = (
    "fee: all of them are below 0, which is a rebate; if they were paid, their column is a "
    "'negative_fee'"
)
NO_TIMES = "timestamp: there is none; the rows are recorded with the time of the import"


def _plain(value: object) -> object:
    return value if isinstance(value, (int, float)) else str(value)


def row_checker(model: type[BaseModel], translator: Translator) -> Callable[[Line], Checked | None]:
    """Return a function that returns the checked values of a line by the names of the fields."""
    columns: dict[str, Column] = dict(translator.columns)
    names = {column: field.name for column, field in model._meta.columns.items()}
    key = write.key_of(model)
    key_name = getattr(key, "name", None)
    givens: dict[tuple[str, ...], frozenset[str]] = {}

    def check(line: Line) -> Checked | None:
        _, text, row = line
        if isinstance(row, str):
            raise ValidationError(f"not a valid row: {show(text[:80])}: {row}")
        translated = translator.translate(row)
        if translated is None:
            return None
        values = {
            names[column]: columns[column].from_json(value) for column, value in translated.items()
        }
        given = givens.get(tuple(values))
        if given is None:
            given = givens[tuple(values)] = frozenset(values)
        if key_name in given and values[key_name] is None:
            given -= {key_name}
            del values[key_name]
        return Checked(line, write.prepare(model, values), given)

    return check


@contextmanager
def _open_rejects(
    file: Path | None,
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that writes a rejected row to the file, if there is one."""
    if file is None:
        yield lambda reject: None
        return
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
