"""Delete old rows: which ones, what stays, and what other programs notice of it."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peewee
import pytest
from custom_tables import EquitySnapshot, Reading, Remark, custom_migrations
from processes import fork_writer, kill, needs_fork
from recording_bot import recording_bot
from samples import at, cash_flow, signal, trade, trade_values
from servers import run

from botmemory import (
    BaseModel,
    CashFlow,
    ConfigError,
    DatabaseBusyError,
    Signal,
    StorageError,
    Trade,
    ValidationError,
    close_db,
    db,
    init_db,
    session_scope,
)
from botmemory.fields import UtcDateTimeField
from botmemory.interop.files import import_file
from botmemory.repositories import cash_flows, positions, records, signals, trades
from botmemory.upkeep import _spans
from botmemory.upkeep import prune as prune_module
from botmemory.upkeep.prune import PruneResult, prune

FORMATS = [".csv", ".jsonl", ".parquet"]


def signal_values(n: int) -> Any:
    return {"symbol": "BTC/USDT", "signal_value": 1, "timestamp": at(n), "signal_metadata": [n]}


def ids(model: Any) -> set[Any]:
    return {row.get_id() for row in model.select()}


def all_values(model: Any) -> list[dict[str, Any]]:
    return sorted((row.__data__ for row in model.select()), key=lambda row: str(row["id"]))


# --- which rows -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty_database")
class TestRows:
    def test_only_rows_before_the_time_are_deleted(self) -> None:
        old, exact, new = (signal(timestamp=at(n)) for n in range(3))
        naive = at(1).replace(tzinfo=None)
        assert prune(Signal, before=naive) == PruneResult(deleted=1)
        assert ids(Signal) == {exact.id, new.id}
        assert signals.get_by_id(old.id) is None

    def test_signals_of_trades_stay(self) -> None:
        lone = [signal(timestamp=at(n)) for n in range(3)]
        linked = signal(timestamp=at(0))
        recorded = trade(signal=linked)
        assert prune(Signal, before=at(9)) == PruneResult(deleted=3, kept_linked=1)
        assert ids(Signal) == {linked.id}
        assert trades.get_by_id(recorded.id).signal == linked  # type: ignore[union-attr]
        assert not ids(Signal) & {row.id for row in lone}

    def test_a_trade_remains_where_its_signal_is_deleted(self) -> None:
        recorded = trade(signal=signal(timestamp=at(0)), timestamp=at(0), pnl=3)
        assert prune(Signal, before=at(9), keep_linked=False) == PruneResult(deleted=1)
        [stored] = trades.get_all()
        assert (stored.id, stored.pnl, stored.signal) == (recorded.id, 3.0, None)

    def test_a_dry_run_counts_and_changes_nothing(self) -> None:
        trade(signal=signal(timestamp=at(0)), timestamp=at(0))
        signal(timestamp=at(1))
        for model in (Signal, Trade):
            before = all_values(model)
            planned = prune(model, before=at(9), dry_run=True)
            assert all_values(model) == before
            assert planned == prune(model, before=at(9))
        assert prune(Signal, before=at(9), dry_run=True) == PruneResult(deleted=0, kept_linked=1)

    def test_filters(self) -> None:
        for symbol in ("A", "B"):
            for strategy in ("x", None):
                signal(timestamp=at(0), symbol=symbol, strategy=strategy)
                cash_flow(timestamp=at(0), symbol=symbol, strategy=strategy, exchange="okx")
        cash_flow(timestamp=at(0))
        assert prune(Signal, before=at(1), symbol="A", strategy="x").deleted == 1
        assert prune(Signal, before=at(1), strategy="").deleted == 2
        assert [(row.symbol, row.strategy) for row in signals.iterate()] == [("B", "x")]
        assert prune(CashFlow, before=at(1), exchange="").deleted == 1
        assert prune(CashFlow, before=at(1), exchange="okx", symbol="B").deleted == 2
        assert {row.symbol for row in cash_flows.iterate()} == {"A"}

    def test_many_rows_are_deleted_in_small_transactions(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signals.create_many(signal_values(n) for n in range(1200))
        kept = signal(timestamp=at(600.5))
        trade(signal=kept)
        monkeypatch.setattr(prune_module, "MAX_ROWS", 200)
        counts = set()

        def progress(done: int, total: int) -> None:
            counts.add(signals.get_signal_count())
            assert 0 < done <= total == 2002

        assert prune(Signal, before=at(1000), progress=progress).deleted == 1000
        assert len(counts) > 5
        assert signals.get_signal_count() == 201
        assert signals.get_by_id(kept.id) is not None

    def test_ids_are_not_given_again(self) -> None:
        last = signal(timestamp=at(0)).id
        prune(Signal, before=at(1))
        assert signal().id == last + 1

    @pytest.mark.parametrize("file_format", FORMATS)
    def test_what_was_exported_is_imported_as_it_was(
        self, file_format: str, tmp_path: Path
    ) -> None:
        for n in range(30):
            because = signal(timestamp=at(n), signal_metadata={"n": [n, 0.1 * n, None, 'ä,\n"']})
            side, other = ("buy", "sell")[n % 2], {"fee": 0.1, "fee_currency": "USDT"}
            for _ in range(2):
                trade(timestamp=at(n), side=side, price=0.1 * (n + 1), signal=because, **other)
            cash_flow(timestamp=at(n), amount=-0.1 * n, symbol="X" if n % 2 else None)
        for model, deleted in ((Trade, 40), (Signal, 20), (CashFlow, 20)):
            before = all_values(model)
            file = tmp_path / f"{model.__name__}{file_format}"
            result = prune(model, before=at(20), export_to=file)
            assert result == PruneResult(deleted=deleted, file=file)
            assert len(all_values(model)) == len(before) - deleted
            assert import_file(model, file).created == deleted
            assert [file.name for file in tmp_path.glob("*.unfinished*")] == []
            assert all_values(model) == before
            prune(model, before=at(20))

    def test_what_is_changed_between_export_and_deletion_stays(self, tmp_path: Path) -> None:
        untouched, changed, referred = (signal(timestamp=at(n)) for n in range(3))

        def others(done: int, total: int) -> None:
            if (done, total) == (3, 6):  # the rows are in the file
                signals.update(changed, signal_metadata={"late": True})
                trade(signal=referred)
                signal(timestamp=at(0.5), symbol="LATE")

        file = tmp_path / "old.csv"
        result = prune(Signal, before=at(5), export_to=file, progress=others)
        assert result == PruneResult(deleted=1, kept_changed=2, file=file)
        assert ids(Signal) >= {changed.id, referred.id}
        assert untouched.id not in ids(Signal)
        assert signals.get_by_id(changed.id).signal_metadata == {"late": True}  # type: ignore[union-attr]
        assert signals.get_signal_count("LATE") == 1
        assert prune(Signal, before=at(5)) == PruneResult(deleted=2, kept_linked=1)

    def test_a_file_that_exists_is_not_replaced(self, tmp_path: Path) -> None:
        signal(timestamp=at(0))
        file = tmp_path / "old.csv"
        file.write_text("the rows of last month")
        for dry_run in (True, False):
            with pytest.raises(StorageError, match=r"old.csv: exists already, .* name a new file"):
                prune(Signal, before=at(5), export_to=file, dry_run=dry_run)
        assert file.read_text() == "the rows of last month"
        assert signals.get_signal_count() == 1

    def test_a_dry_run_writes_no_file(self, tmp_path: Path) -> None:
        signal(timestamp=at(0))
        result = prune(Signal, before=at(5), export_to=tmp_path / "old.csv", dry_run=True)
        assert result == PruneResult(deleted=1)
        assert list(tmp_path.iterdir()) == []

    def test_a_failed_export_deletes_nothing(self, tmp_path: Path) -> None:
        signal(timestamp=at(0))

        def fail(done: int, total: int) -> None:
            raise OSError("the operator pressed a key")

        with pytest.raises(OSError, match="the operator pressed a key"):
            prune(Signal, before=at(5), export_to=tmp_path / "old.csv", progress=fail)
        missing = tmp_path / "missing" / "old.csv"
        with pytest.raises(StorageError, match=f"{re.escape(str(missing))}: cannot be written"):
            prune(Signal, before=at(5), export_to=missing)
        assert list(tmp_path.iterdir()) == []
        assert signals.get_signal_count() == 1


@pytest.mark.parametrize(
    ("model", "arguments", "error", "message"),
    [
        (Signal, {"before": datetime(2962, 1, 1, tzinfo=UTC)}, ValidationError,
         r"before: 2962-01-01 00:00:00\+00:00 is in the future"),
        (Signal, {"before": None}, ValidationError, "before: None is not allowed"),
        (Signal, {"before": "2024-01-01"}, ValidationError, "before: '2024-01-01' is not a datet"),
        (Signal, {}, ValidationError, r"before: prune\(\) needs before"),
        (Signal, {"before": at(0), "exchange": "okx"}, ValidationError, "exchange: a Signal"),
        (Remark, {"before": at(0)}, ValidationError, "timestamp: a Remark has no such field"),
        ("signal", {"before": at(0)}, ValidationError, "model: 'signal' is not a model"),
        (Signal, {"before": at(0), "export_to": "old.xls"}, ConfigError, "unsupported suffix"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_argument_is_refused(
    model: Any, arguments: Any, error: type[Exception], message: str
) -> None:
    init_db(":memory:")
    recorded = signal(timestamp=at(-1))
    with pytest.raises(error, match=message):
        prune(model, **arguments)
    assert ids(Signal) == {recorded.id}


def test_in_a_transaction_it_is_refused() -> None:
    init_db(":memory:")
    with session_scope(), pytest.raises(DatabaseBusyError, match=r"leave session_scope\(\) before"):
        prune(Signal, before=at(0))


# --- positions ------------------------------------------------------------------------------------


def fill(hour: float, quantity: float, **values: Any) -> Trade:
    side = "buy" if quantity > 0 else "sell"
    return trade(**{"timestamp": at(hour), "side": side, "quantity": abs(quantity)} | values)


@pytest.mark.usefixtures("empty_database")
class TestPositions:
    def test_trades_since_a_position_was_flat_stay(self) -> None:
        fill(0, 1), fill(1, 1), fill(2, -2)
        kept = {fill(3, 2).id, fill(4, -1).id, fill(20, 1).id}
        assert prune(Trade, before=at(10)) == PruneResult(deleted=3, kept_open=2)
        assert ids(Trade) == kept

    def test_a_position_that_was_open_at_the_time_and_is_closed_now_stays(self) -> None:
        kept = {fill(3, 2).id, fill(12, -2).id}
        assert prune(Trade, before=at(10)) == PruneResult(deleted=0, kept_open=1)
        assert ids(Trade) == kept
        assert prune(Trade, before=at(13)) == PruneResult(deleted=2)

    def test_a_fill_that_turns_a_position_ends_none(self) -> None:
        kept = {fill(0, 1).id, fill(1, -2).id, fill(2, 2).id}
        assert prune(Trade, before=at(10)) == PruneResult(deleted=0, kept_open=3)
        assert ids(Trade) == kept

    def test_positions_of_exchanges_and_of_strategies_are_apart(self) -> None:
        fill(0, 1, exchange="x"), fill(1, -1, exchange="x")
        kept = {fill(0, 1, exchange="y").id, fill(1, -1).id}
        # flat together, but neither strategy is
        kept |= {fill(2, 1, symbol="A", strategy="a").id, fill(3, -1, symbol="A", strategy="b").id}
        assert prune(Trade, before=at(10)) == PruneResult(deleted=2, kept_open=4)
        assert ids(Trade) == kept

    def test_a_position_that_other_strategies_share_stays(self) -> None:
        for hour, strategy in ((0, "a"), (2, "a"), (2.5, "b"), (4, None)):
            fill(hour, 1, strategy=strategy)
            fill(hour + 1, -1, strategy=strategy)
        assert prune(Trade, before=at(10), strategy="a") == PruneResult(deleted=2, kept_open=2)
        assert prune(Trade, before=at(10), strategy="") == PruneResult(deleted=2)
        assert prune(Trade, before=at(10)) == PruneResult(deleted=4)

    def test_a_position_of_too_many_trades_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_spans, "MAX_TRADES", 3)
        for hour in (0, 2):
            fill(hour, 1), fill(hour + 1, -1)
        fill(4, 3), fill(5, -1), fill(6, -1), fill(7, -1)
        assert prune(Trade, before=at(10)) == PruneResult(deleted=4, kept_open=4)

    def test_a_position_stays_whole_where_a_trade_of_it_has_changed(self, tmp_path: Path) -> None:
        first, last, _, _ = fill(0, 1), fill(1, -1), fill(2, 1), fill(3, -1)

        def others(done: int, total: int) -> None:
            if done * 2 == total:
                trades.update(last, trade_metadata={"late": True})

        result = prune(Trade, before=at(9), export_to=tmp_path / "t.jsonl", progress=others)
        assert (result.deleted, result.kept_changed) == (2, 2)
        assert ids(Trade) == {first.id, last.id}

    def test_answers_follow_from_what_is_left(self) -> None:
        fill(0, 1, price=100), fill(1, -1, price=110), fill(2, 2, price=50, fee=1)
        held = positions.get("BTC/USDT")
        assert (held.realized_pnl, positions.get_all()) == (10.0, [held])
        prune(Trade, before=at(9))
        left = positions.get("BTC/USDT")
        assert positions.get_all() == [left]
        assert left.realized_pnl == 0.0
        for figure in ("quantity", "average_entry_price", "opened_at"):
            assert getattr(left, figure) == getattr(held, figure)

    def test_funding_of_a_position_that_was_open_stays(self) -> None:
        fill(0, 1, exchange="x"), fill(2, -1, exchange="x"), fill(4, 1, exchange="x")
        symbol = {"symbol": "BTC/USDT", "exchange": "x"}
        for hour in (1, 3, 4):
            cash_flow(timestamp=at(hour), **symbol)
        cash_flow(timestamp=at(5), kind="rebate", **symbol)
        cash_flow(timestamp=at(5), symbol="BTC/USDT")
        assert prune(CashFlow, before=at(9)) == PruneResult(deleted=4, kept_open=1)
        [kept] = cash_flows.iterate()
        assert kept.timestamp == at(4)


def open_positions(**by: Any) -> list[tuple[Any, ...]]:
    return [
        (
            held.symbol, held.exchange, held.strategy, held.quantity, held.average_entry_price,
            held.opened_at, held.contract_size, held.value, held.unrealized,
        )
        for held in positions.value({"A/B": 3.3, "B/C:B": 7.7}, **by)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_open_positions_are_unchanged_after_each_transaction(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of random fills on two exchanges by three strategies, some of them linked."""
    init_db(":memory:")

    class Note(BaseModel):
        trade = peewee.ForeignKeyField(Trade, on_delete="SET NULL", null=True)

    db.create_tables([Note])
    rng = random.Random(seed)
    held: dict[Any, float] = {}
    for n in range(400):
        key = (rng.choice(("A/B", "B/C:B")), rng.choice("xy"), rng.choice(("a", "b", None)))
        quantity = -held.get(key, 0.0) if rng.random() < 0.7 else 0
        quantity = quantity or rng.choice((-1.5, -0.1, 0.2, 0.7))
        held[key] = held.get(key, 0.0) + quantity
        symbol, exchange, strategy = key
        price = rng.uniform(0.5, 9)
        recorded = fill(
            n, quantity, symbol=symbol, exchange=exchange, strategy=strategy, price=price
        )
        if rng.random() < 0.03:
            Note.create(trade=recorded)
    before = open_positions(), open_positions(by_strategy=True), open_positions(strategy="a")
    assert before[1]
    for name in ("FIRST_ROWS", "MAX_ROWS"):
        monkeypatch.setattr(prune_module, name, 1)
    seen = []

    def look(done: int, total: int) -> None:
        now = open_positions(), open_positions(by_strategy=True), open_positions(strategy="a")
        assert now == before
        seen.append(trades.get_trade_count())

    result = prune(Trade, before=at(rng.randrange(300, 400)), progress=look)
    assert result.deleted == 400 - trades.get_trade_count() > 20
    assert result.kept_linked > 0
    assert len(set(seen)) > 3


