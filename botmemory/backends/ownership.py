"""The owner of a transaction: the thread, the task and the greenlet that began it.

Other code of the same thread must not write into it: another asyncio or trio task, another
greenlet, or the caller of a generator that is suspended inside the block.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType
from typing import Any, NamedTuple

from ..errors import DatabaseBusyError

_OWN_MODULES = frozenset({"botmemory.database", "botmemory.backends.transactions"})
# the modules that run functions on the threads of a pool
_POOL_MODULES = frozenset(
    {
        "anyio._backends._asyncio",
        "asgiref.sync",
        "concurrent.futures.thread",
        "gevent.threadpool",
        "threading",
        "trio._threads",
    }
)


def current_owner() -> tuple[object, object] | None:
    """Return the current task and greenlet; None outside of both.

    It imports no module: a program that uses one of them has imported it.
    """
    task = greenlet = None
    modules = sys.modules
    asyncio: Any = modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        task = asyncio.current_task() or "a callback of the event loop"
    elif (trio := modules.get("trio.lowlevel")) is not None:
        with suppress(RuntimeError):  # outside of trio
            task = trio.current_task()
    if (module := modules.get("greenlet")) is not None:
        greenlet = module.getcurrent()
    return None if task is None and greenlet is None else (task, greenlet)


def is_owner(owner: tuple[object, object] | None) -> bool:
    """Return whether the caller is `owner`, an earlier result of `current_owner`.

    A block that was entered outside of every task belongs to all of them: it is around the event
    loop.
    """
    if owner is None:
        return True
    task, greenlet = current_owner() or (None, None)
    return owner[0] in (None, task) and owner[1] in (None, greenlet)


def is_inside_a_call(frame: FrameType | None) -> bool:
    """Return whether a frame runs inside a call of botmemory, as a finalizer may.

    The garbage collector may close a generator between any two instructions of any thread.
    """
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in ("botmemory", "peewee", "playhouse", "psycopg"):
            return True
        frame = frame.f_back
    return False


class Suspension(NamedTuple):
    """A generator that has entered a block, and the function that drives it.

    While the generator is suspended inside the block, what the driver does is not part of the
    block. (A generator that `contextlib` drives is not one: there the block is what runs.)
    """

    generator: FrameType
    driver: FrameType

    def is_outside(self) -> bool:
        """Return whether the caller runs outside of the block."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self.generator:
            if frame is self.driver:
                return True
            frame = frame.f_back
        return False


def suspension_of(entered: FrameType, database: Any) -> Suspension | None:
    """Return the generator that enters a block in this frame; None if no generator does.

    Raises `DatabaseBusyError` if a thread pool drives the generator: its thread will do other work
    inside the block, and another thread will leave it.
    """
    frame: FrameType | None = entered
    generator = None
    wrapped = False
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module == "contextlib":
            wrapped = True
        elif module not in _OWN_MODULES:
            if not frame.f_code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
                break
            generator, wrapped = frame, False
        frame = frame.f_back
    is_pool = frame is not None and frame.f_globals.get("__name__") in _POOL_MODULES
    if generator is not None and is_pool:
        raise DatabaseBusyError(
            f"{database.config.label}: a generator enters session_scope() on a thread of a pool, "
            "which goes on with other work inside the block (FastAPI does so with a dependency "
            "that yields); use session_scope() inside the function that records"
        )
    if generator is None or frame is None or wrapped:
        return None
    return Suspension(generator, frame)
