"""Print what beancount says of fills, as JSON; run it where beancount is installed.

Its loader knows the booking method AVERAGE, and answers that it is not supported. So an inventory
is used, whose lots `average()` makes one after every purchase, and a sale is one of that lot.
"""

from __future__ import annotations

import datetime
import json
import sys
from decimal import Decimal
from typing import Any

from beancount.core import convert
from beancount.core.amount import Amount
from beancount.core.data import Price, new_metadata
from beancount.core.inventory import Inventory
from beancount.core.position import Cost, Position
from beancount.core.prices import build_price_map

DAY = datetime.date(2024, 1, 1)


class Account:
    """An inventory of one commodity, and what its sales have gained."""

    def __init__(self, symbol: str) -> None:
        self.base, self.quote = symbol.split("/")
        self.inventory = Inventory()
        self.gains = Decimal(0)

    def units(self) -> Decimal:
        number: Decimal = self.inventory.get_currency_units(self.base).number
        return number

    def in_quote(self, reduced: Inventory) -> Decimal:
        number: Decimal = reduced.get_currency_units(self.quote).number
        return number

    def cost(self) -> Decimal:
        return self.in_quote(self.inventory.reduce(convert.get_cost))

    def value(self, mark: Decimal) -> Decimal:
        price = Price(new_metadata("", 0), DAY, self.base, Amount(mark, self.quote))
        return self.in_quote(self.inventory.reduce(convert.get_value, build_price_map([price])))

    def add(self, units: Decimal, price: Decimal) -> None:
        held = self.units()
        if held * units >= 0:
            self.inventory.add_amount(Amount(units, self.base), Cost(price, self.quote, DAY, None))
            self.inventory = self.inventory.average()
            return
        # no lot is both bought and sold short, so that a flip is two postings
        closing = units if abs(units) <= abs(held) else -held
        [lot] = self.inventory
        sold = Position(Amount(closing, self.base), lot.cost)
        self.inventory.add_position(sold)
        # what balances the transaction: the cash less the weight of the lot that was sold
        self.gains += -closing * price + convert.get_weight(sold).number
        if closing != units:
            self.add(units - closing, price)

    def figures(self, mark: Decimal) -> dict[str, Any]:
        [entry] = [lot.cost.number for lot in self.inventory] or [None]
        return {
            "quantity": self.units(),
            "average_entry_price": entry,
            "realized_pnl": self.gains,
            "value": self.value(mark),
            "unrealized": self.value(mark) - self.cost(),
        }


def answers(history: dict[str, Any]) -> list[dict[str, Any]]:
    account = Account(history["symbol"])
    made = []
    for fill in history["fills"]:
        account.add(fill["quantity"] * (1 if fill["side"] == "buy" else -1), fill["price"])
        made.append(account.figures(fill["mark"]))
    return made


if __name__ == "__main__":
    given = json.load(sys.stdin, parse_float=Decimal)
    json.dump([answers(history) for history in given], sys.stdout, default=float)
