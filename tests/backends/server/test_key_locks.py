"""Who waits for whom on PostgreSQL: blocks with keys, blocks without one, single calls."""

from __future__ import annotations

import enum
import signal as signals_of_system
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from key_reads import READS
from programs import SOON, in_threads, start_program, timed
from samples import cash_flow, signal, trade
from servers import advisory_locks

from botmemory import (
    DatabaseBusyError,
    Trade,
    ValidationError,
    close_db,
    db,
    init_db,
    run_transaction,
    session_scope,
)
from botmemory.backends.keys import number_of
from botmemory.backends.server.locks import WRITE_LOCK, lock_of_keys
from botmemory.repositories import positions, records, signals, state, trades

BTC, ETH = "BTC/USDT", "ETH/USDT"
KEY, OTHER = ("trend", BTC), ("carry", ETH)
OWN: dict[str, Any] = {"strategy": "trend", "symbol": BTC}
OF_OTHER: dict[str, Any] = {"strategy": "carry", "symbol": ETH}
BRIEF = 0.4  # seconds that a call waits for a lock in these tests

# of the write lock, shared, of KEY, and of the rows of a symbol without a strategy
LOCKS = [
    (0x626F746D656D0001, "ShareLock"),
    (1974851288185948924, "ExclusiveLock"),
    (3437573213511657553, "ExclusiveLock"),
]

HOLDER = """
    import sys
    from botmemory import init_db, session_scope
    from botmemory.repositories import positions, records, signals, trades

    init_db(sys.argv[1])
    keys = [(name.partition(" ")[0], name.partition(" ")[2]) for name in sys.argv[2:]]
    with session_scope(key=keys or None):
        for strategy, symbol in keys:
            positions.get(symbol, strategy)
        if not keys:
            trades.get_all(limit=1)
        print("held", flush=True)
        sys.stdin.read()
    print("left", flush=True)
    """


class Strategy(str, enum.Enum):  # noqa: UP042  (what str() of a member is differs)
    CARRY = "carry"


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    target = new_database()
    init_db(target, busy_timeout=BRIEF)
    return target


@contextmanager
def held_elsewhere(url: str, *keys: tuple[str, str]) -> Iterator[Callable[[], None]]:
    """Run another process inside a block with these keys, none for a block without a key."""
    with start_program(HOLDER, url, *(" ".join(key) for key in keys)) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            process.stdin.close()
            assert process.stdout.readline() == "left\n"
            process.wait(10)

        if process.stdout.readline() != "held\n":
            pytest.fail(f"the holder failed:\n{process.communicate()[1]}")
        yield end
        if not process.stdin.closed:
            end()


def read_in_block(*keys: tuple[str, str]) -> Callable[[], object]:
    def work() -> None:
        with session_scope(key=list(keys) or None):
            for strategy, symbol in keys:
                positions.get(symbol, strategy)
            if not keys:
                trades.get_all()

    return work


def does_not_wait(call: Callable[[], object]) -> None:
    call()  # it would wait for longer than `busy_timeout`, and fail


def waits(call: Callable[[], object]) -> None:
    """Expect that a call waits for another program, once and for `busy_timeout`."""
    began = time.monotonic()
    with pytest.raises(DatabaseBusyError, match="another writer held it"):
        call()
    assert time.monotonic() - began > BRIEF * 0.8


def test_blocks_of_different_keys_do_not_wait_and_those_of_one_do(url: str) -> None:
    with held_elsewhere(url, KEY) as end:
        does_not_wait(read_in_block(OTHER))
        does_not_wait(read_in_block(("carry", BTC), ("trend", ETH), ("", BTC)))
        waits(read_in_block(KEY))
        waits(read_in_block(OTHER, KEY))
        end()
        does_not_wait(read_in_block(KEY))


def test_a_block_without_a_key_waits_for_all_and_all_wait_for_it(url: str) -> None:
    with held_elsewhere(url, KEY), held_elsewhere(url, OTHER):
        waits(read_in_block())
    with held_elsewhere(url):
        waits(read_in_block(KEY))
        waits(read_in_block(OTHER))
        waits(read_in_block())
    does_not_wait(read_in_block())


