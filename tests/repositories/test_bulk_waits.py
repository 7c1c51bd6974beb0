"""Much is recorded at once, all or none, and other programs record meanwhile."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from custom_tables import Remark, custom_migrations
from processes import fork_writer, in_child, kill, mount_small_disk, needs_fork, needs_signals
from recording_bot import recording_bot
from samples import at, signal, trade, trade_values

from botmemory import (
    DuplicateError,
    Signal,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    init_db,
    session_scope,
)
from botmemory.interop.ccxt import import_trades
from botmemory.interop.files import _recording, export_file, import_file
from botmemory.interop.freqtrade import import_database
from botmemory.repositories import records, signals, trades
from botmemory.upkeep.copy import copy_database

ROWS = 20_000
FIRST = 1_700_000_000_000  # milliseconds


def write_csv(file: Path, rows: int, **other: Any) -> Path:
    """Write trades from elsewhere, which bring no ids."""
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(
            opened, ["symbol", "side", "price", "quantity", "timestamp", *other]
        )
        writer.writeheader()
        for n in range(rows):
            writer.writerow(trade_values(price=n + 1, timestamp=at(n / 60)) | other)
    return file


def imported() -> int:
    return trades.get_trade_count("BTC/USDT")


# --- waits are short ----------------------------------------------------------------------------


def test_a_bot_records_while_a_file_is_imported(memory_path: Path) -> None:
    path = memory_path / "bot.db"
    init_db(path)
    file = write_csv(memory_path / "t.csv", ROWS)
    with recording_bot(path):
        assert import_file(Trade, file).created == ROWS
        # existing rows are looked up in short transactions too
        assert import_file(Trade, file).skipped == ROWS
    close_db()


def test_no_lock_is_held_while_a_file_is_read(path: Path, tmp_path: Path) -> None:
    init_db(path, busy_timeout=0)
    file = write_csv(tmp_path / "t.csv", 3000)
    with ThreadPoolExecutor() as bots:

        def progress(read: int, total: int) -> None:
            bots.submit(trade, symbol="BOT").result()

        import_file(Trade, file, progress=progress)
    assert trades.get_trade_count("BOT") == 4


def test_each_of_several_transactions_is_short(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_db(path)
    file = write_csv(tmp_path / "t.csv", 6000)
    monkeypatch.setattr(_recording, "LOCK_TIME", 1e-9)  # so that each takes as few rows as it may
    seen = set()
    over = threading.Event()

    def look() -> None:
        with closing(sqlite3.connect(path)) as connection:
            while not over.is_set():
                seen.add(connection.execute("SELECT count(*) FROM trade").fetchone()[0])

    with ThreadPoolExecutor() as others:
        looking = others.submit(look)
        import_file(Trade, file)
        over.set()
        looking.result()
    assert len(seen) > 5
    assert {count % 100 for count in seen} == {0}


def test_a_bot_records_while_other_imports_run(memory_path: Path) -> None:
    other = memory_path / "freqtrade.sqlite"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute(
            "CREATE TABLE trades (id INTEGER PRIMARY KEY, exchange TEXT, pair TEXT,"
            " is_open INTEGER, open_rate REAL, amount REAL, open_date TEXT, fee_open REAL,"
            " fee_close REAL, strategy TEXT)"
        )
        connection.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, ft_trade_id INTEGER, ft_order_side TEXT,"
            " order_id TEXT, filled REAL, price REAL, status TEXT, ft_is_open INTEGER,"
            " order_filled_date TEXT)"
        )
        for n in range(40):
            connection.execute(
                "INSERT INTO trades VALUES (?, 'okx', 'X/Y', 1, 1, 50, '2024-01-01', 0, 0, 's')",
                (n,),
            )
            connection.executemany(
                "INSERT INTO orders VALUES (?, ?, 'buy', ?, 1.0, 1.0, 'closed', 0, '2024-01-01')",
                [(n * 50 + m, n, f"{n}-{m}") for m in range(50)],
            )
    path = memory_path / "bot.db"
    init_db(path)
    fills = (
        {"id": n, "symbol": "A/B", "side": "buy", "price": 1, "amount": 1, "timestamp": FIRST + n}
        for n in range(2000)
    )
    with recording_bot(path):
        assert import_trades(fills, exchange="okx").created == 2000
        assert import_database(other).created == 2000
    source = memory_path / "source.db"
    close_db()
    init_db(source)
    trades.create_many(trade_values(timestamp=at(n)) for n in range(ROWS))
    close_db()
    with ExitStack() as bots:

        def progress(read: int, total: int) -> None:
            if read == 2000:  # the first rows are copied
                bots.enter_context(recording_bot(memory_path / "target.db"))

        # for it is no copy any more
        with pytest.raises(StorageError, match="a program has written it meanwhile"):
            copy_database(source, memory_path / "target.db", progress=progress)
    close_db()


def test_the_lock_is_free_while_the_source_of_rows_is_waited_for(path: Path) -> None:
    init_db(path, busy_timeout=0)
    with ThreadPoolExecutor() as bots:

        def rows() -> Iterator[dict[str, Any]]:
            for n in range(10):
                bots.submit(trade, symbol="BOT").result()
                yield trade_values(timestamp=at(n))

        def fills() -> Iterator[dict[str, Any]]:
            for n in range(600):
                if n % 500 == 499:
                    bots.submit(trade, symbol="BOT").result()
                yield {"id": n, "timestamp": FIRST + n, "amount": 1} | trade_values()

        assert trades.create_many(rows()) == 10  # type: ignore[arg-type]
        assert import_trades(fills(), exchange="okx").created == 600
    assert trades.get_trade_count("BOT") == 11


# --- all or none --------------------------------------------------------------------------------


def rows_and_a_last_one(path: Path, tmp_path: Path, line: dict[str, str]) -> Path:
    """Return a file of 4,001 trades, the last of which has these values."""
    init_db(path)
    trade(exchange="okx", exchange_trade_id="recorded", id="0" * 32)
    names = ["symbol", "side", "price", "quantity", "timestamp", "id", "signal_id"]
    file = tmp_path / "t.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, [*names, "exchange", "exchange_trade_id"])
        writer.writeheader()
        in_file = {"exchange": "okx", "exchange_trade_id": "in the file"}
        writer.writerow(trade_values(timestamp=at(0)) | in_file)
        writer.writerows(trade_values(timestamp=at(n)) for n in range(3999))
        writer.writerow(trade_values(timestamp=at(1)) | line)
    return file


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"price": "-1"}, "line 4002: price: -1.0 is not greater than 0"),
        ({"signal_id": "7"}, "line 4002: signal: there is no such Signal; record it first"),
    ],
)
def test_the_last_row_is_refused_and_no_other_is_recorded(
    path: Path, tmp_path: Path, line: dict[str, str], expected: str
) -> None:
    file = rows_and_a_last_one(path, tmp_path, line)
    with pytest.raises(ValidationError, match=expected):
        import_file(Trade, file)
    assert trades.get_trade_count() == 1
    found = import_file(Trade, file, keep_going=True)
    assert (found.created, found.skipped, found.rejected_count) == (4000, 0, 1)


@pytest.mark.parametrize(
    ("line", "identity"),
    [
        ({"exchange": "okx", "exchange_trade_id": "recorded"}, "exchange_trade_id 'recorded'"),
        (
            {"exchange": "okx", "exchange_trade_id": "in the file"},
            "exchange_trade_id 'in the file'",
        ),
        ({"id": "0" * 32}, "id '00000000-0000-0000-0000-000000000000'"),
    ],
)
@pytest.mark.parametrize("on_conflict", ["report", "error", "update", "keep_both"])
def test_the_last_row_is_in_conflict(
    path: Path, tmp_path: Path, line: dict[str, str], identity: str, on_conflict: Any
) -> None:
    file = rows_and_a_last_one(path, tmp_path, line)
    if on_conflict == "error":
        with pytest.raises(DuplicateError, match=f"line 4002: .*{identity} is recorded already"):
            import_file(Trade, file, on_conflict="error")
        assert trades.get_trade_count() == 1
        return
    found = import_file(Trade, file, on_conflict=on_conflict)
    is_kept = on_conflict == "keep_both"
    assert (found.created, found.skipped, found.conflict_count) == (4000 + is_kept, 0, 1)
    [conflict] = found.conflicts
    assert f"{identity} is recorded already: its " in conflict.reason
    assert trades.get_trade_count() == 4001 + is_kept
    again = import_file(Trade, file, on_conflict=on_conflict)
    # what the last row has written differs from the first one of the file with its id
    is_unresolved = on_conflict == "report" or (on_conflict == "update" and "in the" in identity)
    assert (again.created, again.conflict_count) == (0, int(is_unresolved))


def meanwhile(function: Callable[[], object]) -> Callable[[int, int], None]:
    """Return a `progress` that calls a function when the whole file was read and checked."""

    def progress(read: int, total: int) -> None:
        if read == total:
            function()

    return progress


def test_rows_that_another_program_recorded_meanwhile_already_exist(
    path: Path, tmp_path: Path
) -> None:
    init_db(path)
    trades.create_many(trade_values(timestamp=at(n)) for n in range(3000))
    export_file(Trade, tmp_path / "t.csv")
    Trade.delete().execute()
    last = tmp_path / "last.csv"
    lines = (tmp_path / "t.csv").read_text().splitlines(keepends=True)
    last.write_text(lines[0] + lines[-1])

    def other() -> None:
        assert import_file(Trade, last).created == 1

    found = import_file(Trade, tmp_path / "t.csv", progress=meanwhile(other))
    assert (found.created, found.skipped, imported()) == (2999, 1, 3000)


def test_a_later_transaction_that_fails_takes_back_the_others(path: Path, tmp_path: Path) -> None:
    init_db(path)
    because = signal()
    rows = [trade_values(timestamp=at(n)) for n in range(3000)]
    rows[-1]["signal"] = because
    trades.create_many(rows)  # type: ignore[arg-type]
    export_file(Trade, tmp_path / "t.csv")
    Trade.delete().execute()
    with pytest.raises(ValidationError, match=r"Trade .*: signal: there is no such Signal"):
        progress = meanwhile(lambda: signals.delete(because))
        import_file(Trade, tmp_path / "t.csv", progress=progress)
    assert imported() == 0


INTERRUPTED = """
import os, signal, sqlite3, sys, threading, time
from botmemory import Trade, init_db
from botmemory.interop.files import import_file

