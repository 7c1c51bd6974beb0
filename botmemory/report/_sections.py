"""The sections of the report: the figures, charts and tables of each currency."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any, TypeVar

from peewee import JOIN, fn

from .._values import flatten
from ..analysis import attribution, performance
from ..analysis.attribution import PRICE_KEYS
from ..analysis.performance import EquityPoint, Group, Performance, Result
from ..analysis.ranges import bucket_of, is_number, round_edges
from ..analysis.round_trips import RoundTrip, round_trips
from ..analysis.selection import Selection, currencies, select
from ..models import CashFlow, Signal, Trade
from ..queries import read
from ..repositories import cash_flows, positions
from ..repositories.positions import Position
from ..symbols import quote_of
from . import _charts
from ._charts import Chart

Earning = TypeVar("Earning", bound=Result)

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
    best_trips: list[RoundTrip]
    worst_trips: list[RoundTrip]
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
    filters: dict[str, Any],
    quote: str | None,
    pnl: dict[str, Any],
    progress: Callable[[int, int], object] | None,
) -> Iterator[Section]:
    """Yield a section for each currency, or for the one that is given, in alphabetical order.

    `pnl` has the source and the rates of `performance`.
    """
    quotes = currencies(filters, quote)

    def done(before: int, parts: int) -> None:
        if progress is not None:
            progress(before * PARTS + parts, len(quotes) * PARTS)

    for number, currency in enumerate(quotes):
        yield _section(number, currency, filters, pnl, partial(done, number))
        done(number, PARTS)


def _section(
    number: int,
    quote: str,
    filters: dict[str, Any],
    pnl: dict[str, Any],
    done: Callable[[int], None],
) -> Section:
    selection = select(**filters, quote=quote)
    summary = performance.summarize(**filters, quote=quote, **pnl)
    arguments = {**filters, **pnl, "quote": quote, "source": summary.source}
    charts: list[Chart] = []

    def add(title: str, figure: dict[str, Any], note: str = "", *, wide: bool = False) -> None:
        charts.append(Chart(f"chart-{number}-{len(charts)}", title, figure, note, wide))
        done(len(charts))

    done(0)
    if summary.closed_trades and summary.total_pnl is not None:
        points = performance.equity_curve(**arguments)
        add("Equity curve and drawdown", *_charts.equity(points), wide=True)
        largest = sorted(_earned(performance.by("symbol", **arguments)), key=lambda g: -abs(g[1]))
        shown = sorted(largest[:MAX_SYMBOL_BARS], key=lambda group: -group[1])
        add("PnL by symbol", _charts.by_symbol(shown))
        add("PnL by month", _charts.by_month(_earned(performance.by("month", **arguments))))
        hours = _earned(performance.by("hour", **arguments))
        add("PnL by hour of the day (UTC)", _charts.by_hour(hours))
        add("PnL per trade", _charts.histogram(_histogram(points)))
        # a round trip is explained by why it was entered, a recorded PnL by the signal of its trade
        signal_of: Any = "exit" if summary.source == "recorded" else "entry"
        which = "signal" if summary.source == "recorded" else "entry signal"
        for key in _keys(selection):
            buckets = attribution.pnl_by_metadata(key, 10, **arguments, signal_of=signal_of)
            if earned := _earned(buckets):
                add(f"Win rate by the {which}'s {key}", _charts.win_rates(earned[:30]))
    symbols = performance.by("symbol", **filters, quote=quote, source="recorded")
    drawn = sorted(symbols, key=lambda group: -group.trades)[:MAX_PRICE_CHARTS]
    for group in drawn:
        add(f"{group.key}: trades and signals", *_prices(group, filters, len(drawn)), wide=True)
    symbol = filters["symbol"]
    open_positions = [
        position
        for position in positions.get_all(filters["strategy"], exchange=filters["exchange"])
        if quote_of(position.symbol) == selection.quote and symbol in (None, position.symbol)
    ]
    recorded: Any = Trade.pnl
    is_recorded = summary.source == "recorded"
    best_trips, worst_trips = ([], []) if is_recorded else _best_and_worst(filters, quote, pnl)
    return Section(
        quote=quote,
        summary=summary,
        positions=open_positions,
        charts=charts,
        best=_first_trades(selection, recorded > 0, recorded.desc()) if is_recorded else [],
        worst=_first_trades(selection, recorded < 0, recorded.asc()) if is_recorded else [],
        best_trips=best_trips,
        worst_trips=worst_trips,
        hidden_symbols=len(symbols) - len(drawn),
    )


def _earned(results: Iterable[Earning]) -> list[tuple[Earning, float]]:
    """Return the results with a known PnL, and that."""
    return [(result, result.total_pnl) for result in results if result.total_pnl is not None]


def _best_and_worst(
    filters: dict[str, Any], quote: str, pnl: dict[str, Any]
) -> tuple[list[RoundTrip], list[RoundTrip]]:
    """Return the round trips that earned most, and those that lost most."""
    best: list[tuple[float, int, RoundTrip]] = []
    worst: list[tuple[float, int, RoundTrip]] = []
    trips = round_trips(**filters, quote=quote, rates=pnl["rates"])
    for number, trip in enumerate(trips):
        if trip.net_pnl:
            heap, amount = (best, trip.net_pnl) if trip.net_pnl > 0 else (worst, -trip.net_pnl)
            heappush(heap, (amount, -number, trip))  # of equal ones the first
            if len(heap) > TRADES_PER_TABLE:
                heappop(heap)
    in_order = ([trip for *_, trip in sorted(heap, reverse=True)] for heap in (best, worst))
    return next(in_order), next(in_order)


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
    query: Any = Trade.select(Signal.signal_metadata).join(Signal)
    query = query.where(*selection.conditions())
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
