"""The command `query`: results in each format, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import signal as system_signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from processes import needs_signals
from rich.cells import cell_len
from samples import at, signal, trade, trade_values

from botmemory import Trade, close_db, init_db, session_scope
from botmemory.database import db
from botmemory.errors import ValidationError
from botmemory.repositories import trades

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def filled(target: str) -> str:
    init_db(target)
    trade(symbol="BTC/USDT", pnl=12.5, timestamp=at(1), trade_metadata={"regime": "bull"})
    trade(symbol="ETH/BTC", price=0.00001234, timestamp=at(2), strategy="two \u8d85")
    close_db()
    return target


class StopBotError(KeyboardInterrupt):
    """Raised by a signal handler; for one of this kind, psycopg cancels the query on the server."""


class TestFormats:
    def test_a_table(self, filled: str, run: Run) -> None:
        sql = "SELECT symbol, pnl, strategy, 'a\nb' AS \"x\ny\" FROM trade ORDER BY timestamp"
        code, out, err = run("--db", filled, "query", sql)
        assert (code, err) == (0, "")
        assert [line.split() for line in out.splitlines()] == [
            ["symbol", "pnl", "strategy", "x\\ny"],
            [out.splitlines()[1]],
            ["BTC/USDT", "12.5", "NULL", "a\\nb"],
            ["ETH/BTC", "NULL", "two", "\u8d85", "a\\nb"],
        ]

    def test_json(self, filled: str, run: Run) -> None:
        sql = "SELECT symbol, pnl, price, strategy AS s, symbol FROM trade ORDER BY timestamp;"
        code, out, err = run("--db", filled, "query", sql, "--json")
        assert (code, err) == (0, "")
        bitcoin, ether = json.loads(out)
        assert bitcoin == {
            "symbol": "BTC/USDT", "pnl": 12.5, "price": 100.0, "s": None, "symbol_2": "BTC/USDT"
        }  # fmt: skip
        assert (ether["s"], ether["price"]) == ("two \u8d85", 0.00001234)
        assert run("--db", filled, "query", "SELECT 1 WHERE 1 = 0", "--json")[1] == "[]\n"

    def test_csv(self, filled: str, run: Run) -> None:
        sql = "SELECT symbol, pnl, strategy FROM trade ORDER BY timestamp"
        _, out, _ = run("--db", filled, "query", sql, "--csv")
        assert list(csv.reader(io.StringIO(out))) == [
            ["symbol", "pnl", "strategy"],
            ["BTC/USDT", "12.5", ""],
            ["ETH/BTC", "", "two \u8d85"],
        ]
        _, out, _ = run("--db", filled, "query", "SELECT 1 AS one WHERE 1 = 0", "--csv")
        assert out == "one\n"

    def test_no_rows(self, filled: str, run: Run) -> None:
        assert run("--db", filled, "query", "SELECT 1 WHERE 1 = 0") == (0, "", "no rows\n")

    def test_a_limit(self, filled: str, run: Run) -> None:
        sql = "SELECT symbol FROM trade ORDER BY timestamp"
        code, out, err = run("--db", filled, "query", sql, "--limit", "1")
        assert (code, len(out.splitlines())) == (0, 3)
        assert err == "more than 1 row; pass --limit, --json or --csv\n"
        assert run("--db", filled, "query", sql, "--limit", "2")[2] == ""
        assert len(json.loads(run("--db", filled, "query", sql, "--limit", "1", "--json")[1])) == 1
        init_db(filled)
        trades.create_many(trade_values() for _ in range(1500))
        close_db()
        _, out, err = run("--db", filled, "query", sql)
        assert (len(out.splitlines()), err[:20]) == (1002, "more than 1,000 rows")
        assert len(run("--db", filled, "query", sql, "--csv")[1].splitlines()) == 1503

    def test_the_standard_input(self, filled: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "botmemory", "--db", filled, "query", "-", "--csv"],
            input="SELECT symbol AS s\nFROM trade -- the symbol\nORDER BY 1 LIMIT 1",
            capture_output=True, encoding="utf-8", check=True,
        )  # fmt: skip
        assert done.stdout == "s\nBTC/USDT\n"

    def test_percent_signs_are_those_of_sql(self, filled: str, run: Run) -> None:
        sql = "SELECT symbol, 7 % 4 AS r FROM trade WHERE symbol LIKE '%/BT%'"
        assert run("--db", filled, "query", sql, "--csv")[1] == "symbol,r\nETH/BTC,3\n"

    def test_blobs_and_numbers_that_json_lacks(self, path: Path, run: Run) -> None:
        init_db(path)
        close_db()
        sql = "SELECT x'00ff' AS b, 9e999 AS i, 9007199254740993 AS n, '' AS e"
        _, out, _ = run("--db", path, "query", sql, "--json")
        assert json.loads(out) == [{"b": "00ff", "i": "inf", "n": 9007199254740993, "e": ""}]
        _, out, _ = run("--db", path, "query", sql)
        assert out.splitlines()[2].split() == ["00ff", "inf", "9007199254740993"]

    def test_types_of_a_server(self, new_target: Any, run: Run) -> None:
        name = new_target()
        if not name.startswith("postgresql"):
            pytest.skip("SQLite has no such types")
        init_db(name)
        trade(trade_metadata={"a": [1, None]}, id="0190a5a4-7b7c-7000-8000-00000000000a")
        close_db()
        sql = (
            "SELECT id, trade_metadata, timestamp > '2024-01-01' AS late, 1.10::numeric AS price, "
            "0.12345678901234567890::numeric AS exact, ARRAY[1, 2] AS some, DATE '2024-01-31' AS d,"
            " INTERVAL '90 seconds' AS i, 'NaN'::float8 AS f, '\\x00ff'::bytea AS b FROM trade"
        )
        _, out, _ = run("--db", name, "query", sql, "--json")
        assert json.loads(out) == [
            {
                "id": "0190a5a4-7b7c-7000-8000-00000000000a",
                "trade_metadata": {"a": [1, None]},
                "late": True,
                "price": 1.1,
                "exact": "0.12345678901234567890",
                "some": [1, 2],
                "d": "2024-01-31",
                "i": 90.0,
                "f": "nan",
                "b": "00ff",
            }
        ]
        assert run("--db", name, "query", sql)[0] == 0
        assert run("--db", name, "query", sql, "--csv")[0] == 0

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_what_is_too_wide_for_the_terminal(
        self, filled: str, terminal: Callable[..., str]
    ) -> None:
        output = terminal("--db", filled, "query", "SELECT * FROM trade ORDER BY timestamp")
        lines = output.replace("\r", "").splitlines()
        assert lines[2].split() == ["symbol", "BTC/USDT"]
        assert {"exchange_trade_id  NULL", "exchange           NULL"} <= {*lines}
        output = terminal("--db", filled, "query", f"SELECT '{'x' * 99}' AS a, pnl FROM trade")
        table = output.replace("\r", "").splitlines()
        assert max(map(cell_len, table[1:])) == 80
        assert "…" in output


WRITES = (
    "DELETE FROM trade",
    "INSERT INTO signal (timestamp, symbol, signal_value) VALUES ('2024-01-01', 'A', 1)",
    "UPDATE trade SET pnl = 1",
    "DROP TABLE trade",
    "CREATE TABLE x (a INTEGER)",
    "CREATE TEMPORARY TABLE x (a INTEGER)",
    "WITH some AS (SELECT 1) DELETE FROM trade",
    "SELECT 1; DELETE FROM trade",
    "SELECT 1; COMMIT; DELETE FROM trade",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "",
    "   ;",
    "/* nothing */",
)
OF_SQLITE = (
    "PRAGMA query_only = 0",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = 1",
    "ATTACH 'new.db' AS x",
    "VACUUM INTO 'new.db'",
    "SELECT load_extension('x')",
    "UPDATE sqlite_master SET sql = ''",
    "REINDEX",
    "SELECT ?",
)
OF_SERVER = (
    "WITH gone AS (DELETE FROM trade RETURNING *) SELECT * FROM gone",
    "SELECT nextval('signal_id_seq')",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SET default_transaction_read_only = off",
    "COPY trade TO '/tmp/trades'",
    "SELECT * FROM trade FOR UPDATE",
    "SELECT * INTO x FROM trade",
    "DO $$ BEGIN DELETE FROM trade; END $$",
    "SELECT $1",
)


class TestRefused:
    def test_whatever_writes(self, filled: str, run: Run, empty_folder: Path) -> None:
        more = OF_SERVER if filled.startswith("postgresql") else OF_SQLITE
        before = run("--db", filled, "query", "SELECT * FROM trade ORDER BY timestamp", "--json")
        for sql in (*WRITES, *more):
            for form in ("--json", "--csv"):
                code, out, err = run("--db", filled, "query", form, "--", sql)
                assert (code, out) == (2, ""), sql
                assert err.startswith("error: SQL: "), (sql, err)
                assert (err.count("\n"), "Traceback" in err) == (1, False), (sql, err)
        after = run("--db", filled, "query", "SELECT * FROM trade ORDER BY timestamp", "--json")
        assert after == before
        assert not list(empty_folder.glob("new.db*"))

    def test_also_in_a_database_that_is_open_for_writing(self, empty_database: Any) -> None:
        trade()
        for sql in WRITES:
            with pytest.raises(ValidationError), db.read_sql(sql):
                pass
        assert trades.get_trade_count() == 1
        trade()  # the connection is as before
        with session_scope():
            Trade.update(pnl=1).execute()

    def test_names_that_do_not_exist(self, filled: str, run: Run) -> None:
        for sql, name in (("SELECT prcie FROM trade", "prcie"), ("SELECT * FROM nope", "nope")):
            done = subprocess.run(
                [sys.executable, "-m", "botmemory", "--db", filled, "query", sql],
                capture_output=True, encoding="utf-8", check=False,
            )  # fmt: skip
            assert (done.returncode, done.stdout, name in done.stderr) == (2, "", True)
            assert done.stderr.count("\n") == 1  # and no warning of the driver

    def test_functions_of_json_are_no_write(self, filled: str, run: Run) -> None:
        if filled.startswith("postgresql"):
            sql = "SELECT e.key, e.value #>> '{}' AS value FROM trade, jsonb_each(trade_metadata) e"
        else:
            sql = "SELECT e.key, e.value FROM trade, json_each(trade_metadata) e"
        _, out, _ = run("--db", filled, "query", sql, "--csv")
        assert out == "key,value\nregime,bull\n"

    def test_a_missing_file(self, path: Path, run: Run) -> None:
        code, out, err = run("--db", path, "query", "SELECT 1")
        assert (code, out, "there is no such database to read" in err) == (2, "", True)
        assert not path.exists()


class TestReading:
    def test_rows_are_read_as_they_are_printed(self, path: Path) -> None:
        init_db(path)
        close_db()
        sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
        for form, line in (("--csv", "i"), ("--json", "[")):
            with subprocess.Popen(
                [sys.executable, "-m", "botmemory", "--db", str(path), "query", sql, form],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            ) as child:  # fmt: skip
                assert child.stdout is not None
                assert child.stderr is not None
                assert child.stdout.readline() == f"{line}{os.linesep}".encode()
                assert child.stdout.readline()
                child.stdout.close()  # as `| head` does
                assert b"Traceback" not in child.stderr.read()
                assert child.wait(30) != 0

    @needs_signals
    def test_ctrl_c_ends_a_query_without_an_end(self, path: Path) -> None:
        init_db(path)
        close_db()
        sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) " \
            "SELECT count(*) FROM n"  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", "botmemory", "--db", str(path), "query", sql],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as child:  # fmt: skip
            until = time.monotonic() + 30
            while not Path(f"{path}-shm").exists() and time.monotonic() < until:
                time.sleep(0.05)  # a busy machine takes seconds to import the command
            time.sleep(0.5)
            os.kill(child.pid, system_signal.SIGINT)
            out, err = child.communicate(timeout=30)
        assert (out.strip(), err.strip()) == (b"", b"Aborted!")
        assert child.returncode == 1

    @needs_signals
    @pytest.mark.parametrize("select", ["SELECT count(*) FROM n", "SELECT i FROM n WHERE i < 3"])
    def test_what_a_signal_handler_raises_ends_a_query(
        self, empty_database: Any, select: str
    ) -> None:
        """Before the first row and after the last one; the connection goes on."""

        def stop(*_: object) -> None:
            raise StopBotError

        def read_until_stopped() -> None:
            system_signal.setitimer(system_signal.ITIMER_REAL, 0.1)
            with db.read_sql(f"{numbers} {select}") as (_, rows):
                list(rows)

        numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        before = system_signal.signal(system_signal.SIGALRM, stop)
        try:
            for _ in range(3):
                with pytest.raises(StopBotError):
                    read_until_stopped()
                some = f"{numbers} SELECT count(*) FROM (SELECT i FROM n LIMIT 50000)"
                with db.read_sql(some) as (_, rows):
                    assert list(rows) == [(50_000,)]
        finally:
            system_signal.setitimer(system_signal.ITIMER_REAL, 0)
            system_signal.signal(system_signal.SIGALRM, before)

    def test_a_bot_writes_meanwhile(self, empty_database: Any) -> None:
        first = signal().id
        with db.read_sql("SELECT id FROM signal ORDER BY id") as (_, rows):
            assert next(rows) == (first,)
        assert signal().id == first + 1

    def test_a_locked_file_is_named(self, path: Path, run: Run, monkeypatch: Any) -> None:
        init_db(path)
        close_db()
        monkeypatch.setenv("BOTMEMORY_BUSY_TIMEOUT", "0.1")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            code, _, err = run("--db", path, "query", "SELECT 1")
        assert code == 2
        assert "another writer held it" in err
