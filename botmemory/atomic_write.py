"""Write a file so that nobody finds half of it under its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing"]

SIDECARS = ("", "-journal", "-wal", "-shm")  # what SQLite writes beside a file that is a database


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of an unfinished file, which gets the name `path` when the block ends well.

    Else it is removed. What a process left that was killed meanwhile is removed first.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    _remove(unfinished)
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):  # which must not hide why the file is unfinished
            _remove(unfinished)
        raise


def _remove(unfinished: Path) -> None:
    for sidecar in SIDECARS:
        unfinished.with_name(unfinished.name + sidecar).unlink(missing_ok=True)
