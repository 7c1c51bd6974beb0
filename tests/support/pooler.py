"""PgBouncer between the bots and a server; it has few connections to the server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, urlencode

import pytest
from processes import NOBODY
from replication import STARTING, free_port, unprivileged, wait_until

from botmemory._url import server_parameters

SERVER_CONNECTIONS = 3

# what it is not told to ignore, it refuses: it is configured as its documentation shows
SETTINGS = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 500
"""


class PgBouncer:
    """A pooler in front of the server of a URL; each database of the server is reached by it."""

    def __init__(self, url: str, folder: Path, mode: str, size: int = SERVER_CONNECTIONS) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        parameters = server_parameters(url)
        places = {name: parameters[name] for name in ("host", "port") if name in parameters}
        server = " ".join(f"{name}={value}" for name, value in places.items())
        self._options = unprivileged(_owner(places.get("host", "")))
        values = {"server": server, "port": self.port, "folder": folder, "mode": mode, "size": size}
        (folder / "pgbouncer.ini").write_text(SETTINGS.format(**values))
        (folder / "users.txt").write_text(f'"{parameters["user"]}" ""\n')

    def start(self) -> None:
        """Start, and return when it can be connected to."""
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.skip("no PgBouncer; install Debian's package 'pgbouncer'")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, self._folder / "pgbouncer.ini"], stdout=log, stderr=log, **self._options
            )
        wait_until(self._accepts)

    def stop(self) -> None:
        """Stop at once; the connections of all clients are closed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STARTING)
            self._process = None

    def url(self, url: str, **parameters: str) -> str:
        """Return the URL of a database of the server that leads through the pooler."""
        own = server_parameters(url)
        rest = urlencode(parameters, quote_via=quote)
        return f"postgresql://{own['user']}@127.0.0.1:{self.port}/{own['dbname']}?{rest}"

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


def _owner(host: str) -> int:
    """Return the user who may reach the server: its own where the socket is among its files."""
    return Path(host).stat().st_uid if host.startswith("/") else NOBODY


@pytest.fixture(scope="session")
def start_pgbouncer(server: str) -> Iterator[Callable[[str], PgBouncer]]:
    """A function that starts PgBouncer in a mode in front of the server."""
    with ExitStack() as stack:

        def start(mode: str) -> PgBouncer:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            folder.chmod(0o755)  # for another user
            pooler = PgBouncer(server, folder, mode)
            stack.callback(pooler.stop)
            pooler.start()
            return pooler

        yield start


@pytest.fixture(scope="session")
def pgbouncer(start_pgbouncer: Callable[[str], PgBouncer]) -> PgBouncer:
    """PgBouncer in transaction mode: each transaction gets any of its connections."""
    return start_pgbouncer("transaction")
