"""Several bots that record at the same time, whatever happens to their server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from subprocess import Popen

from programs import start_program
from replication import wait_until
from servers import run

from botmemory import close_db, init_db

# records until stdin is closed, and prints what was acknowledged; it repeats what it does not know
BOT = """
    import sys, threading, time, uuid
    from botmemory import DuplicateError, StorageError, init_db
    from botmemory.repositories import trades
    from samples import trade_values

    init_db(sys.argv[1], call_timeout=float(sys.argv[3]))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()

    def create(key):
        try:
            trades.create(id=key, **trade_values())
        except DuplicateError:
            pass
        return key

    def get_or_create(key):
        fill = {"exchange": "okx", "exchange_trade_id": str(key)}
        return trades.get_or_create(**fill, **trade_values())[0].id

    record = {"create": create, "get_or_create": get_or_create}[sys.argv[2]]
    while not over.wait(0.01):
        key = uuid.uuid4()
        while True:
            try:
                print(record(key), flush=True)
                break
            except StorageError as error:
                assert "not known" in str(error), error
"""


@contextmanager
def bots(url: str, *ways: str, call_timeout: float = 30.0) -> Iterator[Callable[[], list[str]]]:
    """Run a bot for each way of recording; yield a function that ends them all.

    It returns the ids of the trades that were acknowledged.
    """
    init_db(url)
    close_db()
    with ExitStack() as stack:
        started = [stack.enter_context(start_program(BOT, url, way, call_timeout)) for way in ways]

        def end() -> list[str]:
            acknowledged = []
            with ThreadPoolExecutor(len(started)) as threads:
                for bot, (out, err) in zip(started, threads.map(end_of, started), strict=True):
                    assert bot.returncode == 0, err
                    acknowledged += out.split()
            return acknowledged

        yield end


def end_of(process: Popen[str]) -> tuple[str, str]:
    return process.communicate(timeout=60)


def count(url: str) -> int:
    return int(run(url, "SELECT count(*) FROM trade")[0][0])


def wait_for_more(url: str, number: int) -> None:
    """Return when `number` more trades are stored on a server."""
    wanted = count(url) + number
    wait_until(lambda: count(url) >= wanted)
