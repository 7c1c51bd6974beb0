"""The command `serve`, and a database on each backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import Served

Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a database with options of the command."""
    started: list[Served] = []

    def start(target: str, *options: str, **environment: str) -> Served:
        started.append(Served(target, *options, **environment))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture(params=["file", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("new_database")())
    return str(tmp_path / "bot.db")
