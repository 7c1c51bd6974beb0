"""Time-ordered ids, which Python itself has from 3.14 on.

There is no lock: a signal handler or a logging handler may ask for an id in the middle of a call,
and an exception at any point leaves nothing held. What is shared changes in single calls into C,
during which CPython runs neither another thread nor a signal handler.
"""

from __future__ import annotations

import os
import struct
import time
import uuid
from collections.abc import Iterator
from itertools import accumulate, count
from typing import Any

__all__ = ["uuid7", "uuid_of"]

_COUNTER_BITS, _RANDOM_BITS = 40, 22  # 62 in all, which is what the RFC leaves after the variant
_COUNTER, _RANDOM = 2**_COUNTER_BITS - 1, 2**_RANDOM_BITS - 1
_256_numbers = struct.Struct("256I")


def _new_ticks(least: int = 0) -> Iterator[tuple[int, int]]:
    """Return an iterator of times in ns, which never go back, each with the next number."""
    clock = accumulate(iter(time.time_ns, None), max, initial=least)
    next(clock)  # which is `least` itself
    # begins in the lower half: the clock may stand still for 2**39 ids before the counter wraps
    return zip(clock, count(int.from_bytes(os.urandom(5), "big") >> 1))


_ticks = _new_ticks()
_random: list[int] = []  # not used yet: the system is asked for those of many ids at once
# found once, and not for each of a million rows
_uuid: Any = uuid.UUID
_new, _UNKNOWN = object.__new__, uuid.SafeUUID.unknown
_set_int, _set_is_safe = _uuid.int.__set__, _uuid.is_safe.__set__


def uuid_of(number: int) -> uuid.UUID:
    """Return what `uuid.UUID(int=number)` would, of 128 bits, in less than half its time."""
    made = _new(uuid.UUID)
    _set_int(made, number)
    _set_is_safe(made, _UNKNOWN)
    return made


def uuid7() -> uuid.UUID:
    """Return a new time-ordered id: version 7 of RFC 9562.

    After the 48 bits of the milliseconds, 12 bits hold the fraction of the millisecond (method 3
    of section 6.2 of the RFC), 40 bits a counter that begins at random in each process (method 1),
    and 22 bits are random. A call that begins after another one of the process has returned gives
    a greater id, and no two calls give the same, in whichever threads and whatever the clock does.
    """
    nanoseconds, number = next(_ticks)
    try:
        random = _random.pop()
    except IndexError:
        numbers = list(_256_numbers.unpack(os.urandom(_256_numbers.size)))
        random = numbers.pop()
        _random.extend(numbers)
    timestamp = (nanoseconds << 12) // 1_000_000
    high = (timestamp >> 12) << 16 | 0x7000 | (timestamp & 0xFFF)
    low = 2**63 | (number & _COUNTER) << _RANDOM_BITS | (random & _RANDOM)
    return uuid_of(high << 64 | low)


def _after_fork_in_child() -> None:
    """Part from the parent, which goes on with its numbers, the random ones too."""
    global _ticks
    latest, _ = next(_ticks)
    # a later time, because the new numbers may be lower than those of the parent's last ids
    _ticks = _new_ticks(latest + 1_000)
    _random.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
