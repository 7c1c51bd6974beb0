"""Record many trades and read them again; print by how many bytes this process and its server grew.

python bulk.py TARGET COUNT
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botmemory import init_db, session_scope
from botmemory.repositories import trades


def rows(count: int) -> Iterator[dict[str, Any]]:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    for number in range(count):
        yield {
            "symbol": "BTC/USDT",
            "side": "buy",
            "price": 100.0,
            "quantity": 1.0,
            "timestamp": start + timedelta(seconds=number),
            "trade_metadata": {"rsi": 27.4, "bands": {"lower": 41_800.0, "upper": 43_200.0}},
        }


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def own_memory_of(pid: int) -> float:
    """Return the bytes that are a process's own, 0 where it is on another machine."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:  # noqa: PTH123
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return 0
    return float(fields["Anonymous"].split()[0]) * 1024


target, count = sys.argv[1], int(sys.argv[2])
database: Any = init_db(target)
trades.create_many(rows(5000))
assert sum(1 for _ in trades.iterate()) == 5000
trades.delete(trades.get_all(1)[0])
before = peak_memory()
assert trades.create_many(rows(count)) == count
server = 0.0
with session_scope():
    reading = trades.iterate()
    next(reading)
    if "://" in target:  # inside a transaction, a cursor on the server
        [(pid,)] = database.execute_sql("SELECT pg_backend_pid()").fetchall()
        server = own_memory_of(pid)
    assert sum(1 for _ in reading) == 5000 + count - 2
assert sum(1 for _ in trades.iterate()) == 5000 + count - 1
print(peak_memory() - before, server)
