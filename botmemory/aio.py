"""asyncio: run a function on a worker thread with its own connection."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
import types
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from .backends.ownership import is_owner
from .backends.transactions import Atomic
from .database import db
from .errors import DatabaseBusyError, ValidationError, show

if TYPE_CHECKING:
    from .backends.base import Backend

__all__ = ["run"]

P = ParamSpec("P")
R = TypeVar("R")

_pools: weakref.WeakKeyDictionary[Backend, ThreadPoolExecutor] = weakref.WeakKeyDictionary()
_local = threading.local()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # the threads are the parent's


async def run(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function on a worker thread and return what it returns.

    The event loop never waits for the disk. Calls of different tasks are separate transactions.
    There are as many workers as calls that run or wait at once, at most `async_workers`. A call
    that is cancelled while it waits for a worker does nothing; a call that has begun continues to
    its end. A `:memory:` database belongs to one thread and is used on the thread of the loop.

    Args:
        function: A repository function, or one of the caller's with its own `session_scope()`.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        NotInitializedError: No database is open.
        ValidationError: `function` is a coroutine function, is not callable or returns a generator,
            or the event loop is not one of asyncio.
        DatabaseBusyError: The caller's own `session_scope()` is open; the worker would wait for it.
    """
    if inspect.iscoroutinefunction(function) or not callable(function):
        raise ValidationError(f"function: {show(function)} is not a plain function")
    database = db.current()

    def call() -> R:
        result = function(*args, **kwargs)
        if isinstance(result, types.GeneratorType):
            result.close()
            raise ValidationError(
                f"function: {show(function)} returns a generator, which would read on the event "
                "loop; run a function that consumes it, such as lambda: list(trades.iterate())"
            )
        return result

    if database.config.in_memory:
        return call()

    def work() -> R:
        with database.used_by_worker():
            return call()

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise ValidationError(
            "aio.run() needs the event loop of asyncio; in trio use trio.to_thread.run_sync()"
        ) from None
    transaction = database.top_transaction()
    if isinstance(transaction, Atomic) and transaction.is_open and is_owner(transaction.owner):
        raise DatabaseBusyError(
            f"{database.config.label}: aio.run() inside the caller's own session_scope() would "
            "wait for it; call the function itself, or leave session_scope() first"
        )
    context = contextvars.copy_context()
    return await loop.run_in_executor(_pool(database), context.run, work)


def _pool(database: Backend) -> ThreadPoolExecutor:
    """Return the workers of a database; closing the database ends their threads."""
    pool = _pools.get(database)
    if pool is None:
        pool = _pools[database] = ThreadPoolExecutor(
            database.config.async_workers, thread_name_prefix="botmemory", initializer=_mark_worker
        )
        database.at_close.append(lambda: pool.shutdown(wait=not hasattr(_local, "is_worker")))
    return pool


def _mark_worker() -> None:
    _local.is_worker = True  # close_db() in a worker must not wait for the worker itself
