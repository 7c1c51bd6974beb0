"""The door for asyncio bots: run a function on a worker thread with its own connection."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import types
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from .database import Backend, db
from .errors import ValidationError, show

__all__ = ["run"]

WORKERS = 4  # one writes at a time; the others read

P = ParamSpec("P")
R = TypeVar("R")

_pools: weakref.WeakKeyDictionary[Backend, ThreadPoolExecutor] = weakref.WeakKeyDictionary()


async def run(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `function(*args, **kwargs)` on a worker thread and return what it returns.

    For any repository function, and for a function of the caller's with its own
    `session_scope()`; the event loop never waits for the disk. Calls of different tasks are
    transactions of their own. A call that was cancelled while it waited for a worker does
    nothing; one that had begun goes on to its end. A `:memory:` database, which has no disk and
    one thread, is used on the thread of the loop. Raises what the function raises,
    `NotInitializedError`, and `ValidationError` for what is no plain function.
    """
    if inspect.iscoroutinefunction(function) or not callable(function):
        raise ValidationError(f"function: {show(function)} is not a plain function")
    database = db.opened()
    call: Callable[[], R] = partial(_finished, function, *args, **kwargs)
    if database.config.in_memory:
        return call()
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_pool(database), context.run, call)


def _finished(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    result = function(*args, **kwargs)
    if isinstance(result, types.GeneratorType):
        result.close()
        raise ValidationError(
            f"function: {show(function)} returns a generator, which would read on the event loop; "
            "run a function that uses it up, such as lambda: list(trades.iterate())"
        )
    return result


def _pool(database: Backend) -> ThreadPoolExecutor:
    """Return the workers of this database; their threads, and connections, end with it."""
    pool = _pools.get(database)
    if pool is None:
        pool = _pools[database] = ThreadPoolExecutor(WORKERS, thread_name_prefix="botmemory")
        database.at_close.append(pool.shutdown)
    return pool
