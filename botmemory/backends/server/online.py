"""Migrations of PostgreSQL that bots do not wait for.

A statement that waits for a table makes each later one wait behind it, so that a migration waits
for a tenth of a second, lets the others through and tries again. What reads or writes a whole table
is put off until the transaction of the migration is over: indexes are built CONCURRENTLY, and
constraints are added NOT VALID and validated, which lets others read and write meanwhile.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import peewee
from peewee import SQL
from playhouse.migrate import Operation, PostgresqlMigrator, make_index_name
from playhouse.migrate import operation as untyped_operation
from psycopg.sql import Literal

from ...errors import DatabaseBusyError
from ..finding import Finding
from .errors import sqlstate
from .locks import WRITE_LOCK

LOCK_TIMEOUT = 0.1  # seconds that others wait behind a statement that waits for a table
LONGEST_PAUSE = 1.0  # seconds between two attempts
LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
SMALL = 1 << 20  # bytes of a table that is read in milliseconds, so that nothing is put off

_CHECK = re.compile(r'(?:CONSTRAINT "([^"]+)" )?(CHECK \(.*\))', re.DOTALL)
_CREATE_INDEX = re.compile(r'CREATE (?:UNIQUE )?INDEX [^"]+"([^"]+)" ON "([^"]+)"')

R = TypeVar("R")

operation: Callable[[Callable[..., Any]], Callable[..., Any]] = untyped_operation


class _NeedsIndexesError(Exception):
    """A migration needs indexes that cannot be built in its transaction."""

    def __init__(self, statements: list[str]) -> None:
        self.statements = statements


class OnlineMigrator(PostgresqlMigrator):  # type: ignore[misc]
    """Peewee's migrator, which puts off what would keep others waiting.

    A migration that says `atomic = False` is run as it is written.
    """

    def __init__(self, database: Any, schema: str | None = None) -> None:
        super().__init__(database, schema)
        self._is_atomic = self._is_rehearsal = False
        self._touched: set[str] = set()  # tables, by the attempts so far
        self._forget()

    def _forget(self) -> None:
        self._builds: list[str] = []
        self._validations: list[str] = []
        self._endings: list[str] = []  # that need what was built and validated
        self._dropped: list[str] = []  # names of indexes
        self._discarded: list[str] = []  # names of constraints that were not added yet

    # --- transactions -----------------------------------------------------------------------

    @contextmanager
    def migration_context(self, atomic: bool = True) -> Iterator[None]:
        if not atomic or self._is_atomic:
            with super().migration_context(atomic):
                yield
            return
        self._forget()
        self._is_atomic, self._is_rehearsal = True, self.database.in_transaction()
        try:
            with self._short_transaction():
                self._lock_touched()
                yield
        finally:
            self._is_atomic = False

    @contextmanager
    def _short_transaction(self) -> Iterator[None]:
        with self.database.atomic():
            # for this lock a long wait does no harm, but not while a table is locked
            self.database.acquire_write_lock("SELECT")
            self.database.execute_sql(f"SET LOCAL lock_timeout = {round(LOCK_TIMEOUT * 1000)}")
            yield

    def _lock_touched(self) -> None:
        """Lock the tables that an earlier attempt has touched, those that refer to others first.

        An INSERT locks its table and then those that it refers to. A migration that locks them in
        the other order waits for an INSERT that waits for it.
        """
        if not self._touched or self._is_rehearsal:
            return
        # a table is newer than those that it refers to
        sql = (
            "SELECT quote_ident(relname) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relname = ANY(%s) AND nspname = current_schema() ORDER BY c.oid DESC"
        )
        tables = [name for (name,) in self.database.execute_sql(sql, (list(self._touched),))]
        if tables:
            self.database.execute_sql(f"LOCK TABLE {', '.join(tables)}")

    def repeat(self, change: Callable[[], R]) -> R:
        if self.database.in_transaction():  # a rehearsal
            return change()
        self._touched.clear()
        timeout = self.database.config.busy_timeout
        began, pause, latest = time.monotonic(), LOCK_TIMEOUT, ""

        def record(event: Any) -> None:
            nonlocal latest
            if not event.sql.startswith("ROLLBACK"):
                latest = event.sql

        self.database.query_hooks.append(record)
        try:
            while True:
                try:
                    return change()
                except _NeedsIndexesError as error:
                    for statement in error.statements:
                        self.run_put_off(statement, lambda: None)
                    began = time.monotonic()
                    continue
                except DatabaseBusyError as error:
                    if sqlstate(error.__cause__ or error) not in (LOCK_NOT_AVAILABLE, DEADLOCK):
                        raise
                    # now, because they may be gone after the last attempt
                    busy = self._busy("nothing was changed", latest)
                    if time.monotonic() - began + pause >= timeout:
                        raise busy from error
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause = min(LONGEST_PAUSE, pause * 1.5)
        finally:
            self.database.query_hooks.remove(record)

    def _busy(self, outcome: str, sql: str) -> DatabaseBusyError:
        """Return an error that names the longest transactions that a statement waited for."""
        # with which the write lock is acquired
        key = WRITE_LOCK if sql.startswith("SET LOCAL") else None
        cursor = self.database.execute_sql(_HOLDERS, (sql, sql, key))
        holders = []
        for what, pid, name, state, age in cursor.fetchall():
            since = f", for {age.total_seconds():.0f} s" if age else ""
            by = f"held by pid {pid} ({name or 'no application_name'}, {state}{since})"
            holders.append(f"{what}, {by}")
        config = self.database.config
        return DatabaseBusyError(
            f"{config.label}: waited {config.busy_timeout:g} s for "
            f"{' and '.join(holders) or f'what others held in turn ({sql[:80]})'}; {outcome}: "
            "repeat the call when that has ended, or raise busy_timeout"
        )

    # --- what is put off --------------------------------------------------------------------

    def put_off(self) -> list[str]:
        """Return the statements that follow the transaction, each of which may be repeated."""
        return [*self._builds, *self._validations, *self._endings]

    def run_put_off(self, statement: str, record: Callable[[], None]) -> None:
        database, is_rehearsal = self.database, self.database.in_transaction()
        if not ("CONCURRENTLY" in statement or "VALIDATE" in statement):
            self.repeat(lambda: self._run_short(statement, record))
            return
        if is_rehearsal:
            statement = statement.replace("CONCURRENTLY", "/* CONCURRENTLY */", 1)
        try:
            if not self._is_built(statement, is_rehearsal):
                database.execute_sql(statement)
        except DatabaseBusyError as error:
            raise self._busy("it was not done", statement) from error
        record()

    def _run_short(self, statement: str, record: Callable[[], None]) -> None:
        with self._short_transaction():
            self.database.execute_sql(statement)
            record()

    def _is_built(self, statement: str, is_rehearsal: bool) -> bool:
        """Return whether an index is there and valid; drop what an interrupted build has left."""
        found = _CREATE_INDEX.match(statement)
        if found is None:
            return False
        name, table = found.groups()
        if not is_rehearsal:
            with self.database.atomic():
                # the server may still be building it for a process that was killed
                sql = f'LOCK TABLE "{table}" IN SHARE UPDATE EXCLUSIVE MODE'
                self.database.execute_sql(sql)
        valid = self.database.execute_sql(_IS_VALID, (name,)).fetchone()
        if valid == (False,):
            self.database.execute_sql(f'DROP INDEX CONCURRENTLY "{name}"')
        return bool(valid == (True,))

    def discard(self, statements: list[str]) -> None:
        for statement in statements:
            if found := re.search(r' ADD CONSTRAINT "([^"]+)" UNIQUE USING', statement):
                self._discarded.append(found[1])
            elif " DROP CONSTRAINT IF EXISTS " in statement:
                self.database.execute_sql(statement)
            found = found or re.match(r'(?:CREATE .*|ALTER )INDEX .*?"([^"]+)"', statement)
            if found:
                self.database.execute_sql(f'DROP INDEX IF EXISTS "{found[1]}"')

    def _runs_now(self, table: str) -> bool:
        """Return whether a change of a whole table takes milliseconds, or cannot be put off."""
        self._touched.add(table)
        # of a copy for a rehearsal, which comes first in the path, and of the table itself
        cursor = self.database.execute_sql(
            "SELECT max(pg_relation_size(c.oid)) FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relkind = 'r' AND relname = %s AND nspname = ANY(current_schemas(false))",
            (table,),
        )
        return not self._is_atomic or (cursor.fetchone()[0] or 0) <= SMALL

    # --- operations -------------------------------------------------------------------------

    @operation
    def add_index(
        self, table: str, columns: Any, *args: Any, name: str | None = None, **options: Any
    ) -> Any:
        name = name or make_index_name(table, columns)
        is_replaced = name in self._dropped
        exists = name in [index.name for index in self.database.get_indexes(table, self.schema)]
        if self._runs_now(table) or (exists and not is_replaced):
            return super().add_index(table, columns, *args, name=name, **options)
        built = f"{name[:59]}_new" if is_replaced else name
        sql = self._sql_of(super().add_index(table, columns, *args, name=built, **options))
        self._builds.append(sql.replace("INDEX", "INDEX CONCURRENTLY", 1))
        if is_replaced:  # the old one serves until the new one is there
            self._endings.append(f'ALTER INDEX IF EXISTS "{built}" RENAME TO "{name}"')
        return []

    @operation
    def drop_index(self, table: str, index_name: str) -> Any:
        drop = super().drop_index(table, index_name)
        if self._runs_now(table):
            return drop
        self._dropped.append(index_name)
        sql = self._sql_of(drop)
        self._endings.append(sql.replace("INDEX", "INDEX CONCURRENTLY IF EXISTS", 1))
        return []

    @operation
    def alter_column_type(self, table: str, column: str, *args: Any, **options: Any) -> Any:
        alter = super().alter_column_type(table, column, *args, **options)
        if self._runs_now(table):
            return alter
        needed, drops = [], []
        for name, create, columns, condition in self._partial_indexes(table, column):
            # it would be built again before anybody goes on, as an index of all rows is not
            whole = f"{name[:57]}_whole"
            if self.database.execute_sql(_IS_VALID, (whole,)).fetchone() != (True,):
                needed.append(f'{create} "{whole}" ON "{table}" {columns}')
            drops.append(super().drop_index(table, name))
            self._builds.append(f'{create} "{name}" ON "{table}" {columns} {condition}')
            self._endings.append(f'DROP INDEX CONCURRENTLY IF EXISTS "{whole}"')
        if self._is_rehearsal:
            for statement in needed:
                self.run_put_off(statement, lambda: None)
        elif needed:
            raise _NeedsIndexesError(needed)
        return [*drops, alter]

    def _partial_indexes(self, table: str, column: str) -> Iterator[tuple[str, str, str, str]]:
        """Yield the name of each index on some rows that one on all rows can stand in for.

        With the parts of its definition: up to its name, columns, condition.
        """
        for name, definition, condition in self.database.execute_sql(
            _PARTIAL_INDEXES, (column, table)
        ).fetchall():
            [(create, columns)] = re.findall(r"(CREATE.*? INDEX) .+? ON .+? (USING .+)", definition)
            columns = columns.removesuffix(f" WHERE {condition}")
            # NULLs are distinct, so that the condition does not matter to what is unique
            ignores = re.fullmatch(r"\((\w+) IS NOT NULL\)", condition)
            if "UNIQUE" not in create or (ignores and ignores[1] in re.findall(r"\w+", columns)):
                yield name, f"{create} CONCURRENTLY", columns, f"WHERE {condition}"

    @operation
    def add_constraint(self, table: str, name: str, constraint: Any) -> Any:
        added = super().add_constraint(table, name, constraint)
        if self._runs_now(table):
            return added
        text, _ = self.make_context().sql(constraint).query()
        if re.match("CHECK|FOREIGN KEY", text):
            return self._not_valid(table, added)
        if found := re.fullmatch(r"UNIQUE (\(.*\))", text):
            self._builds.append(
                f'CREATE UNIQUE INDEX CONCURRENTLY "{name}" ON "{table}" {found[1]}'
            )
            self._endings.append(f'{self._sql_of(added)[: -len(text)]}UNIQUE USING INDEX "{name}"')
            return []
        return added

    @operation
    def drop_constraint(self, table: str, name: str) -> Any:
        self._touched.add(table)
        return [] if name in self._discarded else super().drop_constraint(table, name)

    @operation
    def add_foreign_key_constraint(self, table: str, *args: Any, **options: Any) -> Any:
        added = super().add_foreign_key_constraint(table, *args, **options)
        return added if self._runs_now(table) else self._not_valid(table, added)

    def _not_valid(self, table: str, added: Operation) -> SQL:
        """Return the statement that adds a constraint for new rows alone; put off the others."""
        sql = self._sql_of(added)
        [name] = re.findall(r' ADD CONSTRAINT "([^"]+)"', sql)
        self._validations.append(f'ALTER TABLE "{table}" VALIDATE CONSTRAINT "{name}"')
        return SQL(f"{sql} NOT VALID")

    @operation
    def add_column(
        self, table: str, column_name: str, field: Any, allow_not_null: bool = False
    ) -> Any:
        if self._runs_now(table):
            return super().add_column(table, column_name, field, allow_not_null)
        field = field.clone()
        checks, others, later = [], [], []
        for constraint in field.constraints or ():
            text, _ = self.make_context().sql(constraint).query()
            if found := _CHECK.fullmatch(text):
                checks.append(found)
            else:
                others.append(constraint)
        if not field.null and field.default is not None and not allow_not_null:
            # the server notes the value once, where Peewee would write each row
            value = field.default() if callable(field.default) else field.default
            literal = Literal(field.db_value(value)).as_string().replace("%", "%%")
            others.append(SQL(f"DEFAULT {literal}"))
            allow_not_null = True
            later.append(self.drop_column_default(table, column_name))
        field.constraints = others
        for number, check in enumerate(checks):
            name = check[1] or f"{table}_{column_name}_check{number or ''}"
            later.append(self.add_constraint(table, name, SQL(check[2])))
        return [super().add_column(table, column_name, field, allow_not_null), *later]

    @operation
    def add_not_null(self, table: str, column: str) -> Any:
        added = super().add_not_null(table, column)
        if self._runs_now(table):
            return added
        # the server accepts a CHECK that is valid in place of reading the table
        name = f"{table}_{column}_not_null_new"
        self._endings.append(self._sql_of(added))
        self._endings.append(f'ALTER TABLE "{table}" DROP CONSTRAINT IF EXISTS "{name}"')
        return self.add_constraint(table, name, peewee.Check(f'"{column}" IS NOT NULL'))

    def _sql_of(self, operation: Operation) -> str:
        """Return the SQL of an operation that is one statement without values."""
        sql, params = operation.fn(self, *operation.args, **operation.kwargs).query()
        if params:
            raise ValueError(f"{sql}: has values, which a statement of the schema cannot have")
        return str(sql)


def copy_tables(database: Any) -> None:
    """Create the tables of the schema as temporary ones without rows, which come first in the path.

    In the open transaction. Only ACCESS SHARE locks are acquired.
    """
    tables = database.execute_sql(_TABLES).fetchall()
    statements = [sql for (sql,) in database.execute_sql(_INDEXES_AND_KEYS).fetchall()]
    [(path,)] = database.execute_sql("SHOW search_path").fetchall()
    database.execute_sql(f"SET LOCAL search_path TO pg_temp, {path}")
    for name, qualified in tables:
        like = f"LIKE {qualified} INCLUDING ALL EXCLUDING INDEXES"
        database.execute_sql(f"CREATE TABLE {name} ({like})")
    for statement in statements:
        database.execute_sql(statement.replace("%", "%%"))


def schema_findings(database: Any) -> Iterator[Finding]:
    """Yield indexes that are invalid and constraints that are not validated."""
    for table, kind, name, state, command in database.execute_sql(_NOT_IN_FORCE).fetchall():
        yield Finding("error", f"{table}: the {kind} {name} is {state}", f"run '{command}'")


# who holds a table that a statement names, or the write lock; CREATE INDEX CONCURRENTLY and the
# like wait for all older snapshots too
_HOLDERS = """
SELECT CASE locktype WHEN 'relation' THEN 'the table ' || relname
    WHEN 'advisory' THEN 'the write lock' ELSE 'an older snapshot' END,
    a.pid, application_name, state, now() - xact_start AS age
