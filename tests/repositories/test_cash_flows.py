"""The functions of `cash_flows`, on every backend."""

from __future__ import annotations

import decimal
import inspect
import math
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import peewee
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import at, cash_flow, cash_flow_values

from botmemory import (
    CashFlow,
    DuplicateError,
    NotFoundError,
    ValidationError,
    session_scope,
)
from botmemory.models import CASH_FLOW_KINDS
from botmemory.queries.write import ROWS_PER_CHUNK
from botmemory.repositories import cash_flows, records

pytestmark = pytest.mark.usefixtures("empty_database")

FLOW = {"exchange": "okx", "exchange_flow_id": "7"}
LARGEST = 1.7976931348623157e308


def count() -> int:
    return records.count(CashFlow)


# --- recording ------------------------------------------------------------------------------


def test_a_created_cash_flow_is_returned_as_it_is_stored() -> None:
    created = cash_flow(amount=Decimal("-0.25"))
    stored = cash_flows.get_by_id(created.id)
    assert stored is not None
    assert stored.__data__ == created.__data__
    assert (stored.kind, stored.currency, stored.amount) == ("funding", "USDT", -0.25)
    assert (stored.symbol, stored.exchange, stored.metadata) == (None, None, None)
    assert stored.timestamp.tzinfo is UTC
    assert abs(datetime.now(UTC) - stored.timestamp) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "record", [cash_flows.create, lambda **row: cash_flows.get_or_create(**row)[0]]
)
def test_every_field_comes_back(record: Callable[..., CashFlow]) -> None:
    values = {
        "timestamp": at(1),
        "kind": "interest",
        "currency": "USDT",
        "amount": 0.1,
        "symbol": "BTC/USDT:USDT",
        "strategy": "carry",
        "exchange": "okx",
        "exchange_flow_id": "623950854533513219",
        "metadata": {"rate": 0.0001, "steps": [1, None]},
    }
    created = record(**values)
    stored = cash_flows.get_by_id(created.id)
    assert {name: getattr(stored, name) for name in CashFlow._meta.fields} == values | {
        "id": created.id
    }


def test_every_function_that_records_takes_every_field() -> None:
    fields = set(CashFlow._meta.fields) - {"id"}
    for record in (cash_flows.create, cash_flows.get_or_create):
        assert set(inspect.signature(record).parameters) == fields
    assert set(cash_flows.NewCashFlow.__annotations__) == fields
    assert set(cash_flows.CashFlowChanges.__annotations__) == fields


@pytest.mark.parametrize("kind", CASH_FLOW_KINDS)
def test_every_kind_is_stored(kind: str) -> None:
    stored = cash_flows.get_by_id(cash_flow(kind=kind).id)
    assert stored is not None
    assert stored.kind == kind


def test_an_amount_may_be_zero() -> None:
    assert cash_flow(amount=0).amount == 0.0
    assert math.copysign(1, cash_flow(amount=-0.0).amount) == 1


def test_ids_increase_and_are_not_reused() -> None:
    first, second = cash_flow(), cash_flow()
    assert 0 < first.id < second.id
    cash_flows.delete(second)
    assert cash_flow().id > second.id


BAD_VALUES: dict[str, list[Any]] = {
    "kind": ["", "Funding", "funding ", "salary", "fund", 1, True, None, b"funding", []],
    "currency": ["", " USDT", "USDT ", "x" * 21, "a\nb", "a\0", 5, None, []],
    "amount": [True, math.nan, math.inf, -math.inf, "100", None, 10**400, Decimal("NaN"), []],
    "symbol": ["", " BTC", "x" * 65, 5, []],
    "strategy": ["", "x" * 65, 5],
    "exchange": ["", " okx", "x" * 33, 5],
    "exchange_flow_id": ["", 5, "x" * 129],
    "timestamp": ["2024-01-01", 0, True],
    "metadata": [object(), {1: "a"}, "a\0b", {"k": "\ud800"}],
}


