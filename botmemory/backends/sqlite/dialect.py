"""SQL expressions that are SQLite's own: JSON conditions, hours."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import peewee
from peewee import SQL, Case, Entity, Expression, Field, Select, Value, fn

from ..._values import double_bound
from ...errors import ValidationError, show

Compare = Callable[[Any, Any], Any]  # operator.ge, operator.le or operator.eq


def json_match(
    field: peewee.JSONField,
    keys: Sequence[str],
    equals: Any,
    minimum: float | None,
    maximum: float | None,
) -> Expression:
    """Return the condition on a value in a JSON column; only numbers compare as numbers."""
    if any('"' in key for key in keys):
        raise ValidationError(
            f"key: {show('.'.join(keys))} contains a double quote, which SQLite cannot look up",
            field="key",
        )
    names = [key.replace("\\", "\\\\") for key in keys]
    path = Value("".join(["$", *(f'."{name}"' for name in names)]), converter=False)
    kind = fn.json_type(field, path)
    if equals is None and minimum is None and maximum is None:
        return kind.is_null(False)
    digits = Expression(field, "->", path)
    is_match = _scalar_match(kind, fn.json_extract(field, path), digits, equals, minimum, maximum)
    # fullkey is the path of an element, in which the keys are quoted as in `path`
    digits = Expression(field, "->", Entity("element", "fullkey"))
    element_matches = _scalar_match(
        Entity("element", "type"), Entity("element", "value"), digits, equals, minimum, maximum
    )
    elements = Select([fn.json_each(field, path).alias("element")], [SQL("1")])
    exists = fn.EXISTS(elements.where(element_matches))
    return is_match | ((kind == "array") & exists)


def _scalar_match(
    kind: Any,
    value: Any,
    digits: Any,
    equals: Any,
    minimum: float | None,
    maximum: float | None,
) -> Expression:
    """Return the condition on one JSON value that is neither an array nor an object.

    Args:
        kind: Its type, as `json_type` names it.
        value: The value as SQLite reads it.
        digits: The value as JSON text.
        equals: As for `json_match`.
        minimum: As for `json_match`.
        maximum: As for `json_match`.
    """

    def matches(compare: Compare, bound: int | float) -> Any:
        if -(2**63) < bound < 2**63:
            number = Case(None, [(kind.in_(("integer", "real")), value)])
            return compare(number, Value(bound, converter=False))
        # SQLite reads an integer of more than 64 bits as a double, so its digits are compared
        double = Value(double_bound(bound, compare), converter=False)
        is_match = _compare_digits(compare, digits, int(bound))
        return ((kind == "real") & compare(value, double)) | ((kind == "integer") & is_match)

    condition: Expression = kind.is_null(False)
    if minimum is not None:
        condition &= matches(operator.ge, minimum)
    if maximum is not None:
        condition &= matches(operator.le, maximum)
    if isinstance(equals, bool):
        condition &= kind == ("true" if equals else "false")
    elif isinstance(equals, str):
        condition &= (kind == "text") & (value == Value(equals, converter=False))
    elif equals is not None:
        condition &= matches(operator.eq, equals)
    return condition


def _compare_digits(compare: Compare, digits: Any, bound: int) -> Any:
    """Return the condition that an integer, as JSON text, compares so with a number."""
    text = str(bound)
    if compare is operator.eq:
        return digits == Value(text, converter=False)
    length = fn.length(digits)
    is_negative = fn.substr(digits, 1, 1) == "-"
    same_sign = is_negative if bound < 0 else ~is_negative
    if (compare is operator.ge) == (bound > 0):  # as far from 0 as the bound, or farther
        farther = (length == len(text)) & (digits >= Value(text, converter=False))
        return same_sign & ((length > len(text)) | farther)
    nearer = (length == len(text)) & (digits <= Value(text, converter=False))
    return ~same_sign | (length < len(text)) | nearer


def hour_of(field: Field[Any]) -> Any:
    """Return the text of a timestamp up to its hour, as in `2024-01-31 09`."""
    return fn.SUBSTR(field, 1, 13)
