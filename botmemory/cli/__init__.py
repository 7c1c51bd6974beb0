"""The `botmemory` command: query, check, copy and migrate a database."""

from __future__ import annotations

import errno
import os
import sys

from .._streams import use_utf8

__all__ = ["main"]


def main() -> None:
    """Run the `botmemory` command; print one line if a package of the extra `cli` is missing."""
    use_utf8()
    try:
        from ._app import cli
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        from .._install import install_command

        message = f"botmemory: the command needs {error.name}: {install_command('cli')}"
        print(message, file=sys.stderr)
        sys.exit(2)
    try:
        cli(prog_name="botmemory")
    except OSError as error:
        # so Windows reports that the program which reads the output has ended, as `| more` does;
        # errors that it has no number for in C are EINVAL too, with the file or its own number
        if (
            sys.platform != "win32"
            or error.errno != errno.EINVAL
            or error.winerror is not None
            or error.filename is not None
        ):
            raise
        os._exit(1)  # without an attempt to print what is left
