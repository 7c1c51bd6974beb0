"""What a block with keys allows, what it refuses, and what becomes of a refused block."""

from __future__ import annotations

import enum
import re
import uuid
from collections.abc import Callable
from typing import Any

import peewee
import pytest
from key_reads import READS
from samples import at, cash_flow, cash_flow_values, signal, trade, trade_values

from botmemory import (
    CashFlow,
    DatabaseBusyError,
    DuplicateError,
    NotFoundError,
    Signal,
    Trade,
    ValidationError,
    db,
    run_transaction,
    session_scope,
)
from botmemory.analysis import performance
from botmemory.repositories import cash_flows, positions, records, signals, trades

pytestmark = pytest.mark.usefixtures("empty_database")

BTC, ETH = "BTC/USDT", "ETH/USDT"
KEY = ("trend", BTC)
OTHERS = [("trend", ETH), ("carry", BTC), (None, BTC)]
OWN: dict[str, Any] = {"symbol": BTC, "strategy": "trend"}
OTHER: dict[str, Any] = {"symbol": BTC, "strategy": "carry"}


class Strategy(str, enum.Enum):  # noqa: UP042  (what str() of a member is differs)
    TREND = "trend"
    CARRY = "carry"


def refused(match: str = "") -> Any:
    """Expect that the check of the keys refuses what a block does."""
    return pytest.raises(ValidationError, match=f"^key: .*{match}")


# --- reading ----------------------------------------------------------------------------------

# a read that names no symbol, no strategy, or neither
OF_MANY_KEYS: dict[str, Callable[[], Any]] = {
    "trades.get_all": trades.get_all,
    "trades.get_all of a strategy": lambda: trades.get_all(strategy="trend"),
    "trades.get_by_symbol": lambda: trades.get_by_symbol(BTC),
    "trades.get_latest": trades.get_latest,
    "trades.iterate": lambda: trades.iterate(BTC),
    "trades.get_total_pnl": lambda: trades.get_total_pnl(strategy="trend"),
    "trades.get_trade_count": trades.get_trade_count,
    "trades.get_by_metadata": lambda: trades.get_by_metadata("n"),
    "signals.get_all": signals.get_all,
    "signals.iterate": signals.iterate,
    "signals.get_signal_count": lambda: signals.get_signal_count(BTC),
    "cash_flows.get_latest": cash_flows.get_latest,
    "cash_flows without a symbol": lambda: cash_flows.get_latest(symbol="", strategy="trend"),
    "cash_flows.get_total": lambda: cash_flows.get_total("USDT"),
    "positions.get": lambda: positions.get(BTC),
    "positions.get_all": positions.get_all,
    "positions.get_all of a strategy": lambda: positions.get_all("trend"),
    "positions.value": lambda: positions.value({BTC: 1.0}, "trend"),
    "records.get_all": lambda: records.get_all(Trade),
    "records.count": lambda: records.count(Signal),
    "performance.summarize": performance.summarize,
}
BY_PEEWEE: dict[str, Callable[[], Any]] = {
    "select": lambda: list(Trade.select()),
    "select of the key": lambda: list(
        Trade.select().where(Trade.symbol == BTC, Trade.strategy == "trend")
    ),
    "get": lambda: Trade.get(),
    "get_or_none": lambda: Trade.get_or_none(Trade.symbol == BTC),
    "count": lambda: Trade.select().count(),
    "exists": lambda: Trade.select().exists(),
    "iterator": lambda: list(Trade.select().iterator()),
    "raw": lambda: list(Trade.raw("SELECT * FROM trade")),
    "raw in small letters": lambda: list(Trade.raw("select * from trade")),
    "raw after a comment": lambda: list(Trade.raw("-- all\n  SELECT * FROM trade")),
    "with": lambda: list(Trade.raw("with t as (select * from trade) select * from t")),
    "values": lambda: db.execute_sql("values (1)"),
    "update": lambda: Trade.update(pnl=1.0).execute(),
    "delete": lambda: Trade.delete().execute(),
    "bulk_update": lambda: Trade.bulk_update([Trade(id=uuid.uuid4(), pnl=1.0)], ["pnl"]),
    "insert_from": lambda: Signal.insert_from(
        Trade.select(Trade.timestamp, Trade.symbol, peewee.Value(1)),
        [Signal.timestamp, Signal.symbol, Signal.signal_value],
    ).execute(),
    "upsert": lambda: (
        Trade.insert(trade_values(id=uuid.UUID(int=7)))
        .on_conflict(conflict_target=[Trade.id], update={Trade.price: 9.0})
        .execute()
    ),
    "tables": lambda: db.get_tables(),
}


