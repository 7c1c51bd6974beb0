"""Write a file atomically: its name never refers to a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["replacing"]

SIDECARS = ("", "-journal", "-wal", "-shm")  # what SQLite writes beside a file that is a database


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that replaces `path` when the block ends without an error.

    Otherwise it is removed, also the one of an earlier process that was killed.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    _remove(unfinished)
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):  # it must not hide why the file is unfinished
            _remove(unfinished)
        raise


def _remove(unfinished: Path) -> None:
    for sidecar in SIDECARS:
        unfinished.with_name(unfinished.name + sidecar).unlink(missing_ok=True)
