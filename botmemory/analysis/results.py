"""The figures of closed trades, and how they follow from sums."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from .. import exact
from ..exact import to_float
from ..queries import trips

Source = Literal["recorded", "fills"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What closed trades have earned, in the currency `quote`.

    Each figure is defined in the guide [Accounting](../accounting.md). What counts as a closed
    trade depends on `source`: with `"recorded"` a trade with a `pnl`, as it was recorded; with
    `"fills"` a round trip, of which the net PnL counts. Figures of the PnL are None without closed
    trades, or if the net PnL of a round trip is not known.

    Attributes:
        quote: The currency; None if the symbols name none.
        source: Where the PnL comes from.
        trades: The number of trades.
        trades_with_pnl: The number of trades with a recorded `pnl`.
        closed_trades: The number of closed trades.
        wins: The number of closed trades with a PnL above 0.
        losses: The number of closed trades with a PnL below 0.
        win_rate: wins / closed trades.
        gross_profit: The sum of the PnL of the wins.
        gross_loss: The sum of the PnL of the losses, 0 or below.
        profit_factor: gross profit / |gross loss| (Kaufman, Trading Systems and Methods); None
            without losses, or if it is larger than a float can hold.
        average_win: gross profit / wins; None without wins.
        average_loss: gross loss / losses, below 0; None without losses.
        payoff_ratio: average win / |average loss|; None without wins or without losses.
        expectancy: win rate x average win + loss rate x average loss: what a closed trade earns on
            average (Tharp, Trade Your Way to Financial Freedom).
        expectancy_ratio: expectancy / |average loss| (Tharp); None without losses.
        total_pnl: gross profit + gross loss.
        best: The highest PnL of a closed trade.
        worst: The lowest PnL of a closed trade.
        gross_pnl: The PnL of the round trips without fees and funding; None if it is not known, and
            for recorded PnL.
        fees: The sums of the fees by currency (None for fees without one): of the round trips, or
            of all trades.
        funding: The funding of the round trips; None if it is not known, and for recorded PnL.
        net_pnl: gross PnL less fees, and with funding; None as for `gross_pnl`.
        unknown: Why figures of the PnL are None; None if they are known.
    """

    quote: str | None
    source: Source
    trades: int
    trades_with_pnl: int
    closed_trades: int
    wins: int | None
    losses: int | None
    win_rate: float | None
    gross_profit: float | None
    gross_loss: float | None
    profit_factor: float | None
    average_win: float | None
    average_loss: float | None
    payoff_ratio: float | None
    expectancy: float | None
    expectancy_ratio: float | None
    total_pnl: float | None
    best: float | None
    worst: float | None
    gross_pnl: float | None
    fees: dict[str | None, float] = field(hash=False)
    funding: float | None
    net_pnl: float | None
    unknown: str | None


@dataclass
class Sums:
    """What is added up of a set of closed trades; the amounts are exact."""

    trades: int = 0
    with_pnl: int = 0
    closed: int = 0
    wins: int = 0
    losses: int = 0
    best: Decimal | None = None
    worst: Decimal | None = None
    gross_profit: Decimal = exact.ZERO
    gross_loss: Decimal = exact.ZERO
    fees: dict[str | None, Decimal] = field(default_factory=dict)
    gross: Decimal | None = exact.ZERO  # of round trips, None if it is not known
    funding: Decimal | None = exact.ZERO
    unknown: str | None = None  # why the PnL of one of them is not known

    def add(self, pnl: Decimal) -> None:
        """Add the PnL of a closed trade."""
        self.closed += 1
        if pnl > 0:
            self.wins += 1
            self.gross_profit = exact.add(self.gross_profit, pnl)
        elif pnl < 0:
            self.losses += 1
            self.gross_loss = exact.add(self.gross_loss, pnl)
        if self.best is None or pnl > self.best:
            self.best = pnl
        if self.worst is None or pnl < self.worst:
            self.worst = pnl

    def add_trade(
        self, pnl: float | None, fee: float | None, currency: str | None
    ) -> Decimal | None:
        """Add a trade, and return its recorded PnL as a decimal."""
        self.trades += 1
        if fee is not None:
            self.add_fee(exact.to_decimal(fee), currency)
        if pnl is None:
            return None
        self.with_pnl += 1
        amount = exact.to_decimal(pnl)
        self.add(amount)
        return amount

    def add_round_trip(self, trip: trips.Trip, result: trips.Result) -> None:
        """Add a round trip and what it has earned, but not the number of its trades."""
        for currency, fee in trip.fees.items():
            self.add_fee(fee, currency)
        self.gross = _sum_of_known(self.gross, result.gross)
        if result.funding is not exact.ZERO:
            self.funding = _sum_of_known(self.funding, result.funding)
        if result.net is None:
            self.closed += 1
            self.unknown = self.unknown or result.unknown
        else:
            self.add(result.net)

    def add_fee(self, fee: Decimal, currency: str | None) -> None:
        self.fees[currency] = exact.add(self.fees.get(currency, exact.ZERO), fee)

    def merge(self, other: Sums) -> None:
        """Add the trades of another set."""
        self.trades += other.trades
        self.with_pnl += other.with_pnl
        self.closed += other.closed
        self.wins += other.wins
        self.losses += other.losses
        self.gross_profit = exact.add(self.gross_profit, other.gross_profit)
        self.gross_loss = exact.add(self.gross_loss, other.gross_loss)
        for currency, fee in other.fees.items():
            self.add_fee(fee, currency)
        self.gross = _sum_of_known(self.gross, other.gross)
        self.funding = _sum_of_known(self.funding, other.funding)
        self.unknown = self.unknown or other.unknown
        self.best = max(_given(self.best, other.best), default=None)
        self.worst = min(_given(self.worst, other.worst), default=None)


