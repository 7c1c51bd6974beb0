"""What cannot be recorded is said in words of our own: where it is, what it is, what to do."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption
from system_errors import NO_SUCH_FILE

from botmemory import Trade
from botmemory.errors import BotMemoryError, StorageError, ValidationError
from botmemory.interop import frames
from botmemory.interop.files import import_file
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_database", "empty_folder")

TIME = datetime(2024, 1, 1, tzinfo=UTC)
MICROSECONDS = 1_704_067_200_000_000  # TIME
COLUMNS = {
    "timestamp": pa.array([TIME], pa.timestamp("us", tz="UTC")),
    "symbol": pa.array(["BTC/USDT"]),
    "side": pa.array(["buy"]),
    "price": pa.array([1.5]),
    "quantity": pa.array([2.0]),
}
ROW = {
    "timestamp": "2024-01-01T00:00:00+00:00",
    "symbol": "BTC/USDT",
    "side": "buy",
    "price": 1.5,
    "quantity": 2,
}
LINE = json.dumps(ROW)
HEADER = "timestamp,symbol,side,price,quantity\n"
CSV_ROW = "2024-01-01T00:00:00+00:00,BTC/USDT,buy,1.5,2\n"


def import_parquet(table: pa.Table, **options: Any) -> Any:
    pq.write_table(table, "trades.parquet", **options)
    return import_file(Trade, "trades.parquet")


def import_frame(table: pa.Table) -> Any:
    return frames.import_trades(table)


def import_text(name: str, content: str | bytes) -> Any:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return import_file(Trade, name)


def message_of(import_: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(BotMemoryError) as caught:
        import_(*arguments)
    assert trades.get_all() == []
    return str(caught.value)


both = pytest.mark.parametrize("import_", [import_parquet, import_frame])


# --- values of Arrow -------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("timestamp", pa.array([MICROSECONDS * 1000 + 1], pa.timestamp("ns", tz="UTC"))),
        ("timestamp", pa.array([MICROSECONDS * 1000], pa.timestamp("ns"))),
        ("timestamp", pa.array([MICROSECONDS // 10**6], pa.timestamp("s"))),
        ("timestamp", pa.array([MICROSECONDS], pa.timestamp("us", tz="Europe/Berlin"))),
        # Arrow keeps times in UTC, whatever the time zone that is to show them
        ("timestamp", pa.array([MICROSECONDS], pa.timestamp("us", tz="Mars/Base"))),
        ("timestamp", pa.array([date(2024, 1, 1)])),
        ("price", pa.array([Decimal("1.5")])),
        ("price", pa.array(["1.5"])),
        ("price", pa.array([1.5]).cast(pa.float16())),
        ("symbol", pa.array(["BTC/USDT"]).dictionary_encode()),
        ("symbol", pa.array(["BTC/USDT"], pa.large_string())),
        ("fee", pa.nulls(1)),
        ("id", pa.nulls(1)),
    ],
)
def test_other_types_of_a_column_are_read(
    import_: Callable[[pa.Table], Any], name: str, values: pa.Array
) -> None:
    assert import_(pa.table(COLUMNS | {name: values})).created == 1
    [trade] = trades.get_all()
    assert (trade.timestamp, trade.symbol, trade.price) == (TIME, "BTC/USDT", 1.5)


def test_old_times_of_96_bits_are_read() -> None:
    table = pa.table(COLUMNS)
    assert import_parquet(table, use_deprecated_int96_timestamps=True).created == 1
    assert trades.get_all()[0].timestamp == TIME


def text_of_bytes(content: bytes) -> pa.Array:
    """Return an array of one text, which pyarrow does not check."""
    offsets = pa.py_buffer(b"\0\0\0\0" + len(content).to_bytes(4, "little"))
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(content)])


@both
@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("timestamp", pa.array([2**62], pa.timestamp("us")), f"{2**62} is no value of its type"),
        (
            "timestamp",
            pa.array([2**62], pa.timestamp("us", tz="UTC")),
            f"{2**62} is no value of its type timestamp[us, tz=UTC]",
        ),
        ("timestamp", pa.array([time(1)]), "datetime.time(1, 0) is not a time"),
        ("timestamp", pa.array([timedelta(1)]), "datetime.timedelta(days=1) is not a time"),
        ("timestamp", pa.array([1_704_067_200_000]), "it may be in milliseconds"),
        ("symbol", text_of_bytes(b"\xff\xfe"), r"b'\xff\xfe' is no value of its type string"),
        ("symbol", pa.array([b"\xff"]), r"b'\xff' is no"),
        ("symbol", pa.nulls(1), "None is not allowed; pass a value"),
        ("price", pa.array([[1.5]]), "[1.5] is not a number"),
        ("price", pa.array([{"a": 1}]), "{'a': 1} is not a number"),
        ("price", pa.array([True]), "True is not a number"),
        ("price", pa.array([float("inf")]), "inf is not a finite number"),
        ("price", pa.array(["x"]), "'x' is not a number"),
        ("signal_id", pa.array([99]), "there is no such Signal; record it first"),
        ("id", pa.array(["x"]), "'x' is not a UUID"),
    ],
)
def test_a_value_is_named_with_row_and_column(
    import_: Callable[[pa.Table], Any], name: str, values: pa.Array, problem: str
) -> None:
    message = message_of(import_, pa.table(COLUMNS | {name: values}))
    file = Path("trades.parquet").resolve()
    assert message.startswith("frame, row 0: " if import_ is import_frame else f"{file}, row 1: ")
    assert f"{name.removesuffix('_id')}: " in message
    assert problem in message


def test_a_value_that_cannot_be_read_is_one_row_among_others() -> None:
    times = pa.array([MICROSECONDS, 2**62, MICROSECONDS + 1], pa.timestamp("us"))
    others = {name: pa.concat_arrays([values] * 3) for name, values in COLUMNS.items()}
    table = pa.table(others | {"timestamp": times})
    pq.write_table(table, "trades.parquet")
    for result, index in (
        (frames.import_trades(table, keep_going=True, dry_run=True), 1),
        (import_file(Trade, "trades.parquet", keep_going=True), 2),
    ):
        assert result.created == 2
        [rejected] = result.rejected
        assert rejected.index == index
        assert rejected.reason.endswith(f"timestamp: {2**62} is no value of its type timestamp[us]")


def test_a_text_that_was_written_as_bytes_is_a_text() -> None:
    """Programs write texts in Parquet without saying that they are texts."""
    assert import_parquet(pa.table(COLUMNS | {"symbol": pa.array([b"BTC/USDT"])})).created == 1
    assert trades.get_all()[0].symbol == "BTC/USDT"


@both
def test_two_columns_of_one_name_are_refused(import_: Callable[[pa.Table], Any]) -> None:
    table = pa.table(COLUMNS)
    twice = pa.Table.from_arrays(
        [*table.columns, table.column("price")], [*table.column_names, "price"]
    )
    message = message_of(import_, twice)
    assert "a Trade has no column 'price (2)'" in message
    assert "line" not in message.partition(":")[0]  # Parquet has none


# --- files of Parquet ------------------------------------------------------------------------


def damaged(change: Callable[[bytes], bytes]) -> str:
    pq.write_table(pa.table(COLUMNS), "trades.parquet")
    path = Path("trades.parquet")
    path.write_bytes(change(path.read_bytes()))
    return message_of(import_file, Trade, "trades.parquet")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: b"", "is not a Parquet file: it is empty"),
        (lambda content: HEADER.encode(), "is not a Parquet file; give it the suffix of its"),
        (lambda content: content[:4], "is not complete, or damaged; get it once more"),
        (lambda content: content[:100], "is not complete, or damaged; get it once more"),
        (lambda content: content[:-1], "is not complete, or damaged; get it once more"),
        (lambda content: content[:4] + b"\xff" * 40 + content[44:], "is damaged, or of a form"),
        (lambda content: content[:-4] + b"PARE", "is encrypted; save it without encryption"),
    ],
)
def test_a_damaged_parquet_file_is_said_to_be_so(
    change: Callable[[bytes], bytes], problem: str
) -> None:
    message = damaged(change)
    assert message.startswith(f"{Path('trades.parquet').resolve()}: {problem}")
    assert "check the disk" not in message


class Keys(encryption.KmsClient):
    def __init__(self, _config: object) -> None:
        encryption.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_parquet_file_is_said_to_be_so(plaintext_footer: bool) -> None:
    properties = encryption.CryptoFactory(Keys).file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration(
            footer_key="a", column_keys={"b": ["price"]}, plaintext_footer=plaintext_footer
        ),
    )
    table = pa.table(COLUMNS)
    with pq.ParquetWriter(
        "trades.parquet", table.schema, encryption_properties=properties
    ) as writer:
        writer.write_table(table)
    assert ": is encrypted; save it without" in message_of(import_file, Trade, "trades.parquet")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_folder_and_a_missing_file_are_named(suffix: str) -> None:
    path = Path(f"trades.{suffix}")
    message = message_of(import_file, Trade, path)
    missing = f"{re.escape(str(path.resolve()))}: cannot be read: {NO_SUCH_FILE}; check the path"
    assert re.fullmatch(missing, message)
    path.mkdir()
    message = message_of(import_file, Trade, path)
    assert message.startswith(f"{path.resolve()}: ")
    assert "is a folder" in message or "Is a directory; check the path" in message


# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trades.csv", "trades.jsonl"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (gzip.compress(HEADER.encode(), mtime=0), "is a spreadsheet or an archive; save it as"),
        (b"PK\3\4...", "is a spreadsheet or an archive; save it as CSV, or unpack it"),
        (b"PAR1\x15\x04", "is a Parquet file; give it the suffix .parquet"),
        (b"SQLite format 3\0", "is a database of SQLite; export its rows"),
    ],
)
def test_another_file_is_said_to_be_so(name: str, content: bytes, problem: str) -> None:
    message = message_of(import_text, name, content)
    assert message.startswith(f"{Path(name).resolve()}: {problem}")


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (
            HEADER + CSV_ROW + CSV_ROW.replace("BTC", '"BTC') + CSV_ROW * 2,
            3,
            "a quote is not closed, or there is text beside a quoted cell; it goes on to line 5",
        ),
        (HEADER + CSV_ROW.replace("BTC", '"BTC"'), 2, "is text beside a quoted cell"),
        ((HEADER + CSV_ROW).replace("\n", "\r"), 1, "its lines end with CR alone; save the file"),
        (HEADER + CSV_ROW.replace("2\n", "2,3,4\n"), 2, "it has 7 cells, and the header has 5"),
        (HEADER + CSV_ROW.replace("BTC", "B\0C"), 2, "contains a character that is not printable"),
    ],
)
def test_a_line_of_csv_is_named(content: str, line: int, problem: str) -> None:
    message = message_of(import_text, "trades.csv", content)
    assert message.startswith(f"{Path('trades.csv').resolve()}, line {line}: ")
    assert message.endswith(problem) or f"{problem} " in message


LIST = "; write each object of the list on a line of its own, without the brackets and the commas"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("5", "it is no JSON object"),
        ('{"price": 1, "symbol": "A", "price": 2}', "it has the key 'price' twice"),
        ('{"trade_metadata": {"a": 1, "a": 1}}', "it has the key 'a' twice"),
        ('"symbol"', "it is no JSON object"),
        (f"[{LINE}]", f"it is no JSON object{LIST}"),
        (f"[\n{LINE}\n]", f"it is not JSON, at character 2{LIST}"),
        (LINE + LINE, f"it is not JSON, at character {len(LINE) + 1}"),
        (LINE.replace("1.5", "9" * 5000), "it is not JSON"),
        ('{"a":' + "[" * 100_000, "it is nested too deeply"),
        (LINE.replace("1.5", "Infinity"), "price: inf is not a finite number"),
        (LINE.replace("1.5", "NaN"), "price: nan is not allowed; pass a value"),
    ],
)
def test_a_line_of_json_is_named(content: str, problem: str) -> None:
    message = message_of(import_text, "trades.jsonl", f"\n{content}")
    assert message.startswith(f"{Path('trades.jsonl').resolve()}, line 2: ")
    assert message.endswith(problem)


def test_metadata_that_is_nested_too_deeply_is_named() -> None:
    header = HEADER.replace("\n", ",trade_metadata\n")
    content = header + CSV_ROW.replace("\n", "," + "[" * 100_000 + "\n")
    message = message_of(import_text, "trades.csv", content)
    assert "trade_metadata: " in message
    assert message.endswith("is nested too deeply")


def test_errors_are_of_the_kinds_that_import_file_promises() -> None:
    with pytest.raises(ValidationError):
        import_text("trades.jsonl", "5")
    with pytest.raises(StorageError):
        import_text("trades.parquet", "5")
