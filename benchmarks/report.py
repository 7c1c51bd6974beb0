"""Measure how long the report takes, and how large it is.

python -m benchmarks.report [--trades 50000 1000000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from botmemory import close_db, init_db
from botmemory.report import write_report
from tests.support import realistic

# the most seconds and megabytes for so many trades
GOALS = {50_000: (10, 5.0), 1_000_000: (60, 8.0)}


def report(sizes: Sequence[int]) -> None:
    """Print the time and the size of the reports of so many trades in five currencies."""
    print("\nthe report of twelve symbols, five currencies and four strategies")
    print(f"{'trades':>12}{'seconds':>10}{'megabytes':>11}")
    for number in sizes:
        with tempfile.TemporaryDirectory() as folder:
            init_db(Path(folder) / "bot.db")
            realistic.record(number)
            begin = time.perf_counter()
            path = write_report(Path(folder) / "report.html", rates=realistic.RATES)
            seconds = time.perf_counter() - begin
            close_db()
            size = path.stat().st_size / 1e6
        goal = "   (goal: at most {} s, {} MB)".format(*GOALS[number]) if number in GOALS else ""
        print(f"{number:>12,}{seconds:>10.1f}{size:>11.1f}{goal}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--trades", type=int, nargs="+", default=list(GOALS))
    report(parser.parse_args().trades)
