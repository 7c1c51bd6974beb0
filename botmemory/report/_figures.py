"""What the report shows: plain data, without a word on how it looks."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..analysis.performance import Drawdown, Performance
from ..analysis.returns import Returns
from ..analysis.round_trips import RoundTrip
from ..models import Trade
from ..repositories.positions import Position


@dataclass(frozen=True, kw_only=True)
class Part:
    """The result of the closed trades that have something in common, as `performance.by` has it."""

    key: Any
    closed_trades: int
    wins: int | None
    win_rate: float | None
    total_pnl: float | None
    profit_factor: float | None
    unknown: str | None


@dataclass(frozen=True)
class Steps:
    """A value over time, which changes at each of the times.

    Attributes:
        times: Seconds since 1970, ascending.
        values: The value from each time on.
    """

    times: Sequence[float] = field(default_factory=lambda: array("d"))
    values: Sequence[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """The results of one strategy; its name is None for trades without one."""

    name: str | None
    summary: Performance
    equity: Steps


@dataclass(frozen=True, kw_only=True)
class HoldingTime:
    """The round trips that were held at least `seconds`, and less than those of the next."""

    label: str
    result: Part


@dataclass(frozen=True, kw_only=True)
class Fills:
    """The fills of one symbol, in time order.

    Attributes:
        symbol: The symbol.
        total: The number of its fills, of which some may be left out here.
        times: Seconds since 1970.
        prices: The price of each.
        quantities: The quantity of each, below 0 if it is a sale.
        trades: The trades with their signals; empty where there are too many.
    """

    symbol: str
    total: int
    times: Sequence[float]
    prices: Sequence[float]
    quantities: Sequence[float]
    trades: Sequence[Trade] = ()


@dataclass(frozen=True, kw_only=True)
class Currency:
    """The results of the trades with PnL in one currency, "" for symbols that name none.

    Attributes:
        quote: The currency.
        summary: The result of the closed trades, which are recorded or follow from the fills.
        of_fills: The result of the round trips.
        start: The time of the first trade or opening, in seconds since 1970.
        end: That of the last trade.
        returns: The returns of the capital; None without one.
        daily_returns: The return of each day, by its date as text.
        no_returns: Why there are none though there is a capital.
        equity: The cumulative PnL; empty, as the next and the win rate, if some PnL is not known.
        drawdown: How far it is below its highest value so far.
        paid_fees: The sum of the fees of the round trips, valued in the currency; empty if they are
            not known.
        win_rate: The part of wins in the last `rolling` closed trades.
        exposure: The value at entry of the round trips that were open.
        time_in_market: The part of the time in which one was.
        pnls: The PnL of each closed trade.
        holding_times: The results of round trips by the time that they were held.
        held: The seconds that each round trip with a known PnL was held.
        net_pnls: The net PnL of each of these.
        trips: The round trips that were closed last, newest first, with the best and the worst.
        total_trips: The number of all round trips.
    """

    quote: str
    summary: Performance
    of_fills: Performance
    start: float
    end: float
    returns: Returns | None
    daily_returns: dict[str, float]
    no_returns: str | None
    equity: Steps
    drawdown: Steps
    paid_fees: Steps
    win_rate: Steps
    rolling: int
    exposure: Steps
    time_in_market: float | None
    drawdowns: list[Drawdown]
    strategies: list[Strategy]
    symbols: list[Part]
    directions: list[Part]
    months: list[Part]
    days: list[Part]
    hours: list[Part]
    pnls: Sequence[float]
    holding_times: list[HoldingTime]
    held: Sequence[float]
    net_pnls: Sequence[float]
    metadata: list[tuple[str, list[Part]]]
    positions: list[Position]
    trips: list[RoundTrip]
    total_trips: int
    best_trips: list[RoundTrip]
    worst_trips: list[RoundTrip]
    best_trades: list[Trade]
    worst_trades: list[Trade]
    fills: list[Fills]
    hidden_symbols: int


@dataclass(frozen=True)
class CashFlows:
    """The cash flows of one kind in one currency."""

    currency: str
    kind: str
    number: int
    total: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report shows.

    Attributes:
        database: The name of the database.
        created: When its rows were read.
        filters: The filters by name.
        currencies: The results, those of the currency with the most closed trades first.
        cash_flows: The sums of the cash flows.
        left_out: Symbols that name no currency, which are not added up.
    """

    database: str
    created: datetime
    filters: dict[str, Any]
    currencies: list[Currency]
    cash_flows: list[CashFlows]
    left_out: list[str]
