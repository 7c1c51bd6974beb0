"""A lock between processes that waits in the kernel's queue, not by trying again and again."""

from __future__ import annotations

import os
import threading
import time
from typing import cast

try:
    import fcntl
except ImportError:  # a platform without flock: SQLite's own waiting is all there is
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileLock"]


class FileLock:
    """An advisory lock on a file of its own; each thread has one, no two hold it at once.

    The file is made when it is missing, readable by its owner only, and stays. Where it cannot be
    made, or the platform has no `flock`, every `acquire` succeeds and nothing is locked.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None
        self._file = self._open()

    def acquire(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the lock and return whether it is held now."""
        if self._file is None:
            return True
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return timeout > 0 and self._wait(timeout)
        except OSError:  # a file system without locks
            return True
        return True

    def acquire_by_trying(self, timeout: float) -> bool:
        """Do what `acquire` does, less fairly but without a thread: an ending Python has none."""
        deadline = time.monotonic() + timeout
        while not self.acquire(0):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file; the lock goes with it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        self.close()

    def _open(self) -> int | None:
        if fcntl is None:
            return None
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError:
            return None

    def _wait(self, timeout: float) -> bool:
        # flock knows no time limit: a helper waits, and gives back what comes too late
        file, guard = cast(int, self._file), threading.Lock()
        came = threading.Event()
        too_late = False

        def wait() -> None:
            fcntl.flock(file, fcntl.LOCK_EX)
            with guard:
                if too_late:
                    os.close(file)
                else:
                    came.set()

        try:
            threading.Thread(target=wait, name="botmemory-lock", daemon=True).start()
        except RuntimeError:  # the interpreter is ending, or there are too many threads
            return self.acquire_by_trying(timeout)
        interrupted = True
        try:
            came.wait(timeout)
            interrupted = False
        finally:
            with guard:
                too_late = not came.is_set()
            if too_late:
                self._file = self._open()
            elif interrupted:
                self.release()
        return not too_late
