"""Rows of an import in a private temporary file, so that the write lock is held for less time."""

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

MAX_RESERVE = 32 * 1024 * 1024  # bytes
CACHE_SIZE = 8 * 1024  # KiB; other pages are in SQLite's temporary folder

Values = Sequence[Any]
FetchMany = Callable[[int], list[tuple[Any, ...]]]


class Stage:
    """Rows of one table that are not recorded yet, with the constraints of that table.

    It is a SQLite database in a temporary file without a name. Its table has the name, columns,
    checks and unique indexes of the real one, so that the same INSERT works and fails where a
    constraint is violated. Foreign keys are not checked.
    """

    def __init__(
        self, database: peewee.SqliteDatabase, table: str, statements: Iterable[str]
    ) -> None:
        self.table = table
        self._database: Any = database
        self._reserve: IO[bytes] | None = None
        with ExitStack() as stack:
            self._connection = sqlite3.connect("", isolation_level=None)
            stack.callback(self._connection.close)
            with self._translate_errors():
                self._connection.execute(f"PRAGMA cache_size=-{CACHE_SIZE}")
                for statement in statements:
                    self._connection.execute(statement)
                self._connection.execute('CREATE TABLE "recorded keys" (key)')
                self._connection.execute("BEGIN")
            stack.pop_all()

    def close(self) -> None:
        """Delete the rows and free the reserved disk space."""
        self._connection.close()
        self.release_reserve()

    def add(self, sql: str, rows: Sequence[Values]) -> bool:
        """Run an INSERT for each row, all or none, and return whether each one was stored.

        Raises Peewee's `IntegrityError` if a row violates a constraint.
        """
        with self._translate_errors():
            self._connection.execute("SAVEPOINT rows_of_call")
            count = 0
            try:
                count = self._connection.executemany(sql, rows).rowcount
            finally:
                if count < len(rows):
                    self._connection.execute("ROLLBACK TO rows_of_call")
                self._connection.execute("RELEASE rows_of_call")
        return count == len(rows)

    def unique_columns(self) -> list[tuple[str, ...]]:
        """Return the columns of each unique index that is not on an expression."""
        indexes = []
        for _, index, unique, *_ in self._fetch_all(f'PRAGMA index_list("{self.table}")'):
            columns = tuple(row[2] for row in self._fetch_all(f'PRAGMA index_info("{index}")'))
            if unique and None not in columns:
                indexes.append(columns)
        return indexes

    def used_columns(self) -> list[str]:
        """Return the columns that are not NULL in every row."""
        names = [row[1] for row in self._fetch_all(f'PRAGMA table_info("{self.table}")')]
        counted = ", ".join(f'count("{name}")' for name in names)
        [counts] = self._fetch_all(f'SELECT {counted} FROM "{self.table}"')  # noqa: S608
        return [name for name, count in zip(names, counts, strict=True) if count]

    def rows(self, columns: Iterable[str], **equal: Any) -> FetchMany:
        """Return a function that fetches the next `n` rows.

        Rows with autoincrement ids are in the order of their ids. `equal` filters by columns.
        """
        names = ", ".join(f'"{name}"' for name in columns)
        where = " AND ".join(["true", *(f'"{name}" = ?' for name in equal)])
        sql = f'SELECT {names} FROM "{self.table}" WHERE {where}'  # noqa: S608
        return self._fetcher(sql, [*equal.values()])

    def existing(self, table: str, columns: Sequence[str], rows: Sequence[Values]) -> set[int]:
        """Return the positions of the rows that already exist in a table of the database.

        A row has the values of `columns`; NULL is equal to nothing.
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

    # --- while the rows are recorded ----------------------------------------------------------

    def reserve(self) -> None:
        """Reserve disk space beside the database: on a full disk SQLite cannot even delete rows.

        Raises `StorageError` if there is too little.
        """
        folder = Path(self._database.database).parent
        [[size]] = self._fetch_all(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
        )
        try:
            self._reserve = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._reserve.fileno(), 0, min(2 * size, MAX_RESERVE))
        except OSError as error:
            raise StorageError(
                f"{folder}: has no space for the rows of the table {self.table} "
                f"({error.strerror}); nothing was recorded: free some space and repeat the call"
            ) from error

    def add_recorded_keys(self, keys: Iterable[Any]) -> None:
        """Remember the keys of rows that are recorded."""
        with self._translate_errors():
            self._connection.executemany(
                'INSERT INTO "recorded keys" VALUES (?)', ((key,) for key in keys)
            )

    def recorded_keys(self) -> FetchMany:
        """Return a function that fetches the next `n` of these keys."""
        return self._fetcher('SELECT key FROM "recorded keys"', ())

    def release_reserve(self) -> None:
        """Free the reserved disk space."""
        if self._reserve is not None:
            self._reserve.close()

    def _fetcher(self, sql: str, values: Values) -> FetchMany:
        with self._translate_errors():
            cursor = self._connection.execute(sql, values)

        def fetch(count: int) -> list[tuple[Any, ...]]:
            with self._translate_errors():
                return cursor.fetchmany(count)

        return fetch

    def _fetch_all(self, sql: str) -> list[tuple[Any, ...]]:
        with self._translate_errors():
            return self._connection.execute(sql).fetchall()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            with peewee_errors:
                yield
        except peewee.OperationalError as error:
            raise StorageError(
                f"{self.table}: its new rows cannot be kept in a temporary file ({error}); check "
                "the space in the temporary folder (SQLITE_TMPDIR or TMPDIR names another)"
            ) from error


class Occurrences:
    """How often each of any number of contents has come up, in a temporary file of SQLite."""

    def __init__(self) -> None:
        self._notes = _Notes("CREATE TABLE note (content INTEGER PRIMARY KEY, number)")
        self.close = self._notes.close

    def add(self, content: int, number: int) -> int:
        """Count a content so many times more, and return how often it came up before.

        Raises `StorageError` if the temporary folder has no space.
        """
        sql = (
            "INSERT INTO note VALUES (?, ?) ON CONFLICT (content) "
            "DO UPDATE SET number = number + excluded.number RETURNING number"
        )
        [(total,)] = self._notes.run(sql, [(content, number)])
        return int(total) - number


class UsedNumbers:
    """Which numbers are used for each of any number of contents, in a temporary file of SQLite."""

    def __init__(self) -> None:
        self._notes = _Notes(
            "CREATE TABLE note (content, number, PRIMARY KEY (content, number)) WITHOUT ROWID"
        )
        self.close = self._notes.close

    def of(self, content: int) -> set[int]:
        """Return the numbers of a content."""
        return {
            n for (n,) in self._notes.run("SELECT number FROM note WHERE content = ?", [(content,)])
        }

    def add(self, content: int, numbers: Iterable[int]) -> None:
        """Add numbers to those of a content.

        Raises `StorageError` if the temporary folder has no space.
        """
        self._notes.run("INSERT INTO note VALUES (?, ?)", [(content, n) for n in numbers])


class _Notes:
    """A table in a temporary file without a name."""

    def __init__(self, table: str) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self.close = self._connection.close
        for statement in (
            "PRAGMA journal_mode=OFF",
            f"PRAGMA cache_size=-{CACHE_SIZE}",
            table,
            "BEGIN",
        ):
            self._connection.execute(statement)

    def run(self, sql: str, rows: Sequence[Values]) -> list[tuple[Any, ...]]:
        """Run a statement for each row, and return what it gives for the last one."""
        found: list[tuple[Any, ...]] = []
        try:
            for row in rows:
                found = self._connection.execute(sql, row).fetchall()
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"the rows of a file cannot be counted in a temporary file ({error}); check the "
                "space in the temporary folder (SQLITE_TMPDIR or TMPDIR names another)"
            ) from error
        return found


def open_stage(database: peewee.SqliteDatabase, table: str) -> Stage | None:
    """Return an empty stage for a table of a database; None if it has no such table."""
    schema: Any = peewee.Table("sqlite_master", ("type", "tbl_name", "sql")).bind(database)
    query = schema.select(schema.sql).where(schema.tbl_name == table)
    in_order = query.order_by(schema.type.desc()).tuples()  # the table before its indexes
    kinds = ("CREATE TABLE", "CREATE UNIQUE INDEX")
    statements = [sql for (sql,) in in_order if sql and sql.startswith(kinds)]
    return Stage(database, table, statements) if statements else None
