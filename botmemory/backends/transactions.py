"""The one place where a transaction begins and ends, on every backend and at every interrupt.

CPython runs signal handlers where a Python function is entered, after a call into C, and at a
backward jump; an exception of a handler (KeyboardInterrupt, a timeout) can be raised there and
nowhere else. So the code that releases a lock or a connection is in a `finally`: one call into C,
with only assignments before it, so that no handler runs in between. One place remains, the entry of
the function that `with` calls at the end of a block; `_Exit` handles it.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from functools import partial, wraps
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn, ParamSpec, TypeVar

import peewee

from ..config import Config
from ..errors import BotMemoryError, DatabaseBusyError, StorageError, ValidationError, show
from .keys import Key, Keys, refuse_unknown_key, require_key
from .ownership import current_owner, is_owner, suspension_of
from .peewee_internals import ConnectionLocal, DatabaseInternals, ManualCommit
from .statements import uses_rows

P = ParamSpec("P")
R = TypeVar("R")
Row = TypeVar("Row", bound=peewee.Model)

# the block of the current context, which asyncio, anyio and trio copy to their worker threads
_current_block: ContextVar[Atomic | None] = ContextVar("botmemory block", default=None)


class _Exit:
    """The descriptor of `Atomic.__exit__`.

    Only the `with` statement refers to the object that it gets here. If an interrupt is raised as
    `_exit` is entered, that object is deleted without having been called, and its weak reference
    rolls the block back. A bound method would not do: the traceback refers to it, and a notebook
    keeps tracebacks.
    """

    def __get__(self, block: Atomic | None, kind: type[Atomic]) -> Callable[..., None]:
        if block is None:
            return kind._exit  # contextlib.ExitStack asks the class
        leave = [partial(block._exit)]
        if not block.is_open:
            block.exit_reference = weakref.ref(leave[0], block._interrupted)
        return leave.pop()  # this frame, which a debugger may keep, no longer refers to it


class ExitOfDatabase:
    """The descriptor of a database's `__exit__`: leaves a block and closes the connection."""

    def __get__(self, database: Any, kind: object) -> Callable[..., None]:
        if database is None:  # contextlib.ExitStack asks the class
            return lambda database, *error: database.current().local.ctx[-1]._exit(*error)
        current = database.current()
        block = current.local.next_block = Atomic(lambda: current, closes_connection=True)
        leave: Callable[..., None] = block.__exit__
        return leave


