"""The rows of hummingbot as the arguments of `get_or_create`: fills and funding payments.

A row lacks the columns that its version does not have.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from ... import exact
from ..._values import to_finite
from ...errors import ValidationError, show
from ...symbols import Instrument, instrument_of
from .._fees import fee_in_one_column
from .._ids import text_of_id

Row = dict[str, Any]

SCALE = Decimal(10**6)  # of numbers in a column of integers: hummingbot keeps 6 digits
METADATA_COLUMNS = (
    "order_id",
    "order_type",
    "leverage",
    "position",
    "config_file_path",
    "exchange_order_id",
    "creation_timestamp",
)
# Exchanges whose contracts in USD are settled in coins, and how much one unit of an amount of
# hummingbot is there, in USD; None where it is not known. Elsewhere it is 1 of the base currency.
UNITS_OF_INVERSE: Mapping[str, float | None] = {
    "bybit": 1.0,
    "okx": 1.0,
    "bitget": None,
    "bitmex": None,
    "kucoin": None,
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_MILLISECOND = 1e11  # smaller numbers are seconds, up to the year 5138


def fill_of(row: Row, own_id: object, scaled: AbstractSet[str]) -> tuple[Row, list[str]]:
    """Return the values of a fill but its exchange and its strategy, and warnings.

    Args:
        row: The row of hummingbot.
        own_id: The id that the exchange gave to it.
        scaled: The columns whose numbers are stored times a million.
    """
    side = str(row["trade_type"]).lower()
    if side not in ("buy", "sell"):
        raise ValidationError(f"trade_type: {show(row['trade_type'])} is neither BUY nor SELL")
    market = str(row["market"])
    is_derivative = "perpetual" in market or row.get("position") in ("OPEN", "CLOSE")
    base, quote = str(row["base_asset"] or ""), str(row["quote_asset"] or "")
    symbol, size, unknown_size = _symbol(market, base, quote, is_derivative=is_derivative)
    price, amount = (_positive(row, name, scaled) for name in ("price", "amount"))
    metadata = {name: row.get(name) for name in METADATA_COLUMNS}
    if row.get("trade_fee_in_quote"):  # 0 is also what hummingbot stores if it knows no rate
        metadata["trade_fee_in_quote"] = float(_number(row, "trade_fee_in_quote", scaled))
    metadata["trade_fee"], fees, problem = _fees(row, price, amount, instrument_of(symbol))
    fee, currency, warning = fee_in_one_column(fees, "trade_fee")
    values = {
        "exchange_trade_id": text_of_id("exchange_trade_id", own_id)
        or f"order:{row['order_id']}:{row['timestamp']}",
        "symbol": symbol,
        "side": side,
        "price": float(price),
        "quantity": float(amount),
        "timestamp": _time(row["timestamp"]),
        "fee": fee,
        "fee_currency": currency,
        "contract_size": size,
        "trade_metadata": {k: v for k, v in metadata.items() if v not in (None, "", "NIL")},
    }
    return values, [text for text in (unknown_size, problem, warning) if text]


def funding_of(row: Row) -> Row:
    """Return the values of a funding payment but its exchange and its strategy."""
    base, _, quote = str(row["symbol"] or "").rpartition("-")
    symbol, _, _ = _symbol(str(row["market"]), base, quote, is_derivative=True)
    amount = to_finite("amount", row["amount"])  # above 0: received
    metadata = {name: row.get(name) for name in ("rate", "config_file_path")}
    return {
        # the amount, because the bots of several accounts have payments of one time
        "exchange_flow_id": f"funding:{row['symbol']}:{row['timestamp']}:{amount:.17g}",
        "kind": "funding",
        "symbol": symbol,
        "currency": instrument_of(symbol).currency,
        "amount": amount,
        "timestamp": _time(row["timestamp"]),
        "metadata": {k: v for k, v in metadata.items() if v is not None},
    }


def _symbol(
    market: str, base: str, quote: str, *, is_derivative: bool
) -> tuple[str, float | None, str]:
    """Return the symbol of a pair, the contract size, and a warning or ""."""
    if not base or not quote:
        raise ValidationError(f"symbol: {show(f'{base}-{quote}')} is not a pair")
    if not is_derivative:
        return f"{base}/{quote}", None, ""
    exchange = market.partition("_perpetual")[0]
    if quote != "USD" or exchange not in UNITS_OF_INVERSE:
        return f"{base}/{quote}:{quote}", 1.0, ""
    symbol, size = f"{base}/{quote}:{base}", UNITS_OF_INVERSE[exchange]
    if size is not None:
        return symbol, size, ""
    problem = f"how much one unit of {symbol} is at {market} is not known, and it counts as 1 USD"
    return symbol, None, f"contract_size: {problem}; import the fills through ccxt"


def _number(row: Row, name: str, scaled: AbstractSet[str]) -> Decimal:
    number = exact.to_decimal(to_finite(name, row[name]))
    return exact.divide(number, SCALE) if name in scaled else number


def _positive(row: Row, name: str, scaled: AbstractSet[str]) -> Decimal:
    """Return a price or an amount."""
    number = _number(row, name, scaled)
    if number <= 0:
        raise ValidationError(
            f"{name}: {show(row[name])} is stored, as of one below 0.000001 or one that hummingbot "
            "did not know; import the fill through ccxt"
        )
    return number


def _time(value: object) -> datetime:
    """Return a timestamp in UTC; hummingbot stores milliseconds, and some funding in seconds."""
    number = to_finite("timestamp", value)
    try:
        return EPOCH + timedelta(
            milliseconds=number if number >= FIRST_MILLISECOND else number * 1000
        )
    except OverflowError:
        raise ValidationError(f"timestamp: {show(value)} is not in milliseconds") from None


def _fees(
    row: Row, price: Decimal, amount: Decimal, instrument: Instrument
) -> tuple[Any, dict[str | None, Decimal], str]:
    """Return the fees as hummingbot has them, their sums by currency, and a warning or "".

    A percentage is of the cost, in the currency of the PnL, whatever token it was paid with. Of a
    spot purchase it is of the amount, in base currency, where it is deducted from that.
    """
    sums: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    try:
        fee = _stored_fee(row)
        for token, flat in _flat_fees(fee.get("flat_fees") or ()):
            sums[token] = exact.add(sums[token], _decimal(flat))
        rate = _decimal(fee.get("percent") or 0)
        is_deducted = fee.get("fee_type") == "DeductedFromReturns" and row["trade_type"] == "BUY"
        in_base = is_deducted or fee.get("percent_token") == instrument.base
        currency, paid_from = instrument.currency, exact.multiply(price, amount)
        if instrument.is_inverse:
            paid_from = exact.divide(amount, price)
        elif in_base and not instrument.is_derivative:
            currency, paid_from = instrument.base, amount
        sums[currency] = exact.add(sums[currency], exact.multiply(paid_from, rate))
    except (AttributeError, KeyError, TypeError, ValueError, InvalidOperation):
        stored = row.get("trade_fee")
        return stored, {}, f"trade_fee: {show(stored)} cannot be read, so that no fee is recorded"
    return fee, sums, ""


def _stored_fee(row: Row) -> Any:
    """Return the fee as newer versions store it."""
    if "trade_fee_percent" in row:  # of the first versions
        flat = {"token": row["trade_fee_asset"], "amount": row["trade_fee_flat_fee"] or 0}
        return {"percent": row["trade_fee_percent"], "flat_fees": [flat] if flat["token"] else []}
    fee = row.get("trade_fee")
    return json.loads(fee) if isinstance(fee, str) else fee


def _flat_fees(flat_fees: Any) -> Iterator[tuple[str, Any]]:
    """Yield the token and the amount of each flat fee."""
    for each in flat_fees.items() if isinstance(flat_fees, Mapping) else flat_fees:
        if isinstance(each, Mapping):
            token, amount = each["token" if "token" in each else "asset"], each["amount"]
        else:
            token, amount = each
        yield str(token), amount


def _decimal(number: Any) -> Decimal:
    """Return a number that is stored as text or as a number of JSON."""
    decimal = Decimal(str(number))
    if not decimal.is_finite():
        raise ValueError(number)
    return decimal
