"""Random histories of fills of one symbol, as they are given to other programs."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

FILLS = 60  # in each history


class Market(NamedTuple):
    """What is traded, and the first price of a history."""

    symbol: str
    price: float
    price_digits: int
    lot: float
    contract_size: float = 1.0

    @property
    def is_inverse(self) -> bool:
        pair, _, settled_in = self.symbol.partition(":")
        return settled_in == pair.split("/")[0]

    def worth(self, quantity: float, price: float) -> float:
        """Return the value in the currency of the PnL."""
        return quantity * self.contract_size * (1 / price if self.is_inverse else price)


BITCOIN = Market("BTC/USDT", 60_000, 2, 0.001)
DOGE = Market("DOGE/USDT", 0.2, 5, 1)
ETHER_CONTRACT = Market("ETH/USDT:USDT", 3_000, 2, 1, 0.01)
BITCOIN_CONTRACT = Market("BTC/USDT:USDT", 60_000, 1, 0.001)
INVERSE = Market("BTC/USD:BTC", 60_000, 1, 1, 100)
INVERSE_ETHER = Market("ETH/USD:ETH", 3_000, 2, 1, 10)


@dataclass
class Fill:
    """A fill, and a price at which the position is valued afterwards."""

    side: str
    quantity: float
    price: float
    mark: float


@dataclass
class Rules:
    """How a history is made.

    Attributes:
        sides: Those that open a position from flat.
        flips: Whether a fill may go beyond flat.
        more_entries: Whether more is added to a position.
        divisible: Whether each exit closes a half, a quarter or a fifth, and no more than four of
            them in a row, so that it can be shared out among all entries without rounding.
    """

    sides: tuple[str, ...] = ("buy", "sell")
    flips: bool = True
    more_entries: bool = True
    divisible: bool = False


class Bot:
    """It trades at random, in whole lots."""

    def __init__(self, rng: random.Random, rules: Rules) -> None:
        self.rng, self.rules = rng, rules
        self.held = self.exits = 0
        self.unit = 10**8 if rules.divisible else 1  # has enough factors 2 and 5

    def trade(self) -> int:
        """Return the next quantity, below 0 of a sale."""
        change = self.change()
        if (self.held + change) * self.held <= 0:
            self.exits = 0
        self.held += change
        return change

    def change(self) -> int:
        size = self.unit * self.rng.randint(1, 500)
        if not self.held:
            return size if self.rng.choice(self.rules.sides) == "buy" else -size
        direction = 1 if self.held > 0 else -1
        actions = ["reduce", "reduce", "close"]
        actions += ["add"] * 3 if self.rules.more_entries else []
        actions += ["flip"] if self.rules.flips else []
        action = self.rng.choice(actions)
        if action == "add":
            return direction * size
        if action == "flip":
            return -self.held - direction * size
        return -direction * (self.part() if action == "reduce" else abs(self.held))

    def part(self) -> int:
        """Return how much of the position is closed."""
        held = abs(self.held)
        if not self.rules.divisible:
            return self.rng.randint(1, held)
        self.exits += 1
        return held if self.exits > 4 else held // self.rng.choice([2, 4, 5])


@dataclass
class History:
    """The fills of one symbol; `hedging` is what NautilusTrader calls a position for each entry."""

    market: Market
    fills: list[Fill]
    fee_rate: float
    exit_fee_rate: float
    hedging: bool = False

    def given(self) -> dict[str, Any]:
        """Return it as the programs read it."""
        return {
            "symbol": self.market.symbol,
            "contract_size": float(self.market.contract_size),
            "fills": [asdict(fill) for fill in self.fills],
            "fee_rate": self.fee_rate,
            "exit_fee_rate": self.exit_fee_rate,
            "hedging": self.hedging,
        }


def histories(markets: list[Market], rules: Rules, count: int = 2, **values: Any) -> list[History]:
    """Return random histories of each market, the same ones in each run."""
    return [
        history(random.Random(f"{market.symbol} {number} {rules}"), market, rules, **values)
        for market in markets
        for number in range(count)
    ]


def history(rng: random.Random, market: Market, rules: Rules, **values: Any) -> History:
    bot, price, fills = Bot(rng, rules), market.price, []
    for _ in range(FILLS):
        price *= rng.lognormvariate(0, 0.02)
        mark = price * rng.lognormvariate(0, 0.02)
        lots = bot.trade()
        fills.append(
            Fill(
                side="buy" if lots > 0 else "sell",
                quantity=round(abs(lots) * market.lot / bot.unit, 10),
                price=round(price, market.price_digits),
                mark=round(mark, market.price_digits),
            )
        )
    fee_rate = rng.choice([0.0002, 0.0005, 0.00075, 0.001])
    return History(market, fills, **{"fee_rate": fee_rate, "exit_fee_rate": fee_rate} | values)


def given(past: list[History]) -> list[dict[str, Any]]:
    return [each.given() for each in past]
