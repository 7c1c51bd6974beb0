"""Checks of a SQLite file: damage, tables, disk, file system, other names."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee

from ..finding import Finding
from ..peewee_internals import peewee_errors
from .errors import is_damage, translated
from .file_state import size_of
from .file_system import mount_of, other_names, problem_of, read_mounts

LARGE_WAL = 20 * 1024 * 1024  # bytes
MINIMUM_FREE_SPACE = 100 * 1024 * 1024  # bytes
# the first release of each branch with the fix of a bug that damages a -wal when it is reset
WAL_RESET_FIXED = ((3, 44, 6), (3, 50, 7), (3, 51, 3))


def damage(database: peewee.SqliteDatabase, check: str = "quick_check") -> list[str]:
    """Return what `quick_check` or `integrity_check` reports of the file itself."""
    raw: Any = database.connection()  # type: ignore[no-untyped-call]
    try:
        with peewee_errors:
            lines = raw.execute(f"PRAGMA {check}(100)").fetchall()
    except peewee.DatabaseError as error:
        if not is_damage(error):
            raise translated(error, database.database, "cannot be checked for damage") from error
        return [str(error)]
    # rows that violate a constraint were written by another program, and are no damage
    ignored = ("ok", "CHECK constraint", "NULL value", "non-unique entry")
    return [line for (line,) in lines if not line.startswith(ignored)]


def read_checks(database: peewee.SqliteDatabase, table: str) -> dict[str, str]:
    """Return the CHECK constraints of a table by name; one without a name by its condition."""
    cursor: Any = database.execute_sql(  # type: ignore[no-untyped-call]
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)
    )
    sql = (cursor.fetchone() or ("",))[0]
    checks = {}
    for start in re.finditer(r'(?:CONSTRAINT "?(\w+)"? )?CHECK \(', sql):
        depth, end, quoted = 1, start.end(), False
        while depth:  # until the closing parenthesis
            quoted ^= sql[end] == "'"
            depth += 0 if quoted else {"(": 1, ")": -1}.get(sql[end], 0)
            end += 1
        condition = sql[start.end() : end - 1]
        checks[start[1] or condition] = condition
    return checks


def table_statements(database: Any) -> list[str]:
    """Return the SQL that creates the tables, indexes, views and triggers of a database."""
    # shadow tables are created with their virtual table
    tables = database.execute_sql("PRAGMA table_list").fetchall()
    shadow_tables = [name for _, name, kind, *_ in tables if kind == "shadow"]
    master = peewee.Table("sqlite_master").bind(database)
    statements = master.select(master.c.sql).where(
        master.c.sql.is_null(False),
        ~master.c.name.startswith("sqlite_"),
        master.c.name.not_in(shadow_tables),
    )
    return [sql for (sql,) in statements.order_by(peewee.SQL("rowid")).tuples()]


def findings(database: Any, path: Path) -> Iterator[Finding]:
    """Yield what is wrong with the lock, the journal, the disk and the names of a file."""
    if (reason := database.find_lock_problem()) is not None:
        yield Finding(
            "warning",
            f"{reason}: writers of several processes do not queue, and some may fail with 'busy'",
            "let every user that writes the database read and write this file, or delete it while "
            "no bot runs",
        )
    if (mode := database.pragma("journal_mode")) != "wal":
        yield Finding(
            "warning",
            f"the journal mode is '{mode}', not 'wal': readers and writers wait for each other",
            "close the database everywhere and open it again with init_db()",
        )
    wal = f"{path}-wal"
    if (size := size_of(wal)) > LARGE_WAL:
        yield Finding(
            "warning",
            f"{wal} has {size / 1e6:,.0f} MB: a transaction reads an old state of the database",
            "end the transaction or the query that was left open, in whichever program",
        )
    free = shutil.disk_usage(path.parent).free
    if free < max(MINIMUM_FREE_SPACE, path.stat().st_size):
        yield Finding(
            "warning",
            f"{path.parent} has {free / 1e6:,.0f} MB of free disk left",
            "free some space: a backup and a migration need as much as the size of the file",
        )
    mount = mount_of(str(path), read_mounts())
    if mount is not None and (problem := problem_of(mount.kind)) is not None:
        yield Finding(problem.severity, f"{path} is on {problem.what}", problem.advice)
    for why in other_names(path):
        yield Finding(
            "warning",
            f"{path} {why}: a program that opens it by another name does not see its -wal, "
            "and both may damage it",
            "let every program open it by one name, and mount its folder, not the file alone",
        )
    version = sqlite3.sqlite_version_info
    if not any(version[:2] == fixed[:2] and version >= fixed for fixed in WAL_RESET_FIXED) and (
        version < max(WAL_RESET_FIXED)
    ):
        yield Finding(
            "info",
            f"SQLite {sqlite3.sqlite_version} can damage a -wal when two connections reset and "
            "write it at once",
            "botmemory's write lock prevents it between bots; do not write the file with "
            "other programs, or use a Python with SQLite 3.51.3",
        )
