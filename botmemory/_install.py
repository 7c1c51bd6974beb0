"""Find the command that installs an extra of botmemory, for the way botmemory was installed."""

from __future__ import annotations

import json
import os
import re
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
    """Return the shell command that adds an extra to the running botmemory."""
    return f"{_installer()} {_requirement(extra)}"


def _requirement(extra: str) -> str:
    """Return what to install: from where this botmemory was installed, if that is known."""
    for distribution in distributions(name="botmemory"):
        direct_url = distribution.read_text("direct_url.json")  # pip writes none for an index
        if direct_url is not None:
            return _from_direct_url(extra, json.loads(direct_url))
    checkout = Path(__file__).parent.parent
    if _is_checkout(checkout):
        return f"-e {_quoted(f'{checkout}[{extra}]')}"
    return _quoted(f"botmemory[{extra}]")


def _from_direct_url(extra: str, direct_url: dict[str, Any]) -> str:
    url = urlsplit(direct_url["url"])
    if url.scheme == "file" and "vcs_info" not in direct_url:
        path = url2pathname(url.path)
        if not os.path.exists(path):  # noqa: PTH110 - Path.exists() raises for some errors
            return _quoted(f"botmemory[{extra}]")
        editable = "-e " if direct_url.get("dir_info", {}).get("editable") else ""
        return editable + _quoted(f"{path}[{extra}]")
    source = _without_secrets(direct_url["url"])
    if "vcs_info" in direct_url:
        source = f"{direct_url['vcs_info']['vcs']}+{source}@{direct_url['vcs_info']['commit_id']}"
    if "subdirectory" in direct_url:
        source += f"#subdirectory={direct_url['subdirectory']}"
    return _quoted(f"botmemory[{extra}] @ {source}")


def _quoted(text: str) -> str:
    """Return a text as one word of the shell; cmd.exe has other quotes."""
    if sys.platform != "win32":
        return shlex.quote(text)
    return text if re.fullmatch(r"[\w.\\/:+=@\[\]-]+", text) else f'"{text}"'


def _without_secrets(url: str) -> str:
    """Remove the login and the query, either of which may contain a password or token."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    netloc = f"git@{host}" if login == "git" else host
    # pip has decoded the path of a repository; its older versions require a host in every URL
    path = quote(parts.path, safe="/%")
    return urlunsplit((parts.scheme, netloc or "localhost", path, "", ""))


def _is_checkout(folder: Path) -> bool:
    try:
        return b"\nname = botmemory\n" in (folder / "setup.cfg").read_bytes()
    except OSError:
        return False


def _installer() -> str:
    python = _interpreter()
    if find_spec("pip") is None and shutil.which("uv"):  # the environments of uv have no pip
        return f"uv pip install --python {python}"
    return f"{python} -m pip install"


def _interpreter() -> str:
    """Return the shortest command that starts the running Python from the working directory."""
    executable = sys.executable or "python"
    for name in ("python", "python3"):
        if os.path.normcase(shutil.which(name) or "") == os.path.normcase(executable):
            return name
    try:
        relative = Path(executable).relative_to(Path.cwd())
    except (OSError, ValueError):  # elsewhere, or the working directory was deleted
        return _quoted(executable)
    return _quoted(str(relative) if sys.platform == "win32" else f"./{relative}")
