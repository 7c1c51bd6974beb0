"""What kinds of values the columns of a table hold."""

from __future__ import annotations

from typing import Any

import peewee

from ..fields import MetadataField, UtcDateTimeField
from ..models import BaseModel

__all__ = ["columns_of", "kind_of"]


def columns_of(model: type[BaseModel]) -> dict[str, str]:
    """Return the kind of each column, by its name."""
    return {field.column_name: kind_of(field) for field in model._meta.sorted_fields}


def kind_of(field: Any) -> str:
    """Return what kind of value a column holds: timestamp, id, json, number, whole or text."""
    if isinstance(field, peewee.ForeignKeyField):
        return kind_of(field.rel_field)
    for kinds, name in (
        (UtcDateTimeField, "timestamp"),
        (MetadataField, "json"),
        (peewee.FloatField, "number"),
        (peewee.IntegerField, "whole"),
        (peewee.UUIDField, "id"),
    ):
        if isinstance(field, kinds):
            return name
    return "text"
