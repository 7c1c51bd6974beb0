"""Copy a database into another one: complete, verified, and resumed after an interruption."""

from __future__ import annotations

import itertools
import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from custom_tables import (
    READINGS_TEXT,
    EquitySnapshot,
    Reading,
    Remark,
    custom_migrations,
)
from processes import needs_proc
from samples import at, cash_flow, cash_flow_values, signal, trade, trade_values
from servers import run as run_sql

from botmemory import (
    BaseModel,
    Config,
    ConfigError,
    DuplicateError,
    SchemaError,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    init_db,
)
from botmemory.cli._app import cli
from botmemory.database import open_temporarily
from botmemory.models import CASH_FLOW_KINDS, MODELS, key_fields
from botmemory.repositories import cash_flows, positions, records, signals, state, trades
from botmemory.schema import versions
from botmemory.upkeep.copy import CopiedTable, copy_database

NewTarget = Callable[[], str]


@pytest.fixture
def file(tmp_path: Path) -> NewTarget:
    numbers = itertools.count()
    return lambda: str(tmp_path / f"{next(numbers)}.db")


@pytest.fixture(params=["to a server", "from a server", "file to file", "server to server"])
def pair(
    request: pytest.FixtureRequest, file: NewTarget, new_database: Callable[[], str]
) -> tuple[str, str]:
    """The source and the target of a copy; neither exists yet."""
    makers = {
        "to a server": (file, new_database),
        "from a server": (new_database, file),
        "file to file": (file, file),
        "server to server": (new_database, new_database),
    }[request.param]
    return makers[0](), makers[1]()


def fill(target: str, rows: int = 30) -> None:
    """Record values that are easily changed by a copy, and delete the last signal."""
    init_db(target)
    metadata = [
        {"rsi": 31.25, "bands": {"lower": 1e-300, "upper": 1.7976931348623157e308}},
        ["é", "\U0001f680", "'; --", {"b": None, "a": [True, 10**25, 1e22, 1.0, 0.1 + 0.2]}],
        "text",
        17,
        None,
    ]
    for number in range(rows):
        latest = signal(
            symbol=("BTC/USDT", "ETH/USDT:USDT-250328")[number % 2],
            signal_value=number % 3 - 1,
            signal_metadata=metadata[number % 5],
            timestamp=at(number),
            strategy=("a", None)[number % 2],
        )
        trade(
            side=("buy", "sell")[number % 2],
            price=(5e-324, 0.1, 1.7976931348623157e308, 60000.01)[number % 4],
            quantity=(1.0, 1e-8)[number % 2],
            pnl=(None, -0.3, 1e15)[number % 3],
            timestamp=datetime(9999, 12, 31, 23, 59, 59, 999999, UTC) if number == 7 else None,
            signal=latest if number % 4 else None,
            fee=0.00001,
            fee_currency="BNB",
            exchange="binance",
            exchange_trade_id=f"{number}",
            trade_metadata=metadata[(number + 1) % 5],
        )
    signals.delete(signal())
    close_db()


def contents(target: str) -> dict[str, list[dict[str, Any]]]:
    init_db(target)
    rows = {
        model._meta.table_name: [
            dict(row.__data__) for row in model.select().order_by(*key_fields(model))
        ]
        for model in MODELS
    }
    close_db()
    return rows


def rows_of(tables: list[CopiedTable]) -> dict[str, int]:
    return {table.name: table.rows for table in tables}


def test_a_copy_is_equal_to_its_source(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)
    copied = copy_database(source, target)
    assert [(table.name, table.rows, table.copied) for table in copied] == [
        ("cash_flow", 0, 0),
        ("signal", 30, 30),
        ("state", 0, 0),
        ("trade", 30, 30),
    ]
    assert contents(target) == contents(source)
    assert len({table.checksum for table in copied if table.rows}) == 2
    init_db(target)
    assert positions.get("BTC/USDT").fees == {"BNB": pytest.approx(0.0003)}
    assert [row.signal is None for row in Trade.select().order_by(Trade.id)][:5] == [
        True, False, False, False, True,
    ]  # fmt: skip


