"""CSV of RFC 4180 with a header: an empty cell is NULL, metadata is JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import ValidationError
from ._jsonl import read_lines
from ._rows import Line, Progress, to_cell, with_json

# prefixes of formulas in spreadsheets
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
MAX_CELL = 2**31 - 1  # as metadata may be longer than the default limit of csv


def write(
    path: Path,
    columns: Mapping[str, str],
    rows: Iterable[Mapping[str, Any]],
    *,
    spreadsheet: bool = False,
) -> None:
    """Write rows under a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            cells = [to_cell(row[name], kind) for name, kind in columns.items()]
            writer.writerow(map(_escaped, cells) if spreadsheet else cells)


def _escaped(cell: Any) -> Any:
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA_PREFIXES)
    return f"'{cell}" if is_formula else cell


def read(path: Path, columns: Mapping[str, str], progress: Progress) -> Iterator[Line]:
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
                row = {name: cell or None for name, cell in zip(header, cells, strict=False)}
                yield number, "\n".join(texts), with_json(row, columns) if is_complete else None
            texts.clear()
    except csv.Error as error:
        yield number, f"{error}: {''.join(texts)}", None
