"""What importing the package takes, beside importing Peewee."""

from __future__ import annotations

import statistics
import subprocess
import sys

__all__ = ["import_seconds"]


def import_seconds(names: list[str], rounds: int) -> list[float]:
    """Return the median seconds that each import takes in a Python just started."""
    found: list[list[float]] = [[] for _ in names]
    for _ in range(rounds):
        for place, name in enumerate(names):
            code = f"from time import perf_counter as p; b = p(); import {name}; print(p() - b)"
            program = [sys.executable, "-c", code]
            said = subprocess.run(program, check=True, capture_output=True, text=True)  # noqa: S603
            found[place].append(float(said.stdout))
    return [statistics.median(times) for times in found]
