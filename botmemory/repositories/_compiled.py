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

__all__ = ["Compiled", "Param", "compiled", "maker"]

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
    """The SQL of a query, and how the values of a run are bound to it."""

    def __init__(self, query: Any) -> None:
        self.sql, values = db.get_sql_context().sql(query).query()
        params = [value for value in values if isinstance(value, Param)]
        self.names = [param.name for param in params]
        self._constants = [(n, v) for n, v in enumerate(values) if not isinstance(v, Param)]
        self._convert = [(n, p.convert) for n, p in enumerate(params) if p.convert is not None]

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Return what the database is given: the values in their order, as it stores them."""
        bound = [values[name] for name in self.names]
        for number, convert in self._convert:
            value = bound[number]
            if value is not None:
                bound[number] = convert(value)
        for number, constant in self._constants:
            bound.insert(number, constant)
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


def binder(field: Any) -> Callable[[Any], Any] | None:
    """Return what makes a checked value one of the driver's; None where it is one already."""
    convert: Callable[[Any], Any] | None = getattr(field, "to_driver", field.db_value)
    return convert


def reader(field: Any) -> Callable[[Any], Any] | None:
    """Return what makes a field's value of one of the driver's; None where it is one already."""
    convert: Callable[[Any], Any] | None = getattr(field, "from_driver", field.python_value)
    return convert


def maker(model: type[Row]) -> Callable[[Iterable[tuple[Any, ...]]], Iterator[Row]]:
    """Return what makes models of rows that hold every field in the order of the model."""
    make = _makers.get(model)
    if make is None:
        make = _makers[model] = _maker(model)
    return make


_makers: dict[type[BaseModel], Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]]] = {}


def _maker(model: type[BaseModel]) -> Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]]:
    """Write the function that makes models of rows: spelled out, it takes half the time.

    What it does is `made.__data__ = {name: read(value), ...}` for each row.
    """
    known: dict[str, Any] = {"new": model.__new__, "model": model}
    columns, items = [], []
    for number, field in enumerate(model._meta.sorted_fields):
        column, read = f"c{number}", reader(field)
        columns.append(column)
        item = column
        if read is not None:
            known[f"read{number}"] = read
            item = f"read{number}({column})"
            if field.null:
                item = f"None if {column} is None else {item}"
        items.append(f"{field.name!r}: {item}")
    source = f"""
def make(rows):
    for ({", ".join(columns)},) in rows:
        made = new(model)
        made.__data__ = {{{", ".join(items)}}}
        made.__rel__ = {{}}
        made._dirty = set()
        yield made
"""
    exec(source, known)  # noqa: S102  (names of fields and numbers, nothing from outside)
    make: Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]] = known["make"]
    return make
