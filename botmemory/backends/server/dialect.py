"""SQL expressions that are the server's own: JSON, JSON conditions, hours."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import peewee
from peewee import SQL, Case, Cast, Entity, Expression, Field, Select, Value, fn

from ..._values import double_bound

_TEXT_OR_POWER = re.compile(r'"(?:[^"\\]|\\.)*"|-?[\d.]+e\+\d+')


class ServerJSONMethods(peewee.PostgresqlJSONMethods):  # type: ignore[name-defined,misc]  # pyright: ignore[reportAttributeAccessIssue]
    """Write numbers so that a float stays one in jsonb, which stores decimals."""

    def make_value_wrapper(self, dumps: Callable[[object], str]) -> Callable[[object], Any]:
        wrapper: Callable[[object], Any] = super().make_value_wrapper(
            lambda value: json_text(dumps(value))
        )
        return wrapper


def json_text(text: str) -> str:
    """Return JSON text with 1e+16 as 10000000000000000.0, which jsonb would return as an int."""
    if "e+" not in text:
        return text
    return _TEXT_OR_POWER.sub(lambda match: _number(match[0]), text)


def _number(text: str) -> str:
    return text if text.startswith('"') else f"{Decimal(text):f}.0"


def json_match(
    field: peewee.JSONField,
    keys: Sequence[str],
    equals: Any,
    minimum: float | None,
    maximum: float | None,
) -> Expression:
    """Return the condition on a value in a JSON column; only numbers compare as numbers."""
    # -> and ->> with a text find keys of objects, not elements of arrays
    names = [Cast(Value(key, converter=False), "text") for key in keys]
    parent: Any = field
    for name in names[:-1]:
        parent = Expression(parent, "->", name)
    value = Expression(parent, "->", names[-1])
    kind = fn.jsonb_typeof(value)
    if equals is None and minimum is None and maximum is None:
        return kind.is_null(False)
    text = Expression(parent, "->>", names[-1])
    is_match = _scalar_match(kind, text, equals, minimum, maximum)
    # jsonb_array_elements raises on another value, and the order of AND is not guaranteed
    array = Case(None, [(kind == "array", value)], Cast(Value("[]", converter=False), "jsonb"))
    elements = Select(columns=[fn.jsonb_array_elements(array).alias("value")]).alias("element")
    element = Entity("element", "value")
    text = Expression(element, "#>>", Cast(Value("{}", converter=False), "text[]"))
    element_matches = _scalar_match(fn.jsonb_typeof(element), text, equals, minimum, maximum)
    exists = fn.EXISTS(Select([elements], [SQL("1")]).where(element_matches))
    # without the type, queries that find no array take up to twice as long
    return is_match | ((kind == "array") & exists)


def _scalar_match(
    kind: Any, text: Any, equals: Any, minimum: float | None, maximum: float | None
) -> Expression:
    """Return the condition on one JSON value that is neither an array nor an object.

    Args:
        kind: Its type, as `jsonb_typeof` names it.
        text: The value as text, without the quotes of JSON.
        equals: As for `json_match`.
        minimum: As for `json_match`.
        maximum: As for `json_match`.
    """

    def matches(compare: Callable[[Any, Any], Any], bound: int | float) -> Any:
        exact = Value(Decimal(bound), converter=False)
        double = Cast(Value(double_bound(bound, compare), converter=False), "float8")
        # jsonb prints a float with a point, and a whole number without
        is_match = Case(
            None,
            [(fn.strpos(text, ".") > 0, compare(Cast(text, "float8"), double))],
            compare(Cast(text, "numeric"), exact),
        )
        return Case(None, [(kind == "number", is_match)])

    condition: Expression = kind.is_null(False)
    if minimum is not None:
        condition &= matches(operator.ge, minimum)
    if maximum is not None:
        condition &= matches(operator.le, maximum)
    if isinstance(equals, bool):
        condition &= (kind == "boolean") & (text == str(equals).lower())
    elif isinstance(equals, str):
        condition &= (kind == "string") & (text == Value(equals, converter=False))
    elif equals is not None:
        condition &= matches(operator.eq, equals)
    return condition


def hour_of(field: Field[Any]) -> Any:
    """Return the start of a timestamp's hour in UTC."""
    return fn.DATE_TRUNC("hour", field, "UTC")
