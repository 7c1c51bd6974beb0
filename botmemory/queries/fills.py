"""The ledgers of the recorded fills and funding, carried on while only newer fills come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import Any

from peewee import Case, fn

from ..backends.change_marker import ChangeMarker
from ..database import db
from ..ledger import Ledger
from ..models import BaseModel, CashFlow, Trade
from ..symbols import instrument_of
from . import read
from .compiled import compiled
from .write import require_open_database

KEY = ("symbol", "exchange", "strategy")
Key = tuple[str, str | None, str | None]  # the strategy if it is asked for

FILLS_PER_READ = 2000
# whether an entry of the cache was valid at its last use, by the id of the database and its key
_was_valid: dict[tuple[int, Any], bool] = {}
MAX_NEW_ROWS = 10_000  # to look through; of more, the fills are found by an index
LARGEST_ROW = 2**63 - 1  # after it, SQLite numbers new rows at random
MAX_CACHED = 1000  # entries for each connection
FILL_COLUMNS = 6  # at the beginning of a row; those of its key follow


@dataclass(frozen=True, slots=True)
class Ledgers:
    """The ledgers of the trades that some filters match.

    Attributes:
        by_key: The ledgers by symbol, exchange and strategy.
        version: The version of the database's change marker.
        newest_rows: The highest number of a row of trades, and of one of cash flows.
        last: Timestamp and id of the last fill, as the driver returns them.
        results: What the caller has computed from the ledgers.
    """

    by_key: dict[Key, Ledger]
    version: object = None
    newest_rows: tuple[int, int] | None = None
    last: tuple[Any, ...] = ()
    results: dict[Any, Any] = field(default_factory=dict)


def ledgers(filters: dict[str, Any], *, by_strategy: bool = False) -> Ledgers:
    """Return the ledgers of the trades that the filters match, in one snapshot.

    All trades are read, unless this connection has done so before and the database shows that
    nothing has happened since, or nothing but newer fills.
    """
    require_open_database(Trade)
    return read.with_own_keys(filters, partial(_ledgers, filters, by_strategy))


def _ledgers(filters: dict[str, Any], by_strategy: bool) -> Ledgers:
    cache_key = (by_strategy, *filters.items())
    if db.row_number is None:
        return _ledgers_of_server(filters, by_strategy, cache_key)
    marker = db.change_marker()
    current = None
    if marker is not None:
        cached = marker.cache.get(cache_key)
        if cached is not None and cached.version == marker.version:
            if cached.newest_rows == _newest_rows():
                return cached  # type: ignore[no-any-return]
            current = _carried_on(cached, filters, by_strategy)
            if not marker.is_unchanged(db.change_marker()):
                current = None
    if current is None:
        # before the rows: what a signal handler records meanwhile is newer, and not after the last
        newest_rows = None if marker is None else _newest_rows()
        current = _read_all(filters, by_strategy)
        if marker is None or not marker.is_committed or LARGEST_ROW in (newest_rows or ()):
            return current
        current = replace(
            current, version=marker.version, newest_rows=newest_rows, last=_last_fill(filters)
        )
        if not marker.is_unchanged(db.change_marker()):
            with db.read_snapshot():  # fills and funding in one snapshot
                return _read_all(filters, by_strategy)
    if marker is not None and marker.is_committed:
        if len(marker.cache) >= MAX_CACHED:
            marker.cache.clear()
        marker.cache[cache_key] = current
    return current


def _ledgers_of_server(
    filters: dict[str, Any], by_strategy: bool, cache_key: tuple[Any, ...]
) -> Ledgers:
    """Return the ledgers in one round trip, unless there are many rows."""
    # where nothing had changed at the last call, the marker alone is likely to do; a block, which
    # others wait for, reads few rows rather than to wait for another answer
    if _was_valid.get((id(db.obj), cache_key)) and not db.in_transaction():
        current = _cached(db.change_marker(), cache_key)
        if current is not None:
            return current
    names = _names_of_key(filters, by_strategy)
    queries = _first_fills(tuple(filters), tuple(names)), _first_flows(tuple(filters))
    statements = [(query.sql, query.bind(filters)) for query in queries]
    marker, (fills, flows) = db.fetch_with_marker(statements)
    if (current := _cached(marker, cache_key)) is not None:
        return current
    if max(len(fills), len(flows)) < FILLS_PER_READ:
        current = Ledgers(_add_fills({}, [fills] if fills else [], filters, names))
        _add_funding(current.by_key, [flows], filters, by_strategy)
    else:
        with db.read_snapshot():
            marker = db.change_marker()
            current = _read_all(filters, by_strategy)
    if marker is not None:
        if len(marker.cache) >= MAX_CACHED:
            marker.cache.clear()
        current = marker.cache[cache_key] = replace(current, version=marker.version)
        _was_valid.setdefault((id(db.obj), cache_key), True)
    return current


def _cached(marker: ChangeMarker | None, cache_key: tuple[Any, ...]) -> Ledgers | None:
    """Return ledgers that were read before if nothing has changed since, and remember whether."""
    current: Ledgers | None = None if marker is None else marker.cache.get(cache_key)
    if marker is None or current is None:
        return None
    if len(_was_valid) >= MAX_CACHED:
        _was_valid.clear()
    is_valid = _was_valid[id(db.obj), cache_key] = current.version == marker.version
    return current if is_valid else None


@compiled
def _first_fills(filters: tuple[str, ...], names: tuple[str, ...]) -> Any:
    return _fill_query(read.conditions(Trade, filters), filters, names).limit(FILLS_PER_READ)


@compiled
def _first_flows(filters: tuple[str, ...]) -> Any:
    return _flow_query(read.conditions(CashFlow, filters)).limit(FILLS_PER_READ)


def _read_all(filters: dict[str, Any], by_strategy: bool) -> Ledgers:
    names = _names_of_key(filters, by_strategy)
    rows = read.driver_rows(_fills(filters, names), FILLS_PER_READ)
    by_key = _add_fills({}, rows, filters, names)
    flows = read.driver_rows(_funding(filters), FILLS_PER_READ)
    _add_funding(by_key, flows, filters, by_strategy)
    return Ledgers(by_key)


def _carried_on(cached: Ledgers, filters: dict[str, Any], by_strategy: bool) -> Ledgers | None:
    """Return the ledgers with the rows added since; None if one of them is not a newer fill."""
    newest_rows = _newest_rows()
    if newest_rows is None or cached.newest_rows is None:
        return None
    (first, flows), (last, newest_flow) = cached.newest_rows, newest_rows
    if newest_flow != flows or last == LARGEST_ROW or not first <= last <= first + MAX_NEW_ROWS:
        return None
    # no filters: with an index for them all rows would be looked at
    row_number: Any = db.row_number
    key_fields = (getattr(Trade, name) for name in KEY)
    query: Any = Trade.select(*fill_columns(), *key_fields, Trade.id)
    batches = read.driver_rows(query.where(row_number > first), FILLS_PER_READ)
    wanted = {
        index: filters.get(name)
        for index, name in enumerate(KEY, FILL_COLUMNS)
        if name in filters or f"without_{name}" in filters
    }
    rows = [
        row
        for batch in batches
        for row in batch
        if all(row[index] == value for index, value in wanted.items())
    ]
    if not rows:
        return replace(cached, newest_rows=newest_rows)
    rows.sort(key=_place)
    if cached.last and _place(rows[0]) <= cached.last:
        return None
    names = _names_of_key(filters, by_strategy)
    columns = [*range(FILL_COLUMNS), *(FILL_COLUMNS + KEY.index(name) for name in names)]
    fills = [tuple(row[column] for column in columns) for row in rows]
    by_key = _add_fills(cached.by_key, [fills], filters, names)
    return Ledgers(by_key, cached.version, newest_rows, _place(rows[-1]))


def _place(row: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return timestamp and id of a row of `_carried_on`."""
    return row[0], row[-1]


