"""A real browser without a window: what a page becomes in it, and what it complains about."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=10000",
    "--enable-logging=stderr",
]


@dataclass
class Seen:
    dom: str
    complaints: list[str]


def look(page: Path, folder: Path, *flags: str) -> Seen:
    """Open a page, offline, and return what it is when its scripts have run."""
    done = subprocess.run(
        [
            str(CHROMIUM),
            *FLAGS,
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}",
            *flags,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return Seen(done.stdout, re.findall(r"CONSOLE.*", done.stderr))


def picture(page: Path, folder: Path, width: int, height: int, *flags: str) -> Path:
    """Take a picture of a page and return where it is."""
    path = folder / f"{page.stem}-{width}.png"
    look(page, folder, f"--screenshot={path}", f"--window-size={width},{height}", *flags)
    return path