def test_ids_continue_after_those_of_the_source(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)  # its 31st signal was deleted
    copy_database(source, target)
    for target in pair:
        init_db(target)
        assert signal().id == 32
        close_db()


def test_the_state_is_copied_as_it_is_now(pair: tuple[str, str]) -> None:
    source, target = pair
    init_db(source)
    trade()
    for key in ("kept", "set", "deleted"):
        state.set(key, 1, strategy="a")
    close_db()
    copy_database(source, target)
    init_db(source)
    state.set("set", 2, strategy="a")
    state.delete("deleted", strategy="a")
    state.set("new", 3)
    close_db()
    copied = {table.name: table for table in copy_database(source, target)}
    assert (copied["state"].rows, copied["state"].copied) == (3, 2)
    assert (copied["trade"].rows, copied["trade"].copied) == (1, 0)
    assert contents(target) == contents(source)
    assert [table.copied for table in copy_database(source, target)] == [0] * len(copied)


def test_the_state_is_copied_and_what_was_set_later_is_refused(pair: tuple[str, str]) -> None:
    source, target = pair
    init_db(source)
    state.set("last_candle", {"close": 0.1 + 0.2, "n": 10**25}, strategy="a")
    state.set("last_candle", None)
    for number, key in enumerate(("é", "É", "a%", "日本")):
        state.set(key, [number, 1.0, True, "x"], strategy="a")
    close_db()
    copied = {table.name: table for table in copy_database(source, target)}
    assert (copied["state"].rows, copied["state"].copied) == (6, 6)
    assert contents(target) == contents(source)
    init_db(target)
    assert state.get("last_candle", "none") is None
    assert state.get("last_candle", strategy="a") == {"close": 0.30000000000000004, "n": 10**25}
    assert state.compare_and_set("a%", [2, 1, True, "x"], "set later", strategy="a")
    close_db()
    with pytest.raises(DuplicateError, match="State .*'a', 'a%'.* differs from"):
        copy_database(source, target)


def test_cash_flows_are_copied_and_their_ids_continue(pair: tuple[str, str]) -> None:
    source, target = pair
    init_db(source)
    for number in range(12):
        cash_flow(
            timestamp=at(number),
            kind=CASH_FLOW_KINDS[number % 9],
            amount=(0.1, -1e-8, 1.7976931348623157e308)[number % 3],
            symbol=(None, "BTC/USDT:USDT")[number % 2],
            exchange="okx",
            exchange_flow_id=(None, f"{number}")[number % 2],
            metadata={"rate": 0.1 + 0.2},
        )
    cash_flows.delete(cash_flow())
    close_db()
    for copied in (12, 0):
        [table, *_] = copy_database(source, target)
        assert (table.name, table.rows, table.copied) == ("cash_flow", 12, copied)
    assert contents(target) == contents(source)
    init_db(target)
    assert cash_flow().id == 14
    report = cash_flow_values(exchange="okx", exchange_flow_id="1")
    assert cash_flows.get_or_create(**report)[0].amount == -1e-8


def test_ids_are_not_reused_by_a_second_copy(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)
    copy_database(source, target)
    init_db(target)
    signals.delete(signal())  # the 32nd
    close_db()
    copy_database(source, target)
    init_db(target)
    assert signal().id == 33


def test_a_copy_of_a_copy_is_equal_to_the_last_bit(
    file: NewTarget, new_database: NewTarget
) -> None:
    source, middle, last = file(), new_database(), file()
    fill(source)
    first = copy_database(source, middle)
    second = copy_database(middle, last)
    assert [table.checksum for table in first] == [table.checksum for table in second]

    def raw(path: str) -> list[list[Any]]:
        with closing(sqlite3.connect(path)) as connection:
            return [
                [json.loads(value) if str(value).startswith(("{", "[")) else value for value in row]
                for table in ("signal", "trade")
                for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")
            ]

    assert raw(source) == raw(last)


