"""Measure the import of the package."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

__all__ = ["import_seconds"]


def import_seconds(names: list[str], rounds: int, missing: str = "") -> list[float]:
    """Return the median seconds of each import in a new interpreter.

    Modules are compiled, site hooks do not run, and the `missing` package cannot be imported.
    """
    times: list[list[float]] = [[] for _ in names]
    with tempfile.TemporaryDirectory() as folder:
        settings = os.environ | {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder}
        for number in range(rounds + 1):
            for index, name in enumerate(names):
                code = (
                    f"import sys; sys.path[:] = {sys.path!r}; sys.modules[{missing!r}] = None; "
                    f"from time import perf_counter as p; b = p(); import {name}; print(p() - b)"
                )
                program = [sys.executable, "-S", "-c", code]
                process = subprocess.run(  # noqa: S603
                    program, env=settings, check=True, capture_output=True, text=True
                )
                if number:  # the first import compiles
                    times[index].append(float(process.stdout))
    return [statistics.median(seconds) for seconds in times]
