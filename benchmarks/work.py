"""What is measured: the same calls to each contestant in turn, round after round."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from .rows import START, STEP, SYMBOLS, rows

__all__ = ["Open", "Work", "measure", "reading", "timed", "writing"]

Open: TypeAlias = Callable[[], Any]  # opens a contestant


class Work(Protocol):
    def __call__(self, contestant: Any, repeats: int) -> float:
        """Return the seconds that one repeat took."""


def timed(call: Callable[[], object], repeats: int) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) / repeats


def writing(there: int, seed: random.Random) -> dict[str, tuple[int, Work]]:
    """Return the works that record, by name, each with its repeats."""

    def own_commit(contestant: Any, repeats: int) -> float:
        fresh = list(rows(repeats, seed.randrange(there, 10**8)))
        return timed(lambda: [contestant.create(row) for row in fresh], repeats)

    def in_transaction(contestant: Any, repeats: int) -> float:
        fresh = list(rows(repeats, seed.randrange(there, 10**8)))
        return timed(lambda: contestant.create_in_transaction(fresh), repeats)

    def many(contestant: Any, repeats: int) -> float:
        fresh = list(rows(repeats, seed.randrange(there, 10**8)))
        return timed(lambda: contestant.create_many(fresh), repeats)

    return {
        "create, own commit": (400, own_commit),
        "create in one transaction": (1_000, in_transaction),
        "create_many, per row": (5_000, many),
    }


def reading(there: int, seed: random.Random) -> dict[str, tuple[int, Work]]:
    """Return the works that ask, by name, each with its repeats."""

    def by_id(contestant: Any, repeats: int) -> float:
        keys = contestant.ids_at([START + seed.randrange(there) * STEP for _ in range(repeats)])
        return timed(lambda: [contestant.get_by_id(key) for key in keys], repeats)

    def for_symbols(name: str) -> Work:
        def work(contestant: Any, repeats: int) -> float:
            asked = seed.choices(SYMBOLS, k=repeats)
            ask = getattr(contestant, name)
            return timed(lambda: [ask(symbol) for symbol in asked], repeats)

        return work

    def date_range(contestant: Any, repeats: int) -> float:
        span = 100 * len(SYMBOLS)
        firsts = [seed.randrange(max(1, there - span)) for _ in range(repeats)]
        asked = [(SYMBOLS[0], START + n * STEP, START + (n + span - 1) * STEP) for n in firsts]
        ask = contestant.get_by_date_range
        return timed(lambda: [ask(*arguments) for arguments in asked], repeats)

    def everything(contestant: Any, repeats: int) -> float:
        return timed(lambda: contestant.iterate(repeats), repeats)

    return {
        "get_by_id": (1_000, by_id),
        "get_latest(symbol, 10)": (300, for_symbols("get_latest")),
        "get_by_date_range, 100 rows": (60, date_range),
        "iterate, per row": (min(there, 20_000), everything),
        "get_total_pnl(symbol)": (20, for_symbols("get_total_pnl")),
        "get_trade_count(symbol)": (60, for_symbols("get_trade_count")),
    }


def measure(
    contestants: Sequence[Open], works: dict[str, tuple[int, Work]], rounds: int
) -> dict[str, list[float]]:
    """Return the median seconds of each contestant, by work."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in contestants] for name in works}
    for _ in range(rounds):
        for place, open_one in enumerate(contestants):
            opened = open_one()
            for name, (repeats, work) in works.items():
                work(opened, max(1, repeats // 20))  # warm
                found[name][place].append(work(opened, repeats))
            opened.close()
    return {name: [statistics.median(times) for times in all_] for name, all_ in found.items()}
