"""Back up, restore and check a database."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import re
import signal as signals_of_the_system
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import interrupts
import pytest
from processes import (
    IS_ROOT,
    bind_mount,
    fork_writer,
    in_child,
    kill,
    mount_small_disk,
    needs_fork,
    needs_posix,
    needs_signals,
)
from samples import at, cash_flow, signal, trade, trade_values
from system_errors import IS_A_FOLDER, NO_SUCH_FILE

from botmemory import (
    ConfigError,
    DatabaseBusyError,
    NotInitializedError,
    SchemaError,
    StorageError,
    close_db,
    init_db,
    session_scope,
)
from botmemory.backends.sqlite.file_system import parse_mounts
from botmemory.backends.sqlite.lock import FileLock
from botmemory.models import CASH_FLOW_KINDS
from botmemory.repositories import signals, state, trades
from botmemory.upkeep import backup as backup_module
from botmemory.upkeep.backup import backup, restore
from botmemory.upkeep.check import Finding, check

pytestmark = pytest.mark.usefixtures("empty_folder")
REFUSES_LINKS = Path("/proc/sys/fs/protected_hardlinks")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The path of a copy."""
    return tmp_path / "copies" / "copy.db"


@pytest.fixture(autouse=True)
def _folder(copy: Path) -> None:
    copy.parent.mkdir()


def prices(file: Path) -> list[float]:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [p for (p,) in connection.execute("SELECT price FROM trade ORDER BY price")]


def record_and_back_up(path: Path, copy: Path) -> None:
    """Make a database of one trade, and a copy of it; close it."""
    init_db(path)
    trade(price=1)
    backup(copy)
    close_db()


# --- backup -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["bot.db", ":memory:"])
def test_a_copy_has_every_row(target: str, copy: Path) -> None:
    init_db(target)
    trade(price=5, signal=signal(signal_metadata={"rsi": 20}))
    steps: list[tuple[int, int]] = []
    assert backup(copy, progress=lambda done, total: steps.append((done, total))) == copy
    assert steps
    assert steps[-1][0] == steps[-1][1] > 0
    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]
    if os.name == "posix":
        assert copy.stat().st_mode & 0o777 == 0o600
    close_db()
    init_db(copy)
    [copied] = trades.get_all()
    assert copied.signal is not None
    assert copied.signal.signal_metadata == {"rsi": 20}


def test_a_copy_made_while_others_write_is_one_snapshot(path: Path, copy: Path) -> None:
    init_db(path, synchronous="normal")
    trades.create_many(trade_values() for _ in range(3_000))
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with session_scope():
                for _ in range(10):
                    trade(price=2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            backup(copy)
            copied = prices(copy)
            assert copied.count(100.0) == 3_000
            assert copied.count(2.0) % 10 == 0
    finally:
        stop.set()
        writer.join()
    assert trades.get_trade_count() > 3_000


def test_a_copy_replaces_the_last_one_only_when_it_is_whole(path: Path, copy: Path) -> None:
    init_db(path)
    trade(price=1)
    backup(copy)
    trade(price=2)
    backup(copy)
    assert prices(copy) == [1.0, 2.0]

    def fail(done: int, total: int) -> None:
        raise RuntimeError("the operator pressed a key")

    trade(price=3)
    with pytest.raises(RuntimeError):
        backup(copy, progress=fail)
    assert prices(copy) == [1.0, 2.0]
    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]


def test_a_backup_that_is_not_possible_is_an_error(path: Path, copy: Path) -> None:
    with pytest.raises(NotInitializedError):
        backup(copy)
    init_db(path)
    with pytest.raises(StorageError, match="is the database itself"):
        backup(path)
    with pytest.raises(StorageError, match="its folder .* does not exist"):
        backup(copy.parent / "missing" / "copy.db")
    with pytest.raises(StorageError, match=f"the copy failed.*: {IS_A_FOLDER}"):
        backup(copy.parent)
    with session_scope(), pytest.raises(DatabaseBusyError, match="a transaction is open"):
        backup(copy)
    assert list(copy.parent.iterdir()) == []


