"""The promises of the documentation name tests that exist, and its sums are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
SUMS = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_sums_are_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", SUMS, re.MULTILINE | re.DOTALL)
    [output] = re.findall(r"^```text\n(.*?)^```$", SUMS, re.MULTILINE | re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", page.read_text(encoding="utf-8")):
        name, _, part = target.partition("#")
        file = page.parent / name if name else page
        assert file.is_file(), target
        text = file.read_text(encoding="utf-8") if file.suffix == ".md" else ""
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in headings}
        assert not part or part in anchors, target


def test_a_memory_can_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.sums", str(tmp_path / "bot.db")]
    quick = ["--rows", "500", "--seconds", "0.1", "--bots", "2"]
    done = subprocess.run([*command, *quick], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(r"^bytes a trade +\d+$", done.stdout, re.MULTILINE)
    assert re.search(r"^read, then record +[\d,]+ +[\d,]+$", done.stdout, re.MULTILINE)


def test_every_promise_names_a_test_that_exists() -> None:
    written = "\n".join(file.read_text(encoding="utf-8") for file in TESTS.glob("test_*.py"))
    defined = set(re.findall(r"^ *def (test_\w+)", written, re.MULTILINE))
    promised = set(re.findall(r"`(test_\w+)`", GUARANTEES))
    assert len(promised) > 25
    assert promised - defined == set()
    rows = re.findall(r"^\| [A-Z].*\|$", GUARANTEES, re.MULTILINE)
    assert [row for row in rows if "`test_" not in row] == []
