"""Files of other users, folders and disks that cannot be written, files changed while open."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from processes import IS_ROOT, NOBODY, fork_writer, in_child, kill, needs_fork
from programs import in_threads, program, released, start_program, stored, timed, watchdog
from samples import trade, trade_values

from botmemory import BotMemoryError, StorageError, close_db, init_db, session_scope
from botmemory.repositories import trades
from botmemory.upkeep.check import check

__all__ = ["released", "watchdog"]  # fixtures

pytestmark = [needs_fork, pytest.mark.usefixtures("watchdog", "released")]

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root has files of two users")


def lock_of(path: Path) -> Path:
    return Path(f"{path}-lock")


@contextmanager
def warnings_logged() -> Iterator[list[str]]:
    """Yield the list of warnings of the logger "botmemory"."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler = Collector(logging.WARNING)
    logging.getLogger("botmemory").addHandler(handler)
    try:
        yield messages
    finally:
        logging.getLogger("botmemory").removeHandler(handler)


def warnings_found() -> list[str]:
    return [finding.what for finding in check() if finding.severity == "warning"]


def record_once(path: Path) -> None:
    init_db(path)
    trade()
    close_db()


# --- the lock file ------------------------------------------------------------------------


@needs_root
def test_the_lock_file_that_root_makes_can_be_used_by_the_owner_of_the_database(
    open_folder: Path,
) -> None:
    path = open_folder / "bot.db"
    in_child(lambda: record_once(path), as_nobody=True)
    lock_of(path).unlink(missing_ok=True)
    record_once(path)
    in_child(lambda: record_once(path))

    def bot() -> tuple[int, list[str], list[str]]:
        with warnings_logged() as logged:
            init_db(path)
            trade()
            if lock_of(path).exists():
                os.close(os.open(lock_of(path), os.O_RDWR))
            return trades.get_trade_count(), logged, warnings_found()

    assert in_child(bot, as_nobody=True) == (4, [], [])


@needs_root
def test_the_files_that_root_leaves_open_can_be_used_by_the_owner_of_the_database(
    open_folder: Path,
) -> None:
    path = open_folder / "bot.db"
    in_child(lambda: record_once(path), as_nobody=True)
    for file in open_folder.glob("bot.db-*"):
        file.unlink()

    def root(acknowledge: Callable[[object], None]) -> None:
        init_db(path)
        trade()
        acknowledge("open")
        signal.pause()

    child, words = fork_writer(root)
    assert os.read(words, 10) == b"open\n"
    try:
        in_child(lambda: record_once(path), as_nobody=True)
    finally:
        kill(child, words)
    in_child(lambda: record_once(path), as_nobody=True)
    assert len(stored(path)) == 4


@needs_root
def test_a_lock_file_that_cannot_be_opened_is_one_warning_and_recording_works(
    open_folder: Path,
) -> None:
    path = open_folder / "bot.db"
    in_child(lambda: record_once(path), as_nobody=True)
    lock_of(path).unlink(missing_ok=True)
    lock_of(path).touch(mode=0o600)  # root's

    def bot() -> tuple[list[str], list[str]]:
        with warnings_logged() as logged:
            init_db(path)
            trade()
            with session_scope():
                trade()
            for outcome in in_threads(trade, trade, trades.get_all):
                assert outcome.error is None
            found = warnings_found()
            close_db()
        return logged, found

    logged, found = in_child(bot, as_nobody=True)
    assert [str(lock_of(path)) in message for message in logged] == [True]
    assert [str(lock_of(path)) in what for what in found] == [True]
    assert len(stored(path)) == 5


def test_a_healthy_lock_file_is_no_warning(path: Path) -> None:
    with warnings_logged() as logged:
        init_db(path)
        trade()
        assert warnings_found() == []
        close_db()
    assert logged == []


# --- read-only ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["moved", "deleted", "replaced"])
def test_closing_a_read_only_database_creates_no_file(path: Path, what: str) -> None:
    record_once(path)
    other = path.with_name("other.db")
    record_once(other)
    lock_of(other).unlink(missing_ok=True)
    init_db(path, read_only=True)
    assert trades.get_trade_count() == 1
    if what == "moved":
        path.rename(path.with_name("moved.db"))
    elif what == "deleted":
        path.unlink()
    else:
        other.replace(path)
    before = {file.name: file.stat().st_ino for file in path.parent.iterdir()}
    content = path.read_bytes() if path.exists() else b""
    close_db()
    after = {file.name: file.stat().st_ino for file in path.parent.iterdir()}
    assert after.items() <= before.items()
    assert (path.read_bytes() if path.exists() else b"") == content


