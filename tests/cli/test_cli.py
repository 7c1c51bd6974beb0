"""The `botmemory` command: its tables, JSON and CSV, exit codes and errors."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import cli_reference
import pytest
from paths import ROOT
from processes import needs_pythonpath
from samples import at, cash_flow, signal, trade

from botmemory import close_db, init_db
from botmemory.cli import main
from botmemory.cli._output import Column, middle, table_lines
from botmemory.repositories import cash_flows, state, trades

COMMAND = [sys.executable, "-m", "botmemory"]
SCRIPT = "botmemory" if os.name == "posix" else "botmemory.exe"
needs_script = pytest.mark.skipif(
    os.name != "posix" and not Path(sys.executable).with_name(SCRIPT).exists(),
    reason="the command is not installed beside this Python",
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def filled(target: str) -> str:
    """A database with two trades and their signals, closed."""
    init_db(target)
    bought = signal(
        timestamp=at(0), signal_metadata={"rsi": 27.5, "price": 99.5, "why": "dip"}, strategy="a"
    )
    trade(timestamp=at(1), signal=bought, strategy="a", fee=0.5, fee_currency="USDT")
    sold = signal(timestamp=at(30), signal_value=-1, signal_metadata={"rsi": 71})
    trade(timestamp=at(30), side="sell", price=110, quantity=0.4, pnl=4, signal=sold)
    close_db()
    return target


class TestTables:
    def test_trades(self, filled: str, run: Run) -> None:
        code, out, err = run("--db", filled, "trades")
        assert (code, err) == (0, "")
        head, _, newest, oldest = out.splitlines()
        assert head.split() == [
            "when",
            "(UTC)",
            "symbol",
            "side",
            "quantity",
            "price",
            "pnl",
            "id",
            "strategy",
        ]
        assert newest.split()[:7] == [
            "2024-01-02",
            "06:00",
            "BTC/USDT",
            "sell",
            "0.4",
            "110",
            "4.00",
        ]
        assert re.fullmatch(r"2024-01-01 01:00 +BTC/USDT +buy +1 +100 +[\w-]{36}  a", oldest)

    def test_small_amounts_are_readable_and_align(self, target: str, run: Run) -> None:
        init_db(target)
        for hour, pnl in enumerate((0.00042, -0.00011, 0.0009)):
            trade(symbol="ETH/BTC", pnl=pnl, timestamp=at(hour))
        close_db()
        _, out, _ = run("--db", target, "trades")
        assert [line.split()[6] for line in out.splitlines()[2:]] == [
            "0.00090",
            "-0.00011",
            "0.00042",
        ]
        assert "0.00121" in run("--db", target, "pnl")[1]
        assert re.search(r"total pnl +0\.00121\n", run("--db", target, "performance")[1])

    def test_filters(self, filled: str, run: Run) -> None:
        def count(*options: str) -> int:
            return len(json.loads(run("trades", "--db", filled, "--json", *options)[1]))

        assert count() == 2
        assert count("--limit", "1") == count("--strategy", "a") == 1
        assert (count("--exchange", "okx"), count("--exchange", "")) == (0, 2)
        assert count("--strategy", "") == 1
        assert count("--symbol", "ETH/USDT") == count("--limit", "0") == 0
        assert count("--since", "2024-01-02") == count("--until", "2024-01-01") == 1
        assert count("--since", "2024-01-01T01:00", "--until", "2024-01-02T06:00:00+00:00") == 2
        assert count("--until", "2024-01-02T06:00:00+02:00") == 1
        assert count("--side", "buy") == count("--side", "sell") == 1
        code, _, err = run("trades", "--since", "lately")
        assert (code, "'lately' is not a date such as 2024-01-31" in err) == (2, True)

    def test_signals(self, filled: str, run: Run) -> None:
        _, out, _ = run("--db", filled, "signals")
        assert out.splitlines()[2].split()[:4] == ["2", "2024-01-02", "06:00", "BTC/USDT"]
        assert '"why": "dip"' in out

    def test_state(self, filled: str, run: Run) -> None:
        assert run("--db", filled, "state")[::2] == (0, "no state\n")
        init_db(filled)
        state.set("grid%2", {"levels": [1, 2]}, strategy="grid")
        state.set("grid_1", None, strategy="grid")
        state.set("started", True)
        close_db()
        code, out, err = run("--db", filled, "state")
        assert (code, err) == (0, "")
        head, _, *lines = out.splitlines()
        assert head.split() == ["strategy", "key", "value", "set", "(UTC)"]
        assert [line.split()[0] for line in lines] == ["started", "grid", "grid"]
        assert '{"levels": [1, 2]}' in lines[1]

        def keys(*options: str) -> list[str]:
            rows = json.loads(run("state", "--db", filled, "--json", *options)[1])
            return [row["key"] for row in rows]

        assert keys("--strategy", "grid") == keys("--prefix", "grid") == ["grid%2", "grid_1"]
        assert keys("--strategy", "") == ["started"]
        assert keys("--prefix", "grid_", "--strategy", "grid") == ["grid_1"]
        code, out, _ = run("--db", filled, "status")
        assert re.search(r"^state +3$", out, re.MULTILINE), out

    def test_cash_flows(self, filled: str, run: Run) -> None:
        assert run("--db", filled, "cash-flows")[::2] == (0, "no cash flows\n")
        init_db(filled)
        cash_flow(timestamp=at(1), symbol="BTC/USDT:USDT", amount=-0.00042, exchange="okx")
        cash_flow(timestamp=at(2), kind="deposit", currency="BTC", amount=2)
        close_db()
        code, out, err = run("--db", filled, "cash-flows")
        assert (code, err) == (0, "")
        head, _, newest, oldest = out.splitlines()
        titles = "id when (UTC) kind amount in symbol exchange"
        assert head.split() == titles.split()
        assert newest.split() == ["2", "2024-01-01", "02:00", "deposit", "2.00", "BTC"]
        row = "1 2024-01-01 01:00 funding -0.00042 USDT BTC/USDT:USDT okx"
        assert oldest.split() == row.split()

        def ids(*options: str) -> list[int]:
            rows = json.loads(run("cash-flows", "--db", filled, "--json", *options)[1])
            return [row["id"] for row in rows]

        assert ids() == [2, 1]
        assert ids("--kind", "funding") == ids("--currency", "USDT") == [1]
        assert ids("--symbol", "BTC/USDT:USDT") == ids("--exchange", "okx") == [1]
        assert ids("--symbol", "") == ids("--exchange", "") == ids("--limit", "1") == [2]
        assert ids("--until", "2024-01-01T01:30") == [1]
        assert ids("--strategy", "a") == []
        code, _, err = run("cash-flows", "--kind", "salary")
        assert (code, "'salary' is not one of 'funding'" in err) == (2, True)

    def test_positions(self, filled: str, run: Run) -> None:
        _, out, _ = run("--db", filled, "positions")
        row = "BTC/USDT 0.6 100 4.00 USDT 2024-01-01 01:00 0.50 USDT"
        assert out.splitlines()[2].split() == row.split()
        _, out, _ = run("--db", filled, "positions", "--symbol", "ETH/USDT", "--json")
        assert json.loads(out)[0]["quantity"] == 0.0
        assert run("--db", filled, "positions", "--strategy", "b") == (0, "", "no open positions\n")

    def test_pnl(self, filled: str, run: Run) -> None:
        _, out, _ = run("--db", filled, "pnl")
        assert out.splitlines()[2].split() == [
            "BTC/USDT",
            "2",
            "1",
            "100.0%",
            "4.00",
            "4.00",
            "4.00",
        ]
        _, out, _ = run("--db", filled, "pnl", "--by", "day", "--json")
        assert [(group["key"], group["total_pnl"]) for group in json.loads(out)] == [
            ("2024-01-01", None),  # nothing was closed
            ("2024-01-02", 4.0),
        ]

    def test_performance_of_each_currency(self, filled: str, run: Run) -> None:
        init_db(filled)
        trade(symbol="ETH/EUR", pnl=-3)
        close_db()
        _, out, _ = run("--db", filled, "performance")
        first, second = out.split("\n\n")
        assert re.search(r"^quote +EUR$", first, re.MULTILINE)
        assert re.search(r"^total pnl +-3.00$", first, re.MULTILINE)
        assert re.search(r"^fees +0.50 USDT$", second, re.MULTILINE)
        _, out, _ = run("--db", filled, "performance", "--json", "--quote", "USDT")
        assert [summary["win_rate"] for summary in json.loads(out)] == [1.0]
        code, out, _ = run("--db", filled, "pnl", "--by", "day")
        blocks = [block.splitlines() for block in out.split("\n\n")]
        assert (code, len(blocks)) == (0, 2)
        for lines, total in zip(blocks, ("-3.00", "4.00"), strict=True):
            assert lines[-2].split()[0] == "total"
            assert lines[-2].split()[4] == total
        assert [lines[-1] for lines in blocks] == [
            "in EUR, as recorded: 1 of 1 trades have a PnL",
            "in USDT, as recorded: 1 of 2 trades have a PnL",
        ]
        _, out, _ = run("--db", filled, "attribution", "rsi")
        assert "in EUR" not in out  # no trade in it has a signal
        assert out.splitlines()[-1].split()[:6] == ["70", "to", "75", "1", "1", "100.0%"]

    def test_performance_does_not_add_up_symbols_without_a_currency(
        self, filled: str, run: Run
    ) -> None:
        init_db(filled)
        for symbol in ("BTCUSDT", "BTCJPY"):
            trade(symbol=symbol, pnl=64, strategy="x")
        close_db()
        for command in ("performance", "pnl --by day"):
            code, out, err = run("--db", filled, *command.split())
            assert (code, err) == (0, "")
            blocks = out.split("\n\n")
            ends = [block.splitlines()[-1].partition(" ")[0] for block in blocks]
            assert ends == ["BTCJPY,", "BTCUSDT,", "in"]
            assert ["64.00" in block for block in blocks] == [True, True, False]
            assert "128.00" not in out
        rows = json.loads(run("--db", filled, "performance", "--json")[1])
        assert [row.get("symbol") for row in rows] == ["BTCJPY", "BTCUSDT", None]
        header, *lines = run("--db", filled, "pnl", "--by", "day", "--csv")[1].splitlines()
        assert header.startswith("key,symbol,quote,")
        of_what = {tuple(line.split(",")[1:3]) for line in lines}
        assert of_what == {("BTCJPY", ""), ("BTCUSDT", ""), ("", "USDT")}
        assert run("--db", filled, "attribution", "rsi")[0] == 0
        assert run("--db", filled, "performance", "--strategy", "x")[0] == 0
        _, out, _ = run("--db", filled, "performance", "--quote", "")
        assert re.search(r"^total pnl +128.00$", out, re.MULTILINE)
        _, out, _ = run("--db", filled, "performance", "--symbol", "BTCJPY")
        assert re.search(r"^total pnl +64.00$", out, re.MULTILINE)

    def test_of_very_many_symbols_without_a_currency_those_with_the_most_trades_are_shown(
        self, path: Path, run: Run
    ) -> None:
        init_db(path)
        for number in range(25):
            for _ in range(2 if number > 10 else 1):
                trade(symbol=f"STOCK{number:02}", pnl=1)
        close_db()
        code, out, err = run("--db", str(path), "performance", "--csv")
        assert code == 0
        assert "left out: 5 more symbols that name no currency; pass --quote ''" in err
        shown = [line.partition(",")[0] for line in out.splitlines()[1:]]
        assert shown == [f"STOCK{n:02}" for n in (*range(6), *range(11, 25))]

    def test_performance_on_a_capital(self, filled: str, run: Run) -> None:
        _, out, _ = run("--db", filled, "performance", "--capital", "1000")
        assert re.search(r"^total return +0.4%$", out, re.MULTILINE)
        _, out, _ = run("--db", filled, "performance", "--capital", "1000", "--json", "--tz", "UTC")
        assert json.loads(out)[0]["total_return"] == pytest.approx(0.004)
        code, _, err = run("--db", filled, "performance", "--capital", "deposits")
        assert (code, "capital: it is 0.00 USDT on" in err) == (2, True)
        init_db(filled)
        cash_flows.create(kind="deposit", currency="USDT", amount=100, timestamp=at(0))
        trade(symbol="ETH/EUR", pnl=-3)
        close_db()
        arguments = ("--capital", "deposits", "--quote", "USDT")
        _, out, _ = run("--db", filled, "performance", *arguments)
        assert re.search(r"^capital +100.00$", out, re.MULTILINE)
        code, out, _ = run("--db", filled, "performance", "--capital", "1000")
        euro, dollar = out.split("\n\n")
        assert code == 0
        assert euro.endswith("\nreturns are not known: pass --capital EUR=1000")
        assert dollar.endswith("\nreturns are not known: pass --capital USDT=1000\n")
        assert "total return" not in out
        pairs = ("--capital", "EUR=1000", "--capital", "USDT=200")
        euro, dollar = run("--db", filled, "performance", *pairs)[1].split("\n\n")
        assert re.search(r"^total return +-0.3%$", euro, re.MULTILINE)
        assert re.search(r"^total return +2.0%$", dollar, re.MULTILINE)
        _, out, err = run("--db", filled, "performance", "--capital", "deposits", "--json")
        assert [each["total_return"] for each in json.loads(out)] == [None, 0.04]
        assert err.startswith("returns are not known: capital: it is 0.00 EUR on")
        code, _, err = run("--db", filled, "performance", "--capital", "much")
        assert (code, "'much' is neither an amount nor 'deposits'" in err) == (2, True)

    def test_results_of_fills(self, target: str, run: Run) -> None:
        init_db(target)
        now = datetime.now(UTC)
        for days, side, price in (
            (40, "buy", 100),
            (3, "sell", 90),
            (2, "sell", 95),
            (1, "buy", 90),
        ):
            trade(
                side=side, price=price, timestamp=now - timedelta(days=days), fee=0.25,
                fee_currency="USDT", trade_metadata={"tags": ["a", side]},
            )  # fmt: skip
        close_db()
        _, out, _ = run("--db", target, "pnl", "--by", "direction,month", "--tz", "Asia/Tokyo")
        long, short, total = (line.split() for line in out.splitlines()[2:5])
        assert (long[0], long[-1]) == ("long", "-10.50")
        assert (short[0], short[-1]) == ("short", "4.50")
        assert (total[0], total[-1]) == ("total", "-6.00")
        assert out.splitlines()[5] == "in USDT, net PnL of 2 round trips, from the fills"
        _, out, _ = run("--db", target, "pnl", "--since", "2d", "--metadata", "tags", "--json")
        found = [(group["key"], group["net_pnl"]) for group in json.loads(out)]
        assert found == [("a", 4.5), ("buy", 4.5), ("sell", 4.5)]
        _, out, _ = run("--db", target, "performance", "--source", "recorded")
        assert "total pnl" not in out
        assert out.splitlines()[-2:] == [
            "in USDT, as recorded: 0 of 4 trades have a PnL",
            "not known: no trade has a pnl; --source fills computes what was earned",
        ]
        for option, value in (("--since", "2x"), ("--since", "99999999999d"), ("--tz", "Berlin")):
            code, _, err = run("--db", target, "pnl", option, value)
            assert (code, value in err) == (2, True)

    def test_attribution(self, filled: str, run: Run) -> None:
        _, out, _ = run("--db", filled, "attribution", "rsi", "--ends", "30,70", "--json")
        assert [
            (group["label"], group["trades"], group["total_pnl"]) for group in json.loads(out)
        ] == [
            ("below 30", 1, None),
            ("70 or more", 1, 4.0),
        ]
        _, out, _ = run("--db", filled, "attribution", "why")
        assert out.splitlines()[2].split()[:3] == ["dip", "1", "0"]
        assert run("--db", filled, "attribution", "macd")[2] == "no trade has a signal with macd\n"
        code, _, err = run("--db", filled, "attribution", "rsi", "--ends", "a,b")
        assert (code, "'a,b' are not numbers" in err) == (2, True)

    def test_round_trips(self, target: str, run: Run) -> None:
        init_db(target)
        for hour, (side, price) in enumerate((("buy", 100), ("sell", 110)) * 3):
            fill = {"side": side, "price": price, "quantity": 2, "timestamp": at(hour)}
            currency = "USDT" if hour < 4 else "BNB"
            trades.create(symbol="ETH/USDT", **fill, fee=0.5, fee_currency=currency)
        trades.create(symbol="ETH/USDT", side="sell", price=99, quantity=1, timestamp=at(9))
        close_db()
        code, out, err = run("--db", target, "round-trips", "--limit", "2")
        last, before = (line.split() for line in out.splitlines()[2:])
        assert last == ["2024-01-01", "05:00", "ETH/USDT", "long", "2", "100", "110", "USDT"]
        assert before == [
            "2024-01-01",
            "03:00",
            "ETH/USDT",
            "long",
            "2",
            "100",
            "110",
            "19.00",
            "USDT",
        ]
        assert (code, err) == (
            0,
            "net pnl is not known: fees or funding are in BNB; pass --rate BNB=PRICE\n",
        )
        _, out, err = run("--db", target, "round-trips", "--rate", "BNB=4", "--open", "--json")
        found = [(trip["closed_at"] is None, trip["net_pnl"]) for trip in json.loads(out)]
        assert (found, err) == ([(True, 0.0), (False, 16.0), (False, 19.0), (False, 19.0)], "")
        code, _, err = run("--db", target, "round-trips", "--rate", "BNB")
        assert (code, "'BNB' is not a currency and its price: BNB=600" in err) == (2, True)

    def test_conversion(self, filled: str, run: Run) -> None:
        _, out, _ = run("--db", filled, "conversion", "--csv")
        assert out == "signal_value,signals,acted_on,rate,trades\n1,1,1,1.0,1\n-1,1,1,1.0,1\n"

    def test_an_empty_database(self, target: str, run: Run) -> None:
        header = {}
        for command in (
            "trades",
            "signals",
            "positions",
            "pnl",
            "performance",
            "round-trips",
            "conversion",
        ):
            code, out, err = run("--db", target, command)
            assert (code, out) == (0, "")
            assert err.startswith(("no ", "nothing "))
            assert run("--db", target, command, "--json") == (0, "[]\n", "")
            code, out, err = run("--db", target, command, "--csv")
            assert (code, out.count("\n"), err) == (0, 1, "")
            header[command] = out.strip().split(",")
        assert header["trades"][:4] == ["id", "timestamp", "symbol", "side"]
        assert header["pnl"][:3] == ["key", "symbol", "quote"]
        init_db(target)
        trade(pnl=1, signal=signal())
        trade(side="sell", quantity=0.4)
        trade(side="sell", quantity=0.6)
        trade()
        close_db()
        for command, names in header.items():
            rows = csv.reader(io.StringIO(run("--db", target, command, "--csv")[1]))
            assert next(rows) == names

    def test_text_that_looks_like_markup_is_shown_unchanged(self, target: str, run: Run) -> None:
        init_db(target)
        trade(symbol="[red]X[/red]", strategy=":smile:")
        close_db()
        out = run("--db", target, "trades")[1]
        assert "[red]X[/red]" in out
        assert ":smile:" in out


class TestExplain:
    def test_by_the_whole_id_and_by_its_beginning(self, filled: str, run: Run) -> None:
        init_db(filled)
        [_, first] = trades.get_all()
        close_db()
        for text in (str(first.id), first.id.hex, str(first.id)[:20], first.id.hex[:30].upper()):
            code, out, err = run("--db", filled, "explain", text)
            assert (code, err) == (0, "")
            for line in (
                r"trade +buy 1 BTC/USDT at 100",
                r"delay +1:00:00",
                r"signal price +99.5",
                r"slippage +0.5 \(50.3 bps\)",
                r"  rsi +27.5",
                r'  why +"dip"',
            ):
                assert re.search(f"^{line}$", out, re.MULTILINE), (line, out)
        _, out, _ = run("--db", filled, "explain", str(first.id), "--json")
        values = json.loads(out)
        assert (values["delay"], values["slippage"]) == (3600.0, 0.5)
        assert values["indicators"]["rsi"] == 27.5
        assert values["trade"]["id"] == str(first.id)
        _, out, _ = run("--db", filled, "explain", str(first.id), "--price-key", "rsi")
        assert "72.5" in out

    def test_an_id_that_matches_no_trade_or_several(self, filled: str, run: Run) -> None:
        init_db(filled)
        created = trade(id="0190a5a4-7b7c-7000-8000-00000000000a")
        trade(id="0190a5a4-7b7c-7000-8000-00000000000b")
        close_db()
        for text, message in (
            ("ffff", "there is no trade whose id has ffff in it"),
            ("0190a5a4", "several trades have 0190a5a4 in it, such as 0190a5a4-7b7c-7000-8000-00"),
            ("xyz", "'xyz' is not a UUID"),
            ("0190a5a4-7b7c-7000-8000-00000000000f", "there is no trade 0190a5a4"),
        ):
            code, out, err = run("--db", filled, "explain", text)
            assert (code, out) == (2, "")
            assert message in err
        _, out, _ = run("--db", filled, "explain", str(created.id))
        assert re.search(r"^signal +none$", out, re.MULTILINE)


class TestMachines:
    def test_json_holds_every_field(self, filled: str, run: Run) -> None:
        newest, oldest = json.loads(run("--db", filled, "trades", "--json")[1])
        assert oldest["timestamp"] == "2024-01-01T01:00:00+00:00"
        assert (oldest["fee"], oldest["side"], oldest["signal_id"]) == (0.5, "buy", 1)
        assert newest["exchange"] is None
        [_, first] = json.loads(run("--db", filled, "signals", "--json")[1])
        assert first["signal_metadata"] == {"rsi": 27.5, "price": 99.5, "why": "dip"}

    def test_csv_holds_every_field(self, filled: str, run: Run) -> None:
        rows = list(csv.DictReader(io.StringIO(run("--db", filled, "signals", "--csv")[1])))
        assert json.loads(rows[1]["signal_metadata"])["why"] == "dip"
        assert rows[0]["timestamp"] == "2024-01-02T06:00:00+00:00"
        code, _, err = run("trades", "--json", "--csv")
        assert (code, "exclude each other" in err) == (2, True)

    def test_piped_output_is_not_truncated(self, filled: str) -> None:
        init_db(filled)
        signal(signal_metadata={"long": "x" * 500})
        close_db()
        done = subprocess.run(
            [*COMMAND, "--db", filled, "signals"],
            capture_output=True,
            encoding="utf-8",
            check=True,
            env=os.environ | {"COLUMNS": "80"},
        )
        assert "x" * 500 in done.stdout
        assert "\x1b" not in done.stdout


class TestStatus:
    def test_its_lines(self, filled: str, run: Run) -> None:
        code, out, err = run("status", "--db", filled)
        assert (code, err) == (0, "")
        for line in (
            r"schema +0008_create_state",
            r"pending +nothing",
            r"trades +2",
            r"last trade +2024-01-02 06:00:00 UTC",
            r"signals +2",
            r"cash flows +0",
            r"last cash flow +none",
            r"state +0",
            r"last state +none",
        ):
            assert re.search(f"^{line}$", out, re.MULTILINE), out
        values = json.loads(run("--db", filled, "status", "--json")[1])
        assert values["size"] > 10_000
        assert (values["trades"], values["pending"]) == (2, [])

    def test_pending_migrations_exit_with_1(self, filled: str, run: Run) -> None:
        assert run("--db", filled, "migrate", "down")[0] == 0
        code, out, _ = run("--db", filled, "status")
        assert code == 1
        assert re.search(r"^pending +0008_create_state$", out, re.MULTILINE)
        assert re.search(r"^trades +2$", out, re.MULTILINE)
        code, _, err = run("--db", filled, "trades")
        assert (code, "migrations are pending: 0008" in err) == (2, True)

    def test_a_database_without_tables(self, path: Path, run: Run) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 1")
        code, out, _ = run("--db", path, "status")
        assert code == 1
        assert re.search(r"^schema +none$", out, re.MULTILINE)


class TestOtherCommands:
    def test_migrate_runs_the_migration_runner(
        self, path: Path, run: Run, capfd: pytest.CaptureFixture[str]
    ) -> None:
        code, out, _ = run("--db", path, "migrate", "up")
        assert (code, out.splitlines()[0]) == (0, "applied: 0001_create_signal_and_trade")
        assert run("--db", path, "migrate", "status", "--json")[1].startswith('[{"name": "0001_')
        code, out, _ = run("migrate", "--help")
        assert (code, "python -m botmemory.migration_runner" in out) == (0, True)
        assert run("--db", path, "migrate", "down", "0042_x")[0] == 2

    def test_backup(self, path: Path, run: Run, tmp_path: Path) -> None:
        init_db(path)
        trade()  # and stays open
        copy = tmp_path / "copy.db"
        subprocess.run(
            [*COMMAND, "--db", str(path), "backup", str(copy)],
            check=True,
            capture_output=True,
        )
        close_db()
        assert json.loads(run("--db", copy, "status", "--json")[1])["trades"] == 1
        code, out, err = run("--db", path, "backup", path)
        assert (code, out) == (2, "")
        assert "is the database itself" in err

    def test_prune(self, filled: str, run: Run, tmp_path: Path) -> None:
        init_db(filled)
        for hour in (0, 1, 99):
            signal(timestamp=at(hour), symbol="ETH/USDT")
        close_db()
        file = tmp_path / "old.jsonl"
        prune = ("--db", filled, "prune", "signals", "--before", "2024-01-03")
        expected = (
            "signals before 2024-01-03 00:00:00 UTC: 2 {}, 2 kept: other rows refer to them\n"
        )
        for options in (("--dry-run",), ("--dry-run", "--export", file, "--yes")):
            assert run(*prune, *options) == (0, expected.format("to delete"), "")
        assert json.loads(run("--db", filled, "status", "--json")[1])["signals"] == 5
        assert run(*prune, "--yes", "--export", file) == (0, expected.format("deleted"), "")
        assert run("--db", filled, "import", "signals", file)[1].startswith("signals: 2 recorded")
        code, out, err = run(*prune, "--yes", "--export", file)
        assert (code, out) == (2, "")
        assert f"{file}: exists already" in err
        assert run(*prune, "--symbol", "ETH/USDT", "--include-linked", "--yes")[0] == 0
        _, out, _ = run(*prune, "--include-linked", "--yes")
        assert out == "signals before 2024-01-03 00:00:00 UTC: 2 deleted\n"
        status = json.loads(run("--db", filled, "status", "--json")[1])
        assert (status["signals"], status["trades"]) == (1, 2)
        _, out, _ = run("--db", filled, "prune", "trades", "--before", "2024-01-03", "--yes")
        assert out.endswith(": 0 to delete, 2 kept: open positions follow from them\n")

    def test_prune_refuses_what_it_cannot_ask(self, filled: str, path: Path, run: Run) -> None:
        code, out, err = run("--db", filled, "prune", "trades", "--before", "30d")
        assert (code, out) == (2, "")
        assert "this is no terminal to ask on; pass --yes to delete, or --dry-run" in err
        code, _, err = run("--db", filled, "prune", "trades", "--yes")
        assert (code, "Missing option '--before'" in err) == (2, True)
        missing = path.with_name("missing.db")
        code, _, err = run("--db", missing, "prune", "trades", "--before", "30d", "--yes")
        assert (code, "there is no such database to read" in err) == (2, True)
        assert not missing.exists()

    def test_check(self, path: Path, run: Run) -> None:
        init_db(path)
        close_db()
        code, out, _ = run("--db", path, "check", "--full")
        assert (code, "error" in out) == (0, False)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP INDEX trade_symbol")
        code, out, _ = run("--db", path, "check")
        assert code == 1
        assert out.startswith("error: the tables differ from the migrations: trade: the")
        findings = json.loads(run("--db", path, "check", "--json")[1])
        assert findings[0]["severity"] == "error"

    def test_commands_that_read_create_and_change_nothing(self, path: Path, run: Run) -> None:
        commands = ("status", "trades", "signals", "positions", "pnl", "performance", "conversion")
        for command in (*commands, "round-trips", "check", "explain abcd", "attribution rsi"):
            code, out, err = run("--db", path, *command.split())
            assert (code, out) == (2, "")
            assert f"{path}: there is no such database to read; check the path" in err
        assert list(path.parent.iterdir()) == []
        init_db(path)
        trade()
        close_db()
        before = path.read_bytes()
        for command in commands:
            assert run("--db", path, command)[0] == 0
        assert path.read_bytes() == before
        assert {file.name for file in path.parent.iterdir()} <= {"bot.db", "bot.db-lock"}

    def test_a_running_bot_is_not_disturbed(self, path: Path, run: Run) -> None:
        init_db(path)
        trade()
        for _ in range(3):
            done = subprocess.run(
                [*COMMAND, "--db", str(path), "trades", "--json"],
                capture_output=True,
                encoding="utf-8",
                check=True,
            )
            trade()
        assert len(json.loads(done.stdout)) == 3
        assert trades.get_trade_count() == 4

    def test_the_database_is_chosen_by_options_the_environment_or_a_file(
        self, filled: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("BOTMEMORY_DB_PATH", filled)
        assert json.loads(run("status", "--json")[1])["trades"] == 2
        monkeypatch.delenv("BOTMEMORY_DB_PATH")
        (tmp_path / "botmemory.toml").write_text(f"db_path = {json.dumps(filled)}\n")
        for arguments in (
            ("status", "--config", tmp_path / "botmemory.toml"),
            ("--config", tmp_path / "botmemory.toml", "status"),
        ):
            assert json.loads(run(*arguments, "--json")[1])["trades"] == 2

    def test_no_password_is_shown(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BOTMEMORY_CALL_TIMEOUT", "1")
        url = "postgresql://bot:hunter2@127.0.0.1:1/none"
        for command in ("status", "trades", "check", "migrate status"):
            code, out, err = run("--db", url, *command.split())
            assert code == 2
            assert "hunter2" not in out + err


class TestTerminal:
    """On a terminal of 80 columns, which only Unix has for tests."""

    @pytest.fixture
    def typed(self, filled: str, terminal: Callable[..., str]) -> Callable[..., str]:
        return partial(terminal, "--db", filled)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_tables_fit(self, typed: Callable[..., str], filled: str) -> None:
        init_db(filled)
        signal(signal_metadata={"long": "x" * 500}, strategy="s" * 64)
        trade(strategy="s" * 64, pnl=-1_234_567.89, price=42_000.123)
        close_db()
        for command in ("trades", "signals", "positions", "pnl", "performance"):
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", typed(command))
            assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 80, plain
        assert "…" in typed("signals")

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_no_color_is_respected(self, typed: Callable[..., str]) -> None:
        colours = re.compile(r"\x1b\[(3[0-7]|9[0-7]|38|48|4[0-7])[;m]")
        assert not colours.search(typed("trades", NO_COLOR="1"))

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_a_backup_shows_its_progress(
        self, typed: Callable[..., str], filled: str, tmp_path: Path
    ) -> None:
        if filled.startswith("postgresql"):
            pytest.skip("a server is copied by its own tool")
        output = typed("backup", str(tmp_path / "copy.db"))
        assert "copying" in output
        assert "100%" in output

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
    def test_prune_asks_first(self, typed: Callable[..., str], filled: str, run: Run) -> None:
        prune = ("prune", "signals", "--before", "30d", "--include-linked")
        output = typed(*prune, answer="n\n")
        assert ": 2 to delete" in output
        assert "delete them? [y/N]" in output
        assert "nothing was deleted" in output
        assert json.loads(run("--db", filled, "status", "--json")[1])["signals"] == 2
        assert ": 2 deleted" in typed(*prune, answer="y\n")
        assert json.loads(run("--db", filled, "status", "--json")[1])["signals"] == 0
        assert "delete them?" not in typed(*prune)


@needs_pythonpath
def test_without_the_extra_the_error_names_the_command_to_install_it(tmp_path: Path) -> None:
    """In an interpreter that has only botmemory and Peewee."""
    for package in ("botmemory", "peewee.py", "playhouse"):
        source = ROOT / package
        if not source.exists():
            import peewee

            source = Path(peewee.__file__).parent / package
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / package)
    # without which no Python starts on Windows
    system = {name: value for name, value in os.environ.items() if name == "SYSTEMROOT"}
    done = subprocess.run(
        [COMMAND[0], "-S", *COMMAND[1:]],
        cwd=tmp_path,
        env=system | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    package = r"'botmemory\[cli\]'" if os.name == "posix" else r"botmemory\[cli\]"
    assert re.fullmatch(
        rf"botmemory: the command needs (click|rich): .* pip install .*{package}\n",
        done.stderr,
    )


@needs_script
def test_the_command_is_installed(filled: str) -> None:
    script = Path(sys.executable).with_name(SCRIPT)
    done = subprocess.run([script, "--version"], capture_output=True, encoding="utf-8", check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout)
    assert main.__module__ == "botmemory.cli"


@needs_script
@pytest.mark.processes
def test_completion_works() -> None:
    script = Path(sys.executable).with_name(SCRIPT)
    done = subprocess.run(
        [script],
        env=os.environ
        | {"_BOTMEMORY_COMPLETE": "bash_complete", "COMP_WORDS": "botmemory po", "COMP_CWORD": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "positions" in done.stdout


def test_the_reference_matches_the_help() -> None:
    page = cli_reference.PAGE.read_text(encoding="utf-8")
    reference = page.partition(cli_reference.MARK)[2]
    assert reference.strip() == cli_reference.reference().strip(), "run cli_reference.py"
    assert max(map(len, reference.splitlines())) <= 80


# --- tables on a narrow terminal --------------------------------------------------------------


def printed(columns: list[Column], rows: list[dict[str, object]], width: int) -> list[str]:
    return [line.plain for line in table_lines(rows, columns, width)]


TABLE = [
    Column("name", "name", optional=True, shorten=middle),
    Column("symbol", "symbol", shorten=middle),
    Column("much", "much", amounts=True, right=True),
    Column("more", "more", amounts=True, right=True, importance=2),
    Column("least", "least", amounts=True, right=True, importance=1),
]
ROW: dict[str, object] = {
    "name": "mean-reversion",
    "symbol": "1000000MOG/USDT:USDT",
    "much": 2_345_678.9,
    "more": -1_000_000.25,
    "least": 0.00001234,
}


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (90, "mean-reversion 1000000MOG/USDT:USDT 2,345,678.90 -1,000,000.25 0.0000123"),
        (73, "mean-…rsion 1000000MOG/USDT:USDT 2,345,678.90 -1,000,000.25 0.0000123"),
        (62, "mean-…rsion 1000000MOG/USDT:USDT 2,345,678.90 -1,000,000.25"),
        (52, "mean…ion 100000…T:USDT 2,345,678.90 -1,000,000.25"),
        (36, "mean…ion 100000…:USDT 2,345,678.90"),
        (20, "mean…ion 1000…SDT 2,345,678.90"),
    ],
)
def test_numbers_are_whole_at_every_width(width: int, expected: str) -> None:
    *_, row = printed(TABLE, [ROW], width)
    assert row.split() == expected.split()


def test_numbers_are_json(filled: str, run: Run) -> None:
    init_db(filled)
    trade(pnl=1e300)
    trade(pnl=-1e-300)
    close_db()
    for command in (("performance",), ("pnl",), ("pnl", "--by", "day,symbol")):
        _, out, _ = run("--db", filled, *command, "--json")
        json.loads(out, parse_constant=pytest.fail)


def test_a_csv_has_the_same_columns_in_each_row(filled: str, run: Run) -> None:
    init_db(filled)
    trade(symbol="ETH/EUR")
    cash_flows.create(kind="deposit", currency="USDT", amount=100, timestamp=at(0))
    close_db()
    _, out, _ = run("--db", filled, "performance", "--capital", "deposits", "--csv")
    header, *rows = csv.reader(io.StringIO(out))
    assert "total_return" in header
    assert [len(row) for row in rows] == [len(header)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("positions", "--symbol", "A", "--price", "A=1"), "--symbol and --price exclude each"),
        (("pnl", "--by", "day", "--metadata", "x"), "--by and --metadata exclude each other"),
        (("attribution", "x", "--bins", "3", "--ends", "1,2"), "--bins and --ends exclude each"),
        (("performance", "--rate", "=5"), "'=5' is not a currency and its price"),
        (("performance", "--rate", "BNB"), "'BNB' is not a currency and its price"),
    ],
)
def test_options_are_never_ignored(
    arguments: tuple[str, ...], message: str, filled: str, run: Run
) -> None:
    code, _, err = run("--db", filled, *arguments)
    assert (code, message in err) == (2, True)


def test_r_multiples_are_shown_by_the_key_of_the_stop(target: str, run: Run) -> None:
    init_db(target)
    trade(signal=signal(signal_metadata={"stop": 95}), timestamp=at(0))
    trade(side="sell", price=112, timestamp=at(1))
    close_db()
    _, out, _ = run("--db", target, "round-trips", "--stop-key", "stop")
    assert out.splitlines()[0].split()[-1] == "R"
    assert out.splitlines()[2].split()[-1] == "2.40"
    assert " R" not in run("--db", target, "round-trips")[1].splitlines()[0]


def test_what_is_empty_is_named(target: str, run: Run) -> None:
    init_db(target)
    trade()
    close_db()
    assert run("--db", target, "pnl")[2] == "nothing was closed\n"
    assert run("--db", target, "pnl", "--metadata", "x")[2] == "no closed trade has x\n"
    _, out, _ = run("--db", target, "performance")
    assert out.splitlines()[-1] == "not known: no round trip was closed"
