"""The live view: what it shows, that it goes on after errors, and what it costs."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from processes import needs_posix
from programs import start_program
from rich.cells import cell_len
from samples import cash_flow, signal, trade
from servers import Restartable

from botmemory import close_db, init_db
from botmemory.cli._options import DatabaseOptions
from botmemory.cli._watch import _frame, _View
from botmemory.database import db
from botmemory.repositories import trades

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

Run = Callable[..., tuple[int, str, str]]
LONG = "trend-following-donchian-breakout-4h"


def fill() -> None:
    """Record trades in two currencies, one of which is closed today, and a signal."""
    init_db()
    now, minute = datetime.now(UTC), timedelta(minutes=1)
    trade(symbol="BTC/USDT", price=40_000, quantity=0.5, timestamp=now - timedelta(days=3, hours=2))
    trade(symbol="BTC/USDT", side="sell", price=41_000, quantity=0.2, pnl=200, timestamp=now)
    old = now - timedelta(days=2)
    trade(symbol="ETH/BTC", price=0.05, quantity=1, timestamp=old, exchange="binance")
    trade(
        symbol="ETH/BTC", side="sell", price=0.049, quantity=1, timestamp=old + minute, pnl=-0.001,
        exchange="binance", strategy=LONG,
    )  # fmt: skip
    yesterday = now - timedelta(hours=26)
    trade(symbol="1000PEPE/USDT", price=0.00112345, quantity=1e6, timestamp=yesterday)
    signal(symbol="SOL/USDT", timestamp=now - 5 * minute, strategy=LONG)


@pytest.fixture
def market(target: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BOTMEMORY_DB_PATH", target)
    fill()
    close_db()
    return target


@pytest.fixture
def view(market: str) -> Iterator[_View]:
    """A view of the open database."""
    every: dict[str, Any] = dict.fromkeys(("symbol", "strategy", "exchange"))
    view = _View(DatabaseOptions(db=market), every, None, {"BTC/USDT": 42_000.0}, {})
    view.database.look()
    yield view
    close_db()


def shown(view: _View, width: int = 80, height: int | None = 24) -> list[str]:
    return [line.plain for line in _frame(view, width, height)]


class TestFrame:
    def test_into_a_pipe_it_is_printed_once(self, market: str, run: Run) -> None:
        code, out, err = run("--db", market, "watch", "--price", "BTC/USDT=42000")
        assert (code, err) == (0, "")
        blocks = [block.splitlines() for block in out.split("\n\n")]
        assert re.search(r"^last trade \d+s ago, last signal 5m \d\ds ago, health ", blocks[0][1])
        results = [line.split() for line in blocks[1][1:]]
        assert results == [
            ["BTC", "0", "-0.001", "2", "0.0%", "recorded"],
            ["USDT", "200.00", "1", "200.00", "3", "100.0%", "recorded"],
        ]
        bitcoin, pepe = (line.split() for line in blocks[2][1:])
        assert (pepe[0], pepe[-1]) == ("1000PEPE/USDT", "2h")
        expected = ["BTC/USDT", "0.3", "40,000", "42,000", "600.00", "200.00", "USDT", "3d", "2h"]
        assert bitcoin == expected
        assert [line.split()[2] for line in blocks[3][1:]] == [
            "BTC/USDT",
            "1000PEPE/USDT",
            "ETH/BTC",
            "ETH/BTC",
            "BTC/USDT",
        ]
        assert blocks[4][1].split()[2:] == ["SOL/USDT", "1", LONG]

    def test_one_currency(self, market: str, run: Run) -> None:
        _, out, _ = run("--db", market, "watch", "--quote", "BTC")
        assert "BTC/USDT" not in out
        assert "SOL/USDT" not in out
        assert out.count("ETH/BTC") == 2

    def test_an_empty_database(self, target: str, run: Run) -> None:
        code, out, err = run("--db", target, "watch")
        assert (code, err) == (0, "")
        assert "last trade never, last signal never" in out
        assert "no open positions" in out

    def test_results_of_fills(self, target: str, run: Run) -> None:
        init_db(target)
        now = datetime.now(UTC)
        trade(price=100, timestamp=now - timedelta(seconds=2))
        trade(side="sell", price=110, timestamp=now)
        cash_flow(symbol="BTC/USDT", amount=-1.5, timestamp=now - timedelta(seconds=1))
        close_db()
        _, out, _ = run("--db", target, "watch")
        assert out.split("\n\n")[1].splitlines()[1].split() == [
            "USDT", "8.50", "2", "8.50", "2", "100.0%", "fills",
        ]  # fmt: skip

    def test_symbols_without_a_currency_are_not_added_up(self, target: str, run: Run) -> None:
        init_db(target)
        trade(symbol="BTCUSDT", pnl=1)
        trade(symbol="BTCJPY", pnl=64)
        close_db()
        _, out, _ = run("--db", target, "watch")
        assert "not known: symbols that name no currency are not added up\n" in out
        assert "65.00" not in out
        assert "65.00" in run("--db", target, "watch", "--quote", "")[1]
        assert "64.00" in run("--db", target, "watch", "--symbol", "BTCJPY")[1]

    @pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (160, 50), (80, 10)])
    def test_what_matters_most_fits(self, view: _View, width: int, height: int) -> None:
        close_db()
        init_db(view.options.db)
        for number in range(40):
            symbol = f"COIN{number}000000/USDT:USDT"
            values = {"symbol": symbol, "exchange": "binanceusdm", "strategy": LONG}
            trades.create(**values, side="buy", price=1.2345 + number, quantity=1e6)
        close_db()
        view.refresh()
        assert view.error is None
        lines = shown(view, width, height)
        assert len(lines) <= height
        assert max(map(cell_len, lines)) <= width, "\n".join(lines)
        text = "\n".join(lines)
        assert "results in" in text
        if height > 10:
            assert re.search(r"\.\.\. and \d+ more", text)
            assert re.search(r"BTC/USDT .* 600\.00", text)
            assert "last trades" in text
            assert "last signals" in text

    def test_a_smaller_terminal_than_the_results(self, view: _View) -> None:
        view.refresh()
        for height in range(1, 12):
            assert len(shown(view, 40, height)) <= max(height, 2)


class TestReading:
    def test_an_unchanged_database_is_not_read_again(self, view: _View) -> None:
        view.refresh()
        content, statements = view.content, []
        assert content is not None
        db.query_hooks.append(lambda *_: statements.append(1))
        try:
            view.refresh()
        finally:
            db.query_hooks.pop()
        assert view.content is content
        assert len(statements) <= 1  # the change marker

    def test_what_another_process_records_is_seen(self, view: _View, market: str) -> None:
        view.refresh()
        command = (
            "import sys, botmemory\n"
            "botmemory.init_db(sys.argv[1])\n"
            "botmemory.Trade.create(symbol='NEW/USDT', side='buy', price=1, quantity=1)"
        )
        subprocess.run([sys.executable, "-c", command, market], check=True)
        view.refresh()
        assert view.content is not None
        assert view.content.trades[0]["symbol"] == "NEW/USDT"

    def test_a_new_day_is_read_again(self, view: _View) -> None:
        view.refresh()
        content = view.content
        view.day = None
        view.refresh()
        assert view.content is not content

    @needs_posix  # Windows renames and deletes no file that is open
    def test_it_goes_on_after_the_file_was_away_and_replaced(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BOTMEMORY_DB_PATH", str(path))
        fill()
        close_db()
        every: dict[str, Any] = dict.fromkeys(("symbol", "strategy", "exchange"))
        view = _View(DatabaseOptions(), every, None, {}, {})
        view.database.look()
        view.refresh()
        away = path.rename(path.with_name("away.db"))
        view.refresh()
        assert any(line.startswith("error: ") for line in shown(view))
        assert any(line.startswith("what is shown is of ") for line in shown(view))
        assert any("BTC/USDT" in line for line in shown(view))
        assert not path.exists()
        away.rename(path)
        view.refresh()
        assert view.error is None
        path.unlink()
        init = "import sys, botmemory; botmemory.init_db(sys.argv[1])"
        subprocess.run([sys.executable, "-c", init, str(path)], check=True)
        view.refresh()
        assert view.error is None
        assert view.content is not None
        assert view.content.trades == []
        close_db()

    def test_it_goes_on_while_the_schema_is_another_one(self, view: _View, market: str) -> None:
        view.refresh()
        migrate = [sys.executable, "-m", "botmemory", "--db", market, "migrate"]
        down = [*migrate, "down", "0005_add_contract_size"]
        subprocess.run(down, check=True, capture_output=True)
        for _ in range(2):
            view.refresh()
        assert view.error is not None
        assert "migrations are pending" in view.error
        subprocess.run([*migrate, "up"], check=True, capture_output=True)
        view.refresh()
        assert view.error is None

    def test_it_goes_on_while_a_file_is_locked(self, path: Path) -> None:
        init_db(path)
        trade()
        close_db()
        every: dict[str, Any] = dict.fromkeys(("symbol", "strategy", "exchange"))
        options = DatabaseOptions(db=str(path))
        view = _View(options, every, None, {}, {})
        view.database.look()
        view.refresh()
        close_db()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            view.options = DatabaseOptions(db=str(path))
            started = time.monotonic()
            view.refresh()
            assert view.error is not None
            assert "another writer held it for more than 2 s" in view.error
            assert time.monotonic() - started < 15
        view.refresh()
        assert view.error is None
        close_db()


class TestTerminal:
    def test_it_follows_the_bot_until_ctrl_c(self, market: str, on_terminal: Any) -> None:
        child = on_terminal("--db", market, "watch", "--every", "0.1", lines=24)
        child.read_until("last signals")
        init_db(market)
        trade(symbol="NEW/EUR")
        child.read_until("NEW/EUR")
        child.interrupt()
        assert child.wait() == 0
        assert b"Traceback" not in child.output
        assert child.output.endswith(b"\x1b[?25h\x1b[?1049l")  # the terminal as it was
        assert trades.get_trade_count() == 6

    def test_a_missing_file_is_an_error(self, path: Path, on_terminal: Any) -> None:
        child = on_terminal("--db", str(path), "watch")
        assert child.wait() == 2
        assert b"there is no such database to read" in child.output
        assert b"1049" not in child.output

    def test_once(self, market: str, on_terminal: Any) -> None:
        child = on_terminal("--db", market, "watch", "--once")
        assert child.wait() == 0
        assert b"1049" not in child.output


RECORDS_ON_DEMAND = """
    import sys
    from botmemory import init_db
    from samples import trade

    init_db(sys.argv[1], busy_timeout=0)  # a call that would wait fails
    trade()
    for _ in sys.stdin:
        trade()
        print("recorded", flush=True)
    """


def test_a_bot_beside_it_waits_for_no_reading(view: _View, market: str) -> None:
    """The bot records at each statement of the view, and after it a checkpoint is not kept back."""
    with start_program(RECORDS_ON_DEMAND, market) as bot:

        def record(*_: object) -> None:
            bot.stdin.write("\n")
            bot.stdin.flush()
            recorded.append(bot.stdout.readline())

        recorded: list[str] = []
        db.query_hooks.append(record)
        try:
            for _ in range(3):
                view.refresh()
        finally:
            db.query_hooks.pop()
        assert view.error is None
        if "://" not in market:
            with closing(sqlite3.connect(market)) as connection:
                assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        assert bot.communicate(timeout=30) == ("", "")
    assert len(recorded) > 20
    assert set(recorded) == {"recorded\n"}


def test_it_goes_on_when_a_server_restarts(restartable: Restartable, on_terminal: Any) -> None:
    name = restartable.url
    init_db(name)
    trade(symbol="OLD/EUR")
    close_db()
    child = on_terminal("--db", name, "watch", "--every", "0.2", lines=24)
    child.read_until("OLD/EUR")
    restartable.stop()
    child.read_until("error: ")
    assert b"what is shown is of" in child.output
    restartable.start()
    init_db(name)
    trade(symbol="NEW/EUR")
    child.read_until("NEW/EUR")
    child.interrupt()
    assert child.wait() == 0
    assert b"Traceback" not in child.output
