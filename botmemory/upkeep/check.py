"""Look at the health of the open memory, and say what to do about what is found."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import peewee
from peewee import SQL, fn

from ..backends.server.health import is_partitioned
from ..backends.sqlite.backend import SqliteBackend
from ..backends.sqlite.errors import RESTORE, translate_errors
from ..backends.sqlite.file_system import mount_of, other_names, problem_of, read_mounts
from ..backends.sqlite.health import orphans
from ..database import Backend, db
from ..errors import SchemaError, ValidationError
from ..models import BaseModel, Signal, Trade, clean_field
from ..repositories import signals, trades
from ..schema.drift import can_compare, drift, rules
from ..schema.versions import require_current

__all__ = ["Finding", "check"]

LARGE_WAL = 20 * 1024 * 1024
LITTLE_ROOM = 100 * 1024 * 1024
# the first release of each branch in which resetting the -wal cannot damage it any more
WAL_RESET_MENDED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: how bad, what, and what to do."""

    severity: Literal["error", "warning", "info"]
    what: str
    advice: str


def check(*, full: bool = False) -> list[Finding]:
    """Return what is wrong with the open memory, the worst first; an empty list is a healthy one.

    Looks at the file (damage, journal, disk, file system; a server sees to its own), at the
    schema and at the rows (broken rules, look-alikes, trades before their signal). `full` also
    compares every index with its table and reads every row as the functions would; it takes as
    long as reading the file twice. Nothing is changed. Raises `NotInitializedError`.
    """
    database = db.opened()
    # each look would stumble over what the one before has found
    in_file = isinstance(database, SqliteBackend)
    found = list(_damage(database, full)) if in_file else []
    found = found or list(_schema(database))
    if not any(finding.severity == "error" for finding in found):
        broken = list(_broken_rules(database))
        found += [*broken, *_look_alikes(), *_early_trades()]
        if in_file:
            found += _orphans(database)
        if full and not broken:
            found += _unreadable()
    if in_file:
        with translate_errors(database.database, "cannot be looked at"):
            found += _file(database)
    order = ("error", "warning", "info")
    return sorted(found, key=lambda finding: order.index(finding.severity))


def _damage(database: SqliteBackend, full: bool) -> Iterator[Finding]:
    for line in database.damage("integrity_check" if full else "quick_check")[:SHOWN]:
        yield Finding("error", f"the file is damaged: {line}", RESTORE)


def _orphans(database: SqliteBackend) -> Iterator[Finding]:
    if lost := orphans(database):
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
    if not can_compare(database):
        yield Finding(
            "info",
            "the tables were not compared with the models, which takes temporary ones",
            "run 'python -m botmemory.migration_runner check' as a role that may make them",
        )
        return
    for model in (Signal, Trade):
        if not isinstance(database, SqliteBackend) and is_partitioned(database, _table(model)):
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


def _broken_rules(database: Backend) -> Iterator[Finding]:
    """Rows that another program wrote, without the CHECKs of the schema."""
    for model in (Signal, Trade):
        meta: Any = model._meta
        for name, rule in rules(model, database).items():
            query = model.select(meta.primary_key).where(SQL(f"NOT ({rule})"))
            yield from _rows(
                model,
                f"break the rule {name}: {rule}",
                _ids(query),
                "correct or delete them",
            )


def _unreadable() -> Iterator[Finding]:
    for model, stream in ((Signal, signals.iterate), (Trade, trades.iterate)):
        bad: list[str] = []
        for row in stream():
            for name, field in model._meta.fields.items():
                try:
                    clean_field(field, row.__data__.get(name))
                except ValidationError as error:
                    bad.append(f"{row._pk} ({error})")
        yield from _rows(model, "hold what could not be stored", bad, "correct or delete them")


def _look_alikes() -> Iterator[Finding]:
    same = (Trade.timestamp, Trade.symbol, Trade.side, Trade.price, Trade.quantity)
    query = (
        Trade.select(fn.MIN(Trade.id.cast("text")))  # PostgreSQL 17 knows no least UUID
        .where(Trade.exchange_trade_id.is_null())
        .group_by(*same)
        .having(fn.COUNT(Trade.id) > 1)
    )
    yield from _rows(
        Trade,
        "stand there more than once with the same moment, symbol, side, price and quantity",
        _ids(query),
        "delete what was recorded twice; get_or_create() with the exchange's id prevents it",
        severity="warning",
    )


def _early_trades() -> Iterator[Finding]:
    query = Trade.select(Trade.id).join(Signal).where(Trade.timestamp < Signal.timestamp)
    yield from _rows(
        Trade,
        "are older than the signal they name",
        _ids(query),
        "correct the timestamp or the signal; a clock or a time zone may be wrong",
        severity="warning",
    )


def _file(database: SqliteBackend) -> Iterator[Finding]:
    if database.config.in_memory:
        return
    path = Path(database.database)
    if (reason := database.find_lock_problem()) is not None:
        yield Finding(
            "warning",
            f"{reason}: writers of several processes do not queue, and some may wait in vain",
            "let every user that writes the database read and write this file, or delete it while "
            "no bot runs",
        )
    if (mode := database.pragma("journal_mode")) != "wal":
        yield Finding(
            "warning",
            f"the journal mode is '{mode}', not 'wal': readers and writers wait for each other",
            "close the memory everywhere and open it again with init_db()",
        )
    wal = path.with_name(path.name + "-wal")
    if (size := wal.stat().st_size if wal.exists() else 0) > LARGE_WAL:
        yield Finding(
            "warning",
            f"{wal} has {size / 1e6:,.0f} MB: a reader holds an old state of the memory",
            "end the transaction or the query that was left open, in whichever program",
        )
    free = shutil.disk_usage(path.parent).free
    if free < max(LITTLE_ROOM, path.stat().st_size):
        yield Finding(
            "warning",
            f"{path.parent} has {free / 1e6:,.0f} MB of free disk left",
            "make room: a backup and a migration need as much as the file has",
        )
    mount = mount_of(str(path), read_mounts())
    if mount is not None and (problem := problem_of(mount.kind)) is not None:
        yield Finding(problem.severity, f"{path} is on {problem.what}", problem.advice)
    for why in other_names(path):
        yield Finding(
            "warning",
            f"{path} {why}: who opens it by another name does not see its -wal, and both may "
            "damage it",
            "let every program open it by one name, and mount its folder, not the file alone",
        )
    version = sqlite3.sqlite_version_info
    if not any(version[:2] == mended[:2] and version >= mended for mended in WAL_RESET_MENDED) and (
        version < max(WAL_RESET_MENDED)
    ):
        yield Finding(
            "info",
            f"SQLite {sqlite3.sqlite_version} can damage a -wal when two connections reset and "
            "write it at once",
            "botmemory's lock prevents it between bots; do not write the file with other "
            "programs, or use a Python with SQLite 3.51.3",
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
