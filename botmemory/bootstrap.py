"""`init_db`: the one place where config, database and migrations are wired together."""

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
            path is taken from the current working folder.
        synchronous: Replaces this setting of the target, as the other arguments do; `Config`
            describes them.
        busy_timeout: As in `Config`.
        pool_size: As in `Config`.
        async_workers: As in `Config`.
        max_metadata_bytes: As in `Config`.
        migrate: As in `Config`.
        backup_before_migrate: As in `Config`.
        read_only: As in `Config`.
        migrations: As in `Config`.

    Raises:
        ConfigError: A target or a setting does not fit, or another database is open.
        StorageError: The database cannot be opened.
        SchemaError: Migrations are pending, or the tables are those of another program or a newer
            version.
        DatabaseBusyError: Another process held the database for longer than `busy_timeout`.
    """
    settings: dict[str, Any] = {
        name: value
        for name, value in (
            ("synchronous", synchronous),
            ("busy_timeout", busy_timeout),
            ("pool_size", pool_size),
            ("async_workers", async_workers),
            ("max_metadata_bytes", max_metadata_bytes),
            ("migrate", migrate),
            ("backup_before_migrate", backup_before_migrate),
            ("read_only", read_only),
            ("migrations", migrations),
        )
        if value is not None
    }
    config = dataclasses.replace(config_of(target), **settings)
    with lifecycle:
        if db.obj is not None:
            named = None if isinstance(target, Config) else settings.keys()
            _require_same(db.obj.config, config, named)
            return cast("peewee.Database", db.current())
        database = open_database(config)
        try:
            # imported late: who only reads the package's names has no use for it
            from .schema import versions

            if config.migrate and not config.read_only:
                versions.up(database)
            else:
                versions.require_current(database)
        except BaseException:
            close_database(database)
            raise
        db.initialize(database)
        return cast("peewee.Database", database)


def _require_same(is_open: Config, wanted: Config, named: Iterable[str] | None) -> None:
    """Raise unless the open database is the wanted one, in the settings named, or in all."""
    if wanted.identity != is_open.identity:
        raise ConfigError(
            f"{wanted.label}: the database is already open as {is_open.label}; "
            "call close_db() before opening another one"
        )
    for name in (f.name for f in dataclasses.fields(Config)) if named is None else named:
        there, value = getattr(is_open, name), getattr(wanted, name)
        if name != "db_path" and value != there:
            raise ConfigError(
                f"{name}: the database is already open with {there!r}, not {value!r}; "
                "call close_db() first"
            )
