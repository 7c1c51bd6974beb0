"""A primary and a streaming standby of PostgreSQL that a test stops, kills, pauses and promotes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import psycopg
import pytest
from processes import IS_ROOT, NOBODY
from servers import programs, run

STARTING = 30.0  # seconds in which a server starts, stops or is promoted on a busy machine
# a process that is killed loses nothing without fsync, and no test cuts the power
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "shared_buffers": "16MB",
    "wal_retrieve_retry_interval": "100ms",
}


@cache
def server_programs() -> Path:
    """Return the folder of the newest PostgreSQL that can copy a server: Debian's, or pip's."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name)
    )
    for folder in (*reversed(installed), programs()):
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_basebackup")):
            return folder
    pytest.skip("no PostgreSQL with pg_basebackup; install Debian's package 'postgresql'")


def unprivileged(user: int = NOBODY) -> dict[str, Any]:
    """Return options for subprocess: PostgreSQL and PgBouncer refuse to run as root."""
    return {"user": user, "group": NOBODY, "extra_groups": []} if IS_ROOT else {}


def free_port() -> int:
    """Return a port that no outgoing connection is given, so that a server can come back to it."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port


class PostgresServer:
    """A server in a folder and on a port of its own, which any user may log in to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._log = folder.with_name(f"{folder.name}.log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL of the maintenance database, as a superuser."""
        return url_of(self)

    def initialize(self) -> None:
        """Make a new server without any data."""
        options = ["--encoding=UTF8", "--locale=C", "--username=postgres", "--auth=trust"]
        options.append("--wal-segsize=1")  # megabytes, as a test copies all files
        self._run("initdb", "--no-sync", *options, "-D", str(self.folder))

    def follow(self, primary: PostgresServer) -> None:
        """Become a standby of a running server, with a new copy of its data, and start."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        connection = f"host=127.0.0.1 port={primary.port} user=postgres"
        options = ["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]
        self._run("pg_basebackup", *options, "-d", connection, "-D", str(self.folder))
        # the copy has the setting of the primary, and nobody follows this server
        with (self.folder / "postgresql.auto.conf").open("a") as settings:
            settings.write("synchronous_standby_names = ''\n")
        self.start()

    def start(self) -> None:
        """Start, and return when it can be connected to."""
        settings = SETTINGS | {"port": str(self.port)}
        command = [server_programs() / "postgres", "-D", self.folder]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **unprivileged())
        wait_until(self._accepts)

    def stop(self) -> None:
        """Stop: transactions are rolled back, and the clients are told."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STARTING)
            self._process = None

    def kill(self) -> None:
        """Kill all of its processes, as when a machine fails."""
        if self._process is not None:
            kill_with_children(self._process.pid)
            self._process.wait()
            self._process = None

    def promote(self) -> None:
        """Make a standby the primary, and return when it can be written to."""
        assert run(self.url, f"SELECT pg_promote(true, {STARTING:.0f})") == [(True,)]

    def require_standby(self, *, is_required: bool = True) -> None:
        """Let a commit wait until a standby has it; it waits for ever where there is none."""
        names = "*" if is_required else ""
        run(
            self.url,
            f"ALTER SYSTEM SET synchronous_standby_names = '{names}'",
            "SELECT pg_reload_conf()",
        )
        state = "sync" if is_required else "async"
        query = "SELECT sync_state FROM pg_stat_replication"
        wait_until(lambda: run(self.url, query) in ([(state,)], []))

    @contextmanager
    def paused(self, *pids: int) -> Iterator[None]:
        """Stop processes of the server for the block, all of them unless some are named."""
        assert self._process is not None
        try:
            if not pids:
                pids = (self._process.pid,)
                _send(signal.SIGSTOP, pids)  # first, as it starts the others
                pids += (*_children(self._process.pid),)
            _send(signal.SIGSTOP, pids)
            yield
        finally:
            _send(signal.SIGCONT, pids)

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url, connect_timeout=2).close()
            return True
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [server_programs() / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder.parent,
            **unprivileged(),
        )
        assert done.returncode == 0, done.stderr


class Pair:
    """A server and its standby, which follows it."""

    def __init__(self, folder: Path) -> None:
        self.primary = PostgresServer(folder / "primary")
        self.standby = PostgresServer(folder / "standby")
        self._new = folder / "new"  # the files of both, without any data

    def initialize(self) -> None:
        """Make both, once: a test begins with copies of their files."""
        try:
            self.primary.initialize()
            self.primary.start()
            self.standby.follow(self.primary)
            self.standby.stop()
            self.primary.stop()
        finally:
            self.kill()
        self._new.mkdir()
        for server in (self.primary, self.standby):
            server.folder.rename(self._new / server.folder.name)

    def start(self) -> None:
        """Start both without any data."""
        for server in (self.primary, self.standby):
            shutil.rmtree(server.folder, ignore_errors=True)
            # shutil would not keep the owner of the files
            copy = ["cp", "-a", self._new / server.folder.name, server.folder]
            subprocess.run(copy, check=True)
            server.start()

    def url(self, **parameters: str) -> str:
        """Return the URL with both hosts."""
        return url_of(self.primary, self.standby, **parameters)

    def wait_for_standby(self) -> None:
        """Return when the standby has all that is committed on the primary."""
        [(end,)] = run(self.primary.url, "SELECT pg_current_wal_lsn()::text")
        query = f"SELECT pg_last_wal_replay_lsn() >= '{end}'"
        wait_until(lambda: run(self.standby.url, query) == [(True,)])

    def fail_over(self) -> None:
        """Kill the primary and promote the standby."""
        self.primary.kill()
        self.standby.promote()

    def kill(self) -> None:
        self.standby.kill()
        self.primary.kill()


@pytest.fixture(scope="session")
def pair_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The files of `pair`; not in pytest's folder, which other users may not enter."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        if IS_ROOT:
            os.chown(folder, NOBODY, NOBODY)
        servers = Pair(folder)
        servers.initialize()
        yield servers


@pytest.fixture
def pair(pair_of_session: Pair) -> Iterator[Pair]:
    """A primary and its standby, running and without any data."""
    try:
        pair_of_session.start()
        yield pair_of_session
    finally:
        pair_of_session.kill()


class HasPort(Protocol):
    """A server on this machine."""

    port: int


def url_of(*servers: HasPort, **parameters: str) -> str:
    """Return the URL of the maintenance database with the hosts of these servers."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    rest = urlencode(parameters, quote_via=quote)
    return f"postgresql://postgres@{hosts}/postgres?{rest}"


def wait_until(is_so: Callable[[], bool], seconds: float = STARTING) -> None:
    """Ask until it is so; fail when it takes longer."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "the server takes too long"
        time.sleep(0.02)


def kill_with_children(pid: int) -> None:
    """Kill a process and all that it has started, and return when those are gone."""
    os.kill(pid, signal.SIGSTOP)  # so that it starts no others meanwhile
    children = _children(pid)
    for each in (pid, *children):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    # until they are gone, no other server can be started in the folder
    wait_until(lambda: not any(map(_is_running, children)))


def _children(pid: int) -> Sequence[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _send(number: int, pids: Sequence[int]) -> None:
    """Send a signal to processes of a server, of which some may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"  # ended, and nobody has asked how
    return False
