"""The sections of the report: the figures, charts and tables of each currency."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from peewee import JOIN, fn

from .._values import flatten
from ..analysis import attribution, performance
from ..analysis.attribution import PRICE_KEYS
from ..analysis.performance import EquityPoint, Group, Performance
from ..analysis.ranges import bucket_of, is_number, round_edges
from ..analysis.selection import Selection, currencies, select
from ..models import CashFlow, Signal, Trade
from ..queries import read
from ..repositories import cash_flows, positions
from ..repositories.positions import Position
from ..symbols import quote_of
from . import _charts
from ._charts import Chart

MAX_PRICE_CHARTS = 12
MAX_SYMBOL_BARS = 24
MAX_FILLS = 6000  # on all price charts together
MAX_KEYS = 6  # of the metadata of signals
TRADES_FOR_KEYS = 1000  # the latest ones, whose signals are searched for keys
MAX_CATEGORY_LENGTH = 40
TRADES_PER_TABLE = 10
ROWS_PER_READ = 500
PARTS = 6 + MAX_KEYS + MAX_PRICE_CHARTS  # of a section, at most


@dataclass(frozen=True)
class Section:
    """The results of the trades in one currency."""

    quote: str
    summary: Performance
    positions: list[Position]
    charts: list[Chart]
    best: list[Trade]
    worst: list[Trade]
    hidden_symbols: int


@dataclass(frozen=True)
class CashFlows:
    """The cash flows of one kind in one currency."""

    currency: str
    kind: str
    number: int
    total: float


def cash_flow_totals(filters: dict[str, Any], quote: str | None) -> list[CashFlows]:
    """Return the cash flows, of all currencies or one, in the order of currency and kind."""
    currency: Any = CashFlow.currency
    kind: Any = CashFlow.kind
    conditions = read.conditions(CashFlow, values := read.filters(CashFlow, **filters), values)
    query = read.select(CashFlow, conditions, currency, kind, fn.COUNT(CashFlow.id))
    groups = sorted(read.fetch(query.group_by(currency, kind).tuples()))
    return [
        CashFlows(name, of_kind, number, cash_flows.get_total(name, kind=of_kind, **filters))
        for name, of_kind, number in groups
        if quote in (None, name)
    ]


def report_sections(
    filters: dict[str, Any], quote: str | None, progress: Callable[[int, int], object] | None
) -> Iterator[Section]:
    """Yield a section for each currency, or for the one that is given, in alphabetical order."""
    quotes = currencies(filters, quote)

    def done(before: int, parts: int) -> None:
        if progress is not None:
            progress(before * PARTS + parts, len(quotes) * PARTS)

    for number, currency in enumerate(quotes):
        yield _section(number, currency, filters, partial(done, number))
        done(number, PARTS)


def _section(
    number: int, quote: str, filters: dict[str, Any], done: Callable[[int], None]
) -> Section:
    filters_with_quote = {**filters, "quote": quote}
    selection = select(**filters_with_quote)
    points = performance.equity_curve(**filters_with_quote)
    symbols = performance.by("symbol", **filters_with_quote)
    charts: list[Chart] = []

    def add(title: str, figure: dict[str, Any], note: str = "", *, wide: bool = False) -> None:
        charts.append(Chart(f"chart-{number}-{len(charts)}", title, figure, note, wide))
        done(len(charts))

    done(0)
    if points:
        add("Equity curve and drawdown", *_charts.equity(points), wide=True)
        largest = sorted(symbols, key=lambda group: -abs(group.total_pnl))[:MAX_SYMBOL_BARS]
        largest.sort(key=lambda group: -group.total_pnl)
        add("PnL by symbol", _charts.by_symbol(largest))
        add("PnL by month", _charts.by_month(performance.by("month", **filters_with_quote)))
        add(
            "PnL by hour of the day (UTC)",
            _charts.by_hour(performance.by("hour", **filters_with_quote)),
        )
        add("PnL per trade", _charts.histogram(_histogram(points)))
        for key in _keys(selection):
            buckets = attribution.pnl_by_metadata(key, 10, **filters_with_quote)
            closed = [bucket for bucket in buckets if bucket.closed_trades]
            if closed:
                add(f"Win rate by the signal's {key}", _charts.win_rates(closed[:30]))
    drawn = sorted(symbols, key=lambda group: -group.trades)[:MAX_PRICE_CHARTS]
    for group in drawn:
        add(f"{group.key}: trades and signals", *_prices(group, filters, len(drawn)), wide=True)
    symbol = filters["symbol"]
    open_positions = [
        position
        for position in positions.get_all(filters["strategy"], exchange=filters["exchange"])
        if quote_of(position.symbol) == selection.quote and symbol in (None, position.symbol)
    ]
    pnl: Any = Trade.pnl
    return Section(
        quote=quote,
        summary=performance.summarize(**filters_with_quote),
        positions=open_positions,
        charts=charts,
        best=_first_trades(selection, pnl > 0, pnl.desc()),
        worst=_first_trades(selection, pnl < 0, pnl.asc()),
        hidden_symbols=len(symbols) - len(drawn),
    )


def _first_trades(selection: Selection, condition: Any, order: Any) -> list[Trade]:
    query = _trades_with_signals().where(condition, *selection.conditions())
    return read.fetch(query.order_by(order, Trade.id).limit(TRADES_PER_TABLE))


def _trades_with_signals() -> Any:
    return Trade.select(Trade, Signal).join(Signal, JOIN.LEFT_OUTER)


def _histogram(points: list[EquityPoint]) -> list[tuple[float, float, int]]:
    """Return the edges of ranges of PnL, and the number of trades in each."""
    edges = round_edges([point.pnl for point in points], 30)
    if edges[0] == edges[-1]:
        return [(edges[0] - 0.5, edges[0] + 0.5, len(points))]
    counts = Counter(bucket_of(point.pnl, edges, closed=True) for point in points)
    return [(low, high, counts[0, index]) for index, (low, high) in enumerate(pairwise(edges), 1)]


def _keys(selection: Selection) -> list[str]:
    """Return the most frequent keys in the signals of the latest trades, in alphabetical order."""
    pnl: Any = Trade.pnl
    query: Any = Trade.select(Signal.signal_metadata).join(Signal)
    query = query.where(pnl.is_null(False), *selection.conditions())
    latest = query.order_by(Trade.timestamp.desc(), Trade.id.desc()).limit(TRADES_FOR_KEYS)
    counts: Counter[str] = Counter()
    for (metadata,) in read.fetch(latest.tuples()):
        for key, value in flatten(metadata):
            short = isinstance(value, (bool, str)) and len(str(value)) <= MAX_CATEGORY_LENGTH
            if key not in PRICE_KEYS and (is_number(value) or short) and all(key.split(".")):
                counts[key] += 1
    return sorted(key for key, _ in counts.most_common(MAX_KEYS) if '"' not in key)


def _prices(group: Group, filters: dict[str, Any], charts: int) -> tuple[dict[str, Any], str]:
    """Return the price chart of a symbol, and a note on what it leaves out."""
    values = read.filters(Trade, **{**filters, "symbol": group.key})
    rows = list(read.stream_values(Trade, values, "price"))
    kept = _charts.downsample([price for _, _, price in rows], MAX_FILLS // charts)
    trades = _trades([rows[index][1] for index in kept])
    return _charts.prices(trades), _charts.downsampling_note(len(kept), len(rows))


def _trades(ids: list[uuid.UUID]) -> Iterator[Trade]:
    """Yield the trades with these ids, which are in time order, reading a few at a time."""
    field: Any = Trade.id
    for first in range(0, len(ids), ROWS_PER_READ):
        query = _trades_with_signals().where(field.in_(ids[first : first + ROWS_PER_READ]))
        yield from read.fetch(query.order_by(Trade.timestamp, Trade.id))
