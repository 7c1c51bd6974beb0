"""hummingbot's database is imported: of any version, and with unusual rows."""

from __future__ import annotations

import decimal
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from paths import HUMMINGBOT_BOT

from botmemory import (
    ConfigError,
    DuplicateError,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    init_db,
)
from botmemory.cli._app import cli
from botmemory.interop.ccxt import import_trades
from botmemory.interop.hummingbot import import_database
from botmemory.repositories import cash_flows, positions, trades

with_database = pytest.mark.usefixtures("empty_database")
in_memory = pytest.mark.usefixtures("open_database")

# the columns that hummingbot has had for fills; those that are not named here are text
TYPES = {"timestamp": "BIGINT", "leverage": "INTEGER", "trade_fee": "JSON"}
NAMES = ("config_file_path", "strategy", "market", "symbol", "base_asset", "quote_asset")
PLACED = (*NAMES, "timestamp", "order_id", "trade_type", "order_type", "price", "amount")
FILLED = (*PLACED, "trade_fee", "exchange_trade_id")
FLOATS = {"price": "FLOAT", "amount": "FLOAT"}
INTEGERS = {"price": "BIGINT", "amount": "BIGINT"}
ID = {"id": "INTEGER PRIMARY KEY"}
VERSIONS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "2019.3": (
        ("id", *PLACED, "trade_fee_percent", "trade_fee_flat_fee", "trade_fee_asset"),
        ID
        | {"price": "NUMERIC(65, 18)", "amount": "NUMERIC(65, 18)"}
        | {"trade_fee_percent": "FLOAT", "trade_fee_flat_fee": "FLOAT"},
    ),
    "2019.9": (("id", *FILLED), ID | FLOATS),
    "2021.3": (("id", *FILLED, "leverage", "position"), ID | FLOATS),
    "2022.1": (("id", *FILLED, "leverage", "position"), ID | INTEGERS),
    "2022.2": ((*FILLED, "leverage", "position"), INTEGERS),
    "2022.2 migrated": (
        (*FILLED, "leverage", "position"),
        {"price": "BIGINT", "amount": "FLOAT"},
    ),
    "2023.5": (
        (*FILLED, "leverage", "position", "trade_fee_in_quote"),
        INTEGERS | {"trade_fee_in_quote": "BIGINT"},
    ),
}
FILL = {
    "config_file_path": "conf_1.yml",
    "strategy": "pure_market_making",
    "market": "binance",
    "symbol": "BTC-USDT",
    "base_asset": "BTC",
    "quote_asset": "USDT",
    "timestamp": 1_700_000_000_123,
    "order_id": "x-1",
    "trade_type": "BUY",
    "order_type": "LIMIT",
    "price": 42_000.5,
    "amount": 0.25,
    "trade_fee": json.dumps({"percent": 0.001, "flat_fees": []}),
    "trade_fee_percent": 0.001,
    "trade_fee_flat_fee": 0.0,
    "trade_fee_asset": "",
    "trade_fee_in_quote": 10.500125,
    "exchange_trade_id": "28457",
    "leverage": 1,
    "position": "NIL",
}
PAYMENT = {
    "timestamp": 1_700_000_000_000,
    "config_file_path": "conf_1.yml",
    "market": "binance_perpetual",
    "rate": 0.0001,
    "symbol": "BTC-USDT",
    "amount": -0.25,
}


@pytest.fixture
def open_database() -> None:
    init_db(":memory:")


@pytest.fixture
def bot(tmp_path: Path) -> Path:
    """A database that hummingbot itself has written."""
    file = tmp_path / "conf_1.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((HUMMINGBOT_BOT / "2026.9.sql").read_text(encoding="utf-8"))
    return file


@pytest.fixture
def empty(bot: Path) -> Path:
    """A database of the newest schema without rows."""
    change(bot, *(f'DELETE FROM "{name}"' for name in ("TradeFill", "Order", "FundingPayment")))
    return bot


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def create(file: Path, version: str, **other: str) -> Path:
    """Create the table of fills of a version."""
    names, types = VERSIONS[version]
    types = TYPES | types | other
    columns = ", ".join(f"{name} {types.get(name, 'TEXT')}" for name in names)
    change(file, f'CREATE TABLE "TradeFill" ({columns})')
    return file


