"""The open database: the proxy that every model is bound to, transactions, opening and closing."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import peewee

from .backends.keys import Key, checked_keys
from .backends.ownership import is_inside_a_call
from .backends.retry import retry_on_conflict
from .backends.transactions import Atomic, ExitOfDatabase, Manual
from .config import Config
from .errors import ConfigError, DatabaseBusyError, NotInitializedError

if TYPE_CHECKING:
    from .backends.base import Backend

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "close_database",
    "close_db",
    "db",
    "get_db",
    "open_database",
    "open_temporarily",
    "run_transaction",
    "session_scope",
]


class _Proxy(peewee.DatabaseProxy):
    """A database proxy that raises `NotInitializedError` while no database is open."""

    def current(self) -> Backend:
        """Return the open database itself."""
        if self.obj is None:
            raise NotInitializedError("the database is not open; call botmemory.init_db() first")
        backend: Backend = self.obj
        return backend

    def __getattr__(self, name: str) -> Any:
        if self.obj is None and name.startswith("_"):
            raise AttributeError(name)  # Peewee, copy and inspect only test whether it exists
        return getattr(self.current(), name)

    # they bind models to this proxy, not to the database that is open now
    bind, bind_ctx = peewee.Database.bind, peewee.Database.bind_ctx

    def atomic(self, *args: Any, **options: Any) -> Atomic:  # type: ignore[override]
        return Atomic(self.current, *args, **options)

    transaction = savepoint = atomic  # type: ignore[assignment]

    def manual_commit(self) -> Manual:
        return Manual(self)

    def __enter__(self) -> Any:
        database: Any = self.current()
        return database.__enter__()

    __exit__ = ExitOfDatabase()


db = _Proxy()
lifecycle = threading.RLock()  # held while the database is opened or closed, and so by a fork
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lifecycle.acquire,
        after_in_parent=lifecycle.release,
        after_in_child=lifecycle.release,
    )


def open_database(config: Config) -> Backend:
    """Open the database of a config, without checking its schema and without the proxy."""
    database = _backend(config)
    try:
        database.open()
    except BaseException:
        close_database(database)
        raise
    return database


def _backend(config: Config) -> Backend:
    # imported late: a bot on SQLite has no psycopg, and `import botmemory` needs no backend
    if config.backend == "sqlite":
        from .backends.sqlite.backend import SqliteBackend

        return SqliteBackend(config)
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        from ._install import install_command

        raise ConfigError(
            f"{config.label}: needs psycopg 3, which cannot be imported ({error}); "
            f"install botmemory with its extra: {install_command('postgres')}"
        ) from error
    from .backends.server.backend import PostgresBackend

    return PostgresBackend(config)


def close_database(database: Backend) -> None:
    """Close a database for good, with the worker threads of `aio`."""
    database.close()
    for close in database.at_close:
        close()


@contextmanager
def open_temporarily(config: Config) -> Iterator[Backend]:
    """Open a database for one block, without the proxy."""
    database = open_database(config)
    try:
        yield database
    finally:
        close_database(database)


def close_db() -> None:
    """Close the database; a second call does nothing.

    Connections of other threads close when those threads end.

    Raises:
        DatabaseBusyError: A transaction is open, in this thread or another one.
    """
    with lifecycle:
        database = db.obj
        if database is None:
            return
        if database.has_open_transaction():
            raise DatabaseBusyError(
                f"{database.config.label}: a transaction is open in this thread or another one; "
                "leave session_scope() before close_db()"
            )
        db.initialize(None)
    # outside the lock: this waits for the workers, and one may be calling this function, too
    close_database(database)


def session_scope(
    *, key: Key | Iterable[Key] | None = None
) -> AbstractContextManager[peewee.Database]:
    """Run a block as one transaction: committed at its end, rolled back on an exception.

    Inside another scope it is a savepoint: an exception that leaves only the inner block rolls back
    the inner block alone. Data that the block reads does not change before the block writes: on
    SQLite the write lock is acquired at the start; on PostgreSQL scopes that read, update or delete
    run one after another. A transaction belongs to the thread, task and greenlet that began it:
    used or ended by another one, it is rolled back and an error is raised.

    Blocks with different keys do not wait for each other on PostgreSQL. A block with a key reads,
    updates and deletes rows of its keys alone, by the functions of `repositories`; what may use
    others is refused, and nothing is done then. Rows of any key are recorded, and the state of any
    strategy is used, key by key. A block without a key waits for all blocks, and all for it. On
    SQLite, which has one writer at a time, the same is checked.

    Args:
        key: The strategy and the symbol of whose rows the block depends, `("trend", "BTC/USDT")`,
            or several such pairs; `""` for rows without a strategy. None for all rows.

    Returns:
        A context manager that yields the open database.

    Raises:
        ValidationError: A key is invalid, or not one of the block around this one.
        NotInitializedError: No database is open.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`, the
            database rolled the block back because of a conflict, or the transaction belongs to
            another thread or task.
    """
    keys = None if key is None else checked_keys(key)
    return Atomic(db.current, gives_database=True, keys=keys)


def run_transaction(
    function: Callable[..., R],
    /,
    *args: Any,
    key: Key | Iterable[Key] | None = None,
    **kwargs: Any,
) -> R:
    """Call a function in a `session_scope()` and return what it returns.

    Where the database rolls the transaction back (because of a deadlock, or of a migration), the
    function is called again, up to ten times in all with increasing pauses. It must therefore do
    nothing but read and record. Inside another scope it is called once, because only the whole
    transaction can be repeated.

    Args:
        function: What to call.
        args: Its positional arguments.
        key: As for `session_scope`; it is not passed on.
        kwargs: Its keyword arguments.

    Raises:
        ValidationError: A key is invalid, or not one of the block around this one.
        NotInitializedError: No database is open.
        DatabaseBusyError: The last attempt was rolled back as well, or another writer held the
            database for longer than `busy_timeout`.
    """
    keys = None if key is None else checked_keys(key)  # once: it may be a generator

    def attempt() -> R:
        with session_scope(key=keys):
            return function(*args, **kwargs)

    return attempt() if db.current().in_transaction() else retry_on_conflict(attempt)


def get_db() -> Iterator[peewee.Database]:
    """Yield the open database, then close this thread's connection: for FastAPI's `Depends`.

    A `:memory:` database stays open, because closing would erase it.

    Raises:
        NotInitializedError: No database is open.
    """
    database = db.current()
    is_abandoned = False
    try:
        yield cast("peewee.Database", database)
    except GeneratorExit:
        is_abandoned = is_inside_a_call(sys._getframe(1))
        raise
    finally:
        if not is_abandoned:
            database.release()
