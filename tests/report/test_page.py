"""The report of a realistic database, used and looked at in a real browser."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import realistic
from accessibility import SERIOUS, VIOLATIONS
from browser import needs_browser, open_page

from botmemory import close_db, init_db
from botmemory.report import write_report

TRADES = 4_000
DARK = "--blink-settings=preferredColorScheme=0"

pytestmark = needs_browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of twelve symbols in five currencies."""
    folder = tmp_path_factory.mktemp("report")
    init_db(folder / "bot.db")
    realistic.record(TRADES)
    path = write_report(folder / "report.html", rates=realistic.RATES, capital="deposits")
    close_db()
    return path


def run_in_page(report: Path, folder: Path, script: str, *flags: str) -> Any:
    """Return the value of an expression, which may be a promise, in the page."""
    page = folder / "with_script.html"
    written = report.read_text(encoding="utf-8").replace(
        "</body>",
        f"<script>Promise.resolve({script}).then((value) => {{"
        "const made = document.createElement('pre'); made.id = 'value';"
        "made.textContent = JSON.stringify(value); document.body.replaceChildren(made); });"
        "</script></body>",
    )
    page.write_text(written, encoding="utf-8")
    opened = open_page(page, folder, *flags)
    assert opened.messages == []
    found = re.search(r'<pre id="value">(.*?)</pre>', opened.dom, re.DOTALL)
    assert found is not None
    return json.loads(html.unescape(found[1]))


def in_frame(report: Path, folder: Path, width: int, script: str) -> Any:
    """Return the value of an expression in a frame: no window is as narrow as a phone."""
    written = report.read_text(encoding="utf-8").replace(
        "</body>", f"<script>parent.postMessage(JSON.stringify({script}), '*')</script></body>"
    )
    (folder / "narrow.html").write_text(written, encoding="utf-8")
    outer = folder / "outer.html"
    outer.write_text(
        "<script>onmessage = (event) => { document.title = event.data; }</script>"
        f'<iframe src="narrow.html" width="{width}" height="900" frameborder="0"></iframe>'
    )
    opened = open_page(outer, folder, "--allow-file-access-from-files")
    found = re.search(r"<title>(.*?)</title>", opened.dom, re.DOTALL)
    assert found is not None, opened.messages
    return json.loads(html.unescape(found[1]))


ZOOM = """(() => {
  const section = document.querySelector("section.currency");
  const form = section.querySelector("form.zoom");
  const view = (svg) => svg.getAttribute("viewBox").split(" ").map(Number);
  const look = () => ({
    views: [...section.querySelectorAll(".time svg, .price svg")].map(view),
    marks: section.querySelectorAll(".marks i").length,
    rows: section.querySelector("output").textContent,
    dates: [form.elements.from.value, form.elements.to.value],
  });
  const before = look();
  form.elements.from.value = "2025-01-06";
  form.elements.to.value = "2025-01-12";
  form.dispatchEvent(new Event("change", { bubbles: true }));
  const zoomed = look();
  const tip = section.querySelector(".marks i").dataset.tip;
  form.querySelector("button").click();
  return { before, zoomed, tip, after: look() };
})()"""


def test_two_dates_zoom_all_charts_of_a_section_and_its_round_trips(
    report: Path, tmp_path: Path
) -> None:
    found = run_in_page(report, tmp_path, ZOOM)
    before, zoomed = found["before"], found["zoomed"]
    week = 7 * 86_400
    assert len(before["views"]) >= 10
    for whole, part in zip(before["views"], zoomed["views"], strict=True):
        assert whole[0] == 0
        assert whole[2] > 700 * 86_400
        assert part[2] == pytest.approx(week, abs=1)
    assert {view[0] for view in zoomed["views"]} == {zoomed["views"][0][0]}
    assert zoomed["dates"] == ["2025-01-06", "2025-01-12"]
    # a price chart is no band of triangles: single fills are drawn where there is room
    assert before["marks"] == 0
    assert 10 < zoomed["marks"] < 100
    assert re.match(r"(buy|sell) [\d.,]+ at [\d.,]+\n2025-01-\d\d \d\d:\d\d:\d\d UTC", found["tip"])
    rows = int(re.fullmatch(r"1 to \d+ of ([\d,]+)", zoomed["rows"])[1])  # type: ignore[index]
    assert 3 < rows < 40
    assert found["after"] == before