def test_closing_a_read_only_database_in_a_thread_creates_no_file(path: Path) -> None:
    record_once(path)
    init_db(path, read_only=True)
    trades.get_trade_count()

    def read_and_move() -> None:
        trades.get_trade_count()
        path.rename(path.with_name("moved.db"))

    in_threads(read_and_move)  # its connection is closed when it ends
    close_db()
    assert not path.exists()


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Make this folder and its files read-only for every user."""
    modes = {file: file.stat().st_mode & 0o777 for file in (*folder.iterdir(), folder)}
    for file, mode in modes.items():
        file.chmod(mode & 0o555)
    try:
        yield
    finally:
        for file, mode in reversed(modes.items()):
            file.chmod(mode)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_read_only_folder_is_read_after_the_bot_has_stopped(open_folder: Path) -> None:
    path = open_folder / "bot.db"

    def read() -> int:
        record_once(path)
        with unwritable(open_folder):
            before = contents(open_folder)
            init_db(path, read_only=True)
            found = trades.get_trade_count(), len(trades.get_all()), len(list(trades.iterate()))
            assert [outcome.value for outcome in in_threads(trades.get_trade_count)] == [1]
            with pytest.raises(StorageError):
                trade()
            close_db()
            assert contents(open_folder) == before
        assert set(found) == {1}
        return found[0]

    assert in_child(read, as_nobody=True) == 1


def count_or_refusal(path: Path) -> int | str:
    """Open read-only and return the number of trades, or the error message."""
    try:
        init_db(path, read_only=True)
        return trades.get_trade_count()
    except StorageError as error:
        return str(error)
    finally:
        close_db()


def leave_wal(path: Path, count: int, lose: str) -> None:
    """Record, get killed, and delete one of the files that remain."""

    def bot(acknowledge: Callable[[object], None]) -> None:
        init_db(path)
        for _ in range(count):
            trade()
        acknowledge("recorded")
        signal.pause()

    child, words = fork_writer(bot)
    assert os.read(words, 20) == b"recorded\n"
    kill(child, words)
    assert Path(f"{path}-wal").stat().st_size > 0
    if lose:
        Path(f"{path}{lose}").unlink()


@pytest.mark.parametrize("lose", ["", "-shm"], ids=["with its -shm", "without its -shm"])
def test_what_a_killed_bot_left_in_a_read_only_folder_is_read_whole_or_refused(
    open_folder: Path, lose: str
) -> None:
    path = open_folder / "bot.db"

    def read() -> tuple[int | str, int | str]:
        record_once(path)
        leave_wal(path, 20, lose)
        with unwritable(open_folder):
            before = {
                name: data for name, data in contents(open_folder).items() if "shm" not in name
            }
            found = count_or_refusal(path)
            after = {
                name: data for name, data in contents(open_folder).items() if "shm" not in name
            }
            assert after == before
        return found, count_or_refusal(path)

    locked, open_again = in_child(read, as_nobody=True)
    assert locked == 21 or str(path) in str(locked)
    assert open_again == 21


def mount_disk(folder: Path) -> bool:
    """Mount a disk of its own in a name space of this process, where the system lets it."""
    libc = ctypes.CDLL(None, use_errno=True)
    own_mounts, private_and_all = 0x00020000, (1 << 18) | (1 << 14)
    return (
        libc.unshare(own_mounts) == 0
        and libc.mount(b"none", b"/", None, private_and_all, None) == 0
        and libc.mount(b"none", bytes(folder), b"tmpfs", 0, b"size=8m") == 0
    )


def set_writable(folder: Path, writable: bool) -> None:
    """Mount the disk again, read-only or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    again, read_only = 32, 1
    flags = again | (0 if writable else read_only)
    assert libc.mount(b"none", bytes(folder), None, flags, None) == 0, os.strerror(
        ctypes.get_errno()
    )


@pytest.mark.parametrize("left", ["stopped", "killed", "killed, -shm lost"])
def test_a_disk_that_is_mounted_read_only(tmp_path: Path, left: str) -> None:
    path = tmp_path / "bot.db"

    def child() -> tuple[int | str, int | str] | None:
        if not mount_disk(tmp_path):
            return None
        in_child(lambda: record_once(path))  # in a process that is over: no file is left open
        if left != "stopped":
            leave_wal(path, 20, "-shm" if "lost" in left else "")
        set_writable(tmp_path, False)
        with pytest.raises(OSError, match="Read-only file system"):
            (tmp_path / "file").touch()
        found = count_or_refusal(path)
        with suppress(StorageError):
            init_db(path, read_only=True)
            with pytest.raises(StorageError):
                trade()
        close_db()
        set_writable(tmp_path, True)
        return found, count_or_refusal(path)

    result = in_child(child)
    if result is None:
        pytest.skip("this user may not mount a disk; a read-only folder is tested instead")
    if left == "stopped":
        assert result == (1, 1)
    else:
        assert result[0] == 21 or str(path) in str(result[0])
        assert result[1] == 21


# opens :memory: first, which loads all that a user without rights could not load later
READER = """
import os, sys
from botmemory import StorageError, close_db, init_db
from botmemory.repositories import trades
from samples import trade

init_db(":memory:"), trade(), trades.get_all(), close_db()
try:
    init_db("/nowhere/bot.db", read_only=True)
except StorageError:
    pass
os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
for line in sys.stdin:
    try:
        if line == "open\\n":
            close_db()
            init_db(sys.argv[1], read_only=True)
        print(trades.get_trade_count(), len(trades.get_all()), flush=True)
    except StorageError as error:
        print("refused", type(error).__name__, error, flush=True)
"""


