"""freqtrade's database comes in whole: of any age, with its bot running, and with what is odd."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from processes import in_child, mount_small_disk, needs_fork

from botmemory import DatabaseBusyError, StorageError, Trade, ValidationError, close_db, init_db
from botmemory.cli._app import cli
from botmemory.interop.ccxt import import_trades
from botmemory.interop.freqtrade import import_database
from botmemory.repositories import positions, trades

HERE = Path(__file__).parent / "freqtrade_bot"
AGES = sorted(file.stem for file in HERE.glob("*.sql"))
WITHOUT_ORDERS = ("0.17.1", "2019.10")

with_memory = pytest.mark.usefixtures("memory")
opened = pytest.mark.usefixtures("open_memory")


@pytest.fixture
def open_memory() -> None:
    init_db(":memory:")


@pytest.fixture
def bot(tmp_path: Path) -> Path:
    """The database that freqtrade itself has written."""
    return database(tmp_path / "bot.sqlite", "2026.9")


def database(file: Path, age: str) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((HERE / f"{age}.sql").read_text(encoding="utf-8"))
    return file


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A database of today's schema without rows."""
    file = database(tmp_path / "empty.sqlite", "2026.9")
    change(file, "DELETE FROM orders", "DELETE FROM trades")
    return file


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def put(file: Path, table: str, **values: Any) -> None:
    """Insert a row; what a schema wants and a test does not care about is filled in."""
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


# --- what freqtrade has written --------------------------------------------------------------

BY_FREQTRADE = {
    ("BTC/USDT", "buy", 60000.0, 0.01, None, 0.6, "USDT"),  # the rate of what BNB paid
    ("BTC/USDT", "sell", 62000.0, 0.01, 18.78, 0.00103, "BNB"),
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


@with_memory
def test_every_filled_order_is_a_trade_and_the_last_one_has_the_profit(bot: Path) -> None:
    result = import_database(bot)
    assert {fill(trade) for trade in recorded()} == BY_FREQTRADE
    assert (result.created, result.skipped, result.rejected_count) == (16, 0, 1)
    with closing(sqlite3.connect(bot)) as connection:
        [[profit]] = connection.execute("SELECT SUM(realized_profit) FROM trades")
    assert trades.get_total_pnl() == pytest.approx(profit, rel=1e-12)
    held = positions.get("ADA/USDT")
    assert (held.quantity, held.average_entry_price) == (600.0, 0.5)
    assert positions.get("BTC/USDT:USDT").quantity == 0


@with_memory
def test_tags_reason_and_strategy_are_kept(bot: Path) -> None:
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
    }
    half, entry = trades.get_latest("ADA/USDT", 2)
    assert half.trade_metadata["enter_tag"] == entry.trade_metadata["enter_tag"] == "golden_cross"
    assert half.trade_metadata["ft_order_tag"] == "half"
    assert entry.timestamp == datetime(2026, 3, 1, 11, 0, 30, tzinfo=UTC)
    assert entry.exchange == "binance"


@with_memory
def test_importing_twice_adds_nothing(bot: Path) -> None:
    import_database(bot)
    before = [trade.__data__ for trade in recorded()]
    again = import_database(bot)
    assert (again.created, again.skipped, again.warnings) == (0, 16, [])
    assert [trade.__data__ for trade in recorded()] == before


@opened
def test_an_order_that_is_still_being_filled_comes_in_when_it_is_done(bot: Path) -> None:
    [left_out] = import_database(bot).rejected
    assert left_out.reason == (
        "trade 5, order 4001: filled: 120.0 until now, and it is still open; "
        "import again when it is done"
    )
    assert (left_out.index, left_out.row["ft_pair"]) == (11, "XRP/USDT")
    change(
        bot,
        "UPDATE orders SET filled = 500.0, ft_is_open = 0, status = 'closed', "
        "order_filled_date = '2026-03-01 20:00:00.000000' WHERE order_id = '4001'",
    )
    result = import_database(bot)
    assert (result.created, result.skipped, result.rejected) == (1, 16, [])
    assert positions.get("XRP/USDT").quantity == 500.0


