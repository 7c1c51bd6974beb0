"""Fills that two sources have recorded are found, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from samples import at, trade

from botmemory import Trade
from botmemory.interop.ccxt import import_trades
from botmemory.interop.files import import_file
from botmemory.repositories import trades
from botmemory.upkeep import _duplicates
from botmemory.upkeep.check import Finding, check

pytestmark = pytest.mark.usefixtures("empty_database")

TIME = at(1)
FILL = {
    "id": "28457",
    "timestamp": 1_704_070_800_000,  # TIME
    "symbol": "BTC/USDT",
    "side": "buy",
    "price": 100.0,
    "amount": 1.0,
    "order": "4001",
    "info": {},
}


def findings(part: str = "") -> list[Finding]:
    found = [each for each in check(full=True) if "twice" in each.what or "fills too" in each.what]
    assert all(part in each.what for each in found)
    assert all(each.severity == "warning" for each in found)
    return found


def by_bot(seconds: float = 0.0, **values: Any) -> Trade:
    return trade(timestamp=TIME + timedelta(seconds=seconds), **values)


def by_ccxt(*ids: str, **values: Any) -> None:
    rows = [FILL | {"id": each} | values for each in ids]
    assert import_trades(rows, exchange="okx").created == len(ids)


@pytest.mark.parametrize("exchange", [None, "okx", "OKX"])
@pytest.mark.parametrize("seconds", [-1, -0.4, 0, 0.4, 1])
def test_a_fill_of_the_bot_and_of_ccxt_is_found(seconds: float, exchange: str | None) -> None:
    recorded = by_bot(seconds, exchange=exchange, strategy="trend", fee=0.1)
    by_ccxt("28457")
    [finding] = findings("1 pair of trades is probably one fill recorded twice: BTC/USDT buy 1 ")
    assert "at 100 on 2024-01-01 0" in finding.what
    assert recorded.id.hex in finding.what.replace("-", "")
    assert "(no exchange_trade_id)" in finding.what
    assert "(28457)" in finding.what
    assert "trades.delete" in finding.advice
    trades.delete(recorded)
    assert findings() == []


@pytest.mark.parametrize(
    "values",
    [
        {"seconds": 1.001},
        {"seconds": -1.001},
        {"seconds": 60},
        {"side": "sell"},
        {"price": 100.01},
        {"quantity": 0.5},
        {"symbol": "ETH/USDT"},
        {"exchange": "bybit"},
    ],
)
def test_another_fill_is_none(values: dict[str, Any]) -> None:
    by_bot(**values)
    by_ccxt("28457")
    assert findings() == []


def test_equal_fills_of_one_exchange_are_different_ones() -> None:
    by_ccxt("1", "2", "3")
    assert findings() == []
    by_bot(price=7)  # of another source, but no pair
    assert findings() == []


def test_each_trade_is_in_one_pair() -> None:
    by_ccxt("1", "2", "3")
    by_bot(0.1)
    assert findings("1 pair")
    by_bot(0.2)
    assert findings("2 pairs")
    for seconds in (0.3, 0.4, 0.5):
        by_bot(seconds)
    [finding] = findings("4 pairs")  # the last two are of the bot alone
    assert finding.what.count("(no exchange_trade_id)") == 3


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_two_fills_that_a_bot_and_ccxt_have_are_pairs_of_both(seconds: float) -> None:
    """The bot's own two are not a pair, although they are recorded first."""
    by_bot(0.1), by_bot(0.1 + seconds)
    by_ccxt("1", "2", timestamp=FILL["timestamp"] + 500)
    [finding] = findings("2 pairs")
    assert finding.what.count("(no exchange_trade_id)") == 2


def test_each_further_source_of_a_fill_is_another_pair() -> None:
    by_ccxt("1")
    by_bot(0.2, exchange="okx", exchange_trade_id="order:4002")
    assert findings("1 pair")
    by_bot(0.1)
    assert findings("2 pairs")


def test_one_id_at_an_exchange_in_two_cases_is_one_fill() -> None:
    by_ccxt("1")
    by_bot(price=7)  # so that the symbol is read
    by_bot(exchange="OKX", exchange_trade_id="2")
    assert findings() == []
    by_bot(exchange="OKX", exchange_trade_id="1")
    assert findings("1 pair")


def test_many_equal_fills_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_duplicates, "MAX_EQUAL", 4)
    for number in range(6):
        by_ccxt(str(number), timestamp=FILL["timestamp"] + 1000 * number)
        by_bot(number + 0.1)
    assert findings("6 pairs")


