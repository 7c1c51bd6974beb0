"""Expressions that a server writes in its own way: JSON, conditions inside it, hours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import peewee
from peewee import (  # type: ignore[attr-defined]
    Case,
    Cast,
    Expression,
    Field,
    PostgresqlJSONMethods,
    Value,
    fn,
)

__all__ = ["ServerJSONMethods", "hour_of", "json_match", "json_text"]

_TEXT_OR_POWER = re.compile(r'"(?:[^"\\]|\\.)*"|-?[\d.]+e\+\d+')


class ServerJSONMethods(PostgresqlJSONMethods):  # type: ignore[misc]
    """Write numbers so that jsonb, which keeps them as decimals, gives a float back as a float."""

    def make_value_wrapper(self, dumps: Callable[[object], str]) -> Callable[[object], Any]:
        wrapper: Callable[[object], Any] = super().make_value_wrapper(
            lambda value: json_text(dumps(value))
        )
        return wrapper


def json_text(text: str) -> str:
    """Return JSON as jsonb is to get it: 1e+16 as 10000000000000000.0, or it would be an int."""
    if "e+" not in text:
        return text
    return _TEXT_OR_POWER.sub(lambda found: _number(found[0]), text)


def _number(text: str) -> str:
    return text if text.startswith('"') else f"{Decimal(text):f}.0"


def json_match(
    field: peewee.JSONField,
    keys: Sequence[str],
    equals: Any,
    minimum: float | None,
    maximum: float | None,
) -> Expression:
    """Return the condition on a value inside a JSON column; numbers compare as numbers."""
    # -> and ->> with a text look into objects only
    names = [Cast(Value(key, converter=False), "text") for key in keys]
    parent: Any = field
    for name in names[:-1]:
        parent = Expression(parent, "->", name)
    kind = fn.jsonb_typeof(Expression(parent, "->", names[-1]))
    text = Expression(parent, "->>", names[-1])
    number = Case(None, [(kind == "number", Cast(text, "numeric"))])
    found = kind.is_null(False)
    if minimum is not None:
        found &= number >= _exact(minimum)
    if maximum is not None:
        found &= number <= _exact(maximum)
    if isinstance(equals, bool):
        found &= (kind == "boolean") & (text == str(equals).lower())
    elif isinstance(equals, str):
        found &= (kind == "string") & (text == Value(equals, converter=False))
    elif equals is not None:
        found &= number == _exact(equals)
    return found


def _exact(number: float) -> Value:
    # a double would be rounded to 15 digits on its way to numeric
    return Value(Decimal(repr(number)), converter=False)


def hour_of(field: Field[Any]) -> Any:
    """Return the timestamp at which a timestamp's hour began: sessions are in UTC."""
    return fn.DATE_TRUNC("hour", field)
