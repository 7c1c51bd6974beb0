"""Fees in several currencies, of which a trade has a column for one."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from ..formats import number as format_number


def fee_in_one_column(
    sums: Mapping[str | None, Decimal], key: str
) -> tuple[float | None, str | None, str]:
    """Return the first fee that is not 0, its currency, and a warning if there are others.

    Args:
        sums: The fees by currency.
        key: Where in the metadata all of them are.
    """
    if not sums:
        return None, None, ""
    nonzero = [(currency, cost) for currency, cost in sums.items() if cost]
    (currency, cost), *others = nonzero or list(sums.items())[:1]
    if not others:
        return float(cost), currency, ""
    amounts = ", ".join(f"{format_number(float(cost))} {currency}" for currency, cost in others)
    warning = f"only the one in {currency} has a column; {amounts} is in trade_metadata.{key}"
    return float(cost), currency, f"fees: {warning}"
