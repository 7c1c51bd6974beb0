"""Compare the tables of a database with what the models declare."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import peewee

from ..backends.base import Backend

_Description = dict[str, dict[str, str]]  # by kind (column, check, index, ...) and name


def drift(database: Backend, models: Sequence[type[peewee.Model]]) -> list[str]:
    """Compare tables with models: columns (type, NULL, default), CHECKs, keys and indexes.

    The tables of the models are created empty in a scratch database, and the same queries describe
    both sides.

    Returns:
        One line for each difference.
    """
    existing = {model: _describe(database, model._meta.table_name) for model in models}
    declared = _declared(database, models)
    differences = []
    for model in models:
        table = model._meta.table_name
        if not existing[model]["column"]:
            differences.append(f"the table {table} is missing")
            continue
        partitioned = database.is_partitioned(table)
        for kind, expected in declared[model].items():
            if kind in ("index", "primary key") and partitioned:
                continue  # a partitioned table needs other keys than the model's
            differences += _differences(table, kind, existing[model][kind], expected)
    return differences


def checks(model: type[peewee.Model], database: Backend) -> dict[str, str]:
    """Return the CHECKs of a model that span the whole table, by their names."""
    conditions = {}
    for option in database.check_options:
        for constraint in getattr(model._meta, option, None) or ():
            sql, _ = database.get_sql_context().sql(constraint).query()
            match = re.fullmatch(r'(?:CONSTRAINT "(\w+)" )?CHECK \((.*)\)', sql, re.DOTALL)
            if match is not None:  # a model may have other constraints too
                conditions[match[1] or match[2]] = match[2]
    return conditions


def _differences(
    table: str, kind: str, existing: dict[str, str], declared: dict[str, str]
) -> Iterator[str]:
    for name in sorted(declared.keys() | existing.keys()):
        prefix = f"{table}: the {kind} {name}"
        if name not in existing:
            yield f"{prefix} is missing: {declared[name]}"
        elif name not in declared:
            yield f"{prefix} is not in the model: {existing[name]}"
        elif existing[name] != declared[name]:
            yield f"{prefix} is {existing[name]}, not {declared[name]}"


def _declared(
    database: Backend, models: Sequence[type[peewee.Model]]
) -> dict[type[peewee.Model], _Description]:
    """Create the tables of the models in a scratch database and describe them."""
    with database.scratch(with_tables=False) as scratch:
        for model in models:
            engine: Any = scratch
            manager: Any = peewee.SchemaManager(model, engine)
            manager.create_table(safe=False, temporary=scratch is database)
            manager.create_indexes(safe=False)
            for option in database.index_options:
                for index in getattr(model._meta, option, ()):
                    engine.execute(index)
        schema = scratch.temporary_schema()
        descriptions = {
            model: _describe(scratch, model._meta.table_name, schema) for model in models
        }
        if scratch is not database:  # not on a server, which rewrites the text of a CHECK
            for model, description in descriptions.items():
                description["check"] |= checks(model, scratch)
    return descriptions


def _describe(database: Backend, table: str, schema: str | None = None) -> _Description:
    """Describe a table in text that is equal for equal tables."""
    columns = {}
    for column in database.get_columns(table, schema):
        null = "NULL" if column.null else "NOT NULL"
        default = "" if column.default is None else f" DEFAULT {column.default}"
        without_schema = re.sub(r"\b(pg_temp_\d+|public)\.", "", default)
        columns[column.name] = f"{column.full_type or column.data_type} {null}{without_schema}"
    indexes = {}
    for index in database.get_indexes(table, schema):
        where = re.search(r" WHERE (.*)$", index.sql or "", re.DOTALL)
        condition = " WHERE " + re.sub('[()"]', "", where[1]) if where else ""
        unique = "unique " if index.unique else ""
        indexes[index.name] = f"{unique}on {', '.join(index.columns)}{condition}"
    foreign_keys = {
        key.column: f"to {key.dest_table}.{key.dest_column} ON DELETE {key.on_delete}"
        for key in database.get_foreign_keys(table, schema)
    }
    return {
        "column": columns,
        "check": database.read_checks(table, schema),
        "primary key": {"": ", ".join(database.get_primary_keys(table, schema))},
        "foreign key": foreign_keys,
        "index": indexes,
    }
