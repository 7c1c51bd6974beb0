"""The command, run inside the process of the tests, and on a terminal."""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from botmemory.cli._app import cli

COMMAND = [sys.executable, "-m", "botmemory"]


@pytest.fixture
def run() -> Callable[..., tuple[int, str, str]]:
    """Run the command and return its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        done = CliRunner().invoke(
            cli, [str(argument) for argument in arguments], prog_name="botmemory"
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done.exit_code, done.stdout, done.stderr

    return run


class Terminal:
    """The command on a terminal of some columns, which only Unix has for tests."""

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 40, **environment: str):
        import fcntl
        import pty
        import termios

        self.output = b""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            size = struct.pack("HHHH", lines, columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            # an environment of its own: GNU readline sets COLUMNS where os.environ does not see it
            unset = ("COLUMNS", "LINES", "NO_COLOR")
            values = {name: value for name, value in os.environ.items() if name not in unset}
            values |= {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | environment
            os.execve(COMMAND[0], [*COMMAND, *arguments], values)

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def interrupt(self) -> None:
        os.kill(self.pid, signal.SIGINT)

    def read(self) -> bool:
        """Read what is shown since; return whether the command still runs."""
        try:
            chunk = os.read(self.descriptor, 65536)
        except OSError:
            return False
        self.output += chunk
        return bool(chunk)

    def read_until(self, text: str, seconds: float = 30) -> None:
        """Read until a text is shown that was not there before."""
        start, end = len(self.output), time.monotonic() + seconds
        while text.encode() not in self.output[start:]:
            assert time.monotonic() < end, self.output.decode()
            assert self.read(), self.output.decode()

    def wait(self) -> int:
        """Read to the end and return the exit code."""
        while self.read():
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def on_terminal() -> type[Terminal]:
    pytest.importorskip("pty")
    return Terminal


@pytest.fixture
def terminal(on_terminal: type[Terminal]) -> Callable[..., str]:
    """Run the command on a terminal and return what it shows."""

    def run(*arguments: str, answer: str = "", **options: object) -> str:
        child = on_terminal(*arguments, **options)  # type: ignore[arg-type]
        if answer:
            child.type(answer)
        child.wait()
        return child.output.decode()

    return run
