"""How to install one of botmemory's extras: a command for the way botmemory was installed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import url2pathname

__all__ = ["install_command"]


def install_command(extra: str) -> str:
    """Return the command for a shell that adds an extra to the botmemory that is running."""
    return f"{_installer()} {_requirement(extra)}"


def _requirement(extra: str) -> str:
    """Return what to install: from the place where this botmemory came from, if that is known."""
    for distribution in distributions(name="botmemory"):
        origin = distribution.read_text("direct_url.json")  # pip writes none for an index
        if origin is not None:
            return _from_url(extra, json.loads(origin))
    checkout = Path(__file__).parent.parent
    if _is_checkout(checkout):
        return f"-e {shlex.quote(f'{checkout}[{extra}]')}"
    return f"'botmemory[{extra}]'"


def _from_url(extra: str, origin: dict[str, Any]) -> str:
    url = urlsplit(origin["url"])
    if url.scheme == "file" and "vcs_info" not in origin:
        path = url2pathname(url.path)
        if not os.path.exists(path):  # noqa: PTH110 - a path that cannot be looked at is not there
            return f"'botmemory[{extra}]'"
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return editable + shlex.quote(f"{path}[{extra}]")
    shown = _without_secrets(origin["url"])
    if "vcs_info" in origin:
        shown = f"{origin['vcs_info']['vcs']}+{shown}@{origin['vcs_info']['commit_id']}"
    if "subdirectory" in origin:
        shown += f"#subdirectory={origin['subdirectory']}"
    return shlex.quote(f"botmemory[{extra}] @ {shown}")


def _without_secrets(url: str) -> str:
    """Leave out the login, which may hold a password or token, and the query, which may too."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    place = f"git@{host}" if login == "git" else host
    # pip has decoded the path of a repository; its older versions want a host in every URL
    path = quote(parts.path, safe="/%")
    return urlunsplit((parts.scheme, place or "localhost", path, "", ""))


def _is_checkout(folder: Path) -> bool:
    try:
        return b"\nname = botmemory\n" in (folder / "setup.cfg").read_bytes()
    except OSError:
        return False


def _installer() -> str:
    python = _interpreter()
    if find_spec("pip") is None and shutil.which("uv"):  # whose environments have no pip
        return f"uv pip install --python {python}"
    return f"{python} -m pip install"


def _interpreter() -> str:
    """Return the running Python as briefly as the same one is found from here."""
    running = sys.executable or "python"
    for name in ("python", "python3"):
        if shutil.which(name) == running:
            return name
    try:
        below = Path(running).relative_to(Path.cwd())
    except (OSError, ValueError):  # elsewhere, or the working directory was deleted
        return shlex.quote(running)
    return shlex.quote(f"./{below}")
