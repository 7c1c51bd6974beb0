"""A cursor on the server: the rows of a query, some at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from .connection import ServerConnection

ROWS_PER_FETCH = 1000
_numbers = count()


class RowsOnServer:
    """What Peewee uses of a cursor, for a query in the open transaction of a connection.

    It is declared and read for the first time in one round trip, unless there are no `params`.
    """

    def __init__(
        self, connection: ServerConnection, sql: str, params: Sequence[Any] | None
    ) -> None:
        self._connection, self._rollbacks = connection, connection.rollbacks
        self._name = f"botmemory_{next(_numbers)}"
        declare = f"DECLARE {self._name} NO SCROLL CURSOR FOR {sql}"
        if params is None:
            connection.run_one(declare)
            self._cursor = self._fetch()
        elif connection.pgconn.pipeline_status:  # together with what begins the transaction
            connection.run(declare, params)
            self._cursor = self._fetch()
        else:
            connection.pending.append((declare, tuple(params)))
            self._cursor = connection.send(self._fetch)
        self._rows: Iterator[Any] | None = None
        self._is_open = True

    def _fetch(self) -> Any:
        return self._connection.run(f"FETCH {ROWS_PER_FETCH} FROM {self._name}")

    @property
    def description(self) -> Any:
        return self._cursor.description

    def fetchone(self) -> Any:
        if self._rows is None:
            self._rows = iter(self._cursor.fetchall())
        row = next(self._rows, None)
        if row is None and self._cursor.rowcount == ROWS_PER_FETCH:
            self._cursor = self._connection.send(self._fetch)
            self._rows = iter(self._cursor.fetchall())
            row = next(self._rows, None)
        return row

    def close(self) -> None:
        """Close the cursor on the server, with the next statement of the transaction."""
        is_open, self._is_open = self._is_open, False
        if is_open and self._connection.rollbacks == self._rollbacks:  # or the server closed it
            self._connection.pending.append((f"CLOSE {self._name}", ()))
