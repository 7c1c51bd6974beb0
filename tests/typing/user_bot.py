"""A user's code as a type checker sees it; checked with mypy --strict, never run.

An ignore that ignores nothing is an error too: each one proves that a mistake is seen.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

import numpy as np
import peewee

from botmemory import (
    BaseModel,
    Config,
    OrderSide,
    Signal,
    State,
    Trade,
    get_db,
    init_db,
    run_transaction,
    session_scope,
)
from botmemory.analysis.attribution import Bucket, explain, pnl_by_metadata
from botmemory.analysis.performance import Group, Performance, by, summarize
from botmemory.fields import DoubleField, UtcDateTimeField
from botmemory.interop import ImportResult, hummingbot
from botmemory.interop.ccxt import import_trades
from botmemory.interop.freqtrade import import_database
from botmemory.repositories import positions, records, signals, state, trades
from botmemory.repositories.positions import Position
from botmemory.repositories.trades import NewTrade
from botmemory.upkeep.copy import CopiedTable, copy_database


def record() -> Trade:
    init_db("bot.db", synchronous="normal")
    init_db(Config(read_only=True))
    with session_scope():
        signal = signals.create(symbol="BTC/USDT", signal_value=1, signal_metadata={"rsi": 20})
        trade = trades.create(
            symbol="BTC/USDT",
            side="buy",
            price=Decimal("1.5"),
            quantity=np.float32(2),
            timestamp=datetime.now(UTC),
            signal=signal,
        )
    rows: list[NewTrade] = [{"symbol": "X", "side": OrderSide.SELL, "price": 1, "quantity": 2.5}]
    assert_type(trades.create_many(rows), int)
    assert_type(trades.create_many(row for row in rows), int)
    fill = trades.get_or_create(
        exchange="okx", exchange_trade_id="1", symbol="X", side="buy", price=1, quantity=1
    )
    assert_type(fill, tuple[Trade, bool])
    assert_type(trades.update(trade, pnl=5.0, signal=None), Trade)
    assert_type(run_transaction(trades.get_total_pnl, "X"), float)
    return trade


def ask(trade: Trade, signal: Signal) -> Position:
    assert_type(trade.id, uuid.UUID)
    assert_type(trade.price, float)
    assert_type(trade.pnl, float | None)
    assert_type(trade.side, OrderSide)
    assert_type(trade.timestamp, datetime)
    assert_type(trade.signal, Signal | None)
    assert_type(signal.id, int)
    assert_type(list(signal.trades), list[Trade])
    assert_type(trades.get_by_id("x"), Trade | None)
    assert_type(trades.get_latest("X", limit=5), list[Trade])
    assert_type(trades.iterate(), Iterator[Trade])
    assert_type(trades.get_total_pnl(), float)
    assert_type(signals.get_by_metadata("rsi", maximum=30), list[Signal])
    assert_type(trades.get_by_metadata("tags", equals="late", exchange="okx"), list[Trade])
    assert_type(positions.get_all(), list[Position])
    assert_type(positions.get("X").average_entry_price, float | None)
    for _ in get_db():
        pass
    return positions.get("X", strategy="a")


def remember() -> int:
    state.set("grid", {"levels": [1.5, 2]}, strategy="grid")
    assert_type(state.compare_and_set("n", state.MISSING, 1), bool)
    assert_type(state.delete("n", strategy="grid"), bool)
    assert_type(state.items("grid", strategy="grid"), dict[str, Any])
    state.set(5, 1)  # type: ignore[arg-type]
    state.set("n", 1, "grid")  # type: ignore[call-arg]
    row = records.get_by_id(State, ("", "n"))
    assert row is not None
    assert_type(row.updated_at, datetime)
    assert_type(row.strategy, str)
    return int(state.get("n", 0))


def bring(fills: list[dict[str, object]]) -> ImportResult:
    assert_type(import_database("tradesv3.sqlite"), ImportResult)
    assert_type(
        hummingbot.import_database("conf.sqlite", exchanges={"gate_io": "gate"}), ImportResult
    )
    assert_type(copy_database("bot.db", "postgresql://db/bots", models=[Trade]), list[CopiedTable])
    return import_trades(fills, exchange="okx", strategy="a")


def look(trade: Trade) -> None:
    assert_type(summarize("X"), Performance)
    assert_type(summarize().profit_factor, float | None)
    assert_type(by("month"), list[Group])
    assert_type(by(("direction", "month"), tz="Europe/Berlin"), list[Group])
    assert_type(by("exit_reason", of="trade_metadata"), list[Group])
    by(("month", "year"))  # type: ignore[arg-type]
    assert_type(pnl_by_metadata("rsi", [30, 70]), list[Bucket])
    assert_type(explain(trade).signal, Signal | None)
    by("year")  # type: ignore[call-overload]


class EquitySnapshot(BaseModel):
    timestamp: peewee.Field[datetime] = UtcDateTimeField()
    equity: peewee.Field[float] = DoubleField()


def own_tables() -> EquitySnapshot:
    init_db("bot.db", migrations="bot_migrations")
    made = records.create(EquitySnapshot, timestamp=datetime.now(UTC), equity=1)
    assert_type(made, EquitySnapshot)
    assert_type(made.equity, float)
    assert_type(records.get_by_id(EquitySnapshot, 1), EquitySnapshot | None)
    assert_type(records.get_latest(EquitySnapshot, limit=5), list[EquitySnapshot])
    assert_type(records.iterate(EquitySnapshot), Iterator[EquitySnapshot])
    assert_type(records.create_many(EquitySnapshot, [{"equity": 1}]), int)
    assert_type(records.update(made, equity=2), EquitySnapshot)
    return made


def mistakes(trade: Trade) -> None:
    trades.create(symbl="X", side="buy", price=1, quantity=1)  # type: ignore[call-arg]
    trades.create(symbol="X", side="buy", price="1", quantity=1)  # type: ignore[arg-type]
    trades.create(symbol="X", side="buy", price=1)  # type: ignore[call-arg]
    trades.update(trade, pnll=5)  # type: ignore[call-arg]
    trades.update(trade, id=5)  # type: ignore[call-arg]
    trades.create_many([{"symbol": "X"}])  # type: ignore[typeddict-item]
    trades.get_all("5")  # type: ignore[arg-type]
    signals.create(symbol="X", signal_value="buy")  # type: ignore[arg-type]
    records.create(EquitySnapshot(), equity=1)  # type: ignore[arg-type]
    records.get_all(EquitySnapshot, "5")  # type: ignore[arg-type]
    init_db("bot.db", synchronous="off")  # type: ignore[arg-type]
    Config().migrate = False  # type: ignore[misc]
