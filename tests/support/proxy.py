"""A TCP proxy between the bot and its server that a test can cut; optionally with TLS."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from typing import Any

from botmemory._url import server_parameters

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Proxy:
    """Listens on a port of its own and passes everything on; `url` leads through it.

    Attributes:
        lose_response_to: Pass this on, and close the connection before the response.
        silent: Accept connections and never answer, and drop all data of those that are open;
            neither client nor server is told. They stay like that when `silent` is False again.
        delay: The seconds that data is under way, in each direction.
        round_trips: How often a client received something after it had sent something. With a
            delay, all that it sends without waiting for an answer is one round trip.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None, *, delay: float = 0.0) -> None:
        self.parameters = server_parameters(url)
        self.tls = tls
        self.lose_response_to: bytes | None = None
        self.silent = False
        self.delay = delay
        self.round_trips = 0
        self.tls_connections = 0
        self.connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self.listener.close()
        self.cut()

    def url(self, host: str = "127.0.0.1", **parameters: str) -> str:
        name, user = self.parameters["dbname"], self.parameters["user"]
        rest = "&".join(f"{key}={value}" for key, value in parameters.items())
        return f"postgresql://{user}@{host}:{self.port}/{name}?{rest}"

    def cut(self) -> None:
        """Cut every connection; new ones can be opened."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.callback(client.close)
            self.connections.append(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begins = client.recv(8, socket.MSG_PEEK)
            if self.silent:
                _discard(client)
                return
            if begins == SSL_REQUEST:
                client.recv(8)
                time.sleep(2 * self.delay)
                self._count()
                client.sendall(b"S" if self.tls else b"N")
                if self.tls:
                    client = self.tls.wrap_socket(client, server_side=True)
                    stack.callback(client.close)
                    self.connections.append(client)
                    self.tls_connections += 1
            server = self._connect()
            stack.callback(server.close)
            self.connections.append(server)
            self._pass_on(client, server)

    def _connect(self) -> socket.socket:
        host, port = self.parameters.get("host", ""), self.parameters.get("port") or "5432"
        if not host.startswith("/"):
            server = socket.create_connection((host or "localhost", int(port)))
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return server
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pass_on(self, client: Any, server: socket.socket) -> None:
        lost = waits_for_answer = False
        under_way: deque[tuple[float, Any, bytes]] = deque()  # when it arrives, and its source
        sources = [client, server]
        while True:
            now = time.monotonic()
            while under_way and under_way[0][0] <= now:
                _, source, data = under_way.popleft()
                if not data:
                    return
                if source is server and waits_for_answer:
                    waits_for_answer = False
                    self._count()
                (server if source is client else client).sendall(data)
            if isinstance(client, ssl.SSLSocket) and client.pending():
                readable = [client]
            else:
                seconds = under_way[0][0] - now if under_way else None
                readable = select.select(sources, [], [], seconds)[0]
            for source in readable:
                data = source.recv(65536)
                if self.silent:
                    # what was lost cannot be made up for; and the server does not hear that the
                    # client has closed the connection
                    _discard(client)
                    _discard(server)
                    return
                if lost and source is server:
                    return
                if source is client:
                    waits_for_answer = True
                    if self.lose_response_to and self.lose_response_to in data:
                        lost = True
                        self.lose_response_to = None
                if not data:
                    sources.remove(source)
                under_way.append((time.monotonic() + self.delay, source, data))

    def _count(self) -> None:
        with self._lock:
            self.round_trips += 1


def _discard(source: socket.socket) -> None:
    """Read and drop what comes until the connection is closed."""
    while source.recv(65536):
        pass
