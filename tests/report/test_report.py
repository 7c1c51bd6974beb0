"""The report, in a real browser."""

from __future__ import annotations

import enum
import html
import re
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, open_page, screenshot
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from samples import at, signal, trade, trade_values

from botmemory import StorageError, ValidationError, close_db, init_db
from botmemory._install import install_command
from botmemory.cli._app import cli
from botmemory.report import write_report
from botmemory.report._downsample import downsample
from botmemory.repositories import cash_flows, trades

MAX_BYTES = 5_000_000


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The path of a report."""
    return tmp_path / "report.html"


@pytest.fixture
def paper_page(paper_run: tuple[Path, str], page: Path) -> Path:
    """The report of the paper bot."""
    init_db(paper_run[0], read_only=True)
    return write_report(page, source="fills")


def text_of(dom: str) -> str:
    """Return the text of a page without scripts and styles."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", dom, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", "\n", body))


@needs_browser
class TestInABrowser:
    def test_the_report_of_the_paper_bot(self, paper_page: Path, tmp_path: Path) -> None:
        opened = open_page(paper_page, tmp_path)
        assert opened.messages == []
        text = text_of(opened.dom)
        for expected in (
            "Trades in paper_bot.db",
            "+2,123.00",
            "30.8%",
            "Cumulative PnL",
            "Drawdown",
            "PnL by month",
            "Result by the entry signal's fast",
            "GOOG: 40 fills",
            "Best round trips",
            "Largest drawdowns",
            "Open positions",
        ):
            assert expected in text, expected
        # each chart is drawn, and each fill
        charts = re.findall(r'<svg viewBox="[^"]*" preserve.*?</svg>', opened.dom, re.DOTALL)
        assert len(charts) == 6
        for chart in charts:
            assert re.search(r'<path class="(line|area|dots)[^>]* d="M[^"]{100,}"', chart), chart
        assert (
            len(re.findall(r'<i class="(?:up|down)"[^>]*data-tip="(?:buy|sell)', opened.dom)) == 40
        )
        # the table of round trips, of which the page shows 25
        assert "1 to 25 of 39" in text

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [420, 1200])
    def test_a_screenshot_of_each_width_and_colour_scheme(
        self, paper_page: Path, tmp_path: Path, width: int, scheme: str
    ) -> None:
        dark = ["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []
        path = screenshot(paper_page, tmp_path, width, 900, *dark)
        magic, *size = struct.unpack(">8s8xII", path.read_bytes()[:24])
        assert magic == b"\x89PNG\r\n\x1a\n"
        assert size == [width, 900]
        # a blank page is smaller
        assert path.stat().st_size > 20_000

    def test_the_page_is_not_wider_than_a_phone(self, paper_page: Path, tmp_path: Path) -> None:
        phone = paper_page.with_name("phone.html")  # a frame: no window is so narrow
        phone.write_text(
            f'<iframe src="{paper_page.name}" width="360" height="800" frameborder="0"></iframe>'
            "<script>onload = () => setTimeout(() => document.title = "
            "frames[0].document.documentElement.scrollWidth, 2000)</script>"
        )
        opened = open_page(phone, tmp_path, "--allow-file-access-from-files")
        assert re.findall(r"<title>(\d+)</title>", opened.dom) == ["360"]

    def test_text_of_the_database_is_escaped(self, path: Path, page: Path, tmp_path: Path) -> None:
        init_db(path)
        hostile = "<script>x()</script>"
        image = "<img src=x onerror=\"document.title='hit'\">"
        end_tag = "</script><script>document.title='hit'</script>"
        for n in range(3):
            trigger = signal(
                symbol=hostile,
                strategy=image,
                timestamp=at(n),
                signal_metadata={"kind": ["<b>a</b>", image][n % 2], end_tag: n, "&amp;": end_tag},
            )
            trade(symbol=hostile, strategy=image, signal=trigger, pnl=n - 1, timestamp=at(n))
            trade(symbol="<b>x</b>", strategy=image, signal=trigger, pnl=n, timestamp=at(n))
        close_db()
        init_db(path, read_only=True)
        write_report(page, strategy=image)
        opened = open_page(page, tmp_path)
        assert opened.messages == []
        assert "<title>Trades in" in opened.dom
        text = text_of(opened.dom)
        # in the title of a chart, on an axis, in a table and in the header
        assert text.count(hostile) >= 3
        for expected in ("<b>a</b>", image, end_tag, "&amp;"):
            assert expected in text, expected
        assert not re.search(
            r"<(b|img)\b", re.sub(r"<script\b.*?</script>", "", opened.dom, flags=re.S)
        )
        labels = re.findall(r'<th scope="row">(.*?)</th>', opened.dom)
        assert {hostile, "<b>x</b>", "<b>a</b>"} <= {html.unescape(label) for label in labels}
        # in the data of the script, and where it is pointed at
        assert "kind: \\u003cb\\u003ea" in page.read_text(encoding="utf-8")
        assert "kind: &lt;b&gt;a" in opened.dom

    @pytest.mark.parametrize("year", [1, 1969, 9998])
    @pytest.mark.parametrize("size", [5e-324, 1e-12, 1e17, 1e150])
    def test_extreme_values_are_drawn(
        self, path: Path, page: Path, tmp_path: Path, year: int, size: float
    ) -> None:
        init_db(path)
        start = datetime(year, 1, 1, tzinfo=UTC)
        for n in range(160):
            timestamp = start + timedelta(days=n // 2, microseconds=n)
            side, price = ("sell", 2 * size) if n % 2 else ("buy", size)
            trade(side=side, price=price, timestamp=timestamp, pnl=size if n % 2 else None)
        write_report(page)
        opened = open_page(page, tmp_path)
        assert opened.messages == []
        is_beyond_svg = size > 1e30
        assert ("too large or too small to be drawn" in opened.dom) == is_beyond_svg
        assert not re.search(r"NaN|[Ii]nf(inity)?\b|undefined", text_of(opened.dom))
        assert not re.search(r' (?:d|viewBox|style)="[^"]*(NaN|inf|Infinity)', opened.dom)

    @pytest.mark.long
    def test_a_hundred_thousand_trades(self, path: Path, page: Path, tmp_path: Path) -> None:
        init_db(path)
        triggers = [
            signal(signal_metadata={"rsi": n % 100, "note": "x" * 500}, timestamp=at(n))
            for n in range(200)
        ]
        trades.create_many(
            trade_values(
                symbol=f"COIN{n % 20}/USDT",
                timestamp=at(n / 10),
                price=100 + n % 977,
                pnl=(n * 7919 % 1013) - 500,
                signal=triggers[n % 200],
            )
            for n in range(100_000)
        )
        write_report(page)
        assert page.stat().st_size < MAX_BYTES
        opened = open_page(page, tmp_path)
        assert opened.messages == []
        text = text_of(opened.dom)
        assert re.search(r"Drawn from [\d,]+ of 100,000 points: the highest and lowest", text)
        assert "8 more symbols have fewer trades and no chart" in text


def test_an_empty_database(empty_database: Any, page: Path) -> None:
    write_report(page)
    assert "There are no trades" in page.read_text(encoding="utf-8")


def test_trades_that_are_all_open(empty_database: Any, page: Path) -> None:
    trade()
    text = write_report(page).read_text(encoding="utf-8")
    assert "Open positions" in text
    assert ">Cumulative PnL</figcaption>" not in text


def test_each_currency_has_a_section(empty_database: Any, page: Path) -> None:
    trade(pnl=5, signal=signal(signal_metadata={"rsi": 20, "regime": "up", "why": "x" * 100}))
    trade(symbol="ETH/EUR", pnl=-3, fee=1, fee_currency="EUR")
    trade(symbol="GOOG", pnl=0)
    calls: list[tuple[int, int]] = []
    text = write_report(page, progress=lambda done, total: calls.append((done, total))).read_text(
        encoding="utf-8"
    )
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == [
        "Overview",
        "Symbols without a currency",
        "In EUR",
        "In USDT",
    ]
    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1]
    assert "Result by the signal&#39;s regime" in text
    assert "Result by the signal&#39;s why" not in text  # too long to be a category
    assert "fees in EUR" in text


def record_round_trips(**values: Any) -> None:
    for day, price in enumerate((110, 95, 100)):
        because = signal(signal_metadata={"rsi": 20 + day})
        for hours, side, paid in ((0, "buy", 100), (5, "sell", price)):
            fill = {"side": side, "price": paid, "timestamp": at(24 * day + hours)}
            trade(signal=because if side == "buy" else None, **fill | values)


def test_without_recorded_pnl_it_is_that_of_the_round_trips(
    empty_database: Any, page: Path
) -> None:
    record_round_trips(fee=0.25, fee_currency="USDT")
    cash_flows.create(
        kind="funding", currency="USDT", amount=-0.5, symbol="BTC/USDT", timestamp=at(1)
    )
    text = write_report(page).read_text(encoding="utf-8")
    assert "From the fills: a closed trade is a round trip from flat to flat" in text
    for shown in (
        "+3.00",  # net: 10 - 5 less fees and funding
        "+5.00",  # gross
        "-0.50",
        "6 / 3",
        "33.3%",
        "Best round trips",
        "Worst round trips",
        "Result by the entry signal&#39;s rsi",
        "PnL by month",
    ):
        assert shown in text, shown
    assert "Best trades" not in text
    assert len(re.findall(r'data-label="direction">long</td>', text)) == 3
    recorded = write_report(page, source="recorded").read_text(encoding="utf-8")
    assert "As recorded: 0 of 6 trades have a PnL" in recorded
    assert "Not known: no trade has a pnl" in recorded


def test_a_pnl_that_is_not_known_is_named_and_never_0(empty_database: Any, page: Path) -> None:
    record_round_trips(fee=0.25, fee_currency="BNB")
    text = write_report(page).read_text(encoding="utf-8")
    assert "Not known: fees or funding are in BNB; pass rates=" in text
    assert "<dt>net PnL</dt><dd><strong>not known</strong></dd>" in text
    assert "<dt>win rate</dt><dd><strong>not known</strong></dd>" in text
    assert "on the command line, --rate." in text
    assert "+0.00" not in text
    for title in (">Cumulative PnL</figcaption>", ">PnL by month</h3>", "line accent"):
        assert title not in text, title
    assert ">Cumulative PnL</figcaption>" in write_report(page, rates={"BNB": 1}).read_text(
        encoding="utf-8"
    )


def test_symbols_without_a_currency_are_added_up_only_on_request(
    empty_database: Any, page: Path
) -> None:
    for symbol, pnl in (("BTCUSDT", 5), ("BTCJPY", 700)):
        trade(symbol=symbol, pnl=pnl)
    trade(symbol="ETH/EUR", pnl=1, strategy="a")
    for currency in ("USDT", "EUR"):
        cash_flows.create(kind="funding", currency=currency, amount=-64)
    with pytest.raises(ValidationError, match="symbols 'BTCJPY', 'BTCUSDT' do not name a currency"):
        write_report(page, strategy="")
    assert not page.exists()
    text = write_report(page).read_text(encoding="utf-8")
    assert "Left out: BTCJPY, BTCUSDT, which name no currency" in text
    assert ("700" in text, "ETH/EUR" in text) == (False, True)
    text = write_report(page, quote="").read_text(encoding="utf-8")
    assert ("+705.00" in text, "ETH/EUR" in text, "-64.00" in text) == (True, False, False)
    text = write_report(page, quote="EUR").read_text(encoding="utf-8")
    assert ("BTCUSDT" in text, "ETH/EUR" in text, text.count("-64.00")) == (False, True, 1)
    assert "+700.00" in write_report(page, "BTCJPY").read_text(encoding="utf-8")


def test_the_trades_are_filtered(empty_database: Any, page: Path) -> None:
    trade(symbol="ETH/USDT", pnl=5, timestamp=at(0), strategy="a")
    trade(pnl=7, timestamp=at(0) + timedelta(days=1))
    text = write_report(page, symbol="ETH/USDT", end_date=at(1)).read_text(encoding="utf-8")
    assert "+5.00" in text
    assert "+7.00" not in text
    assert "Symbol: ETH/USDT." in text
    assert "BTC/USDT" not in text


def test_small_amounts_are_readable(empty_database: Any, page: Path) -> None:
    for hour, pnl in enumerate((0.00042, -0.00011, 0.0009)):
        trade(symbol="ETH/BTC", pnl=pnl, timestamp=at(hour))
    text = write_report(page).read_text(encoding="utf-8")
    for amount in ("+0.00121", "+0.000403", "+0.00042", "+0.00090", "-0.00011"):
        assert amount in text
    assert 'data-places="5"' in text
    assert (
        re.findall(r"\b0\.00\b(?!%)", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
        == []
    )


def test_the_trades_are_filtered_by_exchange(empty_database: Any, page: Path) -> None:
    trade(pnl=5, exchange="okx")
    trade(pnl=7)
    text = write_report(page, exchange="okx").read_text(encoding="utf-8")
    assert ("+5.00" in text, "+7.00" in text, "Exchange: okx." in text) == (True, False, True)
    text = write_report(page, exchange="").read_text(encoding="utf-8")
    assert ("+5.00" in text, "+7.00" in text, "Exchange: none." in text) == (False, True, True)


def test_cash_flows_have_a_table_of_every_currency_and_kind(
    empty_database: Any, page: Path
) -> None:
    for day, amount in enumerate((-0.1, -0.2, 0.3)):
        cash_flows.create(
            kind="funding", currency="USDT", amount=amount, symbol="BTC/USDT:USDT",
            exchange="okx", timestamp=at(24 * day),
        )  # fmt: skip
    cash_flows.create(kind="deposit", currency="BTC", amount=0.00042)
    trade(pnl=5)

    def table(**filters: Any) -> list[str]:
        text = text_of(write_report(page, **filters).read_text(encoding="utf-8"))
        table = text.partition("none of the figures above.")[2].partition("With JavaScript")[0]
        return table.replace("Cash flows", "").split()

    head, deposits = ["currency", "kind", "number", "total"], ["BTC", "deposit", "1", "+0.00042"]
    assert table() == [*head, *deposits, "USDT", "funding", "3", "+0.00"]
    assert table(exchange="okx", end_date=at(24)) == [*head, "USDT", "funding", "2", "-0.30"]
    assert table(symbol="ETH/USDT") == []


class Market(str, enum.Enum):  # noqa: UP042  (str() of a member is its name)
    ETHER = "ETH/USDT"


def test_the_symbol_is_shown_as_it_is_stored(empty_database: Any, page: Path) -> None:
    trade(symbol=Market.ETHER, pnl=5)
    text = write_report(page, symbol=Market.ETHER).read_text(encoding="utf-8")
    assert "Symbol: ETH/USDT." in text
    assert "Market.ETHER" not in text


def test_an_existing_file_is_replaced_by_a_complete_report(
    empty_database: Any, page: Path, tmp_path: Path
) -> None:
    page.write_text("old")
    assert write_report(str(page)) == page
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(StorageError, match="report.html: cannot be written: No such file"):
        write_report(tmp_path / "nowhere" / "report.html")
    folder = tmp_path / "folder.html"
    folder.mkdir()
    with pytest.raises(StorageError, match="folder.html: cannot be written"):
        write_report(folder)
    assert {file.name for file in tmp_path.iterdir()} >= {"report.html", "folder.html"}
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_page_refers_to_no_other_file(empty_database: Any, page: Path) -> None:
    trade(pnl=5)
    text = write_report(page).read_text(encoding="utf-8")
    assert re.findall(r'\b(?:src|href)="(?!data:|#)', text) == []
    # and the browser is told so
    policy = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    assert [part for part in policy[0].split("; ") if "unsafe-inline" not in part] == [
        "default-src 'none'",
        "img-src data:",
    ]
    assert "@import" not in text
    assert "url(" not in text


def test_without_the_extra_the_error_says_what_to_install(path: Path, page: Path) -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from botmemory import init_db\nfrom botmemory.report import write_report\n"
        f"init_db({str(path)!r}); write_report({str(page)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert f"ConfigError: the report needs jinja2: {install_command('report')}\n" in done.stderr
    assert not page.exists()


def test_from_the_command_line(path: Path, page: Path) -> None:
    init_db(path)
    trade(pnl=5)
    close_db()
    done = CliRunner().invoke(cli, ["--db", str(path), "report", "--out", str(page)])
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{page}\n", "")
    assert "+5.00" in page.read_text(encoding="utf-8")
    assert "Returns of" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("capital", "returns"),
    [
        (["1000"], ["1,000.00 USDT"]),
        (["USDT=1000"], ["1,000.00 USDT"]),
        (["USDT=500", "EUR=20.5"], ["500.00 USDT", "20.50 EUR"]),
        (["deposits"], ["800.00 USDT"]),
        (["USDT=deposits", "EUR=20.5"], ["800.00 USDT", "20.50 EUR"]),
    ],
)
def test_capital_on_the_command_line(
    path: Path, page: Path, capital: list[str], returns: list[str]
) -> None:
    init_db(path)
    trade(pnl=5)
    if len(capital) > 1:
        trade(symbol="BTC/EUR", pnl=1)
    cash_flows.create(kind="deposit", currency="USDT", amount=800, timestamp=at(0))
    close_db()
    options = [part for text in capital for part in ("--capital", text)]
    done = CliRunner().invoke(cli, ["--db", str(path), "report", "--out", str(page), *options])
    assert (done.exit_code, done.stderr) == (0, "")
    text = page.read_text(encoding="utf-8")
    assert sorted(re.findall(r"Returns of (.*?) in 1 day<", text)) == sorted(returns)


def test_a_capital_that_is_none_is_refused_on_the_command_line(path: Path, page: Path) -> None:
    init_db(path)
    trade(pnl=5)
    trade(symbol="BTC/EUR", pnl=1)
    close_db()
    command = ["--db", str(path), "report", "--out", str(page), "--capital"]
    done = CliRunner().invoke(cli, [*command, "much"])
    assert done.exit_code == 2
    assert "'much' is neither an amount nor 'deposits'" in done.stderr
    done = CliRunner().invoke(cli, [*command, "1000"])
    assert done.exit_code == 2
    assert "pass a capital for each" in done.stderr


class TestDownsampling:
    def test_short_series_are_unchanged(self) -> None:
        assert downsample([3.0, 1.0], 2) == [0, 1]
        assert downsample([], 2) == []

    @given(st.lists(st.integers(-100, 100), min_size=1, max_size=300), st.integers(4, 50))
    def test_the_extremes_are_kept(self, values: list[int], max_count: int) -> None:
        kept = downsample(values, max_count)
        assert kept == sorted(set(kept))
        assert len(kept) <= max_count
        assert {kept[0], kept[-1]} == {0, len(values) - 1}
        kept_values = [values[index] for index in kept]
        assert min(kept_values) == min(values)
        assert max(kept_values) == max(values)
