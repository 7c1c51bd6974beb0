"""Print what is recorded of the transactions that backtrader makes, and its PnL, as JSON.

Run it where backtrader is installed.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import backtrader as bt
import pandas as pd
from imported import imported
from with_backtrader_trades import Prices, Repeat


def answers(history: dict[str, Any], imports: list[dict[str, Any]]) -> dict[str, Any]:
    engine = bt.Cerebro(stdstats=False)
    engine.broker = bt.brokers.BackBroker(cash=1e9, checksubmit=False)
    hourly = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}
    engine.adddata(Prices(fills=history["fills"], **hourly), name=history["symbol"])
    engine.addstrategy(Repeat, fills=history["fills"])
    engine.addanalyzer(bt.analyzers.Transactions, headers=True)
    [strategy] = engine.run()
    header, *rows = strategy.analyzers.transactions.get_analysis().items()
    table = pd.DataFrame(
        [[time, *values] for time, each in rows for values in each],
        columns=[header[0], *header[1][0]],
    )
    return {
        "ours": imported(table, imports),
        "theirs": {
            "rows": len(table),
            "last": f"{table['date'].max():%Y-%m-%d %H:%M} {history['symbol']} None",
            "net_pnl": sum(trade["net_pnl"] for trade in strategy.closed),
            "fees": 0.0,
        },
    }


if __name__ == "__main__":
    given = json.load(sys.stdin)
    made = [answers(history, given["imports"]) for history in given["histories"]]
    json.dump(made, sys.stdout)
