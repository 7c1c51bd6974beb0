"""docs/history.md is executed: a bot comes from freqtrade, and moves to a server."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from botmemory.cli._app import cli
from botmemory.repositories import trades

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "history.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
CHECKSUM = re.compile(r"\b(?!0{32})[0-9a-f]{32}\b")  # ids are made anew in each run


@pytest.mark.usefixtures("empty_folder")
def test_the_commands_print_what_is_shown(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with closing(sqlite3.connect("tradesv3.sqlite")) as bot:
        bot.executescript((TESTS / "freqtrade_bot" / "2026.9.sql").read_text(encoding="utf-8"))
    server = new_database()
    shown = "".join(code for kind, code in BLOCKS if kind == "console")
    for part in shown.split("$ ")[1:]:
        line, _, expected = part.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == "botmemory"
        arguments = [server if "://" in one else one for one in arguments]
        printed = CliRunner().invoke(cli, arguments).output
        printed = "".join(f"{one.rstrip()}\n" for one in printed.splitlines())
        assert CHECKSUM.sub("X", printed) == CHECKSUM.sub("X", expected), line


@pytest.mark.usefixtures("empty_folder")
def test_the_snippet_for_an_exchange() -> None:
    class Exchange:
        def fetch_my_trades(self, symbol: str) -> list[dict[str, Any]]:
            fill = {"side": "buy", "price": 1.5, "amount": 2, "timestamp": 1_700_000_000_000}
            return [{"id": "1", "symbol": symbol, **fill}]

    [code] = [code for kind, code in BLOCKS if kind == "python"]
    exec(code, {"exchange": Exchange()})
    assert trades.get_latest("BTC/USDT")[0].strategy == "trend"
