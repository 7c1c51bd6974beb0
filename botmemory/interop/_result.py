"""What became of the rows of an import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["ImportResult", "RowIssue"]


@dataclass(frozen=True)
class RowIssue:
    """One row that was not taken, or not taken whole: where it stood, why, and the row itself."""

    index: int
    reason: str
    row: Any


@dataclass(frozen=True)
class ImportResult:
    """How many rows were recorded and how many were there already, and what needs a look.

    - `rejected`: the rows that were not recorded, of a file at most the first thousand.
    - `rejected_count`: how many there were.
    - `warnings`: the rows that were recorded but hold something that a trade has no column for; it
      is in the trade's metadata.
    """

    created: int
    skipped: int
    rejected: list[RowIssue] = field(default_factory=list)
    warnings: list[RowIssue] = field(default_factory=list)
    rejected_count: int = 0
