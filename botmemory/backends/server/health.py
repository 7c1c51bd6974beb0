"""What a server says of its tables and rights."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["is_partitioned", "may_make_temporary_tables", "read_checks", "temporary_schema"]


def read_checks(database: Any, table: str, schema: str | None = None) -> dict[str, str]:
    """Return the validated CHECK constraints of a table by name.

    Without casts and parentheses, which a restored dump writes in another way.
    """
    quoted = ".".join(f'"{name}"' for name in (schema, table) if name is not None)
    cursor = database.execute_sql(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = to_regclass(%s) AND contype = 'c' AND convalidated",
        (quoted,),
    )
    ignored = re.compile(r"::(?:double precision|character varying|[a-z]+)(?:\[\])?|[()']")
    return {
        name: ignored.sub("", check).removeprefix("CHECK ") for name, check in cursor.fetchall()
    }


def may_make_temporary_tables(database: Any) -> bool:
    cursor = database.execute_sql("SELECT has_database_privilege(current_database(), 'TEMPORARY')")
    return bool(cursor.fetchone()[0])


def temporary_schema(database: Any) -> str:
    """Return the schema of this connection's temporary tables."""
    cursor = database.execute_sql("SELECT pg_my_temp_schema()::regnamespace::text")
    return str(cursor.fetchone()[0])


def is_partitioned(database: Any, table: str) -> bool:
    """Return whether a table is partitioned."""
    cursor = database.execute_sql(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)", (f'"{table}"',)
    )
    return bool(cursor.fetchone() == (True,))