def _given(*amounts: Decimal | None) -> Iterable[Decimal]:
    return [amount for amount in amounts if amount is not None]


def _sum_of_known(amount: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if amount is None or other is None else exact.add(amount, other)


def result_fields(quote: str | None, source: Source, sums: Sums) -> dict[str, Any]:
    """Return the fields of a `Result`; each is rounded once, from the exact sums."""
    closed, wins, losses = sums.closed, sums.wins, sums.losses
    unknown = sums.unknown
    if unknown is None and sums.trades and not closed:
        unknown = NOTHING_CLOSED[source]
    fields: dict[str, Any] = dict.fromkeys(FIGURES_OF_PNL)
    if unknown is None:
        profit, loss = sums.gross_profit, sums.gross_loss
        lost = exact.subtract(exact.ZERO, loss)
        total = exact.add(profit, loss)
        fields |= {
            "wins": wins,
            "losses": losses,
            "win_rate": wins / closed if closed else None,
            "gross_profit": to_float("pnl", profit),
            "gross_loss": to_float("pnl", loss),
            "profit_factor": factor(profit, lost),
            "average_win": ratio(profit, wins),
            "average_loss": ratio(loss, losses),
            "payoff_ratio": factor(multiple(profit, losses), multiple(lost, wins))
            if wins
            else None,
            # win rate x average win + loss rate x average loss, where the counts cancel out
            "expectancy": ratio(total, closed),
            "expectancy_ratio": factor(multiple(total, losses), multiple(lost, closed)),
            "total_pnl": to_float("pnl", total),
            "best": rounded(sums.best),
            "worst": rounded(sums.worst),
        }
    has_round_trips = source == "fills" and closed > 0
    return fields | {
        "quote": quote,
        "source": source,
        "trades": sums.trades,
        "trades_with_pnl": sums.with_pnl,
        "closed_trades": closed,
        "gross_pnl": rounded(sums.gross) if has_round_trips else None,
        "fees": rounded_fees(sums.fees),
        "funding": rounded(sums.funding) if has_round_trips else None,
        "net_pnl": fields["total_pnl"] if has_round_trips else None,
        "unknown": unknown,
    }


# None where the PnL is not known
FIGURES_OF_PNL = (
    *("wins", "losses", "win_rate", "gross_profit", "gross_loss", "profit_factor", "average_win"),
    *("average_loss", "payoff_ratio", "expectancy", "expectancy_ratio", "total_pnl", "best"),
    "worst",
)
NOTHING_CLOSED: dict[Source, str] = {
    "recorded": "no trade has a pnl; source='fills' computes what was earned",
    "fills": "no round trip was closed",
}


def rounded_fees(fees: dict[str | None, Decimal]) -> dict[str | None, float]:
    """Return the sums of fees in the alphabetical order of their currencies."""
    currencies = sorted(fees, key=lambda currency: currency or "")
    return {currency: to_float("fee", fees[currency]) for currency in currencies}


def rounded(amount: Decimal | None) -> float | None:
    return None if amount is None else to_float("pnl", amount)


def multiple(amount: Decimal, count: int) -> Decimal:
    return exact.multiply(amount, Decimal(count))


def factor(amount: Decimal, divisor: Decimal) -> float | None:
    """Return a quotient; None if it is larger than a float can hold."""
    quotient = float(exact.DIVISION.divide(amount, divisor)) + 0.0 if divisor else math.inf
    return quotient if math.isfinite(quotient) else None


def ratio(amount: Decimal, divisor: int) -> float | None:
    return to_float("pnl", exact.DIVISION.divide(amount, Decimal(divisor))) if divisor else None
