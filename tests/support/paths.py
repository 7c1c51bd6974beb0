"""Where the files are that the tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
EXPORTS = TESTS / "data" / "exports"  # files of exchanges and other programs
FAULTS = TESTS / "faults"
FREQTRADE_BOT = TESTS / "freqtrade_bot"
HUMMINGBOT_BOT = TESTS / "hummingbot_bot"
OTHER_PROGRAMS = TESTS / "other_programs"
VERSION_0001 = TESTS / "data" / "version_0001.db"  # a file of the first migration
