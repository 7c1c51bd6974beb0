"""Migrations of a server while bots go on: they wait for nobody long, and nobody for them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from custom_tables import OURS, custom_migrations
from killed_migrations import at_statement, die, killed
from processes import needs_fork
from samples import signal, trade
from servers import drop_database, run

from botmemory import (
    Config,
    DatabaseBusyError,
    SchemaError,
    Trade,
    close_db,
    init_db,
    migrations,
    run_transaction,
)
from botmemory.backends.base import Backend
from botmemory.backends.server.locks import WRITE_LOCK
from botmemory.database import open_temporarily
from botmemory.migration_runner import down, main, status, up
from botmemory.models import MODELS
from botmemory.repositories import positions, signals, trades
from botmemory.schema.drift import drift
from botmemory.schema.plan import plan
from botmemory.upkeep.check import check

MANY = 20_000  # trades: more than a table has whose changes are not put off
LONGEST = 1.0  # seconds that a bot may wait
LARGEST = "1.7976931348623157e308"
FILES = Path(migrations.__file__).parent
THIRD, FOURTH = OURS[2:4]

INSERT = """
INSERT INTO trade (id, timestamp, symbol, side, price, quantity)
SELECT gen_random_uuid(), timestamptz '2024-01-01 UTC' + n * interval '1 minute', 'BTC/USDT', 'buy',
    100 + n, 1
