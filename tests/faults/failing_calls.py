"""Run one operation many times, each time with another system call on its files failing once.

python failing_calls.py FOLDER (COUNT | all | 'each PART/PARTS') OPERATION...

Preload the library of syscalls.c. Without a failure the operation makes N calls; then COUNT of the
N * 5 pairs of a call and an error are chosen, always the same ones, or all of them; "each" takes a
part of the calls, each with one error. Each runs in processes and a folder of its own and prints a
JSON object a line: what was raised, and a list of what is wrong.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import random
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botmemory import (
    BotMemoryError,
    Config,
    Signal,
    Trade,
    close_db,
    db,
    init_db,
    migration_runner,
    session_scope,
)
from botmemory.interop.files import export_file, import_file
from botmemory.interop.freqtrade import import_database
from botmemory.repositories import signals, trades
from botmemory.upkeep import backup as backup_module
from botmemory.upkeep import check as check_module
from botmemory.upkeep.copy import copy_database

TESTS = Path(__file__).parents[1]
VERSION_0001 = TESTS / "data" / "version_0001.db"
FREQTRADE_FILE = TESTS / "freqtrade_bot" / "2026.9.sql"
ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES, errno.ESTALE, errno.EMFILE)


@dataclass(frozen=True)
class Operation:
    """What is prepared, what runs while a call fails, what must work afterwards."""

    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    again: Callable[[Path], object]
    result: str = "bot.db"  # the file that holds what is stored
    whole: bool = True  # all or nothing is stored; else some may be


def record(symbol: str) -> None:
    trades.create(symbol=symbol, side="buy", price=100, quantity=1)


def record_again(folder: Path) -> None:
    init_db(folder / "bot.db")
    try:
        record("AGAIN")
    except BotMemoryError as error:
        # where SQLite cannot open the file to write it, it opens it to read: the write that finds
        # this out is refused, and the next one opens the file again
        if "it cannot be written" not in str(error):
            raise
        record("AGAIN")


def fill(file: Path, *symbols: str) -> None:
    init_db(file)
    for symbol in symbols:
        record(symbol)
        signals.create(symbol=symbol, signal_value=1)
    close_db()


def prepare_closed(folder: Path) -> None:
    shutil.copy(folder.parent / "filled.db", folder / "bot.db")


def prepare_open(folder: Path) -> None:
    prepare_closed(folder)
    init_db(folder / "bot.db")
    record("OPEN")


def prepare_old(folder: Path) -> None:
    shutil.copy(VERSION_0001, folder / "bot.db")


def record_one(folder: Path) -> None:
    record("NEW")


def record_in_scope(folder: Path) -> None:
    with session_scope():
        trades.get_all(1)
        record("NEW")
        record("NEW")


def record_many(folder: Path) -> None:
    row: dict[str, Any] = {"symbol": "NEW", "side": "buy", "price": 1, "quantity": 1}
    db.execute_sql("PRAGMA cache_size = 5")  # so that pages are written before the commit
    trades.create_many({**row, "trade_metadata": {"n": "x" * 3000}} for _ in range(20))


def record_by_model(folder: Path) -> None:
    signal = Signal(symbol="BY MODEL", signal_value=0)
    signal.save()
    signal.delete_instance()
    Trade.create(symbol="NEW", side="buy", price=1, quantity=1)


def read_many(folder: Path) -> None:
    trades.get_all()
    list(trades.iterate())
    trades.get_trade_count()
    list(Trade.select())


def in_thread(call: Callable[[Path], object], folder: Path) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call(folder)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def prepare_backup(folder: Path) -> None:
    prepare_open(folder)
    backup_module.backup(folder / "copy.db")
    record("LATER")


def run_backup(folder: Path) -> None:
    backup_module.backup(folder / "copy.db")


def again_backup(folder: Path) -> None:
    run_backup(folder)
    record("AGAIN")


def prepare_restore(folder: Path) -> None:
    fill(folder / "copy.db", "COPIED")
    prepare_closed(folder)


def run_restore(folder: Path) -> None:
    backup_module.restore(folder / "copy.db", folder / "bot.db")


def again_restore(folder: Path) -> None:
    run_restore(folder)
    record_again(folder)


def prepare_copy(folder: Path) -> None:
    fill(folder / "source.db", *(f"S{number}" for number in range(5)))


def run_copy(folder: Path) -> None:
    copy_database(folder / "source.db", folder / "bot.db")


def again_copy(folder: Path) -> None:
    run_copy(folder)
    record_again(folder)


def prepare_export(folder: Path) -> None:
    prepare_open(folder)
    (folder / "rows.jsonl").write_text('{"symbol": "EARLIER"}\n')


def run_export(folder: Path) -> None:
    export_file(Trade, folder / "rows.jsonl")


def again_export(folder: Path) -> None:
    run_export(folder)
    record("AGAIN")


def prepare_import(folder: Path) -> None:
    fill(folder / "bot.db", "NEW")
    init_db(folder / "bot.db")
    export_file(Trade, folder / "rows.jsonl")
    close_db()
    for file in folder.glob("bot.db*"):
        file.unlink()
    prepare_open(folder)


def run_import(folder: Path) -> None:
    import_file(Trade, folder / "rows.jsonl", keep_going=True, rejects=folder / "rejects.jsonl")


def again_import(folder: Path) -> None:
    run_import(folder)
    record("AGAIN")


def prepare_freqtrade(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "freqtrade.sqlite")) as connection:
        connection.executescript(FREQTRADE_FILE.read_text(encoding="utf-8"))
    prepare_open(folder)


def run_freqtrade(folder: Path) -> None:
    import_database(folder / "freqtrade.sqlite")


def again_freqtrade(folder: Path) -> None:
    run_freqtrade(folder)
    record("AGAIN")


def run_check(folder: Path) -> None:
    check_module.check(full=True)


def run_script(command: str, folder: Path) -> None:
    """Run the script's own functions, which must raise what its `main` prints."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        asked = migration_runner._parser().parse_args([command])
        migration_runner._run(Config(folder / "bot.db"), asked)


