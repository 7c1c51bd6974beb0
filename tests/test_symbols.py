"""What the names that exchanges and programs use say about currencies and contracts."""

from __future__ import annotations

import pytest

from botmemory.symbols import Instrument, instrument_of, quote_of


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        # ccxt, freqtrade, Alpaca
        ("BTC/USDT", "BTC", "USDT"),
        ("1000PEPE/USDT", "1000PEPE", "USDT"),
        ("BTC/USD1", "BTC", "USD1"),
        ("EUR/USD", "EUR", "USD"),
        # Hummingbot, Coinbase, OKX and KuCoin
        ("BTC-USDT", "BTC", "USDT"),
        ("1INCH-USDT", "1INCH", "USDT"),
        ("ETH-FDUSD", "ETH", "FDUSD"),
        ("WETH-USDC", "WETH", "USDC"),
        ("BTC-USD", "BTC", "USD"),
        ("eth-usdt", "eth", "usdt"),
        # Gate, MEXC, Deribit and OANDA
        ("BTC_USDT", "BTC", "USDT"),
        ("BTC_USDC", "BTC", "USDC"),
        ("EUR_USD", "EUR", "USD"),
        ("PI_USDT", "PI", "USDT"),
        ("SPX500_USD", "SPX500", "USD"),
        # the websocket names of Kraken
        ("XBT/USD", "XBT", "USD"),
        ("XBT/EUR", "XBT", "EUR"),
    ],
)
def test_a_spot_pair_names_both_currencies(symbol: str, base: str, quote: str) -> None:
    assert instrument_of(symbol) == Instrument(base, quote, quote)
    assert instrument_of(symbol).other_currency == base


@pytest.mark.parametrize(
    ("symbol", "currency", "other"),
    [
        ("BTC/USDT:USDT", "USDT", "BTC"),
        ("BTC/USDC:USDC", "USDC", "BTC"),
        ("BTC/EUR:EUR", "EUR", "BTC"),
        ("1000PEPE/USDT:USDT", "USDT", "1000PEPE"),
        ("BTC/USDT:USDT-250328", "USDT", "BTC"),
        # priced in dollars, and settled in a token that is worth one
        ("BTC/USD:USDC", "USDC", "BTC"),
        ("BTC/USD:USDT", "USDT", "BTC"),
        ("XYZ-TSLA/USDC:USDC", "USDC", "XYZ-TSLA"),
    ],
)
def test_a_linear_contract_is_settled_in_its_quote_currency(
    symbol: str, currency: str, other: str
) -> None:
    instrument = instrument_of(symbol)
    assert instrument.is_derivative
    assert not instrument.is_inverse
    assert (instrument.currency, instrument.other_currency) == (currency, other)
    assert instrument.problem is None


@pytest.mark.parametrize(
    ("symbol", "currency", "other"),
    [
        ("BTC/USD:BTC", "BTC", "USD"),
        ("BTC/USD:BTC-250328", "BTC", "USD"),
        ("ETH/EUR:ETH", "ETH", "EUR"),
        ("BTC/USDT:BTC", "BTC", "USDT"),
    ],
)
def test_an_inverse_contract_is_settled_in_its_base_currency(
    symbol: str, currency: str, other: str
) -> None:
    instrument = instrument_of(symbol)
    assert instrument.is_derivative
    assert instrument.is_inverse
    assert (instrument.currency, instrument.other_currency) == (currency, other)
    assert instrument.problem is None


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [
        ("BTC/USD:BTC-250328-60000-C", "BTC"),
        ("ETH/USD:ETH-250328-2000-P", "ETH"),
        ("BTC/USDT:USDT-250328-60000-C", "USDT"),
        ("XRP/USDC:USDC-250328-0.5-P", "USDC"),
    ],
)
def test_the_premium_of_an_option_is_in_its_settlement_currency(symbol: str, currency: str) -> None:
    instrument = instrument_of(symbol)
    assert instrument.is_option
    assert instrument.is_derivative
    assert not instrument.is_inverse
    assert (instrument.currency, instrument.other_currency) == (currency, None)
    assert instrument.problem is None


@pytest.mark.parametrize("symbol", ["ETH/USD:BTC", "XRP/USD:ETH", "ETH/USD:BTC-250328"])
def test_a_contract_that_is_settled_in_a_third_currency_has_a_problem(symbol: str) -> None:
    instrument = instrument_of(symbol)
    assert instrument.problem is not None
    assert instrument.problem.startswith(f"{symbol} is settled in ")


@pytest.mark.parametrize(
    "symbol",
    [
        # Binance, Bybit and BitMEX
        *("BTCUSDT", "BTCUSD_PERP", "BTCUSD_250328", "BTCUSDT_250328", "XBTUSD", "XBTH25"),
        *("BTC-26DEC25", "BTC-26DEC25-100000-C"),
        # OKX
        *("BTC-USDT-SWAP", "BTC-USD-SWAP", "BTC-USD-241227", "BTC-USD-241227-60000-C"),
        # Deribit
        *("BTC-PERPETUAL", "BTC-28MAR25", "BTC-28MAR25-60000-C", "BTC_USDC-PERPETUAL"),
        # Kraken
        *("XXBTZUSD", "XBTUSDC", "FI_XBTUSD_250328", "FF_XBTUSD_250328"),
        *("PF_XBTUSD", "PI_XBTUSD", "PV_XRPXBT", "FI_ETHUSD"),
        # Bitget
        *("BTCUSDT_UMCBL", "BTCUSD_DMCBL", "BTCUSDT_SPBL"),
        # others
        *("BTC-PERP", "ETH-0930", "BTC-USD-PERP", "PERP_BTC_USDT", "SPOT_BTC_USDT", "XBTUSDTM"),
        *("tBTCUSD", "tBTCF0:USTF0", "BTC_CW", "C-BTC-90000-310125"),
        # stocks and futures
        *("AAPL", "BRK-B", "BRK.B", "BF-B", "BAC-PL", "XYZ-WS", "REI-UN", "0700.HK", "^GSPC"),
        *("ESZ5", "ES 03-25", "ES-H25", "GC-DEC24", "AAPL250117C00150000", "EURUSD", "EURUSD=X"),
    ],
)
def test_other_names_say_nothing(symbol: str) -> None:
    assert instrument_of(symbol) == Instrument()
    assert quote_of(symbol) is None


@pytest.mark.parametrize("symbol", ["/", "-", "_", "BTC-", "-USD", ":", " "])
def test_separators_alone_name_no_currency(symbol: str) -> None:
    assert instrument_of(symbol) == Instrument()
