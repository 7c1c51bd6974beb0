"""Mistakes with the commands that import, export and delete rows: nothing is lost by them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from botmemory import close_db, init_db
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_folder")

Run = Callable[..., tuple[int, str, str]]

FILLS = """timestamp,symbol,side,quantity,price
2024-01-02 09:30:00,BTC/EUR,buy,0.5,42000.5
2024-01-03 17:05:10,BTC/EUR,sell,0.5,43100.0
"""


@pytest.fixture
def fills() -> Path:
    file = Path("fills.csv")
    file.write_text(FILLS)
    return file


@pytest.mark.parametrize("rejects", ["fills.csv", "link.csv", "./fills.csv"])
@pytest.mark.parametrize("option", ["--dry-run", "--keep-going"])
def test_rejects_never_replace_the_file_that_is_imported(
    fills: Path, run: Run, rejects: str, option: str
) -> None:
    Path("link.csv").symlink_to(fills)
    code, out, err = run("import", "trades", fills, option, "--rejects", rejects)
    assert (code, out) == (2, "")
    assert f"rejects: {fills.absolute()} is the file that is read; name another" in err
    assert fills.read_text() == FILLS


def test_rejects_never_replace_a_database(fills: Path, run: Run) -> None:
    init_db("bot.db")
    trades.create(symbol="BTC/USDT", side="buy", price=1, quantity=1)
    close_db()
    code, out, err = run("--db", "bot.db", "import", "trades", fills, "--rejects", "bot.db")
    assert (code, out) == (2, "")
    assert f"rejects: {Path('bot.db').absolute()} is a SQLite database; name another file" in err
    assert run("--db", "bot.db", "trades", "--csv")[1].count("BTC/USDT") == 1


@pytest.mark.parametrize("command", ["import-freqtrade", "import-hummingbot"])
def test_notes_never_replace_the_database_that_is_imported(run: Run, command: str) -> None:
    with closing(sqlite3.connect("other.sqlite")) as other:
        other.execute("CREATE TABLE precious (id)")
    code, out, err = run(command, "other.sqlite", "--notes", "other.sqlite")
    assert (code, out) == (2, "")
    place = Path("other.sqlite").absolute()
    assert f"notes: {place} is the file that is read; name another file" in err
    with closing(sqlite3.connect("other.sqlite")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]


def test_notes_of_the_last_import_stay_if_there_is_nothing_to_import(run: Run) -> None:
    notes = Path("notes.jsonl")
    notes.write_text("{}\n")
    code, _, err = run("import-freqtrade", "missing.sqlite", "--notes", notes)
    assert (code, "missing.sqlite: cannot be read" in err) == (2, True)
    assert notes.read_text() == "{}\n"


def test_notes_that_cannot_be_written_stop_the_import(run: Run) -> None:
    Path("other.sqlite").touch()
    code, out, err = run("import-freqtrade", "other.sqlite", "--notes", "nowhere/notes.jsonl")
    assert (code, out) == (2, "")
    assert "nowhere/notes.jsonl: cannot be written: No such file or directory" in err


@pytest.mark.parametrize("command", ["export trades bot.csv", "report --out bot.csv"])
def test_no_output_replaces_the_database(run: Run, command: str) -> None:
    for name in ("bot.csv", "other.csv"):  # databases, whatever their suffix says
        init_db(name)
        trades.create(symbol="BTC/USDT", side="buy", price=1, quantity=1)
        close_db()
    for name in ("bot.csv", "other.csv"):
        code, out, err = run("--db", name, *command.split())
        assert (code, out) == (2, "")
        assert f"{Path('bot.csv').absolute()} is a SQLite database; name another file" in err
        assert run("--db", name, "trades", "--csv")[1].count("BTC/USDT") == 1