DRAG = """(() => {
  const svg = document.querySelector(".time svg"), box = svg.getBoundingClientRect();
  svg.setPointerCapture = () => {};
  const send = (name, part) => svg.dispatchEvent(new PointerEvent(name,
    { bubbles: true, button: 0, clientX: box.left + part * box.width, clientY: box.top + 20 }));
  const whole = svg.getAttribute("viewBox").split(" ").map(Number);
  send("pointerdown", 0.25); send("pointermove", 0.4); send("pointerup", 0.75);
  const tip = document.getElementById("tip").textContent;
  const part = svg.getAttribute("viewBox").split(" ").map(Number);
  svg.dispatchEvent(new MouseEvent("dblclick", { bubbles: true }));
  return { whole, part, tip, again: svg.getAttribute("viewBox").split(" ").map(Number) };
})()"""


def test_a_drag_across_a_chart_zooms_and_a_double_click_shows_all(
    report: Path, tmp_path: Path
) -> None:
    found = run_in_page(report, tmp_path, DRAG)
    whole, part = found["whole"], found["part"]
    assert part[0] == pytest.approx(whole[2] / 4, rel=0.01)
    assert part[2] == pytest.approx(whole[2] / 2, rel=0.01)
    assert found["again"] == whole
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d\nnet PnL: -?[\d,]+\.\d\d", found["tip"])


TABLE = """(() => {
  const holder = document.querySelector(".trips"), table = holder.querySelector("table");
  const column = (n) => [...table.tBodies[0].rows].map((row) => row.cells[n].textContent);
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const net = heads.indexOf("net PnL"), search = holder.querySelector("input");
  const first = column(0);
  table.tHead.rows[0].cells[net].querySelector("button").click();
  const highest = column(net), sort = table.tHead.rows[0].cells[net].getAttribute("aria-sort");
  table.tHead.rows[0].cells[net].querySelector("button").click();
  const lowest = column(net);
  search.value = "sol short donchian";
  search.dispatchEvent(new Event("input", { bubbles: true }));
  const symbols = column(heads.indexOf("symbol")), strategies = column(heads.indexOf("strategy"));
  const directions = column(heads.indexOf("direction"));
  search.value = "nothing at all";
  search.dispatchEvent(new Event("input", { bubbles: true }));
  return { heads, first, highest, sort, lowest, symbols, strategies, directions,
    none: holder.querySelector("output").textContent };
})()"""


def test_round_trips_are_searched_and_sorted(report: Path, tmp_path: Path) -> None:
    found = run_in_page(report, tmp_path, TABLE)
    assert found["heads"][:3] == ["closed", "held", "symbol"]
    assert "tags" in found["heads"]
    assert found["first"] == sorted(found["first"], reverse=True)
    assert len(found["first"]) == 25
    numbers = {
        name: [float(text.replace(",", "")) for text in found[name]]
        for name in ("highest", "lowest")
    }
    assert numbers["highest"] == sorted(numbers["highest"], reverse=True)
    assert numbers["lowest"] == sorted(numbers["lowest"])
    assert numbers["lowest"][0] < 0 < numbers["highest"][0]
    assert found["sort"] == "descending"
    # the best and the worst are those of the tables beside it
    text = html.unescape(report.read_text(encoding="utf-8"))
    assert f">{found['highest'][0]}<" in text
    assert f">{found['lowest'][0]}<" in text
    assert found["symbols"]
    assert set(found["symbols"]) == {"SOL/USDT"}
    assert set(found["strategies"]) == {"breakout_donchian_20_55_turtle"}
    assert set(found["directions"]) == {"short"}
    assert found["none"] == "none found"


