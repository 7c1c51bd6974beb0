"""Generate the functions that turn the driver's rows into models.

A loop over the fields takes twice as long. The code contains only names of fields and numbers;
every value is passed to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from ..backends.peewee_internals import FILL_ROW, initialized_row
from ..models import BaseModel, overrides

Maker = Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]]


@cache
def maker(model: type[BaseModel]) -> Maker:
    """Return a function that makes models of rows with every field in the order of the model.

    It does what `new_row(model, {name: convert(value), ...}, {})` does for each row, and calls
    `__init__` where the model has one of its own.
    """
    fields: list[Any] = model._meta.sorted_fields
    columns, values, namespace = _columns_and_values(fields)
    items = [f"{field.name!r}: {value}" for field, value in zip(fields, values, strict=True)]
    if overrides(model, "__init__"):
        return _generated(
            f"""
def generated(rows):
    for ({columns}) in rows:
        yield initialized_row(model, {{{", ".join(items)}}}, {{}})
""",
            namespace | {"initialized_row": initialized_row, "model": model},
        )
    return _generated(
        f"""
def generated(rows):
    for ({columns}) in rows:
        row = new(model)
        own = row.__dict__
        {FILL_ROW.format(values=f"{{{', '.join(items)}}}")}
        yield row
""",
        namespace | {"new": model.__new__, "model": model},
    )


@cache
def tuple_maker(model: type[BaseModel], names: tuple[str, ...]) -> Maker:
    """Return a function that makes tuples of rows with these fields."""
    columns, values, namespace = _columns_and_values([model._meta.fields[name] for name in names])
    return _generated(
        f"""
def generated(rows):
    for ({columns}) in rows:
        yield ({", ".join(values)},)
""",
        namespace,
    )


def _columns_and_values(fields: list[Any]) -> tuple[str, list[str], dict[str, Any]]:
    """Return code for the columns of a row and for the value of each field, and what it uses."""
    values, namespace = [], {}
    for number, field in enumerate(fields):
        value = f"c{number}"
        convert = getattr(field, "from_driver", field.python_value)
        if convert is not None:
            namespace[f"convert{number}"] = convert
            value = f"convert{number}(c{number})"
            if field.null:
                value = f"None if c{number} is None else {value}"
        values.append(value)
    return "".join(f"c{number}, " for number in range(len(fields))), values, namespace


def _generated(code: str, namespace: dict[str, Any]) -> Maker:
    exec(code, namespace)  # noqa: S102  (names of fields and numbers, nothing from outside)
    generated: Maker = namespace["generated"]
    return generated
