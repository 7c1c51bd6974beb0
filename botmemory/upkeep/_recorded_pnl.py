"""Compare the PnL that was recorded with the one that follows from the fills."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Any

from .. import exact
from ..backends.finding import Finding
from ..exact import ZERO
from ..formats import amount
from ..ledger import Ledger, fees_in_currency, in_currency
from ..models import Trade
from ..queries import fills, read

ROWS_PER_READ = 1000
FLOAT_ERROR = Fraction(1, 10**9)  # of all amounts, for a bot that computes in floats
SHOWN = 5

Place = tuple[str, str | None]  # symbol and exchange


@dataclass
class Recorded:
    """The recorded PnL of one symbol on one exchange."""

    total: Decimal = ZERO
    absolute: Decimal = ZERO  # the sum without the signs
    count: int = 0
    decimals: int = 0  # of the PnL with the most

    def add(self, pnl: float) -> None:
        value = exact.to_decimal(pnl)
        self.total = exact.add(self.total, value)
        self.absolute = exact.add(self.absolute, value.copy_abs())
        self.count += 1
        self.decimals = max(self.decimals, -int(value.as_tuple().exponent))

    @property
    def rounding(self) -> Fraction:
        """How much the total may differ because each PnL was rounded."""
        half_of_last_digit = Fraction(1, 2 * 10**self.decimals)
        return self.count * half_of_last_digit + FLOAT_ERROR * Fraction(self.absolute)


def recorded_pnl_findings() -> Iterator[Finding]:
    """Yield a finding where the recorded PnL is neither gross nor net of what the fills earned.

    Whether fees and funding are in it is the bot's choice, and so is whether each strategy has a
    position of its own.
    """
    recorded = _recorded()
    if not recorded:
        return
    shared = fills.ledgers({}).by_key
    by_strategy: defaultdict[Place, list[Ledger]] = defaultdict(list)
    for (symbol, exchange, _), ledger in fills.ledgers({}, by_strategy=True).by_key.items():
        by_strategy[symbol, exchange].append(ledger)
    different = []
    for (symbol, exchange), of_place in recorded.items():
        ledger = shared[symbol, exchange, None]
        ranges = [_range([ledger]), _range(by_strategy[symbol, exchange])]
        known = [each for each in ranges if each is not None]
        total, rounding = Fraction(of_place.total), of_place.rounding
        if known and not any(low - rounding <= total <= high + rounding for low, high in known):
            where = f"{symbol} on {exchange}" if exchange else symbol
            gross = amount(float(ledger.gross_pnl))
            different.append(f"{where} (recorded {amount(float(total))}, gross {gross} by fills)")
    if different:
        names = ", ".join(different[:SHOWN]) + (", ..." if len(different) > SHOWN else "")
        yield Finding(
            "warning",
            f"the recorded PnL does not follow from the fills, gross or net of fees: {names}",
            "trades may be missing, or recorded twice, or their PnL be computed in another way; "
            "performance.summarize(source='fills') has what the fills earned",
        )


def _recorded() -> dict[Place, Recorded]:
    recorded: defaultdict[Place, Recorded] = defaultdict(Recorded)
    pnl: Any = Trade.pnl
    fields = (Trade.symbol, Trade.exchange, pnl)
    for rows in read.batches(Trade, {}, ROWS_PER_READ, *fields, where=[pnl.is_null(False)]):
        for symbol, exchange, value in rows:
            recorded[symbol, exchange].add(value)
    return recorded


def _range(ledgers: list[Ledger]) -> tuple[Fraction, Fraction] | None:
    """Return between what the PnL of ledgers is, gross or net; None if it is not known.

    The PnL of a part that was closed of an open position may not be recorded yet.
    """
    none = low = high = Fraction(0)
    for ledger in ledgers:
        currency = ledger.instrument.currency
        fees, without_rate = fees_in_currency(
            ledger.instrument, currency, ledger.fees, ledger.fee_value, {}
        )
        funding, funding_without_rate = in_currency(currency, ledger.funding, {})
        if ledger.problem or without_rate or funding_without_rate:
            return None
        gross = ledger.gross_pnl
        part = Fraction(ledger.pnl_of_open) * Fraction(repr(ledger.contract_size))
        sums = [
            gross - open_part - paid + received
            for open_part, paid, received in product(
                (none, part), (none, Fraction(fees)), (none, Fraction(funding))
            )
        ]
        low, high = low + min(sums), high + max(sums)
    return low, high
