"""The SQL and the commands of docs/postgresql.md, ready to be run."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "postgresql.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def sql(title: str) -> str:
    """Return the SQL block that begins with this comment."""
    [block] = [code for kind, code in BLOCKS if kind == "sql" and code.startswith(f"-- {title}\n")]
    return block


def commands(kind: str) -> str:
    """Return the one block of this kind."""
    [block] = [code for other, code in BLOCKS if other == kind]
    return block
