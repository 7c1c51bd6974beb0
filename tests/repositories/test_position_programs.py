"""Positions are right at every step of random programs of changes and questions."""

from __future__ import annotations

import logging
import os
import random
import signal as signals_of_system
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from position_check import EXCHANGES, STRATEGIES, SYMBOLS, check_some
from processes import fork_writer, kill
from programs import in_threads
from samples import at, signal, trade_values

from botmemory import BotMemoryError, CashFlow, Trade, close_db, db, init_db, session_scope
from botmemory._url import server_parameters
from botmemory.repositories import cash_flows, trades
from botmemory.upkeep import backup as upkeep

MOST = 60  # trades
LAST_STEPS = 25  # shown at a failure
SEEDS = range(1, 6)


class RollbackError(Exception):
    pass


class Program:
    """A random program: each step changes something in one way, and asks for some positions."""

    def __init__(self, seed: int, target: str, folder: Path) -> None:
        self.seed, self.target, self.folder = seed, target, folder
        self.choice = random.Random(seed)
        self.steps: deque[str] = deque(maxlen=LAST_STEPS)
        self.hour = 0.0
        self.depth = 0  # of blocks
        self.is_server = target.startswith("postgresql")
        self.is_file = not self.is_server and target != ":memory:"
        self.weights = ANYWHERE | OUTSIDE
        if self.is_server:
            self.weights |= ON_SERVER
        else:
            self.weights |= ON_SQLITE | (ON_FILE if self.is_file else IN_MEMORY)

    def run(self, count: int) -> None:
        try:
            for _ in range(count):
                self.step()
                if trades.get_trade_count() > MOST:
                    self.note("delete most")
                    Trade.delete().where(Trade.timestamp > at(self.hour - 5)).execute()
        except BaseException:
            last = "\n  ".join(self.steps)
            print(f"seed {self.seed} on {self.target}; the last steps:\n  {last}")
            raise

    def step(self) -> None:
        choices = {
            name: weight
            for name, weight in self.weights.items()
            if self.depth == 0 or name in ANYWHERE or name in IN_BLOCK
        }
        [name] = self.choice.choices([*choices], [*choices.values()])
        self.note(name)
        getattr(self, name)()
        self.check()

    def note(self, name: str) -> None:
        self.steps.append("  " * self.depth + name)

    def check(self) -> None:
        check_some(self.choice, self.choice.choice([0, 1, 1, 2, 4]))

    # --- values -----------------------------------------------------------------------------

    def values(self, hour: float | None = None, **more: Any) -> dict[str, Any]:
        if hour is None:
            self.hour += self.choice.choice([0, 0.25, 1])
            hour = self.hour
        choose = self.choice.choice
        fee, currency = choose([(None, None), (0.1, "USDT"), (0.2, "BNB"), (0.3, None)])
        return trade_values(
            timestamp=at(hour),
            symbol=choose(SYMBOLS),
            strategy=choose(STRATEGIES),
            exchange=choose(EXCHANGES),
            side=choose(["buy", "sell"]),
            quantity=choose([1, 2, 0.1, 0.3]),
            price=choose([100, 99.5, 101]),
            fee=fee,
            fee_currency=currency,
            **more,
        )

    def some(self) -> Trade | None:
        rows = trades.get_all()
        return self.choice.choice(rows) if rows else None

    def sql(self) -> str:
        """Return SQL that changes old or new trades."""
        hour = f"'{at(self.choice.uniform(0, self.hour)):%Y-%m-%d %H:%M:%S}.000000+00:00'"
        one = f"id = (SELECT id FROM trade WHERE timestamp >= {hour} ORDER BY timestamp LIMIT 1)"
        copied = (
            f"timestamp, symbol, side, price, quantity, strategy, exchange FROM trade WHERE {one}"
        )
        columns = "(id, timestamp, symbol, side, price, quantity, strategy, exchange)"
        statements = [
            f"UPDATE trade SET quantity = quantity + 1 WHERE {one}",
            f"UPDATE trade SET fee = 0.5, fee_currency = 'USDT' WHERE {one}",
            f"UPDATE trade SET symbol = 'ETH/USDT' WHERE {one}",
            f"DELETE FROM trade WHERE {one}",
            f"DELETE FROM trade WHERE timestamp > {hour}",
            "UPDATE cash_flow SET amount = amount + 1",
            f"INSERT INTO trade {columns} SELECT '{uuid.uuid4().hex}', {copied}",
        ]
        if self.is_server:
            statements[-1] = f"INSERT INTO trade {columns} SELECT gen_random_uuid(), {copied}"
        else:
            highest = "(SELECT id FROM trade ORDER BY rowid DESC LIMIT 1)"
            statements += [
                f"INSERT OR REPLACE INTO trade SELECT * FROM trade WHERE {one}",
                f"UPDATE OR REPLACE trade SET id = {highest} WHERE {one}",
                f"DELETE FROM trade WHERE id = {highest}",
            ]
        return self.choice.choice(statements)

    # --- steps that are possible everywhere ---------------------------------------------------

    def ask(self) -> None:
        check_some(self.choice, 4)

    def newer(self) -> None:
        trades.create(**self.values())

    def late(self) -> None:
        trades.create(**self.values(self.choice.uniform(0, self.hour)))

    def given_id(self) -> None:
        trades.create(**self.values(self.hour), id=uuid.UUID(int=self.choice.getrandbits(128)))

    def many(self) -> None:
        late = self.choice.random() < 0.3
        hour = self.hour - 1 if late else None
        trades.create_many([self.values(hour) for _ in range(self.choice.randrange(4))])

    def get_or_create(self) -> None:
        values = self.values() | {"exchange": "x"}
        trades.get_or_create(exchange_trade_id=str(self.choice.randrange(30)), **values)

    def record_signal(self) -> None:
        signal()

    def fund(self) -> None:
        choose = self.choice.choice
        symbol = choose(SYMBOLS)
        cash_flows.create(
            kind=choose(["funding", "funding", "deposit"]),
            currency="XBT" if symbol.endswith("XBT") else "USDT",
            amount=choose([0.1, -0.2, 3]),
            symbol=symbol,
            strategy=choose(STRATEGIES),
            exchange=choose(EXCHANGES),
        )

    def change_funding(self) -> None:
        self.choice.choice([CashFlow.delete(), CashFlow.update(amount=0.3)]).execute()

    def update(self) -> None:
        if (row := self.some()) is not None:
            trades.update(row, quantity=self.choice.choice([1, 2, 0.7]))

    def delete(self) -> None:
        if (row := self.some()) is not None:
            trades.delete(row)

    def delete_the_newest_and_record(self) -> None:
        trades.delete(trades.create(**self.values()))
        self.check()
        trades.create(**self.values())

    def peewee_update(self) -> None:
        Trade.update(quantity=Trade.quantity + 1).where(Trade.strategy == "a").execute()

    def peewee_delete(self) -> None:
        Trade.delete().where(Trade.timestamp > at(self.hour - 3)).execute()

    def peewee_insert(self) -> None:
        Trade.insert_many([self.values() for _ in range(2)]).execute()

    def peewee_upsert(self) -> None:
        if (row := self.some()) is not None:
            query = Trade.insert_many([row.__data__])
            query.on_conflict(conflict_target=[Trade.id], update={Trade.quantity: 4}).execute()

    def peewee_returning(self) -> None:
        rows = Trade.update(quantity=4).where(Trade.strategy == "b").returning(Trade.id).execute()
        self.check()
        list(rows)

    def raw_sql(self) -> None:
        db.execute_sql(self.sql())

    # --- transactions ---------------------------------------------------------------------------

    def block(self) -> None:
        self.depth += 1
        rolls_back = self.choice.random() < 0.5
        try:
            with suppress(RollbackError), session_scope():
                self.check()
                for _ in range(self.choice.randrange(5)):
                    self.step()
                if rolls_back:
                    self.note("roll back")
                    raise RollbackError
        finally:
            self.depth -= 1

    def manual_commit(self) -> None:
        db.connect(reuse_if_open=True)
        with db.manual_commit():
            db.begin()
            self.check()
            trades.create(**self.values())
            self.check()
            self.choice.choice([db.commit, db.rollback])()
            self.check()

    def observed(self) -> None:
        db.obj.query_hooks.append(lambda event: None)
        try:
            self.newer()
            self.check()
        finally:
            db.obj.query_hooks.clear()

    def logged(self) -> None:
        logger = logging.getLogger("peewee")
        logger.setLevel(logging.DEBUG)
        try:
            self.newer()
            self.check()
        finally:
            logger.setLevel(logging.NOTSET)

    def signal_handler(self) -> None:
        """Let a signal handler record during the next steps."""

        def handle(*_: object) -> None:
            with suppress(BotMemoryError):
                trades.create(**values)

        values = self.values(self.choice.choice([self.hour, self.hour - 1]))
        before = signals_of_system.signal(signals_of_system.SIGALRM, handle)
        delay = self.choice.uniform(0.0001, 0.003)
        try:
            signals_of_system.setitimer(signals_of_system.ITIMER_REAL, delay)
            for _ in range(3):
                check_quietly(self.choice)
                trades.create(**self.values())
        finally:
            signals_of_system.setitimer(signals_of_system.ITIMER_REAL, 0)
            signals_of_system.signal(signals_of_system.SIGALRM, before)

    # --- by others ------------------------------------------------------------------------------

    def another_thread(self) -> None:
        change = self.choice.choice(
            [self.newer, self.late, self.update, self.delete, self.raw_sql, self.many, self.block]
        )

        def work() -> None:
            try:
                change()
            finally:
                db.close()

        [outcome] = in_threads(work)
        if outcome.error is not None:
            raise outcome.error

    @contextmanager
    def raw_connection(self) -> Iterator[Any]:
        if self.is_server:
            with closing(psycopg.connect(**server_parameters(self.target))) as connection:
                yield connection
        else:
            with closing(sqlite3.connect(self.target, isolation_level=None)) as connection:
                yield connection

    def another_program(self) -> None:
        with self.raw_connection() as connection:
            if self.choice.random() < 0.5:
                connection.execute("BEGIN")
            connection.execute(self.sql())
            self.check()
            connection.execute(self.sql())
            self.check()
            if self.choice.random() < 0.7:
                connection.commit()
            else:
                connection.rollback()

    def killed_writer(self) -> None:
        self.reopen(during=self._kill_a_writer)

    def _kill_a_writer(self) -> None:
        values, sql = self.values(), self.sql()

        def work(acknowledge: Callable[[object], None]) -> None:
            init_db(self.target)
            trades.create(**values)
            with session_scope():
                db.execute_sql(sql)
                acknowledge("changed")
                threading.Event().wait()

        child, words = fork_writer(work)
        threading.Event().wait(self.choice.uniform(0, 0.1))
        kill(child, words)

    def reopen(self, during: Callable[[], object] = lambda: None) -> None:
        close_db()
        during()
        init_db(self.target)

    def close_connection(self) -> None:
        db.close()

    # --- SQLite ---------------------------------------------------------------------------------

    def driver_sql(self) -> None:
        db.connection().execute(self.sql())

    def driver_transaction(self) -> None:
        raw = db.connection()
        raw.execute(self.choice.choice(["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT one"]))
        self.check()
        raw.execute(self.sql())
        self.check()
        self.newer()
        self.check()
        raw.execute(self.choice.choice(["ROLLBACK", "COMMIT"]))

    def replace(self) -> None:
        if (row := self.some()) is not None:
            Trade.replace_many([row.__data__ | {"quantity": 5}]).execute()

    def vacuum(self) -> None:
        db.execute_sql("VACUUM")

    def alter(self) -> None:
        db.execute_sql("CREATE INDEX more ON trade (price)")
        self.check()
        db.execute_sql("DROP INDEX more")

    def ddl_rolled_back(self) -> None:
        raw = db.connection()
        with suppress(RollbackError), session_scope():
            raw.execute("CREATE TABLE others AS SELECT * FROM trade")
            self.check()
            raw.execute("DROP TABLE trade")
            raw.execute("CREATE TABLE trade AS SELECT * FROM others WHERE side = 'buy'")
            self.check()
            raise RollbackError

    def rebuild(self) -> None:
        raw = db.connection()
        [[sql]] = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'trade'").fetchall()
        raw.execute("PRAGMA foreign_keys = 0")
        raw.execute(sql.replace('"trade"', '"rebuilt"', 1))
        raw.execute("INSERT INTO rebuilt SELECT * FROM trade ORDER BY random()")
        indexes = raw.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'trade' AND type = 'index' "
            "AND sql IS NOT NULL"
        ).fetchall()
        raw.execute("DROP TABLE trade")
        self.steps.append("(rename)")
        raw.execute("ALTER TABLE rebuilt RENAME TO trade")
        for [index] in indexes:
            raw.execute(index)
        raw.execute("PRAGMA foreign_keys = 1")

    def trigger(self) -> None:
        table = self.choice.choice(["trade", "signal"])
        effect = self.choice.choice(TRIGGERED)
        db.execute_sql(f"CREATE TRIGGER others AFTER INSERT ON {table} BEGIN {effect} END")
        self.check()
        for _ in range(3):
            self.choice.choice([self.newer, self.record_signal, self.many])()
            self.check()
        db.execute_sql("DROP TRIGGER others")

    def attached(self) -> None:
        raw = db.connection()
        raw.execute("ATTACH ? AS other", (self.target,))
        self.check()
        raw.execute(self.sql().replace(" trade", " other.trade"))
        self.check()
        raw.execute("DETACH other")

    def checkpoint(self) -> None:
        with self.raw_connection() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def restore(self) -> None:
        copy = upkeep.backup(self.folder / "copy.db")
        for _ in range(2):
            self.newer()
        self.update()
        self.check()
        self.reopen(during=lambda: upkeep.restore(copy, self.target))

    def copied_in(self) -> None:
        raw = db.connection()
        with closing(sqlite3.connect(":memory:")) as other:
            raw.backup(other)
            self.choice.choice([self.update, self.newer])()
            self.check()
            other.backup(raw)

    def deserialized(self) -> None:
        raw = db.connection()
        content = raw.serialize()
        self.update()
        self.check()
        raw.deserialize(content)

    # --- PostgreSQL -----------------------------------------------------------------------------

    def late_commit(self) -> None:
        with self.raw_connection() as early, self.raw_connection() as late:
            early.execute(self.sql())
            self.check()
            late.execute(
                "INSERT INTO trade (id, timestamp, symbol, side, price, quantity) "
                "VALUES (gen_random_uuid(), %s, 'BTC/USDT', 'buy', 100, 1)",
                (at(self.hour),),
            )
            self.check()
            self.newer()
            self.check()
            late.commit()
            self.check()
            (early.commit if self.choice.random() < 0.5 else early.rollback)()

    def truncate(self) -> None:
        with self.raw_connection() as connection:
            connection.execute("TRUNCATE trade")
            if self.choice.random() < 0.5:
                connection.commit()

    def other_schema(self) -> None:
        with session_scope():
            db.execute_sql("SET LOCAL search_path TO pg_temp, public")
            db.execute_sql("CREATE TEMP TABLE trade (LIKE public.trade) ON COMMIT DROP")
            self.check()