# what is wider than the page, and rows of tables with their heights
WIDTHS = """(() => {
  const room = document.documentElement.clientWidth;
  const isCut = (node) => { const box = node.getBoundingClientRect();
    return box.width > 1 && (box.right > room + 1 || box.left < -1); };
  const names = "th, td, dt, dd, li, h1, h2, h3, h4, p, figure, input, button";
  const wide = [...document.querySelectorAll(names)].filter(isCut);
  const cut = wide.slice(0, 5).map((node) => node.outerHTML.slice(0, 200));
  const rows = [...document.querySelectorAll("table:not(.bars) tbody tr")];
  const highest = rows.sort((a, b) => b.offsetHeight - a.offsetHeight)[0];
  return { room, scroll: document.documentElement.scrollWidth, cut, highest: highest.offsetHeight,
    row: highest.outerHTML.slice(0, 900),
    empty: rows.filter((row) => !row.textContent.trim()).length };
})()"""


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_column_is_cut_off_and_no_row_is_empty(report: Path, tmp_path: Path, width: int) -> None:
    found = in_frame(report, tmp_path, width, WIDTHS)
    assert (found["room"], found["scroll"], found["cut"]) == (width, width, [])
    assert found["empty"] == 0
    if width == 1280:
        assert found["highest"] < 60, found["row"]


def as_printed(report: Path, folder: Path) -> Path:
    """Return a page that looks on the screen as it does on paper."""
    page = folder / "printed.html"
    page.write_text(
        report.read_text(encoding="utf-8")
        .replace("@media print", "@media all")
        .replace("@media screen", "@media not all"),
        encoding="utf-8",
    )
    return page


def test_on_paper_no_column_is_cut_off(report: Path, tmp_path: Path) -> None:
    found = in_frame(as_printed(report, tmp_path), tmp_path, 700, WIDTHS)  # A4 less its margins
    assert (found["room"], found["scroll"], found["cut"]) == (700, 700, [])
    assert found["empty"] == 0


def test_without_scripts_everything_but_the_zoom_is_there(report: Path, tmp_path: Path) -> None:
    page = tmp_path / "plain.html"
    page.write_text(
        re.sub(r"<script\b.*?</script>", "", report.read_text(encoding="utf-8"), flags=re.DOTALL),
        encoding="utf-8",
    )
    dom = open_page(page, tmp_path).dom
    assert len(re.findall(r'<path class="(?:line|area)[^>]*d="M[^"]{1000,}"', dom)) >= 20
    for title in ("Overview", "In USDT", "PnL by month", "Largest drawdowns", "Best round trips"):
        assert title in dom, title


def test_the_overview_leads_to_each_currency_and_strategy(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    links = re.findall(r'href="#(.*?)"', text)
    assert len([link for link in links if "strategy" not in link]) == 5
    assert len([link for link in links if "strategy" in link]) == 20
    assert all(f' id="{link}"' in text for link in links)
    ids = re.findall(r' id="(.*?)"', text)
    assert len(ids) == len(set(ids))


def violations(page: Path, axe: str, folder: Path, *flags: str) -> list[tuple[str, str, str]]:
    """Return what axe-core finds: the rule, how serious it is, and an element."""
    tested = folder / "tested.html"
    tested.write_text(
        page.read_text(encoding="utf-8").replace("</body>", f"<script>{axe}</script></body>"),
        encoding="utf-8",
    )
    found = run_in_page(tested, folder, VIOLATIONS, "--virtual-time-budget=60000", *flags)
    return [(rule, impact, node) for rule, impact, node in found]


@pytest.mark.long
class TestAccessibility:
    @pytest.mark.parametrize("flags", [(), (DARK,)], ids=["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 390])
    def test_axe_finds_no_serious_fault(
        self, report: Path, axe: str, tmp_path: Path, width: int, flags: tuple[str, ...]
    ) -> None:
        found = violations(report, axe, tmp_path, f"--window-size={width},900", *flags)
        assert [each for each in found if each[1] in SERIOUS] == []

    def test_axe_finds_no_serious_fault_on_paper(
        self, report: Path, axe: str, tmp_path: Path
    ) -> None:
        found = violations(as_printed(report, tmp_path), axe, tmp_path, "--window-size=700,900")
        assert [each for each in found if each[1] in SERIOUS] == []

    def test_axe_would_find_one(self, report: Path, axe: str, tmp_path: Path) -> None:
        page = tmp_path / "pale.html"
        pale = '</h1><p style="color:#ccc;background:#fff">pale</p><img src="data:,">'
        page.write_text(
            report.read_text(encoding="utf-8").replace("</h1>", pale, 1), encoding="utf-8"
        )
        found = {rule for rule, impact, _ in violations(page, axe, tmp_path) if impact in SERIOUS}
        assert {"color-contrast", "image-alt"} <= found
