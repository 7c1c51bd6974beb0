"""Random histories of recorded fills, of several markets, exchanges and strategies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import position_reference as reference
from fill_strategies import contract_sizes, fills
from hypothesis import strategies as st
from position_reference import MARKETS, Market
from samples import at

RATES = {"BNB": 600.0, "BTC": 60_000.0, "ETH/BTC": 0.03, "USD": 1 / 3}


@dataclass(frozen=True)
class Row:
    """A recorded fill."""

    market: Market
    exchange: str | None
    strategy: str | None
    fill: reference.Fill

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        return self.market.symbol, self.exchange, self.strategy

    def values(self) -> dict[str, Any]:
        return dict(zip(("symbol", "exchange", "strategy"), self.key, strict=True)) | asdict(
            self.fill
        )


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    """Return the fills of a bot in time order, often several at one time."""
    markets = draw(st.lists(st.sampled_from(MARKETS), min_size=1, max_size=2, unique=True))
    sizes = {market: draw(contract_sizes(market)) for market in markets}
    rows, hour = [], 0
    for _ in range(draw(st.integers(1, 12))):
        hour += draw(st.sampled_from([0, 1, 1]))
        market = draw(st.sampled_from(markets))
        fill = draw(fills(market, sizes[market], timestamp=st.just(at(hour))))
        rows.append(
            Row(
                market,
                draw(st.sampled_from([None, "okx"])),
                draw(st.sampled_from([None, "a"])),
                fill,
            )
        )
        if draw(st.booleans()):  # an order for what is held
            held = reference.account(
                market, [row.fill for row in rows if row.key == rows[-1].key]
            ).quantity
            if held:
                closing = asdict(fill) | {
                    "side": "sell" if held > 0 else "buy",
                    "quantity": abs(float(held)),
                    "fee": None,
                }
                rows.append(Row(market, *rows[-1].key[1:], reference.Fill(**closing)))
    return rows
