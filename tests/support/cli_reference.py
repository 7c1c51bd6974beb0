"""Write the reference in docs/cli.md from the commands: `python tests/support/cli_reference.py`."""

from __future__ import annotations

import click
from paths import ROOT

from botmemory.cli._app import cli

PAGE = ROOT / "docs" / "cli.md"
MARK = "<!-- from here on generated: python tests/support/cli_reference.py -->\n"


def reference() -> str:
    """Return the help texts of all commands."""
    parts = [f"```text\n{_help(cli, 'botmemory')}\n```\n"]
    for name in sorted(cli.commands):
        if name != "migrate":  # it prints the help of the migration runner
            text = _help(cli.commands[name], f"botmemory {name}")
            parts.append(f"### {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    context = click.Context(
        command, info_name=name, terminal_width=80, help_option_names=["-h", "--help"]
    )
    return command.get_help(context)


if __name__ == "__main__":
    prose = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    PAGE.write_text(f"{prose}{MARK}\n{reference()}", encoding="utf-8")
