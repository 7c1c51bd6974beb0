"""The fixtures for tests of a bot, in test runs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from custom_tables import custom_migrations

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.processes

IMPORTS = """
import asyncio, os, sqlite3, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import pytest
import botmemory
from botmemory import Trade, aio, close_db, db, init_db, run_transaction, session_scope
from botmemory.repositories import positions, records, state, trades

def buy(**more):
    return trades.create(**{"symbol": "A", "side": "buy", "price": 1, "quantity": 1} | more)

"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without plugins, which take seconds to import, and with every warning an error."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "error::ResourceWarning")


def run(
    pytester: pytest.Pytester, tests: str, *options: str, plugin: str = "pytest_botmemory"
) -> pytest.RunResult:
    """Run tests with the plugin, as a user's project does."""
    lines = tests.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    text = IMPORTS + "\n".join(line[indent:] for line in lines)
    pytester.makepyfile(test_bot=text)
    return pytester.runpytest_subprocess("-p", plugin, "-W", "error", *options)


def test_each_test_gets_an_empty_database(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.parametrize("number", range(5))
        @pytest.mark.parametrize("kind", ["botmemory_db", "botmemory_file"])
        def test_empty(number, kind, request):
            request.getfixturevalue(kind)
            assert (trades.get_trade_count(), state.items()) == (0, {})
            buy()
            state.set("a", 1)
            db.execute_sql("CREATE TABLE left (x INTEGER)")
            positions.get("A")
            assert positions.get("A").quantity == 1

        def test_the_values(botmemory_db):
            assert botmemory_db is db.obj
            assert db.config.in_memory

        def test_of_a_file(botmemory_file, tmp_path):
            assert botmemory_file == tmp_path / "botmemory.db"
            buy()
            with sqlite3.connect(botmemory_file) as connection:
                assert connection.execute("SELECT count(*) FROM trade").fetchone() == (1,)
            connection.close()

        def test_nothing_is_open():
            assert db.obj is None
            assert "BOTMEMORY_DB_PATH" not in os.environ
        """,
    )
    result.assert_outcomes(passed=13)


def test_the_tables_are_as_migrations_make_them_and_are_made_once(
    pytester: pytest.Pytester,
) -> None:
    result = run(
        pytester,
        """
        from botmemory.upkeep.check import check

        times = set()

        @pytest.mark.parametrize("number", range(20))
        @pytest.mark.parametrize("kind", ["botmemory_db", "botmemory_file"])
        def test_schema(number, kind, request):
            request.getfixturevalue(kind)
            assert [each for each in check(full=True) if each.severity == "error"] == []
            times.add(str(db.execute_sql("SELECT * FROM schema_migration").fetchall()))

        def test_once():
            assert len(times) == 1
        """,
    )
    result.assert_outcomes(passed=41)


def test_it_imports_nothing_where_it_is_not_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_imports(request):
            assert request.config.pluginmanager.has_plugin("pytest_botmemory")
            assert "botmemory" not in sys.modules
            assert "peewee" not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess("-p", "pytest_botmemory", "-W", "error")
    result.assert_outcomes(passed=1)


def test_it_is_found_by_its_entry_point_and_can_be_left_out(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    [found] = [each for each in entry_points(group="pytest11") if each.name == "botmemory"]
    assert found.value == "pytest_botmemory"
    pytester.makepyfile("def test_it(botmemory_db): pass")
    pytester.runpytest_subprocess("-p", "botmemory").assert_outcomes(passed=1)
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess("-p", "no:botmemory")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'botmemory_db' not found*"])


def test_processes_of_xdist_have_databases_of_their_own(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.parametrize("number", range(12))
        def test_both(number, botmemory_file):
            assert trades.get_trade_count() == 0
            buy()
            time.sleep(0.02)
            assert trades.get_trade_count() == 1
        """,
        "-p",
        "xdist",
        "-n",
        "2",
    )
    result.assert_outcomes(passed=12)


