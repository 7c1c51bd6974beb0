"""The one thread that reads the database, for all pages and all requests."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import peewee

from ..backends.change_marker import ChangeMarker
from ..bootstrap import init_db
from ..config import Config
from ..database import close_db, db
from ..errors import BotMemoryError, ValidationError

T = TypeVar("T")

FAILURES = (BotMemoryError, peewee.PeeweeException, OSError)
LARGEST_SHARE = 0.2  # of the time that is spent on reading for the page
HEARTBEAT = 15.0  # seconds; proxies close a connection that is silent for longer
RECONNECT = 1000  # milliseconds after which a browser connects again
MAX_ANSWERS = 200  # of the API that are kept until the database changes


class Reader:
    """Reads the page again when the database has changed, while somebody looks at it.

    Attributes:
        page: The page that was rendered last; None before the first.
        version: Another text for each page, also after a restart.
        error: Why the database could not be read at the last attempt; None if it could.
        read_at: When the page's rows were read.
    """

    def __init__(self, config: Config, render: Callable[[str], str], every: float) -> None:
        self.page: bytes | None = None
        self.version = ""
        self.error: str | None = None
        self.read_at: datetime | None = None
        self._config, self._render, self._every = config, render, every
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="botmemory-web")
        self._marker: ChangeMarker | None = None
        self._answers: dict[str, bytes] = {}
        self._answers_marker: ChangeMarker | None = None
        self._file: object = None
        self._next_read = 0.0  # on the monotonic clock
        self._streams = 0
        self._news = asyncio.Event()
        self._is_ended = False

    # --- on the thread ----------------------------------------------------------------------

    def _open(self) -> None:
        """Open the database if it is not, or if its file was replaced."""
        if db.obj is None or self._file != _identity():
            close_db()
            init_db(self._config)
            self._file, self._marker, self._answers_marker = _identity(), None, None

    def _read(self, read: Callable[[], T]) -> T:
        try:
            self._open()
            return read()
        except ValidationError:
            raise  # of the request, not of the database
        except FAILURES:
            with suppress(*FAILURES):
                close_db()  # the next one opens it again
            raise

    def _refresh(self) -> None:
        if self.page is not None and time.monotonic() < self._next_read:
            return
        try:
            self._read(self._read_page)
            self.error = None
        except FAILURES as error:
            self.error = str(error)

    def _read_page(self) -> None:
        marker = db.change_marker()
        if self.page is not None and self._marker and self._marker.is_unchanged(marker):
            return
        is_first, started, read_at = self.page is None, time.monotonic(), datetime.now(UTC)
        version = secrets.token_hex(8)
        self.page = self._render(version).encode()
        self.version, self.read_at = version, read_at
        self._marker = marker  # of before: what comes meanwhile is read again
        if not is_first:  # which also loads the template
            ended = time.monotonic()
            self._next_read = ended + (ended - started) * (1 / LARGEST_SHARE - 1)

    def _answer(self, url: str, read: Callable[[], Any]) -> bytes:
        marker = db.change_marker()
        if not (self._answers_marker and self._answers_marker.is_unchanged(marker)):
            self._answers.clear()
            self._answers_marker = marker
        answer = self._answers.get(url)
        if answer is None:
            with db.read_snapshot():
                answer = json.dumps(read(), allow_nan=False, ensure_ascii=False).encode()
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            self._answers[url] = answer
        return answer

    # --- on the event loop ------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read the page again if the database has changed."""
        before = self.version, self.error
        await asyncio.get_running_loop().run_in_executor(self._thread, self._refresh)
        if (self.version, self.error) != before:
            self._tell()

    async def answer(self, url: str, read: Callable[[], Any]) -> bytes:
        """Return what a function reads as JSON; of the same URL that of before, if it holds."""
        call = asyncio.get_running_loop().run_in_executor
        return await call(self._thread, self._read, lambda: self._answer(url, read))

    async def follow(self) -> None:
        """Look for changes while a page is open."""
        while not self._is_ended:
            if self._streams:
                await self.refresh()
            await asyncio.sleep(self._every)

    async def events(self) -> AsyncIterator[str]:
        """Yield an event for each new page or error, beginning with the current one."""
        self._streams += 1
        try:
            yield f"retry: {RECONNECT}\n\n"
            sent = None
            while not self._is_ended:
                news = self._news
                current = self.version, self.error
                yield ": heartbeat\n\n" if sent == current else f"data: {self._event()}\n\n"
                sent = current
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), HEARTBEAT)
        finally:
            self._streams -= 1

    def _event(self) -> str:
        read_at = None if self.read_at is None else self.read_at.isoformat(timespec="seconds")
        return json.dumps({"version": self.version, "error": self.error, "read_at": read_at})

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def end_streams(self) -> None:
        """End the event streams: a server that ends waits for its responses."""
        self._is_ended = True
        self._tell()

    # --- from another thread ----------------------------------------------------------------

    def read_first(self) -> None:
        """Read the first page; raise the error if that fails."""
        self._thread.submit(self._read, self._read_page).result()

    def close(self) -> None:
        """Close the database and end the thread."""
        self._thread.submit(close_db)
        self._thread.shutdown()


def _identity() -> object:
    """Return what another file at the path of the database differs by; None for a server."""
    file = db.file
    if file is None:
        return None
    status = file.stat()
    return status.st_dev, status.st_ino
