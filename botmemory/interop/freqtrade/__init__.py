"""Import of the trades of freqtrade from its SQLite database, written by any version.

A trade of freqtrade is a position from its first entry to its last exit; each of its filled orders
is a trade here. freqtrade itself is not needed.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import peewee

from ..._arguments import checked_call, from_caller
from ...backends.sqlite.errors import translate_errors
from ...database import session_scope
from ...errors import StorageError, ValidationError
from ...exact import to_fraction
from ...repositories import cash_flows
from .._conflicts import OnConflict, check_on_conflict, record_fill
from .._result import ImportResult, Outcome, RowIssue
from ..foreign_database import private_copy, sqlite_file
from ._fills import Fill, Row, fills_of

__all__ = ["import_database"]

FROM_SERVER = (
    "copy the database into one with freqtrade itself, `freqtrade convert-db --db-url "
    "sqlite:///copy.sqlite --db-url-from URL`, and import copy.sqlite"
)
POSITIONS_PER_READ = 200
FILLS_PER_TRANSACTION = 500
REQUIRED_COLUMNS = {
    "trades": {"id", "exchange", "pair", "is_open", "open_rate", "amount", "open_date"},
    "orders": {"id", "ft_trade_id", "ft_order_side", "order_id", "filled", "price"},
    "trade_custom_data": {"id", "ft_trade_id", "cd_key", "cd_type", "cd_value"},
}
NEW_NAMES = {"buy_tag": "enter_tag", "sell_reason": "exit_reason", "ticker_interval": "timeframe"}


@checked_call
def import_database(
    path: str | os.PathLike[str],
    *,
    on_conflict: OnConflict = "report",
    progress: Callable[[int, int], object] | None = None,
) -> ImportResult:
    """Record the filled orders and the funding of a freqtrade database, each once.

    The file is copied first: the bot may run, and nothing is written in or beside the file. Orders
    that were cancelled after they were filled in part are recorded too. An entry or exit without an
    order is recorded from freqtrade's trade. Positions of an import that fails half-way stay
    recorded; repeat it to record the others.

    The last exit has the realized profit of freqtrade as `pnl`, in quote currency, after fees and
    funding, less what earlier imports recorded with other exits. `fee` is what the order paid in
    base currency; else freqtrade's rate times the cost, in quote currency. Funding is recorded as
    cash flows, with each order that freqtrade has booked it with. `enter_tag`, `exit_reason` and
    others are in `trade_metadata`, and with the last exit of a closed trade the lowest and the
    highest rate that freqtrade has seen meanwhile, and its custom data.

    So `net_realized_pnl` of a position, from the fills, their fees and the funding, is the profit
    of freqtrade; the guide "History" (`docs/history.md`) says where it is not.

    Args:
        path: The SQLite database of freqtrade; also as in freqtrade's `db_url`,
            `sqlite:///tradesv3.sqlite`.
        on_conflict: What to do with an order that is recorded with another side, price, quantity,
            time or fee: "report" lists it in `conflicts` and leaves the recorded one; "error"
            raises; "update" writes the new values; "keep_both" records it too, with `#2` after its
            id.
        progress: Called with the number of positions done and of all positions.

    Returns:
        The counts of trades, and of cash flows for the funding. `conflicts` has the orders that
        differ from the recorded ones. `rejected` has the orders that
        cannot be recorded: still open, or without an id, a side, a time or a price. `warnings` has
        those with a value that was derived, or that freqtrade has changed since. The index of an
        issue is the id of the row in freqtrade. `left_out` is the number of custom data that belong
        to no trade.

    Raises:
        ConfigError: The path is invalid, or the URL of a server.
        DuplicateError: An order is in conflict and `on_conflict` is "error".
        DatabaseBusyError: The file is written all the time, or another program held the write lock
            for longer than `busy_timeout`.
        StorageError: The file is no database of freqtrade, or cannot be read or copied.
    """
    check_on_conflict(on_conflict)
    file = sqlite_file(path, FROM_SERVER)
    report = from_caller(progress or (lambda done, total: None))
    outcome = Outcome()
    with translate_errors(file, "cannot be imported"), private_copy(file) as copy:
        source = peewee.SqliteDatabase(str(copy))
        try:
            positions, orders, custom_data = _tables(source, file)
            total, done = positions.select().count(), 0
            rows = _with_orders(positions, orders, custom_data)
            for batch in _batches(rows, outcome.rejected):
                with session_scope():
                    for fills in batch:
                        _record(fills, outcome, on_conflict)
                done += len(batch)
                report(done, total)
            outcome.rejected += _orders_without_trade(positions, orders)
            left_out = custom_data.select().where(_has_no_trade(custom_data, positions)).count()
        finally:
            source.close()
    return outcome.result(left_out)


def _batches(
    positions: Iterator[tuple[Row, list[Row]]], rejected: list[RowIssue]
) -> Iterator[list[list[Fill]]]:
    """Yield the fills of positions, as many as one transaction records."""
    batch: list[list[Fill]] = []
    for position, orders in positions:
        batch.append(fills_of(position, orders, rejected))
        if len(batch) >= POSITIONS_PER_READ or sum(map(len, batch)) >= FILLS_PER_TRANSACTION:
            yield batch
            batch = []
    if batch:
        yield batch


def _record(fills: list[Fill], outcome: Outcome, on_conflict: OnConflict) -> None:
    """Record the fills of a position and their funding."""
    recorded = Fraction(0)  # the profit that is recorded with exits so far
    for fill in fills:
        if fill.profit is not None:
            fill.values["pnl"] = float(fill.profit - recorded)
        try:
            source = fill.issue("")
            trade, is_new, conflict = record_fill(
                source.index, source.row, fill.values, on_conflict
            )
        except ValidationError as error:
            outcome.rejected.append(fill.issue(str(error)))
            continue
        if conflict is not None:
            outcome.conflicts.append(conflict)
        if conflict is None or is_new:
            outcome.counts[is_new] += 1
        if fill.is_exit:
            recorded += to_fraction(trade.pnl or 0.0)
        if is_new and fill.warning:
            outcome.warnings.append(fill.issue(fill.warning))
        if fill.profit is not None and not math.isclose(recorded, fill.profit):
            outcome.warnings.append(fill.changed_issue("pnl", recorded, fill.profit))
        if fill.funding:
            try:
                flow, is_new_flow = cash_flows.get_or_create(**fill.funding_values())
            except ValidationError as error:
                outcome.rejected.append(fill.issue(f"funding {float(fill.funding)}: {error}"))
                continue
            outcome.flow_counts[is_new_flow] += 1
            if not math.isclose(flow.amount, fill.funding):
                outcome.warnings.append(fill.changed_issue("funding", flow.amount, fill.funding))


def _tables(source: peewee.SqliteDatabase, file: Path) -> list[Any]:
    """Return the tables of a copy, with the columns of its version of freqtrade."""
    for name in ("orders", "trade_custom_data"):  # older versions do not have them
        sql = f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(REQUIRED_COLUMNS[name])})"
        source.execute_sql(sql)  # type: ignore[no-untyped-call]
    tables = []
    for name, required in REQUIRED_COLUMNS.items():
        names = [column.name for column in source.get_columns(name)]  # none if there is no table
        if missing := sorted(required - set(names)):
            raise StorageError(
                f"{file}: is not a database of freqtrade: its table {name} has no "
                f"{', '.join(missing)}; check the path"
            )
        tables.append(peewee.Table(name, names).bind(source))
    return tables


def _with_orders(positions: Any, orders: Any, custom_data: Any) -> Iterator[tuple[Row, list[Row]]]:
    """Yield the trades of freqtrade with their orders, in the order of ids.

    A trade that has custom data has them under the name of their table.
    """
    query = positions.select().order_by(positions.id).limit(POSITIONS_PER_READ).dicts()
    last_id = -1
    while rows := list(query.where(positions.id > last_id)):
        last_id = rows[-1]["id"]
        orders_of, custom_of = (_by_trade(table, rows) for table in (orders, custom_data))
        for row in rows:
            if custom := custom_of[row["id"]]:
                row["trade_custom_data"] = custom
            yield _with_new_names(row), orders_of[row["id"]]


def _by_trade(table: Any, positions: list[Row]) -> dict[int, list[Row]]:
    """Return the rows that belong to trades, by the id of the trade."""
    rows: dict[int, list[Row]] = defaultdict(list)
    condition = table.ft_trade_id.in_([position["id"] for position in positions])
    for row in table.select().where(condition).order_by(table.id).dicts():
        rows[row["ft_trade_id"]].append(row)
    return rows


def _with_new_names(row: Row) -> Row:
    """Return a row with the names that columns have in the newest version of freqtrade."""
    renamed = {NEW_NAMES.get(name, name): value for name, value in row.items()}
    for rate in ("fee_open", "fee_close"):
        renamed.setdefault(rate, row.get("fee"))  # the oldest version has one rate
    return renamed


def _orders_without_trade(positions: Any, orders: Any) -> Iterator[RowIssue]:
    """Yield the filled orders whose trade does not exist."""
    condition = _has_no_trade(orders, positions) & (orders.filled > 0)
    for order in orders.select().where(condition).order_by(orders.id).dicts():
        reason = f"order {order['order_id']}: its trade {order['ft_trade_id']} does not exist"
        yield RowIssue(order["id"], reason, order)


def _has_no_trade(table: Any, positions: Any) -> Any:
    has_trade = table.ft_trade_id.in_(positions.select(positions.id))
    return table.ft_trade_id.is_null() | ~has_trade
