"""An exception anywhere leaves no lock held, no transaction open and no connection lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from interrupts import OPERATIONS, Report, SqliteFile, Stack, sweep

FEW = {"init_db": 7, "init_db_new": 60}  # of the places, of which these have thousands


@pytest.fixture
def sqlite_file() -> Iterator[SqliteFile]:
    """A folder in memory where there is one: each attempt opens and closes files."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield SqliteFile(Path(folder))


@pytest.fixture(scope="module")
def tried() -> set[Stack]:
    return set()


def require_clean(report: Report) -> None:
    assert report.tried
    if report.failures:
        pytest.fail(str(report), pytrace=False)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_sqlite_operation_interrupted_leaves_nothing(
    operation: str, sqlite_file: SqliteFile, tried: set[Stack]
) -> None:
    require_clean(sweep(operation, sqlite_file, tried=tried, every=FEW.get(operation, 1)))


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
def test_sqlite_operation_interrupted_anywhere_leaves_nothing(
    operation: str, sqlite_file: SqliteFile
) -> None:
    every = FEW.get(operation, 1)
    require_clean(sweep(operation, sqlite_file, every=every, all_kinds=every == 1))
