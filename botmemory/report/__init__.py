"""The report: what a memory says of its trades, as one HTML file that opens offline."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from .._calls import checked_call
from .._version import __version__
from ..database import db
from ..errors import ConfigError, StorageError
from ..values import plain_text
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
        missing = (error.name or "").partition(".")[0]
        raise ConfigError(f"the report needs {missing}: pip install 'botmemory[report]'") from error
    narrowed = {
        "symbol": symbol,
        "strategy": strategy,
        "start_date": start_date,
        "end_date": end_date,
    }
    found = list(sections(narrowed, progress))
    charts = [chart for section in found for chart in section.charts]
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=folder, autoescape=True).get_template("template.html")
    label = db.config.label
    named = {
        name: plain_text(value) if isinstance(value, str) else value
        for name, value in narrowed.items()
        if value is not None
    }
    parts = template.generate(
        memory=Path(label).name if db.config.backend == "sqlite" else label,
        made=datetime.now(UTC),
        version=__version__,
        narrowed=named,
        sections=found,
        figures={chart.name: chart.figure for chart in charts},
        plotly=get_plotlyjs(),
        seen=seen,
    )
    return _write(Path(path).expanduser().resolve(), "".join(parts))


def _write(path: Path, text: str) -> Path:
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    return path
