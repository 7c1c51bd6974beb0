"""The charts as plain data: ticks, ranges, months, days and words."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from samples import at, signal, trade

from botmemory.report import _charts, _collect
from botmemory.report._figures import Currency

FILTERS = dict.fromkeys(("symbol", "strategy", "start_date", "end_date", "exchange"))


def currency(capital: Any = None) -> Currency:
    [found] = _collect.collect(FILTERS, None, None, None, capital, None).currencies
    return found


def points(path: str) -> list[tuple[float, float]]:
    """Return the points of a path, as the script of the page reads them."""
    found, x = [], 0.0
    for command, number in re.findall(r"([HV])(-?[\d.e+-]+)", path):
        if command == "H":
            x = float(number)
        else:
            found.append((x, 0.0 - float(number)))
    return found


@pytest.mark.usefixtures("empty_database")
class TestPaths:
    def test_a_path_has_the_seconds_and_the_values_of_the_curve(self) -> None:
        for n, pnl in enumerate((1.5, -2.25, 0.125, 1e-7)):
            trade(pnl=pnl, timestamp=at(n * n))
        found = currency()
        equity, drawdown = _charts.equity(found), _charts.drawdown(found)
        assert points(equity.lines[0].path) == [
            (0, 1.5), (3600, -0.75), (4 * 3600, -0.625), (9 * 3600, -0.6249999),
        ]  # fmt: skip
        falls = points(drawdown.lines[0].path)
        assert falls == [(0, 0), (3600, -2.25), (4 * 3600, -2.125), (9 * 3600, -2.1249999)]
        assert equity.view[0] == 0
        assert equity.view[2] == 9 * 3600

    def test_a_long_curve_keeps_its_extremes_and_says_how_many_points_are_drawn(self) -> None:
        generator = random.Random(3)
        for n in range(1500):
            trade(pnl=generator.choice((-1, 1)), timestamp=at(n))
        found = currency()
        plot = _charts.equity(found)
        drawn = [value for _, value in points(plot.lines[0].path)]
        assert len(drawn) <= _charts.MAX_POINTS
        assert (min(drawn), max(drawn)) == (min(found.equity.values), max(found.equity.values))
        assert f"Drawn from {len(drawn)} of 1,500 points" in plot.note

    def test_few_fills_are_drawn_one_by_one_and_many_are_counted(self) -> None:
        for n in range(_charts.MAX_MARKS):
            trade(side="buy" if n % 3 else "sell", price=100 + n, timestamp=at(n))
        [fills] = currency().fills
        few = _charts.prices(currency(), fills, 0)
        assert len(few.marks) == _charts.MAX_MARKS
        assert sum(mark.is_buy for mark in few.marks) == 100
        assert (few.marks[0].left, few.marks[-1].left) == (0, 100)
        assert few.marks[1].text.splitlines()[0] == "buy 1 at 101"
        trade(price=90, timestamp=at(200))
        [fills] = currency().fills
        many = _charts.prices(currency(), fills, 0)
        assert not many.marks
        assert [line.name for line in many.lines] == ["price of the last fill", "bought", "sold"]
        assert "zoom in to see each of them" in many.note


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_ticks_are_round_and_inside(first: float, second: float) -> None:
    low, high = _charts._padded(min(first, second), max(first, second))
    assume(high - low > 1e-6 * max(abs(low), abs(high)))
    ticks = _charts.value_ticks(low, high)
    assert 1 <= len(ticks) <= 6
    assert all(-1e-6 <= position <= 100 + 1e-6 for position, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)
    for position, label in ticks:
        value = float(label.replace(",", ""))
        assert value == pytest.approx(low + position * (high - low) / 100, abs=(high - low) / 100)


@pytest.mark.usefixtures("empty_database")
class TestTables:
    def test_a_histogram_shows_the_body_and_has_a_range_for_each_tail(self) -> None:
        generator = random.Random(2)
        pnls = [generator.gauss(0, 10) for _ in range(600)] + [5000.0, -4000.0]
        for n, pnl in enumerate(pnls):
            trade(pnl=pnl, timestamp=at(n))
        bars = _charts.histogram(currency())
        counts = [int(bar.cells[0].replace(",", "")) for bar in bars.rows]
        assert sum(counts) == len(pnls)
        # one range has by far not all of them, though two trades are far away
        assert max(counts) < len(pnls) / 4
        assert len([number for number in counts if number > 10]) >= 8
        assert bars.rows[0].label.startswith("below ")
        assert bars.rows[-1].label.endswith(" or more")
        assert {bar.look for bar in bars.rows} == {"up", "down"}

    @pytest.mark.parametrize("pnls", [[0.0], [5.0], [1.0, -1.0], [2.0] * 150])
    def test_a_histogram_of_few_or_equal_results(self, pnls: list[float]) -> None:
        for n, pnl in enumerate(pnls):
            trade(pnl=pnl, timestamp=at(n))
        bars = _charts.histogram(currency())
        assert sum(int(bar.cells[0]) for bar in bars.rows) == len(pnls)

    def test_bars_begin_at_zero_and_are_as_long_as_the_amounts(self) -> None:
        for symbol, pnl in (("A/USDT", 30), ("B/USDT", -10), ("C/USDT", 0)):
            trade(symbol=symbol, pnl=pnl)
        rows = _charts.parts("PnL", "symbol", currency().symbols).rows
        shown = [(bar.label, bar.left, bar.width, bar.look, bar.cells) for bar in rows]
        assert shown == [
            ("A/USDT", 25, 75, "up", ("+30.00", "1", "100%")),
            ("B/USDT", 0, 25, "down", ("-10.00", "1", "0%")),
            ("C/USDT", 25, 0, "", ("+0.00", "1", "0%")),
        ]

    def test_months_and_days_have_their_pnl_and_their_return(self) -> None:
        days = ((2023, 12, 31, 10), (2024, 1, 1, -5), (2024, 1, 2, 20), (2024, 3, 4, 1))
        for year, month, day, pnl in days:
            trade(pnl=pnl, timestamp=datetime(year, month, day, 12, tzinfo=UTC))
        found = currency(capital=100)
        months = dict(_charts.months(found))
        assert list(months) == ["2023", "2024"]
        assert [cell.text for cell in months["2023"]] == [""] * 11 + ["+10.00"]
        january, february, march = months["2024"][:3]
        growth = (1 - 5 / 110) * (1 + 20 / 105) - 1
        assert (january.text, january.detail) == ("+15.00", f"{growth:+.1%}")
        assert (february.text, february.look) == ("", "")
        assert march.look == "up heat1"
        assert january.look == "up heat3"
        of_2023, of_2024 = _charts.calendars(found)
        # the last day of 2023 was a Sunday, the first of 2024 a Monday
        assert [(day.week, day.weekday) for day in of_2023.days] == [(52, 6)]
        places = [(day.week, day.weekday, day.look[:2]) for day in of_2024.days]
        assert places == [(0, 0, "do"), (0, 1, "up"), (9, 0, "up")]
        assert of_2024.days[0].text == "2024-01-01: -5.00 (-4.55%), 1 closed"

    def test_holding_times_and_results_are_dots(self) -> None:
        for n, (hours, price) in enumerate(((1, 110), (24, 95), (0.01, 100))):
            opened = at(0) + timedelta(days=3 * n)
            trade(timestamp=opened)
            trade(side="sell", price=price, timestamp=opened + timedelta(hours=hours))
        plot = _charts.durations(currency())
        gains, losses = (line.path for line in plot.lines)
        assert gains == "M3.556 -10h0"
        assert set(losses.split("M")) == {"", "4.937 5h0", "1.556 0h0"}
        assert [label for _, label in plot.x_ticks] == ["1 min", "1 h", "1 d"]


def test_metadata_is_readable() -> None:
    metadata = {
        "rsi": 23.456789012345678,
        "ema": {"fast": 61234.56789012345, "slow": 0.000123456789},
        "volume": 123456789.123,
        "count": 12,
        "ok": True,
        "why": "x" * 300,
    }
    assert _charts.metadata_lines(metadata) == [
        "rsi: 23.4568",
        "ema.fast: 61,234.6",
        "ema.slow: 0.000123457",
        "volume: 123,456,789",
        "count: 12",
        "ok: true",
        f"why: {'x' * 200}...",
    ]
    assert _charts.metadata_lines(None) == []
    assert len(_charts.metadata_lines({str(n): n for n in range(50)})) == 10


def test_signals_are_in_the_words_of_fills(empty_database: Any) -> None:
    because = signal(signal_metadata={"rsi": 1 / 3}, timestamp=at(0))
    trade(signal=because, pnl=0.00042, timestamp=at(1))
    [fills] = currency().fills
    assert _charts.fill_lines(fills, 0) == [
        "buy 1 at 100",
        "2024-01-01 01:00:00 UTC",
        "PnL +0.00042",
        "signal +1 at 2024-01-01 00:00:00",
        "rsi: 0.333333",
    ]
