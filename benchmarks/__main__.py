"""Compare botmemory with the driver and with two ORMs.

    python -m benchmarks [--quick] [--rows N] [--rounds N] [--chart FILE]

Each library makes every call in turn, round after round. The tables show medians, and the ratios
that have a goal. Compare ratios of one run, not times of two runs.
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

from . import growth, positions, report, results
from .imports import import_seconds
from .ours import Botmemory
from .peers import NaivePeewee, SqlAlchemy
from .postgres import Psycopg, temporary_server
from .raw import Raw
from .rows import rows
from .work import measure, reading, writing

LIBRARIES = (Raw, Botmemory, NaivePeewee, SqlAlchemy)
# call -> at most x sqlite3, at most x the better ORM
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
# call -> at most x psycopg, which uses COPY for many rows
POSTGRES_GOALS = {
    "create, own commit": 1.25,
    "create in one transaction": None,
    "create_many, per row": 1.5,
    "get_by_id": None,
    "get_latest(symbol, 10)": None,
}


def sqlite(folder: Path, existing: int, rounds: int) -> None:
    """Print the times on SQLite, and the size of the files."""
    seed = random.Random(5)
    files = {library.name: str(folder / f"{library.name}.db") for library in LIBRARIES}
    for library in LIBRARIES:
        database = library(files[library.name], "normal")
        database.create_many(rows(existing))
        database.close()
    normal, full = (
        [partial(library, files[library.name], synchronous) for library in LIBRARIES]
        for synchronous in ("normal", "full")
    )
    writes = writing(existing, seed)
    results = measure(normal, reading(existing, seed), rounds) | measure(normal, writes, rounds)
    results["create, own commit, normal"] = results.pop("create, own commit")
    own_commit = {"create, own commit, full": writes["create, own commit"]}
    results |= measure(full, own_commit, rounds)

    names = "".join(f"{library.name:>11}" for library in LIBRARIES)
    print(f"{'SQLite, microseconds':<34}{names}{'x sqlite3':>11}{'goal':>6}{'x ORM':>7}{'goal':>6}")
    for name, (most, most_of_orm) in SQLITE_GOALS.items():
        raw, ours, *orms = results[name]
        ratios = f"{ours / raw:>11.2f}{most:>6}{ours / min(orms):>7.2f}{most_of_orm:>6}"
        print(f"{name:<34}{_microseconds(results[name])}{ratios}")
    raw_bytes, our_bytes = (Path(files[name]).stat().st_size for name in ("sqlite3", "botmemory"))
    print(f"\nsize of the file: {our_bytes / raw_bytes:.2f} x sqlite3's, with its two indexes")


def postgres(url: str, existing: int, rounds: int) -> None:
    """Print the times on PostgreSQL."""
    seed = random.Random(6)
    libraries = [partial(library, url, "full") for library in (Psycopg, Botmemory)]
    for open_database in libraries:
        database = open_database()
        database.create_many(rows(existing))
        database.close()
    works = writing(existing, seed) | reading(existing, seed)
    results = measure(libraries, {name: works[name] for name in POSTGRES_GOALS}, rounds)
    print(f"\n{'PostgreSQL, microseconds':<34}{'psycopg':>11}{'botmemory':>11}", end="")
    print(f"{'x psycopg':>11}{'goal':>6}")
    for name, most in POSTGRES_GOALS.items():
        raw, ours = results[name]
        print(f"{name:<34}{_microseconds(results[name])}{ours / raw:>11.2f}{most or '':>6}")


def growing_database(folder: Path, sizes: list[int], rounds: int, chart: Path) -> None:
    """Print and draw the times from the smallest database to the largest."""
    files = {size: folder / f"{size}.db" for size in sizes}
    created = [growth.in_new_process("create_many", path, size) for size, path in files.items()]
    largest = sizes[-1]
    results = growth.times_by_size(files, rounds)
    print(f"\n{'botmemory, microseconds':<34}{''.join(f'{size:>11,}' for size in sizes)}", end="")
    print(f"{'x at most':>11}{'goal':>6}")
    for name, times in results.items():
        print(f"{name:<34}{_microseconds(times)}{max(times) / times[0]:>11.2f}{1.6:>6}")
    growth.draw(sizes, results, chart)
    print(f"chart: {chart}")
    _, iterate_peak = growth.in_new_process("iterate", files[largest])
    print(f"\npeak memory at {largest:,} trades, megabytes (goal: less than 80)")
    print(f"create_many from a generator {created[-1][1]:.0f}, iterate {iterate_peak:.0f}")
    frame_rows = min(largest, 1_000_000)
    ours, _ = growth.in_new_process("frame", files[frame_rows])
    naive, _ = growth.in_new_process("frame by Peewee", files[frame_rows])
    print(
        f"a data frame of {frame_rows:,} trades: {ours:.1f} seconds, {naive / ours:.1f} times "
        "faster than DataFrame(list(Trade.select().dicts())) (goal: 3)"
    )


def imports(rounds: int) -> None:
    """Print the time of an import."""
    print()
    for missing, condition in (("", ""), ("psycopg", " without psycopg, which Peewee imports")):
        peewee_alone, ours = import_seconds(["peewee", "botmemory"], rounds, missing)
        ratio = f"{ours / peewee_alone:.2f} x import peewee"
        print(f"import botmemory: {ratio}{condition} (goal: at most 1.15)")


def _microseconds(seconds: list[float]) -> str:
    return "".join(f"{value * 1e6:>11,.1f}" for value in seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less exact, in under a minute")
    parser.add_argument("--rows", type=int, help="existing trades (200000)")
    parser.add_argument("--rounds", type=int, help="rounds, of which the median is shown (7)")
    parser.add_argument(
        "--chart", type=Path, default=Path("growth.svg"), help="the file of the chart"
    )
    arguments = parser.parse_args()
    existing = arguments.rows or (10_000 if arguments.quick else 200_000)
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    sizes = [10_000, 100_000] if arguments.quick else [10_000, 100_000, 1_000_000, 10_000_000]
    print(
        f"botmemory {botmemory.__version__}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, Peewee {peewee.__version__}, "
        f"SQLAlchemy {sqlalchemy.__version__}, psycopg {psycopg.__version__}; "
        f"{os.cpu_count()} cores {platform.machine()}; {existing:,} trades\n"
    )
    with tempfile.TemporaryDirectory() as temporary:
        sqlite(Path(temporary), existing, rounds)
    with temporary_server() as url:
        postgres(url, existing, rounds)
    with tempfile.TemporaryDirectory() as temporary:
        growing_database(Path(temporary), sizes, rounds, arguments.chart)
    positions.report(existing, rounds)
    results.report(max(sizes[:-1]) if arguments.quick else 1_000_000, min(rounds, 3))
    report.report([10_000] if arguments.quick else list(report.GOALS))
    imports(rounds * 3)


if __name__ == "__main__":
    main()