def test_the_first_pairs_are_shown() -> None:
    for number in range(5):
        by_bot(symbol=f"{number}/USDT")
        by_ccxt("1", symbol=f"{number}/USDT")
    [finding] = findings("5 pairs")
    assert finding.what.count("2024-01-01 01:00:00: ") == 3
    assert finding.what.endswith("; ...")


def test_pairs_are_found_over_many_reads() -> None:
    for number in range(2100):
        by_bot(number * 0.01, price=1 + number)
    by_ccxt("1", price=1.0)
    by_ccxt("2", price=1990.0, timestamp=FILL["timestamp"] + 20_400)  # 0.51 s after that of the bot
    assert findings("2 pairs")


@pytest.mark.parametrize("fills", [1, 2])
def test_an_order_of_freqtrade_and_its_fills_from_ccxt_are_found(fills: int) -> None:
    """The order's time, price and quantity are not those of a fill."""
    order = {"exchange": "okx", "exchange_trade_id": "order:4001", "quantity": float(fills)}
    by_bot(300 if fills > 1 else 0, **order)
    by_bot(exchange="okx", exchange_trade_id="order:4002", price=90)
    by_ccxt(*map(str, range(fills)), price=100.5 if fills > 1 else 100.0)
    by_ccxt("another", order="4003", price=91.0)
    [finding] = findings("1 order is recorded as one trade, and by its fills too: order:4001 ")
    assert finding.what.endswith(f" on okx, {fills} fills" if fills > 1 else " on okx, 1 fill")


def test_an_order_of_freqtrade_and_a_trade_of_the_bot_are_a_pair() -> None:
    by_bot(0.5, exchange="okx", exchange_trade_id="order:4001")
    by_bot(exchange="okx")
    assert findings("1 pair of trades")


def test_orders_of_another_exchange_or_symbol_are_none() -> None:
    by_bot(300, exchange="bybit", exchange_trade_id="order:4001")
    by_bot(300, exchange="okx", exchange_trade_id="order:4001", symbol="ETH/USDT")
    by_ccxt("1")
    assert findings() == []


def test_metadata_that_names_no_order_is_none() -> None:
    by_bot(300, exchange="okx", exchange_trade_id="order:4001")
    for number, metadata in enumerate(([1], "4001", {"order": None}, {"order": {"id": 4001}}, 5)):
        by_bot(exchange="okx", exchange_trade_id=f"{number}", trade_metadata=metadata)
    assert findings() == []
    by_bot(exchange="okx", exchange_trade_id="number", trade_metadata={"order": 4001})
    assert findings("1 order ")


def test_a_trade_that_has_the_exchange_s_id_is_recognised_by_ccxt() -> None:
    recorded = by_bot(exchange="okx", exchange_trade_id="28457", strategy="trend", pnl=5.0)
    result = import_trades([FILL], exchange="okx")
    assert (result.created, result.skipped, result.conflicts) == (0, 1, [])
    late = by_bot(0.25, exchange="okx", exchange_trade_id="28458")
    fill = FILL | {"id": "28458", "fee": {"cost": 0.1, "currency": "USDT"}}
    assert import_trades([fill], exchange="okx").conflict_count == 1  # in its time and its fee
    import_trades([fill], exchange="okx", on_conflict="update")
    assert {each.id for each in trades.get_all()} == {recorded.id, late.id}
    updated = trades.get_by_id(late.id)
    assert updated is not None
    assert (updated.timestamp, updated.fee, updated.fee_currency) == (TIME, 0.1, "USDT")
    assert findings() == []


@pytest.mark.parametrize(("seconds", "is_found"), [(0.001, True), (1, True), (1.001, False)])
def test_a_bot_that_records_twice_within_a_second_is_found_by_a_full_check(
    seconds: float, is_found: bool
) -> None:
    by_bot()
    by_bot(seconds)
    assert [each for each in check() if "pair" in each.what] == []
    assert bool(findings("1 pair") if is_found else findings()) == is_found


def test_a_trade_of_the_bot_is_in_one_pair() -> None:
    for seconds in (0, 0.2, 0.4):
        by_bot(seconds)
    assert findings("1 pair")
    by_bot(0.6)
    assert findings("2 pairs")


def test_equal_rows_of_a_file_are_different_fills(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    times = ["10:00:00", "10:00:00", "10:00:00.5", "10:00:01"]
    rows = "".join(f"BTC/USDT,buy,100,1,2024-01-01 {time}\n" for time in times)
    file.write_text("symbol,side,price,quantity,timestamp\n" + rows)
    assert import_file(Trade, file).created == 4
    assert findings() == []
    [first, *_] = trades.iterate()
    trade(timestamp=first.timestamp)
    assert any("more than once" in each.what for each in check())
