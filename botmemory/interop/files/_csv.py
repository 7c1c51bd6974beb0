"""CSV of RFC 4180 with a header: an empty cell is NULL, metadata is JSON."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from ...columns import Column
from ...errors import ValidationError
from ._jsonl import read_lines
from ._rows import Columns, Line, Progress, to_cell, with_json

# prefixes of formulas in spreadsheets
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
RAW_CELL = re.compile(r'("(?:[^"]|"")*"|[^,]*)(?:,|$)')
MAX_CELL = 2**31 - 1  # as metadata may be longer than the default limit of csv


def write(
    path: Path,
    columns: Columns,
    rows: Iterable[Mapping[str, Any]],
    *,
    spreadsheet: bool = False,
) -> None:
    """Write rows under a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            cells = [_cell(row[name], column) for name, column in columns.items()]
            if "" in cells:
                _write_with_empty_text(file, cells)
            else:
                writer.writerow(map(_escaped, cells) if spreadsheet else cells)


def _cell(value: Any, column: Column) -> Any:
    cell = to_cell(value, column)
    return str(cell).lower() if isinstance(cell, bool) else cell


def _write_with_empty_text(file: TextIO, cells: list[Any]) -> None:
    """Write a row in which `""` is an empty text and an empty cell NULL, unlike csv's writer."""
    texts = [None if cell is None else str(cell).replace('"', '""') for cell in cells]
    file.write(",".join("" if text is None else f'"{text}"' for text in texts) + "\r\n")


def _set_empty_text(row: dict[str, Any], text: str, columns: Columns) -> None:
    """Set what is quoted and empty, which Python's reader does not tell from an empty cell."""
    for name, raw in zip(row, RAW_CELL.findall(text), strict=False):
        if raw == '""' and name in columns and columns[name].may_be_empty():
            row[name] = ""


def _escaped(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA_PREFIXES)
    return f"'{cell}" if is_formula else cell


def read(path: Path, columns: Columns, progress: Progress) -> Iterator[Line]:
    """Yield the number of the last line of each row, its text and its cells by column."""
    csv.field_size_limit(MAX_CELL)
    texts: list[str] = []
    number = 0

    def numbered_lines() -> Iterator[str]:
        nonlocal number
        for number, line in read_lines(path, progress):  # noqa: B007
            texts.append(line)
            yield line

    reader = csv.reader(numbered_lines(), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header) or not all(header):
            raise ValidationError(
                f"{path}, line 1: the header has a duplicate or an empty name: {header}"
            )
        texts.clear()
        for cells in reader:
            if cells:
                is_complete = len(cells) == len(header)
                text = "".join(texts).rstrip("\r\n")
                row: dict[str, Any] = {
                    name: cell or None for name, cell in zip(header, cells, strict=False)
                }
                if '""' in text and "" in cells:
                    _set_empty_text(row, text, columns)
                yield number, text, with_json(row, columns) if is_complete else None
            texts.clear()
    except csv.Error as error:
        yield number, f"{error}: {''.join(texts)}", None
