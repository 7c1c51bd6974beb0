"""What importing the package takes, beside importing Peewee."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

__all__ = ["import_seconds"]


def import_seconds(names: list[str], rounds: int, missing: str = "") -> list[float]:
    """Return the median seconds that each import takes in a Python just started.

    Of compiled modules, as packages are installed, before any site hook has imported something, and
    as if the missing package were not there.
    """
    found: list[list[float]] = [[] for _ in names]
    with tempfile.TemporaryDirectory() as folder:
        settings = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        for number in range(rounds + 1):
            for place, name in enumerate(names):
                code = (
                    f"import sys; sys.path[:] = {sys.path!r}; sys.modules[{missing!r}] = None; "
                    f"from time import perf_counter as p; b = p(); import {name}; print(p() - b)"
                )
                program = [sys.executable, "-S", "-c", code]
                said = subprocess.run(  # noqa: S603
                    program, env=settings, check=True, capture_output=True, text=True
                )
                if number:  # the first one compiles
                    found[place].append(float(said.stdout))
    return [statistics.median(times) for times in found]
