"""The functions of `state` in several tasks and processes at once."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from programs import start_program

from botmemory import NotInitializedError, aio, close_db, init_db
from botmemory.repositories import state


def test_it_is_used_from_asyncio(new_target: Callable[[], str]) -> None:
    init_db(new_target())

    async def count_up(times: int) -> int:
        lost = 0
        for _ in range(times):
            value = await aio.run(state.get, "n", 0, strategy="trend")
            expected = value if value else state.MISSING
            done = await aio.run(state.compare_and_set, "n", expected, value + 1, strategy="trend")
            lost += not done
        return lost

    async def main() -> int:
        return sum(await asyncio.gather(*(count_up(10) for _ in range(4))))

    lost = asyncio.run(main())
    assert state.get("n", strategy="trend") == 40 - lost
    close_db()
    with pytest.raises(NotInitializedError):
        state.get("n")


COUNTER = """
    import sys, time
    from botmemory import init_db
    from botmemory.repositories import state

    target, how, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
    init_db(target)
    print("ready", flush=True)
    sys.stdin.readline()
    retries = 0
    for _ in range(times):
        while True:
            value = state.get("counter", state.MISSING, strategy="trend")
            new = {"n": 1 if value is state.MISSING else value["n"] + 1}
            if how == "set":
                time.sleep(0.001)
                state.set("counter", new, strategy="trend")
                break
            if state.compare_and_set("counter", value, new, strategy="trend"):
                break
            retries += 1
    print(retries, flush=True)
    """
PROCESSES = 4


def outputs(started: list[subprocess.Popen[str]]) -> list[str]:
    """Let programs go on together and return what each of them prints at its end."""
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    with ThreadPoolExecutor(len(started)) as pool:
        printed = list(pool.map(lambda each: each.communicate(timeout=60), started))
    assert [errors for _, errors in printed] == [""] * len(started)
    return [output for output, _ in printed]


def count_in_processes(target: str, how: str, times: int) -> tuple[int, int]:
    """Let processes count up together; return the counter and how often one had to repeat."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(start_program(COUNTER, target, how, times))
            for _ in range(PROCESSES)
        ]
        printed = outputs(started)
    init_db(target)
    counter = state.get("counter", strategy="trend")
    return counter["n"], sum(map(int, printed))


def test_processes_that_count_up_with_compare_and_set_lose_nothing(target: str) -> None:
    counter, retries = count_in_processes(target, "compare_and_set", 50)
    assert counter == PROCESSES * 50
    assert retries > 0  # they did disturb each other


def test_processes_that_count_up_with_set_lose_some(target: str) -> None:
    counter, _ = count_in_processes(target, "set", 50)
    assert counter < PROCESSES * 50


BLOCKS = """
    import sys
    from botmemory import init_db, run_transaction
    from botmemory.repositories import state

    target, symbol, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
    init_db(target)
    print("ready", flush=True)
    sys.stdin.readline()

    def count_up():
        state.set("counter", state.get("counter", 0, strategy="trend") + 1, strategy="trend")

    for n in range(times):
        run_transaction(count_up, key=("trend", symbol) if symbol else None)
    print("done", flush=True)
    """


def test_blocks_of_any_keys_that_count_up_lose_nothing(target: str) -> None:
    """Blocks with two keys, with the same key, and without one, of four processes."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(start_program(BLOCKS, target, symbol, 40))
            for symbol in ("BTC", "ETH", "ETH", "")
        ]
        assert outputs(started) == ["done\n"] * 4
    init_db(target)
    assert state.get("counter", strategy="trend") == 160