def test_a_bot_that_opens_and_closes_by_itself(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_restart(botmemory_file):
            buy()
            close_db()
            assert init_db(botmemory_file) is db.obj
            assert trades.get_trade_count() == 1
            close_db()
            init_db()
            assert trades.get_trade_count() == 1

        def test_the_same(botmemory_db):
            assert init_db() is botmemory_db
            assert init_db(":memory:") is botmemory_db

        def test_closed(botmemory_db):
            buy()
            close_db()

        def test_new_one(botmemory_db):
            close_db()
            init_db(":memory:")
            assert trades.get_trade_count() == 0

        def test_another_file(botmemory_db, tmp_path):
            close_db()
            init_db(tmp_path / "other.db")
            buy()

        def test_process(botmemory_file):
            code = (
                "import botmemory; from botmemory.repositories import trades; "
                "botmemory.init_db(); "
                "trades.create(symbol='P', side='buy', price=1, quantity=1)"
            )
            subprocess.run([sys.executable, "-c", code], check=True)
            assert [trade.symbol for trade in trades.get_all()] == ["P"]

        def test_after():
            assert db.obj is None
        """,
    )
    result.assert_outcomes(passed=7)


def test_threads_and_tasks(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_threads(botmemory_file):
            threads = [threading.Thread(target=buy) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert trades.get_trade_count() == 4

        def test_that_is_told_to_end(botmemory_file):
            end = threading.Event()
            def bot():
                buy()
                end.wait()
            threading.Thread(target=bot).start()
            while not trades.get_trade_count():
                time.sleep(0.01)
            end.set()

        @pytest.mark.parametrize("kind", ["botmemory_db", "botmemory_file"])
        def test_tasks(kind, request):
            request.getfixturevalue(kind)
            async def bot():
                await asyncio.gather(*(aio.run(buy) for _ in range(5)))
            asyncio.run(bot())
            assert trades.get_trade_count() == 5

        pool = ThreadPoolExecutor(1)

        @pytest.mark.parametrize("number", range(2))
        def test_a_pool_that_outlives_the_test(number, botmemory_file):
            pool.submit(buy).result()
            assert trades.get_trade_count() == 1

        def test_a_thread_has_no_database_in_memory(botmemory_db):
            with ThreadPoolExecutor(1) as executor:
                with pytest.raises(botmemory.StorageError, match="several threads"):
                    executor.submit(buy).result()
        """,
    )
    result.assert_outcomes(passed=7)


def test_what_a_test_leaves_behind_is_an_error_of_this_test_alone(
    pytester: pytest.Pytester,
) -> None:
    result = run(
        pytester,
        """
        kept = []

        @pytest.mark.parametrize("kind", ["botmemory_db", "botmemory_file"])
        def test_open_block(kind, request):
            request.getfixturevalue(kind)
            kept.append(session_scope())
            kept[-1].__enter__()
            buy()

        def test_next(botmemory_db):
            assert trades.get_trade_count() == 0
            with session_scope():
                buy()
            assert trades.get_trade_count() == 1

        end = threading.Event()

        def bot(within):
            if within:
                with session_scope():
                    buy()
                    kept.append(1)
                    end.wait()
            else:
                buy()
                kept.append(1)
                end.wait()

        @pytest.mark.parametrize("within", [True, False])
        def test_running(within, botmemory_file):
            kept.clear()
            threading.Thread(target=bot, args=(within,), name="the bot", daemon=True).start()
            while not kept:
                time.sleep(0.01)

        def test_next_file(botmemory_file):
            assert trades.get_trade_count() == 0
            buy()

        def test_end():
            end.set()
        """,
    )
    result.assert_outcomes(passed=7, errors=4)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_open_block?botmemory_db?*",
            "the test left a session_scope() open, and what it recorded is rolled back; *",
            "*ERROR at teardown of test_open_block?botmemory_file?*",
            "the test left a session_scope() open, and what it recorded is rolled back; *",
            "*ERROR at teardown of test_running?True?*",
            "the test left a session_scope() open in another thread; *",
            "*ERROR at teardown of test_running?False?*",
            "the test left a thread running that has used the database: 'the bot'; *",
        ]
    )


def test_a_database_that_is_open_already_is_an_error(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_both(botmemory_db, botmemory_file):
            pass

        @pytest.fixture
        def opened():
            init_db(":memory:")
            buy()
            yield
            close_db()

        def test_opened(opened, botmemory_db):
            pass

        def test_next(botmemory_db):
            assert trades.get_trade_count() == 0
        """,
    )
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(["*ConfigError: :memory:: this database is open already*"])


def test_settings_and_custom_tables(pytester: pytest.Pytester, tmp_path: Path) -> None:
    folder = custom_migrations(tmp_path)
    pytester.makeconftest(
        f"""
        import pytest

        @pytest.fixture(scope="session")
        def botmemory_settings():
            return {{"migrations": {str(folder)!r}, "busy_timeout": 1.5}}
        """
    )
    result = run(
        pytester,
        """
        @pytest.mark.parametrize("kind", ["botmemory_db", "botmemory_file"])
        @pytest.mark.parametrize("number", range(2))
        def test_custom(kind, number, request):
            request.getfixturevalue(kind)
            assert db.config.busy_timeout == 1.5
            assert "remark" in db.get_tables()
            assert db.execute_sql("SELECT count(*) FROM remark").fetchone() == (0,)
            db.execute_sql("DROP TABLE remark")
        """,
    )
    result.assert_outcomes(passed=4)


USER_TEST = """
from pathlib import Path

import peewee

from botmemory.repositories import trades


def test_memory(botmemory_db: peewee.Database) -> None:
    assert botmemory_db.get_tables()


def test_file(botmemory_file: Path) -> None:
    assert botmemory_file.stat().st_size > 0
    assert trades.get_trade_count() == 0
"""


def test_the_types_of_the_values_are_those_that_a_test_declares(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    file = tmp_path / "test_bot.py"
    file.write_text(USER_TEST)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_declared_types_are_those_of_the_values(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_types=USER_TEST)
    pytester.runpytest_subprocess("-p", "pytest_botmemory").assert_outcomes(passed=2)
