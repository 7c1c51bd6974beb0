"""Any one system call on the files may fail: the error has a name, and the database goes on.

What was refused is not stored, what was acknowledged is, the same handle and other processes work
afterwards, and no unfinished file stays. `faults/failing_calls.py` says what runs and what is
looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from paths import FAULTS
from processes import needs_fork, needs_proc, syscalls

__all__ = ["syscalls"]

pytestmark = [needs_fork, needs_proc]

DRIVER = FAULTS / "failing_calls.py"
POINTS = "2"  # of each operation, in the short run
PARTS = 4  # of each operation in the long run, so that no worker is left alone with the longest
OPERATIONS = [
    "record",
    "record in a scope",
    "record many",
    "record by model",
    "record in a thread",
    "read",
    "read in a thread",
    "open",
    "open new",
    "open to read",
    "close",
    "backup",
    "restore",
    "migrate",
    "status",
    "plan",
    "copy",
    "export",
    "import",
    "import from freqtrade",
    "check",
    "settings",
]


def reports(library: Path, folder: Path, count: str, *operations: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(folder), count, *operations],
        env=os.environ | {"LD_PRELOAD": str(library)},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(found: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong, a line for each point."""
    return [
        f"{report['operation']}: {report.get('failed')} failed with {report.get('error')} "
        f"at {report.get('where')}: {report.get('raised')}: {'; '.join(report['wrong'])}"
        for report in found
        if report["wrong"]
    ]


@pytest.fixture(scope="module")
def sample(
    syscalls: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    all_reports = reports(syscalls, tmp_path_factory.mktemp("sample"), POINTS, *OPERATIONS)
    return {
        name: [report for report in all_reports if report["operation"] == name]
        for name in OPERATIONS
    }


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_system_call_fails(sample: dict[str, list[dict[str, Any]]], operation: str) -> None:
    found = sample[operation]
    assert len(found) == 1 + int(POINTS)
    assert all(report["failed"] for report in found[1:])
    assert wrong(found) == []


@pytest.mark.long
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_each_system_call_fails(
    syscalls: Path, memory_path: Path, operation: str, part: int
) -> None:
    all_reports = reports(syscalls, memory_path / "each", f"each {part}/{PARTS}", operation)
    assert len(all_reports) == 1 + len(range(part, all_reports[0]["calls"] + 1, PARTS))
    assert wrong(all_reports) == []


def test_the_driver_sees_the_calls_and_the_errors(
    sample: dict[str, list[dict[str, Any]]],
) -> None:
    """A library that was not loaded, or names that no longer fit, would let everything pass."""
    every = [report for found in sample.values() for report in found]
    calls = {name: found[0]["calls"] for name, found in sample.items()}
    assert min(calls.values()) >= 5, calls
    assert sum(1 for report in every if report["raised"]) > len(every) / 4
    assert calls["backup"] > 100
