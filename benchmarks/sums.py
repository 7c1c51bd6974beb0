"""Measure the figures of docs/sizing.md: bytes a row and calls a second of a database.

    python -m benchmarks.sums TARGET [--rows 200000] [--seconds 5] [--bots 8]

TARGET is a new file or an empty database.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botmemory import Config, close_db, init_db, session_scope
from botmemory.repositories import signals, trades

SYMBOLS = [f"COIN{number}/USDT" for number in range(50)]
START = datetime(2024, 1, 1, tzinfo=UTC)


def signal_rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "symbol": SYMBOLS[number % 50],
            "signal_value": 1,
            "signal_metadata": {"rsi": round(random.uniform(0, 100), 2), "ma": 42_000.5},
            "timestamp": START + timedelta(seconds=number),
            "strategy": f"bot-{number % 100}",
        }


def trade_rows(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {
            "symbol": SYMBOLS[number % 50],
            "side": "buy" if number % 2 else "sell",
            "price": random.uniform(1, 60_000),
            "quantity": random.uniform(0.001, 5),
            "pnl": random.uniform(-100, 100),
            "fee": random.uniform(0, 5),
            "fee_currency": "USDT",
            "exchange": "binance",
            "exchange_trade_id": str(3_000_000_000 + number),
            "timestamp": START + timedelta(seconds=number),
            "strategy": f"bot-{number % 100}",
        }


def bytes_of(target: str) -> int:
    """Return the size of the database on the disk, indexes included."""
    config = Config(target)
    if config.backend == "sqlite":
        return Path(config.sqlite_path).stat().st_size
    database: Any = init_db(config)
    sql = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname = ANY(%s)"
    [(size,)] = database.execute_sql(sql, (["signal", "trade"],)).fetchall()
    return int(size)


def growth(target: str, record: Callable[[], object]) -> int:
    """Return by how many bytes a call grows the database."""
    init_db(target)
    close_db()
    before = bytes_of(target)
    init_db(target)
    record()
    close_db()
    after = bytes_of(target)
    close_db()
    return after - before


def record_trade(bot: int) -> None:
    trades.create(symbol=SYMBOLS[bot], side="buy", price=1, quantity=1, strategy=f"bot-{bot}")


def record_both(bot: int) -> None:
    with session_scope():
        signal = signals.create(symbol=SYMBOLS[bot], signal_value=1, signal_metadata={"rsi": 1})
        trades.create(symbol=SYMBOLS[bot], side="buy", price=1, quantity=1, signal=signal)


def read_then_record(bot: int) -> None:
    with session_scope():
        last = trades.get_latest(SYMBOLS[bot], limit=1)
        side = "sell" if last and last[0].side == "buy" else "buy"
        trades.create(symbol=SYMBOLS[bot], side=side, price=1, quantity=1)


def read_latest(bot: int) -> None:
    trades.get_latest(SYMBOLS[bot], limit=10)


def work(call: Callable[[int], None], target: str, bot: int, seconds: float, counts: Any) -> None:
    init_db(target)
    call(bot)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        call(bot)
        count += 1
    close_db()
    counts.put(count)


def rate(call: Callable[[int], None], target: str, bots: int, seconds: float) -> float:
    """Return the calls a second of all processes together."""
    spawn = multiprocessing.get_context("spawn")
    counts = spawn.Queue()
    processes = [
        spawn.Process(target=work, args=(call, target, bot, seconds, counts)) for bot in range(bots)
    ]
    for process in processes:
        process.start()
    total = sum(counts.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--bots", type=int, default=8)
    arguments = parser.parse_args()
    target, rows, bots = arguments.target, arguments.rows, arguments.bots
    signal_bytes = growth(target, lambda: signals.create_many(signal_rows(rows))) / rows
    trade_bytes = growth(target, lambda: trades.create_many(trade_rows(rows))) / rows
    print(f"{'bytes a signal':<28}{signal_bytes:>10,.0f}")
    print(f"{'bytes a trade':<28}{trade_bytes:>10,.0f}")
    print(f"{'calls a second':<28}{'1 bot':>10}{f'{bots} bots':>10}")
    for name, call in (
        ("record a trade", record_trade),
        ("record signal and trade", record_both),
        ("read, then record", read_then_record),
        ("read the latest 10", read_latest),
    ):
        rates = [rate(call, target, count, arguments.seconds) for count in (1, bots)]
        print(f"{name:<28}{rates[0]:>10,.0f}{rates[1]:>10,.0f}")


if __name__ == "__main__":
    main()
