"""Trades of a data frame are recorded once, as those of a file are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
