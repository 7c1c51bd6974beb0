"""Measure botmemory beside the driver and beside two ORMs, in one run.

    python -m benchmarks [--quick] [--rows N] [--rounds N]

Everything is done by each contestant in turn, round after round; the table shows medians, and the
ratios the goals are about. Figures of two runs are not comparable, ratios of one run are.
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import peewee
import sqlalchemy

import botmemory

from .ours import Botmemory
from .peers import NaivePeewee, SqlAlchemy
from .raw import Raw
from .rows import START, STEP, SYMBOLS, rows

CONTESTANTS: list[Any] = [Raw, Botmemory, NaivePeewee, SqlAlchemy]
# work -> at most x sqlite3, at most x the better ORM
GOALS = {
    "create, own commit, normal": (1.8, 0.33),
    "create, own commit, full": (1.6, 0.60),
    "create in one transaction": (2.2, 0.16),
    "create_many, per row": (1.7, 0.35),
    "get_by_id": (4.0, 0.25),
    "get_latest(symbol, 10)": (3.5, 0.25),
    "get_by_date_range, 100 rows": (3.0, 0.35),
    "iterate, per row": (2.6, 0.40),
    "get_total_pnl(symbol)": (0.6, 0.30),
    "get_trade_count(symbol)": (1.6, 0.60),
}


class Work(Protocol):
    def __call__(self, contestant: Any, repeats: int) -> float:
        """Return the seconds that one repeat took."""


def timed(call: Callable[[], object], repeats: int) -> float:
    gc.collect()
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) / repeats


def writing(there: int, seed: random.Random) -> dict[str, tuple[int, Work]]:
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
        "create, own commit, normal": (400, own_commit),
        "create in one transaction": (1_000, in_transaction),
        "create_many, per row": (5_000, many),
    }


def reading(there: int, seed: random.Random) -> dict[str, tuple[int, Work]]:
    def by_id(contestant: Any, repeats: int) -> float:
        keys = contestant.some_ids(repeats)
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
    folder: Path, synchronous: str, works: dict[str, tuple[int, Work]], rounds: int
) -> dict[str, list[float]]:
    """Return the median seconds of each contestant, by work."""
    found: dict[str, list[list[float]]] = {name: [[] for _ in CONTESTANTS] for name in works}
    for _ in range(rounds):
        for place, contestant in enumerate(CONTESTANTS):
            opened = contestant(str(folder / f"{contestant.name}.db"), synchronous)
            for name, (repeats, work) in works.items():
                work(opened, max(1, repeats // 20))  # warm
                found[name][place].append(work(opened, repeats))
            opened.close()
    return {name: [statistics.median(times) for times in all_] for name, all_ in found.items()}


def fill(folder: Path, count: int) -> None:
    for contestant in CONTESTANTS:
        opened = contestant(str(folder / f"{contestant.name}.db"), "normal")
        opened.create_many(rows(count))
        opened.close()


def show(found: dict[str, list[float]]) -> None:
    names = [contestant.name for contestant in CONTESTANTS]
    print(f"{'microseconds':<28}" + "".join(f"{name:>11}" for name in names), end="")
    print(f"{'x sqlite3':>11}{'goal':>6}{'x ORM':>7}{'goal':>6}")
    for name, goals in GOALS.items():
        raw, ours, *peers = found[name]
        ratios = (ours / raw, ours / min(peers))
        times = "".join(f"{seconds * 1e6:>11,.1f}" for seconds in found[name])
        print(f"{name:<28}{times}{ratios[0]:>11.2f}{goals[0]:>6}{ratios[1]:>7.2f}{goals[1]:>6}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, and rougher")
    parser.add_argument("--rows", type=int, help="trades that are there already (200000)")
    parser.add_argument("--rounds", type=int, help="rounds of which the medians are shown (7)")
    asked = parser.parse_args()
    there = asked.rows or (20_000 if asked.quick else 200_000)
    rounds = asked.rounds or (3 if asked.quick else 7)
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    print(f"botmemory {botmemory.__version__}, {versions}, Peewee {peewee.__version__}", end="")
    print(f", SQLAlchemy {sqlalchemy.__version__}; {platform.machine()}, {there:,} trades there\n")
    seed = random.Random(5)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fill(folder, there)
        found = measure(folder, "normal", reading(there, seed), rounds)
        found |= measure(folder, "normal", writing(there, seed), rounds)
        own_commit = writing(there, seed)["create, own commit, normal"]
        found |= measure(folder, "full", {"create, own commit, full": own_commit}, rounds)
        show(found)
        sizes = {one.name: (folder / f"{one.name}.db").stat().st_size for one in CONTESTANTS}
        ratio = sizes["botmemory"] / sizes["sqlite3"]
        print(f"\nsize of the file: {ratio:.2f} x sqlite3's, with its two indexes")


if __name__ == "__main__":
    main()
