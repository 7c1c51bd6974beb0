"""Record and query cash flows: money that moved without a trade.

Funding and interest, rebates and fees that belong to no trade, deposits, withdrawals and payouts.
An amount is above 0 where money came in and below 0 where it went out, in its `currency`. Times are
in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Required, SupportsFloat, TypedDict, Unpack

from .._arguments import checked_call
from ..errors import DuplicateError, ValidationError
from ..exact import to_float
from ..models import CashFlow
from ..queries import read, sums, write

__all__ = [
    "CashFlowChanges",
    "NewCashFlow",
    "create",
    "create_many",
    "delete",
    "get_by_date_range",
    "get_by_id",
    "get_latest",
    "get_or_create",
    "get_total",
    "iterate",
    "update",
]


class CashFlowChanges(TypedDict, total=False):
    """The fields that `update` can write."""

    timestamp: datetime
    kind: str
    currency: str
    amount: SupportsFloat
    symbol: str | None
    strategy: str | None
    exchange: str | None
    exchange_flow_id: str | None
    metadata: Any


class NewCashFlow(TypedDict, total=False):
    """One row for `create_many`: the arguments of `create`."""

    kind: Required[str]
    currency: Required[str]
    amount: Required[SupportsFloat]
    timestamp: datetime | None
    symbol: str | None
    strategy: str | None
    exchange: str | None
    exchange_flow_id: str | None
    metadata: Any


@checked_call
def create(
    *,
    kind: str,
    currency: str,
    amount: SupportsFloat,
    timestamp: datetime | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
    exchange_flow_id: str | None = None,
    metadata: Any = None,
) -> CashFlow:
    """Record one cash flow and return it as it is stored.

    Args:
        kind: `"funding"`, `"interest"`, `"rebate"` (one that is paid apart from the trades),
            `"deposit"`, `"withdrawal"`, `"payout"`, `"fee"` (one that belongs to no trade),
            `"transfer"` or `"other"`.
        currency: The currency of the amount, 1 to 20 printable characters.
        amount: Above 0 what comes in, below 0 what goes out. It may be 0, as a funding payment is
            at a rate of 0.
        timestamp: The time of the cash flow; a naive datetime is taken as UTC; None for the current
            time.
        symbol: The symbol of the position that it was paid for.
        strategy: The name of the strategy.
        exchange: The name of the exchange; required with `exchange_flow_id`.
        exchange_flow_id: The id that the exchange gave to it, unique together with `exchange`.
        metadata: Any JSON value.

    Raises:
        ValidationError: A value is invalid; the message names the field.
        DuplicateError: A cash flow with the exchange's id already exists; `error.id` is its id.
        DatabaseBusyError: Another writer held the database for longer than `busy_timeout`.
        StorageError: The database cannot be written.
    """
    values = {
        "kind": kind,
        "currency": currency,
        "amount": amount,
        "timestamp": timestamp,
        "symbol": symbol,
        "strategy": strategy,
        "exchange": exchange,
        "exchange_flow_id": exchange_flow_id,
        "metadata": metadata,
    }
    return _insert(CashFlow, _prepare(CashFlow, values))


@checked_call
def create_many(rows: Iterable[NewCashFlow]) -> int:
    """Record many cash flows in one transaction, all or none.

    The first 5,000 rows of a generator are read before the transaction begins, the others while it
    is open; on SQLite all other writers wait meanwhile, and what the generator itself records is
    part of the transaction.

    Args:
        rows: Mappings with the arguments of `create`.

    Returns:
        The number of recorded rows.

    Raises:
        ValidationError: As for `create`, naming the row: `rows[2]: amount: ...`.
        DuplicateError: As for `create`, naming the row.
        DatabaseBusyError: As for `create`.
        StorageError: As for `create`.
    """
    return write.insert_many(CashFlow, rows, _prepare, _insert)


@checked_call
def get_or_create(
    *,
    exchange: str,
    exchange_flow_id: str,
    kind: str,
    currency: str,
    amount: SupportsFloat,
    timestamp: datetime | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    metadata: Any = None,
) -> tuple[CashFlow, bool]:
    """Record a cash flow unless one with its exchange id already exists.

    Any number of threads and processes may report the same one; it is recorded once. The arguments
    are those of `create`.

    Returns:
        The cash flow, and True where this call recorded it; or the existing one, unchanged, and
        False.

    Raises:
        ValidationError: As for `create`.
        DatabaseBusyError: As for `create`.
        StorageError: As for `create`.
    """
    write.required("exchange_flow_id", exchange_flow_id)
    values = _prepare(
        CashFlow,
        {
            "kind": kind,
            "currency": currency,
            "amount": amount,
            "timestamp": timestamp,
            "symbol": symbol,
            "strategy": strategy,
            "exchange": exchange,
            "exchange_flow_id": exchange_flow_id,
            "metadata": metadata,
        },
    )
    # first, because most of what an exchange reports again is known, and reading waits for nobody
    existing = read.find(CashFlow, _id_of_exchange(values))
    if existing is not None:
        return existing, False
    try:
        return write.insert_autoincrement(CashFlow, values), True
    except DuplicateError:  # another thread or process has recorded it meanwhile
        existing = read.find(CashFlow, _id_of_exchange(values))
        if existing is None:
            raise
        return existing, False


@checked_call
def get_by_id(id: int) -> CashFlow | None:
    """Return the cash flow with this id, or None.

    Raises:
        ValidationError: The id is not an int.
    """
    return read.get_by_id(CashFlow, id)


@checked_call
def get_latest(
    limit: int | None = 10,
    *,
    currency: str | None = None,
    kind: str | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
) -> list[CashFlow]:
    """Return the cash flows with the latest timestamps, newest first: by timestamp, then by id.

    Args:
        limit: The maximum number of rows; None for all.
        currency: Only the cash flows in this currency; None for every currency.
        kind: Only the cash flows of this kind; None for every kind.
        symbol: Only the cash flows of this symbol; "" for those without one; None for all.
        strategy: Only the cash flows of this strategy; "" for those without one; None for all.
        exchange: Only the cash flows of this exchange; "" for those without one; None for all.
    """
    filters = read.filters(
        CashFlow, symbol, strategy, exchange=exchange, currency=currency, kind=kind
    )
    return read.newest_first(CashFlow, filters, limit)


@checked_call
def get_by_date_range(
    start_date: datetime,
    end_date: datetime,
    *,
    currency: str | None = None,
    kind: str | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
) -> list[CashFlow]:
    """Return the cash flows of a time range, oldest first, both ends included.

    Args:
        start_date: The start, included; a naive datetime is taken as UTC.
        end_date: The end, included; a naive datetime is taken as UTC.
        currency: Only the cash flows in this currency; None for every currency.
        kind: Only the cash flows of this kind; None for every kind.
        symbol: Only the cash flows of this symbol; "" for those without one; None for all.
        strategy: Only the cash flows of this strategy; "" for those without one; None for all.
        exchange: Only the cash flows of this exchange; "" for those without one; None for all.

    Raises:
        ValidationError: `end_date` is before `start_date`.
    """
    write.required("start_date", start_date)
    write.required("end_date", end_date)
    filters = read.filters(
        CashFlow, symbol, strategy, start_date, end_date, exchange, currency=currency, kind=kind
    )
    return read.oldest_first(CashFlow, filters)


@checked_call
def iterate(
    *,
    currency: str | None = None,
    kind: str | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> Iterator[CashFlow]:
    """Yield cash flows in time order, in constant memory.

    No lock is held between two rows, so that the loop may record and may be slow. Cash flows
    recorded meanwhile with a later timestamp are yielded on SQLite; on PostgreSQL the result is one
    snapshot. An iterator that is made inside `session_scope()` must be finished inside it.

    Args:
        currency: Only the cash flows in this currency; None for every currency.
        kind: Only the cash flows of this kind; None for every kind.
        symbol: Only the cash flows of this symbol; "" for those without one; None for all.
        strategy: Only the cash flows of this strategy; "" for those without one; None for all.
        exchange: Only the cash flows of this exchange; "" for those without one; None for all.
        start_date: The start, included; a naive datetime is taken as UTC; None for no limit.
        end_date: The end, included; a naive datetime is taken as UTC; None for no limit.

    Raises:
        ValidationError: An argument is invalid. It is raised by the call, not by the loop.
        StorageError: The database cannot be read.
    """
    filters = read.filters(
        CashFlow, symbol, strategy, start_date, end_date, exchange, currency=currency, kind=kind
    )
    return read.stream(CashFlow, filters)


@checked_call
def get_total(
    currency: str,
    *,
    kind: str | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    exchange: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
) -> float:
    """Return the sum of the amounts in one currency, or 0.0: what came in less what went out.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Amounts are added as the decimals that they print as, and the sum is rounded once: 0.1 + 0.2 is
    0.3.

    Args:
        currency: The currency.
        kind: Only the cash flows of this kind; None for every kind.
        symbol: Only the cash flows of this symbol; "" for those without one; None for all.
        strategy: Only the cash flows of this strategy; "" for those without one; None for all.
        exchange: Only the cash flows of this exchange; "" for those without one; None for all.
        start_date: The start, included; a naive datetime is taken as UTC; None for no limit.
        end_date: The end, included; a naive datetime is taken as UTC; None for no limit.

    Raises:
        ValidationError: An argument is invalid, or the sum is too large for a float.
    """
    write.required("currency", currency)
    filters = read.filters(
        CashFlow, symbol, strategy, start_date, end_date, exchange, currency=currency, kind=kind
    )
    return to_float("amount", sums.total(CashFlow, "amount", filters))


@checked_call
def update(cash_flow: CashFlow, **changes: Unpack[CashFlowChanges]) -> CashFlow:
    """Write the given fields and those assigned on `cash_flow` since it was read, and return it.

    Other fields are not written: a stale copy does not revert the changes of others.

    Args:
        cash_flow: A recorded cash flow.
        changes: The fields to write; the id cannot be changed.

    Raises:
        ValidationError: A value is invalid, or there is no such field.
        NotFoundError: The cash flow is not in the database.
        DuplicateError: Another cash flow has the same exchange id.
    """
    return write.update(CashFlow, cash_flow, changes)


@checked_call
def delete(cash_flow: CashFlow) -> None:
    """Delete a cash flow.

    Raises:
        NotFoundError: The cash flow is not in the database.
    """
    write.delete(CashFlow, cash_flow)


def _prepare(model: type[CashFlow], values: Mapping[str, Any]) -> dict[str, Any]:
    row = write.prepare(model, values)
    if row["exchange_flow_id"] is not None and row["exchange"] is None:
        raise ValidationError(
            "exchange: an exchange_flow_id needs the exchange it comes from", field="exchange"
        )
    return row


def _insert(model: type[CashFlow], values: dict[str, Any]) -> CashFlow:
    try:
        return write.insert_autoincrement(model, values)
    except DuplicateError:
        if values["exchange_flow_id"] is None:
            raise
        existing = read.find_duplicate(CashFlow, _id_of_exchange(values))
        if existing is None:
            raise
        raise DuplicateError(
            f"{values['exchange']} cash flow {values['exchange_flow_id']} already exists, as cash "
            f"flow {existing.id}; get_or_create() returns it",
            id=existing.id,
        ) from None


def _id_of_exchange(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("exchange", "exchange_flow_id")}
