"""Rows without ids of ours come in once, whatever else is in the file."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import at, signal

from botmemory import CashFlow, Signal, Trade, ValidationError
from botmemory.interop.ccxt import import_trades
from botmemory.interop.files import Layout, import_file
from botmemory.repositories import cash_flows, positions, signals, trades

pytestmark = pytest.mark.usefixtures("empty_database")

HEADER = "symbol,side,price,quantity,timestamp\n"


def row(n: int, side: str = "buy", price: float = 100.0, **more: object) -> str:
    cells = ["BTC/USDT", side, price, 1, f"2024-01-01 10:00:{n:02}", *more.values()]
    return ",".join(map(str, cells)) + "\n"


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., tuple[int, int, int]]:
    def record(
        rows: list[str], header: str = HEADER, model: Any = Trade, **options: Any
    ) -> tuple[int, int, int]:
        file = tmp_path / "rows.csv"
        file.write_text(header + "".join(rows))
        result = import_file(model, file, **options)
        return result.created, result.skipped, result.conflict_count

    return record


Record = Callable[..., tuple[int, int, int]]


class TestTrades:
    @pytest.mark.parametrize("newest_first", [False, True])
    def test_a_longer_file_adds_what_is_new(self, record: Record, newest_first: bool) -> None:
        rows = [row(1), row(2, "sell"), row(2, "sell"), row(3), row(4), row(4), row(4)]
        for length, created in ((3, 3), (3, 0), (5, 2), (7, 2), (7, 0)):
            given = rows[:length]
            assert record(given[::-1] if newest_first else given)[:2] == (created, length - created)
        assert positions.get("BTC/USDT").quantity == 3.0

    def test_a_part_of_a_file_and_its_rows_in_another_order_are_known(self, record: Record) -> None:
        rows = [row(n // 3, price=100 + n % 2) for n in range(60)]
        assert record(rows) == (60, 0, 0)
        shuffled = rows.copy()
        random.Random(5).shuffle(shuffled)
        for given in (rows[20:40], rows[::2], shuffled, rows[::-1]):
            assert record(given) == (0, len(given), 0)

    @pytest.mark.parametrize("apart", [1, 2500])
    def test_equal_rows_of_one_file_are_all_kept(self, record: Record, apart: int) -> None:
        others = [row(n % 50, price=1 + n) for n in range(apart)]
        rows = [row(7), *others, row(7), *others, row(7)]
        distinct = 3 + 2 * apart
        assert record(rows) == (distinct, 0, 0)
        assert record(rows) == (0, distinct, 0)
        assert record([*rows, row(7)]) == (1, distinct, 0)
        assert Counter(trade.price for trade in trades.iterate())[100.0] >= 4

    def test_numbers_and_times_may_be_written_in_another_way(self, record: Record) -> None:
        assert record([row(1)]) == (1, 0, 0)
        again = ["BTC/USDT;BUY;100,00;1,0;01.01.2024 11:00:01\n"]
        layout = Layout(decimal=",", date_format="%d.%m.%Y %H:%M:%S", time_zone="Europe/Berlin")
        assert record(again, "Symbol; Side; Price; Quantity; Timestamp\n", layout=layout) == (
            0,
            1,
            0,
        )

    def test_rows_of_one_timestamp_are_in_the_order_of_time(self, record: Record) -> None:
        rows = [row(1, price=n + 1) for n in range(300)]
        record([*rows[::-1], row(0)])
        assert [trade.price for trade in trades.iterate()][1:] == [n + 1 for n in range(300)]

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_fills_that_differ_in_the_fee_alone_are_not_confused(
        self, record: Record, newest_first: bool
    ) -> None:
        header = HEADER.replace("\n", ",fee\n")
        rows = [row(1, fee=fee) for fee in (0.1, 0.2, 0.3, 0.2)]
        for length, created in ((2, 2), (4, 2), (4, 0)):
            given = rows[:length]
            found = record(given[::-1] if newest_first else given, header)
            assert found == (created, length - created, 0)
        assert sorted(trade.fee or 0 for trade in trades.iterate()) == [0.1, 0.2, 0.2, 0.3]

    def test_such_fills_may_be_read_apart_and_in_another_order(self, record: Record) -> None:
        header = HEADER.replace("\n", ",fee\n")
        first, second, third = (row(1, fee=fee) for fee in (0.1, 0.2, 0.3))
        others = [row(1, price=n, fee=0) for n in range(200, 1400)]
        assert record([first, *others, second], header) == (1202, 0, 0)
        assert record([second, *others, first], header) == (0, 1202, 0)
        assert record([third, *others, first, second], header) == (1, 1202, 0)
        changed = row(1, fee=0.4)
        assert record([changed, *others, second, third], header, on_conflict="update") == (
            0,
            1202,
            1,
        )
        fees = sorted(trade.fee or 0 for trade in trades.iterate() if trade.price == 100)
        assert fees == [0.2, 0.3, 0.4]

    def test_what_another_layout_reads_is_in_conflict_and_can_be_written(
        self, record: Record
    ) -> None:
        header, rows = HEADER.replace("\n", ",Fee\n"), [row(1, fee=0.5), row(2, fee=0.25)]
        assert record(rows, header, layout=Layout(map={"Fee": "ignore"})) == (2, 0, 0)
        assert record(rows, header) == (0, 0, 2)
        assert record(rows, header, on_conflict="update") == (0, 0, 2)
        assert [trade.fee for trade in trades.iterate()] == [0.5, 0.25]
        assert record(rows, header) == (0, 2, 0)

    def test_what_the_user_added_is_kept(self, record: Record) -> None:
        record([row(1)])
        trades.update(trades.get_all()[0], strategy="mine", pnl=5.0, fee=0.1)
        assert record([row(1)]) == (0, 1, 0)

    def test_equal_rows_of_two_exchanges_are_both_kept(self, record: Record) -> None:
        rows = [row(1), row(1), row(2)]
        for exchange in ("kraken", "OKX"):
            layout = Layout(set={"exchange": exchange})
            assert record(rows, layout=layout) == (3, 0, 0)
            assert record(rows, layout=layout) == (0, 3, 0)
        assert record(rows, layout=Layout(set={"exchange": "Kraken"})) == (0, 3, 0)
        assert record(rows) == (0, 3, 0)  # an exchange that is not said is no other one
        assert Counter(trade.exchange for trade in trades.iterate()) == {"kraken": 3, "OKX": 3}

    def test_the_exchange_may_be_added_later(self, record: Record) -> None:
        record([row(1)])
        layout = Layout(set={"exchange": "kraken"})
        assert record([row(1)], layout=layout) == (0, 0, 1)
        assert record([row(1)], layout=layout, on_conflict="update") == (0, 0, 1)
        assert [trade.exchange for trade in trades.iterate()] == ["kraken"]

    def test_fills_that_another_importer_recorded_are_known_by_their_ids(
        self, record: Record
    ) -> None:
        fill = {
            "id": "7",
            "timestamp": 1_704_103_201_000,
            "symbol": "BTC/USDT",
            "side": "buy",
            "price": 100.0,
            "amount": 1.0,
        }
        import_trades([fill], exchange="okx")
        header = HEADER.replace("\n", ",exchange,exchange_trade_id\n")
        assert record([row(1, exchange="OKX", id=7)], header) == (0, 1, 0)
        assert record([row(1, exchange="okx", id="7.0")], header) == (0, 1, 0)
        assert record([row(1, "sell", exchange="okx", id=7)], header) == (0, 0, 1)
        parts = [row(2, exchange="okx", id=8), row(3, exchange="okx", id=8)]
        assert record(parts, header) == (1, 0, 1)
        assert record(parts, header, on_conflict="keep_both") == (1, 1, 1)
        assert record(parts, header) == (0, 2, 0)
        assert [trade.exchange_trade_id for trade in trades.iterate()] == ["7", "8", "8#2"]

    def test_a_fill_with_another_id_of_ours_is_known_by_that_of_the_exchange(
        self, record: Record
    ) -> None:
        header = f"id,{HEADER}".replace("\n", ",exchange,exchange_trade_id\n")
        ids = ("0" * 32, "1" * 32)
        rows = [f"{id_},{row(1, exchange='okx', exchange_id='7')}" for id_ in ids]
        assert record(rows, header) == (1, 1, 0)
        assert record(rows, header, on_conflict="update") == (0, 2, 0)
        assert record([rows[1].replace("100.0", "101")], header) == (0, 0, 1)

    def test_a_time_without_its_fraction_is_no_conflict(self, record: Record) -> None:
        fill = {"id": "7", "symbol": "BTC/USDT", "side": "buy", "price": 100.0, "amount": 1.0}
        fill["timestamp"] = 1_704_103_201_987
        import_trades([fill], exchange="okx")
        header = HEADER.replace("\n", ",exchange,exchange_trade_id\n")
        assert record([row(1, exchange="okx", id=7)], header, on_conflict="update") == (0, 1, 0)
        assert record([row(2, exchange="okx", id=7)], header) == (0, 0, 1)
        assert trades.get_all()[0].timestamp.microsecond == 987_000
        # what has milliseconds by itself says another time
        later = fill | {"timestamp": 1_704_103_201_988}
        assert import_trades([later], exchange="okx").conflict_count == 1

    @pytest.mark.parametrize("cells", ["2024-01-01,", ",10:00:00", ","])
    def test_a_date_without_its_time_of_day_is_refused(self, record: Record, cells: str) -> None:
        layout = Layout(map={"date": "timestamp", "time": "timestamp"})
        with pytest.raises(ValidationError, match="line 2: timestamp: empty"):
            record(
                [f"X,buy,1,1,{cells}\n"], "symbol,side,price,quantity,date,time\n", layout=layout
            )
        assert record(
            ["X,buy,1,1,2024-01-01,10:00\n"],
            "symbol,side,price,quantity,date,time\n",
            layout=layout,
        ) == (1, 0, 0)

    @pytest.mark.parametrize("empty", ["", "NaN", "nan", "NA", "None", "<NA>"])
    def test_what_stands_for_no_id_is_no_id(self, record: Record, empty: str) -> None:
        header = HEADER.replace("\n", ",exchange,exchange_trade_id\n")
        rows = [row(1, exchange="okx", id=empty), row(2, exchange="okx", id=empty)]
        assert record(rows, header) == (2, 0, 0)
        assert {trade.exchange_trade_id for trade in trades.iterate()} == {None}

    @pytest.mark.parametrize("id_", ["1.5308E+08"])
    def test_an_id_that_lost_digits_is_refused(self, record: Record, id_: str) -> None:
        header = HEADER.replace("\n", ",exchange,exchange_trade_id\n")
        with pytest.raises(ValidationError, match="exchange_trade_id: .* shortened by a spreadshe"):
            record([row(1, exchange="okx", id=id_)], header)

    def test_an_empty_timestamp_is_refused(self, record: Record) -> None:
        for empty in ("", " ", "NaT"):
            with pytest.raises(ValidationError, match="line 2: timestamp: empty; an import takes"):
                record([f"BTC/USDT,buy,1,1,{empty}\n"])
        assert trades.get_trade_count() == 0

    def test_a_file_without_times_has_the_time_of_the_import_and_a_warning(
        self, record: Record, tmp_path: Path
    ) -> None:
        header, rows = "symbol,side,price,quantity\n", ["X,buy,1,1\n", "X,buy,1,1\n"]
        assert record(rows, header) == (2, 0, 0)
        assert record(rows, header) == (0, 2, 0)
        [warning] = import_file(Trade, tmp_path / "rows.csv").warnings
        assert (warning.index, warning.reason.startswith("timestamp: there is none")) == (
            2,
            True,
        )


class TestRowsWhoseIdsTheDatabaseAssigns:
    HEADER = "symbol,signal_value,timestamp\n"

    def rows(self, count: int) -> list[str]:
        return [f"BTC/USDT,{n % 3 - 1},2024-01-01 00:00:{n // 3:02}\n" for n in range(count)]

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_signals(self, record: Record, newest_first: bool) -> None:
        signal(timestamp=at(9))
        for length, created in ((10, 10), (20, 10), (20, 0)):
            rows = self.rows(length)
            found = record(rows[::-1] if newest_first else rows, self.HEADER, Signal)
            assert found == (created, length - created, 0)
        assert signals.get_signal_count() == 21

    def test_equal_signals_are_all_kept(self, record: Record) -> None:
        rows = [self.rows(1)[0]] * 3
        assert record(rows, self.HEADER, Signal) == (3, 0, 0)
        assert record(rows, self.HEADER, Signal) == (0, 3, 0)
        assert record([*rows, *self.rows(2)], self.HEADER, Signal) == (2, 3, 0)

    def test_equal_signals_that_are_read_apart(self, record: Record) -> None:
        others = [f"BTC/USDT,1,2024-01-02 {n // 60:02}:{n % 60:02}\n" for n in range(1200)]
        rows = [self.rows(1)[0], *others, self.rows(1)[0]]
        assert record(rows, self.HEADER, Signal) == (1202, 0, 0)
        assert record(rows, self.HEADER, Signal) == (0, 1202, 0)
        assert record([*rows, self.rows(1)[0]], self.HEADER, Signal) == (1, 1202, 0)

    def test_a_signal_with_a_recorded_id_is_kept_beside_it_once(self, record: Record) -> None:
        trigger = signal(timestamp=at(9))
        rows = [f"{trigger.id},BTC/USDT,-1,2024-01-01\n"]
        header = f"id,{self.HEADER}"
        assert record(rows, header, Signal) == (0, 0, 1)
        assert record(rows, header, Signal, on_conflict="keep_both") == (1, 0, 1)
        assert record(rows, header, Signal, on_conflict="keep_both") == (0, 1, 0)
        assert signals.get_signal_count() == 2

    def test_signals_without_times(self, record: Record) -> None:
        rows = ["X,1\n", "Y,1\n", "X,1\n"]
        assert record(rows, "symbol,signal_value\n", Signal) == (3, 0, 0)
        assert record([*rows, "Y,1\n"], "symbol,signal_value\n", Signal) == (1, 3, 0)

    def test_cash_flows_with_and_without_ids_of_the_exchange(self, record: Record) -> None:
        header = "kind,currency,amount,timestamp,exchange,exchange_flow_id\n"
        line = "funding,USDT,-1.5,2024-01-01 08:00,okx,{}\n"
        rows = [line.format(id_) for id_ in ("", "", "1", "2")]
        assert record(rows, header, CashFlow) == (4, 0, 0)
        assert record([*rows, line.format("")], header, CashFlow) == (1, 4, 0)
        changed = line.replace("-1.5", "-2").format("1")
        assert record([changed], header, CashFlow) == (0, 0, 1)
        assert record([changed], header, CashFlow, on_conflict="keep_both") == (1, 0, 1)
        assert record([changed], header, CashFlow) == (0, 1, 0)
        assert cash_flows.get_total("USDT") == -9.5


def test_a_dry_run_counts_and_shows_and_records_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(HEADER + row(1))
    import_file(Trade, file)
    file.write_text(HEADER + "".join([row(1), row(2, "sell"), *map(row, range(3, 20))]))
    result = import_file(Trade, file, dry_run=True)
    assert (result.created, result.skipped, len(result.preview)) == (18, 1, 10)
    assert result.preview[1]["side"] == "sell"
    assert trades.get_trade_count() == 1
    file.write_text(HEADER.replace("\n", ",fee\n") + row(1, fee=0.5))
    for word in ("report", "update", "keep_both"):
        result = import_file(Trade, file, dry_run=True, on_conflict=word)  # type: ignore[arg-type]
        [conflict] = result.conflicts
        assert conflict.reason.endswith("; this row was not recorded")
        assert (result.created, trades.get_all()[0].fee) == (0, None)
