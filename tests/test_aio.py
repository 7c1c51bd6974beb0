"""Asyncio bots: the loop never waits, and one task's transaction is not another's."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from samples import trade, trade_values

from botmemory import (
    DatabaseBusyError,
    NotInitializedError,
    Trade,
    ValidationError,
    aio,
    close_db,
    init_db,
    run_transaction,
    session_scope,
)
from botmemory.repositories import positions, signals, trades


class StopError(Exception):
    """Raised by a test inside a transaction."""


def test_a_transaction_across_an_await_never_contains_rows_of_another_task(
    target: str,
) -> None:
    init_db(target)

    async def holds() -> None:
        with session_scope():
            trade(price=1)
            await asyncio.sleep(0.05)
            raise StopError

    async def main() -> list[object]:
        holder = asyncio.create_task(holds())
        await asyncio.sleep(0.01)
        refused = []
        for use in (trade, trades.get_all, lambda: session_scope().__enter__()):
            with pytest.raises(DatabaseBusyError, match=r"across an await; record through"):
                use()
            refused.append(use)
        with pytest.raises(StopError):
            await holder
        trade(price=2)
        return refused

    assert len(asyncio.run(main())) == 3
    assert [t.price for t in trades.get_all()] == [2.0]


def test_a_task_may_use_its_own_transaction_after_an_await(target: str) -> None:
    init_db(target)

    async def main() -> None:
        with session_scope():
            trade()
            await asyncio.sleep(0)
            with session_scope():
                trade()

    asyncio.run(main())
    assert trades.get_trade_count() == 2


def test_a_callback_cannot_use_the_transaction_of_a_task(target: str) -> None:
    init_db(target)
    caught: list[BaseException] = []

    def record() -> None:
        try:
            trade()
        except DatabaseBusyError as error:
            caught.append(error)

    async def main() -> None:
        with session_scope():
            asyncio.get_running_loop().call_soon(record)
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(caught) == 1
    assert trades.get_trade_count() == 0


def test_a_transaction_around_the_whole_loop_is_one(target: str) -> None:
    init_db(target)

    async def main() -> None:
        trade()

    with session_scope():
        asyncio.run(main())
    assert trades.get_trade_count() == 1


def test_run_returns_what_the_function_returns(target: str) -> None:
    init_db(target)

    async def main() -> Trade:
        created = await aio.run(trades.create, **trade_values(price=5))
        assert await aio.run(trades.get_latest, "BTC/USDT", limit=1) == [created]
        assert await aio.run(lambda: list(trades.iterate())) == [created]
        return created

    assert trades.get_by_id(asyncio.run(main()).id) is not None


def test_run_raises_what_the_function_raises(target: str) -> None:
    with pytest.raises(NotInitializedError):
        asyncio.run(aio.run(trades.get_all))
    init_db(target)
    with pytest.raises(ValidationError, match="side: 'hold'"):
        asyncio.run(aio.run(trades.create, **trade_values(side="hold")))
    with pytest.raises(ValidationError, match="not a plain function"):
        asyncio.run(aio.run(asyncio.sleep, 1))
    with pytest.raises(ValidationError, match="returns a generator"):
        asyncio.run(aio.run(trades.iterate))


def test_a_function_with_a_transaction_of_its_own_is_isolated(target: str) -> None:
    init_db(target)

    def both(fail: bool) -> None:
        with session_scope():
            signal = signals.create(symbol="X", signal_value=1)
            trade(signal=signal)
            if fail:
                raise StopError

    async def main() -> list[object]:
        calls = (aio.run(both, number % 2 == 0) for number in range(20))
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(main())
    assert sum(isinstance(result, StopError) for result in results) == 10
    assert trades.get_trade_count() == signals.get_signal_count() == 10


def test_the_loop_runs_while_the_database_is_busy(path: Path) -> None:
    init_db(path)
    released = threading.Event()

    def hold() -> None:
        with session_scope():
            released.wait(20)

    async def main() -> None:
        holder = asyncio.create_task(aio.run(hold))
        await asyncio.sleep(0.05)
        writer = asyncio.create_task(aio.run(trade))
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not writer.done()
        released.set()
        await asyncio.gather(holder, writer)

    asyncio.run(main())
    assert trades.get_trade_count() == 1


def test_an_in_memory_database_is_used_on_the_thread_of_the_loop() -> None:
    init_db(":memory:")

    async def main() -> int:
        await aio.run(trade)
        return await aio.run(trades.get_trade_count)

    assert asyncio.run(main()) == 1


def test_run_transaction_with_a_key_runs_on_a_worker(target: str) -> None:
    init_db(target)

    def buy_if_flat(symbol: str, *, strategy: str) -> bool:
        is_flat = not positions.get(symbol, strategy).quantity
        if is_flat:
            trade(symbol=symbol, strategy=strategy)
        return is_flat

    async def bot() -> list[bool]:
        calls = [
            aio.run(
                run_transaction,
                buy_if_flat,
                "BTC/USDT",
                strategy=strategy,
                key=(strategy, "BTC/USDT"),
            )
            for strategy in ["trend", "carry", "trend", "trend"]
        ]
        return await asyncio.gather(*calls)

    assert sum(asyncio.run(bot())) == 2
    assert trades.get_trade_count() == 2


def test_closing_ends_the_workers(target: str) -> None:
    init_db(target)
    asyncio.run(aio.run(trade))
    assert any(thread.name.startswith("botmemory") for thread in threading.enumerate())
    close_db()
    assert not any(thread.name.startswith("botmemory_") for thread in threading.enumerate())
    init_db(target)
    assert asyncio.run(aio.run(trades.get_trade_count)) == 1
