"""Rows are exported and imported without any loss, or rejected by line."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from custom_tables import EquitySnapshot, custom_migrations
from hypothesis import given
from hypothesis import strategies as st
from once import once
from samples import at, cash_flow, signal, trade, trade_values
from system_errors import NO_SUCH_FILE

from botmemory import (
    CashFlow,
    ConfigError,
    Signal,
    State,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    db,
    init_db,
)
from botmemory._install import install_command
from botmemory.cli._app import cli
from botmemory.interop.files import export_file, import_file
from botmemory.models import CASH_FLOW_KINDS, MODELS, key_fields
from botmemory.repositories import cash_flows, records, signals, state, trades

ROWS = 200_000
FORMATS = ["csv", "jsonl", "parquet"]
every_format = pytest.mark.parametrize("file_format", FORMATS)


def rows_of(model: Any) -> list[dict[str, Any]]:
    order = key_fields(model) if model is State else (model.timestamp, model.id)
    return [dict(row.__data__) for row in model.select().order_by(*order)]


def cells(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def fill() -> None:
    """Record signals and trades with values that are easily lost."""
    metadata: Any = {"a": [1, 2.5, None, 'x,\n"y"\''], "ü": {"b": 1e-300, "c": 10**20}, "d": True}
    for n, value in enumerate((metadata, [], "", "=1+1", 0, False, None)):
        trigger = signal(signal_metadata=value, timestamp=at(n), strategy="a,b" if n else None)
        trade(
            signal=trigger if n % 2 else None,
            price=0.1 + n / 3,
            quantity=5e-324 if n == 3 else 1.7976931348623157e308,
            pnl=[None, -1 / 3, 0.1 + 0.2, 1e22][n % 4],
            fee=-0.00001,
            fee_currency="BNB",
            timestamp=datetime(2024, 1, 1, 12, 0, 0, n, tzinfo=UTC),
            exchange="okx",
            exchange_trade_id=f"-{n}",
            strategy='say "hi"',
            trade_metadata=value,
        )
        cash_flow(
            kind=CASH_FLOW_KINDS[n],
            amount=[0.1 + 0.2, -5e-324, 0, -1.7976931348623157e308][n % 4],
            timestamp=datetime(2024, 1, 1, 12, 0, 0, n, tzinfo=UTC),
            symbol=[None, "=1+1", "BTC/USDT:USDT"][n % 3],
            exchange="okx",
            exchange_flow_id=[None, f"-{n}"][n % 2],
            metadata=value,
        )
        state.set(f"=key,{n}", value, strategy=["", 'say "hi"'][n % 2])


def transfer(source: str, target: str, folder: Path, file_format: str) -> tuple[Any, Any]:
    """Export a database and import it into another; return the rows of both."""
    init_db(source)
    fill()
    before = [rows_of(model) for model in MODELS]
    for model in MODELS:
        assert export_file(model, folder / f"{model.__name__}.{file_format}") == 7
    close_db()
    init_db(target)
    for model in MODELS:
        result = import_file(model, folder / f"{model.__name__}.{file_format}")
        assert (result.created, result.skipped, result.rejected_count) == (7, 0, 0)
    return before, [rows_of(model) for model in MODELS]


@every_format
def test_a_database_is_the_same_after_export_and_import(
    new_target: Callable[[], str], tmp_path: Path, file_format: str
) -> None:
    before, after = transfer(new_target(), new_target(), tmp_path, file_format)
    assert after == before
    # the foreign key refers to the signal, and new ids follow the imported ones
    assert trades.get_latest(limit=2)[1].signal == signals.get_by_id(6)
    assert signal().id > 7
    assert cash_flow().id > 7
    for model in MODELS:
        again = import_file(model, tmp_path / f"{model.__name__}.{file_format}")
        assert (again.created, again.skipped) == (0, 7)


@pytest.mark.parametrize("existing", [True, False])
def test_a_cash_flow_without_an_id_is_recorded_once(
    new_target: Callable[[], str], tmp_path: Path, existing: bool
) -> None:
    init_db(new_target())
    if existing:
        cash_flow(exchange="okx", exchange_flow_id="7")
    file = tmp_path / "flows.csv"
    line = "funding,USDT,-1.5,okx,7\n"
    header = "kind,currency,amount,exchange,exchange_flow_id\n"
    file.write_text(header + line * 2 + "fee,BNB,-0.1,,\nsalary,USDT,1,,\n")
    result = import_file(CashFlow, file, keep_going=True)
    assert (result.created, result.skipped, result.conflicts) == (2 - existing, 1 + existing, [])
    assert [issue.index for issue in result.rejected] == [5]
    assert "kind: 'salary' is not one of funding, " in result.rejected[-1].reason
    assert cash_flows.get_total("USDT") == -1.5
    again = import_file(CashFlow, file, keep_going=True)
    assert (again.created, again.skipped) == (0, 3)


@every_format
def test_from_a_file_to_a_server_and_back(
    new_database: Callable[[], str], path: Path, tmp_path: Path, file_format: str
) -> None:
    before, after = transfer(str(path), new_database(), tmp_path, file_format)
    assert after == before


SOME_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | SOME_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SOME_TEXT, inner, max_size=3),
    max_leaves=8,
)


@every_format
@given(
    st.lists(st.floats(min_value=5e-324, allow_nan=False, allow_infinity=False), max_size=20),
    SOME_JSON,
)
def test_any_double_and_any_metadata(
    tmp_path_factory: pytest.TempPathFactory, file_format: str, prices: list[float], metadata: Any
) -> None:
    file = tmp_path_factory.mktemp("files") / f"trades.{file_format}"
    init_db(":memory:")
    for price in prices:
        trade(price=price, trade_metadata=metadata)
    before = rows_of(Trade)
    export_file(Trade, file)
    Trade.delete().execute()
    assert import_file(Trade, file).created == len(prices)
    assert rows_of(Trade) == before
    close_db()


@every_format
def test_a_custom_table(new_target: Callable[[], str], tmp_path: Path, file_format: str) -> None:
    init_db(new_target(), migrations=custom_migrations(tmp_path))
    for n in range(3):
        records.create(EquitySnapshot, timestamp=at(n), symbol="X", equity=n + 0.1)
    before = rows_of(EquitySnapshot)
    export_file(EquitySnapshot, tmp_path / f"own.{file_format}")
    EquitySnapshot.delete().execute()
    assert import_file(EquitySnapshot, tmp_path / f"own.{file_format}").created == 3
    assert rows_of(EquitySnapshot) == before


class TestExport:
    @every_format
    def test_rows_are_filtered(self, empty_database: Any, tmp_path: Path, file_format: str) -> None:
        for n in range(6):
            trade(timestamp=at(n), symbol="AB"[n % 2], strategy="xy"[n // 3])
        file = tmp_path / f"trades.{file_format}"
        count = export_file(Trade, file, symbol="A", strategy="x", start_date=at(1), end_date=at(5))
        assert count == 1
        trade(exchange="okx")
        assert export_file(Trade, tmp_path / f"other.{file_format}", exchange="okx") == 1
        Trade.delete().execute()
        import_file(Trade, file)
        assert [trade.timestamp for trade in trades.get_all()] == [at(2)]

    def test_the_text_of_values(self, empty_database: Any, tmp_path: Path) -> None:
        stored = trade(timestamp=at(0), pnl=0.1, trade_metadata={"a": 1})
        export_file(Trade, tmp_path / "t.csv")
        [row] = cells(tmp_path / "t.csv")
        assert (row["id"], row["timestamp"]) == (str(stored.id), "2024-01-01 00:00:00.000000+00:00")
        assert (row["pnl"], row["fee"], row["trade_metadata"]) == ("0.1", "", '{"a": 1}')
        export_file(Trade, tmp_path / "t.jsonl")
        values = json.loads((tmp_path / "t.jsonl").read_text(encoding="utf-8"))
        assert (values["side"], values["trade_metadata"], values["fee"]) == ("buy", {"a": 1}, None)

    def test_a_spreadsheet_runs_no_formulas(self, empty_database: Any, tmp_path: Path) -> None:
        for symbol in ("=cmd|x!A1", "+1", "-1", "@x", "fine"):
            trade(symbol=symbol, strategy="=1+1", pnl=-5.0)
        export_file(Trade, tmp_path / "t.csv", spreadsheet=True)
        rows = cells(tmp_path / "t.csv")
        assert {row["symbol"] for row in rows} == {"'=cmd|x!A1", "'+1", "'-1", "'@x", "fine"}
        assert {(row["strategy"], row["pnl"]) for row in rows} == {("'=1+1", "-5.0")}

    @every_format
    def test_an_empty_table(self, empty_database: Any, tmp_path: Path, file_format: str) -> None:
        file = tmp_path / f"t.{file_format}"
        assert export_file(Trade, file) == 0
        assert import_file(Trade, file).created == 0

    @every_format
    def test_a_value_that_the_format_does_not_have_is_an_error_that_names_the_row(
        self, new_target: Callable[[], str], tmp_path: Path, file_format: str
    ) -> None:
        target = new_target()
        init_db(target)
        if target.startswith("postgres"):
            pytest.skip("jsonb stores no infinity")
        row = signal()
        db.execute_sql("UPDATE signal SET signal_metadata = '{\"rsi\": 1e999}'")
        with pytest.raises(StorageError, match=f"rows.{file_format}: .*Signal {row.id}"):
            export_file(Signal, tmp_path / f"rows.{file_format}")
        assert not list(tmp_path.glob("rows*"))

    @pytest.mark.skipif(sys.platform != "win32", reason="elsewhere an open file may be replaced")
    def test_a_file_that_another_program_has_open_is_named(
        self, empty_database: Any, tmp_path: Path
    ) -> None:
        path = tmp_path / "trades.csv"
        path.touch()
        with (
            path.open(),
            pytest.raises(StorageError, match=r"trades.csv: .*(has|have) it open"),
        ):
            export_file(Trade, path)

    def test_a_failed_export_leaves_no_file(self, empty_database: Any, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="t.csv: cannot be written: No such file"):
            export_file(Trade, tmp_path / "nowhere" / "t.csv")
        for name in ("t.xls", "t.tsv", "t.txt"):
            with pytest.raises(ConfigError, match=f"{name}: unsupported suffix; use .csv"):
                export_file(Trade, tmp_path / name)
        assert list(tmp_path.iterdir()) == []


class TestRejected:
    @pytest.fixture
    def file(self, empty_database: Any, tmp_path: Path) -> Path:
        """Five trades, of which lines 3 and 5 are invalid."""
        path = tmp_path / "t.jsonl"
        rows = [
            {"symbol": "X", "side": "buy", "price": 1, "quantity": n, "timestamp": f"2024-01-0{n}"}
            for n in range(1, 6)
        ]
        rows[2]["price"] = -1
        rows[4]["symbl"] = "X"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def test_the_first_one_stops_the_import_and_nothing_is_recorded(self, file: Path) -> None:
        with pytest.raises(
            ValidationError, match=r"t.jsonl, line 3: price: -1.0 is not greater than 0"
        ):
            import_file(Trade, file)
        assert trades.get_trade_count() == 0

    def test_rejected_rows_are_written_to_a_file(self, file: Path, tmp_path: Path) -> None:
        result = import_file(Trade, file, keep_going=True, rejects=tmp_path / "rejects.jsonl")
        assert (result.created, result.skipped, result.rejected_count) == (3, 0, 2)
        assert [issue.index for issue in result.rejected] == [3, 5]
        lines = [
            json.loads(line)
            for line in (tmp_path / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        assert [line["line"] for line in lines] == [3, 5]
        assert lines[0]["reason"] == "price: -1.0 is not greater than 0"
        assert "map={'symbl': 'symbol'}" in lines[1]["reason"]
        assert json.loads(lines[1]["text"])["symbl"] == "X"
        assert [trade.quantity for trade in trades.iterate()] == [1.0, 2.0, 4.0]

    def test_an_existing_row_that_differs(self, empty_database: Any, tmp_path: Path) -> None:
        stored = trade(pnl=1)
        export_file(Trade, tmp_path / "t.csv")
        trades.update(stored, pnl=2)
        [conflict] = import_file(Trade, tmp_path / "t.csv").conflicts
        assert "its pnl is 2.0, and 1.0 in this row; this row was not recorded" in conflict.reason
        assert (conflict.index, conflict.recorded["pnl"], conflict.row["pnl"]) == (2, 2.0, "1.0")
        assert trades.get_all()[0].pnl == 2.0

    def test_a_trade_whose_signal_is_missing(self, empty_database: Any, tmp_path: Path) -> None:
        trade(signal=signal())
        trade(symbol="Y")
        export_file(Trade, tmp_path / "t.csv")
        Trade.delete().execute()
        Signal.delete().execute()
        with pytest.raises(ValidationError, match="line [23]: signal: there is no such Signal"):
            import_file(Trade, tmp_path / "t.csv")
        assert trades.get_trade_count() == 0
        result = import_file(Trade, tmp_path / "t.csv", keep_going=True)
        assert (result.created, result.rejected_count) == (1, 1)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("t.jsonl", "{}\n[1]\n", r"line 1: symbol: None is not allowed"),
            ("t.jsonl", '{"a"\n', r"line 1: not a valid row: '{\"a\"'"),
            ("t.csv", "symbol,side\nX\n", "line 2: not a valid row: 'X'"),
            ("t.csv", "symbol,symbol\nX,Y\n", "line 1: a Trade has no column 'symbol \\(2\\)'"),
            ("t.csv", "", "t.csv: is empty, without a line that names the columns"),
            ("t.csv", "symbol,side,price,quantity\nX,buy,one,1\n", "'one' is not a number"),
            ("t.csv", "symbol,timestamp\nX,soon\n", "'soon' is not a time in ISO 8601"),
            ("t.csv", 'symbol,trade_metadata\nX,"{"\n', "line 2: not a valid row"),
            ("t.csv", 'symbol\n"X\n', "line 2: not a valid row: "),
            (
                "t.csv",
                "symbl\nX\n",
                "1: a Trade has no column 'symbl'; .*{'symbl': 'symbol'}",
            ),
        ],
    )
    def test_invalid_files(
        self, empty_database: Any, tmp_path: Path, name: str, content: str, message: str
    ) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(ValidationError, match=message):
            import_file(Trade, tmp_path / name)
        assert trades.get_trade_count() == 0

    def test_unreadable_files(self, empty_database: Any, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_bytes(b"symbol\n\xff\n")
        with pytest.raises(StorageError, match=r"t.csv, line 2: is not UTF-8"):
            import_file(Trade, tmp_path / "t.csv")
        (tmp_path / "t.parquet").write_bytes(b"no")
        with pytest.raises(StorageError, match=r"t.parquet: is not a Parquet file"):
            import_file(Trade, tmp_path / "t.parquet")
        (tmp_path / "fine.csv").write_text("symbol\n")
        missing = tmp_path / "nowhere" / "r"
        message = f"{re.escape(str(missing))}: cannot be written: {NO_SUCH_FILE}"
        with pytest.raises(StorageError, match=message):
            import_file(Trade, tmp_path / "fine.csv", rejects=missing)
        with pytest.raises(StorageError, match=rf"u.csv: cannot be read: {NO_SUCH_FILE}"):
            import_file(Trade, tmp_path / "u.csv")

    def test_a_file_with_a_byte_order_mark_and_windows_line_ends(
        self, empty_database: Any, tmp_path: Path
    ) -> None:
        rows = "symbol,side,price,quantity,trade_metadata\r\nX,buy,1,2,\r\n\r\n"
        (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
        assert import_file(Trade, tmp_path / "t.csv").created == 1
        assert trades.get_all()[0].trade_metadata is None


@pytest.fixture
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with many trades."""

    def fill(folder: Path) -> None:
        init_db(folder / "bot.db", synchronous="normal")
        trades.create_many(trade_values(timestamp=at(n / 100)) for n in range(ROWS))
        close_db()

    return once(tmp_path_factory, "many_rows", fill) / "bot.db"


