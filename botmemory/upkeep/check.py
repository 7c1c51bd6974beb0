"""Check the open database: its file, its schema and its rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import peewee
from peewee import SQL, Value, fn

from ..backends.base import Backend
from ..backends.finding import Finding
from ..backends.peewee_internals import values_of
from ..backends.sqlite.errors import RESTORE
from ..database import db
from ..errors import SchemaError, ValidationError
from ..interop.files import is_id_of_content
from ..models import MODELS, BaseModel, CashFlow, Signal, State, Trade, clean_field, key_fields
from ..queries import read
from ..schema.drift import checks, drift
from ..schema.versions import require_current
from ._duplicates import duplicate_findings
from ._recorded_pnl import recorded_pnl_findings

__all__ = ["Finding", "check"]

SHOWN = 5


def check(*, full: bool = False) -> list[Finding]:
    """Check the open database without changing it.

    It checks the file (damage, journal, disk, file system; not on a server), the schema, and the
    rows (violated constraints, duplicates, fills that two sources have recorded, trades before
    their signal, recorded PnL that does not follow from the fills).

    Args:
        full: Also compare every index with its table, validate every value of every row, and look
            for trades without an id that were recorded twice within a second. That takes as long as
            reading the file three times.

    Returns:
        The findings, errors first; an empty list for a healthy database.

    Raises:
        NotInitializedError: No database is open.
    """
    database = db.current()
    # damage would make the next checks fail, and so would another schema
    damage = database.damage("integrity_check" if full else "quick_check")[:SHOWN]
    findings = [Finding("error", f"the file is damaged: {line}", RESTORE) for line in damage]
    findings = findings or list(_schema(database))
    if not any(finding.severity == "error" for finding in findings):
        violations = list(_violations(database))
        findings += [*violations, *_duplicates(), *_trades_before_signal(), *_orphans(database)]
        if not violations:
            findings += recorded_pnl_findings()
            findings += duplicate_findings(full=full)
        if full and not violations:
            findings += _invalid_values()
    findings += database.findings()
    order = ("error", "warning", "info")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _orphans(database: Backend) -> Iterator[Finding]:
    if orphans := database.orphans():
        table, parent = orphans[0]
        yield Finding(
            "error",
            f"{len(orphans)} rows of '{table}' refer to missing rows of '{parent}'",
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
            "the tables were not compared with the models, which needs temporary tables",
            "run 'python -m botmemory.migration_runner check' as a role that may create them",
        )
        return
    for model in MODELS:
        if database.is_partitioned(model._meta.table_name):
            yield Finding(
                "info",
                f"'{model._meta.table_name}' is partitioned: its indexes were not compared",
                "create new partitions in time, as docs/postgresql.md describes",
            )
    for difference in drift(database, MODELS):
        yield Finding(
            "error",
            f"the tables differ from the migrations: {difference}",
            "revert by hand what another program has changed, or restore the latest backup",
        )
    yield from database.schema_findings()


def _violations(database: Backend) -> Iterator[Finding]:
    """Find rows that another program wrote although they violate a check constraint."""
    for model in MODELS:
        for name, condition in checks(model, database).items():
            query = model.select(*key_fields(model)).where(SQL(f"NOT ({condition})"))
            problem = f"violate the constraint {name}: {condition}"
            yield from _rows(model, problem, _ids(query), "correct or delete them")


def _invalid_values() -> Iterator[Finding]:
    for model in MODELS:
        invalid: list[str] = []
        for row in read.stream(model, {}):
            for name, field in model._meta.fields.items():
                try:
                    clean_field(field, values_of(row).get(name))
                except ValidationError as error:
                    key = "/".join(str(values_of(row)[key.name]) for key in key_fields(model))
                    invalid.append(f"{key} ({error})")
        yield from _rows(model, "have invalid values", invalid, "correct or delete them")


# what makes two rows without an exchange's id the same
_SAME: tuple[tuple[Any, Any, tuple[str, ...]], ...] = (
    (Trade, Trade.exchange_trade_id, ("timestamp", "symbol", "side", "price", "quantity")),
    (
        CashFlow,
        CashFlow.exchange_flow_id,
        ("timestamp", "kind", "currency", "amount", "symbol", "strategy", "exchange"),
    ),
)


def _duplicates() -> Iterator[Finding]:
    for model, exchange_id, names in _SAME:
        fields = [model._meta.fields[name] for name in names]
        query = (
            model.select(fn.MIN(model.id.cast("text")), *fields)  # PostgreSQL 17: no MIN of UUIDs
            .where(exchange_id.is_null())
            .group_by(*fields)
            .having(fn.COUNT(model.id) > 1)
        )
        ids = (
            str(id_) for id_, *values in _tuples(query) if model is not Trade or _is_twice(values)
        )
        yield from _rows(
            model,
            f"are recorded more than once with the same {', '.join(names[:-1])} and {names[-1]}",
            list(islice(ids, SHOWN + 1)),
            "delete the duplicates; get_or_create() with the exchange's id prevents them",
            severity="warning",
        )


def _is_twice(values: list[Any]) -> bool:
    """Return whether trades with these values are not all rows of files, which may be equal."""
    _, _, names = _SAME[0]
    query = Trade.select().where(Trade.exchange_trade_id.is_null())
    for name, value in zip(names, values, strict=True):
        field = Trade._meta.fields[name]
        query = query.where(field == Value(value, converter=False))
    return not all(is_id_of_content(trade.id, values_of(trade)) for trade in query)


def _tuples(query: Any) -> Iterator[tuple[Any, ...]]:
    """Yield rows as they are stored, because those of a damaged row may be invalid."""
    cursor: Any = db.execute(query)
    return iter(cursor.fetchall())


def _trades_before_signal() -> Iterator[Finding]:
    query = Trade.select(Trade.id).join(Signal).where(Trade.timestamp < Signal.timestamp)
    yield from _rows(
        Trade,
        "are older than their signal",
        _ids(query),
        "correct the timestamp or the signal; a clock or a time zone may be wrong",
        severity="warning",
    )


def _rows(
    model: type[BaseModel],
    problem: str,
    ids: list[str],
    advice: str,
    severity: Literal["error", "warning"] = "error",
) -> Iterator[Finding]:
    if ids:
        more = ", ..." if len(ids) > SHOWN else ""
        shown = ", ".join(ids[:SHOWN]) + more
        names = f"{model._meta.table_name.replace('_', ' ')}s"
        if model is State:
            names = "values of the state"
        yield Finding(severity, f"{names} {problem}: {shown}", advice)


def _ids(query: peewee.ModelSelect[Any]) -> list[str]:
    """Return the first ids as they are stored; the parts of a composite one with a slash."""
    return ["/".join(map(str, row)) for row in _tuples(query.limit(SHOWN + 1))]
