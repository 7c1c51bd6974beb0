"""Which tests are quick: `pytest -m quick` runs those that need nothing but this process.

A test is quick where no fixture gives it a folder, a server or a program, unless it is marked
`processes`. One that starts a process or opens a database file all the same fails.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import Any

import pytest

FIXTURES_OF_SLOW_TESTS = {"memory_path", "open_folder", "server", "tmp_path", "tmp_path_factory"}
STARTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}


def is_quick(item: pytest.Item) -> bool:
    """Return whether the test needs nothing but this process, going by its fixtures and marks."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return (
        FIXTURES_OF_SLOW_TESTS.isdisjoint(getattr(item, "fixturenames", ()))
        and parameters.get("shared_database", "memory") == "memory"
        and not any(item.get_closest_marker(name) for name in ("long", "processes"))
    )


class Watch:
    """Hears of the processes that this process starts, and of the database files it opens."""

    def __init__(self) -> None:
        self._installed = False
        self._listens = False
        self.heard: list[str] = []

    def start(self) -> None:
        if not self._installed:  # for good: Python has no way to take it back
            sys.addaudithook(self._hear)
            self._installed = True
        self.heard.clear()
        self._listens = True

    def stop(self) -> None:
        self._listens = False

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._listens:
            return
        if event in STARTS:
            self.heard.append(event)
        elif event == "sqlite3.connect" and arguments[0] not in ("", ":memory:"):
            self.heard.append(f"{event} {arguments[0]}")


watch = Watch()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("quick"):
        watch.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    yield
    if item.get_closest_marker("quick") and watch.heard:
        pytest.fail(f"a quick test did more than that: {', '.join(watch.heard)}", pytrace=False)


def pytest_runtest_teardown() -> None:
    watch.stop()
