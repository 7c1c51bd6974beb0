"""freqtrade's database is imported: of any version, while its bot runs, and with unusual rows."""

from __future__ import annotations

import decimal
import json
import re
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from paths import FREQTRADE_BOT
from processes import in_child, mount_small_disk, needs_fork

from botmemory import (
    ConfigError,
    DatabaseBusyError,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    init_db,
)
from botmemory.cli._app import cli
from botmemory.interop.ccxt import import_trades
from botmemory.interop.freqtrade import import_database
from botmemory.repositories import cash_flows, positions, trades

VERSIONS = sorted(file.stem for file in FREQTRADE_BOT.glob("*.sql"))
WITHOUT_ORDERS = ("0.17.1", "2019.10")

with_database = pytest.mark.usefixtures("empty_database")
in_memory = pytest.mark.usefixtures("open_database")


@pytest.fixture
def open_database() -> None:
    init_db(":memory:")


@pytest.fixture
def bot(tmp_path: Path) -> Path:
    """A database that freqtrade itself has written."""
    return database(tmp_path / "bot.sqlite", "2026.9")


def database(file: Path, version: str) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((FREQTRADE_BOT / f"{version}.sql").read_text(encoding="utf-8"))
    return file


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A database of the newest schema without rows."""
    file = database(tmp_path / "empty.sqlite", "2026.9")
    change(file, *(f"DELETE FROM {table}" for table in ("trade_custom_data", "orders", "trades")))
    return file


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def insert(file: Path, table: str, **values: Any) -> None:
    """Insert a row, with values for the other columns that must not be NULL."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for _, name, kind, required, default, key in connection.execute(
            f"PRAGMA table_info({table})"
        ):
            if required and default is None and not key:
                values.setdefault(name, "" if kind.startswith("VARCHAR") else 0)
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))


CLOSED = {
    "id": 7,
    "exchange": "binance",
    "pair": "BTC/USDT",
    "is_open": 0,
    "fee_open": 0.001,
    "fee_close": 0.002,
    "open_rate": 100.0,
    "close_rate": 110.0,
    "amount": 2.0,
    "open_date": "2024-03-01 10:00:00.000000",
    "close_date": "2024-03-02 11:30:00.123456",
    "strategy": "Trend",
}
OPEN = CLOSED | {"is_open": 1, "close_rate": None, "close_date": None}
ORDER = {
    "ft_trade_id": 7,
    "ft_pair": "BTC/USDT",
    "ft_is_open": 0,
    "status": "closed",
    "order_date": "2024-03-01 10:00:00.000000",
    "order_filled_date": "2024-03-01 10:00:05.000000",
}
ENTRY = ORDER | {
    "order_id": "1",
    "ft_order_side": "buy",
    "price": 100.0,
    "average": 100.0,
    "amount": 2.0,
    "filled": 2.0,
}
EXIT = ENTRY | {
    "order_id": "2",
    "ft_order_side": "sell",
    "price": 110.0,
    "average": 110.0,
    "order_filled_date": "2024-03-02 11:30:00.123456",
}


def recorded() -> list[Trade]:
    return trades.get_all()[::-1]


def fill(trade: Trade) -> tuple[Any, ...]:
    return (
        trade.symbol,
        str(trade.side),
        trade.price,
        trade.quantity,
        trade.pnl,
        trade.fee,
        trade.fee_currency,
    )


# --- a database that freqtrade has written ------------------------------------------------------

BY_FREQTRADE = {
    ("BTC/USDT", "buy", 60000.0, 0.01, None, 0.6, "USDT"),  # paid in BNB, as freqtrade values it
    ("BTC/USDT", "sell", 62000.0, 0.01, 18.78, 0.62, "USDT"),
    ("ETH/USDT", "buy", 3000.0, 1.0, None, 3.0, "USDT"),
    ("ETH/USDT", "buy", 2900.0, 0.4, None, 1.16, "USDT"),
    ("ETH/USDT", "sell", 3100.0, 0.5, None, 1.55, "USDT"),
    ("ETH/USDT", "sell", 3200.0, 0.9, 261.40999999999997, 2.88, "USDT"),
    ("SOL/USDT", "buy", 150.0, 10.0, None, 1.5, "USDT"),
    ("SOL/USDT", "sell", 139.9, 10.0, -103.899, 1.399, "USDT"),
    ("ADA/USDT", "buy", 0.5, 1000.0, None, 0.5, "USDT"),
    ("ADA/USDT", "sell", 0.6, 400.0, 39.56, 0.24, "USDT"),
    ("BTC/USDT:USDT", "sell", 61000.0, 0.02, None, 0.61, "USDT"),
    ("BTC/USDT:USDT", "buy", 60000.0, 0.02, 18.54, 0.6, "USDT"),
    ("DOGE/USDT", "buy", 0.2, 100.0, None, 0.1, "DOGE"),
    ("DOGE/USDT", "sell", 0.21, 99.9, 0.958041, 0.020979, "USDT"),
    ("LTC/USDT", "buy", 80.0, 2.0, None, 0.16, "USDT"),
    ("LTC/USDT", "sell", 85.0, 2.0, 9.67, 0.17, "USDT"),
}


@with_database
def test_every_filled_order_is_a_trade_and_the_last_one_has_the_profit(bot: Path) -> None:
    result = import_database(bot)
    assert {fill(trade) for trade in recorded()} == BY_FREQTRADE
    assert (result.created, result.skipped, result.rejected_count) == (16, 0, 1)
    with closing(sqlite3.connect(bot)) as connection:
        [[profit]] = connection.execute("SELECT SUM(realized_profit) FROM trades")
    assert trades.get_total_pnl() == pytest.approx(profit, rel=1e-12)
    position = positions.get("ADA/USDT")
    assert (position.quantity, position.average_entry_price) == (600.0, 0.5)
    assert positions.get("BTC/USDT:USDT").quantity == 0


