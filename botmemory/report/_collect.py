"""Collect what the report shows: the round trips are read once, for all currencies together.

The sums are those of `analysis`, added up by the same code.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from heapq import heappush, heappushpop
from itertools import accumulate, repeat
from operator import itemgetter, neg
from pathlib import Path
from typing import Any, Literal, SupportsFloat

from peewee import JOIN, SQL, fn

from .. import exact
from .._values import checked_rates, flatten, plain_text
from ..analysis import returns
from ..analysis.attribution import PRICE_KEYS, metadata_value
from ..analysis.dimensions import TIME_KEYS, direction_of
from ..analysis.performance import Closed, Performance, Totals
from ..analysis.ranges import bucket_bounds, bucket_of, is_number, round_edges
from ..analysis.results import Source, Sums, result_fields
from ..analysis.round_trips import SIGNAL, add_tags, round_trip_of
from ..analysis.selection import (
    Selection,
    choose_source,
    currencies,
    quotes_of,
    select,
    trades_of,
)
from ..database import db
from ..errors import ValidationError
from ..models import CashFlow, Signal, Trade
from ..queries import read
from ..queries.trips import Trip, place_of, read_trips, timestamp_of
from ..repositories import cash_flows, positions
from ..symbols import quote_of
from ._downsample import downsample
from ._figures import (
    CashFlows,
    Currency,
    Fills,
    HoldingTime,
    Part,
    Report,
    Steps,
    Strategy,
)

__all__ = ["Capital", "collect"]

Capital = SupportsFloat | Mapping[str, SupportsFloat | None] | Literal["deposits"]

MAX_SYMBOLS = 12  # with a price chart, of all currencies together
MAX_FILLS = 50_000  # on all price charts together
MAX_FILLS_WITH_SIGNALS = 3_000
MAX_TRIPS = 24_000  # in all tables together
MAX_KEYS = 6  # of the metadata of signals
TRADES_FOR_KEYS = 1000  # the latest ones, whose signals are searched for keys
MAX_CATEGORY_LENGTH = 40
DRAWDOWNS = 5
TRADES_PER_TABLE = 10
ROLLING = 50  # closed trades in a rolling win rate; fewer where there are few, more of many
# the lower bounds of holding times, in seconds, and the labels of the ranges
HOLDING_TIMES = (
    (0, "under 1 minute"),
    (60, "1 to 5 minutes"),
    (300, "5 to 15 minutes"),
    (900, "15 to 60 minutes"),
    (3_600, "1 to 4 hours"),
    (14_400, "4 to 12 hours"),
    (43_200, "12 to 24 hours"),
    (86_400, "1 to 3 days"),
    (259_200, "3 to 7 days"),
    (604_800, "1 to 4 weeks"),
    (2_419_200, "4 weeks or more"),
)
TIMES = ("month", "day", "hour")
LOWER_BOUNDS = [seconds for seconds, _ in HOLDING_TIMES]


def collect(
    filters: dict[str, Any],
    quote: str | None,
    source: Source | None,
    rates: Mapping[str, float] | None,
    capital: Capital | None,
    progress: Callable[[int, int], object] | None,
) -> Report:
    """Return what the report shows of the trades that the filters match, in one snapshot.

    The arguments are those of `write_report`.
    """
    known_rates = checked_rates(rates)
    with db.read_snapshot():
        created = datetime.now(UTC)
        quotes, left_out = _quotes(filters, quote)
        collectors = _collectors(filters, quotes, source)
        capitals = _capitals(capital, list(collectors))
        total = sum(each.trades.total() for each in collectors.values())
        _read_round_trips(filters, quote, collectors, known_rates, progress, total)
        for each in collectors.values():
            if each.source == "recorded":
                each.read_trades()
        counts: Counter[str] = sum((each.trades for each in collectors.values()), Counter())
        drawn = dict(counts.most_common(MAX_SYMBOLS))
        closed = sum(each.of_fills.sums.closed for each in collectors.values())
        found = []
        for each in collectors.values():
            max_trips = max(100, MAX_TRIPS * each.of_fills.sums.closed // max(closed, 1))
            found.append(_currency(each, filters, rates, capitals, drawn, max_trips))
        flows = _cash_flow_totals(filters, quote)
    found.sort(key=lambda currency: (-currency.summary.closed_trades, -currency.summary.trades))
    if progress is not None:
        progress(total + 1, total + 1)
    label = db.config.label
    return Report(
        database=Path(label).name if db.config.backend == "sqlite" else label,
        created=created,
        filters={
            name: plain_text(value) if isinstance(value, str) else value
            for name, value in {**filters, "quote": quote or None}.items()
            if value is not None
        },
        currencies=found,
        cash_flows=flows,
        left_out=left_out,
    )


def _quotes(filters: dict[str, Any], quote: str | None) -> tuple[list[str], list[str]]:
    """Return the currencies that have a section, and the symbols that are left out.

    Several symbols that name no currency are left out where others name one.
    """
    symbols = read.distinct(Trade, "symbol", read.filters(Trade, **filters))
    nameless = sorted(symbol for symbol in symbols if not quote_of(symbol))
    named = [each for each in quotes_of(symbols) if each]
    if quote is None and named and len(nameless) > 1:
        return named, nameless
    return currencies(filters, quote), []


def _collectors(
    filters: dict[str, Any], quotes: list[str], source: Source | None
) -> dict[str, _Collector]:
    """Return what collects the results of each currency, with the numbers of its trades."""
    collectors = {}
    for name in quotes:
        selection = select(**filters, quote=name)
        collector = _Collector(name, selection, choose_source(selection, source))
        if collector.trades:
            collectors[name] = collector
    return collectors


def _capitals(capital: Capital | None, quotes: list[str]) -> dict[str, SupportsFloat | None]:
    """Return the capital in each currency that has one; None for the recorded deposits."""
    if capital is None:
        return {}
    if isinstance(capital, str):
        if capital != "deposits":
            raise ValidationError(
                f"capital: {capital!r} is neither an amount nor 'deposits'", field="capital"
            )
        return dict.fromkeys(quotes)
    if isinstance(capital, Mapping):
        if unknown := sorted(name for name in capital if name not in quotes):
            raise ValidationError(
                f"capital: no trade is in {unknown[0]!r}; use one of {', '.join(quotes)}",
                field="capital",
            )
        return dict(capital)
    if len(quotes) > 1:
        raise ValidationError(
            f"capital: the PnL is in {', '.join(map(repr, quotes))}; pass a capital for each "
            f"currency, such as {{{quotes[0]!r}: 1000}}, or one of them as quote=",
            field="capital",
        )
    return dict.fromkeys(quotes, capital)


def _read_round_trips(
    filters: dict[str, Any],
    quote: str | None,
    collectors: dict[str, _Collector],
    rates: Mapping[str, float],
    progress: Callable[[int, int], object] | None,
    total: int,
) -> None:
    """Add all round trips to the results of their currencies."""
    selection = select(**filters, quote=quote, one_currency=False)
    columns = ("signal", "trade_metadata")
    seen = 0
    for number, trip in enumerate(
        read_trips(
            selection.filters, selection.symbols, *columns,
            has_prices=True, note=add_tags, include_open=True,
        )
    ):  # fmt: skip
        # a trip that was opened before may be of a currency without trades since
        collector = collectors.get(trip.instrument.currency or "")
        if collector is not None:
            collector.add_trip(trip, rates)
        seen += trip.fills
        if progress is not None and number % 1000 == 0:
            progress(min(seen, total), total + 1)


class _Collector:
    """Adds up what the report shows of one currency.

    Attributes:
        trades: The number of trades of each symbol, also of those that have closed nothing.
        span: The times of the first and of the last trade of each symbol and strategy.
    """

    def __init__(self, quote: str, selection: Selection, source: Source) -> None:
        self.quote, self.selection = quote, selection
        self.source: Source = source
        self.totals = Totals(DRAWDOWNS)
        self.of_fills = self.totals if source == "fills" else Totals()
        self.strategies: defaultdict[str | None, Totals] = defaultdict(Totals)
        self.parts: dict[str, defaultdict[Any, Sums]] = {
            name: defaultdict(Sums) for name in ("symbol", "direction", *TIMES)
        }
        self.times, self.pnls, self.equities, self.drawdowns = (array("d") for _ in range(4))
        self.curves: defaultdict[str | None, tuple[array[float], array[float]]]
        self.curves = defaultdict(lambda: (array("d"), array("d")))
        # of each round trip; of those that are open, the time of the close is infinite
        self.opened, self.closed, self.entry_values = (array("d") for _ in range(3))
        self.paid_fees = array("d")
        self._paid = exact.ZERO
        # of those with a known PnL
        self.held, self.net_pnls = array("d"), array("d")
        self.holding_times = [Sums() for _ in HOLDING_TIMES]
        self.latest: deque[Trip] = deque(maxlen=MAX_TRIPS)
        self.best: list[tuple[Decimal, int, Trip]] = []
        self.worst: list[tuple[Decimal, int, Trip]] = []
        self.trades: Counter[str] = Counter()
        self.span: list[float] = []
        self._count_trades()
        self.metadata = _Metadata(selection)

    def _count_trades(self) -> None:
        fields: Any = (Trade.symbol, Trade.strategy)
        columns = (
            fn.COUNT(SQL("*")),
            fn.COUNT(Trade.pnl),
            fn.MIN(Trade.timestamp),
            fn.MAX(Trade.timestamp),
        )
        query = read.select(Trade, self.selection.conditions(), *fields, *columns)
        for row in read.fetch(query.group_by(*fields).tuples()):
            symbol, strategy, trades, with_pnl, *span = row
            self.span += [time.timestamp() for time in span]
            self.trades[symbol] += trades
            sums = [self.of_fills.sums]
            if self.source == "fills":  # recorded ones are counted when they are read
                sums.append(self.strategies[strategy].sums)
            for each in sums:
                each.trades += trades
                each.with_pnl += with_pnl

    def add_trip(self, trip: Trip, rates: Mapping[str, float]) -> None:
        """Add a round trip: to the results, too, if these are those of the fills."""
        opened_at = timestamp_of(trip.first)
        opened = opened_at.timestamp()
        self.opened.append(opened)
        self.entry_values.append(abs(float(trip.entry_value)) * trip.contract_size)
        if not trip.is_closed:
            self.closed.append(math.inf)
            return
        closed_at = timestamp_of(trip.last)
        held = closed_at.timestamp() - opened
        self.closed.append(opened + held)
        result = trip.result(rates)
        holding_time = self.holding_times[bisect_right(LOWER_BOUNDS, held) - 1]
        _add_pnl(holding_time, result.net, result.unknown)
        if result.net is not None:
            self.held.append(held)
            self.net_pnls.append(float(result.net))
            self._keep(trip, result.net)
        if result.net is not None and result.gross is not None and result.funding is not None:
            fee = exact.subtract(exact.add(result.gross, result.funding), result.net)
            self._paid = exact.add(self._paid, fee)
        self.paid_fees.append(float(self._paid) + 0.0)
        self.latest.append(trip)
        closed = Closed(closed_at, None, result.net, trip.key[0], result.unknown, opened_at)

        def add(sums: Sums) -> None:
            sums.add_round_trip(trip, result)

        if self.source == "recorded":
            add(self.of_fills.sums)
            self.of_fills.add(closed)
        else:
            direction = "long" if trip.is_long else "short"
            self._add(closed, trip.key[2], direction, trip.first[SIGNAL], add)

    def _keep(self, trip: Trip, net: Decimal) -> None:
        """Keep a round trip if it is one of the best or of the worst, of equal ones the first."""
        for heap, amount in ((self.best, net), (self.worst, -net)):
            if amount > 0:
                item = (amount, -len(self.closed), trip)
                if len(heap) < TRADES_PER_TABLE:
                    heappush(heap, item)
                else:
                    heappushpop(heap, item)

    def read_trades(self) -> None:
        """Add the trades as they were recorded."""
        fields = ("pnl", "fee", "fee_currency", "side", "symbol", "strategy", "signal")
        for timestamp, _, *values in trades_of(self.selection, *fields):
            pnl, fee, currency, side, symbol, strategy, signal = values
            amount = None if pnl is None else exact.to_decimal(pnl)
            closed = Closed(timestamp, None, amount, symbol)

            def add(
                sums: Sums,
                pnl: float | None = pnl,
                fee: float | None = fee,
                currency: str | None = currency,
            ) -> None:
                sums.add_trade(pnl, fee, currency)

            self._add(closed, strategy, direction_of(side, pnl), signal, add)

    def _add(
        self,
        closed: Closed,
        strategy: str | None,
        direction: str,
        signal_id: int | None,
        add: Callable[[Sums], object],
    ) -> None:
        """Add a closed trade, or with recorded PnL one that has closed nothing."""
        of_strategy = self.strategies[strategy]
        add(self.totals.sums)
        add(of_strategy.sums)
        if closed.pnl is None and self.source == "recorded":
            return
        pnl, unknown, parts = closed.pnl, closed.unknown, self.parts
        _add_pnl(parts["symbol"][closed.symbol], pnl, unknown)
        _add_pnl(parts["direction"][direction], pnl, unknown)
        for name in TIMES:
            _add_pnl(parts[name][TIME_KEYS[name](closed.timestamp)], pnl, unknown)
        for sums in self.metadata.sums_of(signal_id):
            _add_pnl(sums, pnl, unknown)
        drawdown = self.totals.add(closed)
        of_strategy.add(closed)
        if closed.pnl is not None and drawdown is not None:
            time = closed.timestamp.timestamp()
            self.times.append(time)
            self.pnls.append(float(closed.pnl))
            self.equities.append(exact.to_float("pnl", self.totals.curve.equity))
            self.drawdowns.append(exact.to_float("pnl", drawdown))
            times, equities = self.curves[strategy]
            times.append(time)
            equities.append(exact.to_float("pnl", of_strategy.curve.equity))


def _add_pnl(sums: Sums, pnl: Decimal | None, unknown: str | None) -> None:
    """Add the PnL of a closed trade alone, without its fees."""
    if pnl is None:
        sums.closed += 1
        sums.unknown = sums.unknown or unknown
    else:
        sums.add(pnl)


# --- the figures of a currency ------------------------------------------------------------------


def _currency(
    of: _Collector,
    filters: dict[str, Any],
    rates: Mapping[str, float] | None,
    capitals: Mapping[str, SupportsFloat | None],
    drawn: Mapping[str, int],
    max_trips: int,
) -> Currency:
    quote, source = of.selection.quote, of.source
    summary = of.totals.performance(quote, source)
    is_known = summary.total_pnl is not None
    closing_times = array("d", (time for time in of.closed if time < math.inf))
    are_fees_known = of.of_fills.sums.unknown is None
    start, end = min([*of.opened, *of.span]), max(of.span)
    strategies = [
        _strategy(name, totals.performance(quote, source), Steps(*of.curves[name]))
        for name, totals in of.strategies.items()
    ]
    strategies.sort(key=lambda each: (-each.summary.closed_trades, each.name or ""))
    arguments = {**filters, "quote": of.quote, "source": source, "rates": rates}
    daily_returns, found_returns, no_returns = {}, None, None
    if of.quote in capitals and is_known:
        try:
            days = returns.days_of(arguments, capitals[of.quote], None)
            daily_returns = {f"{day:%Y-%m-%d}": float(part) for day, part in days.returns.items()}
            found_returns = returns.summary_of(days) if days.returns else None
        except ValidationError as error:
            no_returns = str(error)
    number = len(of.pnls)
    rolling = max(min(ROLLING, max(5, number // 5)), min(10 * ROLLING, number // 50))
    exposure, time_in_market = _exposure(of, start, end)
    symbol = filters["symbol"]
    best, worst = (
        [trip for *_, trip in sorted(heap, reverse=True)] for heap in (of.best, of.worst)
    )
    known_rates = checked_rates(rates)
    kept = {id(trip): trip for trip in (*list(of.latest)[-max_trips:], *best, *worst)}
    of_table = sorted(kept.values(), key=lambda trip: place_of(trip.last), reverse=True)
    trips = {id(trip): round_trip_of(trip, known_rates) for trip in of_table}
    recorded: Any = Trade.pnl
    is_recorded = source == "recorded"
    fills = [
        _fills(name, number, filters, drawn)
        for name, number in of.trades.most_common()
        if name in drawn
    ]
    return Currency(
        quote=of.quote,
        summary=summary,
        of_fills=of.of_fills.performance(quote, "fills"),
        start=start,
        end=end,
        returns=found_returns,
        daily_returns=daily_returns,
        no_returns=no_returns,
        equity=Steps(of.times, of.equities) if is_known else Steps(),
        drawdown=Steps(of.times, of.drawdowns) if is_known else Steps(),
        paid_fees=Steps(closing_times, of.paid_fees) if are_fees_known else Steps(),
        win_rate=_rolling_win_rate(of.times, of.pnls, rolling) if is_known else Steps(),
        rolling=rolling,
        exposure=exposure,
        time_in_market=time_in_market,
        drawdowns=of.totals.curve.drawdowns() if is_known else [],
        strategies=strategies,
        symbols=_parts(of.parts["symbol"], quote, source),
        directions=_parts(of.parts["direction"], quote, source),
        months=_time_parts(of, "month"),
        days=_time_parts(of, "day"),
        hours=_time_parts(of, "hour"),
        pnls=of.pnls,
        holding_times=[
            HoldingTime(label=label, result=_part(label, sums, quote, "fills"))
            for (_, label), sums in zip(HOLDING_TIMES, of.holding_times, strict=True)
        ],
        held=of.held,
        net_pnls=of.net_pnls,
        metadata=of.metadata.results(quote, source),
        positions=[
            position
            for position in positions.get_all(filters["strategy"], exchange=filters["exchange"])
            if quote_of(position.symbol) == quote and symbol in (None, position.symbol)
        ],
        trips=list(trips.values()),
        total_trips=of.of_fills.sums.closed,
        best_trips=[trips[id(trip)] for trip in best],
        worst_trips=[trips[id(trip)] for trip in worst],
        best_trades=_first_trades(of.selection, recorded > 0, recorded.desc())
        if is_recorded
        else [],
        worst_trades=_first_trades(of.selection, recorded < 0, recorded.asc())
        if is_recorded
        else [],
        fills=fills,
        hidden_symbols=len(of.trades) - len(fills),
    )


def _strategy(name: str | None, summary: Performance, equity: Steps) -> Strategy:
    """Return the results of a strategy, without a curve where some of its PnL is not known."""
    is_known = summary.total_pnl is not None
    return Strategy(name=name, summary=summary, equity=equity if is_known else Steps())


def _part(key: Any, sums: Sums, quote: str | None, source: Source) -> Part:
    fields = result_fields(quote, source, sums)
    names = ("closed_trades", "wins", "win_rate", "total_pnl", "profit_factor", "unknown")
    return Part(key=key, **{name: fields[name] for name in names})


def _parts(sums: Mapping[Any, Sums], quote: str | None, source: Source) -> list[Part]:
    """Return the results of parts, those that earned or lost most first."""
    parts = [_part(key, each, quote, source) for key, each in sums.items()]
    return sorted(parts, key=lambda part: (-abs(part.total_pnl or 0.0), part.key))


def _time_parts(of: _Collector, name: str) -> list[Part]:
    """Return the results of spans of time, in their order."""
    sums = sorted(of.parts[name].items())
    return [_part(key, each, of.selection.quote, of.source) for (_, key), each in sums]


def _rolling_win_rate(times: Any, pnls: Any, window: int) -> Steps:
    """Return the part of wins in the closed trades up to each, once there are enough."""
    wins = list(accumulate((pnl > 0 for pnl in pnls), initial=0))
    rates = array("d", ((wins[n] - wins[n - window]) / window for n in range(window, len(wins))))
    return Steps(times[window - 1 :], rates)


def _exposure(of: _Collector, start: float, end: float) -> tuple[Steps, float | None]:
    """Return the value at entry of what was open, and the part of the time in which it was."""
    changes = sorted(
        [
            *zip(of.opened, of.entry_values, repeat(1)),
            *zip(of.closed, map(neg, of.entry_values), repeat(-1)),
        ],
        key=itemgetter(0),
    )
    values: dict[float, float] = {}
    value, number, in_market, last = 0.0, 0, 0.0, start
    for time, change, opened in changes:
        if time == math.inf:
            break
        if number:
            in_market += time - last
        last, number = time, number + opened
        value = value + change if number else 0.0  # what rounding leaves is not carried on
        values[time] = max(0.0, value)
    if number:
        in_market += end - last
    steps = Steps(array("d", values.keys()), array("d", values.values()))
    return steps, in_market / (end - start) if end > start else None


class _Metadata:
    """The results by the values in the signals of closed trades.

    Of a round trip it is the signal of the entry, of a recorded PnL that of its trade.
    """

    def __init__(self, selection: Selection) -> None:
        self._keys = _frequent_keys(selection)
        values = _values_of_signals(self._keys, selection)
        self._edges: list[list[float]] = []
        for place in range(len(self._keys)):
            numbers = [row[place] for row in values.values() if is_number(row[place])]
            self._edges.append(round_edges(numbers, 10) if numbers else [])
        self._sums: list[defaultdict[Any, Sums]] = [defaultdict(Sums) for _ in self._keys]
        self._buckets = {number: self._buckets_of(row) for number, row in values.items()}

    def _buckets_of(self, values: Sequence[Any]) -> list[tuple[int, Any]]:
        """Return for each value the place of its key, and its range or its category."""
        return [
            (place, bucket_of(value, self._edges[place], closed=True))
            for place, value in enumerate(values)
            if value is not None
        ]

    def sums_of(self, signal_id: int | None) -> Iterator[Sums]:
        """Yield what a closed trade with this signal is added to."""
        for place, bucket in self._buckets.get(signal_id, ()) if signal_id is not None else ():
            yield self._sums[place][bucket]

    def results(self, quote: str | None, source: Source) -> list[tuple[str, list[Part]]]:
        """Return the results for each key, in the order of the ranges and categories."""
        return [
            (
                key,
                [
                    _part(bucket_bounds(bucket, edges)["label"], each, quote, source)
                    for bucket, each in sorted(sums.items(), key=itemgetter(0))
                ],
            )
            for key, edges, sums in zip(self._keys, self._edges, self._sums, strict=True)
            if sums
        ]


def _frequent_keys(selection: Selection) -> list[str]:
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


def _values_of_signals(keys: list[str], selection: Selection) -> dict[int, tuple[Any, ...]]:
    """Return the values in each signal of a trade, of any time, by the number of the signal."""
    if not keys:
        return {}
    signal: Any = Trade.signal
    conditions = [*selection.at_any_time().conditions(), signal.is_null(False)]
    ids = Trade.select(signal).where(*conditions)
    columns = (metadata_value(key)[0] for key in keys)
    signal_id: Any = Signal.id
    query: Any = Signal.select(signal_id, *columns).where(signal_id.in_(ids))
    return {number: tuple(values) for number, *values in read.stream_query(query.tuples())}


def _first_trades(selection: Selection, condition: Any, order: Any) -> list[Trade]:
    query = _trades_with_signals().where(condition, *selection.conditions())
    return read.fetch(query.order_by(order, Trade.id).limit(TRADES_PER_TABLE))


def _trades_with_signals() -> Any:
    return Trade.select(Trade, Signal).join(Signal, JOIN.LEFT_OUTER)


def _fills(symbol: str, total: int, filters: dict[str, Any], drawn: Mapping[str, int]) -> Fills:
    """Return the fills of a symbol; of many, the highest and lowest prices of each part."""
    values = read.filters(Trade, **{**filters, "symbol": symbol})
    all_drawn = sum(drawn.values())
    if all_drawn <= MAX_FILLS_WITH_SIGNALS:
        trades = list(_trades_with_signals_of(values))
        return Fills(
            symbol=symbol,
            total=total,
            times=[trade.timestamp.timestamp() for trade in trades],
            prices=[trade.price for trade in trades],
            quantities=[
                trade.quantity if trade.side == "buy" else -trade.quantity for trade in trades
            ],
            trades=trades,
        )
    times, prices, quantities = array("d"), array("d"), array("d")
    rows = read.stream_values(Trade, values, "price", "side", "quantity")
    for timestamp, _, price, side, quantity in rows:
        times.append(timestamp.timestamp())
        prices.append(price)
        quantities.append(quantity if side == "buy" else -quantity)
    kept = downsample(prices, max(200, MAX_FILLS * total // all_drawn))
    return Fills(
        symbol=symbol,
        total=total,
        times=[times[index] for index in kept],
        prices=[prices[index] for index in kept],
        quantities=[quantities[index] for index in kept],
    )


def _trades_with_signals_of(values: dict[str, Any]) -> list[Trade]:
    query = _trades_with_signals().where(*read.conditions(Trade, values, values))
    return read.fetch(query.order_by(Trade.timestamp, Trade.id))


def _cash_flow_totals(filters: dict[str, Any], quote: str | None) -> list[CashFlows]:
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
