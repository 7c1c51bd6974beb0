"""The charts as plain data: paths in the units of their values, ticks and words.

A line over time is a path `M x y H x V y ...` in seconds and values, downwards as SVG has it. The
script of the page reads the same path when it zooms, so that nothing is there twice. Nothing here
is escaped: the template does that.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .._values import flatten, to_json
from ..analysis.ranges import bucket_bounds, bucket_of, round_edges
from ..formats import amount, count, number, places
from ..models import Trade
from ._downsample import downsample
from ._figures import Currency, Fills, Part, Steps

MAX_POINTS = 1000  # of a line
MAX_SMALL_POINTS = 150
MAX_DOTS = 2000
MAX_MARKS = 150  # fills that are drawn one by one
PARTS = 120  # of a chart, in which fills are counted
MAX_BARS = 24
COUNTS_HEIGHT, FOOT = 0.3, 0.2  # of the range of prices, and of that with the counts below it
MAX_YEARS = 4  # with a calendar
MAX_VALUE_LENGTH = 200
MAX_METADATA_LINES = 10
DAY = 86_400
SMALLEST, LARGEST = 1e-300, 8e307  # sizes and values that a chart can have
ROUNDING = 1e-9  # of the largest value: smaller differences are not drawn
SMALLEST_IN_SVG, LARGEST_IN_SVG = 1e-30, 1e30
MAX_DECIMALS, LARGEST_LABEL = 12, 1e15  # of labels without an exponent
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, kw_only=True)
class Line:
    """A path of a chart, its name in the legend, and what it looks like."""

    name: str
    look: str  # CSS classes
    path: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A fill on a price chart, in percent of its width and height."""

    left: float
    bottom: float
    is_buy: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A chart with two axes.

    Attributes:
        title: What it shows.
        note: What it leaves out, or how to read it.
        words: Its figures in words, for those who cannot see it.
        lines: The paths.
        view: The viewBox: left, top, width, height.
        x_ticks: The positions in percent and the labels of the x axis.
        y_ticks: Those of the y axis.
        kind: `time` for one that is zoomed with the others, `price`, or `dots`.
        decimals: The decimal places of its values.
        unit: What follows a value: "" or "%".
        height: In pixels.
        marks: Fills, each on its own.
        fills: The index of the fills in the data of the page.
    """

    title: str
    words: str
    lines: list[Line]
    view: tuple[float, float, float, float]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    kind: str = "time"
    note: str = ""
    decimals: int = 2
    unit: str = ""
    height: int = 220
    marks: Sequence[Mark] = ()
    fills: int | None = None


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of a table of bars.

    Attributes:
        label: What it is about.
        left: Where the bar begins, in percent.
        width: How long it is, in percent.
        look: A CSS class.
        cells: The figures beside it.
    """

    label: str
    left: float
    width: float
    look: str
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A table with a bar in each row."""

    title: str
    label: str
    heads: tuple[str, ...]
    rows: list[Bar]
    note: str = ""


# --- lines over time ----------------------------------------------------------------------------


def equity(of: Currency) -> Plot:
    """Return the cumulative PnL."""
    name = "net PnL" if of.summary.source == "fills" else "recorded PnL"
    return _over_time(of, "Cumulative PnL", [(name, "line accent", of.equity)], height=300)


def fees(of: Currency) -> Plot:
    """Return the sum of the fees of the round trips so far."""
    lines = [("fees", "area quiet", of.paid_fees)]
    return _over_time(of, "Cumulative fees of the round trips", lines, height=130)


def drawdown(of: Currency) -> Plot:
    """Return how far the cumulative PnL is below its highest value so far."""
    falls = Steps(of.drawdown.times, [0.0 - value for value in of.drawdown.values])
    return _over_time(of, "Drawdown", [("drawdown", "area down", falls)], height=130)


def win_rate(of: Currency) -> Plot:
    """Return the win rate of the last closed trades, in percent."""
    rates = Steps(of.win_rate.times, [100 * rate for rate in of.win_rate.values])
    title = f"Win rate of the last {of.rolling} closed trades"
    lines = [("win rate", "line accent", rates)]
    plot = _over_time(of, title, lines, height=150, low=0, high=100)
    return replace(plot, decimals=0, unit="%")


def exposure(of: Currency) -> Plot:
    """Return what was open."""
    lines = [("open, at entry", "area accent", of.exposure)]
    note = "The value at entry of round trips, whole from the first fill to the last."
    return _over_time(of, "Exposure", lines, height=150, note=note)


def _over_time(
    of: Currency,
    title: str,
    lines: list[tuple[str, str, Steps]],
    *,
    height: int,
    note: str = "",
    low: float = 0.0,
    high: float = 0.0,
) -> Plot:
    drawn, notes, all_values = [], [note] if note else [], [low, high]
    for name, look, steps in lines:
        kept = downsample(steps.values, MAX_POINTS)
        values = [steps.values[index] for index in kept]
        times = [steps.times[index] - of.start for index in kept]
        all_values += values
        path = _path(times, values)
        if "area" in look and path:
            path += f"L{_short(times[-1])} 0H{_short(times[0])}Z"  # no step, as those of the line
        drawn.append(Line(name=name, look=look, path=path))
        if len(kept) < len(steps.values) and len(drawn) == 1:
            notes.append(_left_out(len(kept), len(steps.values), "points"))
    low, high = _padded(min(all_values), max(all_values))
    last = lines[0][2].values[-1] if lines[0][2].values else None
    decimals = places(all_values)
    lowest, highest = min(all_values), max(all_values)
    words = f"from {_in_words(lowest, decimals)} to {_in_words(highest, decimals)}"
    return Plot(
        title=title,
        note=" ".join(notes),
        words=words if last is None else f"{words}, at the end {_in_words(last, decimals)}",
        lines=drawn,
        view=(0.0, -high, max(of.end - of.start, 1.0), high - low),
        x_ticks=time_ticks(of.start, of.end),
        y_ticks=value_ticks(low, high),
        decimals=decimals,
        height=height,
    )


def _in_words(value: float, decimals: int) -> str:
    return amount(value, decimals) if value else "0"


def small(steps: Steps) -> tuple[str, tuple[float, float, float, float]]:
    """Return the path of a small line without axes, and its viewBox."""
    if not steps.values:
        return "", (0, 0, 1, 1)
    kept = downsample(steps.values, MAX_SMALL_POINTS)
    first = steps.times[0]
    values = [steps.values[index] for index in kept]
    low, high = _padded(min(0.0, *values), max(0.0, *values))
    if not _is_drawable((0.0, -high, 1.0, high - low)):
        return "", (0, 0, 1, 1)
    path = _path([steps.times[index] - first for index in kept], values)
    return path, (0.0, -high, max(steps.times[-1] - first, 1.0), high - low)


def _path(times: Sequence[float], values: Sequence[float]) -> str:
    """Return steps as a path; one that changes at time 0 is not drawn from 0."""
    if not values:
        return ""
    steps = [f"H{_short(x)}V{_short(0.0 - y)}" for x, y in zip(times, values, strict=True)]
    return f"M{_short(times[0])} {_short(0.0 - values[0])}" + "".join(steps)


def _short(value: float) -> str:
    return f"{value:.10g}"


def _left_out(kept: int, total: int, noun: str) -> str:
    drawn = f"Drawn from {count(kept)} of {count(total)} {noun}"
    return f"{drawn}: the highest and lowest of each part are kept."


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return a range that is a little larger, and neither empty nor infinite."""
    low, high = max(low, -LARGEST), min(high, LARGEST)
    size, largest = high - low, max(abs(low), abs(high))
    if size <= max(SMALLEST, largest * ROUNDING):
        margin = largest / 2 if largest > SMALLEST else 0.5
        return low - margin, high + margin
    return low - size * 0.04, high + size * 0.04


