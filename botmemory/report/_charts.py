"""The charts, as Plotly's figures: plain data, in colours that the page names.

Text of the database is escaped here, because Plotly reads its text as HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .._values import to_json
from ..analysis.attribution import Bucket
from ..analysis.performance import EquityPoint, Group, Result

__all__ = [
    "Chart",
    "Fill",
    "by_hour",
    "by_month",
    "by_symbol",
    "equity",
    "fill_text",
    "histogram",
    "prices",
    "seen",
    "thinned",
    "thinning",
    "win_rates",
]

MOST_POINTS = 2000
LONGEST_METADATA = 200
MOST_SEEN = 10
FEW = 4  # so many bars fill a chart, fewer stay as wide

Figure = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A figure, its title, and a remark on what it leaves out."""

    name: str
    title: str
    figure: Figure
    remark: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Fill:
    """A trade on a price chart, with the signal that triggered it."""

    timestamp: str
    price: float
    is_buy: bool
    text: str


def equity(points: Sequence[EquityPoint]) -> tuple[Figure, str]:
    """Return the equity curve above its drawdown, and what was left out of it."""
    kept = [points[place] for place in thinned([point.equity for point in points], MOST_POINTS)]
    timestamps = [point.timestamp.isoformat() for point in kept]
    curve = {
        "x": timestamps,
        "y": [point.equity for point in kept],
        "name": "summed PnL",
        "mode": "lines+markers" if len(kept) < 100 else "lines",
        "line": {"color": "--accent", "width": 2, "shape": "hv"},
        "marker": {"color": "--accent", "size": 5},
        "hovertemplate": "%{x|%Y-%m-%d %H:%M}<br>%{y:,.2f}<extra></extra>",
    }
    below = {
        "x": timestamps,
        "y": [-point.drawdown for point in kept],
        "name": "drawdown",
        "yaxis": "y2",
        "mode": "lines",
        "fill": "tozeroy",
        "line": {"color": "--down", "width": 1, "shape": "hv"},
        "hovertemplate": "%{x|%Y-%m-%d %H:%M}<br>%{y:,.2f}<extra></extra>",
    }
    layout = {
        "yaxis": {"domain": [0.34, 1], "title": {"text": "summed PnL"}},
        "yaxis2": {"domain": [0, 0.26], "title": {"text": "drawdown"}},
        "xaxis": {"anchor": "y2"},
        "height": 440,
    }
    return {"data": [curve, below], "layout": layout}, thinning(len(kept), len(points))


def thinning(kept: int, there: int) -> str:
    """Return what is said of a series that was thinned; "" of one that was not."""
    if kept == there:
        return ""
    return (
        f"Drawn from {kept:,} of {there:,} trades: the highest and the lowest of each stretch are "
        "kept."
    )


def by_symbol(groups: Sequence[Group]) -> Figure:
    """Return bars of what each symbol has earned."""
    return _earned(groups, [escape(str(group.key)) for group in groups], {"type": "category"})


def by_month(groups: Sequence[Group]) -> Figure:
    """Return bars of what each month has earned, months without trades left empty."""
    return _earned(groups, [f"{group.key}-01" for group in groups], {"type": "date"})


def by_hour(groups: Sequence[Group]) -> Figure:
    """Return bars of what each hour of the day has earned."""
    axis = {"range": [-0.6, 23.6], "dtick": 3}
    return _earned(groups, [group.key for group in groups], axis)


def _earned(groups: Sequence[Group], places: Sequence[Any], axis: Figure) -> Figure:
    earned = [group.total_pnl for group in groups]
    names = [escape(str(group.key)) for group in groups]
    texts = [f"{name}<br>{_said(group)}" for name, group in zip(names, groups, strict=True)]
    return _bars(places, earned, earned, texts, {"xaxis": axis})


def _said(result: Result) -> str:
    rate = "no" if result.win_rate is None else f"{result.win_rate:.0%}"
    return f"{result.closed_trades:,} closed trades<br>{rate} wins<br>PnL {result.total_pnl:+,.2f}"


