"""What becomes of a row of a file whose unique values are recorded with other content."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import peewee

from ..._values import to_json
from ...backends.peewee_internals import values_of
from ...columns import json_value
from ...errors import DuplicateError
from ...models import BaseModel
from ...queries import read, write
from .._conflicts import Changes, OnConflict, alternative, differences
from ._identity import Checked, recorded_row

EXCHANGE_IDS = ("exchange_trade_id", "exchange_flow_id")
NAMESPACE = uuid.UUID("0f3b6ad2-6c1c-4e0c-9a0b-7d6a5b9c8e01")  # of ids of rows that are kept beside


def is_kept(model: type[BaseModel], row: Checked, names: tuple[str, ...]) -> bool:
    """Return whether a row is recorded beside the one with its unique values."""
    key = write.key_of(model)
    if names == (key.name,) and key.auto_increment:
        content = row.content() | {key.name: None}
        return any(
            not differences(values_of(other) | {key.name: None}, content)
            for other in _of_timestamp(model, row)
        )
    for values in _alternatives(model, row, names):
        existing = read.find(model, {name: values[name] for name in names})
        if existing is None:
            return False
        content = {name: values[name] for name in row.content()}
        if not differences(values_of(existing), content | {key.name: existing.get_id()}):
            return True
    return False


def last_step(
    model: type[BaseModel],
    row: Checked,
    names: tuple[str, ...],
    changes: Changes,
    on_conflict: OnConflict,
) -> Callable[[], None] | None:
    """Return what records a row that differs, or None."""
    if on_conflict == "update":
        return partial(_update, model, row, names, changes)
    return partial(_keep, model, row, names) if on_conflict == "keep_both" else None


def _update(model: type[BaseModel], row: Checked, names: tuple[str, ...], changes: Changes) -> None:
    existing, _ = recorded_row(model, [names], row.values)
    key = write.key_of(model).name
    if existing is not None:
        new = {name: value for name, (_, value) in changes.items() if name != key}
        write.update(model, existing, new)


def _keep(model: type[BaseModel], row: Checked, names: tuple[str, ...]) -> None:
    key = write.key_of(model)
    if names == (key.name,) and key.auto_increment:
        values = {name: value for name, value in row.values.items() if name != key.name}
        write.insert_autoincrement(model, values)
        return
    for values in _alternatives(model, row, names):
        if write.insert_if_new(model, values) is not None:
            return
    raise DuplicateError(
        f"{', '.join(names)}: both rows cannot be kept, because these columns are unique; use "
        "on_conflict='report' or 'update'"
    )


def _alternatives(
    model: type[BaseModel], row: Checked, names: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Yield the values with which a row may be kept beside the one that it differs from."""
    key = write.key_of(model)
    exchange_id = _exchange_id(names)
    for number in count(2):
        values = dict(row.values)
        if exchange_id:
            values[exchange_id] = alternative(values[exchange_id], number)
        elif number > 2 or names != (key.name,):
            return
        if key.auto_increment:
            values.pop(key.name, None)
        elif isinstance(key, peewee.UUIDField):
            fields = model._meta.fields
            content = [json_value(fields[name], values[name]) for name in sorted(row.given)]
            values[key.name] = uuid.uuid5(NAMESPACE, to_json([content, number]))
        yield values


def _exchange_id(names: tuple[str, ...]) -> str | None:
    return next((name for name in EXCHANGE_IDS if name in names), None)


def _of_timestamp(model: Any, row: Checked) -> Any:
    query = model.select()
    if "timestamp" in row.given:
        query = query.where(model.timestamp == row.values["timestamp"])
    return query.iterator()
