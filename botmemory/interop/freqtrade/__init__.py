"""Trades of freqtrade, from its SQLite database of any age.

A trade of freqtrade is a position from its first entry to its last exit. The orders that made it
are the fills, and a trade each here. freqtrade itself is not needed.
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
NEEDED = {
    "trades": {"id", "exchange", "pair", "is_open", "open_rate", "amount", "open_date"},
    "orders": {"id", "ft_trade_id", "ft_order_side", "order_id", "filled", "price"},
}
RENAMED = {"buy_tag": "enter_tag", "sell_reason": "exit_reason", "ticker_interval": "timeframe"}


@checked_call
def import_database(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], object] | None = None
) -> ImportResult:
    """Record the filled orders of a freqtrade database, each once; return what became of them.

    The file is copied first: its bot may go on, and nothing is written in or beside it. An order
    that was filled, be it in part before it was cancelled, is a trade; an entry or an exit that no
    order tells of is one as freqtrade's trade has it. The last exit carries the realized profit, in
    quote currency, after fees and funding as freqtrade counts it; what earlier imports recorded of
    it with other exits is left out. `fee` is what the order paid in base currency, or what was
    reported for it, or freqtrade's rate of its cost in quote currency. `strategy` is kept;
    `enter_tag`, `exit_reason` and the rest are in `trade_metadata`.

    An order that cannot be recorded (still open, or without a side, a time or an id) is in
    `rejected` with its reason; one for which something had to be taken from elsewhere is in
    `warnings`; their index is freqtrade's id of the row. `progress` is called with the positions
    done and the positions in all. Raises `StorageError` (a file that is no such database) and
    `DatabaseBusyError`; what was recorded until then stays, and repeating the call goes on.
    """
    file = absolute_path("path", path)
    progress = progress and from_caller(progress)
    counts = {True: 0, False: 0}
    rejected: list[RowIssue] = []
    warnings: list[RowIssue] = []
    with translate_errors(file, "cannot be imported"), private_copy(file) as copy:
        source = peewee.SqliteDatabase(str(copy))
        try:
            tables = _tables(source, file)
            total, done = tables["trades"].select().count(), 0
            for some in _by_fills(_positions(tables), rejected):
                with session_scope():
                    for position, fills, realized in some:
                        for created in _record(position, fills, realized, rejected, warnings):
                            counts[created] += 1
                done += len(some)
                if progress is not None:
                    progress(done, total)
            rejected += _lost_orders(tables)
        finally:
            source.close()
    return ImportResult(counts[True], counts[False], rejected, warnings, len(rejected))


def _by_fills(
    positions: Iterator[tuple[Row, list[Row]]], rejected: list[RowIssue]
) -> Iterator[list[tuple[Row, list[Fill], Decimal | None]]]:
    """Yield positions with their fills and what they earned, as many as are recorded at once."""
    some: list[tuple[Row, list[Fill], Decimal | None]] = []
    count = 0
    for position, orders in positions:
        fills = fills_of(position, orders, rejected)
        try:
            realized = realized_profit(position)
        except ValidationError as error:
            rejected.append(row_issue(position, position, str(error)))
            realized = None
        if realized and not any(fill.is_exit for fill in fills):
            what = f"realized_profit: there is no exit to record {realized} with"
            rejected.append(row_issue(position, position, what))
        some.append((position, fills, realized))
        count += len(fills)
        if count >= FILLS_PER_TRANSACTION or len(some) >= POSITIONS_PER_READ:
            yield some
            some, count = [], 0
    if some:
        yield some


def _record(
    position: Row,
    fills: list[Fill],
    realized: Decimal | None,
    rejected: list[RowIssue],
    warnings: list[RowIssue],
) -> Iterator[bool]:
    """Record the fills of a position, and yield for each of them whether it is new."""
    last_exit = next((fill for fill in reversed(fills) if fill.is_exit), None)
    recorded = Decimal(0)  # of the realized profit, with the exits before the last one
    for fill in fills:
        if fill is last_exit and realized is not None:
            fill.values["pnl"] = float(realized - recorded)
        try:
            trade, created = trades.get_or_create(**fill.values)
        except ValidationError as error:
            rejected.append(row_issue(position, fill.source, str(error)))
            continue
        yield created
        if fill.is_exit:
            recorded += Decimal(repr(trade.pnl or 0.0))
        if created and fill.warning:
            warnings.append(row_issue(position, fill.source, fill.warning))
        if fill is last_exit and realized is not None and not math.isclose(recorded, realized):
            what = f"pnl: {recorded} is recorded, and freqtrade says {realized} now"
            warnings.append(row_issue(position, fill.source, what))


def _tables(source: peewee.SqliteDatabase, file: Path) -> dict[str, Any]:
    """Return the tables that are there, with the columns that this age of freqtrade has."""
    there = set(source.get_tables())
    columns = {
        name: [column.name for column in source.get_columns(name)] if name in there else []
        for name in NEEDED
        if name in there or name == "trades"
    }
    for name, names in columns.items():
        if missing := sorted(NEEDED[name] - set(names)):
            raise StorageError(
                f"{file}: is not a database of freqtrade: its table {name} has no "
                f"{', '.join(missing)}; check the path"
            )
    return {name: peewee.Table(name, names).bind(source) for name, names in columns.items()}


def _positions(tables: dict[str, Any]) -> Iterator[tuple[Row, list[Row]]]:
    """Yield freqtrade's trades with their orders, by their ids."""
    positions, orders = tables["trades"], tables.get("orders")
    last = -1
    while True:
        query = positions.select().where(positions.id > last).order_by(positions.id)
        some = [_named_as_today(row) for row in query.limit(POSITIONS_PER_READ).dicts()]
        if not some:
            return
        last = some[-1]["id"]
        of_trade: dict[int, list[Row]] = defaultdict(list)
        if orders is not None:
            mine = orders.ft_trade_id.in_([row["id"] for row in some])
            for order in orders.select().where(mine).order_by(orders.id).dicts():
                of_trade[order["ft_trade_id"]].append(order)
        yield from ((row, of_trade[row["id"]]) for row in some)


def _named_as_today(row: Row) -> Row:
    named = {RENAMED.get(name, name): value for name, value in row.items()}
    for rate in ("fee_open", "fee_close"):
        named.setdefault(rate, row.get("fee"))  # one for both, once
    return named


def _lost_orders(tables: dict[str, Any]) -> Iterator[RowIssue]:
    """Yield the orders that were filled for a trade that is not there."""
    positions, orders = tables["trades"], tables.get("orders")
    if orders is not None:
        lost = orders.ft_trade_id.is_null() | orders.ft_trade_id.not_in(
            positions.select(positions.id)
        )
        query = orders.select().where(lost & (orders.filled > 0)).order_by(orders.id)
        for order in query.dicts():
            what = f"order {order['order_id']}: its trade {order['ft_trade_id']} is not there"
            yield RowIssue(order["id"], what, order)
