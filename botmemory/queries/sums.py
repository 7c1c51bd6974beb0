"""Exact sums of a column of floats, the same on every database.

SUM of floats rounds at each row, and each database does it in its own order. So the database adds
up whole numbers where it can: money mostly has at most 8 decimals. Where a value has more, or is
large, the rows are read and added up here.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import chain
from typing import Any, TypeVar

import peewee
from peewee import SQL, Case, Cast, Value, fn

from .. import exact
from ..models import BaseModel
from . import read
from .compiled import Compiled, compiled
from .write import require_open_database

Answer = TypeVar("Answer")

DECIMALS = 8
ROWS_PER_READ = 1000
LARGEST = 1e7  # so that a value in units of 1e-8 is a whole number that a float holds


def whole_sum(number: Any, unless: Any = None) -> Any:
    """Return the SQL expression of a sum for `parse_sum`, without the rows where `unless` is true.

    A value counts as whole if it is the float that is nearest to a number with 8 decimals. It has
    at most 15 digits then, so that this is the number that it prints as. ROUND of a half differs
    between databases, but a value whose product is a half is not whole.
    """
    units = fn.ROUND(number * _constant(10.0**DECIMALS))
    other = SQL("0.5")  # shows in the sum that a value was not whole
    cases = [
        # its product may be larger than a float holds, which is an error of PostgreSQL
        (~number.between(_constant(-LARGEST), _constant(LARGEST)), other),
        (units / _constant(10.0**DECIMALS) == number, Cast(units, "BIGINT")),
        (number.is_null(False), other),
    ]
    if unless is not None:
        cases.insert(0, (unless, SQL("NULL")))
    return Cast(fn.SUM(Case(None, cases)), "TEXT")


def parse_sum(text: str | None) -> Decimal | None:
    """Return the exact sum; None if the rows must be read to know it."""
    if text is None:
        return exact.ZERO
    # SQLite's sum is a float as soon as one value is, PostgreSQL's has the decimals of its values
    return None if "." in text else exact.scale(Decimal(text), -DECIMALS)


def fetch_sums(query: Any) -> list[Any] | None:
    """Run a Peewee query with whole sums; None if the rows must be read to know them."""
    return _unless_overflow(lambda: list(read.fetch(query)))


@compiled
def _whole_sum(model: type[BaseModel], name: str, filters: tuple[str, ...]) -> Any:
    return read.select(model, read.conditions(model, filters), whole_sum(model._meta.fields[name]))


def total(model: type[BaseModel], name: str, filters: dict[str, Any], *where: Any) -> Decimal:
    """Return the exact sum of a field of the rows that match the filters and the conditions."""
    require_open_database(model)
    field = model._meta.fields[name]
    if where:  # not worth keeping
        conditions = [*read.conditions(model, filters), *where]
        query = Compiled(read.select(model, conditions, whole_sum(field)))
    else:
        query = _whole_sum(model, name, tuple(filters))
    whole = _unless_overflow(lambda: parse_sum(read.scalar(query, filters)))
    if whole is not None:
        return whole
    is_given = field.is_null(False)
    batches = read.batches(model, filters, ROWS_PER_READ, field, where=[*where, is_given])
    return exact.total(chain.from_iterable(chain.from_iterable(batches)))


def _unless_overflow(ask: Callable[[], Answer]) -> Answer | None:
    """Return an answer; None if SQLite met a sum of more than 64 bits."""
    try:
        return ask()
    except peewee.OperationalError as error:
        if "integer overflow" not in str(error):
            raise
        return None


def _constant(number: float) -> Any:
    return Value(number, converter=False)
