"""Print what empyrical says of daily returns, as JSON; run it where empyrical is installed."""

from __future__ import annotations

import json
import sys
import warnings
from datetime import datetime

import empyrical
import pandas as pd

DAYS_PER_YEAR = 365


def answers(daily: dict[str, float]) -> dict[str, float]:
    returns = pd.Series({datetime.fromisoformat(day): value for day, value in daily.items()})
    figures = {
        "total_return": empyrical.cum_returns_final(returns),
        "cagr": empyrical.annual_return(returns, annualization=DAYS_PER_YEAR),
        "volatility": empyrical.annual_volatility(returns, annualization=DAYS_PER_YEAR),
        "sharpe": empyrical.sharpe_ratio(returns, annualization=DAYS_PER_YEAR),
        "sortino": empyrical.sortino_ratio(returns, annualization=DAYS_PER_YEAR),
        "calmar": empyrical.calmar_ratio(returns, annualization=DAYS_PER_YEAR),
        "relative_drawdown": -empyrical.max_drawdown(returns),
    }
    return {name: float(figure) for name, figure in figures.items()}


if __name__ == "__main__":
    warnings.simplefilter("ignore", RuntimeWarning)  # it takes a root of a negative capital
    json.dump([answers(daily) for daily in json.load(sys.stdin)], sys.stdout)