@opened
def test_profit_of_an_open_trade_is_not_counted_again_when_it_closes(empty: Path) -> None:
    put(empty, "trades", **OPEN | {"realized_profit": 9.5, "close_profit_abs": 9.5})
    put(empty, "orders", **ENTRY)
    put(empty, "orders", **EXIT | {"filled": 1.0, "amount": 1.0})
    import_database(empty)
    assert [trade.pnl for trade in recorded()] == [None, 9.5]

    closed = "is_open = 0, close_rate = 90.0, realized_profit = -0.75, close_profit_abs = -0.75"
    change(empty, f"UPDATE trades SET {closed}")
    later = {"order_id": "3", "order_filled_date": "2024-03-03 00:00:00.000000"}
    put(empty, "orders", **EXIT | {"filled": 1.0, "amount": 1.0} | later)
    result = import_database(empty)
    assert (result.created, result.skipped, result.warnings) == (1, 2, [])
    assert [trade.pnl for trade in recorded()] == [None, 9.5, -10.25]
    assert trades.get_total_pnl() == -0.75


@opened
def test_a_profit_that_freqtrade_has_changed_since_is_reported(empty: Path) -> None:
    put(empty, "trades", **CLOSED | {"close_profit_abs": 19.0})
    put(empty, "orders", **ENTRY)
    put(empty, "orders", **EXIT)
    import_database(empty)
    change(empty, "UPDATE trades SET close_profit_abs = 18.5")
    [warning] = import_database(empty).warnings
    assert warning.reason == "trade 7, order 2: pnl: 19.0 is recorded, and freqtrade says 18.5 now"
    assert trades.get_total_pnl() == 19.0


@opened
def test_a_freqtrade_database_may_have_many_trades(empty: Path) -> None:
    for number in range(1, 451):
        put(empty, "trades", **CLOSED | {"id": number, "close_profit_abs": 1.0})
        put(empty, "orders", **ENTRY | {"ft_trade_id": number, "order_id": f"{number}a"})
        put(empty, "orders", **EXIT | {"ft_trade_id": number, "order_id": f"{number}b"})
    seen: list[tuple[int, int]] = []
    result = import_database(empty, progress=lambda done, total: seen.append((done, total)))
    assert result.created == 900
    assert seen == [(200, 450), (400, 450), (450, 450)]


# --- the ages of the schema ------------------------------------------------------------------


def known(file: Path, table: str, **values: Any) -> None:
    """Insert a row with those of the values for which this age has a column."""
    with closing(sqlite3.connect(file)) as connection:
        names = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    put(file, table, **{name: value for name, value in values.items() if name in names})


