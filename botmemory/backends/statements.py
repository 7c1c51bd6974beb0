"""What a statement does to rows, as seen in its SQL."""

from __future__ import annotations

import re
from functools import lru_cache

# compiled at their first use: most programs never need them
_COMMENTS = r"(?s:[\s;]|--[^\n]*|/\*.*?\*/)*"
_USES_ROWS = (
    *("SELECT", "UPDATE", "DELETE", "DECLARE", "WITH", "VALUES", "TABLE", "MERGE", "("),
    *("REPLACE", "TRUNCATE", "EXPLAIN", "CALL", "DO "),
)
_CHANGES_ROWS = ("INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "TRUNCATE")
_QUOTED = r"""'[^']*'|"[^"]*"|`[^`]*`"""
_CHANGE = r"\b(?:insert|update|delete|merge|truncate|replace(?!\s*\())\b"  # replace() is a function
_IN_INSERT = r"""(?<!["`\w])(?:select|update|replace)(?!["`\w])"""


@lru_cache(maxsize=1000)
def uses_rows(sql: str) -> bool:
    """Return whether a statement may read, change or delete rows, not only record new ones."""
    sql = _without_comments(sql)
    if not sql.startswith("INSERT"):
        return sql.startswith(_USES_ROWS)
    return re.search(_IN_INSERT, sql.lower()) is not None


def _without_comments(sql: str) -> str:
    """Return a statement without comments before its first word, which is in capital letters."""
    if sql.startswith(("INSERT", *_USES_ROWS)):  # as Peewee writes it
        return sql
    return sql[re.match(_COMMENTS, sql).end() :].upper()  # type: ignore[union-attr]


def changes_rows(sql: str) -> bool:
    """Return whether a statement may record, change or delete rows."""
    sql = _without_comments(sql)
    if sql.startswith("WITH"):
        return re.search(_CHANGE, re.sub(_QUOTED, "''", sql).lower()) is not None
    return sql.startswith(_CHANGES_ROWS)


def only_selects(sql: str) -> bool:
    """Return whether a statement selects rows and changes none."""
    sql = _without_comments(sql)
    while sql.startswith("("):  # of the parts of a compound query
        sql = _without_comments(sql[1:])
    if sql.startswith("WITH"):
        return not changes_rows(sql)
    return sql.startswith(("SELECT", "VALUES"))


def begins_transaction(sql: str) -> bool:
    """Return whether a statement begins a transaction where none is open."""
    return re.match(r"BEGIN\b|START\b|SAVEPOINT\b", _without_comments(sql)) is not None
