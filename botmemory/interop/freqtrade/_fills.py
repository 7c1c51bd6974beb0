"""The fills of a freqtrade position, its profit and its funding.

Columns have the names of the newest version of freqtrade. A row lacks the columns that its version
does not have.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, SupportsFloat

from ..._values import to_finite
from ...errors import ValidationError, show
from ...exact import to_fraction
from ...symbols import instrument_of
from .._result import RowIssue

# columns that are kept in the metadata: of the position, of entries, of exits, of the last exit,
# and of the order
POSITION_COLUMNS = ("enter_tag", "timeframe", "trading_mode", "is_short", "leverage")
ENTRY_COLUMNS = ("fee_open", "fee_open_cost", "fee_open_currency")
EXIT_COLUMNS = ("exit_reason", "close_profit", "fee_close", "fee_close_cost", "fee_close_currency")
RATE_COLUMNS = ("min_rate", "max_rate")  # with the last exit, because they change until then
ORDER_COLUMNS = (
    "order_id",
    "order_type",
    "order_date",
    "status",
    "stop_price",
    "funding_fee",
    "ft_order_side",
    "ft_order_tag",
    "ft_cancel_reason",
    "ft_fee_base",
)

Row = dict[str, Any]


@dataclass
class Fill:
    """A fill of a position, and `values`, the arguments of `get_or_create`."""

    position: Row
    order: Row  # empty if freqtrade has none
    trade_id: str
    side: str
    price: float | None
    quantity: float
    timestamp: datetime
    warning: str
    profit: Fraction | None = None  # the profit of the position, with its last exit

    def __post_init__(self) -> None:
        self.is_exit = self.side == _sides(self.position)[1]
        self.instrument = instrument_of(str(self.position["pair"]))
        self.values = self._values()
        self.funding = _fraction(self.order, "funding_fee")  # since the fill before

    def issue(self, reason: str) -> RowIssue:
        """Return the issue of the row that the fill comes from."""
        return row_issue(self.position, self.order or self.position, reason)

    def changed_issue(self, name: str, recorded: SupportsFloat, amount: Fraction) -> RowIssue:
        """Return the issue of an amount that freqtrade has changed after it was recorded."""
        amounts = f"{float(recorded)} is recorded, but it is {float(amount)}"
        return self.issue(f"{name}: {amounts} in freqtrade now")

    def funding_values(self) -> Row:
        """Return the arguments of `get_or_create` for the funding."""
        position = self.position
        return {
            "kind": "funding",
            "currency": position.get("stake_currency") or self.instrument.currency,
            "amount": float(self.funding),
            "timestamp": self.timestamp,
            # ids of orders repeat for other pairs
            "exchange_flow_id": f"{position['pair']}:{self.trade_id}",
            **{name: self.values[name] for name in ("exchange", "symbol", "strategy")},
            "metadata": {"trade_id": position["id"]},
        }

    def _values(self) -> Row:
        columns = POSITION_COLUMNS + (EXIT_COLUMNS if self.is_exit else ENTRY_COLUMNS)
        kept = {"trade_id": self.position["id"]}
        kept |= {name: self.position.get(name) for name in columns}
        kept |= {name: self.order.get(name) for name in ORDER_COLUMNS}
        fee, currency = self._fee()
        return {
            "exchange": str(self.position["exchange"]).lower(),  # as newer versions write it
            "exchange_trade_id": self.trade_id,
            "symbol": self.position["pair"],
            "side": self.side,
            "price": self.price,
            "quantity": self.quantity,
            "timestamp": self.timestamp,
            "strategy": self.position.get("strategy") or None,
            "fee": fee,
            "fee_currency": currency,
            "contract_size": 1.0 if self.instrument.is_derivative else None,  # amounts are coins
            "trade_metadata": {k: v for k, v in kept.items() if v not in (None, "")},
        }

    def _fee(self) -> tuple[float | None, str | None]:
        """Return the fee and its currency.

        It is what was taken in base currency, or else freqtrade's rate times the cost, in quote
        currency: freqtrade values the fees of all entries with one rate and those of all exits with
        one, and computes its profit with them. The amount and the currency that it keeps of one
        order are in the metadata.
        """
        position = self.position
        if base_fee := _number(self.order, "ft_fee_base"):
            return base_fee, position.get("base_currency") or self.instrument.base
        rate = _number(position, "fee_close" if self.is_exit else "fee_open")
        if rate is None:
            return None, None
        cost = to_fraction(self.price or 0.0) * to_fraction(self.quantity)
        currency = position.get("stake_currency") or self.instrument.quote
        return float(to_fraction(rate) * cost), currency


def row_issue(position: Row, source: Row, reason: str) -> RowIssue:
    """Return the issue of a row: an order of the position, or the position itself."""
    order = f", order {source['order_id']}" if "order_id" in source else ""
    return RowIssue(source["id"], f"trade {position['id']}{order}: {reason}", source)


def fills_of(position: Row, orders: list[Row], rejected: list[RowIssue]) -> list[Fill]:
    """Return the fills of a position in time order, with those that have no order.

    The last exit has the profit, and the funding that freqtrade has booked with no order. Orders
    that cannot be recorded are appended to `rejected`.
    """
    filled, ordered_sides, filled_sides = [], set(), set()
    for order in orders:
        try:
            quantity, side = _quantity(order), _side(position, order)
            ordered_sides.add(side)
            if quantity:
                filled_sides.add(side)
                _require_closed(order, side, quantity)
                filled.append((order, side, quantity))
        except ValidationError as error:
            rejected.append(row_issue(position, order, str(error)))
    fills = []
    for order, side, quantity in filled:
        try:
            fills.append(_fill_of_order(position, order, side, quantity))
        except ValidationError as error:
            rejected.append(row_issue(position, order, str(error)))
    entry_side, exit_side = _sides(position)
    for side in (entry_side, exit_side):
        has_no_order = side == entry_side and side not in ordered_sides
        try:
            if side not in filled_sides and (has_no_order or not position["is_open"]):
                fills.append(_fill_without_order(position, side))
        except ValidationError as error:
            rejected.append(row_issue(position, position, str(error)))
    fills.sort(key=lambda fill: fill.timestamp)
    exits = [fill for fill in fills if fill.is_exit]
    try:
        profit, more_funding = _realized_profit(position), _funding_without_order(position, fills)
        if exits:
            if not position["is_open"]:
                exits[-1].values["trade_metadata"] |= _final_metadata(position)
            exits[-1].profit = profit
            exits[-1].funding += more_funding
        elif profit:
            raise ValidationError(
                f"realized_profit: there is no exit to record {float(profit)} with"
            )
    except ValidationError as error:
        rejected.append(row_issue(position, position, str(error)))
    return fills


def _realized_profit(position: Row) -> Fraction | None:
    """Return the profit of a position so far, after fees and funding; None if there is none yet.

    Old versions of freqtrade do not store it: then it is computed as freqtrade computes
    `close_profit_abs`, (close_rate - open_rate) * amount - the fees of both.
    """
    if position["is_open"]:
        return _fraction(position, "realized_profit") or None
    stored = _number(position, "close_profit_abs")
    if stored is not None:
        return to_fraction(stored)
    names = ("amount", "open_rate", "close_rate")
    if None in [_number(position, name) for name in names]:
        return _fraction(position, "realized_profit") or None
    amount, open_rate, close_rate = (_fraction(position, name) for name in names)
    sign = -1 if position.get("is_short") else 1
    open_fee = open_rate * amount * _fraction(position, "fee_open")
    close_fee = close_rate * amount * _fraction(position, "fee_close")
    return sign * (close_rate - open_rate) * amount - (open_fee + close_fee)


def _funding_without_order(position: Row, fills: list[Fill]) -> Fraction:
    """Return the funding of a closed position that no fill has; in old versions that is all."""
    total, booked = _number(position, "funding_fees"), sum(fill.funding for fill in fills)
    if position["is_open"] or total is None or math.isclose(total, booked):
        return Fraction(0)
    return to_fraction(total) - booked


def _final_metadata(position: Row) -> Row:
    """Return what is known of a position once it is closed: its range and the strategy's data."""
    kept = {name: position.get(name) for name in RATE_COLUMNS}
    kept["custom_data"] = {
        row["cd_key"]: _custom_value(row["cd_type"], row["cd_value"])
        for row in position.get("trade_custom_data", ())
    }
    return {name: value for name, value in kept.items() if value}  # a rate of 0 was not seen