def histogram(buckets: Sequence[tuple[float, float, int]]) -> Figure:
    """Return how many trades have earned how much: bars from low to high."""
    middles = [(low + high) / 2 for low, high, _ in buckets]
    counts = [count for _, _, count in buckets]
    texts = [f"{low:,.10g} to {high:,.10g}<br>{count:,} trades" for low, high, count in buckets]
    figure = _bars(middles, counts, middles, texts, {})
    figure["data"][0]["width"] = [high - low for low, high, _ in buckets]
    return figure


def win_rates(buckets: Sequence[Bucket]) -> Figure:
    """Return bars of the win rate in each range of an indicator, coloured by what it earned."""
    labels = [escape(bucket.label) for bucket in buckets]
    texts = [f"{label}<br>{_said(one)}" for label, one in zip(labels, buckets, strict=True)]
    rates = [100 * (bucket.win_rate or 0.0) for bucket in buckets]
    axes = {
        "xaxis": {"type": "category"},
        "yaxis": {"range": [0, 100], "ticksuffix": " %"},
    }
    return _bars(labels, rates, [bucket.total_pnl for bucket in buckets], texts, axes)


def prices(fills: Sequence[Fill]) -> Figure:
    """Return the prices of trades over time, buys and sells, with their signals on hover."""
    line = {
        "x": [fill.timestamp for fill in fills],
        "y": [fill.price for fill in fills],
        "mode": "lines",
        "line": {"color": "--quiet", "width": 0.5},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    sides = []
    for name, colour, symbol in (
        ("buy", "--up", "triangle-up"),
        ("sell", "--down", "triangle-down"),
    ):
        of_side = [fill for fill in fills if fill.is_buy == (name == "buy")]
        sides.append(
            {
                "x": [fill.timestamp for fill in of_side],
                "y": [fill.price for fill in of_side],
                "text": [fill.text for fill in of_side],
                "name": name,
                "mode": "markers",
                "marker": {"color": colour, "symbol": symbol, "size": 9},
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    layout = {"showlegend": True, "legend": {"orientation": "h", "y": 1.12, "x": 0}}
    return {"data": [line, *sides], "layout": layout}


def fill_text(trade: Any) -> str:
    """Return what is said of a trade and its signal when one points at it."""
    lines = [
        f"{trade.side} {trade.quantity:,.10g} at {trade.price:,.10g}",
        f"{trade.timestamp:%Y-%m-%d %H:%M:%S} UTC",
    ]
    if trade.pnl is not None:
        lines.append(f"PnL {trade.pnl:+,.2f}")
    if (signal := trade.signal) is not None:
        lines.append(f"signal {signal.signal_value:+d} at {signal.timestamp:%Y-%m-%d %H:%M:%S}")
        lines += seen(signal.signal_metadata)
    elif trade.strategy:
        lines.append(trade.strategy)
    return "<br>".join(map(escape, lines))


def seen(metadata: Any) -> list[str]:
    """Return what a signal saw, a line for each of the first things."""
    if isinstance(metadata, dict):
        return [f"{name}: {_short(value)}" for name, value in list(metadata.items())[:MOST_SEEN]]
    return [] if metadata is None else [_short(metadata)]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= LONGEST_METADATA else f"{text[:LONGEST_METADATA]}..."


def _bars(
    places: Sequence[Any],
    heights: Sequence[float],
    signs: Sequence[float],
    texts: Sequence[str],
    layout: Figure,
) -> Figure:
    bars: Figure = {
        "type": "bar",
        "x": list(places),
        "y": list(heights),
        "text": list(texts),
        "textposition": "none",
        "marker": {"color": ["--down" if sign < 0 else "--up" for sign in signs]},
        "hovertemplate": "%{text}<extra></extra>",
    }
    if layout.get("xaxis", {}).get("type") == "category" and len(places) < FEW:
        bars["width"] = len(places) / FEW
    return {"data": [bars], "layout": layout}


def thinned(values: Sequence[float], most: int) -> list[int]:
    """Return the places of at most `most` values, in order.

    The series is cut into equal stretches, of which the first, the last, the lowest and the
    highest value are kept: what stands out is still there.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = max(1, most // 4)
    kept: set[int] = set()
    for number in range(stretches):
        first = len(values) * number // stretches
        places = range(first, len(values) * (number + 1) // stretches)
        kept |= {places[0], places[-1]}
        kept |= {min(places, key=values.__getitem__), max(places, key=values.__getitem__)}
    return sorted(kept)