def insert(file: Path, table: str, **values: Any) -> None:
    """Insert a row with the values for which there is a column, as its version stores them."""
    with closing(sqlite3.connect(file)) as connection, connection:
        types = {row[1]: row[2] for row in connection.execute(f'PRAGMA table_info("{table}")')}
        values = {name: value for name, value in values.items() if name in types}
        is_scaled = types.get("price") == "BIGINT"
        for name in ("price", "amount", "trade_fee_in_quote"):
            if is_scaled and values.get(name) is not None:
                values[name] = int(decimal.Decimal(str(values[name])) * 10**6)
        marks = ", ".join("?" * len(values))
        sql = f'INSERT INTO "{table}" ({", ".join(values)}) VALUES ({marks})'
        connection.execute(sql, list(values.values()))


def insert_fill(file: Path, **other: Any) -> None:
    insert(file, "TradeFill", **FILL | other)


def recorded() -> list[Trade]:
    return trades.get_all()[::-1]


def fill(trade: Trade) -> tuple[Any, ...]:
    return (
        trade.exchange,
        trade.symbol,
        str(trade.side),
        trade.price,
        trade.quantity,
        trade.fee,
        trade.fee_currency,
    )


# --- a database that hummingbot has written -----------------------------------------------------

BY_HUMMINGBOT = [
    ("binance", "BTC/USDT", "buy", 60000.0, 0.004, 0.000004, "BTC"),
    ("binance", "BTC/USDT", "buy", 60000.5, 0.006, 0.360003, "USDT"),
    ("binance", "BTC/USDT", "sell", 62000.0, 0.009996, 0.000775, "BNB"),
    ("binance", "ETH/USDT", "buy", 3000.0, 1.0, 1.5, "USDT"),
    ("kraken", "ETH/USD", "sell", 3010.25, 0.5, 3.913325, "USD"),
    ("gate_io_paper_trade", "SOL/USDT", "buy", 150.0, 10.0, 0.01, "SOL"),
    ("binance_perpetual", "BTC/USDT:USDT", "sell", 61000.0, 0.02, 0.61, "USDT"),
    ("binance_perpetual", "BTC/USDT:USDT", "buy", 60000.0, 0.02, 0.6, "USDT"),
    ("kucoin", "XRP/USDT", "sell", 0.5, 100.0, 0.05, "USDT"),
    ("kucoin", "XRP/USDT", "buy", 0.5, 100.0, 0.05, "USDT"),
]


@with_database
def test_every_fill_is_a_trade_and_every_payment_a_cash_flow(bot: Path) -> None:
    result = import_database(bot)
    assert [fill(trade) for trade in recorded()] == BY_HUMMINGBOT
    assert (result.created, result.skipped, result.conflict_count) == (10, 0, 0)
    assert (result.flows_created, result.flows_skipped, result.left_out) == (2, 0, 1)
    assert [(issue.index, issue.reason) for issue in result.warnings] == [
        (
            4,
            "TradeFill 4, order x-3: fees: only the one in USDT has a column; 0.002 BNB is in "
            "trade_metadata.trade_fee",
        ),
        (
            10,
            "TradeFill 10, order x-10: exchange_trade_id: another fill has '77', too; this one is "
            "recorded with '77#2'",
        ),
    ]
    [issue] = result.rejected
    assert (issue.index, issue.row["symbol"], result.rejected_count) == (11, "XRP-BTC", 1)
    assert issue.reason.startswith("TradeFill 11, order x-11: price: 0 is stored, as of one below ")


@with_database
def test_importing_twice_adds_nothing(bot: Path) -> None:
    import_database(bot)
    before = [trade.__data__ for trade in recorded()]
    again = import_database(bot)
    assert (again.created, again.skipped, again.conflict_count) == (0, 10, 0)
    assert (again.flows_created, again.flows_skipped, again.warnings) == (0, 2, [])
    assert [trade.__data__ for trade in recorded()] == before


@in_memory
def test_order_position_and_fees_are_in_the_metadata(bot: Path) -> None:
    import_database(bot)
    [opened, _] = trades.get_latest("BTC/USDT:USDT")[::-1]
    assert (opened.strategy, opened.contract_size) == ("perp_mm", 1.0)
    assert opened.timestamp == datetime(2026, 3, 1, 8, 6, 30, tzinfo=UTC)
    assert opened.trade_metadata == {
        "order_id": "x-6",
        "order_type": "LIMIT",
        "leverage": 5,
        "position": "OPEN",
        "config_file_path": "conf_perp.yml",
        "exchange_order_id": "9006",
        "creation_timestamp": 1_772_352_360_000,
        "trade_fee_in_quote": 0.61,
        "trade_fee": {
            "fee_type": "AddedToCost",
            "percent": "0",
            "percent_token": None,
            "flat_fees": [{"token": "USDT", "amount": "0.61"}],
        },
    }
    [spot] = trades.get_latest("ETH/USDT")
    assert "position" not in spot.trade_metadata
    assert spot.contract_size is None
    assert spot.trade_metadata["trade_fee"]["flat_fees"][1] == {"token": "BNB", "amount": "0.002"}


