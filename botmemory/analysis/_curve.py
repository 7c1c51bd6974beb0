"""The cumulative PnL of closed trades in time order: drawdowns and streaks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any

from .. import exact
from ..exact import to_float
from .results import factor


@dataclass(frozen=True, kw_only=True)
class Drawdown:
    """A fall of the cumulative PnL below its highest value so far, until it is reached again.

    Attributes:
        amount: The fall at its lowest, above 0.
        start: The time of the closed trade with the highest value; that of the first one if the
            value is 0, from which the cumulative PnL begins.
        low: The time of the lowest value.
        end: The time of the first closed trade that reached the highest value again; None if none
            did.
        duration: The time from the start to the end, or to the last closed trade.
    """

    amount: float
    start: datetime
    low: datetime
    end: datetime | None
    duration: timedelta


@dataclass
class _Fall:
    """A drawdown so far; the amount is exact."""

    amount: Decimal
    start: datetime
    low: datetime
    duration: timedelta
    end: datetime | None = None


class Curve:
    """The cumulative PnL of closed trades, which are added in time order.

    Args:
        drawdowns: How many of the largest drawdowns are kept.
    """

    def __init__(self, drawdowns: int = 1) -> None:
        self.equity = self._peak = exact.ZERO
        self.longest_winning_streak = self.longest_losing_streak = 0
        self.longest_drawdown: timedelta | None = None
        self._wins = self._losses = 0  # in a row
        self._squares = exact.ZERO  # the sum of the squared PnL
        self._closed = 0
        self._peak_time: datetime | None = None
        self._limit = drawdowns
        self._falls: list[_Fall] = []  # the largest first
        self._fall: _Fall | None = None

    def add(self, timestamp: datetime, pnl: Decimal) -> Decimal:
        """Add a closed trade, and return how far the cumulative PnL is below its peak."""
        self._closed += 1
        self._squares = exact.add(self._squares, exact.multiply(pnl, pnl))
        if pnl < 0:
            self._wins, self._losses = 0, self._losses + 1
            self.longest_losing_streak = max(self.longest_losing_streak, self._losses)
        elif pnl > 0:
            self._wins, self._losses = self._wins + 1, 0
            self.longest_winning_streak = max(self.longest_winning_streak, self._wins)
        else:
            self._wins = self._losses = 0
        self.equity = exact.add(self.equity, pnl)
        if self._peak_time is None:
            self._peak_time = timestamp
        if self.equity < self._peak:
            drawdown = exact.subtract(self._peak, self.equity)
            self._extend_fall(timestamp, self._peak_time, drawdown)
            return drawdown
        if self._fall is not None:
            self._extend_fall(timestamp, self._peak_time, exact.ZERO)
            self._fall.end = timestamp
            self._keep(self._fall)
            self._fall = None
        self._peak, self._peak_time = self.equity, timestamp
        return exact.ZERO

    def _extend_fall(self, timestamp: datetime, peak_time: datetime, drawdown: Decimal) -> None:
        fall, duration = self._fall, timestamp - peak_time
        if fall is None:
            self._fall = _Fall(drawdown, peak_time, timestamp, duration)
        else:
            fall.duration = duration
            if drawdown > fall.amount:
                fall.amount, fall.low = drawdown, timestamp
        if self.longest_drawdown is None or duration > self.longest_drawdown:
            self.longest_drawdown = duration

    def _keep(self, fall: _Fall) -> None:
        """Keep a drawdown if it is one of the largest; of equal ones the first."""
        if len(self._falls) < self._limit or fall.amount > self._falls[-1].amount:
            falls = sorted([*self._falls, fall], key=attrgetter("amount"), reverse=True)
            self._falls = falls[: self._limit]

    def drawdowns(self) -> list[Drawdown]:
        """Return the largest drawdowns, the largest first."""
        if self._fall is not None:
            self._keep(self._fall)
            self._fall = None
        return [
            Drawdown(
                amount=to_float("pnl", fall.amount),
                start=fall.start,
                low=fall.low,
                end=fall.end,
                duration=fall.duration,
            )
            for fall in self._falls
        ]

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `Performance` that depend on the order of the closed trades."""
        largest: Drawdown | None = next(iter(self.drawdowns()), None)
        current = exact.subtract(self._peak, self.equity)
        max_drawdown = largest.amount if largest else 0.0
        return {
            "sqn": self._system_quality(),
            "recovery_factor": factor(self.equity, exact.to_decimal(max_drawdown)),
            "longest_winning_streak": self.longest_winning_streak,
            "longest_losing_streak": self.longest_losing_streak,
            "max_drawdown": max_drawdown,
            "max_drawdown_start": largest and largest.start,
            "max_drawdown_end": largest and largest.end,
            "max_drawdown_duration": largest and largest.duration,
            "current_drawdown": to_float("pnl", current),
            "longest_drawdown": self.longest_drawdown,
        }

    def _system_quality(self) -> float | None:
        """Return sqrt(n) x mean / standard deviation of the PnL, of a sample of n (Tharp)."""
        number, squared_sum = self._closed, exact.multiply(self.equity, self.equity)
        # n (n - 1) x the variance
        spread = exact.subtract(exact.multiply(Decimal(number), self._squares), squared_sum)
        if not spread:
            return None
        squared = exact.DIVISION.divide(exact.multiply(squared_sum, Decimal(number - 1)), spread)
        return factor(exact.DIVISION.sqrt(squared).copy_sign(self.equity), Decimal(1))