def value_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return the positions in percent and the labels of at most six round values."""
    size = high - low
    power = 10.0 ** math.floor(math.log10(size / 4))
    step = next(power * n for n in (1, 2, 5, 10) if size / (power * n) <= 5)
    values = [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(100 * ((value - low) / size), _tick_label(value, decimals)) for value in values]


def _tick_label(value: float, decimals: int) -> str:
    if decimals > MAX_DECIMALS or abs(value) >= LARGEST_LABEL:
        return f"{value:z.3g}"
    return f"{value:z,.{decimals}f}"


def time_ticks(start: float, end: float) -> list[tuple[float, str]]:
    """Return four times, evenly spaced."""
    span = max(end - start, 1.0)
    layout = "%Y-%m-%d" if span > 4 * DAY else "%m-%d %H:%M"
    return [
        (100 * n / 3, datetime.fromtimestamp(start + span * n / 3, UTC).strftime(layout))
        for n in range(4)
    ]


def drawable(plot: Plot) -> Plot:
    """Return a chart; without lines if its values are beyond the 32-bit floats of SVG."""
    if _is_drawable(plot.view):
        return plot
    note = "The values are too large or too small to be drawn."
    return replace(
        plot, lines=[], marks=(), y_ticks=[], view=(0.0, 0.0, 1.0, 1.0), note=note, kind="dots",
        fills=None,
    )  # fmt: skip


def _is_drawable(view: tuple[float, float, float, float]) -> bool:
    _, top, _, height = view
    return SMALLEST_IN_SVG < height < LARGEST_IN_SVG and abs(top) < LARGEST_IN_SVG


# --- prices -------------------------------------------------------------------------------------


def prices(of: Currency, fills: Fills, index: int) -> Plot:
    """Return the prices of fills: few are drawn one by one, of many how many there were."""
    low, high = _padded(min(fills.prices), max(fills.prices))
    is_dense = len(fills.times) > MAX_MARKS
    if is_dense:
        low -= COUNTS_HEIGHT * (high - low)
    span = max(of.end - of.start, 1.0)
    kept = downsample(fills.prices, MAX_POINTS)
    line = _path([fills.times[n] - of.start for n in kept], [fills.prices[n] for n in kept])
    lines = [Line(name="price of the last fill", look="line quiet", path=line)]
    notes, marks = [], []
    if not is_dense:
        marks = [
            Mark(
                left=100 * (time - of.start) / span,
                bottom=100 * (price - low) / (high - low),
                is_buy=quantity > 0,
                text="\n".join(fill_lines(fills, n)),
            )
            for n, (time, price, quantity) in enumerate(
                zip(fills.times, fills.prices, fills.quantities, strict=True)
            )
        ]
    else:
        notes.append("Below: how many were bought and sold; zoom in to see each of them.")
        lines += _densities(of, fills, low, high)
    if len(fills.times) < fills.total:
        notes.append(_left_out(len(fills.times), fills.total, "fills"))
    return Plot(
        title=f"{fills.symbol}: {count(fills.total)} fills",
        words=f"prices from {number(min(fills.prices))} to {number(max(fills.prices))}",
        lines=lines,
        view=(0.0, -high, span, high - low),
        x_ticks=time_ticks(of.start, of.end),
        y_ticks=[tick for tick in value_ticks(low, high) if not is_dense or tick[0] > 100 * FOOT],
        kind="price",
        note=" ".join(notes),
        decimals=places([high - low]),
        height=240,
        marks=marks,
        fills=index,
    )


def _densities(of: Currency, fills: Fills, low: float, high: float) -> list[Line]:
    """Return the numbers of buys and of sells over time, as bars at the foot of the chart."""
    span = max(of.end - of.start, 1.0)
    counts: Counter[tuple[bool, int]] = Counter()
    for time, quantity in zip(fills.times, fills.quantities, strict=True):
        counts[quantity > 0, min(PARTS - 1, int(PARTS * (time - of.start) / span))] += 1
    largest = max(counts.values())
    lines = []
    for is_buy, name, look in ((True, "bought", "density up"), (False, "sold", "density down")):
        bars = []
        for part in range(PARTS):
            height = FOOT * (high - low) * counts[is_buy, part] / largest
            if height:
                x = span * (part + (0.1 if is_buy else 0.5)) / PARTS
                bars.append(
                    f"M{x:.0f} {-low:.8g}v{-height:.6g}h{0.4 * span / PARTS:.0f}V{-low:.8g}Z"
                )
        lines.append(Line(name=name, look=look, path="".join(bars)))
    return lines


def fill_lines(fills: Fills, index: int) -> list[str]:
    """Return a fill in words, with its signal if that is known."""
    quantity = fills.quantities[index]
    side = "buy" if quantity > 0 else "sell"
    time = datetime.fromtimestamp(fills.times[index], UTC)
    lines = [
        f"{side} {number(abs(quantity))} at {number(fills.prices[index])}",
        f"{time:%Y-%m-%d %H:%M:%S} UTC",
    ]
    return lines + (_trade_lines(fills.trades[index]) if fills.trades else [])


def _trade_lines(trade: Trade) -> list[str]:
    lines = []
    if trade.pnl is not None:
        lines.append(f"PnL {amount(trade.pnl, sign='+')}")
    if (signal := trade.signal) is not None:
        lines.append(f"signal {signal.signal_value:+d} at {signal.timestamp:%Y-%m-%d %H:%M:%S}")
        lines += metadata_lines(signal.signal_metadata)
    elif trade.strategy:
        lines.append(trade.strategy)
    return lines


def metadata_lines(metadata: Any) -> list[str]:
    """Return a line for each of the first keys of metadata, numbers with six digits."""
    if isinstance(metadata, dict):
        items = list(flatten(metadata))[:MAX_METADATA_LINES]
        return [f"{name}: {_readable(value)}" for name, value in items]
    return [] if metadata is None else [_readable(metadata)]


def _readable(value: object) -> str:
    if isinstance(value, float):
        return number(float(f"{value:.6g}")) if abs(value) < 1e6 else f"{value:,.0f}"
    text = value if isinstance(value, str) else to_json(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[:MAX_VALUE_LENGTH]}..."


# --- holding time against result ----------------------------------------------------------------


def durations(of: Currency) -> Plot:
    """Return a dot for each round trip: how long it was held, and what it has earned."""
    order = sorted(range(len(of.held)), key=of.net_pnls.__getitem__)
    step = max(1, len(order) / MAX_DOTS)
    extremes = {*order[:20], *order[-20:]}
    shown = sorted({*(int(n * step) for n in range(int(len(order) / step))), *extremes})
    low, high = _body([of.net_pnls[n] for n in order])
    inside = [n for n in shown if low <= of.net_pnls[n] <= high]
    logs = [math.log10(max(of.held[n], 1.0)) for n in inside]
    left, right = _padded(min(logs), max(logs))
    bottom, top = _padded(low, high)
    dots: dict[bool, list[str]] = {True: [], False: []}
    for n, x in zip(inside, logs, strict=True):
        dots[of.net_pnls[n] > 0].append(f"M{x:.4g} {0.0 - of.net_pnls[n]:.4g}h0")
    beyond = sum(not low <= pnl <= high for pnl in of.net_pnls)
    notes = []
    if len(shown) < len(order):
        notes.append(f"{count(len(shown))} of {count(len(order))} round trips.")
    if beyond:
        notes.append(f"{count(beyond)} are beyond the edge: they are in the tables.")
    names = ((60, "1 min"), (3600, "1 h"), (DAY, "1 d"), (7 * DAY, "1 w"), (364 * DAY, "1 y"))
    positions = [(100 * (math.log10(s) - left) / (right - left), label) for s, label in names]
    return Plot(
        title="Holding time and net PnL of each round trip",
        words=f"{count(len(order))} round trips",
        lines=[
            Line(name="gain", look="dots up", path="".join(dots[True])),
            Line(name="loss", look="dots down", path="".join(dots[False])),
        ],
        view=(left, -top, right - left, top - bottom),
        x_ticks=[(position, label) for position, label in positions if 0 <= position <= 100],
        y_ticks=value_ticks(bottom, top),
        kind="dots",
        note=" ".join(notes),
        height=260,
    )


def _body(ordered: Sequence[float]) -> tuple[float, float]:
    """Return the range of 98 % of ascending numbers; of all, if there are few."""
    if len(ordered) < 100:
        return ordered[0], ordered[-1]
    return ordered[len(ordered) // 100], ordered[-len(ordered) // 100]


# --- tables of bars -----------------------------------------------------------------------------


def parts(title: str, label: str, found: Iterable[Part], note: str = "") -> Bars:
    """Return the PnL of parts with the numbers of closed trades and the win rates."""
    rows = list(found)
    earned = [part.total_pnl or 0.0 for part in rows]
    low, high = min(0.0, *earned, 0.0), max(0.0, *earned, 0.0)
    decimals = places(part.total_pnl for part in rows)
    bars = []
    for part in rows:
        pnl = part.total_pnl
        left, width = _extent(pnl or 0.0, low, high)
        bars.append(
            Bar(
                label=str("none" if part.key is None else part.key),
                left=left,
                width=width,
                look=look_of(pnl),
                cells=(
                    "not known" if pnl is None else amount(pnl, decimals, "+"),
                    count(part.closed_trades),
                    "none" if part.win_rate is None else f"{part.win_rate:.0%}",
                ),
            )
        )
    return Bars(title=title, label=label, heads=("PnL", "closed", "wins"), rows=bars, note=note)


def histogram(of: Currency) -> Bars:
    """Return the number of closed trades in ranges of PnL, the tails in one range each."""
    low, high = _body(sorted(of.pnls))
    edges = round_edges([low, high], 20)
    counts = Counter(bucket_of(pnl, edges, closed=len(of.pnls) < 100) for pnl in of.pnls)
    if edges[0] == edges[-1]:
        counts = Counter({(0, 1): len(of.pnls)})
    first, last = (0, len(edges)) if len(of.pnls) >= 100 else (1, len(edges) - 1)
    largest = max(counts.values())
    rows = []
    for place in range(first, max(last, first) + 1):
        held = counts[0, place]
        if not held and place in (0, len(edges)):
            continue
        middle = edges[0] if place == 0 else edges[place - 1]
        rows.append(
            Bar(
                label=bucket_bounds((0, place), edges)["label"],
                left=0.0,
                width=100 * held / largest,
                look="down" if middle < 0 else "up",
                cells=(count(held), f"{held / len(of.pnls):.1%}"),
            )
        )
    return Bars(title="PnL of a closed trade", label="PnL", heads=("closed", "part"), rows=rows)


def _extent(value: float, low: float, high: float) -> tuple[float, float]:
    """Return where the bar of a value begins, and its width, in percent."""
    size = (high - low) or 1.0
    return 100 * (min(value, 0.0) - low) / size, 100 * abs(value) / size


def look_of(value: float | None) -> str:
    """Return the CSS class of an amount."""
    return "" if not value else "up" if value > 0 else "down"


# --- months and days ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A month or a day: its PnL as text, and how large that is: 0 to 3."""

    label: str
    text: str
    detail: str
    look: str


