"""The result of an import."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RowIssue:
    """A row that was rejected, or recorded with a warning.

    Attributes:
        index: The number of its line in a file, its index in a list, or its id in the database
            of another program.
        reason: Why, and what to do.
        row: The row as it was read.
    """

    index: int
    reason: str
    row: Any


@dataclass(frozen=True)
class Conflict(RowIssue):
    """A row with the id of a recorded one, but with other content.

    Attributes:
        recorded: The recorded row as it was found, by the names of the fields.
    """

    recorded: dict[str, Any]


@dataclass(frozen=True)
class ImportResult:
    """What an import has done.

    Attributes:
        created: The number of rows that were recorded.
        skipped: The number of rows that already existed.
        rejected: The rows that were not recorded; of a file the first thousand of them.
        warnings: The rows that were recorded with a value that was derived, or that is only in the
            metadata.
        rejected_count: The number of rows that were not recorded.
        left_out: The number of rows that are recorded by another function, not completed yet, or
            no trades.
        conflicts: The rows whose id is recorded with other content; of a file the first thousand
            of them. The reason says what was done with them.
        conflict_count: The number of such rows.
        preview: The first rows as they would be recorded, of a file that was read with `dry_run`.
        flows_created: The number of cash flows that were recorded beside trades.
        flows_skipped: The number of those that already existed.
    """

    created: int
    skipped: int
    rejected: list[RowIssue] = field(default_factory=list)
    warnings: list[RowIssue] = field(default_factory=list)
    rejected_count: int = 0
    left_out: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    conflict_count: int = 0
    preview: list[dict[str, Any]] = field(default_factory=list)
    flows_created: int = 0
    flows_skipped: int = 0


@dataclass
class Outcome:
    """What became of the rows of an import so far.

    Attributes:
        counts: The number of trades by whether they are new.
        flow_counts: Likewise of cash flows.
    """

    counts: Counter[bool] = field(default_factory=Counter)
    flow_counts: Counter[bool] = field(default_factory=Counter)
    rejected: list[RowIssue] = field(default_factory=list)
    warnings: list[RowIssue] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)

    def result(self, left_out: int = 0) -> ImportResult:
        return ImportResult(
            self.counts[True],
            self.counts[False],
            self.rejected,
            self.warnings,
            len(self.rejected),
            left_out,
            self.conflicts,
            len(self.conflicts),
            flows_created=self.flow_counts[True],
            flows_skipped=self.flow_counts[False],
        )
