"""Full disks, lost files, damage and missing rights, caused for real."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from processes import IS_ROOT, in_child, mount_small_disk, needs_fork
from samples import trade, trade_values

from botmemory import (
    BotMemoryError,
    SchemaError,
    StorageError,
    close_db,
    init_db,
    session_scope,
)
from botmemory.repositories import trades

pytestmark = needs_fork
resource = pytest.importorskip("resource", reason="the platform has no limits of a process")


def message(call: Callable[[], object], kind: type[BotMemoryError] = StorageError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def record_until_refused(most: int = 5_000) -> tuple[int, str]:
    """Record trades until one is refused; return how many were acknowledged, and the message."""
    for count in range(most):
        try:
            trade(trade_metadata={"note": "x" * 500})
        except StorageError as error:
            return count, str(error)
    raise AssertionError("nothing was refused")


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- no space -----------------------------------------------------------------------------


def test_a_full_disk(tmp_path: Path) -> None:
    def child() -> str | None:
        if not mount_small_disk(tmp_path):
            return None
        path = tmp_path / "bot.db"
        filler = tmp_path / "filler"
        init_db(path)
        trade()
        filler.write_bytes(b"x" * 300_000)
        count, text = record_until_refused()
        assert text.startswith(f"{path}: the disk is full (database or disk is full); ")
        assert "free some space" in text
        # in a transaction the cause is not hidden by the rollback
        assert "the disk is full" in message(
            lambda: trades.create_many(
                trade_values(trade_metadata={"note": "x" * 500}) for _ in range(2_000)
            )
        )
        # and what follows a caught error in it is not stored by itself
        with pytest.raises(StorageError), session_scope():
            for _ in range(2_000):
                with contextlib.suppress(StorageError):
                    trade(trade_metadata={"note": "x" * 500})
        assert trades.get_trade_count() == count + 1
        filler.unlink()
        trade()
        with session_scope():
            trade()
        assert trades.get_trade_count() == count + 3
        close_db()
        assert sound(path)
        return "done"

    if in_child(child) is None:
        pytest.skip("this user may not mount a disk; the limit on file sizes is tested instead")


def test_a_limit_on_the_size_of_files(path: Path) -> None:
    def child() -> None:
        init_db(path)
        trade()
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        count, text = record_until_refused()
        assert text.startswith(f"{path}: the system refused to read or write it (disk I/O error)")
        assert "limit on the size of files" in text
        with pytest.raises(StorageError, match="refused to read or write"), session_scope():
            for _ in range(1_000):
                trade(trade_metadata={"note": "x" * 500})
        assert trades.get_trade_count() == count + 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        trade()
        assert trades.get_trade_count() == count + 2
        close_db()
        assert sound(path)

    in_child(child)


def test_out_of_file_descriptors(path: Path) -> None:
    def child() -> None:
        init_db(path)
        close_db()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        text = message(lambda: init_db(path))
        for descriptor in taken:
            os.close(descriptor)
        assert str(path) in text
        assert "open files" in text
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        init_db(path)
        trade()
        assert trades.get_trade_count() == 1

    in_child(child)


# --- no rights ----------------------------------------------------------------------------


def test_a_read_only_file(open_folder: Path) -> None:
    path = open_folder / "bot.db"

    def child() -> None:
        init_db(path)
        trade()
        close_db()
        path.chmod(stat.S_IRUSR)
        assert "it cannot be written" in message(lambda: init_db(path) and trade())
        close_db()
        init_db(path, read_only=True)
        assert trades.get_trade_count() == 1
        close_db()
        for file in open_folder.iterdir():  # the -wal too has got the mode of the file
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        init_db(path)
        trade()
        assert trades.get_trade_count() == 2

    in_child(child, as_nobody=True)


def test_a_folder_that_cannot_be_written(open_folder: Path) -> None:
    def child() -> None:
        open_folder.chmod(0o500)
        text = message(lambda: init_db(open_folder / "bot.db"))
        assert f"{open_folder}/bot.db: cannot be created: Permission denied; check" in text
        open_folder.chmod(0o700)

    in_child(child, as_nobody=True)


def test_a_file_of_another_user(open_folder: Path) -> None:
    path = open_folder / "bot.db"
    init_db(path)
    trade()
    close_db()
    if IS_ROOT:
        text = in_child(lambda: message(lambda: init_db(path)), as_nobody=True)
        assert f"{path}: it cannot be opened" in text
        assert "permissions" in text


# --- lost and replaced files ----------------------------------------------------------------


def lose(what: str, path: Path) -> None:
    """Delete or replace the open file, as people and scripts do."""
    if what == "deleted":
        path.unlink()
    elif what == "replaced":
        other = path.with_name("other.db")
        shutil.copy(path, other)
        other.replace(path)
    elif what == "moved away":
        path.rename(path.with_name("moved.db"))
    else:
        path.with_name(path.name + "-wal").unlink()


@pytest.mark.parametrize("what", ["deleted", "replaced", "moved away", "-wal removed"])
@pytest.mark.parametrize("how", ["alone", "in a transaction", "in bulk"])
def test_a_commit_into_a_lost_file_is_not_acknowledged(path: Path, what: str, how: str) -> None:
    init_db(path)
    trade()

    def record() -> None:
        if how == "alone":
            trade()
        elif how == "in bulk":
            trades.create_many([trade_values()])
        else:
            with session_scope():
                trade()

    lose(what, path)
    text = message(record)
    assert text.startswith(
        f"{path}: the file or its -wal was deleted or replaced while it was open"
    )
    assert "nothing was written by this call" in text
    # and it stays refused, so that no later call pretends
    assert message(record) == text
    close_db()
    if what in ("deleted", "moved away"):
        init_db(path)
        assert trades.get_trade_count() == 0


def test_a_file_lost_inside_a_transaction(path: Path) -> None:
    init_db(path)
    with pytest.raises(StorageError, match="this call is stored is not known"), session_scope():
        trade()
        path.unlink()


def test_another_thread_notices_too(path: Path) -> None:
    init_db(path)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(trade).result()
        path.unlink()
        with pytest.raises(StorageError, match="deleted or replaced"):
            pool.submit(trade).result()
    assert "deleted or replaced" in message(trade)


def test_a_bot_that_opens_its_lost_file_gets_an_error(path: Path) -> None:
    """Opening the file drops SQLite's locks, and the next process to close ends the -wal."""
    init_db(path)
    trade()
    path.read_bytes()
    in_child_of_its_own = f"""
import botmemory
botmemory.init_db({str(path)!r})
botmemory.close_db()
"""
    subprocess.run([sys.executable, "-c", in_child_of_its_own], check=True)
    if path.with_name("bot.db-wal").exists():  # newer releases of SQLite keep their locks
        trade()
        assert trades.get_trade_count() == 2
        return
    assert not path.with_name("bot.db-wal").exists()
    assert "-wal was deleted or replaced" in message(trade)
    close_db()
    init_db(path)
    assert trades.get_trade_count() == 1
    assert sound(path)


