"""Another process that records while a test keeps the database busy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BOT = """
import os, sys, tempfile, threading, time
from botmemory import init_db
from botmemory.repositories import trades

init_db(sys.argv[1], busy_timeout=2)
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
stalls = [0.0]

def write_elsewhere():  # how long the machine keeps a program waiting that needs no database
    with tempfile.TemporaryFile() as file:
        while True:
            began = time.monotonic()
            time.sleep(0.05)
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            stalls.append(time.monotonic() - began)

threading.Thread(target=write_elsewhere, daemon=True).start()
waits = []
while not over.wait(0.05):
    began = time.monotonic()
    trades.create(symbol="BOT", side="buy", price=1, quantity=1)
    waits.append(time.monotonic() - began)
    if len(waits) == 1:
        print("begun", flush=True)
print(len(waits), max(waits), max(stalls))
"""


@contextmanager
def recording_bot(target: str | Path) -> Iterator[None]:
    """Run another process that records every 50 ms; no call of it may fail or wait for long."""
    bot = subprocess.Popen(
        [sys.executable, "-c", BOT, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert bot.stdout is not None
    assert bot.stdout.readline() == "begun\n"
    try:
        yield
    finally:
        out, err = bot.communicate()
    assert (bot.returncode, err) == (0, "")
    recorded, longest, stall = out.split()
    assert int(recorded) > 1
    assert float(longest) - float(stall) < 1.5, out
