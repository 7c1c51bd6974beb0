"""The interface of a backend: all that is needed to write another one.

A backend is a Peewee `Database` for one engine, with the members below. No module above the
backends asks which one is open: each difference between engines is a member here. Its other base
class, `transactions.TransactionState`, has `atomic()` and `in_transaction()` and calls the members
of the section "Transactions". `database.open_database` chooses the backend for a `Config`. The
contract suite is each test that takes the `empty_database` fixture of `tests/conftest.py`, which
runs once for each backend; `tests/backends/test_base.py` compares the backends with this file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import peewee

from ..config import Config
from ..errors import BotMemoryError
from .change_marker import ChangeMarker
from .finding import Finding
from .keys import Key, Keys
from .reference import Reference
from .transactions import Atomic

R = TypeVar("R")
Row = TypeVar("Row", bound=peewee.Model)
Fields = Sequence["peewee.Field[Any]"]  # of one table
Values = Sequence[Any]  # of one row, or for the placeholders of one statement
Statement = tuple[str, Values]
MakeObjects = Callable[[Iterable[tuple[Any, ...]]], Iterable[R]]  # from rows


class Migrator(Protocol):
    """What migrations are run with: Peewee's `SchemaMigrator`, and what differs by the engine."""

    transactional_ddl: bool
    """Whether a change of the schema can be rolled back."""

    def migration_context(self, atomic: bool = True) -> AbstractContextManager[None]:
        """Return the block that a migration runs in: one transaction if it is `atomic`."""
        ...

    def repeat(self, change: Callable[[], R]) -> R:
        """Return the result of `change`, which is called again while locks keep it from its tables.

        Raises:
            DatabaseBusyError: They did for `busy_timeout`. The last attempt is rolled back.
        """
        ...

    def put_off(self) -> list[str]:
        """Return the statements that the last block has put off, which follow its transaction."""
        ...

    def run_put_off(self, statement: str, record: Callable[[], None]) -> None:
        """Run one of these statements, which may have been run before, and call `record`."""

    def discard(self, statements: list[str]) -> None:
        """Drop what is half made by a migration that these statements would finish."""

    def migrate(self, *operations: Any) -> None:
        """Run operations, which the other methods of Peewee's migrator make."""

    add_column: Callable[..., Any]
    """Return the operation that adds a column."""


