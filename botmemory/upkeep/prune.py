"""Delete old rows, a few at a time, while bots go on."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import peewee

from .._arguments import checked_call, from_caller
from ..backends.peewee_internals import values_of
from ..backends.sqlite.copy import sync_folder_of, sync_to_disk
from ..backends.sqlite.errors import translate_errors
from ..config import absolute_path
from ..database import db, run_transaction
from ..errors import DatabaseBusyError, StorageError, ValidationError
from ..interop.files import read_file, require_format, write_file
from ..models import BaseModel, CashFlow, Trade
from ..queries import read, write
from ._spans import spans, spans_of

__all__ = ["PruneResult", "prune"]

ROWS_PER_CHECK = 500  # looked up together in the tables that refer to them
FIRST_ROWS, MAX_ROWS = 100, 2000  # in one transaction
LOCK_TIME = 0.1  # seconds that one transaction should hold the write lock
LONGEST_PAUSE = 1.0  # seconds; it is as long as the transaction before it

Values = dict[str, Any]  # of one row, by the names of the fields
Unit = list[Values]  # rows that are deleted together or not at all
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class PruneResult:
    """What `prune` has deleted, or would delete.

    Attributes:
        deleted: The number of rows that were deleted; of a dry run, that would be.
        kept_linked: The number of old rows that stay because rows of other tables refer to them, or
            to a trade of the same position.
        kept_open: The number of old trades, and of funding, that stay because open positions follow
            from them.
        kept_changed: The number of old rows that were not deleted because another program has
            changed or deleted them, or recorded a row that refers to them, meanwhile.
        file: The file with the rows that were to be deleted; None without `export_to`, and of a
            dry run.
    """

    deleted: int
    kept_linked: int = 0
    kept_open: int = 0
    kept_changed: int = 0
    file: Path | None = None


@checked_call
def prune(
    model: type[BaseModel],
    *,
    before: datetime,
    keep_linked: bool = True,
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
    export_to: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PruneResult:
    """Delete the rows of a table that are older than a time.

    Bots go on meanwhile: rows are deleted in transactions of about 0.1 s, with pauses as long as
    these. An interrupted call has deleted some of them; repeat it to delete the others.

    A trade is deleted together with all trades of its position, from flat to flat, in one
    transaction, and only if the position was closed before the given time: open positions stay as
    they are, but for what they had earned earlier. A position is that of all strategies together
    and of each one alone. It stays if it has trades that the filters do not match, or more than
    10,000. Funding of a position that was open at that time stays, too.

    Args:
        model: `Trade`, `Signal`, `CashFlow` or the model of a custom table with a `timestamp`.
        before: Only rows with an earlier timestamp; a naive datetime is taken as UTC. It must not
            be in the future.
        keep_linked: True keeps the rows that rows of other tables, also custom ones, refer to, as
            trades refer to their signal. With False the foreign keys decide: a row stays if one
            refers to it that is neither ON DELETE SET NULL, as of trades to their signal, which
            becomes None, nor CASCADE, which deletes the referring rows without exporting them.
        symbol: Only rows of this symbol.
        strategy: Only rows of this strategy; "" for those without one.
        exchange: Only rows of this exchange; "" for those without one.
        export_to: A new file, .csv, .jsonl or .parquet, to which the rows are written first. Only
            those are deleted that are read back from it as they are in the database.
            `interop.files.import_file` records them again.
        dry_run: Count the rows, and change nothing.
        progress: Called with the rows read and deleted so far, and the number of both.

    Returns:
        How many rows were deleted, and how many old ones stay.

    Raises:
        ValidationError: An argument is invalid; or a row does not come back from the file, and
            neither it nor those after it are deleted.
        ConfigError: The suffix is unsupported, or pyarrow is not installed.
        DatabaseBusyError: A transaction is open in this thread, or another program held the write
            lock for longer than `busy_timeout`.
        StorageError: The file exists already, or the file or the database cannot be written.
    """
    database = db.current()
    filters = read.filters(
        write.checked_model(model),
        symbol,
        strategy,
        exchange=exchange,
        before=write.required("before", before),
    )
    if filters["before"] > datetime.now(UTC):
        raise ValidationError(
            f"before: {filters['before']} is in the future; pass a time that has passed",
            field="before",
        )
    file = None if export_to is None else absolute_path("export_to", export_to)
    if file is not None:
        require_format(model, file)
        with translate_errors(file, "cannot be looked at"):
            if file.exists():
                raise StorageError(
                    f"{file}: exists already, and may be the only copy of rows that were deleted; "
                    "name a new file"
                )
    if database.in_transaction():
        raise DatabaseBusyError(
            f"{database.config.label}: a transaction is open in this thread; leave session_scope() "
            "before prune()"
        )
    call = None if progress is None else from_caller(progress)
    total = 0 if call is None else read.count(model, filters)
    total *= 1 if dry_run else 2  # rows are read, then deleted
    done = 0

    def report(rows: int) -> None:
        nonlocal done
        done += rows
        if call is not None:
            call(min(done, total), total)

    job = _Prune(model, filters, keep_linked=keep_linked, report=report)
    if dry_run:
        job.deleted = sum(map(len, job.units()))
    elif file is None:
        job.delete(job.units())
    else:
        job.delete(job.exported(file))
    report(total)
    return replace(job.result(), file=None if dry_run else file)


class _Prune:
    """One call of `prune`: the rows that may be deleted, and how many old ones stay."""

    def __init__(
        self,
        model: type[BaseModel],
        filters: dict[str, Any],
        *,
        keep_linked: bool,
        report: Callable[[int], object],
    ) -> None:
        self.model, self.filters, self.report = model, filters, report
        self.references = [
            reference
            for reference in db.references(model._meta.table_name, model._meta.schema)
            if keep_linked or reference.on_delete not in ("SET NULL", "CASCADE")
        ]
        self.deleted = self.kept_linked = self.kept_open = self.kept_changed = 0

    def result(self) -> PruneResult:
        return PruneResult(self.deleted, self.kept_linked, self.kept_open, self.kept_changed)

    # --- what to delete -----------------------------------------------------------------------

    def units(self) -> Iterator[Unit]:
        """Yield the rows that may be deleted; no lock is held in between."""
        table = self.model._meta.table_name
        if table == Trade._meta.table_name:
            candidates = self._closed_positions()
        elif table == CashFlow._meta.table_name:
            candidates = self._cash_flows()
        else:
            candidates = self._rows()
        while batch := _take(candidates, ROWS_PER_CHECK):
            linked = self._linked_keys(batch)
            for unit in batch:
                if linked and not linked.isdisjoint(self._key(row) for row in unit):
                    self.kept_linked += len(unit)
                else:
                    yield unit
            self.report(sum(map(len, batch)))

    def _rows(self) -> Iterator[Unit]:
        for row in read.stream_pages(self.model, self.filters):
            yield [values_of(row)]

    def _closed_positions(self) -> Iterator[Unit]:
        """Yield the trades of each position that was closed."""
        for span in spans(self.filters):
            if span.is_whole:
                yield [values_of(row) for row in span.trades]
            else:
                self.kept_open += span.number
                self.report(span.number)

    def _cash_flows(self) -> Iterator[Unit]:
        """Yield the cash flows but for the funding of positions that were open."""
        before = {"before": self.filters["before"]}

        @cache
        def open_since(symbol: str, exchange: str | None) -> datetime | None:
            last = None
            for span in spans_of(symbol, exchange, before):
                last = None if span.is_closed else span.start
            return last

        for [row] in self._rows():
            start = None
            if row["kind"] == "funding" and row["symbol"] is not None:
                start = open_since(row["symbol"], row["exchange"])
            if start is None or row["timestamp"] < start:
                yield [row]
            else:
                self.kept_open += 1
                self.report(1)

    def _key(self, row: Values) -> Any:
        return write.key_value(self.model, row)

    def _linked_keys(self, units: Iterable[Unit]) -> set[Any]:
        """Return the keys of the rows that a row of another table refers to."""
        rows = [row for unit in units for row in unit]
        linked: set[Any] = set()
        for reference in self.references:
            field: Any = self.model._meta.columns[reference.referred_column]
            table: Any = peewee.Table(reference.table, schema=reference.schema)
            column = getattr(table.c, reference.column)
            values = [field.db_value(row[field.name]) for row in rows]
            query = table.select(column).where(column.in_(values)).distinct().bind(db.current())
            referred = {field.python_value(value) for (value,) in query.tuples()}
            linked.update(self._key(row) for row in rows if row[field.name] in referred)
        return linked

    # --- exporting ----------------------------------------------------------------------------

    def exported(self, file: Path) -> Iterator[Unit]:
        """Write the rows to a file, then yield what can be read from it."""
        sizes = array("H")

        def rows() -> Iterator[Values]:
            for unit in self.units():
                sizes.append(len(unit))
                yield from unit

        write_file(self.model, file, rows())
        with translate_errors(file, "cannot be synced to the disk; nothing was deleted"):
            sync_to_disk(file)
        sync_folder_of(file)
        read_back = read_file(self.model, file)
        for size in sizes:
            unit = list(islice(read_back, size))
            if len(unit) < size:
                raise StorageError(f"{file}: another program has cut it; repeat the call")
            yield unit

    # --- deleting -----------------------------------------------------------------------------

    def delete(self, units: Iterator[Unit]) -> None:
        """Delete what is unchanged, in short transactions."""
        size = FIRST_ROWS
        while batch := _take(units, size):
            rows = sum(map(len, batch))
            deleted, start = run_transaction(self._delete_batch, batch)
            seconds = time.perf_counter() - start
            self.deleted += deleted
            self.kept_changed += rows - deleted
            self.report(rows)
            size = max(1, min(MAX_ROWS, 2 * size, int(size * LOCK_TIME / seconds)))
            time.sleep(min(seconds, LONGEST_PAUSE))

    def _delete_batch(self, batch: list[Unit]) -> tuple[int, float]:
        """Delete units in the open transaction; return how many rows, and since when it is locked.

        A file is locked now; a server acquires the write lock to read the first rows.
        """
        rows = [row for unit in batch for row in unit]
        found: dict[Any, Values] = {}
        start = 0.0 if db.has_key_locks else time.perf_counter()
        for condition in read.have_keys(self.model, rows):
            query = self.model.select().where(condition)
            if db.for_update:
                # a row that another transaction is about to refer to is locked, and stays
                query = query.for_update(skip_locked=True)
            found.update((row.get_id(), values_of(row)) for row in read.fetch(query))
            start = start or time.perf_counter()
        stays = self._linked_keys(batch)
        stays.update(key for row in rows if found.get(key := self._key(row)) != row)
        deletable = [
            row
            for unit in batch
            if stays.isdisjoint(self._key(row) for row in unit)
            for row in unit
        ]
        if deletable:
            for condition in read.have_keys(self.model, deletable):
                self.model.delete().where(condition).execute()
        return len(deletable), start


def _take(units: Iterator[Unit], rows: int) -> list[Unit]:
    """Return the next units, with so many rows or a few more; an empty list at the end."""
    batch, count = [], 0
    for unit in units:
        batch.append(unit)
        count += len(unit)
        if count >= rows:
            break
    return batch
