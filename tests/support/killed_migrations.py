"""Migrations in a process that is killed without warning."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

from botmemory import Config
from botmemory.database import open_database
from botmemory.migration_runner import up


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_statement(number: int) -> Callable[[Any], None]:
    """Return a function that makes the process die after that many statements."""

    def arm(database: Any) -> None:
        statements: list[object] = []

        def record(statement: object) -> None:
            statements.append(statement)
            if len(statements) == number:
                die()

        database.query_hooks.append(record)

    return arm


def killed(config: Config, arm: Callable[[Any], None]) -> bool:
    """Migrate in a child process, and return whether it died."""
    child = os.fork()
    if child == 0:
        try:
            database = open_database(config)
            arm(database)
            up(database)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, code = os.waitpid(child, 0)
    assert os.WIFSIGNALED(code) or os.WEXITSTATUS(code) == 0
    return os.WIFSIGNALED(code)
