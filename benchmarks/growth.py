"""Measure how a growing database affects the time of a call, and the memory of bulk calls.

As a program it makes one call and prints its seconds and its peak memory in megabytes:

    python -m benchmarks.growth create_many|iterate|frame FILE ROWS
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
from botmemory.repositories import trades

from .ours import Botmemory
from .rows import rows
from .work import measure, reading, writing

__all__ = ["draw", "in_new_process", "times_by_size"]

WORKS = ("create, own commit", "get_by_id", "get_latest(symbol, 10)", "get_by_date_range, 100 rows")


def times_by_size(files: dict[int, Path], rounds: int) -> dict[str, list[float]]:
    """Return the median seconds of each call, one for each size of the database."""
    seed = random.Random(7)
    times: dict[str, defaultdict[int, list[float]]] = {name: defaultdict(list) for name in WORKS}
    for _ in range(rounds):
        for size, path in files.items():
            _fill_page_cache(path)
            works = writing(max(files), seed) | reading(size, seed)
            library = [partial(Botmemory, str(path), "normal")]
            measured = measure(library, {name: works[name] for name in WORKS}, 1)
            for name, [seconds] in measured.items():
                times[name][size].append(seconds)
    return {name: [statistics.median(times[name][size]) for size in files] for name in WORKS}


def _fill_page_cache(path: Path) -> None:
    """Read a file, so that the speed of the disk is not measured."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def draw(sizes: list[int], results: dict[str, list[float]], path: Path) -> None:
    """Draw the times, each as a multiple of the time in the smallest database."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, times in results.items():
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


def in_new_process(work: str, path: Path, count: int = 0) -> tuple[float, float]:
    """Make one call in a new process; return its seconds and its peak memory in megabytes."""
    program = [sys.executable, "-m", "benchmarks.growth", work, str(path), str(count)]
    output = subprocess.run(program, check=True, capture_output=True, text=True).stdout  # noqa: S603
    seconds, peak = map(float, output.split())
    return seconds, peak


def _peak_megabytes() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage() includes the peak of the parent before the exec
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(kilobytes) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> None:
    work, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    init_db(path, synchronous="normal")
    if work.startswith("frame"):  # the imports are not measured
        import pandas
        import pyarrow.compute  # noqa: F401

        from botmemory.interop import frames
    start = time.perf_counter()
    if work == "create_many":
        trades.create_many(rows(count))  # type: ignore[arg-type]
    elif work == "iterate":
        for _ in trades.iterate():
            pass
    elif work == "frame":
        frames.trades().to_pandas()
    else:
        pandas.DataFrame(list(Trade.select().dicts()))
    print(time.perf_counter() - start, _peak_megabytes())
    close_db()


if __name__ == "__main__":
    main()
