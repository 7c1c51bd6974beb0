"""How the rows of a file get into a table: all or none, while other programs record too."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import count, islice
from typing import Any

import peewee
from peewee import Value, fn

from ...backends.peewee_internals import values_of
from ...database import db, session_scope
from ...errors import (
    BotMemoryError,
    DatabaseBusyError,
    DuplicateError,
    StorageError,
    ValidationError,
)
from ...models import BaseModel
from ...queries import read, write
from ...queries.codegen import maker, tuple_maker
from ...queries.compiled import Compiled

__all__ = ["Line", "record"]

ROWS_PER_CHUNK = 1000  # that are read and checked together
ROWS_AT_ONCE = 2000  # recorded in one transaction; more of them in several
# rows of one of several transactions: of the first one, at least, at most
FIRST, FEWEST, MOST = 500, 100, 5000
HOLD = 0.15  # seconds for which one of several transactions should hold the write lock
KEYS_PER_DELETE = 500
ATTEMPTS = 10  # to delete what must not stay
NO_ID_YET = 2**63 - 2**40  # ids from it on stand for those that the database is to give

Line = tuple[int, str, dict[str, Any] | None]  # its number, its text, and the row it holds
Values = dict[str, Any]
Ready = tuple[Line, Values]
Issues = list[tuple[Line, Exception]]
Counts = Counter[bool]  # how many rows were new, and how many were there already


def record(
    model: type[BaseModel],
    lines: Iterator[Line],
    values_of: Callable[[Line], Values],
    refuse: Callable[[Line, Exception], None],
) -> Counts:
    """Record the rows of lines, and return how many were new and how many were not.

    `values_of` checks a line; `refuse` is told what cannot be recorded, and may raise: then nothing
    is. Where writers wait for each other, the rows are put aside and checked first, and recorded in
    transactions that are short. What is in a transaction of the caller's becomes a part of it.
    """
    # a row may refer to one that comes before it in the file
    refers_to_itself = model in model._meta.refs.values()
    waits = not (refers_to_itself or db.in_transaction())
    stage = db.stage(model._meta.table_name) if waits else None
    if stage is not None:
        with closing(stage):
            staged = _Staged(model, stage)
            counts = _by_chunks(lines, values_of, refuse, staged.put_aside)
            skipped = staged.record(counts[True])
            return Counter({True: counts[True] - skipped, False: counts[False] + skipped})
    with session_scope():
        counts = _by_chunks(lines, values_of, refuse, lambda *some: _record_now(model, *some))
        db.advance_sequence(model)
    return counts


def _by_chunks(
    lines: Iterator[Line],
    values_of: Callable[[Line], Values],
    refuse: Callable[[Line, Exception], None],
    take: Callable[[list[Ready], Issues], Counts],
) -> Counts:
    counts: Counts = Counter()
    while some := list(islice(lines, ROWS_PER_CHUNK)):
        ready: list[Ready] = []
        issues: Issues = []
        for line in some:
            try:
                ready.append((line, values_of(line)))
            except ValidationError as error:
                issues.append((line, error))
        if ready:
            counts += take(ready, issues)
        for line, issue in sorted(issues, key=lambda one: one[0][0]):
            refuse(line, issue)
    return counts


def _record_now(model: type[BaseModel], ready: list[Ready], issues: Issues) -> Counts:
    """Record rows in the transaction that is open, at once where all of them are new."""
    chunk: Any = [(number, values) for number, (_, values) in enumerate(ready)]
    as_it_is: Any = lambda _, values: values  # noqa: E731
    try:
        if write.insert_batch(model, chunk, as_it_is):
            return Counter({True: len(ready)})
    except ValidationError:
        pass  # metadata that are too large
    counts: Counts = Counter()
    for line, values in ready:
        try:
            counts[_record_one(model, line, values)] += 1
        except (ValidationError, DuplicateError) as error:
            issues.append((line, error))
    return counts


def _record_one(model: type[BaseModel], line: Line, values: Values) -> bool:
    """Record one row and return whether it is new; refuse one that is there as another."""
    if write.insert_if_new(model, dict(values)) is not None:
        return True
    key = write.key_of(model).name
    there = read.get_by_id(model, values[key]) if key in values else None
    _require_same(model, there, line, values)
    return False


def _require_same(
    model: type[BaseModel], there: BaseModel | None, line: Line, values: Values
) -> None:
    """Refuse a row when the one that is there differs, except in a default that is ever another."""
    if there is None:
        raise DuplicateError(f"another {model.__name__} has its unique values already")
    key = write.key_of(model).name
    for name, value in values.items():
        field = model._meta.fields[name]
        if callable(field.default) and field.column_name not in (line[2] or {}):
            continue
        if values_of(there)[name] != value:
            raise DuplicateError(
                f"{key}: {values[key]} already exists, and its {name} is "
                f"{values_of(there)[name]!r}, not {value!r}",
                id=values_of(there)[key],
            )


# --- rows that are put aside before they are recorded -------------------------------------------


class _NotAllStoredError(Exception):
    pass


class _RolledBackError(Exception):
    pass


class _Staged:
    """The rows of one import: put aside, checked, and recorded when all of them are good."""

    def __init__(self, model: type[BaseModel], stage: Any) -> None:
        self.model, self.stage = model, stage
        self.key = write.key_of(model)
        self.insert = write.insert_query(model, tuple(model._meta.sorted_field_names))
        self.columns = [model._meta.fields[name].column_name for name in self.insert.names]
        self.unique: set[tuple[str, ...]] = {(self.key.column_name,), *stage.unique_columns()}

    # --- checking ---------------------------------------------------------------------------

    def put_aside(self, ready: list[Ready], issues: Issues) -> Counts:
        """Put rows aside; those that are no new ones, or cannot be recorded, are left out."""
        bound = []
        for line, values in ready:
            if self.key.auto_increment and self.key.name not in values:
                values = values | {self.key.name: NO_ID_YET + line[0]}
            try:
                bound.append((line, values, self.insert.bind(values)))
            except ValidationError as error:  # metadata that are too large
                issues.append((line, error))
        conflicts = self._possible_conflicts([row for _, _, row in bound])
        new, counts = self._dry_run([(n, *bound[n][:2]) for n in sorted(conflicts)], issues)
        bound = [one for n, one in enumerate(bound) if n not in conflicts or n in new]
        try:
            if self.stage.add(self.insert.sql, [row for _, _, row in bound]):
                counts[True] += len(bound)
                return counts
        except peewee.IntegrityError:
            pass
        for line, values, row in bound:
            try:
                counts[self._add(line, values, row)] += 1
            except (ValidationError, DuplicateError) as error:
                issues.append((line, error))
        return counts

    def _add(self, line: Line, values: Values, row: list[Any]) -> bool:
        """Put one row aside and return whether the file had it for the first time."""
        try:
            if self.stage.add(self.insert.sql, [row]):
                return True
        except peewee.IntegrityError as error:
            raise write.constraint_error(self.model, error) from error
        columns = [field.column_name for field in self.model._meta.sorted_fields]
        key = row[self.columns.index(self.key.column_name)]
        found = self.stage.rows(columns, **{self.key.column_name: key})(1)
        _require_same(self.model, next(maker(self.model)(found), None), line, values)
        return False

    def _possible_conflicts(self, rows: list[list[Any]]) -> set[int]:
        """Return the positions of rows of which the database might not take another one."""
        conflicts: set[int] = set()
        for columns in self.unique:
            conflicts |= self._existing(rows, columns, self.stage.table, columns)
        for field, parent in self.model._meta.refs.items():
            place = self.columns.index(field.column_name)
            refers = {n for n, row in enumerate(rows) if row[place] is not None}
            column, parent_column = [field.column_name], [field.rel_field.column_name]
            conflicts |= refers - self._existing(
                rows, column, parent._meta.table_name, parent_column
            )
        return conflicts

    def _existing(
        self, rows: list[list[Any]], columns: Sequence[str], table: str, in_table: Sequence[str]
    ) -> set[int]:
        """Return the positions of rows whose values in these columns are in the database."""
        places = [self.columns.index(name) for name in columns]
        values = [[row[place] for place in places] for row in rows]
        existing: set[int] = self.stage.existing(table, in_table, values)
        return existing

    def _dry_run(
        self, conflicts: list[tuple[int, Line, Values]], issues: Issues
    ) -> tuple[set[int], Counts]:
        """Record rows and roll back: return which are new, and count those that are there."""
        new: set[int] = set()
        counts: Counts = Counter()
        if not conflicts:
            return new, counts
        try:
            with session_scope():
                for number, line, values in conflicts:
                    try:
                        if _record_one(self.model, line, values):
                            new.add(number)
                        else:
                            counts[False] += 1
                    except (ValidationError, DuplicateError) as error:
                        issues.append((line, error))
                raise _RolledBackError
        except _RolledBackError:
            return new, counts

    # --- recording --------------------------------------------------------------------------

    def record(self, new: int) -> int:
        """Record what was put aside; return how many of it another program has recorded since.

        One transaction where the rows are few. If a later one fails, what the others have recorded
        is deleted.
        """
        if not new:
            return 0
        if new > ROWS_AT_ONCE:
            self.stage.reserve()
        used = self.stage.used_columns()
        by_column = self.model._meta.columns
        insert = write.insert_query(self.model, tuple(by_column[name].name for name in used))
        columns = [self.model._meta.fields[name].column_name for name in insert.names]
        size = ROWS_AT_ONCE if new <= ROWS_AT_ONCE else FIRST
        skipped_in_all = 0
        take = self.stage.rows(columns)
        try:
            while rows := take(size):
                skipped, held = self._record_chunk(insert, rows)
                skipped_in_all += skipped
                size = max(FEWEST, min(MOST, 2 * size, int(size * HOLD / held)))
        except BaseException as error:
            self._undo(error)
            raise
        return skipped_in_all

    def _record_chunk(self, insert: Compiled, rows: list[tuple[Any, ...]]) -> tuple[int, float]:
        """Record rows; return how many were there meanwhile, and how long the lock was held."""
        fields = [self.model._meta.fields[name] for name in insert.names]
        place = insert.names.index(self.key.name)
        try:
            with session_scope():
                began = time.monotonic()
                numbered = self._numbered(rows, place)
                if db.insert_rows(insert.sql, numbered, fields) < len(rows):
                    raise _NotAllStoredError
                self.stage.add_recorded_keys(row[place] for row in numbered)
            return 0, time.monotonic() - began
        except (_NotAllStoredError, peewee.IntegrityError):
            pass
        skipped = 0
        with session_scope():
            began = time.monotonic()
            every = dict.fromkeys(self.model._meta.sorted_field_names)
            numbered = self._numbered(rows, place)
            made = tuple_maker(self.model, tuple(insert.names))(numbered)
            for row, values in zip(numbered, made, strict=True):
                named = every | dict(zip(insert.names, values, strict=True))
                try:
                    new = _record_one(self.model, (0, "", None), named)
                except (ValidationError, DuplicateError) as error:
                    error.args = (f"{self.model.__name__} {named[self.key.name]}: {error}",)
                    raise
                if new:
                    self.stage.add_recorded_keys([row[place]])
                skipped += not new
        return skipped, time.monotonic() - began

    def _numbered(self, rows: list[tuple[Any, ...]], place: int) -> list[tuple[Any, ...]]:
        """Give ids to the rows that brought none, in the order of the file."""
        if not self.key.auto_increment or rows[-1][place] < NO_ID_YET:
            return rows
        highest = self.model.select(fn.MAX(self.key)).scalar() or 0
        brought = [row[place] for row in rows if row[place] < NO_ID_YET]
        ids = count(max(highest, db.last_id(self.model), *brought) + 1)
        return [
            row if row[place] < NO_ID_YET else (*row[:place], next(ids), *row[place + 1 :])
            for row in rows
        ]

    def _undo(self, cause: BaseException) -> None:
        """Delete what was recorded, a chunk at a time."""
        self.stage.release_reserve()
        take = self.stage.recorded_keys()
        try:
            while keys := take(KEYS_PER_DELETE):
                # as the driver has given them
                chosen = self.key.in_([Value(key, converter=False) for (key,) in keys])
                _retry_while_busy(self.model.delete().where(chosen).execute)
        except BotMemoryError as error:
            raise StorageError(
                f"{db.config.label}: the import was stopped ({cause!r}), and rows of it that were "
                f"recorded before could not be deleted ({error}); repeat it to complete it"
            ) from cause


def _retry_while_busy(call: Callable[[], object]) -> None:
    for _ in range(ATTEMPTS - 1):
        try:
            call()
            return
        except DatabaseBusyError:
            pass  # it has waited for busy_timeout
    call()
