"""Measure what the results of all trades cost beside the driver, which reads the same columns.

python -m benchmarks.results [--trades 1000000]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botmemory import close_db, init_db
from botmemory.analysis.performance import by, summarize
from botmemory.analysis.round_trips import round_trips
from botmemory.repositories import trades

from .positions import seconds

START = datetime(2020, 1, 1, tzinfo=UTC)
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")
COLUMNS = (
    "timestamp, side, quantity, price, fee, fee_currency, contract_size, symbol, exchange, "
    "strategy, id"
)
SELECT = f"SELECT {COLUMNS} FROM trade ORDER BY timestamp, id"  # noqa: S608
FILLS_PER_TRIP = 2.5
CALLS = {
    "summarize": lambda: summarize(source="fills"),
    'by("symbol")': lambda: by("symbol", source="fills"),
    'by("month")': lambda: by("month", source="fills"),
    "round_trips": lambda: sum(1 for _ in round_trips()),
}


def fills(count: int) -> Iterator[dict[str, Any]]:
    """Yield the fills of bots that buy one to two times, and sell all, in four symbols."""
    generator = random.Random(5)
    held = dict.fromkeys(((symbol, name) for symbol in SYMBOLS for name in "ab"), 0)
    for number in range(count):
        key = generator.choice(list(held))
        closes = held[key] == 2 or (held[key] and generator.random() < 0.5)
        quantity = 0.01 * (held[key] if closes else 1)
        held[key] = 0 if closes else held[key] + 1
        yield {
            "symbol": key[0],
            "strategy": key[1],
            "exchange": "binance",
            "side": "sell" if closes else "buy",
            "price": round(generator.uniform(90, 110), 2),
            "quantity": quantity,
            "fee": 0.0004,
            "fee_currency": "USDT",
            "timestamp": START + timedelta(seconds=20 * number),
        }


def report(count: int, rounds: int) -> None:
    """Print the times of results of the fills, and the memory that they take."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.db"
        init_db(path)
        trades.create_many(fills(count))  # type: ignore[arg-type]
        close_db()
        times: dict[str, list[float]] = {"sqlite3": [], **{name: [] for name in CALLS}}
        for _ in range(rounds):
            with closing(sqlite3.connect(path)) as connection:
                times["sqlite3"].append(
                    seconds(lambda c=connection: c.execute(SELECT).fetchall())  # type: ignore[misc]
                )
            init_db(path)
            for name, call in CALLS.items():
                times[name].append(seconds(call))
            close_db()
        init_db(path)
        tracemalloc.start()
        summarize(source="fills")
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        close_db()
    driver = statistics.median(times["sqlite3"])
    print(f"\nresults of the fills of {count:,} trades, {FILLS_PER_TRIP} for each round trip")
    print(f"{'fetchall of the driver':<24}{driver:>7.2f} seconds")
    for name in CALLS:
        median = statistics.median(times[name])
        goal = "   (goal: at most 4)" if name == "summarize" else ""
        print(f"{name:<24}{median:>7.2f} seconds{median / driver:>7.2f} x sqlite3{goal}")
    print(f"peak memory of summarize: {peak:.1f} megabytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--trades", type=int, default=1_000_000)
    report(parser.parse_args().trades, rounds=3)