FROM pg_locks l JOIN pg_stat_activity a USING (pid) LEFT JOIN pg_class c ON c.oid = relation
WHERE granted AND datname = current_database() AND a.pid <> pg_backend_pid() AND (
    relkind IN ('r', 'p') AND strpos(%s, relname) > 0
    OR locktype = 'virtualxid' AND backend_xmin IS NOT NULL AND strpos(%s, 'CONCURRENTLY') > 0
    OR locktype = 'advisory' AND (classid::bigint << 32 | objid::bigint) = %s
)
GROUP BY 1, 2, 3, 4, 5 ORDER BY age DESC NULLS LAST LIMIT 3
"""
_IS_VALID = """
SELECT indisvalid FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
JOIN pg_namespace n ON n.oid = relnamespace
WHERE relname = %s AND nspname = current_schema()
"""
# indexes on some rows that depend on a column
_PARTIAL_INDEXES = """
SELECT c.relname, pg_get_indexdef(i.indexrelid), pg_get_expr(indpred, indrelid)
FROM pg_index i JOIN pg_class c ON c.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = indrelid AND attname = %s
WHERE t.relname = %s AND nspname = current_schema() AND indpred IS NOT NULL AND indexprs IS NULL
AND EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = indexrelid
    AND refobjid = indrelid AND refobjsubid = attnum)
