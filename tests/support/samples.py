"""Make rows in which a test sets only the fields it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from botmemory import CashFlow, Signal, Trade
from botmemory.repositories import cash_flows, signals, trades

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def trade(**values: Any) -> Trade:
    return trades.create(**trade_values(**values))


def trade_values(**values: Any) -> dict[str, Any]:
    return {"symbol": "BTC/USDT", "side": "buy", "price": 100.0, "quantity": 1.0} | values


def signal(**values: Any) -> Signal:
    return signals.create(**({"symbol": "BTC/USDT", "signal_value": 1} | values))


def cash_flow(**values: Any) -> CashFlow:
    return cash_flows.create(**cash_flow_values(**values))


def cash_flow_values(**values: Any) -> dict[str, Any]:
    return {"kind": "funding", "currency": "USDT", "amount": -1.5} | values
