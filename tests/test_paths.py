"""Paths: which are of one file, and which are no file, or another one, on Windows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from botmemory import ConfigError, close_db, init_db
from botmemory._paths import (
    is_on_other_machine,
    is_same_file,
    problem_on_windows,
    without_prefix,
)
from botmemory.backends.sqlite.file_state import uri_of
from botmemory.config import Config, absolute_path
from botmemory.upkeep.backup import backup, restore
from botmemory.upkeep.copy import copy_database


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (r"\\?\C:\bots\trades.db", r"begins with \\?\ or \\.\, after which Windows"),
        ("//?/C:/bots/trades.db", r"write the path without it, as in C:\bots\trades.db"),
        (r"\\.\C:\bots\trades.db", "begins with"),
        (r"C:\bots\nul.db", "has 'nul.db', which is a device of Windows"),
        (r"aux\trades.db", "has 'aux', which is a device"),
        ("bots/COM1", "has 'COM1', which is a device"),
        ("CON .db", "has 'CON .db', which is a device"),
        ("lpt²", "has 'lpt²', which is a device"),
        ("conin$", "is a device"),
        (r"\C:\bots\trades.db", r"has a slash before its drive; write it without, as in C:"),
        ("...", "has '...', whose last dot"),
        (r"C:\bots\trades.", "has 'trades.', whose last dot Windows removes; remove it"),
        (r"C:\bots.\trades.db", "has 'bots.', whose last dot"),
        (r"C:\bots \trades.db", "has 'bots ', whose last space"),
        ("trades.db:stream", "has a colon in 'trades.db:stream', which names a stream"),
        (r"C:\bots\12:30.db", "has a colon in '12:30.db'"),
        ("trades?.db", r"has ? in 'trades?.db', which Windows refuses"),
        ("<symbol>.db", "has < in"),
    ],
)
def test_a_path_that_is_no_file_on_windows_is_named_with_the_reason(
    path: str, problem: str
) -> None:
    assert problem in problem_on_windows(path)


@pytest.mark.parametrize(
    "path",
    [
        *(r"C:\bots\trades.db", "C:/bots/trades.db", "C:trades.db", "trades.db", ".", ".."),
        *(r"..\.\trades.db", "bots/.hidden/trades.db", r"\\nas\bots\copy.db", "/bots/trades.db"),
        *("console.db", "com10.db", "nul1", "auxiliary", "my.con", "bots.2026.db", "günter ü.db"),
    ],
)
def test_other_paths_are_files_on_windows(path: str) -> None:
    assert problem_on_windows(path) == ""


def test_a_path_on_another_machine_is_known() -> None:
    assert is_on_other_machine(r"\\nas\bots\trades.db")
    assert is_on_other_machine("//wsl.localhost/Debian/home/bot/trades.db")
    assert not is_on_other_machine(r"C:\bots\trades.db")
    assert not is_on_other_machine(r"\bots\trades.db")


def test_the_prefix_of_a_long_path_is_no_machine() -> None:
    assert without_prefix(r"\\?\C:\bots\trades.db") == r"C:\bots\trades.db"
    assert without_prefix(r"\\?\UNC\nas\bots\trades.db") == r"\\nas\bots\trades.db"
    assert without_prefix(r"\\nas\bots\trades.db") == r"\\nas\bots\trades.db"
    assert without_prefix(r"C:\bots\trades.db") == r"C:\bots\trades.db"


@pytest.mark.parametrize(
    "target",
    [
        *(Path("postgresql://bot:secret@host/bots "), "postgresql:/bot:secret@host/bots "),
        *("'postgresql+psycopg:/bot:secret@host/bots'", "postgresql//bot:secret@host/\t"),
        *(Path("postgresql+psycopg2://bot:secret@host/bots"), Path("mysql://bot:secret@host/bots")),
        *("postgresql:bot:secret@host/bots", "POSTGRES+psycopg:bot:secret@host/bots"),
        *(Path("postgresql://bot:secret@host/bots").absolute(), "data/mysql:/bot:secret@host/bots"),
        *("postgresql//bot:secret@host/bots", r"C:\data\postgresql:\bot:secret@host\bots"),
        *("DATABASE_URL=postgresql://bot:secret@host/bots", "jdbc:mysql://bot:secret@host/bots"),
    ],
)
def test_a_url_that_lost_a_slash_is_not_shown(target: str | Path) -> None:
    arguments: dict[str, Callable[[], object]] = {
        "db_path": lambda: Config(target),
        "source": lambda: absolute_path("source", target),
        "migrations": lambda: Config(":memory:", migrations=target),
        "path": lambda: Config.from_file(target),
    }
    for name, call in arguments.items():
        with pytest.raises(ConfigError, match=f"^{name}: ") as raised:
            call()
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize("path", ["BTC:USDT@okx.db", "bots:/", "a/postgres:1.db", "sqlite.db"])
def test_a_path_with_a_colon_is_a_path_where_it_may_be_one(path: str) -> None:
    is_refused = (sys.platform == "win32" and ":" in path) or path == "bots:/"
    with pytest.raises(ConfigError) if is_refused else nullcontext():
        Config(path)


@pytest.mark.skipif(sys.platform != "win32", reason="the names mean something on Windows only")
class TestOnWindows:
    @pytest.mark.parametrize(
        "path", [r"\\?\C:\bot.db", "nul.db", "bot.db.", "aux/bot.db", "bot.db:1", "sqlite:///con"]
    )
    def test_a_name_of_no_file_is_refused(self, path: str) -> None:
        with pytest.raises(ConfigError, match="^db_path: ") as raised:
            Config(path)
        assert path.removeprefix("sqlite:///") in str(raised.value).replace("\\\\", "\\")

    @pytest.mark.parametrize("path", [r"\\nas\bots\bot.db", "sqlite://///nas/bots/bot.db"])
    def test_a_database_on_another_machine_is_refused(self, path: str) -> None:
        with pytest.raises(ConfigError, match="is on another machine .*use PostgreSQL"):
            Config(path)

    def test_every_argument_with_a_path_is_checked(self, path: Path) -> None:
        init_db(path)
        with pytest.raises(ConfigError, match=r"^destination: .*nul.db.* is a device"):
            backup("nul.db")
        with pytest.raises(ConfigError, match=r"^migrations: .* whose last dot"):
            Config(path, migrations="own.")

    def test_a_login_is_in_no_message(self) -> None:
        for target in ("bot:secret@host/bots", "postgresql//bot:secret@host/bots"):
            with pytest.raises(ConfigError, match="^db_path: .*(has a colon|is a URL)") as raised:
                Config(target)
            assert "secret" not in str(raised.value)

    def test_a_copy_on_another_machine_has_a_uri_that_sqlite_takes(self) -> None:
        assert uri_of(r"\\nas\bots\copy.db", "ro") == "file:////nas/bots/copy.db?mode=ro"

    @pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
    def test_a_path_with_a_drive_is_one_with_either_slash(self, form: str, path: Path) -> None:
        first = init_db(form.format(path.as_posix()))
        assert init_db(form.format(path)) is first
        assert init_db(str(path).upper()) is first


@pytest.mark.skipif(sys.platform == "win32", reason="there they are paths")
@pytest.mark.parametrize("path", [r"C:\bots\trades.db", "d:/bots/trades.db", "sqlite:///C:/x.db"])
def test_a_path_of_windows_elsewhere_makes_no_file_with_a_strange_name(path: str) -> None:
    with pytest.raises(ConfigError, match=r"^db_path: .*is a path of Windows, and here"):
        Config(path)


@pytest.mark.parametrize("path", ["sqlite:////C:/bots/trades.db", r"sqlite:////c:\trades.db"])
def test_a_slash_before_a_drive_is_explained(path: str) -> None:
    with pytest.raises(ConfigError, match=r"has a slash before its drive; .*'sqlite:///C:/bots"):
        Config(path)


class TestOneFileWithTwoNames:
    @pytest.fixture
    def other(self, path: Path) -> Path:
        init_db(path)
        close_db()
        other = path.with_name("other.db")
        other.hardlink_to(path)
        return other

    @pytest.mark.filterwarnings("ignore:.*hard links")
    def test_it_is_the_database_that_is_open(self, path: Path, other: Path) -> None:
        first = init_db(path)
        assert init_db(other) is first

    def test_it_is_not_copied_to_itself(self, path: Path, other: Path) -> None:
        with pytest.raises(ConfigError, match="is the source itself"):
            copy_database(path, other)

    def test_it_is_not_backed_up_or_restored_to_itself(self, path: Path, other: Path) -> None:
        init_db(path)
        with pytest.raises(Exception, match="is the database itself"):
            backup(other)
        close_db()
        with pytest.raises(Exception, match="is the database itself"):
            restore(other, path)


def test_two_files_with_the_same_name_or_letters_are_two(tmp_path: Path) -> None:
    for folder in ("a", "A-"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bot.db").touch()
    assert not is_same_file(tmp_path / "a" / "bot.db", tmp_path / "A-" / "bot.db")
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "BOT.db").touch()
    (tmp_path / "upper" / "bot.db").touch()
    if len([*(tmp_path / "upper").iterdir()]) == 2:  # where case counts
        assert not is_same_file(tmp_path / "upper" / "BOT.db", tmp_path / "upper" / "bot.db")
    assert not is_same_file(tmp_path / "missing", tmp_path / "gone")
    assert is_same_file(tmp_path / "missing", tmp_path / "missing")
