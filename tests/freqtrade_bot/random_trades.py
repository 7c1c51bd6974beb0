"""Write a database of random closed trades with freqtrade; run it where freqtrade is installed.

    python random_trades.py FILE SEED COUNT

Each trade has a pair of its own. It is long or short, on spot or with leverage and funding, has one
to four entries and exits, and fees that are reported in quote, base or another currency.
"""

from __future__ import annotations

import sys
from decimal import ROUND_DOWN, Decimal
from random import Random

from ccxt import TICK_SIZE
from freqtrade.enums import TradingMode
from freqtrade.persistence import Trade, init_db
from write import open_trade, process_order

STEP = Decimal("1e-8")  # of quantities


def in_steps(amount: Decimal) -> Decimal:
    return amount.quantize(STEP, ROUND_DOWN)


def quantity(random: Random, rate: float) -> Decimal:
    return in_steps(Decimal(random.uniform(10, 100) / rate))


def write_trade(random: Random, number: int) -> None:
    is_future = random.random() < 0.6
    is_short = is_future and random.random() < 0.5
    rate = random.choice([0.0001, 0.05, 3.0, 250.0, 60_000.0])
    fee_rate = random.choice([0.0, 0.00045, 0.001, 0.0026])
    price, amount = rate * random.uniform(0.8, 1.2), quantity(random, rate)
    trade = open_trade(
        f"C{number}/USDT:USDT" if is_future else f"C{number}/USDT",
        number,
        price,
        float(amount),
        is_short=is_short,
        leverage=random.choice([2.0, 10.0]) if is_future else 1.0,
        trading_mode=TradingMode.FUTURES if is_future else TradingMode.SPOT,
        fee_open=fee_rate,
        fee_close=fee_rate,
        amount_precision=float(STEP),
        precision_mode=TICK_SIZE,
    )
    entry, exit_ = ("sell", "buy") if is_short else ("buy", "sell")
    takes_base_fee = not is_future and random.random() < 0.3
    held, orders = Decimal(0), random.randint(0, 6)
    for order in range(orders + 2):
        is_last = order == orders + 1
        is_entry = order == 0 or (not is_last and random.random() < 0.5)
        price = rate * random.uniform(0.8, 1.2)
        if is_entry:
            filled = quantity(random, rate)
        else:  # what is less than a step is left
            filled = in_steps(held if is_last else held * Decimal(random.uniform(0.1, 0.6)))
        base_fee = filled * Decimal(str(fee_rate)) if takes_base_fee and is_entry else Decimal(0)
        held += filled - base_fee if is_entry else -filled
        if is_future and random.random() < 0.7:
            trade.set_funding_fees(random.uniform(-0.3, 0.2))
        cost = float(filled) * price
        fee = (cost * fee_rate / 600, "BNB", fee_rate) if random.random() < 0.3 else None
        trade.exit_reason = "exit_signal"
        side = entry if is_entry else exit_
        process_order(
            trade, f"{number}-{order}", side, number + order, price, float(filled),
            fee=fee, base_fee=float(base_fee) or None,
        )  # fmt: skip
    if trade.is_open:
        raise SystemExit(f"{trade.pair} was not closed: {held} is held")


if __name__ == "__main__":
    init_db(f"sqlite:///{sys.argv[1]}")
    generator = Random(int(sys.argv[2]))
    for trade_number in range(int(sys.argv[3])):
        write_trade(generator, trade_number)
    Trade.commit()
    Trade.session.remove()
