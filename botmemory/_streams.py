"""The streams that a program of botmemory prints to, alike on every system."""

from __future__ import annotations

import io
import os
import sys


def use_utf8() -> None:
    """Print in UTF-8 where another program reads it; a terminal shows what it lacks as an escape.

    Windows would encode what is piped as its oldest programs do, and fail at a symbol that has no
    character there. `PYTHONIOENCODING` goes before this.
    """
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):  # None, or a test's own
            continue
        if stream.isatty():
            stream.reconfigure(errors="backslashreplace")
        elif not os.environ.get("PYTHONIOENCODING"):
            stream.reconfigure(encoding="utf-8", errors=stream.errors)
