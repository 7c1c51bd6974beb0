"""Trades as bots leave them: twelve symbols, five currencies, four strategies, their signals."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from botmemory import session_scope
from botmemory.repositories import cash_flows, signals, trades

# symbol, price, contract size (None on spot), how often it is traded
MARKETS: tuple[tuple[str, float, float | None, int], ...] = (
    ("BTC/USDT", 60_000, None, 8),
    ("ETH/USDT", 3_000, None, 6),
    ("SOL/USDT", 150, None, 5),
    ("BTC/USDT:USDT", 60_000, 0.001, 8),
    ("ETH/USDT:USDT", 3_000, 0.01, 4),
    ("XRP/USDT", 0.6, None, 3),
    ("ETH/BTC", 0.05, None, 3),
    ("BTC/USD:BTC", 60_000, 100, 3),
    ("BTC/EUR", 55_000, None, 3),
    ("ETH/EUR", 2_800, None, 2),
    ("ETH/USDC", 3_000, None, 2),
    ("LTC/USD", 80, None, 1),
)
STRATEGIES = (
    "mean_reversion_bollinger_rsi_confirmation_v2",
    "trend_following_ema_crossover_with_atr_stop",
    "funding_rate_arbitrage_delta_neutral",
    "breakout_donchian_20_55_turtle",
)
RATES = {"BNB": 600.0}
START = datetime(2024, 3, 1, tzinfo=UTC)
DAYS = 790
SIGNALS = 200  # for each symbol and strategy, at most


def record(number: int) -> None:
    """Record trades of more than two years, with signals, funding and deposits."""
    generator = random.Random(7)
    ids = _record_signals(generator, min(SIGNALS, 1 + number // 250))
    trades.create_many(_fills(generator, number, ids))  # type: ignore[arg-type]
    with session_scope():
        for day in range(DAYS):
            cash_flows.create(
                kind="funding",
                currency="USDT",
                amount=round(generator.gauss(-0.4, 1), 4),
                symbol="BTC/USDT:USDT",
                exchange="okx",
                strategy=STRATEGIES[day % 4],
                timestamp=START + timedelta(days=day, hours=8),
            )
        for currency, amount in (("USDT", 25_000), ("EUR", 50_000)):
            cash_flows.create(kind="deposit", currency=currency, amount=amount, timestamp=START)


def _record_signals(generator: random.Random, each: int) -> dict[tuple[str, str], list[int]]:
    """Return the numbers of the signals of each symbol and strategy."""
    ids: dict[tuple[str, str], list[int]] = {}
    with session_scope():
        for symbol, price, _, _ in MARKETS:
            for strategy in STRATEGIES:
                ids[symbol, strategy] = [
                    signals.create(
                        symbol=symbol,
                        strategy=strategy,
                        signal_value=1,
                        timestamp=START + timedelta(days=DAYS * n / each),
                        signal_metadata={
                            "rsi": generator.uniform(10, 90),
                            "ema": {"fast": price * generator.gauss(1, 0.003)},
                            "regime": generator.choice(["up", "down", "sideways"]),
                            "confidence": generator.betavariate(4, 2),
                        },
                    ).id
                    for n in range(each)
                ]
    return ids


def _fills(
    generator: random.Random, number: int, ids: dict[tuple[str, str], list[int]]
) -> Iterator[dict[str, Any]]:
    prices = {symbol: price for symbol, price, _, _ in MARKETS}
    held: dict[tuple[str, str], float] = {}
    weights = [weight for *_, weight in MARKETS]
    for n in range(number):
        symbol, start_price, size, _ = generator.choices(MARKETS, weights)[0]
        strategy = generator.choices(STRATEGIES, [4, 3, 2, 1])[0]
        pull = 0.001 * math.log(start_price / prices[symbol])
        prices[symbol] *= math.exp(generator.gauss(pull, 0.004))
        quantity = held.get((symbol, strategy), 0.0)
        price = float(f"{prices[symbol]:.6g}")
        if quantity:
            change = -quantity if generator.random() > 0.12 else -quantity / 2
            edge = math.copysign(generator.gauss(0.0012, 0.012), quantity)
            price = float(f"{price * (1 + edge):.6g}")
        elif size is None:
            unit = 0.3 if symbol.endswith("/BTC") else 1_000 / start_price
            change = float(f"{unit * generator.lognormvariate(0, 0.7):.4g}")
        else:
            change = float(generator.randint(1, 50))
        if not quantity and generator.random() < (0.5 if size else 0.2):
            change = -change
        held[symbol, strategy] = quantity + change
        inverse = symbol == "BTC/USD:BTC"
        value = abs(change) * (size or 1) / price if inverse else abs(change) * (size or 1) * price
        currency = "BTC" if inverse else symbol.partition("/")[2].partition(":")[0]
        is_in_bnb = symbol == "SOL/USDT"
        yield {
            "timestamp": START + timedelta(days=DAYS * (n + generator.random()) / number),
            "symbol": symbol,
            "strategy": strategy,
            "exchange": "okx" if size else "binance",
            "contract_size": size,
            "side": "buy" if change > 0 else "sell",
            "quantity": abs(change),
            "price": price,
            "pnl": round(generator.gauss(0.5, 5), 2) if quantity and currency == "EUR" else None,
            "fee": float(f"{value * 0.0006 / (RATES['BNB'] if is_in_bnb else 1):.6g}"),
            "fee_currency": "BNB" if is_in_bnb else currency,
            "signal": generator.choice(ids[symbol, strategy]) if n % 5 else None,
            "trade_metadata": {"tags": ["breakout", "late"][n % 2 :]} if n % 3 == 0 else None,
        }
