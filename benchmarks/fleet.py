"""Measure blocks of many bots on PostgreSQL over a network: the figures of docs/sizing.md.

    python -m benchmarks.fleet [--bots 64] [--seconds 5] [--delay 0.005]

The bots are threads of two processes; each reads its position and records a trade in one block, as
fast as it can. `--delay` is the time in seconds that data is under way, in each direction.
"""

from __future__ import annotations

import argparse
import asyncio
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
WAYS = ("without a key", "with a key each")


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


def block(strategy: str, symbol: str) -> None:
    held = positions.get(symbol, strategy=strategy).quantity
    side = "sell" if held > 0 else "buy"
    trades.create(symbol=symbol, side=side, price=1, quantity=1, strategy=strategy)


def work(url: str, way: str, bots: list[int], seconds: float, results: Any) -> None:
    """Run the bots of one process; put how long each of their blocks took."""
    init_db(url, pool_size=len(bots))
    took: list[float] = []
    end = time.monotonic() + seconds

    def trade_until_end(bot: int) -> None:
        strategy, symbol = f"bot-{bot}", f"COIN{bot}/USDT"
        key = (strategy, symbol) if way == WAYS[1] else None
        while (began := time.monotonic()) < end:
            run_transaction(block, strategy, symbol, key=key)
            took.append(time.monotonic() - began)

    threads = [threading.Thread(target=trade_until_end, args=[bot]) for bot in bots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close_db()
    results.put(took)


def measure(url: str, way: str, bots: int, seconds: float) -> list[float]:
    """Return the seconds that each block took."""
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    shares = [list(range(first, bots, PROCESSES)) for first in range(min(PROCESSES, bots))]
    processes = [
        spawn.Process(target=work, args=(url, way, share, seconds, results)) for share in shares
    ]
    for process in processes:
        process.start()
    took = [seconds for _ in processes for seconds in results.get()]
    for process in processes:
        process.join()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bots", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--delay", type=float, default=0.005)
    arguments = parser.parse_args()
    print(f"{'bots':>5}  {'blocks':<16} {'a second':>9} {'median ms':>10} {'95 % ms':>9}")
    with temporary_server() as server:
        init_db(server)
        close_db()
        with network(server, arguments.delay) as url:
            for bots in (1, arguments.bots):
                for way in WAYS:
                    took = measure(url, way, bots, arguments.seconds)
                    ordered = sorted(took)
                    late = ordered[int(len(ordered) * 0.95)]
                    print(
                        f"{bots:>5}  {way:<16} {len(took) / arguments.seconds:>9,.0f} "
                        f"{statistics.median(took) * 1000:>10,.0f} {late * 1000:>9,.0f}"
                    )


if __name__ == "__main__":
    main()
