"""Rows among the trades of ccxt that are no fills, by the exchange's own marker in `info`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ValidationError

FUNDING = (
    "a funding payment; record it with import_funding() from fetch_funding_history, or where ccxt "
    "has none of the exchange, with cash_flows.get_or_create()"
)
ORDER_EVENT = "an event of an order, in which nothing was filled"

# The marker's key, its values that are no fills, and what they are. All others change a position at
# a price: fills, liquidations, auto-deleveraging, block trades, moved positions, and the delivery
# or settlement that closes a position when its contract expires or is delisted.
NOT_FILLS = {
    "execType": {
        "Funding": FUNDING,  # Bybit, BitMEX
        "SessionSettlePnL": "the PnL of a session, which the fills have, too",  # Bybit
        "Insurance": "a payment of the insurance fund",  # BitMEX; the others are also its own
        "New": ORDER_EVENT,
        "Replaced": ORDER_EVENT,
        "Canceled": ORDER_EVENT,
        "Rejected": ORDER_EVENT,
        "Restated": ORDER_EVENT,
        "TriggeredOrActivatedBySystem": ORDER_EVENT,
    },
    "tradeType": {"Funding": FUNDING, "4": FUNDING},  # Phemex
}


def is_payment_of_bybit(row: object) -> bool:
    """Tell whether a row is a funding payment that `import_funding` reads as it is.

    Bybit has one list of executions: its funding has the same id here and there.
    """
    info = _info(row)
    return info.get("execType") == "Funding" and info.get("execFee") not in (None, "")


def require_fill(row: Mapping[str, Any]) -> None:
    """Refuse a row that the exchange itself does not call a fill."""
    info = _info(row)
    for key, kinds in NOT_FILLS.items():
        value = str(info.get(key))
        if value in kinds:
            raise ValidationError(f"not a fill: info.{key} is {value!r}, {kinds[value]}")


def _info(row: object) -> Mapping[str, Any]:
    info = row.get("info") if isinstance(row, Mapping) else None
    return info if isinstance(info, Mapping) else {}
