"""The position of the fills of one symbol, and what they earned, by the average cost method.

Figures are exact. Quantities, prices and fees are taken as the decimals that they print as, so that
0.1 + 0.2 - 0.3 is flat, and counted in units of a power of ten. The value of a fill is what was
paid for it, quantity x price; of an inverse contract it is -quantity / price. Values have `guard`
more bits, because they are divided; the lowest of them, to which the rounding of all divisions adds
up, are no part of a figure: what was bought and sold at one price has earned 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from math import inf, isinf
from operator import mul
from typing import Any, NamedTuple

from .errors import ValidationError
from .exact import DIVISION, WIDE, ZERO, add, multiply, to_decimal, to_fraction
from .symbols import Instrument

# timestamp, quantity (of a sale below 0), price, fee, fee currency, contract size
Fill = tuple[Any, float, float, float | None, str | None, float | None]

_DIGITS = 8  # of most quantities, prices and fees
_FLOAT_DIGITS = 15  # each decimal of so many digits is a float of its own
_LIMIT = 10**_FLOAT_DIGITS
_GUARD = 192
_ERROR_BITS = 96  # the lowest ones, enough for errors that smaller units have made larger
_ROUNDING = 50  # what is below 2**-50 of a position is the rounding of a float
NO_FEE = ""  # in place of a currency


class Closing(NamedTuple):
    """A fill that closed the position.

    Attributes:
        place: Its index among the fills that were added.
        quantity: How much of it closed the position; what is left of it opened another one.
        pnl: What the position has earned since it was opened, for contracts of size 1.
    """

    place: int
    quantity: int
    pnl: int


class Added(NamedTuple):
    """What the fills of one call of `add` were, in the units that the ledger has after it.

    Attributes:
        quantities: The change of the position by each fill.
        values: The value of each change, as it is added to the cost.
        fees: The fee of each fill, 0 where it is in another currency, by currency.
        fee_values: The value of each fee in the other currency of the pair; none if there are none.
        closings: The fills that closed the position, in their order.
    """

    quantities: list[int]
    values: list[int]
    fees: dict[str | None, list[int]]
    fee_values: list[int]
    closings: list[Closing]


class Ledger:
    """The position that fills make, and what they earned.

    Attributes:
        instrument: What the symbol says.
        problem: Why the PnL is not known; None if it is.
        opened_at: The timestamp of the fill that opened the position, as it was added; None if it
            is flat.
        contract_size: That of the latest fill.
        funding: What was paid for holding the position, by currency; below 0 what was paid out.
    """

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.problem = instrument.problem
        self.opened_at: Any = None
        self.contract_size = 1.0
        self.funding: dict[str | None, Decimal] = {}
        self._quantity_digits = self._price_digits = self._fee_digits = _DIGITS
        self._guard = _GUARD
        self._held = 0  # below 0 of a short position
        self._cost = 0  # the value of what is held
        self._earned = 0  # realized since the position was opened
        self._realized = {1.0: 0}  # by contract size, of positions that are closed
        self._fees: dict[str | None, int] = {}
        self._fee_value = 0  # of the fees in the other currency of the pair, at the fill's price

    def copy(self) -> Ledger:
        """Return a ledger that goes on by itself."""
        other = Ledger(self.instrument)
        vars(other).update(vars(self))
        other._realized, other._fees = self._realized.copy(), self._fees.copy()
        return other

    # --- adding fills -----------------------------------------------------------------------

    def add(self, fills: Sequence[Fill]) -> Added:
        """Add fills in their order, at least one."""
        columns: Any = ([fill[column] for fill in fills] for column in range(6))
        timestamps, changes, prices, fees, currencies, sizes = columns
        quantity_units, digits = to_units(changes, self._quantity_digits)
        self._use_quantity_digits(digits)
        price_units, digits = to_units(prices, self._price_digits)
        self._use_price_digits(digits)
        paid: dict[str | None, list[int]] = {}
        fee_values: list[int] = []
        if fees.count(None) < len(fees):
            fee_units, digits = to_units([fee or 0.0 for fee in fees], self._fee_digits)
            self._use_fee_digits(digits)
            # of a fill without a fee, a currency says nothing
            pairs = zip(fees, currencies, strict=True)
            currencies = [NO_FEE if fee is None else currency for fee, currency in pairs]
            paid = _by_currency(fee_units, currencies)
            fee_values = self._add_fees(paid, price_units)
            quantity_units = self._less_fees(quantity_units, paid)
        values = self._amounts(quantity_units, price_units)
        if self.instrument.is_inverse:
            values = [-value for value in values]
        closings: list[Closing] = []
        start = 0
        for size, group in groupby(sizes):
            part = slice(start, start + sum(1 for _ in group))
            self._use_contract_size(size or 1.0)
            self._add_fills(start, timestamps[part], quantity_units[part], values[part], closings)
            start = part.stop
        return Added(quantity_units, values, paid, fee_values, closings)

    def _add_fills(
        self,
        first: int,
        timestamps: Sequence[Any],
        quantities: list[int],
        values: list[int],
        closings: list[Closing],
    ) -> None:
        held, cost, earned = self._held, self._cost, self._earned
        realized = self._realized[self.contract_size]
        indexes = range(first, first + len(timestamps))
        for index, timestamp, change, value in zip(
            indexes, timestamps, quantities, values, strict=True
        ):
            if not held:
                if change:
                    held, cost, self.opened_at = change, value, timestamp
            elif (held > 0) is (change > 0):
                held += change
                cost += value
            else:
                rest = held + change
                if abs(rest) <= abs(held) >> _ROUNDING:  # it is closed
                    earned = _rounded(earned - cost - value)
                    closings.append(Closing(index, change, earned))
                    realized += earned
                    held = cost = earned = 0
                elif (rest > 0) is (held > 0):  # a part is closed
                    closed = cost * change // held
                    earned += closed - value
                    held, cost = rest, cost + closed
                else:  # it is closed, and opened in the other direction
                    closing = value * -held // change
                    earned = _rounded(earned - cost - closing)
                    closings.append(Closing(index, -held, earned))
                    realized += earned
                    held, cost, earned, self.opened_at = rest, value - closing, 0, timestamp
        if not held:
            self.opened_at = None
        self._held, self._cost, self._earned = held, cost, earned
        self._realized[self.contract_size] = realized

    def _add_fees(self, paid: dict[str | None, list[int]], prices: list[int]) -> list[int]:
        """Add the fees, and return the values of those in the other currency of the pair."""
        for currency, fees in paid.items():
            self._fees[currency] = self._fees.get(currency, 0) + sum(fees)
        other_currency = self.instrument.other_currency
        if other_currency is None or other_currency not in paid:
            return []
        values = self._amounts(paid[other_currency], prices)  # it may change the unit of values
        self._fee_value += sum(values)
        return values

    def _less_fees(self, quantities: list[int], paid: dict[str | None, list[int]]) -> list[int]:
        """Return quantities less the fees that were taken from them."""
        fees = paid.get(self.instrument.other_currency or NO_FEE)
        if fees is None or self.instrument.is_derivative:
            return quantities
        factor = 10 ** max(0, self._fee_digits - self._quantity_digits)
        self._use_quantity_digits(max(self._quantity_digits, self._fee_digits))
        per_fee = 10 ** (self._quantity_digits - self._fee_digits)
        pairs = zip(quantities, fees, strict=True)
        return [quantity * factor - fee * per_fee for quantity, fee in pairs]

    def _amounts(self, quantities: list[int], prices: list[int]) -> list[int]:
        """Return quantity x price, or quantity / price of an inverse contract, for each fill."""
        guard = self._guard
        if not self.instrument.is_inverse:
            products = map(mul, quantities, prices)
            return [product << guard for product in products]
        one = 10**self._price_digits
        needed = _GUARD + (max(prices) // one).bit_length()
        if needed > guard:
            self._multiply(1 << (needed - guard))
            guard = self._guard = needed
        one <<= guard
        return [quantity * one // price for quantity, price in zip(quantities, prices, strict=True)]

    def add_funding(self, currency: str, amount: float) -> None:
        self.funding[currency] = add(self.funding.get(currency, ZERO), to_decimal(amount))

    # --- what was added ---------------------------------------------------------------------

    def quantity_of(self, units: int) -> Decimal:
        """Return a quantity of `Added` as a number."""
        return Decimal(units).scaleb(-self._quantity_digits, WIDE)

    def value_of(self, units: int) -> Decimal:
        """Return a value of `Added` as a number, for contracts of size 1."""
        return self._number(units, self._digits_of_values)

    def fee_of(self, units: int) -> Decimal:
        """Return a fee of `Added` as a number."""
        return Decimal(units).scaleb(-self._fee_digits, WIDE)

    def fee_value_of(self, units: int) -> Decimal:
        """Return the value of a fee of `Added` as a number."""
        digits = self._digits_of_values - self._quantity_digits + self._fee_digits
        return self._number(_rounded(units), digits)

    def pnl_of(self, units: int) -> Decimal:
        """Return the PnL of a `Closing` as a number, for contracts of size 1."""
        return self._number(_rounded(units), self._digits_of_values)

    @property
    def pnl_of_open(self) -> Decimal:
        """The PnL of what was closed of the open position, for contracts of size 1."""
        return self.pnl_of(self._earned)

    def _number(self, units: int, digits: int) -> Decimal:
        """Return what units of 2 ** -guard * 10 ** -digits are."""
        whole = units >> self._guard
        if whole << self._guard == units:
            return Decimal(whole).scaleb(-digits, WIDE)
        return DIVISION.divide(Decimal(units), Decimal(10**digits << self._guard))

    # --- smaller units ----------------------------------------------------------------------

    def _use_quantity_digits(self, digits: int) -> None:
        factor = 10 ** (digits - self._quantity_digits)
        if factor > 1:
            self._quantity_digits = digits
            self._held *= factor
            self._cost *= factor
            self._earned *= factor
            self._realized = {size: pnl * factor for size, pnl in self._realized.items()}

    def _use_price_digits(self, digits: int) -> None:
        factor = 10 ** (digits - self._price_digits)
        if factor > 1:
            self._price_digits = digits
            if not self.instrument.is_inverse:
                self._multiply(factor)

    def _use_fee_digits(self, digits: int) -> None:
        factor = 10 ** (digits - self._fee_digits)
        if factor > 1:
            self._fee_digits = digits
            self._fees = {currency: fee * factor for currency, fee in self._fees.items()}
            self._fee_value *= factor

    def _multiply(self, factor: int) -> None:
        self._cost *= factor
        self._earned *= factor
        self._realized = {size: pnl * factor for size, pnl in self._realized.items()}
        self._fee_value *= factor

    def _use_contract_size(self, size: float) -> None:
        if size == self.contract_size:
            return
        if self._held and self.problem is None:
            self.problem = different_sizes(self.contract_size, size)
        self.contract_size = size
        self._realized.setdefault(size, 0)

    # --- figures ----------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._held != 0

    @property
    def quantity(self) -> Fraction:
        """What is held; below 0 of a short position."""
        return Fraction(self._held, 10**self._quantity_digits)

    @property
    def cost(self) -> Fraction:
        """The value of what is held at its entry, for contracts of size 1."""
        return self._cost / self._unit_of_values

    @property
    def gross_pnl(self) -> Fraction:
        """The PnL of all that was closed, without fees, unless there is a `problem`."""
        total = to_fraction(self.contract_size) * _rounded(self._earned)
        for size, pnl in self._realized.items():
            total += to_fraction(size) * _rounded(pnl)
        return total / self._unit_of_values

    @property
    def fees(self) -> dict[str | None, Decimal]:
        """The sums of the fees by currency."""
        return {currency: self.fee_of(fee) for currency, fee in self._fees.items()}

    @property
    def fee_value(self) -> Decimal:
        """The value of the fees in the other currency of the pair, at the prices of their fills."""
        return self.fee_value_of(self._fee_value)

    def value(self, price: float) -> Fraction:
        """Return what the position is worth at a price."""
        inverse = self.instrument.is_inverse
        each = 1 / to_fraction(price) if inverse else to_fraction(price)
        return self.quantity * to_fraction(self.contract_size) * each

    def unrealized_pnl(self, price: float) -> Fraction:
        """Return the PnL of closing the position at a price, unless there is a `problem`."""
        size, unit = to_fraction(self.contract_size), self._unit_of_values
        value = self.value(price) / size * (-1 if self.instrument.is_inverse else 1)
        return _rounded(round(value * unit) - self._cost) / unit * size

    @property
    def _digits_of_values(self) -> int:
        return self._quantity_digits + (0 if self.instrument.is_inverse else self._price_digits)

    @property
    def _unit_of_values(self) -> Fraction:
        """How many units of values are one unit of the currency."""
        return Fraction(10**self._digits_of_values << self._guard)


def _rounded(value: int) -> int:
    """Return a value without the errors of divisions."""
    return (value + (1 << (_ERROR_BITS - 1))) >> _ERROR_BITS << _ERROR_BITS


def to_units(numbers: list[float], digits: int) -> tuple[list[int], int]:
    """Return numbers as whole numbers of units of 10 ** -digits, and the digits they needed."""
    if digits <= _FLOAT_DIGITS:
        factor = 10.0**digits
        if max(numbers) * factor < _LIMIT and min(numbers) * factor > -_LIMIT:
            units = [round(number * factor) for number in numbers]
            # then each float is that of a decimal with no more than 15 digits
            if [unit / factor for unit in units] == numbers:
                return units, digits
    text = repr(numbers)[1:-1]  # of all numbers at once: it takes half the time
    if "e" in text:
        decimals = [Decimal(repr(number)) for number in numbers]
        digits = max(digits, *(-int(decimal.as_tuple().exponent) for decimal in decimals))
        return [int(decimal.scaleb(digits, WIDE)) for decimal in decimals], digits
    decimal_places = [len(number) - number.index(".") - 1 for number in text.split(", ")]
    digits = max(digits, *decimal_places)
    factors = [10 ** (digits - places) for places in range(digits + 1)]
    whole = map(int, text.replace(".", "").split(", "))
    return [
        number * factors[places] for number, places in zip(whole, decimal_places, strict=True)
    ], digits


def _by_currency(fees: list[int], currencies: list[str | None]) -> dict[str | None, list[int]]:
    """Return the fees of each currency in the order of their appearance, 0 for the others."""
    by_currency = {}
    for currency in dict.fromkeys(currencies):
        if currency != NO_FEE:
            by_currency[currency] = fees
            if currencies.count(currency) < len(fees):
                pairs = zip(fees, currencies, strict=True)
                by_currency[currency] = [fee if of == currency else 0 for fee, of in pairs]
    return by_currency


def fees_in_currency(
    instrument: Instrument,
    currency: str | None,
    fees: Mapping[str | None, Decimal],
    fee_value: Decimal,
    rates: Mapping[str, float],
) -> tuple[Decimal, list[str]]:
    """Return the sum of fees in the currency of the PnL, and the currencies without a rate.

    A fee without a currency is in that of the PnL; one in the other currency of the pair is valued
    at the price of its fill.

    Args:
        instrument: What the symbol says.
        currency: The currency of the PnL.
        fees: The fees by currency.
        fee_value: The value of those in the other currency of the pair.
        rates: What one unit of another currency is worth, by `"BNB"` or `"BNB/USDT"`.
    """
    at_price = instrument.other_currency
    if at_price is not None and at_price in fees:
        fees = {name: fee for name, fee in fees.items() if name != at_price}
    total, without_rate = in_currency(currency, fees, rates)
    return add(total, fee_value), without_rate


def in_currency(
    currency: str | None, amounts: Mapping[str | None, Decimal], rates: Mapping[str, float]
) -> tuple[Decimal, list[str]]:
    """Return the sum of amounts in one currency, and the currencies without a rate.

    Args:
        currency: The currency of the sum.
        amounts: The amounts by currency; None is that of the sum.
        rates: What one unit of another currency is worth, by `"BNB"` or `"BNB/USDT"`.
    """
    total, without_rate = ZERO, []
    for name, amount in amounts.items():
        if name is None or name == currency:
            total = add(total, amount)
        elif amount:
            rate = rates.get(f"{name}/{currency}", rates.get(name))
            if rate is None:
                without_rate.append(name)
            else:
                total = add(total, multiply(amount, to_decimal(rate)))
    return total, without_rate


def without_rate_text(currency: str | None, fee_currencies: list[str]) -> str:
    """Return why amounts in other currencies have no value, and what to do."""
    names = ", ".join(fee_currencies)
    if currency is None:
        rates = ", ".join(f"{name!r}: 1" for name in fee_currencies)
        return (
            f"fees or funding are in {names}, and the symbol names no currency; pass "
            f"rates={{{rates}}} if that is the currency of its price"
        )
    rates = ", ".join(f"{name!r}: its price in {currency}" for name in fee_currencies)
    return f"fees or funding are in {names}; pass rates={{{rates}}}"


def different_sizes(first: float, second: float) -> str:
    """Return why the PnL of a position with two contract sizes is not known, and what to do."""
    return (
        f"the fills of one position have the contract sizes {first:.15g} and {second:.15g}; record "
        "the right one with all of them"
    )


def to_number(symbol: str, figure: Fraction | Decimal) -> float:
    """Return the nearest float, never -0.0; raise `ValidationError` if there is none."""
    try:
        number = float(figure) + 0.0  # -0.0 becomes 0.0: a loss too small for a float
    except OverflowError:
        number = inf
    if isinf(number):
        raise ValidationError(
            f"{symbol}: its position or PnL is larger than a float can hold; correct the price or "
            "the quantity of its trades"
        )
    return number