# --- custom tables --------------------------------------------------------------------------------


@pytest.fixture
def custom(new_target: Callable[[], str], tmp_path: Path) -> peewee.Database:
    """An open database with custom tables."""
    return init_db(new_target(), migrations=custom_migrations(tmp_path))


@pytest.mark.usefixtures("custom")
class TestCustomTables:
    @pytest.mark.parametrize("file_format", FORMATS)
    def test_a_custom_table_is_pruned(self, file_format: str, tmp_path: Path) -> None:
        recorded = trade()
        for n in range(4):
            records.create(
                EquitySnapshot, timestamp=at(n), symbol="X", equity=n / 3, trade=recorded
            )
        before, file = all_values(EquitySnapshot), tmp_path / f"old{file_format}"
        assert prune(EquitySnapshot, before=at(3), export_to=file) == PruneResult(3, file=file)
        assert [row.equity for row in records.iterate(EquitySnapshot)] == [1.0]
        import_file(EquitySnapshot, file)
        assert all_values(EquitySnapshot) == before

    def test_positions_of_which_a_row_refers_to_a_trade_stay(self) -> None:
        for hour in (0, 2, 4):
            first = fill(hour, 1)
            fill(hour + 1, -1)
            if hour == 2:
                records.create(EquitySnapshot, timestamp=at(3), symbol="X", equity=1, trade=first)
        assert prune(Trade, before=at(9)) == PruneResult(deleted=4, kept_linked=2)
        assert prune(Trade, before=at(9), keep_linked=False) == PruneResult(deleted=2)
        assert [row.trade for row in records.get_all(EquitySnapshot)] == [None]

    def test_a_foreign_key_that_refuses_it_keeps_the_row(self) -> None:
        linked = signal(timestamp=at(0))
        records.create(Remark, text="look", about=linked)
        signal(timestamp=at(1))
        result = prune(Signal, before=at(9), keep_linked=False)
        assert result == PruneResult(deleted=1, kept_linked=1)
        assert ids(Signal) == {linked.id}

    def test_a_foreign_key_that_cascades_deletes_the_referring_rows(self) -> None:
        class Note(BaseModel):
            about = peewee.ForeignKeyField(Signal, on_delete="CASCADE")

        db.create_tables([Note])
        records.create(Note, about=signal(timestamp=at(0)))
        assert prune(Signal, before=at(9)) == PruneResult(deleted=0, kept_linked=1)
        assert prune(Signal, before=at(9), keep_linked=False) == PruneResult(deleted=1)
        assert records.count(Note) == 0

    def test_a_table_with_two_keys_and_one_that_refers_to_itself(self) -> None:
        class Tick(BaseModel):
            timestamp = UtcDateTimeField()
            symbol = peewee.CharField()

            class Meta:
                primary_key = peewee.CompositeKey("timestamp", "symbol")

        class Order(BaseModel):
            timestamp = UtcDateTimeField()
            parent: Any = peewee.ForeignKeyField("self", null=True)

        db.create_tables([Tick, Order])
        for n in range(50):
            for symbol in "AB":
                records.create(Tick, timestamp=at(n), symbol=symbol)
        assert prune(Tick, before=at(30), symbol="A") == PruneResult(deleted=30)
        assert records.count(Tick, "A") == 20
        assert records.count(Tick, "B") == 50
        first = records.create(Order, timestamp=at(0))
        records.create(Order, timestamp=at(1), parent=first)
        assert prune(Order, before=at(9)) == PruneResult(deleted=1, kept_linked=1)
        assert prune(Order, before=at(9)) == PruneResult(deleted=1)

    def test_a_table_with_another_kind_of_timestamp_is_refused(self) -> None:
        class Local(BaseModel):
            timestamp = peewee.DateTimeField()

        with pytest.raises(ValidationError, match="timestamp: that of a Local may not be in UTC"):
            prune(Local, before=at(0))
        with pytest.raises(ValidationError, match="timestamp: a Reading has no such field"):
            prune(Reading, before=at(0))


