"""A power cut: data that was not synced to the disk is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from processes import disk

__all__ = ["disk"]

WRITER = """
import sys
from botmemory import close_db, init_db
from botmemory.repositories import trades

init_db(sys.argv[1])
close_db()
init_db(sys.argv[1], synchronous=sys.argv[2])
for number in range(400):
    trade = trades.create(symbol="X", side="buy", price=number + 1, quantity=1)
    print(trade.id.hex, flush=True)
print("all", flush=True)
sys.stdin.read()
"""


def survivors(tmp_path: Path, disk: Path, synchronous: str) -> tuple[list[str], set[str]]:
    """Return what was acknowledged, and what is on the disk after the power was cut."""
    kept = tmp_path / "kept"
    kept.mkdir()
    environment = os.environ | {"LD_PRELOAD": str(disk), "DISK_KEEPS": str(kept)}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "bot.db"), synchronous],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    acknowledged = []
    for line in writer.stdout:
        if line == "all\n":
            break
        acknowledged.append(line.strip())
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdin.close()
    writer.stdout.close()
    with closing(sqlite3.connect(kept / "bot.db")) as after:
        assert after.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return acknowledged, {key for (key,) in after.execute("SELECT id FROM trade")}


def test_full_loses_nothing(tmp_path: Path, disk: Path) -> None:
    acknowledged, kept = survivors(tmp_path, disk, "full")
    assert len(acknowledged) == 400
    assert set(acknowledged) == kept


def test_normal_loses_the_last_ones_and_no_others(tmp_path: Path, disk: Path) -> None:
    acknowledged, kept = survivors(tmp_path, disk, "normal")
    assert kept == set(acknowledged[: len(kept)])
    assert len(kept) < len(acknowledged)
    print(f"lost {len(acknowledged) - len(kept)} of {len(acknowledged)}")