@in_memory
def test_figures_of_the_fills_fees_and_funding(bot: Path) -> None:
    import_database(bot)
    future = positions.get("BTC/USDT:USDT", "perp_mm", exchange="binance_perpetual")
    assert (future.quantity, future.realized_pnl, future.fees) == (0, 20.0, {"USDT": 1.21})
    assert (future.funding, future.net_realized_pnl) == (-0.25, 18.54)
    assert positions.get("BTC/USDT").quantity == 0  # the fee of the coin that was bought is paid
    assert positions.get("SOL/USDT").quantity == 9.99
    flows = {flow.exchange: flow for flow in cash_flows.get_latest()}
    bybit = flows["bybit_perpetual"]
    assert (bybit.kind, bybit.amount, bybit.currency) == ("funding", 0.125, "USDT")
    assert (bybit.symbol, bybit.strategy) == ("ETH/USDT:USDT", "perp_mm")
    assert bybit.timestamp == datetime(2026, 3, 1, 8, 1, 30, tzinfo=UTC)  # stored in seconds
    assert bybit.metadata == {"rate": -0.0002, "config_file_path": "conf_perp.yml"}


# --- versions of the schema ---------------------------------------------------------------------


@in_memory
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_the_table_is_read(version: str, tmp_path: Path) -> None:
    file = create(tmp_path / "bot.sqlite", version)
    insert_fill(file)
    insert_fill(file, order_id="x-2", timestamp=FILL["timestamp"] + 1, exchange_trade_id="28458")
    for counts in ((2, 0), (0, 2)):
        result = import_database(file)
        assert (result.created, result.skipped) == counts
        assert (result.rejected, result.warnings, result.conflicts) == ([], [], [])
    first = recorded()[0]
    assert fill(first) == (
        "binance", "BTC/USDT", "buy", 42_000.5, 0.25, 10.500125, "USDT",
    )  # fmt: skip
    assert first.timestamp == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)
    assert first.strategy == "pure_market_making"
    has_id = version != "2019.3"
    assert first.exchange_trade_id == ("28457" if has_id else "order:x-1:1700000000123")


@in_memory
def test_prices_and_amounts_that_are_stored_in_millionths_are_exact(empty: Path) -> None:
    for number, price in enumerate(("0.000001", "1.1", "99999.999999", "0.07")):
        insert_fill(empty, exchange_trade_id=str(number), price=price, amount=price)
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact])):
        import_database(empty)
    assert sorted(trade.price for trade in recorded()) == [0.000001, 0.07, 1.1, 99999.999999]
    assert all(trade.price == trade.quantity for trade in recorded())


@in_memory
def test_ids_that_the_upgrade_of_2022_has_extended_are_those_of_the_exchange(
    tmp_path: Path,
) -> None:
    old = create(tmp_path / "old.sqlite", "2021.3")
    new = create(tmp_path / "new.sqlite", "2022.2 migrated")
    ids = ("a", "77", "77_2", "77", "")
    for number, trade_id in enumerate(ids, 1):
        values = {"order_id": f"x-{number}", "timestamp": FILL["timestamp"] + number}
        insert_fill(old, exchange_trade_id=trade_id, **values)
        insert_fill(new, exchange_trade_id=f"{trade_id}_{number}", **values)
    first = import_database(old)
    assert (first.created, len(first.warnings)) == (5, 1)
    insert_fill(new, exchange_trade_id="100_5", order_id="x-6", timestamp=FILL["timestamp"] + 6)
    result = import_database(new)
    assert (result.created, result.skipped, result.conflicts) == (1, 5, [])
    assert [trade.exchange_trade_id for trade in recorded()] == [
        *("a", "77", "77_2", "77#2"),
        "order:x-5:1700000000128",
        "100_5",
    ]


