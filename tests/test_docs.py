"""The promises of the documentation name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
GUARANTEES = (TESTS.parent / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_every_promise_names_a_test_that_exists() -> None:
    written = "\n".join(file.read_text(encoding="utf-8") for file in TESTS.glob("test_*.py"))
    defined = set(re.findall(r"^ *def (test_\w+)", written, re.MULTILINE))
    promised = set(re.findall(r"`(test_\w+)`", GUARANTEES))
    assert len(promised) > 25
    assert promised - defined == set()
    rows = re.findall(r"^\| [A-Z].*\|$", GUARANTEES, re.MULTILINE)
    assert [row for row in rows if "`test_" not in row] == []
