"""Rows of a file in any format, and their values as a table of text has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ...columns import Column

Line = tuple[int, str, dict[str, Any] | None]  # number, text, and the row; None if it is invalid
Columns = Mapping[str, Column]
Progress = Callable[[int, int], object]  # called with what is done, and all there is


def with_json(row: dict[str, Any], columns: Columns) -> dict[str, Any] | None:
    """Return the row with the text in its JSON columns parsed; None if one is invalid."""
    try:
        for name, value in row.items():
            column = columns.get(name)
            if column is not None and column.kind.name == "json" and isinstance(value, str):
                row[name] = json.loads(value)
    except ValueError:
        return None
    return row


def to_cell(value: Any, column: Column) -> Any:
    """Return a value for a table without nested values, where JSON is text."""
    plain = column.to_json(value)
    if column.kind.name == "json" and value is not None:
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)
    return plain
