"""The positions and what they earned, computed from the recorded trades.

Each figure is defined in the guide "Accounting" (`docs/accounting.md`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any

from .._arguments import checked_call
from .._values import checked_rates, plain_text, positive_numbers, refuse
from ..errors import ValidationError
from ..exact import ZERO, add, subtract
from ..ledger import Ledger, fees_in_currency, in_currency, to_number, without_rate_text
from ..models import Trade
from ..queries import fills, read, write
from ..symbols import quote_of

__all__ = ["Position", "get", "get_all", "value"]


@dataclass(frozen=True, slots=True)
class Position:
    """The position in one symbol, and what it has earned, by the average cost method.

    Each figure is defined in the guide [Accounting](../accounting.md).

    PnL is in the quote currency of the symbol, of a derivative in its settlement currency.

    Attributes:
        symbol: The symbol.
        quantity: What is held, in the base currency, of a derivative in contracts: above 0 long,
            below 0 short, 0.0 flat. Fees that were taken in the base currency of a spot symbol are
            taken off, so that it is what the wallet holds.
        average_entry_price: The average price of what is held, weighted by quantity; of an inverse
            contract the harmonic one; None when flat.
        realized_pnl: The PnL of all that was closed, without fees; None if it is not known.
        fees: The fees of all trades, by `fee_currency` (None where a trade has none).
        opened_at: The time of the trade that opened the position, UTC; None when flat.
        exchange: The exchange; None for trades without one, or of several exchanges.
        strategy: The strategy that was asked for; None for all of them, or for trades without one.
        funding: The recorded funding of the position, below 0 what was paid out; None if it is in a
            third currency and `rates` has no rate for it.
        net_realized_pnl: `realized_pnl` less all fees, and with the funding; None if one of these
            is not known, such as a fee in a third currency for which `rates` has no rate.
        contract_size: How much one contract of what is held is; 1.0 on spot, and when flat.
        price: The price that `value` was given.
        value: What the position is worth at that price; of a short position below 0; None if
            `realized_pnl` is not known.
        unrealized: The PnL of closing it at that price, without fees.
        unknown: Why a figure is None; None if each one is known.
    """

    symbol: str
    quantity: float = 0.0
    average_entry_price: float | None = None
    realized_pnl: float | None = 0.0
    fees: dict[str | None, float] = field(default_factory=dict, hash=False)
    opened_at: datetime | None = None
    exchange: str | None = None
    strategy: str | None = None
    funding: float | None = 0.0
    net_realized_pnl: float | None = field(default=0.0, compare=False)  # follows from the others
    contract_size: float = 1.0
    price: float | None = None
    value: float | None = None
    unrealized: float | None = None
    unknown: str | None = None


@checked_call
def get(
    symbol: str,
    strategy: str | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
    rates: Mapping[str, float] | None = None,
) -> Position:
    """Return the position in one symbol; it is flat where there are no trades.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Trades count in the order of their timestamps, then of recording: one in the direction of the
    position changes its average entry price; one against it realizes PnL at that price, and what
    goes beyond flat opens a position in the other direction. Selling the `quantity` of the answer
    makes it flat. The answer is one snapshot.

    The positions of several exchanges are computed apart and added up; the average entry price is
    None where they are long here and short there.

    The first call reads all trades of the symbol, a few at a time. A later one reads only what was
    recorded since, if the database shows that nothing else was changed.

    Args:
        symbol: The symbol.
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
        quote: The currency of the PnL of a symbol that names none.
        rates: What one unit of another currency is worth, for fees in a third currency:
            `{"BNB": 600}`, or `{"BNB/USDT": 600, "BNB/BTC": 0.01}` in several.

    Raises:
        ValidationError: An argument is invalid, or exchanges have different contract sizes.
        StorageError: The database cannot be read.
    """
    filters = read.filters(Trade, write.required("symbol", symbol), strategy, exchange=exchange)
    known_rates, currency = checked_rates(rates), _currency(filters["symbol"], quote)
    ledgers = fills.ledgers(filters)
    # not with rates, which may be others in each call
    position: Position | None = None if known_rates else ledgers.results.get(currency)
    if position is None:
        exchanges = {of_exchange for _, of_exchange, _ in ledgers.by_key}
        position = _position(
            filters["symbol"],
            filters.get("exchange", exchanges.pop() if len(exchanges) == 1 else None),
            filters.get("strategy"),
            list(ledgers.by_key.values()),
            currency,
            known_rates,
        )
        if not known_rates:
            ledgers.results[currency] = position
    return replace(position, fees=position.fees.copy())


@checked_call
def get_all(
    strategy: str | None = None,
    *,
    exchange: str | None = None,
    by_strategy: bool = False,
    rates: Mapping[str, float] | None = None,
) -> list[Position]:
    """Return the open positions: one for each symbol and exchange.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Args:
        strategy: Only the trades of this strategy; "" for those without one; None for all.
        exchange: Only the trades of this exchange; "" for those without one; None for all.
        by_strategy: Keep the trades of each strategy apart, too.
        rates: As for `get`.

    Returns:
        In alphabetical order of symbol, exchange and strategy; None is first.

    Raises:
        ValidationError: An argument is invalid.
        StorageError: The database cannot be read.
    """
    return _open_positions(strategy, exchange, by_strategy, checked_rates(rates), {})


@checked_call
def value(
    prices: Mapping[str, float],
    strategy: str | None = None,
    *,
    exchange: str | None = None,
    by_strategy: bool = False,
    rates: Mapping[str, float] | None = None,
) -> list[Position]:
    """Return the open positions with their value and unrealized PnL at the given prices.

    Each figure is defined in the guide [Accounting](../accounting.md).

    Args:
        prices: The price of each symbol: `{"BTC/USDT": 43_000}`. For a position without a price,
            `price`, `value` and `unrealized` are None.
        strategy: As for `get_all`.
        exchange: As for `get_all`.
        by_strategy: As for `get_all`.
        rates: As for `get`.

    Returns:
        As `get_all`.

    Raises:
        ValidationError: An argument is invalid.
        StorageError: The database cannot be read.
    """
    known_prices = positive_numbers("prices", prices)
    return _open_positions(strategy, exchange, by_strategy, checked_rates(rates), known_prices)


def _open_positions(
    strategy: str | None,
    exchange: str | None,
    by_strategy: bool,
    rates: Mapping[str, float],
    prices: Mapping[str, float],
) -> list[Position]:
    filters = read.filters(Trade, None, strategy, exchange=exchange)
    ledgers = fills.ledgers(filters, by_strategy=bool(by_strategy))
    return [
        _position(*key, [ledger], quote_of(key[0]), rates, prices.get(key[0]))
        # sorted here, because each database has its own collation
        for key, ledger in sorted(ledgers.by_key.items(), key=_sorted_key)
        if ledger.is_open
    ]


def _sorted_key(item: tuple[fills.Key, Ledger]) -> tuple[tuple[bool, str], ...]:
    return tuple((part is not None, part or "") for part in item[0])


def _position(
    symbol: str,
    exchange: str | None,
    strategy: str | None,
    ledgers: Sequence[Ledger],
    currency: str | None,
    rates: Mapping[str, float],
    price: float | None = None,
) -> Position:
    """Return the position of a ledger, or the sum of those of several exchanges."""
    held = [ledger for ledger in ledgers if ledger.is_open]
    sizes = sorted({ledger.contract_size for ledger in held})
    if len(sizes) > 1:
        raise ValidationError(
            f"exchange: the contracts of {symbol} have different sizes on different exchanges "
            f"({', '.join(f'{size:.15g}' for size in sizes)}); pass one exchange",
            field="exchange",
        )
    fees: defaultdict[str | None, Decimal] = defaultdict(Decimal)
    paid, gross, funding = ZERO, Fraction(0), ZERO
    without_rate, funding_without_rate = set[str](), set[str]()
    unknown = next((ledger.problem for ledger in ledgers if ledger.problem), None)
    for ledger in ledgers:
        for fee_currency, fee in ledger.fees.items():
            fees[fee_currency] = add(fees[fee_currency], fee)
        of_ledger, more_without_rate = fees_in_currency(
            ledger.instrument, currency, ledger.fees, ledger.fee_value, rates
        )
        paid = add(paid, of_ledger)
        without_rate.update(more_without_rate)
        of_ledger, more_without_rate = in_currency(currency, ledger.funding, rates)
        funding = add(funding, of_ledger)
        funding_without_rate.update(more_without_rate)
        gross += ledger.gross_pnl
    without_rate |= funding_without_rate
    is_known, net_is_known = unknown is None, unknown is None and not without_rate
    if is_known and without_rate:
        unknown = without_rate_text(currency, sorted(without_rate))
    quantity = sum((ledger.quantity for ledger in held), Fraction(0))
    values = [ledger.value(price) for ledger in held] if price is not None else []
    unrealized = [ledger.unrealized_pnl(price) for ledger in held] if price is not None else []
    number = partial(to_number, symbol)
    return Position(
        symbol=symbol,
        quantity=number(quantity),
        average_entry_price=_average_entry_price(symbol, held),
        realized_pnl=number(gross) if is_known else None,
        fees={fee_currency: number(fee) for fee_currency, fee in fees.items()},
        opened_at=min((_timestamp(ledger.opened_at) for ledger in held), default=None),
        exchange=exchange,
        strategy=strategy,
        funding=None if funding_without_rate else number(funding),
        net_realized_pnl=number(gross + Fraction(subtract(funding, paid)))
        if net_is_known
        else None,
        contract_size=sizes[0] if sizes else 1.0,
        price=price,
        value=number(sum(values, Fraction(0))) if price is not None and is_known else None,
        unrealized=number(sum(unrealized, Fraction(0))) if price is not None and is_known else None,
        unknown=unknown,
    )


def _average_entry_price(symbol: str, held: Sequence[Ledger]) -> float | None:
    """Return the average entry price; None when flat, or long and short at the same time."""
    if not held or len({ledger.quantity > 0 for ledger in held}) > 1:
        return None
    quantity = sum((ledger.quantity for ledger in held), Fraction(0))
    cost = sum((ledger.cost for ledger in held), Fraction(0))
    return to_number(symbol, -quantity / cost if held[0].instrument.is_inverse else cost / quantity)


def _timestamp(value: Any) -> datetime:
    field: Any = Trade.timestamp
    timestamp: datetime = field.python_value(value)
    return timestamp


def _currency(symbol: str, quote: str | None) -> str | None:
    """Return the currency of the PnL of a symbol, which may name none."""
    currency = quote_of(symbol)
    if quote is None:
        return currency
    if not isinstance(quote, str) or not plain_text(quote):
        refuse("quote", quote, "is not the name of a currency")
    if currency is not None and currency != plain_text(quote):
        refuse("quote", quote, f"is not the currency of {symbol}, which is {currency}")
    return plain_text(quote)
