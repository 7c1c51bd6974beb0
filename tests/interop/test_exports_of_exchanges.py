"""What exchanges and portfolio programs export is recorded by one command, each trade once.

The samples have the columns, texts and numbers of the real exports, and made-up trades. Beside each
is what it says, written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from paths import EXPORTS

from botmemory import Trade, close_db, init_db
from botmemory.cli._app import cli
from botmemory.interop.files import load_layout
from botmemory.interop.files._layout import LAYOUTS

SAMPLES = sorted(file.name.removesuffix(".csv") for file in EXPORTS.glob("*.csv"))
OLDEST_FIRST = {
    "bitstamp",
    "bitstamp-old",
    "blockpit",
    "coinbase-fills",
    "cryptotaxcalculator",
    "koinly",
    "koinly-universal",
    "kraken",
}
# lines up to that which names the columns, where there is more than one
HEADER_LINES = {"bybit-spot": 2, "coinbase": 4, "okx-futures": 2}
OPTIONS = {"okx-futures": ["--time-zone", "UTC+8"]}  # as its first line says
every_sample = pytest.mark.parametrize("sample", SAMPLES)


def layout_of(sample: str) -> str:
    """Return the layout of a sample: another export of the same kind has a suffix."""
    return sample.partition(".")[0]


def expected(sample: str) -> list[dict[str, Any]]:
    trades: list[dict[str, Any]] = json.loads(
        (EXPORTS / f"{sample}.json").read_text(encoding="utf-8")
    )
    return trades


def import_(path: Path, file: Path, sample: str) -> str:
    """Run the command, and return what it prints."""
    layout = layout_of(sample)
    arguments = ["--db", str(path), "import", "trades", str(file), "--layout", layout]
    done = CliRunner().invoke(cli, [*arguments, *OPTIONS.get(layout, [])])
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def recorded(path: Path, named: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the recorded trades in order, with the columns that the expected ones name."""
    init_db(str(path))
    trades = list(Trade.select().order_by(Trade.timestamp, Trade.id))
    close_db()
    assert len(trades) == len(named)
    values = [
        {name: getattr(trade, name) for name in row}
        for trade, row in zip(trades, named, strict=True)
    ]
    return [row | {"timestamp": row["timestamp"].isoformat()} for row in values]


def test_each_layout_has_a_sample() -> None:
    assert {layout_of(sample) for sample in SAMPLES} == {file.stem for file in LAYOUTS.glob("*")}


@every_sample
def test_an_export_is_recorded_once_in_the_order_of_time(sample: str, path: Path) -> None:
    trades, file = expected(sample), EXPORTS / f"{sample}.csv"
    assert f"trades: {len(trades)} recorded, 0 already existed" in import_(path, file, sample)
    assert recorded(path, trades) == trades
    assert f"trades: 0 recorded, {len(trades)} already existed" in import_(path, file, sample)
    assert recorded(path, trades) == trades


@every_sample
def test_a_longer_export_adds_what_is_new(sample: str, path: Path, tmp_path: Path) -> None:
    trades, file = expected(sample), EXPORTS / f"{sample}.csv"
    lines = file.read_bytes().splitlines(keepends=True)
    header, rows = lines[: HEADER_LINES.get(sample, 1)], lines[HEADER_LINES.get(sample, 1) :]
    for missing in range(1, len(rows)):
        oldest_first = layout_of(sample) in OLDEST_FIRST
        older = rows[:-missing] if oldest_first else rows[missing:]
        database, shorter = tmp_path / f"{missing}.db", tmp_path / f"{missing}.csv"
        shorter.write_bytes(b"".join(header + older))
        first = int(import_(database, shorter, sample).split()[1])
        said = import_(database, file, sample)
        assert f"{len(trades) - first} recorded, {first} already existed" in said
        assert recorded(database, trades) == trades


@every_sample
def test_nothing_that_an_export_says_is_dropped(sample: str) -> None:
    layout = load_layout(layout_of(sample))
    assert layout.others == "metadata"
    ignored = {name for name, target in layout.map.items() if target == "ignore"}
    assert ignored <= {"Pair"}  # which the amounts of Binance say, with their units