@with_database
def test_tags_reason_and_strategy_are_recorded(bot: Path) -> None:
    import_database(bot)
    stopped = trades.get_latest("SOL/USDT", 1)[0]
    assert stopped.strategy == "Breakout"
    assert stopped.trade_metadata == {
        "trade_id": 3,
        "timeframe": 5,
        "trading_mode": "SPOT",
        "is_short": 0,
        "leverage": 1.0,
        "exit_reason": "stoploss_on_exchange",
        "close_profit": -0.0691968031968032,
        "fee_close": 0.001,
        "order_id": "2002",
        "order_type": "stop_loss_limit",
        "order_date": "2026-03-01 14:00:00.000000",
        "status": "closed",
        "stop_price": 141.0,
        "ft_order_side": "stoploss",
        "min_rate": 139.0,
        "max_rate": 155.5,
        "custom_data": {"moved": True, "moves": 3, "note": "wide", "levels": {"low": 139.5}},
    }
    assert "max_rate" not in trades.get_latest("LTC/USDT", 1)[0].trade_metadata  # 0: not seen
    partial_exit, entry = trades.get_latest("ADA/USDT", 2)
    assert (
        partial_exit.trade_metadata["enter_tag"]
        == entry.trade_metadata["enter_tag"]
        == "golden_cross"
    )
    assert partial_exit.trade_metadata["ft_order_tag"] == "half"
    assert entry.timestamp == datetime(2026, 3, 1, 11, 0, 30, tzinfo=UTC)
    assert entry.exchange == "binance"


@in_memory
def test_the_range_and_custom_data_of_a_trade_are_kept_once_it_is_closed(empty: Path) -> None:
    insert(empty, "trades", **OPEN | {"min_rate": 95.0, "max_rate": 112.0})
    insert(empty, "orders", **ENTRY)
    insert(empty, "orders", **EXIT | {"filled": 1.0})
    insert(empty, "trade_custom_data", ft_trade_id=7, cd_key="R", cd_type="float", cd_value="2.5")
    assert import_database(empty).left_out == 0
    assert not [trade for trade in recorded() if "max_rate" in trade.trade_metadata]

    change(empty, "UPDATE trades SET is_open = 0, close_profit_abs = 1, max_rate = 118.0")
    change(empty, "UPDATE trade_custom_data SET cd_value = '3.5'")
    later = {"order_id": "3", "order_filled_date": "2024-03-03 00:00:00.000000"}
    insert(empty, "orders", **EXIT | {"filled": 1.0} | later)
    result = import_database(empty)
    assert (result.created, result.skipped, result.conflicts) == (1, 2, [])
    kept = [
        {name: trade.trade_metadata.get(name) for name in ("min_rate", "max_rate", "custom_data")}
        for trade in recorded()
    ]
    nothing = dict.fromkeys(kept[0])
    last = {"min_rate": 95.0, "max_rate": 118.0, "custom_data": {"R": 3.5}}
    assert kept == [nothing, nothing, last]

    change(empty, "UPDATE trades SET max_rate = 120.0")
    again = import_database(empty)
    assert (again.created, again.conflicts, again.warnings) == (0, [], [])


@in_memory
def test_custom_data_that_cannot_be_read_is_kept_as_text(empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"close_profit_abs": 1.0})
    for kind, text in (("int", "1.5"), ("float", "much"), ("list", "[1,"), ("bool", "False")):
        insert(empty, "trade_custom_data", ft_trade_id=7, cd_key=kind, cd_type=kind, cd_value=text)
    import_database(empty)
    assert recorded()[-1].trade_metadata["custom_data"] == {
        "int": "1.5",
        "float": "much",
        "list": "[1,",
        "bool": False,
    }


@in_memory
def test_custom_data_of_no_trade_are_left_out_and_counted(empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"close_profit_abs": 1.0})
    for trade_id in (0, 7, 8, None):
        values = {"cd_key": "a", "cd_type": "int", "cd_value": "1"}
        insert(empty, "trade_custom_data", ft_trade_id=trade_id, **values)
    assert import_database(empty).left_out == 3


@with_database
def test_importing_twice_adds_nothing(bot: Path) -> None:
    import_database(bot)
    before = [trade.__data__ for trade in recorded()]
    again = import_database(bot)
    assert (again.created, again.skipped, again.warnings) == (0, 16, [])
    assert [trade.__data__ for trade in recorded()] == before


@in_memory
def test_an_open_order_is_imported_when_it_is_closed(bot: Path) -> None:
    [issue] = import_database(bot).rejected
    assert issue.reason == (
        "trade 5, order 4001: filled: 120.0 so far, and the order is open; "
        "import again when it is closed"
    )
    assert (issue.index, issue.row["ft_pair"]) == (11, "XRP/USDT")
    change(
        bot,
        "UPDATE orders SET filled = 500.0, ft_is_open = 0, status = 'closed', "
        "order_filled_date = '2026-03-01 20:00:00.000000' WHERE order_id = '4001'",
    )
    result = import_database(bot)
    assert (result.created, result.skipped, result.rejected) == (1, 16, [])
    assert positions.get("XRP/USDT").quantity == 500.0


@in_memory
def test_profit_of_an_open_trade_is_not_counted_again_when_it_closes(empty: Path) -> None:
    insert(empty, "trades", **OPEN | {"realized_profit": 9.5, "close_profit_abs": 9.5})
    insert(empty, "orders", **ENTRY)
    insert(empty, "orders", **EXIT | {"filled": 1.0, "amount": 1.0})
    import_database(empty)
    assert [trade.pnl for trade in recorded()] == [None, 9.5]

    closed = "is_open = 0, close_rate = 90.0, realized_profit = -0.75, close_profit_abs = -0.75"
    change(empty, f"UPDATE trades SET {closed}")
    later = {"order_id": "3", "order_filled_date": "2024-03-03 00:00:00.000000"}
    insert(empty, "orders", **EXIT | {"filled": 1.0, "amount": 1.0} | later)
    result = import_database(empty)
    assert (result.created, result.skipped, result.warnings) == (1, 2, [])
    assert [trade.pnl for trade in recorded()] == [None, 9.5, -10.25]
    assert trades.get_total_pnl() == -0.75


