"""The figures of a set of trades, and how they follow from sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .. import exact
from ..exact import to_float


@dataclass(frozen=True)
class Result:
    """What a set of trades has earned, in the currency `quote`.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Attributes:
        quote: The currency; None if the symbols name none.
        trades: The number of trades.
        closed_trades: The number of trades with a PnL.
        wins: The number of trades with a PnL above 0.
        losses: The number of trades with a PnL below 0.
        win_rate: wins / closed trades; None without closed trades.
        gross_profit: The sum of the PnL of the wins.
        gross_loss: The sum of the PnL of the losses, 0 or below.
        profit_factor: gross profit / |gross loss| (Kaufman, Trading Systems and Methods); None
            without losses, or if it is larger than a float can hold.
        average_win: gross profit / wins; None without wins.
        average_loss: gross loss / losses, below 0; None without losses.
        expectancy: win rate x average win + loss rate x average loss: what a closed trade earns on
            average (Tharp, Trade Your Way to Financial Freedom); None without closed trades.
        total_pnl: gross profit + gross loss.
        average_pnl: total PnL / closed trades; None without closed trades.
        best: The highest PnL of a trade; None without closed trades.
        worst: The lowest PnL of a trade; None without closed trades.
    """

    quote: str | None
    trades: int
    closed_trades: int
    wins: int
    losses: int
    win_rate: float | None
    gross_profit: float
    gross_loss: float
    profit_factor: float | None
    average_win: float | None
    average_loss: float | None
    expectancy: float | None
    total_pnl: float
    average_pnl: float | None
    best: float | None
    worst: float | None


@dataclass
class Sums:
    """What is added up of a set of trades; the amounts are exact."""

    trades: int = 0
    closed: int = 0
    wins: int = 0
    losses: int = 0
    best: float | None = None
    worst: float | None = None
    gross_profit: Decimal = exact.ZERO
    gross_loss: Decimal = exact.ZERO

    def add(self, pnl: float | None) -> Decimal | None:
        """Add a trade, and return its PnL as a decimal."""
        self.trades += 1
        if pnl is None:
            return None
        self.closed += 1
        amount = exact.to_decimal(pnl)
        if pnl > 0:
            self.wins += 1
            self.gross_profit = exact.add(self.gross_profit, amount)
        elif pnl < 0:
            self.losses += 1
            self.gross_loss = exact.add(self.gross_loss, amount)
        if self.best is None or pnl > self.best:
            self.best = pnl
        if self.worst is None or pnl < self.worst:
            self.worst = pnl
        return amount

    def merge(self, other: Sums) -> None:
        """Add the trades of another set."""
        self.trades += other.trades
        self.closed += other.closed
        self.wins += other.wins
        self.losses += other.losses
        self.gross_profit = exact.add(self.gross_profit, other.gross_profit)
        self.gross_loss = exact.add(self.gross_loss, other.gross_loss)
        if other.best is not None and (self.best is None or other.best > self.best):
            self.best = other.best
        if other.worst is not None and (self.worst is None or other.worst < self.worst):
            self.worst = other.worst


def result_fields(quote: str | None, sums: Sums) -> dict[str, Any]:
    """Return the fields of a `Result`; each is rounded once, from the exact sums."""
    closed, wins, losses = sums.closed, sums.wins, sums.losses
    profit, loss = sums.gross_profit, sums.gross_loss
    total = exact.add(profit, loss)
    return {
        "quote": quote,
        "trades": sums.trades,
        "closed_trades": closed,
        "wins": wins,
        "losses": losses,
        "win_rate": wins / closed if closed else None,
        "gross_profit": to_float("pnl", profit),
        "gross_loss": to_float("pnl", loss),
        "profit_factor": _factor(profit, exact.subtract(exact.ZERO, loss)),
        "average_win": _ratio(profit, wins),
        "average_loss": _ratio(loss, losses),
        # win rate x average win + loss rate x average loss, where the counts cancel out
        "expectancy": _ratio(total, closed),
        "total_pnl": to_float("pnl", total),
        "average_pnl": _ratio(total, closed),
        "best": sums.best,
        "worst": sums.worst,
    }


def _factor(profit: Decimal, loss: Decimal) -> float | None:
    factor = float(exact.divide(profit, loss)) if loss else math.inf
    return factor if math.isfinite(factor) else None


def _ratio(amount: Decimal, divisor: Decimal | int) -> float | None:
    return to_float("pnl", exact.divide(amount, divisor)) if divisor else None
