"""Peewee queries, compiled once and run many times.

A query is written as ever, with a `Param` where a value will stand. What Peewee makes of it is kept
for each backend, so that a call binds its values and costs about what the database costs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import peewee

from ..database import db
from ..models import BaseModel

__all__ = ["Compiled", "Param", "bind", "compiled", "models_of"]

P = ParamSpec("P")
Row = TypeVar("Row", bound=BaseModel)


class Param(peewee.Node):
    """A value that each run brings along: by this name, and as this field stores it."""

    def __init__(self, name: str, field: Any = None) -> None:
        self.name = name
        self.convert = None if field is None else binder(field)

    def __sql__(self, ctx: Any) -> Any:
        ctx._values.append(self)
        return ctx.literal(ctx.state.param or "?")


class Compiled:
    """The SQL of a query, and what is bound to it."""

    __slots__ = ("params", "sql")

    def __init__(self, query: Any) -> None:
        self.sql, values = db.get_sql_context().sql(query).query()
        self.params = [
            (value.name, value.convert) if isinstance(value, Param) else (None, value)
            for value in values
        ]


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


def bind(query: Compiled, values: Mapping[str, Any]) -> list[Any]:
    """Return what the database is given: the values in their order, as it stores them."""
    bound = []
    for name, convert in query.params:
        if name is None:
            bound.append(convert)  # a constant of the query
            continue
        value = values[name]
        bound.append(value if convert is None or value is None else convert(value))
    return bound


def binder(field: Any) -> Callable[[Any], Any] | None:
    """Return what makes a checked value one of the driver's; None where it is one already."""
    convert: Callable[[Any], Any] | None = getattr(field, "to_driver", field.db_value)
    return convert


def reader(field: Any) -> Callable[[Any], Any] | None:
    """Return what makes a field's value of one of the driver's; None where it is one already."""
    convert: Callable[[Any], Any] | None = getattr(field, "from_driver", field.python_value)
    return convert


def models_of(model: type[Row], rows: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    """Yield the models of rows that hold every field in the order of the model."""
    fields: Any = model._meta.sorted_fields
    names = [field.name for field in fields]
    convert = [(field.name, read) for field in fields if (read := reader(field)) is not None]
    new: Any = model.__new__
    for row in rows:
        data = dict(zip(names, row, strict=True))
        for name, read in convert:
            value = data[name]
            if value is not None:
                data[name] = read(value)
        made = new(model)
        made.__data__, made.__rel__, made._dirty = data, {}, set()
        yield made
