"""`botmemory serve` in a process of its own, and one that records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

RECORD = """
import sys
from botmemory import close_db, init_db, session_scope
from botmemory.repositories import trades
init_db(sys.argv[1])
with session_scope():  # one change for those who look
    trades.create(symbol=sys.argv[2], side="buy", price=100, quantity=1)
    trades.create(symbol=sys.argv[2], side="sell", price=110, quantity=1, pnl=10)
close_db()
"""


def record(target: str, symbol: str = "BTC/USDT") -> None:
    """Record a round trip, in another process."""
    subprocess.run([sys.executable, "-c", RECORD, target, symbol], check=True)


class Served:
    """The command, which serves a database until it is interrupted."""

    def __init__(self, target: str, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "botmemory", "--db", target, "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip().rstrip("/")
        assert self.url.startswith("http://"), self.process.communicate()
        self.port = int(self.url.rpartition(":")[2])

    def interrupt(self) -> tuple[int, str]:
        """End it as Ctrl-C does; return the exit code and what it wrote."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out + err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
