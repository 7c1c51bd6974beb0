"""The report: the results of the recorded trades as one HTML file that opens offline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from .._arguments import checked_call
from .._values import plain_text
from .._version import __version__
from ..analysis.performance import Source
from ..atomic_write import refuse_to_replace, replacing
from ..backends.sqlite.errors import translate_errors
from ..config import absolute_path
from ..database import db
from ..errors import ConfigError
from ..formats import amount, count, number, places
from ._charts import metadata_lines
from ._sections import cash_flow_totals, report_sections

__all__ = ["write_report"]


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
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a report of all trades, or of those that match the filters.

    It has a section for each currency, with figures, charts and tables, and the sums of the cash
    flows, which are in none of the other figures. A chart of many trades is
    drawn from fewer points, and its caption says so. The file needs no other file and no network.

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
            fills.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`.
        progress: Called with the number of finished parts and the number of all parts.

    Returns:
        The absolute path of the report.

    Raises:
        ConfigError: The extra `report` is not installed.
        StorageError: The file cannot be written.
        ValidationError: An argument is invalid, or several symbols name no currency.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
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
    pnl = {"source": source, "rates": rates}
    with db.read_snapshot():
        sections = list(report_sections(filters, quote, pnl, progress))
        cash_flows = cash_flow_totals(filters, quote)
    template = jinja2.Environment(autoescape=True).from_string(
        resources.files(__name__).joinpath("template.html").read_text(encoding="utf-8")
    )
    label = db.config.label
    shown_filters = {
        name: plain_text(value) if isinstance(value, str) else value
        for name, value in {**filters, "quote": quote or None}.items()
        if value is not None
    }
    page = template.render(
        database=Path(label).name if db.config.backend == "sqlite" else label,
        created=datetime.now(UTC),
        version=__version__,
        filters=shown_filters,
        sections=sections,
        cash_flows=cash_flows,
        figures={chart.name: chart.figure for section in sections for chart in section.charts},
        plotly=get_plotlyjs(),
        metadata_lines=metadata_lines,
        amount=amount,
        count=count,
        number=number,
        places=places,
    )
    file = absolute_path("path", path)
    refuse_to_replace("path", file, database=db.current().file)
    with translate_errors(file, "cannot be written"), replacing(file) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return file
