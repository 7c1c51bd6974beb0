"""`init_db`: the one place that connects config, database and migrations."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from functools import partial
from typing import Any, cast

import peewee

from ._arguments import checked_call
from .config import Config, Synchronous, Target, config_of
from .database import close_database, db, lifecycle, open_database
from .errors import ConfigError

__all__ = ["init_db"]


@partial(checked_call, error=ConfigError)
def init_db(
    target: Target = None,
    *,
    synchronous: Synchronous | None = None,
    busy_timeout: float | None = None,
    call_timeout: float | None = None,
    transaction_timeout: float | None = None,
    pool_size: int | None = None,
    async_workers: int | None = None,
    max_metadata_bytes: int | None = None,
    migrate: bool | None = None,
    backup_before_migrate: bool | None = None,
    read_only: bool | None = None,
    migrations: str | os.PathLike[str] | None = None,
) -> peewee.Database:
    """Open the database and bring its schema up to date; return the open database.

    With `migrate=False` or `read_only=True` the schema is only checked. Called again with the same
    target it returns the same object; another target or other settings are an error until
    `close_db()`.

    Args:
        target: A path, a URL, `:memory:`, a `Config`, or None for `Config.from_env()`. A relative
            path starts at the current working folder.
        synchronous: As in `Config`; this argument and the following ones replace single settings of
            the target.
        busy_timeout: As in `Config`.
        call_timeout: As in `Config`.
        transaction_timeout: As in `Config`.
        pool_size: As in `Config`.
        async_workers: As in `Config`.
        max_metadata_bytes: As in `Config`.
        migrate: As in `Config`.
        backup_before_migrate: As in `Config`.
        read_only: As in `Config`.
        migrations: As in `Config`.

    Raises:
        ConfigError: The target or a setting is invalid, or another database is open.
        StorageError: The database cannot be opened.
        SchemaError: Migrations are pending, or another program or a newer version made the tables.
        DatabaseBusyError: Another process held the database for longer than `busy_timeout`.
    """
    settings: dict[str, Any] = {
        "synchronous": synchronous,
        "busy_timeout": busy_timeout,
        "call_timeout": call_timeout,
        "transaction_timeout": transaction_timeout,
        "pool_size": pool_size,
        "async_workers": async_workers,
        "max_metadata_bytes": max_metadata_bytes,
        "migrate": migrate,
        "backup_before_migrate": backup_before_migrate,
        "read_only": read_only,
        "migrations": migrations,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    config = dataclasses.replace(config_of(target), **settings)
    with lifecycle:
        if db.obj is not None:
            compared = None if isinstance(target, Config) else settings.keys()
            _require_same(db.obj.config, config, compared)
            return cast("peewee.Database", db.current())
        database = open_database(config)
        try:
            from .schema import versions  # imported late: `import botmemory` does not need it

            if config.migrate and not config.read_only:
                versions.up(database)
            else:
                versions.require_current(database)
        except BaseException:
            close_database(database)
            raise
        db.initialize(database)
        return cast("peewee.Database", database)


def _require_same(current: Config, config: Config, settings: Iterable[str] | None) -> None:
    """Raise unless both mean the same database with the same settings; None compares all."""
    if not config.is_same_database(current):
        raise ConfigError(
            f"{config.label}: the database is already open as {current.label}; "
            "call close_db() before opening another one"
        )
    for name in (f.name for f in dataclasses.fields(Config)) if settings is None else settings:
        existing, value = getattr(current, name), getattr(config, name)
        if name != "db_path" and value != existing:
            raise ConfigError(
                f"{name}: the database is already open with {existing!r}, not {value!r}; "
                "call close_db() first"
            )
