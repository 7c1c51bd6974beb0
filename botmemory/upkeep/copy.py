"""A whole database copied into another one: from SQLite to PostgreSQL, back, or anywhere.

Both are open at once, and the models look at one of them at a time. Rows go in the order of their
keys and some at a time, so that memory is constant and a copy that was interrupted goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from typing import Any

import peewee

from .._arguments import checked_call
from ..backends.base import Backend
from ..backends.peewee_internals import values_of
from ..config import Config, Target, config_of
from ..database import db, lifecycle, open_temporarily, session_scope
from ..errors import ConfigError, DuplicateError, StorageError, ValidationError, show
from ..models import BaseModel, Signal, Trade
from ..queries import read, write
from ..queries.compiled import Param, compiled
from ..schema import versions

__all__ = ["CopiedTable", "copy_database"]

ROWS_PER_PAGE = 2000
LARGEST_METADATA = 2**30  # what was recorded once is not refused now
HISTORIES = {"schema_migration", "custom_migration"}

Values = dict[str, Any]
Report = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class CopiedTable:
    """One table of a copy: its rows, which are the same on both sides.

    `checksum` adds up what the rows hold, in no order; `copied` is how many this call has copied.
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
    progress: Callable[[int, int], object] | None = None,
) -> list[CopiedTable]:
    """Copy a whole database into another one, and verify that both hold the same.

    The target is read again: as many rows as the source has, with the same checksum. Ids go on from
    where those of the source end. A copy that was interrupted is completed by the same call.

    Args:
        source: What `init_db` takes; it is only read, as it is at one time.
        target: What `init_db` takes; it is created, and migrated as `init_db` would.
        models: The models of custom tables, whose migrations `Config.migrations` names.
        progress: Called with the rows read so far and the rows to be read.

    Returns:
        The tables, parents first.

    Raises:
        ConfigError: This process has a database open, one is `:memory:`, both are the same, or a
            table has no model.
        SchemaError: The source has another version.
        DuplicateError: The target has rows that the source has not; nothing was copied.
        ValidationError: The target refuses a row.
        StorageError: Both are not the same in the end.
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
                with source_db.atomic():  # and so as it is now, whatever is recorded meanwhile
                    return _copy(source_db, target_db, ordered, progress)


def _copy(
    source: Backend,
    target: Backend,
    models: list[type[BaseModel]],
    progress: Callable[[int, int], object] | None,
) -> list[CopiedTable]:
    held = {model: _count(model, target) for model in models}
    total = 2 * sum(_count(model, source) for model in models) + sum(held.values())
    done = 0

    def report(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, total)

    for model in models:
        if held[model]:
            _require_subset(model, source, target, report)
    copied = {
        model: _copy_table(model, source, target, report, begun=held[model] > 0) for model in models
    }
    for model, table in copied.items():
        _require_same(model, table, source, target, report)
    return list(copied.values())


# --- before a row is copied -------------------------------------------------------------------


def _sorted(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """Return botmemory's models and the bot's own, each after those it refers to."""
    own = list(models)
    for model in own:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise ConfigError(f"models: {show(model)} is not a model on BaseModel")
        if isinstance(model._meta.primary_key, peewee.CompositeKey):
            raise ConfigError(f"models: {model.__name__} has a key of several fields")
    return list(peewee.sort_models([Signal, Trade, *own]))  # type: ignore[attr-defined]


def _require_distinct(source_config: Config, target_config: Config) -> None:
    for config in (source_config, target_config):
        if config.in_memory:
            raise ConfigError(f"{config.label}: is in this process alone; name a file or a server")
    if source_config.identity == target_config.identity:
        raise ConfigError(f"{target_config.label}: is the source itself; name another database")
    if target_config.read_only:
        raise ConfigError(f"{target_config.label}: read_only: nothing could be copied into it")


def _require_models(source: Backend, target: Backend, models: list[type[BaseModel]]) -> None:
    """Refuse to leave out what the custom migrations have made."""
    theirs = set(source.get_tables())
    if "custom_migration" in theirs and source.config.migrations is None:
        raise ConfigError(
            f"{source.config.label}: has custom tables; name the folder of their "
            "migrations (Config.migrations, --migrations) and their models (models=, --models)"
        )
    known = {model._meta.table_name for model in models} | HISTORIES
    both = {name for name in theirs & set(target.get_tables()) if not name.startswith("sqlite_")}
    if left := sorted(both - known):
        raise ConfigError(
            f"{source.config.label}: {', '.join(left)}: no model was named; name it with models= "
            "or --models"
        )


def _require_subset(
    model: type[BaseModel], source: Backend, target: Backend, report: Report
) -> None:
    """Refuse a target that holds something else than a part of the source."""
    key = write.key_of(model).name
    for rows in _pages(model, target):
        there = _found(model, source, rows)
        for row in rows:
            if there.get(row[key]) != row:
                how = "has another one" if row[key] in there else "has not"
                raise DuplicateError(
                    f"{target.config.label}: holds the {model.__name__} {row[key]}, which "
                    f"{source.config.label} {how}: it is no unfinished copy, and nothing was "
                    "copied; name an empty one",
                    id=row[key],
                )
        report(len(rows))


# --- copying ------------------------------------------------------------------------------------


def _copy_table(
    model: type[BaseModel], source: Backend, target: Backend, report: Report, *, begun: bool
) -> CopiedTable:
    key = write.key_of(model).name
    count = copied = checksum = 0
    for rows in _pages(model, source):
        count += len(rows)
        checksum += sum(map(_digest, rows))
        there = _found(model, target, rows) if begun else {}
        new = [row for row in rows if row[key] not in there]
        with _on(target):
            _store(model, new)
        copied += len(new)
        report(len(rows))
    with _on(target):
        target.advance_sequence(model, source.last_id(model))
    return CopiedTable(model._meta.table_name, count, copied, _hex(checksum))


def _store(model: type[BaseModel], rows: list[Values]) -> None:
    """Store rows at once, and singly to say which one the database refuses."""
    if not rows:
        return
    as_it_is: Any = lambda _, row: row  # noqa: E731
    with session_scope():
        if not write.stored_at_once(model, list(enumerate(rows)), as_it_is):
            for row in rows:
                key = row[write.key_of(model).name]
                try:
                    if write.insert_if_new(model, dict(row)) is None:
                        raise DuplicateError("another row has its unique values already", id=key)
                except (ValidationError, DuplicateError) as error:
                    error.args = (f"{model.__name__} {key}: {error}",)
                    raise
        db.advance_sequence(model)


def _require_same(
    model: type[BaseModel], copied: CopiedTable, source: Backend, target: Backend, report: Report
) -> None:
    """Read the target again and compare."""
    count = checksum = 0
    for rows in _pages(model, target):
        count += len(rows)
        checksum += sum(map(_digest, rows))
        report(len(rows))
    if (count, _hex(checksum)) != (copied.rows, copied.checksum):
        raise StorageError(
            f"{target.config.label}: its table {copied.name} has {count:,} rows with the checksum "
            f"{_hex(checksum)}, and that of {source.config.label} {copied.rows:,} with "
            f"{copied.checksum}: a program has written it meanwhile; stop it and copy again"
        )


# --- reading either side ------------------------------------------------------------------------


@contextmanager
def _on(database: Backend) -> Iterator[None]:
    """Let the models look at a database."""
    before = db.obj
    db.initialize(database)
    try:
        yield
    finally:
        db.initialize(before)


def _count(model: type[BaseModel], database: Backend) -> int:
    with _on(database):
        return read.count(model, {})


@compiled
def _page(model: type[BaseModel], first: bool) -> Any:
    key = write.key_of(model)
    query = model.select().order_by(key).limit(ROWS_PER_PAGE)
    return query if first else query.where(key > Param("after", key))


def _pages(model: type[BaseModel], database: Backend) -> Iterator[list[Values]]:
    """Yield what the rows hold, by the names of the fields and in the order of their keys."""
    after: Values = {}
    while True:
        with _on(database):
            rows = read.fetch_all(model, _page(model, not after), after)
        if not rows:
            return
        yield [values_of(row) for row in rows]
        after = {"after": rows[-1].get_id()}


def _found(model: type[BaseModel], database: Backend, rows: list[Values]) -> dict[Any, Values]:
    """Return the rows of a database that have the keys of these, by their keys."""
    key = write.key_of(model)
    with _on(database):
        found = read.fetch(model.select().where(key.in_([row[key.name] for row in rows])))
        return {row.get_id(): values_of(row) for row in found}


# --- checksums ----------------------------------------------------------------------------------


def _digest(row: Values) -> int:
    """Return a number for what a row holds, the same for each backend that holds it."""
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
