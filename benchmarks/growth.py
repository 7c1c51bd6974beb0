"""How a database behaves as it grows: the time of a call, and the memory that bulk work takes.

Also a program of its own, which does one thing and prints its seconds and its peak megabytes:

    python -m benchmarks.growth create_many|iterate|position|frame FILE ROWS
"""

from __future__ import annotations

import random
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

from botmemory import Trade, close_db, init_db
from botmemory.repositories import positions, trades

from .ours import Botmemory
from .rows import SYMBOLS, rows
from .work import measure, reading, writing

__all__ = ["alone", "draw", "grown"]

WORKS = ("create, own commit", "get_by_id", "get_latest(symbol, 10)", "get_by_date_range, 100 rows")


def grown(files: dict[int, Path], rounds: int) -> dict[str, list[float]]:
    """Return the median seconds of each work, one for each size of database."""
    seed = random.Random(7)
    times: dict[str, defaultdict[int, list[float]]] = {name: defaultdict(list) for name in WORKS}
    for _ in range(rounds):
        for size, path in files.items():
            _into_memory(path)
            works = writing(max(files), seed) | reading(size, seed)
            one = [partial(Botmemory, str(path), "normal")]
            found = measure(one, {name: works[name] for name in WORKS}, 1)
            for name, [seconds] in found.items():
                times[name][size].append(seconds)
    return {name: [statistics.median(times[name][size]) for size in files] for name in WORKS}


def _into_memory(path: Path) -> None:
    """Read a file through: what a call costs is measured, not how fast the disk is."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def draw(sizes: list[int], found: dict[str, list[float]], path: Path) -> None:
    """Draw how the times grow, each as a multiple of its time in the smallest memory."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, times in found.items():
        axes.plot(sizes, [seconds / times[0] for seconds in times], marker="o", label=name)
    axes.axhline(1.6, color="grey", linestyle="--", linewidth=1)
    axes.annotate("goal: 1.6", (sizes[0], 1.6), (0, 4), textcoords="offset points", color="grey")
    axes.set(xscale="log", ylim=(0, 2), xlabel="trades in the database", xticks=sizes)
    axes.set_xticklabels([f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylabel(f"time of one call, x at {sizes[0]:,}")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    pyplot.close(figure)


def alone(work: str, path: Path, count: int = 0) -> tuple[float, float]:
    """Do one work in a process of its own; return its seconds and its peak in megabytes."""
    program = [sys.executable, "-m", "benchmarks.growth", work, str(path), str(count)]
    said = subprocess.run(program, check=True, capture_output=True, text=True).stdout  # noqa: S603
    seconds, peak = map(float, said.split())
    return seconds, peak


def _peak_megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # the resource module counts in what the parent had before the exec
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(kilobytes) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    work, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    init_db(path, synchronous="normal")
    if work.startswith("frame"):  # neither contestant pays for what is imported
        import pandas
        import pyarrow.compute  # noqa: F401

        from botmemory.interop import frames
    began = time.perf_counter()
    if work == "create_many":
        trades.create_many(rows(count))  # type: ignore[arg-type]
    elif work == "iterate":
        for _ in trades.iterate():
            pass
    elif work == "frame":
        frames.trades().to_pandas()
    elif work == "frame by Peewee":
        pandas.DataFrame(list(Trade.select().dicts()))
    else:
        positions.get(SYMBOLS[0])
    print(time.perf_counter() - began, _peak_megabytes())
    close_db()


if __name__ == "__main__":
    main()
