"""The rows of a file are recorded all or none.

Where a writer blocks others, they are staged: checked in a temporary file, then recorded in short
transactions, so that other programs can write while a large file is imported.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple

import peewee
from peewee import Value, fn

from ...backends.peewee_internals import values_of
from ...backends.sqlite.stage import Stage
from ...database import db, session_scope
from ...errors import (
    BotMemoryError,
    DatabaseBusyError,
    DuplicateError,
    StorageError,
    ValidationError,
)
from ...models import BaseModel, key_fields
from ...queries import write
from ...queries.codegen import maker, tuple_maker
from .._conflicts import Changes, differences
from ._identity import Checked, Identities, recorded_row, unique_names
from ._resolution import is_kept
from ._rows import Line

ROWS_PER_CHUNK = 1000  # read and checked together
MAX_SINGLE_TRANSACTION = 2000  # rows that are recorded in one transaction; more in several
# rows in one of several transactions: in the first one, at least, at most
FIRST_ROWS, MIN_ROWS, MAX_ROWS = 500, 100, 5000
LOCK_TIME = 0.15  # seconds that one of several transactions should hold the write lock
KEYS_PER_DELETE = 500
DELETE_ATTEMPTS = 10
PLACEHOLDER_ID = 2**63 - 2**40  # ids from here on stand for autoincrement ids

Values = dict[str, Any]  # checked, by the names of the fields
Issues = list[tuple[Line, Exception]]
Counts = Counter[bool]  # how many rows are new (True), and how many already existed (False)
Keys = list[tuple[str, ...]]  # the names of the fields of each unique index, the key first


class DiffersError(Exception):
    """Raised for a row with the unique values of another one, but with other content."""

    def __init__(
        self, row: Checked, recorded: Values, names: tuple[str, ...], changes: Changes
    ) -> None:
        super().__init__(row.line[0])
        self.row, self.recorded, self.names, self.changes = row, recorded, names, changes


class Handlers(NamedTuple):
    """What is done with the lines of a file.

    `parse` checks a line; None leaves it out. `reject` is called with each line that cannot be
    recorded, and `differ` with each that differs from a recorded row and returns what to do with it
    when the others are recorded; if one of them raises, nothing is recorded.
    """

    parse: Callable[[Line], Checked | None]
    reject: Callable[[Line, Exception], None]
    differ: Callable[[DiffersError], Callable[[], None] | None]


def record(
    model: type[BaseModel],
    lines: Iterator[Line],
    handlers: Handlers,
    newest_first: bool,
    dry_run: bool,
) -> Counts:
    """Record the rows of the lines, and return how many are new and how many already existed.

    Where a writer blocks others, the rows are staged first and recorded in short transactions. In a
    transaction of the caller they become part of it.
    """
    # a staged row cannot refer to one before it in the file
    refers_to_itself = model in model._meta.refs.values()
    has_one_key = len(key_fields(model)) == 1
    use_stage = has_one_key and not (refers_to_itself or db.in_transaction())
    stage = db.stage(model._meta.table_name) if use_stage else None
    last_steps: list[Callable[[], None]] = []
    keys = unique_names(model)
    with closing(Identities(model, keys, newest_first)) as identities:
        if stage is not None:
            with closing(stage):
                staged = _StagedImport(model, stage, keys)
                counts = _record_chunks(lines, handlers, identities, staged.add, last_steps)
                if dry_run or not (counts[True] or last_steps):
                    return counts
                skipped = staged.record(counts[True], last_steps)
                return Counter({True: counts[True] - skipped, False: counts[False] + skipped})
        counts = Counter()
        with suppress(_RolledBackError), session_scope():
            add = partial(_record_now, model, keys)
            counts = _record_chunks(lines, handlers, identities, add, last_steps)
            if dry_run:
                raise _RolledBackError
            for step in last_steps:
                step()
            db.advance_sequence(model)
    return counts


def _record_chunks(
    lines: Iterator[Line],
    handlers: Handlers,
    identities: Identities,
    record_chunk: Callable[[list[Checked], Issues], Counts],
    last_steps: list[Callable[[], None]],
) -> Counts:
    counts: Counts = Counter()

    def record_rows(rows: list[Checked], issues: Issues) -> None:
        if rows:
            counts.update(record_chunk(rows, issues))
        for line, issue in sorted(issues, key=lambda item: item[0][0]):
            if isinstance(issue, DiffersError):
                step = handlers.differ(issue)
                last_steps.extend([] if step is None else [step])
            else:
                handlers.reject(line, issue)

    while chunk := list(islice(lines, ROWS_PER_CHUNK)):
        rows: list[Checked] = []
        issues: Issues = []
        for line in chunk:
            try:
                if (row := handlers.parse(line)) is not None:
                    rows.append(row)
            except ValidationError as error:
                issues.append((line, error))
        rows, recorded = identities.resolve(rows)
        counts[False] += recorded
        record_rows(rows, issues)
    for rows in identities.waiting():
        record_rows(rows, [])
    return counts


def _record_now(model: type[BaseModel], keys: Keys, rows: list[Checked], issues: Issues) -> Counts:
    """Record rows in the open transaction, with one statement if all of them are new."""
    chunk: Any = [(number, row.values) for number, row in enumerate(rows)]
    unchanged: Any = lambda _, values: values  # noqa: E731
    try:
        if write.insert_batch(model, chunk, unchanged):
            return Counter({True: len(rows)})
    except ValidationError:
        pass  # metadata of a row is too large
    counts: Counts = Counter()
    for row in rows:
        try:
            counts[_record_row(model, keys, row)] += 1
        except (ValidationError, DuplicateError, DiffersError) as error:
            issues.append((row.line, error))
    return counts


def _record_row(model: type[BaseModel], keys: Keys, row: Checked) -> bool:
    """Record a row and return whether it is new; raise if another one has its unique values."""
    if write.insert_if_new(model, dict(row.values)) is not None:
        return True
    existing, names = recorded_row(model, keys, row.values)
    if existing is None:
        raise DuplicateError(f"a {model.__name__} with these unique values already exists")
    _require_same(model, row, values_of(existing), names)
    return False


def _require_same(
    model: type[BaseModel], row: Checked, existing: Values, names: tuple[str, ...]
) -> None:
    """Raise `DiffersError` if the existing row differs in a value that the file has."""
    changes = differences(existing, row.content())
    key = tuple(field.name for field in key_fields(model))
    if names != key:  # ids of ours are no content of rows with the same id of an exchange
        changes = {name: values for name, values in changes.items() if name not in key}
    # exports of exchanges have whole seconds where their APIs have milliseconds
    if "timestamp" in changes and _is_without_fraction(*changes["timestamp"]):
        del changes["timestamp"]
    if changes and not is_kept(model, row, names):
        raise DiffersError(row, existing, names, changes)


def _is_without_fraction(recorded: object, new: object) -> bool:
    """Return whether a new time is the recorded one in whole seconds."""
    return isinstance(recorded, datetime) and recorded.replace(microsecond=0) == new


class _RolledBackError(Exception):
    """Raised in a block to roll it back."""


class _StagedImport:
    """The rows of one import: staged and checked first, then recorded."""

    def __init__(self, model: type[BaseModel], stage: Stage, keys: Keys) -> None:
        self.model, self.stage, self.keys = model, stage, keys
        self.key = write.key_of(model)
        self.insert = write.insert_query(model, tuple(model._meta.sorted_field_names))
        # in the order of the parameters of the INSERT
        self.columns = [field.column_name for field in model._meta.sorted_fields]
        self.unique = {(self.key.column_name,), *stage.unique_columns()}

    # --- checking ---------------------------------------------------------------------------

    def add(self, rows: list[Checked], issues: Issues) -> Counts:
        """Stage the rows that are new; append to `issues` those that cannot be recorded."""
        bound = []
        for row in rows:
            if self.key.auto_increment and self.key.name not in row.values:
                row.values[self.key.name] = PLACEHOLDER_ID + row.line[0]
            try:
                bound.append((row, self.insert.bind(row.values)))
            except ValidationError as error:  # its metadata is too large
                issues.append((row.line, error))
        conflicts = self._possible_conflicts([params for _, params in bound])
        new, counts = self._dry_run([(n, bound[n][0]) for n in sorted(conflicts)], issues)
        bound = [row for n, row in enumerate(bound) if n not in conflicts or n in new]
        try:
            if self.stage.add(self.insert.sql, [params for _, params in bound]):
                counts[True] += len(bound)
                return counts
        except peewee.IntegrityError:
            pass
        for row, params in bound:
            try:
                counts[self._add_row(row, params)] += 1
            except (ValidationError, DuplicateError, DiffersError) as error:
                issues.append((row.line, error))
        return counts

    def _add_row(self, row: Checked, params: list[Any]) -> bool:
        """Stage one row and return whether it is the first one with its key in the file."""
        try:
            if self.stage.add(self.insert.sql, [params]):
                return True
        except peewee.IntegrityError as error:
            raise write.constraint_error(self.model, error) from error
        for names in self.keys:
            indexes = [self.model._meta.sorted_field_names.index(name) for name in names]
            equal = {self.columns[index]: params[index] for index in indexes}
            staged = self.stage.rows(self.columns, **equal)(1)
            if None not in equal.values() and staged:
                recorded = values_of(next(maker(self.model)(staged)))
                _require_same(self.model, row, recorded, names)
                return False
        raise DuplicateError(f"a {self.model.__name__} with these unique values already exists")

    def _possible_conflicts(self, rows: list[list[Any]]) -> set[int]:
        """Return the positions of rows that the database may reject.

        Their unique values may exist already, or the row they refer to may be missing.
        """
        conflicts: set[int] = set()
        for columns in self.unique:
            conflicts |= self._existing(rows, columns, self.stage.table, columns)
        for field, parent in self.model._meta.refs.items():
            index = self.columns.index(field.column_name)
            referring = {n for n, row in enumerate(rows) if row[index] is not None}
            column, parent_column = [field.column_name], [field.rel_field.column_name]
            conflicts |= referring - self._existing(
                rows, column, parent._meta.table_name, parent_column
            )
        return conflicts

    def _existing(
        self, rows: list[list[Any]], columns: Sequence[str], table: str, in_table: Sequence[str]
    ) -> set[int]:
        """Return the positions of rows whose values in these columns are in the database."""
        indexes = [self.columns.index(name) for name in columns]
        values = [[row[index] for index in indexes] for row in rows]
        return self.stage.existing(table, in_table, values)

    def _dry_run(self, rows: list[tuple[int, Checked]], issues: Issues) -> tuple[set[int], Counts]:
        """Record rows and roll back; return which are new, and count those that already exist."""
        new: set[int] = set()
        counts: Counts = Counter()
        if rows:
            with suppress(_RolledBackError), session_scope():
                for number, row in rows:
                    try:
                        if _record_row(self.model, self.keys, row):
                            new.add(number)
                        else:
                            counts[False] += 1
                    except (ValidationError, DuplicateError, DiffersError) as error:
                        issues.append((row.line, error))
                raise _RolledBackError
        return new, counts

    # --- recording --------------------------------------------------------------------------

    def record(self, new: int, last_steps: list[Callable[[], None]]) -> int:
        """Record the staged rows; return how many of them another program has recorded meanwhile.

        `last_steps` are done in a transaction of their own, after the others.

        If a transaction fails, the rows of the earlier ones are deleted.
        """
        try:
            skipped = self._record_staged(new) if new else 0
            if last_steps:
                with session_scope():
                    for step in last_steps:
                        step()
        except BaseException as error:
            self._delete_recorded(error)
            raise
        return skipped

    def _record_staged(self, new: int) -> int:
        if new > MAX_SINGLE_TRANSACTION:
            self.stage.reserve()
        used = self.stage.used_columns()
        fields = [field for field in self.model._meta.sorted_fields if field.column_name in used]
        size = MAX_SINGLE_TRANSACTION if new <= MAX_SINGLE_TRANSACTION else FIRST_ROWS
        total_skipped = 0
        fetch = self.stage.rows([field.column_name for field in fields])
        while rows := fetch(size):
            skipped, seconds = self._record_chunk(fields, rows)
            total_skipped += skipped
            size = max(MIN_ROWS, min(MAX_ROWS, 2 * size, int(size * LOCK_TIME / seconds)))
        return total_skipped

    def _record_chunk(self, fields: list[Any], rows: list[tuple[Any, ...]]) -> tuple[int, float]:
        """Record rows; return how many already existed, and the seconds the lock was held."""
        names = tuple(field.name for field in fields)
        key_index = names.index(self.key.name)
        with session_scope():
            start = time.perf_counter()
            rows, skipped = self._with_ids(rows, key_index), 0
            try:
                with session_scope():
                    insert = write.insert_query(self.model, names)
                    if db.insert_rows(insert.sql, rows, fields) < len(rows):
                        raise _RolledBackError
                    self.stage.add_recorded_keys(row[key_index] for row in rows)
            except (_RolledBackError, peewee.IntegrityError):
                skipped = self._record_each(names, rows, key_index)
        return skipped, time.perf_counter() - start

    def _record_each(
        self, names: tuple[str, ...], rows: list[tuple[Any, ...]], key_index: int
    ) -> int:
        """Record rows one by one, and return how many already existed."""
        skipped = 0
        nulls = dict.fromkeys(self.model._meta.sorted_field_names)
        converted = tuple_maker(self.model, names)(rows)
        for row, field_values in zip(rows, converted, strict=True):
            values = nulls | dict(zip(names, field_values, strict=True))
            try:
                if _record_row(
                    self.model, self.keys, Checked((0, "", {}), values, frozenset(names))
                ):
                    self.stage.add_recorded_keys([row[key_index]])
                else:
                    skipped += 1
            except (ValidationError, DuplicateError) as error:
                error.args = (f"{self.model.__name__} {values[self.key.name]}: {error}",)
                raise
            except DiffersError as error:
                raise DuplicateError(
                    f"{self.model.__name__} {values[self.key.name]}: a {self.model.__name__} with "
                    "these unique values already exists, which another program recorded meanwhile"
                ) from error
        return skipped

    def _with_ids(self, rows: list[tuple[Any, ...]], key_index: int) -> list[tuple[Any, ...]]:
        """Replace placeholders by autoincrement ids, in the order of the file."""
        if not self.key.auto_increment or rows[-1][key_index] < PLACEHOLDER_ID:
            return rows
        highest = self.model.select(fn.MAX(self.key)).scalar() or 0
        given = [row[key_index] for row in rows if row[key_index] < PLACEHOLDER_ID]
        ids = count(max(highest, db.last_id(self.model), *given) + 1)
        return [
            row
            if row[key_index] < PLACEHOLDER_ID
            else (*row[:key_index], next(ids), *row[key_index + 1 :])
            for row in rows
        ]

    def _delete_recorded(self, cause: BaseException) -> None:
        """Delete the rows that this import has recorded, in short transactions."""
        self.stage.release_reserve()
        fetch = self.stage.recorded_keys()
        try:
            while keys := fetch(KEYS_PER_DELETE):
                # keys are values of the driver: no conversion
                condition = self.key.in_([Value(key, converter=False) for (key,) in keys])
                _retry_while_busy(self.model.delete().where(condition).execute)
        except BotMemoryError as error:
            raise StorageError(
                f"{db.config.label}: the import failed ({cause!r}), and rows that it had recorded "
                f"could not be deleted ({error}); repeat it to record the others"
            ) from cause


def _retry_while_busy(call: Callable[[], object]) -> None:
    for _ in range(DELETE_ATTEMPTS - 1):
        try:
            call()
            return
        except DatabaseBusyError:
            pass  # it has waited for busy_timeout
    call()