class Atomic:
    """A block that is one transaction, or a savepoint inside another one.

    `session_scope()` and Peewee's `atomic()` return it; it is a decorator too. `current` returns
    the database when the block is entered.
    """

    __exit__: Any = _Exit()
    # a weak reference to its connection, which lives as long as the thread that began it
    connection: Callable[[], Any]

    def __init__(
        self,
        current: Callable[[], Any],
        mode: str | None = None,
        *,
        gives_database: bool = False,
        closes_connection: bool = False,
        only_reads: bool = False,
        keys: Keys | None = None,
    ) -> None:
        self._current = current
        self._mode = mode
        self._gives_database = gives_database
        self._closes_connection = closes_connection
        self.only_reads = only_reads
        self.keys = keys
        self.exit_reference: weakref.ref[Any] | None = None
        self.is_open = False
        self.is_changing = False  # it begins or ends now, and a signal handler may interrupt that
        self.interrupted: dict[str, Any] = {}  # the state of the statement that it interrupted
        self.had_write_lock = False  # an outer call of this thread holds the write lock
        self.position = 0  # in the list of the thread's transactions
        self.is_outermost = False
        self.rollback_reason: str | None = None  # why it cannot be committed
        self.inner: list[Atomic] = []  # its open savepoints
        self.savepoints = 0  # how many it had

    def __enter__(self) -> Any:
        database = self.database = self._current()
        self.thread = threading.get_ident()
        self.owner = current_owner()
        self.suspension = suspension_of(sys._getframe(1), database)
        self.rollback_reason = None
        if database.in_transaction():
            self._enter_savepoint(database.top_transaction())
        else:
            self.is_outermost = True
            self.inner = []
            database.enter_transaction(self, self._mode)
            _current_block.set(self)
        return database if self._gives_database else self

    def _enter_savepoint(self, outermost: object) -> None:
        if not isinstance(outermost, Atomic):
            raise ValidationError(
                f"{self.database.config.label}: a block cannot begin inside manual_commit(); "
                "call commit() or rollback() and leave it first"
            )
        if outermost.keys is not None:
            for key in self.keys or ():
                require_key(outermost.keys, key)
        self.is_outermost = False
        self.outermost = outermost
        # not by the depth: a signal handler may begin one while another ends
        outermost.savepoints += 1
        self._savepoint = f'"s{outermost.savepoints}"'
        self.database.execute_later(f"SAVEPOINT {self._savepoint}")
        self.is_open = True
        outermost.inner.append(self)

    def _exit(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        try:
            self._leave(kind)
        finally:
            if self._closes_connection:
                self.database.leave_connection(self)

    def _leave(self, kind: type[BaseException] | None) -> None:
        if not self.is_open:
            local = self.database.local
            local.rolled_back = [block for block in local.rolled_back if block is not self]
            if kind is None and self.rollback_reason is not None:
                raise DatabaseBusyError(f"{self.database.config.label}: {self.rollback_reason}")
            return
        if not self._is_owned_by_caller():
            self.roll_back(
                "session_scope() was entered by one thread or task and left by another, and all of "
                "it was rolled back; enter and leave it in one function"
            )
            if kind is None:
                raise DatabaseBusyError(f"{self.database.config.label}: {self.rollback_reason}")
        elif not self.is_outermost:
            self._leave_savepoint(kind is not None)
        elif kind is None and (self.rollback_reason is not None or self.inner):
            self.roll_back(self.rollback_reason or "it was left before a session_scope() inside it")
            raise StorageError(f"{self.database.config.label}: {self.rollback_reason}")
        else:
            # what a signal handler or a callback has recorded meanwhile is kept
            failed = kind is not None and not self.only_reads
            self.database.leave_transaction(self, roll_back=failed)

    def _leave_savepoint(self, failed: bool) -> None:
        released = False
        try:
            if not failed:
                self.database.execute_later(f"RELEASE SAVEPOINT {self._savepoint}")
                released = True
        finally:
            if not released:
                self._roll_back_savepoint()
        self._forget_savepoint()

    def _forget_savepoint(self) -> None:
        """Mark this block and the open ones inside it as closed."""
        self.is_open, self.exit_reference = False, None
        inner = self.outermost.inner
        if self in inner:
            del inner[inner.index(self) :]

    def _roll_back_savepoint(self) -> None:
        rolled_back = False
        self._forget_savepoint()
        try:
            # the caller must see the error that was raised in the block
            with suppress(BotMemoryError, peewee.PeeweeException):
                self.database.roll_back_savepoint(self._savepoint)
                rolled_back = True
        finally:
            if not rolled_back:
                self.outermost.rollback_reason = (
                    "an inner session_scope() could not be rolled back by itself, and all of the "
                    "outer one was rolled back; leave it and begin again"
                )

    def _is_owned_by_caller(self) -> bool:
        return self.thread == threading.get_ident() and is_owner(self.owner)

    def _interrupted(self, _: object) -> None:
        """Roll back a block whose `_exit` was interrupted as it was entered."""
        if self.is_open:
            self.roll_back("an interrupt ended session_scope(), and all of it was rolled back")

    def roll_back(self, reason: str) -> None:
        """Roll back, from any thread; leaving the block then raises with this reason."""
        self.rollback_reason = reason
        if not self.is_outermost:
            if self._is_owned_by_caller():
                self._roll_back_savepoint()
            else:
                self._forget_savepoint()
                self.outermost.roll_back(reason)
        elif self.is_open:
            self.database.leave_transaction(self, roll_back=True)

    def forget(self, reason: str) -> None:
        """Mark the block as closed in a child process: its transaction is the parent's."""
        for block in (self, *self.inner):
            block.is_open, block.is_changing = False, False
            block.exit_reference, block.rollback_reason = None, reason

    def may_be_used(self) -> bool:
        """Return whether the transaction is open, for a statement that is about to run in it.

        Raises `DatabaseBusyError` if another task or function has opened it.
        """
        for block in tuple(self.inner):
            block._require_use()
        return self._require_use()

    def _require_use(self) -> bool:
        if self.exit_reference is not None and self.exit_reference() is None:
            self.roll_back("an interrupt ended session_scope(), and all of it was rolled back")
            return False
        _require_owner(self.database, self.owner)
        if self.suspension is not None and self.suspension.is_outside():
            local = self.database.local
            local.rolled_back = [*local.rolled_back, self]
            self.roll_back(
                "a generator was suspended inside session_scope() while the function that drives "
                "it used the database, and all of the block was rolled back; leave session_scope() "
                "before the yield, or make it a context manager with contextlib.contextmanager"
            )
            raise DatabaseBusyError(f"{self.database.config.label}: {self.rollback_reason}")
        return True

    def require_outside(self) -> None:
        """Refuse a generator's calls in a block that was rolled back while it was suspended."""
        if self.suspension is not None and not self.suspension.is_outside():
            raise DatabaseBusyError(f"{self.database.config.label}: {self.rollback_reason}")

    # --- methods of Peewee's transactions ---------------------------------------------------

    def commit(self, begin: bool = True) -> None:
        """Commit, and begin a new transaction."""
        if self.is_outermost:
            self.database.commit()
            self.database.run_commit_callbacks()
            if begin:
                self.database.begin(self._mode)
        else:
            self.database.execute_sql(f"RELEASE SAVEPOINT {self._savepoint}")
            if begin:
                self.database.execute_sql(f"SAVEPOINT {self._savepoint}")

    def rollback(self, begin: bool = True) -> None:
        """Roll back, and begin a new transaction."""
        if self.is_outermost:
            self.database.rollback()
            self.database.local.commit_callbacks = []
            if begin:
                self.database.begin(self._mode)
        else:
            self.database.execute_sql(f"ROLLBACK TO SAVEPOINT {self._savepoint}")

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with Atomic(self._current, self._mode, keys=self.keys):
                return function(*args, **kwargs)

        return call


class Manual(ManualCommit):
    """A block in which the program begins and commits; what it has not committed is rolled back."""

    __exit__: Any = _Exit()

    # as `Atomic` has them
    is_open = is_changing = only_reads = False
    exit_reference: weakref.ref[Any] | None = None
    interrupted: Mapping[str, Any] = MappingProxyType({})

    def __enter__(self) -> None:
        transactions = self.db.local.transactions
        self.position = len(transactions)
        self.is_changing = True
        try:
            super().__enter__()
            self.had_write_lock = getattr(self.connection(), "has_write_lock", False)
            self.owner = current_owner()
            self.is_open, self.is_changing = True, False
        finally:
            if not self.is_open:
                self.is_changing = False
                del transactions[self.position :]

    def connection(self) -> Any:
        return self.db.open_connection()

    def _exit(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        is_uncommitted = kind is None and self.position == 0 and self.db.has_begun()
        self._end()
        if is_uncommitted:
            raise StorageError(
                f"{self.db.config.label}: manual_commit() was left before commit(), and what was "
                "not committed is rolled back"
            )

    def _end(self) -> None:
        if self.position == 0 and self.connection() is not None:
            self.db.leave_transaction(self, roll_back=True)
        else:  # the outer one goes on
            self.is_open, self.exit_reference = False, None
            del self.db.local.transactions[self.position :]

    def _interrupted(self, _: object) -> None:
        """Leave a block whose `_exit` was interrupted."""
        if self.is_open:
            self._end()

    def may_be_used(self) -> bool:
        """Return True, for a statement that is about to run in the block.

        Raises `DatabaseBusyError` if another task has entered it.
        """
        _require_owner(self.db, self.owner)
        return True


def _require_owner(database: Any, owner: Any) -> None:
    if owner is not None and not is_owner(owner):
        raise DatabaseBusyError(
            f"{database.config.label}: another task of this thread holds a transaction across an "
            "await; record through 'await aio.run(...)', or leave session_scope() before the await"
        )


class _NewList:
    """An attribute that a signal handler may need before Peewee's `__init__` has set it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, local: object, owner: type) -> Any:
        return local.__dict__.setdefault(self.name, [])


class ThreadState(ConnectionLocal):
    """What each thread has of its own."""

    closed, conn = True, None
    ctx: Any = _NewList()
    transactions: Any = _NewList()
    commit_callbacks: Any = _NewList()
    rolled_back: Sequence[Atomic] = ()  # blocks in which a generator is suspended
    reads_own_keys = False  # what runs now reads nothing but rows of the block's keys
    next_block: Atomic | None = None  # the one that `with database:` is about to enter


class TransactionState(DatabaseInternals):
    """The transactions of each thread: the part that all backends share."""

    config: Config
    snapshot_mode: str | None  # the mode of a transaction that reads one state and waits for none
    execute_sql: Callable[..., Any]
    unusable: str | None  # why it cannot be used any more (a damaged file, a fork)

    def current(self) -> Any:
        """Return this database, as the proxy does."""
        return self

    def __enter__(self) -> Any:
        block = self.local.next_block or Atomic(self.current, closes_connection=True)
        self.local.next_block = None
        block.__enter__()
        self.local.ctx.append(block)
        return self

    __exit__ = ExitOfDatabase()

    def connection(self) -> Any:
        if self.local.closed:
            # Peewee would raise if a signal handler has connected since it looked
            self.connect(reuse_if_open=True)
        return self.local.conn

    def cursor(self, named_cursor: Any = None) -> Any:
        self.connection()
        return super().cursor(named_cursor)  # type: ignore[misc]

    def connect(self, reuse_if_open: bool = False) -> bool:
        raise NotImplementedError

    def leave_connection(self, block: Atomic) -> None:
        """Close this thread's connection, unless another block needs it."""
        self.local.ctx = [other for other in self.local.ctx if other is not block]
        if not (self.local.ctx or self.local.transactions):
            self.close()

    def close(self) -> bool:
        raise NotImplementedError

    def release(self) -> None:
        """Close or release this thread's connection, unless that would lose data."""
        if not (self.config.in_memory or self.uses_connection()):
            self.close()

    def require_usable(self) -> None:
        if self.unusable is not None:
            raise StorageError(self.unusable)

    streams = False

    def stream(self, query: peewee.ModelSelect[Row]) -> Iterator[Row]:
        return iter(query.iterator())

    def atomic(self, mode: str | None = None) -> Atomic:
        """Return a block that is a transaction, or a savepoint inside another one.

        `mode` is the lock type of SQLite's BEGIN, or the isolation level of a server.
        """
        return Atomic(lambda: self, mode)

    transaction = savepoint = atomic

    def manual_commit(self) -> Manual:
        return Manual(self)

    def refuse_begin(self, sql: str) -> NoReturn:
        """Refuse to begin a transaction of which no block knows, and which nothing would end."""
        raise ValidationError(
            f"{self.config.label}: {show(sql)} begins a transaction that no block ends; begin one "
            "with session_scope(), db.atomic(), or db.begin() inside db.manual_commit()"
        )

    def in_transaction(self) -> bool:
        """Return whether a transaction is open that the caller may use.

        Raises `DatabaseBusyError` if it belongs to another task or function.
        """
        local = self.local
        for block in local.rolled_back:
            block.require_outside()
        if not local.transactions:
            return False
        outermost = local.transactions[0]
        if outermost.is_changing:
            return self.has_begun()
        if outermost.is_open:
            return bool(outermost.may_be_used())
        del local.transactions[:]  # another thread has ended it
        return False

    def is_in_transaction(self) -> bool:
        """Return whether what runs now is part of a transaction that is open."""
        if not self.in_transaction():
            return False
        # inside manual_commit() the program itself begins one
        return isinstance(self.local.transactions[0], Atomic) or self.has_begun()

    def read_snapshot(self) -> AbstractContextManager[object]:
        """Return a block whose reads all see one state of the database, and wait for no writer.

        Inside a transaction it is that transaction.
        """
        if self.in_transaction():
            return nullcontext()
        return Atomic(self.current, self.snapshot_mode, only_reads=True)

    def open_connection(self) -> Any:
        """Return the connection of this thread; None if it has none."""
        raise NotImplementedError

    def has_begun(self) -> bool:
        """Return whether the driver says that this thread's connection is in a transaction."""
        raise NotImplementedError

    def execute_later(self, sql: str) -> None:
        """Execute a statement that returns nothing, at the latest before the next one."""
        self.execute_sql(sql)

    def roll_back_savepoint(self, name: str) -> None:
        """Roll back to a savepoint of the open transaction."""
        self.execute_sql(f"ROLLBACK TO SAVEPOINT {name}")

    # --- the keys of a block ------------------------------------------------------------------

    has_key_locks = False

    def block_keys(self) -> Keys | None:
        """Return the keys of the open block, which all that is read now must have; None if any."""
        local = self.local
        if not local.transactions or local.reads_own_keys:
            return None
        keys: Keys | None = getattr(local.transactions[0], "keys", None)
        return keys

    # functions, not blocks: an interrupt as a block is left would keep the state

    def reading_own_keys(self, call: Callable[[], R]) -> R:
        """Call what reads nothing but rows of the keys of the open block."""
        local = self.local
        before, local.reads_own_keys = local.reads_own_keys, True
        try:
            return call()
        finally:
            local.reads_own_keys = before

    def changing(self, key: Key | None, call: Callable[[], R]) -> R:
        """Call what changes or deletes rows of one key; None if it is not known."""
        return self.reading_own_keys(call)

    def using_row(self, key: Key, call: Callable[[], R]) -> R:
        """Call what reads or writes the row of a key, which the open block need not have."""
        return self.reading_own_keys(call)

    def require_own_keys(self, sql: str) -> None:
        """Refuse a statement that may depend on rows outside of the keys of the open block."""
        keys = self.block_keys()
        if keys is not None and uses_rows(sql):
            refuse_unknown_key(keys, f"{' '.join(sql.split())[:40]}...")

    def roll_back_leftover(self) -> None:
        """Roll back a transaction that an interrupt has left open in a generator of this thread."""
        for transaction in self.local.transactions[:1]:
            if isinstance(transaction, Atomic):
                transaction.roll_back("an interrupt ended it, and all of it was rolled back")

    def uses_connection(self) -> bool:
        """Return whether this thread has a transaction, which a signal may interrupt as it begins.

        Raises `DatabaseBusyError` as `in_transaction` does.
        """
        transactions = self.local.transactions
        if not transactions:
            return False
        return getattr(transactions[0], "is_changing", False) or self.in_transaction()

    def require_no_transaction(self) -> None:
        """Raise `DatabaseBusyError` inside a transaction, for `close`."""
        if self.uses_connection():
            raise DatabaseBusyError(
                f"{self.config.label}: a transaction is open in this thread; leave session_scope() "
                "before closing the database"
            )

    def refuse_self_deadlock(self) -> None:
        """Refuse to wait, on a worker thread, for a block that itself waits for this thread."""
        block = _current_block.get()
        if block is not None and block.is_open and block.thread != threading.get_ident():
            raise DatabaseBusyError(
                f"{self.config.label}: the caller's own session_scope() is open on another thread, "
                "and would wait for this one; record on its thread, or use session_scope() inside "
                "the function that records"
            )

    def run_commit_callbacks(self) -> None:
        callbacks, self.local.commit_callbacks = self.local.commit_callbacks, []
        for callback in callbacks:
            callback()

    def forget_transactions(self) -> bool:
        """Mark all blocks as closed in a child process; return whether one was open."""
        transactions, self.local.transactions = self.local.transactions, []
        for transaction in transactions:
            if isinstance(transaction, Atomic):
                transaction.forget("this process was forked inside session_scope()")
        return bool(transactions)
