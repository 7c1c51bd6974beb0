"""The database every test runs against: one contract, one fixture, every backend."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import peewee
import pytest
from accessibility import axe
from hypothesis import HealthCheck, settings
from installed import freqtrade, hummingbot
from paths import ROOT
from pooler import pgbouncer, start_pgbouncer
from processes import IS_ROOT, NOBODY
from quick import (
    is_quick,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
)
from recipes import sql
from replication import pair, pair_of_session
from servers import new_database, restartable, run, server

from botmemory import CashFlow, Signal, State, Trade, close_db, db, init_db
from botmemory.database import close_database

__all__ = ["axe", "freqtrade", "hummingbot", "new_database", "restartable", "server"]  # fixtures
__all__ += ["pair", "pair_of_session", "pgbouncer", "start_pgbouncer"]
__all__ += ["pytest_runtest_call", "pytest_runtest_setup", "pytest_runtest_teardown"]  # hooks

LONG = 1200  # seconds that a test marked `long` may take

# a shell that runs the tests in the background has them ignore it, and every program they start
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# without it, each of the hundreds of programs that the tests start compiles the package again
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "botmemory",
    max_examples=40,
    deadline=None,
    database=None,
    # how long examples take to make depends on what else the machine does
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("botmemory")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_quick(item):
            item.add_marker("quick")
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(LONG))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Share the tests between workers; a choice of them runs in this process, as it starts faster.

    Most tests wait for other processes, so that there are twice as many workers as processors;
    the quick ones only compute.
    """
    option = config.option
    processors = os.cpu_count() or 1
    if config.args != config.getini("testpaths") or option.keyword:
        return 0
    return min(8, processors if option.markexpr == "quick" else 2 * processors)


@pytest.fixture(scope="session", autouse=True)
def _outside(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests away from the checkout, without the machine's settings, and not in UTC."""
    request.getfixturevalue("tmp_path_factory").getbasetemp()  # chosen before the variable below
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # a pytest that a test starts closes the folder of its temporary files to other users; a
        # server in it, which runs as another user, would be lost
        patch.setenv("PYTEST_DEBUG_TEMPROOT", folder)
        patch.setenv("TZ", "America/New_York")
        if hasattr(time, "tzset"):
            time.tzset()
        patch.chdir(folder)
        for name in os.environ:
            if name.startswith("BOTMEMORY_") and not name.startswith("BOTMEMORY_TEST_"):
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close what a test leaves open."""
    yield
    close_db()


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(
    scope="session",
    params=[
        "memory",
        "file",
        "postgresql",
        pytest.param("partitioned", marks=pytest.mark.long),
        pytest.param("pooled", marks=pytest.mark.long),
    ],
)
def shared_database(request: pytest.FixtureRequest) -> Iterator[peewee.Database]:
    """One database of each backend, kept open between the tests."""
    if request.param in ("postgresql", "partitioned", "pooled"):
        target = request.getfixturevalue("new_database")()
        if request.param == "pooled":
            target = request.getfixturevalue("pgbouncer").url(target)
    elif request.param == "file":
        folder = request.getfixturevalue("tmp_path_factory").mktemp("shared")
        target = str(folder / "bot.db")
    else:
        target = ":memory:"
    database = init_db(target)
    if request.param == "partitioned":
        run(target, sql("partitions"))
    db.initialize(None)
    yield database
    close_database(database)


@pytest.fixture
def empty_database(shared_database: peewee.Database) -> Iterator[peewee.Database]:
    """An open database without rows, on each backend."""
    db.initialize(shared_database)
    yield shared_database
    Trade.delete().execute()
    Signal.delete().execute()
    CashFlow.delete().execute()
    State.delete().execute()
    db.initialize(None)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory where there is one: for thousands of files, or waits that no disk adds."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "bot.db"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that a process without root's rights may reach and write."""
    folder = Path(tempfile.mkdtemp())
    if IS_ROOT:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["file", "postgresql"])
def new_target(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[], str]
) -> Callable[[], str]:
    """A function that names a database that is not there yet, on each backend."""
    if request.param == "postgresql":
        return new_database
    numbers = itertools.count()
    return lambda: str(tmp_path / f"{next(numbers)}.db")


@pytest.fixture
def target(new_target: Callable[[], str]) -> str:
    """A database without rows, closed."""
    name = new_target()
    init_db(name)
    close_db()
    return name


@pytest.fixture(scope="session")
def paper_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file and the output of the example, run as the README says."""
    folder = tmp_path_factory.mktemp("paper")
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "paper_bot.py"],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "paper_bot.db", done.stdout