@in_memory
def test_a_profit_that_freqtrade_has_changed_since_is_reported(empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"close_profit_abs": 19.0})
    insert(empty, "orders", **ENTRY)
    insert(empty, "orders", **EXIT)
    import_database(empty)
    change(empty, "UPDATE trades SET close_profit_abs = 18.5")
    [warning] = import_database(empty).warnings
    assert (
        warning.reason == "trade 7, order 2: pnl: 19.0 is recorded, but it is 18.5 in freqtrade now"
    )
    assert trades.get_total_pnl() == 19.0


@in_memory
def test_many_trades_are_imported_in_batches(empty: Path) -> None:
    for number in range(1, 451):
        insert(empty, "trades", **CLOSED | {"id": number, "close_profit_abs": 1.0})
        insert(empty, "orders", **ENTRY | {"ft_trade_id": number, "order_id": f"{number}a"})
        insert(empty, "orders", **EXIT | {"ft_trade_id": number, "order_id": f"{number}b"})
    calls: list[tuple[int, int]] = []
    result = import_database(empty, progress=lambda done, total: calls.append((done, total)))
    assert result.created == 900
    assert calls == [(200, 450), (400, 450), (450, 450)]


# --- the fills, fees and funding, apart ---------------------------------------------------------

# what the wallet paid beyond what freqtrade says: it takes its rate of what was left after the fee
PAID_IN_BASE_CURRENCY = {"DOGE/USDT": 0.2 * 0.1 * 0.001}


@with_database
def test_net_pnl_is_the_profit_of_freqtrade(bot: Path) -> None:
    import_database(bot)
    with closing(sqlite3.connect(bot)) as connection:
        profits = dict(
            connection.execute("SELECT pair, close_profit_abs FROM trades WHERE NOT is_open")
        )
    assert len(profits) == 6
    for pair, profit in profits.items():
        # freqtrade rounds to 8 digits at each exit
        expected = pytest.approx(profit - PAID_IN_BASE_CURRENCY.get(pair, 0.0), abs=2e-8)
        assert (pair, positions.get(pair).net_realized_pnl) == (pair, expected)


@with_database
def test_gross_pnl_fees_and_funding_of_a_short_position(bot: Path) -> None:
    result = import_database(bot)
    assert (result.flows_created, result.flows_skipped) == (1, 0)
    position = positions.get("BTC/USDT:USDT", "Trend", exchange="binance")
    assert (position.realized_pnl, position.fees) == (20.0, {"USDT": 1.21})
    assert (position.funding, position.net_realized_pnl) == (-0.25, 18.54)
    [flow] = cash_flows.get_latest()
    assert (flow.kind, flow.amount, flow.currency) == ("funding", -0.25, "USDT")
    assert (flow.symbol, flow.strategy, flow.exchange) == ("BTC/USDT:USDT", "Trend", "binance")
    assert flow.timestamp == trades.get_latest("BTC/USDT:USDT", 1)[0].timestamp
    again = import_database(bot)
    assert (again.flows_created, again.flows_skipped, again.warnings) == (0, 1, [])


FUTURE = {"pair": "BTC/USDT:USDT", "trading_mode": "FUTURES"}


@in_memory
def test_funding_is_recorded_with_the_order_that_it_is_booked_with(empty: Path) -> None:
    insert(empty, "trades", **OPEN | FUTURE | {"funding_fees": -0.75})  # 0.25 of it not booked yet
    insert(empty, "orders", **ENTRY | {"funding_fee": 0.0})
    later = {"order_id": "3", "order_filled_date": "2024-03-02 00:00:00.000000"}
    insert(empty, "orders", **ENTRY | later | {"funding_fee": -0.5})
    assert import_database(empty).flows_created == 1
    assert positions.get("BTC/USDT:USDT").funding == -0.5

    change(empty, "UPDATE trades SET is_open = 0, close_profit_abs = 1, funding_fees = -0.9")
    insert(empty, "orders", **EXIT | {"filled": 4.0, "funding_fee": -0.4})
    result = import_database(empty)
    assert (result.flows_created, result.flows_skipped, result.warnings) == (1, 1, [])
    assert [(flow.amount, str(flow.timestamp.date())) for flow in cash_flows.get_latest()] == [
        (-0.4, "2024-03-02"),
        (-0.5, "2024-03-02"),
    ]