def prepare_settings(folder: Path) -> None:
    prepare_closed(folder)
    (folder / "botmemory.toml").write_text('db_path = "bot.db"\n')


def run_settings(folder: Path) -> None:
    Config.from_file(folder / "botmemory.toml")


OPERATIONS = {
    "record": Operation(prepare_open, record_one, record_again),
    "record in a scope": Operation(prepare_open, record_in_scope, record_again),
    "record many": Operation(prepare_open, record_many, record_again),
    "record by model": Operation(prepare_open, record_by_model, record_again),
    "record in a thread": Operation(
        prepare_open, lambda folder: in_thread(record_one, folder), record_again
    ),
    "read": Operation(prepare_open, read_many, record_again),
    "read in a thread": Operation(
        prepare_open, lambda folder: in_thread(read_many, folder), record_again
    ),
    "open": Operation(prepare_closed, lambda folder: init_db(folder / "bot.db"), record_again),
    "open new": Operation(
        lambda folder: None, lambda folder: init_db(folder / "bot.db"), record_again, whole=False
    ),
    "open to read": Operation(
        prepare_closed,
        lambda folder: (init_db(folder / "bot.db", read_only=True), trades.get_all(), close_db()),
        lambda folder: (close_db(), record_again(folder)),
    ),
    "close": Operation(prepare_open, lambda folder: close_db(), record_again),
    "backup": Operation(prepare_backup, run_backup, again_backup, result="copy.db"),
    "restore": Operation(prepare_restore, run_restore, again_restore),
    "migrate": Operation(
        prepare_old, lambda folder: init_db(folder / "bot.db"), record_again, whole=False
    ),
    "status": Operation(prepare_closed, lambda folder: run_script("status", folder), record_again),
    "plan": Operation(prepare_old, lambda folder: run_script("plan", folder), record_again),
    "copy": Operation(prepare_copy, run_copy, again_copy, whole=False),
    "export": Operation(prepare_export, run_export, again_export, result="rows.jsonl"),
    "import": Operation(prepare_import, run_import, again_import),
    "import from freqtrade": Operation(
        prepare_freqtrade, run_freqtrade, again_freqtrade, whole=False
    ),
    "check": Operation(prepare_open, run_check, record_again),
    "settings": Operation(prepare_settings, run_settings, record_again),
}


