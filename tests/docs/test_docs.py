"""README.md and the pages under docs/ are executed; links and named tests must exist.

A Python block runs in a folder of its own and prints the text block that follows it. The console
blocks of a page run one after another in one folder, and print what they show. A Python block that
begins with the name of a file (`# bot.py`) is one of several files, which the tests of its page
write and run.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from paths import EXPORTS, FREQTRADE_BOT, HUMMINGBOT_BOT, ROOT, TESTS
from processes import needs_checkout, needs_posix
from recipes import PAGES, Block, blocks, code_of

from botmemory import init_db
from botmemory.analysis import attribution, excursions, performance, round_trips
from botmemory.interop.files._layout import known_layouts
from botmemory.repositories import cash_flows, positions, trades

GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
SERVER = re.compile(r"postgresql://[\w:]+@db\.example\.com/bots(\?[\w=-]+)?")
IS_FILE = re.compile(r"# [\w/]+\.py\n")
PROGRAMS = {"fastapi.md"}  # pages whose blocks are one program; test_fastapi.py runs it
SNIPPETS = [
    pytest.param(block, id=f"{page.name}:{block.line}")
    for page in PAGES
    if page.name not in PROGRAMS
    for block in blocks(page)
    if block.language == "python" and not IS_FILE.match(block.code)
]
SESSIONS = [page for page in PAGES if any(block.language == "console" for block in blocks(page))]
# values that differ in each run: ids, checksums (not that of an empty table), times of migrations
VARIES = re.compile(
    r"\b(?!0{32})[0-9a-f]{32}\b|\b[0-9a-f]{8}-[0-9a-f]{4}(-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?\b"
    r"|\b202[6-9]-\d\d-\d\d \d\d:\d\d:\d\d UTC"
)
ID = re.compile(r"\b01[0-9a-f]{6}-[0-9a-f]{4}\b")


@pytest.fixture
def prepared(empty_folder: Path, paper_run: tuple[Path, str]) -> Path:
    """A folder with the files that the pages read: three databases and the settings."""
    shutil.copy(paper_run[0], "paper_bot.db")
    for name, folder in (("tradesv3", FREQTRADE_BOT), ("conf_pmm_1", HUMMINGBOT_BOT)):
        with closing(sqlite3.connect(f"{name}.sqlite")) as connection:
            connection.executescript((folder / "2026.9.sql").read_text("utf-8"))
    Path("botmemory.toml").write_text(code_of("docs/configuration.md", "toml"), encoding="utf-8")
    Path("broker.toml").write_text(code_of("docs/exports.md", "toml"), encoding="utf-8")
    Path("fills.csv").write_text(code_of("docs/exports.md", "csv"), encoding="utf-8")
    shutil.copy(EXPORTS / "kraken.csv", "kraken.csv")
    return empty_folder


@pytest.fixture
def with_server(new_database: Callable[[], str]) -> Callable[[str], str]:
    """A function that replaces the server of the examples in a text by a real one."""
    urls: list[str] = []

    def replace(text: str) -> str:
        if SERVER.search(text) and not urls:
            urls.append(new_database())
        return SERVER.sub(lambda _: urls[0], text)

    return replace


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("block", SNIPPETS)
def test_a_snippet_prints_what_follows_it(
    block: Block, with_server: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    exec(with_server(block.code), {})
    assert capsys.readouterr().out == block.output


@needs_posix  # a shell
@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.name)
def test_a_session_prints_what_it_shows(
    page: Path, prepared: Path, with_server: Callable[[str], str], new_database: Callable[[], str]
) -> None:
    latest = latest_id(prepared)
    environ = os.environ | {
        "COLUMNS": "100",
        "OWNER_URL": new_database() if "OWNER_URL" in page.read_text("utf-8") else "",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",  # in the order of a terminal
    }
    if page.name == "cli.md":
        environ["BOTMEMORY_DB_PATH"] = "paper_bot.db"
    session = "".join(block.code for block in blocks(page) if block.language == "console")
    for part in session.split("$ ")[1:]:
        line, _, expected = part.partition("\n")
        done = subprocess.run(
            ["bash", "-c", ID.sub(latest, with_server(line))],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        printed = done.stdout.replace(str(prepared), "/home/me/bot")
        assert comparable(printed) == comparable(expected), line


def latest_id(folder: Path) -> str:
    init_db(folder / "paper_bot.db", read_only=True)
    [trade] = trades.get_latest(limit=1)
    return str(trade.id)


def comparable(text: str) -> list[str]:
    return [VARIES.sub("...", line.rstrip()) for line in text.rstrip().splitlines()]


@needs_posix  # a shell
def test_the_commands_for_trouble_work(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BOTMEMORY_DB_PATH", "paper_bot.db")
    commands = code_of("docs/troubleshooting.md", "sh")
    assert subprocess.run(["bash", "-euc", commands], check=False).returncode == 0
    assert (prepared / "now.db").exists()
    assert "GOOG" in capfd.readouterr().out


def test_the_fixtures_work_in_a_test_suite_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "bot_migrations").mkdir()
    (tmp_path / "settings").mkdir()
    for name in ("test_bot.py", "settings/conftest.py"):
        code = code_of("docs/testing.md", "python", f"# {name}\n")
        (tmp_path / name).write_text(code, encoding="utf-8")
    (tmp_path / "settings" / "test_settings.py").write_text(
        "def test_them(botmemory_db):\n"
        "    assert botmemory_db.config.synchronous == 'normal'\n"
        "    assert botmemory_db.config.migrations is not None\n"
    )
    # other plugins take seconds to import
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "pytest_botmemory", "-p", "no:cacheprovider"]
    for selected, passed in (("test_bot.py", 2), ("settings", 1)):
        done = subprocess.run(
            [*command, selected],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert f"{passed} passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_has_a_target(page: Path) -> None:
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, part = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), target
        text = file.read_text(encoding="utf-8") if file.suffix == ".md" else ""
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}
        assert not part or part in anchors, target


def test_every_layout_is_in_the_table() -> None:
    page = (ROOT / "docs" / "exports.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w-]+)` \| [A-Z]", page, re.MULTILINE)
    assert sorted(named) == known_layouts()


@needs_checkout
def test_a_database_can_be_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.sums", str(tmp_path / "bot.db")]
    quick = ["--rows", "500", "--seconds", "0.1", "--bots", "2"]
    done = subprocess.run(
        [*command, *quick], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert re.search(r"^bytes a trade +\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^read, then record +[\d,]+ +[\d,]+$", done.stdout, re.MULTILINE)


def test_every_guarantee_names_a_test_that_exists() -> None:
    tests = "\n".join(file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py"))
    defined = set(re.findall(r"^ *def (test_\w+)", tests, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", GUARANTEES))
    assert len(named) > 25
    assert named - defined == set()
    rows = re.findall(r"^\| [A-Z].*\|$", GUARANTEES, re.MULTILINE)
    assert [row for row in rows if "`test_" not in row] == []


@pytest.mark.parametrize(
    "shows_numbers",
    [
        *(positions.Position, positions.get, positions.get_all, positions.value),
        *(trades.get_total_pnl, cash_flows.get_total, attribution.pnl_by_metadata),
        *(performance.Result, performance.summarize, performance.equity_curve, performance.by),
        *(round_trips.RoundTrip, round_trips.round_trips),
        *(excursions.Excursion, excursions.excursions),
    ],
)
def test_what_shows_a_number_names_the_guide_that_defines_it(shows_numbers: Any) -> None:
    assert "[Accounting](../accounting.md)" in (shows_numbers.__doc__ or "")
