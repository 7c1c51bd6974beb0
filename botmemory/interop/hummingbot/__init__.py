"""Import of the fills of hummingbot from its SQLite database, written by any version.

hummingbot itself is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import peewee
from peewee import JOIN, Case, Value, fn

from ..._arguments import checked_call, from_caller
from ..._values import refuse, to_text
from ...backends.sqlite.errors import translate_errors
from ...database import session_scope
from ...errors import StorageError, ValidationError, show
from ...repositories import cash_flows
from .._conflicts import OnConflict, check_on_conflict, record_fill
from .._ids import checked_names
from .._result import ImportResult, Outcome, RowIssue
from ..foreign_database import private_copy, sqlite_file
from ._rows import Row, fill_of, funding_of

__all__ = ["import_database"]

FROM_SERVER = (
    "copy hummingbot's tables TradeFill, Order and FundingPayment into one, and import that"
)
ROWS_PER_TRANSACTION = 500
REQUIRED_COLUMNS = {
    "TradeFill": {
        *("strategy", "config_file_path", "market", "symbol", "base_asset", "quote_asset"),
        *("timestamp", "order_id", "trade_type", "price", "amount"),
    },
    "Order": {"id"},
    "FundingPayment": {"timestamp", "config_file_path", "market", "symbol", "amount"},
}
ORDER_COLUMNS = ("exchange_order_id", "creation_timestamp")
# tables with what is no fill: changes of liquidity positions
OTHER_TABLES = ("RangePositionUpdate",)


@dataclass(kw_only=True)
class _Import(Outcome):
    """What is common to all rows of an import, and what became of them."""

    exchange_of: Callable[[str], str]
    strategy: str | None
    on_conflict: OnConflict
    strategies: dict[str, str] = field(default_factory=dict)  # by configuration file


@checked_call
def import_database(
    path: str | os.PathLike[str],
    *,
    strategy: str | None = None,
    exchanges: Mapping[str, str] | None = None,
    on_conflict: OnConflict = "report",
    progress: Callable[[int, int], object] | None = None,
) -> ImportResult:
    """Record the fills and the funding payments of a hummingbot database, each once.

    The file is copied first: the bot may run, and nothing is written in or beside the file. Rows of
    an import that fails half-way stay recorded; repeat it to record the others.

    A fill is identified by exchange, symbol and hummingbot's `exchange_trade_id`; where that is
    empty, by its order and time. Another fill with the same id in the file is recorded with `#2`
    after it, and in `warnings`. `BTC-USDT` is recorded as `BTC/USDT`, and of a perpetual contract
    as `BTC/USDT:USDT`. Funding is recorded as cash flows, which are identified by exchange, symbol,
    time and amount. Order, leverage, position, the fees as hummingbot has them and the
    configuration file are in `trade_metadata`.

    Args:
        path: The SQLite database of hummingbot, or its URL, `sqlite:///data/conf_1.sqlite`.
        strategy: The strategy of all rows; None for the one that hummingbot has stored.
        exchanges: Other names of exchanges by hummingbot's names of its markets, such as
            `{"gate_io": "gate"}`.
        on_conflict: What to do with a fill that is recorded with another side, price, quantity,
            time or fee: "report" lists it in `conflicts` and leaves the recorded one; "error"
            raises; "update" writes the new values; "keep_both" records it too, with `#2` after its
            id.
        progress: Called with the number of rows done and of all rows.

    Returns:
        The counts of trades, and of cash flows for the funding. `conflicts` has the fills that
        differ from the recorded ones. `rejected` has the rows that cannot be recorded. `warnings`
        has those with an id that is used twice, a fee that is only in the metadata or cannot be
        read, or a contract size that is not known. The index of an issue is the `rowid` of the row
        in its table. `left_out` is the number of orders without a fill, and of changes of liquidity
        positions.

    Raises:
        ConfigError: The path is invalid, or the URL of a server.
        ValidationError: An argument is invalid.
        DuplicateError: A fill is in conflict and `on_conflict` is "error".
        DatabaseBusyError: The file is written all the time, or another program held the write lock
            for longer than `busy_timeout`.
        StorageError: The file is no database of hummingbot, or cannot be read or copied.
    """
    check_on_conflict(on_conflict)
    file = sqlite_file(path, FROM_SERVER)
    names = {} if exchanges is None else exchanges
    if not isinstance(names, Mapping):
        refuse("exchanges", names, "is not a mapping of hummingbot's names to others")
    for name in ("hummingbot", *names.values()):  # before any row
        checked_names(to_text("exchanges", name), strategy)

    @cache
    def exchange_of(market: str) -> str:
        return checked_names(names.get(market, market), strategy)

    run = _Import(exchange_of=exchange_of, strategy=strategy, on_conflict=on_conflict)
    report = from_caller(progress or (lambda done, total: None))
    with translate_errors(file, "cannot be imported"), private_copy(file) as copy:
        source = peewee.SqliteDatabase(str(copy))
        try:
            fills, orders, funding = (_table(source, file, name) for name in REQUIRED_COLUMNS)
            run.strategies = _strategies(fills)
            total, done = fills.select().count() + funding.select().count(), 0
            for record, rows in (
                (partial(_record_fill, scaled=_scaled(source)), _fills(source, fills, orders)),
                (_record_funding, _rows(funding)),
            ):
                while batch := list(islice(rows, ROWS_PER_TRANSACTION)):
                    with session_scope():
                        for row in batch:
                            record(run, row)
                    done += len(batch)
                    report(done, total)
            left_out = _left_out(source, fills, orders)
        finally:
            source.close()
    return run.result(left_out)


def _record_fill(run: _Import, row: Row, scaled: AbstractSet[str]) -> None:
    own_id, number = row.pop("own_id"), row.pop("number")
    issue = partial(_issue, f"TradeFill {row['rowid']}, order {row['order_id']}", row)
    # several fills of one id in a file differ, or are one that was stored twice
    on_conflict = run.on_conflict if number == 1 else "keep_both"
    try:
        values, warnings = fill_of(row, own_id, scaled)
        values["exchange"] = run.exchange_of(str(row["market"]))
        values["strategy"] = run.strategy or row["strategy"] or None
        trade, is_new, conflict = record_fill(row["rowid"], row, values, on_conflict)
    except ValidationError as error:
        run.rejected.append(issue(str(error)))
        return
    if conflict is not None and number > 1:
        warnings.append(
            f"exchange_trade_id: another fill has {show(own_id)}, too; this one is recorded with "
            f"{show(trade.exchange_trade_id)}"
        )
    elif conflict is not None:
        run.conflicts.append(conflict)
    if conflict is None or is_new:
        run.counts[is_new] += 1
    if is_new:
        run.warnings += [issue(text) for text in warnings]


def _record_funding(run: _Import, row: Row) -> None:
    try:
        values = funding_of(row)
        values["exchange"] = run.exchange_of(str(row["market"]))
        values["strategy"] = run.strategy or run.strategies.get(row["config_file_path"])
        _, is_new = cash_flows.get_or_create(**values)
    except ValidationError as error:
        run.rejected.append(_issue(f"FundingPayment {row['rowid']}", row, str(error)))
        return
    run.flow_counts[is_new] += 1


def _issue(name: str, row: Row, reason: str) -> RowIssue:
    return RowIssue(row["rowid"], f"{name}: {reason}", row)


# --- the tables of hummingbot ---------------------------------------------------------------------


def _table(source: peewee.SqliteDatabase, file: Path, name: str) -> Any:
    """Return a table of a copy, with the columns of its version of hummingbot and the rowid."""
    required = REQUIRED_COLUMNS[name]
    if name != "TradeFill":  # older versions do not have them
        sql = f'CREATE TABLE IF NOT EXISTS "{name}" ({", ".join(required)})'
        source.execute_sql(sql)  # type: ignore[no-untyped-call]
    names = list(_types(source, name))  # none if there is no table
    if missing := sorted(required - set(names)):
        raise StorageError(
            f"{file}: is not a database of hummingbot: its table {name} has no "
            f"{', '.join(missing)}; check the path"
        )
    return peewee.Table(name, ["rowid", *names]).bind(source)


def _types(source: peewee.SqliteDatabase, name: str) -> dict[str, str]:
    """Return the types of the columns of a table as they are declared."""
    return {column.name: column.data_type.upper() for column in source.get_columns(name)}


def _scaled(source: peewee.SqliteDatabase) -> set[str]:
    """Return the columns whose numbers are stored as integers, times a million.

    The amounts are as the prices are: of a table that hummingbot has migrated, their type is FLOAT.
    """
    types = _types(source, "TradeFill")
    scaled = {name for name in ("price", "trade_fee_in_quote") if "INT" in types.get(name, "")}
    return scaled | {"amount"} if "price" in scaled else scaled


def _fills(source: peewee.SqliteDatabase, fills: Any, orders: Any) -> Iterator[Row]:
    """Yield the fills as they were stored, with columns of their orders.

    `own_id` is the id of the exchange, and `number` counts the fills with one id.
    """
    types = _types(source, "TradeFill")
    own_id: Any = Value("")  # the first versions have none
    if "exchange_trade_id" in types:
        own_id = fills.exchange_trade_id
    if "INT" in types["price"] and "INT" not in types["amount"]:
        # in 2022 hummingbot added the numbers of the rows to the ids that were there
        suffix = Value("_").concat(fills.rowid)
        length = fn.LENGTH(own_id) - fn.LENGTH(suffix)
        shorter = fn.SUBSTR(own_id, 1, length)
        own_id = Case(None, [(shorter.concat(suffix) == own_id, shorter)], own_id)
    same_id = [fills.market, fills.base_asset, fills.quote_asset, own_id]
    number = fn.ROW_NUMBER().over(partition_by=same_id, order_by=[fills.rowid])
    of_orders = set(_types(source, "Order")) - set(types)
    columns = [
        *(getattr(fills, name).alias(name) for name in ("rowid", *types)),
        *(getattr(orders, name) for name in ORDER_COLUMNS if name in of_orders),
        own_id.alias("own_id"),
        number.alias("number"),
    ]
    joined = fills.join(orders, JOIN.LEFT_OUTER, on=(orders.id == fills.order_id))
    query = fills.select(*columns).from_(joined).order_by(fills.rowid)
    return iter(query.dicts().iterator())


def _rows(table: Any) -> Iterator[Row]:
    return iter(table.select().order_by(table.rowid).dicts().iterator())


def _strategies(fills: Any) -> dict[str, str]:
    """Return the strategy of each configuration file that has one, for funding payments."""
    config, strategy = fills.config_file_path, fills.strategy
    query = fills.select(config, fn.MIN(strategy)).group_by(config)
    return dict(query.having(fn.COUNT(strategy.distinct()) == 1).tuples())


def _left_out(source: peewee.SqliteDatabase, fills: Any, orders: Any) -> int:
    """Return the number of rows that are no fills."""
    without_fill = orders.select().where(orders.id.not_in(fills.select(fills.order_id)))
    others = [peewee.Table(name).bind(source) for name in OTHER_TABLES if _types(source, name)]
    return sum(query.count() for query in (without_fill, *(table.select() for table in others)))
