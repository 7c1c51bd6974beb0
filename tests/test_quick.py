"""What `pytest -m quick` promises: its tests start nothing and open no file, or they fail."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from paths import VERSION_0001
from quick import is_quick

fails = pytest.mark.xfail(raises=pytest.fail.Exception, strict=True)


@fails
def test_a_quick_test_that_starts_a_program_fails() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


@fails
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_quick_test_that_forks_fails() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@fails
def test_a_quick_test_that_opens_a_database_file_fails() -> None:
    with closing(sqlite3.connect(f"file:{VERSION_0001}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT 1")


@pytest.mark.usefixtures("empty_database")
def test_of_the_backends_only_memory_is_quick(request: pytest.FixtureRequest) -> None:
    assert is_quick(request.node) == request.node.name.endswith("[memory]")


@pytest.mark.usefixtures("path")
def test_a_test_with_a_file_is_not_quick(request: pytest.FixtureRequest) -> None:
    assert not is_quick(request.node)


@pytest.mark.usefixtures("new_database")
def test_a_test_with_a_server_is_not_quick(request: pytest.FixtureRequest) -> None:
    assert not is_quick(request.node)
