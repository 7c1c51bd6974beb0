"""JSON Lines: one JSON object per line; and reading the lines of a text file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...backends.sqlite.errors import translate_errors
from ...errors import StorageError
from ._rows import Columns, Line, Progress

LINES_PER_REPORT = 1000


def write(path: Path, columns: Columns, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            values = {name: columns[name].to_json(value) for name, value in row.items()}
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path, columns: Columns, progress: Progress) -> Iterator[Line]:
    """Yield the number of each line, its text and its row; None if it is no JSON object."""
    for number, line in read_lines(path, progress):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError:
            row = None
        yield number, text, row if isinstance(row, dict) else None


def read_lines(path: Path, progress: Progress) -> Iterator[tuple[int, str]]:
    """Yield the numbers and the lines of a UTF-8 file with their ends; report the bytes read."""
    with translate_errors(path, "cannot be read"):
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                done += len(line)
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise StorageError(
                        f"{path}, line {number}: is not UTF-8: {error.reason}"
                    ) from error
                yield number, text
                if number % LINES_PER_REPORT == 0:
                    progress(done, total)
        progress(total, total)
