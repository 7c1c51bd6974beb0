"""The rows of a file are recorded all or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

from ...database import db, session_scope
from ...errors import DuplicateError, ValidationError
from ...models import BaseModel
from ...queries import write
from ._rows import CheckedRow, Counts, Issues, Line, Values, record_row
from ._staging import StagedImport

ROWS_PER_CHUNK = 1000  # read and checked together


def record(
    model: type[BaseModel],
    lines: Iterator[Line],
    parse: Callable[[Line], Values],
    reject: Callable[[Line, Exception], None],
) -> Counts:
    """Record the rows of the lines, and return how many are new and how many already existed.

    `parse` checks a line. `reject` is called with each line that cannot be recorded; if it raises,
    nothing is recorded. Where a writer blocks others, the rows are staged first and recorded in
    short transactions. In a transaction of the caller they become part of it.
    """
    # a staged row cannot refer to one before it in the file
    refers_to_itself = model in model._meta.refs.values()
    use_stage = not (refers_to_itself or db.in_transaction())
    stage = db.stage(model._meta.table_name) if use_stage else None
    if stage is not None:
        with closing(stage):
            staged = StagedImport(model, stage)
            counts = _record_chunks(lines, parse, reject, staged.add)
            skipped = staged.record(counts[True])
            return Counter({True: counts[True] - skipped, False: counts[False] + skipped})
    with session_scope():
        counts = _record_chunks(lines, parse, reject, partial(_record_now, model))
        db.advance_sequence(model)
    return counts


def _record_chunks(
    lines: Iterator[Line],
    parse: Callable[[Line], Values],
    reject: Callable[[Line, Exception], None],
    record_chunk: Callable[[list[CheckedRow], Issues], Counts],
) -> Counts:
    counts: Counts = Counter()
    while chunk := list(islice(lines, ROWS_PER_CHUNK)):
        rows: list[CheckedRow] = []
        issues: Issues = []
        for line in chunk:
            try:
                rows.append((line, parse(line)))
            except ValidationError as error:
                issues.append((line, error))
        if rows:
            counts += record_chunk(rows, issues)
        for line, issue in sorted(issues, key=lambda item: item[0][0]):
            reject(line, issue)
    return counts


def _record_now(model: type[BaseModel], rows: list[CheckedRow], issues: Issues) -> Counts:
    """Record rows in the open transaction, with one statement if all of them are new."""
    chunk: Any = [(number, values) for number, (_, values) in enumerate(rows)]
    unchanged: Any = lambda _, values: values  # noqa: E731
    try:
        if write.insert_batch(model, chunk, unchanged):
            return Counter({True: len(rows)})
    except ValidationError:
        pass  # metadata of a row is too large
    counts: Counts = Counter()
    for line, values in rows:
        try:
            counts[record_row(model, line, values)] += 1
        except (ValidationError, DuplicateError) as error:
            issues.append((line, error))
    return counts
