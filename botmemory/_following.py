"""A database that this process only reads, while others record in it, replace or migrate it."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import peewee

from .backends.change_marker import ChangeMarker
from .bootstrap import init_db
from .config import Config
from .database import close_db, db
from .errors import BotMemoryError
from .models import BaseModel, Signal, Trade
from .queries import read
from .symbols import quote_of

Row = TypeVar("Row", bound=BaseModel)

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
        is_wanted: Whether the thread that looks waits for that, to open the database again.
    """

    def __init__(self, config: Config) -> None:
        self._config = replace(
            config,
            read_only=True,
            call_timeout=CALL_TIMEOUT,
            busy_timeout=BUSY_TIMEOUT,
            pool_size=max(2, config.pool_size),  # for two threads
        )
        self.in_use = threading.Lock()
        self.is_wanted = False
        self._opened = 0
        self._file: object = None

    def look(self) -> Version:
        """Return what the database holds now; open it if that is needed."""
        # of before it is opened: it may be replaced meanwhile
        file = _identity(self._config)
        if db.obj is None or self.is_wanted or self._file != file:
            self.is_wanted = True
            with self.in_use:
                close_db()
                init_db(self._config)
                self._file, self.is_wanted = file, False
            self._opened += 1
        return Version(self._opened, db.change_marker())

    def open_again(self) -> None:
        """Have the database opened again: what failed may need it, as after a migration."""
        self.is_wanted = True

    def close(self) -> None:
        with suppress(*FAILURES):
            close_db()


def _identity(config: Config) -> object:
    """Return what another file at the path of a database differs by; None for a server."""
    if config.backend != "sqlite":
        return None
    try:
        status = Path(config.sqlite_path).stat()
    except OSError:  # which is said when it is opened
        return None
    return status.st_dev, status.st_ino


def latest(
    filters: dict[str, Any], quote: str | None, limit: int
) -> tuple[list[Trade], list[Signal]]:
    """Return the latest trades and signals that match the filters of an analysis, newest first.

    `quote` is the quote currency of their symbols; "" of those that name none, None of all.
    """
    of_signals = {name: value for name, value in filters.items() if name != "exchange"}
    return (
        _latest(Trade, read.filters(Trade, **filters), quote, limit),
        _latest(Signal, read.filters(Signal, **of_signals), quote, limit),
    )


def _latest(model: type[Row], filters: dict[str, Any], quote: str | None, limit: int) -> list[Row]:
    if quote is None:
        return read.newest_first(model, filters, limit)
    symbols = read.distinct(model, "symbol", filters)
    wanted = [symbol for symbol in symbols if (quote_of(symbol) or "") == quote]
    query = read.select_where(model, filters, model._meta.fields["symbol"].in_(wanted))
    return read.fetch(query.limit(limit), filters)
