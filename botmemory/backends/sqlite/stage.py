"""Rows that wait to be recorded, in a private temporary file: the write lock is not held."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import peewee

from ...errors import StorageError
from ..peewee_internals import peewee_errors

__all__ = ["Stage", "open_stage"]

LARGEST_RESERVE = 32 * 1024 * 1024  # bytes
CACHE = 8 * 1024  # KiB; what does not fit is in SQLite's temporary folder

Values = Sequence[Any]
Take = Callable[[int], list[tuple[Any, ...]]]


class Stage:
    """Rows of one table that are to be recorded, under the rules that the table has.

    It is a SQLite database of its own, in a temporary file without a name. Its table is called as
    the one in the database and has the same columns, checks and unique indexes: the same INSERT
    works, and refuses what breaks a rule. References are not looked up.
    """

    def __init__(self, database: peewee.SqliteDatabase, table: str, rules: Iterable[str]) -> None:
        self.table = table
        self._database: Any = database
        self._reserve: IO[bytes] | None = None
        with ExitStack() as stack:
            self._connection = sqlite3.connect("", isolation_level=None)
            stack.callback(self._connection.close)
            with self._translating():
                self._connection.execute(f"PRAGMA cache_size=-{CACHE}")
                for rule in rules:
                    self._connection.execute(rule)
                self._connection.execute('CREATE TABLE "recorded keys" (key)')
                self._connection.execute("BEGIN")
            stack.pop_all()

    def close(self) -> None:
        """Delete the rows, and give back what was reserved."""
        self._connection.close()
        self.release_reserve()

    def add(self, sql: str, rows: Sequence[Values]) -> bool:
        """Run an INSERT for each row, all or none, and return whether every row was taken.

        Raises Peewee's `IntegrityError` where a row breaks a rule.
        """
        with self._translating():
            self._connection.execute("SAVEPOINT one_call")
            taken = 0
            try:
                taken = self._connection.executemany(sql, rows).rowcount
            finally:
                if taken < len(rows):
                    self._connection.execute("ROLLBACK TO one_call")
                self._connection.execute("RELEASE one_call")
        return taken == len(rows)

    def unique_columns(self) -> list[tuple[str, ...]]:
        """Return the columns of each unique index, without those on expressions."""
        found = []
        for _, index, unique, *_ in self._ask(f'PRAGMA index_list("{self.table}")'):
            columns = tuple(row[2] for row in self._ask(f'PRAGMA index_info("{index}")'))
            if unique and None not in columns:
                found.append(columns)
        return found

    def used_columns(self) -> list[str]:
        """Return the columns in which some row has a value."""
        names = [row[1] for row in self._ask(f'PRAGMA table_info("{self.table}")')]
        counts = ", ".join(f'count("{name}")' for name in names)
        [found] = self._ask(f'SELECT {counts} FROM "{self.table}"')  # noqa: S608
        return [name for name, count in zip(names, found, strict=True) if count]

    def rows(self, columns: Iterable[str], **equal: Any) -> Take:
        """Return what takes the next rows, at most as many as it is told, in their order.

        Rows with ids of the table's own counter are in the order of these; `equal` chooses some.
        """
        names = ", ".join(f'"{name}"' for name in columns)
        where = " AND ".join(["true", *(f'"{name}" = ?' for name in equal)])
        sql = f'SELECT {names} FROM "{self.table}" WHERE {where}'  # noqa: S608
        return self._taker(sql, [*equal.values()])

    def existing(self, table: str, columns: Sequence[str], rows: Sequence[Values]) -> set[int]:
        """Return the positions of the rows whose values a row of the database has already.

        A row holds values for `columns` of a table of the database; NULL is equal to nothing.
        """
        numbered = [(n, *row) for n, row in enumerate(rows) if None not in row]
        if not numbered:
            return set()
        marks = f"({', '.join('?' * (len(columns) + 1))})"
        same = " AND ".join(f't."{name}" = v.column{n}' for n, name in enumerate(columns, 2))
        sql = (
            f"WITH v AS (VALUES {', '.join([marks] * len(numbered))}) "  # noqa: S608
            f'SELECT v.column1 FROM v CROSS JOIN "{table}" AS t ON {same}'
        )
        values = [value for row in numbered for value in row]
        return {n for (n,) in self._database.fetch_all(sql, values, list)}

    # --- what is in the database already ------------------------------------------------------

    def reserve(self) -> None:
        """Take room beside the database: on a full disk SQLite cannot even delete rows.

        Raises `StorageError` where there is none.
        """
        folder = Path(self._database.database).parent
        [[pages]], [[page_size]] = self._ask("PRAGMA page_count"), self._ask("PRAGMA page_size")
        try:
            self._reserve = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            if hasattr(os, "posix_fallocate"):
                size = min(2 * pages * page_size, LARGEST_RESERVE)
                os.posix_fallocate(self._reserve.fileno(), 0, size)
        except OSError as error:
            raise StorageError(
                f"{folder}: has no room for the rows of the table {self.table} "
                f"({error.strerror}); nothing was recorded: free some space and repeat the call"
            ) from error

    def add_recorded_keys(self, keys: Iterable[Any]) -> None:
        """Remember the keys of rows that are recorded now."""
        with self._translating():
            self._connection.executemany(
                'INSERT INTO "recorded keys" VALUES (?)', ((key,) for key in keys)
            )

    def recorded_keys(self) -> Take:
        """Return what takes the next of these keys, at most as many as it is told."""
        return self._taker('SELECT key FROM "recorded keys"', ())

    def release_reserve(self) -> None:
        """Give back what was reserved, if anything was."""
        if self._reserve is not None:
            self._reserve.close()

    def _taker(self, sql: str, values: Values) -> Take:
        with self._translating():
            cursor = self._connection.execute(sql, values)

        def take(most: int) -> list[tuple[Any, ...]]:
            with self._translating():
                return cursor.fetchmany(most)

        return take

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        with self._translating():
            return self._connection.execute(sql).fetchall()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            with peewee_errors:
                yield
        except peewee.OperationalError as error:
            raise StorageError(
                f"{self.table}: its new rows cannot be kept in a temporary file ({error}); check "
                "the room in the temporary folder (SQLITE_TMPDIR or TMPDIR names another)"
            ) from error


def open_stage(database: peewee.SqliteDatabase, table: str) -> Stage | None:
    """Return an empty stage for a table of a database, None where it has no such table."""
    schema: Any = peewee.Table("sqlite_master", ("type", "tbl_name", "sql")).bind(database)
    query = schema.select(schema.sql).where(schema.tbl_name == table)
    in_order = query.order_by(schema.type.desc()).tuples()  # the table before its indexes
    kinds = ("CREATE TABLE", "CREATE UNIQUE INDEX")
    rules = [sql for (sql,) in in_order if sql and sql.startswith(kinds)]
    return Stage(database, table, rules) if rules else None
