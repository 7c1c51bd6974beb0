"""The columns of a table, as files and data frames have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..columns import Column, Kind, column_of
from ..errors import ValidationError
from ..models import BaseModel


def columns_of(model: type[BaseModel]) -> Mapping[str, Column]:
    """Return how files have each column, by the name of the column.

    Raises:
        ValidationError: A field has a type that files cannot bring back; the message names it.
    """
    columns = {}
    for field in model._meta.sorted_fields:
        column = column_of(field)
        if column is None:
            raise ValidationError(
                f"{field.name}: files cannot hold the values of a {type(field).__name__}; use one "
                "of Peewee's field types",
                field=field.name,
            )
        columns[field.column_name] = column
    return columns


def kind_of(field: Any) -> Kind:
    """Return the kind of the values of a field of `Trade`, `Signal` or `CashFlow`."""
    column = column_of(field)
    if column is None:
        raise ValidationError(f"{field.name}: no kind of column is known for it", field=field.name)
    return column.kind


def arrow_type(kind: Kind) -> Any:
    """Return the type of pyarrow for a kind of values; decimals, ids and JSON are text."""
    import pyarrow as pa

    types = {
        "utc": lambda: pa.timestamp("us", tz="UTC"),
        "naive": lambda: pa.timestamp("us"),
        "time": lambda: pa.time64("us"),
    }
    make = types.get(kind.arrow)
    return make() if make else pa.type_for_alias(kind.arrow)
