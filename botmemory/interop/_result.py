"""What became of the rows of an import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["ImportResult", "Noted"]


@dataclass(frozen=True)
class Noted:
    """One row that was not taken, or not taken whole: where it stood, why, and the row itself."""

    index: int
    reason: str
    row: Any


@dataclass(frozen=True)
class ImportResult:
    """How many rows were recorded and how many were there already, and what needs a look.

    - `rejected`: the rows that were not recorded, of a file at most the first thousand; `refused`:
      how many there were.
    - `remarks`: the rows that were, but hold something that a trade has no column for; it is in the
      trade's metadata.
    """

    created: int
    skipped: int
    rejected: list[Noted] = field(default_factory=list)
    remarks: list[Noted] = field(default_factory=list)
    refused: int = 0