@pytest.mark.parametrize("field", BAD_VALUES)
def test_a_bad_cash_flow_is_refused_by_name(field: str) -> None:
    for value in BAD_VALUES[field]:
        with pytest.raises(ValidationError, match=rf"^{field}\b") as caught:
            cash_flows.create(**cash_flow_values(exchange="okx") | {field: value})
        assert caught.value.field == field, value
    assert count() == 0


def test_the_error_for_a_kind_names_the_choices() -> None:
    choices = ", ".join(CASH_FLOW_KINDS)
    with pytest.raises(ValidationError, match=f"^kind: 'salary' is not one of {choices}$"):
        cash_flow(kind="salary")


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "salary"},
        {"kind": "Funding"},
        {"currency": ""},
        {"currency": "x" * 21},
        {"amount": math.inf},
        {"symbol": " X"},
        {"strategy": ""},
        {"exchange": "x" * 33},
        {"exchange_flow_id": "7"},
    ],
    ids=str,
)
def test_the_check_constraints_refuse_the_same_values(values: dict[str, Any]) -> None:
    # text that is too long for its column is a DataError on PostgreSQL
    with pytest.raises((peewee.IntegrityError, peewee.DataError)):
        # Peewee's own method, without the validation of the model's
        vars(peewee.Model)["insert"].__func__(CashFlow, cash_flow_values() | values).execute()
    assert count() == 0


def test_an_exchange_flow_id_needs_its_exchange() -> None:
    for record in (cash_flows.create, cash_flows.get_or_create):
        with pytest.raises(ValidationError, match="exchange: an exchange_flow_id needs") as caught:
            record(**cash_flow_values(exchange=None, exchange_flow_id="7"))
        assert caught.value.field == "exchange"
    with pytest.raises(ValidationError, match="exchange_flow_id: None is not allowed"):
        cash_flows.get_or_create(**cash_flow_values(exchange="okx", exchange_flow_id=None))
    with pytest.raises(ValidationError, match="kind: .* needs kind, currency, amount"):
        cash_flows.create()  # type: ignore[call-arg]
    assert count() == 0


def test_create_many_stores_every_row_of_a_generator() -> None:
    number = ROWS_PER_CHUNK + 100
    rows = (cash_flow_values(timestamp=at(i), amount=i) for i in range(number))
    assert cash_flows.create_many(rows) == number
    assert [flow.amount for flow in cash_flows.iterate()] == list(range(number))
    assert cash_flows.create_many([]) == 0


def test_create_many_stores_nothing_when_a_row_is_refused() -> None:
    for bad in ({"kind": "salary"}, {"amount": math.nan}, {"exchange_flow_id": "7"}):
        field = "exchange" if "exchange_flow_id" in bad else next(iter(bad))
        with pytest.raises(ValidationError, match=rf"rows\[1\]: {field}: "):
            cash_flows.create_many([cash_flow_values(), cash_flow_values(**bad)])
    assert count() == 0


def test_create_many_names_the_row_that_is_a_duplicate() -> None:
    rows: Any = [cash_flow_values(), cash_flow_values(**FLOW), cash_flow_values(**FLOW)]
    with pytest.raises(DuplicateError, match=r"rows\[2\]: okx cash flow 7 already exists"):
        cash_flows.create_many(rows)
    assert count() == 0


# --- duplicates -----------------------------------------------------------------------------


def test_a_cash_flow_of_an_exchange_is_recorded_once() -> None:
    existing = cash_flow(**FLOW)
    message = f"okx cash flow 7 already exists, as cash flow {existing.id}; get_or_create"
    with pytest.raises(DuplicateError, match=message) as caught:
        cash_flow(**FLOW, amount=99, symbol="BTC/USDT")
    assert caught.value.id == existing.id
    # another exchange has ids of its own, and cash flows without an id are not compared
    cash_flow(exchange="binance", exchange_flow_id="7")
    cash_flow(exchange="okx")
    cash_flow(exchange="okx")
    assert count() == 4


def test_a_duplicate_leaves_the_transaction_usable() -> None:
    cash_flow(**FLOW)
    with session_scope():
        with pytest.raises(DuplicateError):
            cash_flow(**FLOW)
        cash_flow()
        assert cash_flows.get_or_create(**cash_flow_values(**FLOW))[1] is False
        cash_flow()
    assert count() == 3


