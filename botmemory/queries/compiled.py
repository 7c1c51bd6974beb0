"""Peewee queries, compiled once and run many times.

A query is written with Peewee as ever, with a `Param` in place of a value. Its SQL is kept for each
backend, so that a call binds its values and costs about what the database costs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import peewee

from ..database import db

__all__ = ["Compiled", "Param", "compiled"]

P = ParamSpec("P")


class _Slot:
    def __init__(self, name: str, field: Any) -> None:
        self.name = name
        # None: the value is what the driver takes already
        self.convert = None if field is None else getattr(field, "to_driver", field.db_value)


class Param(peewee.Value):
    """A value that each run brings along: by this name, and as this field stores it."""

    def __init__(self, name: str, field: Any = None) -> None:
        super().__init__(_Slot(name, field), converter=False)


class Compiled:
    """The SQL of a query, and what lists the values of a run as the driver is given them."""

    def __init__(self, query: Any) -> None:
        self.sql, values = db.get_sql_context().sql(query).query()
        # a constant of the query stands for itself
        self._params = [
            (v.name, v.convert, None) if isinstance(v, _Slot) else (None, None, v) for v in values
        ]
        self.names = [name for name, _, _ in self._params if name is not None]

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values of one run in the order of the SQL; None stays None."""
        bound = []
        for name, convert, constant in self._params:
            value = constant if name is None else values[name]
            bound.append(value if convert is None or value is None else convert(value))
        return bound


def compiled(build: Callable[P, Any]) -> Callable[P, Compiled]:
    """Make a function that builds a query return it compiled, once for each of its arguments."""
    known: dict[Hashable, Compiled] = {}

    @wraps(build)
    def find(*args: P.args, **kwargs: P.kwargs) -> Compiled:
        key = (type(db.obj), args)
        found = known.get(key)
        if found is None:
            found = known[key] = Compiled(build(*args, **kwargs))
        return found

    return find