@pytest.mark.long
@every_format
def test_any_number_of_rows_takes_constant_memory(
    many_rows: Path, tmp_path: Path, file_format: str
) -> None:
    code = (
        "import re\nfrom pathlib import Path\nfrom botmemory import *\n"
        "from botmemory.interop.files import *\nimport sys\n"
        "init_db(sys.argv[1], synchronous='normal')\n"
        "if sys.argv[3] == 'out': n = export_file(Trade, sys.argv[2])\n"
        "else: n = import_file(Trade, sys.argv[2]).created\n"
        "print(n, re.findall(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[0])\n"
    )
    for target, direction in ((many_rows, "out"), (tmp_path / "other.db", "in")):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                str(target),
                str(tmp_path / f"t.{file_format}"),
                direction,
            ],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        count, kilobytes = map(int, done.stdout.split())
        assert count == ROWS
        assert kilobytes < (
            250_000 if file_format == "parquet" else 100_000
        )  # pyarrow itself is large


def test_from_the_command_line(target: str, tmp_path: Path, new_target: Callable[[], str]) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli, list(map(str, arguments)))
        return done.exit_code, done.stdout, done.stderr

    init_db(target)
    fill()
    close_db()
    other = new_target()
    for table in ("signals", "trades"):
        file = tmp_path / f"{table}.csv"
        assert run("--db", target, "export", table, file) == (0, f"7 {table} in {file}\n", "")
        for counts in ("7 recorded, 0 already existed", "0 recorded, 7 already existed"):
            assert run("--db", other, "import", table, file) == (0, f"{table}: {counts}\n", "")
    invalid = tmp_path / "invalid.jsonl"
    invalid.write_text('{"symbol": "X"}\n')
    code, out, err = run("--db", other, "import", "trades", invalid)
    assert (code, out) == (2, "")
    assert "line 1: side: None is not allowed" in err
    code, out, err = run(
        "--db", other, "import", "trades", invalid, "--keep-going", "--rejects", tmp_path / "r"
    )
    assert (code, out) == (1, "trades: 0 recorded, 0 already existed\n")
    assert err.splitlines()[-1] == "rejected: 1"
    assert (tmp_path / "r").read_text(encoding="utf-8").startswith('{"line": 1, ')
    assert run("--db", tmp_path / "none.db", "export", "trades", tmp_path / "x.csv")[0] == 2


