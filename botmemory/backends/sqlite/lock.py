"""The write lock between processes: an advisory lock on a file, acquired without a thread."""

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
except ImportError:  # without flock only SQLite's own locks remain
    fcntl = None  # type: ignore[assignment]

# the errors of a file system without locks
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.001  # seconds between attempts of the first in line
_REACQUIRE_FREELY = 0.005  # seconds in which a writer may skip the queue after it has queued
_nothing: Callable[[], object] = bool  # a call into C that does nothing
_QUEUE_LOCK: tuple[bytes, bytes] | None = None  # requests that lock and unlock the queue's byte
if hasattr(fcntl, "F_OFD_SETLK"):
    _LAYOUT = "hhqqi0q"  # struct flock: type, whence, start, length, pid
    _QUEUE_LOCK = (
        struct.pack(_LAYOUT, fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0),
        struct.pack(_LAYOUT, fcntl.F_UNLCK, os.SEEK_SET, 0, 1, 0),
    )


class FileLock:
    """An exclusive advisory lock on a file; each thread has an object of its own.

    The file is created if it is missing, with the mode and the owner of the file `like`, and is
    never deleted. `acquire` polls, because `flock` has no time limit and a thread that waits in it
    cannot be ended; polling needs no thread and no descriptor and works in a greenlet. The first
    one to wait holds a second lock, on a byte of the file, so that a writer that writes without
    pause queues behind it. `problem` says why nothing is locked; None if the lock works.
    """

    # defaults for `__del__`: an interrupt may end `__init__` early
    _opened: io.FileIO | None = None
    _file: int | None = None

    def __init__(self, path: str, like: str | None = None) -> None:
        self.path = path
        self.problem: str | None = None
        self.waited = 0.0  # seconds, by the last acquire
        self._queued_at = 0.0  # when this writer last queued
        self._queues = _QUEUE_LOCK is not None
        # one call into C, without a Python function around it: no interrupt can be raised in it
        self.release: Callable[[], object] = _nothing
        if fcntl is None:
            self.problem = "this platform has no flock"
            return
        self._open()
        if self._file is not None:
            if like is not None:
                _copy_permissions(self._file, like)
            self.release = partial(fcntl.flock, self._file, fcntl.LOCK_UN)

    def acquire(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the lock and return whether it is held now.

        An interrupt may leave it held, so call `release` also then; it does nothing if the lock is
        not held.
        """
        self.waited = 0.0
        if self._file is None:
            return True
        now = time.monotonic()
        if now - self._queued_at < _REACQUIRE_FREELY and self._try(self._file):
            return True
        return self._acquire_in_queue(self._file, now, timeout)

    def close(self) -> None:
        """Close the file; the lock goes with it."""
        self._file, self.release = None, _nothing
        if self._opened is not None:
            try:  # noqa: SIM105
                self._opened.close()
            except OSError:
                pass  # it is closed all the same, and the lock released

    def __del__(self) -> None:
        self.close()

    def _open(self) -> None:
        try:
            # a file object: unlike a descriptor, it is closed when an interrupt drops it
            self._opened = io.FileIO(self.path, "a+b", opener=partial(os.open, mode=0o600))
            self._file = self._opened.fileno()
        except PermissionError as error:
            self._queues = False
            try:
                self._opened = io.FileIO(self.path, "rb")  # enough for flock
                self._file = self._opened.fileno()
            except PermissionError:
                self.problem = f"{self.path}: cannot be opened ({error.strerror})"

    def _acquire_in_queue(self, file: int, began: float, timeout: float) -> bool:
        deadline = began + timeout
        leave_queue = _nothing
        if self._queues and _QUEUE_LOCK is not None:
            leave_queue = partial(fcntl.fcntl, file, fcntl.F_OFD_SETLK, _QUEUE_LOCK[1])
        try:
            while not self._try_queue(file):
                # the longer the wait, the more often it tries
                if not _pause(0.005 / (1.0 + self.waited), deadline):
                    return False
                self.waited = time.monotonic() - began
            pause = _SHORTEST_PAUSE
            while not self._try(file):
                if not _pause(pause, deadline):
                    return False
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            leave_queue()
            self._queued_at = time.monotonic()
            self.waited = self._queued_at - began
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

    def _try_queue(self, file: int) -> bool:
        if self._queues and _QUEUE_LOCK is not None:
            try:
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _QUEUE_LOCK[0])
            except BlockingIOError:
                return False
            except OSError:
                self._queues = False  # no such locks on this file system: correct, but not fair
        return True


def _pause(seconds: float, deadline: float) -> bool:
    """Sleep, but not beyond the deadline; return whether it had not passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    time.sleep(min(seconds, left))
    return True


def _copy_permissions(file: int, like: str) -> None:
    """Let each user who may write the database use the lock, also if root has created it."""
    try:
        database, lock = os.stat(like), os.fstat(file)  # noqa: PTH116
        if database.st_mode & 0o666 != lock.st_mode & 0o777:
            os.fchmod(file, database.st_mode & 0o666)
        if (database.st_uid, database.st_gid) != (lock.st_uid, lock.st_gid):
            os.fchown(file, database.st_uid, database.st_gid)
    except OSError:
        return  # only the owner and root may do so
