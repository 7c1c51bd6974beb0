"""README.md names every public function and setting; test_docs.py executes its code."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
from paths import ROOT
from processes import needs_checkout
from recipes import blocks

import botmemory
from botmemory import BotMemoryError, Config
from botmemory.analysis import attribution, excursions, performance, round_trips
from botmemory.interop import ccxt, files, frames, freqtrade, hummingbot
from botmemory.repositories import cash_flows, positions, records, signals, state, trades
from botmemory.upkeep import backup, check, copy

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")


def test_the_first_command_prints_what_follows_it(paper_run: tuple[Path, str]) -> None:
    command = next(block for block in blocks(README) if "paper_bot" in block.code)
    assert command.code.endswith(".venv/bin/python examples/paper_bot.py\n")
    assert paper_run[1] == command.output


def test_it_is_short_and_has_one_command_that_runs_the_tests() -> None:
    assert len(TEXT.splitlines()) <= 250
    assert len(re.findall(r"^python3 -m venv .*-m pytest$", TEXT, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    "module",
    [
        trades,
        signals,
        cash_flows,
        state,
        positions,
        records,
        performance,
        round_trips,
        excursions,
        attribution,
        ccxt,
        freqtrade,
        hummingbot,
        copy,
        files,
        frames,
        backup,
        check,
    ],
)
def test_every_function_is_named(module: ModuleType) -> None:
    for name in module.__all__:
        if name[0].islower():
            assert re.search(rf"`(\w+\.)*{name}\(", TEXT), name


def test_every_public_name_error_and_setting_is_named() -> None:
    errors = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    settings = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in botmemory.__all__:
        value = getattr(botmemory, name)
        is_error = isinstance(value, type) and issubclass(value, BotMemoryError)
        assert f"`{name}" in (errors if is_error else TEXT), name
    for field in Config.__dataclass_fields__:
        assert f"| `{field}` | `BOTMEMORY_{field.upper()}` |" in settings


@needs_checkout
def test_the_goals_of_speed_are_those_of_the_benchmarks() -> None:
    benchmarks = (ROOT / "benchmarks" / "__main__.py").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| [\d.]+ \| ([\d.]+) \|$", TEXT, re.MULTILINE)
    first, _, second = benchmarks.partition("POSTGRES_GOALS")
    goals = re.findall(r'^    "[^"]+": \(?([\d.]+)', f"{first}{second}", re.MULTILINE)
    assert len(rows) == 12
    assert rows == goals
