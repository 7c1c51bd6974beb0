"""A paper-trading bot that is killed half-way and continues from its database.

It replays daily prices of GOOG through a crossover of two moving averages. Each crossing is a
signal; each signal that changes the position is a trade. After the kill, the bot reads its position
and its PnL from the database.

    python examples/paper_bot.py [--db FILE] [--stop-after BARS]
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from botmemory import OrderSide, close_db, init_db, session_scope
from botmemory.analysis.performance import summarize
from botmemory.analysis.round_trips import round_trips
from botmemory.repositories import positions, signals, trades

PRICES = Path(__file__).parent / "data" / "goog_daily.csv"
SYMBOL = "GOOG"
STRATEGY = "ma-crossover"
FAST, SLOW = 20, 50
SHARES = 10


class Bar(NamedTuple):
    timestamp: datetime
    close: float


def read_bars() -> list[Bar]:
    with PRICES.open(newline="") as file:
        return [
            Bar(datetime.fromisoformat(row["date"]).replace(tzinfo=UTC), float(row["close"]))
            for row in csv.DictReader(file)
        ]


def crossings(bars: list[Bar]) -> Iterator[tuple[Bar, int, dict[str, float]]]:
    """Yield bar, direction and averages for each crossing of the two averages."""
    closes = [bar.close for bar in bars]
    before = None
    for end in range(SLOW, len(bars) + 1):
        fast, slow = fmean(closes[end - FAST : end]), fmean(closes[end - SLOW : end])
        direction = 1 if fast > slow else -1
        if before is not None and direction != before:
            yield bars[end - 1], direction, {"fast": round(fast, 2), "slow": round(slow, 2)}
        before = direction


def act_on(bar: Bar, direction: int, averages: dict[str, float]) -> None:
    """Record the signal and the trade it leads to: both or neither."""
    with session_scope():
        signal = signals.create(
            symbol=SYMBOL,
            signal_value=direction,
            signal_metadata={**averages, "close": bar.close},
            timestamp=bar.timestamp,
            strategy=STRATEGY,
        )
        position = positions.get(SYMBOL)
        change = direction * SHARES - position.quantity
        if change:
            trades.create(
                symbol=SYMBOL,
                side=OrderSide.BUY if change > 0 else OrderSide.SELL,
                price=bar.close,
                quantity=abs(change),
                pnl=realized(position, change, bar.close),
                timestamp=bar.timestamp,
                signal=signal,
                strategy=STRATEGY,
            )


def realized(position: positions.Position, change: float, price: float) -> float | None:
    """Return the PnL of a trade that closes a position; None for one that only opens."""
    if position.average_entry_price is None or (position.quantity > 0) == (change > 0):
        return None
    closed = min(abs(position.quantity), abs(change))
    gain = price - position.average_entry_price
    return round(closed * (gain if position.quantity > 0 else -gain), 2)


def replay(bars: list[Bar], stop_after: int | None) -> None:
    """Act on the crossings after the latest recorded signal."""
    latest = signals.get_latest(SYMBOL, limit=1)
    for bar, direction, averages in crossings(bars[:stop_after]):
        if not latest or bar.timestamp > latest[0].timestamp:
            act_on(bar, direction, averages)
    if stop_after is not None:
        print(f"  killed after bar {stop_after:,}, on {bars[stop_after - 1].timestamp:%Y-%m-%d}\n")
        sys.stdout.flush()
        os._exit(9)  # nothing is closed or written after this


def describe_position() -> str:
    position = positions.get(SYMBOL)
    if position.average_entry_price is None or position.opened_at is None:
        return "none"
    return (
        f"{position.quantity:+g} {SYMBOL} at {position.average_entry_price:.2f} "
        f"since {position.opened_at:%Y-%m-%d}"
    )


def describe_signal(signal_id: int | None) -> str:
    signal = None if signal_id is None else signals.get_by_id(signal_id)
    if signal is None:
        return "no signal"
    averages = signal.signal_metadata
    relation = ">" if signal.signal_value > 0 else "<"
    return f"ma{FAST} {averages['fast']:.2f} {relation} ma{SLOW} {averages['slow']:.2f}"


def report(file: str) -> None:
    result = summarize(SYMBOL, source="fills")
    print(f"\nThe result in {file}")
    print(f"  trades        {result.trades}")
    print(f"  signals       {signals.get_signal_count()}")
    print(f"  round trips   {result.closed_trades}, of which {result.wins} won")
    print(f"  PnL           {trades.get_total_pnl():,.2f} USD as the bot recorded it")
    print(f"                {result.net_pnl or 0:,.2f} USD by its round trips")
    print(f"  position      {describe_position()}")
    print("\nThe last round trips and why they were entered")
    for trip in deque(round_trips(SYMBOL), maxlen=5):
        print(
            f"  {trip.closed_at:%Y-%m-%d}  {trip.direction:5} {trip.quantity:g}  "
            f"{trip.entry_price:7.2f} to {trip.exit_price:7.2f}  {trip.net_pnl:+9,.2f}  "
            f"{describe_signal(trip.entry_signal_id)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="A paper-trading bot that records its trades.")
    parser.add_argument("--db", default="paper_bot.db", help="the file that is its database")
    parser.add_argument("--stop-after", type=int, metavar="BARS", help="kill it after so many bars")
    arguments = parser.parse_args()
    bars = read_bars()
    if arguments.stop_after is None and not Path(arguments.db).exists():
        print(f"{len(bars):,} daily bars of {SYMBOL}; the first process is killed half-way\n")
        sys.stdout.flush()
        half = ["--db", arguments.db, "--stop-after", str(len(bars) // 2)]
        subprocess.run([sys.executable, __file__, *half], check=False)

    init_db(arguments.db)
    print("A process starts and reads from the database:")
    print(f"  {trades.get_trade_count()} trades, total PnL {trades.get_total_pnl():,.2f} USD")
    print(f"  position: {describe_position()}")
    replay(bars, arguments.stop_after)
    report(arguments.db)
    close_db()


if __name__ == "__main__":
    main()
