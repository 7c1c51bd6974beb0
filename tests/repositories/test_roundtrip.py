"""Whatever is valid comes back equal, on every backend."""

from __future__ import annotations

import json
import math
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from samples import signal, trade, trade_values

from botmemory import Trade
from botmemory.repositories import signals, trades

pytestmark = pytest.mark.usefixtures("empty_database")

LARGEST, SMALLEST = 1.7976931348623157e308, 5e-324

symbols = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=20
).filter(lambda text: text == text.strip(" ") and text.isprintable())
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
moments = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30, 23, 59, 59, 999999), timezones=offsets
)
metadata = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def stored(row: Trade) -> Trade:
    read = trades.get_by_id(row.id)
    assert read is not None
    return read


@given(symbols)
@example("x" * 20)
@example("\U0001f680/USDT")
@example("' OR 1=1 --")
def test_any_symbol(symbol: str) -> None:
    made = trade(symbol=symbol, strategy=symbol)
    read = stored(made)
    assert (read.symbol, read.strategy) == (symbol, symbol)
    assert made in trades.get_by_symbol(symbol, strategy=symbol)


@given(
    st.floats(SMALLEST, LARGEST),
    st.floats(allow_nan=False, allow_infinity=False),
)
@example(LARGEST, -LARGEST)
@example(SMALLEST, -SMALLEST)
@example(0.1, -0.0)
def test_any_finite_double(positive: float, finite: float) -> None:
    made = trade(price=positive, quantity=positive, pnl=finite, fee=finite)
    read = stored(made)
    there = [read.price, read.quantity, read.pnl, read.fee]
    finite += 0.0  # a negative zero becomes zero
    assert list(map(float.hex, there)) == list(map(float.hex, [positive, positive, finite, finite]))
    assert (made.pnl, math.copysign(1, made.pnl)) == (finite, math.copysign(1, finite))


@given(moments)
@example(datetime(2024, 3, 31, 2, 30, tzinfo=UTC))
@example(datetime(1999, 12, 31, 23, 59, 59, 999999, UTC))
@example(datetime(2024, 2, 29, tzinfo=UTC))
def test_any_aware_timestamp(moment: datetime) -> None:
    made = trade(timestamp=moment)
    read = stored(made)
    assert read.timestamp == moment
    assert read.timestamp.tzinfo is UTC
    assert made in trades.get_by_date_range(None, moment, moment)


@given(st.lists(moments, min_size=2, max_size=6))
@settings(max_examples=25)
def test_the_order_of_what_is_stored_is_the_order_of_time(chosen: list[datetime]) -> None:
    ids = {trade(timestamp=moment).id for moment in chosen}
    read = [t.timestamp for t in trades.get_all() if t.id in ids]
    assert read == sorted(chosen, reverse=True)


def as_text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


@given(metadata)
@example({"": {"a.b": [0.1, -0.0, 1e308, 1e16, 5e-324, 10**30, "1e+16", '\\"1e+16']}})
@example("text alone")
def test_any_metadata(value: object) -> None:
    made = signal(signal_metadata=value)
    read = signals.get_by_id(made.id)
    assert read is not None
    assert read.signal_metadata == value
    assert made.signal_metadata == value
    # 10.0 is equal to 10, and yet not the same
    assert as_text(read.signal_metadata) == as_text(made.signal_metadata)
    read_trade = stored(trade(trade_metadata=value))
    assert as_text(read_trade.trade_metadata) == as_text(made.signal_metadata)
    one_of_many = trade_values(id=uuid.uuid4(), trade_metadata=value)
    trades.create_many([one_of_many])
    read_trade = stored(Trade(id=one_of_many["id"]))
    assert as_text(read_trade.trade_metadata) == as_text(made.signal_metadata)


@given(st.floats())
def test_metadata_holds_no_infinities(value: float) -> None:
    read = signals.get_by_id(signal(signal_metadata={"v": value}).id)
    assert read is not None
    assert read.signal_metadata["v"] == (value if math.isfinite(value) else None)
