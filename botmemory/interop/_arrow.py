"""Rows of Arrow's batches, also of those with values that Python cannot have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Any

from ..errors import show


def rows_of(batches: Iterable[Any], names: list[str]) -> Iterator[dict[str, Any] | str]:
    """Yield the rows of batches, or what is wrong with one."""
    for batch in batches:
        try:
            columns = [_values(column) for column in batch.columns]
        except (ValueError, OverflowError):  # Arrow's own errors are a ValueError
            for number in range(batch.num_rows):
                yield _row(batch, number, names)
        else:
            for values in zip(*columns, strict=True):
                yield dict(zip(names, values, strict=True))


def _row(batch: Any, number: int, names: list[str]) -> dict[str, Any] | str:
    row = {}
    for name, column in zip(names, batch.columns, strict=True):
        try:
            [row[name]] = _values(column.slice(number, 1))
        except (ValueError, OverflowError):
            return f"{name}: {show(_stored(column[number]))} is no value of its type {column.type}"
    return row


def _values(column: Any) -> list[Any]:
    """Return the values of a column; its times in UTC where they have a time zone.

    Arrow would look up the time zone in the database of the system, and Windows has none.
    """
    if hasattr(column, "dictionary_decode"):
        column = column.dictionary_decode()
    if getattr(column.type, "tz", None) is None:
        values: list[Any] = column.to_pylist()
        return values
    times = column.cast("int64").cast(f"timestamp[{column.type.unit}]").to_pylist()
    return [time if time is None else time.replace(tzinfo=UTC) for time in times]


def _stored(value: Any) -> Any:
    """Return a value as Arrow stores it: bytes of a text, and a time as a number."""
    return (
        bytes(value.as_buffer()) if hasattr(value, "as_buffer") else getattr(value, "value", value)
    )