def test_each_function_that_reads_acquires_the_lock_of_the_key(url: str) -> None:
    made = trade(**OWN, signal=signal(**OWN))
    reads = READS | {
        "by id": lambda *_: trades.get_by_id(made.id),
        "of a missing id": lambda *_: signals.get_by_id(10**9),
        "signal": lambda *_: made.signal,
        "found": lambda *_: trades.get_or_create(
            **{"exchange": "okx", "exchange_trade_id": "1", "side": "buy", "price": 1},
            **{"quantity": 1, **OWN},
        ),
        "changed": lambda *_: trades.update(made, pnl=1.0),
    }
    reads["found"]()
    for name, read in reads.items():
        for _ in range(2):  # the second time, from the cache of what is computed
            made = Trade.get_by_id(made.id)
            with session_scope(key=KEY):
                read(BTC, "trend")
                held = advisory_locks(url)
            assert len(held) == 2, name


def test_a_block_that_waits_for_all_does_not_keep_single_reads_waiting(url: str) -> None:
    trade(**OWN)
    with held_elsewhere(url, KEY), ThreadPoolExecutor(1) as other:
        waiting: Future[None] = other.submit(waits, read_in_block())
        for _ in range(20):
            does_not_wait(trades.get_all)
            does_not_wait(lambda: positions.get(BTC, "trend"))
        waiting.result()


