"""Which trades a question is about, and in which currency they have earned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._values import plain_text
from ..errors import ValidationError, show
from ..models import Trade
from ..queries import read

__all__ = ["Selection", "names", "quote_of", "select"]


@dataclass(frozen=True)
class Selection:
    """Trades, as conditions for the database and as what `queries.read` takes."""

    filters: dict[str, Any]
    symbols: frozenset[str] | None  # None: every symbol that `filters` lets through
    quote: str | None  # in which the PnL of all of them is

    def conditions(self) -> list[Any]:
        found: list[Any] = read.conditions(Trade, self.filters, self.filters)
        if self.symbols is not None:
            field: Any = Trade.symbol
            found.append(field.in_(sorted(self.symbols)))
        return found


def select(
    symbol: str | None,
    strategy: str | None,
    start_date: datetime | None,
    end_date: datetime | None,
    quote: str | None,
    *,
    added_up: bool = True,
) -> Selection:
    """Return the trades that the arguments name.

    Raises `ValidationError` where their PnL would be added up although it is in different
    currencies.
    """
    filters = read.filters(Trade, symbol, strategy, start_date, end_date)
    if quote is not None and not isinstance(quote, str):
        raise ValidationError(f"quote: {show(quote)} is not the name of a currency", field="quote")
    if symbol is not None and quote is None:
        return Selection(filters, None, quote_of(filters["symbol"]))
    by_quote = defaultdict(set)
    for one in read.distinct(Trade, "symbol", filters):
        by_quote[quote_of(one)].add(one)
    if quote is not None:
        wanted = plain_text(quote) or None
        if by_quote and wanted not in by_quote:
            raise ValidationError(
                f"quote: no trade is in {show(quote)}; there are {names(by_quote)}", field="quote"
            )
        return Selection(filters, frozenset(by_quote[wanted]), wanted)
    if added_up and len(by_quote) > 1:
        raise ValidationError(
            f"quote: the trades are in different currencies, which do not add up: "
            f"{names(by_quote)}; name one with quote=, or a symbol",
            field="quote",
        )
    unknown = sorted(by_quote.get(None, ()))
    if added_up and len(unknown) > 1:
        some = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise ValidationError(
            f"quote: the symbols {some} do not say in which currency they are; pass quote='' if it "
            "is one and the same, or name a symbol",
            field="quote",
        )
    return Selection(filters, None, next(iter(by_quote)) if len(by_quote) == 1 else None)


def quote_of(symbol: str) -> str | None:
    """Return the currency in which the PnL of a symbol is, None where the symbol does not say.

    `BASE/QUOTE` is in QUOTE, and `BASE/QUOTE:SETTLE` of a derivative in SETTLE, which may be
    followed by an expiry, as ccxt writes them.
    """
    _, slash, quote = symbol.partition("/")
    if not slash:
        return None
    settled = quote.partition(":")[2] or quote
    return settled.partition("-")[0] or None


def names(quotes: Iterable[str | None]) -> str:
    """Return currencies as a message names them; "" stands for symbols that name none."""
    return ", ".join(repr(quote or "") for quote in sorted(quotes, key=lambda one: one or ""))
