"""What botmemory records of the tables that other programs make; the programs here use it."""

from __future__ import annotations

from typing import Any

from botmemory import close_db, init_db
from botmemory.interop import frames
from botmemory.interop.files import Layout
from botmemory.repositories import positions, trades


def imported(frame: Any, imports: list[dict[str, Any]]) -> dict[str, Any]:
    """Record a table of one symbol in an empty database, twice; return what it holds then.

    Args:
        frame: The table.
        imports: The columns and the layout of each import, which takes the whole table.
    """
    close_db()
    init_db(":memory:")
    results = [
        frames.import_trades(frame, each["columns"], layout=Layout(**each["layout"]))
        for _ in range(2)
        for each in imports
    ]
    [last] = trades.get_latest(limit=1)
    position = positions.get(last.symbol, quote="USDT")
    return {
        "created": [result.created for result in results],
        "skipped": [result.skipped for result in results],
        "last": f"{last.timestamp:%Y-%m-%d %H:%M} {last.symbol} {last.exchange}",
        "quantity": position.quantity,
        "gross_pnl": position.realized_pnl,
        "fees": sum(position.fees.values()),
        "recorded_pnl": trades.get_total_pnl(),
    }
