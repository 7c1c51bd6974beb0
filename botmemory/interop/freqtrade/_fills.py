"""What the rows of freqtrade mean: the fills that a position was made of, and what they earned.

Columns are called as freqtrade calls them today. A column that an age of it does not have is
missing in its rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ..._values import to_finite
from ...errors import ValidationError, show
from .._result import RowIssue

__all__ = ["Fill", "fills_of", "realized_profit", "row_issue"]

# what goes to the metadata: of the position, of its entries, of its exits, and of the order
OF_ALL = ("enter_tag", "timeframe", "trading_mode", "is_short", "leverage")
OF_ENTRY = ("fee_open", "fee_open_cost", "fee_open_currency")
OF_EXIT = ("exit_reason", "close_profit", "fee_close", "fee_close_cost", "fee_close_currency")
OF_ORDER = (
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
    """The arguments of `get_or_create`, the row they come from, and what needs a look."""

    values: Row
    is_exit: bool
    source: Row
    warning: str = ""


def row_issue(position: Row, source: Row, what: str) -> RowIssue:
    """Return what is said of a row, an order's or the position's own."""
    order = f", order {source['order_id']}" if "order_id" in source else ""
    return RowIssue(source["id"], f"trade {position['id']}{order}: {what}", source)


def fills_of(position: Row, orders: list[Row], rejected: list[RowIssue]) -> list[Fill]:
    """Return the fills of a position in time order: its orders', and those that no order tells of.

    What cannot be one goes to `rejected`.
    """
    filled, asked, told = [], set(), set()  # the sides of orders, and of those that were filled
    for order in orders:
        try:
            quantity, side = _quantity(order), _side(position, order)
            asked.add(side)
            if quantity:
                told.add(side)
                _require_done(order, side, quantity)
                filled.append((order, side, quantity))
        except ValidationError as error:
            rejected.append(row_issue(position, order, str(error)))
    sides = [side for _, side, _ in filled]
    fills = []
    for order, side, quantity in filled:
        try:
            only = sides.count(side) == 1
            fills.append(_of_order(position, order, side, quantity, only=only))
        except ValidationError as error:
            rejected.append(row_issue(position, order, str(error)))
    for side in _sides(position):
        try:
            if side not in told and _happened(position, side, asked):
                fills.append(_of_position(position, side))
        except ValidationError as error:
            rejected.append(row_issue(position, position, str(error)))
    return sorted(fills, key=lambda fill: fill.values["timestamp"])


def realized_profit(position: Row) -> Decimal | None:
    """Return what a position has earned so far, after fees and funding; None if nothing yet.

    Where an old freqtrade has not kept it: what was received less what was paid, each with its
    fee, as freqtrade computes `close_profit_abs`.
    """
    if position["is_open"]:
        return _exact(_number(position, "realized_profit") or 0.0) or None
    kept = _number(position, "close_profit_abs")
    if kept is not None:
        return _exact(kept)
    numbers = [_number(position, name) for name in ("amount", "open_rate", "close_rate")]
    if None in numbers:
        return _exact(_number(position, "realized_profit") or 0.0) or None
    amount, opened_at, closed_at = (_exact(number or 0.0) for number in numbers)
    sign = -1 if position.get("is_short") else 1
    rates = (_exact(_number(position, name) or 0.0) for name in ("fee_open", "fee_close"))
    fees = sum(
        price * amount * rate for price, rate in zip((opened_at, closed_at), rates, strict=True)
    )
    return sign * (closed_at - opened_at) * amount - fees


# --- which fills there were ------------------------------------------------------------------


def _quantity(order: Row) -> float | None:
    """Return how much was filled; an order that is closed and does not say was filled whole."""
    filled = _number(order, "filled")
    if filled is None and order.get("status") == "closed":
        return _number(order, "amount")
    return filled


def _sides(position: Row) -> tuple[str, str]:
    """Return the side of the entries and that of the exits."""
    return ("sell", "buy") if position.get("is_short") else ("buy", "sell")


def _side(position: Row, order: Row) -> str:
    """Return buy or sell, and nothing for what is neither."""
    if order["ft_order_side"] == "stoploss":
        return str(order.get("side") or _sides(position)[1]).lower()
    return next(
        (s for s in (order["ft_order_side"], order.get("side")) if s in ("buy", "sell")), ""
    )


def _require_done(order: Row, side: str, quantity: float) -> None:
    if not side:
        raise ValidationError(f"ft_order_side: {show(order['ft_order_side'])} is not a side")
    if order.get("ft_is_open") or order.get("status") == "open":
        raise ValidationError(
            f"filled: {quantity} until now, and it is still open; import again when it is done"
        )


def _happened(position: Row, side: str, asked: set[str]) -> bool:
    """Return whether an entry or an exit of which no order tells did take place."""
    return not position["is_open"] or (side == _sides(position)[0] and side not in asked)


# --- a fill ------------------------------------------------------------------------------------


def _of_order(position: Row, order: Row, side: str, quantity: float, *, only: bool) -> Fill:
    if order["order_id"] in (None, ""):
        raise ValidationError("order_id: there is none, so the fill could not be told again")
    warnings = []
    price = _number(order, "average") or _number(order, "price")
    if not price:
        cost = _number(order, "cost")
        price = cost / quantity if cost else _number(order, "stop_price")
        warnings.append(f"price: the order has none; {price} is from its cost or stop price")
    timestamp = _timestamp(order, "order_filled_date")
    if timestamp is None:
        timestamp = _timestamp(order, "order_date")
        warnings.append("timestamp: when it was placed, for it does not say when it was filled")
    if timestamp is None:
        raise ValidationError("order_filled_date: the order has no time")
    known_by = f"order:{order['order_id']}"
    values = _values(position, order, known_by, side, price, quantity, timestamp, only=only)
    return Fill(values, side == _sides(position)[1], order, "; ".join(warnings))


def _of_position(position: Row, side: str) -> Fill:
    is_exit = side == _sides(position)[1]
    name, what = ("close", "exit") if is_exit else ("open", "entry")
    if waits := _waits(position):
        raise ValidationError(f"open_order_id: {waits} was not filled yet; import again when it is")
    price, quantity = _number(position, f"{name}_rate"), _number(position, "amount")
    timestamp, opened = _timestamp(position, f"{name}_date"), _timestamp(position, "open_date")
    if not price or not quantity or timestamp is None or opened is None:
        raise ValidationError(
            f"no order tells of its {what}, and neither does it: {name}_rate {price}, amount "
            f"{quantity}, {name}_date {show(position.get(f'{name}_date'))}"
        )
    # its number is counted up in every database: the timestamp tells them apart
    known_by = f"trade:{position['id']}:{opened.isoformat()}:{what}"
    values = _values(position, {}, known_by, side, price, quantity, timestamp, only=True)
    computed = is_exit and position.get("close_profit_abs") is None
    warning = "pnl: computed from rates and fees, for freqtrade has kept none" if computed else ""
    return Fill(values, is_exit, position, warning)


def _waits(position: Row) -> str | None:
    """Return the order that an older freqtrade waits for to open a position."""
    closing = not position["is_open"] or position.get("close_rate_requested") is not None
    return None if closing else position.get("open_order_id")


def _values(
    position: Row,
    order: Row,
    known_by: str,
    side: str,
    price: float | None,
    quantity: float,
    timestamp: datetime,
    *,
    only: bool,
) -> Row:
    is_exit = side == _sides(position)[1]
    cost = _exact(price or 0.0) * _exact(quantity)
    fee, currency = _fee(position, order, cost, is_exit=is_exit, only=only)
    metadata = {"trade_id": position["id"]}
    for row, names in (
        (position, OF_ALL + (OF_EXIT if is_exit else OF_ENTRY)),
        (order, OF_ORDER),
    ):
        metadata |= {name: row[name] for name in names if row.get(name) not in (None, "")}
    return {
        "exchange": str(position["exchange"]).lower(),  # as newer ones write it
        "exchange_trade_id": known_by,
        "symbol": position["pair"],
        "side": side,
        "price": price,
        "quantity": quantity,
        "timestamp": timestamp,
        "strategy": position.get("strategy") or None,
        "fee": fee,
        "fee_currency": currency,
        "trade_metadata": metadata,
    }


def _fee(
    position: Row, order: Row, cost: Decimal, *, is_exit: bool, only: bool
) -> tuple[float | None, str | None]:
    """Return the fee of a fill of this cost, and its currency.

    freqtrade keeps a rate for all entries and one for all exits, with which it computes profit, in
    quote currency. The amount beside them is that of one order, so it counts where there is only
    one. Once freqtrade has recalculated the trade, that amount is what the rate makes of the stake,
    in quote currency, whatever the currency beside it says.
    """
    base, _, rest = str(position["pair"]).partition("/")
    quote = position.get("stake_currency") or rest.partition(":")[0] or None
    if taken := _number(order, "ft_fee_base"):
        return taken, position.get("base_currency") or base
    side = "close" if is_exit else "open"
    rate, paid = _number(position, f"fee_{side}"), _number(position, f"fee_{side}_cost")
    by_rate = None if rate is None else float(_exact(rate) * cost)
    currency = position.get(f"fee_{side}_currency")
    if only and paid is not None and currency:
        leverage = _number(position, "leverage") or 1.0
        as_it_was = currency == quote and leverage == 1
        if as_it_was or not by_rate or not math.isclose(paid, by_rate / leverage, rel_tol=0.01):
            return paid, currency
    return by_rate, None if by_rate is None else quote


# --- values -------------------------------------------------------------------------------------


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return None if value is None else to_finite(name, value)


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


def _timestamp(row: Row, name: str) -> datetime | None:
    """Return a timestamp, which freqtrade writes in UTC and without saying so."""
    text = row.get(name)
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValidationError(f"{name}: {show(text)} is not a timestamp") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
