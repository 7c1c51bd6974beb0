"""Arguments and places that no file can have, huge numbers, full disks and zip archives by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from paths import VERSION_0001
from processes import in_child, mount_small_disk, needs_fork, needs_posix
from samples import trade

import botmemory
from botmemory import (
    BotMemoryError,
    Config,
    ConfigError,
    SchemaError,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    init_db,
)
from botmemory.interop import hummingbot
from botmemory.interop.files import export_file, import_file
from botmemory.interop.freqtrade import import_database
from botmemory.report import write_report
from botmemory.repositories import signals, trades
from botmemory.upkeep.backup import backup, restore
from botmemory.upkeep.copy import copy_database
from botmemory.upkeep.prune import prune

HUGE = 10**5000


# --- integers that Python does not write as text --------------------------------------------


@pytest.fixture
def recorded() -> Trade:
    init_db(":memory:")
    signals.create(symbol="X", signal_value=1, signal_metadata={"n": 1})
    return trade()


HUGE_ARGUMENTS: dict[str, Callable[[Trade], object]] = {
    "trade_metadata": lambda row: trade(trade_metadata={"deep": [HUGE]}),
    "signal_metadata": lambda row: signals.create(
        symbol="X", signal_value=1, signal_metadata=-HUGE
    ),
    "price": lambda row: trade(price=HUGE),
    "pnl": lambda row: trade(pnl=-HUGE),
    "limit": lambda row: trades.get_all(HUGE),
    "id": lambda row: signals.get_by_id(HUGE),
    "signal": lambda row: trade(signal=HUGE),
    "signal_value": lambda row: signals.create(symbol="X", signal_value=HUGE),
    "equals": lambda row: signals.get_by_metadata("n", equals=HUGE),
    "minimum": lambda row: signals.get_by_metadata("n", minimum=HUGE),
    "maximum": lambda row: signals.get_by_metadata("n", maximum=-HUGE),
    "quantity": lambda row: trades.update(row, quantity=HUGE),
    "fee": lambda row: Trade(symbol="X", side="buy", price=1, quantity=1, fee=HUGE).save(),
}


@pytest.mark.parametrize("name", HUGE_ARGUMENTS)
def test_an_integer_of_5000_digits_is_refused_by_name(recorded: Trade, name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        HUGE_ARGUMENTS[name](recorded)
    assert str(caught.value).startswith(name)
    assert "<int of 16,610 bits>" in str(caught.value)
    assert (trades.get_trade_count(), signals.get_signal_count()) == (1, 1)


def test_a_value_of_a_wrong_type_is_shown(recorded: Trade) -> None:
    with pytest.raises(ConfigError, match=r"busy_timeout: <int of 16,610 bits>"):
        Config(busy_timeout=HUGE)
    with pytest.raises(ValidationError, match="trade"):
        trades.delete(HUGE)  # type: ignore[arg-type]


def test_a_fraction_beyond_every_double_is_null_like_an_infinity(recorded: Trade) -> None:
    row = trade(trade_metadata=[Fraction(HUGE), float("inf"), Fraction(1, 2)])
    assert trades.get_by_id(row.id).trade_metadata == [None, None, 0.5]  # type: ignore[union-attr]


# --- paths ------------------------------------------------------------------------------------

PATH_ARGUMENTS: dict[str, Callable[[Any], object]] = {
    "init_db": init_db,
    "migrations": lambda path: init_db(":memory:", migrations=path),
    "from_file": Config.from_file,
    "backup": backup,
    "restore": lambda path: restore(path, "bot.db"),
    "restore into": lambda path: restore("bot.db", path),
    "import_file": lambda path: import_file(Trade, path),
    "rejects": lambda path: import_file(Trade, "a.csv", rejects=path),
    "export_file": lambda path: export_file(Trade, path),
    "copy_database from": lambda path: copy_database(path, "goal.db"),
    "copy_database into": lambda path: copy_database("source.db", path),
    "import_database": import_database,
    "import_database of hummingbot": hummingbot.import_database,
    "write_report": write_report,
    "prune": lambda path: prune(Trade, before=datetime(2024, 1, 1), export_to=path),
}
OPEN = {
    *("backup", "import_file", "rejects", "export_file", "write_report", "prune"),
    *("import_database", "import_database of hummingbot"),
}


def refused(name: str, path: Any) -> str:
    if name in OPEN:
        init_db(":memory:")
    with pytest.raises(ConfigError) as caught:
        PATH_ARGUMENTS[name](path)
    close_db()
    return str(caught.value)


@pytest.mark.parametrize("name", PATH_ARGUMENTS)
def test_a_path_that_no_file_has_is_refused(empty_folder: Path, name: str) -> None:
    (empty_folder / "a.csv").write_text("symbol,side,price,quantity\n")
    assert "there is no such home folder" in refused(name, "~nosuch/x.csv")
    assert "contains a lone surrogate" in refused(name, "x\ud800.csv")
    assert "control character" in refused(name, "x\0.csv")
    assert "5 is not" in refused(name, 5)
    assert [file.name for file in empty_folder.iterdir()] == ["a.csv"]


@needs_fork
@pytest.mark.parametrize("name", PATH_ARGUMENTS)
def test_a_relative_path_where_the_working_folder_is_gone(tmp_path: Path, name: str) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()

    def child() -> str:
        os.chdir(removed)
        removed.rmdir()
        return refused(name, "x.csv")

    assert "the working folder is gone" in in_child(child)


@needs_fork
@pytest.mark.parametrize("program", ["botmemory.migration_runner", "botmemory.cli"])
def test_a_program_that_is_told_where_the_database_is_needs_no_working_folder(
    tmp_path: Path, program: str
) -> None:
    removed, path = tmp_path / "removed", tmp_path / "bot.db"
    removed.mkdir()
    init_db(path)
    close_db()
    call = f"import sys; from {program} import main; sys.exit(main())"
    command = [sys.executable, "-c", call, "--db", str(path), "status"]

    def child() -> tuple[int, str]:
        os.chdir(removed)
        removed.rmdir()
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        return done.returncode, done.stderr

    assert in_child(child) == (0, "")


@needs_posix  # Windows has names of characters, not of bytes
def test_a_name_that_is_not_utf_8_is_a_name(tmp_path: Path) -> None:
    """What `os.listdir` gives for such a file has surrogates that stand for its bytes."""
    path = tmp_path / os.fsdecode(b"b\xf6t.db")
    init_db(path)
    trade()
    backup(tmp_path / os.fsdecode(b"c\xf6py.db"))
    close_db()
    names = [os.fsencode(file.name) for file in tmp_path.iterdir()]
    assert sorted(name for name in names if b"lock" not in name) == [b"b\xf6t.db", b"c\xf6py.db"]


# --- a full disk ------------------------------------------------------------------------------


@needs_fork
@pytest.mark.parametrize("what", ["opened", "migrated"])
def test_a_disk_that_is_full_when_a_file_is(tmp_path: Path, what: str) -> None:
    def child() -> list[str] | None:
        if not mount_small_disk(tmp_path):
            return None
        path = tmp_path / "bot.db"
        messages = []
        for room in (0, 4_096, 16_384, 32_768, 65_536, 131_072):
            for file in tmp_path.iterdir():
                file.unlink()
            if what == "migrated":
                shutil.copy(VERSION_0001, path)
            filler = tmp_path / "filler"
            free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
            filler.write_bytes(b"x" * max(0, free - room))
            try:
                init_db(path)
            except StorageError as error:
                messages.append(str(error))
            close_db()
            filler.unlink()
            init_db(path)  # and once there is room, it is
            trade()
            close_db()
        return messages

    messages = in_child(child)
    if messages is None:
        pytest.skip("this system does not let a test mount a disk")
    assert len(messages) >= 4
    assert [line for line in messages if "the disk is full" not in line] == []


# --- a package that is not on the disk ----------------------------------------------------------

PACKAGE = Path(botmemory.__file__).parent
OPENS = """
import sys
sys.path.insert(0, sys.argv[1])
import botmemory
assert botmemory.__file__.startswith(sys.argv[1]), botmemory.__file__
try:
    botmemory.init_db(":memory:")
except botmemory.SchemaError as error:
    print(error)
"""


@pytest.mark.parametrize("with_migrations", [True, False])
def test_a_zip_archive_says_why_it_cannot_migrate(tmp_path: Path, with_migrations: bool) -> None:
    archive = tmp_path / "bot.pyz"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in PACKAGE.rglob("*.py"):
            if with_migrations or file.parent.name != "migrations":
                zipped.write(file, Path("botmemory", file.relative_to(PACKAGE)))
    done = subprocess.run(
        [sys.executable, "-S", "-c", OPENS.replace("import botmemory\n", PEEWEE, 1), archive],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    if with_migrations:
        assert f"{archive / 'botmemory' / 'migrations'} is not a folder on the disk" in done.stdout
        assert "unpack the archive" in done.stdout
    else:
        assert done.stdout.startswith("botmemory.migrations: the package has no migrations")


# without the site packages, so that no installed botmemory brings its migrations
PEEWEE = f"""
sys.path.append({str(Path(sys.modules["peewee"].__file__ or "").parent)!r})
import botmemory
"""


def test_every_error_here_is_a_botmemory_error() -> None:
    for kind in (ConfigError, SchemaError, StorageError, ValidationError):
        assert issubclass(kind, BotMemoryError)