def fill_columns() -> tuple[Any, ...]:
    """Return the columns of a `ledger.Fill`."""
    price, quantity = Trade.price, Trade.quantity
    change = Case(Trade.side, [("buy", quantity)], quantity * -1)
    return Trade.timestamp, change, price, Trade.fee, Trade.fee_currency, Trade.contract_size


def _fills(filters: dict[str, Any], names: list[str]) -> Any:
    """Return the query of fills with the named parts of their key."""
    return _fill_query(read.conditions(Trade, filters, filters), filters, names)


def _fill_query(conditions: list[Any], filters: Collection[str], names: Iterable[str]) -> Any:
    """Return the query of fills, of which those of one key are in the order in which they count."""
    query: Any = Trade.select(*fill_columns(), *(getattr(Trade, name) for name in names))
    if conditions:
        query = query.where(*conditions)
    order = (Trade.timestamp, Trade.id)
    return query.order_by(*order) if "symbol" in filters else query.order_by(Trade.symbol, *order)


def _names_of_key(filters: dict[str, Any], by_strategy: bool) -> list[str]:
    """Return the parts of a key that differ between the rows."""
    given = {name.removeprefix("without_") for name in filters}
    return [name for name in KEY if name not in given and (name != "strategy" or by_strategy)]


def _add_fills(
    known: dict[Key, Ledger],
    batches: Iterable[list[tuple[Any, ...]]],
    filters: dict[str, Any],
    names: list[str],
) -> dict[Key, Ledger]:
    """Return the ledgers with more fills; those of `known` are not changed."""
    by_key = known.copy()
    part_of = itemgetter(slice(FILL_COLUMNS, None))
    for batch in batches:
        parts: dict[Any, Any] = {part_of(batch[0]): batch}
        if names and len(set(map(part_of, batch))) > 1:
            parts = defaultdict(list)
            for row in batch:
                parts[part_of(row)].append(row)
        for part, rows in parts.items():
            values = filters | dict(zip(names, part, strict=True))
            key = (values["symbol"], values.get("exchange"), values.get("strategy"))
            ledger = by_key.get(key)
            if ledger is None:
                ledger = by_key[key] = Ledger(instrument_of(key[0]))
            elif ledger is known.get(key):
                ledger = by_key[key] = ledger.copy()
            ledger.add(rows)
    return by_key


