"""Print a database as hummingbot writes it, as SQL; run it where hummingbot is installed.

    python write.py          print it
    python write.py FILE     upgrade a database of 2021 as hummingbot does when it starts

hummingbot's own models store the events that its connectors report. `2026.9.sql` beside this file
is the output of that version.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hummingbot.core.data_type.trade_fee import (
    AddedToCostTradeFee,
    DeductedFromReturnsTradeFee,
    TokenAmount,
    TradeFeeBase,
)
from hummingbot.model import HummingbotBase, order_status
from hummingbot.model.db_migration import transformations
from hummingbot.model.funding_payment import FundingPayment
from hummingbot.model.order import Order
from hummingbot.model.trade_fill import TradeFill
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

START = 1_772_352_000_000  # milliseconds: 2026-03-01 08:00
MINUTE = 60_000
TABLES = ("Order", "TradeFill", "FundingPayment")


def flat(*fees: tuple[str, str]) -> AddedToCostTradeFee:
    return AddedToCostTradeFee(flat_fees=[TokenAmount(token, Decimal(n)) for token, n in fees])


def fee_in_quote(fee: TradeFeeBase, pair: str, price: Decimal, amount: Decimal) -> Decimal:
    """Return what hummingbot stores: 0 if it knows no rate."""
    try:
        return fee.fee_amount_in_token(pair, price, amount, pair.partition("-")[2])
    except Exception:
        return Decimal(0)


def order(
    session: Session, market: str, pair: str, number: int, price: str, amount: str, **other: Any
) -> Order:
    base, quote = pair.split("-")
    values: dict[str, Any] = {
        "config_file_path": "conf_pmm_1.yml",
        "strategy": "pure_market_making",
        "order_type": "LIMIT",
        "price": Decimal(price),
        "amount": Decimal(amount),
        "position": "NIL",
        "leverage": 1,
        "last_status": "OrderFilled",
        "exchange_order_id": str(9000 + number),
        **other,
    }
    placed = START + number * MINUTE
    row = Order(
        id=f"x-{number}", market=market, symbol=pair, base_asset=base, quote_asset=quote,
        creation_timestamp=placed, last_update_timestamp=placed, **values,
    )  # fmt: skip
    session.add(row)
    return row


def fill(
    session: Session, order: Order, trade_id: str, side: str, price: str, amount: str,
    fee: TradeFeeBase, seconds: int = 30,
) -> None:  # fmt: skip
    """Store what hummingbot stores when a connector reports a fill."""
    copied = ("config_file_path", "strategy", "market", "symbol", "base_asset", "quote_asset")
    numbers = {"price": Decimal(price), "amount": Decimal(amount)}
    session.add(
        TradeFill(
            **{name: getattr(order, name) for name in (*copied, "order_type", "leverage")},
            **numbers,
            timestamp=order.creation_timestamp + seconds * 1000,
            order_id=order.id,
            trade_type=side,
            trade_fee=fee.to_json(),
            trade_fee_in_quote=fee_in_quote(fee, order.symbol, **numbers),
            exchange_trade_id=trade_id,
            position=order.position,
        )
    )


def write(session: Session) -> None:
    # bought in two fills, one of them with a fee in the coin; sold with a fee in a third token
    bought = order(session, "binance", "BTC-USDT", 1, "60001", "0.01")
    fill(session, bought, "101", "BUY", "60000", "0.004", flat(("BTC", "0.000004")))
    fill(session, bought, "102", "BUY", "60000.5", "0.006", flat(("USDT", "0.360003")), 31)
    sold = order(session, "binance", "BTC-USDT", 2, "62000", "0.009996")
    fill(session, sold, "103", "SELL", "62000", "0.009996", flat(("BNB", "0.000775")))

    # a fee in two tokens; a percentage; one that is deducted from what was bought
    both = order(session, "binance", "ETH-USDT", 3, "3000", "1")
    fill(session, both, "104", "BUY", "3000", "1", flat(("USDT", "1.5"), ("BNB", "0.002")))
    percent = AddedToCostTradeFee(percent=Decimal("0.0026"))
    kraken = order(session, "kraken", "ETH-USD", 4, "3010", "0.5", order_type="LIMIT_MAKER")
    fill(session, kraken, "TQ7-1", "SELL", "3010.25", "0.5", percent)
    deducted = DeductedFromReturnsTradeFee(percent=Decimal("0.001"))
    paper = order(session, "gate_io_paper_trade", "SOL-USDT", 5, "150", "10", order_type="MARKET")
    fill(session, paper, "1772352330000000", "BUY", "150", "10", deducted)

    # a perpetual contract, with funding in milliseconds; the strategy is another one
    future = {"config_file_path": "conf_perp.yml", "strategy": "perp_mm", "leverage": 5}
    market = "binance_perpetual"
    opened = order(session, market, "BTC-USDT", 6, "61000", "0.02", position="OPEN", **future)
    fill(session, opened, "201", "SELL", "61000", "0.02", flat(("USDT", "0.61")))
    closed = order(session, market, "BTC-USDT", 8, "60000", "0.02", position="CLOSE", **future)
    fill(session, closed, "202", "BUY", "60000", "0.02", flat(("USDT", "0.6")))
    payment = {"config_file_path": "conf_perp.yml", "market": market}
    session.add(
        FundingPayment(
            timestamp=START + 7 * MINUTE, symbol="BTC-USDT", rate=0.0001, amount=-0.25, **payment
        )
    )
    # bybit's in seconds
    payment["market"] = "bybit_perpetual"
    session.add(
        FundingPayment(
            timestamp=START / 1000 + 90, symbol="ETH-USDT", rate=-0.0002, amount=0.125, **payment
        )
    )

    # two fills of one id, an amount of less than 6 digits, an order that was cancelled
    maker, taker = (
        order(session, "kucoin", "XRP-USDT", number, "0.5", "100") for number in (9, 10)
    )
    fill(session, maker, "77", "SELL", "0.5", "100", flat(("USDT", "0.05")), 90)
    fill(session, taker, "77", "BUY", "0.5", "100", flat(("USDT", "0.05")))
    small = order(session, "kucoin", "XRP-BTC", 11, "0.00000081", "100")
    fill(session, small, "78", "BUY", "0.00000081", "100", flat(("BTC", "0")))
    order(session, "kucoin", "XRP-USDT", 12, "0.4", "100", last_status="OrderCancelled")


def dump(path: str) -> None:
    """Print the tables and their rows."""
    with closing(sqlite3.connect(path)) as database:
        for table in TABLES:
            [[sql]] = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", [table])
            print(re.sub(r"\s+\n", "\n", sql.strip()) + ";")
        for table in TABLES:
            rows = database.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
            names = [column for column, *_ in rows.description]
            for row in rows:
                given = {n: v for n, v in zip(names, row, strict=True) if v is not None}
                values = ", ".join(
                    f"'{v}'" if isinstance(v, str) else repr(v) for v in given.values()
                )
                print(f'INSERT INTO "{table}" ({", ".join(given)})\nVALUES ({values});')


def upgrade(path: str) -> None:
    """Run hummingbot's changes of the schema, from 2022 on."""
    database = SimpleNamespace(engine=create_engine(f"sqlite:///{path}"))
    for change in (transformations.ConvertPriceAndAmountColumnsToBigint,
                   transformations.AddTradeFeeInQuote):  # fmt: skip
        change(None).apply(database)


if __name__ == "__main__":
    if sys.argv[1:]:
        upgrade(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder, "conf_1.sqlite"))
            engine = create_engine(f"sqlite:///{file}")
            assert order_status  # a table to which that of orders refers
            HummingbotBase.metadata.create_all(engine)
            with Session(engine) as session, session.begin():
                write(session)
            dump(file)
