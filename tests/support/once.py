"""Make what takes long once in a run, for all of its worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from botmemory.backends.sqlite.file_locks import write_lock


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait until no other process runs such a block with this file."""
    with file.open("w") as opened:
        lock = write_lock(opened.fileno())
        while True:
            try:
                lock.acquire()
                break
            except BlockingIOError:
                time.sleep(0.02)
        try:
            yield
        finally:
            lock.release()


def once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]) -> Path:
    """Return a folder that the first worker to ask for it fills; the others wait, and share it."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # a worker's own folder is in that of the run
    filled = run / name
    with alone(run / f"{name}.lock"):
        if not filled.exists():
            folder = factory.mktemp(name)
            fill(folder)
            folder.rename(filled)
    return filled
