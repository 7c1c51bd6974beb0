"""Two PostgreSQL servers that Patroni manages; which one is the primary is kept in etcd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import pytest
from processes import IS_ROOT, NOBODY
from replication import (
    free_port,
    kill_with_children,
    server_programs,
    unprivileged,
    url_of,
    wait_until,
)

STARTING = 90.0  # seconds
# the shortest that Patroni accepts, and as fast as it may look
SETTINGS = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3, "synchronous_mode": True}
PARAMETERS = {"fsync": "off", "shared_buffers": "16MB", "unix_socket_directories": ""}


class Node:
    """A machine with a Patroni and its PostgreSQL."""

    def __init__(self, name: str, folder: Path, etcd_port: int) -> None:
        self.name, self.port = name, free_port()
        self._folder = folder / name
        api = f"127.0.0.1:{free_port()}"
        self.api = f"http://{api}"
        self._file = folder / f"{name}.yml"
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        login = {"username": "postgres", "password": "secret"}
        settings: dict[str, Any] = {
            "scope": "bots",
            "name": name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"host": f"127.0.0.1:{etcd_port}"},
            "bootstrap": {
                "dcs": SETTINGS | {"postgresql": {"parameters": PARAMETERS}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self._folder),
                "bin_dir": str(server_programs()),
                "pgpass": str(folder / f"{name}.pgpass"),
                "authentication": {"superuser": login, "replication": login},
                "pg_hba": [
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
            },
        }
        self._file.write_text(json.dumps(settings))  # which is YAML, too

    @property
    def url(self) -> str:
        """Return the URL of its maintenance database, as a superuser."""
        return url_of(self)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["patroni", self._file],
                cwd=self._file.parent,
                stdout=log,
                stderr=log,
                **unprivileged(),
            )

    def has_role(self, role: str) -> bool:
        """Return whether Patroni answers and says that this is the node's role.

        Roles: `primary`, `replica`, `synchronous`.
        """
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with suppress(OSError), urlopen(f"{self.api}/{role}", timeout=5):
            return True
        return False

    def kill(self) -> None:
        """Kill Patroni and PostgreSQL, as when a machine fails."""
        if self._process is not None:
            kill_with_children(self._process.pid)
            self._process.wait()
            self._process = None
        postmaster = self._folder / "postmaster.pid"
        if postmaster.exists():
            pid = int(postmaster.read_text().split()[0])
            with suppress(ProcessLookupError):  # the file may be that of one killed before
                kill_with_children(pid)


class Cluster:
    """The nodes and their etcd."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._etcd_port = free_port()
        self._etcd: subprocess.Popen[bytes] | None = None
        self.nodes = [Node(name, folder, self._etcd_port) for name in ("one", "two")]

    def start(self) -> None:
        """Start, and return when the first node is the primary and the second its standby."""
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, free_port()))
        options = {
            "data-dir": str(self._folder / "etcd"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        command = ["etcd", "--unsafe-no-fsync"]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (self._folder / "etcd.log").open("ab") as log:
            self._etcd = subprocess.Popen(command, stdout=log, stderr=log, **unprivileged())
        for node, role in zip(self.nodes, ("primary", "synchronous"), strict=True):
            node.start()
            wait_until(partial(node.has_role, role), STARTING)

    def switch_over(self) -> None:
        """Let the nodes exchange their roles, as before the maintenance of a machine."""
        one, two = self.nodes
        order = json.dumps({"leader": one.name, "candidate": two.name}).encode()
        with urlopen(Request(f"{one.api}/switchover", order), timeout=STARTING):
            pass
        wait_until(lambda: two.has_role("primary") and one.has_role("replica"), STARTING)

    def url(self) -> str:
        return url_of(*self.nodes)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A primary with its standby, which take over from each other by themselves."""
    if not all(map(shutil.which, ("patroni", "etcd"))):
        pytest.skip("no Patroni or etcd; install Debian's packages 'patroni' and 'etcd-server'")
    with TemporaryDirectory() as name:
        folder = Path(name)
        if IS_ROOT:
            os.chown(folder, NOBODY, NOBODY)
        servers = Cluster(folder)
        try:
            servers.start()
            yield servers
        finally:
            servers.kill()
