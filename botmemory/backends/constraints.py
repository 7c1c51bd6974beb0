"""Errors for a violated constraint, which are Peewee's as well.

A model's own method or a Peewee query raises them: code that catches `peewee.IntegrityError`, as
Peewee's documentation and its `get_or_create` do, goes on working.
"""

from __future__ import annotations

import re
from typing import Any

import peewee

from ..errors import BotMemoryError, DuplicateError, ValidationError

# SQLite says the constraint's name, or its condition if it has none; PostgreSQL its name
_CHECK = re.compile(r'CHECK constraint failed: (.+)|check constraint "(.+)"', re.DOTALL)


class UniqueConstraintError(DuplicateError, peewee.IntegrityError):
    """A row with the same unique values already exists."""


class ForeignKeyError(ValidationError, peewee.IntegrityError):
    """A foreign key refers to a row that does not exist, or would after a row is deleted."""


class CheckConstraintError(ValidationError, peewee.IntegrityError):
    """A value violates a CHECK or a NOT NULL."""


class ColumnTypeError(ValidationError, peewee.DataError):
    """A value does not fit the type of its column."""


def violation(kind: str, message: str, origin: BaseException, column: str = "") -> BotMemoryError:
    """Return the error for a violated constraint.

    Args:
        kind: `unique`, `reference`, `null`, `check`, or `type` for a value that does not fit.
        message: What the database says.
        origin: The driver's exception.
        column: The column that must not be NULL, if the database names it.
    """
    error: Any  # Peewee's errors have an attribute for the driver's
    if kind == "unique":
        error = UniqueConstraintError(
            f"a row with the same unique values already exists ({message})"
        )
    elif kind == "reference":
        error = ForeignKeyError(
            f"a row refers to one that does not exist ({message}); record it first, and delete "
            "last what others refer to"
        )
    elif kind == "null":
        error = CheckConstraintError(f"{column}: None is not allowed; pass a value", field=column)
    elif kind == "type":
        error = ColumnTypeError(f"a value does not fit its column ({message})")
    else:
        name = _CHECK.search(message)
        what = (
            f"the check constraint {(name[1] or name[2])!r}"
            if name
            else f"a constraint ({message})"
        )
        error = CheckConstraintError(
            f"a value violates {what}; correct it, or change the constraint in a migration"
        )
    error.orig = origin
    violated: BotMemoryError = error
    return violated