FROM generate_series(1, %(rows)s) AS n
"""


def lengthened(longest: int) -> str:
    """Return the migration that lengthens symbols, for symbols that are longer still."""
    text = (FILES / f"{FOURTH}.py").read_text()
    return text.replace("20, 64)", f"64, {longest})").replace("64, 20)", f"{longest}, 64)")


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    """A database that is up to date, with many trades."""
    url = new_database()
    init_db(url)
    close_db()
    run(url, INSERT, rows=MANY)
    return url


@pytest.fixture
def old(new_database: Callable[[], str]) -> str:
    """A database at version 0001 of the schema, with many trades."""
    url = new_database()
    with open_temporarily(Config(url)) as database:
        up(database, OURS[0])
    run(url, INSERT, rows=MANY)
    return url


@contextmanager
def database_of(url: str, **settings: Any) -> Iterator[Backend]:
    with open_temporarily(Config(url, **settings)) as database:
        yield database


def statements_of(database: Any) -> list[str]:
    """Return a list to which each statement is added that succeeds."""
    statements: list[str] = []
    database.query_hooks.append(
        lambda event: event.exception is None and statements.append(event.sql)
    )
    return statements


def script(url: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "botmemory.migration_runner", "--db", url, *map(str, arguments)]


def remaining(database: Backend) -> dict[str, tuple[str, ...]]:
    return {step.name: step.remaining for step in status(database) if step.remaining}


@contextmanager
def bots(url: str) -> Iterator[list[float]]:
    """Insert and read in two threads meanwhile; yield the seconds of each call."""
    seconds: list[float] = []
    is_over = threading.Event()

    def call(sql: str) -> None:
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
            while not is_over.is_set():
                began = time.monotonic()
                connection.execute(sql)
                seconds.append(time.monotonic() - began)
                is_over.wait(0.005)

    insert = INSERT.replace("%(rows)s", "1")
    read = "SELECT id, symbol FROM trade WHERE symbol = 'BTC/USDT' ORDER BY timestamp DESC LIMIT 5"
    with ThreadPoolExecutor(2) as executor:
        running = [executor.submit(call, sql) for sql in (insert, read)]
        try:
            yield seconds
        finally:
            is_over.set()
        for each in running:
            each.result()
    assert len(seconds) > 20


@contextmanager
def holding(url: str, sql: str, seconds: float | None = None) -> Iterator[int]:
    """Keep a transaction open that has run a statement; yield the pid of its server process."""
    with psycopg.connect(url, application_name="nightly report") as connection:
        connection.execute(sql)
        ending = threading.Timer(seconds or 600, connection.rollback)
        ending.start()
        yield connection.info.backend_pid
        ending.cancel()
        connection.rollback()


class TestLocks:
    def test_a_table_that_is_held_is_named_and_nothing_is_changed(self, url: str) -> None:
        with database_of(url, busy_timeout=2) as database:
            down(database, OURS[4])
            with holding(url, "SELECT FROM trade") as pid, bots(url) as seconds:
                began = time.monotonic()
                with pytest.raises(DatabaseBusyError) as caught:
                    up(database)
                assert 1 < time.monotonic() - began < 10
            assert re.search(
                f"waited 2 s for the table trade, held by pid {pid} "
                r"\(nightly report, idle in transaction, for \d+ s\)(.|\n)*nothing was changed",
                str(caught.value),
            )
            assert max(seconds) < LONGEST
            pending = [step.name for step in status(database) if not step.applied]
            assert pending == OURS[4:]
            assert up(database) == OURS[4:]

    def test_it_goes_on_when_the_table_is_free(self, url: str) -> None:
        with database_of(url) as database:
            down(database, OURS[4])
            with bots(url) as seconds, holding(url, "SELECT FROM trade", 1.5):
                assert up(database) == OURS[4:]
            assert max(seconds) < LONGEST

    def test_a_block_that_keeps_the_write_lock_is_named(self, url: str) -> None:
        with database_of(url, busy_timeout=0.5) as database:
            down(database, OURS[4])
            with (
                holding(url, f"SELECT pg_advisory_xact_lock({WRITE_LOCK})") as pid,
                pytest.raises(DatabaseBusyError) as caught,
            ):
                up(database)
            assert f"waited 0.5 s for the write lock, held by pid {pid} (" in str(caught.value)

    def test_a_plan_waits_for_no_table(self, old: str) -> None:
        insert = INSERT.replace("%(rows)s", "1")
        lock = f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"
        with (
            database_of(old, busy_timeout=1) as database,
            holding(old, insert),
            holding(old, lock),
            bots(old),
        ):
            planned = dict(plan(database))
            assert list(planned) == OURS[1:]
            assert 'CREATE INDEX CONCURRENTLY "trade_symbol_new"' in "".join(planned[THIRD])


class TestBuilds:
    def test_what_reads_the_whole_table_is_put_off(self, old: str) -> None:
        with database_of(old) as database:
            planned = [sql.removesuffix(";") for _, sqls in plan(database) for sql in sqls]
            run_by_up = statements_of(database)
            with bots(old) as seconds:
                assert up(database) == OURS[1:]
            assert max(seconds) < LONGEST
            assert [sql for sql in planned if sql not in run_by_up] == []
            text = "\n".join(run_by_up)
            assert not re.search(r'CREATE (UNIQUE )?INDEX (?!CONCURRENTLY).* ON "trade"', text)
            assert not re.search(r'ALTER TABLE "trade" .*CHECK \(.*\)(?! NOT VALID)$', text, re.M)
            assert 'ALTER TABLE "trade" VALIDATE CONSTRAINT "trade_fee_check"' in text
            assert drift(database, MODELS) == []
            assert list(database.schema_findings()) == []

    def test_an_index_serves_until_the_one_that_replaces_it_is_there(self, old: str) -> None:
        with database_of(old) as database:
            up(database, OURS[1])
            run_by_up = statements_of(database)
            up(database, THIRD)
            built, dropped, renamed = (sql for sql in run_by_up if re.search("INDEX.*symbol", sql))
            assert built.startswith('CREATE INDEX CONCURRENTLY "trade_symbol_new" ON "trade"')
            assert dropped == 'DROP INDEX CONCURRENTLY IF EXISTS "trade_symbol"'
            assert renamed == 'ALTER INDEX IF EXISTS "trade_symbol_new" RENAME TO "trade_symbol"'

    def test_a_partial_index_stays_in_force_while_a_type_is_changed(self, old: str) -> None:
        """The server would build it again, with the table locked; get_or_create() needs it."""
        with database_of(old) as database:
            up(database, THIRD)
            run(old, "UPDATE trade SET exchange = 'okx', exchange_trade_id = id")
            planned = [sql.removesuffix(";") for sql in dict(plan(database, FOURTH))[FOURTH]]
            run_by_up = statements_of(database)
            up(database, FOURTH)
            whole = 'INDEX CONCURRENTLY "trade_exchange_whole" ON "trade"'
            assert [sql for sql in run_by_up if "trade_exchange" in sql] == [
                f"CREATE UNIQUE {whole} USING btree (exchange, symbol, exchange_trade_id)",
                'DROP INDEX "trade_exchange"',
                f"CREATE UNIQUE {whole.replace('_whole', '')} USING btree (exchange, symbol, "
                "exchange_trade_id) WHERE (exchange_trade_id IS NOT NULL)",
                'DROP INDEX CONCURRENTLY IF EXISTS "trade_exchange_whole"',
            ]
            assert [sql for sql in planned if sql not in run_by_up] == []
            up(database)
            assert drift(database, MODELS) == []

    def test_down_and_up_again(self, old: str) -> None:
        with database_of(old) as database:
            up(database)
            described = run(old, DESCRIPTION)
            assert down(database, OURS[2]) == OURS[:1:-1]
            with bots(old) as seconds:
                up(database)
            assert max(seconds) < LONGEST
            assert down(database, OURS[1]) == OURS[:0:-1]
            up(database)
            assert run(old, DESCRIPTION) == described

    def test_who_keeps_an_index_from_being_built_is_named(self, old: str) -> None:
        with database_of(old, busy_timeout=1) as database:
            up(database, OURS[1])
            with (
                holding(old, INSERT.replace("%(rows)s", "1")) as pid,
                bots(old) as seconds,
                pytest.raises(DatabaseBusyError) as caught,
            ):
                up(database, THIRD)
            message = str(caught.value)
            assert f"the migration {THIRD} is applied except for 'CREATE INDEX" in message
            assert f"waited 1 s for the table trade, held by pid {pid} (nightly report" in message
            assert max(seconds) < LONGEST
            assert up(database, THIRD) == [THIRD]

    def test_small_tables_are_migrated_in_one_transaction(
        self, new_database: Callable[[], str]
    ) -> None:
        with database_of(new_database()) as database:
            run_by_up = statements_of(database)
            up(database)
            assert "CONCURRENTLY" not in "\n".join(run_by_up)

    def test_two_processes_at_once(self, old: str) -> None:
        # one waits for the other, which waits for the end of each older statement
        processes = [subprocess.Popen(script(old, "up")) for _ in range(3)]
        assert [process.wait(60) for process in processes] == [0, 0, 0]
        with database_of(old) as database:
            assert drift(database, MODELS) == []


EVERYTHING = """
import peewee
from peewee import SQL, Check, CharField, DoubleField, IntegerField, Model, BigAutoField

