"""What shows whether a database was changed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple


class ChangeMarker(NamedTuple):
    """While `version` stays equal, for one `cache`, no row is changed or removed."""

    version: Hashable
    is_committed: bool  # if not, this thread's transaction has changed rows and may roll back
    cache: dict[Hashable, Any]  # for results that hold until something changes

    def is_unchanged(self, later: ChangeMarker | None) -> bool:
        """Return whether nothing was changed or removed until a later marker was made."""
        return (
            later is not None
            and (later.version, later.is_committed) == (self.version, self.is_committed)
            and later.cache is self.cache
        )