class Helper:
    """Another process, which looks at the files and records as another bot would."""

    def __init__(self, work: Callable[[str], object]) -> None:
        asked, self._ask = os.pipe()
        self._answer, answered = os.pipe()
        self._process = os.fork()
        if self._process:
            os.close(asked)
            os.close(answered)
            self._lines = os.fdopen(self._answer)
            return
        os.close(self._ask)
        os.close(self._answer)
        for question in os.fdopen(asked):
            try:
                answer = work(question.strip())
            except BaseException:
                answer = {"failed": traceback.format_exc()}
            os.write(answered, (json.dumps(answer) + "\n").encode())
        os._exit(0)

    def ask(self, question: str) -> Any:
        os.write(self._ask, f"{question}\n".encode())
        return json.loads(self._lines.readline())

    def end(self) -> None:
        os.close(self._ask)
        os.waitpid(self._process, 0)


def stored(file: Path) -> Any:
    """Return what a file holds: the symbols of its trades, or its text; nothing is touched."""
    if not file.exists():
        return None
    if file.suffix == ".jsonl":
        return [json.loads(line)["symbol"] for line in file.read_text().splitlines()]
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        for name in (file.name, f"{file.name}-wal", f"{file.name}-journal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(file.with_name(name), place)
        return symbols_in(Path(place) / file.name)


def symbols_in(file: Path) -> Any:
    with closing(sqlite3.connect(file)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            return verdict
        tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trade'")
        if not tables.fetchall():
            return None
        return [row for (row,) in connection.execute("SELECT symbol FROM trade ORDER BY symbol")]


def names(folder: Path) -> Counter[str]:
    found = (re.sub(r"\d{8}T\d{12}Z", "TIME", file.name) for file in folder.rglob("*"))
    return Counter(name for name in found if not name.endswith(("-wal", "-shm", "-lock")))


def meant(folder: Path) -> Counter[str]:
    """Return what an operation that fails may leave: its results, and whole copies for safety."""
    found = names(folder)
    for name in list(found):
        if name not in ("bot.db", "copy.db", "rows.jsonl", "rejects.jsonl") and not re.fullmatch(
            r"bot\.before-\d+-TIME\.db", name
        ):
            del found[name]
    return found


def open_files(folder: Path) -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
    return [Path(file).name for file in found if file.startswith(f"{folder}/")]


def where(error: BaseException) -> str:
    """Return the place in botmemory that was left last, of the first error of all."""
    while error.__context__ is not None:
        error = error.__context__
    frames = traceback.extract_tb(error.__traceback__)
    found = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]
    return next((place for place in reversed(found) if not place.startswith("peewee")), "")


def try_point(
    operation: Operation, folder: Path, number: int, error: int, clean: dict[str, Any] | None
) -> dict[str, Any]:
    """Run the operation once, with one failure, and return what there is to say."""
    library = ctypes.CDLL(None)
    library.failed_call.restype = ctypes.c_char_p
    (folder / "tmp").mkdir(parents=True)
    tempfile.tempdir = str(folder / "tmp")

    def help_out(question: str) -> object:
        if question == "record":
            init_db(folder / "bot.db", busy_timeout=2)
            record("OTHER")
            close_db()
            return "recorded"
        return stored(folder / operation.result)

    helper = Helper(help_out)
    wrong: list[str] = []
    sys.unraisablehook = lambda args: wrong.append(f"unraisable: {args.exc_value!r}")
    operation.prepare(folder)
    before, names_before = helper.ask("stored"), names(folder)
    raised: BaseException | None = None
    library.fail_call(os.fsencode(folder), number, error)
    try:
        operation.run(folder)
    except BaseException as found:
        raised = found
    library.allow_calls()
    report: dict[str, Any] = {
        "call": number,
        "error": errno.errorcode.get(error, ""),
        "failed": library.failed_call().decode(),
        "calls": library.calls_made(),
        "raised": raised and f"{type(raised).__name__}: {raised}".replace(str(folder), ""),
        "where": raised and where(raised),
        "wrong": wrong,
    }
    if raised is not None and not isinstance(raised, BotMemoryError):
        wrong.append("raised what is no BotMemoryError")
    after = report["stored"] = helper.ask("stored")
    done = clean["stored"] if clean else after
    if operation.whole and clean:
        allowed = [before] if raised else [done]
        if raised and "not known" in str(raised):
            allowed = [before, done]
        if after not in allowed:
            wrong.append(f"stored is {after}, not {allowed}")
    removing = ("unlink", "rename", "close")  # what fails here may leave something until next time
    left = names(folder) - names_before - meant(folder)
    if after == done != before:  # a restore is in place: what it has replaced is kept
        left = {name for name in left if ".replaced-" not in name}
    if raised and left and not report["failed"].startswith(removing):
        wrong.append(f"left behind: {sorted(left)}")
    # a database with two names is damaged by the programs that open it by both
    if linked := sorted(each.name for each in folder.glob("*.db") if each.stat().st_nlink > 1):
        wrong.append(f"has two names: {linked}")
    try:
        operation.again(folder)
    except BaseException as found:
        wrong.append(f"afterwards: {type(found).__name__}: {found} ({where(found)})")
    if (answer := helper.ask("record")) != "recorded":
        wrong.append(f"another process: {answer['failed'].splitlines()[-1]}")
    try:
        close_db()
    except BaseException as found:
        wrong.append(f"close_db: {type(found).__name__}: {found} ({where(found)})")
    db.initialize(None)
    report["names"] = names(folder)
    if clean and (left := report["names"] - Counter(clean["names"]) - meant(folder)):
        wrong.append(f"left for ever: {sorted(left)}")
    raised = None  # its frames keep what they had open
    gc.collect()
    report["open"] = open_files(folder)
    if clean and (held := Counter(report["open"]) - Counter(clean["open"])):
        wrong.append(f"left open: {sorted(held)}")
    symbols = helper.ask("stored") if operation.result == "bot.db" else []
    if operation.result == "bot.db" and not {"AGAIN", "OTHER"} <= set(symbols or ()):
        wrong.append(f"stored in the end is {symbols}")
    helper.end()
    return report


def in_process(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = call()
        except BaseException:
            answer = {"wrong": [traceback.format_exc()]}
        with os.fdopen(write, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"wrong": ["the process died"]}


def show(name: str, report: dict[str, Any]) -> None:
    print(json.dumps({"operation": name, **report}), flush=True)


def main(folder: Path, name: str, count: str) -> None:
    operation = OPERATIONS[name]
    folder.mkdir(parents=True)
    fill(folder / "filled.db", "BEFORE")  # copied for each point; what is imported late, is now
    gc.collect()
    gc.freeze()  # the collections of the processes that are forked now skip what exists
    clean = in_process(lambda: try_point(operation, folder / "clean", 0, 0, None))
    show(name, clean)
    if clean["wrong"]:
        return
    points = [(call, error) for call in range(1, clean["calls"] + 1) for error in ERRORS]
    if count.startswith("each "):  # such as "each 1/4", the first of four parts
        # of the system's errors each call has one: the next call has the next
        part, parts = map(int, count.removeprefix("each ").split("/"))
        calls = range(part, clean["calls"] + 1, parts)
        points = [(call, ERRORS[call % len(ERRORS)]) for call in calls]
    elif count != "all":
        points = sorted(random.Random(name).sample(points, min(int(count), len(points))))
    for call, error in points:
        place = folder / f"{call}-{errno.errorcode[error]}"
        report = in_process(lambda: try_point(operation, place, call, error, clean))  # noqa: B023
        show(name, report)
        shutil.rmtree(place)


if __name__ == "__main__":
    for number, operation_name in enumerate(sys.argv[3:]):
        main(Path(sys.argv[1], str(number)), operation_name, sys.argv[2])