def _custom_value(kind: str, text: Any) -> Any:
    """Return a value of custom data; the text of it where it cannot be read."""
    if kind == "bool":
        return str(text).lower() == "true"
    read = {"int": int, "float": float, "str": str}.get(kind, json.loads)
    with suppress(TypeError, ValueError, RecursionError):
        return read(text)
    return text


# --- orders ---------------------------------------------------------------------------------------


def _quantity(order: Row) -> float | None:
    """Return the filled quantity; the whole amount of a closed order that does not store it."""
    filled = _number(order, "filled")
    if filled is None and order.get("status") == "closed":
        return _number(order, "amount")
    return filled


def _sides(position: Row) -> tuple[str, str]:
    """Return the side of the entries and that of the exits."""
    return ("sell", "buy") if position.get("is_short") else ("buy", "sell")


def _side(position: Row, order: Row) -> str:
    """Return buy or sell; "" for an invalid side."""
    if order["ft_order_side"] == "stoploss":
        return str(order.get("side") or _sides(position)[1]).lower()
    given = (order["ft_order_side"], order.get("side"))
    return next((side for side in given if side in ("buy", "sell")), "")


def _require_closed(order: Row, side: str, quantity: float) -> None:
    if not side:
        raise ValidationError(f"ft_order_side: {show(order['ft_order_side'])} is not a side")
    if order.get("ft_is_open") or order.get("status") == "open":
        raise ValidationError(
            f"filled: {quantity} so far, and the order is open; import again when it is closed"
        )


