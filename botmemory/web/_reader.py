"""The threads that read the database, for all pages and all requests."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from .._following import FAILURES, FollowedDatabase, Version
from ..config import Config
from ..database import db
from ..errors import ValidationError

T = TypeVar("T")

_log = logging.getLogger("botmemory")

LARGEST_SHARE = 0.2  # of the time of a processor that is spent on each part of the page
PATIENCE = 1.0  # seconds that a request waits for newer charts
SHORTEST_PAUSE = 1.0  # seconds after a failure
HEARTBEAT = 15.0  # seconds; proxies close a connection that is silent for longer
RECONNECT = 1000  # milliseconds after which a browser connects again
MAX_ANSWERS = 200  # of the API that are kept until the database changes

PLACE = '<section id="latest"></section>'  # in the page

Progress = Callable[[int, int], object]


class _EndedError(BaseException):
    """The server ends, or the database is opened again: nobody waits for the charts."""


@dataclass
class _Part:
    """A part of the page as it was read last.

    Attributes:
        text: The part as HTML; None before the first reading.
        id: Another text for each reading that found something new, also after a restart.
        read_at: When its rows were read.
        version: What the database held before they were read.
        error: Why it could not be read at the last attempt; None if it could.
        next_at: When it may be read again, on the monotonic clock.
    """

    text: str | None = None
    id: str = ""
    read_at: datetime | None = None
    version: Version | None = None
    error: str | None = None
    next_at: float = 0.0

    def is_due(self, version: Version) -> bool:
        """Return whether the database has changed, and enough time has passed since the last."""
        is_unchanged = self.version is not None and self.version.is_unchanged(version)
        return not is_unchanged and time.monotonic() >= self.next_at

    def read(self, version: Version, render: Callable[[str], str]) -> None:
        """Read it again; keep what was read before, and the error, if that fails."""
        # of this thread: it also waits while the other one computes
        is_first, started, read_at = self.text is None, time.thread_time(), datetime.now(UTC)
        number = secrets.token_hex(8)
        pause = SHORTEST_PAUSE
        try:
            text = render(number)
            if self.text is None or text.replace(number, self.id) != self.text:
                self.text, self.id = text, number
            self.read_at, self.error = read_at, None
            self.version = version  # of before: what comes meanwhile is read again
            pause = 0.0
        except ValidationError as error:  # such as of a new symbol; the next change may mend it
            self.error, self.version = str(error), version
            raise
        except Exception as error:
            self.error = str(error)
            raise
        finally:
            if not is_first:  # which also loads the templates
                pause = max(pause, (time.thread_time() - started) * (1 / LARGEST_SHARE - 1))
            self.next_at = time.monotonic() + pause


class Reader:
    """Reads what has changed in the database, while somebody looks at the page.

    One thread looks for changes, and reads the first section and what the API answers. Another one
    reads the charts, which takes seconds where there are many trades.
    """

    def __init__(
        self,
        config: Config,
        render_latest: Callable[[str], str],
        render_page: Callable[[str, Progress], str],
        every: float,
    ) -> None:
        self._database = FollowedDatabase(config)
        self._render_latest, self._render_page, self._every = render_latest, render_page, every
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="botmemory-web")
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="botmemory-web-charts")
        self._drawn: Future[None] | None = None
        self._latest, self._charts = _Part(), _Part()
        self._error: str | None = None  # of looking for changes
        self._answers: dict[str, bytes] = {}
        self._answers_version: Version | None = None
        self._streams = 0
        self._told = ""
        self._news = asyncio.Event()
        self._is_ended = False

    # --- on the first thread ----------------------------------------------------------------

    def _read(self, read: Callable[[Version], T]) -> T:
        try:
            return read(self._database.look())
        except ValidationError:
            raise  # of the request, not of the database
        except FAILURES:
            self._database.open_again()
            raise

    def _look(self) -> None:
        try:
            self._read(self._read_changes)
            self._error = None
        except FAILURES as error:
            self._error = str(error)
        except Exception as error:  # of our own: the page goes on with what can be read
            self._error = str(error)
            _log.exception("what was recorded last cannot be shown")

    def _read_changes(self, version: Version) -> None:
        if self._latest.is_due(version):
            self._latest.read(version, self._render_latest)
        if self._charts.is_due(version) and (self._drawn is None or self._drawn.done()):
            self._drawn = self._drawing.submit(self._draw, version)

    def _read_first(self, version: Version) -> None:
        self._latest.read(version, self._render_latest)
        self._read_charts(version)

    def _answer(self, version: Version, url: str, read: Callable[[], Any]) -> bytes:
        if not (self._answers_version and self._answers_version.is_unchanged(version)):
            self._answers.clear()
            self._answers_version = version
        answer = self._answers.get(url)
        if answer is None:
            with db.read_snapshot():
                answer = json.dumps(read(), allow_nan=False, ensure_ascii=False).encode()
            if len(self._answers) >= MAX_ANSWERS:
                self._answers.clear()
            self._answers[url] = answer
        return answer

    # --- on the second thread ---------------------------------------------------------------

    def _draw(self, version: Version) -> None:
        with self._database.in_use:
            if db.obj is None:  # it could not be opened again
                return
            try:
                self._read_charts(version)
            except (ValidationError, _EndedError):
                pass  # the database can be read
            except FAILURES:
                self._database.open_again()
            except Exception:  # of our own, as above
                _log.exception("the charts cannot be shown")
            finally:
                db.close()  # the connection of this thread

    def _read_charts(self, version: Version) -> None:
        self._charts.read(version, lambda number: self._render_page(number, self._go_on))

    def _go_on(self, _done: int, _total: int) -> None:
        if self._is_ended or self._database.is_wanted:
            raise _EndedError

    # --- on the event loop ------------------------------------------------------------------

    @property
    def error(self) -> str | None:
        """Return why something could not be read at the last attempt; None if all could."""
        return self._error or self._latest.error or self._charts.error

    @property
    def latest(self) -> str | None:
        """Return the first section of the page; None if it could not be read yet."""
        return self._latest.text

    async def page(self) -> str | None:
        """Return the page; None if it could not be read yet.

        Newer charts are waited for if they take a moment only.
        """
        await self.refresh()
        if self._drawn is not None:
            patience = None if self._charts.text is None else PATIENCE
            await asyncio.wait([asyncio.wrap_future(self._drawn)], timeout=patience)
        page, latest = self._charts.text, self._latest.text
        return page if page is None or latest is None else page.replace(PLACE, latest, 1)

    async def refresh(self) -> None:
        """Read what has changed in the database; the charts are read meanwhile."""
        await asyncio.get_running_loop().run_in_executor(self._looking, self._look)
        if self._event() != self._told:
            self._tell()

    async def answer(self, url: str, read: Callable[[], Any]) -> bytes:
        """Return what a function reads as JSON; of the same URL that of before, if it holds."""
        call = asyncio.get_running_loop().run_in_executor
        return await call(
            self._looking, self._read, lambda version: self._answer(version, url, read)
        )

    async def follow(self) -> None:
        """Look for changes while a page is open."""
        while not self._is_ended:
            if self._streams:
                await self.refresh()
            await asyncio.sleep(self._every)

    async def events(self) -> AsyncIterator[str]:
        """Yield an event for each change of the page or error, beginning with the current one."""
        self._streams += 1
        try:
            news, sent = self._news, self._event()
            yield f"retry: {RECONNECT}\ndata: {sent}\n\n"
            while not self._is_ended:
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), HEARTBEAT)
                news, current = self._news, self._event()
                yield ": heartbeat\n\n" if sent == current else f"data: {current}\n\n"
                sent = current
        finally:
            self._streams -= 1

    def _event(self) -> str:
        """Return what is shown, and of when it is."""
        times = {"read_at": self._latest.read_at, "charts_read_at": self._charts.read_at}
        return json.dumps(
            {"latest": self._latest.id, "version": self._charts.id, "error": self.error}
            | {name: at and at.isoformat(timespec="seconds") for name, at in times.items()}
        )

    def _tell(self) -> None:
        self._told = self._event()
        news, self._news = self._news, asyncio.Event()
        news.set()

    def end_streams(self) -> None:
        """End the event streams: a server that ends waits for its responses."""
        self._is_ended = True
        self._tell()

    # --- from another thread ----------------------------------------------------------------

    def read_first(self) -> None:
        """Read the first page; raise the error if that fails."""
        self._looking.submit(self._read, self._read_first).result()

    def close(self) -> None:
        """Close the database and end the threads."""
        self._is_ended = True
        self._drawing.shutdown()
        self._looking.submit(self._database.close)
        self._looking.shutdown()
