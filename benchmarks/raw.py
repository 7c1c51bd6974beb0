"""The leanest correct `sqlite3` code for the same rows, without a library."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from typing import Any

TABLE = """
CREATE TABLE trade (
    id TEXT NOT NULL PRIMARY KEY CHECK (length(id) = 32 AND id NOT GLOB '*[^0-9a-f]*'),
    timestamp TEXT NOT NULL CHECK (length(timestamp) = 32 AND
        substr(timestamp, 20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]+00:00' AND
        strftime('%Y-%m-%d %H:%M:%S', substr(timestamp, 1, 19), '+0 days')
        IS substr(timestamp, 1, 19)),
    symbol VARCHAR(20) NOT NULL CHECK (length(symbol) BETWEEN 1 AND 20 AND symbol = trim(symbol)),
    side VARCHAR(4) NOT NULL CHECK (side IN ('buy', 'sell')),
    price REAL NOT NULL CHECK (price > 0 AND price <= 1.7976931348623157e308),
    quantity REAL NOT NULL CHECK (quantity > 0 AND quantity <= 1.7976931348623157e308),
    pnl REAL CHECK (pnl BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308),
    signal_id INTEGER REFERENCES signal (id) ON DELETE SET NULL,
    strategy VARCHAR(64)
        CHECK (length(strategy) BETWEEN 1 AND 64 AND strategy = trim(strategy)),
    fee REAL CHECK (fee BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308),
    fee_currency VARCHAR(20)
        CHECK (length(fee_currency) BETWEEN 1 AND 20 AND fee_currency = trim(fee_currency)),
    exchange VARCHAR(32)
        CHECK (length(exchange) BETWEEN 1 AND 32 AND exchange = trim(exchange)),
    exchange_trade_id VARCHAR(128) CHECK (length(exchange_trade_id) BETWEEN 1 AND 128 AND
        exchange_trade_id = trim(exchange_trade_id) AND
        (exchange_trade_id IS NULL OR exchange IS NOT NULL)),
    trade_metadata JSON CHECK (trade_metadata IS NULL OR json_valid(trade_metadata)),
    contract_size REAL CHECK (contract_size > 0 AND contract_size <= 1.7976931348623157e308)
)
"""
COLUMNS = "id, timestamp, symbol, side, price, quantity, pnl"  # that benchmarks.rows fills
INSERT = f"INSERT INTO trade ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class Raw:
    """Tuples in, tuples out."""

    name = "sqlite3"

    def __init__(self, path: str, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = wal", "foreign_keys = 1", f"synchronous = {synchronous}"):
            self.connection.execute(f"PRAGMA {pragma}")
        if not self.connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            self.connection.execute("CREATE TABLE signal (id INTEGER PRIMARY KEY)")
            self.connection.execute(TABLE)
            self.connection.execute("CREATE INDEX by_symbol ON trade (symbol, timestamp)")
            self.connection.execute("CREATE INDEX by_time ON trade (timestamp)")

    def close(self) -> None:
        self.connection.close()

    def create(self, row: dict[str, Any]) -> str:
        values = self._values(row)
        self.connection.execute(INSERT, values)
        return values[0]

    def create_in_transaction(self, rows: list[dict[str, Any]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for row in rows:
            self.connection.execute(INSERT, self._values(row))
        self.connection.execute("COMMIT")

    def create_many(self, rows: Iterable[dict[str, Any]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(INSERT, (self._values(row) for row in rows))
        self.connection.execute("COMMIT")

    @staticmethod
    def _values(row: dict[str, Any]) -> tuple[Any, ...]:
        return (
            # ordered by time as botmemory's ids are, because random ones are slower
            f"{time.time_ns():016x}{random.getrandbits(64):016x}",
            row["timestamp"].isoformat(" ", "microseconds"),
            row["symbol"],
            row["side"],
            row["price"],
            row["quantity"],
            row["pnl"],
        )

    def ids_at(self, timestamps: list[datetime]) -> list[str]:
        sql = "SELECT id FROM trade WHERE timestamp = ?"
        texts = [timestamp.isoformat(" ", "microseconds") for timestamp in timestamps]
        return [self.connection.execute(sql, (text,)).fetchone()[0] for text in texts]

    def get_by_id(self, key: str) -> tuple[Any, ...]:
        row = self.connection.execute("SELECT * FROM trade WHERE id = ?", (key,)).fetchone()
        return tuple(row)

    def get_latest(self, symbol: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(
            "SELECT * FROM trade WHERE symbol = ? ORDER BY timestamp DESC LIMIT 10", (symbol,)
        ).fetchall()

    def get_by_date_range(
        self, symbol: str, start: datetime, end: datetime
    ) -> list[tuple[Any, ...]]:
        return self.connection.execute(
            "SELECT * FROM trade WHERE symbol = ? AND timestamp BETWEEN ? AND ? ORDER BY timestamp",
            (symbol, start.isoformat(" ", "microseconds"), end.isoformat(" ", "microseconds")),
        ).fetchall()

    def iterate(self, count: int) -> int:
        cursor = self.connection.execute("SELECT * FROM trade ORDER BY timestamp")
        rows = sum(1 for _ in islice(cursor, count))
        cursor.close()
        return rows

    def get_total_pnl(self, symbol: str) -> float:
        sql = "SELECT SUM(pnl) FROM trade WHERE symbol = ?"
        return float(self.connection.execute(sql, (symbol,)).fetchone()[0])

    def get_trade_count(self, symbol: str) -> int:
        sql = "SELECT COUNT(*) FROM trade WHERE symbol = ?"
        return int(self.connection.execute(sql, (symbol,)).fetchone()[0])