# --- fills ----------------------------------------------------------------------------------------


def _fill_of_order(position: Row, order: Row, side: str, quantity: float) -> Fill:
    """Return the fill of an order."""
    if order["order_id"] in (None, ""):
        raise ValidationError("order_id: missing, so that a second import could not recognise it")
    warnings = []
    price = _number(order, "average") or _number(order, "price")
    if not price:
        cost = _number(order, "cost")
        price = cost / quantity if cost else _number(order, "stop_price")
        warnings.append(f"price: missing; {price} is from the cost or the stop price of the order")
    timestamp = _timestamp(order, "order_filled_date")
    if timestamp is None:
        timestamp = _timestamp(order, "order_date")
        warnings.append("timestamp: order_filled_date is missing; it is order_date")
    if timestamp is None:
        raise ValidationError("order_filled_date: missing, as is order_date")
    trade_id, warning = f"order:{order['order_id']}", "; ".join(warnings)
    return Fill(position, order, trade_id, side, price, quantity, timestamp, warning)


def _fill_without_order(position: Row, side: str) -> Fill:
    is_exit = side == _sides(position)[1]
    name, kind = ("close", "exit") if is_exit else ("open", "entry")
    is_opening = position["is_open"] and position.get("close_rate_requested") is None
    if is_opening and (order_id := position.get("open_order_id")):  # in older versions
        raise ValidationError(
            f"open_order_id: the order {order_id} is not filled yet; import again when it is"
        )
    price, quantity = _number(position, f"{name}_rate"), _number(position, "amount")
    timestamp, opened = _timestamp(position, f"{name}_date"), _timestamp(position, "open_date")
    if not price or not quantity or timestamp is None or opened is None:
        raise ValidationError(
            f"its {kind} has no order, and the trade lacks a value: {name}_rate {price}, amount "
            f"{quantity}, {name}_date {show(position.get(f'{name}_date'))}"
        )
    # ids of trades repeat in other databases, so open_date is a part of the key
    trade_id = f"trade:{position['id']}:{opened.isoformat()}:{kind}"
    warning = ""
    if is_exit and position.get("close_profit_abs") is None:
        warning = "pnl: computed from rates and fees; freqtrade has not stored it"
    return Fill(position, {}, trade_id, side, price, quantity, timestamp, warning)


# --- values -------------------------------------------------------------------------------------


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return None if value is None else to_finite(name, value)


def _fraction(row: Row, name: str) -> Fraction:
    """Return a number as the decimal that it prints as; 0 if it is missing."""
    return to_fraction(_number(row, name) or 0.0)


def _timestamp(row: Row, name: str) -> datetime | None:
    """Return a timestamp in UTC, which freqtrade writes without a time zone."""
    text = row.get(name)
    if text is None:
        return None
    try:
        timestamp = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValidationError(f"{name}: {show(text)} is not a timestamp") from None
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
