"""docs/fastapi.md is executed: one application, many requests at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from paths import ROOT
from programs import program, released, stored, watchdog, writer_elsewhere
from recipes import blocks, code_of
from samples import trade, trade_values

from botmemory import BotMemoryError, get_db, init_db, session_scope
from botmemory.repositories import signals, trades

__all__ = ["released", "watchdog"]  # fixtures

pytestmark = pytest.mark.usefixtures("watchdog", "released")

PAGE = "docs/fastapi.md"
CODE = "\n".join(
    block.code
    for block in blocks(ROOT / PAGE)
    if not block.code.startswith(("# not like this\n", "# test_app.py\n"))
)
ORDER = trade_values(symbol="BTC/USDT")

Client = httpx.AsyncClient
Talk = Callable[[Client], Awaitable[Any]]


def page_names() -> dict[str, Any]:
    """Return what the blocks of the page define."""
    names: dict[str, Any] = {"__name__": "app"}
    exec(CODE, names)
    return names


@pytest.fixture
def page() -> dict[str, Any]:
    return page_names()


def in_program(function: Callable[..., None], *arguments: object) -> None:
    """Call one of this module's functions in another process, whose threads may hang."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_fastapi\n"
    program(f"{code}test_fastapi.{function.__name__}(*sys.argv[1:])", *arguments, timeout=60)


def talk_to(app: FastAPI, talk: Talk) -> Any:
    """Start the application, let a client talk to it, stop it, return what the client returned."""

    async def main() -> Any:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            Client(transport=transport, base_url="http://bot", timeout=60) as client,
        ):
            return await talk(client)

    return asyncio.run(main())


