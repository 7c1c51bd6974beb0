"""What a server says of the tables of a memory."""

from __future__ import annotations

from typing import Any

__all__ = ["check_names", "is_partitioned", "type_name"]

_OTHER_NAMES = {"bigserial": "bigint", "timestamptz": "timestamp with time zone"}


def check_names(database: Any, table: str) -> set[str]:
    """Return the names of the CHECKs that hold for every row of a table."""
    cursor = database.execute_sql(
        "SELECT conname FROM pg_constraint "
        "WHERE conrelid = %s::regclass AND contype = 'c' AND convalidated",
        (f'"{table}"',),
    )
    return {name for (name,) in cursor.fetchall()}


def is_partitioned(database: Any, table: str) -> bool:
    """Return whether a table was cut into partitions, whose keys cannot be those of one table."""
    cursor = database.execute_sql(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass", (f'"{table}"',)
    )
    return bool(cursor.fetchone()[0])


def type_name(declared: str) -> str:
    """Return what the server calls a column type that was declared as `declared`."""
    name = declared.lower()
    return _OTHER_NAMES.get(name, name.replace("varchar", "character varying"))
