"""Measure blocks of many bots on PostgreSQL over a network: the figures of docs/sizing.md.

    python -m benchmarks.fleet [--bots 64] [--seconds 5] [--delay 0.005]

The bots are threads of two processes; each reads its position and records a trade in one block:
first as fast as it can, then all at once, as when the minute turns. At the end, what a block of one
bot takes when its key has many trades. `--delay` is the time in seconds that data is under way, in
each direction.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botmemory import close_db, init_db, run_transaction
from botmemory._url import server_parameters
from botmemory.repositories import positions, trades

from .postgres import temporary_server

PROCESSES = 2
FILLS = (100, 1_000, 10_000, 100_000)  # trades of one key
WAYS = ("only recording", "without a key", "with a key each")


def serve(url: str, delay: float, ports: Any) -> None:
    """Pass on what comes through a port of its own, later by `delay`, until the process ends."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65_536):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parameters = server_parameters(url)
        path = f"{parameters['host']}/.s.PGSQL.{parameters.get('port', 5432)}"
        to_server = await asyncio.open_unix_connection(path)
        await asyncio.gather(pass_on(reader, to_server[1]), pass_on(to_server[0], writer))

    async def run() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def network(url: str, delay: float) -> Iterator[str]:
    """Yield the URL of a server behind a network with a delay."""
    spawn = multiprocessing.get_context("spawn")
    ports = spawn.Queue()
    process = spawn.Process(target=serve, args=(url, delay, ports), daemon=True)
    process.start()
    parameters = server_parameters(url)
    yield f"postgresql://{parameters['user']}@127.0.0.1:{ports.get()}/{parameters['dbname']}"
    process.kill()


def act(way: str, strategy: str, symbol: str) -> None:
    """Do what a bot does when it acts."""
    if way == WAYS[0]:
        record(strategy, symbol, "buy")
    else:
        key = (strategy, symbol) if way == WAYS[2] else None
        run_transaction(trade_by_position, strategy, symbol, key=key)


def trade_by_position(strategy: str, symbol: str) -> None:
    held = positions.get(symbol, strategy=strategy).quantity
    record(strategy, symbol, "sell" if held > 0 else "buy")


def record(strategy: str, symbol: str, side: str) -> None:
    trades.create(symbol=symbol, side=side, price=1, quantity=1, strategy=strategy)


def work(url: str, way: str, bots: list[int], seconds: float, start: Any, results: Any) -> None:
    """Run the bots of one process; put how long each took for each time that it acted."""
    init_db(url, pool_size=len(bots))
    took: list[float] = []
    ready = threading.Barrier(len(bots) + 1)

    def trade_until_end(bot: int) -> None:
        names = f"bot-{bot}", f"COIN{bot}/USDT"
        act(way, *names)  # which opens a connection
        ready.wait()
        ready.wait()
        began = first = time.monotonic()
        while True:
            act(way, *names)
            now = time.monotonic()
            took.append(now - began)
            began = now
            if now - first >= seconds:
                return

    threads = [threading.Thread(target=trade_until_end, args=[bot]) for bot in bots]
    for thread in threads:
        thread.start()
    ready.wait()
    start.wait()
    ready.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    results.put((took, time.monotonic() - began))
    close_db()


def measure(url: str, way: str, bots: int, seconds: float) -> tuple[list[float], float]:
    """Return the seconds that bots took each time that they acted, in order, and all together.

    Each acts at least once.
    """
    spawn = multiprocessing.get_context("spawn")
    shares = [list(range(first, bots, PROCESSES)) for first in range(min(PROCESSES, bots))]
    results, start = spawn.Queue(), spawn.Barrier(len(shares))
    processes = [
        spawn.Process(target=work, args=(url, way, share, seconds, start, results))
        for share in shares
    ]
    for process in processes:
        process.start()
    took, elapsed = zip(*[results.get() for _ in processes], strict=True)
    for process in processes:
        process.join()
    return sorted(itertools.chain(*took)), max(elapsed)


def print_blocks(url: str, most: int, seconds: float) -> None:
    print(f"{'bots':>5}  {'':<15} {'a second':>9} {'median ms':>10} {'95 % ms':>9}")
    for bots in (1, most):
        for way in WAYS:
            took, elapsed = measure(url, way, bots, seconds)
            late, median = took[int(len(took) * 0.95)], statistics.median(took)
            print(
                f"{bots:>5}  {way:<15} {len(took) / elapsed:>9,.0f} {median * 1000:>10,.0f} "
                f"{late * 1000:>9,.0f}"
            )


def print_bursts(url: str, bots: int) -> None:
    print(f"\n{bots:>5} bots at once {'median ms':>18} {'last ms':>9}")
    for way in WAYS:
        took, _ = measure(url, way, bots, 0)
        print(f"       {way:<15} {statistics.median(took) * 1000:>14,.0f} {took[-1] * 1000:>9,.0f}")


def print_positions(url: str) -> None:
    """Print what a block takes that reads the position of a key with so many trades."""
    print(f"\n{'trades of the key':>17} {'block, median ms':>18}")
    init_db(url)
    for fills in FILLS:
        names = {"strategy": "grid", "symbol": f"OF{fills}/USDT"}
        trades.create_many(
            {"side": ("buy", "sell")[n % 2], "price": 1, "quantity": 1} | names
            for n in range(fills)
        )
        took = []
        for _ in range(10):
            began = time.monotonic()
            act(WAYS[2], **names)
            took.append(time.monotonic() - began)
        print(f"{fills:>17,} {statistics.median(took) * 1000:>18,.0f}")
    close_db()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--delay", type=float, default=0.005)
    arguments = parser.parse_args()
    with temporary_server() as server:
        init_db(server)
        close_db()
        with network(server, arguments.delay) as url:
            print_blocks(url, arguments.bots, arguments.seconds)
            print_bursts(url, arguments.bots)
            print_positions(url)


if __name__ == "__main__":
    main()
