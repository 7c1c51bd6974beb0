"""A cursor that reads all rows as it executes a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any


class ReadingCursor:
    """What programs use of a cursor, for a statement that may change rows.

    SQLite commits a statement with RETURNING when its last row is read, and whatever else the same
    connection writes until then is committed only with it.
    """

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._rows: Iterator[Any] = iter(())

    def execute(self, sql: str, params: Any = ()) -> ReadingCursor:
        # as one call into C: no signal handler runs, and no interrupt ends it, between its rows
        self._rows = iter(list(chain.from_iterable(map(self._cursor.execute, [sql], [params]))))
        return self

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

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