def test_what_is_read_of_the_key_is_allowed_and_of_others_refused() -> None:
    made = {key: trade(strategy=key[0], symbol=key[1], timestamp=at(1)) for key in [KEY, *OTHERS]}
    for name, read in READS.items():
        expected = read(BTC, "trend")
        with session_scope(key=KEY):
            assert read(BTC, "trend") == expected, name
            for strategy, symbol in OTHERS:
                with refused(re.escape(repr((strategy or "", symbol)))):
                    read(symbol, strategy or "")
            assert read(BTC, "trend") == expected, name  # the block goes on
    with session_scope(key=KEY):
        assert trades.get_by_symbol(BTC, strategy="trend") == [made[KEY]]
        assert positions.get(BTC, "trend").quantity == 1.0


@pytest.mark.parametrize("name", OF_MANY_KEYS)
def test_a_read_of_many_keys_is_refused_and_the_block_goes_on(name: str) -> None:
    with session_scope(key=KEY):
        trade(**OWN)
        with refused("may use other rows than those of its keys"):
            OF_MANY_KEYS[name]()
        trade(**OWN)
    assert trades.get_trade_count() == 2


@pytest.mark.parametrize("name", BY_PEEWEE)
def test_a_query_of_peewee_is_refused_and_the_block_goes_on(name: str) -> None:
    kept = trade(**OWN, pnl=5.0)
    with session_scope(key=KEY):
        with refused("may use other rows"):
            BY_PEEWEE[name]()
        trade(**OWN)
    assert trades.get_trade_count() == 2
    assert signals.get_signal_count() == 0
    assert trades.get_by_id(kept.id) == kept


def test_each_function_that_reads_is_tested() -> None:
    tested = {name.partition(" ")[0] for name in [*READS, *OF_MANY_KEYS]}
    tested |= {f"{module}.{name}" for module, name in TESTED_ONE_BY_ONE}
    for module in (trades, signals, cash_flows, positions, records):
        for name in module.__all__:
            if name[0].islower():
                assert f"{module.__name__.rpartition('.')[2]}.{name}" in tested


TESTED_ONE_BY_ONE = {
    (module, name)
    for module in ("trades", "signals", "cash_flows", "records")
    for name in ("create", "create_many", "get_or_create", "get_by_id", "update", "delete")
}


@pytest.mark.parametrize("make", [trade, signal, cash_flow])
def test_a_row_is_read_by_its_id_if_it_is_one_of_the_key(make: Callable[..., Any]) -> None:
    own, other, without = make(**OWN), make(**OTHER), make(symbol=BTC)
    model = type(own)
    with session_scope(key=KEY):
        assert records.get_by_id(model, own.id) == own
        for row in (other, without):
            with refused(f"cannot use rows of .'{row.strategy or ''}', 'BTC.USDT'"):
                records.get_by_id(model, row.id)
    with session_scope(key=[KEY, ("", BTC)]):
        assert records.get_by_id(model, without.id) == without
        with refused():
            records.get_by_id(model, other.id)
    with session_scope(key=KEY):
        missing = uuid.uuid4() if model is Trade else 10**9
        assert records.get_by_id(model, missing) is None


def test_a_cash_flow_without_a_symbol_belongs_to_no_key() -> None:
    deposit = cash_flow(kind="deposit", strategy="trend")
    with session_scope(key=KEY):
        with refused("a CashFlow without a symbol"):
            cash_flows.get_by_id(deposit.id)
        with refused("a CashFlow without a symbol"):
            cash_flows.update(deposit, amount=2.0)
        with refused("a CashFlow without a symbol"):
            cash_flows.delete(deposit)
        cash_flow(kind="deposit")  # recording is allowed
    assert cash_flows.get_total("USDT") == -3.0


