"""Rows of a file in any format, and their values as a table of text has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ...columns import Column
from ...errors import show

# number, text, and the row; or what is wrong with it
Line = tuple[int, str, dict[str, Any] | str]
# checks the names of the columns of a file, with the number and the text of their line
CheckHeader = Callable[[list[str], int | None, str], None]
Columns = Mapping[str, Column]
Progress = Callable[[int, int], object]  # called with what is done, and all there is


def with_json(row: dict[str, Any], columns: Columns) -> dict[str, Any] | str:
    """Return the row with the text in its JSON columns parsed, or what is wrong with it."""
    for name, value in row.items():
        column = columns.get(name)
        if column is not None and column.kind.name == "json" and isinstance(value, str):
            try:
                row[name] = json.loads(value)
            except ValueError:
                return f"{name}: {show(value)} is not JSON"
            except RecursionError:
                return f"{name}: {show(value)} is nested too deeply"
    return row


def to_cell(value: Any, column: Column) -> Any:
    """Return a value for a table without nested values, where JSON is text."""
    plain = column.to_json(value)
    if column.kind.name == "json" and value is not None:
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)
    return plain
