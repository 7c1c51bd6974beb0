"""A database on exFAT, where case does not count and a file has one name and no owner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import trade

from botmemory import (
    ConfigError,
    DatabaseBusyError,
    StorageError,
    ValidationError,
    close_db,
    init_db,
)
from botmemory.report import write_report
from botmemory.repositories import trades
from botmemory.upkeep.backup import backup, restore
from botmemory.upkeep.check import check
from botmemory.upkeep.copy import copy_database


def _run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        pytest.skip(f"exFAT cannot be mounted here: {done.stderr.strip()}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk with exFAT, made by Debian's exfatprogs and exfat-fuse."""
    image, folder = (tmp_path_factory.mktemp("exfat") / name for name in ("image", "disk"))
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(256 * 2**20)
    try:
        _run("mkfs.exfat", image)
        device = _run("losetup", "-f", "--show", image)
    except FileNotFoundError as error:
        pytest.skip(f"exFAT cannot be mounted here: {error}")
    try:
        _run("mount.exfat-fuse", device, folder)
        yield folder
        subprocess.run(["umount", folder], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.fixture
def file(disk: Path) -> Iterator[Path]:
    yield disk / "bot.db"
    close_db()
    for each in disk.iterdir():
        each.unlink()


def other_spelling(file: Path) -> Path:
    return file.with_name(file.name.upper())


def test_a_file_is_one_database_however_it_is_spelt(file: Path) -> None:
    first = init_db(file)
    trade()
    assert init_db(other_spelling(file)) is first
    with pytest.raises(StorageError, match="is the database itself"):
        backup(other_spelling(file))
    with pytest.raises(DatabaseBusyError, match="this process has the database open"):
        restore(backup(file.with_name("copy.db")), other_spelling(file))
    close_db()
    with pytest.raises(StorageError, match="is the database itself"):
        restore(other_spelling(file), file)
    with pytest.raises(ConfigError, match="is the source itself"):
        copy_database(file, other_spelling(file))
    init_db(file)
    assert trades.get_trade_count() == 1


def test_nothing_is_written_over_the_open_database(file: Path) -> None:
    init_db(file)
    trade()
    with pytest.raises(ValidationError, match="is a SQLite database; name another file"):
        write_report(other_spelling(file))
    assert trades.get_trade_count() == 1


def test_a_copy_is_made_and_restored_where_a_file_has_one_name(file: Path) -> None:
    init_db(file)
    trade()
    copy = backup(file.with_name("copy.db"))
    trade()
    close_db()
    kept = restore(copy, file)
    init_db(kept)
    assert trades.get_trade_count() == 2
    close_db()
    init_db(file)
    assert trades.get_trade_count() == 1
    assert [finding for finding in check() if finding.severity == "error"] == []


WRITER = """
import sys
from botmemory import init_db, session_scope
from botmemory.repositories import trades

init_db(sys.argv[1])
for _ in range(30):
    with session_scope():
        trades.create(symbol="A", side="buy", price=1, quantity=trades.get_trade_count() + 1)
"""


def test_programs_record_one_after_the_other(file: Path) -> None:
    init_db(file)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, file]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert sorted(trade.quantity for trade in trades.iterate()) == [*range(1, 91)]