ORDER BY 1
"""
# tables that are not partitions
_TABLES = """
SELECT quote_ident(relname), format('%%I.%%I', nspname, relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = current_schema() AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY c.oid
"""
# what LIKE does not copy, or under another name; foreign keys come after what they refer to
_INDEXES_AND_KEYS = """
WITH t AS (
    SELECT c.oid, relname, nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = current_schema() AND relkind IN ('r', 'p') AND NOT relispartition
)
SELECT sql FROM (
    SELECT contype = 'f' AS is_last, format(
        'ALTER TABLE %%I ADD CONSTRAINT %%I %%s', relname, conname, pg_get_constraintdef(o.oid)
    ) AS sql
    FROM pg_constraint o JOIN t ON t.oid = conrelid
    WHERE contype IN ('p', 'u', 'x') OR contype = 'f' AND confrelid IN (SELECT oid FROM t)
    UNION ALL
    SELECT false, replace(
        replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON '),
        format(' ON %%I.%%I ', nspname, relname), format(' ON %%I ', relname)
    )
    FROM pg_index JOIN t ON t.oid = indrelid
    WHERE indisvalid
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
) AS statement
ORDER BY is_last, sql
"""
_NOT_IN_FORCE = """
SELECT relname, 'index', i.indexrelid::regclass::text, 'invalid: its build was interrupted',
    format('REINDEX INDEX CONCURRENTLY %%s', i.indexrelid::regclass)
FROM pg_index i JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE NOT indisvalid AND nspname = current_schema()
UNION ALL
SELECT relname, CASE contype WHEN 'f' THEN 'foreign key' ELSE 'check' END, conname::text,
    'not validated: rows may violate it',
    format('ALTER TABLE %%s VALIDATE CONSTRAINT %%I', conrelid::regclass, conname)
FROM pg_constraint JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
WHERE NOT convalidated AND nspname = current_schema()
ORDER BY 1, 2, 3
"""
