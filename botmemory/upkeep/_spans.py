"""Trades that can be left out together, because every position is flat before and after them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from ..ledger import Fill, Ledger
from ..models import OrderSide, Trade
from ..queries import read
from ..symbols import instrument_of

MAX_TRADES = 10_000  # that one transaction deletes together


class Span(NamedTuple):
    """The trades in one symbol on one exchange from one time when all is flat to the next.

    Flat are then the position of all trades and that of the trades of each strategy.

    Attributes:
        start: The time of the first trade.
        number: The number of the trades that the filters match.
        trades: These trades in time order, without those after the first `MAX_TRADES`.
        is_closed: Whether all is flat after them; if not, it is the last span.
        is_whole: Whether it is closed and `trades` has all of its trades.
    """

    start: datetime
    number: int
    trades: list[Trade]
    is_closed: bool
    is_whole: bool


def spans(filters: dict[str, Any]) -> Iterator[Span]:
    """Yield the spans of the trades that filters match."""
    fields: Any = (Trade.symbol, Trade.exchange)
    query = read.select(Trade, read.conditions(Trade, filters, filters), *fields)
    for symbol, exchange in read.fetch(query.distinct().order_by(*fields).tuples()):
        yield from spans_of(symbol, exchange, filters)


def spans_of(symbol: str, exchange: str | None, filters: dict[str, Any]) -> Iterator[Span]:
    """Yield the spans of the trades in a symbol on an exchange."""
    by_exchange = {"without_exchange": True} if exchange is None else {"exchange": exchange}
    of_place = {"symbol": symbol, "before": filters["before"], **by_exchange}
    is_any = {"strategy", "without_strategy"}.isdisjoint(filters)
    of_strategy: defaultdict[Any, Ledger] = defaultdict(partial(Ledger, instrument_of(symbol)))
    of_all = Ledger(instrument_of(symbol))
    open_ledgers: set[Ledger] = set()
    trades: list[Trade] = []
    total = number = 0
    start: datetime = filters["before"]
    for trade in read.stream_pages(Trade, of_place):
        if not total:
            start = trade.timestamp
        total += 1
        if is_any or trade.strategy == filters.get("strategy"):
            number += 1
            if number <= MAX_TRADES:
                trades.append(trade)
        for ledger in (of_all, of_strategy[trade.strategy]):
            ledger.add([_fill(trade)])
            if ledger.is_open:
                open_ledgers.add(ledger)
            else:
                open_ledgers.discard(ledger)
        if not open_ledgers:
            yield Span(start, number, trades, is_closed=True, is_whole=len(trades) == total)
            trades, total, number = [], 0, 0
    if total:
        yield Span(start, number, trades, is_closed=False, is_whole=False)


def _fill(trade: Trade) -> Fill:
    quantity = trade.quantity if trade.side is OrderSide.BUY else -trade.quantity
    cost = trade.price, trade.fee, trade.fee_currency, trade.contract_size
    return trade.timestamp, quantity, *cost