@with_memory
@pytest.mark.parametrize("age", AGES)
def test_every_age_of_the_schema_is_read(age: str, tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", age)
    change(file, "DELETE FROM trades")
    tags = {
        **dict.fromkeys(("enter_tag", "buy_tag"), "dip"),
        **dict.fromkeys(("exit_reason", "sell_reason"), "roi"),
        **dict.fromkeys(("timeframe", "ticker_interval"), 5),
    }
    known(file, "trades", **CLOSED | tags | {"exchange": "Binance", "close_profit_abs": 19.36})
    known(file, "trades", **OPEN | tags | {"id": 8, "exchange": "Binance"})
    if age not in WITHOUT_ORDERS:
        change(file, "DELETE FROM orders")
        known(file, "orders", **ENTRY)
        known(file, "orders", **EXIT)
        known(file, "orders", **ENTRY | {"ft_trade_id": 8, "order_id": "3", "average": 101.0,
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
    if age >= "2021.9":
        assert closed[1].trade_metadata["enter_tag"] == "dip"
    assert positions.get("BTC/USDT").quantity == 2.0
    assert import_database(file).created == 0


@opened
def test_before_the_rates_were_two_there_was_one(tmp_path: Path) -> None:
    file = tmp_path / "bot.sqlite"
    change(
        file,
        "CREATE TABLE trades (id INTEGER PRIMARY KEY, exchange, pair, is_open, fee, open_rate,"
        " close_rate, amount, open_date, close_date)",
    )
    known(file, "trades", **CLOSED | {"fee": 0.0025, "exchange": "BITTREX", "pair": "ETH/BTC"})
    result = import_database(file)
    assert [fill(trade) for trade in recorded()] == [
        ("ETH/BTC", "buy", 100.0, 2.0, None, 0.5, "BTC"),
        ("ETH/BTC", "sell", 110.0, 2.0, 18.95, 0.55, "BTC"),
    ]
    [warning] = result.warnings
    assert "computed from rates and fees" in warning.reason


@opened
def test_an_old_trade_that_waits_for_its_entry_is_no_fill_yet(tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", "2019.10")
    put(file, "trades", **OPEN | {"open_order_id": "99"})
    [left_out] = import_database(file).rejected
    assert left_out.reason == (
        "trade 7: open_order_id: 99 was not filled yet; import again when it is"
    )
    # the order it waits for now is that of the exit
    change(file, "UPDATE trades SET close_rate_requested = 111.0, open_order_id = '100'")
    assert import_database(file).created == 1
    change(file, "UPDATE trades SET is_open = 0, open_order_id = NULL, close_rate = 111.0, "
                 "close_date = '2024-03-05 00:00:00.000000'")  # fmt: skip
    assert import_database(file).created == 1
    assert positions.get("BTC/USDT").quantity == 0


@opened
def test_an_entry_from_before_there_were_orders(tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", "2020.12")
    known(file, "trades", **OPEN)
    stop = {"ft_order_side": "stoploss", "ft_is_open": 1, "status": None, "filled": None}
    known(file, "orders", **EXIT | stop)
    assert import_database(file).created == 1
    assert positions.get("BTC/USDT").quantity == 2.0


# --- what real histories hold ----------------------------------------------------------------

ODD: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
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
    "a limit that was bettered": (
        {"price": 100.0, "average": 99.0},
        ("BTC/USDT", "buy", 99.0, 2.0, None, 0.198, "USDT"),
    ),
    "a price of zero, a cost": (
        {"price": 0.0, "average": None, "cost": 190.0},
        ("BTC/USDT", "buy", 95.0, 2.0, None, 0.19, "USDT"),
    ),
    "a stop price alone": (
        {"price": None, "average": None, "stop_price": 98.0},
        ("BTC/USDT", "buy", 98.0, 2.0, None, 0.196, "USDT"),
    ),
    "closed, without a word of what was filled": (
        {"filled": None},
        ("BTC/USDT", "buy", 100.0, 2.0, None, 0.2, "USDT"),
    ),
    "a side of the exchange alone": (
        {"ft_order_side": "", "side": "buy"},
        ("BTC/USDT", "buy", 100.0, 2.0, None, 0.2, "USDT"),
    ),
    "a fee in base currency": (
        {"ft_fee_base": 0.002},
        ("BTC/USDT", "buy", 100.0, 2.0, None, 0.002, "BTC"),
    ),
}


@opened
@pytest.mark.parametrize("name", ODD)
def test_an_odd_order_comes_in_right(name: str, empty: Path) -> None:
    values, expected = ODD[name]
    put(empty, "trades", **OPEN)
    put(empty, "orders", **ENTRY | values)
    result = import_database(empty)
    assert result.rejected == []
    assert [fill(trade) for trade in recorded()] == [expected]


REPORTED = {
    "no side": ({"ft_order_side": "", "side": None}, "ft_order_side: '' is not a side"),
    "no time": (
        {"order_date": None, "order_filled_date": None},
        "order_filled_date: the order has no time",
    ),
    "a time that is none": ({"order_filled_date": "soon"}, "order_filled_date: 'soon' is not a "),
    "no order id": ({"order_id": ""}, "order_id: there is none"),
    "no price at all": ({"price": None, "average": None}, "price: None is not allowed"),
    "a price below zero": ({"average": -3.0}, "price: -3.0 is not greater than 0"),
    "an amount that is no number": ({"filled": "many"}, "filled: 'many' is not a number"),
    "still open": ({"ft_is_open": 1, "status": None}, "filled: 2.0 until now"),
    "still open for the exchange": ({"status": "open"}, "filled: 2.0 until now"),
}


@opened
@pytest.mark.parametrize("name", REPORTED)
def test_what_cannot_be_recorded_is_reported(name: str, empty: Path) -> None:
    values, reason = REPORTED[name]
    put(empty, "trades", **OPEN)
    put(empty, "orders", **ENTRY | {"id": 31} | values)
    put(empty, "orders", **ENTRY | {"order_id": "9"})
    result = import_database(empty)
    [row_issue] = result.rejected
    assert row_issue.reason.startswith(f"trade 7, order {row_issue.row['order_id']}: {reason}")
    assert (row_issue.index, result.created, result.rejected_count) == (31, 1, 1)


@opened
def test_the_last_exit_is_the_last_in_time(empty: Path) -> None:
    put(empty, "trades", **CLOSED | {"close_profit_abs": 19.36})
    put(empty, "orders", **EXIT | {"filled": 1.5})
    earlier = {"order_id": "3", "order_filled_date": "2024-03-02 11:00:00.000000"}
    put(empty, "orders", **EXIT | earlier | {"filled": 0.5})
    put(empty, "orders", **ENTRY)
    import_database(empty)
    assert [(one.quantity, one.pnl) for one in recorded()] == [
        (2.0, None),
        (0.5, None),
        (1.5, 19.36),
    ]


@opened
def test_databases_of_two_bots_may_number_their_trades_alike(tmp_path: Path) -> None:
    for name, day in (("one", "2024-03-01"), ("other", "2024-02-01")):
        file = database(tmp_path / name, "2019.10")
        put(file, "trades", **CLOSED | {"open_date": f"{day} 10:00:00.000000"})
        assert import_database(file).created == 2


@opened
@pytest.mark.parametrize("side", [None, "sell", "SELL"])
def test_a_stop_loss_sells_what_was_bought(side: str | None, empty: Path) -> None:
    put(empty, "trades", **CLOSED | {"close_profit_abs": -20.5})
    put(empty, "orders", **ENTRY)
    put(empty, "orders", **EXIT | {"ft_order_side": "stoploss", "side": side, "average": 90.0})
    assert import_database(empty).rejected == []
    assert fill(recorded()[1]) == ("BTC/USDT", "sell", 90.0, 2.0, -20.5, 0.36, "USDT")


@opened
def test_the_id_of_an_order_is_not_that_of_a_fill(empty: Path) -> None:
    put(empty, "trades", **OPEN)
    put(empty, "orders", **ENTRY)
    import_trades(
        [{"id": "1", "symbol": "BTC/USDT", "side": "buy", "price": 1, "amount": 1, "timestamp": 1}],
        exchange="binance",
    )
    assert import_database(empty).created == 1
    assert {trade.exchange_trade_id for trade in recorded()} == {"1", "order:1"}


@opened
def test_the_amount_of_a_fee_is_that_of_a_single_order(empty: Path) -> None:
    put(empty, "trades", **OPEN | {"fee_open_cost": 0.0005, "fee_open_currency": "BNB"})
    put(empty, "orders", **ENTRY)
    put(empty, "orders", **ENTRY | {"order_id": "5", "filled": 1.0})
    import_database(empty)
    assert sorted((one.fee, one.fee_currency) for one in recorded()) == [
        (0.1, "USDT"),
        (0.2, "USDT"),
    ]


@opened
def test_a_time_of_placing_stands_in_for_that_of_filling_and_is_remarked(empty: Path) -> None:
    put(empty, "trades", **OPEN)
    put(empty, "orders", **ENTRY | {"order_filled_date": None})
    [warning] = import_database(empty).warnings
    assert "timestamp: when it was placed" in warning.reason
    assert recorded()[0].timestamp == datetime(2024, 3, 1, 10, tzinfo=UTC)


@opened
def test_a_closed_trade_whose_orders_were_never_filled_is_told_by_its_row(empty: Path) -> None:
    put(empty, "trades", **CLOSED | {"close_profit_abs": 19.36})
    put(empty, "orders", **ENTRY | {"filled": None, "status": None})
    put(empty, "orders", **EXIT | {"filled": 0.0, "status": "canceled"})
    assert import_database(empty).created == 2
    assert (trades.get_total_pnl(), positions.get("BTC/USDT").quantity) == (19.36, 0.0)


@opened
def test_a_short_trade_is_sold_first(empty: Path) -> None:
    put(empty, "trades", **CLOSED | {"is_short": 1, "close_rate": 90.0})
    assert import_database(empty).created == 2
    entry, last = recorded()
    assert (entry.side, last.side) == ("sell", "buy")
    assert last.pnl == pytest.approx(20.0 - 0.2 - 0.36)


@opened
def test_a_closed_trade_that_says_nothing_of_its_exit_is_reported(empty: Path) -> None:
    put(empty, "trades", **CLOSED | {"close_rate": None, "close_date": None, "realized_profit": 5})
    put(empty, "orders", **ENTRY)
    no_exit, profit = import_database(empty).rejected
    assert "no order tells of its exit, and neither does it: close_rate None" in no_exit.reason
    assert "realized_profit: there is no exit to record 5.0 with" in profit.reason


@opened
def test_an_order_of_a_trade_that_is_gone_is_reported(tmp_path: Path) -> None:
    file = database(tmp_path / "bot.sqlite", "2021.9")
    put(file, "trades", **CLOSED | {"id": 1})
    put(file, "orders", **ENTRY | {"id": 5})
    put(file, "orders", **ENTRY | {"ft_trade_id": None, "order_id": "8"})
    put(file, "orders", **ENTRY | {"order_id": "9", "filled": 0.0})
    result = import_database(file)
    assert [(one.index, one.reason) for one in result.rejected] == [
        (5, "order 1: its trade 7 is not there"),
        (6, "order 8: its trade None is not there"),
    ]
    assert result.rejected_count == 2


@opened
@pytest.mark.parametrize(
    ("trade", "fee"),
    [
        ({"fee_open_cost": 0.0005, "fee_open_currency": "BNB"}, (0.0005, "BNB")),
        ({"fee_open_cost": 0.2, "fee_open_currency": "BNB"}, (0.2, "USDT")),
        ({"fee_open_cost": 0.21, "fee_open_currency": "USDT"}, (0.21, "USDT")),
        ({"fee_open_cost": -0.05, "fee_open_currency": "USDT"}, (-0.05, "USDT")),
        ({"fee_open_cost": 0.05, "fee_open_currency": "USDT", "leverage": 4.0}, (0.2, "USDT")),
        ({"fee_open_cost": 0.2, "fee_open_currency": None}, (0.2, "USDT")),
        ({"stake_currency": "USDC"}, (0.2, "USDC")),
        ({"pair": "BTC/USD:BTC", "fee_open": 0.0}, (0.0, "USD")),
    ],
)
def test_the_fee_that_was_paid(trade: dict[str, Any], fee: tuple[float, str], empty: Path) -> None:
    put(empty, "trades", **OPEN | trade)
    put(empty, "orders", **ENTRY)
    import_database(empty)
    assert [(one.fee, one.fee_currency) for one in recorded()] == [fee]
    kept = recorded()[0].trade_metadata
    assert kept.get("fee_open_cost") == trade.get("fee_open_cost")


@opened
def test_ids_count_for_a_pair_on_an_exchange(empty: Path) -> None:
    for number, other in enumerate(({}, {"pair": "ETH/USDT"}, {"exchange": "kraken"})):
        put(empty, "trades", **OPEN | {"id": number} | other)
        pair = other.get("pair", "BTC/USDT" if number < 2 else f"BTC/USDT{number}")
        put(empty, "orders", **ENTRY | {"ft_trade_id": number, "ft_pair": pair})
    assert import_database(empty).created == 3


# --- the file, and who else has it -----------------------------------------------------------


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
if sys.argv[3:]:  # so much that it is in the file before the end
    bot.execute("UPDATE orders SET ft_cancel_reason = hex(randomblob(5000))")
print("ready", flush=True)
sys.stdin.readline()
bot.execute("COMMIT")
print(bot.execute("SELECT enter_tag FROM trades WHERE id = 1").fetchone()[0], flush=True)
"""


@pytest.fixture
def running(bot: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A bot in a process of its own, in the middle of a transaction."""
    processes = []

    def start(*how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BOT, bot, *how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@opened
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_while_the_bot_is_in_the_middle_of_a_transaction(
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
    said, _ = process.communicate("\n")
    assert said == "not yet\n"  # the bot has gone on as if nobody had been there


@opened
def test_what_a_killed_bot_has_left_in_its_wal_is_read(
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
def test_in_a_folder_that_cannot_be_written(
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

    there = sorted(file.name for file in open_folder.iterdir())
    expected = "not yet" if state == "closed" else "live"
    try:
        assert in_child(child, as_nobody=True) == (16, expected, there)
    finally:
        open_folder.chmod(0o755)


@opened
def test_files_that_are_something_else(tmp_path: Path) -> None:
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


@opened
def test_a_damaged_database_is_an_error_that_names_it(bot: Path) -> None:
    content = bytearray(bot.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    bot.write_bytes(content)
    with pytest.raises(StorageError, match=r"bot\.sqlite: .*(malformed|damaged)"):
        import_database(bot)


@needs_fork
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_no_room_for_the_copy(
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
        with pytest.raises(StorageError) as told:
            import_database(bot)
        return f"{told.value} {trades.get_trade_count()} {list(disk.iterdir())}"

    if (said := in_child(child)) is None:
        pytest.skip("this system lets nobody mount a disk here")
    assert said.startswith(f"{bot}: cannot be copied to {disk}/botmemory-")
    assert said.endswith(" 0 []")


@opened
def test_an_error_of_the_caller_is_not_one_of_the_file(bot: Path) -> None:
    def report(done: int, total: int) -> None:
        raise BrokenPipeError("nobody listens")

    with pytest.raises(BrokenPipeError):
        import_database(bot, progress=report)


@opened
def test_a_file_that_never_rests_is_said(bot: Path) -> None:
    # nobody has it open as SQLite does, and copying it takes a moment
    change(bot, "PRAGMA journal_mode = wal", "CREATE TABLE more AS SELECT randomblob(50000000)")
    touch = (
        "import itertools, os, sys\nprint('ready', flush=True)\n"
        "for moment in itertools.count(): os.utime(sys.argv[1], ns=(moment, moment))"
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


def test_the_memory_must_be_open(bot: Path) -> None:
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
    assert (code, out) == (1, "trades: 16 recorded, 0 already existed\n")
    assert err.splitlines() == [
        "trade 3, order 2001: timestamp: when it was placed, for it does not say when it was "
        "filled",
        "warnings: 1",
        "trade 5, order 4001: filled: 120.0 until now, and it is still open; "
        "import again when it is done",
        "rejected: 1",
    ]
    kept = [json.loads(line) for line in notes.read_text().splitlines()]
    assert [(one["kind"], one["row"]["order_id"]) for one in kept] == [
        ("warnings", "2001"),
        ("rejected", "4001"),
    ]
    change(bot, "DELETE FROM orders WHERE order_id = '4001'")
    assert run()[:2] == (0, "trades: 1 recorded, 16 already existed\n")
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

# of what it needs, only what its database does and these tests have not
PARTS = (
    *("sqlalchemy", "pydantic", "cachetools", "python-rapidjson", "humanize", "orjson", "joblib"),
    *("questionary", "schedule", "jsonschema"),
)


@pytest.fixture(scope="module")
def freqtrade(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Python that has freqtrade."""
    folder = tmp_path_factory.mktemp("freqtrade")
    for what in (("--no-deps", "freqtrade==2026.9"), PARTS):
        install = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, *what]
        if subprocess.run(install, capture_output=True, check=False).returncode:
            pytest.skip("freqtrade cannot be downloaded here")
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.mark.long
def test_freqtrade_still_writes_what_the_tests_read(
    freqtrade: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, HERE / "write.py"]
    done = subprocess.run(
        command, env=freqtrade, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == (HERE / "2026.9.sql").read_text(encoding="utf-8")


@pytest.mark.long
@opened
@pytest.mark.parametrize("age", [age for age in AGES if age not in WITHOUT_ORDERS])
def test_what_was_imported_before_freqtrade_upgraded_its_database_is_not_added_again(
    age: str, freqtrade: dict[str, str], tmp_path: Path
) -> None:
    file = database(tmp_path / "bot.sqlite", age)
    change(file, "DELETE FROM orders", "DELETE FROM trades")
    more = {"exchange": "Binance", "stake_amount": 200.0, "trading_mode": "SPOT"}
    known(file, "trades", **CLOSED | more | {"close_profit_abs": 19.36})
    known(file, "trades", **OPEN | more | {"id": 8})
    known(file, "trades", **CLOSED | more | {"id": 9, "pair": "ETH/USDT"})  # without orders
    known(file, "orders", **ENTRY)
    known(file, "orders", **EXIT)
    known(file, "orders", **ENTRY | {"ft_trade_id": 8, "order_id": "3"})
    first = import_database(file)
    assert (first.created, first.rejected) == (5, [])
    upgrade = f"from freqtrade.persistence import init_db; init_db('sqlite:///{file}')"
    subprocess.run([sys.executable, "-c", upgrade], env=freqtrade, check=True, capture_output=True)
    again = import_database(file)
    assert (again.created, again.skipped, again.rejected, again.warnings) == (0, 5, [], [])