def test_metadata_above_the_limit_is_copied(pair: tuple[str, str]) -> None:
    source, target = pair
    init_db(source, max_metadata_bytes=3_000_000)
    trade(trade_metadata="x" * 2_000_000)
    close_db()
    assert rows_of(copy_database(source, target)) == {
        "cash_flow": 0,
        "signal": 0,
        "state": 0,
        "trade": 1,
    }


def test_a_second_copy_copies_new_rows(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)
    first = copy_database(source, target)
    init_db(source)
    new = trade(signal=signal())
    close_db()
    second = copy_database(source, target)
    assert [(table.rows, table.copied) for table in second] == [(0, 0), (31, 1), (0, 0), (31, 1)]
    assert second[-1].checksum != first[-1].checksum
    assert copy_database(source, target)[-1].copied == 0
    init_db(target)
    assert trades.get_by_id(new.id) == new


KILLED = """
import os, signal, sys
from botmemory.upkeep import copy

copy.ROWS_PER_PAGE = 40
def report(done, total):
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows kills so
copy.copy_database(sys.argv[1], sys.argv[2], progress=report)
"""


@pytest.mark.parametrize("after", [40, 240, 560, 840])
def test_a_copy_that_was_killed_is_completed(pair: tuple[str, str], after: int) -> None:
    source, target = pair
    fill(source, 320)
    done = subprocess.run([sys.executable, "-c", KILLED, source, target, str(after)], check=False)
    assert done.returncode != 0
    second = copy_database(source, target)
    assert sum(table.copied for table in second) == 640 - min(after, 640)
    assert contents(target) == contents(source)


def test_ids_continue_after_those_of_a_copy_that_was_killed(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source, 100)
    subprocess.run([sys.executable, "-c", KILLED, source, target, "80"], check=False)
    init_db(target)
    assert signal().id == 81


def test_the_source_is_read_in_one_snapshot(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)
    before = contents(source)
    bot = [sys.executable, "-c", "import sys; from botmemory import init_db; "
           "from botmemory.repositories import trades; init_db(sys.argv[1]); "
           "trades.create(symbol='LATE', side='buy', price=1, quantity=1)", source]  # fmt: skip
    reports: list[tuple[int, int]] = []

    def report(done: int, total: int) -> None:
        if not reports:
            subprocess.run(bot, check=True)
        reports.append((done, total))

    copied = copy_database(source, target, progress=report)
    assert rows_of(copied) == {"cash_flow": 0, "signal": 30, "state": 0, "trade": 30}
    assert contents(target) == before
    assert reports == [(30, 120), (60, 120), (90, 120), (120, 120)]
    assert copy_database(source, target)[-1].copied == 1


# --- what is refused ---------------------------------------------------------------------------


def test_a_target_with_other_rows_is_not_changed(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)
    init_db(target)
    other = trade(symbol="MINE")
    close_db()
    message = f"its Trade {other.id} is missing in .*, so it is not an unfinished copy; nothing was"
    with pytest.raises(DuplicateError, match=message):
        copy_database(source, target)
    assert [row["symbol"] for row in contents(target)["trade"]] == ["MINE"]


def test_a_row_that_was_changed_later_is_an_error(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)
    copy_database(source, target)
    init_db(source)
    changed = trades.update(trades.get_latest("BTC/USDT", 1)[0], pnl=4.0)
    trade(symbol="NEW")
    close_db()
    with pytest.raises(
        DuplicateError, match="differs from .*, so it is not an unfinished copy"
    ) as error:
        copy_database(source, target)
    assert error.value.id == changed.id
    assert len(contents(target)["trade"]) == 30


