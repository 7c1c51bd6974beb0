"""Other programs, each installed in a folder of its own: nothing of them is in our environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from once import once

import botmemory

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
FREQTRADE = "freqtrade==2026.9"
# the dependencies of its database and its metrics that these tests do not have already
FREQTRADE_NEEDS = (
    *("sqlalchemy", "pydantic", "cachetools", "python-rapidjson", "humanize", "orjson", "joblib"),
    *("questionary", "schedule", "jsonschema", "scipy"),
)
# it has no wheels; of its sources the models are run, which need no compiler
HUMMINGBOT = "hummingbot==20260922"
# its changes of old databases are for this version of SQLAlchemy
HUMMINGBOT_NEEDS = ("sqlalchemy<2", *("pandas", "pydantic", "hexbytes", "aiohttp"),
                    *("cachetools", "ujson"))  # fmt: skip


@pytest.fixture(scope="session")
def freqtrade(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which Python finds freqtrade."""

    def fill(folder: Path) -> None:
        install(folder, FREQTRADE, dependencies=FREQTRADE_NEEDS)

    return python_path(once(tmp_path_factory, "freqtrade", fill))


@pytest.fixture(scope="session")
def hummingbot(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables with which Python finds the models of hummingbot."""

    def fill(folder: Path) -> None:
        first, *others = HUMMINGBOT_NEEDS
        install(folder, first, dependencies=others)
        with tempfile.TemporaryDirectory() as sources:
            no_wheels = ["--no-deps", "--no-binary", "hummingbot"]
            download(HUMMINGBOT, "-d", sources, *no_wheels, HUMMINGBOT)
            [archive] = Path(sources).iterdir()
            with tarfile.open(archive) as opened:
                for member in opened:
                    _, _, member.name = member.name.partition("/")
                    if member.name.startswith("hummingbot/"):
                        opened.extract(member, folder, filter="data")

    return python_path(once(tmp_path_factory, "hummingbot", fill))


def install(folder: Path, package: str, dependencies: Sequence[str] | None = None) -> None:
    """Install a package into a folder; the test is skipped if it cannot be downloaded.

    Args:
        folder: An empty folder.
        package: What pip calls it.
        dependencies: Those to install, in place of those that the package names.
    """
    with tempfile.TemporaryDirectory() as wheels:
        parts = [[package]] if dependencies is None else [["--no-deps", package], dependencies]
        for part in parts:
            download(package, "--only-binary=:all:", "-d", wheels, *part)
        files = sorted(Path(wheels).iterdir())
        to_folder = [*PIP, "install", "-q", "--no-deps", "--no-index", "--no-compile"]
        done = subprocess.run(
            [*to_folder, "--target", folder, *files],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr


def download(package: str, *arguments: str) -> None:
    """Run `pip download`; the test is skipped if the package cannot be downloaded."""
    command = [*PIP, "download", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "pip gives no reason").splitlines()[-1]
        pytest.skip(f"{package} cannot be downloaded for this Python: {reason}")


def python_path(folder: Path) -> dict[str, str]:
    """Return environment variables with which Python finds what a folder has, and botmemory."""
    ours = Path(botmemory.__file__).parents[1]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (folder, ours)))}


def answer(program: Path, given: Any, environment: dict[str, str]) -> Any:
    """Return what a program answers: it reads JSON from stdin and prints JSON."""
    done = subprocess.run(
        [sys.executable, program],
        input=json.dumps(given),
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answer_once(
    factory: pytest.TempPathFactory,
    package: str,
    program: Path,
    given: Any,
    dependencies: Sequence[str] | None = None,
) -> Any:
    """Return what a program answers where a package is installed; that is removed afterwards.

    Args:
        factory: That of the test.
        package: As for `install`.
        program: The file of the program.
        given: What it reads from stdin.
        dependencies: As for `install`.
    """

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as installed:
            install(Path(installed), package, dependencies)
            answers = answer(program, given, python_path(Path(installed)))
        (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")

    file = once(factory, program.stem, fill) / "answers.json"
    return json.loads(file.read_text(encoding="utf-8"))
