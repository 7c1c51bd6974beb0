"""Print what is recorded of the orders of a portfolio of vectorbt, and its profit, as JSON.

Run it where vectorbt is installed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pandas as pd
import vectorbt
from imported import imported


def answers(history: dict[str, Any], imports: list[dict[str, Any]]) -> dict[str, Any]:
    fills = history["fills"]
    times = pd.date_range("2024-01-01", periods=len(fills), freq="h")
    prices = pd.Series([fill["price"] for fill in fills], times, name=history["symbol"])
    signs = {"buy": 1, "sell": -1}
    sizes = pd.Series([fill["quantity"] * signs[fill["side"]] for fill in fills], times)
    portfolio = vectorbt.Portfolio.from_orders(
        prices.to_frame(), sizes, fees=history["fee_rate"], init_cash=1e9
    )
    table = portfolio.orders.records_readable
    return {
        "ours": imported(table, imports),
        "theirs": {
            "rows": len(table),
            "last": f"{table['Timestamp'].max():%Y-%m-%d %H:%M} {history['symbol']} None",
            "net_pnl": float(portfolio.trades.records["pnl"].sum()),
            "fees": float(table["Fees"].sum()),
        },
    }


if __name__ == "__main__":
    given = json.load(sys.stdin)
    made = [answers(history, given["imports"]) for history in given["histories"]]
    json.dump(made, sys.stdout)