@in_memory
def test_funding_of_versions_that_keep_the_total_only(tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", "2022.4")
    insert_known(file, "trades", **OPEN | FUTURE | {"funding_fees": -0.25})
    insert_known(file, "orders", **ENTRY)
    assert import_database(file).flows_created == 0  # it changes until the trade is closed
    change(file, "UPDATE trades SET is_open = 0, close_profit_abs = 1, funding_fees = -0.5")
    insert_known(file, "orders", **EXIT)
    assert import_database(file).flows_created == 1
    assert positions.get("BTC/USDT:USDT").funding == -0.5
    change(file, "UPDATE trades SET funding_fees = -0.75")
    result = import_database(file)
    assert (result.flows_created, result.flows_skipped) == (0, 1)
    [warning] = result.warnings
    assert warning.reason == (
        "trade 7, order 2: funding: -0.5 is recorded, but it is -0.75 in freqtrade now"
    )


@in_memory
def test_the_same_order_id_of_two_pairs_has_the_funding_of_both(empty: Path) -> None:
    for number, pair in enumerate(("BTC/USDT:USDT", "ETH/USDT:USDT")):
        insert(empty, "trades", **OPEN | {"id": number, "pair": pair})
        order = {"ft_trade_id": number, "ft_pair": pair, "funding_fee": -1.0 - number}
        insert(empty, "orders", **ENTRY | order)
    assert import_database(empty).flows_created == 2
    assert cash_flows.get_total("USDT", kind="funding") == -3.0


@in_memory
def test_funding_that_cannot_be_recorded_is_rejected(empty: Path) -> None:
    insert(empty, "trades", **OPEN | {"pair": "BTCPERP"})
    insert(empty, "orders", **ENTRY | {"funding_fee": -1.0})
    insert(empty, "orders", **ENTRY | {"order_id": "3", "funding_fee": "much"})
    result = import_database(empty)
    number, currency = result.rejected
    assert number.reason.startswith("trade 7, order 3: funding_fee: 'much' is not a number")
    assert currency.reason.startswith("trade 7, order 1: funding -1.0: currency: None")
    assert (result.created, result.flows_created) == (1, 0)


# --- versions of the schema ---------------------------------------------------------------------


def insert_known(file: Path, table: str, **values: Any) -> None:
    """Insert a row with the values for which this version has a column."""
    with closing(sqlite3.connect(file)) as connection:
        names = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    insert(file, table, **{name: value for name, value in values.items() if name in names})


@with_database
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_the_schema_is_read(version: str, tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", version)
    change(file, "DELETE FROM trades")
    tags = {
        **dict.fromkeys(("enter_tag", "buy_tag"), "dip"),
        **dict.fromkeys(("exit_reason", "sell_reason"), "roi"),
        **dict.fromkeys(("timeframe", "ticker_interval"), 5),
    }
    insert_known(
        file, "trades", **CLOSED | tags | {"exchange": "Binance", "close_profit_abs": 19.36}
    )
    insert_known(file, "trades", **OPEN | tags | {"id": 8, "exchange": "Binance"})
    if version not in WITHOUT_ORDERS:
        change(file, "DELETE FROM orders")
        insert_known(file, "orders", **ENTRY)
        insert_known(file, "orders", **EXIT)
        insert_known(file, "orders", **ENTRY | {"ft_trade_id": 8, "order_id": "3", "average": 101.0,
                                         "price": 101.0})  # fmt: skip
    result = import_database(file)
    assert (result.created, result.rejected) == (3, [])
    closed = [trade for trade in recorded() if trade.trade_metadata["trade_id"] == 7]
    assert [fill(trade) for trade in closed] == [
        ("BTC/USDT", "buy", 100.0, 2.0, None, 0.2, "USDT"),
        ("BTC/USDT", "sell", 110.0, 2.0, 19.36, 0.44, "USDT"),
    ]
    assert closed[1].timestamp == datetime(2024, 3, 2, 11, 30, 0, 123456, tzinfo=UTC)
    assert closed[1].trade_metadata["exit_reason"] == "roi"
    assert closed[1].trade_metadata["timeframe"] == 5
    assert closed[1].strategy == "Trend"
    assert closed[1].exchange == "binance"
    if version >= "2021.9":
        assert closed[1].trade_metadata["enter_tag"] == "dip"
    assert positions.get("BTC/USDT").quantity == 2.0
    assert import_database(file).created == 0


@in_memory
def test_the_oldest_schema_with_one_fee_rate(tmp_path: Path) -> None:
    file = tmp_path / "bot.sqlite"
    change(
        file,
        "CREATE TABLE trades (id INTEGER PRIMARY KEY, exchange, pair, is_open, fee, open_rate,"
        " close_rate, amount, open_date, close_date)",
    )
    insert_known(
        file, "trades", **CLOSED | {"fee": 0.0025, "exchange": "BITTREX", "pair": "ETH/BTC"}
    )
    result = import_database(file)
    assert [fill(trade) for trade in recorded()] == [
        ("ETH/BTC", "buy", 100.0, 2.0, None, 0.5, "BTC"),
        ("ETH/BTC", "sell", 110.0, 2.0, 18.95, 0.55, "BTC"),
    ]
    [warning] = result.warnings
    assert "computed from rates and fees" in warning.reason


@in_memory
def test_an_old_trade_with_a_pending_entry_is_rejected(tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", "2019.10")
    insert(file, "trades", **OPEN | {"open_order_id": "99"})
    [issue] = import_database(file).rejected
    assert issue.reason == (
        "trade 7: open_order_id: the order 99 is not filled yet; import again when it is"
    )
    # now the pending order is an exit
    change(file, "UPDATE trades SET close_rate_requested = 111.0, open_order_id = '100'")
    assert import_database(file).created == 1
    change(file, "UPDATE trades SET is_open = 0, open_order_id = NULL, close_rate = 111.0, "
                 "close_date = '2024-03-05 00:00:00.000000'")  # fmt: skip
    assert import_database(file).created == 1
    assert positions.get("BTC/USDT").quantity == 0


@in_memory
def test_an_entry_without_an_order_beside_an_open_order(tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", "2020.12")
    insert_known(file, "trades", **OPEN)
    stop = {"ft_order_side": "stoploss", "ft_is_open": 1, "status": None, "filled": None}
    insert_known(file, "orders", **EXIT | stop)
    assert import_database(file).created == 1
    assert positions.get("BTC/USDT").quantity == 2.0


# --- unusual rows -------------------------------------------------------------------------------

UNUSUAL_ORDERS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "cancelled, partly filled": (
        {"status": "canceled", "filled": 0.5},
        ("BTC/USDT", "buy", 100.0, 0.5, None, 0.05, "USDT"),
    ),
    "expired, partly filled": (
        {"status": "expired", "filled": 0.5},
        ("BTC/USDT", "buy", 100.0, 0.5, None, 0.05, "USDT"),
    ),
    "no price, an average": (
        {"price": None, "average": 99.0},
        ("BTC/USDT", "buy", 99.0, 2.0, None, 0.198, "USDT"),
    ),
    "a price better than the limit": (
        {"price": 100.0, "average": 99.0},
        ("BTC/USDT", "buy", 99.0, 2.0, None, 0.198, "USDT"),
    ),
    "a price of zero, a cost": (
        {"price": 0.0, "average": None, "cost": 190.0},
        ("BTC/USDT", "buy", 95.0, 2.0, None, 0.19, "USDT"),
    ),
    "only a stop price": (
        {"price": None, "average": None, "stop_price": 98.0},
        ("BTC/USDT", "buy", 98.0, 2.0, None, 0.196, "USDT"),
    ),
    "closed, without a filled quantity": (
        {"filled": None},
        ("BTC/USDT", "buy", 100.0, 2.0, None, 0.2, "USDT"),
    ),
    "only the side of the exchange": (
        {"ft_order_side": "", "side": "buy"},
        ("BTC/USDT", "buy", 100.0, 2.0, None, 0.2, "USDT"),
    ),
    "a fee in base currency": (
        {"ft_fee_base": 0.002},
        ("BTC/USDT", "buy", 100.0, 2.0, None, 0.002, "BTC"),
    ),
}


@in_memory
@pytest.mark.parametrize("name", UNUSUAL_ORDERS)
def test_an_unusual_order_is_recorded(name: str, empty: Path) -> None:
    values, expected = UNUSUAL_ORDERS[name]
    insert(empty, "trades", **OPEN)
    insert(empty, "orders", **ENTRY | values)
    result = import_database(empty)
    assert result.rejected == []
    assert [fill(trade) for trade in recorded()] == [expected]


REJECTED_ORDERS = {
    "no side": ({"ft_order_side": "", "side": None}, "ft_order_side: '' is not a side"),
    "no time": (
        {"order_date": None, "order_filled_date": None},
        "order_filled_date: missing, as is order_date",
    ),
    "an invalid time": ({"order_filled_date": "soon"}, "order_filled_date: 'soon' is not a "),
    "no order id": ({"order_id": ""}, "order_id: missing"),
    "no price": ({"price": None, "average": None}, "price: None is not allowed"),
    "a price below zero": ({"average": -3.0}, "price: -3.0 is not greater than 0"),
    "an invalid amount": ({"filled": "many"}, "filled: 'many' is not a number"),
    "still open": ({"ft_is_open": 1, "status": None}, "filled: 2.0 so far"),
    "still open for the exchange": ({"status": "open"}, "filled: 2.0 so far"),
}


@in_memory
@pytest.mark.parametrize("name", REJECTED_ORDERS)
def test_an_order_that_cannot_be_recorded_is_rejected(name: str, empty: Path) -> None:
    values, reason = REJECTED_ORDERS[name]
    insert(empty, "trades", **OPEN)
    insert(empty, "orders", **ENTRY | {"id": 31} | values)
    insert(empty, "orders", **ENTRY | {"order_id": "9"})
    result = import_database(empty)
    [issue] = result.rejected
    assert issue.reason.startswith(f"trade 7, order {issue.row['order_id']}: {reason}")
    assert (issue.index, result.created, result.rejected_count) == (31, 1, 1)


@in_memory
def test_the_last_exit_is_the_last_in_time(empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"close_profit_abs": 19.36})
    insert(empty, "orders", **EXIT | {"filled": 1.5})
    earlier = {"order_id": "3", "order_filled_date": "2024-03-02 11:00:00.000000"}
    insert(empty, "orders", **EXIT | earlier | {"filled": 0.5})
    insert(empty, "orders", **ENTRY)
    import_database(empty)
    assert [(trade.quantity, trade.pnl) for trade in recorded()] == [
        (2.0, None),
        (0.5, None),
        (1.5, 19.36),
    ]


@in_memory
def test_databases_of_two_bots_may_have_the_same_ids(tmp_path: Path) -> None:
    for name, day in (("one", "2024-03-01"), ("other", "2024-02-01")):
        file = database(tmp_path / name, "2019.10")
        insert(file, "trades", **CLOSED | {"open_date": f"{day} 10:00:00.000000"})
        assert import_database(file).created == 2


@in_memory
@pytest.mark.parametrize("side", [None, "sell", "SELL"])
def test_a_stop_loss_is_an_exit(side: str | None, empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"close_profit_abs": -20.5})
    insert(empty, "orders", **ENTRY)
    insert(empty, "orders", **EXIT | {"ft_order_side": "stoploss", "side": side, "average": 90.0})
    assert import_database(empty).rejected == []
    assert fill(recorded()[1]) == ("BTC/USDT", "sell", 90.0, 2.0, -20.5, 0.36, "USDT")


@in_memory
def test_ids_of_orders_and_of_fills_differ(empty: Path) -> None:
    insert(empty, "trades", **OPEN)
    insert(empty, "orders", **ENTRY)
    fill = {"id": "1", "symbol": "BTC/USDT", "side": "buy", "price": 1, "amount": 1}
    import_trades([fill | {"timestamp": 1_700_000_000_000}], exchange="binance")
    assert import_database(empty).created == 1
    assert {trade.exchange_trade_id for trade in recorded()} == {"1", "order:1"}


@in_memory
def test_each_order_has_the_fee_of_its_cost(empty: Path) -> None:
    insert(empty, "trades", **OPEN | {"fee_open_cost": 0.0005, "fee_open_currency": "BNB"})
    insert(empty, "orders", **ENTRY)
    insert(empty, "orders", **ENTRY | {"order_id": "5", "filled": 1.0})
    import_database(empty)
    assert sorted((trade.fee, trade.fee_currency) for trade in recorded()) == [
        (0.1, "USDT"),
        (0.2, "USDT"),
    ]


@in_memory
def test_without_a_fill_time_the_order_time_is_used_with_a_warning(empty: Path) -> None:
    insert(empty, "trades", **OPEN)
    insert(empty, "orders", **ENTRY | {"order_filled_date": None})
    [warning] = import_database(empty).warnings
    assert "timestamp: order_filled_date is missing" in warning.reason
    assert recorded()[0].timestamp == datetime(2024, 3, 1, 10, tzinfo=UTC)


@in_memory
def test_a_closed_trade_without_filled_orders_is_recorded_from_its_row(empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"close_profit_abs": 19.36})
    insert(empty, "orders", **ENTRY | {"filled": None, "status": None})
    insert(empty, "orders", **EXIT | {"filled": 0.0, "status": "canceled"})
    assert import_database(empty).created == 2
    assert (trades.get_total_pnl(), positions.get("BTC/USDT").quantity) == (19.36, 0.0)