def _funding(filters: dict[str, Any]) -> Any:
    return _flow_query(read.conditions(CashFlow, filters, filters))


def _flow_query(conditions: list[Any]) -> Any:
    """Return the query of the funding of positions."""
    fields: Any = (CashFlow.symbol, CashFlow.exchange, CashFlow.strategy)
    symbol, kind = CashFlow.symbol, CashFlow.kind
    query: Any = CashFlow.select(*fields, CashFlow.currency, CashFlow.amount)
    return query.where(kind == "funding", symbol > "", *conditions)


def _add_funding(
    by_key: dict[Key, Ledger],
    batches: Iterable[list[tuple[Any, ...]]],
    filters: dict[str, Any],
    by_strategy: bool,
) -> None:
    """Add the funding to the ledgers of its positions."""
    for rows in batches:
        for name, exchange, strategy, currency, amount in rows:
            key = (name, exchange, strategy if by_strategy or "strategy" in filters else None)
            if key not in by_key:
                by_key[key] = Ledger(instrument_of(name))
            by_key[key].add_funding(currency, amount)


def _newest_rows() -> tuple[int, int] | None:
    """Return the highest numbers of a trade and of a cash flow; None if rows have no number."""
    if db.row_number is None:
        return None
    numbers = [read.scalar(_highest_row_number(model), {}) or 0 for model in (Trade, CashFlow)]
    return numbers[0], numbers[1]


@compiled
def _highest_row_number(model: type[BaseModel]) -> Any:
    return model.select(fn.MAX(db.row_number))


def _last_fill(filters: dict[str, Any]) -> tuple[Any, ...]:
    """Return timestamp and id of the last fill, as the driver returns them; () without one."""
    query = _newest_fill(tuple(filters))
    rows: list[tuple[Any, ...]] = db.fetch_all(query.sql, query.bind(filters), list)
    return rows[0] if rows else ()


@compiled
def _newest_fill(names: tuple[str, ...]) -> Any:
    query: Any = Trade.select(Trade.timestamp, Trade.id)
    if conditions := read.conditions(Trade, names):
        query = query.where(*conditions)
    return query.order_by(Trade.timestamp.desc(), Trade.id.desc()).limit(1)
