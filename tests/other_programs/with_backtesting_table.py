"""Print what is recorded of the trades that backtesting.py makes, and their PnL there, as JSON.

Run it where backtesting.py is installed. Its broker executes an order at the opening price of the
next bar: there is a bar for each fill, at its price, and one before the first.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pandas as pd
from backtesting import Backtest, Strategy
from imported import imported


class Repeat(Strategy):
    fills: list[dict[str, Any]] = []  # noqa: RUF012  (it takes parameters from the class)

    def init(self) -> None:
        """Do nothing; it must be there."""

    def next(self) -> None:
        place = len(self.data) - 2  # it is called from the second bar on
        if place < len(self.fills):
            fill = self.fills[place]
            (self.buy if fill["side"] == "buy" else self.sell)(size=fill["quantity"])


def answers(history: dict[str, Any], imports: list[dict[str, Any]]) -> dict[str, Any]:
    fills = history["fills"]
    prices = [fill["price"] for fill in [fills[0], fills[0], *fills]]
    times = pd.date_range("2024-01-01", periods=len(prices), freq="h")
    bars = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), prices), index=times)
    backtest = Backtest(bars, Repeat, cash=1e9, commission=history["fee_rate"])
    made = backtest.run(fills=fills)
    table = made._trades
    entries = table.drop(columns=["PnL", "Commission"])
    entries = entries.rename(columns={"EntryPrice": "Price", "EntryTime": "Time"})
    exits = table.assign(Size=-table["Size"])
    exits = exits.rename(columns={"ExitPrice": "Price", "ExitTime": "Time"})
    return {
        "ours": imported(pd.concat([entries, exits]), imports),
        "theirs": {
            "rows": 2 * len(table),
            "last": f"{table['ExitTime'].max():%Y-%m-%d %H:%M} BTC/USDT None",
            "net_pnl": float(table["PnL"].sum()),
            "fees": made["Commissions [$]"],
        },
    }


if __name__ == "__main__":
    given = json.load(sys.stdin)
    made = [answers(history, given["imports"]) for history in given["histories"]]
    json.dump(made, sys.stdout)
