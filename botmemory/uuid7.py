"""Time-ordered UUIDs, which Python's standard library has since 3.14.

There is no lock: a signal handler may call `uuid7` during another call of it, and an exception at
any point leaves no lock behind. Shared state changes in single calls into C, during which CPython
runs neither another thread nor a signal handler.
"""

from __future__ import annotations

import os
import struct
import time
import uuid
from collections.abc import Iterator
from itertools import accumulate, count
from typing import Any

_COUNTER_BITS, _RANDOM_BITS = 40, 22  # 62 in all, which is what the RFC leaves after the variant
_COUNTER, _RANDOM = 2**_COUNTER_BITS - 1, 2**_RANDOM_BITS - 1
_256_numbers = struct.Struct("256I")


def _new_ticks(least: int = 0) -> Iterator[tuple[int, int]]:
    """Return an iterator of times in ns, which never decrease, and of a counter's values."""
    clock = accumulate(iter(time.time_ns, None), max, initial=least)
    next(clock)  # the first item is `least` itself
    # start in the lower half: the clock may stand still for 2**39 ids before the counter wraps
    return zip(clock, count(int.from_bytes(os.urandom(5), "big") >> 1))


_ticks = _new_ticks()
_random: list[int] = []  # unused random numbers: os.urandom() is called for many ids at once
# looked up once, and not for each of a million rows
_uuid: Any = uuid.UUID
_new, _UNKNOWN = object.__new__, uuid.SafeUUID.unknown
_set_int, _set_is_safe = _uuid.int.__set__, _uuid.is_safe.__set__


def uuid_of(number: int) -> uuid.UUID:
    """Return `uuid.UUID(int=number)` for a number of 128 bits in less than half its time."""
    new = _new(uuid.UUID)
    _set_int(new, number)
    _set_is_safe(new, _UNKNOWN)
    return new


def uuid7() -> uuid.UUID:
    """Return a new time-ordered UUID: version 7 of RFC 9562.

    48 bits are the milliseconds, 12 bits the fraction of the millisecond (section 6.2 of the RFC,
    method 3), 40 bits a counter that starts at random in each process (method 1), and 22 bits are
    random. In one process, a call that starts after another one returned gives a greater id, and no
    two calls give the same one, in any threads, also when the clock is set back.
    """
    nanoseconds, counter = next(_ticks)
    try:
        random = _random.pop()
    except IndexError:
        numbers = list(_256_numbers.unpack(os.urandom(_256_numbers.size)))
        random = numbers.pop()
        _random.extend(numbers)
    timestamp = (nanoseconds << 12) // 1_000_000
    high = (timestamp >> 12) << 16 | 0x7000 | (timestamp & 0xFFF)
    low = 2**63 | (counter & _COUNTER) << _RANDOM_BITS | (random & _RANDOM)
    return uuid_of(high << 64 | low)


def _after_fork_in_child() -> None:
    """Start a new counter and new random numbers: the parent continues with the inherited ones."""
    global _ticks
    latest, _ = next(_ticks)
    # a later time, because the new counter may be lower than that of the parent's last ids
    _ticks = _new_ticks(latest + 1_000)
    _random.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
