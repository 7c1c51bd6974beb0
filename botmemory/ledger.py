"""The position of the fills of one symbol, and what they earned, by the average cost method.

Figures are exact. Quantities, prices and fees are taken as the decimals that they print as, so that
0.1 + 0.2 - 0.3 is flat, and counted in units of a power of ten. The value of a fill is what was
paid for it, quantity x price; of an inverse contract it is -quantity / price. Values have `guard`
more bits, because they are divided; the lowest of them, to which the rounding of all divisions adds
up, are no part of a figure: what was bought and sold at one price has earned 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction
from itertools import groupby
from operator import mul
from typing import Any

from .exact import to_fraction
from .symbols import Instrument

# timestamp, quantity (of a sale below 0), price, fee, fee currency, contract size
Fill = tuple[Any, float, float, float | None, str | None, float | None]

_DIGITS = 8  # of most quantities, prices and fees
_FLOAT_DIGITS = 15  # each decimal of so many digits is a float of its own
_LIMIT = 10**_FLOAT_DIGITS
_GUARD = 192
_ERROR_BITS = 96  # the lowest ones, enough for errors that smaller units have made larger
_ROUNDING = 50  # what is below 2**-50 of a position is the rounding of a float
# nothing of the caller's, whose defaults would fill what is left out
_CONTEXT = Context(prec=100, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
NO_FEE = ""  # in place of a currency


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
        self.funding: dict[str | None, Fraction] = {}
        self._quantity_digits = self._price_digits = self._fee_digits = _DIGITS
        self._guard = _GUARD
        self._held = 0  # below 0 of a short position
        self._cost = 0  # the value of what is held
        self._realized = {1.0: 0}  # by contract size
        self._fees: dict[str | None, int] = {}
        self._fee_value = 0  # of the fees in the other currency of the pair, at the fill's price

    def copy(self) -> Ledger:
        """Return a ledger that goes on by itself."""
        other = Ledger(self.instrument)
        vars(other).update(vars(self))
        other._realized, other._fees = self._realized.copy(), self._fees.copy()
        return other

    # --- adding fills -----------------------------------------------------------------------

    def add(self, fills: Sequence[Fill]) -> None:
        """Add fills in their order, at least one."""
        columns: Any = ([fill[column] for fill in fills] for column in range(6))
        timestamps, changes, prices, fees, currencies, sizes = columns
        quantity_units, digits = to_units(changes, self._quantity_digits)
        self._use_quantity_digits(digits)
        price_units, digits = to_units(prices, self._price_digits)
        self._use_price_digits(digits)
        if fees.count(None) < len(fees):
            fee_units, digits = to_units([fee or 0.0 for fee in fees], self._fee_digits)
            self._use_fee_digits(digits)
            # of a fill without a fee, a currency says nothing
            pairs = zip(fees, currencies, strict=True)
            currencies = [NO_FEE if fee is None else currency for fee, currency in pairs]
            quantity_units = self._add_fees(fee_units, currencies, quantity_units, price_units)
        values = self._amounts(quantity_units, price_units)
        if self.instrument.is_inverse:
            values = [-value for value in values]
        start = 0
        for size, group in groupby(sizes):
            part = slice(start, start + sum(1 for _ in group))
            self._use_contract_size(size or 1.0)
            self._add_fills(timestamps[part], quantity_units[part], values[part])
            start = part.stop

    def _add_fills(
        self, timestamps: Sequence[Any], quantities: list[int], values: list[int]
    ) -> None:
        held, cost, realized = self._held, self._cost, self._realized[self.contract_size]
        for timestamp, change, value in zip(timestamps, quantities, values, strict=True):
            if not held:
                if change:
                    held, cost, self.opened_at = change, value, timestamp
            elif (held > 0) is (change > 0):
                held += change
                cost += value
            else:
                rest = held + change
                if abs(rest) <= abs(held) >> _ROUNDING:  # it is closed
                    realized -= cost + value
                    held = cost = 0
                elif (rest > 0) is (held > 0):  # a part is closed
                    closed = cost * change // held
                    realized += closed - value
                    held, cost = rest, cost + closed
                else:  # it is closed, and opened in the other direction
                    closing = value * -held // change
                    realized -= cost + closing
                    held, cost, self.opened_at = rest, value - closing, timestamp
        if not held:
            self.opened_at = None
        self._held, self._cost, self._realized[self.contract_size] = held, cost, realized

    def _add_fees(
        self,
        fees: list[int],
        currencies: list[str | None],
        quantities: list[int],
        prices: list[int],
    ) -> list[int]:
        """Add the fees, and return the quantities less those that were taken from them."""
        other_currency = self.instrument.other_currency
        for currency in dict.fromkeys(currencies):  # in their order
            if currency == NO_FEE:
                continue
            paid = fees
            if currencies.count(currency) < len(fees):
                paid = [
                    fee if fee_currency == currency else 0
                    for fee, fee_currency in zip(fees, currencies, strict=True)
                ]
            self._fees[currency] = self._fees.get(currency, 0) + sum(paid)
            if currency is None or currency != other_currency:
                continue
            value = sum(self._amounts(paid, prices))  # first: it may change the unit of values
            self._fee_value += value
            if not self.instrument.is_derivative:
                factor = 10 ** max(0, self._fee_digits - self._quantity_digits)
                self._use_quantity_digits(max(self._quantity_digits, self._fee_digits))
                per_fee = 10 ** (self._quantity_digits - self._fee_digits)
                pairs = zip(quantities, paid, strict=True)
                quantities = [quantity * factor - fee * per_fee for quantity, fee in pairs]
        return quantities

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
        self.funding[currency] = self.funding.get(currency, Fraction(0)) + to_fraction(amount)

    # --- smaller units ----------------------------------------------------------------------

    def _use_quantity_digits(self, digits: int) -> None:
        factor = 10 ** (digits - self._quantity_digits)
        if factor > 1:
            self._quantity_digits = digits
            self._held *= factor
            self._cost *= factor
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
        self._realized = {size: pnl * factor for size, pnl in self._realized.items()}
        self._fee_value *= factor

    def _use_contract_size(self, size: float) -> None:
        if size == self.contract_size:
            return
        if self._held and self.problem is None:
            self.problem = (
                f"the fills of one position have the contract sizes {self.contract_size:.15g} and "
                f"{size:.15g}; record the right one with all of them"
            )
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
        amounts = (to_fraction(size) * _rounded(pnl) for size, pnl in self._realized.items())
        return sum(amounts, Fraction(0)) / self._unit_of_values

    @property
    def fees(self) -> dict[str | None, Fraction]:
        """The sums of the fees by currency."""
        unit = 10**self._fee_digits
        return {currency: Fraction(fee, unit) for currency, fee in self._fees.items()}

    def fees_in_currency(
        self, currency: str | None, rates: Mapping[str, float]
    ) -> tuple[Fraction, list[str]]:
        """Return the sum of the fees in the currency of the PnL, and the currencies without a rate.

        A fee without a currency is in that of the PnL; one in the other currency of the pair is
        valued at the price of its fill.

        Args:
            currency: The currency of the PnL.
            rates: What one unit of another currency is worth, by `"BNB"` or `"BNB/USDT"`.
        """
        unit = self._unit_of_values * Fraction(10**self._fee_digits, 10**self._quantity_digits)
        at_price = self.instrument.other_currency
        fees = {name: fee for name, fee in self.fees.items() if name is None or name != at_price}
        total, without_rate = in_currency(currency, fees, rates)
        return total + _rounded(self._fee_value) / unit, without_rate

    def value(self, price: float) -> Fraction:
        """Return what the position is worth at a price."""
        inverse = self.instrument.is_inverse
        each = 1 / to_fraction(price) if inverse else to_fraction(price)
        return self.quantity * to_fraction(self.contract_size) * each

    def unrealized_pnl(self, price: float) -> Fraction:
        """Return the PnL of closing the position at a price, unless there is a `problem`."""
        size, unit = to_fraction(self.contract_size), self._unit_of_values
        value = self.value(price) / size * (-1 if self.instrument.is_inverse else 1)
        return _rounded(value * unit - self._cost) / unit * size

    @property
    def _unit_of_values(self) -> Fraction:
        """How many units of values are one unit of the currency."""
        digits = self._quantity_digits
        if not self.instrument.is_inverse:
            digits += self._price_digits
        return Fraction(10**digits << self._guard)


def _rounded(value: int | Fraction) -> int:
    """Return a value without the errors of divisions."""
    return round(Fraction(value) / (1 << _ERROR_BITS)) << _ERROR_BITS


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
        return [int(decimal.scaleb(digits, _CONTEXT)) for decimal in decimals], digits
    decimal_places = [len(number) - number.index(".") - 1 for number in text.split(", ")]
    digits = max(digits, *decimal_places)
    factors = [10 ** (digits - places) for places in range(digits + 1)]
    whole = map(int, text.replace(".", "").split(", "))
    return [
        number * factors[places] for number, places in zip(whole, decimal_places, strict=True)
    ], digits


def in_currency(
    currency: str | None, amounts: Mapping[str | None, Fraction], rates: Mapping[str, float]
) -> tuple[Fraction, list[str]]:
    """Return the sum of amounts in one currency, and the currencies without a rate.

    Args:
        currency: The currency of the sum.
        amounts: The amounts by currency; None is that of the sum.
        rates: What one unit of another currency is worth, by `"BNB"` or `"BNB/USDT"`.
    """
    total, without_rate = Fraction(0), []
    for name, amount in amounts.items():
        if name is None or name == currency:
            total += amount
        elif amount:
            rate = rates.get(f"{name}/{currency}", rates.get(name))
            if rate is None:
                without_rate.append(name)
            else:
                total += amount * to_fraction(rate)
    return total, without_rate
