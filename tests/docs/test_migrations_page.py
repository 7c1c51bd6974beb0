"""The files of docs/migrations.md are written and run; test_docs.py runs its commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from paths import ROOT
from processes import needs_pythonpath
from recipes import blocks, code_of
from samples import trade

from botmemory import close_db, init_db
from botmemory.migration_runner import main
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_folder")

PAGE = "docs/migrations.md"


def write(path: Path, code: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(code, encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    """Run Python in a folder, whose packages come before the installed ones."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_field_from_migration_to_model_to_test(
    new_target: Callable[[], str], tmp_path: Path
) -> None:
    target = new_target()
    init_db(target)
    kept = trade()
    close_db()
    shutil.copytree(ROOT / "botmemory", tmp_path / "botmemory")
    name = "botmemory/migrations/0009_add_trade_note.py"
    write(tmp_path / name, code_of(PAGE, "python", f"# {name}"))
    write(tmp_path / "tests" / "test_note.py", code_of(PAGE, "python", "# tests/test_note.py"))
    command = ["git", "apply", "--directory", "", "-"]
    subprocess.run(command, input=code_of(PAGE, "diff"), cwd=tmp_path, encoding="utf-8", check=True)

    script = ("-m", "botmemory.migration_runner", "--db", target)
    assert 'ALTER TABLE "trade" ADD COLUMN "note"' in run(tmp_path, *script, "plan")
    assert run(tmp_path, *script, "up") == "applied: 0009_add_trade_note\n"
    assert run(tmp_path, *script, "check") == "the tables match the models\n"
    assert "1 passed" in run(
        tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests"
    )
    assert run(tmp_path, *script, "down") == "reverted: 0009_add_trade_note\n"
    init_db(target)
    assert trades.get_all() == [kept]


@needs_pythonpath
def test_a_custom_table(tmp_path: Path) -> None:
    for name in ("bot_migrations/0001_equity_snapshot.py", "bot_models.py", "bot.py"):
        write(tmp_path / name, code_of(PAGE, "python", f"# {name}"))
    [bot] = [block for block in blocks(ROOT / PAGE) if block.code.startswith("# bot.py")]
    assert run(tmp_path, "bot.py") == bot.output
    script = ("-m", "botmemory.migration_runner", "--migrations", "bot_migrations")
    checked = run(tmp_path, *script, "check", "--models", "bot_models")
    assert checked == "the tables match the models\n"


def test_going_back_to_the_copy() -> None:
    init_db("trading_state.db")
    kept = trade(strategy="a")
    close_db()
    assert main(["down", "0002_add_signal_strategy_fee_exchange", "--yes"]) == 0
    exec(code_of(PAGE, "python", "# go_back.py"), {})
    init_db("trading_state.db")
    assert trades.get_all(strategy="a") == [kept]


def test_every_command_and_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    usage = capsys.readouterr().out
    for command in re.findall(r"^    (\w+)  ", usage, re.MULTILINE):
        assert re.search(rf"^\| `{command}[ `]", page, re.MULTILINE), command
    for option in re.findall(r"^  (--\w+)", usage, re.MULTILINE):
        assert option in page
