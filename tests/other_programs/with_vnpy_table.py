"""Print what is recorded of the trades that vnpy makes, and their PnL there, as JSON.

Run it where vnpy and vnpy_ctastrategy are installed. Its engine executes an order of the strategy
with the next bar: there is a bar for each fill, at its price, and one before the first.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import datetime, timedelta
from typing import Any

with tempfile.TemporaryDirectory() as home:  # in which it makes a folder when it is imported
    os.environ["HOME"] = home
    from vnpy.trader.constant import Exchange, Interval
    from vnpy.trader.object import BarData
    from vnpy_ctastrategy import CtaTemplate
    from vnpy_ctastrategy.backtesting import BacktestingEngine

import pandas as pd
from imported import imported

START = datetime(2024, 1, 1)


class Repeat(CtaTemplate):
    fills: list[dict[str, Any]] = []  # noqa: RUF012  (it takes parameters from the class)
    parameters = ["fills"]  # noqa: RUF012

    def on_init(self) -> None:
        self.sent = 0

    def on_bar(self, bar: BarData) -> None:
        if self.sent < len(self.fills):
            fill = self.fills[self.sent]
            (self.buy if fill["side"] == "buy" else self.short)(fill["price"], fill["quantity"])
            self.sent += 1


def answers(history: dict[str, Any], imports: list[dict[str, Any]]) -> dict[str, Any]:
    fills = history["fills"]
    engine = BacktestingEngine()
    engine.output = lambda message: None
    engine.set_parameters(
        vt_symbol="rb2405.SHFE",
        interval=Interval.HOUR,
        start=START,
        rate=history["fee_rate"],
        slippage=0,
        size=1,
        pricetick=1e-9,
    )
    engine.add_strategy(Repeat, {"fills": fills})
    engine.history_data = [
        BarData(
            "BACKTESTING",
            "rb2405",
            Exchange.SHFE,
            START + timedelta(hours=hour),
            Interval.HOUR,
            **dict.fromkeys(
                ("open_price", "high_price", "low_price", "close_price"), fill["price"]
            ),
        )
        for hour, fill in enumerate([fills[0], *fills], start=-1)
    ]
    engine.run_backtesting()
    days = engine.calculate_result()
    table = pd.DataFrame([vars(trade) for trade in engine.get_all_trades()])
    return {
        "ours": imported(table, imports),
        "theirs": {
            "rows": len(table),
            "last": f"{table['datetime'].max() - timedelta(hours=8):%Y-%m-%d %H:%M} rb2405 SHFE",
            "net_pnl": float(days["total_pnl"].sum()),
            "fees": 0.0,  # which are of the days there
        },
    }


if __name__ == "__main__":
    given = json.load(sys.stdin)
    made = [answers(history, given["imports"]) for history in given["histories"]]
    json.dump(made, sys.stdout)