# --- other programs -------------------------------------------------------------------------------

ROWS = 50_000


def test_a_bot_records_while_rows_are_deleted(
    new_target: Callable[[], str], memory_path: Path
) -> None:
    target = new_target()
    if "://" not in target:
        target = str(memory_path / "bot.db")
    init_db(target)
    signals.create_many(signal_values(n / 60) for n in range(ROWS))
    with recording_bot(target):
        result = prune(Signal, before=at((ROWS - 10) / 60), export_to=memory_path / "old.jsonl")
    assert result.deleted == ROWS - 10
    assert signals.get_signal_count() == 10
    close_db()


def test_what_a_file_is_locked_for_includes_the_reading_of_its_rows(path: Path) -> None:
    init_db(path)
    signals.create_many(signal_values(n) for n in range(400))
    deleted: list[int] = []
    delays = iter([0.5])

    def read_slowly(event: Any) -> None:
        if event.sql.startswith("SELECT") and '."id" IN (' in event.sql:
            time.sleep(next(delays, 0))

    db.query_hooks.append(read_slowly)
    try:
        prune(Signal, before=at(400), progress=lambda done, _: deleted.append(done))
    finally:
        db.query_hooks.pop()
    assert deleted[1] - deleted[0] < deleted[0] / 2


def test_it_waits_for_a_writer_and_readers_do_not_wait_for_it(path: Path) -> None:
    init_db(path)
    signals.create_many(signal_values(n) for n in range(500))
    has_lock, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with session_scope():
            signal(timestamp=at(0))
            has_lock.set()
            may_end.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert has_lock.wait(30)
    results: list[PruneResult] = []
    pruning = threading.Thread(target=lambda: results.append(prune(Signal, before=at(250))))
    pruning.start()
    for _ in range(20):
        assert signals.get_signal_count() == 500
        time.sleep(0.01)
    assert results == []
    may_end.set()
    holder.join()
    pruning.join()
    assert results[0].deleted == 250
    assert signals.get_signal_count() == 251


