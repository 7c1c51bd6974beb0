"""JSON Lines: one JSON object per line; and what the other formats use of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from ...backends.sqlite.errors import translate_errors
from ...errors import StorageError
from ._rows import Line, Progress

LINES_PER_REPORT = 1000


def write(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            values = {name: to_plain(value) for name, value in row.items()}
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def read(path: Path, columns: Mapping[str, str], progress: Progress) -> Iterator[Line]:
    """Yield the number of each line, its text and its row; None if it is no JSON object."""
    for number, text in read_lines(path, progress):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError:
            row = None
        yield number, text, row if isinstance(row, dict) else None


def with_json(row: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the row with the text in its JSON columns parsed; None if one is invalid."""
    try:
        for name, value in row.items():
            if columns.get(name) == "json" and isinstance(value, str):
                row[name] = json.loads(value)
    except ValueError:
        return None
    return row


def to_cell(value: Any, kind: str) -> Any:
    """Return a value for a table without nested values, where metadata is JSON text."""
    if kind == "json" and value is not None:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return to_plain(value)


def to_plain(value: Any) -> Any:
    """Return a value as JSON has it: timestamps in ISO 8601, ids as text."""
    if isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    if isinstance(value, uuid.UUID):
        return str(value)
    return value.value if isinstance(value, Enum) else value


def read_lines(path: Path, progress: Progress) -> Iterator[tuple[int, str]]:
    """Yield the numbers and the lines of a UTF-8 file; report the bytes read."""
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
                yield number, text.rstrip("\r\n") if text.endswith("\n") else text
                if progress is not None and number % LINES_PER_REPORT == 0:
                    progress(done, total)
        if progress is not None:
            progress(total, total)