def test_get_or_create_records_once_and_keeps_the_first() -> None:
    first, created = cash_flows.get_or_create(**cash_flow_values(**FLOW))
    assert created
    again, created_again = cash_flows.get_or_create(**cash_flow_values(**FLOW, amount=999))
    assert not created_again
    assert (again.id, again.amount) == (first.id, -1.5)
    assert count() == 1


def test_get_or_create_checks_the_values_of_one_that_exists() -> None:
    cash_flow(**FLOW)
    with pytest.raises(ValidationError, match="amount: "):
        cash_flows.get_or_create(**cash_flow_values(**FLOW, amount=math.nan))


def test_threads_that_report_the_same_cash_flows_record_each_once(empty_database: Any) -> None:
    if empty_database.config.in_memory:
        pytest.skip("it belongs to one thread")
    threads, rounds = 2, 40
    start = threading.Barrier(threads, timeout=30)

    def report(_: int) -> list[tuple[int, bool]]:
        found = []
        for number in range(rounds):
            start.wait()
            flow, created = cash_flows.get_or_create(
                **cash_flow_values(exchange="okx", exchange_flow_id=str(number))
            )
            found.append((flow.id, created))
        return found

    with ThreadPoolExecutor(threads) as pool:
        first, second = pool.map(report, range(threads))
    assert count() == rounds
    for (id_, created), (other_id, other_created) in zip(first, second, strict=True):
        assert id_ == other_id
        assert created != other_created


# --- queries --------------------------------------------------------------------------------


def test_an_unknown_id_is_none() -> None:
    assert cash_flows.get_by_id(1) is None
    for id_ in ("abc", "5", None, 1.5, True, 2**63):
        with pytest.raises(ValidationError, match="^id: "):
            cash_flows.get_by_id(id_)  # type: ignore[arg-type]


def test_a_date_range_is_chronological_and_includes_both_ends() -> None:
    hours = list(range(6))
    random.Random(7).shuffle(hours)
    created = {hour: cash_flow(timestamp=at(hour)) for hour in hours}
    expected = [created[hour] for hour in (1, 2, 3)]
    assert cash_flows.get_by_date_range(at(1), at(3)) == expected
    naive = at(3).replace(tzinfo=None)
    assert cash_flows.get_by_date_range(naive, naive) == [created[3]]
    same_time = cash_flow(timestamp=at(3))
    assert cash_flows.get_by_date_range(at(3), at(3)) == [created[3], same_time]


def test_a_bad_date_range_is_refused() -> None:
    with pytest.raises(ValidationError, match="end_date: .* is before start_date"):
        cash_flows.get_by_date_range(at(1), at(0))
    for start, end in ((None, at(1)), (at(0), None), ("2024", at(1))):
        with pytest.raises(ValidationError, match="^(start|end)_date: "):
            cash_flows.get_by_date_range(start, end)  # type: ignore[arg-type]


def test_the_latest_come_newest_first() -> None:
    created = [cash_flow(timestamp=at(hour)) for hour in range(12)]
    assert cash_flows.get_latest() == created[:1:-1]
    assert cash_flows.get_latest(1) == created[-1:]
    assert cash_flows.get_latest(None) == created[::-1]
    with pytest.raises(ValidationError, match="^limit: "):
        cash_flows.get_latest(-1)


FILTERS: list[tuple[dict[str, str], list[int]]] = [
    ({}, [0, 1, 2, 3, 4]),
    ({"currency": "USDT"}, [0, 1, 3, 4]),
    ({"currency": "BTC"}, [2]),
    ({"kind": "funding"}, [0, 1, 2]),
    ({"symbol": "BTC/USDT"}, [0]),
    ({"symbol": "BTC/USDT", "kind": "interest"}, []),
    ({"symbol": ""}, [3, 4]),
    ({"strategy": "a"}, [0]),
    ({"strategy": ""}, [1, 2, 3, 4]),
    ({"exchange": "okx"}, [1]),
    ({"exchange": "", "symbol": ""}, [3, 4]),
    ({"exchange": "", "strategy": "", "currency": "USDT", "kind": "deposit"}, [3]),
]


