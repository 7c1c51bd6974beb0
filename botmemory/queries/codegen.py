"""Functions written out for a model: a loop over its fields would take two to three times as long.

Only names of fields and numbers get into their text; every value is handed over beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from ..models import BaseModel, clean_field

__all__ = ["binder", "check", "checker", "maker", "tuple_maker", "written"]


def written(text: str, known: dict[str, Any]) -> Any:
    """Return the function `written` that a text defines."""
    exec(text, known)  # noqa: S102  (names of fields and numbers, nothing from outside)
    return known["written"]


def binder(field: Any) -> Callable[[Any], Any] | None:
    """Return what makes a checked value one of the driver's; None where it is one already."""
    convert: Callable[[Any], Any] | None = getattr(field, "to_driver", field.db_value)
    return convert


def reader(field: Any) -> Callable[[Any], Any] | None:
    """Return what makes a field's value of one of the driver's; None where it is one already."""
    convert: Callable[[Any], Any] | None = getattr(field, "from_driver", field.python_value)
    return convert


def check(field: Any, value: Any) -> Any:
    """Return a checked value; a row stays the row, so that a reference to it needs no look-up."""
    cleaned = clean_field(field, value)
    return value if isinstance(value, BaseModel) else cleaned


@cache
def checker(model: type[BaseModel]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return what makes a checked value for every field of the values that are given.

    It does `{name: default() if values.get(name) is None else check(values[name]), ...}`. An id
    that the database counts is left out where it is not given.
    """
    known: dict[str, Any] = {}
    items, last = [], ""
    fields: list[Any] = model._meta.sorted_fields
    for number, field in enumerate(fields):
        plain = field not in model._meta.refs and hasattr(field, "clean")
        known[f"check{number}"] = field.clean if plain else partial(check, field)
        given, checked = f"(value := get({field.name!r}))", f"check{number}(value)"
        if callable(field.default):
            known[f"default{number}"] = field.default
            absent = f"default{number}()"
        elif field.default is not None:
            known[f"default{number}"] = field.default
            absent = f"default{number}"
        elif field.auto_increment:
            last = f"if {given} is not None: ready[{field.name!r}] = {checked}"
            continue
        elif field.null:
            absent = "None"
        else:
            known[f"refuse{number}"] = partial(check, field, None)
            absent = f"refuse{number}()"
        items.append(f"{field.name!r}: {absent} if {given} is None else {checked}")
    check_all: Callable[[Mapping[str, Any]], dict[str, Any]] = written(
        f"""
def written(values):
    get = values.get
    ready = {{{", ".join(items)}}}
    {last}
    return ready
""",
        known,
    )
    return check_all


@cache
def maker(model: type[BaseModel]) -> Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]]:
    """Return what makes models of rows that hold every field in the order of the model.

    It does `made.__data__ = {name: read(value), ...}` for each row.
    """
    known: dict[str, Any] = {"new": model.__new__, "model": model}
    fields: list[Any] = model._meta.sorted_fields
    columns, read = _read(fields, known)
    items = [f"{field.name!r}: {value}" for field, value in zip(fields, read, strict=True)]
    make: Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]] = written(
        f"""
def written(rows):
    for ({columns}) in rows:
        made = new(model)
        made.__data__ = {{{", ".join(items)}}}
        made.__rel__ = {{}}
        made._dirty = set()
        yield made
""",
        known,
    )
    return make


@cache
def tuple_maker(
    model: type[BaseModel], names: tuple[str, ...]
) -> Callable[[Iterable[tuple[Any, ...]]], Iterator[tuple[Any, ...]]]:
    """Return what makes tuples of the fields' values of rows that hold these fields."""
    known: dict[str, Any] = {}
    columns, read = _read([model._meta.fields[name] for name in names], known)
    text = f"""
def written(rows):
    for ({columns}) in rows:
        yield ({", ".join(read)},)
"""
    make: Callable[[Iterable[tuple[Any, ...]]], Iterator[tuple[Any, ...]]] = written(text, known)
    return make


def _read(fields: list[Any], known: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the names of a row's columns, and what reads the value of each."""
    values = []
    for number, field in enumerate(fields):
        value = f"c{number}"
        if (read := reader(field)) is not None:
            known[f"read{number}"] = read
            value = f"read{number}(c{number})"
            if field.null:
                value = f"None if c{number} is None else {value}"
        values.append(value)
    return "".join(f"c{number}, " for number in range(len(fields))), values
