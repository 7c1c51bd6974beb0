"""Subclasses of str: their text is stored and compared, whatever methods they override."""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from custom_tables import EquitySnapshot, Remark
from peewee import fn
from samples import at, signal, trade, trade_values

from botmemory import OrderSide, Signal, Trade, ValidationError, db
from botmemory.analysis import attribution, performance
from botmemory.interop import files, frames
from botmemory.interop.ccxt import import_trades
from botmemory.repositories import positions, records, signals, trades

pytestmark = pytest.mark.usefixtures("empty_database")


class Member(str, enum.Enum):  # noqa: UP042  (str() and hash() of a member are those of its name)
    PAIR = "BTC/USDT"
    COIN = "USDT"
    SIDE = "buy"
    KEY = "rsi"
    DAY = "weekday"


class StrMember(enum.StrEnum):
    PAIR = "BTC/USDT"


class Odd(str):
    """Text whose class overrides str(), == and hash()."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __str__(self) -> str:
        return "something else"

    __repr__ = __format__ = lambda self, *_: "something else"  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other


PAIRS = [Member.PAIR, StrMember.PAIR, Odd("BTC/USDT"), np.str_("BTC/USDT")]
LABELS = ("symbol", "strategy", "exchange", "exchange_trade_id", "fee_currency")


def is_text(value: object) -> bool:
    """Return whether it is the text of all pairs, as a plain str."""
    return type(value) is str and value == "BTC/USDT"


@pytest.mark.parametrize("pair", PAIRS, ids=type)
class TestEveryClassOfText:
    def test_its_text_is_stored(self, pair: str) -> None:
        labels = dict.fromkeys(LABELS, pair)
        created_trade = trade(**labels)
        by_repository = [created_trade, trades.get_by_id(created_trade.id)]
        trades.create_many([trade_values(**labels | {"exchange_trade_id": "2"})])
        fill, created = trades.get_or_create(**trade_values(**labels))
        assert not created
        assert fill.id == created_trade.id
        saved = Trade(**trade_values(**labels | {"exchange_trade_id": "3"}))
        saved.save()
        created_by_peewee = Trade.create(**trade_values(**labels | {"exchange_trade_id": "4"}))
        changed = trade()
        trades.update(changed, **labels | {"symbol": "X"})
        changed.symbol = pair
        changed.exchange_trade_id = "5"
        trades.update(changed)
        Trade.insert(trade_values(id=uuid.uuid4(), timestamp=at(0)) | {"symbol": pair}).execute()
        Trade.update(symbol=pair, strategy=pair).execute()
        everything = [*by_repository, fill, saved, created_by_peewee, changed]
        for row in everything:
            assert is_text(row.symbol)
            assert is_text(row.strategy)
            assert is_text(row.exchange)
            assert is_text(row.fee_currency)
        assert is_text(created_trade.exchange_trade_id)
        assert {row.symbol for row in trades.get_all()} == {"BTC/USDT"}
        assert len(trades.get_all()) == 6
        stored_signal = signal(symbol=pair, strategy=pair)
        assert is_text(stored_signal.symbol)
        assert is_text(stored_signal.strategy)
        signals.update(stored_signal, strategy="X")
        assert is_text(signals.update(stored_signal, strategy=pair).strategy)
        assert signals.get_all() == [stored_signal]

    def test_it_filters_by_its_text(self, pair: str) -> None:
        stored_signal = signal(strategy="BTC/USDT", timestamp=at(0))
        created_trade = trade(strategy="BTC/USDT", pnl=5, timestamp=at(1), signal=stored_signal)
        trade(symbol="X", strategy="Y", pnl=7)
        span = (at(0), at(2))
        for repository, row in ((trades, created_trade), (signals, stored_signal)):
            assert repository.get_by_symbol(pair, strategy=pair) == [row]
            assert repository.get_latest(pair, strategy=pair) == [row]
            assert repository.get_all(strategy=pair) == [row]
            assert repository.get_by_date_range(pair, *span, strategy=pair) == [row]
            assert list(repository.iterate(pair, strategy=pair)) == [row]
        assert trades.get_total_pnl(pair, strategy=pair) == 5
        assert trades.get_trade_count(pair, strategy=pair) == 1
        assert signals.get_signal_count(pair, strategy=pair) == 1
        assert signals.get_by_signal_value(1, pair, strategy=pair) == [stored_signal]
        [position] = [positions.get(pair, pair)]
        assert position == positions.get("BTC/USDT", "BTC/USDT")
        assert is_text(position.symbol)
        assert positions.get_all(pair) == [position]

    def test_analysis_and_exports_filter_by_its_text(self, pair: str, tmp_path: Any) -> None:
        trade(strategy="BTC/USDT", pnl=5, timestamp=at(1))
        trade(symbol="X/Y", strategy="Z", pnl=7)
        summary = performance.summarize(pair, pair)
        assert summary == performance.summarize("BTC/USDT", "BTC/USDT")
        assert summary.total_pnl == 5
        assert summary.quote == "USDT"
        assert [point.pnl for point in performance.equity_curve(pair, pair)] == [5]
        assert [(group.key, group.trades) for group in performance.by("symbol", pair)] == [
            ("BTC/USDT", 1)
        ]
        assert performance.quotes(pair) == ["USDT"]
        assert frames.trades(pair, pair).num_rows == 1
        assert files.export_file(Trade, tmp_path / "a.csv", symbol=pair, strategy=pair) == 1

    def test_peewee_queries_compare_with_the_text(self, pair: str) -> None:
        created_trade = trade(strategy="BTC/USDT")
        trade(symbol="X")
        for condition in (
            Trade.symbol == pair,
            pair == Trade.symbol if type(pair) is np.str_ else Trade.symbol == pair,
            Trade.symbol.in_([pair]),
            ~(Trade.symbol != pair),
            (Trade.symbol >= pair) & (Trade.symbol <= pair),
            Trade.symbol.between(pair, pair),
            Trade.symbol.contains(pair),
            Trade.symbol.startswith(pair),
            Trade.symbol.endswith(pair),
            Trade.symbol**pair,
            fn.UPPER(Trade.symbol) == pair,
            fn.COALESCE(Trade.strategy, "-") == pair,
        ):
            assert list(Trade.select().where(condition)) == [created_trade]

    def test_metadata_contains_its_text_and_is_found_by_it(self, pair: str) -> None:
        stored_signal = signal(signal_metadata={"a": pair, "in": {pair: [pair]}})
        plain = {"a": "BTC/USDT", "in": {"BTC/USDT": ["BTC/USDT"]}}
        assert stored_signal.signal_metadata == plain
        stored = signals.get_by_id(stored_signal.id)
        assert stored is not None
        assert stored.signal_metadata == plain
        assert is_text(stored.signal_metadata["a"])
        assert signals.get_by_metadata("a", equals=pair) == [stored_signal]
        assert signals.get_by_metadata("a", equals=pair, symbol=pair) == [stored_signal]
        assert list(Signal.select().where(Signal.signal_metadata["a"] == pair)) == [stored_signal]
        whole = signal(signal_metadata=pair)
        assert is_text(whole.signal_metadata)

    def test_custom_tables_store_its_text(self, pair: str, custom_tables: None) -> None:
        remark = records.create(Remark, text=pair)
        assert is_text(remark.text)
        snapshot = records.create(
            EquitySnapshot, timestamp=at(0), symbol=pair, strategy=pair, equity=1
        )
        assert records.get_by_symbol(EquitySnapshot, pair, strategy=pair) == [snapshot]
        assert records.count(EquitySnapshot, pair, strategy=pair) == 1
        for condition in (Remark.text == pair, Remark.text.in_([pair])):
            assert list(Remark.select().where(condition)) == [remark]
        records.update(remark, text="X")
        assert is_text(records.update(remark, text=pair).text)
        assert Remark.get().text == "BTC/USDT"


@pytest.fixture
def custom_tables(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.callspec.params["shared_database"] == "partitioned":
        pytest.skip("no table can refer to a partitioned one by its id")
    models: list[Any] = [EquitySnapshot, Remark]
    db.create_tables(models)
    yield
    db.drop_tables(models)


def test_a_side_may_be_of_any_class_of_text() -> None:
    for side in (Member.SIDE, Odd("buy"), Odd("BUY"), np.str_("Buy")):
        assert trade(side=side).side is OrderSide.BUY
        assert OrderSide(side) is OrderSide.BUY
    assert Trade.select().where(Trade.side == Odd("BUY")).count() == 4
    with pytest.raises(ValidationError, match="^side: .* is not a side"):
        trade(side=Member.PAIR)


def test_an_id_may_be_of_any_class_of_text() -> None:
    created_trade = trade(id=Odd(uuid.uuid4()))
    assert type(created_trade.id) is uuid.UUID
    for text in (
        str(created_trade.id),
        Odd(created_trade.id),
        Odd(created_trade.id.hex),
        np.str_(created_trade.id),
    ):
        assert trades.get_by_id(text) == created_trade
        assert attribution.explain(text).trade == created_trade
        assert Trade.get_by_id(text) == created_trade


def test_arguments_of_analysis_may_be_of_any_class_of_text() -> None:
    stored_signal = signal(signal_metadata={"rsi": 30}, timestamp=at(0))
    created_trade = trade(signal=stored_signal, pnl=5, timestamp=at(1))
    trade(symbol="ETH/EUR", pnl=7)
    for quote in (Member.COIN, Odd("USDT")):
        assert performance.summarize(quote=quote).total_pnl == 5
    for key in (Member.KEY, Odd("rsi")):
        [bucket] = attribution.pnl_by_metadata(key, symbol="BTC/USDT")
        assert bucket.total_pnl == 5
        assert attribution.explain(created_trade, price_key=key).signal_price == 30
        assert signals.get_by_metadata(key, equals=30) == [stored_signal]
    for day in (Member.DAY, Odd("weekday")):
        assert performance.by(day, "BTC/USDT") == performance.by("weekday", "BTC/USDT")


def test_the_id_of_a_fill_may_be_of_any_class_of_text() -> None:
    fill = {
        "id": "7", "symbol": "BTC/USDT", "side": "buy", "price": 1, "amount": 1,
        "timestamp": 1_700_000_000_000, "fee": {"cost": 1, "currency": "USDT"},
    }  # fmt: skip
    odd = fill | {"id": Odd("7"), "fee": {"cost": 1, "currency": Member.COIN}}
    assert import_trades([fill, odd], exchange=Member.PAIR).created == 1
    assert trades.get_all()[0].fee_currency == "USDT"
    for currency in ({"a": 1}, 5):
        invalid = fill | {"id": "8", "fee": {"cost": 1, "currency": currency}}
        [rejected] = import_trades([invalid], exchange="okx").rejected
        assert rejected.reason.startswith("fee_currency: ")


class Level(enum.Enum):
    LOW = "low"


def test_a_value_that_is_stored_as_json_finds_itself() -> None:
    for value in (Level.LOW, uuid.uuid4(), at(0), at(0).date(), np.True_, np.int64(7), 0.5):
        stored_signal = signal(signal_metadata={"value": value})
        assert signals.get_by_metadata("value", equals=value) == [stored_signal], value


@pytest.mark.parametrize("text", ["\ud800", "a\0b"])
def test_text_that_no_database_stores_is_refused_by_name(text: str) -> None:
    for query in (
        lambda: signals.get_by_metadata(text),
        lambda: signals.get_by_metadata("a", equals=text),
        lambda: attribution.pnl_by_metadata(text),
        lambda: trades.get_by_symbol(text),
        lambda: signal(signal_metadata={text: 1}),
        lambda: signal(signal_metadata=text),
    ):
        with pytest.raises(ValidationError, match="^(key|equals|symbol|signal_metadata): "):
            query()


@pytest.mark.parametrize("value", [[], {}, b"a", 5, Level.LOW])
def test_a_value_that_is_not_text_is_refused_by_name(value: Any) -> None:
    trade(pnl=1)
    for name, query in {
        "key": lambda: signals.get_by_metadata(value),
        "price_key": lambda: attribution.explain(
            trade(signal=signal(), timestamp=at(1)), price_key=value
        ),
        "quote": lambda: performance.summarize(quote=value),
        "dimension": lambda: performance.by(value),
        "symbol": lambda: positions.get(value),
        "strategy": lambda: trades.get_all(strategy=value),
        "signal_of": lambda: attribution.pnl_by_metadata("rsi", signal_of=value),
    }.items():
        with pytest.raises(ValidationError, match=f"^{name}: "):
            query()


@pytest.mark.parametrize("digits", [4_300, 4_301])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_integer_that_python_does_not_parse_is_refused(digits: int, sign: int) -> None:
    number = sign * 10 ** (digits - 1)
    if digits == 4_300:
        stored = signals.get_by_id(signal(signal_metadata=[number]).id)
        assert stored is not None
        assert stored.signal_metadata == [number]
        return
    with pytest.raises(ValidationError, match=r"signal_metadata\[0\]: .* more than 4,300 digits"):
        signal(signal_metadata=[number])
    assert signals.get_signal_count() == 0