def test_vacuum_gives_the_space_back(path: Path) -> None:
    init_db(path)
    signals.create_many(signal_values(n) for n in range(5000))
    close_db()
    size = path.stat().st_size
    init_db(path)
    prune(Signal, before=at(4990))
    close_db()
    assert path.stat().st_size >= size
    init_db(path)
    db.execute_sql("VACUUM")
    signal()
    close_db()
    assert path.stat().st_size < size / 2
    init_db(path)
    assert signals.get_signal_count() == 11


@needs_fork
@pytest.mark.parametrize("model", [Signal, Trade])
def test_a_killed_prune_loses_nothing_and_is_completed_by_repeating_it(
    path: Path, tmp_path: Path, model: type[Signal | Trade]
) -> None:
    rows = 10_000
    init_db(path)
    signals.create_many(signal_values(n) for n in range(rows))
    trades.create_many(
        trade_values(timestamp=at(n), side=("buy", "sell")[n % 2]) for n in range(rows)
    )
    before = all_values(model)
    close_db()
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"

    def work(acknowledge: Callable[[object], None]) -> None:
        init_db(path)
        prune(model, before=at(rows), export_to=first)
        acknowledge("whole")

    child, words = fork_writer(work)
    init_db(path)
    while model.select().count() == rows:
        time.sleep(0.001)
    assert kill(child, words) == []
    left = model.select().count()
    assert 0 < left < rows
    assert positions.get("BTC/USDT").quantity == 0.0
    with pytest.raises(StorageError, match=r"first.jsonl: exists already"):
        prune(model, before=at(rows), export_to=first)
    assert prune(model, before=at(rows), export_to=second).deleted == left
    assert model.select().count() == 0
    assert import_file(model, first).created == rows
    assert import_file(model, second).skipped == left
    assert all_values(model) == before


