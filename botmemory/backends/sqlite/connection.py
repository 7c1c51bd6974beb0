"""The connection of one thread to one file: how it is opened and closed."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Hashable
from contextlib import closing, suppress
from typing import Any

from ..transactions import ThreadState
from .errors import cannot_open
from .file_state import content_of, size_of, uri_of
from .lock import FileLock


class Connection:
    """The connection of one thread to one file, and its write lock; closed when the thread ends.

    `path` is None for `:memory:`.
    """

    # defaults for `__del__`: an interrupt may end `__init__` early
    process: int | None = None
    closed = True

    def __init__(self, raw: sqlite3.Connection, path: str | None = None) -> None:
        self.raw = raw
        self.path = path
        # `lock.release()` releases the write lock if it is held, as one call into C
        self.lock = FileLock(f"{path}-lock", like=path)
        self.is_idle = False  # the connection of a worker between two calls: a fork closes it
        self.is_executing = False  # a statement that may change rows
        self.has_write_lock = False  # an outer call of this thread holds the write lock
        self.keeps_write_lock = False  # beyond a transaction, while the schema is changed
        self.process = os.getpid()
        self.must_reopen = False  # before the next write
        self.files: tuple[int, ...] = ()
        self.must_remove_wal = False  # it is read-only and created a -wal, which it cannot remove
        self.immutable_content: tuple[object, ...] = ()  # of a file opened with immutable=1
        self.rows_inserted = 0  # of those that `raw` counts as changes, by compiled INSERTs
        # number of changes and schema version before the transaction
        self.before_transaction: tuple[int, int] | None = None
        self.cache: dict[Hashable, Any] = {}
        self.is_leaked = False
        self.closed = False

    def pragma(self, name: str) -> int:
        """Return the value of a PRAGMA that is a whole number."""
        [value] = self.raw.execute(f"PRAGMA {name}").fetchone()
        return int(value)

    def note_changes(self) -> None:
        """Remember what shows whether a transaction that begins now has changed anything."""
        self.before_transaction = None
        with suppress(sqlite3.Error):
            self.before_transaction = (self.raw.total_changes, self.pragma("schema_version"))

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.raw.close()
        self.lock.close()
        if self.must_remove_wal and self.path is not None:
            # a writable connection removes an empty -wal, if it is the last one to close
            target = uri_of(self.path, "rw")
            with (
                suppress(sqlite3.Error),
                closing(sqlite3.connect(target, timeout=0, uri=True)) as last,
            ):
                last.execute("PRAGMA schema_version")

    def leak_on_purpose(self) -> None:
        """Never close it: closing would write an orphaned -wal over newer pages."""
        import ctypes  # here: it is rarely needed and slow to import

        self.closed = self.is_leaked = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.raw))

    def __del__(self) -> None:
        # a child process must not close what it inherited: the parent goes on with it
        if self.process == os.getpid():
            self.close()


class _Raw(sqlite3.Connection):
    """The driver's connection, which a `Connection` closes.

    Since Python 3.13 its own finalizer warns where it closes, and in a cycle, such as that of an
    exception which is kept, it may be called first.
    """

    def __del__(self) -> None:
        with suppress(sqlite3.Error):  # of one that could not be opened
            self.close()


class State(ThreadState):
    """What each thread has of its own."""

    connection: Connection | None = None

    def reset(self) -> None:
        """Forget the connection and its transactions; no interrupt leaves a part of them."""
        self.connection, self.conn, self.closed = None, None, True
        self.ctx, self.transactions, self.commit_callbacks = [], [], []


def open_raw(target: str, prepare: Callable[[sqlite3.Connection], object]) -> sqlite3.Connection:
    """Open a file or URI with the driver; `prepare` sets the pragmas."""
    raw = sqlite3.connect(
        target,
        timeout=0,  # the backend waits itself, interruptibly and with one time limit
        isolation_level=None,
        uri=True,
        check_same_thread=False,  # the last reference may go in another thread
        factory=_Raw if sys.version_info >= (3, 13) else sqlite3.Connection,
    )
    try:
        prepare(raw)
        raw.execute("PRAGMA schema_version").fetchone()  # opens the -wal
    except BaseException:
        raw.close()
        raise
    return raw


def open_read_only(path: str, prepare: Callable[[sqlite3.Connection], object]) -> Connection:
    has_wal = size_of(path + "-wal") > 0
    target = uri_of(path, "ro")
    try:
        connection = Connection(open_raw(target, prepare), path)
    except sqlite3.OperationalError as error:
        if has_wal or not cannot_open(error):
            raise
        # in a folder that is not writable SQLite can open the file as immutable only, and does not
        # notice that another program writes it: the backend compares the content itself
        content = content_of(path)
        connection = Connection(open_raw(f"{target}&immutable=1", prepare), path)
        connection.immutable_content = content
    connection.must_remove_wal = not has_wal
    return connection
