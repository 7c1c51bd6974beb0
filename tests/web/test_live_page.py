"""The live page in a real browser, while other processes record and servers end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browser import Browser, needs_browser
from serving import Served, record

from botmemory import close_db, init_db
from botmemory.repositories import trades

Serve = Callable[..., Served]

pytestmark = [needs_browser, pytest.mark.processes]
SECONDS = 2.0  # from the record to the page


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path)
    yield browser
    browser.close()


def has(text: str) -> str:
    return f"document.querySelector('main').innerText.includes('{text}')"


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
    assert browser.messages == []


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
    browser.wait_for("document.getElementById('live').textContent.startsWith('The figures are of')")
    assert browser.value(has("BTC/USDT"))
    (tmp_path / "moved.db").rename(path)
    browser.wait_for(LIVE)


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
