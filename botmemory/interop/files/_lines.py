"""The lines of a text file, with how far they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ...backends.sqlite.errors import translate_errors
from ...errors import StorageError

__all__ = ["lines"]

LINES_PER_REPORT = 1000


def lines(path: Path, progress: Callable[[int, int], object] | None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file by their numbers; tell the bytes read of all."""
    with translate_errors(path, "cannot be read"):
        total, read = path.stat().st_size, 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                read += len(line)
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise StorageError(
                        f"{path}, line {number}: is not UTF-8: {error.reason}"
                    ) from error
                yield number, text.rstrip("\r\n") if text.endswith("\n") else text
                if progress is not None and number % LINES_PER_REPORT == 0:
                    progress(read, total)
        if progress is not None:
            progress(total, total)
