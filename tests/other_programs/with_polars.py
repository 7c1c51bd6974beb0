"""Print what is recorded of a frame of polars, as JSON; run it where polars is installed."""

from __future__ import annotations

import json
import sys
from decimal import Decimal

import polars as pl

from botmemory import init_db
from botmemory.interop import frames
from botmemory.interop.files import Layout
from botmemory.repositories import trades

given = json.load(sys.stdin)
times = pl.Series(given["timestamp"]).str.to_datetime(time_unit="ns", time_zone="Asia/Tokyo")
frame = pl.DataFrame(
    {
        "Pair": pl.Series(given["symbol"], dtype=pl.Categorical),
        "side": pl.Series(given["side"], dtype=pl.Enum(["buy", "sell"])),
        "price": [Decimal(price) for price in given["price"]],
        "quantity": pl.Series(given["quantity"], dtype=pl.Int8),
        "fee": [float("nan"), None],
        "timestamp": times,
        "parts": [[1, 2], [3]],
        "held": pl.Series([7_200_000, None], dtype=pl.Duration("ms")),
    }
)
init_db(":memory:")
results = [
    frames.import_trades(frame, {"Pair": "symbol"}, layout=Layout(others="metadata"))
    for _ in range(2)
]
json.dump(
    {
        "created": [result.created for result in results],
        **{
            name: [str(getattr(trade, name)) for trade in trades.iterate()]
            for name in (
                "timestamp",
                "symbol",
                "side",
                "price",
                "quantity",
                "fee",
                "trade_metadata",
            )
        },
    },
    sys.stdout,
)
