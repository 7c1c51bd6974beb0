"""What the commands print is read by other programs in UTF-8, whatever the system's encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from samples import trade

from botmemory import close_db, init_db

SYMBOL = "₿✓/USDT"
# a system whose encoding is ASCII: Python would use UTF-8 by itself in this locale
NOT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def recorded(path: Path) -> Path:
    init_db(path)
    trade(symbol=SYMBOL)
    close_db()
    return path


def printed(*arguments: object, **environment: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        env=os.environ | NOT_UTF8 | environment,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_what_is_read_is_utf8(recorded: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "botmemory", "--db", str(recorded), "query", "--csv", "-"],
        input=f"SELECT length('{SYMBOL}') AS n FROM trade WHERE symbol = '{SYMBOL}'".encode(),
        env=os.environ | NOT_UTF8,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.split() == [b"n", str(len(SYMBOL)).encode()]


@pytest.mark.parametrize("form", [[], ["--csv"]])
def test_what_is_piped_is_utf8(recorded: Path, form: list[str]) -> None:
    code, out, err = printed("botmemory", "--db", recorded, "trades", *form)
    assert (code, err) == (0, b"")
    assert SYMBOL in out.decode()


@pytest.mark.processes
def test_an_error_is_utf8_too() -> None:
    code = f"from botmemory._streams import use_utf8; use_utf8(); exit({SYMBOL!a})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | NOT_UTF8, capture_output=True, check=False
    )
    assert done.stderr.decode().strip() == SYMBOL


def test_the_encoding_that_a_user_asks_for_is_used(recorded: Path) -> None:
    code, out, _ = printed(
        *("botmemory", "--db", recorded, "trades", "--csv"), PYTHONIOENCODING="utf-16"
    )
    assert code == 0
    assert SYMBOL in out.decode("utf-16")


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of Windows has every character")
def test_a_terminal_shows_what_it_lacks_as_an_escape(recorded: Path) -> None:
    pty = pytest.importorskip("pty")
    main, other = pty.openpty()
    arguments = ["--db", str(recorded), "trades", "--csv"]
    done = subprocess.run(
        [sys.executable, "-m", "botmemory", *arguments],
        env=os.environ | NOT_UTF8,
        stdout=other,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(other)
    shown = os.read(main, 100_000)
    os.close(main)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u20bf\u2713/USDT" in shown
