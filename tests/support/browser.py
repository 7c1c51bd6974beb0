"""A real browser without a window: the DOM of a page, its console messages, and screenshots."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        encoding="utf-8",
        check=True,
        timeout=120,
    )
    return OpenedPage(done.stdout, re.findall(r"CONSOLE.*", done.stderr))


def screenshot(page: Path, folder: Path, width: int, height: int, *flags: str) -> Path:
    """Take a screenshot of a page and return its path."""
    path = folder / f"{page.stem}-{width}.png"
    open_page(page, folder, f"--screenshot={path}", f"--window-size={width},{height}", *flags)
    return path


class Browser:
    """A browser whose pages run in real time, spoken to by the DevTools protocol on two pipes."""

    def __init__(self, folder: Path) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # the browser reads the descriptor 3 and writes 4
        script = f'exec "$@" 3<&{commands} 4>&{answers}'
        flags = [flag for flag in FLAGS if not flag.startswith("--virtual-time-budget")]
        self._process = subprocess.Popen(
            [
                *("bash", "-c", script, "browser", str(CHROMIUM), *flags),
                *("--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"),
                *("--window-size=1200,900", "about:blank"),
            ],
            pass_fds=(commands, answers),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._received, self._number = b"", 0
        self.messages: list[str] = []  # of the console
        targets = self._send("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        attach = {"targetId": target, "flatten": True}
        self._session = self._send("Target.attachToTarget", attach)["sessionId"]
        for domain in ("Log", "Runtime", "Page"):
            self.send(f"{domain}.enable")

    def send(self, method: str, parameters: dict[str, Any] | None = None) -> Any:
        """Send a command to the page and return its result."""
        return self._send(method, parameters, sessionId=self._session)

    def _send(self, method: str, parameters: dict[str, Any] | None = None, **session: str) -> Any:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters or {}, **session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.messages.append(json.dumps(answer["params"]))

    def _receive(self) -> Any:
        while b"\0" not in self._received:
            assert select.select([self._answers], [], [], 30)[0], "the browser does not answer"
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "the browser has ended"
            self._received += chunk
        answer, _, self._received = self._received.partition(b"\0")
        return json.loads(answer)

    def open(self, address: str) -> None:
        self.send("Page.navigate", {"url": address})
        self.wait_for("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        options = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.send("Runtime.evaluate", options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 10) -> float:
        """Wait until an expression is true and return how long that took."""
        start = time.monotonic()
        while not self.value(expression):
            shown = time.monotonic() - start
            assert shown < seconds, (expression, self.value("document.body.innerText")[:2000])
            time.sleep(0.02)
        return time.monotonic() - start

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
