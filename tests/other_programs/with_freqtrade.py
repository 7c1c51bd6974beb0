"""Print what freqtrade says of fills, as JSON; run it where freqtrade is installed.

A trade of freqtrade is all that is done from flat to flat, and it never flips.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from freqtrade.enums import TradingMode
from freqtrade.persistence import LocalTrade, Order, init_db

START = datetime(2024, 1, 1, tzinfo=UTC)


def new_trade(history: dict[str, Any], fill: dict[str, Any], date: datetime) -> LocalTrade:
    is_contract = ":" in history["symbol"]
    return LocalTrade(
        pair=history["symbol"],
        exchange="binance",
        is_open=True,
        is_short=fill["side"] == "sell",
        leverage=1.0,
        trading_mode=TradingMode.FUTURES if is_contract else TradingMode.SPOT,
        fee_open=history["fee_rate"],
        fee_close=history["exit_fee_rate"],
        open_rate=fill["price"],
        amount=fill["quantity"],
        stake_amount=fill["price"] * fill["quantity"],
        open_date=date,
    )


def add(trade: LocalTrade, fill: dict[str, Any], date: datetime) -> None:
    order = Order(
        order_id=str(date),
        ft_pair=trade.pair,
        ft_order_side=fill["side"],
        ft_is_open=False,
        ft_amount=fill["quantity"],
        ft_price=fill["price"],
        side=fill["side"],
        order_type="market",
        status="closed",
        amount=fill["quantity"],
        filled=fill["quantity"],
        remaining=0.0,
        price=fill["price"],
        average=fill["price"],
        order_date=date,
        order_filled_date=date,
    )
    trade.orders.append(order)
    trade.update_trade(order)


def figures(trade: LocalTrade, profit: float, mark: float, exit_fee: float) -> dict[str, Any]:
    """Return the figures after a fill, with what all trades up to this one have realized.

    A profit of freqtrade has in it the fee of the exit, and of the entry the part for what it
    closes. The fee of the entry of what is still open is in none yet.
    """
    if not trade.is_open:
        figures = {"quantity": 0.0, "average_entry_price": None, "unrealized": 0.0}
        return figures | {"net_realized_pnl": profit}
    fee_of_open = trade.amount * trade.open_rate * trade.fee_open
    fee_of_exit = trade.amount * mark * exit_fee
    return {
        "quantity": trade.amount * (-1 if trade.is_short else 1),
        "average_entry_price": trade.open_rate,
        "net_realized_pnl": profit - fee_of_open,
        # the profit of closing it there is net of both
        "unrealized": trade.calculate_profit(mark).profit_abs + fee_of_open + fee_of_exit,
    }


def answers(history: dict[str, Any]) -> list[dict[str, Any]]:
    done: list[LocalTrade] = []
    made = []
    for hour, fill in enumerate(history["fills"]):
        date = START + timedelta(hours=hour)
        if not done or not done[-1].is_open:
            done.append(new_trade(history, fill, date))
        add(done[-1], fill, date)
        profit = sum(trade.realized_profit for trade in done)
        made.append(figures(done[-1], profit, fill["mark"], history["exit_fee_rate"]))
    return made


if __name__ == "__main__":
    init_db("sqlite://")  # trades of this class are not stored, but each fill is committed
    json.dump([answers(history) for history in json.load(sys.stdin)], sys.stdout)