def test_a_position_that_others_change_is_never_taken_from_the_cache() -> None:
    for quantity in (1.0, 2.0, 3.0):
        own, other = trade(**OWN, quantity=quantity), trade(**OTHER)
        with session_scope(key=KEY):
            assert positions.get(BTC, "trend").quantity == quantity
            with refused():
                positions.get(BTC, "carry")
            trades.update(own, quantity=quantity + 5)
            assert positions.get(BTC, "trend").quantity == quantity + 5
        assert positions.get(BTC, "trend").quantity == quantity + 5
        trades.delete(own)
        trades.delete(other)


# --- iterators --------------------------------------------------------------------------------


def test_an_iterator_reads_in_the_block_that_has_its_key() -> None:
    for hour in range(3):
        trade(**OWN, timestamp=at(hour))
        trade(**OTHER, timestamp=at(hour))
    outside = trades.iterate(BTC, strategy="carry")
    with session_scope(key=KEY):
        assert len(list(trades.iterate(BTC, strategy="trend"))) == 3
        with refused("'carry'"):
            next(outside)
    with session_scope():
        inside = trades.iterate(BTC, strategy="carry")
    with session_scope(key=KEY), refused("'carry'"):
        next(inside)
    with session_scope(key=("carry", BTC)):
        assert len(list(trades.iterate(BTC, strategy="carry"))) == 3


def test_the_next_page_of_an_iterator_is_refused_in_a_block_of_another_key() -> None:
    trades.create_many([trade_values(**OTHER, timestamp=at(n)) for n in range(1200)])
    rows = trades.iterate(BTC, strategy="carry")
    next(rows)
    with session_scope(key=KEY), refused("'carry'"):
        list(rows)


# --- changing ---------------------------------------------------------------------------------


