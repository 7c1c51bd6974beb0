"""The same work by botmemory."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from botmemory import Trade, close_db, init_db, session_scope
from botmemory.repositories import trades


class Botmemory:
    """Models in, models out, every value validated."""

    name = "botmemory"

    def __init__(self, path: str, synchronous: Literal["full", "normal"]) -> None:
        close_db()
        init_db(path, synchronous=synchronous)

    def close(self) -> None:
        close_db()

    def create(self, row: dict[str, Any]) -> uuid.UUID:
        return trades.create(**row).id

    def create_in_transaction(self, rows: list[dict[str, Any]]) -> None:
        with session_scope():
            for row in rows:
                trades.create(**row)

    def create_many(self, rows: Iterable[dict[str, Any]]) -> None:
        trades.create_many(rows)  # type: ignore[arg-type]

    def ids_at(self, timestamps: list[datetime]) -> list[uuid.UUID]:
        return [trades.get_by_date_range(None, at, at)[0].id for at in timestamps]

    def get_by_id(self, key: uuid.UUID) -> Trade | None:
        return trades.get_by_id(key)

    def get_latest(self, symbol: str) -> list[Trade]:
        return trades.get_latest(symbol, 10)

    def get_by_date_range(self, symbol: str, start: datetime, end: datetime) -> list[Trade]:
        return trades.get_by_date_range(symbol, start, end)

    def iterate(self, count: int) -> int:
        return sum(1 for _ in islice(trades.iterate(), count))

    def get_total_pnl(self, symbol: str) -> float:
        return trades.get_total_pnl(symbol)

    def get_trade_count(self, symbol: str) -> int:
        return trades.get_trade_count(symbol)