def test_without_pyarrow_the_error_says_what_to_install(path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\nfrom botmemory import *\n"
        "from botmemory.interop.files import export_file\n"
        f"init_db({str(path)!r}); export_file(Trade, {str(tmp_path / 't.parquet')!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert f"Parquet needs pyarrow: {install_command('frames')}\n" in done.stderr


def test_the_database_can_be_read_without_botmemory(path: Path) -> None:
    init_db(path)
    trade(pnl=1.5)
    close_db()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT symbol, pnl FROM trade").fetchall() == [("BTC/USDT", 1.5)]


WITHOUT_TIME_ZONES = """
import sys, zoneinfo

sys.modules["tzdata"] = None  # a package with them
zoneinfo.reset_tzpath(to=[])  # those of the system

import pyarrow as pa
from botmemory import Trade, ValidationError, close_db, init_db
from botmemory.analysis.performance import summarize
from botmemory.interop import frames
from botmemory.interop.files import Layout, export_file, import_file
from botmemory.repositories import trades

init_db(":memory:")
stored = trades.create(symbol="A", side="buy", price=1, quantity=1)
export_file(Trade, "trades.parquet")
table = frames.trades()
close_db()
for zone in ("UTC", "Europe/Berlin"):
    init_db(":memory:")
    if zone == "UTC":
        assert import_file(Trade, "trades.parquet").created == 1
    else:
        times = table["timestamp"].cast(pa.timestamp("us", tz=zone))
        number = table.schema.get_field_index("timestamp")
        assert frames.import_trades(table.set_column(number, "timestamp", times)).created == 1
    assert trades.get_all()[0].timestamp == stored.timestamp
    close_db()
init_db(":memory:")
times = table["timestamp"].cast(pa.timestamp("us", tz="Europe/Berlin")).dictionary_encode()
table = table.set_column(table.schema.get_field_index("timestamp"), "timestamp", times)
assert frames.import_trades(table).created == 1
assert trades.get_all()[0].timestamp == stored.timestamp
close_db()
assert Layout(time_zone="UTC") and Layout(time_zone="UTC+8")
try:
    Layout(time_zone="Europe/Berlin")
except ValidationError as error:
    print(error)
"""


def test_parquet_needs_no_time_zones_of_the_system(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TIME_ZONES],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "time_zone: 'Europe/Berlin' is not known: this system has no time zones; install the "
        "package tzdata from PyPI\n"
    )
