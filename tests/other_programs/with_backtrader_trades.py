"""Print the trades that backtrader makes of fills, and their statistics, as JSON.

Run it where backtrader is installed. Its broker executes an order at the opening price of the next
bar: there is a bar for each fill, at its price, and one before the first.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import backtrader as bt

START = datetime(2024, 1, 1)  # in UTC: backtrader has no time zones


class Prices(bt.feed.DataBase):
    params = (("fills", ()),)

    def start(self) -> None:
        super().start()
        fills = self.p.fills
        self.bars = iter(enumerate([fills[0], *fills], start=-1))

    def _load(self) -> bool:
        for hour, fill in self.bars:
            self.lines.datetime[0] = bt.date2num(START + timedelta(hours=hour))
            for line in (self.lines.open, self.lines.high, self.lines.low, self.lines.close):
                line[0] = fill["price"]
            self.lines.volume[0] = self.lines.openinterest[0] = 0.0
            return True
        return False


class Repeat(bt.Strategy):
    params = (("fills", ()),)

    def __init__(self) -> None:
        self.closed: list[dict[str, Any]] = []

    def next(self) -> None:
        place = len(self) - 1
        if place < len(self.p.fills):
            fill = self.p.fills[place]
            (self.buy if fill["side"] == "buy" else self.sell)(size=fill["quantity"])

    def notify_trade(self, trade: bt.Trade) -> None:
        if trade.isclosed:
            self.closed.append(
                {
                    "direction": "long" if trade.long else "short",
                    "opened_at": isoformat(trade.open_datetime()),
                    "closed_at": isoformat(trade.close_datetime()),
                    "gross_pnl": trade.pnl,
                    "net_pnl": trade.pnlcomm,
                    "fees": trade.commission,
                }
            )


class Rates(bt.CommissionInfo):
    """A rate of the value: that of backtrader itself does not know of the multiplier."""

    def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
        return super()._getcommission(size, price, pseudoexec) * self.p.mult


def isoformat(time: datetime) -> str:
    return time.replace(tzinfo=UTC).isoformat()


def answers(history: dict[str, Any]) -> dict[str, Any]:
    engine = bt.Cerebro(stdstats=False)
    engine.broker = bt.brokers.BackBroker(cash=1e12, checksubmit=False)
    engine.broker.addcommissioninfo(
        Rates(
            commission=history["fee_rate"],
            mult=history["contract_size"],
            commtype=bt.CommissionInfo.COMM_PERC,
            percabs=True,  # 0.001 is a rate, not a percentage
            stocklike=True,
        )
    )
    hourly = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}
    engine.adddata(Prices(fills=history["fills"], **hourly))
    engine.addstrategy(Repeat, fills=history["fills"])
    engine.addanalyzer(bt.analyzers.SQN, _name="sqn")
    engine.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades")
    [strategy] = engine.run()
    statistics = strategy.analyzers.trades.get_analysis()
    return {
        "trades": strategy.closed,
        "sqn": strategy.analyzers.sqn.get_analysis()["sqn"],
        "open": statistics["total"]["open"],
        **{name: statistics[name] for name in ("streak", "pnl", "won", "lost", "long", "short")},
    }


if __name__ == "__main__":
    json.dump([answers(history) for history in json.load(sys.stdin)], sys.stdout)
