"""What `upkeep.check.check()` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a database: its severity, what it is, what to do."""

    severity: Literal["error", "warning", "info"]
    what: str
    advice: str
