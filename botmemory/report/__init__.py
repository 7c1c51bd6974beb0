"""The report: the results of the recorded trades as one HTML file that opens offline."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from .._arguments import checked_call
from ..analysis.performance import Source
from ..atomic_write import refuse_to_replace, replacing
from ..backends.sqlite.errors import translate_errors
from ..config import absolute_path
from ..database import db
from ..errors import ConfigError
from ._collect import Capital
from ._collect import collect as collect
from ._render import render as render
from ._render import render_latest as render_latest
from ._render import script_of as script_of

__all__ = ["Capital", "write_report"]


@checked_call
def write_report(
    path: str | os.PathLike[str],
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
    capital: Capital | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a report of all trades, or of those that match the filters.

    It begins with an overview; then there is a section for each currency, the one with the most
    closed trades first, with figures, strategies, charts and tables, and the sums of the cash
    flows. A long series is drawn from fewer points, and its caption says so. The file needs no
    other file and no network; without JavaScript the charts cannot be zoomed.

    Args:
        path: The file to write. An existing one is replaced when the new one is complete.
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency, and its cash flows; "" for symbols that name
            none.
        source: `"recorded"` adds up the `pnl` of the trades, `"fills"` the net PnL of the round
            trips; None takes what is recorded, if any trade of a currency has a `pnl`, and else the
            fills. What follows from the fills is shown beside it.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`.
        capital: The capital at the start, for returns in percent: an amount if the PnL is in one
            currency, or one for each currency, `{"USDT": 10_000, "BTC": 0.5}`, or `"deposits"` for
            the recorded deposits and withdrawals; None in place of the amount of one currency says
            the same of that one.
        progress: Called with how much is done and how much there is to do.

    Returns:
        The absolute path of the report.

    Raises:
        ConfigError: The extra `report` is not installed.
        StorageError: The file cannot be written.
        ValidationError: An argument is invalid, or several symbols name no currency, and none
            names one.
    """
    try:
        importlib.import_module("jinja2")
    except ImportError as error:
        from .._install import install_command

        missing = (error.name or "").partition(".")[0]
        raise ConfigError(f"the report needs {missing}: {install_command('report')}") from error
    filters = {
        "symbol": symbol,
        "strategy": strategy,
        "start_date": start_date,
        "end_date": end_date,
        "exchange": exchange,
    }
    page = render(collect(filters, quote, source, rates, capital, progress))
    file = absolute_path("path", path)
    refuse_to_replace("path", file, database=db.current().file)
    with translate_errors(file, "cannot be written"), replacing(file) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return file