@dataclass(frozen=True, kw_only=True)
class Day:
    """A day of a calendar, which has a column for each week from Monday on."""

    week: int
    weekday: int
    look: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Year:
    """A year of the calendar of days."""

    year: int
    months: list[tuple[float, str]]
    days: list[Day]


def months(of: Currency) -> list[tuple[str, list[Cell]]]:
    """Return the months of each year, with the return of each where there is a capital."""
    by_key = {part.key: part for part in of.months}
    growth: dict[str, float] = {}
    for day, change in of.daily_returns.items():
        growth[day[:7]] = growth.get(day[:7], 1.0) * (1 + change)
    limits = _limits(of.months)
    earned = [abs(part.total_pnl or 0.0) for part in of.months]
    decimals = 0 if max(earned, default=0.0) >= 1000 else places(earned)
    years = []
    for year in sorted({key[:4] for key in by_key}):
        cells = []
        for month, name in enumerate(MONTHS, start=1):
            part = by_key.get(f"{year}-{month:02}")
            grown = growth.get(f"{year}-{month:02}")
            cells.append(_cell(name, part, grown, limits, decimals))
        years.append((year, cells))
    return years


def _cell(
    name: str, part: Part | None, change: float | None, limits: list[float], decimals: int
) -> Cell:
    if part is None:
        return Cell(label=name, text="", detail="", look="")
    pnl = part.total_pnl
    detail = f"{count(part.closed_trades)} closed" if change is None else f"{change - 1:+.1%}"
    text = "not known" if pnl is None else amount(pnl, decimals, "+")
    return Cell(label=name, text=text, detail=detail, look=_heat(pnl, limits))


