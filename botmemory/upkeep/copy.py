"""Copy a database into another one: from SQLite to PostgreSQL, back, or from file to file.

Both databases are open at once, and the models use one of them at a time. Rows are copied page by
page in the order of their keys: memory is constant, and an interrupted copy can be continued.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import peewee
from peewee import Tuple

from .._arguments import checked_call
from ..backends.base import Backend
from ..backends.peewee_internals import values_of
from ..config import Config, Target, config_of
from ..database import db, lifecycle, open_temporarily, session_scope
from ..errors import ConfigError, DuplicateError, StorageError, ValidationError, show
from ..models import MODELS, BaseModel, State, key_fields
from ..queries import read, write
from ..queries.compiled import Param, compiled
from ..schema import versions

__all__ = ["CopiedTable", "copy_database"]

ROWS_PER_PAGE = 2000
LARGEST_METADATA = 2**30  # a copy refuses no metadata that its source has stored
HISTORIES = {"schema_migration", "custom_migration"}

Values = dict[str, Any]
Progress = Callable[[int, int], object]
Report = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class CopiedTable:
    """One table that `copy_database` has copied and verified.

    Attributes:
        name: The name of the table.
        rows: How many rows both databases have.
        copied: How many of them this call has copied.
        checksum: The sum of the hashes of all rows, which their order does not change.
    """

    name: str
    rows: int
    copied: int
    checksum: str


@checked_call
def copy_database(
    source: Target,
    target: Target,
    *,
    models: Iterable[type[BaseModel]] = (),
    progress: Progress | None = None,
) -> list[CopiedTable]:
    """Copy a database into another one, and verify that both have the same rows.

    Each table of the target is read again and must have the number of rows and the checksum of the
    source. Ids continue after those of the source. Repeat the call to complete a copy that was
    interrupted, or to copy new rows and what the state is now.

    Args:
        source: What `init_db` takes. It is read in one snapshot and not changed.
        target: What `init_db` takes. It is created and migrated as by `init_db`.
        models: The models of custom tables, whose migrations `Config.migrations` names.
        progress: Called with the rows read so far and the rows to be read.

    Returns:
        The tables, parents first.

    Raises:
        ConfigError: This process has a database open, one of the two is `:memory:`, both are the
            same, or a table has no model.
        SchemaError: The source has pending migrations.
        DuplicateError: The target has a row that the source does not have, other than an older
            value of the state; nothing was copied.
        ValidationError: A row violates a constraint of the target.
        StorageError: The two databases differ after the copy.
    """
    ordered = _sorted(models)
    source_config = dataclasses.replace(config_of(source), read_only=True)
    target_config = config_of(target)
    target_config = dataclasses.replace(
        target_config,
        migrations=target_config.migrations or source_config.migrations,
        max_metadata_bytes=LARGEST_METADATA,
    )
    _require_distinct(source_config, target_config)
    with lifecycle:
        if db.obj is not None:
            raise ConfigError(f"{db.config.label}: is open in this process; close_db() first")
        with open_temporarily(source_config) as source_db:
            versions.require_current(source_db)
            with open_temporarily(target_config) as target_db:
                (versions.up if target_config.migrate else versions.require_current)(target_db)
                _require_models(source_db, target_db, ordered)
                with source_db.atomic():  # one snapshot, whatever bots record meanwhile
                    return _copy(source_db, target_db, ordered, progress)


def _copy(
    source: Backend, target: Backend, models: list[type[BaseModel]], progress: Progress | None
) -> list[CopiedTable]:
    existing = {model: _count(model, target) for model in models}
    total = 2 * sum(_count(model, source) for model in models) + sum(existing.values())
    done = 0

    def report(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    outdated = {model: _require_subset(model, source, target, report) for model in models}
    with _bound_to(target):
        for condition in read.have_keys(State, outdated[State]):
            State.delete().where(condition).execute()
    tables = {
        model: _copy_table(model, source, target, report, resume=existing[model] > 0)
        for model in models
    }
    for model, table in tables.items():
        _require_same(model, table, source, target, report)
    return list(tables.values())


# --- checks before the copy -------------------------------------------------------------------


def _sorted(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """Return botmemory's models and the custom ones, each after those it refers to."""
    custom = list(models)
    for model in custom:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ConfigError(f"models: {show(model)} is not a subclass of BaseModel; name a model")
        if not model._meta.primary_key:
            raise ConfigError(
                f"models: {model.__name__} has no primary key, so it cannot be copied; give it one"
            )
    return list(peewee.sort_models([*MODELS, *custom]))  # type: ignore[attr-defined]


def _require_distinct(source_config: Config, target_config: Config) -> None:
    for config in (source_config, target_config):
        if config.in_memory:
            raise ConfigError(f"{config.label}: is in this process only; name a file or a server")
    if source_config.is_same_database(target_config):
        raise ConfigError(f"{target_config.label}: is the source itself; name another database")
    if target_config.read_only:
        raise ConfigError(f"{target_config.label}: read_only: a copy needs to write; turn it off")


def _require_models(source: Backend, target: Backend, models: list[type[BaseModel]]) -> None:
    """Raise `ConfigError` for a custom table that would be left out."""
    tables = set(source.get_tables())
    if "custom_migration" in tables and source.config.migrations is None:
        raise ConfigError(
            f"{source.config.label}: has custom tables; name the folder of their "
            "migrations (Config.migrations, --migrations) and their models (models=, --models)"
        )
    expected = {model._meta.table_name for model in models} | HISTORIES
    both = {name for name in tables & set(target.get_tables()) if not name.startswith("sqlite_")}
    if missing := sorted(both - expected):
        raise ConfigError(
            f"{source.config.label}: {', '.join(missing)}: no model was given; add it to models= "
            "or --models"
        )