CHANGES: dict[str, Any] = {
    "trades": (trade, trades, {"price": 7.0}),
    "signals": (signal, signals, {"signal_value": -1}),
    "cash_flows": (cash_flow, cash_flows, {"amount": 7.0}),
    "records": (trade, records, {"price": 7.0}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_of_the_key_is_changed_and_deleted_and_one_of_another_refused(name: str) -> None:
    make, module, change = CHANGES[name]
    own, other = make(**OWN), make(**OTHER)
    [(field, value)] = change.items()
    with session_scope(key=KEY):
        assert getattr(module.update(own, **change), field) == value
        with refused("cannot use rows of .'carry', 'BTC.USDT'"):
            module.update(other, **change)
        with refused("cannot use rows of .'carry', 'BTC.USDT'"):
            module.delete(other)
    assert getattr(records.get_by_id(type(own), own.id), field) == value
    assert records.get_by_id(type(own), other.id) == make_same(other)
    with session_scope(key=KEY):
        module.delete(own)
        with pytest.raises(NotFoundError):
            module.delete(own)
        with pytest.raises(NotFoundError):
            module.update(own, **change)
    assert records.count(type(own)) == 1


def make_same(row: Any) -> Any:
    stored = type(row).get_by_id(row.id)
    assert stored.to_dict() == row.to_dict()
    return stored


@pytest.mark.parametrize("make", [trade, signal, cash_flow])
def test_a_row_does_not_leave_the_keys(make: Callable[..., Any]) -> None:
    row = make(**OWN)
    with session_scope(key=KEY):
        with refused("'carry', 'BTC.USDT'"):
            records.update(row, strategy="carry")
        with refused("'trend', 'ETH.USDT'"):
            records.update(row, symbol=ETH)
        with refused("'', 'BTC.USDT'"):
            records.update(row, strategy=None)
    with session_scope(key=[KEY, ("carry", BTC)]):
        records.update(row, strategy="carry")
    assert row.strategy == "carry"
    with session_scope(key=("carry", BTC)):
        records.delete(row)


@pytest.mark.parametrize("make", [trade, signal, cash_flow])
def test_a_stale_row_that_has_another_key_now_is_not_changed(make: Callable[..., Any]) -> None:
    stale = make(**OWN)
    model: Any = type(stale)
    records.update(model.get_by_id(stale.id), strategy="carry")
    with session_scope(key=KEY):
        with refused("'carry', 'BTC.USDT'"):
            records.update(stale, timestamp=at(5))
        with refused("'carry', 'BTC.USDT'"):
            records.delete(stale)
    assert model.get_by_id(stale.id).timestamp != at(5)
    records.update(stale, timestamp=at(6))  # without a block any row is changed
    assert model.get_by_id(stale.id).timestamp == at(6)
    records.delete(stale)
    assert records.count(model) == 0


def test_a_row_whose_key_is_only_assigned_is_not_taken_for_another() -> None:
    other = trade(**OTHER)
    other.strategy = "trend"
    with session_scope(key=KEY), refused("'carry', 'BTC.USDT'"):
        trades.delete(other)
    with session_scope(key=KEY), refused("'carry', 'BTC.USDT'"):
        trades.update(other)
    other.strategy = "mean"
    trades.delete(other)
    assert trades.get_trade_count() == 0


def test_a_row_assigned_a_member_of_an_enum_has_the_key_of_its_value() -> None:
    row = trade(**OWN)
    row.strategy = Strategy.TREND
    with session_scope(key=KEY):
        trades.delete(row)
    assert trades.get_trade_count() == 0


def test_peewees_methods_of_a_row_are_refused_by_name() -> None:
    row = trade(**OWN)
    row.pnl = 4.0
    with session_scope(key=KEY):
        with refused("UPDATE"):
            row.save()
        with refused("DELETE"):
            row.delete_instance()
        Trade(**trade_values(**OTHER)).save(force_insert=True)  # which records
        trades.update(row)
    assert trades.get_total_pnl() == 4.0
    assert trades.get_trade_count() == 2


def test_a_signal_is_not_deleted_where_trades_of_another_key_would_change() -> None:
    made = signal(**OWN)
    own, other = trade(**OWN, signal=made), trade(**OTHER, signal=made)
    with session_scope(key=KEY), refused("'carry', 'BTC.USDT'"):
        signals.delete(made)
    assert Trade.get_by_id(other.id).signal_id == made.id
    with session_scope(key=[KEY, ("carry", BTC)]):
        signals.delete(made)
    assert [Trade.get_by_id(row.id).signal_id for row in (own, other)] == [None, None]


# --- the signal of a trade ----------------------------------------------------------------------


def test_the_signal_of_a_trade_is_read_if_it_is_of_the_key() -> None:
    own = trade(**OWN, signal=signal(**OWN, signal_metadata={"a": 1}))
    other = trade(**OWN, signal=signal(**OTHER))
    without = trade(**OWN)
    with session_scope(key=KEY):
        stored = {row.id: row for row in trades.get_by_symbol(BTC, strategy="trend")}
        assert stored[own.id].signal.signal_metadata == {"a": 1}
        assert stored[without.id].signal is None
        with refused("cannot use rows of .'carry', 'BTC.USDT'"):
            _ = stored[other.id].signal
        assert stored[other.id].signal_id == other.signal_id
        with refused("SELECT"):
            list(stored[own.id].signal.trades)
    assert stored[other.id].signal.strategy == "carry"  # outside, any is read


# --- recording ----------------------------------------------------------------------------------


def test_rows_of_any_key_are_recorded() -> None:
    fill = {"exchange": "okx", "exchange_trade_id": "1"}
    flow = {"exchange": "okx", "exchange_flow_id": "1"}
    with session_scope(key=KEY):
        for strategy, symbol in [KEY, *OTHERS]:
            values: dict[str, Any] = {"strategy": strategy, "symbol": symbol}
            trade(**values, signal=signal(**values))
            cash_flow(**values)
            trades.create_many([trade_values(**values), trade_values(**values)])
            signals.create_many([{**values, "signal_value": 0}])
            cash_flows.create_many([cash_flow_values(**values)])
            records.create(Signal, **values, signal_value=1)
        assert trades.get_or_create(**fill, **trade_values(**OWN))[1]
        assert not trades.get_or_create(**fill, **trade_values(**OWN))[1]
        assert cash_flows.get_or_create(**flow, **cash_flow_values(**OWN))[1]
        assert not cash_flows.get_or_create(**flow, **cash_flow_values(**OWN))[1]
    assert trades.get_trade_count() == 13
    assert signals.get_signal_count() == 12
    assert records.count(CashFlow) == 9


def test_a_duplicate_of_another_key_is_a_duplicate_and_not_returned() -> None:
    fill = {"exchange": "okx", "exchange_trade_id": "1"}
    flow = {"exchange": "okx", "exchange_flow_id": "1"}
    first = trade(**OTHER, **fill)
    paid = cash_flow(**OTHER, **flow)
    with session_scope(key=KEY):
        with pytest.raises(DuplicateError) as caught:
            trade(**OWN, **fill)
        assert caught.value.id == first.id
        with pytest.raises(DuplicateError):
            trade(**OWN, id=first.id)
        with pytest.raises(DuplicateError):
            records.create(Trade, **trade_values(**OWN, id=first.id))
        with pytest.raises(DuplicateError) as caught:
            cash_flow(**OWN, **flow)
        assert caught.value.id == paid.id
        with pytest.raises(DuplicateError, match=r"^rows\[1\]: "):
            trades.create_many([trade_values(**OWN), trade_values(**OWN, **fill)])
        with refused("'carry', 'BTC.USDT'"):
            trades.get_or_create(**fill, **trade_values(**OWN))
        with refused("'carry', 'BTC.USDT'"):
            cash_flows.get_or_create(**flow, **cash_flow_values(**OWN))
        trade(**OWN)
    assert trades.get_trade_count() == 2


def test_a_row_is_recorded_with_an_id_and_the_next_id_is_higher() -> None:
    last = signal().id
    with session_scope(key=KEY):
        records.create(Signal, id=last + 10, symbol=BTC, signal_value=1)
        records.create_many(Signal, [{"id": last + 20, "symbol": BTC, "signal_value": 1}])
        Signal(id=last + 30, symbol=BTC, signal_value=1).save(force_insert=True)
        assert signal().id == last + 31
    assert signals.get_signal_count() == 5


# --- keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["", None])
def test_rows_without_a_strategy_have_a_key_of_their_own(strategy: str | None) -> None:
    row, other = trade(symbol=BTC), trade(**OWN)
    with session_scope(key=(strategy, BTC)):
        assert trades.get_by_symbol(BTC, strategy="") == [row]
        assert positions.get(BTC, "").quantity == 1.0
        trades.update(row, pnl=1.0)
        with refused("key=.'', 'BTC.USDT'. cannot use rows of .'trend'"):
            trades.update(other, pnl=1.0)
        with refused("may use other rows"):
            trades.get_by_symbol(BTC)
        trades.delete(row)


def test_the_strategy_of_a_key_may_be_a_member_of_an_enum() -> None:
    with session_scope(key=(Strategy.TREND, BTC)):
        trade(symbol=BTC, strategy=Strategy.TREND)
        assert positions.get(BTC, "trend").quantity == 1.0
        assert positions.get(BTC, Strategy.TREND).quantity == 1.0
        with refused("cannot use rows of .'carry', 'BTC.USDT'"):
            positions.get(BTC, Strategy.CARRY)


@pytest.mark.parametrize("form", [list, tuple, set, frozenset, iter])
def test_several_keys_are_given_as_any_series(form: Callable[[Any], Any]) -> None:
    own, other = trade(**OWN), trade(**OTHER)
    with session_scope(key=form([KEY, ("carry", BTC)])):
        trades.update(own, pnl=1.0)
        trades.update(other, pnl=1.0)
        assert positions.get(BTC, "carry").quantity == 1.0
        with refused(r"key=\[\('carry', 'BTC.USDT'\), \('trend', 'BTC.USDT'\)\] cannot use"):
            positions.get(BTC, "")


@pytest.mark.parametrize(
    "key",
    [
        "BTC/USDT",
        b"trend",
        5,
        (),
        [],
        {},
        {"trend": BTC},
        ("trend",),
        ("trend", BTC, "okx"),
        ("trend", None),
        ("trend", ""),
        (5, BTC),
        ["trend", BTC],
        [KEY, "trend"],
        [KEY, ("trend", 5)],
        Trade,
    ],
)
def test_what_is_no_key_is_refused_before_the_block_begins(key: Any) -> None:
    for use in (session_scope, lambda key: run_transaction(trade, key=key)):
        with pytest.raises(ValidationError, match=r"key=\('trend', 'BTC/USDT'\)") as caught:
            use(key=key)
        assert caught.value.field == "key"
    assert trades.get_trade_count() == 0


def test_the_message_shows_what_was_given_as_a_key() -> None:
    incomplete: Any = ("trend", None)
    with refused(r"\('trend', None\) is not a pair"):
        session_scope(key=incomplete)


# --- blocks -------------------------------------------------------------------------------------


def test_an_inner_block_has_keys_of_the_outer_one() -> None:
    with session_scope(key=[KEY, ("carry", BTC)]):
        with session_scope(key=KEY):
            positions.get(BTC, "trend")
        with session_scope():
            positions.get(BTC, "carry")
            with refused():
                trades.get_all()
        with refused("cannot use rows of .'trend', 'ETH.USDT'"), session_scope(key=("trend", ETH)):
            pytest.fail("entered")
        trade(**OWN)
    with session_scope():
        with session_scope(key=KEY):
            trades.get_all()  # the outer block has all keys
        trade(**OWN)
    assert trades.get_trade_count() == 2


def test_a_refusal_that_leaves_a_block_rolls_it_back_as_a_whole() -> None:
    with refused("'carry'"), session_scope(key=KEY):
        trade(**OWN)
        positions.get(BTC, "carry")
    assert trades.get_trade_count() == 0
    with session_scope(key=KEY):
        trade(**OWN)
        with refused("'carry'"), session_scope():
            trade(**OWN)
            positions.get(BTC, "carry")
    assert trades.get_trade_count() == 1


def test_the_keys_end_with_the_block() -> None:
    with session_scope(key=KEY):
        trade(**OWN)
    assert len(trades.get_all()) == len(list(Trade.select())) == 1

    with pytest.raises(LookupError), session_scope(key=KEY):
        raise LookupError
    with session_scope():
        assert trades.get_trade_count() == 1


def test_an_error_inside_leaves_the_keys_as_they_were() -> None:
    with session_scope(key=KEY):
        for _ in range(2):
            with pytest.raises(ValidationError, match="price"):
                trade(**OWN, price=-1.0)
            with pytest.raises(NotFoundError):
                trades.delete(Trade(id=uuid.uuid4(), **OWN))
            with pytest.raises(ValidationError, match="limit"):
                trades.get_by_symbol(BTC, limit=-1, strategy="trend")
            with refused():
                trades.get_all()
        trade(**OWN)
    assert trades.get_trade_count() == 1


def test_a_function_is_a_block_with_a_key() -> None:
    @session_scope(key=KEY)  # type: ignore[operator]
    def work(symbol: str) -> float:
        trade(**OWN)
        return positions.get(symbol, "trend").quantity

    assert [work(BTC), work(BTC)] == [1.0, 2.0]
    with refused("'trend', 'ETH.USDT'"):
        work(ETH)
    assert trades.get_trade_count() == 2


def buy_if_flat(symbol: str, *, strategy: str) -> bool:
    if positions.get(symbol, strategy).quantity:
        return False
    trade(symbol=symbol, strategy=strategy)
    return True


def test_run_transaction_repeats_a_function_with_the_same_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("botmemory.backends.retry.LONGEST_PAUSE", 0.001)
    calls = []

    def work() -> None:
        calls.append(positions.get(BTC, "trend"))
        with refused("'carry'"):
            positions.get(BTC, "carry")
        if len(calls) < 3:
            raise DatabaseBusyError("rolled back", retryable=True)

    run_transaction(work, key=iter([KEY]))
    assert len(calls) == 3


def test_run_transaction_has_a_key() -> None:
    assert run_transaction(buy_if_flat, BTC, strategy="trend", key=KEY)
    assert not run_transaction(buy_if_flat, BTC, strategy="trend", key=[KEY])
    with refused("'carry'"):
        run_transaction(buy_if_flat, BTC, strategy="carry", key=KEY)
    with session_scope(key=KEY):
        assert not run_transaction(buy_if_flat, BTC, strategy="trend", key=KEY)
        with refused("'carry'"):
            run_transaction(buy_if_flat, BTC, strategy="carry", key=("carry", BTC))
    assert trades.get_trade_count() == 1
