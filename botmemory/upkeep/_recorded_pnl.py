"""Compare the PnL that was recorded with the one that follows from the fills."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from .. import exact
from ..backends.finding import Finding
from ..database import db
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
    with db.read_snapshot():
        recorded = _recorded()
        shared = fills.ledgers({}).by_key if recorded else {}
        apart = fills.ledgers({}, by_strategy=True).by_key if recorded else {}
    by_strategy: defaultdict[Place, list[Ledger]] = defaultdict(list)
    for (symbol, exchange, _), ledger in apart.items():
        by_strategy[symbol, exchange].append(ledger)
    different = []
    for (symbol, exchange), of_place in recorded.items():
        ways = [[shared[symbol, exchange, None]], by_strategy[symbol, exchange]]
        known = [bounds for bounds in map(_bounds, ways) if bounds is not None]
        total, rounding = Fraction(of_place.total), of_place.rounding
        if known and not any(bounds.have(total, rounding) for bounds in known):
            where = f"{symbol} on {exchange}" if exchange else symbol
            gross = _text(known[0].gross)
            different.append(f"{where} (recorded {_text(total)}, gross {gross} by fills)")
    if different:
        names = ", ".join(different[:SHOWN]) + (", ..." if len(different) > SHOWN else "")
        yield Finding(
            "warning",
            f"the recorded PnL does not follow from the fills, gross or net of fees: {names}",
            "trades may be missing or recorded twice, or have no PnL, or the bot computes it by "
            "another method than average cost; performance.summarize(source='fills') has what the "
            "fills earned",
        )


def _recorded() -> dict[Place, Recorded]:
    recorded: defaultdict[Place, Recorded] = defaultdict(Recorded)
    pnl: Any = Trade.pnl
    fields = (Trade.symbol, Trade.exchange, pnl)
    for rows in read.batches(Trade, {}, ROWS_PER_READ, *fields, where=[pnl.is_null(False)]):
        for symbol, exchange, value in rows:
            recorded[symbol, exchange].add(value)
    return recorded


class Bounds(NamedTuple):
    """Between what the PnL of fills is, with or without fees and funding."""

    gross: Fraction
    low: Fraction | None  # None if a fee has no known value
    high: Fraction

    def have(self, total: Fraction, rounding: Fraction) -> bool:
        above = self.low is None or self.low - rounding <= total
        return above and total <= self.high + rounding


def _bounds(ledgers: list[Ledger]) -> Bounds | None:
    """Return the bounds of the PnL of ledgers; None if it is not known.

    The PnL of a part that was closed of an open position may not be recorded yet.
    """
    gross = low = high = Fraction(0)
    has_low = True
    for ledger in ledgers:
        currency = ledger.instrument.currency
        fees, without_rate = fees_in_currency(
            ledger.instrument, currency, ledger.fees, ledger.fee_value, {}
        )
        funding, funding_without_rate = in_currency(currency, ledger.funding, {})
        has_rebate = any(ledger.fees[name] < 0 for name in without_rate)
        if ledger.problem or has_rebate or funding_without_rate:
            return None
        has_low = has_low and not without_rate
        part = Fraction(ledger.pnl_of_open) * Fraction(repr(ledger.contract_size))
        changes = [(Fraction(0), Fraction(change)) for change in (-part, -fees, funding)]
        low += ledger.gross_pnl + sum(map(min, changes))
        high += ledger.gross_pnl + sum(map(max, changes))
        gross += ledger.gross_pnl
    return Bounds(gross, low if has_low else None, high)


def _text(total: Fraction) -> str:
    try:
        return amount(float(total))
    except OverflowError:  # of absurd rows
        return f"{total.numerator // total.denominator:,}"
