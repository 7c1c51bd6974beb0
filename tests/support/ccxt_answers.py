"""What ccxt makes of the answers of exchanges, without a connection."""

from __future__ import annotations

from typing import Any

import ccxt


def market_of(symbol: str, market_id: str = "", contract_size: float = 1) -> dict[str, Any]:
    """Return a market as `exchange.markets` of ccxt has it."""
    base, _, rest = symbol.partition("/")
    quote, _, settle = rest.partition(":")
    settle, *terms = settle.split("-")
    is_option = len(terms) == 3
    return {
        "id": market_id,
        "symbol": symbol,
        "base": base,
        "quote": quote,
        "settle": settle or None,
        "type": ("option" if is_option else "swap") if settle else "spot",
        "spot": not settle,
        "swap": bool(settle) and not is_option,
        "contract": bool(settle),
        "future": False,
        "option": is_option,
        "margin": False,
        "linear": settle == quote if settle else None,
        "inverse": settle == base if settle else None,
        "contractSize": contract_size if settle else None,
        "precision": {"price": 0.01, "amount": 0.0001},
        "info": {},
    }


def api_of(exchange: str, market: dict[str, Any]) -> Any:
    """Return an exchange of ccxt that knows one market."""
    api = getattr(ccxt, exchange)()
    api.markets, api.markets_by_id = {market["symbol"]: market}, {market["id"]: [market]}
    return api


def parse(
    exchange: str, response: dict[str, Any], symbol: str, contract_size: float = 1
) -> dict[str, Any]:
    """Return a trade as ccxt parses it in a market of this symbol."""
    names = ("symbol", "pair", "instId", "contract_code", "contract", "instrument_name")
    market_id = next(str(response[name]) for name in names if name in response)
    market = market_of(symbol, market_id, contract_size)
    trade: dict[str, Any] = api_of(exchange, market).parse_trade(dict(response), market)
    return trade
