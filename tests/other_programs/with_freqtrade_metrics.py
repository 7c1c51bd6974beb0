"""Print what freqtrade says of closed trades and balances, as JSON; run it where it is installed.

The closed trades are given, or are those that freqtrade itself makes of fills.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import pandas as pd
from freqtrade.data.metrics import (
    calculate_cagr,
    calculate_max_drawdown,
    calculate_max_drawdown_from_balance,
    calculate_sharpe_from_balance,
)
from freqtrade.optimize.optimize_reports import generate_pair_metrics
from freqtrade.optimize.optimize_reports.optimize_reports import calc_streak
from freqtrade.persistence import LocalTrade, init_db
from with_freqtrade import START, add, new_trade

COLUMNS = (
    *("wins", "draws", "losses", "winrate", "profit_factor", "expectancy", "expectancy_ratio"),
    *("sqn", "profit_total_abs"),
)


def closed_of_fills(history: dict[str, Any]) -> list[tuple[Any, float]]:
    """Return when its trades were closed, and their profit."""
    done: list[LocalTrade] = []
    for hour, fill in enumerate(history["fills"]):
        date = START + timedelta(hours=hour)
        if not done or not done[-1].is_open:
            done.append(new_trade(history, fill, date))
        add(done[-1], fill, date)
    return [(trade.close_date, trade.close_profit_abs) for trade in done if not trade.is_open]


def of_trades(closed: list[tuple[Any, float]], capital: float) -> dict[str, Any]:
    frame = pd.DataFrame(closed, columns=["close_date", "profit_abs"])
    frame["close_date"] = pd.to_datetime(frame["close_date"], utc=True)
    frame = frame.assign(pair="", profit_ratio=frame["profit_abs"] / capital, trade_duration=0)
    dates = frame["close_date"].min(), frame["close_date"].max()
    [total] = generate_pair_metrics([], "USDT", capital, frame, *dates)
    drawdown = calculate_max_drawdown(frame, starting_balance=capital)
    winning_streak, losing_streak = calc_streak(frame)
    return {name: float(total[name]) for name in COLUMNS} | {
        "winning_streak": winning_streak,
        "losing_streak": losing_streak,
        "max_drawdown": float(drawdown.drawdown_abs),
        "high_date": drawdown.high_date.isoformat(),
        "high_value": float(drawdown.high_value),
        "low_date": drawdown.low_date.isoformat(),
        "current_drawdown": float(drawdown.current_drawdown_abs),
    }


def of_balances(balances: list[tuple[str, float]]) -> dict[str, float]:
    """Return what follows from the balance before the first day and those at the end of each."""
    frame = pd.DataFrame(balances, columns=["date", "total_quote"])
    frame["date"] = pd.to_datetime(frame["date"], utc=True)
    largest = calculate_max_drawdown_from_balance(frame, relative=True)
    return {
        "relative_drawdown": float(largest.relative_account_drawdown),
        "sharpe": calculate_sharpe_from_balance(frame),
        "cagr": calculate_cagr(len(balances) - 1, balances[0][1], balances[-1][1]),
    }


def answers(history: dict[str, Any]) -> dict[str, Any]:
    if "fills" in history:
        return of_trades(closed_of_fills(history), 1.0)
    return of_trades(history["closed"], history["capital"]) | of_balances(history["balances"])


if __name__ == "__main__":
    init_db("sqlite://")  # trades of this class are not stored, but each fill is committed
    json.dump([answers(history) for history in json.load(sys.stdin)], sys.stdout)