@in_memory
def test_digits_that_the_upgrade_has_cut_off_are_a_conflict(tmp_path: Path) -> None:
    old = create(tmp_path / "old.sqlite", "2021.3")
    new = create(tmp_path / "new.sqlite", "2022.2 migrated")
    insert_fill(old, amount=0.123456789)
    insert_fill(new, amount=0.123456789, exchange_trade_id="28457_1")
    import_database(old)
    [conflict] = import_database(new).conflicts
    assert "quantity is 0.123456789, and 0.123456 in this row" in conflict.reason
    assert [trade.quantity for trade in recorded()] == [0.123456789]


# --- fees -----------------------------------------------------------------------------------------

ADDED, DEDUCTED = {"fee_type": "AddedToCost"}, {"fee_type": "DeductedFromReturns"}
FEES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[float, str]]] = {
    "nothing": ({"percent": "0", "flat_fees": []}, {}, (0.0, "USDT")),
    "of 2019": ({"percent": 0.002, "flat_fees": []}, {}, (2.0, "USDT")),
    "flat, of 2019": (
        {"percent": 0.0, "flat_fees": [{"asset": "ETH", "amount": 0.5}]},
        {},
        (0.5, "ETH"),
    ),
    "flat": ({"percent": "0", "flat_fees": [{"token": "HT", "amount": "0.5"}]}, {}, (0.5, "HT")),
    "pairs": ({"percent": 0, "flat_fees": [["BNB", "0.1"], ["BNB", 0.2]]}, {}, (0.3, "BNB")),
    "by token": ({"flat_fees": {"BNB": "0.1"}}, {}, (0.1, "BNB")),
    "a rebate": (
        {"percent": "0", "flat_fees": [{"token": "USDT", "amount": "-0.01"}]},
        {},
        (-0.01, "USDT"),
    ),
    "both": (
        {"percent": "0.001", "flat_fees": [{"token": "USDT", "amount": "0.5"}]},
        {},
        (1.5, "USDT"),
    ),
    "none of a token": (
        {"percent": "0", "flat_fees": [{"token": "BNB", "amount": "0"}]},
        {},
        (0.0, "BNB"),
    ),
    "a percentage that is paid in a third token": (
        {"percent": "0.001", "percent_token": "BNB", "flat_fees": []} | ADDED,
        {},
        (1.0, "USDT"),
    ),
    "a percentage that is paid in the coin": (
        {"percent": "0.001", "percent_token": "BTC", "flat_fees": []} | ADDED,
        {},
        (0.002, "BTC"),
    ),
    "deducted from a purchase": ({"percent": "0.001"} | DEDUCTED, {}, (0.002, "BTC")),
    "deducted from a sale": (
        {"percent": "0.001"} | DEDUCTED,
        {"trade_type": "SELL"},
        (1.0, "USDT"),
    ),
    "deducted at the close of a short position": (
        {"percent": "0.001"} | DEDUCTED,
        {"position": "CLOSE"},
        (1.0, "USDT"),
    ),
    "of an inverse contract": (
        {"percent": "0.001"} | ADDED,
        {"market": "bybit_perpetual", "quote_asset": "USD"},
        (0.000004, "BTC"),
    ),
}


@in_memory
@pytest.mark.parametrize("name", FEES)
def test_the_fee_and_its_currency(name: str, empty: Path) -> None:
    fee, values, expected = FEES[name]
    insert_fill(empty, price=500, amount=2, trade_fee=json.dumps(fee), **values)
    result = import_database(empty)
    assert (result.created, result.warnings) == (1, [])
    assert [(trade.fee, trade.fee_currency) for trade in recorded()] == [expected]
    assert recorded()[0].trade_metadata["trade_fee"] == fee


@in_memory
def test_the_flat_fee_of_the_first_versions(tmp_path: Path) -> None:
    file = create(tmp_path / "bot.sqlite", "2019.3")
    insert_fill(file, trade_fee_percent=0, trade_fee_flat_fee=0.01, trade_fee_asset="ETH")
    import_database(file)
    assert [(trade.fee, trade.fee_currency) for trade in recorded()] == [(0.01, "ETH")]


@in_memory
@pytest.mark.parametrize(
    "fee", ["much", "[]", "null", '{"percent": "x"}', '{"flat_fees": [{"token": "BNB"}]}',
            '{"flat_fees": ["BNB"]}', '{"percent": "NaN"}']
)  # fmt: skip
def test_a_fee_that_cannot_be_read_is_kept_with_a_warning(fee: str, empty: Path) -> None:
    insert_fill(empty, trade_fee=fee)
    [warning] = import_database(empty).warnings
    assert warning.reason == (
        f"TradeFill 1, order x-1: trade_fee: {fee!r} cannot be read, so that no fee is recorded"
    )
    [trade] = recorded()
    assert (trade.fee, trade.trade_metadata["trade_fee"]) == (None, fee)


