"""The write lock between processes: an advisory lock on a file, acquired without a thread."""

from __future__ import annotations

import errno
import io
import os
import sys
import time
from contextlib import suppress
from functools import partial

from .file_locks import NOTHING, Lock, queue_lock, write_lock

# the errors of a file system without locks
_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL})
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.001  # seconds between attempts of the first in line
_REACQUIRE_FREELY = 0.005  # seconds in which a writer may skip the queue after it has queued


class FileLock:
    """An exclusive advisory lock on a file; each thread has an object of its own.

    The first `acquire` opens the file. It is created if it is missing, with the mode and the owner
    of the file `like`, and is never deleted. `acquire` polls, because the lock of the operating
    system has no time limit and a thread that waits in it cannot be ended; polling needs no thread
    and no descriptor and works in a greenlet. The first one to wait holds a second lock, so that a
    writer that writes without pause queues behind it. `problem` says why nothing is locked; None if
    the lock works.
    """

    # default for `__del__`: an interrupt may end `__init__` early
    _opened: io.FileIO | None = None

    def __init__(self, path: str, like: str | None = None) -> None:
        self.path = path
        self.problem: str | None = None
        self.waited = 0.0  # seconds, by the last acquire
        self._like = like
        self._queued_at = 0.0  # when this writer last queued
        self._file: int | None = None
        self._write_lock = self._queue_lock = Lock()
        # one call into C, without a Python function around it that an interrupt could end
        self.release = NOTHING

    def open(self) -> int | None:
        """Open the file and return its descriptor; None if there is a problem."""
        if self.problem is not None:
            return None
        try:
            # a file object: unlike a descriptor, it is closed when an interrupt drops it
            opened = io.FileIO(self.path, "a+b", opener=partial(os.open, mode=0o600))
        except PermissionError as error:
            try:
                opened = io.FileIO(self.path, "rb")  # enough for the lock
            except PermissionError:
                self.problem = f"{self.path}: cannot be opened ({error.strerror})"
                return None
        self._opened, file = opened, opened.fileno()
        if self._like is not None:
            _copy_permissions(file, self._like)
        if opened.writable():
            self._queue_lock = queue_lock(file)
        self._write_lock = write_lock(file)
        self.release, self._file = self._write_lock.release, file
        return file

    def acquire(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the lock and return whether it is held now.

        An interrupt may leave it held, so call `release` also then; it does nothing if the lock is
        not held.
        """
        self.waited = 0.0
        file = self.open() if self._file is None else self._file
        if file is None:
            return True
        began = time.perf_counter()
        if began - self._queued_at < _REACQUIRE_FREELY and self._try():
            return True
        deadline = began + timeout
        try:
            while not self._try_queue():
                # the longer the wait, the more often it tries
                if not _pause(0.005 / (1.0 + self.waited), deadline):
                    return False
                self.waited = time.perf_counter() - began
            pause = _SHORTEST_PAUSE
            while not self._try():
                if not _pause(pause, deadline):
                    return False
                pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._queue_lock.release()
            self._queued_at = time.perf_counter()
            self.waited = self._queued_at - began
        return True

    def close(self) -> None:
        """Close the file; the lock goes with it."""
        if sys.platform == "win32" and self._opened is not None:
            self.release()  # Windows itself may do it later
        self._file = None
        self._write_lock = self._queue_lock = Lock()
        self.release = NOTHING
        if self._opened is not None:
            try:  # noqa: SIM105
                self._opened.close()
            except OSError:
                pass  # it is closed all the same, and the lock released

    def __del__(self) -> None:
        self.close()

    def _try(self) -> bool:
        try:
            self._write_lock.acquire()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self.problem = f"{self.path}: the file system has no locks ({error.strerror})"
        return True

    def _try_queue(self) -> bool:
        try:
            self._queue_lock.acquire()
        except BlockingIOError:
            return False
        except OSError:
            # no such locks on this file system: correct, but not fair
            self._queue_lock = Lock()
        return True


def _pause(seconds: float, deadline: float) -> bool:
    """Sleep, but not beyond the deadline; return whether it had not passed."""
    left = deadline - time.perf_counter()
    if left <= 0:
        return False
    time.sleep(min(seconds, left))
    return True


def _copy_permissions(file: int, like: str) -> None:
    """Let each user who may write the database use the lock, also if root has created it."""
    if sys.platform == "win32":  # where a file has the permissions of its folder
        return
    with suppress(OSError):  # only the owner and root may do so
        database, lock = os.stat(like), os.fstat(file)  # noqa: PTH116
        if database.st_mode & 0o666 != lock.st_mode & 0o777:
            os.fchmod(file, database.st_mode & 0o666)
        if (database.st_uid, database.st_gid) != (lock.st_uid, lock.st_gid):
            os.fchown(file, database.st_uid, database.st_gid)