@needs_fork
def test_a_copy_does_not_replace_a_file_with_a_wal(path: Path, copy: Path) -> None:
    """SQLite would write the old copy's -wal into the new copy."""
    record_and_back_up(path, copy)

    def work(acknowledge: Callable[[Any], None]) -> None:
        init_db(copy)
        trade(price=2)
        acknowledge("recorded")
        time.sleep(60)

    child, pipe = fork_writer(work)
    assert os.read(pipe, 1)
    kill(child, pipe)
    init_db(path)
    trade(price=3)
    with pytest.raises(StorageError, match=r"copy.db: has a -wal beside it: .* name another file"):
        backup(copy)
    assert prices(copy) == [1.0, 2.0]
    backup(copy)
    assert prices(copy) == [1.0, 3.0]


@needs_fork
def test_two_restores_at_once_do_not_disturb_each_other(path: Path, copy: Path) -> None:
    record_and_back_up(path, copy)
    staged = Path(f"{path}.restoring")
    staged.write_bytes(b"of the other restore")
    lock = FileLock(f"{path}-lock")
    assert lock.acquire(0)
    with pytest.raises(DatabaseBusyError):
        restore(copy, path)
    assert staged.read_bytes() == b"of the other restore"
    lock.release()
    restore(copy, path)
    assert prices(path) == [1.0]
    assert not staged.exists()


@needs_fork
def test_a_killed_backup_leaves_no_broken_file_under_the_name(path: Path, copy: Path) -> None:
    init_db(path, synchronous="normal")
    trades.create_many(trade_values(trade_metadata={"n": "x" * 2_000}) for _ in range(1_500))
    backup(copy)
    close_db()

    def work(acknowledge: Callable[[Any], None]) -> None:
        init_db(path)
        while True:
            backup(copy, progress=lambda done, total: acknowledge(done))

    for number in range(12):
        child, pipe = fork_writer(work)
        os.read(pipe, 1)
        time.sleep(number * 0.004)
        kill(child, pipe)
        assert len(prices(copy)) == 1_500
    init_db(path)
    backup(copy)
    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]


# --- restore ------------------------------------------------------------------------------


def test_a_restored_copy_replaces_the_database_and_the_replaced_file_is_kept(
    path: Path, copy: Path
) -> None:
    init_db(path)
    trade(price=1)
    backup(copy)
    trade(price=2)
    close_db()
    kept = restore(copy, path)
    assert kept is not None
    assert prices(kept) == [1.0, 2.0]
    init_db(path)
    assert [t.price for t in trades.get_all()] == [1.0]
    trade(price=3)
    close_db()
    assert prices(copy) == [1.0]


def interrupted_everywhere(
    before: Callable[[], object], call: Callable[[], object]
) -> Iterator[interrupts.Stack]:
    """Interrupt a call of `backup.py` at each of its places; yield each, after its interrupt."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interrupts, "PLACES", (backup_module.__file__, pathlib.__file__))
        counter = interrupts.Interrupter(None, None)
        before()
        assert counter.run(call) is None
        for stack in dict.fromkeys(counter.stacks):
            before()
            interrupter = interrupts.Interrupter(interrupts.Place(stack, 1), interrupt)
            assert isinstance(interrupter.run(call), KeyboardInterrupt)
            yield stack
    gc.collect()  # files and connections that were interrupted as they were opened


@needs_signals  # to be interrupted at one place
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("links", [True, False])
def test_an_interrupted_restore_keeps_both_databases(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """The interrupt may come after the rename that puts the copy in place."""
    init_db(path)
    trade(price=1)
    backup(copy)
    trade(price=2)
    close_db()
    content = path.read_bytes()

    def start_again() -> None:
        for file in path.parent.glob("bot.*"):
            file.unlink()
        path.write_bytes(content)

    def run() -> None:
        restore(Path(f"{copy}"), Path(f"{path}"))  # paths of its own, which have cached nothing

    def refuse(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    outcomes = set()
    for stack in interrupted_everywhere(start_again, run):
        kept = [*path.parent.glob("bot.replaced-*.db")]
        found = [sorted(map(prices, kept)), prices(path)]
        assert found in ([[], [1.0, 2.0]], [[[1.0, 2.0]], [1.0]]), stack[0]
        assert path.stat().st_nlink == 1
        outcomes.add(len(kept))
    assert outcomes == {0, 1}


@needs_signals  # to be interrupted at one place
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_interrupted_restore_of_a_deleted_database_changes_nothing_or_all(
    path: Path, copy: Path
) -> None:
    record_and_back_up(path, copy)
    wal = Path(f"{path}-wal")

    def start_again() -> None:
        for file in path.parent.glob("bot.*"):
            file.unlink()
        wal.write_bytes(b"of the deleted one")

    outcomes = set()
    for stack in interrupted_everywhere(
        start_again, lambda: restore(Path(f"{copy}"), Path(f"{path}"))
    ):
        assert path.exists() is not wal.exists(), stack[0]
        assert not path.exists() or prices(path) == [1.0]
        assert not Path(f"{path}.restoring").exists()
        outcomes.add(path.exists())
    assert outcomes == {False, True}


KILLED_RESTORE = """
import os, pathlib, sys
from botmemory.upkeep.backup import restore

