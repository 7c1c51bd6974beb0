"""A database that this process only reads, while others record in it, replace or migrate it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import peewee

from .backends.change_marker import ChangeMarker
from .bootstrap import init_db
from .config import Config
from .database import close_db, db
from .errors import BotMemoryError
from .models import BaseModel
from .queries import read
from .symbols import quote_of

FAILURES = (BotMemoryError, peewee.PeeweeException, OSError)
# seconds for which what is shown may stand still: a server does not answer, or a file is locked
CALL_TIMEOUT, BUSY_TIMEOUT = 10.0, 2.0


@dataclass(frozen=True)
class Version:
    """What a database held when it was looked at."""

    opened: int  # how often the database had been opened
    marker: ChangeMarker | None

    def is_unchanged(self, later: Version) -> bool:
        """Return whether nothing was changed until a later version, by the same thread."""
        if self.marker is None or later.marker is None or self.opened != later.opened:
            return False
        # the connections of a pool have markers that can be compared
        return self.marker[:2] == later.marker[:2]


class FollowedDatabase:
    """Opens the database of this process again after a failure, or when its file was replaced.

    Attributes:
        in_use: Held by another thread while it reads, so that the database stays open.
    """

    def __init__(self, config: Config) -> None:
        self._config = replace(
            config, read_only=True, call_timeout=CALL_TIMEOUT, busy_timeout=BUSY_TIMEOUT
        )
        self.in_use = threading.Lock()
        self._opened = 0
        self._file: object = None
        self._has_failed = False

    def look(self) -> Version:
        """Return what the database holds now; open it if that is needed."""
        if db.obj is None or self._has_failed or self._file != _identity():
            with self.in_use:
                close_db()
                init_db(self._config)
            self._file, self._has_failed = _identity(), False
            self._opened += 1
        return Version(self._opened, db.change_marker())

    def open_again(self) -> None:
        """Have the database opened again: what failed may need it, as after a migration."""
        self._has_failed = True

    def close(self) -> None:
        with suppress(*FAILURES):
            close_db()


def _identity() -> object:
    """Return what another file at the path of the database differs by; None for a server."""
    file = db.current().file
    if file is None:
        return None
    status = file.stat()
    return status.st_dev, status.st_ino


def latest_rows(
    model: type[BaseModel], filters: dict[str, Any], quote: str | None, limit: int
) -> list[Any]:
    """Return the latest rows, newest first, of symbols with this quote currency; "" is none."""
    if quote is None:
        return read.newest_first(model, filters, limit)
    symbols = read.distinct(model, "symbol", filters)
    wanted = [symbol for symbol in symbols if (quote_of(symbol) or "") == quote]
    query = read.select_where(model, filters, model._meta.fields["symbol"].in_(wanted))
    return read.fetch(query.limit(limit), filters)
