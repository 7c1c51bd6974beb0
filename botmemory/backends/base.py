"""What a backend must do: whoever writes another one reads this file alone.

A backend is a Peewee `Database` for one engine, with the members below. No module above the
backends asks which one it has: what differs between engines is a member here. The class
`transactions.TransactionState`, its other base, brings `atomic()`, `in_transaction()` and what
blocks need; it calls the members of the section "Transactions". `database.open_database` chooses
the backend of a `Config`, and `tests/backends/contract.py` holds the tests that each must pass.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import peewee

from ..config import Config
from ..errors import BotMemoryError
from .transactions import Atomic

__all__ = ["Backend", "Finding"]

R = TypeVar("R")
Row = TypeVar("Row", bound=peewee.Model)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `upkeep.check.check()` found: how bad it is, what it is, and what to do."""

    severity: Literal["error", "warning", "info"]
    what: str
    advice: str


class Backend(Protocol):
    """A database of one engine, opened as its config says; each thread has a connection."""

    # --- what it is -------------------------------------------------------------------------

    config: Config
    """The settings it was made from; `config.label` names it in messages, without a password."""

    unusable: str | None
    """Why nothing can be done with it any more (a damaged file, a fork); None while it works."""

    at_close: list[Callable[[], object]]
    """What is called after `close()` when the database is closed for good."""

    @property
    def file(self) -> Path | None:
        """The path of the file that the database is; None for a server and for `:memory:`."""

    # --- opening and closing ----------------------------------------------------------------

    def open(self) -> None:
        """Connect once and verify that this is a database botmemory can work with.

        Raises:
            StorageError: It cannot be opened, is damaged, or its engine is too old.
        """

    def close(self) -> bool:
        """Close this thread's connection, or give it back; return whether there was one.

        Raises:
            DatabaseBusyError: A transaction is open in this thread.
        """

    def release(self) -> None:
        """Close this thread's connection, or give it back, unless that would lose something."""

    def used_by_worker(self) -> AbstractContextManager[object]:
        """Return a block around one call on a worker thread; the process may fork between two."""

    def has_open_transaction(self) -> bool:
        """Return whether any thread of this process has a transaction open."""

    def before_fork(self) -> None:
        """Close what can be closed before the process forks."""

    def after_fork_in_parent(self) -> None:
        """Go on in the parent process."""

    def after_fork_in_child(self) -> None:
        """Leave what the child has inherited to the parent, which goes on with it."""

    def close_at_exit(self) -> None:
        """Close what a program left open when it ends."""

    # --- transactions -----------------------------------------------------------------------

    def atomic(self) -> Atomic:
        """Return a block that is a transaction, or a savepoint inside another one."""

    def in_transaction(self) -> bool:
        """Return whether a transaction is open that the caller may go on with."""

    def has_begun(self) -> bool:
        """Return whether the driver says that this thread's connection is in a transaction."""

    def enter_transaction(self, transaction: Atomic, how: str | None) -> None:
        """Take the locks and begin; where that fails or is interrupted, undo both.

        `how` is what `atomic(how)` was given: a lock type or an isolation level.
        """

    def leave_transaction(self, transaction: Atomic, *, roll_back: bool) -> None:
        """Commit or roll back, and release locks and connection whatever happens."""

    def statement(self) -> AbstractContextManager[object]:
        """Return a block that undoes one statement alone when it fails, not its transaction."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Return a block that keeps other processes from changing the schema."""

    # --- compiled queries -------------------------------------------------------------------

    def fetch_all(
        self,
        sql: str,
        params: Sequence[Any],
        make: Callable[[Iterable[tuple[Any, ...]]], Iterable[R]],
    ) -> list[R]:
        """Run a compiled SELECT and return what `make` makes of its rows."""

    def insert_row(self, sql: str, params: Sequence[Any]) -> int:
        """Run a compiled INSERT of one row and return how many rows were stored, 0 or 1."""

    def insert_autoincrement(self, sql: str, params: Sequence[Any]) -> int:
        """Run a compiled INSERT of one row and return the id that the database gave it."""

    def insert_rows(
        self, sql: str, rows: Iterable[Sequence[Any]], fields: Sequence[peewee.Field[Any]]
    ) -> int:
        """Store many rows in the transaction that is open and return how many were stored.

        `sql` is the compiled INSERT of one row, `fields` are those it names.
        """

    @property
    def null_in_sql(self) -> bool:
        """Whether `insert_rows` may leave out columns in which no row has a value."""

    @property
    def streams(self) -> bool:
        """Whether `stream` reads in constant memory; otherwise rows are asked for page by page."""

    def stream(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        """Yield the rows of a query, some at a time where the driver can."""

    def stage(self, table: str) -> Any:
        """Return where many new rows of a table wait, a `sqlite.stage.Stage`, or None.

        None where storing many rows keeps no other program from writing.
        """

    # --- what an engine writes in its own way -----------------------------------------------

    def json_text(self, text: str) -> str:
        """Return JSON text as the database must get it to give the same values back."""

    def json_match(
        self,
        field: peewee.JSONField,
        keys: Sequence[str],
        equals: Any,
        minimum: float | None,
        maximum: float | None,
    ) -> peewee.Expression:
        """Return the condition on a value inside a JSON column; numbers compare as numbers."""

    def hour_of(self, field: peewee.Field[Any]) -> Any:
        """Return an expression that is equal for timestamps of the same hour, UTC."""

    # --- errors -----------------------------------------------------------------------------

    def translated(self, error: BaseException) -> BotMemoryError | None:
        """Return the botmemory error for one of the driver's or Peewee's; None where none fits."""

    def violated_constraint(self, error: peewee.IntegrityError) -> str:
        """Return the kind of constraint: `unique`, `reference`, `check` or `null`."""

    # --- ids --------------------------------------------------------------------------------

    def last_id(self, model: type[peewee.Model]) -> int:
        """Return the highest id the table ever had; 0 where the engine keeps none."""

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        """Let ids go on after `least` and after the highest one in the table, never back."""

    # --- schema -----------------------------------------------------------------------------

    @property
    def check_options(self) -> tuple[str, ...]:
        """The options of a model's `Meta` whose CHECKs its table has on this engine."""

    def read_checks(self, table: str, schema: str | None = None) -> dict[str, str]:
        """Return the CHECKs of a table by their names, or by themselves where they have none."""

    def is_partitioned(self, table: str) -> bool:
        """Return whether a table is cut into partitions, whose keys differ from the model's."""

    def can_make_scratch(self) -> bool:
        """Return whether this user may use `scratch`."""

    def scratch(self, *, with_tables: bool) -> AbstractContextManager[Backend]:
        """Return a block that yields a database in which nothing that is done stays.

        `with_tables`: it has the tables of this one (on SQLite without their rows). It may be this
        database itself, in a transaction that is rolled back.
        """

    def temporary_schema(self) -> str | None:
        """Return the schema of this connection's temporary tables; None where there is none."""

    def orphans(self) -> list[tuple[str, str]]:
        """Return the table of each row that refers to a missing one, and the table it refers to.

        Nothing where the engine itself always prevents that.
        """

    def back_up(self, number: str) -> None:
        """Copy a file beside itself before migration `number` changes it; keep the newest copies.

        Does nothing on a server, and in memory.
        """

    # --- health -----------------------------------------------------------------------------

    def damage(self, check: str = "quick_check") -> list[str]:
        """Return what is broken in the file, by `quick_check` or the slower `integrity_check`."""

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with where the database is: lock, journal, disk, file system."""

    def size(self) -> int:
        """Return the bytes that the database takes on the disk."""

    def snapshot(self) -> AbstractContextManager[sqlite3.Connection]:
        """Return a block that yields a connection which sees a file as it is now.

        Raises:
            ConfigError: A server is copied by its own tool.
        """

    # --- what Peewee's Database has and modules above use -----------------------------------

    @property
    def param(self) -> str: ...
    @property
    def Model(self) -> Any: ...  # noqa: N802  (Peewee's name)
    @property
    def query_hooks(self) -> list[Any]: ...

    def connection(self) -> Any: ...
    def execute(self, query: Any) -> Any: ...
    def execute_sql(self, sql: str, params: Any = None) -> Any: ...
    def get_sql_context(self) -> Any: ...
    def top_transaction(self) -> Any: ...
    def get_tables(self) -> list[str]: ...
    def get_columns(self, table: str, schema: str | None = None) -> list[Any]: ...
    def get_indexes(self, table: str, schema: str | None = None) -> list[Any]: ...
    def get_foreign_keys(self, table: str, schema: str | None = None) -> list[Any]: ...
    def get_primary_keys(self, table: str, schema: str | None = None) -> list[str]: ...
