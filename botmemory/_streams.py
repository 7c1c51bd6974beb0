"""The streams that a program of botmemory reads and prints to, alike on every system."""

from __future__ import annotations

import io
import os
import sys


def use_utf8() -> None:
    """Use UTF-8 between programs; a terminal shows what it lacks as an escape.

    Windows would encode what is piped as its oldest programs do, and fail at a symbol that has no
    character there. Where `PYTHONIOENCODING` is set, nothing is changed.
    """
    if os.environ.get("PYTHONIOENCODING"):
        return
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):  # None, or a test's own
            continue
        if stream.isatty():
            stream.reconfigure(errors=stream.errors if stream is sys.stdin else "backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors=stream.errors)