def test_a_target_that_is_written_meanwhile_is_no_verified_copy(pair: tuple[str, str]) -> None:
    source, target = pair
    fill(source)
    late = "UPDATE trade SET price = price * 2 WHERE exchange_trade_id = '3'"

    def report(done: int, total: int) -> None:
        if done == 60:  # all rows are copied, none is verified
            if target.startswith("postgresql"):
                run_sql(target, late)
            else:
                with closing(sqlite3.connect(target)) as connection, connection:
                    connection.execute(late)

    with pytest.raises(StorageError, match="its table trade has 30 rows with the checksum .*: a "
                       "program has written it meanwhile; stop it and copy again"):  # fmt: skip
        copy_database(source, target, progress=report)


def test_a_row_that_violates_a_constraint_of_the_target_is_named(
    file: NewTarget, new_database: NewTarget
) -> None:
    source, target = file(), new_database()
    fill(source)
    with closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE trade SET fee_currency = 'B' || char(0) || 'B' "
                           "WHERE exchange_trade_id = '12'")  # fmt: skip
    init_db(source)
    [invalid] = Trade.select().where(Trade.exchange_trade_id == "12")
    close_db()
    with pytest.raises(
        ValidationError,
        match=f"^Trade {invalid.id}: a value does not fit",
    ):
        copy_database(source, target)
    assert {name: len(rows) for name, rows in contents(target).items()} == {
        "cash_flow": 0,
        "signal": 30,
        "state": 0,
        "trade": 0,
    }


def test_sources_and_targets_that_are_not_possible(file: NewTarget) -> None:
    source, target = file(), file()
    with pytest.raises(StorageError, match="there is no such database to read"):
        copy_database(source, target)
    fill(source)
    for in_memory in ((":memory:", target), (source, ":memory:")):
        with pytest.raises(ConfigError, match=":memory:: is in this process only"):
            copy_database(*in_memory)
    with pytest.raises(ConfigError, match="0.db: is the source itself"):
        copy_database(source, Path(source))
    with pytest.raises(ConfigError, match="1.db: read_only: a copy needs to write"):
        copy_database(source, Config(target, read_only=True))
    with pytest.raises(SchemaError, match="2.db: migrations are pending: 0001"):
        copy_database(source, Config(file(), migrate=False))
    with pytest.raises(ConfigError, match="models: 'Trade' is not a subclass of BaseModel"):
        copy_database(source, target, models=["Trade"])  # type: ignore[list-item]
    assert not Path(target).exists()
    init_db(source)
    with pytest.raises(ConfigError, match="0.db: is open in this process; close_db"):
        copy_database(source, target)


def test_a_source_with_pending_migrations_is_refused_before_the_target_is_created(
    file: NewTarget,
) -> None:
    source, target = file(), file()
    fill(source)
    with open_temporarily(Config(source)) as database:
        versions.down(database)
    with pytest.raises(SchemaError, match="migrations are pending: 0008"):
        copy_database(source, target)
    assert not Path(target).exists()


# --- custom tables ------------------------------------------------------------------------


def fill_custom(source: str, folder: Path) -> None:
    init_db(source, migrations=folder)
    bought = trade(signal=signal())
    records.create(EquitySnapshot, timestamp=at(1), symbol="A", equity=0.1, trade=bought)
    for text in ("a", "b", "c"):
        latest = records.create(Remark, text=text, about=bought.signal)
    records.delete(latest)
    close_db()


def test_custom_tables_are_copied_too(pair: tuple[str, str], tmp_path: Path) -> None:
    source, target = pair
    folder = custom_migrations(tmp_path)
    fill_custom(source, folder)
    copied = copy_database(
        Config(source, migrations=folder), target, models=[EquitySnapshot, Remark]
    )
    assert {table.name: table.copied for table in copied} == {
        "cash_flow": 0, "signal": 1, "state": 0, "remark": 2, "trade": 1, "equity_snapshot": 1,
    }  # fmt: skip
    init_db(target, migrations=folder)
    [snapshot] = records.get_all(EquitySnapshot)
    assert (snapshot.equity, snapshot.trade) == (0.1, trades.get_all()[0])
    assert [remark.text for remark in records.get_all(Remark)] == ["b", "a"]
    assert records.create(Remark, text="d").id in (3, 4)


