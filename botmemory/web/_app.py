"""The application: the page, its events, and the JSON API."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from importlib import resources
from operator import attrgetter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from .._following import FAILURES, latest
from ..analysis.results import Source
from ..config import Config
from ..database import db
from ..errors import ValidationError
from ..report import Capital, collect, render, render_latest, script_of
from ._endpoints import (
    ENDPOINTS,
    PARAMETERS,
    Endpoint,
    arguments_of,
    as_json,
    open_positions,
    openapi,
)
from ._guard import Guard, refuse
from ._reader import Progress, Reader

EVERY = 0.5  # seconds between two looks for changes
LATEST = 10  # of the latest trades and signals


def app(
    config: Config | None = None,
    symbol: str | None = None,
    strategy: str | None = None,
    start_date: datetime | None = None,
    end_date: datetime | None = None,
    *,
    exchange: str | None = None,
    quote: str | None = None,
    source: Source | None = None,
    rates: Mapping[str, float] | None = None,
    capital: Capital | None = None,
    hosts: Collection[str] = (),
    token: str | None = None,
) -> Starlette:
    """Return an ASGI application that serves the report of a database as a live page.

    It opens the database in this process, read-only: a process that records trades in it is
    another one. What has changed is read again while somebody looks: what was recorded last at
    once, the charts by another thread.

    Args:
        config: The database; None for that of the environment.
        symbol: Only trades of this symbol.
        strategy: Only trades of this strategy; "" for those without one.
        start_date: Only trades from this time on.
        end_date: Only trades up to this time, included.
        exchange: Only trades of this exchange; "" for those without one.
        quote: Only trades with PnL in this currency; "" for symbols that name none.
        source: Where the PnL comes from, as in `write_report`.
        rates: What one unit of another currency is worth, for fees in a third currency.
        capital: The capital at the start, as in `write_report`.
        hosts: The names and addresses by which it may be reached, beside those of this machine.
        token: What a browser or program must show; None for whoever can connect.

    Returns:
        The application; `state.reader` has `end_streams()`, which a server calls as it ends.
    """
    filters: dict[str, Any] = {
        "symbol": symbol,
        "strategy": strategy,
        "start_date": start_date,
        "end_date": end_date,
        "exchange": exchange,
    }
    live_script = resources.files("botmemory.web").joinpath("live.js").read_text(encoding="utf-8")

    def read_latest(number: str) -> str:
        with db.read_snapshot():
            found = open_positions(symbol, quote, strategy, exchange, rates)
            trades, signals = latest(filters, quote, LATEST)
        found.sort(key=attrgetter("opened_at"), reverse=True)
        # those of now are not those of an end that has passed
        return render_latest(None if end_date else found, trades, signals, number)

    def read_page(number: str, progress: Progress) -> str:
        report = collect(filters, quote, source, rates, capital, progress)
        return render(report, live_script, number)

    reader = Reader(config or Config.from_env(), read_latest, read_page, EVERY)
    policy = _policy(script_of(live_script))

    async def page(request: Request) -> Response:
        text = await reader.page()
        if text is None:
            return _not_yet(reader)
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    async def section(request: Request) -> Response:
        await reader.refresh()
        return _not_yet(reader) if reader.latest is None else HTMLResponse(reader.latest)

    async def events(request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(reader.events(), media_type="text/event-stream")

    async def schema(request: Request) -> Response:
        return JSONResponse(openapi(needs_token=token is not None))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(reader.follow())
        try:
            yield
        finally:
            reader.end_streams()
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            await asyncio.to_thread(reader.close)

    application = Starlette(
        routes=[
            Route("/", page),
            Route("/latest", section),
            Route("/events", events),
            Route("/api/openapi.json", schema),
            *(Route(f"/api/{each.name}", partial(_answer, reader, each)) for each in ENDPOINTS),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={HTTPException: _not_found},
        lifespan=lifespan,
    )
    application.state.reader = reader
    return application


def _not_yet(reader: Reader) -> Response:
    return PlainTextResponse(f"{reader.error}\n", 503, {"Retry-After": "2"})


async def _answer(reader: Reader, endpoint: Endpoint, request: Request) -> Response:
    try:
        arguments = arguments_of(endpoint, request.query_params.multi_items())

        def read() -> Any:
            return as_json(endpoint, *endpoint.read(**arguments))

        url = f"{endpoint.name}?{request.url.query}"
        return Response(await reader.answer(url, read), media_type="application/json")
    except ValidationError as error:
        return JSONResponse({"error": _with_parameter(str(error))}, 400)
    except FAILURES as error:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "2"})


def _with_parameter(message: str) -> str:
    """Return a message that begins with an argument with the name of its parameter."""
    argument, colon, rest = message.partition(": ")
    names = [name for name, each in PARAMETERS.items() if each.argument == argument]
    return f"{names[0]}{colon}{rest}" if names else message


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refuse(request.url.path, status, "there is no such page")


def _policy(script: str) -> str:
    """Return the Content-Security-Policy of the page: nothing but its own script runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