def check_quietly(choice: random.Random) -> None:
    """Ask while a signal handler may record, so that the answer may be that of before or after."""
    with suppress(AssertionError):
        check_some(choice, 2)


TRIGGERED = (
    "UPDATE trade SET quantity = quantity + 1 WHERE rowid = (SELECT min(rowid) FROM trade);",
    "DELETE FROM trade WHERE rowid = (SELECT min(rowid) FROM trade);",
    "INSERT OR REPLACE INTO trade SELECT * FROM trade LIMIT 1;",
)
# the steps and their weights
ANYWHERE = {
    "ask": 8,
    "newer": 12,
    "late": 2,
    "given_id": 2,
    "many": 3,
    "get_or_create": 2,
    "record_signal": 3,
    "fund": 3,
    "change_funding": 0.5,
    "update": 1,
    "delete": 1,
    "delete_the_newest_and_record": 2,
    "peewee_update": 1,
    "peewee_delete": 1,
    "peewee_insert": 1,
    "peewee_upsert": 1,
    "peewee_returning": 1,
    "raw_sql": 2,
    "block": 6,
    "observed": 1,
    "logged": 1,
}
OUTSIDE = {"manual_commit": 1}
ON_SQLITE = {
    "driver_sql": 2,
    "driver_transaction": 2,
    "replace": 1,
    "vacuum": 0.3,
    "alter": 0.5,
    "ddl_rolled_back": 1,
    "rebuild": 0.5,
    "trigger": 1,
    "signal_handler": 1,
}
if not hasattr(signals_of_system, "SIGALRM"):
    del ON_SQLITE["signal_handler"]
