"""Measure how long calls of running bots stall while another process migrates their database.

    python -m benchmarks.migrations [--rows N] [--threads N] [--from NAME]

It fills a PostgreSQL database at an older version of the schema, lets threads insert and read
trades as bots do, and one read in transactions of three seconds as a report does; then it runs the
script, one migration after the other, and prints the longest call of the threads during each.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from botmemory import migrations

from .postgres import temporary_server

__all__: list[str] = []

NAMES = sorted(file.stem for file in Path(migrations.__file__).parent.glob("0*.py"))
FILL = """
INSERT INTO trade (id, timestamp, symbol, side, price, quantity, pnl{more})
SELECT lpad(to_hex(n), 32, '0')::uuid, timestamptz '2024-01-01 UTC' + n * interval '7 seconds',
    (ARRAY['BTC/USDT', 'ETH/USDT', 'SOL/USDT'])[n %% 3 + 1], (ARRAY['buy', 'sell'])[n %% 2 + 1],
    40000 + n %% 977, 0.001 * (1 + n %% 13), CASE n %% 2 WHEN 1 THEN n %% 101 - 50 END{values}
FROM generate_series(1, %s) AS n
"""
# columns of the second version
MORE = ", strategy, exchange, exchange_trade_id"
VALUES = ", 'strategy ' || n %% 20, 'binance', n::text"
INSERT = """
INSERT INTO trade (id, timestamp, symbol, side, price, quantity)
VALUES (gen_random_uuid(), now(), 'BTC/USDT', 'buy', 42000, 0.5)
"""
LATEST = """
SELECT id, timestamp, symbol, price FROM trade WHERE symbol = 'ETH/USDT'
ORDER BY timestamp DESC, id DESC LIMIT 10
"""
REPORT_SECONDS, REPORT_PAUSE = 3.0, 1.0


class Load:
    """Threads that insert and read until they are stopped, and the longest call of each kind."""

    def __init__(self, url: str, threads: int) -> None:
        self.longest = {"insert": 0.0, "read": 0.0}
        self.calls = 0
        self._url, self._is_over = url, threading.Event()
        self._threads = [threading.Thread(target=self._report)]
        for call in (("insert", INSERT), ("read", LATEST)) * threads:
            self._threads.append(threading.Thread(target=self._bot, args=call))

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in self._threads:
                thread.join()

    def _bot(self, kind: str, sql: str) -> None:
        # a type that a migration changes would make a prepared statement fail
        with psycopg.connect(self._url, autocommit=True, prepare_threshold=None) as connection:
            while not self._is_over.wait(random.uniform(0, 0.02)):
                began = time.perf_counter()
                while True:  # again after a deadlock, as botmemory does
                    with suppress(psycopg.errors.DeadlockDetected):
                        connection.execute(sql)
                        break
                seconds = time.perf_counter() - began
                self.longest[kind] = max(self.longest[kind], seconds)
                self.calls += 1

    def _report(self) -> None:
        with psycopg.connect(self._url, application_name="report") as connection:
            while not self._is_over.wait(REPORT_PAUSE):
                connection.execute("SELECT pnl FROM trade LIMIT 1")
                self._is_over.wait(REPORT_SECONDS)
                connection.rollback()


def script(url: str, *arguments: str) -> float:
    """Run the migration script; return the seconds it took."""
    began = time.perf_counter()
    program = [sys.executable, "-m", "botmemory.migration_runner", "--db", url, *arguments]
    done = subprocess.run(program, check=False, stdout=subprocess.DEVNULL)  # noqa: S603
    if done.returncode == 2:  # 1 says that migrations are pending
        raise SystemExit(done.returncode)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.migrations", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="trades (5000000)")
    parser.add_argument(
        "--threads",
        type=int,
        default=3,
        help="threads that insert, and threads that read (3)",
    )
    parser.add_argument("--from", dest="first", default=NAMES[0], help="the older version")
    arguments = parser.parse_args()
    with temporary_server() as url:
        script(url, "up", arguments.first)
        with psycopg.connect(url, autocommit=True) as connection:
            is_first = arguments.first == NAMES[0]
            fill = FILL.format(more="" if is_first else MORE, values="" if is_first else VALUES)
            connection.execute(fill, (arguments.rows,))
            connection.execute("VACUUM ANALYZE trade")
            connection.execute("CHECKPOINT")
        threads = arguments.threads
        print(f"{arguments.rows:,} trades; {threads} threads insert, {threads} read, one reports")
        print("longest call, milliseconds")
        print(f"{'':<42}{'seconds':>8}{'insert':>9}{'read':>9}{'calls':>9}")
        later = NAMES[NAMES.index(arguments.first) + 1 :]
        for command in (["status"], ["plan"], *(["up", name] for name in later)):
            load = Load(url, arguments.threads)
            with load.running():
                time.sleep(1)
                seconds = script(url, *command)
                time.sleep(0.5)
            longest = "".join(f"{load.longest[kind] * 1000:>9,.0f}" for kind in ("insert", "read"))
            print(f"{' '.join(command):<42}{seconds:>8.1f}{longest}{load.calls:>9,}", flush=True)


if __name__ == "__main__":
    main()