@pytest.fixture
def created() -> list[CashFlow]:
    return [
        cash_flow(timestamp=at(0), amount=1, symbol="BTC/USDT", strategy="a"),
        cash_flow(timestamp=at(1), amount=2, symbol="ETH/USDT", exchange="okx"),
        cash_flow(timestamp=at(2), amount=4, symbol="BTC/USD", currency="BTC"),
        cash_flow(timestamp=at(3), amount=8, kind="deposit"),
        cash_flow(timestamp=at(4), amount=-16, kind="withdrawal"),
    ]


@pytest.mark.parametrize(("filters", "expected"), FILTERS, ids=str)
def test_filters(created: list[CashFlow], filters: Any, expected: list[int]) -> None:
    rows = [created[number] for number in expected]
    assert cash_flows.get_by_date_range(at(0), at(9), **filters) == rows
    assert cash_flows.get_latest(**filters) == rows[::-1]
    assert list(cash_flows.iterate(**filters)) == rows
    assert list(cash_flows.iterate(**filters, start_date=at(1))) == [
        row for row in rows if row.timestamp >= at(1)
    ]
    if "currency" not in filters:
        rows = [row for row in rows if row.currency == "USDT"]
        filters = filters | {"currency": "USDT"}
    assert cash_flows.get_total(**filters) == sum(row.amount for row in rows)
    assert cash_flows.get_total(**filters, start_date=at(1), end_date=at(3)) == sum(
        row.amount for row in rows if at(1) <= row.timestamp <= at(3)
    )


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"kind": "salary"}, "kind: 'salary' is not one of funding, "),
        ({"kind": ""}, "kind: '' is not one of"),
        ({"currency": ""}, "currency: '' has 0 characters"),
        ({"currency": 5}, "currency: 5 is not text"),
        ({"symbol": 5}, "symbol: 5 is not text"),
        ({"exchange": " okx"}, "exchange: ' okx' begins or ends"),
        ({"strategy": "x" * 65}, "strategy: .* has 65 characters"),
        ({"start_date": "2024"}, "start_date: "),
    ],
)
def test_a_bad_filter_is_refused(filters: Any, message: str) -> None:
    for query in (cash_flows.iterate, cash_flows.get_total):
        named = filters if query is cash_flows.iterate else {"currency": "USDT"} | filters
        with pytest.raises(ValidationError, match=f"^{message}"):
            query(**named)


def test_iterate_streams_many_rows_and_the_loop_may_record() -> None:
    cash_flows.create_many(cash_flow_values(timestamp=at(i)) for i in range(1_100))
    seen = 0
    for flow in cash_flows.iterate(end_date=at(1_099)):
        assert flow.timestamp == at(seen)
        if seen % 500 == 0:
            cash_flow(timestamp=at(2_000))
        seen += 1
    assert seen == 1_100


# --- the total ------------------------------------------------------------------------------


def test_the_total_of_nothing_is_a_float() -> None:
    assert repr(cash_flows.get_total("USDT")) == "0.0"


def test_the_total_needs_a_currency() -> None:
    with pytest.raises(ValidationError, match="currency: None is not allowed"):
        cash_flows.get_total(None)  # type: ignore[arg-type]


def record_amounts(*amounts: float) -> None:
    cash_flows.create_many(cash_flow_values(amount=amount) for amount in amounts)


@pytest.mark.parametrize(
    ("amounts", "total"),
    [
        ((0.1, 0.2), 0.3),
        ((0.1, 0.2, -0.3), 0.0),
        ((0.1,) * 10, 1.0),
        ((1e308, 1.0, -1e308), 1.0),
        ((1e16, 1.0, 1.0, -1e16), 2.0),
        ((LARGEST, 5e-324, -LARGEST), 5e-324),
        ((LARGEST, LARGEST, -LARGEST), LARGEST),
        ((-0.01, 0.01), 0.0),
    ],
)
def test_the_total_is_exact(amounts: tuple[float, ...], total: float) -> None:
    record_amounts(*amounts)
    assert repr(cash_flows.get_total("USDT")) == repr(total)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, max_value=1e306), max_size=8))
