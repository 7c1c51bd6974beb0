"""The report: what a database says of its trades, as one HTML file that opens offline."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from .._arguments import checked_call
from .._values import plain_text
from .._version import __version__
from ..atomic_write import replacing
from ..backends.sqlite.errors import translate_errors
from ..config import absolute_path
from ..database import db
from ..errors import ConfigError
from ._charts import seen
from ._sections import sections

__all__ = ["write_report"]


@checked_call
def write_report(
    path: str | os.PathLike[str],
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write the report of the trades that are named, or of all, and return its path.

    One file that needs no other: a section for each currency with figures, charts and tables.
    Long series are thinned, and it says so. What was at `path` is replaced when the new file is
    whole. `progress` is called with the parts done and the parts in all. Raises `ConfigError`
    without the extra `report`, `StorageError` where the file cannot be written.
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
    }
    found = list(sections(filters, progress))
    charts = [chart for section in found for chart in section.charts]
    template = jinja2.Environment(autoescape=True).from_string(
        resources.files(__package__).joinpath("template.html").read_text(encoding="utf-8")
    )
    label = db.config.label
    named = {
        name: plain_text(value) if isinstance(value, str) else value
        for name, value in filters.items()
        if value is not None
    }
    parts = template.generate(
        memory=Path(label).name if db.config.backend == "sqlite" else label,
        made=datetime.now(UTC),
        version=__version__,
        filters=named,
        sections=found,
        figures={chart.name: chart.figure for chart in charts},
        plotly=get_plotlyjs(),
        seen=seen,
    )
    file = absolute_path("path", path)
    with translate_errors(file, "cannot be written"), replacing(file) as unfinished:
        unfinished.write_text("".join(parts), encoding="utf-8")
    return file
