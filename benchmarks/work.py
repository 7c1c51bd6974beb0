"""The calls that are measured, on each library in turn, round after round."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from .rows import START, STEP, SYMBOLS, rows

__all__ = ["Open", "Work", "measure", "reading", "timed", "writing"]

Open: TypeAlias = Callable[[], Any]  # opens a database with one of the libraries


class Work(Protocol):
    def __call__(self, library: Any, repeats: int) -> float:
        """Return the seconds of one repeat."""


def timed(call: Callable[[], object], repeats: int) -> float:
    gc.collect()
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) / repeats


def writing(existing: int, seed: random.Random) -> dict[str, tuple[int, Work]]:
    """Return the calls that record, by name, each with its repeats."""

    def own_commit(library: Any, repeats: int) -> float:
        fresh = list(rows(repeats, seed.randrange(existing, 10**8)))
        return timed(lambda: [library.create(row) for row in fresh], repeats)

    def in_transaction(library: Any, repeats: int) -> float:
        fresh = list(rows(repeats, seed.randrange(existing, 10**8)))
        return timed(lambda: library.create_in_transaction(fresh), repeats)

    def many(library: Any, repeats: int) -> float:
        fresh = list(rows(repeats, seed.randrange(existing, 10**8)))
        return timed(lambda: library.create_many(fresh), repeats)

    return {
        "create, own commit": (400, own_commit),
        "create in one transaction": (1_000, in_transaction),
        "create_many, per row": (5_000, many),
    }


def reading(existing: int, seed: random.Random) -> dict[str, tuple[int, Work]]:
    """Return the calls that read, by name, each with its repeats."""

    def by_id(library: Any, repeats: int) -> float:
        keys = library.ids_at([START + seed.randrange(existing) * STEP for _ in range(repeats)])
        return timed(lambda: [library.get_by_id(key) for key in keys], repeats)

    def for_symbols(name: str) -> Work:
        def work(library: Any, repeats: int) -> float:
            symbols = seed.choices(SYMBOLS, k=repeats)
            method = getattr(library, name)
            return timed(lambda: [method(symbol) for symbol in symbols], repeats)

        return work

    def date_range(library: Any, repeats: int) -> float:
        span = 100 * len(SYMBOLS)
        firsts = [seed.randrange(max(1, existing - span)) for _ in range(repeats)]
        ranges = [(SYMBOLS[0], START + n * STEP, START + (n + span - 1) * STEP) for n in firsts]
        method = library.get_by_date_range
        return timed(lambda: [method(*arguments) for arguments in ranges], repeats)

    def everything(library: Any, repeats: int) -> float:
        return timed(lambda: library.iterate(repeats), repeats)

    return {
        "get_by_id": (1_000, by_id),
        "get_latest(symbol, 10)": (300, for_symbols("get_latest")),
        "get_by_date_range, 100 rows": (60, date_range),
        "iterate, per row": (min(existing, 20_000), everything),
        "get_total_pnl(symbol)": (20, for_symbols("get_total_pnl")),
        "get_trade_count(symbol)": (60, for_symbols("get_trade_count")),
    }


def measure(
    libraries: Sequence[Open], works: dict[str, tuple[int, Work]], rounds: int
) -> dict[str, list[float]]:
    """Return the median seconds of each library, by the name of the call."""
    results: dict[str, list[list[float]]] = {name: [[] for _ in libraries] for name in works}
    for _ in range(rounds):
        for index, open_library in enumerate(libraries):
            library = open_library()
            for name, (repeats, work) in works.items():
                work(library, max(1, repeats // 20))  # warm up
                results[name][index].append(work(library, repeats))
            library.close()
    return {
        name: [statistics.median(seconds) for seconds in times] for name, times in results.items()
    }
