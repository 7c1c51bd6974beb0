"""Measure what a position costs beside the driver, which reads the same columns of its trades.

python -m benchmarks.positions [--trades 200000]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botmemory import close_db, init_db
from botmemory.repositories import positions, trades

START = datetime(2024, 1, 1, tzinfo=UTC)
SYMBOL = "BTC/USDT"
COLUMNS = "timestamp, side, quantity, price, fee, fee_currency, contract_size, exchange"
SELECT = f"SELECT {COLUMNS} FROM trade WHERE symbol = ? ORDER BY timestamp, id"  # noqa: S608
REPEATED = 200  # calls


def fills(count: int, digits: int) -> Iterator[dict[str, Any]]:
    """Yield random fills with numbers of so many digits after the point."""
    generator = random.Random(3)
    for number in range(count):
        quantity = round(generator.uniform(0.001, 2), digits)
        yield {
            "symbol": SYMBOL,
            "side": generator.choice(("buy", "sell")),
            "price": round(generator.uniform(20_000, 60_000), digits),
            "quantity": quantity,
            "fee": round(quantity * 20, digits),
            "fee_currency": "USDT",
            "exchange": "binance",
            "timestamp": START + timedelta(seconds=number),
        }


def seconds(call: Callable[[], object], times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def report(count: int, rounds: int) -> None:
    """Print the times of a first call, of a repeated one, and of one after a newer fill."""
    print(f"\npositions.get of {count:,} trades, microseconds")
    print(f"{'digits after the point':<24}{'sqlite3':>9}{'first':>9}{'x':>7}", end="")
    print(f"{'repeated':>10}{'after a fill':>14}   (sqlite3, first: for each trade)")
    for digits in (4, 16):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "positions.db"
            init_db(path)
            trades.create_many(fills(count, digits))  # type: ignore[arg-type]
            close_db()
            times: list[tuple[float, float, float, float]] = []
            for number in range(rounds):
                with closing(sqlite3.connect(path)) as connection:
                    raw = seconds(lambda c=connection: c.execute(SELECT, (SYMBOL,)).fetchall())  # type: ignore[misc]
                init_db(path)
                first = seconds(lambda: positions.get(SYMBOL))
                again = seconds(lambda: positions.get(SYMBOL), REPEATED)
                newer = START + timedelta(seconds=count + number)
                trades.create(
                    symbol=SYMBOL, side="buy", price=30_000, quantity=1, timestamp=newer,
                    exchange="binance",
                )  # fmt: skip
                after = seconds(lambda: positions.get(SYMBOL))
                close_db()
                times.append((raw / count, first / count, again, after))
            raw, first, again, after = (
                statistics.median(column) * 1e6 for column in zip(*times, strict=True)
            )
            print(f"{digits:<24}{raw:>9.2f}{first:>9.2f}{first / raw:>7.2f}", end="")
            print(f"{again:>10.0f}{after:>14.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.positions", description=__doc__)
    parser.add_argument("--trades", type=int, default=200_000)
    report(parser.parse_args().trades, rounds=5)
