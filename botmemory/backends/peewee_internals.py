"""Everything that botmemory uses of Peewee under a private name, each with its purpose.

Peewee may change a private name in any release, so all other modules use this one instead;
`tests/backends/test_peewee_internals.py` fails where they do not, and where Peewee has lost a name.
There is one exception: `schema/runner.py` extends `Runner._run`, of a module that only migrations
import. `Model._meta` is documented by Peewee and used everywhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import peewee
from peewee import __exception_wrapper__, _ConnectionLocal, _manual  # type: ignore[attr-defined]

Row = TypeVar("Row", bound=peewee.Model)

# --- errors ---------------------------------------------------------------------------------------

# a block that raises the driver's errors as Peewee's: for direct use of a connection or a cursor
peewee_errors = __exception_wrapper__

# --- databases ------------------------------------------------------------------------------------

# what Peewee keeps for each thread: connection, transactions, callbacks; backends add to it
ConnectionLocal = _ConnectionLocal
# the block in which a program itself begins and ends transactions
ManualCommit = _manual


class DatabaseInternals:
    """The private members of Peewee's `Database` that backends replace."""

    def __init__(self, local: Any, *args: Any, **options: Any) -> None:
        self.local = local
        super().__init__(*args, **options)
        # the same object, which Peewee's own methods use
        self._state = local
        # Peewee holds it to connect and to close, although what it guards belongs to one thread:
        # a thread that connects and one that writes could wait for each other
        self._lock = nullcontext()

    def _execute_cursor(self, sql: str, params: Any, **options: Any) -> Any:
        # all statements of Peewee pass here
        run = partial(super()._execute_cursor, sql, params, **options)  # type: ignore[misc]
        return self.run_statement(run, sql, options)

    def run_statement(self, run: Callable[..., Any], sql: str, options: dict[str, Any]) -> Any:
        """Call `run`, which executes a statement and returns its cursor, as this backend must.

        What `run` is called with goes to `cursor`.
        """
        raise NotImplementedError


def prepare_connection(database: Any, connection: sqlite3.Connection) -> None:
    """Set the pragmas of a new connection to SQLite and register Peewee's functions."""
    database._add_conn_hooks(connection)


def read_server_version(database: Any, connection: Any) -> None:
    """Set `server_version` as the server of a connection reports it."""
    database._set_server_version(connection)


def announce(database: Any, statements: Iterable[tuple[str, Any]], began: float) -> None:
    """Log statements that were executed without Peewee, and tell the query hooks of them."""
    for sql, params in statements:
        database._log_query(sql, params)
        if database.query_hooks:
            database._notify_hooks(sql, params, began, None)


def isolation_level_name(database: Any, level: str | int | None) -> str | None:
    """Return the name of an isolation level of a server, given as its name or Peewee's number."""
    adapter = database._adapter
    number = adapter.isolation_level_int(level)
    name: str | None = adapter.isolation_level_str(number) if number else None
    return name


def rows_of(query: Any, cursor: Any) -> Any:
    """Return an iterator of the rows of a query that was executed, as the query makes them."""
    return query._get_cursor_wrapper(cursor).iterator()


# --- rows -----------------------------------------------------------------------------------------

# a keyword argument that Peewee gives to a model's constructor, for a stored row
NO_DEFAULTS = "__no_default__"
# for generated code, which makes a row in half the time of `new_row`
FILL_ROW = "own['__data__'], own['__rel__'], own['_dirty'] = {values}, {{}}, set()"


def new_row(model: type[Row], values: dict[str, Any], related: dict[str, Any]) -> Row:
    """Return an instance of a stored row, without a call of `__init__`.

    `values` has each field's value by name, `related` the instances that foreign keys refer to.
    """
    row: Any = model.__new__(model)
    vars(row).update({"__data__": values, "__rel__": related, "_dirty": set()})
    made: Row = row
    return made


def initialized_row(model: type[Row], values: dict[str, Any], related: dict[str, Any]) -> Row:
    """Return an instance of a stored row as Peewee makes it, with a call of `__init__`."""
    row: Any = model(**{NO_DEFAULTS: True}, **values)
    row.__rel__.update(related)
    row._dirty.clear()
    made: Row = row
    return made


def values_of(row: peewee.Model) -> dict[str, Any]:
    """Return the values of a row by the names of its fields; of a foreign key, the key."""
    values: dict[str, Any] = row.__data__
    return values


def related_of(row: peewee.Model) -> dict[str, Any]:
    """Return the rows that foreign keys of a row refer to, as far as they are loaded."""
    related: dict[str, Any] = row.__rel__
    return related


def assigned_names(row: peewee.Model) -> set[str]:
    """Return the names of the fields assigned since the row was loaded; clear it to forget them."""
    names: set[str] = row._dirty  # type: ignore[attr-defined]
    return names
