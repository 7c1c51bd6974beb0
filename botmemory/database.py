"""The open memory: the proxy every model is bound to, transactions, opening and closing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from .config import Config
from .errors import ConfigError, DatabaseBusyError, NotInitializedError
from .sqlite import SqliteBackend

__all__ = ["close_db", "db", "get_db", "open_database", "session_scope"]


class _Proxy(peewee.DatabaseProxy):
    """A database proxy that says what to do while nothing is open."""

    def opened(self) -> SqliteBackend:
        """Return the open database itself, or raise `NotInitializedError`."""
        if self.obj is None:
            raise NotInitializedError("the memory is not open; call botmemory.init_db() first")
        backend: SqliteBackend = self.obj
        return backend

    def __getattr__(self, name: str) -> Any:
        if self.obj is None and (name == "_Model" or name.startswith("__")):
            raise AttributeError(name)  # Peewee, copy and inspect only ask whether it is there
        return getattr(self.opened(), name)

    def __enter__(self) -> Any:
        return self.opened().__enter__()

    def __exit__(self, *exc: Any) -> Any:
        return self.opened().__exit__(*exc)


db = _Proxy()
lifecycle = threading.RLock()  # held while the memory is opened or closed, and so by a fork
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lifecycle.acquire,
        after_in_parent=lifecycle.release,
        after_in_child=lifecycle.release,
    )


def open_database(config: Config) -> peewee.Database:
    """Open the database `config` names, without looking at its schema and without the proxy.

    Raises `StorageError` for a file that cannot be used, `ConfigError` for a server.
    """
    if config.backend != "sqlite":
        raise ConfigError(
            f"{config.label}: this version keeps its memory in SQLite only; pass a path"
        )
    database = SqliteBackend(config)
    database.open()
    return database


def close_db() -> None:
    """Close the memory; a second call does nothing.

    Connections of other threads close when those threads end. Raises `DatabaseBusyError` inside
    a transaction: leave `session_scope()` first.
    """
    with lifecycle:
        database = db.obj
        if database is None:
            return
        if database.in_transaction():
            raise DatabaseBusyError(
                f"{database.config.label}: a transaction is open in this thread; "
                "leave session_scope() before close_db()"
            )
        database.close()
        db.initialize(None)
        for close in database.at_close:
            close()


@contextmanager
def session_scope() -> Iterator[peewee.Database]:
    """Run a block as one transaction: committed at its end, rolled back on an exception.

    Inside another scope it is a savepoint: an exception caught outside the inner block undoes the
    inner block alone. The write lock is taken at the start, so that what was read is still true
    when it is written. Yields the open database. Raises `NotInitializedError`, and
    `DatabaseBusyError` after waiting `busy_timeout` seconds for another writer.
    """
    database = db.opened()
    with database.atomic():
        yield database


def get_db() -> Iterator[peewee.Database]:
    """Yield the open database and close this thread's connection after (FastAPI's `Depends`).

    A `:memory:` database stays open, because closing would erase it. Raises `NotInitializedError`.
    """
    database = db.opened()
    try:
        yield database
    finally:
        database.release()
