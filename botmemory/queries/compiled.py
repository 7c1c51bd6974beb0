"""Peewee queries, compiled once and run many times.

A query is written with Peewee, with a `Param` in place of each value. Its SQL is cached for each
backend, so that a call only binds values.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import peewee

from ..columns import to_driver
from ..database import db

P = ParamSpec("P")


class _Slot:
    def __init__(self, name: str, field: Any) -> None:
        self.name = name
        # None: the driver takes the value as it is
        self.convert = None if field is None else to_driver(field)


class Param(peewee.Value):
    """A named parameter of a query, converted as this field stores it."""

    def __init__(self, name: str, field: Any = None) -> None:
        super().__init__(_Slot(name, field), converter=False)


class Compiled:
    """The SQL of a query and its parameters; `names` are their names in the order of the SQL."""

    def __init__(self, query: Any) -> None:
        self.sql, values = db.get_sql_context().sql(query).query()
        # a constant of the query has no name
        self._params = [
            (v.name, v.convert, None) if isinstance(v, _Slot) else (None, None, v) for v in values
        ]
        self.names = [name for name, _, _ in self._params if name is not None]

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values for the driver in the order of the SQL; None stays None."""
        params = []
        for name, convert, constant in self._params:
            value = constant if name is None else values[name]
            params.append(value if convert is None or value is None else convert(value))
        return params


def compiled(build: Callable[P, Any]) -> Callable[P, Compiled]:
    """Make a function that builds a query return it compiled; cache it by backend and arguments."""
    cache: dict[Hashable, Compiled] = {}

    @wraps(build)
    def cached(*args: P.args, **kwargs: P.kwargs) -> Compiled:
        key = (type(db.obj), args)
        query = cache.get(key)
        if query is None:
            query = cache[key] = Compiled(build(*args, **kwargs))
        return query

    return cached
