"""The example: after a kill it ends with the trades of an uninterrupted run."""

from __future__ import annotations

import csv
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from botmemory import close_db, init_db
from botmemory.analysis.performance import equity_curve, summarize
from botmemory.repositories import positions, signals, trades
from botmemory.upkeep.check import check

EXAMPLE = ROOT / "examples" / "paper_bot.py"
PRICES = EXAMPLE.parent / "data" / "goog_daily.csv"


def run(*arguments: str) -> tuple[int, str]:
    """Run the example in a process of its own; return its exit code and what it printed."""
    if not hasattr(os, "fork"):
        command = [sys.executable, str(EXAMPLE), *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
        return done.returncode, done.stdout
    read, write = os.pipe()  # a fork is faster than a new interpreter
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(write, 1)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.argv = [str(EXAMPLE), *arguments]
            runpy.run_path(str(EXAMPLE), run_name="__main__")
            sys.stdout.flush()
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        printed = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed


def recorded(file: Path) -> list[tuple[object, ...]]:
    """Return the trades with the signal of each, in time order, without their ids."""
    init_db(file, read_only=True)
    try:
        return [
            (t.timestamp, t.side, t.price, t.quantity, t.pnl, t.signal and t.signal.signal_metadata)
            for t in trades.iterate()
        ]
    finally:
        close_db()


def test_the_first_process_is_killed_and_the_second_continues(paper_run: tuple[Path, str]) -> None:
    _, output = paper_run
    assert "killed after bar 1,074, on 2008-11-20" in output
    assert "19 trades, total PnL 1,300.60 USD\n  position: -10 GOOG at 528.82" in output
    assert max(map(len, output.splitlines())) <= 80


def test_it_ends_with_the_trades_of_an_uninterrupted_run(
    paper_run: tuple[Path, str], path: Path
) -> None:
    code, _ = run("--db", str(path), "--stop-after", "2148")
    assert code == 9
    assert recorded(path) == recorded(paper_run[0])
    assert len(recorded(path)) == 40


@pytest.mark.parametrize("stop", [137, 1104])
def test_it_may_be_killed_anywhere(paper_run: tuple[Path, str], path: Path, stop: int) -> None:
    assert run("--db", str(path), "--stop-after", str(stop))[0] == 9
    assert run("--db", str(path))[0] == 0
    assert recorded(path) == recorded(paper_run[0])


def test_a_second_run_records_nothing_twice(paper_run: tuple[Path, str]) -> None:
    file, _ = paper_run
    before = recorded(file)
    code, printed = run("--db", str(file))
    assert code == 0
    assert "40 trades" in printed
    assert recorded(file) == before


def test_its_trades_agree_with_the_prices(paper_run: tuple[Path, str]) -> None:
    with PRICES.open(newline="") as file:
        closes = {row["date"]: float(row["close"]) for row in csv.DictReader(file)}
    assert len(closes) == 2_148
    init_db(paper_run[0], read_only=True)
    cash = 0.0
    for trade in trades.iterate():
        assert trade.price == closes[f"{trade.timestamp:%Y-%m-%d}"]
        assert trade.signal is not None
        assert trade.signal.timestamp == trade.timestamp
        assert (trade.signal.signal_value > 0) == (trade.side == "buy")
        assert {"fast", "slow", "close"} == trade.signal.signal_metadata.keys()
        cash += trade.price * trade.quantity * (1 if trade.side == "sell" else -1)
    position = positions.get("GOOG")
    assert position.average_entry_price is not None
    assert trades.get_total_pnl() == pytest.approx(
        cash + position.quantity * position.average_entry_price
    )
    assert trades.get_total_pnl() == pytest.approx(position.realized_pnl)
    assert signals.get_signal_count() == 40


def test_the_recorded_pnl_is_that_of_the_round_trips(paper_run: tuple[Path, str]) -> None:
    init_db(paper_run[0], read_only=True)
    try:
        recorded, fills = (summarize(source=source) for source in ("recorded", "fills"))
        assert recorded.total_pnl == fills.net_pnl == trades.get_total_pnl() == 2123.0
        assert (recorded.wins, recorded.losses) == (fills.wins, fills.losses)
        assert recorded.max_drawdown == fills.max_drawdown
        assert [point.equity for point in equity_curve(source="recorded")] == [
            point.equity for point in equity_curve(source="fills")
        ]
        assert not [finding for finding in check() if "PnL" in finding.what]
    finally:
        close_db()
    assert "2,123.00 USD as the bot recorded it" in paper_run[1]
    assert "2,123.00 USD by its round trips" in paper_run[1]
