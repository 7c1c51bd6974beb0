"""The trades that every library records: in time order, over fifty symbols."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

SYMBOLS = [f"COIN{number:02}/USDT" for number in range(50)]
START = datetime(2024, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=1)


def rows(count: int, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield trades as arguments of `trades.create`; `first` seeds the random values."""
    generator = random.Random(first)
    for number in range(first, first + count):
        yield {
            "symbol": SYMBOLS[number % len(SYMBOLS)],
            "side": "buy" if number % 2 else "sell",
            "price": generator.uniform(1, 60_000),
            "quantity": generator.uniform(0.001, 5),
            "pnl": round(generator.uniform(-100, 100), 8),  # the decimals of an exchange
            "timestamp": START + number * STEP,
        }