class Backend(Protocol):
    """A database of one engine, opened as its `config` says; each thread has a connection."""

    # --- state ------------------------------------------------------------------------------

    config: Config
    """Its settings; `config.label` names the database in messages, without a password."""

    at_close: list[Callable[[], object]]
    """Functions to call after `close()` when the database is closed for good."""

    @property
    def file(self) -> Path | None:
        """The path of the database file; None for a server and for `:memory:`."""

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> None:
        """Connect once and verify that botmemory can work with this database.

        Raises:
            StorageError: It cannot be opened, it is damaged, or its engine is too old.
        """

    def close(self) -> bool:
        """Close or release this thread's connection and return whether there was one.

        Raises:
            DatabaseBusyError: A transaction is open in this thread.
        """
        ...

    def release(self) -> None:
        """Close or release this thread's connection, unless that would lose data."""

    def used_by_worker(self) -> AbstractContextManager[object]:
        """Return a block around one call on a worker thread; the process may fork between two."""
        ...

    def has_open_transaction(self) -> bool:
        """Return whether any thread of this process has a transaction open."""
        ...

    def before_fork(self) -> None:
        """Close the connections that can be closed before the process forks."""

    def after_fork_in_parent(self) -> None:
        """Go on in the parent process after a fork."""

    def after_fork_in_child(self) -> None:
        """Drop the inherited connections in a child process without closing them."""

    def close_at_exit(self) -> None:
        """Close the connections that are open when the program ends."""

    # --- transactions -----------------------------------------------------------------------

    def atomic(self, mode: str | None = None) -> Atomic:
        """Return a block that is a transaction, or a savepoint inside another one.

        Args:
            mode: The lock type of SQLite's BEGIN, or the isolation level of a server.
        """
        ...

    def in_transaction(self) -> bool:
        """Return whether a transaction is open that the caller may use.

        Raises:
            DatabaseBusyError: It belongs to another task, greenlet or function.
        """
        ...

    def is_in_transaction(self) -> bool:
        """Return whether what runs now is part of a transaction that is open.

        Raises:
            DatabaseBusyError: As for `in_transaction`.
        """
        ...

    def has_begun(self) -> bool:
        """Return whether the driver says that this thread's connection is in a transaction."""
        ...

    def enter_transaction(self, transaction: Atomic, mode: str | None) -> None:
        """Acquire the locks and begin; undo both if that fails or is interrupted."""

    def leave_transaction(self, transaction: Atomic, *, roll_back: bool) -> None:
        """Commit or roll back, and release locks and connection whatever happens."""

    def read_snapshot(self) -> AbstractContextManager[object]:
        """Return a block whose reads all see one state of the database, and wait for no writer.

        Inside a transaction it is that transaction.
        """
        ...

    def statement(self) -> AbstractContextManager[object]:
        """Return a block that undoes a failed statement, but not its whole transaction."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Return a block that keeps other processes from changing the schema."""
        ...

    # --- the keys of a block ----------------------------------------------------------------

    has_key_locks: bool
    """Whether blocks of different keys do not wait for each other."""

    def block_keys(self) -> Keys | None:
        """Return the keys of the open block, which all that is read now must have; None if any."""

    def reading_own_keys(self, call: Callable[[], R]) -> R:
        """Call what reads nothing but rows of the keys of the open block."""
        ...

    def changing(self, key: Key | None, call: Callable[[], R]) -> R:
        """Call what changes or deletes rows of one key; None if it is not known."""
        ...

    def using_row(self, key: Key, call: Callable[[], R]) -> R:
        """Call what reads or writes the row of a key, which the open block need not have.

        In a block with keys, nobody else changes the row from then until the end of the block.
        """
        ...

    # --- compiled queries -------------------------------------------------------------------

    def fetch_all(self, sql: str, params: Values, make: MakeObjects[R]) -> list[R]:
        """Run a compiled SELECT and return the objects that `make` makes from its rows."""
        ...

    def insert_row(self, sql: str, params: Values) -> int:
        """Run a compiled INSERT of one row and return how many rows were stored, 0 or 1."""
        ...

    def insert_or_fetch(self, insert: Statement, select: Statement) -> list[tuple[Any, ...]] | None:
        """Run a compiled INSERT of one row; where that stores none, return the rows of a SELECT.

        None where the row was stored.
        """

    def insert_autoincrement(self, sql: str, params: Values) -> int:
        """Run a compiled INSERT of one row and return its new id."""
        ...

    def insert_rows(self, sql: str, rows: Iterable[Values], fields: Fields) -> int:
        """Store many rows in the open transaction and return how many were stored.

        Args:
            sql: The compiled INSERT of one row.
            rows: The values of each row, in the order of `fields`.
            fields: The fields that the INSERT names.
        """
        ...

    has_exact_decimals: bool
    """Whether a DECIMAL column keeps every digit."""

    null_in_sql: bool
    """Whether `insert_rows` may leave out columns that are NULL in each row."""

    streams: bool
    """Whether `stream` reads in constant memory; if not, rows are read page by page."""

    def stream(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        """Yield the rows of a query, some at a time if the driver can."""
        ...

    def read_sql(self, sql: str) -> AbstractContextManager[tuple[list[str], Iterator[Values]]]:
        """Return a block that yields the names and the rows of one SELECT that a person wrote.

        The rows are read a few at a time, in one snapshot. What would write is refused.

        Raises:
            ValidationError: It is not one SELECT, or the database refuses it.
        """
        ...

    def stage(self, table: str) -> Any:
        """Return a `sqlite.stage.Stage` for new rows of a table, which the caller closes.

        None if storing many rows keeps no other program from writing.
        """

    # --- changes ----------------------------------------------------------------------------

    def change_marker(self) -> ChangeMarker | None:
        """Return what shows whether rows were changed since; None if that cannot be seen."""

    def fetch_with_marker(
        self, statements: Sequence[Statement]
    ) -> tuple[ChangeMarker | None, list[list[tuple[Any, ...]]]]:
        """Return a change marker and the rows of compiled SELECTs, which see one state.

        Only where there is no `row_number`.
        """
        ...

    row_number: peewee.SQL | None
    """An expression that is higher for each row inserted later; None if there is none.

    Then any inserted row changes the marker. Otherwise those of the compiled INSERTs do not.
    """

    # --- SQL of the engine ------------------------------------------------------------------

    def json_text(self, text: str) -> str:
        """Return JSON text in the form that the database returns with the same values."""
        ...

    def json_match(
        self,
        field: peewee.JSONField,
        keys: Sequence[str],
        equals: Any,
        minimum: float | None,
        maximum: float | None,
    ) -> peewee.Expression:
        """Return the condition on a value in a JSON column; only numbers compare as numbers.

        Where the value is an array, one element must meet the condition, if there is any. Arrays in
        the array are not searched.

        Args:
            field: The JSON column.
            keys: The path to the value: the keys of nested objects.
            equals: The value, or None for any.
            minimum: The least number, inclusive; None for no limit.
            maximum: The greatest number, inclusive; None for no limit.
        """
        ...

    compares_json: bool
    """Whether = in SQL compares JSON values, and not their text."""

    def hour_of(self, field: peewee.Field[Any]) -> Any:
        """Return an expression that is equal for timestamps of the same hour in UTC."""

    # --- errors -----------------------------------------------------------------------------

    def translated(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of the driver's or Peewee's; None if there is none."""

    # --- ids --------------------------------------------------------------------------------

    def last_id(self, model: type[peewee.Model]) -> int:
        """Return the highest id that the table ever had; 0 if the engine does not keep it."""
        ...

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        """Let new ids follow `least` and the highest one in the table; never go back."""

    # --- schema -----------------------------------------------------------------------------

    check_options: tuple[str, ...]
    """The options of a model's `Meta` with the CHECK constraints for this engine."""

    index_options: tuple[str, ...]
    """The options of a model's `Meta` with indexes for this engine alone."""

    def read_checks(self, table: str, schema: str | None = None) -> dict[str, str]:
        """Return the CHECK constraints of a table by name; one without a name by its condition."""
        ...

    def is_partitioned(self, table: str) -> bool:
        """Return whether a table is partitioned, so that its keys may differ from the model's."""
        ...

    def can_make_scratch(self) -> bool:
        """Return whether this user may use `scratch`."""
        ...

    def scratch(self, *, with_tables: bool) -> AbstractContextManager[Backend]:
        """Return a block that yields a database whose changes are not kept.

        It may be this database itself, in a transaction that is rolled back.

        Args:
            with_tables: Whether it has the tables of this one; on SQLite, without their rows.
        """
        ...

    def temporary_schema(self) -> str | None:
        """Return the schema of this connection's temporary tables; None if there is none."""

    def references(self, table: str, schema: str | None = None) -> list[Reference]:
        """Return the foreign keys of all tables that refer to a table."""
        ...

    def orphans(self) -> list[tuple[str, str]]:
        """Return, for each row that refers to a missing one, its table and the other table.

        An empty list if the engine always prevents that.
        """
        ...

    def migrator(self) -> Migrator:
        """Return a new migrator of this database."""
        ...

    def back_up(self, number: str) -> None:
        """Copy the file before migration `number` changes it, and keep the newest copies.

        It does nothing on a server and for `:memory:`.
        """

    def schema_findings(self) -> Iterator[Finding]:
        """Yield indexes and constraints that are not in force, with what mends them."""
        ...

    # --- health -----------------------------------------------------------------------------

    def damage(self, check: str = "quick_check") -> list[str]:
        """Return what `quick_check`, or the slower `integrity_check`, reports of the file."""
        ...

    def findings(self) -> Iterator[Finding]:
        """Yield problems of the lock, the journal, the disk and the file system."""
        ...

    def size(self) -> int:
        """Return the size of the database on the disk, in bytes."""
        ...

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a block that yields a connection which sees the file as it is now.

        Raises:
            ConfigError: The database is on a server, which is copied by its own tool.
        """
        ...

    # --- members of Peewee's Database -------------------------------------------------------

    param: str
    """The placeholder of a value in SQL."""

    @property
    def Model(self) -> Any:  # noqa: N802  (Peewee's name)
        """A base class for models of this database."""

    query_hooks: list[Any]
    """Functions to call after each statement."""

    def get_sql_context(self) -> Any:
        """Return what compiles queries to the SQL of this engine."""

    def top_transaction(self) -> Any:
        """Return the innermost open transaction of this thread; None if there is none."""

    def get_tables(self) -> list[str]:
        """Return the names of the tables."""
        ...

    def get_columns(self, table: str, schema: str | None = None) -> list[Any]:
        """Return the columns of a table."""
        ...

    def get_indexes(self, table: str, schema: str | None = None) -> list[Any]:
        """Return the indexes of a table."""
        ...

    def get_foreign_keys(self, table: str, schema: str | None = None) -> list[Any]:
        """Return the foreign keys of a table."""
        ...

    def get_primary_keys(self, table: str, schema: str | None = None) -> list[str]:
        """Return the columns of the primary key of a table."""
        ...
