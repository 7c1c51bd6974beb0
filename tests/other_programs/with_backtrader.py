"""Print what backtrader says of fills, as JSON; run it where backtrader is installed."""

from __future__ import annotations

import json
import sys
from typing import Any

from backtrader import CommissionInfo
from backtrader.position import Position


def answers(history: dict[str, Any]) -> list[dict[str, Any]]:
    """Do what its broker does with each fill."""
    rules = CommissionInfo(
        commission=history["fee_rate"],
        mult=history["contract_size"],
        commtype=CommissionInfo.COMM_PERC,
        percabs=True,  # 0.001 is a rate, not a percentage
        stocklike=True,
    )
    position = Position()
    gross = fees = 0.0
    made = []
    for fill in history["fills"]:
        signed = fill["quantity"] * (1 if fill["side"] == "buy" else -1)
        entry = position.price
        size, price, _, closed = position.update(signed, fill["price"])
        gross += rules.profitandloss(-closed, entry, fill["price"])
        # neither commissions nor values know of the multiplier
        fees += rules.getcommission(signed, fill["price"]) * history["contract_size"]
        made.append(
            {
                "quantity": size,
                "average_entry_price": price if size else None,
                "realized_pnl": gross,
                "net_realized_pnl": gross - fees,
                "fees": fees,
                "value": rules.getvaluesize(size, fill["mark"]) * history["contract_size"],
                "unrealized": rules.profitandloss(size, price, fill["mark"]),
            }
        )
    return made


if __name__ == "__main__":
    json.dump([answers(history) for history in json.load(sys.stdin)], sys.stdout)
