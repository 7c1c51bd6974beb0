"""A program of bots that share strategies and symbols, and an auditor of what they have recorded.

Each bot reads the position of a strategy and a symbol in a block, buys if it is flat and sells if
it is long. Between that, it changes and deletes rows outside of blocks. In its metadata each trade
has its number of that key, which is read in the block too, and the position at two reads.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from samples import at, trade

from botmemory import NotFoundError, Trade, init_db, run_transaction
from botmemory.repositories import positions, trades

KEYS = list(itertools.product(("trend", "carry", ""), ("BTC/USDT", "ETH/USDT")))
SMALL_ROWS = 8  # of each key, which are too small to count as a position

Key = tuple[str, str]


def prepare(target: str) -> None:
    """Record the small rows of each key."""
    init_db(target)
    for strategy, symbol in KEYS * SMALL_ROWS:
        record_small(strategy, symbol)


def record_small(strategy: str, symbol: str) -> None:
    values: dict[str, Any] = {"strategy": strategy or None, "symbol": symbol}
    trade(**values, quantity=0.001, timestamp=at(-1), trade_metadata={"small": 1})


def buy_or_sell(keys: list[Key], pause: float) -> None:
    """Buy where the position of a key is flat, sell where it is long; sometimes take one back."""
    for strategy, symbol in keys:
        rows: dict[str, Any] = {"symbol": symbol, "strategy": strategy}
        held = positions.get(symbol, strategy).quantity
        newest = trades.get_by_metadata("number", limit=1, **rows)
        number = newest[0].trade_metadata["number"] + 1 if newest else 1
        time.sleep(random.uniform(0, pause))
        if newest and random.random() < 0.1:
            trades.update(newest[0], pnl=1.0)
            trades.delete(newest[0])
            continue
        if trades.get_trade_count(**rows) - number < SMALL_ROWS:
            record_small(strategy, symbol)
            held += 0.001
        trade(
            symbol=symbol,
            strategy=strategy or None,
            side="sell" if held > 0.5 else "buy",
            timestamp=at(number),
            trade_metadata={
                "number": number,
                "held": round(held, 6),
                "again": round(positions.get(symbol, strategy).quantity, 6),
            },
        )


def change_outside(key: Key) -> None:
    """Change or delete a small row of a key without a block."""
    small = trades.get_by_metadata("small", symbol=key[1], strategy=key[0])
    if not small:
        return
    row = random.choice(small)
    quantity = random.randint(1, 9) / 1000
    change: Callable[[], object] = random.choice(
        [
            lambda: trades.update(row, quantity=quantity),
            lambda: trades.delete(row),
            lambda: trades.update(row, strategy=random.choice(KEYS)[0] or None),
            lambda: Trade.update(quantity=quantity).where(Trade.id == row.id).execute(),
        ]
    )
    with suppress(NotFoundError):  # another bot has deleted it
        change()


def main(target: str, mode: str, locks: str, seconds: str) -> None:
    """Buy and sell for some seconds.

    Args:
        target: A database that was prepared.
        mode: "keys" for blocks with keys, "scope" for blocks without, "mixed" for both.
        locks: "all"; "of blocks", without those of single changes; or "none".
        seconds: How long.
    """
    database: Any = init_db(target)
    lock_of = type(database)._lock_of if locks != "all" else None
    if lock_of is not None:
        type(database)._lock_of = lambda self, keys: (
            lock_of(self, keys)
            if locks == "of blocks" and self.local.transactions
            else ("SELECT 1", ())
        )
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        keys = random.sample(KEYS, random.choice([1, 1, 2]))
        has_key = mode == "keys" or (mode == "mixed" and random.random() < 0.7)
        # without locks, another bot may have deleted what a block has read
        with nullcontext() if locks == "all" else suppress(NotFoundError):
            run_transaction(buy_or_sell, keys, 0.004, key=keys if has_key else None)
        if random.random() < 0.5:
            change_outside(random.choice(KEYS))


def violations(target: str) -> Counter[str]:
    """Read the whole database and count what cannot happen if each block runs alone.

    `trades` is how many there are.
    """
    init_db(target)
    found: Counter[str] = Counter()
    by_key: defaultdict[Any, list[Trade]] = defaultdict(list)
    for row in trades.iterate():
        if "number" in row.trade_metadata:
            by_key[row.strategy, row.symbol].append(row)
    for rows in by_key.values():
        found["trades"] += len(rows)
        numbers = [row.trade_metadata["number"] for row in rows]
        found["numbers given twice"] += len(numbers) - len(set(numbers))
        found["numbers left out"] += max(numbers) - len(set(numbers))
        sides = [row.side for row in rows]
        found["two in a row"] += sum(a == b for a, b in itertools.pairwise(sides))
        for row in rows:
            data = row.trade_metadata
            found["reads that differ"] += data["held"] != data["again"]
            found["sold when flat"] += (data["held"] > 0.5) != (row.side == "sell")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
