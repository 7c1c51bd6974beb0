"""The file is read as it is by other tools, as docs/other_tools.md shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "other_tools.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
ID = re.compile(r"\b[0-9a-f]{32}\b")


@pytest.fixture(autouse=True)
def _beside_the_paper_bot(paper_run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paper_run[0].parent)


@pytest.mark.parametrize("place", [n for n, (kind, _) in enumerate(BLOCKS) if kind == "python"])
def test_in_python(place: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(BLOCKS[place][1], {})
    assert ("text", capsys.readouterr().out) == BLOCKS[place + 1]


def test_with_datasette() -> None:
    [console] = [code for kind, code in BLOCKS if kind == "console"]
    line, _, expected = console.removeprefix("$ ").partition("\n")
    program, *arguments = shlex.split(line)
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ID.sub("ID", done.stdout).split() == ID.sub("ID", expected).split()
