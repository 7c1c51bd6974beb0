"""The copy of a file that is made before a migration."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from custom_tables import custom_migrations
from paths import VERSION_0001
from processes import in_child, mount_small_disk, needs_fork
from samples import at, trade, trade_values

from botmemory import Config, StorageError, close_db, init_db
from botmemory.database import close_database, open_database
from botmemory.migration_runner import down, up
from botmemory.repositories import trades

NOTHING = "def up(migrator, db):\n    pass\n"


def copies(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f"{file.stem}.before-*"))


def rows(file: Path, table: str = "trade") -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()


def fill(disk: Path, free: int) -> None:
    """Fill a disk of 1 MiB up to a number of free bytes."""
    used = sum(file.stat().st_size for file in disk.iterdir())
    (disk / "filler").write_bytes(b"x" * (1024**2 - used - free))


@pytest.fixture
def old(path: Path) -> Path:
    """A database that migration 0001 wrote, with 120 trades."""
    shutil.copy(VERSION_0001, path)
    return path


def test_it_has_every_row_and_names_version_and_time(old: Path) -> None:
    init_db(old)
    [copy] = copies(old)
    assert re.fullmatch(r"bot\.before-0002-\d{8}T\d{12}Z\.db", copy.name)
    assert rows(copy) == rows(VERSION_0001)
    assert rows(copy, "schema_migration") == rows(VERSION_0001, "schema_migration")
    if os.name == "posix":
        assert copy.stat().st_mode & 0o777 == 0o600


def test_it_can_replace_the_file(old: Path) -> None:
    init_db(old)
    close_db()
    [copy] = copies(old)
    copy.replace(old)
    init_db(old)
    assert trades.get_trade_count() == 120


def test_it_holds_what_is_only_in_the_wal(path: Path) -> None:
    init_db(path)
    trade()
    database = open_database(Config(path))
    try:
        assert Path(f"{path}-wal").stat().st_size
        down(database)
    finally:
        close_database(database)
    [copy] = copies(path)
    assert len(rows(copy)) == 1


def test_no_copy_without_tables_or_without_pending_migrations(path: Path) -> None:
    init_db(path)
    close_db()
    init_db(path)
    close_db()
    assert copies(path) == []


def test_a_file_with_another_programs_tables_is_copied(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE candle (id INTEGER PRIMARY KEY, close REAL)")
        connection.execute("INSERT INTO candle VALUES (1, 2.5)")
        connection.commit()
    init_db(path)
    [copy] = copies(path)
    assert rows(copy, "candle") == rows(path, "candle") == [(1, 2.5)]


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_it_can_be_switched_off(old: Path, how: str) -> None:
    config = Config(old, backup_before_migrate=False)
    if how == "environment":
        config = Config.from_env(
            {"BOTMEMORY_DB_PATH": str(old), "BOTMEMORY_BACKUP_BEFORE_MIGRATE": "no"}
        )
    init_db(config)
    assert copies(old) == []


def test_the_newest_five_are_kept_and_nothing_else_is_touched(path: Path, tmp_path: Path) -> None:
    folder = custom_migrations(tmp_path)
    init_db(path, migrations=folder)
    close_db()
    others = ["bot.before-0002-mine.db", "robot.before-0002-20240101T000000000000Z.db"]
    others += ["bot.before-0002-20240101T000000000000Z.sqlite", "bot.before-0002-x.db.unfinished"]
    for name in others:
        (tmp_path / name).write_text("mine")
    copies_made = []
    for number in range(3, 11):
        (folder / f"{number:04}_nothing.py").write_text(NOTHING)
        init_db(path, migrations=folder)
        trade()
        close_db()
        copies_made.append(
            next(copy for copy in copies(path) if f"before-{number:04}-" in copy.name)
        )
    kept = [copy for copy in copies(path) if copy.name not in others]
    assert kept == copies_made[-5:]
    assert [len(rows(copy)) for copy in kept] == [3, 4, 5, 6, 7]
    assert all((tmp_path / name).read_text() == "mine" for name in others)


def test_an_unfinished_copy_of_a_killed_process_is_deleted(old: Path) -> None:
    unfinished = old.with_name("bot.before-0002-20240101T000000000000Z.db.unfinished")
    unfinished.write_bytes(b"half")
    init_db(old)
    assert not unfinished.exists()
    assert len(copies(old)) == 1


@needs_fork
def test_a_full_disk_leaves_the_database_untouched(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    def migrate() -> tuple[str, list[str], int] | None:
        if not mount_small_disk(disk):
            return None
        file = disk / "bot.db"
        init_db(file)
        trades.create_many(trade_values(timestamp=at(n)) for n in range(600))
        close_db()
        fill(disk, 150_000)
        database = open_database(Config(file))
        try:
            down(database)
        except StorageError as error:
            message = str(error)
        else:
            message = "no error"
        finally:
            close_database(database)
        names = sorted(entry.name for entry in disk.iterdir())
        init_db(file, migrate=False)  # raises if a migration was reverted
        return message, names, trades.get_trade_count()

    result = in_child(migrate)
    if result is None:
        pytest.skip("this user may not mount a disk")
    message, names, count = result
    assert re.search("before-0008-.*: the copy failed, .* unchanged: the disk is full", message)
    assert [name for name in names if "before" in name] == []
    assert count == 600


@needs_fork
def test_up_does_not_begin_on_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    def migrate() -> tuple[str, list[tuple[object, ...]]] | None:
        if not mount_small_disk(disk):
            return None
        file = disk / "bot.db"
        shutil.copy(VERSION_0001, file)
        fill(disk, 60_000)
        try:
            init_db(file)
        except StorageError as error:
            return str(error), rows(file)
        return "no error", []

    result = in_child(migrate)
    if result is None:
        pytest.skip("this user may not mount a disk")
    message, trade_rows = result
    assert "full" in message
    assert trade_rows == rows(VERSION_0001)


def test_a_database_in_memory_and_a_server_have_no_file_to_copy(
    new_database: Callable[[], str],
) -> None:
    for target in (":memory:", new_database()):
        database = open_database(Config(target))
        try:
            up(database, "0001_create_signal_and_trade")
            up(database)
        finally:
            close_database(database)
