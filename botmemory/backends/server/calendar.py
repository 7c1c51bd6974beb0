"""Moments in the words of a server, whose sessions are in UTC."""

from __future__ import annotations

from typing import Any

from peewee import Field, fn

__all__ = ["hour_of"]


def hour_of(field: Field[Any]) -> Any:
    """Return the moment at which a moment's hour began."""
    return fn.DATE_TRUNC("hour", field)
