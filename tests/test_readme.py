"""The README is executed: its code runs, and its output is what it prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import botmemory
from botmemory import Config
from botmemory.analysis import attribution, performance
from botmemory.interop import ccxt, files, frames, freqtrade, memories
from botmemory.migration_runner import main
from botmemory.repositories import positions, signals, tables, trades
from botmemory.upkeep import backup, check

pytestmark = pytest.mark.usefixtures("empty_folder")

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
CODE = [code for language, code in BLOCKS if language == "python"]


def named(name: str) -> str:
    """Return the block that begins with the name of its file."""
    [block] = [code for code in CODE if code.startswith(f"# {name}\n")]
    return block


def output_after(code: str) -> str:
    """Return the text block that follows a block."""
    place = next(i for i, (_, block) in enumerate(BLOCKS) if block == code)
    language, text = BLOCKS[place + 1]
    assert language == "text"
    return text


@pytest.mark.parametrize("code", [code for code in CODE if "print(" in code])
def test_an_example_prints_what_follows_it(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(code, {})
    assert capsys.readouterr().out == output_after(code)


def test_the_first_command_prints_what_follows_it(paper_run: tuple[Path, str]) -> None:
    command = next(code for language, code in BLOCKS if "paper_bot" in code)
    assert command.endswith(".venv/bin/python examples/paper_bot.py\n")
    assert paper_run[1] == output_after(command)


def test_the_configuration_file() -> None:
    [toml] = [code for language, code in BLOCKS if language == "toml"]
    Path("botmemory.toml").write_text(toml)
    [code] = [code for code in CODE if "from_file" in code]
    exec(code, {})
    config = Config(Path("trading_state.db").resolve(), synchronous="normal", busy_timeout=10)
    assert botmemory.db.config == config


def test_the_fixture_works_in_a_test_suite_of_its_own(tmp_path: Path) -> None:
    for name in ("conftest.py", "test_bot.py"):
        (tmp_path / name).write_text(named(name))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    # without plugins, which take seconds to import
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_script_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    [console] = [code for _, code in BLOCKS if code.startswith("$ python -m botmemory")]
    for part in console.split("$ ")[1:]:
        line, _, expected = part.partition("\n")
        python, dash_m, module, *arguments = shlex.split(line)
        assert (python, dash_m, module) == ("python", "-m", "botmemory.migration_runner")
        assert main(arguments) == 0
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    "module",
    [
        trades,
        signals,
        positions,
        tables,
        performance,
        attribution,
        ccxt,
        freqtrade,
        memories,
        files,
        frames,
        backup,
        check,
    ],
)
def test_every_function_is_named(module: ModuleType) -> None:
    for name in module.__all__:
        if name[0].islower():
            assert re.search(rf"`(\w+\.)*{name}\(", TEXT), name


def test_every_error_and_setting_is_named() -> None:
    for name in botmemory.__all__:
        assert f"`{name}" in TEXT, name
    for field in Config.__dataclass_fields__:
        assert f"| `{field}` | `BOTMEMORY_{field.upper()}` |" in TEXT
