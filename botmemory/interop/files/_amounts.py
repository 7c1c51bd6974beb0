"""Side, quantity, price and fee of a trade, from what files have in their place."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ... import exact
from ..._values import refuse
from ...errors import ValidationError
from ._layout import Layout

Row = dict[str, Any]
Numbers = dict[str, Decimal | None]

# what a column of a file of trades may be, besides a column of the table
NUMBERS = ("cost", "signed_quantity", "closed_quantity", "negative_fee", "sent", "received")
TEXTS = ("base", "quote", "sent_currency", "received_currency", "time_zone")
# which of two currencies is the quote currency: the first of these, and fiat before all of them
QUOTES = (
    "USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI", "USDE", "PYUSD", "UST", "USDP", "GUSD", "HUSD",
    "EURC", "EURT", "BTC", "XBT", "ETH", "BNB",
)  # fmt: skip
FIAT = frozenset(
    {
        "USD",
        "EUR",
        "GBP",
        "JPY",
        "CHF",
        "AUD",
        "CAD",
        "NZD",
        "SEK",
        "NOK",
        "DKK",
        "PLN",
        "CZK",
        "HUF",
        "RON",
        "TRY",
        "BRL",
        "MXN",
        "ARS",
        "COP",
        "CLP",
        "ZAR",
        "KRW",
        "INR",
        "IDR",
        "SGD",
        "HKD",
        "TWD",
        "THB",
        "PHP",
        "VND",
        "MYR",
        "CNY",
        "UAH",
        "RUB",
        "ILS",
        "AED",
        "SAR",
        "NGN",
        "KES",
    }
)


def complete(
    parts: Row, number: Numbers, metadata: Row, layout: Layout, map_name: str = "map"
) -> None:
    """Replace what stands for columns of a trade by these columns.

    Args:
        parts: What the file has, by the names of columns and of what stands for them.
        number: Those of them that are numbers.
        metadata: What is kept beside.
        layout: How the file is read, for messages.
        map_name: What the caller knows `map` of the layout by, for messages.

    Raises:
        ValidationError: They contradict each other.
    """
    _set_side(parts, number, layout, map_name)
    _set_amounts_of_two(parts, number)
    _set_price_and_fee(number, metadata)
    _set_currencies(parts)


def _set_side(parts: Row, number: Numbers, layout: Layout, map_name: str) -> None:
    """Set side and quantity of a row that says them by a sign."""
    closed = number.pop("closed_quantity", None)
    signed = number.pop("signed_quantity", None if closed is None else -closed)
    if signed is not None:
        side = "sell" if signed < 0 else "buy"
        given = parts.get("side")
        if isinstance(given, str) and given.lower() in ("buy", "sell") and signed < 0:
            if given.lower() != side:
                refuse("quantity", float(signed), f"is below 0, but the side is {given!r}")
        elif given is None:
            parts["side"] = side
        number["quantity"] = abs(signed)
    elif (quantity := number.get("quantity")) is not None and quantity < 0:
        column = next((name for name, is_ in layout.map.items() if is_ == "quantity"), "quantity")
        advice = f"if it is a sale then, pass {map_name}={{{column!r}: 'signed_quantity'}}"
        refuse("quantity", float(quantity), f"is below 0; {advice}")


def _set_amounts_of_two(parts: Row, number: Numbers) -> None:
    """Set side, currencies, quantity and cost of a row with what was sent and what was received."""
    sent, received = number.pop("sent", None), number.pop("received", None)
    if sent is None or received is None:
        return
    currencies = [parts.get("sent_currency"), parts.get("received_currency")]
    ranks = [_rank(currency) for currency in currencies]
    if ranks[0] == ranks[1]:
        raise ValidationError(
            f"symbol: {currencies[0]} was given for itself; leave the row out", field="symbol"
        )
    is_buy = ranks[0] < ranks[1]
    parts["side"] = "buy" if is_buy else "sell"
    parts["quote"], parts["base"] = currencies if is_buy else reversed(currencies)
    quantity, cost = (received, sent) if is_buy else (sent, received)
    number["quantity"], number["cost"] = abs(quantity), abs(cost)


def _set_currencies(parts: Row) -> None:
    """Set which currency the side says was sent, and which received."""
    side, base, quote = (parts.get(name) for name in ("side", "base", "quote"))
    if base and quote and isinstance(side, str) and side.lower() in ("buy", "sell"):
        pair = (quote, base) if side.lower() == "buy" else (base, quote)
        parts["sent_currency"], parts["received_currency"] = pair


def _rank(currency: object) -> tuple[int, list[int]]:
    """Return the place of a currency among those that are quote currencies, then from Z to A."""
    text = str(currency).upper()
    backwards = [-ord(character) for character in text]
    if text in FIAT:
        return 0, backwards
    return QUOTES.index(text) + 1 if text in QUOTES else len(QUOTES) + 1, backwards


def _set_price_and_fee(number: Numbers, metadata: Row) -> None:
    """Set price and fee from the cost and a fee that is negative."""
    if (fee := number.pop("negative_fee", None)) is not None:
        number["fee"] = -fee
    cost, quantity = number.pop("cost", None), number.get("quantity")
    if cost is None:
        return
    if number.get("price") is None and quantity:
        number["price"] = exact.DIVISION.divide(abs(cost), abs(quantity))
    else:
        metadata["cost"] = float(cost)