def calendars(of: Currency) -> list[Year]:
    """Return the days with closed trades of the latest years."""
    limits = _limits(of.days)
    years: dict[int, list[Day]] = {}
    for part in of.days:
        date = datetime.fromisoformat(part.key)
        first = datetime(date.year, 1, 1)  # noqa: DTZ001  (a date alone)
        number_of_day = (date - first).days + first.weekday()
        pnl = "not known" if part.total_pnl is None else amount(part.total_pnl, None, "+")
        change = of.daily_returns.get(part.key)
        words = f"{part.key}: {pnl}" + ("" if change is None else f" ({change:+.2%})")
        years.setdefault(date.year, []).append(
            Day(
                week=number_of_day // 7,
                weekday=number_of_day % 7,
                look=_heat(part.total_pnl, limits),
                text=f"{words}, {count(part.closed_trades)} closed",
            )
        )
    return [
        Year(
            year=year,
            months=[
                (100 * (datetime(year, n, 1).timetuple().tm_yday / 7) / 53, name)  # noqa: DTZ001
                for n, name in enumerate(MONTHS, start=1)
            ],
            days=days,
        )
        for year, days in sorted(years.items())[-MAX_YEARS:]
    ]


def _limits(found: Iterable[Part]) -> list[float]:
    """Return from which amounts on a part is of the second and of the third size."""
    sizes = sorted(abs(part.total_pnl) for part in found if part.total_pnl)
    return [sizes[len(sizes) // 3], sizes[len(sizes) * 2 // 3]] if sizes else []


def _heat(pnl: float | None, limits: list[float]) -> str:
    look = look_of(pnl)
    return f"{look} heat{bisect_right(limits, abs(pnl)) + 1}" if look and pnl else ""
