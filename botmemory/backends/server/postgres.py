"""The backends of PostgreSQL and of CockroachDB."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import peewee
import psycopg.sql
from peewee import fn
from playhouse import cockroachdb  # pyright: ignore[reportAttributeAccessIssue]
from playhouse.postgres_ext import FetchManyCursor, PostgresqlExtDatabase

from ...config import Config
from ...errors import StorageError
from ..base import Fields, Values
from ..change_marker import ChangeMarker
from ..peewee_internals import peewee_errors, rows_of, server_side_cursor
from .base import ServerMixin
from .pool import IDLE, ServerConnection

# keys of advisory locks, which are per database; they must never change
WRITE_LOCK = 0x626F746D656D0001
MIGRATION_LOCK = 0x626F746D656D0002
ROWS_PER_FETCH = 1000
FIRST_WITH_SNAPSHOTS = 13_00_00

Row = TypeVar("Row", bound=peewee.Model)


def _sequence_of(key: Any) -> Any:
    """Return the name of the sequence of a key."""
    return fn.PG_GET_SERIAL_SEQUENCE(key.model._meta.table_name, key.column_name)


class PostgresBackend(ServerMixin, PostgresqlExtDatabase):  # type: ignore[misc]
    """A PostgreSQL database, opened as `config` says.

    A transaction acquires an advisory lock, the write lock, at its first statement that reads,
    changes or deletes, and holds it to the end: what it has read is still true when it writes. An
    INSERT needs no lock.
    """

    # Peewee's REAL would keep 7 digits of a FloatField
    field_types = PostgresqlExtDatabase.field_types | {"FLOAT": "DOUBLE PRECISION"}
    snapshot_mode = "REPEATABLE READ"
    oldest_version, oldest_release = 12_00_00, "PostgreSQL 12"
    streams = True

    def __init__(self, config: Config) -> None:
        # after waiting for the write lock, a transaction must see what was committed meanwhile
        self.isolation_level = "REPEATABLE READ" if config.read_only else "READ COMMITTED"
        super().__init__(config)

    def session_settings(self) -> dict[str, str]:
        settings = super().session_settings()
        if self.config.synchronous == "normal":
            settings["synchronous_commit"] = "off"
        return settings

    def acquire_write_lock(self, sql: str) -> None:
        local = self.local
        if local.has_write_lock or self.config.read_only:
            return
        if sql.startswith(("SELECT", "UPDATE", "DELETE", "DECLARE", "WITH", "(")):
            local.has_write_lock = True
            self.execute_sql("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from changing the schema; the lock ends with its connection."""
        connection = self.another_connection()
        try:
            try:
                with peewee_errors:
                    connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
            except peewee.DatabaseError as error:
                raise self.lost_or_translated(error, connection, "nothing was changed") from error
            yield
        finally:
            try:
                self.roll_back_leftover()
            finally:
                connection.close()

    def insert_rows(self, sql: str, rows: Iterable[Values], fields: Fields) -> int:
        table, schema = fields[0].model._meta.table_name, fields[0].model._meta.schema
        copy_in = psycopg.sql.SQL("COPY {} ({}) FROM STDIN").format(
            psycopg.sql.Identifier(*filter(None, (schema, table))),
            psycopg.sql.SQL(", ").join(psycopg.sql.Identifier(f.column_name) for f in fields),
        )

        def copy_rows() -> int:
            with peewee_errors, self.connection().cursor() as cursor:
                with cursor.copy(copy_in) as copy:
                    for row in rows:
                        copy.write_row(row)
                return int(cursor.rowcount)

        return self._run_in_transaction(copy_rows, "COPY")

    def last_id(self, model: type[peewee.Model]) -> int:
        key: Any = model._meta.primary_key
        if not isinstance(key, peewee.AutoField):
            return 0
        last_value = fn.PG_SEQUENCE_LAST_VALUE(_sequence_of(key).cast("regclass"))
        highest = fn.GREATEST(last_value, model.select(fn.MAX(key)), 0)
        return int(peewee.Select(columns=[highest]).bind(self).scalar())

    def advance_sequence(self, model: type[peewee.Model], least: int = 0) -> None:
        last = max(least, self.last_id(model))
        if last:
            sequence = _sequence_of(model._meta.primary_key)
            # never back: the id of a deleted row is not used again
            is_behind = fn.COALESCE(fn.PG_SEQUENCE_LAST_VALUE(sequence.cast("regclass")), 0) < last
            query = peewee.Select(columns=[fn.SETVAL(sequence, last)]).where(is_behind)
            query.bind(self).execute()

    def change_marker(self) -> ChangeMarker | None:
        if (self.server_version or 0) < FIRST_WITH_SNAPSHOTS:
            return None
        # the snapshot is equal as long as no transaction begins to write and none ends; role and
        # schemas say which tables are read, and a policy may hide rows by any setting
        cursor = self.execute_sql(
            "SELECT pg_current_snapshot()::text, current_user::text, current_schemas(true)::text, "
            "pg_current_xact_id_if_assigned() IS NULL AND NOT pg_is_in_recovery() "
            "AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy)"
        )
        *version, is_complete = cursor.fetchone()
        # not with changes of its own; and a standby does not list all that is in progress
        return ChangeMarker(tuple(version), True, cursor.connection.cache) if is_complete else None

    def can_make_scratch(self) -> bool:
        sql = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
        return not self.config.read_only and bool(self.execute_sql(sql).fetchone()[0])

    def cursor(self, named_cursor: Any = None) -> Any:
        if isinstance(named_cursor, ServerConnection):
            return server_side_cursor(self, named_cursor)
        return super().cursor(named_cursor)

    def stream(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        """Yield the rows of a query through a cursor on the server, some at a time.

        Outside a transaction it uses a connection of its own, without a lock or a snapshot: the
        cursor is WITH HOLD, and the server has materialized the result.
        """
        if self.in_transaction():
            yield from self._stream_in_transaction(query)
            return
        pool, connection, cursor, is_closed = self.pool, None, None, False
        try:
            connection = self.acquire_connection()
            with self._translated_errors(connection):
                cursor = self._execute_on_server(query, connection)
                yield from rows_of(query, cursor)
        finally:
            try:
                if connection is not None and cursor is not None:
                    with suppress(psycopg.Error):
                        # False inside another call of the connection
                        is_free = not connection.lock.locked()
                        cursor.close()
                        is_closed = is_free
            finally:
                if connection is not None:
                    # a connection with an open cursor must not return to the pool
                    status = connection.pgconn.transaction_status
                    if is_closed and status == IDLE and not pool.is_closed:
                        pool.idle.append(connection)
                    else:
                        connection.pgconn.finish()

    def _stream_in_transaction(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        """Yield rows while the open transaction lasts; then its connection is used by others."""
        transaction, connection = self.top_transaction(), self.local.conn
        cursor = self._execute_on_server(query, connection)
        try:
            with self._translated_errors(connection):
                for row in rows_of(query, cursor):
                    yield row
                    if self.top_transaction() is not transaction:
                        raise StorageError(
                            f"{self.config.label}: the transaction of this iterate() is over; "
                            "finish it inside session_scope(), or call it outside"
                        )
        finally:
            try:
                if self.top_transaction() is transaction:
                    with suppress(psycopg.Error):
                        cursor.close()
            finally:
                psycopg.Cursor.close(cursor.cursor)  # closes it locally, without a statement

    def _execute_on_server(
        self, query: peewee.ModelSelect[Row], connection: ServerConnection
    ) -> FetchManyCursor:
        own: Any = connection  # Peewee passes it on to `cursor`
        return self.execute(query, named_cursor=own, array_size=ROWS_PER_FETCH)

    @contextmanager
    def _translated_errors(self, connection: ServerConnection) -> Iterator[None]:
        try:
            with peewee_errors:
                yield
        except (peewee.DatabaseError, peewee.InterfaceError) as error:
            raise self.lost_or_translated(error, connection, "read it again") from error


class CockroachBackend(ServerMixin, cockroachdb.CockroachDatabase):  # type: ignore[misc]
    """A CockroachDB cluster, opened as its config says.

    Its transactions are serializable without a lock: on a conflict one is rolled back with SQLSTATE
    40001, a `DatabaseBusyError`, and `run_transaction` repeats it.
    """

    oldest_version = cockroachdb.NESTED_TX_MIN_VERSION
    oldest_release = "CockroachDB 20.1, which has no savepoints"

    def parameters(self) -> dict[str, str]:
        return {"user": "root", "port": "26257"} | super().parameters()