@needs_root
def test_a_reader_of_a_read_only_folder_is_never_shown_wrong_data(open_folder: Path) -> None:
    path = open_folder / "bot.db"
    record_once(path)
    acknowledged = 1
    os.chown(open_folder, 0, 0)
    open_folder.chmod(0o555)
    path.chmod(0o644)
    with start_program(READER, path, NOBODY) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask(what: str) -> list[str]:
            reader.stdin.write(f"{what}\n")
            reader.stdin.flush()
            return reader.stdout.readline().split(maxsplit=2)

        assert ask("open") == ["1", "1"]
        for number in range(3):
            init_db(path)
            trades.create_many([trade_values(trade_metadata={"n": "x" * 2000})] * 300)
            acknowledged += 300
            for what in ("read", "open", "read"):
                counts = ask(what)  # while the writer is there
                if counts[0] != "refused":
                    assert int(counts[0]) == int(counts[1])
                    assert int(counts[0]) in (acknowledged, acknowledged - 300), counts
                    assert what == "read" or int(counts[0]) == acknowledged, counts
            close_db()
            still_open = ask("read")
            if still_open[0] != "refused":
                assert int(still_open[0]) == int(still_open[1])
                assert (int(still_open[0]) - 1) % 300 == 0, still_open
            assert ask("open") == [str(acknowledged)] * 2, number


# --- a file that is changed in place while it is open -------------------------------------


def change_in_place(path: Path, how: str, other: Path) -> None:
    """Let another program change the file itself, as `> bot.db` or `cp other.db bot.db` do."""
    program(
        """
        import os, pathlib, sys

        path, how, other = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
        if how == "emptied":
            os.truncate(path, 0)
        elif how == "cut off":
            os.truncate(path, path.stat().st_size // 2)
        elif how == "overwritten with text":
            path.write_bytes(b"no database" * 10_000)
        elif how == "overwritten with more text":
            path.write_bytes(b"no database" * 100_000)
        else:
            path.write_bytes(other.read_bytes())
        """,
        path,
        how,
        other,
    )


WRITES: dict[str, Callable[[], object]] = {
    "create": trade,
    "create_many": lambda: trades.create_many([trade_values()]),
    "session_scope": lambda: in_a_scope(),
}


def in_a_scope() -> None:
    with session_scope():
        trade()


def filled(path: Path, count: int) -> None:
    init_db(path)
    trades.create_many([trade_values(trade_metadata={"n": "x" * 500})] * count)
    close_db()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "how",
    [
        "emptied",
        "cut off",
        "overwritten with text",
        "overwritten with more text",
        "another database copied over it",
        "a larger database copied over it",
    ],
)
def test_a_write_into_a_file_that_was_changed_in_place_is_refused(
    path: Path, how: str, write: str
) -> None:
    other = path.with_name("other.db")
    filled(other, 300 if "larger" in how else 40)
    filled(path, 100)
    init_db(path)
    trade()
    change_in_place(path, how, other)
    for call in (WRITES[write], WRITES[write], trade):
        outcome = timed(call)
        assert isinstance(outcome.error, StorageError), outcome
        assert str(path) in str(outcome.error)
    [outcome] = in_threads(trade)
    assert isinstance(outcome.error, StorageError), outcome


@pytest.mark.parametrize("write", WRITES)
def test_a_file_that_another_was_copied_over_is_refused_while_its_rows_are_in_the_wal(
    path: Path, write: str
) -> None:
    """What is read through the -wal looks whole: the file under it belongs to another database."""
    other = path.with_name("other.db")
    filled(other, 40)
    init_db(path)
    trade()
    change_in_place(path, "another database copied over it", other)
    for call in (WRITES[write], trade):
        assert isinstance(timed(call).error, StorageError)
    [outcome] = in_threads(trade)
    assert isinstance(outcome.error, StorageError)


def test_a_database_that_others_migrate_and_compact_is_recorded_into(path: Path) -> None:
    init_db(path)
    trade()
    for arguments in (("down", "--yes"), ("up",)):
        program(
            """
            import sys
            from botmemory.migration_runner import main

            sys.exit(main(["--db", *sys.argv[1:]]))
            """,
            path,
            *arguments,
        )
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint")
    trade()
    in_a_scope()
    [outcome] = in_threads(trade)
    assert outcome.error is None
    assert len(stored(path)) == 4


def test_a_file_that_is_changed_in_place_inside_a_transaction(path: Path) -> None:
    filled(path, 100)
    init_db(path)
    with pytest.raises(BotMemoryError), session_scope():
        trade()
        change_in_place(path, "emptied", path)
    with pytest.raises(StorageError):
        trade()


def test_an_older_copy_over_an_open_file_loses_nothing_acknowledged_after_it(path: Path) -> None:
    filled(path, 100)
    older = path.with_name("older.db")
    shutil.copy(path, older)
    init_db(path)
    trades.create_many([trade_values(trade_metadata={"n": "x" * 500})] * 300)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    change_in_place(path, "copied", older)
    outcome = timed(lambda: trade(price=7))
    if outcome.error is None:
        close_db()
        assert 7 in stored(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    else:
        assert isinstance(outcome.error, StorageError)