def test_a_table_with_a_composite_key_is_copied_and_completed(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    source, target = pair
    folder = custom_migrations(tmp_path, create_reading=READINGS_TEXT)
    init_db(source, migrations=folder)
    for sensor in ("b", "a", ""):
        for number in range(150):
            records.create(
                Reading,
                sensor=sensor,
                number=number,
                flag=number % 2 == 0,
                amount=Decimal("1.5") * number,
                day=date(2024, 1, 2),
                clock=time(3, 4, 5, 6),
                at=datetime(2024, 1, 2, 3, 4, 5, 6),
                raw=bytes([number]),
                identity=uuid.UUID(int=number),
                data={"number": number},
            )
    rows = [row.__data__ for row in records.iterate(Reading)]
    close_db()
    models: list[type[BaseModel]] = [EquitySnapshot, Remark, Reading]
    copy_database(Config(source, migrations=folder), target, models=models)
    init_db(target, migrations=folder)
    assert [row.__data__ for row in records.iterate(Reading)] == rows
    Reading.delete().where(Reading.number < 50).execute()
    close_db()
    copied = copy_database(Config(source, migrations=folder), target, models=models)
    assert {table.name: table.copied for table in copied}["reading"] == 150
    init_db(target, migrations=folder)
    assert [row.__data__ for row in records.iterate(Reading)] == rows


def test_a_custom_table_without_its_model_is_an_error(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    source, target = pair
    folder = custom_migrations(tmp_path)
    fill_custom(source, folder)
    with pytest.raises(ConfigError, match="has custom tables; name the folder"):
        copy_database(source, target)
    config = Config(source, migrations=folder)
    with pytest.raises(ConfigError, match="equity_snapshot, remark: no model was given"):
        copy_database(config, target)
    with pytest.raises(ConfigError, match=": remark: no model was given"):
        copy_database(config, target, models=[EquitySnapshot])
    assert [len(rows) for rows in contents(target).values()] == [0, 0, 0, 0]


# --- the command, and memory ---------------------------------------------------------------------


def test_from_the_command_line(
    pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair

    def run(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        return done.exit_code, done.stdout, done.stderr

    folder = custom_migrations(tmp_path)
    fill_custom(source, folder)
    monkeypatch.chdir(tmp_path)
    Path("mybot.py").write_text(
        "from custom_tables import EquitySnapshot, Remark\nfrom botmemory import *\n"
    )
    custom = ("--migrations", folder, "--models", "mybot")
    code, out, err = run("copy", source, target, *custom, "--json")
    assert (code, err) == (0, "")
    assert [(table["name"], table["rows"]) for table in json.loads(out)] == [
        ("cash_flow", 0), ("signal", 1), ("trade", 1), ("equity_snapshot", 1), ("remark", 2),
        ("state", 0),
    ]  # fmt: skip
    code, out, err = run("copy", source, target, *custom)
    assert out.splitlines()[0].split("  ")[0] == "table"
    assert code == 0
    assert run("copy", source, target, "--models", "nobot")[::2] == (
        2,
        "error: --models nobot: cannot be imported: No module named 'nobot'\n",
    )
    code, out, err = run("copy", source, target)
    assert (code, out) == (2, "")
    assert "name the folder of their migrations" in err


ROWS = 100_000
GROWING = """
import re, sys
from pathlib import Path
from botmemory.upkeep.copy import copy_database
print({table.name: table.rows for table in copy_database(sys.argv[1], sys.argv[2])}["trade"],
      re.findall(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[0])
"""


@pytest.mark.long
@needs_proc
def test_memory_is_constant(pair: tuple[str, str]) -> None:
    source, target = pair
    init_db(source)
    rows = (trade_values(trade_metadata={"n": n}, pnl=n / 7) for n in range(ROWS))
    trades.create_many(rows)
    close_db()
    done = subprocess.run(
        [sys.executable, "-c", GROWING, source, target],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    count, kilobytes = map(int, done.stdout.split())
    assert count == ROWS
    assert kilobytes < 80_000
