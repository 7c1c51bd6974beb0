"""The command, run inside the process of the tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from click.testing import CliRunner

from botmemory.cli._app import cli


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
