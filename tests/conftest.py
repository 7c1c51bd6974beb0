"""The memory every test runs against: one contract, one fixture, every backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import peewee
import pytest

from botmemory import Signal, Trade, close_db, db, init_db


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run each test in an empty folder, and close what it leaves open."""
    monkeypatch.chdir(tmp_path)
    for name in ("DB_PATH", "SYNCHRONOUS", "BUSY_TIMEOUT", "MIGRATE", "READ_ONLY"):
        monkeypatch.delenv(f"BOTMEMORY_{name}", raising=False)
    yield
    close_db()


@pytest.fixture(scope="session", params=["memory", "file"])
def kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[peewee.Database]:
    """One database of each backend, put aside between the tests instead of made again."""
    file = str(tmp_path_factory.mktemp("kept") / "bot.db")
    database = init_db(":memory:" if request.param == "memory" else file)
    db.initialize(None)
    yield database
    database.close()


@pytest.fixture
def memory(kept: peewee.Database) -> Iterator[peewee.Database]:
    """An open memory without rows, on each backend."""
    db.initialize(kept)
    yield kept
    Trade.delete().execute()
    Signal.delete().execute()
    db.initialize(None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file that is not there yet."""
    return tmp_path / "bot.db"