def refuse(*_):
    raise PermissionError

def replace(path, to):
    os._exit(9) if path.suffix == ".restoring" else os.replace(path, to)

os.link = refuse
pathlib.Path.replace = replace
restore(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("by_copy", [True, False])
def test_after_a_restore_was_killed_between_its_renames_no_empty_database_is_made(
    path: Path, copy: Path, by_copy: bool
) -> None:
    init_db(path)
    trade(price=1)
    backup(copy)
    trade(price=2)
    close_db()
    done = subprocess.run([sys.executable, "-c", KILLED_RESTORE, copy, path], check=False)
    assert done.returncode == 9
    [kept] = path.parent.glob("bot.replaced-*.db")
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"is missing, and bot.db.restoring beside it was"):
            init_db(path, read_only=read_only)
    assert not path.exists()
    damaged = copy.with_name("damaged.db")
    damaged.write_bytes(b"x" * 5_000)
    for source in (damaged, copy.with_name("missing.db")):  # the restore is repeated, wrongly
        with pytest.raises(StorageError):
            restore(source, path)
        with pytest.raises(StorageError, match="is missing"):
            init_db(path)
    restore(copy if by_copy else Path(f"{path}.restoring"), path)
    assert [prices(path), prices(kept)] == [[1.0], [1.0, 2.0]]
    # a source stays as it is
    assert Path(f"{path}.restoring").exists() is not by_copy


STARTING_BOT = """
import sys
from pathlib import Path
from botmemory import init_db
from botmemory.backends.sqlite.lock import FileLock
from botmemory.repositories import trades

path = Path(sys.argv[1])
acquire = FileLock.acquire

def wait_for_restore(lock, timeout):
    FileLock.acquire = acquire
    print("opened", flush=True)
    sys.stdin.readline()
    return acquire(lock, timeout)

FileLock.acquire = wait_for_restore
init_db(path)
trades.create(symbol="A", side="buy", price=9, quantity=1)
"""


