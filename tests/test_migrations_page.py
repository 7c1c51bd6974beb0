"""docs/migrations.md is executed: its files are written, its changes made, its commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import trade

from botmemory import close_db, init_db
from botmemory.migration_runner import main
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_folder")

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "migrations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")


def block(language: str, begins: str) -> str:
    [found] = [code for kind, code in BLOCKS if kind == language and code.startswith(begins)]
    return found


def write(path: Path, code: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(code)


def run(folder: Path, *arguments: str) -> str:
    """Run Python in a folder, with the packages that are there before the installed ones."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_commands_print_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console = block("console", "$ python -m botmemory.migration_runner up 0002")
    for part in console.split("$ ")[1:]:
        line, _, expected = part.partition("\n")
        python, dash_m, module, *arguments = shlex.split(line)
        assert (python, dash_m, module) == ("python", "-m", "botmemory.migration_runner")
        assert main(arguments) == int("pending" in expected)
        printed = capsys.readouterr().out.replace(str(Path.cwd()), "/home/me/bot")
        assert MOMENT.sub("", printed) == MOMENT.sub("", expected)


def test_a_field_from_migration_to_model_to_test(
    new_target: Callable[[], str], tmp_path: Path
) -> None:
    target = new_target()
    init_db(target)
    kept = trade()
    close_db()
    shutil.copytree(ROOT / "botmemory", tmp_path / "botmemory")
    name = "botmemory/migrations/0005_add_trade_note.py"
    write(tmp_path / name, block("python", f"# {name}"))
    write(tmp_path / "tests" / "test_note.py", block("python", "# tests/test_note.py"))
    command = ["git", "apply", "--directory", "", "-"]
    subprocess.run(command, input=block("diff", ""), cwd=tmp_path, text=True, check=True)

    script = ("-m", "botmemory.migration_runner", "--db", target)
    assert 'ALTER TABLE "trade" ADD COLUMN "note"' in run(tmp_path, *script, "plan")
    assert run(tmp_path, *script, "up") == "applied: 0005_add_trade_note\n"
    assert run(tmp_path, *script, "check") == "the tables are what the models say\n"
    assert "1 passed" in run(
        tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"
    )
    assert run(tmp_path, *script, "down") == "reverted: 0005_add_trade_note\n"
    init_db(target)
    assert trades.get_all() == [kept]


def test_a_table_of_the_bots_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = block("console", "$ python -m botmemory.migration_runner --migrations")
    line, _, expected = console.removeprefix("$ ").partition("\n")
    assert main(shlex.split(line)[3:]) == 0
    assert capsys.readouterr().out.replace(str(tmp_path), "/home/me/bot") == expected
    for name in ("bot_migrations/0001_equity_snapshot.py", "bot_models.py", "bot.py"):
        write(tmp_path / name, block("python", f"# {name}"))
    place = next(i for i, (_, code) in enumerate(BLOCKS) if code.startswith("# bot.py"))
    assert ("text", run(tmp_path, "bot.py")) == BLOCKS[place + 1]
    script = ("-m", "botmemory.migration_runner", "--migrations", "bot_migrations")
    checked = run(tmp_path, *script, "check", "--models", "bot_models")
    assert checked == "the tables are what the models say\n"


def test_going_back_to_the_copy() -> None:
    init_db("trading_state.db")
    kept = trade(strategy="a")
    close_db()
    assert main(["down", "0002_add_signal_strategy_fee_exchange", "--yes"]) == 0
    exec(block("python", "from pathlib import Path"), {})
    init_db("trading_state.db")
    assert trades.get_all(strategy="a") == [kept]


def test_every_command_and_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    usage = capsys.readouterr().out
    for command in re.findall(r"^    (\w+)  ", usage, re.MULTILINE):
        assert re.search(rf"^\| `{command}[ `]", PAGE, re.MULTILINE), command
    for option in re.findall(r"^  (--\w+)", usage, re.MULTILINE):
        assert option in PAGE
