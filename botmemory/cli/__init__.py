"""The `botmemory` command: look at a database, copy it, check it, migrate it."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command, or say in one line what it needs."""
    try:
        from ._app import cli
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        from .._install import install_command

        needed = f"botmemory: the command needs {error.name}: {install_command('cli')}"
        print(needed, file=sys.stderr)
        sys.exit(2)
    cli(prog_name="botmemory")
