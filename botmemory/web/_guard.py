"""Who may ask: a host that was named, with the token if there is one, and only to read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "botmemory"
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses requests for other hosts' names, that are not for reading, or without the token.

    A page of another site whose name is made to point to this machine (DNS rebinding) sends that
    name as the host.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str | None) -> None:
        self._app = app
        self._hosts = LOCAL_NAMES | {host.lower().strip("[]") for host in hosts}
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                added = [(name.lower().encode(), text.encode()) for name, text in HEADERS.items()]
                message["headers"] += [each for each in added if each[0] not in names]
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        host = host_name(headers.get("host", ""))
        if host not in self._hosts:
            name = host if host.isprintable() else "?"
            return refuse(path, 421, f"the host {name} is not served; --allow-host names another")
        if scope["method"] not in ("GET", "HEAD"):
            response = refuse(path, 405, "only GET and HEAD: nothing can be changed here")
            response.headers["Allow"] = "GET, HEAD"
            return response
        return None if self._token is None else self._without_token(scope, headers, self._token)

    def _without_token(self, scope: Scope, headers: Headers, token: bytes) -> Response | None:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [text for name, text in query if name == "token"]
        # of the token: who reads the cookie does not know what the API takes
        cookie = hmac.new(token, b"cookie", hashlib.sha256).hexdigest()
        if given:
            if not hmac.compare_digest(given[0].encode(), token):
                return refuse(scope["path"], 401, "the token is wrong")
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            place = "?" + rest if rest else scope["path"].rpartition("/")[2] or "./"
            response = Response(status_code=303, headers={"Location": place})
            response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")
            return response
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(bearer.strip().encode(), token):
            return None
        if hmac.compare_digest(_cookie(headers).encode(), cookie.encode()):
            return None
        response = refuse(
            scope["path"], 401, "open the address with ?token=, or send Authorization: Bearer"
        )
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def host_name(header: str) -> str:
    """Return the host of a Host header, without the port."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name


def refuse(path: str, status: int, message: str) -> Response:
    """Return an error: JSON for the API, else a line of text."""
    if "/api/" in path:
        return JSONResponse({"error": message}, status)
    return PlainTextResponse(f"{message}\n", status)


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
