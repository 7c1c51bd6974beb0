"""The advisory locks of a database: of writers, of keys, and of whoever migrates."""

from __future__ import annotations

import time
from functools import partial

from ..base import Statement
from ..keys import Key, Keys, number_of
from ..retry import busy_error
from .connection import ServerConnection

# their keys, which are per database; they must never change
WRITE_LOCK = 0x626F746D656D0001
MIGRATION_LOCK = 0x626F746D656D0002
PAUSE = 0.05  # seconds between two attempts to migrate

ALL_KEYS: Statement = ("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
# what an earlier part of the same statement has left of the milliseconds for all of its locks
SET_TIME_LEFT = (
    "set_config('lock_timeout', greatest(1, %s - 1000 * extract(epoch FROM "
    "clock_timestamp() - statement_timestamp()))::int || 'ms', true)"
)
BEGIN: Statement = ("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
ROLLBACK: Statement = ("ROLLBACK", ())
AWAKE: Statement = ("SET LOCAL idle_in_transaction_session_timeout = 0", ())


def lock_of_keys(keys: Keys, timeout: int, *later: Key) -> Statement:
    """Return what acquires the locks of keys, and waits for blocks without a key.

    In one order, so that two blocks with several keys cannot wait for each other; `later` follow,
    as if they were acquired by a later statement. The server's `lock_timeout` is for each lock; all
    of them together are waited for `timeout` milliseconds.
    """
    sql, params = "SELECT pg_advisory_xact_lock_shared(%s)", [WRITE_LOCK]
    for number in [*sorted(map(number_of, keys)), *map(number_of, later)]:
        sql += f", {SET_TIME_LEFT}, pg_advisory_xact_lock(%s)"
        params += [timeout, number]
    return sql + ", set_config('lock_timeout', %s, true)", (*params, f"{max(1, timeout)}ms")


def acquire_migration_lock(
    connection: ServerConnection, settings: list[Statement], label: str, timeout: float
) -> None:
    """Try until the lock is free, for `timeout` seconds, in a transaction without a snapshot.

    CREATE INDEX CONCURRENTLY waits for the end of transactions that have an older snapshot, as one
    has that waits for the lock.
    """
    began = time.monotonic()
    lock = ("SELECT pg_try_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
    while True:
        # in a transaction, as a pooler may give the next one to another session
        connection.pending = [BEGIN, *settings]
        if connection.send(partial(connection.execute, *lock)).fetchone() == (True,):
            # in place of the SELECT, whose snapshot ends with that
            connection.execute_together([AWAKE])
            return
        connection.execute_together([ROLLBACK])
        if time.monotonic() - began >= timeout:
            raise busy_error(label, timeout)
        time.sleep(PAUSE)
