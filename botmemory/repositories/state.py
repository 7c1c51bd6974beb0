"""Keep what a bot needs after a restart: the last candle, grid levels, cooldowns.

A value is any JSON value, by its key and the strategy that it belongs to; without a strategy, keys
are those of the bot as a whole. Times are in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from peewee import EXCLUDED, Expression, fn

from .._arguments import checked_call
from .._values import is_equal_json, plain_json, refuse, to_json, to_text
from ..backends.keys import key_of_state, refuse_state_of_many_keys
from ..backends.peewee_internals import values_of
from ..database import db
from ..models import State, clean_field, now
from ..queries import read, write
from ..queries.compiled import Param, compiled

__all__ = ["MISSING", "compare_and_set", "delete", "get", "items", "set"]

R = TypeVar("R")


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "state.MISSING"


MISSING = _Missing()
"""Stands for a key that has no value: what `compare_and_set` expects, or what `get` returns."""


@checked_call
def get(key: str, default: Any = None, *, strategy: str | None = None) -> Any:
    """Return the value of a key, or `default` where it has none.

    In `session_scope()` the value does not change until the end of the block, also in one with
    keys.

    Args:
        key: The key.
        default: What to return for a key without a value; `MISSING` tells it from a value that is
            None.
        strategy: The strategy of the key; None or "" for none.

    Raises:
        ValidationError: The key or the strategy is not such a name.
    """
    name = _name(key, strategy)
    row = _using_row(name, lambda: read.find(State, name))
    return default if row is None else values_of(row)["value"]


@checked_call
def set(key: str, value: Any, *, strategy: str | None = None) -> None:  # noqa: A001
    """Set the value of a key, whether it has one or not.

    A later call replaces the value of an earlier one: where several threads or processes set one
    key from what it was before, use `compare_and_set`, or read and set in a `session_scope()`.

    Args:
        key: The key, 1 to 128 printable characters.
        value: Any JSON value, checked as metadata is.
        strategy: The strategy of the key; None or "" for none.

    Raises:
        ValidationError: An argument is invalid; the message names it.
        DatabaseBusyError: Another writer held the database, or the key, for longer than
            `busy_timeout`.
        StorageError: The database cannot be written.
    """
    values = _row(key, value, strategy)
    _using_row(values, lambda: write.store(State, _upsert(), values))


@checked_call
def compare_and_set(key: str, expected: Any, value: Any, *, strategy: str | None = None) -> bool:
    """Set the value of a key if it has the expected one; return whether it was set.

    Of any number of threads and processes that expect the same value, one sets another value. Two
    values are equal if they are the same JSON: the order of keys in an object makes no difference,
    and 1 is equal to 1.0, but not to True.

    Args:
        key: The key, 1 to 128 printable characters.
        expected: The value that `get` has returned; `MISSING` for a key without a value. None is a
            value.
        value: Any JSON value, checked as metadata is.
        strategy: The strategy of the key; None or "" for none.

    Returns:
        True if the value was set; False if the key had another one, which is unchanged.

    Raises:
        ValidationError: As for `set`.
        DatabaseBusyError: As for `set`.
        StorageError: As for `set`.
    """
    values = _row(key, value, strategy)
    if isinstance(expected, _Missing):
        return _using_row(values, lambda: write.insert_if_new(State, values)) is not None
    values["expected"] = plain_json(expected, "expected", 0)
    return _using_row(values, lambda: _set_if_equal(values))


@checked_call
def delete(key: str, *, strategy: str | None = None) -> bool:
    """Delete the value of a key; return whether it had one.

    Args:
        key: The key.
        strategy: The strategy of the key; None or "" for none.

    Raises:
        ValidationError: As for `get`.
        DatabaseBusyError: As for `set`.
        StorageError: As for `set`.
    """
    name = _name(key, strategy)
    return bool(_using_row(name, lambda: write.change(State, _delete(), name)))


@checked_call
def items(prefix: str = "", *, strategy: str | None = None) -> dict[str, Any]:
    """Return the values of a strategy by their keys, in the order of the keys' characters.

    Args:
        prefix: Only the keys that begin with it, as it is: `%` and `_` stand for themselves, and
            letters of another case are others.
        strategy: The strategy of the keys; None or "" for none.

    Raises:
        ValidationError: An argument is invalid, or the block has keys: it could not keep others
            from setting another key with the prefix.
    """
    block_keys = db.current().block_keys()
    if block_keys is not None:
        refuse_state_of_many_keys(block_keys)
    text = to_text("prefix", prefix)
    if not text.isprintable():
        refuse("prefix", prefix, "contains a character that is not printable")
    values = {"strategy": _strategy(strategy), "prefix": text, "length": len(text)}
    rows = read.fetch_all(State, _of_strategy(bool(text)), values)
    found = {row.key: values_of(row)["value"] for row in rows}
    return {key: found[key] for key in sorted(found)}  # the server's order depends on its locale


def _strategy(strategy: str | None) -> Any:
    return clean_field(State.strategy, "" if strategy is None else strategy)


def _name(key: str, strategy: str | None) -> dict[str, Any]:
    """Return the validated strategy and key of a row."""
    return {"strategy": _strategy(strategy), "key": clean_field(State.key, key)}


def _row(key: str, value: Any, strategy: str | None) -> dict[str, Any]:
    """Return the validated values of a row that is set now."""
    new = {"value": clean_field(State.value, value), "updated_at": now()}
    return _name(key, strategy) | new


def _using_row(name: dict[str, Any], call: Callable[[], R]) -> R:
    """Call what reads or writes one row, which nobody else changes in the open block."""
    return db.current().using_row(key_of_state(name["strategy"], name["key"]), call)


def _param(field: Any) -> Param:
    return Param(field.name, field)


def _is_row() -> Any:
    return (State.strategy == _param(State.strategy)) & (State.key == _param(State.key))


@compiled
def _upsert() -> Any:
    query: Any = State.insert({field: _param(field) for field in State._meta.sorted_fields})
    new = {State.value: EXCLUDED.value, State.updated_at: EXCLUDED.updated_at}
    return query.on_conflict(conflict_target=[State.strategy, State.key], update=new)


def _set_if_equal(values: dict[str, Any]) -> bool:
    if values["expected"] is None:
        return bool(write.change(State, _update_if_equal("null"), values))
    if db.current().compares_json:
        return bool(write.change(State, _update_if_equal("json"), values))
    write.require_open_database(State)
    expected = to_json(values["expected"])
    # not with a function in SQL: signal handlers would write in the middle of the UPDATE
    while (text := read.scalar(_text(), values)) is not None and is_equal_json(text, expected):
        if write.change(State, _update_if_equal("text"), values | {"text": text}):
            return True
    return False


@compiled
def _text() -> Any:
    return State.select(fn.MAX(State.value.cast("TEXT"))).where(_is_row())


@compiled
def _update_if_equal(kind: str) -> Any:
    query: Any = State.update({field: _param(field) for field in (State.value, State.updated_at)})
    conditions = {
        "null": State.value.is_null(),
        "json": Expression(State.value, "=", Param("expected", State.value)),
        "text": State.value.cast("TEXT") == Param("text"),
    }
    return query.where(_is_row(), conditions[kind])


@compiled
def _delete() -> Any:
    return State.delete().where(_is_row())


@compiled
def _of_strategy(has_prefix: bool) -> Any:
    query = State.select().where(State.strategy == _param(State.strategy))
    # not LIKE, which takes % and _ for others and, on SQLite, letters of both cases for the same
    start = fn.SUBSTR(State.key, 1, Param("length"))
    return query.where(start == Param("prefix")) if has_prefix else query
