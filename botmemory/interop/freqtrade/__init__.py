"""Import of the trades of freqtrade from its SQLite database, written by any version.

A trade of freqtrade is a position from its first entry to its last exit; each of its filled orders
is a trade here. freqtrade itself is not needed.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import peewee

from ..._arguments import checked_call, from_caller
from ...backends.sqlite.errors import translate_errors
from ...config import absolute_path
from ...database import session_scope
from ...errors import StorageError, ValidationError
from ...repositories import trades
from .._result import ImportResult, RowIssue
from ._fills import Fill, Row, fills_of, realized_profit, row_issue
from ._source import private_copy

__all__ = ["import_database"]

POSITIONS_PER_READ = 200
FILLS_PER_TRANSACTION = 500
REQUIRED_COLUMNS = {
    "trades": {"id", "exchange", "pair", "is_open", "open_rate", "amount", "open_date"},
    "orders": {"id", "ft_trade_id", "ft_order_side", "order_id", "filled", "price"},
}
NEW_NAMES = {"buy_tag": "enter_tag", "sell_reason": "exit_reason", "ticker_interval": "timeframe"}


@checked_call
def import_database(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], object] | None = None
) -> ImportResult:
    """Record the filled orders of a freqtrade database, each once.

    The file is copied first: the bot may run, and nothing is written in or beside the file. Orders
    that were cancelled after they were filled in part are recorded too. An entry or exit without an
    order is recorded from freqtrade's trade. Positions of an import that fails half-way stay
    recorded; repeat it to record the others.

    The last exit has the realized profit of freqtrade as `pnl`, in quote currency, after fees and
    funding, less what earlier imports recorded with other exits. `fee` is what the order paid in
    base currency; else the amount that freqtrade has stored; else its rate times the cost, in quote
    currency. `enter_tag`, `exit_reason` and others are in `trade_metadata`.

    Args:
        path: The SQLite database of freqtrade.
        progress: Called with the number of positions done and of all positions.

    Returns:
        The counts. `rejected` has the orders that cannot be recorded: still open, or without an id,
        a side, a time or a price. `warnings` has those with a value that was derived. The index of
        an issue is the id of the row in freqtrade.

    Raises:
        DatabaseBusyError: The file is written all the time, or another program held the write lock
            for longer than `busy_timeout`.
        StorageError: The file is no database of freqtrade, or cannot be read or copied.
    """
    file = absolute_path("path", path)
    progress = progress and from_caller(progress)
    created = skipped = 0
    rejected: list[RowIssue] = []
    warnings: list[RowIssue] = []
    with translate_errors(file, "cannot be imported"), private_copy(file) as copy:
        source = peewee.SqliteDatabase(str(copy))
        try:
            tables = _tables(source, file)
            total, done = tables["trades"].select().count(), 0
            for batch in _batches(_positions(tables), rejected):
                with session_scope():
                    for position, fills, profit in batch:
                        for is_new in _record(position, fills, profit, rejected, warnings):
                            created += is_new
                            skipped += not is_new
                done += len(batch)
                if progress is not None:
                    progress(done, total)
            rejected += _orders_without_trade(tables)
        finally:
            source.close()
    return ImportResult(created, skipped, rejected, warnings, len(rejected))


def _batches(
    positions: Iterator[tuple[Row, list[Row]]], rejected: list[RowIssue]
) -> Iterator[list[tuple[Row, list[Fill], Decimal | None]]]:
    """Yield positions with their fills and profit, as many as one transaction records."""
    batch: list[tuple[Row, list[Fill], Decimal | None]] = []
    count = 0
    for position, orders in positions:
        fills = fills_of(position, orders, rejected)
        try:
            profit = realized_profit(position)
        except ValidationError as error:
            rejected.append(row_issue(position, position, str(error)))
            profit = None
        if profit and not any(fill.is_exit for fill in fills):
            reason = f"realized_profit: there is no exit to record {profit} with"
            rejected.append(row_issue(position, position, reason))
        batch.append((position, fills, profit))
        count += len(fills)
        if count >= FILLS_PER_TRANSACTION or len(batch) >= POSITIONS_PER_READ:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def _record(
    position: Row,
    fills: list[Fill],
    profit: Decimal | None,
    rejected: list[RowIssue],
    warnings: list[RowIssue],
) -> Iterator[bool]:
    """Record the fills of a position, and yield for each of them whether it is new."""
    last_exit = next((fill for fill in reversed(fills) if fill.is_exit), None)
    recorded = Decimal(0)  # the profit that is recorded with exits so far
    for fill in fills:
        if fill is last_exit and profit is not None:
            fill.values["pnl"] = float(profit - recorded)
        try:
            trade, is_new = trades.get_or_create(**fill.values)
        except ValidationError as error:
            rejected.append(row_issue(position, fill.source, str(error)))
            continue
        yield is_new
        if fill.is_exit:
            recorded += Decimal(repr(trade.pnl or 0.0))
        if is_new and fill.warning:
            warnings.append(row_issue(position, fill.source, fill.warning))
        if fill is last_exit and profit is not None and not math.isclose(recorded, profit):
            reason = f"pnl: {recorded} is recorded, but it is {profit} in freqtrade now"
            warnings.append(row_issue(position, fill.source, reason))


def _tables(source: peewee.SqliteDatabase, file: Path) -> dict[str, Any]:
    """Return the tables of the database, with the columns of its version of freqtrade."""
    existing = set(source.get_tables())
    columns = {
        name: [column.name for column in source.get_columns(name)] if name in existing else []
        for name in REQUIRED_COLUMNS
        if name in existing or name == "trades"
    }
    for name, names in columns.items():
        if missing := sorted(REQUIRED_COLUMNS[name] - set(names)):
            raise StorageError(
                f"{file}: is not a database of freqtrade: its table {name} has no "
                f"{', '.join(missing)}; check the path"
            )
    return {name: peewee.Table(name, names).bind(source) for name, names in columns.items()}


def _positions(tables: dict[str, Any]) -> Iterator[tuple[Row, list[Row]]]:
    """Yield the trades of freqtrade with their orders, in the order of ids."""
    positions, orders = tables["trades"], tables.get("orders")
    last_id = -1
    while True:
        query = positions.select().where(positions.id > last_id).order_by(positions.id)
        rows = [_with_new_names(row) for row in query.limit(POSITIONS_PER_READ).dicts()]
        if not rows:
            return
        last_id = rows[-1]["id"]
        orders_of: dict[int, list[Row]] = defaultdict(list)
        if orders is not None:
            condition = orders.ft_trade_id.in_([row["id"] for row in rows])
            for order in orders.select().where(condition).order_by(orders.id).dicts():
                orders_of[order["ft_trade_id"]].append(order)
        yield from ((row, orders_of[row["id"]]) for row in rows)


def _with_new_names(row: Row) -> Row:
    """Return a row with the names that columns have in the newest version of freqtrade."""
    renamed = {NEW_NAMES.get(name, name): value for name, value in row.items()}
    for rate in ("fee_open", "fee_close"):
        renamed.setdefault(rate, row.get("fee"))  # the oldest version has one rate
    return renamed


def _orders_without_trade(tables: dict[str, Any]) -> Iterator[RowIssue]:
    """Yield the filled orders whose trade does not exist."""
    positions, orders = tables["trades"], tables.get("orders")
    if orders is not None:
        no_trade = orders.ft_trade_id.is_null() | orders.ft_trade_id.not_in(
            positions.select(positions.id)
        )
        query = orders.select().where(no_trade & (orders.filled > 0)).order_by(orders.id)
        for order in query.dicts():
            reason = f"order {order['order_id']}: its trade {order['ft_trade_id']} does not exist"
            yield RowIssue(order["id"], reason, order)
