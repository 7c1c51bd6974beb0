"""docs/recipes.md is run: its files, its SQL and its notebook, with the programs they are for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from installed import install, python_path
from once import once
from paths import ROOT
from programs import stored, writer_elsewhere
from recipes import blocks, code_of, sql
from samples import at, signal, trade
from servers import run

from botmemory import close_db, init_db
from botmemory.analysis import performance
from botmemory.repositories import positions

PAGE = "docs/recipes.md"
CELERY = "celery==5.7.0"
GUNICORN = "gunicorn==27.0.1"
JUPYTER = ("nbclient==0.11.0", "ipykernel==7.4.0")
QUANTSTATS = "quantstats==0.0.86"


def write(folder: Path, *names: str) -> None:
    """Write the files of the page that have these names."""
    for name in names:
        language = {"py": "python", "toml": "toml"}[name.rpartition(".")[2]]
        (folder / name).write_text(code_of(PAGE, language, f"# {name}\n"), encoding="utf-8")


def output_of(name: str) -> str:
    """Return the text that the page shows for a file."""
    [block] = [block for block in blocks(ROOT / PAGE) if block.code.startswith(f"# {name}\n")]
    return block.output


def python(folder: Path, *arguments: object, env: dict[str, str] | None = None) -> str:
    """Run Python in a folder and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def running(folder: Path, env: dict[str, str], *arguments: object) -> Iterator[None]:
    """Run Python beside the test; it is told to end afterwards, and must."""
    with (folder / "log").open("w") as log:
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            yield
            process.terminate()
            assert process.wait(30) == 0, (folder / "log").read_text(encoding="utf-8")
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], object], folder: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")
        time.sleep(0.05)


# --- asyncio --------------------------------------------------------------------------------


@pytest.mark.long
def test_a_call_that_was_cancelled_is_repeated_and_recorded_once(tmp_path: Path) -> None:
    write(tmp_path, "async_bot.py")
    file = tmp_path / "bot.db"
    init_db(file)
    close_db()
    with writer_elsewhere(file) as end:
        bot = subprocess.Popen(
            [sys.executable, "async_bot.py"], cwd=tmp_path, stdout=subprocess.PIPE, encoding="utf-8"
        )
        time.sleep(1.5)
        end()
        printed, _ = bot.communicate(timeout=30)
    assert bot.returncode == 0
    counts = [int(line.rpartition(" ")[2]) for line in printed.splitlines()]
    assert re.sub(r"\d+", "N", printed) == re.sub(r"\d+", "N", output_of("async_bot.py"))
    assert counts[0] > 1
    assert counts[1:] == [1, 1]
    assert stored(file) == [42_000]


# --- worker processes -----------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_processes_of_multiprocessing_record(
    method: str, new_target: Callable[[], str], tmp_path: Path
) -> None:
    target = new_target()
    write(tmp_path, "workers.py")
    file = tmp_path / "workers.py"
    code = file.read_text(encoding="utf-8").replace('context("spawn")', f'context("{method}")')
    file.write_text(code, encoding="utf-8")
    env = os.environ | {"BOTMEMORY_DB_PATH": target}
    assert python(tmp_path, "workers.py", env=env) == output_of("workers.py")
    assert len(stored(target)) == 20


