"""CSV of RFC 4180 with a header: an empty cell is NULL, metadata is JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import ValidationError
from ._jsonl import read_lines, to_plain

__all__ = ["read", "write"]

# prefixes of formulas in spreadsheets
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
MAX_CELL = 2**31 - 1  # as metadata may be longer than the default limit of csv


def write(
    path: Path,
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    *,
    spreadsheet: bool = False,
) -> int:
    """Write rows under a header and return their number."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row[name], kind, spreadsheet) for name, kind in columns.items()])
            count += 1
    return count


def _cell(value: Any, kind: str, spreadsheet: bool) -> Any:
    if value is None:
        return ""
    if kind == "json":
        value = json.dumps(value, ensure_ascii=False, allow_nan=False)
    value = to_plain(value)
    if spreadsheet and isinstance(value, str) and value.startswith(FORMULA_PREFIXES):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value


def read(
    path: Path, columns: Mapping[str, str], progress: Callable[[int, int], object] | None
) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """Yield the number of the last line of each row, its text and its cells by column."""
    csv.field_size_limit(MAX_CELL)
    texts: list[str] = []
    number = 0

    def numbered_lines() -> Iterator[str]:
        nonlocal number
        for number, text in read_lines(path, progress):  # noqa: B007
            texts.append(text)
            yield text + "\n"

    reader = csv.reader(numbered_lines(), strict=True)
    header: list[str] | None = None
    while True:
        texts.clear()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield number, f"{error}: {''.join(texts)}", None
            return
        if cells is None:
            return
        if header is None:
            header = cells
            if len(set(header)) != len(header) or not all(header):
                raise ValidationError(
                    f"{path}, line 1: the header has a duplicate or an empty name: {header}"
                )
        elif cells:
            yield number, "\n".join(texts), _row(header, cells, columns)


def _row(header: list[str], cells: list[str], columns: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the cells by column; None if their number is wrong or one is invalid JSON."""
    if len(cells) != len(header):
        return None
    row: dict[str, Any] = {name: cell or None for name, cell in zip(header, cells, strict=True)}
    for name, cell in row.items():
        if cell is not None and columns.get(name) == "json":
            try:
                row[name] = json.loads(cell)
            except ValueError:
                return None
    return row