@needs_fork
def test_a_prune_that_is_killed_while_it_exports_has_deleted_nothing(
    path: Path, tmp_path: Path
) -> None:
    rows = 20_000
    init_db(path)
    signals.create_many(signal_values(n) for n in range(rows))
    close_db()
    file = tmp_path / "old.jsonl"

    def work(acknowledge: Callable[[object], None]) -> None:
        init_db(path)
        prune(Signal, before=at(rows), export_to=file)

    child, words = fork_writer(work)
    while not (unfinished := file.with_name("old.jsonl.unfinished")).exists():
        time.sleep(0.001)
    kill(child, words)
    assert unfinished.exists()
    assert not file.exists()
    init_db(path)
    assert signals.get_signal_count() == rows


def test_on_a_server_a_row_that_is_being_referred_to_stays(
    new_database: Callable[[], str],
) -> None:
    init_db(new_database())
    linked, lone = signal(timestamp=at(0)), signal(timestamp=at(0))
    has_recorded, may_end = threading.Event(), threading.Event()

    def record() -> None:
        with session_scope():
            trade(signal=linked)
            has_recorded.set()
            may_end.wait(30)

    recording = threading.Thread(target=record)
    recording.start()
    assert has_recorded.wait(30)
    assert prune(Signal, before=at(9)) == PruneResult(deleted=1, kept_changed=1)
    may_end.set()
    recording.join()
    assert ids(Signal) == {linked.id}
    assert [row.signal for row in trades.get_all()] == [linked]
    assert lone.id not in ids(Signal)