def up(migrator, db):
    class Signal(Model):
        id = BigAutoField()

        class Meta:
            database = db
            table_name = "signal"

    named = [Check("note <> 'it''s 5%%'", name="noted")]
    two = [Check("grade > 0"), Check("grade < 9"), SQL("DEFAULT 3")]
    migrator.migrate(
        migrator.add_column("trade", "note", CharField(max_length=9, null=True, constraints=named)),
        migrator.add_column("trade", "grade", IntegerField(null=True, constraints=two, index=True)),
        migrator.add_column("trade", "desk", CharField(default="a'b%", max_length=8, unique=False)),
        migrator.add_column("trade", "flag", peewee.BooleanField(default=lambda: False)),
        migrator.add_column("trade", "text", peewee.TextField(default="%s")),
        migrator.add_column("trade", "key", peewee.UUIDField(null=True, unique=True)),
        migrator.add_column(
            "trade", "reason_id",
            peewee.ForeignKeyField(Signal, field=Signal.id, null=True, on_delete="CASCADE"),
        ),
        migrator.add_column("trade", "cause_id", peewee.BigIntegerField(null=True)),
        migrator.add_foreign_key_constraint("trade", "cause_id", "signal", "id", "SET NULL"),
        migrator.add_constraint("trade", "cheap", Check("price < 1e9")),
        migrator.add_unique("trade", "id", "symbol"),
        migrator.drop_not_null("trade", "quantity"),
        migrator.add_not_null("trade", "quantity"),
        migrator.drop_constraint("trade", "trade_pnl_check"),
        migrator.drop_index("trade", "trade_timestamp"),
        migrator.add_index("trade", ("timestamp", "id", "price"), name="trade_timestamp"),
        migrator.add_index("trade", ("price",), True, where=SQL("price > 1e8")),
        migrator.rename_column("trade", "fee", "cost"),
    )

