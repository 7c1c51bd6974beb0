"""What some trades have earned, and how it is put together from sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Result", "Sums", "result_fields"]


@dataclass(frozen=True)
class Result:
    """What some trades have earned, in `quote`.

    - `trades`: how many; `closed_trades`: those with a PnL, of which `wins` are above 0 and
      `losses` below.
    - `win_rate`: wins / closed trades; None without any.
    - `gross_profit`: the sum of the wins; `gross_loss`: the sum of the losses, 0 or below.
    - `profit_factor`: gross profit / |gross loss| (Kaufman, Trading Systems and Methods); None
      without losses.
    - `average_win`, `average_loss`: of one win, of one loss (below 0); None without any.
    - `expectancy`: win rate x average win + loss rate x average loss, what one closed trade is
      expected to bring (Tharp, Trade Your Way to Financial Freedom, in money); None without any.
    - `total_pnl`: gross profit + gross loss; `average_pnl`: of one closed trade.
    - `best`, `worst`: the PnL of one trade; None without any.
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
    """What the database adds up, in this order."""

    trades: int
    closed: int
    wins: int | None
    losses: int | None
    gross_profit: float | None
    gross_loss: float | None
    best: float | None
    worst: float | None

    @classmethod
    def of(cls, pnl: float | None) -> Sums:
        """Return the sums of one trade."""
        if pnl is None:
            return cls(1, 0, 0, 0, 0.0, 0.0, None, None)
        return cls(1, 1, int(pnl > 0), int(pnl < 0), max(pnl, 0.0), min(pnl, 0.0), pnl, pnl)

    def plus(self, other: Sums) -> Sums:
        return Sums(
            self.trades + other.trades,
            self.closed + other.closed,
            (self.wins or 0) + (other.wins or 0),
            (self.losses or 0) + (other.losses or 0),
            (self.gross_profit or 0.0) + (other.gross_profit or 0.0),
            (self.gross_loss or 0.0) + (other.gross_loss or 0.0),
            max((one for one in (self.best, other.best) if one is not None), default=None),
            min((one for one in (self.worst, other.worst) if one is not None), default=None),
        )


def result_fields(quote: str | None, sums: Sums) -> dict[str, Any]:
    """Return the fields of a `Result`."""
    wins, losses = int(sums.wins or 0), int(sums.losses or 0)
    profit, loss = float(sums.gross_profit or 0.0), float(sums.gross_loss or 0.0)
    closed, total = sums.closed, profit + loss
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
