"""The locks of the operating system on an open file: flock, or LockFileEx on Windows.

Each is acquired without waiting, by the one who opened the file: another open file of the same
process does not have it. Each release is one call into C, which no interrupt can end half-way.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

NOTHING: Callable[[], object] = bool  # a call into C that does nothing


class Lock(NamedTuple):
    """How a lock is acquired and released.

    Where another one has it, `acquire` raises `BlockingIOError`; `release` does nothing if it is
    not held.
    """

    acquire: Callable[[], object] = NOTHING
    release: Callable[[], object] = NOTHING


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _EXCLUSIVE_AT_ONCE = 0x2 | 0x1  # LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY
    _HELD_BY_ANOTHER = frozenset({33, 997})  # ERROR_LOCK_VIOLATION, ERROR_IO_PENDING

    class _Place(ctypes.Structure):
        """The OVERLAPPED of Windows, of which only the place in the file counts here."""

        _fields_ = (
            ("internal", ctypes.c_void_p),
            ("internal_high", ctypes.c_void_p),
            ("offset", wintypes.DWORD),
            ("offset_high", wintypes.DWORD),
            ("event", wintypes.HANDLE),
        )

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _number, _place = wintypes.DWORD, ctypes.POINTER(_Place)
    _kernel.UnlockFileEx.argtypes = (wintypes.HANDLE, _number, _number, _number, _place)
    _kernel.LockFileEx.argtypes = (wintypes.HANDLE, _number, _number, _number, _number, _place)

    def _lock_of_byte(file: int, number: int) -> Lock:
        handle, place = msvcrt.get_osfhandle(file), ctypes.byref(_Place(offset=number))

        def acquire() -> None:
            if not _kernel.LockFileEx(handle, _EXCLUSIVE_AT_ONCE, 0, 1, 0, place):
                error = ctypes.get_last_error()
                if error in _HELD_BY_ANOTHER:
                    raise BlockingIOError
                raise ctypes.WinError(error)

        return Lock(acquire, partial(_kernel.UnlockFileEx, handle, 0, 1, 0, place))

    def write_lock(file: int) -> Lock:
        """Return the lock of those who write."""
        return _lock_of_byte(file, 0)

    def queue_lock(file: int) -> Lock:
        """Return the lock of the first one to wait, on a file that is open for writing."""
        return _lock_of_byte(file, 1)

else:
    import fcntl

    _FLOCK = struct.Struct("hhqqi0q")  # type, whence, start, length, pid

    def write_lock(file: int) -> Lock:
        """Return the lock of those who write."""
        acquire = partial(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Lock(acquire, partial(fcntl.flock, file, fcntl.LOCK_UN))

    def queue_lock(file: int) -> Lock:
        """Return the lock of the first one to wait, on a file that is open for writing."""
        if sys.platform != "linux":  # macOS has such locks, with another structure
            return Lock()
        return Lock(
            *(
                partial(
                    fcntl.fcntl, file, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 1, 0)
                )
                for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK)
            )
        )
