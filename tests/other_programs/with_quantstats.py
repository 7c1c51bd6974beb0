"""Print what QuantStats says of daily returns, as JSON; run it where QuantStats is installed."""

from __future__ import annotations

import json
import sys
import warnings
from datetime import datetime

import pandas as pd
from quantstats import stats

DAYS_PER_YEAR = 365


def answers(daily: dict[str, float]) -> dict[str, float]:
    returns = pd.Series({datetime.fromisoformat(day): value for day, value in daily.items()})
    assert isinstance(returns.index, pd.DatetimeIndex)
    figures = {
        "total_return": stats.comp(returns),
        "cagr": stats.cagr(returns, periods=DAYS_PER_YEAR),
        "volatility": stats.volatility(returns, periods=DAYS_PER_YEAR),
        "sharpe": stats.sharpe(returns, periods=DAYS_PER_YEAR),
        "sortino": stats.sortino(returns, periods=DAYS_PER_YEAR),
        "calmar": stats.calmar(returns, periods=DAYS_PER_YEAR),
        "relative_drawdown": -stats.max_drawdown(returns),
        "best_day": stats.best(returns),
        "worst_day": stats.worst(returns),
    }
    return {name: float(figure) for name, figure in figures.items()}


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # it divides by a drawdown of 0
    json.dump([answers(daily) for daily in json.load(sys.stdin)], sys.stdout)
