"""SQL expressions that are SQLite's own: JSON conditions, hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peewee
from peewee import Case, Expression, Field, Value, fn

from ...errors import ValidationError, show


def json_match(
    field: peewee.JSONField,
    keys: Sequence[str],
    equals: Any,
    minimum: float | None,
    maximum: float | None,
) -> Expression:
    """Return the condition on a value in a JSON column; only numbers compare as numbers."""
    if any('"' in key for key in keys):
        raise ValidationError(
            f"key: {show('.'.join(keys))} contains a double quote, which SQLite cannot look up",
            field="key",
        )
    names = [key.replace("\\", "\\\\") for key in keys]
    path = Value("".join(["$", *(f'."{name}"' for name in names)]), converter=False)
    kind = fn.json_type(field, path)
    value = fn.json_extract(field, path)
    number = Case(None, [(kind.in_(("integer", "real")), value)])
    condition = kind.is_null(False)
    if minimum is not None:
        condition &= number >= Value(minimum, converter=False)
    if maximum is not None:
        condition &= number <= Value(maximum, converter=False)
    if isinstance(equals, bool):
        condition &= kind == ("true" if equals else "false")
    elif isinstance(equals, str):
        condition &= (kind == "text") & (value == Value(equals, converter=False))
    elif equals is not None:
        condition &= number == Value(equals, converter=False)
    return condition


def hour_of(field: Field[Any]) -> Any:
    """Return the text of a timestamp up to its hour, as in `2024-01-31 09`."""
    return fn.SUBSTR(field, 1, 13)
