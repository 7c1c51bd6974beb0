"""The live page in a real browser, while other processes record and servers end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import realistic
from accessibility import SERIOUS, VIOLATIONS
from browser import Browser, needs_browser
from samples import signal
from serving import Served, record

from botmemory import close_db, init_db
from botmemory._url import server_parameters
from botmemory.repositories import trades

Serve = Callable[..., Served]

pytestmark = [needs_browser, pytest.mark.processes]
SECONDS = 2.0  # from the record to the page


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path)
    yield browser
    browser.close()


def has(text: str, place: str = "main") -> str:
    return f"document.querySelector('{place}').innerText.includes('{text}')"


def says(text: str) -> str:
    return f"document.getElementById('live').textContent.includes('{text}')"


LIVE = "document.getElementById('live').textContent.startsWith('Live')"


def test_a_trade_of_another_process_appears_at_once(
    target: str, serve: Serve, browser: Browser
) -> None:
    record(target)
    browser.open(serve(target).url)
    browser.wait_for(LIVE)
    assert browser.value(has("BTC/USDT"))
    assert not browser.value(has("ETH/USDT"))
    record(target, "ETH/USDT")
    assert browser.wait_for(has("ETH/USDT")) < SECONDS
    browser.wait_for(has("ETH/USDT", "section.currency"))
    assert browser.messages == []


def test_of_many_trades_what_was_recorded_last_appears_at_once_and_the_charts_follow(
    tmp_path: Path, serve: Serve, browser: Browser
) -> None:
    target = str(tmp_path / "bot.db")
    init_db(target)
    realistic.record(30_000)
    close_db()
    browser.open(serve(target).url)
    browser.wait_for(LIVE)
    for symbol in ("NEW/USDT", "NEWER/USDT"):  # the charts are read while the second one comes
        record(target, symbol)
        browser.wait_for(has(symbol, "#latest"))
    of_charts = "document.getElementById('data').textContent.includes('NEWER/USDT')"
    assert not browser.value(of_charts)
    assert ", the charts and results of " in browser.value(
        "document.getElementById('live').textContent"
    )
    browser.wait_for(of_charts, seconds=60)


def test_what_has_not_changed_is_not_read_again(
    target: str, serve: Serve, browser: Browser
) -> None:
    record(target)
    browser.open(serve(target, BOTMEMORY_POOL_SIZE="1").url)
    browser.wait_for(LIVE)
    record(target, "ETH/USDT")  # read by two threads at the same time
    browser.wait_for(has("ETH/USDT", "section.currency"))
    time.sleep(1.5)  # a last look, as several trades came one after the other
    before = browser.value(VERSIONS)
    time.sleep(3)
    assert browser.value(VERSIONS) == before


VERSIONS = "[...document.querySelectorAll('[data-version]')].map((each) => each.dataset.version)"


VIEW = """(() => {
  const section = document.querySelector("section.currency");
  const holder = section.querySelector(".trips");
  return {
    view: section.querySelector(".time svg").getAttribute("viewBox").split(" ")[2],
    search: holder.querySelector("input").value,
    sorted: holder.querySelector("th[aria-sort=ascending]")?.textContent,
    top: Math.round(holder.getBoundingClientRect().top),
    focus: document.activeElement.name,
  };
})()"""
CHANGE_VIEW = """(() => {
  const section = document.querySelector("section.currency");
  const holder = section.querySelector(".trips");
  const start = Number(section.dataset.start), end = Number(section.dataset.end);
  section.dispatchEvent(new CustomEvent("show", { detail: [start, start + (end - start) / 2] }));
  [...holder.querySelectorAll("th button")].find((each) => each.textContent === "symbol").click();
  const input = holder.querySelector("input");
  input.value = "usdt";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.focus();
  holder.scrollIntoView();
})()"""


def test_a_change_keeps_zoom_sort_search_focus_and_place(
    tmp_path: Path, serve: Serve, browser: Browser
) -> None:
    target = str(tmp_path / "bot.db")
    _record_over_days(target)
    browser.open(serve(target).url)
    browser.wait_for(LIVE)
    browser.value(CHANGE_VIEW)
    before = browser.value(VIEW)
    assert (before["search"], before["sorted"], before["focus"]) == ("usdt", "symbol", "search")
    record(target, "SOL/USDT")
    browser.wait_for(has("SOL/USDT"))
    after = browser.value(VIEW)
    assert float(after.pop("view")) == pytest.approx(float(before.pop("view")), abs=1)
    assert after == before


def _record_over_days(target: str) -> None:
    init_db(target)
    for hours in range(100):
        at = datetime.now(UTC) - timedelta(hours=hours)
        side, pnl = ("sell", float(hours - 40)) if hours % 2 == 0 else ("buy", None)
        trades.create(
            symbol="XRP/USDT", side=side, price=2 + hours / 100, quantity=1, timestamp=at, pnl=pnl
        )
    close_db()


def test_the_page_goes_on_with_a_server_that_was_restarted(
    tmp_path: Path, serve: Serve, browser: Browser
) -> None:
    target = str(tmp_path / "bot.db")
    record(target)
    first = serve(target)
    browser.open(first.url)
    browser.wait_for(LIVE)
    assert first.interrupt()[0] == 0
    browser.wait_for("document.getElementById('live').textContent.startsWith('Not connected')")
    record(target, "ETH/USDT")
    assert not browser.value(has("ETH/USDT"))
    serve(target, "--port", str(first.port))
    browser.wait_for(has("ETH/USDT"))
    browser.wait_for(LIVE)


def test_the_page_says_how_old_its_figures_are_while_the_database_cannot_be_read(
    tmp_path: Path, serve: Serve, browser: Browser
) -> None:
    path = tmp_path / "bot.db"
    record(str(path))
    browser.open(serve(str(path)).url)
    browser.wait_for(LIVE)
    path.rename(tmp_path / "moved.db")
    browser.wait_for(
        "document.getElementById('live').textContent.startsWith('The latest trades of')"
    )
    assert browser.value(has("BTC/USDT"))
    (tmp_path / "moved.db").rename(path)
    browser.wait_for(LIVE)


def test_it_goes_on_while_the_schema_is_another_one(
    target: str, serve: Serve, browser: Browser
) -> None:
    record(target)
    browser.open(serve(target).url)
    browser.wait_for(LIVE)
    migrate = [sys.executable, "-m", "botmemory", "--db", target, "migrate"]
    down = [*migrate, "down", "0005_add_contract_size"]
    subprocess.run(down, check=True, capture_output=True)
    browser.wait_for(says("migrations are pending"))
    assert browser.value(has("BTC/USDT"))
    subprocess.run([*migrate, "up"], check=True, capture_output=True)
    browser.wait_for(LIVE)
    record(target, "ETH/USDT")
    assert browser.wait_for(has("ETH/USDT")) < SECONDS


def test_it_goes_on_while_a_table_is_locked(
    new_database: Callable[[], str], serve: Serve, browser: Browser
) -> None:
    target = new_database()
    record(target)
    browser.open(serve(target).url)
    browser.wait_for(LIVE)
    with psycopg.connect(**server_parameters(target)) as connection:
        connection.execute("LOCK TABLE trade")
        init_db(target)
        signal(symbol="ETH/USDT")  # a change, after which the trades are read again
        browser.wait_for(says("another writer held it"))
        for _ in range(40):
            time.sleep(0.1)
            assert browser.value(says("another writer held it"))
        assert browser.value(has("BTC/USDT"))
    browser.wait_for(LIVE)


def test_a_symbol_that_makes_the_filters_ambiguous_is_an_error_of_the_charts_alone(
    tmp_path: Path, serve: Serve, browser: Browser
) -> None:
    target = str(tmp_path / "bot.db")
    record(target, "AAPL")
    browser.open(serve(target).url)
    browser.wait_for(LIVE)
    record(target, "SAPJPY")
    assert browser.wait_for(has("SAPJPY", "#latest")) < SECONDS
    browser.wait_for(says("do not name a currency"))
    for _ in range(20):  # until a change
        time.sleep(0.1)
        assert browser.value(says("do not name a currency"))
    record(target, "TSLA")
    assert browser.wait_for(has("TSLA", "#latest")) < SECONDS


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_no_serious_fault_and_nothing_is_cut_off(
    tmp_path: Path, serve: Serve, browser: Browser, axe: str, width: int, scheme: str
) -> None:
    target = str(tmp_path / "bot.db")
    init_db(target)
    realistic.record(2_000)
    close_db()
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.send("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.send("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.open(serve(target).url)
    browser.wait_for(LIVE)
    record(target, "NEW/USDT")
    browser.wait_for(has("NEW/USDT", "#latest"))
    assert browser.value("document.documentElement.scrollWidth") <= width
    browser.value(f"{axe}; 0")
    assert [each for each in browser.value(VIOLATIONS) if each[1] in SERIOUS] == []
    pale = "document.querySelector('#latest td').style.color = 'rgb(128, 128, 128, .3)'"
    assert browser.value(f"{pale}; {VIOLATIONS}.then((found) => found.length)") > 0


def test_with_a_token_the_address_is_opened_once_and_has_no_token_after(
    tmp_path: Path, serve: Serve, browser: Browser
) -> None:
    target = str(tmp_path / "bot.db")
    record(target)
    served = serve(target, "--token", "a-long-enough-token")
    browser.open(f"{served.url}/?token=a-long-enough-token")
    browser.wait_for(LIVE)
    assert browser.value("location.href") == served.url + "/"
    assert browser.value("document.cookie") == ""
    record(target, "ETH/USDT")
    assert browser.wait_for(has("ETH/USDT")) < SECONDS
