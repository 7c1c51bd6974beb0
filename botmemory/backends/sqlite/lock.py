"""The write lock between processes: a lock on a file of its own, waited for without a thread."""

from __future__ import annotations

import errno
import io
import os
import struct
import time
from collections.abc import Callable
from functools import partial

try:
    import fcntl
except ImportError:  # a platform without flock: SQLite's own waiting is all there is
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileLock"]

# the system says with one of these that the file system has no locks
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
_TRIES_PER_WAIT = (0.0001, 0.001)  # seconds between tries of who is next: the first, the longest
_SHARE = 0.005  # seconds for which a writer may take the lock again before it looks for others
_nothing: Callable[[], object] = bool  # a call into C that does nothing
_NEXT_BYTE: tuple[bytes, bytes] | None = None  # what locks and unlocks the place of who is next
if hasattr(fcntl, "F_OFD_SETLK"):
    _LAYOUT = "hhqqi0q"  # struct flock: type, whence, start, length, pid
    _NEXT_BYTE = (
        struct.pack(_LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0),
        struct.pack(_LAYOUT, fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0),
    )


class FileLock:
    """An advisory lock on a file; each thread has an object of its own, no two hold it at once.

    The file is made when it is missing, with the mode and the owner of the file `like`, and stays.
    Waiting is trying again and again, because `flock` has no time limit and a thread that waits in
    it cannot be ended; it costs neither a thread nor a descriptor and works in a greenlet. Whoever
    waits first takes the place of who is next, and a writer that goes on and on lets that one go
    first. `problem` says why nothing is locked, where that is so.
    """

    # also of an object that an interrupt has left half made
    _opened: io.FileIO | None = None
    _file: int | None = None

    def __init__(self, path: str, like: str | None = None) -> None:
        self.path = path
        self.problem: str | None = None
        self.waited = 0.0  # seconds, by the last acquire
        self._looked_at = 0.0  # when this writer last looked for others
        self._queues = _NEXT_BYTE is not None
        # one call into C, without a Python function around it: an interrupt cannot come between
        self.release: Callable[[], object] = _nothing
        if fcntl is None:
            self.problem = "this platform has no flock"
            return
        self._open()
        if self._file is not None:
            if like is not None:
                _share(self._file, like)
            self.release = partial(fcntl.flock, self._file, fcntl.LOCK_UN)

    def acquire(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the lock and return whether it is held now.

        Raises `OSError` for what the system reports. An interrupt may leave it held: `release`
        does no harm where it is not.
        """
        self.waited = 0.0
        if self._file is None:
            return True
        now = time.monotonic()
        if now - self._looked_at < _SHARE and self._try(self._file):
            return True
        return self._in_turn(self._file, now, timeout)

    def close(self) -> None:
        """Close the file; the lock goes with it."""
        self._file, self.release = None, _nothing
        if self._opened is not None:
            try:  # noqa: SIM105
                self._opened.close()
            except OSError:
                pass  # it is closed all the same, and the lock is gone with it

    def __del__(self) -> None:
        self.close()

    def _open(self) -> None:
        try:
            # a file object: an interrupt that loses it closes it, and would leave a number open
            self._opened = io.FileIO(self.path, "a+b", opener=partial(os.open, mode=0o600))
            self._file = self._opened.fileno()
        except PermissionError as error:
            self._queues = False
            try:
                self._opened = io.FileIO(self.path, "rb")  # enough for flock
                self._file = self._opened.fileno()
            except PermissionError:
                self.problem = f"{self.path}: cannot be opened ({error.strerror})"

    def _in_turn(self, file: int, began: float, timeout: float) -> bool:
        deadline = began + timeout
        leave = _nothing
        if self._queues and _NEXT_BYTE is not None:
            leave = partial(fcntl.fcntl, file, fcntl.F_OFD_SETLK, _NEXT_BYTE[1])
        try:
            while not self._try_next(file):
                # who has waited longer tries more often
                if not _pause(0.005 / (1.0 + self.waited), deadline):
                    return False
                self.waited = time.monotonic() - began
            pause, longest = _TRIES_PER_WAIT
            while not self._try(file):
                if not _pause(pause, deadline):
                    return False
                pause = min(2 * pause, longest)
        finally:
            leave()
            self._looked_at = time.monotonic()
            self.waited = self._looked_at - began
        return True

    def _try(self, file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.problem = f"{self.path}: the file system has no locks ({error.strerror})"
        return True

    def _try_next(self, file: int) -> bool:
        if self._queues and _NEXT_BYTE is not None:
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _NEXT_BYTE[0])
            except BlockingIOError:
                return False
            except OSError:
                self._queues = False  # this file system has no such locks: unfair, but correct
        return True


def _pause(seconds: float, deadline: float) -> bool:
    """Sleep, but not beyond the deadline; return whether there was time left for it."""
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    time.sleep(min(seconds, left))
    return True


def _share(file: int, like: str) -> None:
    """Let everybody use the lock who may write the database, also where root has made it."""
    try:
        wanted, has = os.stat(like), os.fstat(file)  # noqa: PTH116
        if wanted.st_mode & 0o666 != has.st_mode & 0o777:
            os.fchmod(file, wanted.st_mode & 0o666)
        if (wanted.st_uid, wanted.st_gid) != (has.st_uid, has.st_gid):
            os.fchown(file, wanted.st_uid, wanted.st_gid)
    except OSError:
        return  # only the owner and root may
