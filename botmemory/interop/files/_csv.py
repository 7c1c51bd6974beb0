"""CSV as RFC 4180 has it, with a header: an empty cell is NULL, metadata is JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import ValidationError
from ._jsonl import lines, plain

__all__ = ["read", "write"]

# what a spreadsheet takes for the beginning of a formula
FORMULA = ("=", "+", "-", "@", "\t", "\r")
LONGEST_CELL = 2**31 - 1  # metadata may be longer than csv allows by itself


def write(
    path: Path,
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    *,
    spreadsheet: bool = False,
) -> int:
    """Write rows under a header and return how many there were."""
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
    value = plain(value)
    if spreadsheet and isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value


def read(
    path: Path, columns: Mapping[str, str], progress: Callable[[int, int], object] | None
) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """Yield each row with the number of its last line, its text and its cells by their columns."""
    csv.field_size_limit(LONGEST_CELL)
    texts: list[str] = []
    number = 0

    def kept() -> Iterator[str]:
        nonlocal number
        for number, text in lines(path, progress):  # noqa: B007
            texts.append(text)
            yield text + "\n"

    reader = csv.reader(kept(), strict=True)
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
                    f"{path}, line 1: is not a header of distinct names: {header}"
                )
        elif cells:
            yield number, "\n".join(texts), _row(header, cells, columns)


def _row(header: list[str], cells: list[str], columns: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the cells by their columns; None where there are too many, too few or broken ones."""
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
