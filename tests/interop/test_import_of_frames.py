"""Trades of a data frame are recorded once, as those of a file are."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from botmemory import Trade, ValidationError
from botmemory.interop import frames
from botmemory.interop.files import Layout
from botmemory.repositories import positions, trades

pytestmark = pytest.mark.usefixtures("empty_database")

NAMES = {
    "Pair": "symbol",
    "Size": "signed_quantity",
    "Px": "price",
    "Time": "timestamp",
    "TradeId": "exchange_trade_id",
}


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Pair": ["BTC/USDT", "BTC/USDT", "ETH/USDT"],
            "Size": np.array([0.5, -0.5, 2.0]),
            "Px": [42_000, 43_000, 2_500],
            "Time": pd.to_datetime(["2024-01-01 10:00", "2024-01-01 11:00", "2024-01-02 09:30"]),
            "TradeId": [153082133, None, 153082135],
            "fee": [0.1, np.nan, 0.2],
        }
    )


FORMS: list[Callable[[pd.DataFrame], Any]] = [
    lambda data: data,
    lambda data: data.convert_dtypes(),
    lambda data: data.set_index("Time"),
    lambda data: data.astype({"Time": "datetime64[us]"}).pipe(pa.Table.from_pandas),
    lambda data: data.to_dict("records"),
    lambda data: iter(data.to_dict("records")),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_frame_of_any_form_is_recorded_once(form: Callable[[pd.DataFrame], Any]) -> None:
    result = frames.import_trades(form(frame()), NAMES, exchange="binance", strategy="trend")
    assert (result.created, result.skipped, result.rejected) == (3, 0, [])
    again = frames.import_trades(form(frame()), NAMES, exchange="Binance", strategy="trend")
    assert (again.created, again.skipped, again.conflicts) == (0, 3, [])
    first, second, third = trades.iterate()
    assert (first.side, first.quantity, first.price, first.fee) == ("buy", 0.5, 42_000.0, 0.1)
    assert (second.side, second.quantity, second.fee) == ("sell", 0.5, None)
    ids = [trade.exchange_trade_id for trade in (first, second, third)]
    assert ids == ["153082133", None, "153082135"]
    assert first.timestamp.isoformat() == "2024-01-01T10:00:00+00:00"
    assert {(trade.exchange, trade.strategy) for trade in trades.iterate()} == {
        ("binance", "trend")
    }


def test_another_float_is_no_id() -> None:
    data = frame().assign(TradeId=[1.5, 2.0, 3.0])
    with pytest.raises(ValidationError, match="frame, row 0: exchange_trade_id: 1.5 is no id"):
        frames.import_trades(data, NAMES, exchange="binance")
    result = frames.import_trades(data, NAMES, exchange="binance", keep_going=True)
    assert (result.created, [issue.index for issue in result.rejected]) == (2, [0])


def test_unknown_columns_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        frames.import_trades(frame())
    message = str(caught.value)
    assert message.startswith(
        "frame: a Trade has no columns 'Pair', 'Size', 'Px', 'Time', 'TradeId'"
    )
    assert "'Pair': 'symbol', 'Size': 'quantity'" in message
    assert message.endswith("; the header is Pair, Size, Px, Time, TradeId, fee")


def test_other_columns_are_kept_in_the_metadata() -> None:
    data = frame().assign(
        Bars=np.int64(7),
        Duration=pd.Timedelta(hours=2),
        Tag=[None, "x", np.nan],
        Seen=pd.Timestamp("2024-01-01 10:00"),
        Won=np.bool_(True),
    )
    frames.import_trades(data, NAMES, exchange="okx", layout=Layout(others="metadata"))
    first, second, third = trades.iterate()
    kept = {"Bars": 7, "Duration": "0 days 02:00:00", "Seen": "2024-01-01 10:00:00", "Won": True}
    assert first.trade_metadata == third.trade_metadata == kept
    assert second.trade_metadata == kept | {"Tag": "x"}


def test_times_without_a_zone_are_of_the_layouts_zone() -> None:
    layout = Layout(time_zone="America/New_York")
    frames.import_trades(frame(), NAMES, exchange="okx", layout=layout)
    assert trades.get_latest()[0].timestamp.hour == 14
    aware = frame().assign(Time=frame()["Time"].dt.tz_localize("Asia/Tokyo"))
    result = frames.import_trades(aware, NAMES, exchange="bybit", layout=layout)
    assert result.created == 3
    assert trades.get_all(exchange="bybit")[-1].timestamp.hour == 1


def test_round_trips_are_two_imports_of_one_frame() -> None:
    # as backtesting.py has them
    data = pd.DataFrame(
        {
            "Size": [10, -4],
            "EntryPrice": [100.0, 120.0],
            "ExitPrice": [110.0, 115.0],
            "PnL": [100.0, 20.0],
            "EntryTime": pd.to_datetime(["2024-01-01", "2024-01-03"]),
            "ExitTime": pd.to_datetime(["2024-01-02", "2024-01-04"]),
        }
    )
    layout = Layout(others="ignore", set={"symbol": "GOOG"})
    entry = {"Size": "signed_quantity", "EntryPrice": "price", "EntryTime": "timestamp"}
    exits = {"Size": "closed_quantity", "ExitPrice": "price", "ExitTime": "timestamp", "PnL": "pnl"}
    entries = {**entry, "PnL": "ignore"}
    for created in (2, 0):
        assert frames.import_trades(data, entries, layout=layout).created == created
        assert frames.import_trades(data, exits, layout=layout).created == created
    held = positions.get("GOOG")
    assert (held.quantity, held.realized_pnl) == (0.0, 120.0)
    assert [trade.pnl for trade in trades.iterate()] == [None, 100.0, None, 20.0]


def test_a_dry_run_records_nothing() -> None:
    result = frames.import_trades(frame(), NAMES, exchange="okx", dry_run=True)
    assert (result.created, [row["price"] for row in result.preview]) == (3, [42e3, 43e3, 2500.0])
    assert Trade.select().count() == 0


@pytest.mark.parametrize("data", ["trades.csv", {"symbol": ["X"]}, 7, [1]])
def test_what_is_no_frame_is_refused(data: Any) -> None:
    with pytest.raises(ValidationError, match="frame: .* is no "):
        frames.import_trades(data)


def plain(**columns: Any) -> pd.DataFrame:
    """Return a frame with the names of the table."""
    return pd.DataFrame(
        {
            "symbol": ["BTC/USDT", "ETH/USDT"],
            "side": ["buy", "sell"],
            "price": [100.5, 200.25],
            "quantity": [1.0, 2.0],
            "timestamp": pd.to_datetime(["2024-01-01 10:00", "2024-01-01 11:00"]),
        }
    ).assign(**columns)


COLUMNS: list[tuple[str, Any, list[Any]]] = [
    ("symbol", pd.Categorical(["BTC/USDT", "ETH/USDT"]), ["BTC/USDT", "ETH/USDT"]),
    ("strategy", pd.Categorical(["trend", None]), ["trend", None]),
    ("price", [Decimal("100.123456789012345678"), Decimal(3)], [100.12345678901235, 3.0]),
    ("fee", [Decimal("sNaN"), Decimal("NaN")], [None, None]),
    ("quantity", np.array([1, 127], "int8"), [1.0, 127.0]),
    ("quantity", np.array([1, 2**63], "uint64"), [1.0, 2.0**63]),
    ("fee", pd.array([1, None], "Int8"), [1.0, None]),
    ("fee", pd.arrays.SparseArray([0.0, 0.5]), [0.0, 0.5]),
]


@pytest.mark.parametrize(("name", "column", "recorded"), COLUMNS)
def test_columns_of_any_type_are_recorded(name: str, column: Any, recorded: list[Any]) -> None:
    frames.import_trades(plain(**{name: column}))
    assert [getattr(trade, name) for trade in trades.iterate()] == recorded


def test_times_of_several_zones_are_in_one_column() -> None:
    tokyo = pd.Timestamp("2024-01-01 10:00", tz="Asia/Tokyo")
    frames.import_trades(plain(timestamp=[tokyo, pd.Timestamp("2024-01-01 10:00")]))
    assert [trade.timestamp.hour for trade in trades.iterate()] == [1, 10]


def test_nanoseconds_are_cut_off() -> None:
    times = pd.Series([1_704_103_200_123_456_789, 1_704_103_200_999_999_999])
    zoned = pd.to_datetime(times).dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    for created in (2, 0):
        assert frames.import_trades(plain(timestamp=zoned)).created == created
    arrow = pa.Table.from_pandas(plain(timestamp=pd.to_datetime(times)))
    assert frames.import_trades(arrow).skipped == 2
    assert [trade.timestamp.microsecond for trade in trades.iterate()] == [123_456, 999_999]


def test_timestamps_need_no_format() -> None:
    assert frames.import_trades(plain(), layout=Layout(date_format="ms")).created == 2


class Direction(Enum):  # as vnpy has it
    LONG = "\N{CJK UNIFIED IDEOGRAPH-591A}"
    SHORT = "Short"


SIDES: list[tuple[list[Any], dict[str, str]]] = [
    ([Direction.LONG, Direction.SHORT], {Direction.LONG.value: "buy", "short": "sell"}),
    ([1, -1], {"1": "buy", "-1": "sell"}),
    ([True, False], {"True": "buy", "False": "sell"}),
]


@pytest.mark.parametrize(("sides", "meanings"), SIDES)
def test_sides_may_be_members_of_an_enumeration_or_numbers(
    sides: list[Any], meanings: dict[str, str]
) -> None:
    with pytest.raises(ValidationError, match=r"row 0: side: .* say which, as values={'side': {"):
        frames.import_trades(plain(side=sides))
    frames.import_trades(plain(side=sides), layout=Layout(values={"side": meanings}))
    assert [trade.side for trade in trades.iterate()] == ["buy", "sell"]


def test_an_index_of_times_without_a_name_is_a_column() -> None:
    data = plain().set_index("timestamp").rename_axis(None)
    with pytest.raises(ValidationError, match="no column 'index'.*columns={'index': 'timestamp'}"):
        frames.import_trades(data)
    frames.import_trades(data, {"index": "timestamp"})
    assert trades.get_latest(limit=1)[0].timestamp.hour == 11
    assert frames.import_trades(plain().iloc[1:]).skipped == 1  # its index is a number


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (pd.concat([plain(), plain()[["price"]]], axis=1), "price (2)"),
        (plain().set_index("timestamp", drop=False), "timestamp (2)"),
        (
            pa.Table.from_pandas(plain()).append_column("price", pa.array([7.0, 8.0])),
            "price (2)",
        ),
    ],
)
def test_the_second_column_of_a_name_is_not_taken_for_the_first(data: Any, name: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(f"no column {name!r}")):
        frames.import_trades(data)
    assert frames.import_trades(data, {name: "ignore"}).created == 2
    assert [trade.price for trade in trades.iterate()] == [100.5, 200.25]


def test_names_of_columns_may_be_numbers_or_several_levels() -> None:
    numbered = plain().rename(columns={"price": 0})
    assert frames.import_trades(numbered, {0: "price"}).created == 2
    levels = plain()
    levels.columns = pd.MultiIndex.from_product([["fills"], levels.columns])
    assert frames.import_trades(levels, {name: name[1] for name in levels.columns}).skipped == 2


def test_orders_of_jesse_are_recorded() -> None:
    # made up, with the columns of its table `order`; a quantity that was sold counts with any sign
    shared = {"symbol": "BTC-USDT", "exchange": "Binance Spot", "type": "MARKET", "fee": 0.1}
    orders = [
        {"id": uuid4(), "side": side, "filled_qty": filled, "price": price, "status": status}
        for side, filled, price, status in (
            ("buy", 0.5, 42_000.0, "EXECUTED"),
            ("sell", -0.3, 43_000.0, "EXECUTED"),
            ("sell", 0.0, 45_000.0, "CANCELED"),
            ("sell", 0.2, 44_000.0, "EXECUTED"),
        )
    ]
    executed = [1_704_103_200_000, 1_704_103_260_000, None, 1_704_103_320_000]
    data = pd.DataFrame([shared | order for order in orders]).assign(executed_at=executed)
    columns = {
        "id": "exchange_trade_id",
        "filled_qty": "signed_quantity",
        "executed_at": "timestamp",
    }
    layout = Layout(only={"status": ["EXECUTED"]}, date_format="ms", others="ignore")
    for created in (3, 0):
        result = frames.import_trades(data, columns, layout=layout)
        assert (result.created, result.left_out, result.conflicts) == (created, 1, [])
    held = positions.get("BTC-USDT", exchange="Binance Spot")
    assert (held.quantity, held.realized_pnl) == (0.0, 700.0)


@pytest.mark.parametrize("columns", [["symbol"], "symbol", 7])
def test_columns_must_be_a_mapping(columns: Any) -> None:
    with pytest.raises(ValidationError, match="columns: .* is not a mapping of the frame's"):
        frames.import_trades(plain(), columns)


@pytest.mark.parametrize("layout", [7, {"map": {}}])
def test_what_is_no_layout_is_refused(layout: Any) -> None:
    with pytest.raises(ValidationError, match="layout: .* is no Layout"):
        frames.import_trades(plain(), layout=layout)