# --- symbols --------------------------------------------------------------------------------------

SYMBOLS = {
    ("binance", "BTC", "USDT"): ("BTC/USDT", None),
    ("bybit_perpetual", "BTC", "USDT"): ("BTC/USDT:USDT", 1.0),
    ("hyperliquid_perpetual", "BTC", "USD"): ("BTC/USD:USD", 1.0),
    ("bybit_perpetual_testnet", "BTC", "USD"): ("BTC/USD:BTC", 1.0),
    ("okx_perpetual", "ETH", "USD"): ("ETH/USD:ETH", 1.0),
    ("bitget_perpetual", "BTC", "USD"): ("BTC/USD:BTC", None),
}


@in_memory
@pytest.mark.parametrize(("market", "base", "quote"), SYMBOLS)
def test_the_symbol_and_the_contract_size(market: str, base: str, quote: str, empty: Path) -> None:
    values = {"market": market, "symbol": f"{base}-{quote}"}
    insert_fill(empty, base_asset=base, quote_asset=quote, **values)
    result = import_database(empty)
    [trade] = recorded()
    assert (trade.symbol, trade.contract_size) == SYMBOLS[market, base, quote]
    if market == "bitget_perpetual":
        [warning] = result.warnings
        assert "contract_size: how much one unit of BTC/USD:BTC is at bitget" in warning.reason
    else:
        assert result.warnings == []
    if "perpetual" in market:
        insert(empty, "FundingPayment", **PAYMENT | values)
        import_database(empty)
        [flow] = cash_flows.get_latest()
        settled = trade.symbol.partition(":")[2]
        assert (flow.symbol, flow.currency) == (trade.symbol, settled)


@in_memory
def test_a_fill_with_a_position_is_of_a_derivative(empty: Path) -> None:
    insert_fill(empty, market="perp_finance", position="OPEN")
    import_database(empty)
    assert [trade.symbol for trade in recorded()] == ["BTC/USDT:USDT"]


@in_memory
def test_an_inverse_contract_is_worth_what_the_exchange_says(empty: Path) -> None:
    inverse = {"market": "bybit_perpetual", "quote_asset": "USD", "trade_fee": "{}", "amount": 1000}
    insert_fill(empty, price=40_000, **inverse)
    insert_fill(empty, price=50_000, exchange_trade_id="2", trade_type="SELL", **inverse)
    import_database(empty)
    assert positions.get("BTC/USD:BTC").realized_pnl == pytest.approx(1000 / 40_000 - 1000 / 50_000)


# --- identity -------------------------------------------------------------------------------------


@in_memory
def test_fills_without_an_id_are_identified_by_order_and_time(tmp_path: Path) -> None:
    file = create(tmp_path / "bot.sqlite", "2021.3")
    for values in (
        {"order_id": "x-1"},
        {"order_id": "x-1", "amount": 0.5},  # of the same order at the same time
        {"order_id": "x-1", "timestamp": FILL["timestamp"] + 5},
        {"order_id": "x-2"},
    ):
        insert_fill(file, exchange_trade_id="", **values)
    assert import_database(file).created == 4
    again = import_database(file)
    assert (again.created, again.skipped, again.conflicts) == (0, 4, [])
    assert sorted(str(trade.exchange_trade_id) for trade in recorded()) == [
        "order:x-1:1700000000123",
        "order:x-1:1700000000123#2",
        "order:x-1:1700000000128",
        "order:x-2:1700000000123",
    ]


@in_memory
def test_a_fill_that_is_stored_twice_is_recorded_once(tmp_path: Path) -> None:
    file = create(tmp_path / "bot.sqlite", "2021.3")
    for _ in range(2):
        insert_fill(file)
    result = import_database(file)
    assert (result.created, result.skipped, result.warnings) == (1, 1, [])


@in_memory
@pytest.mark.parametrize("apart", [True, False])
def test_another_fill_with_an_id_that_comes_later_is_recorded_too(apart: bool, empty: Path) -> None:
    insert_fill(empty, order_id="x-1")
    if apart:
        import_database(empty)
    # earlier in time, later in the file
    insert_fill(empty, order_id="x-2", trade_type="SELL", timestamp=FILL["timestamp"] - 1)
    result = import_database(empty)
    assert (result.created, result.skipped) == ((1, 1) if apart else (2, 0))
    assert result.conflicts == []
    assert {trade.exchange_trade_id: str(trade.side) for trade in recorded()} == {
        "28457": "buy",
        "28457#2": "sell",
    }
    assert import_database(empty).skipped == 2


