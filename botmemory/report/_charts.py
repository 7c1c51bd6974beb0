"""The charts as figures of Plotly: plain data; colours are names of CSS variables of the page.

Plotly reads text as HTML, so text from the database is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

from .._values import to_json
from ..analysis.attribution import Bucket
from ..analysis.performance import EquityPoint, Group, Result
from ..formats import amount, count, number, places
from ..models import Trade

MAX_POINTS = 2000
MAX_VALUE_LENGTH = 200
MAX_METADATA_LINES = 10
_HOVER = "%{{x|%Y-%m-%d %H:%M}}<br>%{{y:,.{}f}}<extra></extra>"
FULL_BARS = 4  # bars that fill a chart; fewer have the same width

Figure = dict[str, Any]
Earning = TypeVar("Earning", bound=Result)
Earned = Sequence[tuple[Earning, float]]  # results, each with its PnL


@dataclass(frozen=True)
class Chart:
    """A figure, its title, and a note on what it leaves out."""

    name: str
    title: str
    figure: Figure
    note: str = ""
    wide: bool = False


def equity(points: Sequence[EquityPoint]) -> tuple[Figure, str]:
    """Return the equity curve above its drawdown, and a note on what it leaves out."""
    equities = [point.equity for point in points]
    kept = [points[index] for index in downsample(equities, MAX_POINTS)]
    timestamps = [point.timestamp.isoformat() for point in kept]
    equity_places = places(equities)
    drawdown_places = places(point.drawdown for point in points)
    curve = {
        "x": timestamps,
        "y": [point.equity for point in kept],
        "name": "cumulative PnL",
        "mode": "lines+markers" if len(kept) < 100 else "lines",
        "line": {"color": "--accent", "width": 2, "shape": "hv"},
        "marker": {"color": "--accent", "size": 5},
        "hovertemplate": _HOVER.format(equity_places),
    }
    drawdown = {
        "x": timestamps,
        "y": [0.0 - point.drawdown for point in kept],  # no negative zero
        "name": "drawdown",
        "yaxis": "y2",
        "mode": "lines",
        "fill": "tozeroy",
        "line": {"color": "--down", "width": 1, "shape": "hv"},
        "hovertemplate": _HOVER.format(drawdown_places),
    }
    layout = {
        "yaxis": {"domain": [0.34, 1], "title": {"text": "cumulative PnL"}},
        "yaxis2": {"domain": [0, 0.26], "title": {"text": "drawdown"}},
        "xaxis": {"anchor": "y2"},
        "height": 440,
    }
    return {"data": [curve, drawdown], "layout": layout}, downsampling_note(len(kept), len(points))


def downsampling_note(kept: int, total: int) -> str:
    """Return a note on a series that was downsampled; "" if it was not."""
    if kept == total:
        return ""
    drawn = f"Drawn from {count(kept)} of {count(total)} trades"
    return f"{drawn}: the highest and lowest of each part are kept."


def by_symbol(groups: Earned[Group]) -> Figure:
    """Return bars of the PnL of each symbol."""
    keys = [escape(str(group.key)) for group, _ in groups]
    return _pnl_bars(groups, keys, {"type": "category"})


def by_month(groups: Earned[Group]) -> Figure:
    """Return bars of the PnL of each month; months without trades are empty."""
    return _pnl_bars(groups, [f"{group.key}-01" for group, _ in groups], {"type": "date"})


def by_hour(groups: Earned[Group]) -> Figure:
    """Return bars of the PnL of each hour of the day."""
    axis = {"range": [-0.6, 23.6], "dtick": 3}
    return _pnl_bars(groups, [group.key for group, _ in groups], axis)


def _pnl_bars(groups: Earned[Group], x_values: Sequence[Any], axis: Figure) -> Figure:
    pnl = [pnl for _, pnl in groups]
    texts = [f"{escape(str(group.key))}<br>{_result_text(group, pnl)}" for group, pnl in groups]
    return _bars(x_values, pnl, pnl, texts, {"xaxis": axis})


def _result_text(result: Result, pnl: float) -> str:
    rate = "no" if result.win_rate is None else f"{result.win_rate:.0%}"
    closed = count(result.closed_trades)
    return f"{closed} closed trades<br>{rate} wins<br>PnL {amount(pnl, sign='+')}"


def histogram(buckets: Sequence[tuple[float, float, int]]) -> Figure:
    """Return bars of the number of trades in each range of PnL."""
    middles = [low / 2 + high / 2 for low, high, _ in buckets]
    heights = [trades for _, _, trades in buckets]
    texts = [
        f"{number(low)} to {number(high)}<br>{count(trades)} trades"
        for low, high, trades in buckets
    ]
    figure = _bars(middles, heights, middles, texts, {})
    figure["data"][0]["width"] = [high - low for low, high, _ in buckets]
    return figure


def win_rates(buckets: Earned[Bucket]) -> Figure:
    """Return bars of the win rate in each range of an indicator, coloured by its PnL."""
    labels = [escape(bucket.label) for bucket, _ in buckets]
    texts = [f"{escape(bucket.label)}<br>{_result_text(bucket, pnl)}" for bucket, pnl in buckets]
    rates = [100 * (bucket.win_rate or 0.0) for bucket, _ in buckets]
    axes = {
        "xaxis": {"type": "category"},
        "yaxis": {"range": [0, 100], "ticksuffix": " %"},
    }
    return _bars(labels, rates, [pnl for _, pnl in buckets], texts, axes)


def prices(trades: Iterable[Trade]) -> Figure:
    """Return the prices of buys and sells over time, with their signals as hover text."""
    line: Figure = {
        "x": [],
        "y": [],
        "mode": "lines",
        "line": {"color": "--quiet", "width": 0.5},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    sides: dict[str, Figure] = {
        side: {
            "x": [],
            "y": [],
            "text": [],
            "name": side,
            "mode": "markers",
            "marker": {"color": colour, "symbol": f"triangle-{direction}", "size": 9},
            "hovertemplate": "%{text}<extra></extra>",
        }
        for side, colour, direction in (("buy", "--up", "up"), ("sell", "--down", "down"))
    }
    for trade in trades:
        for series in (line, sides[trade.side]):
            series["x"].append(trade.timestamp.isoformat())
            series["y"].append(trade.price)
        sides[trade.side]["text"].append(_trade_text(trade))
    layout = {"showlegend": True, "legend": {"orientation": "h", "y": 1.12, "x": 0}}
    return {"data": [line, *sides.values()], "layout": layout}


def _trade_text(trade: Trade) -> str:
    """Return the hover text of a trade and its signal."""
    lines = [
        f"{trade.side} {number(trade.quantity)} at {number(trade.price)}",
        f"{trade.timestamp:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if trade.pnl is not None:
        lines.append(f"PnL {amount(trade.pnl, sign='+')}")
    if (signal := trade.signal) is not None:
        lines.append(f"signal {signal.signal_value:+d} at {signal.timestamp:%Y-%m-%d %H:%M:%S}")
        lines += metadata_lines(signal.signal_metadata)
    elif trade.strategy:
        lines.append(trade.strategy)
    return "<br>".join(map(escape, lines))


def metadata_lines(metadata: Any) -> list[str]:
    """Return a line for each of the first keys of metadata."""
    if isinstance(metadata, dict):
        items = list(metadata.items())[:MAX_METADATA_LINES]
        return [f"{name}: {_short(value)}" for name, value in items]
    return [] if metadata is None else [_short(metadata)]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


def _bars(
    x_values: Sequence[Any],
    heights: Sequence[float],
    signs: Sequence[float],
    texts: Sequence[str],
    layout: Figure,
) -> Figure:
    bars: Figure = {
        "type": "bar",
        "x": list(x_values),
        "y": list(heights),
        "text": list(texts),
        "textposition": "none",
        "marker": {"color": ["--down" if sign < 0 else "--up" for sign in signs]},
        "hovertemplate": "%{text}<extra></extra>",
    }
    if layout.get("xaxis", {}).get("type") == "category" and len(x_values) < FULL_BARS:
        bars["width"] = len(x_values) / FULL_BARS
    return {"data": [bars], "layout": layout}


def downsample(values: Sequence[float], max_count: int) -> list[int]:
    """Return the indexes of at most `max_count` values, in order.

    The series is cut into equal parts; the first, the last, the lowest and the highest value of
    each are kept.
    """
    if len(values) <= max_count:
        return list(range(len(values)))
    parts = max(1, max_count // 4)
    kept: set[int] = set()
    for part in range(parts):
        first = len(values) * part // parts
        indexes = range(first, len(values) * (part + 1) // parts)
        kept |= {indexes[0], indexes[-1]}
        kept |= {min(indexes, key=values.__getitem__), max(indexes, key=values.__getitem__)}
    return sorted(kept)
