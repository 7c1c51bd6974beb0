"""Import of the trades that `fetch_my_trades` of ccxt returns for any exchange.

ccxt itself is not needed: a trade is a mapping, described in its manual under "Trade structure".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
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
# keys without a column
METADATA_KEYS = ("order", "type", "takerOrMaker", "cost", "info")


@checked_call
def import_trades(
    unified_trades: Iterable[Mapping[str, Any]], *, exchange: str, strategy: str | None = None
) -> ImportResult:
    """Record the fills that ccxt returns, each once.

    A fill is identified by exchange, symbol and trade id. Call it after every reconnect, from any
    number of bots. Fills of a call that fails half-way stay recorded; repeat the call to record the
    others.

    The quantity is `amount`, which is a number of contracts for a derivative. `info`, the order and
    the cost are in `trade_metadata`. If fees are in several currencies, one is in `fee`, all are in
    the metadata, and the result has a warning.

    Args:
        unified_trades: The trades, such as `fetch_my_trades` returns them.
        exchange: The exchange of all of them, such as `exchange.id` of ccxt.
        strategy: The strategy of all of them.

    Returns:
        The counts. `rejected` has the fills without an id, side, time, price or amount.

    Raises:
        ValidationError: An argument is invalid.
        DatabaseBusyError: Another program held the write lock for longer than `busy_timeout`.
        StorageError: The database cannot be written.
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
    counts: Counter[bool] = Counter()  # the fills that are new, and the others
    rejected: list[RowIssue] = []
    warnings: list[RowIssue] = []
    numbered = enumerate(unified_trades)
    # read before the transaction begins: the exchange may be slow
    while batch := list(islice(numbered, FILLS_PER_TRANSACTION)):
        with session_scope():
            for index, row in batch:
                try:
                    values, warning = _values(row)
                    _, is_new = trades.get_or_create(exchange=exchange, strategy=strategy, **values)
                except ValidationError as error:
                    rejected.append(RowIssue(index, str(error), row))
                    continue
                counts[is_new] += 1
                if warning:
                    warnings.append(RowIssue(index, warning, row))
    return ImportResult(counts[True], counts[False], rejected, warnings, len(rejected))


def _values(row: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the arguments of `get_or_create` for a fill, and a warning or ""."""
    if not isinstance(row, Mapping):
        raise ValidationError(f"{show(row)} is not a trade of ccxt")
    trade_id = row.get("id")
    if trade_id in (None, ""):
        raise ValidationError(
            "id: missing, so that a second import could not recognise the fill; record it with "
            "trades.create()"
        )
    amount = _number(row, "amount")
    fee, currency, warning = _fee(row)
    metadata = {name: row[name] for name in METADATA_KEYS if row.get(name) is not None}
    if warning:
        metadata["fees"] = row.get("fees")
    return {
        "exchange_trade_id": plain_text(trade_id) if isinstance(trade_id, str) else str(trade_id),
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
    """Return the price, or cost / amount if it is missing."""
    if row.get("price") is None and row.get("cost") is not None and amount:
        return _number(row, "cost") / amount
    return _number(row, "price")


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    # ccxt returns numbers as text if its `number` is str
    if isinstance(value, (str, Real, Decimal)) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(value)
    raise ValidationError(f"{name}: {show(value)} is not a number")


def _timestamp(row: Mapping[str, Any]) -> datetime:
    """Return the time of a fill from `timestamp` in milliseconds, or from `datetime`."""
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


def _fee(row: Mapping[str, Any]) -> tuple[float | None, str | None, str]:
    """Return the fee, its currency, and a warning if there are several currencies.

    A rebate is below 0. A fee without a cost does not count.
    """
    sums: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    listed = row.get("fees") or [row.get("fee")]
    for fee in listed if isinstance(listed, (list, tuple)) else [listed]:
        if isinstance(fee, Mapping) and fee.get("cost") is not None:
            currency = fee.get("currency") or None
            if currency is not None:
                currency = to_text("fee_currency", currency)
            sums[currency] += Decimal(repr(_number(fee, "cost")))
    nonzero = {currency: cost for currency, cost in sums.items() if cost} or dict(sums)
    if not nonzero:
        return None, None, ""
    (currency, cost), *others = nonzero.items()
    if not others:
        return float(cost), currency, ""
    amounts = ", ".join(f"{cost.normalize():f} {currency}" for currency, cost in others)
    return (
        float(cost),
        currency,
        f"fees: only the one in {currency} has a column; {amounts} is in trade_metadata.fees",
    )