@in_memory
def test_ids_are_unique_for_a_pair_on_an_exchange(empty: Path) -> None:
    for number, other in enumerate(({}, {"base_asset": "ETH"}, {"market": "kraken"})):
        insert_fill(empty, order_id=f"x-{number}", **other)
    result = import_database(empty)
    assert (result.created, result.warnings) == (3, [])
    change(empty, "UPDATE TradeFill SET price = 1000000")
    assert import_database(empty).conflict_count == 3


@with_database
def test_a_fill_that_is_recorded_with_other_values_is_a_conflict(empty: Path) -> None:
    fill = {"id": "28457", "timestamp": FILL["timestamp"], "symbol": "BTC/USDT", "side": "buy"}
    import_trades([fill | {"price": 42_000.0, "amount": 0.25}], exchange="binance")
    insert_fill(empty)
    with pytest.raises(DuplicateError, match="price is 42000.0, and 42000.5 in this row"):
        import_database(empty, on_conflict="error")
    for word in ("report", "update"):
        result = import_database(empty, on_conflict=word)  # type: ignore[arg-type]
        assert (result.created, result.skipped, result.conflict_count) == (0, 0, 1)
        [conflict] = result.conflicts
        assert (conflict.index, conflict.row["order_id"]) == (1, "x-1")
    result = import_database(empty)
    assert (result.skipped, result.conflicts) == (1, [])
    change(empty, "UPDATE TradeFill SET price = 43000000000")
    assert import_database(empty, on_conflict="keep_both").created == 1
    assert [trade.exchange_trade_id for trade in recorded()] == ["28457", "28457#2"]
    with pytest.raises(ValidationError, match="on_conflict: 'x' is not one of"):
        import_database(empty, on_conflict="x")  # type: ignore[arg-type]


@in_memory
def test_payments_of_one_time_in_the_files_of_several_bots(empty: Path) -> None:
    insert(empty, "FundingPayment", **PAYMENT)
    for amount, created in ((-0.25, 1), (-0.25, 0), (-0.5, 1)):  # the last is of another account
        change(empty, f"UPDATE FundingPayment SET amount = {amount}")
        result = import_database(empty)
        assert (result.flows_created, result.flows_skipped) == (created, 1 - created)
    assert cash_flows.get_total("USDT", kind="funding") == -0.75


# --- arguments ------------------------------------------------------------------------------------


@in_memory
def test_another_strategy_and_other_names_of_exchanges(bot: Path) -> None:
    names = {"gate_io_paper_trade": "paper", "binance_perpetual": "binance"}
    import_database(bot, strategy="mine", exchanges=names)
    rows = [*recorded(), *cash_flows.get_latest()]
    assert {row.strategy for row in rows} == {"mine"}
    assert {row.exchange for row in rows} == {
        *("binance", "bybit_perpetual", "kraken", "kucoin", "paper")
    }


@in_memory
def test_the_name_of_an_exchange_is_that_which_is_recorded(empty: Path) -> None:
    trades.create(symbol="A", side="buy", price=1, quantity=1, exchange="Binance")
    insert_fill(empty)
    import_database(empty)
    assert {trade.exchange for trade in recorded()} == {"Binance"}


@in_memory
def test_a_payment_has_the_strategy_of_its_configuration(empty: Path) -> None:
    for name, strategies in (("a.yml", ["one", "one"]), ("b.yml", ["one", "two"]), ("c.yml", [])):
        for number, strategy in enumerate(strategies):
            values = {"config_file_path": name, "order_id": f"{name}{number}"}
            insert_fill(empty, strategy=strategy, exchange_trade_id=f"{name}{number}", **values)
        time = PAYMENT["timestamp"] + ord(name[0])  # type: ignore[operator]
        insert(empty, "FundingPayment", **PAYMENT | {"config_file_path": name, "timestamp": time})
    import_database(empty)
    assert [flow.strategy for flow in cash_flows.get_latest()[::-1]] == ["one", None, None]


