"""Expressions that SQLite writes in its own way: conditions inside JSON columns, hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee
from peewee import Case, Expression, Field, Value, fn

from ...errors import ValidationError, show

__all__ = ["hour_of", "json_match"]


def json_match(
    field: peewee.JSONField,
    keys: Sequence[str],
    equals: Any,
    minimum: float | None,
    maximum: float | None,
) -> Expression:
    """Return the condition on a value inside a JSON column; numbers compare as numbers."""
    if any('"' in key for key in keys):
        raise ValidationError(
            f"key: {show('.'.join(keys))} holds a double quote, which SQLite cannot look up",
            field="key",
        )
    names = [key.replace("\\", "\\\\") for key in keys]
    path = Value("".join(["$", *(f'."{name}"' for name in names)]), converter=False)
    kind = fn.json_type(field, path)
    value = fn.json_extract(field, path)
    number = Case(None, [(kind.in_(("integer", "real")), value)])
    found = kind.is_null(False)
    if minimum is not None:
        found &= number >= Value(minimum, converter=False)
    if maximum is not None:
        found &= number <= Value(maximum, converter=False)
    if isinstance(equals, bool):
        found &= kind == ("true" if equals else "false")
    elif isinstance(equals, str):
        found &= (kind == "text") & (value == Value(equals, converter=False))
    elif equals is not None:
        found &= number == Value(equals, converter=False)
    return found


def hour_of(field: Field[Any]) -> Any:
    """Return the text of a timestamp's hour, `2024-01-31 09`: a timestamp is text of one width."""
    return fn.SUBSTR(field, 1, 13)
