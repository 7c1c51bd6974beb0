"""Code generated for a model that makes its rows: a loop over the fields takes twice as long.

Only names of fields and numbers get into the code; every value is handed over beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from ..backends.peewee_internals import FILL_ROW
from ..models import BaseModel

__all__ = ["maker", "tuple_maker"]


def _generated(text: str, known: dict[str, Any]) -> Any:
    """Return the function `generated` that a text defines."""
    exec(text, known)  # noqa: S102  (names of fields and numbers, nothing from outside)
    return known["generated"]


def _reader(field: Any) -> Callable[[Any], Any] | None:
    """Return what makes a field's value of one of the driver's; None where it is one already."""
    convert: Callable[[Any], Any] | None = getattr(field, "from_driver", field.python_value)
    return convert


@cache
def maker(model: type[BaseModel]) -> Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]]:
    """Return what makes models of rows that hold every field in the order of the model.

    It does what `new_row(model, {name: read(value), ...}, {})` does for each row.
    """
    known: dict[str, Any] = {"new": model.__new__, "model": model}
    fields: list[Any] = model._meta.sorted_fields
    columns, read = _read(fields, known)
    items = [f"{field.name!r}: {value}" for field, value in zip(fields, read, strict=True)]
    make: Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]] = _generated(
        f"""
def generated(rows):
    for ({columns}) in rows:
        row = new(model)
        {FILL_ROW.format(values=f"{{{', '.join(items)}}}")}
        yield row
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
def generated(rows):
    for ({columns}) in rows:
        yield ({", ".join(read)},)
"""
    make: Callable[[Iterable[tuple[Any, ...]]], Iterator[tuple[Any, ...]]] = _generated(text, known)
    return make


def _read(fields: list[Any], known: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the names of a row's columns, and what reads the value of each."""
    values = []
    for number, field in enumerate(fields):
        value = f"c{number}"
        if (read := _reader(field)) is not None:
            known[f"read{number}"] = read
            value = f"read{number}(c{number})"
            if field.null:
                value = f"None if c{number} is None else {value}"
        values.append(value)
    return "".join(f"c{number}, " for number in range(len(fields))), values