@in_memory
def test_invalid_arguments(bot: Path) -> None:
    with pytest.raises(ValidationError, match="strategy: "):
        import_database(bot, strategy="")
    with pytest.raises(ValidationError, match="exchange: "):
        import_database(bot, exchanges={"kraken": ""})
    with pytest.raises(ValidationError, match="exchanges: None is not text"):
        import_database(bot, exchanges={"kraken": None})  # type: ignore[dict-item]
    with pytest.raises(ValidationError, match="exchanges: 'kraken' is not a mapping"):
        import_database(bot, exchanges="kraken")  # type: ignore[arg-type]
    assert trades.get_trade_count() == 0


@in_memory
def test_rows_are_imported_in_batches(empty: Path) -> None:
    for number in range(1001):
        insert_fill(empty, exchange_trade_id=str(number), timestamp=FILL["timestamp"] - number)
    insert(empty, "FundingPayment", **PAYMENT)
    calls: list[tuple[int, int]] = []
    result = import_database(empty, progress=lambda done, total: calls.append((done, total)))
    assert (result.created, result.flows_created) == (1001, 1)
    assert calls == [(500, 1002), (1000, 1002), (1001, 1002), (1002, 1002)]


# --- unusual rows -------------------------------------------------------------------------------

REJECTED = {
    "a side": ({"trade_type": "RANGE"}, "trade_type: 'RANGE' is neither BUY nor SELL"),
    "an amount of 0": ({"amount": 0}, "amount: 0 is stored, as of one below 0.000001"),
    "no pair": ({"base_asset": ""}, "symbol: '-USDT' is not a pair"),
    "microseconds": ({"timestamp": 1_700_000_000_000_000}, "timestamp: 1700000000000000 is not in"),
    "text": ({"timestamp": "soon"}, "timestamp: 'soon' is not a number"),
    "a long name": ({"market": "x" * 33}, "exchange: "),
}


@in_memory
@pytest.mark.parametrize("name", REJECTED)
def test_a_fill_that_cannot_be_recorded_is_rejected(name: str, empty: Path) -> None:
    values, reason = REJECTED[name]
    insert_fill(empty, **values)
    insert_fill(empty, order_id="x-2", exchange_trade_id="28458")
    result = import_database(empty)
    [issue] = result.rejected
    assert issue.reason.startswith(f"TradeFill 1, order x-1: {reason}")
    assert (issue.index, result.created, result.rejected_count) == (1, 1, 1)
    assert "own_id" not in issue.row


@in_memory
def test_a_payment_that_cannot_be_recorded_is_rejected(empty: Path) -> None:
    insert(empty, "FundingPayment", **PAYMENT | {"symbol": "BTCUSDT"})
    insert(empty, "FundingPayment", **PAYMENT | {"timestamp": 1, "amount": "much"})
    no_pair, no_number = (issue.reason for issue in import_database(empty).rejected)
    assert no_pair == "FundingPayment 1: symbol: '-BTCUSDT' is not a pair"
    assert no_number.startswith("FundingPayment 2: amount: 'much' is not a number")


@in_memory
def test_what_is_no_fill_is_counted(bot: Path) -> None:
    change(
        bot,
        "CREATE TABLE RangePositionUpdate (id INTEGER PRIMARY KEY, hb_id TEXT)",
        "INSERT INTO RangePositionUpdate (hb_id) VALUES ('range-1'), ('range-1')",
    )
    assert import_database(bot).left_out == 3  # an order without a fill is the third


@in_memory
def test_a_fill_whose_order_is_not_stored_is_recorded(empty: Path) -> None:
    insert_fill(empty)
    assert import_database(empty).created == 1
    assert "exchange_order_id" not in recorded()[0].trade_metadata


# --- the file -------------------------------------------------------------------------------------


