"""Sums of closed trades for each group: added up by the database where it can, else read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

from peewee import SQL, Case, fn

from .. import exact
from ..models import OrderSide, Trade
from ..queries import read
from ..queries.sums import fetch_sums, parse_sum, whole_sum
from ..queries.trips import FIRST_OTHER, Row, Trip, read_trips, timestamp_of
from .dimensions import (
    TIME,
    Grouping,
    Place,
    direction_of,
    has_array_under,
    places_of,
    values_under,
)
from .results import Sums
from .selection import Selection, trades_of

Groups = dict[tuple[Place, ...], Sums]

PNL, METADATA = FIRST_OTHER, FIRST_OTHER + 1


def groups_of_trades(grouping: Grouping, selection: Selection) -> Groups:
    """Return the sums of trades for each group."""
    groups = None if grouping.key else _groups_in_database(grouping, selection)
    if groups is not None:
        return groups
    groups = defaultdict(Sums)
    fields = ("pnl", "fee", "fee_currency", "side", *grouping.fields)
    for timestamp, _, pnl, fee, currency, side, *values in trades_of(selection, *fields):
        if grouping.key:
            all_places = places_of(values_under(values[0], grouping.key))
        else:
            named = dict(zip(grouping.fields, values, strict=True))
            named |= {TIME: timestamp, "direction": direction_of(side, pnl)}
            all_places = {grouping.place(named)}
        for places in all_places:
            groups[places].add_trade(pnl, fee, currency)
    return groups


def _groups_in_database(grouping: Grouping, selection: Selection) -> Groups | None:
    """Return the sums of trades for each group; None if the trades must be read."""
    pnl, fee = Trade.pnl, Trade.fee
    keys = [column.alias(f"key{n}") for n, column in enumerate(grouping.expressions())]
    columns = (
        fn.COUNT(SQL("*")),
        fn.COUNT(pnl),
        fn.COUNT(Case(None, [(pnl > 0, 1)])),
        fn.COUNT(Case(None, [(pnl < 0, 1)])),
        fn.MAX(pnl),
        fn.MIN(pnl),
        whole_sum(pnl, unless=pnl <= 0),
        whole_sum(pnl, unless=pnl >= 0),
    )
    conditions = selection.conditions()
    query = read.select(Trade, conditions, *keys, *columns).group_by(*keys)
    rows = fetch_sums(query.tuples())
    has_fee = [*conditions, fee.is_null(False)]
    query = read.select(Trade, has_fee, *keys, Trade.fee_currency, whole_sum(fee))
    fee_rows = fetch_sums(query.group_by(*keys, Trade.fee_currency).tuples())
    if rows is None or fee_rows is None:
        return None
    groups: Groups = defaultdict(Sums)
    for row in rows:
        places = grouping.place_in_database(row[: len(keys)])
        trades, closed, wins, losses, best, worst, profit_text, loss_text = row[len(keys) :]
        profit, loss = parse_sum(profit_text), parse_sum(loss_text)
        if places is None or profit is None or loss is None:
            return None
        best, worst = (None if pnl is None else exact.to_decimal(pnl) for pnl in (best, worst))
        sums = Sums(trades, closed, closed, wins, losses, best, worst, profit, loss)
        groups[places].merge(sums)
    for *values, currency, fee_text in fee_rows:
        places, total = grouping.place_in_database(values), parse_sum(fee_text)
        if places is None or total is None:
            return None
        groups[places].add_fee(total, currency)
    return groups


class _Notes:
    """What a group of round trips takes from their fills."""

    def __init__(self) -> None:
        self.with_pnl = 0
        self.places: set[tuple[Place, ...]] = set()
        self._has_elements = False

    def add(self, rows: list[Row], key: str | None) -> None:
        field: Any = Trade.trade_metadata
        for row in rows:
            self.with_pnl += row[PNL] is not None
            if key is not None and row[METADATA] is not None:
                metadata = field.python_value(row[METADATA])
                if places := places_of(values_under(metadata, key)):
                    self._add_places(places, are_elements=has_array_under(metadata, key))

    def _add_places(self, places: set[tuple[Place, ...]], *, are_elements: bool) -> None:
        """Take the value of a later fill, or add its elements to those so far."""
        if are_elements and self._has_elements:
            self.places |= places
        else:
            self.places = places
        self._has_elements = are_elements


def _note(key: str | None, notes: _Notes | None, rows: list[Row]) -> _Notes:
    notes = notes or _Notes()
    notes.add(rows, key)
    return notes


def groups_of_round_trips(
    grouping: Grouping, selection: Selection, rates: Mapping[str, float]
) -> Groups:
    """Return the sums of round trips for each group."""
    groups: Groups = defaultdict(Sums)
    others = ("pnl", "trade_metadata") if grouping.key else ("pnl",)
    filters, symbols = selection.filters, selection.symbols
    for trip in read_trips(filters, symbols, *others, note=partial(_note, grouping.key)):
        result = trip.result(rates)
        notes = trip.notes
        all_places = notes.places if grouping.key else {grouping.place(_dimensions_of(trip))}
        for places in all_places:
            sums = groups[places]
            sums.trades += trip.fills
            sums.with_pnl += notes.with_pnl
            sums.add_round_trip(trip, result)
    return groups


def _dimensions_of(trip: Trip) -> dict[str, Any]:
    symbol, exchange, strategy = trip.key
    return {
        "symbol": symbol,
        "exchange": exchange,
        "strategy": strategy,
        "direction": "long" if trip.is_long else "short",
        "side": OrderSide.BUY if trip.is_long else OrderSide.SELL,
        TIME: timestamp_of(trip.last),
    }