@pytest.fixture
def target(target: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database without rows that the environment names."""
    monkeypatch.setenv("BOTMEMORY_DB_PATH", target)
    monkeypatch.setenv("BOTMEMORY_BUSY_TIMEOUT", "10")
    return target


async def timed_requests(
    *requests: Callable[[], Awaitable[httpx.Response]],
) -> tuple[list[httpx.Response], float]:
    """Send all requests at the same time; return the responses and the time of the slowest."""
    seconds = []

    async def send(request: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        began = time.monotonic()
        response = await request()
        seconds.append(time.monotonic() - began)
        return response

    responses = await asyncio.gather(*(send(request) for request in requests))
    return responses, max(seconds)


# --- the page -----------------------------------------------------------------------------


def test_the_endpoints_record_and_read(page: dict[str, Any], target: str) -> None:
    async def talk(client: Client) -> None:
        response = await client.post("/trades", json=ORDER)
        assert response.status_code == 201
        recorded = response.json()
        assert recorded["symbol"] == "BTC/USDT"
        assert (await client.post("/async/trades", json=ORDER | {"price": 7})).status_code == 201
        listed = (await client.get("/trades", params={"limit": 5})).json()
        assert [row["price"] for row in listed] == [7, 100]
        assert (await client.get("/async/trades/count")).json() == 2
        assert (await client.get("/async/trades/count?symbol=ETH/USDT")).json() == 0
        assert (await client.get("/volume")).json() == 107
        assert (await client.get("/volume?side=sell")).json() == 0
        assert (await client.delete(f"/trades/{recorded['id']}")).status_code == 204

    talk_to(page["app"], talk)
    assert stored(target) == [7]


def test_a_trade_and_its_signal_are_one_transaction(page: dict[str, Any], target: str) -> None:
    async def talk(client: Client) -> None:
        for path in ("/trades", "/async/trades"):
            refused = await client.post(path, json=ORDER | {"price": -1})
            assert refused.status_code == 422

    talk_to(page["app"], talk)
    init_db(target)
    assert trades.get_trade_count() == 0
    assert signals.get_signal_count() == 0


def test_errors_are_responses(page: dict[str, Any], target: str) -> None:
    fill = ORDER | {"exchange": "kraken", "exchange_trade_id": "T1"}

    async def talk(client: Client) -> None:
        for path in ("/trades", "/async/trades"):
            refused = await client.post(path, json=ORDER | {"side": "hold"})
            assert (refused.status_code, refused.json()["field"]) == (422, "side")
            assert "'hold'" in refused.json()["detail"]
        first = await client.post("/trades", json=fill)
        for path in ("/trades", "/async/trades"):
            again = await client.post(path, json=fill)
            assert (again.status_code, again.json()["id"]) == (409, first.json()["id"])
        missing = await client.delete("/trades/01a2123b-6bcf-71d7-a4c6-8c3cfc781010")
        assert missing.status_code == 404

    talk_to(page["app"], talk)
    assert stored(target) == [100]


def test_a_busy_database_is_a_response_and_reading_continues(
    page: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = str(tmp_path / "bot.db")
    monkeypatch.setenv("BOTMEMORY_DB_PATH", target)
    monkeypatch.setenv("BOTMEMORY_BUSY_TIMEOUT", "0.5")

    async def talk(client: Client) -> None:
        with writer_elsewhere(target):
            for path in ("/trades", "/async/trades"):
                response = await client.post(path, json=ORDER)
                assert response.status_code == 503
                assert response.headers["Retry-After"] == "1"
                assert target not in response.text
            for path in ("/trades", "/async/trades/count", "/volume"):
                assert (await client.get(path)).status_code == 200
        assert (await client.post("/trades", json=ORDER)).status_code == 201

    talk_to(page["app"], talk)
    assert stored(target) == [100]


def send_two_hundred_requests() -> None:
    async def talk(client: Client) -> None:
        def post(path: str) -> Callable[[], Awaitable[httpx.Response]]:
            return lambda: client.post(path, json=ORDER)

        def get(path: str) -> Callable[[], Awaitable[httpx.Response]]:
            return lambda: client.get(path)

        reads = [get("/trades"), get("/async/trades/count"), get("/volume"), get("/trades?limit=1")]
        writes = [post("/trades"), post("/async/trades")] * 2
        mixed = [request for pair in zip(reads, writes, strict=True) for request in pair]
        responses, slowest = await timed_requests(*mixed * 25)
        assert {response.status_code for response in responses} == {200, 201}
        assert slowest < 8, slowest
        assert (await client.get("/async/trades/count")).json() == 100

    talk_to(page_names()["app"], talk)


def test_two_hundred_requests_at_the_same_time(target: str) -> None:
    in_program(send_two_hundred_requests)
    assert len(stored(target)) == 100


def test_the_test_of_the_page(page: dict[str, Any], botmemory_file: Path) -> None:
    exec(code_of(PAGE, "python", "# test_app.py\n"), page)
    page["test_a_trade_is_recorded"](botmemory_file)


# --- dependencies -------------------------------------------------------------------------


def application() -> FastAPI:
    """An application with one endpoint for each way to depend on the database."""
    app = FastAPI()

    @app.exception_handler(BotMemoryError)
    async def refused(request: object, error: BotMemoryError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503)

    return app


def send_requests_that_depend_on_get_db(target: str) -> None:
    init_db(target, busy_timeout=20, synchronous="normal")
    app = application()

    @app.get("/count")
    def count(database: Annotated[Any, Depends(get_db)]) -> int:
        return trades.get_trade_count()

    @app.post("/trades")
    def record(database: Annotated[Any, Depends(get_db)]) -> str:
        return str(trade().id)

    async def talk(client: Client) -> None:
        pair = (lambda: client.post("/trades"), lambda: client.get("/count"))
        responses, slowest = await timed_requests(*pair * 60)
        assert {response.status_code for response in responses} == {200}
        assert slowest < 8, slowest

    talk_to(app, talk)


def test_get_db_around_many_requests_blocks_none(target: str) -> None:
    in_program(send_requests_that_depend_on_get_db, target)
    assert len(stored(target)) == 60


def dependency_of_the_page() -> Callable[[], Iterator[None]]:
    names: dict[str, Any] = {"session_scope": session_scope}
    exec(code_of(PAGE, "python", "# not like this\n"), names)
    return names["transaction"]


async def transaction_on_the_loop() -> AsyncIterator[None]:
    with session_scope():
        yield


def send_requests_around_scopes(target: str, dependency: str, endpoint: str) -> None:
    init_db(target, busy_timeout=20)
    app = application()

    def record(price: int) -> int:
        trade(price=price)
        if price % 2:
            raise ZeroDivisionError
        return price

    async def record_on_the_loop(price: int) -> int:
        await asyncio.sleep(0)
        return record(price)

    app.post("/trades", dependencies=[Depends(DEPENDENCIES[dependency])])(
        record if endpoint == "def" else record_on_the_loop
    )
    app.post("/plain")(record)

    async def talk(client: Client) -> None:
        acknowledged = set()

        async def send(path: str, price: int) -> httpx.Response | None:
            try:
                return await client.post(path, params={"price": price})
            except (BotMemoryError, ZeroDivisionError):  # raised when the dependency was left
                return None

        paths = ["/trades", "/trades", "/plain", "/trades"] * 4
        responses, slowest = await timed_requests(
            *[lambda p=path, n=price: send(p, n) for price, path in enumerate(paths, 1)]
        )
        assert slowest < 8, slowest
        for response in responses:
            if response is not None and response.status_code == 200:
                acknowledged.add(response.json())
            elif response is not None:
                assert response.status_code == 503, response.text
                assert "session_scope" in response.json()["detail"]
        # the requests to /plain have no transaction: the trade is stored before the error
        plain = {price for price, path in enumerate(paths, 1) if path == "/plain"}
        assert set(stored(target)) - plain == acknowledged

    talk_to(app, talk)
    # later transactions do not wait
    began = time.monotonic()
    with session_scope():
        trade(price=100)
    assert time.monotonic() - began < 8
    assert 100 in stored(target)


DEPENDENCIES = {"def": dependency_of_the_page(), "async def": transaction_on_the_loop}


@pytest.mark.parametrize("endpoint", DEPENDENCIES)
@pytest.mark.parametrize("dependency", DEPENDENCIES)
def test_a_scope_in_a_dependency_is_refused_and_mixes_no_rows(
    target: str, dependency: str, endpoint: str
) -> None:
    in_program(send_requests_around_scopes, target, dependency, endpoint)
