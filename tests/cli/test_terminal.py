"""What a person sees on terminals of different widths, with names as bots have them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from samples import cash_flow, signal, trade, trade_values

from botmemory import close_db, init_db
from botmemory.cli._output import Column, ending, middle, table_lines
from botmemory.repositories import trades

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

Run = Callable[..., tuple[int, str, str]]
Typed = Callable[..., str]

SYMBOLS = {
    "BTC/USDT:USDT": (42_123.5, 0.25, "binanceusdm"),
    "BTC/USDT": (42_123.45, 0.031, "binance"),
    "ETH/BTC": (0.05312, 1.25, "binance"),
    "1000PEPE/USDT": (0.00112345, 2_345_600, "bybit"),
    "1000000MOG/USDT:USDT": (1.2345, 6_892.694, "bybit"),
    "BTC/USD:BTC": (42_010.5, 3_900, "bitmex"),
    "ADA/EUR": (0.4812, 3_954.9, "kraken"),
    "SOL/USDC": (101.25, 24.063, "coinbase"),
    "DOGE/BTC": (0.00000152551, 42_819.8, "binance"),
}
STRATEGIES = ("trend-following-donchian-breakout-4h", "trend-following-donchian-breakout-1d", None)
COMMANDS = (
    "trades",
    "signals",
    "cash-flows",
    "positions",
    "positions --by-strategy",
    "positions --price BTC/USDT=42000",
    "pnl",
    "pnl --by strategy,weekday",
    "pnl --by symbol --source fills --rate BNB=600",
    "performance",
    "performance --source fills",
    "round-trips --rate BNB/USDT=600",
    "attribution rsi",
    "attribution why",
    "conversion",
)


@pytest.fixture
def market(path: Path) -> str:
    """A file with trades in five currencies, all recorded by one call of `create_many`."""
    init_db(path)
    start = datetime.now(UTC) - timedelta(days=9)
    rows, hour = [], 0
    for lap in range(5):
        for symbol, (price, quantity, exchange) in SYMBOLS.items():
            hour += 1
            cause = signal(
                timestamp=start + timedelta(hours=hour), symbol=symbol,
                strategy=STRATEGIES[hour % 3],
                signal_metadata={"rsi": 10 + hour, "why": "\u8d85\u5356 and above its mean"},
            )  # fmt: skip
            amount = price * quantity if symbol != "BTC/USD:BTC" else quantity / price
            side, pnl = ("sell", (hour - 25) * amount / 200) if lap % 2 else ("buy", None)
            currency = symbol.partition("/")[2].partition(":")[0]
            rows.append(
                trade_values(
                    symbol=symbol, side=side, quantity=quantity,
                    price=float(f"{price * (1 + lap / 300):.6g}"),
                    timestamp=start + timedelta(hours=hour, minutes=1), pnl=pnl, signal=cause,
                    strategy=STRATEGIES[hour % 3], exchange=exchange,
                    fee=0.00012 if hour % 5 == 0 else amount * 0.0004,
                    fee_currency="BNB" if hour % 5 == 0 else currency,
                    trade_metadata={"regime": "bull" if hour % 2 else "bear", "leg": hour},
                    contract_size=1 if ":" in symbol else None,
                )
            )  # fmt: skip
    trades.create_many(rows)
    cash_flow(symbol="BTC/USDT:USDT", exchange="binanceusdm", strategy=STRATEGIES[0], amount=-0.12)
    cash_flow(kind="deposit", currency="BTC", amount=0.00042)
    close_db()
    return str(path)


def lines_of(output: str) -> list[str]:
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).replace("\r", "")
    return plain.rstrip("\n").split("\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_wider_than_80_columns_and_no_number_is_broken(
    market: str, terminal: Typed, run: Run, command: str
) -> None:
    shown = lines_of(terminal("--db", market, *command.split()))
    assert max(map(cell_len, shown)) <= 80, "\n".join(shown)
    _, piped, _ = run("--db", market, *command.split())
    whole = {token for token in piped.split() if re.fullmatch(r"-?[\d,]+\.\d+%?", token)}
    cells = [cell for line in shown for cell in re.split(" {2,}", line) if "…" not in cell]
    for cell in cells:
        if re.fullmatch(r"-?[\d,]+\.\d+%?", cell):
            exact = [n for n in whole if abs(_number(n) - _number(cell)) <= 6e-6 * abs(_number(n))]
            assert cell in whole or exact, (cell, piped)


def _number(text: str) -> float:
    return float(text.rstrip("%").replace(",", ""))


@pytest.mark.parametrize("command", ["trades", "positions", "pnl", "cash-flows", "signals"])
def test_60_columns_are_enough(market: str, terminal: Typed, command: str) -> None:
    shown = lines_of(terminal("--db", market, command, columns=60))
    assert max(map(cell_len, shown)) <= 60, "\n".join(shown)
    symbols = [cell for line in shown for cell in re.split(" {2,}", line) if "/" in cell]
    assert {"BTC/USDT:USDT", "BTC/USDT"} & {*symbols} or command in ("cash-flows", "signals")


def test_a_wide_terminal_shows_everything(market: str, terminal: Typed) -> None:
    shown = lines_of(terminal("--db", market, "trades", "--limit", "1", columns=180))
    assert re.search(
        r" [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}  trend-following-donchian-breakout-", shown[2]
    )


def test_names_that_differ_stay_different() -> None:
    names = ["BTC/USDT", "BTC/USDT:USDT", "BTC/USDT:USDT-260626", *map(str, STRATEGIES[:2])]
    column = Column("name", "name", shorten=middle)
    for width in range(1, 40):
        lines = table_lines([{"name": name} for name in names], [column], width)
        assert len({line.plain for line in lines[2:]}) == len(names)
    assert [line.plain for line in lines[2:]] == names


def test_wide_characters_count_twice() -> None:
    symbol = "\u9f99\u867e/USDT:USDT"
    columns = [Column("symbol", "symbol", shorten=middle), Column("side", "side")]
    rows = [{"symbol": symbol, "side": "buy"}, {"symbol": "BTC/USDT", "side": "sell"}]
    for width in range(14, 30):
        [_, _, first, second] = table_lines(rows, columns, width)
        assert cell_len(first.plain) + 1 == cell_len(second.plain) <= max(width, 16)
    assert cell_len(middle(symbol * 2, 11)) <= 11
    assert cell_len(ending(symbol * 2, 11)) <= 11


class TestIds:
    def test_rows_of_one_call_are_told_apart_and_explained(
        self, market: str, terminal: Typed, run: Run
    ) -> None:
        shown = lines_of(terminal("--db", market, "trades", "--limit", "45"))[2:]
        ids = [re.split(" {2,}", line)[-1] for line in shown]
        assert len({*ids}) == 45
        rows = json.loads(run("--db", market, "trades", "--limit", "45", "--json")[1])
        for short, row in zip(ids, rows, strict=True):
            assert row["id"].endswith(short)
            _, out, _ = run("--db", market, "explain", short, "--json")
            assert json.loads(out)["trade"]["id"] == row["id"]

    def test_more_digits_are_shown_where_eight_are_not_unique(
        self, path: Path, terminal: Typed
    ) -> None:
        init_db(path)
        for first in "ab":
            trade(id=f"0190a5a4-7b7c-7000-8000-000{first}00000000", strategy="s" * 40)
        close_db()
        shown = lines_of(terminal("--db", str(path), "trades", columns=78))[2:]
        assert {re.findall("[ab]0{8}", line)[-1] for line in shown} == {"a00000000", "b00000000"}

    def test_any_part_that_no_other_id_has(self, target: str, run: Run) -> None:
        init_db(target)
        wanted = uuid.UUID("01a2212f-4e5a-7bcd-8ee7-0123456789ab")
        trade(id=wanted)
        trade(id="f3333333-3333-7333-8333-333333333333", symbol="ETH/USDT")
        trade(id="f3333333-3333-7333-8333-333333333334", symbol="SOL/USDT")
        close_db()
        for part in ("01a", "0", "01A2212F-4e", "5a-7bcd", "9ab", "123456789ab", "e5a7bcd8ee7"):
            code, out, err = run("--db", target, "explain", part)
            assert (code, err) == (0, ""), part
            assert str(wanted) in out
        code, _, err = run("--db", target, "explain", "3-3333")
        assert code == 2
        assert "several trades have 3-3333 in it, such as f3333333-3333-7333" in err


class TestColours:
    def test_losses_are_red_and_gains_are_green(self, market: str, terminal: Typed) -> None:
        for command in ("trades --limit 45", "pnl", "performance", "cash-flows"):
            output = terminal("--db", market, *command.split())
            reds = re.findall(r"\x1b\[(?:1;)?31m([^\x1b]*)\x1b", output)
            greens = re.findall(r"\x1b\[(?:1;)?32m([^\x1b]*)\x1b", output)
            assert reds, command
            assert greens, command
            assert all(text.strip().startswith("-") for text in reds)
            assert not any("-" in text for text in greens)

    @pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
    def test_none_where_they_are_not_wanted(
        self, market: str, terminal: Typed, environment: dict[str, str]
    ) -> None:
        for command in ("trades", "pnl", "performance"):
            output = terminal("--db", market, command, **environment)
            assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", output)

    def test_a_pipe_gets_neither_colours_nor_shorter_names(self, market: str) -> None:
        for command in ("trades", "signals", "positions"):
            done = subprocess.run(
                [sys.executable, "-m", "botmemory", "--db", market, command],
                capture_output=True, encoding="utf-8", check=True,
                env=os.environ | {"COLUMNS": "60"},
            )  # fmt: skip
            assert "\x1b" not in done.stdout
            assert "…" not in done.stdout
            assert "1000000MOG/USDT:USDT" in done.stdout
            assert not re.search(r" $", done.stdout, re.MULTILINE)


def test_json_and_csv_do_not_depend_on_the_width(market: str, terminal: Typed) -> None:
    for command in ("trades", "signals", "cash-flows", "positions", "pnl", "round-trips"):
        for form in ("--json", "--csv"):
            narrow = terminal("--db", market, command, form, columns=40)
            assert narrow == terminal("--db", market, command, form, columns=200)
            assert "\x1b" not in narrow


class TestCurrencies:
    def test_each_has_its_places_and_all_are_aligned(self, market: str, run: Run) -> None:
        _, out, _ = run("--db", market, "positions")
        rows = out.splitlines()
        points = {re.search(r"(-?[\d,]+)\.\d+ +(BTC|EUR|USD[CT])\b", row) for row in rows[2:]}
        assert len({found.end(1) for found in points if found}) == 1
        assert {found[2] for found in points if found} == {"BTC", "EUR", "USDC", "USDT"}

    def test_positions_have_a_total_of_each(self, market: str, run: Run) -> None:
        _, out, _ = run("--db", market, "positions")
        positions = json.loads(run("--db", market, "positions", "--json")[1])
        totals = [line.split() for line in out.splitlines() if line.startswith("total")]
        assert [total[2] for total in totals] == ["BTC", "EUR", "USDC", "USDT"]
        expected = sum(p["realized_pnl"] for p in positions if p["symbol"].endswith("USDT"))
        assert float(totals[-1][1].replace(",", "")) == pytest.approx(expected, abs=0.005)
        _, out, _ = run("--db", market, "positions", "--quote", "EUR")
        assert [line.split()[0] for line in out.splitlines()[2:]] == ["ADA/EUR"]

    def test_a_price_gives_the_unrealized_pnl(self, market: str, run: Run) -> None:
        arguments = ("positions", "--price", "ADA/EUR=0.5", "--quote", "EUR")
        _, out, _ = run("--db", market, *arguments, "--json")
        [position] = json.loads(out)
        assert position["price"] == 0.5
        unrealized = 3954.9 * (0.5 - position["average_entry_price"])
        assert position["unrealized"] == pytest.approx(unrealized)
        head, _, row = run("--db", market, *arguments)[1].splitlines()
        assert "unrealized" in head
        assert f"{unrealized:.2f}" in row
        for text in ("ADA/EUR", "=5", "ADA/EUR=much"):
            code, _, err = run("--db", market, "positions", "--price", text)
            assert (code, "is not a symbol and its price: BTC/USDT=42000" in err) == (2, True)

    def test_attribution_has_a_block_for_each(self, market: str, run: Run) -> None:
        _, out, _ = run("--db", market, "attribution", "rsi")
        assert [block.rsplit("\n")[-1] for block in out.strip().split("\n\n")] == [
            "in BTC",
            "in EUR",
            "in USDC",
            "in USDT",
        ]
        groups = json.loads(run("--db", market, "attribution", "rsi", "--json")[1])
        assert {group["quote"] for group in groups} == {"BTC", "EUR", "USDC", "USDT"}

    def test_an_open_round_trip_says_so(self, market: str, run: Run) -> None:
        _, out, _ = run("--db", market, "round-trips", "--open", "--quote", "EUR")
        assert re.match("open +ADA/EUR +long ", out.splitlines()[2])

    def test_symbols_of_cash_flows_are_whole(self, market: str, terminal: Typed) -> None:
        for columns in (60, 80):
            assert " BTC/USDT:USDT" in terminal("--db", market, "cash-flows", columns=columns)
        shown = terminal("--db", market, "cash-flows", "--kind", "deposit")
        assert "symbol" not in shown

    def test_conversion_has_a_total(self, market: str, run: Run) -> None:
        _, out, _ = run("--db", market, "conversion")
        assert out.splitlines()[-1].split() == ["total", "45", "45", "100.0%", "45"]


class TestFilters:
    def count(self, run: Run, market: str, command: str, *options: str) -> int:
        code, out, err = run("--db", market, command, "--json", "--limit", "99", *options)
        assert (code, err) == (0, "")
        return len(json.loads(out))

    def test_of_trades_and_signals(self, market: str, run: Run) -> None:
        def count(*options: str) -> int:
            return self.count(run, market, *options)

        assert count("trades", "--side", "sell") == 18
        assert count("trades", "--metadata", "regime=bull") == 23
        assert count("trades", "--metadata", "leg=7") == 1
        assert count("trades", "--metadata", 'leg="7"') == 0
        assert count("trades", "--metadata", "leg") == 45
        assert count("trades", "--metadata", "regime=bull", "--side", "buy", "--since", "8d") == 7
        assert count("trades", "--strategy", "", "--exchange", "binance") == 5
        assert count("signals", "--value", "1") == 45
        assert count("signals", "--value", "-1") == 0
        assert count("signals", "--metadata", "rsi=11") == 1
        assert count("round-trips", "--direction", "short") == 0
        assert count("round-trips", "--direction", "long") == 18

    def test_dates_in_words_and_in_a_time_zone(self, path: Path, run: Run) -> None:
        init_db(path)
        now = datetime.now(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        for time in (midnight - timedelta(hours=25), midnight - timedelta(hours=1), midnight):
            trade(timestamp=time)
        close_db()

        def count(*options: str) -> int:
            return self.count(run, str(path), "trades", *options)

        assert count("--since", "today") == 1
        assert count("--since", "yesterday") == 2
        assert count("--until", "yesterday") == 2
        assert count("--since", "7d") == count("--since", "1w") == 3
        day = f"{midnight:%Y-%m-%d}"
        assert count("--since", day, "--tz", "Etc/GMT-2") == 2  # two hours before UTC
        assert count("--tz", "Etc/GMT-2", "--until", f"{day}T01:30") == 2
        _, out, _ = run("--db", str(path), "trades", "--tz", "Etc/GMT-2", "--limit", "1")
        assert out.startswith("when (GMT-2) ")
        assert out.splitlines()[2].startswith(f"{day} 02:00")
        _, out, _ = run("--db", str(path), "trades", "--tz", "Etc/GMT-2", "--json")
        assert json.loads(out)[0]["timestamp"] == midnight.isoformat()
        code, _, err = run("--db", str(path), "trades", "--tz", "Berlin")
        assert (code, "'--tz': 'Berlin' is not a time zone" in err) == (2, True)

    def test_a_time_with_an_offset_is_shown_in_utc(self, market: str, run: Run) -> None:
        prune = ("prune", "trades", "--before", "2024-01-31T00:00+02:00", "--dry-run")
        assert run("--db", market, *prune)[1].startswith("trades before 2024-01-30 22:00:00 UTC")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("pnl --by foo", "--by: 'foo' is unknown"),
        ("pnl --metadata x..y", "--metadata: 'x..y' is not a key"),
        ("trades --metadata x..y=1", "--metadata: 'x..y' is not a key"),
        ("round-trips --stop-key x..y", "--stop-key: 'x..y' is not a key"),
        ("attribution x..y", "KEY: 'x..y' is not a key"),
        ("attribution rsi --ends 5,5", "--ends: [5.0, 5.0] is not in ascending order"),
        ("positions --price X=0", "--price X: 0.0 is not greater than 0"),
        ("trades --tz x", "'--tz': 'x' is not a time zone; use a name such as 'Europe/Berlin'\n"),
        ("performance --capital deposits --quote BTC", "--capital: it is 0.00"),
        ("pnl --quote XXX", "--quote: no trade is in 'XXX'"),
    ],
)
def test_errors_name_the_option(market: str, run: Run, command: str, option: str) -> None:
    code, out, err = run("--db", market, *command.split())
    assert (code, out, option in err) == (2, "", True), err


def complete(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", "from botmemory.cli import main; main()"],
        env=os.environ
        | {
            "_BOTMEMORY_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return dict(reversed(line.split(",", 1)) for line in done.stdout.splitlines())


@pytest.mark.processes
def test_files_subcommands_and_choices_are_completed() -> None:
    assert complete("botmemory", "--db", "some") == {"some": "file"}
    assert complete("botmemory", "trades", "--db", "some") == {"some": "file"}
    assert complete("botmemory", "--config", "x") == {"x": "file"}
    assert complete("botmemory", "--migrations", "x") == {"x": "dir"}
    assert complete("botmemory", "copy", "x") == {"x": "file"}
    assert {"trades", "tables"} & {*complete("botmemory", "tr")} == {"trades"}
    assert {*complete("botmemory", "trades", "--side", "")} == {"buy", "sell"}
