"""How much one contract of a derivative is: from ccxt's markets, or from what fills cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real
from typing import Any

from ...errors import ValidationError, show
from ...models import Trade
from ...queries import read
from ...symbols import instrument_of

# A cost is printed with so many decimals at least; a float has lost the zeros at its end.
QUOTE_DECIMALS = 2
COIN_DECIMALS = 6
FLOAT_ERROR = 1e-11  # relative, of a cost that was computed
PRICE_ERROR = 1e-3  # relative, of a cost at an average price that was rounded
MAX_COINCIDENCE = 1e-3  # how many sizes may be expected to fit a cost by coincidence
INVERSE_SIZES = {1.0, 10.0, 100.0, 1000.0}  # in the quote currency, on every exchange


class ContractSizes:
    """The contract sizes of the symbols of one exchange.

    Args:
        exchange: The name of the exchange, as in recorded trades.
        markets: `exchange.markets` of ccxt, or None.
    """

    def __init__(self, exchange: str, markets: Mapping[str, Any] | None) -> None:
        if markets is not None and not isinstance(markets, Mapping):
            raise ValidationError(
                f"markets: {show(markets)} is not a dict of markets; pass exchange.markets after "
                "exchange.load_markets()",
                field="markets",
            )
        self.exchange = exchange
        self.markets = markets or {}
        self._corrected: dict[str, float] = {}  # by symbol, where costs contradict markets
        self._found: dict[str, float | None] = {}  # by symbol, from fills and recorded trades

    def of_fill(
        self, symbol: str, price: float, amount: float, cost: object
    ) -> tuple[float | None, str]:
        """Return the contract size of a fill, None if it says none, and a warning or ""."""
        estimates = _estimates(symbol, price, amount, cost)
        size, warning = self._corrected.get(symbol) or self._in_markets(symbol), ""
        if size is None:
            size = _certain(symbol, estimates)
        elif estimates and not any(
            math.isclose(estimate / size, 1, rel_tol=max(tolerance, PRICE_ERROR))
            for estimate, tolerance in estimates
        ):
            listed, size = size, _certain(symbol, estimates) or size
            self._corrected[symbol] = size
            warning = (
                f"contract_size: {size} is recorded for {symbol}; markets has {listed}, from which "
                f"the cost {show(cost)} does not follow; compare with a statement of the exchange"
            )
        if size is not None:
            self._found[symbol] = size
        return size, warning

    def of_symbol(self, symbol: str) -> float | None:
        """Return the contract size of other fills of a symbol, of this import or recorded."""
        if symbol not in self._found:
            filters = read.filters(Trade, symbol, exchange=self.exchange)
            query = read.select_where(Trade, filters, Trade.contract_size.is_null(False)).limit(1)
            trades = read.fetch(query)
            self._found[symbol] = trades[0].contract_size if trades else None
        return self._found[symbol]

    def _in_markets(self, symbol: str) -> float | None:
        market = self.markets.get(symbol)
        if not isinstance(market, Mapping):
            return None
        size, info = _positive(market.get("contractSize")), market.get("info")
        # a contract of OKX is ctVal times ctMult; ccxt's contractSize is ctVal alone
        if size is not None and isinstance(info, Mapping) and _positive(info.get("ctVal")) == size:
            size = float(f"{size * (_positive(info.get('ctMult')) or 1):.15g}")
        return size


def is_derivative(symbol: object) -> bool:
    """Return whether a symbol of ccxt names a settlement currency, as `BASE/QUOTE:SETTLE` does."""
    return isinstance(symbol, str) and instrument_of(symbol).is_derivative


def _estimates(symbol: str, price: float, amount: float, cost: object) -> list[tuple[float, float]]:
    """Return the sizes that a cost may stand for, each with its relative error.

    ccxt computes price x amount x size, and amount x size / price of an inverse contract. An
    exchange may report amount x size for the latter, in the quote currency.
    """
    value, instrument = _positive(cost), instrument_of(symbol)
    if value is None or instrument.problem or not (price > 0 and amount > 0):
        return []
    # ccxt divides by the price of an option in the base currency, too, which is no amount of money
    if instrument.currency == instrument.base and instrument.is_option:
        return []
    # text has the zeros at its end
    printed = cost if isinstance(cost, (str, Decimal)) else repr(value)
    exponent = int(Decimal(printed).as_tuple().exponent)

    def error(decimals: int) -> float:
        return max(10.0 ** min(exponent, -decimals) / value, FLOAT_ERROR)

    if instrument.is_inverse:
        found = [
            (value * price / amount, error(COIN_DECIMALS)),
            (value / amount, error(QUOTE_DECIMALS)),
        ]
    else:
        found = [(value / price / amount, error(QUOTE_DECIMALS))]
    return [(size, relative) for size, relative in found if 0 < size < math.inf]


def _certain(symbol: str, estimates: list[tuple[float, float]]) -> float | None:
    """Return the only size that a cost can stand for, if it hardly fits by coincidence."""
    sizes = dict(_shortest(estimate, error) for estimate, error in estimates)
    if instrument_of(symbol).is_inverse:  # tells the two currencies of a cost apart
        sizes = {size: sizes[size] for size in sizes.keys() & INVERSE_SIZES}
    if len(sizes) != 1:
        return None
    [(size, coincidences)] = sizes.items()
    return size if coincidences < MAX_COINCIDENCE else None


def _shortest(estimate: float, error: float) -> tuple[float, float]:
    """Return the decimal with the fewest digits within a relative error.

    Returns:
        It, and how many decimals of so few digits are expected within the error by coincidence.
    """
    digits = 1
    while abs(float(decimal := f"{estimate:.{digits - 1}e}") - estimate) > error * estimate:
        digits += 1
    # of a power of ten there is one in a decade
    candidates = 1 if digits == 1 and decimal[0] == "1" else 9 * 10 ** (digits - 1)
    return float(decimal), candidates * 2 * error


def _positive(value: object) -> float | None:
    """Return a number above 0, which may be text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, Real, Decimal)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < math.inf else None
