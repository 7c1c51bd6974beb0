"""Trades as ccxt gives them: what `fetch_my_trades` of any exchange returns.

ccxt itself is not needed: its unified trade is a mapping, described in its manual under "Trade
structure".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from numbers import Real
from typing import Any

from .._arguments import checked_call
from .._values import plain_text, to_text
from ..database import session_scope
from ..errors import ValidationError, show
from ..models import Trade
from ..repositories import trades
from ._result import ImportResult, RowIssue

__all__ = ["import_trades"]

FILLS_PER_TRANSACTION = 500
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# what a trade has no column for
KEPT = ("order", "type", "takerOrMaker", "cost", "info")


@checked_call
def import_trades(
    unified_trades: Iterable[Mapping[str, Any]], *, exchange: str, strategy: str | None = None
) -> ImportResult:
    """Record the fills that ccxt returns, each of them once; return what became of them.

    A fill is known by exchange, symbol and trade id, so the call may be repeated after every
    reconnect, also by two bots at once. `quantity` is ccxt's `amount`, which counts contracts where
    the symbol is a derivative; fees keep their currency; the exchange's own message (`info`), the
    order and the cost are in `trade_metadata`. A fill that cannot be recorded (without an id, a
    side, a time, a price or an amount) is in `rejected` with its reason; one whose fees are in
    several currencies is in `warnings`, with all of them in its metadata. Raises `ValidationError`
    for arguments that fit no fill, `DatabaseBusyError` and `StorageError`; what was recorded until
    then stays, and repeating the call goes on.
    """
    if isinstance(unified_trades, (str, bytes, Mapping)) or not isinstance(
        unified_trades, Iterable
    ):
        raise ValidationError(
            f"unified_trades: {show(unified_trades)} is not a list of trades",
            field="unified_trades",
        )
    for name, value in (("exchange", exchange), ("strategy", strategy)):
        if value is not None or name == "exchange":
            getattr(Trade, name).clean(value)
    counts = {True: 0, False: 0}
    rejected: list[RowIssue] = []
    warnings: list[RowIssue] = []
    numbered = enumerate(unified_trades)
    # the rows come first: an exchange that is slow must not hold a transaction open
    while some := list(islice(numbered, FILLS_PER_TRANSACTION)):
        with session_scope():
            for index, row in some:
                try:
                    values, warning = _values(row)
                    _, created = trades.get_or_create(
                        exchange=exchange, strategy=strategy, **values
                    )
                except ValidationError as error:
                    rejected.append(RowIssue(index, str(error), row))
                    continue
                counts[created] += 1
                if warning:
                    warnings.append(RowIssue(index, warning, row))
    return ImportResult(counts[True], counts[False], rejected, warnings, len(rejected))


def _values(row: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the arguments of `get_or_create` for a fill, and what needs a look."""
    if not isinstance(row, Mapping):
        raise ValidationError(f"{show(row)} is not a trade of ccxt")
    known_by = row.get("id")
    if known_by in (None, ""):
        raise ValidationError("id: the exchange names none, so the fill could not be told again")
    amount = _number(row, "amount")
    fee, currency, warning = _fee(list(_fees(row)))
    metadata = {name: row[name] for name in KEPT if row.get(name) is not None}
    if warning:
        metadata["fees"] = row.get("fees")
    return {
        "exchange_trade_id": plain_text(known_by) if isinstance(known_by, str) else str(known_by),
        "symbol": row.get("symbol"),
        "side": row.get("side"),
        "price": _price(row, amount),
        "quantity": amount,
        "timestamp": _timestamp(row),
        "fee": fee,
        "fee_currency": currency,
        "trade_metadata": metadata,
    }, warning


def _price(row: Mapping[str, Any], amount: float) -> float:
    """Return the price, which follows from the cost where an exchange leaves it out."""
    if row.get("price") is None and row.get("cost") is not None and amount:
        return _number(row, "cost") / amount
    return _number(row, "price")


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    if isinstance(value, str):  # ccxt gives texts where it is told to
        try:
            return float(value)
        except ValueError:
            pass
    if not isinstance(value, (Real, Decimal)) or isinstance(value, bool):
        raise ValidationError(f"{name}: {show(value)} is not a number")
    return float(value)


def _timestamp(row: Mapping[str, Any]) -> datetime:
    """Return the time of a fill, exact to the millisecond, from `timestamp` or from `datetime`."""
    milliseconds, text = row.get("timestamp"), row.get("datetime")
    try:
        if milliseconds is not None:
            return EPOCH + timedelta(milliseconds=milliseconds)
        if text:
            return datetime.fromisoformat(text)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValidationError(
        f"timestamp: neither {show(milliseconds)} nor datetime {show(text)} is a time"
    )


def _fees(row: Mapping[str, Any]) -> Iterator[tuple[str | None, Decimal]]:
    """Yield the currency and the cost of each fee that has a cost; below 0 it is a rebate."""
    listed = row.get("fees") or [row.get("fee")]
    for fee in listed if isinstance(listed, (list, tuple)) else [listed]:
        if isinstance(fee, Mapping) and fee.get("cost") is not None:
            currency = fee.get("currency") or None
            if currency is not None:
                currency = to_text("fee_currency", currency)
            yield currency, Decimal(repr(_number(fee, "cost")))


def _fee(fees: list[tuple[str | None, Decimal]]) -> tuple[float | None, str | None, str]:
    """Return the fee, its currency, and what is to be said where there are several of them."""
    sums: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    for currency, cost in fees:
        sums[currency] += cost
    paid = {currency: cost for currency, cost in sums.items() if cost} or dict(sums)
    if not paid:
        return None, None, ""
    (currency, cost), *others = paid.items()
    if not others:
        return float(cost), currency, ""
    left = ", ".join(f"{cost.normalize():f} {currency}" for currency, cost in others)
    return (
        float(cost),
        currency,
        f"fees: only the one in {currency} has a column; {left} is in the metadata",
    )
