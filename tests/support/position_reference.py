"""What fills make, by the definitions of docs/accounting.md: exact fractions, nothing made fast.

Nothing of the package is used here, so that it can be compared with something else than itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

ROUNDING = Fraction(1, 2**50)  # of what is held: less is no holding


@dataclass(frozen=True)
class Market:
    """What is known of a symbol.

    Attributes:
        currency: That of the PnL.
        base: What a fee is taken from; None unless it is a spot market.
        other: The currency of fees that count at the price of their fill.
        is_inverse: Whether quantities are amounts of the quote currency.
        is_known: Whether the PnL follows from prices.
    """

    symbol: str
    currency: str | None = None
    base: str | None = None
    other: str | None = None
    is_inverse: bool = False
    is_known: bool = True

    def worth(self, quantity: Fraction, price: Fraction) -> Fraction:
        """Return what the PnL is the difference of, for contracts of size 1."""
        return -quantity / price if self.is_inverse else quantity * price


MARKETS = [
    Market("BTC/USDT", "USDT", base="BTC", other="BTC"),
    Market("ETH-BTC", "BTC", base="ETH", other="ETH"),
    Market("SOL_USDC", "USDC", base="SOL", other="SOL"),
    Market("BTC/USDT:USDT", "USDT", other="BTC"),
    Market("ETH/USD:USDC-250328", "USDC", other="ETH"),
    Market("BTC/USD:BTC", "BTC", other="USD", is_inverse=True),
    Market("ETH/USD:ETH-250328", "ETH", other="USD", is_inverse=True),
    # the price of an option is not that of its base currency
    Market("BTC/USD:BTC-250328-60000-C", "BTC"),
    Market("ETH/USDT:USDT-250328-2000-P", "USDT"),
    Market("ETH/USD:BTC", "BTC", is_known=False),
    Market("BTCUSDT"),
    Market("ESZ5"),
]


@dataclass(frozen=True)
class Fill:
    """A fill, as it is recorded."""

    side: str
    quantity: float
    price: float
    fee: float | None = None
    fee_currency: str | None = None
    contract_size: float | None = None
    timestamp: Any = None


def number(printed: float) -> Fraction:
    """Return the decimal that a float prints as."""
    return Fraction(repr(printed))


@dataclass
class Account:
    """The position of the fills of one market, and what they earned."""

    market: Market
    quantity: Fraction = Fraction(0)
    entry: Fraction = Fraction(0)
    gross: Fraction = Fraction(0)
    size: float = 1.0
    opened_at: Any = None
    is_known: bool = True
    fees: list[tuple[str | None, Fraction, Fraction]] = field(default_factory=list)

    def add(self, fill: Fill) -> None:
        worth = self.market.worth
        price = number(fill.price)
        change = number(fill.quantity) * (1 if fill.side == "buy" else -1)
        size = fill.contract_size or 1.0
        if size != self.size and self.quantity:
            self.is_known = False
        self.size = size
        if fill.fee is not None:
            self.fees.append((fill.fee_currency, number(fill.fee), price))
            if self.market.base is not None and fill.fee_currency == self.market.base:
                change -= number(fill.fee)

        held, rest = self.quantity, self.quantity + change
        if change == 0:
            return
        if held == 0:
            self.quantity, self.entry, self.opened_at = change, price, fill.timestamp
        elif held * change > 0:
            if self.market.is_inverse:
                self.entry = rest / (held / self.entry + change / price)
            else:
                self.entry = (held * self.entry + change * price) / rest
            self.quantity = rest
        elif abs(rest) <= abs(held) * ROUNDING:
            # all of the fill closes all that is held
            self.gross += (worth(-change, price) - worth(held, self.entry)) * number(size)
            self.quantity, self.opened_at = Fraction(0), None
        elif held * rest > 0:
            self.gross += (worth(-change, price) - worth(-change, self.entry)) * number(size)
            self.quantity = rest
        else:
            self.gross += (worth(held, price) - worth(held, self.entry)) * number(size)
            self.quantity, self.entry, self.opened_at = rest, price, fill.timestamp

    def paid(self, currency: str | None, rates: Mapping[str, float]) -> Fraction | None:
        """Return the fees in the currency of the PnL; None if there is no rate for one of them."""
        total = Fraction(0)
        without_rate: defaultdict[str, Fraction] = defaultdict(Fraction)
        for fee_currency, fee, price in self.fees:
            if fee_currency is None or fee_currency == currency:
                total += fee
            elif fee_currency == self.market.other:
                total += fee / price if self.market.is_inverse else fee * price
            elif rate := rates.get(f"{fee_currency}/{currency}", rates.get(fee_currency)):
                total += fee * number(rate)
            else:
                without_rate[fee_currency] += fee
        return None if any(without_rate.values()) else total


def account(market: Market, fills: Sequence[Fill]) -> Account:
    made = Account(market)
    for fill in fills:
        made.add(fill)
    return made


def money(market: Market, fills: Sequence[Fill]) -> tuple[Fraction, Fraction]:
    """Return the gross and net PnL of a flat position, which no method of accounting changes.

    They are what all sales have brought less what all purchases have cost. On spot, the coins that
    were taken as fees were paid for, so that the money has net PnL.
    """
    received = paid = taken = Fraction(0)
    for fill in fills:
        price, size = number(fill.price), number(fill.contract_size or 1.0)
        change = number(fill.quantity) * (1 if fill.side == "buy" else -1)
        received -= market.worth(change, price) * size
        fee = Fraction(0) if fill.fee is None else number(fill.fee)
        if fill.fee_currency is None or fill.fee_currency == market.currency:
            paid += fee
        elif fill.fee_currency == market.base:
            taken += fee * price
        elif fill.fee_currency == market.other:
            paid += fee / price if market.is_inverse else fee * price
    return received + taken, received - paid


@dataclass
class Part:
    """A fill of a round trip, or a share of one that closed it and opened the next."""

    fill: Fill
    change: Fraction
    share: Fraction


@dataclass
class Trip:
    """A round trip: what happened from flat to flat."""

    market: Market
    parts: list[Part]
    is_closed: bool = False

    def side(self, *, entries: bool) -> list[Part]:
        is_long = self.parts[0].change > 0
        return [
            part for part in self.parts if part.change and (part.change > 0) == (is_long == entries)
        ]

    def price(self, *, entries: bool) -> Fraction | None:
        parts = self.side(entries=entries)
        if not parts:
            return None
        quantity = sum(abs(part.change) for part in parts)
        if self.market.is_inverse:
            return quantity / sum(abs(part.change) / number(part.fill.price) for part in parts)
        return sum(abs(part.change) * number(part.fill.price) for part in parts) / quantity

    @property
    def gross(self) -> Fraction | None:
        """The PnL of what was closed, each exit at the average price of the entries before it."""
        sizes = {part.fill.contract_size or 1.0 for part in self.parts}
        if len(sizes) > 1 or not self.market.is_known:
            return None
        worth, size = self.market.worth, number(sizes.pop())
        if self.is_closed:  # money out less money in, whatever the method
            return -size * sum(worth(part.change, number(part.fill.price)) for part in self.parts)
        held = cost = gross = Fraction(0)
        for part in self.parts:
            value = worth(part.change, number(part.fill.price))
            if held * part.change >= 0:
                held, cost = held + part.change, cost + value
            else:
                closed = cost * part.change / held
                gross += closed - value
                held, cost = held + part.change, cost + closed
        return gross * size

    def fees(self) -> dict[str | None, Fraction]:
        fees: dict[str | None, Fraction] = {}
        for part in self.parts:
            if part.fill.fee is not None:
                paid = number(part.fill.fee) * part.share
                fees[part.fill.fee_currency] = fees.get(part.fill.fee_currency, Fraction(0)) + paid
        return fees

    def net(self, rates: Mapping[str, float]) -> Fraction | None:
        reference = Account(self.market)
        reference.fees = [
            (part.fill.fee_currency, number(part.fill.fee) * part.share, number(part.fill.price))
            for part in self.parts
            if part.fill.fee is not None
        ]
        paid, gross = reference.paid(self.market.currency, rates), self.gross
        return None if paid is None or gross is None else gross - paid

    def figures(self, rates: Mapping[str, float]) -> dict[str, Any]:
        entered = sum((abs(part.change) for part in self.side(entries=True)), Fraction(0))
        last = self.parts[-1].fill.timestamp
        return {
            "direction": "long" if self.parts[0].change > 0 else "short",
            "quantity": to_float(entered),
            "entry_price": to_float(self.price(entries=True)),
            "exit_price": to_float(self.price(entries=False)),
            "opened_at": self.parts[0].fill.timestamp,
            "closed_at": last if self.is_closed else None,
            "gross_pnl": to_float(self.gross),
            "fees": {currency: to_float(fee) for currency, fee in self.fees().items()},
            "net_pnl": to_float(self.net(rates)),
            "fills": len(self.parts),
        }


def round_trips(market: Market, fills: Sequence[Fill]) -> list[Trip]:
    """Return the round trips; the last one may be open."""
    trips: list[Trip] = []
    held = Fraction(0)
    for fill in fills:
        change = number(fill.quantity) * (1 if fill.side == "buy" else -1)
        if fill.fee is not None and market.base is not None and fill.fee_currency == market.base:
            change -= number(fill.fee)
        rest = held + change
        if held == 0:
            if change:
                trips.append(Trip(market, [Part(fill, change, Fraction(1))]))
                held = change
        elif (
            change == 0
            or held * change > 0
            or (held * rest > 0 and abs(rest) > abs(held) * ROUNDING)
        ):
            trips[-1].parts.append(Part(fill, change, Fraction(1)))
            held = rest
        elif abs(rest) <= abs(held) * ROUNDING:
            trips[-1].parts.append(Part(fill, change, Fraction(1)))
            trips[-1].is_closed, held = True, Fraction(0)
        else:
            trips[-1].parts.append(Part(fill, -held, -held / change))
            trips[-1].is_closed = True
            trips.append(Trip(market, [Part(fill, rest, rest / change)]))
            held = rest
    return trips


def figures(
    accounts: Sequence[Account],
    currency: str | None,
    rates: Mapping[str, float],
    price: float | None = None,
) -> dict[str, Any]:
    """Return the figures of a position, of which each exchange has a part."""
    market = accounts[0].market
    held = [part for part in accounts if part.quantity]
    is_known = market.is_known and all(part.is_known for part in accounts)
    quantity = sum((part.quantity for part in held), Fraction(0))
    entry: Fraction | None = None
    if held and len({part.quantity > 0 for part in held}) == 1:
        worth = sum((market.worth(part.quantity, part.entry) for part in held), Fraction(0))
        entry = -quantity / worth if market.is_inverse else worth / quantity
    fees: dict[str | None, Fraction] = {}
    for part in accounts:
        for fee_currency, fee, _ in part.fees:
            fees[fee_currency] = fees.get(fee_currency, Fraction(0)) + fee
    gross = sum((part.gross for part in accounts), Fraction(0))
    paid = [part.paid(currency, rates) for part in accounts]
    net = None if None in paid else gross - sum(fee for fee in paid if fee is not None)
    value = unrealized = None
    if price is not None:
        value = unrealized = Fraction(0)
        for part in held:
            size, at_price = number(part.size), market.worth(part.quantity, number(price))
            value += size * (-at_price if market.is_inverse else at_price)
            unrealized += size * (at_price - market.worth(part.quantity, part.entry))
    return {
        "quantity": to_float(quantity),
        "average_entry_price": to_float(entry),
        "realized_pnl": to_float(gross) if is_known else None,
        "net_realized_pnl": to_float(net) if is_known else None,
        "fees": {fee_currency: to_float(fee) for fee_currency, fee in fees.items()},
        "opened_at": min((part.opened_at for part in held), default=None),
        "contract_size": held[0].size if held else 1.0,
        "value": to_float(value) if is_known else None,
        "unrealized": to_float(unrealized) if is_known else None,
    }


def to_float(figure: Fraction | None) -> float | None:
    return None if figure is None else float(figure) + 0.0  # never -0.0
