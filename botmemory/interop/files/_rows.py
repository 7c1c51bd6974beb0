"""Rows of a file in any format, and their values as a file has them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

Line = tuple[int, str, dict[str, Any] | None]  # number, text, and the row; None if it is invalid
Progress = Callable[[int, int], object]  # called with what is done, and all there is


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
