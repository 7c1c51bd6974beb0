"""The page: the template filled with charts and figures; it needs no other file and no network."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any

from .._version import __version__
from ..analysis.round_trips import RoundTrip
from ..formats import amount, count, number, places
from ..models import Signal, Trade
from ..repositories.positions import Position
from . import _charts
from ._figures import Currency, Fills, Report, Strategy

LATEST_POSITIONS = 20


@dataclass(frozen=True, kw_only=True)
class Section:
    """The charts and tables of a currency, as the template takes them."""

    of: Currency
    plots: list[_charts.Plot]
    price_plots: list[_charts.Plot]
    dots: _charts.Plot | None
    bars: list[_charts.Bars]
    months: list[tuple[str, list[_charts.Cell]]]
    years: list[_charts.Year]


@cache
def _templates() -> Any:
    jinja2: Any = importlib.import_module("jinja2")
    markup: Any = importlib.import_module("markupsafe")

    def breakable(name: str) -> Any:
        """Return a name as HTML that may be broken after each underscore."""
        return markup.escape(name).replace("_", markup.Markup("_<wbr>"))

    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_file),
    )
    # what is written into a script element has no < > & and '
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    environment.globals |= {
        "amount": amount,
        "count": count,
        "number": number,
        "places": places,
        "breakable": breakable,
        "duration": duration,
        "metadata_lines": _charts.metadata_lines,
        "small": _charts.small,
        "look_of": _charts.look_of,
        "MONTHS": _charts.MONTHS,
    }
    return environment


def script_of(live_script: str = "") -> str:
    """Return the script of the page, with what a live one has beside it."""
    return f"\n{_file('script.js')}{live_script}"


def render(report: Report, live_script: str = "", version_of_page: str = "") -> str:
    """Return a report as one HTML page; with a version it is a live one."""
    sections: list[Section] = []
    fills: list[dict[str, Any]] = []
    for currency in report.currencies:
        sections.append(_section(currency, len(fills)))
        fills += [_fill_columns(each, currency.start) for each in currency.fills]
    page: str = (
        _templates()
        .get_template("template.html")
        .render(
            report=report,
            sections=sections,
            strategies=_strategies(report),
            data={
                "trips": [_trip_columns(currency) for currency in report.currencies],
                "fills": fills,
            },
            style=_file("style.css"),
            script=script_of(live_script),
            version_of_page=version_of_page,
            version=__version__,
        )
    )
    return page


def render_latest(
    positions: Sequence[Position] | None,
    trades: Sequence[Trade],
    signals: Sequence[Signal],
    version: str,
) -> str:
    """Return the first section of a live page: what is open, and what was recorded last."""
    template = _templates().get_template("latest.html")
    section: str = template.render(
        positions=positions and positions[:LATEST_POSITIONS],
        more_positions=len(positions or ()) - LATEST_POSITIONS,
        trades=trades,
        signals=signals,
        version=version,
    )
    return section


def _file(name: str) -> str:
    return resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def _section(of: Currency, first_fills: int) -> Section:
    plots, bars, dots = [], [], None
    is_known = of.summary.total_pnl is not None
    if of.pnls and is_known:
        plots += [_charts.equity(of), _charts.drawdown(of)]
        if any(of.paid_fees.values):
            plots.append(_charts.fees(of))
        if of.win_rate.values:
            plots.append(_charts.win_rate(of))
    if of.exposure.values:
        plots.append(_charts.exposure(of))
    if of.symbols:
        of_symbols = of.symbols[: _charts.MAX_BARS]
        left_out = len(of.symbols) - len(of_symbols)
        note = f"{count(left_out)} more have earned or lost less." if left_out else ""
        bars.append(_charts.parts("PnL by symbol", "symbol", of_symbols, note))
        bars.append(_charts.parts("Long and short", "direction", of.directions))
    if of.pnls and is_known:
        bars.append(_charts.histogram(of))
    if of.total_trips:
        times = [each.result for each in of.holding_times if each.result.closed_trades]
        note = "Net PnL of the round trips by the time that they were held."
        bars.append(_charts.parts("Holding times", "held", times, note))
    if of.hours:
        bars.append(_charts.parts("PnL by hour of the day (UTC)", "hour", of.hours))
    which = "signal" if of.summary.source == "recorded" else "entry signal"
    for key, found in of.metadata:
        title = f"Result by the {which}'s {key}"
        bars.append(_charts.parts(title, key, found[: _charts.MAX_BARS]))
    if len(of.held) > 1:
        dots = _charts.drawable(_charts.durations(of))
    return Section(
        of=of,
        plots=[_charts.drawable(plot) for plot in plots],
        price_plots=[
            _charts.drawable(_charts.prices(of, fills, first_fills + n))
            for n, fills in enumerate(of.fills)
        ],
        dots=dots,
        bars=bars,
        months=_charts.months(of) if is_known else [],
        years=_charts.calendars(of) if is_known else [],
    )


def _strategies(report: Report) -> list[tuple[str, list[tuple[int, int, Strategy] | None]]]:
    """Return the results of each strategy in each currency, with their places."""
    names = {
        each.name or "": None for currency in report.currencies for each in currency.strategies
    }
    rows = []
    for name in names:
        found: list[tuple[int, int, Strategy] | None] = []
        for n, currency in enumerate(report.currencies):
            places = [
                (n, m, each)
                for m, each in enumerate(currency.strategies)
                if (each.name or "") == name
            ]
            found.append(places[0] if places else None)
        rows.append((name, found))
    return rows


def duration(span: timedelta | None) -> str:
    """Return a time span in its largest units."""
    if span is None:
        return "none"
    seconds = int(span.total_seconds())
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days >= 10:
        return f"{count(days)} d"
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _trip_columns(of: Currency) -> dict[str, Any]:
    """Return the round trips as columns: texts by their place in a list, times as differences."""
    symbols, strategies, tags = _Texts(), _Texts(), _Texts()
    columns: dict[str, list[Any]] = {name: [] for name in "tdsghqefxnk"}
    last = 0
    for trip in of.trips:
        closed = int((trip.closed_at or trip.opened_at).timestamp())
        row = {
            "t": closed - last,
            "d": round((trip.holding_time or timedelta()).total_seconds()),
            "s": symbols.place(trip.symbol),
            "g": strategies.place(trip.strategy or ""),
            "h": 1 if trip.direction == "long" else 0,
            "q": _rounded(trip.quantity),
            "e": _rounded(trip.entry_price),
            "x": None if trip.exit_price is None else _rounded(trip.exit_price),
            "f": _fees(trip),
            "n": None if trip.net_pnl is None else _rounded(trip.net_pnl),
            "k": tags.place(", ".join(trip.tags)),
        }
        last = closed
        for name, value in row.items():
            columns[name].append(value)
    return {
        **columns,
        "symbols": list(symbols),
        "strategies": list(strategies),
        "tags": list(tags),
    }


def _fees(trip: RoundTrip) -> float | None:
    """Return what the fees of a round trip are worth; None if it is not known."""
    if trip.gross_pnl is None or trip.funding is None or trip.net_pnl is None:
        return None
    return float(f"{trip.gross_pnl + trip.funding - trip.net_pnl:.6g}") + 0.0


def _fill_columns(of: Fills, start: float) -> dict[str, Any]:
    """Return fills as columns; times as differences in seconds, from the start of the section."""
    seconds = [round(time - start) for time in of.times]
    texts = ["\n".join(_charts.fill_lines(of, n)) for n in range(len(of.trades))]
    return {
        "t": [now - before for before, now in zip([0, *seconds], seconds, strict=False)],
        "p": [_rounded(price) for price in of.prices],
        "q": [_rounded(quantity) for quantity in of.quantities],
        "notes": texts,
    }


def _rounded(value: float) -> float | int:
    """Return a number with ten digits, a whole one without a point."""
    number = float(f"{value:.10g}")
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


class _Texts(dict[str, int]):
    """Texts in the order in which they were first seen."""

    def place(self, text: str) -> int:
        return self.setdefault(text, len(self))
