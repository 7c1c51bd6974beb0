"""What SQLite itself says of the state of a file and of its tables."""

from __future__ import annotations

from typing import Any

import peewee

from .sqlite_errors import is_damage

__all__ = ["damage", "orphans", "table_sql"]


def damage(database: peewee.SqliteDatabase, check: str = "quick_check") -> list[str]:
    """Return what is broken in the file, by `quick_check` or `integrity_check`."""
    raw: Any = database.connection()  # type: ignore[no-untyped-call]
    try:
        with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
            lines = raw.execute(f"PRAGMA {check}(100)").fetchall()
    except peewee.DatabaseError as error:
        if not is_damage(error):
            raise
        return [str(error)]
    # a row that breaks a rule was written by another program; the file itself is sound
    rules = ("ok", "CHECK constraint", "NULL value", "non-unique entry")
    return [line for (line,) in lines if not line.startswith(rules)]


def orphans(database: peewee.SqliteDatabase) -> list[tuple[str, str]]:
    """Return the tables of each row that refers to nothing: where it is, where it leads."""
    cursor: Any = database.execute_sql("PRAGMA foreign_key_check")  # type: ignore[no-untyped-call]
    return [(table, parent) for table, _, parent, _ in cursor.fetchall()]


def table_sql(database: peewee.SqliteDatabase, table: str) -> str:
    """Return the statement that made a table, with the changes since."""
    cursor: Any = database.execute_sql(  # type: ignore[no-untyped-call]
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    )
    return str(cursor.fetchone()[0])
