"""Print a database as freqtrade writes it, as SQL; run it where freqtrade is installed.

freqtrade's own models process responses of an exchange. `2026.9.sql` beside this file is the output
of that version. The files of older versions have the schemas that their models created.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from freqtrade.enums import TradingMode
from freqtrade.persistence import Order, Trade, init_db

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


def open_trade(pair: str, hour: int, rate: float, amount: float, **other: Any) -> Trade:
    """Return a new trade without orders."""
    values: dict[str, Any] = {
        "exchange": "binance",
        "base_currency": pair.partition("/")[0],
        "stake_currency": "USDT",
        "strategy": "Trend",
        "enter_tag": "golden_cross",
        "timeframe": 5,
        "is_short": False,
        "leverage": 1.0,
        "trading_mode": TradingMode.SPOT,
        "fee_open": 0.001,
        "fee_close": 0.001,
        **other,
    }
    trade = Trade(
        pair=pair,
        open_date=START + timedelta(hours=hour),
        open_rate=rate,
        open_rate_requested=rate,
        amount=amount,
        amount_requested=amount,
        stake_amount=rate * amount / values["leverage"],
        is_open=True,
        **values,
    )
    Trade.session.add(trade)
    return trade


def process_order(
    trade: Trade, id: str, side: str, hour: int, price: float | None, amount: float, **response: Any
) -> Order:
    """Let freqtrade process the response of an exchange about an order."""
    placed = START + timedelta(hours=hour)
    order_values: dict[str, Any] = {
        "id": id,
        "symbol": trade.pair,
        "status": "closed",
        "type": "limit",
        "side": side,
        "price": price,
        "average": price,
        "amount": amount,
        "filled": amount,
        "remaining": 0.0,
        "cost": (price or 0.0) * amount,
        "timestamp": int(placed.timestamp() * 1000),
        "lastTradeTimestamp": int((placed + timedelta(seconds=30)).timestamp() * 1000),
        **response,
    }
    kind = order_values.pop("kind", side)
    tag = order_values.pop("tag", None)
    fee = order_values.pop("fee", None)
    base_fee = order_values.pop("base_fee", None)
    order = Order.parse_from_ccxt_object(
        order_values, trade.pair, kind, amount, price or trade.open_rate
    )
    order.ft_order_tag = tag
    order.ft_fee_base = base_fee
    order.order_update_date = order.order_filled_date or order.order_date  # not the current time
    trade.orders.append(order)
    if fee is not None:
        cost, currency, rate = fee
        trade.update_fee(cost, currency, rate, side)
    trade.update_trade(order)
    return order


def write(path: str) -> None:
    init_db(f"sqlite:///{path}")

    # bought and sold, with fees in another currency
    trade = open_trade("BTC/USDT", 0, 60000.0, 0.01)
    process_order(trade, "1001", "buy", 0, 60000.0, 0.01, fee=(0.001, "BNB", 0.001))
    trade.exit_reason = "roi"
    process_order(trade, "1002", "sell", 5, 62000.0, 0.01, fee=(0.00103, "BNB", 0.001))

    # two entries, the second cancelled after it was filled in part; two exits. The ids are also
    # used by another pair
    trade = open_trade("ETH/USDT", 1, 3000.0, 1.0, enter_tag="dip")
    process_order(trade, "1001", "buy", 1, 3000.0, 1.0)
    process_order(
        trade, "1002", "buy", 2, 2900.0, 1.0, filled=0.4, remaining=0.6, cost=1160.0,
        status="canceled", tag="more",
    )  # fmt: skip
    process_order(trade, "1003", "sell", 3, 3100.0, 0.5, tag="half")
    trade.exit_reason = "exit_signal"
    process_order(trade, "1004", "sell", 4, 3200.0, 0.9)

    # a stop loss on the exchange; the strategy stores data of its own
    trade = open_trade("SOL/USDT", 2, 150.0, 10.0, strategy="Breakout", enter_tag=None)
    trade.adjust_min_max_rates(155.5, 139.0)
    stopped = trade
    process_order(trade, "2001", "buy", 2, 150.0, 10.0)
    process_order(
        trade, "2002", "sell", 6, 140.0, 10.0, kind="stoploss", type="stop_loss_limit",
        stopPrice=141.0, average=139.9,
    )  # fmt: skip

    # a partial exit
    trade = open_trade("ADA/USDT", 3, 0.5, 1000.0)
    process_order(trade, "3001", "buy", 3, 0.5, 1000.0)
    process_order(trade, "3002", "sell", 7, 0.6, 400.0, tag="half")

    # an open order that is filled in part
    trade = open_trade("XRP/USDT", 4, 0.6, 500.0)
    process_order(trade, "4001", "buy", 4, 0.6, 500.0, status="open", filled=120.0, remaining=380.0)

    # short, with leverage and funding
    trade = open_trade(
        "BTC/USDT:USDT", 5, 61000.0, 0.02, is_short=True, leverage=3.0,
        trading_mode=TradingMode.FUTURES, fee_open=0.0005, fee_close=0.0005,
    )  # fmt: skip
    process_order(trade, "5001", "sell", 5, 61000.0, 0.02, fee=(0.61, "USDT", 0.0005))
    trade.funding_fee_running = -0.25
    trade.exit_reason = "exit_signal"
    process_order(trade, "5002", "buy", 9, 60000.0, 0.02)

    # market orders without a price; the fee of the entry is in base currency
    trade = open_trade("DOGE/USDT", 6, 0.2, 100.0)
    process_order(
        trade, "6001", "buy", 6, None, 100.0, type="market", average=0.2, base_fee=0.1,
        fee=(0.1, "DOGE", 0.001),
    )  # fmt: skip
    trade.exit_reason = "force_exit"
    process_order(trade, "6002", "sell", 8, None, 99.9, type="market", average=0.21, cost=20.979)

    # closed, with deleted orders
    trade = open_trade("LTC/USDT", 7, 80.0, 2.0)
    process_order(trade, "7001", "buy", 7, 80.0, 2.0)
    trade.exit_reason = "roi"
    process_order(trade, "7002", "sell", 10, 85.0, 2.0)
    trade.orders.clear()

    # an entry that was cancelled before it was filled
    trade = open_trade("DOT/USDT", 8, 7.0, 10.0)
    process_order(trade, "8001", "buy", 8, 7.0, 10.0, status="canceled", filled=0.0, cost=0.0)
    Trade.commit()
    for key, value in (("moved", True), ("moves", 3), ("note", "wide"), ("levels", {"low": 139.5})):
        stopped.set_custom_data(key, value)
    for data in stopped.get_all_custom_data():
        data.created_at = START  # not the current time
    data.session.commit()
    Trade.session.remove()


def dump(path: str) -> None:
    """Print the three tables and their rows."""
    with closing(sqlite3.connect(path)) as database:
        schema = database.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name IN ('trades', 'orders', "
            "'trade_custom_data') AND sql IS NOT NULL ORDER BY type DESC, tbl_name DESC, name"
        )
        for (sql,) in schema.fetchall():
            print(re.sub(r"\s+\n", "\n", sql.strip()) + ";")
        for table in ("trades", "orders", "trade_custom_data"):
            rows = database.execute(f"SELECT * FROM {table} ORDER BY id")
            names = [column for column, *_ in rows.description]
            for row in rows:
                given = {n: v for n, v in zip(names, row, strict=True) if v is not None}
                values = ", ".join(
                    f"'{v}'" if isinstance(v, str) else repr(v) for v in given.values()
                )
                print(f"INSERT INTO {table} ({', '.join(given)})\nVALUES ({values});")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "trades.sqlite"))
        write(file)
        dump(file)