def interrupt():
    with sqlite3.connect(sys.argv[1]) as connection:
        while not connection.execute("SELECT count(*) FROM trade").fetchone()[0]:
            time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

init_db(sys.argv[1])
threading.Thread(target=interrupt).start()
try:
    import_file(Trade, sys.argv[2])
except KeyboardInterrupt:
    print("interrupted", Trade.select().count())
"""


@needs_signals
def test_an_interrupted_import_takes_back_what_it_has_recorded(path: Path, tmp_path: Path) -> None:
    init_db(path)
    file = write_csv(tmp_path / "t.csv", ROWS)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(path), str(file)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert (done.stdout, done.stderr) == ("interrupted 0\n", "")


@needs_fork
def test_a_killed_import_is_completed_by_repeating_it(path: Path, tmp_path: Path) -> None:
    init_db(path)
    file = write_csv(tmp_path / "t.csv", ROWS)
    close_db()

    def work(acknowledge: Callable[[object], None]) -> None:
        init_db(path)
        import_file(Trade, file)
        acknowledge("whole")

    child, words = fork_writer(work)
    with closing(sqlite3.connect(path)) as connection:
        while not connection.execute("SELECT count(*) FROM trade").fetchone()[0]:
            time.sleep(0.001)
    assert kill(child, words) == []
    init_db(path)
    there = imported()
    assert 0 < there < ROWS
    found = import_file(Trade, file)
    assert (found.created, found.skipped) == (ROWS - there, there)
    assert [trade.price for trade in trades.iterate()] == [n + 1 for n in range(ROWS)]


@needs_fork
def test_on_a_full_disk_nothing_is_recorded(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "t.csv", ROWS)

    def child() -> list[tuple[str, int]] | None:
        found = []
        # there is no space, or too little
        for size in ("1m", "10m"):
            disk = tmp_path / size
            disk.mkdir()
            if not mount_small_disk(disk, size):
                return None
            init_db(disk / "bot.db")
            trade(symbol="BOT")
            try:
                import_file(Trade, file)
            except StorageError as error:
                found.append((str(error), imported()))
            trade(symbol="BOT")
            assert trades.get_trade_count() == 2
            close_db()
        return found

    found = in_child(child)
    if found is None:
        pytest.skip("mounting a disk needs root's rights")
    (no_room, none), (full, none_too) = found
    assert "has no space for the rows of the table trade (No space left on device)" in no_room
    assert "the disk is full" in full
    assert (none, none_too) == (0, 0)


def test_in_a_transaction_of_the_callers_it_is_a_part_of_it(path: Path, tmp_path: Path) -> None:
    init_db(path)
    file = write_csv(tmp_path / "t.csv", 10)
    with pytest.raises(RuntimeError), session_scope():
        assert import_file(Trade, file).created == 10
        assert imported() == 10
        raise RuntimeError
    assert imported() == 0


# --- rows without ids ---------------------------------------------------------------------------


def test_a_file_without_ids_is_recorded_once(new_target: Callable[[], str], tmp_path: Path) -> None:
    init_db(new_target())
    file = tmp_path / "t.jsonl"
    row = json.dumps({"symbol": "X", "side": "buy", "price": 1, "quantity": 1})
    file.write_text(f"{row}\n{row}\n")  # two fills that are alike, and bring no time
    assert import_file(Trade, file).created == 2
    again = import_file(Trade, file)
    assert (again.created, again.skipped) == (0, 2)
    file.write_text(f"{row}\n" * 3)
    assert import_file(Trade, file).created == 1  # a longer file of the same account
    assert {trade.id.version for trade in trades.iterate()} == {7}


def test_fills_of_one_timestamp_keep_the_order_of_the_file(
    new_target: Callable[[], str], tmp_path: Path
) -> None:
    init_db(new_target())
    rows = [trade_values(price=n + 1, timestamp=str(at(0))) for n in range(300)]
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_file(Trade, file)
    assert [trade.price for trade in trades.iterate()] == [n + 1 for n in range(300)]


def test_signals_get_ids_in_the_order_of_the_file(path: Path, tmp_path: Path) -> None:
    init_db(path)
    signals.delete(signal())
    file = tmp_path / "s.jsonl"
    rows: list[dict[str, Any]] = [{"symbol": str(n), "signal_value": 1} for n in range(3000)]
    rows[1]["id"] = 20_000
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert import_file(Signal, file).created == 3000
    ids = {signal.symbol: signal.id for signal in Signal.select()}
    assert ids.pop("1") == 20_000
    assert sorted(ids, key=ids.__getitem__) == [str(n) for n in range(3000) if n != 1]
    assert min(ids.values()) == 20_001  # an id that was given is not given again
    assert signal().id == 23_000


# --- custom table --------------------------------------------------------------------------


def test_what_only_the_table_forbids_is_found_by_its_line(path: Path, tmp_path: Path) -> None:
    init_db(path, migrations=custom_migrations(tmp_path))
    records.create(Remark, text="recorded", stars=5)
    rows = [{"text": f"{n}"} for n in range(2500)]
    for text in ("recorded", "7"):
        file = tmp_path / "r.jsonl"
        last = {"text": text, "stars": 4}
        file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, last]))
        with pytest.raises(DuplicateError, match=f"line 2501: text '{text}' is .*: its stars is"):
            import_file(Remark, file, on_conflict="error")
        assert records.count(Remark) == 1
        assert import_file(Remark, file, dry_run=True).conflicts[0].index == 2501
        with pytest.raises(DuplicateError, match="both rows cannot be kept"):
            import_file(Remark, file, on_conflict="keep_both")
        assert records.count(Remark) == 1
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    progress = meanwhile(lambda: records.create(Remark, text="1999", stars=5))
    with pytest.raises(DuplicateError, match="Remark 2002: a Remark with these unique"):
        import_file(Remark, file, progress=progress)
    assert records.count(Remark) == 2
    found = import_file(Remark, file, on_conflict="update")
    # the file says nothing of stars
    assert (found.created, found.skipped, found.conflict_count) == (2499, 1, 0)


def test_metadata_that_are_too_large_are_refused_by_their_line(
    new_target: Callable[[], str], tmp_path: Path
) -> None:
    init_db(new_target(), max_metadata_bytes=100)
    file = tmp_path / "s.jsonl"
    row = {"symbol": "X", "signal_value": 1}
    large = row | {"signal_metadata": "x" * 200}
    file.write_text("".join(json.dumps(values) + "\n" for values in (row, large, row)))
    with pytest.raises(ValidationError, match="line 2: signal_metadata: .* takes 202 bytes"):
        import_file(Signal, file)
    found = import_file(Signal, file, keep_going=True)
    assert (found.created, found.rejected_count) == (2, 1)