def test_on_a_server_every_role_sees_the_references(new_database: Callable[[], str]) -> None:
    url = new_database()
    init_db(url)
    role = f"pruner_{int(time.time() * 1e6)}"
    run(url, f"CREATE ROLE {role}")
    try:
        with db.atomic():
            db.execute_sql(f"SET LOCAL ROLE {role}")
            [reference] = db.references("signal")
        assert reference == ("trade", "signal_id", "id", "SET NULL", "public")
    finally:
        run(url, f"DROP ROLE {role}")


def test_on_a_server_a_table_of_another_schema_is_pruned(new_database: Callable[[], str]) -> None:
    init_db(new_database())

    class Tick(BaseModel):
        timestamp = UtcDateTimeField()

        class Meta:
            schema = "market"

    class Remark(BaseModel):
        about = peewee.ForeignKeyField(Tick, on_delete="SET NULL", null=True)

        class Meta:
            schema = "market"

    db.execute_sql("CREATE SCHEMA market")
    db.create_tables([Tick, Remark])
    linked = records.create(Tick, timestamp=at(0))
    records.create(Tick, timestamp=at(1))
    records.create(Remark, about=linked)
    assert prune(Tick, before=at(9)) == PruneResult(deleted=1, kept_linked=1)
    assert ids(Tick) == {linked.id}


def test_one_connection_is_enough(new_database: Callable[[], str], tmp_path: Path) -> None:
    init_db(new_database(), pool_size=1, busy_timeout=1)
    signals.create_many(signal_values(n) for n in range(1500))
    assert prune(Signal, before=at(1000)).deleted == 1000
    assert prune(Signal, before=at(1200), export_to=tmp_path / "s.csv").deleted == 200