def down(migrator, db):
    migrator.migrate(
        migrator.drop_index("trade", "trade_timestamp"),
        migrator.add_index("trade", ("timestamp", "id"), name="trade_timestamp"),
        migrator.drop_index("trade", "trade_price"),
        migrator.rename_column("trade", "cost", "fee"),
        migrator.add_constraint("trade", "trade_pnl_check", Check("pnl > -1e308")),
        migrator.add_not_null("trade", "quantity"),
        migrator.drop_constraint("trade", "cheap"),
        migrator.drop_constraint("trade", "uniq_id_symbol"),
        *(
            migrator.drop_column("trade", name)
            for name in ("note", "grade", "desk", "flag", "text", "key", "reason_id", "cause_id")
        ),
    )
"""

DESCRIPTION = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull,
    pg_get_expr(adbin, adrelid) FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid
    AND adnum = attnum WHERE attrelid = 'trade'::regclass AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT conname, pg_get_constraintdef(oid), convalidated, NULL FROM pg_constraint
    WHERE conrelid = 'trade'::regclass
UNION ALL
SELECT NULL, pg_get_indexdef(indexrelid), indisvalid AND indisready, NULL FROM pg_index
    WHERE indrelid = 'trade'::regclass
ORDER BY 1, 2
"""


class TestOperations:
    def test_a_large_table_becomes_as_a_small_one(
        self, url: str, new_database: Callable[[], str], tmp_path: Path
    ) -> None:
        small = new_database()
        folder = custom_migrations(tmp_path, everything=EVERYTHING)
        descriptions = []
        for target in (small, url):
            with database_of(target, migrations=folder) as database:
                run_by_up = statements_of(database)
                if target == url:
                    planned = [sql.removesuffix(";") for _, sqls in plan(database) for sql in sqls]
                    up(database)
                    text = "\n".join(run_by_up)
                    assert 'UPDATE "trade"' not in text
                    assert len(re.findall("CONCURRENTLY", text)) >= 7
                    assert [sql for sql in planned if sql.replace("%", "%%") not in text] == []
                else:
                    up(database)
                    assert "CONCURRENTLY" not in "\n".join(run_by_up)
                before = run(target, DESCRIPTION)
                assert all(valid for name, _, valid, _ in before if name is None)
                down(database)
                descriptions.append([before, run(target, DESCRIPTION)])
                assert remaining(database) == {}
        assert descriptions[0] == descriptions[1]

    def test_rows_that_violate_a_constraint_are_named_and_up_goes_on(
        self, url: str, tmp_path: Path
    ) -> None:
        text = EVERYTHING.replace("price < 1e9", "price > 101")
        folder = custom_migrations(tmp_path, everything=text)
        with database_of(url, migrations=folder) as database:
            with pytest.raises(SchemaError) as caught:
                up(database)
            message = str(caught.value)
            assert "the migration 0003_everything is applied except for 'ALTER TABLE" in message
            assert 'VALIDATE CONSTRAINT "cheap"\', which failed: ' in message
            assert 'check constraint "cheap" of relation "trade" is violated by' in message
            [(name, statements)] = remaining(database).items()
            assert name == "0003_everything"
            assert statements[0] == 'ALTER TABLE "trade" VALIDATE CONSTRAINT "cheap"'
            # new rows are checked already
            with pytest.raises(psycopg.errors.CheckViolation):
                run(url, "INSERT INTO trade SELECT * FROM trade WHERE price = 101")
            run(url, "DELETE FROM trade WHERE price = 101")
            assert up(database) == [name]
            assert remaining(database) == {}
            assert down(database) == [name]
            assert (
                drift(database, MODELS) != []
            )  # the pnl's check, which this file does not restore

    def test_an_unfinished_migration_can_be_reverted(self, url: str, tmp_path: Path) -> None:
        text = EVERYTHING.replace("price < 1e9", "price > 101")
        folder = custom_migrations(tmp_path, everything=text)
        with database_of(url, migrations=folder) as database:
            before = [row for row in run(url, DESCRIPTION) if row[0] != "trade_pnl_check"]
            with pytest.raises(SchemaError, match="'down 0003_everything' reverts it"):
                up(database)
            assert down(database) == ["0003_everything"]
            after = [row for row in run(url, DESCRIPTION) if row[0] != "trade_pnl_check"]
            assert after == before
            assert list(database.schema_findings()) == []