@in_memory
def test_a_short_trade_is_sold_first(empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"is_short": 1, "close_rate": 90.0})
    assert import_database(empty).created == 2
    entry, exit_ = recorded()
    assert (entry.side, exit_.side) == ("sell", "buy")
    assert exit_.pnl == pytest.approx(20.0 - 0.2 - 0.36)


@in_memory
def test_a_closed_trade_without_values_of_its_exit_is_rejected(empty: Path) -> None:
    insert(
        empty, "trades", **CLOSED | {"close_rate": None, "close_date": None, "realized_profit": 5}
    )
    insert(empty, "orders", **ENTRY)
    no_exit, profit = import_database(empty).rejected
    assert "its exit has no order, and the trade lacks a value: close_rate None" in no_exit.reason
    assert "realized_profit: there is no exit to record 5.0 with" in profit.reason


@in_memory
def test_an_order_without_a_trade_is_rejected(tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", "2021.9")
    insert(file, "trades", **CLOSED | {"id": 1})
    insert(file, "orders", **ENTRY | {"id": 5})
    insert(file, "orders", **ENTRY | {"ft_trade_id": None, "order_id": "8"})
    insert(file, "orders", **ENTRY | {"order_id": "9", "filled": 0.0})
    result = import_database(file)
    assert [(issue.index, issue.reason) for issue in result.rejected] == [
        (5, "order 1: its trade 7 does not exist"),
        (6, "order 8: its trade None does not exist"),
    ]
    assert result.rejected_count == 2


@in_memory
@pytest.mark.parametrize(
    ("trade", "fee"),
    [
        ({"fee_open_cost": 0.0005, "fee_open_currency": "BNB"}, (0.2, "USDT")),
        ({"fee_open_cost": 0.21, "fee_open_currency": "USDT"}, (0.2, "USDT")),
        ({"fee_open": -0.0002}, (-0.04, "USDT")),
        ({"leverage": 4.0}, (0.2, "USDT")),
        ({"stake_currency": "USDC"}, (0.2, "USDC")),
        ({"pair": "BTC/USD:BTC", "fee_open": 0.0}, (0.0, "USD")),
    ],
)
def test_the_fee_is_freqtrades_rate_of_the_cost(
    trade: dict[str, Any], fee: tuple[float, str], empty: Path
) -> None:
    insert(empty, "trades", **OPEN | trade)
    insert(empty, "orders", **ENTRY)
    import_database(empty)
    assert [(trade.fee, trade.fee_currency) for trade in recorded()] == [fee]
    metadata = recorded()[0].trade_metadata
    assert metadata.get("fee_open_cost") == trade.get("fee_open_cost")


@in_memory
def test_quantities_of_a_derivative_are_coins(empty: Path) -> None:
    for number, pair in enumerate(("BTC/USDT", "BTC/USDT:USDT")):
        insert(empty, "trades", **OPEN | {"id": number, "pair": pair})
        insert(empty, "orders", **ENTRY | {"ft_trade_id": number, "ft_pair": pair})
    import_database(empty)
    assert {trade.symbol: trade.contract_size for trade in recorded()} == {
        "BTC/USDT": None,
        "BTC/USDT:USDT": 1.0,
    }


@in_memory
def test_ids_are_unique_for_a_pair_on_an_exchange(empty: Path) -> None:
    for number, other in enumerate(({}, {"pair": "ETH/USDT"}, {"exchange": "kraken"})):
        insert(empty, "trades", **OPEN | {"id": number} | other)
        pair = other.get("pair", "BTC/USDT" if number < 2 else f"BTC/USDT{number}")
        insert(empty, "orders", **ENTRY | {"ft_trade_id": number, "ft_pair": pair})
    assert import_database(empty).created == 3


# --- the file, and other programs that use it -----------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


BOT = """
import sqlite3, sys
bot = sqlite3.connect(sys.argv[1], isolation_level=None)
bot.execute("PRAGMA journal_mode = " + sys.argv[2])
bot.execute("PRAGMA wal_autocheckpoint = 0")
bot.execute("PRAGMA cache_size = 1")
bot.execute("UPDATE trades SET enter_tag = 'live' WHERE id = 1")
bot.execute("BEGIN IMMEDIATE")
bot.execute("UPDATE trades SET enter_tag = 'not yet' WHERE id = 1")
if sys.argv[3:]:  # more than fits in the cache, so it is in the file before the COMMIT
    bot.execute("UPDATE orders SET ft_cancel_reason = hex(randomblob(5000))")
print("ready", flush=True)
sys.stdin.readline()
bot.execute("COMMIT")
print(bot.execute("SELECT enter_tag FROM trades WHERE id = 1").fetchone()[0], flush=True)
"""


@pytest.fixture
def running(bot: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a bot in a process of its own, and stop it inside a transaction."""
    processes = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BOT, bot, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@in_memory
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_while_the_bot_is_in_a_transaction(
    bot: Path, running: Callable[..., subprocess.Popen[str]], journal: str
) -> None:
    process = running(journal)
    before = contents(bot.parent)
    assert import_database(bot).created == 16
    tags = {trade.trade_metadata["enter_tag"] for trade in trades.get_latest("BTC/USDT")}
    assert tags == {"live"}
    after = contents(bot.parent)
    assert {name: after[name] for name in before if not name.endswith("-shm")} == {
        name: content for name, content in before.items() if not name.endswith("-shm")
    }
    assert after.keys() == before.keys()
    output, _ = process.communicate("\n")
    assert output == "not yet\n"  # the transaction of the bot was committed


@in_memory
def test_the_wal_of_a_killed_bot_is_read(
    bot: Path, running: Callable[..., subprocess.Popen[str]]
) -> None:
    process = running("wal")
    process.kill()
    process.communicate()
    bot.with_name(f"{bot.name}-shm").unlink()  # as in a folder that was copied
    before = contents(bot.parent)
    import_database(bot)
    assert trades.get_latest("BTC/USDT")[0].trade_metadata["enter_tag"] == "live"
    assert contents(bot.parent) == before


@needs_fork
@pytest.mark.parametrize(
    "state", ["closed", "killed", "copied", "running", "journal", "killed journal"]
)
def test_in_a_read_only_folder(
    bot: Path, open_folder: Path, running: Callable[..., subprocess.Popen[str]], state: str
) -> None:
    process = running(
        *{"journal": ["delete"], "killed journal": ["delete", "much"]}.get(state, ["wal"])
    )
    if state == "closed":
        process.communicate("\n")
    elif state in ("killed", "copied", "killed journal"):
        process.kill()
        process.communicate()
    for file in bot.parent.iterdir():
        if not (state == "copied" and file.name.endswith("-shm")):
            (open_folder / file.name).write_bytes(file.read_bytes())
            (open_folder / file.name).chmod(0o444)
    open_folder.chmod(0o555)

    def child() -> tuple[int, str, list[str]]:
        init_db(":memory:")
        created = import_database(open_folder / bot.name).created
        tag = trades.get_latest("BTC/USDT")[0].trade_metadata["enter_tag"]
        return created, tag, sorted(file.name for file in open_folder.iterdir())

    names = sorted(file.name for file in open_folder.iterdir())
    expected = "not yet" if state == "closed" else "live"
    try:
        assert in_child(child, as_nobody=True) == (16, expected, names)
    finally:
        open_folder.chmod(0o755)


@in_memory
def test_the_file_may_be_named_as_in_the_settings_of_freqtrade(
    bot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bot.parent)
    for path in ("bot.sqlite", "sqlite:///bot.sqlite", f"sqlite:///{bot}", "sqlite+pysqlite:///./"
                 "bot.sqlite?timeout=5", bot):  # fmt: skip
        assert len(trades.get_all()) + import_database(path).created == 16
    for url in ("sqlite://", "sqlite:///", "sqlite:///:memory:", Path("sqlite:///bot.sqlite")):
        with pytest.raises(ConfigError, match="path: the URL names no file; pass its path, or as"):
            import_database(url)


SERVERS = {
    "postgresql://user:secret@host/db": "postgresql",
    "postgresql+psycopg2://user:secret@host/db": "postgresql\\+psycopg2",
    "MySQL+pymysql://user:sec/secret@host/db": "mysql\\+pymysql",
    " mariadb://user:secret@host/db": "mariadb",
    "'postgresql://user:secret@host/db'": "postgresql",
    "db_url=postgresql://user:secret@host/db": "postgresql",
    Path("postgresql://user:secret@host/db"): "postgresql",
}


@in_memory
@pytest.mark.parametrize("url", SERVERS)
def test_the_url_of_a_server_is_refused_without_its_password(url: str | Path, path: Path) -> None:
    def refused(error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        message = text.splitlines()[-1]
        assert "secret" not in re.sub(r"(?m)^    .*", "", text)  # without the lines of code
        assert re.search(f"path: {SERVERS[url]}://... is not a SQLite file; copy the", message)
        assert "`freqtrade convert-db --db-url sqlite:///copy.sqlite --db-url-from URL`" in message

    with pytest.raises(ConfigError) as caught:
        import_database(url)
    refused(caught.value)
    close_db()
    done = CliRunner().invoke(cli, ["--db", str(path), "import-freqtrade", str(url)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "secret" not in done.stderr
    assert done.stderr == f"error: {str(caught.value).replace('path:', 'FILE:')}\n"
    assert not path.exists()


@in_memory
def test_files_that_are_no_freqtrade_database(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.sqlite: cannot be read: No such file"):
        import_database(tmp_path / "nothing.sqlite")
    with pytest.raises(StorageError, match="cannot be read: Is a directory"):
        import_database(tmp_path)
    text = tmp_path / "text.sqlite"
    text.write_text("exchange,pair\n")
    with pytest.raises(StorageError, match=r"text\.sqlite: is not a SQLite database"):
        import_database(text)
    other = tmp_path / "other.sqlite"
    change(other, "CREATE TABLE trades (id INTEGER PRIMARY KEY, symbol TEXT)")
    with pytest.raises(
        StorageError,
        match=r"other\.sqlite: is not a database of freqtrade: its table trades has no amount, ",
    ):
        import_database(other)
    change(other, "DROP TABLE trades")
    with pytest.raises(StorageError, match="its table trades has no amount"):
        import_database(other)
    with pytest.raises(ValidationError, match="strategy: import_database"):
        import_database(other, strategy="a")  # type: ignore[call-arg]


@in_memory
def test_a_damaged_database_is_an_error_that_names_it(bot: Path) -> None:
    content = bytearray(bot.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    bot.write_bytes(content)
    with pytest.raises(StorageError, match=r"bot\.sqlite: .*(malformed|damaged)"):
        import_database(bot)


@needs_fork
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_no_space_for_the_copy(
    bot: Path, tmp_path_factory: pytest.TempPathFactory, journal: str
) -> None:
    change(
        bot, f"PRAGMA journal_mode = {journal}", "CREATE TABLE more AS SELECT randomblob(2000000)"
    )
    disk = tmp_path_factory.mktemp("disk")

    def child() -> str | None:
        if not mount_small_disk(disk):
            return None
        tempfile.tempdir = str(disk)
        init_db(":memory:")
        with pytest.raises(StorageError) as error:
            import_database(bot)
        return f"{error.value} {trades.get_trade_count()} {list(disk.iterdir())}"

    if (message := in_child(child)) is None:
        pytest.skip("mounting a disk needs root's rights")
    assert message.startswith(f"{bot}: cannot be copied to {disk}/botmemory-")
    assert message.endswith(" 0 []")


@in_memory
def test_an_error_of_the_progress_function_is_not_translated(bot: Path) -> None:
    def report(done: int, total: int) -> None:
        raise BrokenPipeError("nobody listens")

    with pytest.raises(BrokenPipeError):
        import_database(bot, progress=report)


@in_memory
def test_a_file_that_is_written_all_the_time(bot: Path) -> None:
    # no program has opened it with SQLite, and copying it takes time
    change(bot, "PRAGMA journal_mode = wal", "CREATE TABLE more AS SELECT randomblob(50000000)")
    touch = (
        "import itertools, os, sys\nprint('ready', flush=True)\n"
        "for time in itertools.count(): os.utime(sys.argv[1], ns=(time, time))"
    )
    toucher = subprocess.Popen([sys.executable, "-c", touch, bot], stdout=subprocess.PIPE)
    assert toucher.stdout is not None
    try:
        toucher.stdout.readline()
        with pytest.raises(DatabaseBusyError, match="is being written all the time; stop its bot"):
            import_database(bot)
    finally:
        toucher.kill()
        toucher.communicate()


def test_the_database_must_be_open(bot: Path) -> None:
    close_db()
    with pytest.raises(Exception, match="the database is not open"):
        import_database(bot)


def test_from_the_command_line(bot: Path, path: Path) -> None:
    notes = path.with_name("notes.jsonl")

    def run() -> tuple[int, str, str]:
        command = ["--db", path, "import-freqtrade", bot, "--notes", notes]
        done = CliRunner().invoke(cli, list(map(str, command)))
        return done.exit_code, done.stdout, done.stderr

    change(bot, "UPDATE orders SET order_filled_date = NULL WHERE order_id = '2001'")
    code, out, err = run()
    assert (code, out) == (
        1,
        "trades: 16 recorded, 0 already existed\ncash flows: 1 recorded, 0 already existed\n",
    )
    assert err.splitlines() == [
        "trade 3, order 2001: timestamp: order_filled_date is missing; it is order_date",
        "warnings: 1",
        "trade 5, order 4001: filled: 120.0 so far, and the order is open; "
        "import again when it is closed",
        "rejected: 1",
    ]
    issues = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    assert [(issue["kind"], issue["row"]["order_id"]) for issue in issues] == [
        ("warnings", "2001"),
        ("rejected", "4001"),
    ]
    change(bot, "DELETE FROM orders WHERE order_id = '4001'")
    assert run()[:2] == (
        0,
        "trades: 1 recorded, 16 already existed\ncash flows: 0 recorded, 1 already existed\n",
    )
    bot.unlink()
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == f"error: {bot}: cannot be read: No such file or directory\n"
    new = path.with_name("new.db")
    for command in ("import-freqtrade", "import trades"):
        done = CliRunner().invoke(cli, ["--db", str(new), *command.split(), str(bot)])
        assert (done.exit_code, done.stderr) == (2, err)
    assert not new.exists()


# --- freqtrade itself ------------------------------------------------------------------------


@pytest.mark.long
def test_freqtrade_still_writes_what_the_tests_read(
    freqtrade: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, FREQTRADE_BOT / "write.py"]
    done = subprocess.run(
        command, env=freqtrade, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == (FREQTRADE_BOT / "2026.9.sql").read_text(encoding="utf-8")


@pytest.mark.long
@with_database
def test_net_pnl_is_the_profit_of_freqtrade_in_random_trades(
    freqtrade: dict[str, str], tmp_path: Path
) -> None:
    file, count = tmp_path / "bot.sqlite", 300
    program = [sys.executable, FREQTRADE_BOT / "random_trades.py", file, "1", str(count)]
    subprocess.run(program, env=freqtrade, cwd=tmp_path, check=True, capture_output=True)
    result = import_database(file)
    assert (result.rejected, result.warnings) == ([], [])
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "SELECT pair, trades.id, close_profit_abs, SUM(ft_order_side = "
            "CASE is_short WHEN 1 THEN 'buy' ELSE 'sell' END), "
            "SUM(COALESCE(orders.average * ft_fee_base * fee_open, 0)), "
            "SUM(ft_fee_base > 0) FROM trades JOIN orders ON ft_trade_id = trades.id "
            "WHERE NOT trades.is_open GROUP BY trades.id"
        ).fetchall()
    assert len(rows) == count
    assert 20 < sum(row[-1] is not None for row in rows) < 100  # with fees in base currency
    for pair, _, profit, exits, paid_in_base, has_base_fee in rows:
        position = positions.get(pair)
        rest = position.quantity * (position.average_entry_price or 0.0)  # less than a step
        assert bool(position.quantity) <= bool(has_base_fee)
        assert position.net_realized_pnl == pytest.approx(
            profit - paid_in_base, abs=exits * 1e-8 + rest * 0.003
        )


@pytest.mark.long
@in_memory
@pytest.mark.parametrize(
    "version", [version for version in VERSIONS if version not in WITHOUT_ORDERS]
)
def test_what_was_imported_before_freqtrade_upgraded_its_database_is_not_added_again(
    version: str, freqtrade: dict[str, str], tmp_path: Path
) -> None:
    file = database(tmp_path / "bot.sqlite", version)
    change(file, "DELETE FROM orders", "DELETE FROM trades")
    values = {"exchange": "Binance", "stake_amount": 200.0, "trading_mode": "SPOT"}
    insert_known(file, "trades", **CLOSED | values | {"close_profit_abs": 19.36})
    insert_known(file, "trades", **OPEN | values | {"id": 8})
    insert_known(
        file, "trades", **CLOSED | values | {"id": 9, "pair": "ETH/USDT"}
    )  # without orders
    insert_known(file, "orders", **ENTRY)
    insert_known(file, "orders", **EXIT)
    insert_known(file, "orders", **ENTRY | {"ft_trade_id": 8, "order_id": "3"})
    first = import_database(file)
    assert (first.created, first.rejected) == (5, [])
    upgrade = f"from freqtrade.persistence import init_db; init_db('sqlite:///{file}')"
    subprocess.run([sys.executable, "-c", upgrade], env=freqtrade, check=True, capture_output=True)
    again = import_database(file)
    assert (again.created, again.skipped, again.rejected, again.warnings) == (0, 5, [], [])


@in_memory
def test_the_callers_decimal_context_changes_no_profit(empty: Path) -> None:
    insert(empty, "trades", **CLOSED | {"close_profit_abs": 12345.678912345678})
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact])):
        import_database(empty)
    assert trades.get_total_pnl() == 12345.678912345678
