"""Which trades an analysis is about, and the currency of their PnL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from peewee import SQL, fn

from .._values import plain_text, refuse
from ..errors import ValidationError, show
from ..models import Trade
from ..queries import read
from ..symbols import quote_of
from .results import Source


@dataclass(frozen=True)
class Selection:
    """The trades that the filters and the symbols match."""

    filters: dict[str, Any]
    symbols: frozenset[str] | None  # None: every symbol that `filters` matches
    quote: str | None  # the currency of the PnL of all of them

    def conditions(self) -> list[Any]:
        conditions: list[Any] = read.conditions(Trade, self.filters, self.filters)
        if self.symbols is not None:
            field: Any = Trade.symbol
            conditions.append(field.in_(sorted(self.symbols)))
        return conditions

    def at_any_time(self) -> Selection:
        """Return the selection without its dates."""
        dates = ("start_date", "end_date")
        filters = {name: value for name, value in self.filters.items() if name not in dates}
        return replace(self, filters=filters)


def select(
    symbol: str | None,
    strategy: str | None,
    start_date: datetime | None,
    end_date: datetime | None,
    exchange: str | None,
    quote: str | None,
    *,
    one_currency: bool = True,
) -> Selection:
    """Return the trades that the arguments name.

    Raises `ValidationError` if `one_currency` and their PnL is in different currencies.
    """
    filters = read.filters(Trade, symbol, strategy, start_date, end_date, exchange)
    if quote is not None and not isinstance(quote, str):
        refuse("quote", quote, "is not the name of a currency")
    if symbol is not None and quote is None:
        return Selection(filters, None, quote_of(filters["symbol"]))
    symbols_by_quote = defaultdict(set)
    for name in read.distinct(Trade, "symbol", filters):
        symbols_by_quote[quote_of(name)].add(name)
    if quote is not None:
        currency = plain_text(quote) or None
        if symbols_by_quote and currency not in symbols_by_quote:
            raise ValidationError(
                f"quote: no trade is in {show(quote)}; use one of {_listed(symbols_by_quote)}",
                field="quote",
            )
        return Selection(filters, frozenset(symbols_by_quote[currency]), currency)
    if one_currency and len(symbols_by_quote) > 1:
        raise ValidationError(
            "quote: PnL in different currencies cannot be added up: "
            f"{_listed(symbols_by_quote)}; pass one of them as quote=, or a symbol",
            field="quote",
        )
    if one_currency:
        _require_one_unknown(symbols_by_quote.get(None, ()))
    currency = next(iter(symbols_by_quote)) if len(symbols_by_quote) == 1 else None
    return Selection(filters, None, currency)


def currencies(
    filters: dict[str, Any], quote: str | None, *, of_symbols: bool = False
) -> list[str]:
    """Return the values of `quote` for each of which there is a result, in alphabetical order.

    `filters` are arguments of `select`. Raises `ValidationError` where several symbols name no
    currency, unless `quote` says which trades are asked for, or each symbol has its own result.
    """
    if quote is not None:
        return [quote]
    names = read.distinct(Trade, "symbol", read.filters(Trade, **filters))
    if not of_symbols:
        _require_one_unknown({name for name in names if quote_of(name) is None})
    return quotes_of(names)


def quotes_of(symbols: Iterable[str]) -> list[str]:
    """Return the currencies of symbols in alphabetical order; "" for those that name none."""
    return sorted({quote_of(symbol) or "" for symbol in symbols})


def _require_one_unknown(symbols: Iterable[str]) -> None:
    """Refuse to add up the PnL of several symbols that name no currency."""
    unknown = sorted(symbols)
    if len(unknown) > 1:
        examples = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise ValidationError(
            f"quote: the symbols {examples} do not name a currency; pass quote='' if all of them "
            "have the same one, or a symbol",
            field="quote",
        )


def _listed(quotes: Iterable[str | None]) -> str:
    """Return currencies for a message; '' stands for symbols that name none."""
    return ", ".join(repr(quote) for quote in sorted(quote or "" for quote in quotes))


def choose_source(selection: Selection, source: Source | None) -> Source:
    """Return the source of the PnL: where it is left out, `recorded` if any trade has a PnL."""
    if source is not None:
        text = plain_text(source) if isinstance(source, str) else source
        if text not in ("recorded", "fills"):
            refuse("source", source, "is unknown; use 'recorded' or 'fills'")
        return text  # type: ignore[return-value]
    pnl: Any = Trade.pnl
    query: Any = Trade.select(SQL("1")).where(*selection.conditions(), pnl.is_null(False)).limit(1)
    return "recorded" if read.fetch(query.tuples()) else "fills"


def count_trades(selection: Selection, *, with_pnl: bool) -> tuple[int, int]:
    """Return the number of trades, and of those with a PnL if that is asked for."""
    counts = [fn.COUNT(SQL("*")), fn.COUNT(Trade.pnl if with_pnl else SQL("NULL"))]
    [(trades, closed)] = read.fetch(read.select(Trade, selection.conditions(), *counts).tuples())
    return trades, closed


def trades_of(selection: Selection, *fields: str) -> Iterator[tuple[Any, ...]]:
    """Yield the timestamp, the id and the named fields of trades in time order."""
    rows = read.stream_values(Trade, selection.filters, "symbol", *fields)
    symbols = selection.symbols
    for timestamp, trade_id, symbol, *values in rows:
        if symbols is None or symbol in symbols:
            yield timestamp, trade_id, *values
