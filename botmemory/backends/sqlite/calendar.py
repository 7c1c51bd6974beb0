"""Moments in SQLite's words."""

from __future__ import annotations

from typing import Any

from peewee import Field, fn

__all__ = ["hour_of"]


def hour_of(field: Field[Any]) -> Any:
    """Return the text of a moment's hour, `2024-01-31 09`: moments are text of fixed width."""
    return fn.SUBSTR(field, 1, 13)
