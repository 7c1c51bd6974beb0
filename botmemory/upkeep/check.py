"""Look at the health of the open database, and say what to do about what is found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import peewee
from peewee import SQL, fn

from ..backends.base import Backend, Finding
from ..backends.peewee_internals import values_of
from ..backends.sqlite.errors import RESTORE
from ..database import db
from ..errors import SchemaError, ValidationError
from ..models import BaseModel, Signal, Trade, clean_field
from ..repositories import signals, trades
from ..schema.drift import checks, drift
from ..schema.versions import require_current

__all__ = ["Finding", "check"]

SHOWN = 5


def check(*, full: bool = False) -> list[Finding]:
    """Return what is wrong with the open database; nothing is changed.

    It looks at the file (damage, journal, disk, file system; a server sees to its own), at the
    schema and at the rows (violated constraints, duplicates, trades before their signal).

    Args:
        full: Also compare every index with its table, and read every row as the functions would.
            That takes as long as reading the file twice.

    Returns:
        The findings, the worst first; an empty list for a healthy database.

    Raises:
        NotInitializedError: No database is open.
    """
    database = db.current()
    # each look would stumble over what the one before has found
    found = list(_damage(database, full)) or list(_schema(database))
    if not any(finding.severity == "error" for finding in found):
        violated = list(_violated_checks(database))
        found += [*violated, *_duplicates(), *_trades_before_signal(), *_orphans(database)]
        if full and not violated:
            found += _unreadable()
    found += database.findings()
    order = ("error", "warning", "info")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _damage(database: Backend, full: bool) -> Iterator[Finding]:
    for line in database.damage("integrity_check" if full else "quick_check")[:SHOWN]:
        yield Finding("error", f"the file is damaged: {line}", RESTORE)


def _orphans(database: Backend) -> Iterator[Finding]:
    if lost := database.orphans():
        yield Finding(
            "error",
            f"{len(lost)} rows of '{lost[0][0]}' refer to rows of '{lost[0][1]}' that are not "
            "there",
            "another program has written the file; set the reference of these rows to NULL",
        )


def _schema(database: Backend) -> Iterator[Finding]:
    try:
        require_current(database)
    except SchemaError as error:
        yield Finding("error", str(error), "run 'python -m botmemory.migration_runner up'")
        return
    if not database.can_make_scratch():
        yield Finding(
            "info",
            "the tables were not compared with the models, which takes temporary ones",
            "run 'python -m botmemory.migration_runner check' as a role that may make them",
        )
        return
    for model in (Signal, Trade):
        if database.is_partitioned(_table(model)):
            yield Finding(
                "info",
                f"'{_table(model)}' is partitioned: its indexes were not compared",
                "see that new partitions are made in time, as docs/postgresql.md says",
            )
    for difference in drift(database, (Signal, Trade)):
        yield Finding(
            "error",
            f"the tables are not as the migrations make them: {difference}",
            "undo by hand what another program has changed, or restore the latest backup",
        )


def _table(model: type[BaseModel]) -> str:
    return str(model._meta.table_name)


def _violated_checks(database: Backend) -> Iterator[Finding]:
    """Rows that another program wrote, without the CHECKs of the schema."""
    for model in (Signal, Trade):
        meta: Any = model._meta
        for name, condition in checks(model, database).items():
            query = model.select(meta.primary_key).where(SQL(f"NOT ({condition})"))
            yield from _rows(
                model,
                f"violate the constraint {name}: {condition}",
                _ids(query),
                "correct or delete them",
            )


def _unreadable() -> Iterator[Finding]:
    for model, stream in ((Signal, signals.iterate), (Trade, trades.iterate)):
        bad: list[str] = []
        for row in stream():
            for name, field in model._meta.fields.items():
                try:
                    clean_field(field, values_of(row).get(name))
                except ValidationError as error:
                    bad.append(f"{row.get_id()} ({error})")
        yield from _rows(model, "hold what could not be stored", bad, "correct or delete them")


def _duplicates() -> Iterator[Finding]:
    same = (Trade.timestamp, Trade.symbol, Trade.side, Trade.price, Trade.quantity)
    query = (
        Trade.select(fn.MIN(Trade.id.cast("text")))  # PostgreSQL 17 knows no least UUID
        .where(Trade.exchange_trade_id.is_null())
        .group_by(*same)
        .having(fn.COUNT(Trade.id) > 1)
    )
    yield from _rows(
        Trade,
        "stand there more than once with the same timestamp, symbol, side, price and quantity",
        _ids(query),
        "delete what was recorded twice; get_or_create() with the exchange's id prevents it",
        severity="warning",
    )


def _trades_before_signal() -> Iterator[Finding]:
    query = Trade.select(Trade.id).join(Signal).where(Trade.timestamp < Signal.timestamp)
    yield from _rows(
        Trade,
        "are older than the signal they name",
        _ids(query),
        "correct the timestamp or the signal; a clock or a time zone may be wrong",
        severity="warning",
    )


def _rows(
    model: type[BaseModel],
    what: str,
    ids: list[str],
    advice: str,
    severity: Literal["error", "warning"] = "error",
) -> Iterator[Finding]:
    if ids:
        more = ", ..." if len(ids) > SHOWN else ""
        shown = ", ".join(ids[:SHOWN]) + more
        yield Finding(severity, f"{model.__name__.lower()}s {what}: {shown}", advice)


def _ids(query: peewee.ModelSelect[Any]) -> list[str]:
    """Return the first ids, as they are stored: those of a broken row may be no ids."""
    cursor: Any = db.execute(query.limit(SHOWN + 1))
    return [str(row[0]) for row in cursor.fetchall()]
