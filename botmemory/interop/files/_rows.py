"""Rows of a file, and how one of them is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ...backends.peewee_internals import values_of
from ...errors import DuplicateError
from ...models import BaseModel
from ...queries import read, write

Line = tuple[int, str, dict[str, Any] | None]  # number, text, and the row; None if it is invalid
Progress = Callable[[int, int], object] | None  # called with what is done, and all there is
Values = dict[str, Any]  # checked, by the names of the fields
CheckedRow = tuple[Line, Values]
Issues = list[tuple[Line, Exception]]
Counts = Counter[bool]  # how many rows are new (True), and how many already existed (False)


def record_row(model: type[BaseModel], line: Line, values: Values) -> bool:
    """Record a row and return whether it is new; raise if another row has its key."""
    if write.insert_if_new(model, dict(values)) is not None:
        return True
    key = write.key_of(model).name
    existing = read.get_by_id(model, values[key]) if key in values else None
    require_same(model, existing, line, values)
    return False


def require_same(
    model: type[BaseModel], existing: BaseModel | None, line: Line, values: Values
) -> None:
    """Raise `DuplicateError` if the existing row differs in a value of the line."""
    if existing is None:
        raise DuplicateError(f"a {model.__name__} with these unique values already exists")
    key = write.key_of(model).name
    existing_values = values_of(existing)
    for name, value in values.items():
        field = model._meta.fields[name]
        if callable(field.default) and field.column_name not in (line[2] or {}):
            continue  # a default such as the time now, which is different each time
        if existing_values[name] != value:
            raise DuplicateError(
                f"{key}: {values[key]} already exists, and its {name} is "
                f"{existing_values[name]!r}, not {value!r}",
                id=existing_values[key],
            )