@pytest.mark.long
def test_workers_of_gunicorn_record(
    new_target: Callable[[], str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = new_target()
    installed = once(tmp_path_factory, "gunicorn", lambda folder: install(folder, GUNICORN))
    write(tmp_path, "gunicorn_conf.py", "web.py")
    with (tmp_path / "gunicorn_conf.py").open("a") as settings:
        # a worker that is told to end before it has begun may go on for 30 seconds
        settings.write("\n\ndef post_worker_init(worker):\n    worker.log.info('Ready')\n")
    env = python_path(installed) | {"BOTMEMORY_DB_PATH": target, "HOME": str(tmp_path)}
    log = tmp_path / "log"
    started = re.compile(r"Listening at: (http://\S+)")
    command = ("-m", "gunicorn", "-c", "gunicorn_conf.py", "-b", "127.0.0.1:0", "web:app")
    with running(tmp_path, env, *command):
        wait_for(lambda: log.read_text(encoding="utf-8").count("Ready") == 4, tmp_path)
        url = started.search(log.read_text(encoding="utf-8"))[1]
        for number in range(1, 21):
            request = urllib.request.Request(url, method="POST")
            with urllib.request.urlopen(request, timeout=30) as response:
                assert response.read() == f"{number} trades\n".encode()
    assert len(stored(target)) == 20
    assert (
        len(set(re.findall(r"Booting worker with pid: (\d+)", log.read_text(encoding="utf-8"))))
        == 4
    )
    assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.mark.long
def test_workers_of_celery_record_a_message_that_arrives_twice_once(
    new_target: Callable[[], str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = new_target()
    installed = once(tmp_path_factory, "celery", lambda folder: install(folder, CELERY))
    write(tmp_path, "tasks.py", "send.py")
    queue = tmp_path / "queue"
    queue.mkdir()
    folders = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), str(queue))
    (tmp_path / "celeryconfig.py").write_text(
        f"broker_url = 'filesystem://'\nbroker_transport_options = {folders}\n"
    )
    sender = tmp_path / "send.py"
    code = sender.read_text(encoding="utf-8")
    last = code.rstrip().rpartition("\n")[2]
    sender.write_text(f"{code}{last}\n", encoding="utf-8")  # the same message again
    env = python_path(installed) | {"BOTMEMORY_DB_PATH": target}
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    command = ("-m", "celery", "-A", "tasks", "worker", "-c", "3", "-l", "info", *quiet)
    log = tmp_path / "log"
    with running(tmp_path, env, *command):
        wait_for(lambda: " ready." in log.read_text(encoding="utf-8"), tmp_path)
        for _ in range(5):
            python(tmp_path, "send.py", env=env)
        wait_for(
            lambda: len(re.findall(r"record\[.*succeeded", log.read_text(encoding="utf-8"))) == 10,
            tmp_path,
        )
    assert stored(target) == [42_000] * 5
    assert "Traceback" not in log.read_text(encoding="utf-8")


# --- looking at it --------------------------------------------------------------------------

NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = json.load(sys.stdin)
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
NotebookClient(notebook, timeout=60).execute()
print(json.dumps([[o.get("text", "") for o in cell.outputs] for cell in notebook.cells]))
"""


@pytest.mark.long
def test_a_notebook_may_run_its_cells_again(
    paper_run: tuple[Path, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def fill(folder: Path) -> None:
        install(folder, JUPYTER[0], dependencies=JUPYTER)

    installed = once(tmp_path_factory, "jupyter", fill)
    (tmp_path / "paper_bot.db").write_bytes(paper_run[0].read_bytes())
    (tmp_path / "strategy.py").write_text("FAST = 20\n")
    opening, frame = code_of(PAGE, "python", "# %%\n").split("# %%\n")[1:]
    [shown] = [block.output for block in blocks(ROOT / PAGE) if block.code.startswith("# %%\n")]
    edit = "import pathlib, time\ntime.sleep(1.1)\n_ = pathlib.Path('strategy.py')"
    cells = [
        *("%load_ext autoreload\n%autoreload 2\nimport strategy", opening, frame),
        *(f"{edit}.write_text('FAST = 30\\n')", "print(strategy.FAST)", opening, frame),
        "from botmemory import BotMemoryError\n"
        "from botmemory.repositories import signals\n"
        "try:\n    signals.create(symbol='BTC/USDT', signal_value=1)\n"
        "except BotMemoryError:\n    print('refused')",
    ]
    env = python_path(installed) | {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_PATH": str(installed / "share" / "jupyter"),
    }
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        input=json.dumps(cells),
        cwd=tmp_path,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    texts = ["".join(texts) for texts in json.loads(done.stdout)]
    assert (texts[2], texts[6]) == (shown, shown)
    assert texts[4] == "30\n"
    assert texts[7] == "refused\n"


@pytest.mark.long
def test_quantstats_writes_a_tear_sheet(
    paper_run: tuple[Path, str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installed = once(tmp_path_factory, "quantstats", lambda folder: install(folder, QUANTSTATS))
    (tmp_path / "paper_bot.db").write_bytes(paper_run[0].read_bytes())
    write(tmp_path, "tear_sheet.py")
    env = python_path(installed) | {"MPLBACKEND": "agg", "MPLCONFIGDIR": str(tmp_path)}
    assert python(tmp_path, "tear_sheet.py", env=env) == output_of("tear_sheet.py")
    sheet = (tmp_path / "tear_sheet.html").read_text(encoding="utf-8")
    assert "paper_bot" in sheet
    assert "Sharpe" in sheet


PANELS = ["PnL so far", "PnL by day", "open positions", "fills, and why"]


def test_the_page_has_the_panels_that_are_tested() -> None:
    found = [block.code for block in blocks(ROOT / PAGE) if block.language == "sql"]
    assert [code.partition("\n")[0] for code in found] == [f"-- {title}" for title in PANELS]


def test_panels_of_grafana_show_what_the_functions_return(new_database: Callable[[], str]) -> None:
    url = new_database()
    init_db(url)
    because = signal(signal_metadata={"rsi": 27.5})
    trade(timestamp=at(0), quantity=0.3, signal=because)
    trade(timestamp=at(1), side="sell", quantity=0.1, pnl=0.1)
    trade(timestamp=at(25), side="sell", quantity=0.2, pnl=-0.3)
    trade(timestamp=at(49), quantity=0.1, pnl=0.7)
    trade(timestamp=at(50), symbol="ETH/USDT", quantity=2, pnl=1)
    first, last = at(24), at(72)

    def panel(title: str) -> list[tuple]:
        query = code_of(PAGE, "sql", f"-- {title}\n")
        between = rf"\1 BETWEEN '{first:%Y-%m-%dT%H:%M:%SZ}' AND '{last:%Y-%m-%dT%H:%M:%SZ}'"
        return run(url, re.sub(r"\$__timeFilter\(([\w.]+)\)", between, query))

    curve = performance.equity_curve("BTC/USDT", source="recorded")
    shown = [row for row in panel("PnL so far") if row[1] == "BTC/USDT"]
    assert [(time, value) for time, _, value in shown] == [
        (point.timestamp, pytest.approx(point.equity))
        for point in curve
        if first <= point.timestamp <= last
    ]
    assert len(shown) == 2
    midnight = at(0).replace(hour=0)
    days = {midnight + timedelta(days=day): day for day in range(4)}
    assert [(days[time], *rest) for time, *rest in panel("PnL by day")] == [
        *((1, "BTC/USDT", -0.3), (2, "BTC/USDT", 0.7), (2, "ETH/USDT", 1.0))
    ]
    held = {symbol: float(quantity) for _, _, symbol, quantity, _ in panel("open positions")}
    assert held == {each.symbol: each.quantity for each in positions.get_all()}
    assert len(panel("fills, and why")) == 3
    first = at(0)
    assert panel("fills, and why")[-1][-1] == "27.5"


def test_grafana_reads_by_a_role_that_may_only_read() -> None:
    text = code_of(PAGE, "yaml")
    [source] = yaml.safe_load(text)["datasources"]
    roles = sql("roles, once")
    assert f"CREATE ROLE {source['user']} LOGIN" in roles
    assert f"GRANT CONNECT ON DATABASE {source['jsonData']['database']}" in roles
    assert f" {source['user']}" not in sql("rights, once the tables exist")
    assert source["secureJsonData"] == {"password": "$DASHBOARD_PASSWORD"}


# --- a project --------------------------------------------------------------------------------


@pytest.mark.long
def test_the_project_of_a_bot_depends_on_the_repository(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the tests run outside of a clone")
    write(tmp_path, "pyproject.toml", "my_bot.py", "test_my_bot.py")
    [url] = re.findall(
        r"git\+(https://\S+)\"", (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    )
    env = os.environ | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": url,
    }
    python(tmp_path, "-m", "venv", "venv")
    for arguments, printed in (
        (("pip", "install", "-q", ".[test]"), ""),
        (("pytest", "-q", "test_my_bot.py"), "1 passed"),
    ):
        done = subprocess.run(
            [tmp_path / "venv" / "bin" / "python", "-m", *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert printed in done.stdout
