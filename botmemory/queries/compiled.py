"""Peewee queries, compiled once and run many times.

A query is written as ever, with a `Param` where a value will stand. What Peewee makes of it is kept
for each backend, so that a call binds its values and costs about what the database costs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import peewee

from ..database import db
from .codegen import binder, written

__all__ = ["Compiled", "Param", "compiled"]

P = ParamSpec("P")


class Param(peewee.Node):
    """A value that each run brings along: by this name, and as this field stores it."""

    def __init__(self, name: str, field: Any = None) -> None:
        self.name = name
        self.convert = None if field is None else binder(field)

    def __sql__(self, ctx: Any) -> Any:
        ctx._values.append(self)
        return ctx.literal(ctx.state.param or "?")


class Compiled:
    """The SQL of a query, and what lists the values of a run as the database is given them."""

    def __init__(self, query: Any) -> None:
        self.sql, values = db.get_sql_context().sql(query).query()
        self.names = [value.name for value in values if isinstance(value, Param)]
        self.bind = _write_bind(values)


def _write_bind(values: Sequence[Any]) -> Callable[[Mapping[str, Any]], list[Any]]:
    """Write the function that does `[convert(values[name]), constant, ...]`; None stays None."""
    known: dict[str, Any] = {}
    items = []
    for number, param in enumerate(values):
        if not isinstance(param, Param):
            known[f"constant{number}"] = param
            items.append(f"constant{number}")
        elif param.convert is None:
            items.append(f"values[{param.name!r}]")
        else:
            known[f"convert{number}"] = param.convert
            value = f"(value := values[{param.name!r}])"
            items.append(f"None if {value} is None else convert{number}(value)")
    bind: Callable[[Mapping[str, Any]], list[Any]] = written(
        f"def written(values):\n    return [{', '.join(items)}]", known
    )
    return bind


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
