"""An empty database for each test of a bot: what the fixtures of `pytest_botmemory` do."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import peewee

from .bootstrap import init_db
from .config import Config
from .database import close_database, close_db, db, lifecycle, open_database
from .errors import ConfigError, DatabaseBusyError

SECONDS_TO_END = 1.0  # for a thread that was told to end, and not waited for
# threads that wait for more work until the program ends: of executors, of asyncio, of anyio
OF_POOLS = re.compile(r"ThreadPoolExecutor-\d+_\d+|asyncio_\d+|AnyIO worker thread")


class Templates:
    """Migrated databases without rows, one for each folder of custom migrations.

    Copying the pages of one takes a hundredth of the time of the migrations.
    """

    def __init__(self) -> None:
        self._connections: dict[Any, sqlite3.Connection] = {}
        self._files: dict[Any, bytes] = {}

    def copy_to(self, target: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
        """Copy the tables into an empty database."""
        folder = settings.get("migrations")
        if folder not in self._connections:
            self._connections[folder] = _migrated(settings)
        self._connections[folder].backup(target)

    def write_to(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Write a file with the tables, which is in WAL mode: opening it waits for no disk."""
        folder = settings.get("migrations")
        if folder not in self._files:
            with tempfile.TemporaryDirectory() as temporary:
                file = Path(temporary, "template.db")
                with closing(sqlite3.connect(file)) as connection:
                    self.copy_to(connection, settings)
                init_db(file, **settings)
                close_db()
                self._files[folder] = file.read_bytes()
        path.write_bytes(self._files[folder])

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def _migrated(settings: Mapping[str, Any]) -> sqlite3.Connection:
    database: Any = init_db(":memory:", **settings)
    try:
        template = sqlite3.connect(":memory:", check_same_thread=False)
        database.connection().backup(template)
    finally:
        close_db()
    return template


def open_in_memory(templates: Templates, settings: Mapping[str, Any]) -> peewee.Database:
    """Open an empty database in memory, as `init_db(":memory:")` does."""
    with lifecycle:
        _require_closed()
        with closing(sqlite3.connect(":memory:")) as migrated:
            templates.copy_to(migrated, settings)
            database: Any = open_database(Config(":memory:", **settings))
            migrated.backup(database.connection())
        db.initialize(database)
    return cast("peewee.Database", database)


def open_file(templates: Templates, settings: Mapping[str, Any], path: Path) -> peewee.Database:
    """Open an empty database in a new file, as `init_db(path)` does."""
    _require_closed()
    templates.write_to(path, settings)
    return init_db(path, **settings)


def _require_closed() -> None:
    if db.obj is not None:
        raise ConfigError(
            f"{db.config.label}: this database is open already, and the test would not get an "
            "empty one; use one of botmemory_db and botmemory_file, and close_db() what another "
            "fixture or an import has opened"
        )


def close(database: peewee.Database, threads_before: Iterable[threading.Thread]) -> list[str]:
    """Close what is open after a test; return what the test has left behind.

    Args:
        database: The database that was opened for the test, which it may have replaced.
        threads_before: The threads that ran before the test.
    """
    problems = []
    used = {database, db.obj} - {None}
    try:
        close_db()
    except DatabaseBusyError:
        problems.append(_drop_with_transaction())
    running = _threads_that_use(used, set(threads_before))
    if running:
        names = ", ".join(repr(thread.name) for thread in running)
        problems.append(
            f"the test left a thread running that has used the database: {names}; tell it to end "
            "and join() it in the test, or it goes on with the database of the next one"
        )
    return problems


def _drop_with_transaction() -> str:
    """Let the next test open another database, although a transaction is open in this one."""
    database: Any = db.current()
    db.initialize(None)
    if not database.uses_connection():
        return "the test left a session_scope() open in another thread; end it in the test"
    database.roll_back_leftover()
    close_database(database)
    return (
        "the test left a session_scope() open, and what it recorded is rolled back; leave the "
        "block before the end of the test, or enter it in a 'with' statement"
    )


def _threads_that_use(
    databases: Iterable[Any], before: set[threading.Thread]
) -> list[threading.Thread]:
    """Return the threads of a test that still run, if one of them has a connection open."""
    deadline = time.monotonic() + SECONDS_TO_END
    while True:
        running = [
            thread
            for thread in threading.enumerate()
            if thread not in before and not OF_POOLS.fullmatch(thread.name)
        ]
        connections = [each for database in databases for each in database.connections.all()]
        if not running or all(connection.closed for connection in connections):
            return []
        if time.monotonic() >= deadline:
            return running
        del connections  # which would keep that of a thread that ends open
        time.sleep(0.005)