# --- damage ---------------------------------------------------------------------------------


def filled(path: Path) -> None:
    init_db(path)
    trades.create_many(trade_values(trade_metadata={"n": n}) for n in range(2_000))
    close_db()


def overwrite(path: Path, start: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(os.urandom(4096 * 3))


def test_a_damaged_file_is_refused_when_it_is_opened(path: Path) -> None:
    filled(path)
    overwrite(path, 4096 * 40)
    before = path.read_bytes()
    text = message(lambda: init_db(path))
    assert text.startswith(f"{path}: the file is damaged (")
    assert "restore the latest backup" in text
    assert path.read_bytes() == before


def test_damage_that_is_met_stops_all_writing(path: Path) -> None:
    filled(path)
    init_db(path)
    trades.get_trade_count()
    overwrite(path, 4096 * 2)
    overwrite(path, 4096 * 60)

    with ThreadPoolExecutor(1) as pool:  # a connection that has no page in its cache
        text = message(lambda: pool.submit(lambda: list(trades.iterate())).result())
    assert "the file is damaged" in text
    assert message(trade) == text


@pytest.mark.parametrize(
    "content", [b"x", b"not a database at all" * 400, b"SQLite format 3\0" + b"\xff" * 5_000]
)
def test_what_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    text = message(lambda: init_db(path))
    assert str(path) in text
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    init_db(path)
    trade()
    assert trades.get_trade_count() == 1


def test_a_missing_table_is_named(path: Path) -> None:
    database = init_db(path)
    database.execute_sql("DROP TABLE trade")
    assert "no such table: trade; look at" in message(trades.get_all, SchemaError)
