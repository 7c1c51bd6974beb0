"""Run one SELECT of a person's, which can neither write nor change a setting."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_REFUSED_FUNCTIONS = {"load_extension", "fts3_tokenizer"}  # which load code
STEPS = 100_000  # of SQLite's machine, between which Python handles Ctrl-C


def execute(raw: sqlite3.Connection, sql: str, raised: list[BaseException]) -> sqlite3.Cursor:
    """Return the cursor of a SELECT; what is anything else is refused before it runs.

    The driver refuses several statements. `raised` gets what a signal handler raises meanwhile,
    such as `KeyboardInterrupt`; the cursor then ends with the driver's error.
    """
    raw.set_authorizer(_authorize)
    signals = _signals(raised)
    next(signals)  # it goes on inside its `try` from now on
    raw.set_progress_handler(signals.__next__, STEPS)
    try:
        return raw.execute(sql)
    finally:
        raw.set_authorizer(None)


def _signals(raised: list[BaseException]) -> Iterator[int]:
    """Yield 0 for SQLite to go on, after Python has run its signal handlers; 1 if one has raised.

    A generator: signal handlers run where Python code begins or goes on, which is inside `try`
    here. What leaves a function that SQLite calls is dropped.
    """
    while True:
        try:
            yield 0
        except GeneratorExit:
            return
        except BaseException as error:
            raised.append(error)
            yield 1


def _authorize(action: int, table: str | None, name: str | None, *_: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        is_allowed = (name or "").lower() not in _REFUSED_FUNCTIONS
    elif action == sqlite3.SQLITE_UPDATE:
        # what json_each() declares itself with; SQLite lets no statement write this table
        is_allowed = table == "sqlite_master"
    else:
        is_allowed = action in _ALLOWED
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY
