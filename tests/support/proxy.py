"""A TCP proxy between the bot and its server that a test can cut; optionally with TLS."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
from typing import Any

from botmemory._url import server_parameters

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class Proxy:
    """Listens on a port of its own and passes everything on; `url` leads through it."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.parameters = server_parameters(url)
        self.tls = tls
        self.lose_response_to: bytes | None = (
            None  # pass this on, and close the connection before the response
        )
        self.silent = False  # drop all data
        self.tls_connections = 0
        self.connections: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
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
            if client.recv(8, socket.MSG_PEEK) == SSL_REQUEST:
                client.recv(8)
                client.sendall(b"S" if self.tls else b"N")
                if self.tls:
                    client = self.tls.wrap_socket(client, server_side=True)
                    stack.callback(client.close)
                    self.tls_connections += 1
            server = self._connect()
            stack.callback(server.close)
            self.connections += [client, server]
            self._pass_on(client, server)

    def _connect(self) -> socket.socket:
        host, port = self.parameters.get("host", ""), self.parameters.get("port") or "5432"
        if not host.startswith("/"):
            return socket.create_connection((host or "localhost", int(port)))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pass_on(self, client: Any, server: socket.socket) -> None:
        lost = False
        while True:
            waiting = isinstance(client, ssl.SSLSocket) and client.pending()
            readable = [client] if waiting else select.select([client, server], [], [])[0]
            for source in readable:
                data = source.recv(65536)
                if self.silent:
                    continue
                if not data or (lost and source is server):
                    return
                if source is client and self.lose_response_to and self.lose_response_to in data:
                    lost = True
                    self.lose_response_to = None
                (server if source is client else client).sendall(data)
