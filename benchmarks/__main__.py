"""Measure botmemory beside the driver and beside two ORMs, in one run.

    python -m benchmarks [--quick] [--rows N] [--rounds N] [--chart FILE]

Everything is done by each contestant in turn, round after round; the tables show medians, and the
ratios the goals are about. Figures of two runs are not comparable, ratios of one run are.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sqlite3
import tempfile
from functools import partial
from pathlib import Path

import peewee
import psycopg
import sqlalchemy

import botmemory

from . import growth
from .imports import import_seconds
from .ours import Botmemory
from .peers import NaivePeewee, SqlAlchemy
from .postgres import Psycopg, a_server
from .raw import Raw
from .rows import SYMBOLS, rows
from .work import measure, reading, writing

CONTESTANTS = (Raw, Botmemory, NaivePeewee, SqlAlchemy)
# work -> at most x sqlite3, at most x the better ORM
SQLITE_GOALS = {
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
# work -> at most x psycopg, whose bulk is COPY
POSTGRES_GOALS = {
    "create, own commit": 1.25,
    "create in one transaction": None,
    "create_many, per row": 1.5,
    "get_by_id": None,
    "get_latest(symbol, 10)": None,
}


def sqlite(folder: Path, there: int, rounds: int) -> None:
    """Print the table of SQLite, and the size of the files."""
    seed = random.Random(5)
    files = {one.name: str(folder / f"{one.name}.db") for one in CONTESTANTS}
    for contestant in CONTESTANTS:
        filled = contestant(files[contestant.name], "normal")
        filled.create_many(rows(there))
        filled.close()
    normal, full = (
        [partial(one, files[one.name], synchronous) for one in CONTESTANTS]
        for synchronous in ("normal", "full")
    )
    written = writing(there, seed)
    found = measure(normal, reading(there, seed), rounds) | measure(normal, written, rounds)
    found["create, own commit, normal"] = found.pop("create, own commit")
    own_commit = {"create, own commit, full": written["create, own commit"]}
    found |= measure(full, own_commit, rounds)

    names = "".join(f"{one.name:>11}" for one in CONTESTANTS)
    print(f"{'SQLite, microseconds':<34}{names}{'x sqlite3':>11}{'goal':>6}{'x ORM':>7}{'goal':>6}")
    for name, (most, most_of_orm) in SQLITE_GOALS.items():
        raw, ours, *orms = found[name]
        ratios = f"{ours / raw:>11.2f}{most:>6}{ours / min(orms):>7.2f}{most_of_orm:>6}"
        print(f"{name:<34}{_microseconds(found[name])}{ratios}")
    raw_bytes, our_bytes = (Path(files[one.name]).stat().st_size for one in (Raw, Botmemory))
    print(f"\nsize of the file: {our_bytes / raw_bytes:.2f} x sqlite3's, with its two indexes")


def postgres(url: str, there: int, rounds: int) -> None:
    """Print the table of PostgreSQL."""
    seed = random.Random(6)
    contestants = [partial(one, url, "full") for one in (Psycopg, Botmemory)]
    for open_one in contestants:
        filled = open_one()
        filled.create_many(rows(there))
        filled.close()
    works = writing(there, seed) | reading(there, seed)
    found = measure(contestants, {name: works[name] for name in POSTGRES_GOALS}, rounds)
    print(f"\n{'PostgreSQL, microseconds':<34}{'psycopg':>11}{'botmemory':>11}", end="")
    print(f"{'x psycopg':>11}{'goal':>6}")
    for name, most in POSTGRES_GOALS.items():
        raw, ours = found[name]
        print(f"{name:<34}{_microseconds(found[name])}{ours / raw:>11.2f}{most or '':>6}")


def growing(folder: Path, sizes: list[int], rounds: int, chart: Path) -> None:
    """Print and draw what a database costs from the smallest size to the largest."""
    files = {size: folder / f"{size}.db" for size in sizes}
    made = [growth.alone("create_many", path, size) for size, path in files.items()]
    largest = sizes[-1]
    found = growth.grown(files, rounds)
    print(f"\n{'botmemory, microseconds':<34}{''.join(f'{size:>11,}' for size in sizes)}", end="")
    print(f"{'x at most':>11}{'goal':>6}")
    for name, times in found.items():
        print(f"{name:<34}{_microseconds(times)}{max(times) / times[0]:>11.2f}{1.6:>6}")
    growth.draw(sizes, found, chart)
    print(f"drawn as {chart}")
    _, iterated = growth.alone("iterate", files[largest])
    print(f"\npeak memory at {largest:,} trades, megabytes (goal: less than 80)")
    print(f"create_many from a generator {made[-1][1]:.0f}, iterate {iterated:.0f}")
    seconds, _ = growth.alone("position", files[largest])
    print(f"positions.get of {largest // len(SYMBOLS):,} trades: {seconds:.2f} seconds")
    framed = min(largest, 1_000_000)
    ours, _ = growth.alone("frame", files[framed])
    naive, _ = growth.alone("frame by Peewee", files[framed])
    print(
        f"a data frame of {framed:,} trades: {ours:.1f} seconds, {naive / ours:.1f} times faster "
        "than DataFrame(list(Trade.select().dicts())) (goal: 3)"
    )


def imports(rounds: int) -> None:
    """Print what importing takes."""
    print()
    for missing, where in (
        ("", ""),
        ("psycopg", " where there is no psycopg, which Peewee imports"),
    ):
        peewee_alone, ours = import_seconds(["peewee", "botmemory"], rounds, missing)
        ratio = f"{ours / peewee_alone:.2f} x import peewee"
        print(f"import botmemory: {ratio}{where} (goal: at most 1.15)")


def _microseconds(seconds: list[float]) -> str:
    return "".join(f"{one * 1e6:>11,.1f}" for one in seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, and rougher")
    parser.add_argument("--rows", type=int, help="trades that are there already (200000)")
    parser.add_argument("--rounds", type=int, help="rounds of which the medians are shown (7)")
    parser.add_argument("--chart", type=Path, default=Path("growth.svg"), help="where it is drawn")
    asked = parser.parse_args()
    there = asked.rows or (10_000 if asked.quick else 200_000)
    rounds = asked.rounds or (3 if asked.quick else 7)
    sizes = [10_000, 100_000] if asked.quick else [10_000, 100_000, 1_000_000, 10_000_000]
    print(
        f"botmemory {botmemory.__version__}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, Peewee {peewee.__version__}, "
        f"SQLAlchemy {sqlalchemy.__version__}, psycopg {psycopg.__version__}; "
        f"{os.cpu_count()} cores {platform.machine()}; {there:,} trades there\n"
    )
    with tempfile.TemporaryDirectory() as temporary:
        sqlite(Path(temporary), there, rounds)
    with a_server() as url:
        postgres(url, there, rounds)
    with tempfile.TemporaryDirectory() as temporary:
        growing(Path(temporary), sizes, rounds, asked.chart)
    imports(rounds * 3)


if __name__ == "__main__":
    main()
