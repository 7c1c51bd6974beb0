"""What the catalog of a server says of tables; the functions are methods of the backend."""

from __future__ import annotations

import re
from typing import Any

from ..reference import Reference

# what the server calls the actions of a foreign key that change the referring row
ON_DELETE = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
CASTS_AND_PARENTHESES = re.compile(
    r"::(?:double precision|character varying|[a-z]+)(?:\[\])?|[()']"
)


def read_checks(database: Any, table: str, schema: str | None = None) -> dict[str, str]:
    """Return the CHECK constraints of a table by name, validated or not.

    Without casts and parentheses, which a restored dump writes in another way.
    """
    cursor = database.execute_sql(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = to_regclass(%s) AND contype = 'c'",
        (_quoted(table, schema),),
    )
    return {
        name: CASTS_AND_PARENTHESES.sub("", check).removeprefix("CHECK ").removesuffix(" NOT VALID")
        for name, check in cursor.fetchall()
    }


def references(database: Any, table: str, schema: str | None = None) -> list[Reference]:
    # not Peewee's query, which shows a role only the foreign keys to its own tables
    cursor = database.execute_sql(
        "SELECT relname, a.attname, b.attname, confdeltype, nspname FROM pg_constraint c "
        "JOIN pg_class t ON t.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace "
        "CROSS JOIN unnest(conkey, confkey) AS k (referring, referred) "
        "JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = referring "
        "JOIN pg_attribute b ON b.attrelid = confrelid AND b.attnum = referred "
        "WHERE contype = 'f' AND confrelid = to_regclass(%s) AND conparentid = 0",
        (_quoted(table, schema),),
    )
    return [
        Reference(name, column, referred_column, ON_DELETE.get(action, "NO ACTION"), schema)
        for name, column, referred_column, action, schema in cursor.fetchall()
    ]


def is_partitioned(database: Any, table: str) -> bool:
    sql = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(%s)"
    return bool(database.execute_sql(sql, (_quoted(table),)).fetchone() == (True,))


def can_make_scratch(database: Any) -> bool:
    sql = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
    return not database.config.read_only and bool(database.execute_sql(sql).fetchone()[0])


def temporary_schema(database: Any) -> str:
    return str(database.execute_sql("SELECT pg_my_temp_schema()::regnamespace::text").fetchone()[0])


def size(database: Any) -> int:
    return int(database.execute_sql("SELECT pg_database_size(current_database())").fetchone()[0])


def _quoted(table: str, schema: str | None = None) -> str:
    return ".".join(f'"{name}"' for name in (schema, table) if name is not None)
