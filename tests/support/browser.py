"""A real browser without a window: the DOM of a page, its console messages, and screenshots."""

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
class OpenedPage:
    dom: str
    messages: list[str]  # of the console


def open_page(page: Path, folder: Path, *flags: str) -> OpenedPage:
    """Open a page offline, run its scripts, and return the result."""
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
    return OpenedPage(done.stdout, re.findall(r"CONSOLE.*", done.stderr))


def screenshot(page: Path, folder: Path, width: int, height: int, *flags: str) -> Path:
    """Take a screenshot of a page and return its path."""
    path = folder / f"{page.stem}-{width}.png"
    open_page(page, folder, f"--screenshot={path}", f"--window-size={width},{height}", *flags)
    return path
