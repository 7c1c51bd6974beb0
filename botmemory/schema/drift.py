"""Compare the tables of a database with what the models declare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import peewee

from ..backends.base import Backend

__all__ = ["checks", "drift"]

_Described = dict[str, dict[str, str]]


def drift(database: Backend, models: Sequence[type[peewee.Model]]) -> list[str]:
    """Return what differs: tables, columns with type, NULL and default, CHECKs, keys, indexes.

    The models' tables are made beside, empty, and both are described by the same questions.
    """
    there = {model: _described(database, _table(model)) for model in models}
    with _declared(database, models) as described:
        declared = {model: described(model) for model in models}
    found = []
    for model in models:
        table = _table(model)
        if not there[model]["column"]:
            found.append(f"the table {table} is missing")
            continue
        partitioned = database.is_partitioned(table)
        for kind, wanted in declared[model].items():
            if kind in ("index", "primary key") and partitioned:
                continue  # whose keys cannot be those of one table
            found += _differences(table, kind, there[model][kind], wanted)
    return found


def checks(model: type[peewee.Model], database: Backend) -> dict[str, str]:
    """Return the CHECKs that the whole table of a model has, by their names."""
    found = {}
    for option in database.check_options:
        for constraint in getattr(model._meta, option, None) or ():
            sql, _ = database.get_sql_context().sql(constraint).query()
            parts = re.fullmatch(r'(?:CONSTRAINT "(\w+)" )?CHECK \((.*)\)', sql, re.DOTALL)
            if parts is not None:  # a model may have other constraints too
                found[parts[1] or parts[2]] = parts[2]
    return found


def _table(model: type[peewee.Model]) -> str:
    return str(model._meta.table_name)


def _differences(
    table: str, kind: str, there: dict[str, str], declared: dict[str, str]
) -> Iterator[str]:
    for name in sorted(declared.keys() | there.keys()):
        what = f"{table}: the {kind} {name}"
        if name not in there:
            yield f"{what} is missing: {declared[name]}"
        elif name not in declared:
            yield f"{what} is not in the model: {there[name]}"
        elif there[name] != declared[name]:
            yield f"{what} is {there[name]}, not {declared[name]}"


@contextmanager
def _declared(
    database: Backend, models: Sequence[type[peewee.Model]]
) -> Iterator[Callable[[type[peewee.Model]], _Described]]:
    """Make the tables of the models where they are in nobody's way; yield what describes them."""
    with database.scratch(with_tables=False) as scratch:
        for model in models:
            _make(scratch, model, temporary=scratch is database)
        schema = scratch.temporary_schema()

        def describe(model: type[peewee.Model]) -> _Described:
            described = _described(scratch, _table(model), schema)
            if scratch is not database:  # a server writes a CHECK in its own words
                described["check"] |= checks(model, scratch)
            return described

        yield describe


def _make(database: Backend, model: type[peewee.Model], **options: Any) -> None:
    manager: Any = peewee.SchemaManager(model, cast("peewee.Database", database))
    manager.create_table(safe=False, **options)
    manager.create_indexes(safe=False)


def _described(database: Backend, table: str, schema: str | None = None) -> _Described:
    """Describe a table in words that are equal where the tables are."""

    def plain(text: object) -> str:
        return re.sub(r"\b(pg_temp_\d+|public)\.", "", str(text))

    columns = {}
    for column in database.get_columns(table, schema):
        null = "NULL" if column.null else "NOT NULL"
        default = "" if column.default is None else f" DEFAULT {plain(column.default)}"
        columns[column.name] = f"{column.full_type or column.data_type} {null}{default}"
    indexes = {}
    for index in database.get_indexes(table, schema):
        where = re.search(r" WHERE (.*)$", index.sql or "", re.DOTALL)
        condition = " WHERE " + re.sub('[()"]', "", where[1]) if where else ""
        unique = "unique " if index.unique else ""
        indexes[index.name] = f"{unique}on {', '.join(index.columns)}{condition}"
    keys = {
        key.column: f"to {key.dest_table}.{key.dest_column} ON DELETE {key.on_delete}"
        for key in database.get_foreign_keys(table, schema)
    }
    return {
        "column": columns,
        "check": database.read_checks(table, schema),
        "primary key": {"": ", ".join(database.get_primary_keys(table, schema))},
        "foreign key": keys,
        "index": indexes,
    }