class TestInterruptions:
    def kill_and_go_on(
        self, old: str, new_database: Callable[[str], str], first: int, step: int
    ) -> None:
        """Kill `up` after each `step`-th of its statements, from the `first` one on."""

        def copy() -> str:
            return new_database(f"TEMPLATE {old.rpartition('/')[2].partition('?')[0]}")

        complete, unfinished = copy(), 0
        with database_of(complete) as database:
            run_by_up = statements_of(database)
            up(database)
        for number in range(first, len(run_by_up) + 1, step):
            url = copy()
            assert killed(Config(url), at_statement(number))
            with database_of(url) as database:
                unfinished += bool(remaining(database))
                up(database)
                assert remaining(database) == {}
            assert run(url, DESCRIPTION) == run(complete, DESCRIPTION)
            assert run(url, "SELECT count(*) FROM trade") == [(MANY,)]
            drop_database(url)
        assert unfinished > 2

    @needs_fork
    def test_a_replacement_that_was_built_is_discarded_by_down(self, old: str) -> None:
        def die_when_built(database: Any) -> None:
            database.query_hooks.append(
                lambda event: event.sql.startswith("CREATE INDEX CONCURRENTLY") and die()
            )

        with database_of(old) as database:
            up(database, OURS[1])
            before = run(old, DESCRIPTION)
            assert killed(Config(old), die_when_built)
            assert run(old, DESCRIPTION) != before
            assert down(database) == [THIRD]
            assert run(old, DESCRIPTION) == before
            assert remaining(database) == {}

    @needs_fork
    def test_a_killed_migration_goes_on(self, old: str, new_database: Callable[[str], str]) -> None:
        self.kill_and_go_on(old, new_database, 11, 29)

    @needs_fork
    @pytest.mark.long
    @pytest.mark.parametrize("first", [1, 2, 3])
    def test_killed_after_any_statement(
        self, old: str, new_database: Callable[[str], str], first: int
    ) -> None:
        self.kill_and_go_on(old, new_database, first, 3)

    @pytest.mark.parametrize("goes_on", [True, False])
    def test_killed_while_it_builds_an_index(self, old: str, goes_on: bool) -> None:
        """The server goes on with the statement of a process that was killed, or is restarted."""
        name = "trade_symbol_new"
        with database_of(old) as database:
            up(database, OURS[1])
            with holding(old, INSERT.replace("%(rows)s", "1")):  # which a build waits for
                process = subprocess.Popen(script(old, "up", THIRD))
                while not run(old, f"SELECT 1 FROM pg_class WHERE relname = '{name}'"):
                    assert process.poll() is None
                    time.sleep(0.01)
                process.kill()
                process.wait()
                [(builder,)] = run(old, "SELECT pid FROM pg_stat_progress_create_index")
                if not goes_on:
                    run(old, f"SELECT pg_terminate_backend({builder}, 10000)")
            run_by_up = statements_of(database)
            assert up(database, THIRD) == [THIRD]
            assert (f'DROP INDEX CONCURRENTLY "{name}"' in run_by_up) is not goes_on
            up(database)
            assert drift(database, MODELS) == []
            assert list(database.schema_findings()) == []

    def test_status_names_what_is_unfinished(
        self, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = EVERYTHING.replace("price < 1e9", "price > 101")
        folder = custom_migrations(tmp_path, everything=text)
        common = ["--db", url, "--migrations", str(folder)]
        assert main([*common, "up"]) == 2
        capsys.readouterr()
        assert main([*common, "status"]) == 1
        line = capsys.readouterr().out.splitlines()[-1]
        assert re.search(
            r"^\[ \] 0003_everything +unfinished, 'up' goes on with: ALTER TABLE .* \"cheap\"$",
            line,
        )
        assert main([*common, "status", "--json"]) == 1
        last = json.loads(capsys.readouterr().out)[-1]
        assert (last["applied"], len(last["remaining"]) > 1) == (None, True)
        assert main([*common, "check"]) == 1
        assert capsys.readouterr().out == "pending: 0003_everything\n"
        with pytest.raises(SchemaError, match="pending: 0003_everything"):
            init_db(url, migrations=folder, migrate=False)
        assert main([*common, "stamp", "0003_everything"]) == 0
        assert main([*common, "status"]) == 0


def test_what_is_not_in_force_is_found(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    init_db(url)
    signal()
    run(
        url,
        "ALTER TABLE trade DROP CONSTRAINT trade_pnl_check, DROP CONSTRAINT trade_signal_id_fkey",
        f"ALTER TABLE trade ADD CONSTRAINT trade_pnl_check "
        f"CHECK (pnl BETWEEN -{LARGEST} AND {LARGEST}) NOT VALID",
        "ALTER TABLE trade ADD CONSTRAINT trade_signal_id_fkey FOREIGN KEY (signal_id) "
        "REFERENCES signal ON DELETE SET NULL NOT VALID",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'trade_symbol'::regclass",
    )
    findings = [finding for finding in check() if finding.severity == "error"]
    assert [(finding.what, finding.advice) for finding in findings] == [
        (
            "trade: the check trade_pnl_check is not validated: rows may violate it",
            "run 'ALTER TABLE trade VALIDATE CONSTRAINT trade_pnl_check'",
        ),
        (
            "trade: the foreign key trade_signal_id_fkey is not validated: rows may violate it",
            "run 'ALTER TABLE trade VALIDATE CONSTRAINT trade_signal_id_fkey'",
        ),
        (
            "trade: the index trade_symbol is invalid: its build was interrupted",
            "run 'REINDEX INDEX CONCURRENTLY trade_symbol'",
        ),
    ]
    assert main(["--db", url, "check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{finding.what}; {finding.advice}" for finding in findings]
    run(url, *(finding.advice.partition("'")[2][:-1] for finding in findings))
    assert [finding for finding in check() if finding.severity == "error"] == []
    assert main(["--db", url, "check"]) == 0


def test_bots_go_on_while_another_process_changes_a_type(url: str, tmp_path: Path) -> None:
    """A prepared statement does not survive that; a bot prepares what it calls often."""
    folder = custom_migrations(tmp_path, lengthen=lengthened(80))
    init_db(url)
    because = signal()
    is_over = threading.Event()
    first_calls = threading.Barrier(4)

    def update_and_sum(made: Trade) -> float:
        trades.update(made, pnl=1.0)
        return positions.get(made.symbol).quantity

    def calls(number: int) -> int:
        for count in itertools.count(1):
            made = trade(symbol=f"X{number}/USDT", signal=because)
            assert trades.get_by_id(made.id) == made
            assert trades.get_by_symbol(made.symbol, limit=1) == [made]
            assert len(trades.get_latest(limit=3)) == 3
            assert run_transaction(update_and_sum, made) == count
            assert signals.get_latest(limit=1) == [because]
            if count == 10:
                first_calls.wait(60)
            if is_over.is_set():
                return count
        raise AssertionError

    with ThreadPoolExecutor(3) as executor:
        running = [executor.submit(calls, number) for number in range(3)]
        first_calls.wait(60)
        subprocess.run(script(url, "--migrations", folder, "up"), check=True)
        time.sleep(0.5)
        is_over.set()
        counts = [each.result() for each in running]
    assert min(counts) > 10
    assert trades.get_trade_count() == MANY + sum(counts)
