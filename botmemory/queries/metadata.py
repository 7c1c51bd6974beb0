"""Find rows by a value in their metadata."""

from __future__ import annotations

from typing import Any, SupportsFloat, TypeVar

from .._values import checked_key, plain_json, to_exact
from ..database import db
from ..models import BaseModel
from . import read

Row = TypeVar("Row", bound=BaseModel)


def newest_first(
    model: type[Row],
    field: str,
    key: str,
    filters: dict[str, Any],
    limit: int | None,
    *,
    equals: Any,
    minimum: SupportsFloat | None,
    maximum: SupportsFloat | None,
) -> list[Row]:
    """Return the rows whose JSON field has a key, with a value that matches, newest first.

    Args:
        model: The model.
        field: The name of its JSON field.
        key: The key; a dotted one is the key of a nested object.
        filters: The validated filters on other fields, from `read.filters`.
        limit: The maximum number of rows; None for all.
        equals: Text, a number or a bool; None for any value.
        minimum: The lower bound, included; None for no bound.
        maximum: The upper bound, included; None for no bound.

    Raises:
        ValidationError: An argument is invalid.
    """
    path = checked_key(key).split(".")
    lower = None if minimum is None else to_exact("minimum", minimum)
    upper = None if maximum is None else to_exact("maximum", maximum)
    column = model._meta.fields[field]
    match = db.json_match(column, path, _to_json_scalar(equals), lower, upper)
    query = read.select_where(model, filters, match)
    return read.fetch(query.limit(read.checked_limit(limit)), filters)


def _to_json_scalar(value: Any) -> str | int | float | bool | None:
    """Return `equals` as text, a number or a bool."""
    if value is None:
        return None
    plain = plain_json(value, "equals", 0)
    if isinstance(plain, (str, bool)):
        return plain
    return to_exact("equals", value if plain is None else plain)
