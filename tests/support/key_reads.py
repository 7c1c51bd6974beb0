"""The functions that read rows of one symbol and strategy, each called with these two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samples import at

from botmemory import CashFlow, Signal, Trade
from botmemory.repositories import cash_flows, positions, records, signals, trades

READS: dict[str, Callable[..., Any]] = {
    "trades.get_by_symbol": lambda symbol, strategy: trades.get_by_symbol(
        symbol, strategy=strategy
    ),
    "trades.get_latest": lambda symbol, strategy: trades.get_latest(symbol, strategy=strategy),
    "trades.get_by_date_range": lambda symbol, strategy: trades.get_by_date_range(
        symbol, at(0), at(9), strategy=strategy
    ),
    "trades.get_by_metadata": lambda symbol, strategy: trades.get_by_metadata(
        "n", symbol=symbol, strategy=strategy
    ),
    "trades.iterate": lambda symbol, strategy: list(trades.iterate(symbol, strategy=strategy)),
    "trades.get_total_pnl": lambda symbol, strategy: trades.get_total_pnl(
        symbol, strategy=strategy
    ),
    "trades.get_total_pnl of a quote": lambda symbol, strategy: trades.get_total_pnl(
        symbol, strategy=strategy, quote="USDT"
    ),
    "trades.get_trade_count": lambda symbol, strategy: trades.get_trade_count(
        symbol, strategy=strategy
    ),
    "signals.get_by_symbol": lambda symbol, strategy: signals.get_by_symbol(
        symbol, strategy=strategy
    ),
    "signals.get_latest": lambda symbol, strategy: signals.get_latest(symbol, strategy=strategy),
    "signals.get_by_date_range": lambda symbol, strategy: signals.get_by_date_range(
        symbol, at(0), at(9), strategy=strategy
    ),
    "signals.get_by_signal_value": lambda symbol, strategy: signals.get_by_signal_value(
        1, symbol, strategy=strategy
    ),
    "signals.get_by_metadata": lambda symbol, strategy: signals.get_by_metadata(
        "n", symbol=symbol, strategy=strategy
    ),
    "signals.iterate": lambda symbol, strategy: list(signals.iterate(symbol, strategy=strategy)),
    "signals.get_signal_count": lambda symbol, strategy: signals.get_signal_count(
        symbol, strategy=strategy
    ),
    "cash_flows.get_latest": lambda symbol, strategy: cash_flows.get_latest(
        symbol=symbol, strategy=strategy
    ),
    "cash_flows.get_by_date_range": lambda symbol, strategy: cash_flows.get_by_date_range(
        at(0), at(9), symbol=symbol, strategy=strategy
    ),
    "cash_flows.iterate": lambda symbol, strategy: list(
        cash_flows.iterate(symbol=symbol, strategy=strategy)
    ),
    "cash_flows.get_total": lambda symbol, strategy: cash_flows.get_total(
        "USDT", symbol=symbol, strategy=strategy
    ),
    "positions.get": positions.get,
    "records.get_by_symbol": lambda symbol, strategy: records.get_by_symbol(
        Trade, symbol, strategy=strategy
    ),
    "records.get_latest": lambda symbol, strategy: records.get_latest(
        Trade, symbol, strategy=strategy
    ),
    "records.get_by_date_range": lambda symbol, strategy: records.get_by_date_range(
        Signal, symbol, at(0), at(9), strategy=strategy
    ),
    "records.iterate": lambda symbol, strategy: list(
        records.iterate(CashFlow, symbol, strategy=strategy)
    ),
    "records.count": lambda symbol, strategy: records.count(Trade, symbol, strategy=strategy),
}
