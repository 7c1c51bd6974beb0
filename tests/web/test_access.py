"""Who is answered, and that nothing can be changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from processes import HAS_PROC, needs_signals
from serving import Served, record

Serve = Callable[..., Served]

pytestmark = pytest.mark.processes
TOKEN = "a-long-enough-token"


@pytest.fixture
def database(tmp_path: Path) -> str:
    target = str(tmp_path / "bot.db")
    record(target)
    return target


def test_other_hosts_are_refused_unless_they_are_named(database: str, serve: Serve) -> None:
    served = serve(database, "--allow-host", "bots.example")
    for host, status in {
        "evil.example": 421,
        f"evil.example:{served.port}": 421,
        "127.0.0.1.evil.example": 421,
        "": 421,
        "localhost": 200,
        f"LOCALHOST:{served.port}": 200,
        f"127.0.0.1:{served.port}": 200,
        f"[::1]:{served.port}": 200,
        "bots.example": 200,
    }.items():
        for path in ("/", "/api/trades", "/api/openapi.json"):
            answer = httpx.get(served.url + path, headers={"Host": host})
            assert answer.status_code == status, (host, path)
            assert ("BTC/USDT" in answer.text) == (status == 200 and "openapi" not in path)
    refused = httpx.get(f"{served.url}/events", headers={"Host": "evil.example"})
    assert refused.status_code == 421


def test_only_reading_is_answered_and_no_other_site_may_read(database: str, serve: Serve) -> None:
    served = serve(database)
    for path in ("/", "/api/trades", "/events"):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            refused = httpx.request(method, served.url + path)
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
            assert "only GET and HEAD" in refused.text
        head = httpx.head(served.url + path, headers={"Origin": "http://evil.example"})
        assert head.status_code == 200
        assert not [name for name in head.headers if name.startswith("access-control")]
        assert head.headers["cross-origin-resource-policy"] == "same-origin"
        assert head.headers["x-content-type-options"] == "nosniff"
    page = httpx.get(served.url)
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha")
    assert httpx.get(f"{served.url}/nothing").status_code == 404
    assert httpx.get(f"{served.url}/api/nothing").json() == {"error": "there is no such page"}


def test_the_token_is_needed_for_every_path(database: str, serve: Serve) -> None:
    served = serve(database, BOTMEMORY_SERVE_TOKEN=TOKEN)
    for path in ("/", "/events", "/api/trades", "/api/openapi.json", "/nothing"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"botmemory={TOKEN}"}):
            assert httpx.get(served.url + path, headers=headers).status_code == 401
        assert httpx.get(f"{served.url}{path}?token=wrong").status_code == 401
        assert httpx.get(f"{served.url}{path}?token=w\u00e9ong").status_code == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.get(f"{served.url}/api/trades", headers=bearer)
    assert len(answer.json()["rows"]) == 2
    with httpx.Client(base_url=served.url) as client:
        moved = client.get(f"/api/trades?limit=1&token={TOKEN}")
        assert (moved.status_code, moved.headers["location"]) == (303, "?limit=1")
        cookie = moved.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert len(client.get("/api/trades?limit=1").json()["rows"]) == 1
    if os.name == "posix":
        code, written = served.interrupt()
        assert code == 0
    else:
        served.process.kill()
        written = "".join(served.process.communicate())
    assert TOKEN not in written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "0.0.0.0"), "BOTMEMORY_SERVE_TOKEN"),
        (("--host", "bots.example"), "BOTMEMORY_SERVE_TOKEN"),
        (("--token", "short"), "16 characters"),
        (("--symbol", "x" * 100), "--symbol"),
    ],
)
def test_it_does_not_begin(database: str, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        Served(database, *options)
    assert message in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_missing_file_and_a_port_in_use_are_errors(database: str, serve: Serve) -> None:
    with pytest.raises(AssertionError, match=r"error: .*missing\.db"):
        Served(database.replace("bot.db", "missing.db"))
    with pytest.raises(AssertionError, match="cannot listen on 127.0.0.1, port"):
        Served(database, "--port", str(serve(database).port))


@needs_signals
def test_ctrl_c_ends_it_while_events_are_streamed(database: str, serve: Serve) -> None:
    served = serve(database)
    with httpx.stream("GET", f"{served.url}/events", timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 1000"
        assert served.interrupt() == (0, "")
        assert [line for line in lines if line.startswith("data")] != []


def test_many_streams_share_the_readers(database: str, serve: Serve) -> None:
    served = serve(database)
    with httpx.Client(base_url=served.url, timeout=20) as client:
        streams = [
            client.send(client.build_request("GET", "/events"), stream=True) for _ in range(30)
        ]
        try:
            texts = [stream.iter_lines() for stream in streams]
            [first] = {next(line for line in text if line.startswith("data")) for text in texts}
            shown = json.loads(first.removeprefix("data: "))

            def is_read_again(line: str) -> bool:
                """Both are: of the charts, which are read later, a stream may tell later, too."""
                told = json.loads(line.removeprefix("data: ")) if line.startswith("data") else shown
                return all(told[each] != shown[each] for each in ("latest", "version"))

            record(database)
            second = {next(filter(is_read_again, text)) for text in texts}
            assert len(second) == 1
            if HAS_PROC:
                status = Path(f"/proc/{served.process.pid}/status").read_text()
                assert int(status.partition("Threads:")[2].split()[0]) <= 4  # two of them read
        finally:
            for stream in streams:
                stream.close()