IN_BLOCK = {"driver_sql", "replace"}
IN_MEMORY = {"deserialized": 1, "copied_in": 1}
BY_OTHERS = {"another_thread": 3, "another_program": 3, "killed_writer": 0.1, "reopen": 0.3}
if not hasattr(os, "fork"):
    del BY_OTHERS["killed_writer"]
ON_FILE = BY_OTHERS | {"close_connection": 1, "attached": 1, "checkpoint": 1, "restore": 0.2}
ON_SERVER = BY_OTHERS | {"late_commit": 2, "truncate": 0.3, "other_schema": 1}


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in SEEDS)]
)
def test_in_memory(seed: int, tmp_path: Path) -> None:
    run(seed, ":memory:", tmp_path, 600 if seed else 150)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in SEEDS)]
)
def test_on_a_file(seed: int, tmp_path: Path) -> None:
    run(seed, str(tmp_path / "bot.db"), tmp_path, 600 if seed else 150)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in SEEDS)]
)
def test_on_a_server(seed: int, tmp_path: Path, new_database: Callable[[], str]) -> None:
    run(seed, new_database(), tmp_path, 600 if seed else 80)


def run(seed: int, target: str, folder: Path, count: int) -> None:
    init_db(target)
    Program(seed, target, folder).run(count)