@in_memory
def test_files_that_are_no_hummingbot_database(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.sqlite: cannot be read: No such file"):
        import_database(tmp_path / "nothing.sqlite")
    other = tmp_path / "other.sqlite"
    change(other, "CREATE TABLE trades (id INTEGER PRIMARY KEY)")
    with pytest.raises(
        StorageError,
        match=r"other\.sqlite: is not a database of hummingbot: its table TradeFill has no amount,",
    ):
        import_database(other)


@in_memory
def test_nothing_is_written_in_the_file_or_beside_it(bot: Path) -> None:
    change(bot, "PRAGMA journal_mode = wal", 'DROP TABLE "Order"', "DROP TABLE FundingPayment")
    before = {file.name: file.read_bytes() for file in bot.parent.iterdir()}
    assert import_database(bot).created == 10
    assert {file.name: file.read_bytes() for file in bot.parent.iterdir()} == before


@in_memory
def test_urls(bot: Path) -> None:
    assert import_database(f"sqlite:///{bot}").created == 10
    with pytest.raises(ConfigError) as caught:
        import_database("mysql+pymysql://user:secret@host/db")
    assert str(caught.value) == (
        "path: mysql+pymysql://... is not a SQLite file; copy hummingbot's tables TradeFill, Order "
        "and FundingPayment into one, and import that"
    )


def test_the_database_must_be_open(bot: Path) -> None:
    close_db()
    with pytest.raises(Exception, match="the database is not open"):
        import_database(bot)


def test_from_the_command_line(bot: Path, path: Path) -> None:
    notes = path.with_name("notes.jsonl")

    def run(*options: str) -> tuple[int, str, str]:
        command = ["--db", path, "import-hummingbot", bot, *options]
        done = CliRunner().invoke(cli, list(map(str, command)))
        return done.exit_code, done.stdout, done.stderr

    code, out, err = run("--notes", str(notes), "--strategy", "mine")
    assert (code, out) == (
        1,
        "trades: 10 recorded, 0 already existed\n"
        "cash flows: 2 recorded, 0 already existed\n"
        "left out: 1\n",
    )
    assert [line for line in err.splitlines() if not line.startswith("TradeFill")] == [
        "warnings: 2",
        "rejected: 1",
    ]
    issues = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    assert [(issue["kind"], issue["row"]["order_id"]) for issue in issues] == [
        ("warnings", "x-3"),
        ("warnings", "x-10"),
        ("rejected", "x-11"),
    ]
    change(bot, "DELETE FROM TradeFill WHERE order_id = 'x-11'")
    change(bot, "UPDATE TradeFill SET price = price + 1000000 WHERE order_id = 'x-2'")
    code, out, err = run()
    assert (code, out.splitlines()[0]) == (1, "trades: 0 recorded, 9 already existed")
    assert err.splitlines()[-1] == "conflicts: 1"
    assert run("--on-conflict", "update")[0] == 0
    assert run()[0] == 0
    init_db(path)
    assert {trade.strategy for trade in recorded()} == {"mine"}
    close_db()
    new = path.with_name("new.db")
    url = "postgresql://user:secret@host/db"
    done = CliRunner().invoke(cli, ["--db", str(new), "import-hummingbot", url])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: FILE: postgresql://... is not a SQLite file; ")
    assert "secret" not in done.stderr
    assert not new.exists()


# --- hummingbot itself ------------------------------------------------------------------------


@pytest.mark.long
def test_hummingbot_still_writes_what_the_tests_read(
    hummingbot: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, HUMMINGBOT_BOT / "write.py"]
    done = subprocess.run(
        command, env=hummingbot, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == (HUMMINGBOT_BOT / "2026.9.sql").read_text(encoding="utf-8")


@pytest.mark.long
@in_memory
def test_what_was_imported_before_hummingbot_upgraded_its_database_is_not_added_again(
    hummingbot: dict[str, str], tmp_path: Path
) -> None:
    file = create(tmp_path / "bot.sqlite", "2021.3")
    order = ("id", *PLACED, "creation_timestamp", "last_status", "last_update_timestamp",
             "exchange_order_id", "leverage", "position")  # fmt: skip
    types = {"id": "TEXT PRIMARY KEY"} | FLOATS
    columns = ", ".join(f"{name} {types.get(name, 'TEXT')}" for name in order)
    change(file, f'CREATE TABLE "Order" ({columns})')
    values = {"creation_timestamp": 1, "last_status": "x", "last_update_timestamp": 2}
    for number, trade_id in enumerate(("77", "78", "78", ""), 1):
        insert(file, "Order", **FILL | values | {"id": f"x-{number}"})
        time = FILL["timestamp"] + number  # type: ignore[operator]
        changes = {"order_id": f"x-{number}", "exchange_trade_id": trade_id, "timestamp": time}
        insert_fill(file, trade_type="SELL" if number == 3 else "BUY", **changes)
    first = import_database(file)
    assert (first.created, first.rejected, len(first.warnings)) == (4, [], 1)
    command = [sys.executable, HUMMINGBOT_BOT / "write.py", file]
    subprocess.run(command, env=hummingbot, cwd=tmp_path, capture_output=True, check=True)
    again = import_database(file)
    assert (again.created, again.skipped, again.rejected, again.warnings) == (0, 4, [], [])
    assert again.conflicts == []
