"""The trades that every contestant records: the same ones, in time order, over fifty symbols."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

SYMBOLS = [f"COIN{number:02}/USDT" for number in range(50)]
START = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=1)


def rows(count: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield so many trades as the arguments of `trades.create`."""
    chance = random.Random(first)
    for number in range(first, first + count):
        yield {
            "symbol": SYMBOLS[number % len(SYMBOLS)],
            "side": "buy" if number % 2 else "sell",
            "price": chance.uniform(1, 60_000),
            "quantity": chance.uniform(0.001, 5),
            "pnl": chance.uniform(-100, 100),
            "timestamp": START + number * STEP,
        }