def test_the_total_is_the_correctly_rounded_sum_of_the_decimals(amounts: list[float]) -> None:
    CashFlow.delete().execute()
    record_amounts(*amounts)
    exact = sum((Fraction(repr(amount)) for amount in amounts), Fraction())
    if abs(exact) <= Fraction(LARGEST):
        assert cash_flows.get_total("USDT") == float(exact)


def test_the_callers_decimal_context_changes_nothing() -> None:
    record_amounts(0.1, 0.2, 123456.789, -0.3)
    traps = [decimal.Inexact, decimal.Rounded, decimal.Subnormal]
    with decimal.localcontext(decimal.Context(prec=2, Emax=9, Emin=-9, traps=traps)):
        assert cash_flows.get_total("USDT") == 123456.789
        record_amounts(LARGEST, LARGEST)
        with pytest.raises(ValidationError, match="amount: the sum has 309 digits"):
            cash_flows.get_total("USDT")


def test_a_total_too_large_for_a_float_is_an_error() -> None:
    for sign in (1, -1):
        CashFlow.delete().execute()
        record_amounts(sign * LARGEST, sign * LARGEST)
        with pytest.raises(
            ValidationError, match="amount: the sum .* larger than a float"
        ) as caught:
            cash_flows.get_total("USDT")
        assert caught.value.field == "amount"


# --- changing -------------------------------------------------------------------------------


def test_update_writes_the_named_fields_alone() -> None:
    created = cash_flow(strategy="a")
    stale = cash_flows.get_by_id(created.id)
    assert stale is not None
    assert cash_flows.update(created, amount=5) is created
    cash_flows.update(stale, kind="fee", metadata={"note": "moved"})
    stored = cash_flows.get_by_id(created.id)
    assert stored is not None
    assert (stored.amount, stored.kind, stored.strategy) == (5.0, "fee", "a")
    assert stored.metadata == {"note": "moved"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "salary"}, "kind: 'salary' is not one of"),
        ({"currency": None}, "currency: None is not allowed"),
        ({"amountt": 5}, r"amountt: a CashFlow has no such field \(did you mean 'amount'\?\)"),
        ({"id": 5}, "id: cannot be changed"),
        ({"exchange_flow_id": "7"}, "constraint.*exchange_flow_id"),
        ({}, r"nothing to change; name a field, as in update\(cash_flow, "),
    ],
)
def test_update_refuses_invalid_changes(changes: Any, message: str) -> None:
    created = cash_flow()
    with pytest.raises(ValidationError, match=message):
        cash_flows.update(created, **changes)
    stored = cash_flows.get_by_id(created.id)
    assert stored is not None
    assert stored.__data__ == created.__data__


def test_update_to_the_exchange_id_of_another_cash_flow() -> None:
    cash_flow(**FLOW)
    second = cash_flow(exchange="okx", exchange_flow_id="8")
    with pytest.raises(DuplicateError):
        cash_flows.update(second, exchange_flow_id="7")
    stored = cash_flows.get_by_id(second.id)
    assert stored is not None
    assert stored.exchange_flow_id == "8"


def test_update_and_delete_of_a_deleted_cash_flow() -> None:
    created = cash_flow()
    cash_flows.delete(created)
    assert cash_flows.get_by_id(created.id) is None
    with pytest.raises(NotFoundError, match=f"CashFlow {created.id} is not in"):
        cash_flows.delete(created)
    with pytest.raises(NotFoundError, match=f"CashFlow {created.id} is not in"):
        cash_flows.update(created, amount=1)


@pytest.mark.parametrize("row", [None, 5, "abc", {}])
def test_an_invalid_row_is_refused(row: Any) -> None:
    for function in (cash_flows.delete, cash_flows.update):
        with pytest.raises(ValidationError, match="^cash_flow: .* is not a CashFlow"):
            function(row)
