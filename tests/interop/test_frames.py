"""Trades, signals and cash flows as Arrow tables and data frames, with the types of the columns."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from samples import at, cash_flow, signal, trade, trade_values

from botmemory import Signal, Trade, ValidationError
from botmemory._install import install_command
from botmemory.interop import frames
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_database")


def test_a_frame_has_the_recorded_values() -> None:
    trigger = signal()
    first = trade(timestamp=at(0), pnl=0.1, signal=trigger, trade_metadata={"a": [1, "ü"]})
    second = trade(timestamp=at(1), side="sell", fee=-0.5, strategy="a")
    table = frames.trades()
    assert table.column_names == [field.column_name for field in Trade._meta.sorted_fields]
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [str(first.id), str(second.id)]
    assert [row["timestamp"] for row in rows] == [at(0), at(1)]
    assert [row["side"] for row in rows] == ["buy", "sell"]
    assert [row["pnl"] for row in rows] == [0.1, None]
    assert [row["signal_id"] for row in rows] == [trigger.id, None]
    assert [row["strategy"] for row in rows] == [None, "a"]
    assert rows[0]["trade_metadata"].replace(" ", "") == '{"a":[1,"ü"]}'
    assert rows[1]["trade_metadata"] is None


def test_the_types() -> None:
    trade()
    for table in (frames.trades(), frames.trades("NONE")):
        types = dict(zip(table.column_names, table.schema.types, strict=True))
        assert types["timestamp"] == pa.timestamp("us", tz="UTC")
        assert types["price"] == types["pnl"] == pa.float64()
        assert types["signal_id"] == pa.int64()
        assert types["id"] == types["side"] == types["trade_metadata"] == pa.string()
    frame = frames.trades().to_pandas()
    assert frame["timestamp"].dtype == pd.DatetimeTZDtype("us", "UTC")
    assert frame["price"].dtype == "float64"
    nullable = frames.trades().to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    assert nullable["signal_id"].dtype == pd.Int64Dtype()
    assert nullable["signal_id"].isna().all()


def test_metadata_becomes_columns() -> None:
    for n, metadata in enumerate(
        (
            {"rsi": 20, "bands": {"low": 1.5}, "up": True, "why": "dip", "mixed": 1},
            {"rsi": 30.5, "up": False, "mixed": "a", "list": [1, 2]},
            None,
            [1],
        )
    ):
        signal(timestamp=at(n), signal_metadata=metadata)
    table = frames.signals(expand_metadata=True)
    assert [name for name in table.column_names if "." in name] == [
        f"signal_metadata.{key}" for key in ("bands.low", "list", "mixed", "rsi", "up", "why")
    ]
    assert "signal_metadata" not in table.column_names
    columns = table.to_pydict()
    assert columns["signal_metadata.rsi"] == [20.0, 30.5, None, None]
    assert columns["signal_metadata.bands.low"] == [1.5, None, None, None]
    assert columns["signal_metadata.up"] == [True, False, None, None]
    assert columns["signal_metadata.mixed"] == ["1", "a", None, None]
    assert columns["signal_metadata.list"] == [None, "[1,2]", None, None]
    types = dict(zip(table.column_names, table.schema.types, strict=True))
    assert types["signal_metadata.rsi"] == pa.float64()
    assert types["signal_metadata.up"] == pa.bool_()
    assert frames.signals().to_pydict()["signal_metadata"][3] == "[1]"


def test_rows_are_filtered_and_in_time_order() -> None:
    for n in (3, 1, 2, 0):
        trade(timestamp=at(n), symbol="AB"[n % 2], strategy="xy"[n // 2])
    assert frames.trades().to_pydict()["timestamp"] == [at(n) for n in range(4)]
    assert frames.trades("A", "y").to_pydict()["timestamp"] == [at(2)]
    trade(timestamp=at(9), exchange="okx")
    assert frames.trades(exchange="okx").to_pydict()["timestamp"] == [at(9)]
    assert frames.trades(exchange="").num_rows == 4
    assert frames.trades(start_date=at(1), end_date=at(2)).num_rows == 2
    with pytest.raises(ValidationError, match="end_date"):
        frames.signals(start_date=at(2), end_date=at(1))


@pytest.mark.parametrize("hours", [[0, 1, 2], [2, 0, 1], [0, 0, 1], [1, 0, 0]])
def test_rows_are_in_time_order_in_any_order_of_recording(hours: list[int]) -> None:
    ids = [uuid.UUID(int=number) for number in (9, 3, 5)]
    for key, hour in zip(ids, hours, strict=True):
        trade(id=key, timestamp=at(hour))
    expected = [str(key) for _, key in sorted(zip(hours, ids, strict=True))]
    assert frames.trades().to_pydict()["id"] == expected


def test_an_empty_database() -> None:
    assert frames.trades().num_rows == frames.signals(expand_metadata=True).num_rows == 0
    assert len(frames.trades().to_pandas().columns) == len(Trade._meta.fields)


def test_many_rows_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ROWS_PER_READ", 70)
    trades.create_many(trade_values(timestamp=at(n), price=1 + n) for n in range(2000))
    table = frames.trades()
    assert table.to_pydict()["price"] == [float(1 + n) for n in range(2000)]


def test_a_frame_has_the_values_that_peewee_returns() -> None:
    for n in range(20):
        trade(timestamp=at(n), pnl=n / 3, signal=signal() if n % 2 else None)
    frame = frames.trades().to_pandas()
    by_peewee = pd.DataFrame(list(Trade.select().order_by(Trade.timestamp).dicts()))
    for name in ("symbol", "price", "quantity", "pnl"):
        assert list(frame[name]) == list(by_peewee[name])
    assert list(frame["id"]) == [str(id_) for id_ in by_peewee["id"]]
    assert list(frame["timestamp"]) == list(by_peewee["timestamp"])
    assert Signal.select().count() == frames.signals().num_rows


def test_cash_flows() -> None:
    cash_flow(timestamp=at(1), amount=0.1, exchange="okx", metadata={"rate": 0.0001})
    cash_flow(timestamp=at(0), kind="deposit", symbol=None, amount=-5e-324)
    table = frames.cash_flows(expand_metadata=True)
    types = dict(zip(table.column_names, table.schema.types, strict=True))
    assert types["id"] == pa.int64()
    assert types["kind"] == types["symbol"] == types["exchange_flow_id"] == pa.string()
    assert types["amount"] == types["metadata.rate"] == pa.float64()
    assert table.to_pydict()["amount"] == [-5e-324, 0.1]
    assert table.to_pydict()["metadata.rate"] == [None, 0.0001]
    assert frames.cash_flows(exchange="okx").to_pydict()["timestamp"] == [at(1)]
    assert frames.cash_flows(exchange="", end_date=at(0)).to_pydict()["kind"] == ["deposit"]


def test_without_pyarrow_the_error_says_what_to_install(path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None\nfrom botmemory import *\n"
        f"from botmemory.interop import frames\ninit_db({str(path)!r}); frames.trades()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    assert f"data frames need pyarrow: {install_command('frames')}\n" in done.stderr
