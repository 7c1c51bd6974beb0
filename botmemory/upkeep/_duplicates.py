"""Find fills that two sources have recorded: `create`, an exchange's own list, another program."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from peewee import Case, fn

from ..backends.finding import Finding
from ..formats import counted, number
from ..interop.files import is_id_of_content
from ..models import Trade
from ..queries import read

ROWS_PER_READ = 2000
SHOWN = 3
MAX_EQUAL = 500  # equal trades that are compared with each other
MOST_APART = timedelta(seconds=1)
ORDER = "order:"  # an importer's own id of an order that it has no fills of
OWN_IDS = (ORDER, "trade:")
BOT, ORDERS, EXCHANGE = SOURCES = ("no exchange_trade_id", "orders", "exchange")
ADVICE = (
    "choose one source for each account, as docs/history.md says in 'One account, several "
    "sources', and delete the trades of the others with trades.delete(trades.get_by_id(id)), or "
    "keep both if they are different fills"
)

trade_id: Any = Trade.exchange_trade_id


class Fill(NamedTuple):
    """What is read of a trade; the order is the one that its metadata names."""

    source: str
    timestamp: datetime
    id: object
    side: str
    price: float
    quantity: float
    exchange: str | None
    trade_id: str | None
    order: object = None


def _source(own_id: str | None) -> str:
    if own_id is None:
        return BOT
    return ORDERS if own_id.startswith(OWN_IDS) else EXCHANGE


def duplicate_findings(*, full: bool) -> Iterator[Finding]:
    """Yield findings where fills are probably recorded twice.

    Two ids of an exchange are two fills, however equal they are. The trades of a symbol are read
    only if they come from several sources, a few at a time; in a full check also if they have no
    id, which a bot may have recorded twice.
    """
    pairs: list[str] = []
    orders: list[str] = []
    pair_count = order_count = 0
    for symbol, sources in _symbols_to_read(full=full):
        of_symbol = Duplicates(symbol, has_orders={ORDERS, EXCHANGE} <= sources)
        of_symbol.read()
        pair_count += of_symbol.pair_count
        order_count += len(of_symbol.fill_counts)
        pairs += of_symbol.pairs[: SHOWN - len(pairs)]
        orders += of_symbol.orders()[: SHOWN - len(orders)]
    if pair_count:
        verb = "is" if pair_count == 1 else "are"
        what = f"{counted(pair_count, 'pair')} of trades {verb} probably one fill recorded twice"
        yield Finding("warning", f"{what}: {_shown(pairs, pair_count)}", ADVICE)
    if order_count:
        verb, their = ("is", "its") if order_count == 1 else ("are", "their")
        orders_text = counted(order_count, "order")
        what = f"{orders_text} {verb} recorded as one trade, and by {their} fills too"
        yield Finding("warning", f"{what}: {_shown(orders, order_count)}", ADVICE)


def _shown(texts: list[str], total: int) -> str:
    return "; ".join(texts) + ("; ..." if total > len(texts) else "")


def _symbols_to_read(*, full: bool) -> list[tuple[str, set[str]]]:
    """Return the symbols that may have duplicates, and the sources of their trades.

    It reads indexes alone.
    """
    own = trade_id.startswith(OWN_IDS[0]) | trade_id.startswith(OWN_IDS[1])
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, symbol, ids, orders in _rows(
        Trade.select(
            Trade.exchange, Trade.symbol, fn.COUNT(trade_id), fn.SUM(Case(None, [(own, 1)], 0))
        )
        .where(trade_id.is_null(False))
        .group_by(Trade.exchange, Trade.symbol)
    ):
        counts[symbol].update({ORDERS: orders, EXCHANGE: ids - orders})
    if counts or full:
        totals = Trade.select(Trade.symbol, fn.COUNT(Trade.id)).group_by(Trade.symbol)
        for symbol, total in _rows(totals):
            counts[symbol][BOT] = total - counts[symbol].total()
    sources = {symbol: {name for name in SOURCES if n[name]} for symbol, n in counts.items()}
    return sorted(
        (symbol, names)
        for symbol, names in sources.items()
        if len(names) > 1 or (full and counts[symbol][BOT] > 1)
    )


def _rows(query: Any) -> list[tuple[Any, ...]]:
    return [row for rows in read.driver_rows(query, ROWS_PER_READ) for row in rows]


class Duplicates:
    """The duplicates among the trades of one symbol.

    Attributes:
        pairs: The first pairs, as text.
        pair_count: The number of all.
        fill_counts: The number of fills by the place of an order that is recorded as a whole.
    """

    def __init__(self, symbol: str, *, has_orders: bool) -> None:
        self.symbol = symbol
        self.pairs: list[str] = []
        self.pair_count = 0
        self.fill_counts: defaultdict[tuple[str, str], int] = defaultdict(int)
        is_order = (Trade.symbol == symbol) & trade_id.startswith(ORDER)
        ids = _rows(Trade.select(Trade.exchange, trade_id).where(is_order)) if has_orders else []
        self._orders = {_place(exchange, own_id.removeprefix(ORDER)) for exchange, own_id in ids}
        # equal trades, each at most a second after the one before, until later ones come
        self._equal: defaultdict[Any, list[Fill]] = defaultdict(list)

    def read(self) -> None:
        metadata: Any = Trade.trade_metadata
        to_timestamp: Any = Trade.timestamp.from_driver  # type: ignore[attr-defined]
        fields: list[Any] = [
            Trade.timestamp, Trade.id, Trade.side, Trade.price, Trade.quantity, Trade.exchange,
            trade_id,
        ]  # fmt: skip
        if self._orders:
            fields.append(metadata["order"].as_text())
        where = [Trade.symbol == self.symbol]
        for rows in read.ordered_batches(Trade, where, ROWS_PER_READ, *fields):
            for timestamp, *values in rows:
                self._add(Fill(_source(values[5]), to_timestamp(timestamp), *values))
            last = to_timestamp(rows[-1][0])
            for key, fills in list(self._equal.items()):
                if last - fills[-1].timestamp > MOST_APART:
                    self._add_pairs(self._equal.pop(key))
        for fills in self._equal.values():
            self._add_pairs(fills)

    def _add(self, fill: Fill) -> None:
        if fill.source == EXCHANGE and fill.order is not None:
            place = _place(fill.exchange, fill.order)
            if place in self._orders:
                self.fill_counts[place] += 1
                return
        fills = self._equal[fill.side, fill.price, fill.quantity]
        is_later = bool(fills) and fill.timestamp - fills[-1].timestamp > MOST_APART
        if is_later or len(fills) == MAX_EQUAL:
            self._add_pairs(fills)
            fills.clear()
        fills.append(fill)

    def _add_pairs(self, fills: list[Fill]) -> None:
        """Add the pairs among equal trades.

        Each trade is in one pair with each other source at most, as that may have as many fills.
        Those of the bot alone come last: two of them are two fills where the exchange has two.
        """
        if len(fills) == 1:
            return
        others: list[set[str]] = [set() for _ in fills]  # the sources that have recorded it too
        is_paired: set[int] = set()  # with an earlier one
        for second, first in _near(fills):
            pair = fills[first], fills[second]
            sources = pair[0].source, pair[1].source
            if sources[0] == sources[1]:
                is_new = _has_same_id(*pair)
            else:
                is_new = sources[0] not in others[second] and sources[1] not in others[first]
            if is_new and second not in is_paired and _have_one_exchange(*pair):
                others[first].add(sources[1])
                others[second].add(sources[0])
                is_paired.add(second)
                self._add_pair(*pair)
        of_bot = [fill for fill, sources in zip(fills, others, strict=True) if not sources]
        of_bot = [fill for fill in of_bot if fill.source == BOT]
        is_paired = set()
        for second, first in _near(of_bot):
            if is_paired.isdisjoint((first, second)):
                pair = of_bot[first], of_bot[second]
                if self._are_of_bot(*pair) and _have_one_exchange(*pair):
                    is_paired.update((first, second))
                    self._add_pair(*pair)

    def _add_pair(self, first: Fill, second: Fill) -> None:
        self.pair_count += 1
        if len(self.pairs) < SHOWN:
            self.pairs.append(self._text(first, second))

    def _are_of_bot(self, first: Fill, second: Fill) -> bool:
        """Tell whether a bot may have recorded one fill twice; `check` finds one timestamp."""
        if first.timestamp == second.timestamp:
            return False
        return not (self._is_of_file(first) and self._is_of_file(second))

    def _is_of_file(self, fill: Fill) -> bool:
        trade_id = Trade.id.from_driver(fill.id)  # type: ignore[attr-defined]
        return is_id_of_content(trade_id, fill._asdict() | {"symbol": self.symbol})

    def _text(self, first: Fill, second: Fill) -> str:
        ids = " and ".join(
            f"{each.id} ({each.trade_id or each.source})" for each in (first, second)
        )
        return (
            f"{self.symbol} {first.side} {number(first.quantity)} at {number(first.price)} on "
            f"{first.timestamp:%Y-%m-%d %H:%M:%S}: {ids}"
        )

    def orders(self) -> list[str]:
        return [
            f"{ORDER}{order} of {self.symbol} on {exchange}, {counted(fills, 'fill')}"
            for (exchange, order), fills in self.fill_counts.items()
        ]


def _near(fills: list[Fill]) -> Iterator[tuple[int, int]]:
    """Yield each place of a fill with that of each earlier one, at most a second before it."""
    start = 0
    for second, fill in enumerate(fills):
        while fill.timestamp - fills[start].timestamp > MOST_APART:
            start += 1
        yield from ((second, first) for first in range(start, second))


def _have_one_exchange(first: Fill, second: Fill) -> bool:
    """Tell whether two trades may be of one exchange; a bot may record none."""
    exchanges = {each.exchange.lower() for each in (first, second) if each.exchange is not None}
    return len(exchanges) < 2


def _has_same_id(first: Fill, second: Fill) -> bool:
    """Tell whether two trades have one id of an exchange, whose name differs in case."""
    return first.trade_id is not None and first.trade_id == second.trade_id


def _place(exchange: str | None, order: object) -> tuple[str, str]:
    return (exchange or "").lower(), str(order)