def _require_subset(
    model: type[BaseModel], source: Backend, target: Backend, report: Report
) -> list[Values]:
    """Raise `DuplicateError` for a row of the target that the source does not have.

    Values of the state are set and deleted all the time: those that an earlier copy has brought,
    and the source has no more, are returned.
    """
    newest = _newest_state(source) if model is State else None
    outdated = []
    for rows in _pages(model, target, report):
        in_source = _by_key(model, source, rows)
        for row in rows:
            key = write.key_value(model, row)
            if in_source.get(key) != row:
                if newest is not None and row["updated_at"] <= newest:
                    outdated.append(row)
                    continue
                problem = "differs from" if key in in_source else "is missing in"
                raise DuplicateError(
                    f"{target.config.label}: its {model.__name__} {key} {problem} "
                    f"{source.config.label}, so it is not an unfinished copy; nothing was copied; "
                    "name an empty database",
                    id=key,
                )
    return outdated


def _newest_state(database: Backend) -> datetime | None:
    """Return when a value of the state was set last."""
    with _bound_to(database):
        newest = State.select().order_by(State.updated_at.desc()).first()
    return None if newest is None else newest.updated_at


# --- copying ------------------------------------------------------------------------------------


def _copy_table(
    model: type[BaseModel], source: Backend, target: Backend, report: Report, *, resume: bool
) -> CopiedTable:
    count = copied = checksum = 0
    for rows in _pages(model, source, report):
        count += len(rows)
        checksum += sum(map(_digest, rows))
        existing = _by_key(model, target, rows) if resume else {}
        new = [row for row in rows if write.key_value(model, row) not in existing]
        with _bound_to(target):
            _store(model, new)
        copied += len(new)
    with _bound_to(target):
        target.advance_sequence(model, source.last_id(model))
    return CopiedTable(model._meta.table_name, count, copied, _hex(checksum))


def _store(model: type[BaseModel], rows: list[Values]) -> None:
    """Store rows at once; if that fails, one by one to name the row that fails."""
    if not rows:
        return
    unchanged: Any = lambda _, row: row  # noqa: E731
    with session_scope():
        if not write.insert_batch(model, list(enumerate(rows)), unchanged):
            for row in rows:
                key = write.key_value(model, row)
                try:
                    if write.insert_if_new(model, dict(row)) is None:
                        raise DuplicateError("another row has the same unique values", id=key)
                except (ValidationError, DuplicateError) as error:
                    error.args = (f"{model.__name__} {key}: {error}",)
                    raise
        db.advance_sequence(model)


def _require_same(
    model: type[BaseModel], copied: CopiedTable, source: Backend, target: Backend, report: Report
) -> None:
    """Read the target again and compare it with the source."""
    count = checksum = 0
    for rows in _pages(model, target, report):
        count += len(rows)
        checksum += sum(map(_digest, rows))
    if (count, _hex(checksum)) != (copied.rows, copied.checksum):
        raise StorageError(
            f"{target.config.label}: its table {copied.name} has {count:,} rows with the checksum "
            f"{_hex(checksum)}, but that of {source.config.label} has {copied.rows:,} with "
            f"{copied.checksum}: a program has written it meanwhile; stop it and copy again"
        )


# --- reading one of the databases ---------------------------------------------------------------


@contextmanager
def _bound_to(database: Backend) -> Iterator[None]:
    """Let the models use a database inside the block."""
    previous = db.obj
    db.initialize(database)
    try:
        yield
    finally:
        db.initialize(previous)


def _count(model: type[BaseModel], database: Backend) -> int:
    with _bound_to(database):
        return read.count(model, {})


@compiled
def _page(model: type[BaseModel], first: bool) -> Any:
    keys = key_fields(model)
    query = model.select().order_by(*keys).limit(ROWS_PER_PAGE)
    after = Tuple(*(Param(key.name, key) for key in keys))
    return query if first else query.where(Tuple(*keys) > after)


def _pages(model: type[BaseModel], database: Backend, report: Report) -> Iterator[list[Values]]:
    """Yield the values of the rows by field name, page by page in the order of their keys.

    `report` is called with the number of rows of a page when the next one is asked for.
    """
    after: Values = {}
    while True:
        with _bound_to(database):
            rows = read.fetch_all(model, _page(model, not after), after)
        if not rows:
            return
        yield [values_of(row) for row in rows]
        report(len(rows))
        after = values_of(rows[-1])


def _by_key(model: type[BaseModel], database: Backend, rows: list[Values]) -> dict[Any, Values]:
    """Return the rows of a database that have the same keys as the given ones, by key."""
    with _bound_to(database):
        return {
            row.get_id(): values_of(row)
            for condition in read.have_keys(model, rows)
            for row in read.fetch(model.select().where(condition))
        }


# --- checksums ----------------------------------------------------------------------------------


def _digest(row: Values) -> int:
    """Return a hash of the values of a row, which is equal on every backend."""
    text = _encode([*row.values()]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


def _plain(value: object) -> str:
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return bytes(value).hex() if isinstance(value, (bytes, bytearray, memoryview)) else str(value)


_encode = json.JSONEncoder(sort_keys=True, default=_plain).encode


def _hex(checksum: int) -> str:
    return f"{checksum % 2**128:032x}"