CHANGES: dict[str, Callable[[Any], object]] = {
    "update": lambda row: records.update(row, timestamp=row.timestamp),
    "delete": records.delete,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", [trade, cash_flow, signal])
def test_a_change_of_one_row_waits_for_its_key_alone(
    make: Callable[..., Any], change: str, url: str
) -> None:
    own, other = make(**OWN), make(**OF_OTHER)
    with held_elsewhere(url, KEY):
        waits(lambda: CHANGES[change](own))
        does_not_wait(lambda: CHANGES[change](other))
    with held_elsewhere(url):
        waits(lambda: CHANGES[change](own))
    does_not_wait(lambda: CHANGES[change](own))


def test_a_signal_is_deleted_with_the_locks_of_the_trades_that_refer_to_it(url: str) -> None:
    made, of_one_key = signal(**OF_OTHER), signal(**OF_OTHER)
    own = trade(**OWN, signal=made)
    trade(**OF_OTHER, signal=of_one_key)
    with held_elsewhere(url, KEY):
        does_not_wait(lambda: signals.delete(of_one_key))
        waits(lambda: signals.delete(made))
        assert Trade.get_by_id(own.id).signal_id == made.id
    signals.delete(made)
    assert Trade.get_by_id(own.id).signal_id is None


def test_a_change_of_the_key_of_a_row_waits_for_all(url: str) -> None:
    row = trade(**OF_OTHER)
    with held_elsewhere(url, KEY):
        waits(lambda: trades.update(row, strategy="trend", symbol=BTC))
        does_not_wait(lambda: trades.update(row, pnl=1.0))
    trades.update(row, strategy="trend")


def test_a_stale_row_is_changed_with_the_lock_of_the_key_that_it_has_now(url: str) -> None:
    stale = trade(**OF_OTHER)
    trades.update(Trade.get_by_id(stale.id), **OWN)
    with held_elsewhere(url, KEY):
        waits(lambda: trades.update(stale, pnl=1.0))
        waits(lambda: trades.delete(stale))
    trades.update(stale, pnl=1.0)
    assert trades.get_total_pnl(BTC, strategy="trend") == 1.0


def test_a_row_assigned_a_member_of_an_enum_has_the_lock_of_its_value(url: str) -> None:
    row = trade(**OF_OTHER)
    row.strategy = Strategy.CARRY  # type: ignore[assignment]
    with held_elsewhere(url, OTHER):
        waits(lambda: trades.delete(row))
    trades.delete(row)


@pytest.mark.parametrize("key", [KEY, None])
def test_reading_and_recording_wait_for_nobody(key: Any, url: str) -> None:
    row = trade(**OWN, exchange="okx", exchange_trade_id="1")
    with held_elsewhere(url, *([key] if key else [])):
        does_not_wait(trades.get_all)
        does_not_wait(lambda: list(trades.iterate(BTC)))
        does_not_wait(lambda: positions.get(BTC, "trend"))
        does_not_wait(lambda: trades.get_by_id(row.id))
        does_not_wait(lambda: list(Trade.select()))
        does_not_wait(lambda: trade(**OWN, signal=signal(**OWN)))
        does_not_wait(
            lambda: trades.create_many([{**OWN, "side": "buy", "price": 1, "quantity": 1}])
        )
        fill: dict[str, Any] = {"exchange": "okx", "exchange_trade_id": "1", "side": "buy"}
        does_not_wait(lambda: trades.get_or_create(**fill, **OWN, price=1, quantity=1))

        def record() -> None:
            with session_scope(key=KEY):
                trade(**OWN)

        does_not_wait(record)


CHANGED_BY_PEEWEE: dict[str, Callable[[], object]] = {
    "update": lambda: Trade.update(pnl=1.0).execute(),
    "delete": lambda: Trade.delete().execute(),
    "upsert": lambda: (
        Trade.insert(id=Trade.get().id, side="buy", price=1, quantity=1, **OWN)
        .on_conflict(conflict_target=[Trade.id], update={Trade.price: 9.0})
        .execute()
    ),
    "raw": lambda: db.execute_sql("update trade set pnl = 1"),
    "common table": lambda: Trade.update(pnl=1.0).with_cte(Trade.select().cte("a")).execute(),
    "raw common table": lambda: db.execute_sql("with a as (select 1) delete from trade"),
    "deleted by a common table": lambda: db.execute_sql(
        "WITH gone AS (DELETE FROM trade RETURNING id) SELECT * FROM gone"
    ),
}


@pytest.mark.parametrize("name", CHANGED_BY_PEEWEE)
def test_a_change_by_peewee_waits_for_all(name: str, url: str) -> None:
    trade(**OF_OTHER)
    with held_elsewhere(url, KEY):
        waits(CHANGED_BY_PEEWEE[name])

        def in_block() -> None:
            with session_scope():
                CHANGED_BY_PEEWEE[name]()

        waits(in_block)
    CHANGED_BY_PEEWEE[name]()


def test_a_read_in_small_letters_takes_the_lock_of_its_block(url: str) -> None:
    def work() -> None:
        with session_scope() as database:
            database.execute_sql("\n  select * from trade")

    with held_elsewhere(url, KEY):
        waits(work)


# --- savepoints ---------------------------------------------------------------------------------


class RolledBackError(Exception):
    pass


def roll_back_inner(*calls: Callable[[], object]) -> None:
    try:
        with session_scope():
            for call in calls:
                call()
            raise RolledBackError
    except RolledBackError:
        pass


@pytest.mark.parametrize("key", [KEY, None])
def test_what_an_inner_block_that_was_rolled_back_has_read_stays_true(key: Any, url: str) -> None:
    row = trade(**OWN)
    with ThreadPoolExecutor(1) as other, session_scope(key=key):
        roll_back_inner(lambda: positions.get(BTC, "trend"), lambda: trade(**OWN))
        with pytest.raises(DatabaseBusyError):
            other.submit(trades.delete, row).result()


@pytest.mark.parametrize("key", [KEY, None])
def test_the_lock_is_acquired_again_where_a_savepoint_has_released_it(key: Any, url: str) -> None:
    row = trade(**OWN)
    read = lambda: positions.get(BTC, "trend")  # noqa: E731
    with ThreadPoolExecutor(1) as other, session_scope(key=key):
        roll_back_inner(lambda: trade(**OWN), read)
        read()
        roll_back_inner(lambda: roll_back_inner(lambda: trade(**OWN), read), read)
        read()
        with pytest.raises(DatabaseBusyError):
            other.submit(trades.delete, row).result()


def test_a_block_that_commits_on_the_way_acquires_its_keys_again(url: str) -> None:
    row = trade(**OWN)
    with ThreadPoolExecutor(1) as other, session_scope(key=KEY):
        transaction: Any = db.top_transaction()
        positions.get(BTC, "trend")
        for end in (transaction.commit, transaction.rollback):
            end()
            other.submit(trades.update, row, pnl=2.0).result()
            positions.get(BTC, "trend")
            with pytest.raises(DatabaseBusyError):
                other.submit(trades.update, row, pnl=3.0).result()


# --- several keys -------------------------------------------------------------------------------


def test_two_blocks_with_two_keys_in_opposite_order_never_deadlock(new_database: Any) -> None:
    init_db(new_database(), busy_timeout=SOON)

    def work(*keys: tuple[str, str]) -> Callable[[], int]:
        def repeat() -> int:
            for _ in range(60):
                with session_scope(key=list(keys)):
                    for strategy, symbol in keys:
                        positions.get(symbol, strategy)
                        trade(strategy=strategy, symbol=symbol)
            return 60

        return repeat

    outcomes = in_threads(work(KEY, OTHER), work(OTHER, KEY), work(KEY), work(OTHER))
    assert [(outcome.value, outcome.error) for outcome in outcomes] == [(60, None)] * 4


def test_the_locks_of_a_block_are_acquired_in_the_order_of_their_numbers() -> None:
    keys = frozenset(("trend", f"{number}/USDT") for number in range(50))
    numbers = [param for param in lock_of_keys(keys, 100)[1] if param not in (100, "100ms")]
    assert numbers[0] == WRITE_LOCK
    assert numbers[1:] == sorted(map(number_of, keys))


def test_all_locks_of_a_block_together_are_waited_for_once(new_database: Any) -> None:
    url = new_database()
    init_db(url, busy_timeout=2)
    keys = sorted([KEY, OTHER, ("", BTC)], key=number_of)
    with held_elsewhere(url, keys[0]) as end_first, held_elsewhere(url, *keys[1:]):
        timer = threading.Timer(1.5, end_first)
        timer.start()
        outcome = timed(read_in_block(*keys))
        timer.join()
    assert isinstance(outcome.error, DatabaseBusyError)
    assert 1.8 < outcome.seconds < 3
    with held_elsewhere(url, KEY) as end, session_scope(key=keys):
        timer = threading.Timer(0.5, end)
        timer.start()
        positions.get(BTC, "trend")
        timer.join()
        # the limit of what follows is the whole one again
        assert db.connection().execute("SHOW lock_timeout").fetchall() == [("2s",)]


def test_the_locks_are_released_and_their_numbers_never_change(url: str) -> None:
    with session_scope(key=[KEY, (None, BTC)]):
        positions.get(BTC, "trend")
        locks = advisory_locks(url)
    assert locks == sorted(LOCKS)
    assert advisory_locks(url) == []


# --- signal handlers ----------------------------------------------------------------------------


@contextmanager
def interrupted_by(handler: Callable[[], object]) -> Iterator[list[Any]]:
    """Run a signal handler 0.15 s later in this thread; yield what it returned or raised."""
    results: list[Any] = []

    def handle(*_: object) -> None:
        try:
            results.append(handler())
        except Exception as error:
            results.append(error)

    before = signals_of_system.signal(signals_of_system.SIGALRM, handle)
    signals_of_system.setitimer(signals_of_system.ITIMER_REAL, 0.15)
    try:
        yield results
    finally:
        signals_of_system.setitimer(signals_of_system.ITIMER_REAL, 0)
        signals_of_system.signal(signals_of_system.SIGALRM, before)


def wait_in_statement() -> None:
    """Wait for the server in a statement that records."""
    db.execute_sql(
        "INSERT INTO signal (timestamp, symbol, signal_value) VALUES (now(), 'A', "
        "length(pg_sleep(0.4)::text) + 1)"
    )


def test_a_handler_in_a_statement_of_a_block_is_not_bound_by_its_keys(url: str) -> None:
    trade(**OF_OTHER)

    def handler() -> tuple[int, str]:
        with pytest.raises(ValidationError, match="^key: "), session_scope(key=OTHER):
            trades.get_all()
        return len(trades.get_all()), "read"

    with session_scope(key=KEY), interrupted_by(handler) as results:
        wait_in_statement()
        with pytest.raises(ValidationError, match="^key: "):
            trades.get_all()
    assert results == [(1, "read")]


def test_a_handler_in_a_read_of_a_block_is_checked_by_its_own_keys(url: str) -> None:
    def handler() -> None:
        with session_scope(key=OTHER):
            positions.get(ETH, "carry")
            with pytest.raises(ValidationError, match="^key: "):
                positions.get(BTC, "trend")
            with pytest.raises(ValidationError, match="^key: "):
                trades.get_all()

    with held_elsewhere(url, KEY), interrupted_by(handler) as results:
        waits(read_in_block(KEY))
    assert results == [None]


def test_a_handler_in_a_change_of_a_row_changes_another_one(url: str) -> None:
    own, other = trade(**OWN), trade(**OF_OTHER)
    change = partial(trades.update, other, pnl=1.0)
    with held_elsewhere(url, KEY), interrupted_by(change) as results:
        waits(lambda: trades.update(own, pnl=1.0))
    assert results == [other]
    assert Trade.get_by_id(other.id).pnl == 1.0


class InterruptError(Exception):
    pass


def test_an_interrupt_leaves_no_key_behind(url: str) -> None:
    """A traceback that is kept refers to the frames that an interrupt has left."""
    row = trade(**OWN)
    kept: list[BaseException] = []

    def handle(*_: object) -> None:
        raise InterruptError

    before = signals_of_system.signal(signals_of_system.SIGALRM, handle)
    try:
        with held_elsewhere(url, KEY):
            for _ in range(3):
                signals_of_system.setitimer(signals_of_system.ITIMER_REAL, 0.05)
                try:
                    trades.update(row, pnl=1.0)
                except InterruptError as error:
                    kept.append(error)
    finally:
        signals_of_system.setitimer(signals_of_system.ITIMER_REAL, 0)
        signals_of_system.signal(signals_of_system.SIGALRM, before)
    assert len(kept) == 3
    database: Any = db.current()
    assert (database.local.reads_own_keys, database.local.changed_keys) == (False, None)
    with held_elsewhere(url, OTHER):
        waits(lambda: Trade.update(pnl=1.0).execute())


# --- the state ----------------------------------------------------------------------------------

HOLDER_OF_STATE = """
    import sys
    from botmemory import init_db, session_scope
    from botmemory.repositories import state

    init_db(sys.argv[1])
    with session_scope(key=("trend", "BTC/USDT")):
        getattr(state, sys.argv[2])("used", *map(int, sys.argv[3:]), strategy="trend")
        print("held", flush=True)
        sys.stdin.read()
    print("left", flush=True)
    """


@contextmanager
def state_held_elsewhere(url: str, *call: object) -> Iterator[None]:
    """Run another process inside a block with a key, which has called this function of `state`."""
    with start_program(HOLDER_OF_STATE, url, *call) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.close()
        assert process.stdout.readline() == "left\n"


def in_block(call: Callable[[], object], key: tuple[str, str] | None = OTHER) -> Any:
    def work() -> None:
        with session_scope(key=key):
            call()

    return work


@pytest.mark.parametrize("call", [("get",), ("set", 2), ("compare_and_set", 1, 2), ("delete",)])
def test_a_block_locks_the_keys_of_the_state_that_it_uses(url: str, call: tuple[object]) -> None:
    state.set("used", 1, strategy="trend")
    state.set("other", 1, strategy="trend")
    with state_held_elsewhere(url, *call):
        for change in (
            lambda: state.set("used", 5, strategy="trend"),
            lambda: state.compare_and_set("used", 1, 5, strategy="trend"),
            lambda: state.compare_and_set("used", state.MISSING, 5, strategy="trend"),
            lambda: state.delete("used", strategy="trend"),
        ):
            waits(change)
            waits(in_block(change))
        waits(in_block(lambda: state.get("used", strategy="trend")))
        waits(in_block(lambda: state.get("used", strategy="trend"), None))
        # not the same key of another strategy, nor another one, nor reading without a block
        does_not_wait(lambda: state.set("other", 2, strategy="trend"))
        does_not_wait(lambda: state.set("used", 2, strategy="carry"))
        does_not_wait(lambda: state.set("used", 2))
        does_not_wait(in_block(lambda: state.get("other", strategy="trend")))
        does_not_wait(read_in_block(OTHER))
        does_not_wait(lambda: trade(**OWN))
        assert state.get("used", strategy="trend") == 1
        assert state.items(strategy="trend") == {"other": 2, "used": 1}
    does_not_wait(lambda: state.set("used", 5, strategy="trend"))


def test_the_state_waits_for_a_block_without_a_key(url: str) -> None:
    with held_elsewhere(url):
        waits(lambda: state.set("a", 1))
        waits(lambda: state.compare_and_set("a", state.MISSING, 1))
        waits(lambda: state.delete("a"))
        waits(in_block(lambda: state.get("a")))
        assert state.get("a") is None


def test_all_the_locks_of_one_call_are_waited_for_once(new_database: Any) -> None:
    url = new_database()
    init_db(url, busy_timeout=2)
    with state_held_elsewhere(url, "get"):
        first = timed(in_block(lambda: state.get("used", strategy="trend")))
    assert isinstance(first.error, DatabaseBusyError)
    assert 1.8 < first.seconds < 3.6


def test_a_block_locks_its_keys_before_those_of_the_state() -> None:
    """Else two blocks of one key could wait for each other: each has what the other one needs."""
    keys = frozenset([KEY, OTHER])
    later = ("trend", "\0used")
    numbers = [p for p in lock_of_keys(keys, 100, later)[1] if p not in (100, "100ms")]
    assert numbers == [WRITE_LOCK, *sorted(map(number_of, keys)), number_of(later)]


def test_a_lock_of_the_state_is_acquired_again_after_a_savepoint_was_rolled_back(url: str) -> None:
    class CancelError(Exception):
        pass

    with session_scope(key=KEY):
        with pytest.raises(CancelError), session_scope():
            state.get("a", strategy="trend")
            raise CancelError
        assert state.get("a", 0, strategy="trend") == 0
        with held_elsewhere(url, OTHER):
            set_elsewhere = timed(
                lambda: in_threads(lambda: state.set("a", 1, strategy="trend"))[0].error
            )
        assert isinstance(set_elsewhere.value, DatabaseBusyError)
        state.set("a", 2, strategy="trend")
    assert state.get("a", strategy="trend") == 2


def test_blocks_that_use_two_keys_of_the_state_in_opposite_order_are_repeated(
    url: str,
) -> None:
    close_db()
    init_db(url)  # which waits for longer than the server needs to notice a deadlock
    both = threading.Barrier(2)
    attempts: list[str] = []

    def count_up(first: str, second: str) -> None:
        attempts.append(first)
        ours = state.get(first, 0)
        if len(attempts) <= 2:
            both.wait(SOON)
        theirs = state.get(second, 0)
        state.set(first, ours + 1)
        state.set(second, theirs + 1)

    outcomes = in_threads(
        lambda: run_transaction(count_up, "a", "b", key=KEY),
        lambda: run_transaction(count_up, "b", "a", key=OTHER),
    )
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert state.items() == {"a": 2, "b": 2}
    assert len(attempts) > 2
