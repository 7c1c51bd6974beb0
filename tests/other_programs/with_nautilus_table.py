"""Print what is recorded of the fills report of NautilusTrader, and its PnL, as JSON.

Run it where NautilusTrader is installed.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Any

from imported import imported
from with_nautilus import backtest


def answers(history: dict[str, Any], imports: list[dict[str, Any]]) -> dict[str, Any]:
    engine, strategy = backtest(history)
    table = engine.trader.generate_fills_report()
    engine.dispose()
    return {
        "ours": imported(table, imports),
        "theirs": {
            "rows": len(table),
            "last": f"{table['ts_event'].max():%Y-%m-%d %H:%M} BTCUSDT EXCHANGE",
            "net_pnl": strategy.answers[-1]["net_realized_pnl"],
            "fees": strategy.answers[-1]["fees"],
        },
    }


if __name__ == "__main__":
    given = json.load(sys.stdin, parse_float=Decimal)
    made = [answers(history, given["imports"]) for history in given["histories"]]
    json.dump(made, sys.stdout, default=float)
