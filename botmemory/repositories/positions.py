"""The open positions, computed from the recorded trades."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal, localcontext
from typing import Any

from .._arguments import checked_call
from ..models import OrderSide, Trade
from ..queries import read, write

__all__ = ["Position", "get", "get_all"]

# 0.1 + 0.2 - 0.3 must be 0: quantities are added as decimals, not as floats
_EXACT = Context(prec=60)
_FLAT = Decimal(0)


@dataclass(frozen=True, slots=True)
class Position:
    """The position in one symbol and its realized PnL, by the average cost method.

    Attributes:
        symbol: The symbol.
        quantity: The net quantity in the base currency: above 0 long, below 0 short, 0.0 flat.
        average_entry_price: Of the open quantity, in the quote currency; None when flat.
        realized_pnl: The PnL of all closed quantities, in the quote currency, without fees.
        fees: The fees of all trades of the symbol, by `fee_currency` (None where a trade has none).
        opened_at: The time of the trade that opened the position, UTC; None when flat.
    """

    symbol: str
    quantity: float = 0.0
    average_entry_price: float | None = None
    realized_pnl: float = 0.0
    fees: dict[str | None, float] = field(default_factory=dict, hash=False)
    opened_at: datetime | None = None


@checked_call
def get(symbol: str, strategy: str | None = None) -> Position:
    """Return the position in one symbol; it is flat where there are no trades.

    Trades count in time order, by the average cost method: a trade in the direction of the position
    changes its average entry price; a trade against it realizes PnL at that price, and the quantity
    beyond flat opens a position in the other direction. All trades of the symbol are read, a few at
    a time, so that trades recorded late or by another program count, too.

    Args:
        symbol: The symbol.
        strategy: Only the trades of this strategy; None for every strategy.
    """
    filters = read.filters(Trade, write.required("symbol", symbol), strategy)
    trades = read.stream_values(Trade, filters, "side", "price", "quantity", "fee", "fee_currency")
    with localcontext(_EXACT):
        return _add_up(filters["symbol"], trades)


@checked_call
def get_all(strategy: str | None = None) -> list[Position]:
    """Return the open positions in alphabetical order of their symbols, each as `get` returns it.

    Args:
        strategy: Only the trades of this strategy; None for every strategy.
    """
    # sorted here, because each database has its own collation
    symbols = sorted(read.distinct(Trade, "symbol", read.filters(Trade, strategy=strategy)))
    positions = [get(symbol, strategy) for symbol in symbols]
    return [position for position in positions if position.quantity]


def _add_up(symbol: str, trades: Iterable[tuple[Any, ...]]) -> Position:
    held, cost, realized = _FLAT, _FLAT, _FLAT  # cost: what was paid for what is held
    fees: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    opened_at = None
    for timestamp, _, side, price_, quantity_, fee, fee_currency in trades:
        price, quantity = _decimal(price_), _decimal(quantity_)
        change = quantity if side is OrderSide.BUY else -quantity
        if fee is not None:
            fees[fee_currency] += _decimal(fee)
        if held and (held > 0) != (change > 0):
            if quantity < abs(held):
                entry = cost / held
                realized += change * (entry - price)
                held, cost = held + change, cost + change * entry
                continue
            realized += held * price - cost
            held, cost, change = _FLAT, _FLAT, held + change
        if change:
            if not held:
                opened_at = timestamp
            held, cost = held + change, cost + change * price
    return Position(
        symbol=symbol,
        quantity=float(held),
        average_entry_price=float(cost / held) if held else None,
        realized_pnl=float(realized),
        fees={currency: float(total) for currency, total in fees.items()},
        opened_at=opened_at if held else None,
    )


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))
