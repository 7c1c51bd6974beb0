"""A row that is recorded already, with other content: how it is found, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Literal, NamedTuple, get_args

from .._values import refuse
from ..backends.peewee_internals import values_of
from ..errors import DuplicateError, show
from ..models import Trade, clean_field
from ..queries import read
from ..repositories import trades
from ._result import Conflict

OnConflict = Literal["report", "error", "update", "keep_both"]

Changes = dict[str, tuple[Any, Any]]  # the recorded and the new value, by the names of the fields

# what an exchange says of a fill; strategy, PnL and metadata may be the user's own
CONTENT_OF_FILLS = ("side", "price", "quantity", "timestamp", "fee", "fee_currency")
DONE = {
    "report": "this row was not recorded",
    "update": "the recorded row was updated",
    "keep_both": "both are kept",
}


class Outcome(NamedTuple):
    """What became of a fill: the trade, whether it is new, and the conflict that it was in."""

    trade: Trade
    is_new: bool
    conflict: Conflict | None = None


def check_on_conflict(on_conflict: object) -> None:
    """Refuse what is not one of the words of `OnConflict`."""
    if on_conflict not in get_args(OnConflict):
        words = ", ".join(map(repr, get_args(OnConflict)))
        refuse("on_conflict", on_conflict, f"is not one of {words}")


def differences(existing: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Return the recorded and the new value of each field in which a new row differs."""
    return {name: (existing[name], value) for name, value in new.items() if existing[name] != value}


def conflict(
    index: int,
    identity: str,
    row: Any,
    recorded: Mapping[str, Any],
    changes: Changes,
    on_conflict: OnConflict,
) -> Conflict:
    """Return a conflict for the result; `identity` says what both rows have in common.

    Raises:
        DuplicateError: `on_conflict` is "error".
    """
    values = ", ".join(
        f"{name} is {_text(old)}, and {_text(new)} in this row"
        for name, (old, new) in changes.items()
    )
    reason = f"{identity} is recorded already: its {values}"
    if on_conflict == "error":
        raise DuplicateError(
            f"{reason}; with on_conflict='report', 'update' or 'keep_both' the import goes on",
            id=recorded.get("id"),
        )
    return Conflict(index, f"{reason}; {DONE[on_conflict]}", row, dict(recorded))


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".")
    return show(value.value if isinstance(value, Enum) else value)


def alternative(exchange_id: str, number: int) -> str:
    """Return the id under which another row with this id is kept."""
    return f"{exchange_id}#{number}"


def record_fill(index: int, row: Any, values: dict[str, Any], on_conflict: OnConflict) -> Outcome:
    """Record a fill unless it is recorded, and compare it with the one that is.

    Args:
        index: The index of the row in the result.
        row: The row as it was read.
        values: The arguments of `trades.get_or_create`. None says nothing of what is recorded.
        on_conflict: What to do where the recorded fill differs.

    Raises:
        ValidationError: A value is invalid.
        DuplicateError: It differs, and `on_conflict` is "error".
    """
    trade, is_new = trades.get_or_create(**values)
    if is_new or not (changes := _changes(trade, values)):
        return Outcome(trade, is_new)
    exchange_id = str(trade.exchange_trade_id)
    fill: dict[str, Any] = {"exchange": trade.exchange, "symbol": trade.symbol}
    other = {"exchange_trade_id": alternative(exchange_id, number := 2)}
    while (kept := read.find(Trade, fill | other)) is not None:
        if not _changes(kept, values):
            return Outcome(kept, is_new=False)
        other = {"exchange_trade_id": alternative(exchange_id, number := number + 1)}
    identity = f"exchange_trade_id {show(exchange_id)} of {trade.symbol} at {trade.exchange}"
    found = conflict(index, identity, row, values_of(trade), changes, on_conflict)
    if on_conflict == "update":
        trades.update(trade, **{name: new for name, (_, new) in changes.items()})
    elif on_conflict == "keep_both":
        beside: dict[str, Any] = values | other
        trade, is_new = trades.get_or_create(**beside)
    return Outcome(trade, is_new, found)


def _changes(trade: Trade, values: Mapping[str, Any]) -> Changes:
    fields = Trade._meta.fields
    new = {
        name: clean_field(fields[name], values[name])
        for name in CONTENT_OF_FILLS
        if values.get(name) is not None
    }
    return differences(values_of(trade), new)
