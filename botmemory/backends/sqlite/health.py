"""What SQLite itself says of the state of a file and of its tables."""

from __future__ import annotations

import re
from typing import Any

import peewee

from .errors import is_damage, translated

__all__ = ["check_rules", "damage", "orphans"]


def damage(database: peewee.SqliteDatabase, check: str = "quick_check") -> list[str]:
    """Return what is broken in the file, by `quick_check` or `integrity_check`."""
    raw: Any = database.connection()  # type: ignore[no-untyped-call]
    try:
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            lines = raw.execute(f"PRAGMA {check}(100)").fetchall()
    except peewee.DatabaseError as error:
        if not is_damage(error):
            raise translated(error, database.database, "cannot be checked for damage") from error
        return [str(error)]
    # a row that breaks a rule was written by another program; the file itself is sound
    rules = ("ok", "CHECK constraint", "NULL value", "non-unique entry")
    return [line for (line,) in lines if not line.startswith(rules)]


def orphans(database: peewee.SqliteDatabase) -> list[tuple[str, str]]:
    """Return the tables of each row that refers to nothing: where it is, where it leads."""
    cursor: Any = database.execute_sql("PRAGMA foreign_key_check")  # type: ignore[no-untyped-call]
    return [(table, parent) for table, _, parent, _ in cursor.fetchall()]


def check_rules(database: peewee.SqliteDatabase, table: str) -> dict[str, str]:
    """Return the CHECKs of a table by their names, or by themselves where they have none."""
    cursor: Any = database.execute_sql(  # type: ignore[no-untyped-call]
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    )
    sql = (cursor.fetchone() or ("",))[0]
    found = {}
    for start in re.finditer(r'(?:CONSTRAINT "?(\w+)"? )?CHECK \(', sql):
        depth, end, quoted = 1, start.end(), False
        while depth:  # the parentheses say where the rule ends
            quoted ^= sql[end] == "'"
            depth += 0 if quoted else {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        rule = sql[start.end() : end - 1]
        found[start[1] or rule] = rule
    return found
