"""What the name of a symbol says: its currencies, and how its PnL follows from prices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

# tokens worth a dollar, in which some exchanges settle contracts that are priced in USD
DOLLAR_TOKENS = frozenset({"USDC", "USDT"})
# BASE-QUOTE or BASE_QUOTE; BRK-B, ES-H25 and BTC-28JUN24 are names of something else
_PAIR = re.compile(r"([^\s/:_-]+)[-_](?![A-Za-z]+\d\d)([A-Za-z][A-Za-z0-9]{2,7})")
# Kraken's futures, such as PF_XBTUSD; PI_USDT is a coin
_KRAKEN_FUTURE = re.compile(r"(?:FF|FI|PF|PI|PV)_[A-Z0-9]{3,}(?:USD|XBT)(?:_\d+)?")
# what exchanges write there that is no currency; the last are Bitget's kinds of contract
_NO_CURRENCY = frozenset(
    {"FUT", "FUTURE", "FUTURES", "PERP", "PERPETUAL", "SPOT", "SWAP"}
    | {"CMCBL", "DMCBL", "SPBL", "UMCBL"}
)


@dataclass(frozen=True, slots=True)
class Instrument:
    """What is traded under a symbol.

    Attributes:
        base: What is bought and sold; None if the symbol does not name it.
        quote: The currency of the price; None if the symbol does not name it.
        currency: The currency of the PnL: the settlement currency of a derivative, else `quote`.
        is_derivative: Whether quantities are numbers of contracts, which leave no coins in a
            wallet.
        is_inverse: Whether a contract is an amount of the quote currency and is settled in the base
            currency.
        is_option: Whether the price is a premium, and not that of the base currency.
        problem: Why the PnL does not follow from prices and quantities; None if it does.
    """

    base: str | None = None
    quote: str | None = None
    currency: str | None = None
    is_derivative: bool = False
    is_inverse: bool = False
    is_option: bool = False
    problem: str | None = None

    @property
    def other_currency(self) -> str | None:
        """The currency in which the PnL is not, and which the price converts; None if none does."""
        if self.is_option:
            return None
        return self.quote if self.is_inverse else self.base


@lru_cache(maxsize=4096)
def instrument_of(symbol: str) -> Instrument:
    """Return what a symbol says: `BASE/QUOTE[:SETTLE[-expiry[-strike-C or P]]]` or `BASE-QUOTE`.

    Names of another form say nothing.
    """
    base, slash, rest = symbol.partition("/")
    if not slash:
        pair = _PAIR.fullmatch(symbol)
        if pair is None or pair[2].upper() in _NO_CURRENCY or _KRAKEN_FUTURE.fullmatch(symbol):
            return Instrument()
        return Instrument(pair[1], pair[2], pair[2])
    quote, colon, contract = rest.partition(":")
    if not colon:
        quote = quote.partition("-")[0]
        return Instrument(base or None, quote or None, quote or None)
    settle, *terms = contract.split("-")
    # the price of an option that is settled in its base currency is in that currency, too
    is_option = bool(terms) and terms[-1] in ("C", "P")
    problem = None
    if settle not in (base, quote) and not (quote == "USD" and settle in DOLLAR_TOKENS):
        problem = (
            f"{symbol} is settled in {settle}, neither its base nor its quote currency, and the "
            "rate between them is not recorded"
        )
    return Instrument(
        base=base or None,
        quote=quote or None,
        currency=settle or None,
        is_derivative=True,
        is_inverse=settle == base and not is_option,
        is_option=is_option,
        problem=problem,
    )


def quote_of(symbol: str) -> str | None:
    """Return the currency of the PnL of a symbol; None if the symbol names none."""
    return instrument_of(symbol).currency
