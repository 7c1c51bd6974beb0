"""What the report is made of: for each currency its figures, charts and tables."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from peewee import JOIN

from .._values import flatten
from ..analysis import attribution, performance
from ..analysis._ranges import is_number, round_edges
from ..analysis._selection import Selection, quote_of, select
from ..analysis.attribution import PRICE_KEYS
from ..analysis.performance import EquityPoint, Group, Performance
from ..models import OrderSide, Signal, Trade
from ..queries import read
from ..repositories import positions
from ..repositories.positions import Position
from . import _charts
from ._charts import Chart, Fill

__all__ = ["Section", "sections"]

MOST_SYMBOLS = 12  # with a price chart, and in the chart of symbols twice as many
MOST_FILLS = 6000  # on all price charts together
MOST_KEYS = 6  # of the signals' metadata
LOOKED_AT = 1000  # trades, for the keys that there are
LONGEST_NAME = 40  # of a value that is taken for a category
SHOWN = 10  # best and worst trades
PARTS = 6 + MOST_KEYS + MOST_SYMBOLS  # of the work for a section, at most

Progress = Callable[[int, int], object] | None


@dataclass(frozen=True)
class Section:
    """All there is to say of the trades in one currency."""

    quote: str
    summary: Performance
    held: list[Position]
    charts: list[Chart]
    best: list[Trade]
    worst: list[Trade]
    hidden_symbols: int


def sections(filters: dict[str, Any], progress: Progress) -> Iterator[Section]:
    """Yield a section for each currency, by alphabet."""
    quotes = performance.quotes(**filters)

    def done(before: int, parts: int) -> None:
        if progress is not None:
            progress(before * PARTS + parts, len(quotes) * PARTS)

    for number, quote in enumerate(quotes):
        yield _section(number, quote, filters, partial(done, number))
        done(number, PARTS)


def _section(
    number: int, quote: str, filters: dict[str, Any], done: Callable[[int], None]
) -> Section:
    asked = {**filters, "quote": quote}
    chosen = select(**asked)
    points = performance.equity_curve(**asked)
    symbols = performance.by("symbol", **asked)
    charts: list[Chart] = []

    def add(title: str, figure: dict[str, Any], remark: str = "", *, wide: bool = False) -> None:
        charts.append(Chart(f"chart-{number}-{len(charts)}", title, figure, remark, wide))
        done(len(charts))

    done(0)
    if points:
        add("Equity curve and drawdown", *_charts.equity(points), wide=True)
        biggest = sorted(symbols, key=lambda group: -abs(group.total_pnl))[: 2 * MOST_SYMBOLS]
        add("PnL by symbol", _charts.by_symbol(sorted(biggest, key=lambda one: -one.total_pnl)))
        add("PnL by month", _charts.by_month(performance.by("month", **asked)))
        add("PnL by hour of the day (UTC)", _charts.by_hour(performance.by("hour", **asked)))
        add("PnL of a trade", _charts.histogram(_histogram(points)))
        for key in _keys(chosen):
            buckets = attribution.pnl_by_metadata(key, 10, **asked)
            closed = [bucket for bucket in buckets if bucket.closed_trades]
            if closed:
                add(f"Win rate by the signal's {key}", _charts.win_rates(closed[:30]))
    drawn = sorted(symbols, key=lambda group: -group.trades)[:MOST_SYMBOLS]
    for group in drawn:
        add(f"{group.key}: trades and signals", *_prices(group, filters, len(drawn)), wide=True)
    symbol, strategy = filters["symbol"], filters["strategy"]
    held = [positions.get(symbol, strategy)] if symbol else positions.get_all(strategy)
    pnl: Any = Trade.pnl
    return Section(
        quote=quote,
        summary=performance.summarize(**asked),
        held=[one for one in held if one.quantity and quote_of(one.symbol) == chosen.quote],
        charts=charts,
        best=_some(chosen, pnl > 0, pnl.desc()),
        worst=_some(chosen, pnl < 0, pnl.asc()),
        hidden_symbols=len(symbols) - len(drawn),
    )


def _some(chosen: Selection, condition: Any, order: Any) -> list[Trade]:
    query: Any = _with_signals().where(condition, *chosen.conditions())
    found: list[Trade] = read.fetch(query.order_by(order, Trade.id).limit(SHOWN))
    return found


def _with_signals() -> Any:
    return Trade.select(Trade, Signal).join(Signal, JOIN.LEFT_OUTER)


def _histogram(points: list[EquityPoint]) -> list[tuple[float, float, int]]:
    ends = round_edges([point.pnl for point in points], 30)
    if ends[0] == ends[-1]:
        return [(ends[0] - 0.5, ends[0] + 0.5, len(points))]
    last = len(ends) - 1
    counts = Counter(min(bisect_right(ends, point.pnl), last) for point in points)
    return [(ends[place - 1], ends[place], counts[place]) for place in range(1, last + 1)]


def _keys(chosen: Selection) -> list[str]:
    """Return the keys that the signals of the latest trades have most, by alphabet."""
    pnl: Any = Trade.pnl
    query: Any = Trade.select(Signal.signal_metadata).join(Signal)
    query = query.where(pnl.is_null(False), *chosen.conditions())
    latest = query.order_by(Trade.timestamp.desc(), Trade.id.desc()).limit(LOOKED_AT)
    seen: Counter[str] = Counter()
    for (metadata,) in read.fetch(latest.tuples()):
        for key, value in flatten(metadata):
            named = isinstance(value, (bool, str)) and len(str(value)) <= LONGEST_NAME
            if key not in PRICE_KEYS and (is_number(value) or named) and all(key.split(".")):
                seen[key] += 1
    return sorted(key for key, _ in seen.most_common(MOST_KEYS) if '"' not in key)


def _prices(group: Group, filters: dict[str, Any], charts: int) -> tuple[dict[str, Any], str]:
    """Return the price chart of a symbol, and what was left out of it."""
    values = read.filters(Trade, **{**filters, "symbol": group.key})
    rows = list(read.stream_values(Trade, values, "price"))
    places = _charts.thinned([price for _, _, price in rows], MOST_FILLS // charts)
    ids = [rows[place][1] for place in places]
    fills = []
    for first in range(0, len(ids), 500):
        some: Any = Trade.id
        query = _with_signals().where(some.in_(ids[first : first + 500]))
        for trade in read.fetch(query.order_by(Trade.timestamp, Trade.id)):
            fills.append(
                Fill(
                    timestamp=trade.timestamp.isoformat(),
                    price=trade.price,
                    is_buy=trade.side is OrderSide.BUY,
                    text=_charts.fill_text(trade),
                )
            )
    return _charts.prices(fills), _charts.thinning(len(fills), len(rows))
