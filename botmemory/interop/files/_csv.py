"""CSV of RFC 4180 with a header: an empty cell is NULL, metadata is JSON.

Of files from elsewhere the separator is recognised.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from ...columns import Column
from ...errors import ValidationError
from ._jsonl import read_lines
from ._layout import Layout
from ._rows import CheckHeader, Columns, Line, Progress, to_cell, with_json
from ._translate import BLANK, names_of

# prefixes of formulas in spreadsheets
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
RAW_CELL = re.compile(r'("(?:[^"]|"")*"|[^,]*)(?:,|$)')
SEPARATORS = ",;\t|"
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # what Excel takes for a setting
MAX_PREAMBLE = 50  # lines before that which names the columns
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


def read(
    path: Path, columns: Columns, progress: Progress, layout: Layout, check_header: CheckHeader
) -> Iterator[Line]:
    """Yield the number of the last line of each row, its text and its cells by column."""
    csv.field_size_limit(MAX_CELL)
    lines = _Lines(path, progress, layout)
    header_line, header_text = lines.header()
    separator = layout.separator or lines.separator or _separator_of(header_text)
    likely = _separator_of(header_text)
    if separator not in header_text and likely in header_text:
        raise ValidationError(
            f"{path}, line {header_line}: separator: {separator!r} is not in the header, but "
            f"{likely!r} is; the header is {header_text}",
            field="separator",
        )
    is_spaced = f"{separator} " in header_text
    reader = csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=is_spaced)
    try:
        header = next(reader, None)
        if header is None and lines.number:
            raise ValidationError(
                f"{path}: header_line: {layout.header_line} is beyond its last line, which is "
                f"{lines.number}",
                field="header_line",
            )
        if header is None:
            raise ValidationError(f"{path}: is empty, without a line that names the columns")
        while header and not header[-1].strip():  # a separator at the end of each line
            header.pop()
        names = names_of([name if name in columns else name.strip(BLANK) for name in header])
        check_header(names, header_line, header_text)
        rows = _rows(reader, lines, names, columns)
        waiting: deque[Line] = deque()
        for row in rows:
            waiting.append(row)
            if len(waiting) > layout.skip_footer:
                yield waiting.popleft()
    except csv.Error:
        text = "".join(lines.texts)
        first = lines.number - len(lines.texts) + 1
        yield first, text, _problem(text, first, lines.number)


def _problem(text: str, first: int, last: int) -> str:
    """Return what is wrong with lines that csv cannot read as a row."""
    if "\r" in text.replace("\r\n", ""):
        return "its lines end with CR alone; save the file with LF or CR LF"
    problem = "a quote is not closed, or there is text beside a quoted cell"
    return f"{problem}; it goes on to line {last}" if last > first else problem


class _Lines:
    """The lines of a file from its header on, and the text of those of the row that is read."""

    def __init__(self, path: Path, progress: Progress, layout: Layout) -> None:
        self.texts: list[str] = []
        self.number = 0
        self.separator = ""  # as a first line such as `sep=;` says
        self._lines: Iterator[tuple[int, str]] = read_lines(path, progress, layout.encoding)
        self._layout = layout
        self._first: str | None = None

    def header(self) -> tuple[int, str]:
        """Return the number and the text of the line that names the columns, which is next."""
        lines = list(islice(self._lines, max(MAX_PREAMBLE, self._layout.header_line or 0)))
        if lines and (found := SEPARATOR_LINE.fullmatch(lines[0][1])):
            self.separator = found[1]
            del lines[0]
        first = self._layout.header_line or self._find_header(lines)
        while lines and (lines[0][0] < first or not lines[0][1].strip()):
            self.number = lines.pop(0)[0]
        if lines:
            self.number, self._first = lines.pop(0)
        self._lines = chain(lines, self._lines)
        return self.number, (self._first or "").rstrip("\r\n")

    def _find_header(self, lines: list[tuple[int, str]]) -> int:
        """Return the number of the line that has most of the columns of the layout, or 1."""
        best, most = 1, 0
        for number, line in lines if self._layout.columns() else ():
            separator = self._layout.separator or self.separator or _separator_of(line)
            names = names_of(next(csv.reader([line], delimiter=separator), []))
            if (matches := self._layout.matches(names)) > most:
                best, most = number, matches
        return best

    def __iter__(self) -> Iterator[str]:
        if self._first is not None:
            self.texts.append(self._first)
            yield self._first
        for number, line in self._lines:
            self.number = number
            self.texts.append(line)
            yield line


def _separator_of(header: str) -> str:
    """Return the separator that a header has most of, outside of quotes."""
    unquoted = re.sub(r'"(?:[^"]|"")*"', "", header)
    return max(SEPARATORS, key=unquoted.count)


def _rows(
    reader: Iterable[list[str]], lines: _Lines, names: list[str], columns: Columns
) -> Iterator[Line]:
    lines.texts.clear()
    for cells in reader:
        text = "".join(lines.texts).rstrip("\r\n")
        lines.texts.clear()
        is_blank = not any(map(str.strip, cells))
        if is_blank and ("timestamp" in columns or not text.strip()):
            continue  # a spreadsheet writes such rows, and no row is without its time
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(names):
            problem = f"it has {len(cells)} cells, and the header has {len(names)}"
            if len(cells) == 1:
                problem += "; if the last lines are no rows, pass skip_footer=1 or more"
            yield lines.number, text, problem
            continue
        row: dict[str, Any] = {name: cell or None for name, cell in zip(names, cells, strict=True)}
        if '""' in text and "" in cells:
            _set_empty_text(row, text, columns)
        yield lines.number, text, with_json(row, columns)
