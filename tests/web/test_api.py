"""The JSON API: every documented address answers as its schema says."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import needs_posix
from samples import cash_flow, signal, trade
from servers import Restartable
from serving import Served, record

from botmemory import Config, close_db, init_db
from botmemory.errors import BotMemoryError
from botmemory.web import app

Serve = Callable[..., Served]

pytestmark = pytest.mark.processes
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def client(target: str, serve: Serve) -> Iterator[httpx.Client]:
    """A client of a served database with rows of each kind."""
    init_db(target)
    for n in range(10):
        at = START + timedelta(hours=n)
        side, pnl = ("sell", 5.5) if n % 2 else ("buy", None)
        trade(
            symbol="BTC/USDT", side=side, price=100 + n, timestamp=at, pnl=pnl, fee=0.1,
            fee_currency="USDT", exchange="binance", trade_metadata={"tags": ["a"], "n": n},
        )  # fmt: skip
        trade(symbol="ETH/BTC", side="buy", price=0.05, timestamp=START, strategy="trend", fee=1)
        signal(symbol="BTC/USDT", timestamp=at, signal_metadata={"rsi": 30.5})
        cash_flow(timestamp=at)
    close_db()
    with httpx.Client(base_url=serve(target).url) as client:
        yield client


def check(value: Any, schema: dict[str, Any], place: str = "answer") -> None:
    """Assert that a value is what a JSON Schema, of the keywords that the API uses, allows."""
    known = {"type", "enum", "anyOf", "properties", "required", "items", "description", "format"}
    assert {*schema} <= known | {"additionalProperties"}, place
    if "anyOf" in schema:
        errors = []
        for each in schema["anyOf"]:
            try:
                return check(value, each, place)
            except AssertionError as error:
                errors.append(str(error))
        raise AssertionError(errors)
    if "enum" in schema:
        assert value in schema["enum"], place
    if "type" in schema:
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        is_of = {
            "string": isinstance(value, str),
            "null": value is None,
            "integer": isinstance(value, int) and not isinstance(value, bool),
            "number": isinstance(value, (int, float)) and not isinstance(value, bool),
            "array": isinstance(value, list),
            "object": isinstance(value, dict),
        }
        assert any(is_of[each] for each in types), (place, value, types)
    if schema.get("format") == "date-time" and value is not None:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", value), place
    if isinstance(value, dict):
        properties, other = schema.get("properties", {}), schema.get("additionalProperties", True)
        assert {*schema.get("required", ())} <= {*value}, place
        for name, item in value.items():
            assert name in properties or other is not False, f"{place}.{name}"
            rest = other if isinstance(other, dict) else {}
            check(item, properties.get(name, rest), f"{place}.{name}")
    for n, item in enumerate(value if isinstance(value, list) else ()):
        check(item, schema.get("items", {}), f"{place}[{n}]")


def test_every_documented_address_answers_as_its_schema_says(client: httpx.Client) -> None:
    schema = client.get("/api/openapi.json").json()
    assert schema["openapi"] == "3.1.0"
    names = {"trades", "signals", "cash-flows", "positions", "round-trips", "results"}
    assert {*schema["paths"]} == {f"/api/{name}" for name in names}
    examples = {"symbol": "BTC/USDT", "side": "buy", "value": "1", "kind": "deposit",
                "currency": "USDT", "strategy": "", "exchange": "binance", "quote": "USDT",
                "source": "fills", "since": "2024-01-01", "until": "2024-01-01T20:00:00Z",
                "limit": "5"}  # fmt: skip
    for path, methods in schema["paths"].items():
        described = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        assert answer.json()["rows"] != [], path
        check(answer.json(), described)
        for parameter in methods["get"]["parameters"]:
            if (name := parameter["name"]) in examples:
                answer = client.get(path, params={name: examples[name]})
                assert answer.status_code == 200, (path, name, answer.text)
                check(answer.json(), described)


@pytest.mark.parametrize("path", ["trades", "signals", "cash-flows", "round-trips"])
def test_pages_have_each_row_once_in_order(client: httpx.Client, path: str) -> None:
    whole = client.get(f"/api/{path}", params={"limit": 1000}).json()
    assert whole["next"] is None
    pages: list[Any] = []
    cursor = None
    while True:
        query = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
        answer = client.get(f"/api/{path}", params=query).json()
        pages += answer["rows"]
        cursor = answer["next"]
        assert len(answer["rows"]) <= 3
        if cursor is None:
            break
    assert pages == whole["rows"]
    assert len(pages) == {"trades": 20, "round-trips": 5}.get(path, 10)


def test_filters_are_those_of_the_command_line(client: httpx.Client) -> None:
    def count(path: str, **parameters: Any) -> int:
        return len(client.get(f"/api/{path}", params=parameters).json()["rows"])

    assert count("trades", symbol="BTC/USDT", side="sell") == 5
    assert count("trades", strategy="trend") == 10
    assert count("trades", strategy="") == 10
    assert count("trades", symbol="BTC/USDT", since="2024-01-01T08:00Z") == 2
    assert count("trades", symbol="BTC/USDT", until="2024-01-01T00:00:00+00:00") == 1
    assert count("trades", until="2023-12-31") == 0
    assert count("positions", quote="BTC") == 1
    [result] = client.get("/api/results", params={"quote": "USDT"}).json()["rows"]
    assert (result["source"], result["closed_trades"], result["total_pnl"]) == ("recorded", 5, 27.5)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("trades?limit=0", "limit"),
        ("trades?limit=1001", "limit"),
        ("trades?limit=ten", "limit"),
        ("trades?since=yesterdayish", "since"),
        ("trades?cursor=x", "cursor"),
        ("round-trips?cursor=-1", "cursor"),
        ("trades?side=up", "side"),
        ("signals?value=2", "value"),
        ("signals?exchange=binance", "exchange"),
        ("trades?symbol=a&symbol=b", "symbol"),
        ("trades?symbol=" + "x" * 100, "symbol"),
        ("trades?since=2024-02-01&until=2024-01-01", "until"),
        ("results?source=guess", "source"),
    ],
)
def test_an_error_names_the_parameter(client: httpx.Client, query: str, parameter: str) -> None:
    answer = client.get(f"/api/{query}")
    assert answer.status_code == 400
    assert [*answer.json()] == ["error"]
    assert answer.json()["error"].startswith(f"{parameter}: ")


def test_an_answer_holds_until_a_trade_is_recorded(client: httpx.Client, target: str) -> None:
    def symbols() -> set[str]:
        rows = client.get("/api/trades").json()["rows"]
        return {row["symbol"] for row in rows}

    assert symbols() == symbols() == {"BTC/USDT", "ETH/BTC"}
    record(target, "SOL/USDT")
    assert symbols() == {"BTC/USDT", "ETH/BTC", "SOL/USDT"}


def test_the_connection_is_read_only(target: str) -> None:
    record(target)
    reader = app(Config(db_path=target)).state.reader

    def write() -> None:
        trade(symbol="SOL/USDT")

    try:
        reader.read_first()
        with pytest.raises(BotMemoryError, match=r"read.only"):
            reader._looking.submit(write).result()
    finally:
        reader.close()


@needs_posix  # Windows renames no file that is open
def test_a_database_that_cannot_be_read_is_503_and_then_read_again(
    tmp_path: Path, serve: Serve
) -> None:
    path = tmp_path / "bot.db"
    record(str(path))
    served = serve(str(path))
    assert httpx.get(f"{served.url}/api/trades").status_code == 200
    path.rename(tmp_path / "moved.db")
    answer = httpx.get(f"{served.url}/api/trades")
    assert answer.status_code == 503
    assert "bot.db" in answer.json()["error"]
    assert "BTC/USDT" in httpx.get(served.url).text
    (tmp_path / "moved.db").rename(path)
    assert httpx.get(f"{served.url}/api/trades").status_code == 200


@needs_posix  # Windows replaces no file that is open
def test_another_database_at_the_same_path_is_opened(tmp_path: Path, serve: Serve) -> None:
    path, other = tmp_path / "bot.db", tmp_path / "other.db"
    record(str(path))
    record(str(other), "SOL/USDT")
    served = serve(str(path))
    assert "BTC/USDT" in httpx.get(served.url).text
    other.replace(path)
    rows = httpx.get(f"{served.url}/api/trades").json()["rows"]
    assert {row["symbol"] for row in rows} == {"SOL/USDT"}


def test_it_goes_on_after_a_server_was_restarted(restartable: Restartable, serve: Serve) -> None:
    record(restartable.url)
    served = serve(restartable.url)
    before = httpx.get(f"{served.url}/api/trades").json()["rows"]  # of other tests, too
    restartable.stop()
    answer = httpx.get(f"{served.url}/api/trades", timeout=30)
    assert answer.status_code == 503
    assert "BTC/USDT" in httpx.get(served.url, timeout=30).text
    restartable.start()
    record(restartable.url, "SOL/USDT")
    rows = httpx.get(f"{served.url}/api/trades", timeout=30).json()["rows"]
    assert {row["symbol"] for row in rows} == {"SOL/USDT", *(row["symbol"] for row in before)}


def test_the_first_page_of_a_server_of_ones_own_says_why_there_is_none(tmp_path: Path) -> None:
    target = str(tmp_path / "bot.db")
    record(target, "AAPL")
    record(target, "SAPJPY")

    async def ask() -> list[httpx.Response]:
        application = app(Config(db_path=target))
        transport = httpx.ASGITransport(application)
        address = "http://localhost"
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url=address) as client,
        ):
            return [await client.get(path) for path in ("/", "/", "/latest", "/api/trades")]

    *pages, section, rows = asyncio.run(ask())
    for page in pages:
        assert (page.status_code, "do not name a currency" in page.text) == (503, True)
    assert "SAPJPY" in section.text
    assert rows.status_code == 200


def test_what_is_open_now_is_not_said_of_an_end_that_has_passed(
    tmp_path: Path, serve: Serve
) -> None:
    target = str(tmp_path / "bot.db")
    init_db(target)
    trade(timestamp=START)
    close_db()
    for options, is_said in (((), True), (("--until", "2026-01-01"), False)):
        section = httpx.get(f"{serve(target, *options).url}/latest").text
        assert ("Open positions" in section, "BTC/USDT" in section) == (is_said, True)
        assert "no open positions" not in section


def test_an_unchanged_section_keeps_its_version(tmp_path: Path, serve: Serve) -> None:
    target = str(tmp_path / "bot.db")
    record(target)
    served = serve(target)
    before = httpx.get(f"{served.url}/latest").text
    change = "import sys, botmemory; botmemory.init_db(sys.argv[1]); botmemory.State.create"
    change += "(key='grid', value=1)"  # of something else
    subprocess.run([sys.executable, "-c", change, target], check=True)
    assert httpx.get(f"{served.url}/latest").text == before
