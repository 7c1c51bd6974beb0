"""A cursor that reads all rows as it executes a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Connection


class ReadingCursor:
    """What programs use of a cursor, for a statement that may change rows.

    SQLite commits a statement with RETURNING when its last row is read, and whatever else the same
    connection writes until then is committed only with it.
    """

    def __init__(self, cursor: sqlite3.Cursor, connection: Connection) -> None:
        self._cursor, self._connection = cursor, connection
        self._rows: Iterator[Any] = iter(())

    def execute(self, sql: str, params: Any = ()) -> ReadingCursor:
        connection, execute = self._connection, self._cursor.execute
        try:
            connection.is_executing = True
            # as one call into C: no signal handler runs, and no interrupt ends it, between its rows
            self._rows = iter(list(chain.from_iterable(map(execute, [sql], [params]))))
        except BaseException:
            # where a row cannot be read, the statement has not ended; a signal handler may have
            # closed the database
            with suppress(sqlite3.Error):
                self._cursor.close()
            raise
        finally:
            connection.is_executing = False
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def __next__(self) -> Any:
        return next(self._rows)

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[Any]:
        return list(islice(self._rows, size))

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def close(self) -> None:
        self._rows = iter(())
        self._cursor.close()
