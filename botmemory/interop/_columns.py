"""The kinds of values in the columns of a table."""

from __future__ import annotations

from typing import Any

import peewee

from ..fields import MetadataField, UtcDateTimeField
from ..models import BaseModel

KINDS = (
    (UtcDateTimeField, "timestamp"),
    (MetadataField, "json"),
    (peewee.FloatField, "number"),
    (peewee.IntegerField, "integer"),
    (peewee.UUIDField, "id"),
)


def columns_of(model: type[BaseModel]) -> dict[str, str]:
    """Return the kind of each column by the name of the column."""
    return {field.column_name: kind_of(field) for field in model._meta.sorted_fields}


def kind_of(field: Any) -> str:
    """Return the kind of the values of a field: timestamp, json, number, integer, id or text."""
    if isinstance(field, peewee.ForeignKeyField):
        return kind_of(field.rel_field)
    return next((kind for field_class, kind in KINDS if isinstance(field, field_class)), "text")


def arrow_type(kind: str) -> Any:
    """Return the type of pyarrow for a kind of values; metadata and ids are text."""
    import pyarrow as pa

    if kind == "timestamp":
        return pa.timestamp("us", tz="UTC")
    return {"number": pa.float64(), "integer": pa.int64()}.get(kind, pa.string())
