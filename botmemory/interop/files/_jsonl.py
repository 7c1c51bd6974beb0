"""JSON Lines: a JSON object a line; and the lines of any text file."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from ...backends.sqlite.errors import translate_errors
from ...errors import StorageError

__all__ = ["lines", "plain", "read", "write"]

LINES_PER_REPORT = 1000


def write(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows and return how many there were."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            values = {name: plain(value) for name, value in row.items()}
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def read(
    path: Path, columns: Mapping[str, str], progress: Callable[[int, int], object] | None
) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """Yield each line with its number, its text and its row; None where it holds none."""
    for number, text in lines(path, progress):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError:
            row = None
        yield number, text, row if isinstance(row, dict) else None


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: timestamps in ISO 8601."""
    if isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    if isinstance(value, uuid.UUID):
        return str(value)
    return value.value if isinstance(value, Enum) else value


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