@needs_posix  # a file that is open can be replaced
@pytest.mark.parametrize("is_missing", [True, False])
def test_a_bot_that_starts_during_a_restore_records_into_no_other_file(
    path: Path, copy: Path, is_missing: bool
) -> None:
    record_and_back_up(path, copy)
    path.unlink()
    if not is_missing:
        restore(copy, path)  # in another mode than WAL
    bot = [sys.executable, "-c", STARTING_BOT, path]
    with subprocess.Popen(
        bot, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as starting:
        assert starting.stdout is not None
        assert starting.stdout.readline() == "opened\n"
        restored = restore(copy, path)
        assert restored is not None
        _, errors = starting.communicate("\n")
    assert f"{path}: was replaced while it was opened; call init_db() again" in errors
    assert prices(path) == [1.0]


def test_a_database_that_is_made_during_a_restore_is_not_replaced(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_and_back_up(path, copy)
    made = path.read_bytes()
    path.unlink()
    copy_to_file = backup_module.copy_to_file

    def copy_slowly(source: sqlite3.Connection, destination: Path) -> None:
        copy_to_file(source, destination)
        path.write_bytes(made)

    monkeypatch.setattr(backup_module, "copy_to_file", copy_slowly)
    with pytest.raises(DatabaseBusyError, match="bot.db: a process has made it meanwhile; stop"):
        restore(copy, path)
    assert path.read_bytes() == made
    assert sorted(file.name for file in path.parent.glob("bot.*")) == ["bot.db", "bot.db-lock"]


def test_a_database_that_a_program_writes_is_not_replaced_in_any_mode(
    path: Path, copy: Path
) -> None:
    record_and_back_up(path, copy)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert other.execute("PRAGMA journal_mode = delete").fetchone() == ("delete",)
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE trade SET price = 2")
        with pytest.raises(DatabaseBusyError, match="a process has the database open"):
            restore(copy, path)
        other.execute("COMMIT")
    assert prices(path) == [2.0]


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_what_a_deleted_database_left_is_not_applied_to_the_copy(
    path: Path, copy: Path, suffix: str
) -> None:
    record_and_back_up(path, copy)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        mode = "wal" if suffix == "-wal" else "delete"
        assert other.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
        other.execute("UPDATE trade SET price = 3")
        other.execute("PRAGMA cache_size = 1")  # pages go to the file before the end
        other.execute("BEGIN")
        other.execute("UPDATE trade SET price = 2")
        other.execute("CREATE TABLE large (content)")
        other.execute("INSERT INTO large VALUES (zeroblob(100000))")
        if suffix == "-wal":
            other.execute("COMMIT")
        left = Path(f"{path}{suffix}").read_bytes()
    path.unlink()
    Path(f"{path}{suffix}").write_bytes(left)
    assert restore(copy, path) is None
    assert prices(path) == [1.0]
    [kept] = path.parent.glob(f"bot.replaced-*.db{suffix}")
    assert kept.read_bytes() == left


def test_a_damaged_database_can_be_replaced(path: Path, copy: Path) -> None:
    record_and_back_up(path, copy)
    path.write_bytes(b"\xff" * 20_000)
    Path(f"{path}-wal").write_bytes(b"stale" * 1_000)
    restore(copy, path)
    assert not Path(f"{path}-wal").exists()
    init_db(path)
    assert [t.price for t in trades.get_all()] == [1.0]


def test_a_missing_database_is_restored_from_the_environment(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_and_back_up(path, copy)
    path.unlink()
    monkeypatch.setenv("BOTMEMORY_DB_PATH", str(path))
    assert restore(copy) is None
    assert prices(path) == [1.0]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_database_in_use_is_not_replaced(path: Path, copy: Path) -> None:
    init_db(path)
    trade(price=1)
    backup(copy)
    trade(price=2)
    with pytest.raises(
        DatabaseBusyError, match=r"this process has the database open; close_db\(\)"
    ):
        restore(copy, path)
    close_db()
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT count(*) FROM trade").fetchone()
        with pytest.raises(
            DatabaseBusyError, match="a process has the database open; stop the bot"
        ):
            restore(copy, path)
    assert prices(path) == [1.0, 2.0]


def test_a_restore_that_is_not_possible_is_an_error_and_changes_nothing(
    path: Path, copy: Path
) -> None:
    init_db(path)
    trade(price=1)
    close_db()
    bad = copy.with_name("bad.db")
    bad.write_bytes(b"no database" * 500)
    foreign = copy.with_name("foreign.db")
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE t (a)")
    for source, kind, message in (
        (copy, StorageError, "there is no such file to restore"),
        (bad, StorageError, "it is not a SQLite database"),
        (foreign, SchemaError, "is not a copy of a database"),
        (path, StorageError, "is the database itself"),
    ):
        with pytest.raises(kind, match=message):
            restore(source, path)
    missing = path.parent / "missing" / "bot.db"
    with pytest.raises(
        StorageError, match=f"{re.escape(str(missing))}: cannot be restored: {NO_SUCH_FILE}"
    ):
        restore(path, missing)
    with pytest.raises(ConfigError, match="only a SQLite file"):
        restore(path, ":memory:")
    assert prices(path) == [1.0]


@needs_fork
@pytest.mark.skipif(
    not REFUSES_LINKS.exists() or REFUSES_LINKS.read_text().strip() != "1" or not IS_ROOT,
    reason="nothing refuses a second name of a file here",
)
def test_it_restores_where_a_file_may_have_one_name_only(open_folder: Path) -> None:
    path, copy = open_folder / "bot.db", open_folder / "copy.db"
    init_db(path)
    trade()
    backup(copy)
    trade()
    close_db()
    for file in (copy, path):
        file.chmod(0o644)
    before = path.read_bytes()
    # another user may rename the file of root, but not link it
    kept = in_child(lambda: str(restore(copy, path)), as_nobody=True)
    assert Path(kept).read_bytes() == before
    init_db(path)
    assert trades.get_trade_count() == 1


@needs_fork
def test_a_killed_restore_leaves_one_whole_database(path: Path, copy: Path) -> None:
    init_db(path, synchronous="normal")
    trades.create_many(trade_values(trade_metadata={"n": "x" * 2_000}) for _ in range(1_500))
    backup(copy)
    close_db()

    def work(acknowledge: Callable[[Any], None]) -> None:
        acknowledge("begins")
        restore(copy, path)

    for number in range(12):
        child, pipe = fork_writer(work)
        os.read(pipe, 1)
        time.sleep(number * 0.004)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signals_of_the_system.SIGKILL)
        os.waitpid(child, 0)
        os.close(pipe)
        assert len(prices(path)) == 1_500


# --- check --------------------------------------------------------------------------------


def findings(severity: str, full: bool = False) -> list[Finding]:
    return [finding for finding in check(full=full) if finding.severity == severity]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("target", ["bot.db", ":memory:"])
def test_a_healthy_database_has_no_findings(target: str, full: bool) -> None:
    init_db(target)
    trade(signal=signal(timestamp=at(0)), timestamp=at(1))
    trade(timestamp=at(2))
    assert findings("error", full) == findings("warning", full) == []


def write_unchecked(path: Path, *statements: str) -> None:
    """Write the file as another program, without its check constraints."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = on")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def insert(**values: object) -> str:
    row = {
        "id": "'" + "0" * 32 + "'",
        "timestamp": "'2024-01-01 00:00:00.000000+00:00'",
        "symbol": "'X'",
        "side": "'buy'",
        "price": 1,
        "quantity": 1,
    } | values
    return f"INSERT INTO trade ({', '.join(row)}) VALUES ({', '.join(map(str, row.values()))})"


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"price": -1}, "trade_price_check"),
        ({"symbol": "''"}, "trade_symbol_check"),
        ({"side": "'hold'"}, "trade_side_check"),
        ({"id": "'no id'"}, "trade_id_check"),
        ({"timestamp": "'2024-02-31 00:00:00.000000+00:00'"}, "trade_timestamp_check"),
        ({"timestamp": "'2024-13-01 00:00:00.000000+00:00'"}, "trade_timestamp_check"),
        ({"trade_metadata": "'{'"}, "trade_trade_metadata_check"),
        ({"exchange_trade_id": "'1'"}, "trade_exchange_trade_id_check"),
    ],
)
def test_a_row_of_another_program_that_violates_a_constraint(
    path: Path, values: Any, constraint: str
) -> None:
    init_db(path)
    write_unchecked(path, insert(**values))
    [finding] = findings("error")
    assert findings("error", full=True) == [finding]
    assert constraint in finding.what
    assert str(values.get("id", "0" * 32)).strip("'") in finding.what


@pytest.mark.parametrize("values", [{"id": "'no id'"}, {"timestamp": "'2024-13-01'"}], ids=str)
def test_the_error_for_a_row_that_cannot_be_read_names_the_check(path: Path, values: Any) -> None:
    init_db(path)
    write_unchecked(path, insert(**values))
    with pytest.raises(StorageError, match=r"a row that cannot be read .*check\(\) names it"):
        trades.get_all()


def test_a_full_check_finds_invalid_values(path: Path) -> None:
    init_db(path)
    write_unchecked(path, insert(symbol="'a' || char(9) || 'b'"))
    assert findings("error") == []
    [finding] = findings("error", full=True)
    assert "symbol: 'a\\tb' contains a character that is not printable" in finding.what


def test_a_reference_to_a_missing_row(path: Path) -> None:
    init_db(path)
    write_unchecked(path, insert(signal_id=77))
    assert "1 rows of 'trade' refer to missing rows of 'signal'" in findings("error")[0].what


def test_duplicates_and_trades_before_their_signal(path: Path) -> None:
    init_db(path)
    twice = {"timestamp": at(1), "exchange": "okx"}
    trade(**twice, exchange_trade_id="1")
    trade(**twice, exchange_trade_id="2")
    assert findings("warning") == []
    trade(**twice, price=7)
    trade(**twice, price=7)
    [finding] = findings("warning")
    assert "more than once" in finding.what
    late = signal(timestamp=at(9))
    early = trade(signal=late, timestamp=at(8), price=7)
    assert any(early.id.hex in finding.what for finding in findings("warning"))


def test_cash_flows_that_are_recorded_twice(path: Path) -> None:
    init_db(path)
    payment = {"timestamp": at(1), "symbol": "BTC/USDT:USDT", "exchange": "okx"}
    cash_flow(**payment, exchange_flow_id="1")
    cash_flow(**payment, exchange_flow_id="2")
    cash_flow(**payment, strategy="a")
    first = cash_flow(**payment, strategy="b")
    assert findings("warning") == []
    cash_flow(**payment, strategy="b")
    [finding] = findings("warning")
    assert finding.what == (
        "cash flows are recorded more than once with the same timestamp, kind, currency, amount, "
        f"symbol, strategy and exchange: {first.id}"
    )


def test_cash_flows_that_another_program_wrote_wrongly(path: Path) -> None:
    init_db(path)
    created = cash_flow(exchange="okx")
    write_unchecked(path, "UPDATE cash_flow SET kind = 'salary'")
    assert [finding.what for finding in findings("error")] == [
        "cash flows violate the constraint cash_flow_kind_check: kind IN "
        f"{CASH_FLOW_KINDS}: {created.id}"
    ]
    write_unchecked(path, "UPDATE cash_flow SET kind = 'fee', exchange = 'a' || char(9) || 'b'")
    [invalid] = findings("error", full=True)
    assert invalid.what.startswith(f"cash flows have invalid values: {created.id} (exchange: ")


def test_state_that_another_program_wrote_wrongly(path: Path) -> None:
    init_db(path)
    state.set("a b", 1, strategy="trend")
    state.set("c", 2)
    assert findings("error", full=True) == []
    write_unchecked(path, "UPDATE state SET value = '{' WHERE key = 'c'")
    assert [finding.what for finding in findings("error")] == [
        "values of the state violate the constraint state_value_check: value IS NULL OR "
        "json_valid(value): /c"
    ]
    write_unchecked(path, "UPDATE state SET value = '1', key = key || char(9) || 'b'")
    [invalid] = findings("error", full=True)
    assert invalid.what.startswith("values of the state have invalid values: /c\tb (key: ")
    assert "trend/a b\tb (key: " in invalid.what


def test_a_changed_schema(path: Path) -> None:
    init_db(path)
    write_unchecked(path, "ALTER TABLE trade ADD COLUMN note TEXT", "DROP INDEX trade_symbol")
    problems = [finding.what for finding in findings("error")]
    assert any("trade: the column note is not in the model: TEXT" in what for what in problems)
    assert any("trade: the index trade_symbol is missing" in what for what in problems)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"pnl" REAL', '"pnl" TEXT', "trade: the column pnl is TEXT NULL, not REAL NULL"),
        (
            '"side" VARCHAR(4) NOT NULL',
            '"side" VARCHAR(4)',
            "the column side is VARCHAR(4) NULL, not VARCHAR(4) NOT",
        ),
        ("price > 0 AND ", "", "trade: the check trade_price_check is price <= 1.79"),
    ],
)
def test_a_changed_column_or_check_constraint(path: Path, old: str, new: str, what: str) -> None:
    init_db(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema = on")
        changed = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'trade'"
        connection.execute(changed, (old, new))
        connection.commit()
    close_db()
    init_db(path)
    assert [what in finding.what for finding in findings("error")] == [True]


def test_a_damaged_file(path: Path) -> None:
    init_db(path)
    trades.create_many(trade_values() for _ in range(2_000))
    close_db()
    database = init_db(path)
    with path.open("r+b") as file:
        file.seek(4096 * 30)
        file.write(b"\xff" * 4096 * 5)
    database.close()  # empties its cache
    assert findings("error")[0].what.startswith("the file is damaged: ")


def test_it_waits_for_a_file_that_is_busy(path: Path) -> None:
    init_db(path)
    close_db()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode = delete")
        init_db(path, read_only=True)
        other.execute("BEGIN EXCLUSIVE")
        end = threading.Timer(0.3, other.execute, ("ROLLBACK",))
        end.start()
        assert [finding.what for finding in check() if finding.severity == "error"] == []
        end.join()


def test_a_large_wal(path: Path) -> None:
    init_db(path, synchronous="normal")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM trade").fetchone()
        for _ in range(5):
            signals.create_many(
                {"symbol": "X", "signal_value": 1, "signal_metadata": "x" * 9_000}
                for _ in range(500)
            )
        [finding] = findings("warning")
    assert "reads an old state of the database" in finding.what


@needs_fork
def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    def child() -> list[str] | None:
        if not mount_small_disk(tmp_path):
            return None
        init_db(tmp_path / "bot.db")
        return [finding.what for finding in findings("warning")]

    problems = in_child(child)
    if problems is None:
        pytest.skip("this user may not mount a disk")
    [what] = problems
    assert what.startswith(f"{tmp_path} has 1 MB of free disk left")


def test_a_file_with_two_names(path: Path) -> None:
    init_db(path)
    path.with_name("same.db").hardlink_to(path)
    [finding] = findings("warning")
    assert finding.what.startswith(
        f"{path} has 2 hard links: a program that opens it by another name"
    )


@needs_fork
def test_a_file_that_is_mounted_by_itself(path: Path, tmp_path: Path) -> None:
    init_db(path)
    close_db()
    inside = tmp_path / "in the container.db"
    inside.touch()

    def child() -> list[str] | None:
        if not bind_mount(path, inside):
            return None
        init_db(inside)
        return [finding.what for finding in findings("warning")]

    problems = in_child(child)
    if problems is None:
        pytest.skip("this user may not mount a file")
    [what] = problems
    assert what.startswith(f"{inside} is mounted by itself, without its folder, from ")


@needs_posix
@pytest.mark.parametrize(
    ("kind", "severity"), [("nfs4", "error"), ("virtiofs", "warning"), ("ext4", None)]
)
def test_a_file_system_that_sqlite_may_not_rely_on(
    kind: str, severity: str | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = parse_mounts(f"1 0 8:1 / / rw - {kind} /dev/sda1 rw")
    monkeypatch.setattr("botmemory.backends.sqlite.health.read_mounts", lambda: mounts)
    init_db(path)
    matches = [finding for finding in check() if f"({kind})" in finding.what]
    assert [finding.severity for finding in matches] == ([severity] if severity else [])


def test_every_finding_says_what_to_do(path: Path) -> None:
    init_db(path)
    write_unchecked(path, insert(price=-1))
    for finding in check():
        assert finding.severity in ("error", "warning", "info")
        assert finding.what
        assert finding.advice
