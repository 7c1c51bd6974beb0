"""Bots in several processes that buy if flat and sell if long, audited afterwards."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from key_traders import prepare, violations
from paths import TESTS
from programs import start_program

from botmemory import close_db

PROGRAM = f"""
import sys
sys.path.insert(0, {str(TESTS / "support")!r})
from key_traders import main
main(*sys.argv[1:])
"""
PROCESSES = 6


def audit(target: str, seconds: float, *modes: str, locks: str = "all") -> Counter[str]:
    """Run a program for each mode and return what the auditor has counted."""
    prepare(target)
    close_db()
    with ExitStack() as stack:
        running = [
            stack.enter_context(start_program(PROGRAM, target, mode, locks, seconds))
            for mode in modes
        ]
        for process in running:
            _, errors = process.communicate(timeout=seconds + 60)
            assert process.returncode == 0, errors
    found = violations(target)
    print(found, file=sys.stderr)
    return found


def require_none(found: Counter[str]) -> None:
    assert found.pop("trades") > 40
    assert not +found


def test_bots_with_and_without_keys_never_buy_twice(target: str) -> None:
    require_none(audit(target, 3, *["keys"] * 3, *["mixed"] * 2, "scope"))


def test_the_auditor_finds_what_happens_without_locks(new_database: Callable[[], str]) -> None:
    found = audit(new_database(), 2, *["mixed"] * PROCESSES, locks="none")
    kinds = ("numbers given twice", "two in a row", "reads that differ")
    assert all(found[kind] > 2 for kind in kinds), found


def test_the_auditor_finds_changes_without_locks_between_two_reads(
    new_database: Callable[[], str],
) -> None:
    found = audit(new_database(), 2, *["mixed"] * PROCESSES, locks="of blocks")
    assert found["reads that differ"] > 0, found


@pytest.mark.long
@pytest.mark.parametrize(
    "modes",
    [
        ["keys"] * PROCESSES,
        ["scope"] * PROCESSES,
        ["mixed"] * PROCESSES,
        ["keys"] * 5 + ["scope"],
        ["scope"] * 5 + ["keys"],
        ["keys", "mixed", "scope"] * 2,
    ],
    ids=lambda modes: " ".join(modes),
)
def test_bots_in_any_combination_never_buy_twice(modes: list[str], target: str) -> None:
    require_none(audit(target, 20, *modes))
