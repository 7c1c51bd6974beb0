"""Rows of Arrow's batches, also of those with values that Python cannot have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import show


def rows_of(batches: Iterable[Any], names: list[str]) -> Iterator[dict[str, Any] | str]:
    """Yield the rows of batches, or what is wrong with one."""
    for batch in batches:
        try:
            columns = [column.to_pylist() for column in batch.columns]
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
            row[name] = column[number].as_py()
        except (ValueError, OverflowError):
            return f"{name}: {show(_stored(column[number]))} is no value of its type {column.type}"
    return row


def _stored(value: Any) -> Any:
    """Return a value as Arrow stores it: bytes of a text, and a time as a number."""
    return (
        bytes(value.as_buffer()) if hasattr(value, "as_buffer") else getattr(value, "value", value)
    )
