"""The values that the structures of ccxt have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

from ...errors import ValidationError, show
from .._ids import text_of_id

ROWS_PER_TRANSACTION = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = 1e11, 1e14  # milliseconds: the years 1973 and 5138


def require_rows(name: str, rows: object, what: str) -> None:
    """Refuse an argument that is not a list, or another iterable, of rows."""
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise ValidationError(f"{name}: {show(rows)} is not a list of {what}", field=name)


def number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    # ccxt returns numbers as text if its `number` is str
    if isinstance(value, (str, Real, Decimal)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            if not (isinstance(value, str) and "_" in value):  # 1_000, as Python writes it
                return float(value)
    raise ValidationError(f"{name}: {show(value)} is not a number")


def timestamp(row: Mapping[str, Any]) -> datetime:
    """Return the time of a row from `timestamp` in milliseconds, or from `datetime`."""
    milliseconds, text = row.get("timestamp"), row.get("datetime")
    try:
        if milliseconds is not None and not isinstance(milliseconds, bool):
            number = float(milliseconds)
            if not EARLIEST <= number < LATEST:
                unit = "seconds" if number < EARLIEST else "microseconds"
                raise ValidationError(
                    f"timestamp: {show(milliseconds)} is not in milliseconds since 1970; it may be "
                    f"in {unit}"
                )
            return EPOCH + timedelta(milliseconds=number)
        if text:
            return datetime.fromisoformat(text)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ValidationError):
            raise
    raise ValidationError(
        f"timestamp: neither {show(milliseconds)} nor datetime {show(text)} is a time"
    )


def id_of(row: Mapping[str, Any]) -> str:
    """Return the id of a row as text, or "" if it has none."""
    return text_of_id("id", row.get("id"))
