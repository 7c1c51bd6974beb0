"""The figures of a set of trades, and how they follow from sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Result:
    """What a set of trades has earned, in the currency `quote`.

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
            without losses.
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


class Sums(NamedTuple):
    """What the database sums up, in the order of the columns of the query."""

    trades: int
    closed: int
    wins: int
    losses: int
    gross_profit: float | None
    gross_loss: float | None
    best: float | None
    worst: float | None

    @classmethod
    def of(cls, pnls: Sequence[float | None]) -> Sums:
        """Return the sums of trades with these PnL."""
        closed = [pnl for pnl in pnls if pnl is not None]
        wins = [pnl for pnl in closed if pnl > 0]
        losses = [pnl for pnl in closed if pnl < 0]
        counts = len(pnls), len(closed), len(wins), len(losses)
        best, worst = max(closed, default=None), min(closed, default=None)
        return cls(*counts, fsum(wins), fsum(losses), best, worst)

    @classmethod
    def total(cls, groups: Iterable[Sums]) -> Sums:
        """Return the sums of several groups of trades together."""
        *counts, profits, losses, best, worst = zip(*groups, strict=True)
        best_of_all = max((pnl for pnl in best if pnl is not None), default=None)
        worst_of_all = min((pnl for pnl in worst if pnl is not None), default=None)
        amounts = fsum(profits), fsum(losses), best_of_all, worst_of_all
        return cls._make([*map(sum, counts), *amounts])


def result_fields(quote: str | None, sums: Sums) -> dict[str, Any]:
    """Return the fields of a `Result`."""
    closed, wins, losses = sums.closed, sums.wins, sums.losses
    profit, loss = float(sums.gross_profit or 0.0), float(sums.gross_loss or 0.0)
    total = profit + loss
    return {
        "quote": quote,
        "trades": sums.trades,
        "closed_trades": closed,
        "wins": wins,
        "losses": losses,
        "win_rate": wins / closed if closed else None,
        "gross_profit": profit,
        "gross_loss": loss,
        "profit_factor": profit / -loss if losses else None,
        "average_win": profit / wins if wins else None,
        "average_loss": loss / losses if losses else None,
        # win rate x average win + loss rate x average loss, where the counts cancel out
        "expectancy": total / closed if closed else None,
        "total_pnl": total,
        "average_pnl": total / closed if closed else None,
        "best": sums.best,
        "worst": sums.worst,
    }
