"""The fenced blocks of README.md and of the pages under docs/, ready to be run."""

from __future__ import annotations

import re
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Block(NamedTuple):
    """A fenced block; `output` is the text block that follows it, or ""."""

    language: str
    code: str
    output: str
    line: int


@cache
def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = list(re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return [
        Block(
            block[1],
            block[2],
            after[2] if after is not None and after[1] == "text" else "",
            text.count("\n", 0, block.start()) + 1,
        )
        for block, after in zip_longest(found, found[1:])
    ]


def code_of(page: str, language: str, begins: str = "") -> str:
    """Return the one block of a page in a language that begins with a text."""
    [code] = [
        block.code
        for block in blocks(ROOT / page)
        if block.language == language and block.code.startswith(begins)
    ]
    return code


def sql(title: str) -> str:
    """Return the SQL of docs/postgresql.md that begins with this comment."""
    return code_of("docs/postgresql.md", "sql", f"-- {title}\n")
