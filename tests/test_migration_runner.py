"""The migration script: plan, check, down, and its output as text and as JSON."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from custom_tables import FIRST, OURS, SECOND, EquitySnapshot, custom_migrations
from paths import ROOT
from processes import needs_checkout
from samples import at, signal, trade
from system_errors import NOT_A_FOLDER

from botmemory import Config, close_db, db, init_db
from botmemory.database import open_temporarily
from botmemory.migration_runner import main
from botmemory.repositories import records, signals, trades

pytestmark = pytest.mark.usefixtures("empty_folder")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the script and return its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


def execute(target: str, *statements: str) -> None:
    """Run SQL on a database outside the migrations."""
    with open_temporarily(Config(target)) as database:
        for statement in statements:
            database.execute_sql(statement)


def tables_of(target: str) -> set[str]:
    with open_temporarily(Config(target)) as database:
        return set(database.get_tables())


class TestPlan:
    def test_it_shows_the_sql_by_migration_and_changes_nothing(
        self, target: str, script: Run, tmp_path: Path
    ) -> None:
        folder = custom_migrations(tmp_path)
        before = tables_of(target)
        code, out, _ = script("--db", target, "--migrations", folder, "plan", FIRST)
        assert code == 0
        first, create, index = out.splitlines()[:3]
        assert first == f"-- {FIRST}"
        assert create.startswith('CREATE TABLE "equity_snapshot" (')
        assert index.startswith('CREATE INDEX "equity_snapshot_timestamp_id" ON')
        assert SECOND not in out
        assert tables_of(target) == before
        assert script("--db", target, "--migrations", folder, "status")[0] == 1

    def test_what_it_shows_is_what_up_runs(
        self, new_target: Callable[[], str], script: Run
    ) -> None:
        planned, migrated = new_target(), new_target()
        execute(planned)  # creates the file
        code, out, _ = script("--db", planned, "--json", "plan")
        assert code == 0
        steps = json.loads(out)
        assert [step["name"] for step in steps] == OURS
        execute(planned, *(sql for step in steps for sql in step["sql"]))
        script("--db", planned, "stamp")
        script("--db", migrated, "up")
        for target in (planned, migrated):
            assert script("--db", target, "check")[:2] == (0, "the tables match the models\n")

    def test_without_pending_migrations(self, target: str, script: Run) -> None:
        assert script("--db", target, "plan") == (0, "-- up to date\n", "")
        assert script("--db", target, "plan", "--json") == (0, "[]\n", "")

    def test_values_are_shown(self, target: str, script: Run, tmp_path: Path) -> None:
        folder = custom_migrations(
            tmp_path,
            fill='def up(migrator, db):\n    db.execute_sql("DELETE FROM remark")\n'
            "    from peewee import Table\n"
            '    table = Table("remark", ["stars"]).bind(db)\n'
            "    table.update(stars=4).where(table.stars == 3).execute()\n"
            "    db.execute_sql(\"DELETE FROM remark WHERE text LIKE 'a%%'\")\n",
        )
        _, out, _ = script("plan", "--db", target, "--migrations", folder)
        assert "DELETE FROM remark;\n" in out
        assert "-- 4, 3\n" in out
        assert "LIKE 'a%';" in out or target.endswith(".db")

    def test_it_works_with_virtual_tables_and_views(self, path: Path, script: Run) -> None:
        init_db(path)
        db.execute_sql("CREATE VIRTUAL TABLE note USING fts5(text)")
        db.execute_sql("CREATE VIEW bought AS SELECT * FROM trade WHERE side = 'buy'")
        close_db()
        script("--db", path, "down", OURS[2])
        code, out, _ = script("--db", path, "plan")
        assert code == 0
        assert 'CREATE INDEX "trade_symbol"' in out

    def test_what_a_server_cannot_roll_back_is_not_rehearsed(
        self, target: str, script: Run, tmp_path: Path
    ) -> None:
        folder = custom_migrations(
            tmp_path,
            alone='atomic = False\n\ndef up(migrator, db):\n    db.execute_sql("VACUUM")\n',
        )
        code, out, err = script("--db", target, "--migrations", folder, "plan")
        if target.startswith("postgresql"):
            assert code == 2
            assert "0003_alone runs outside a transaction (atomic = False), so it cannot be" in err
            code, _, err = script("--db", target, "--migrations", folder, "up")
            assert code == 0
            code, _, err = script("--db", target, "--migrations", folder, "down", FIRST)
            assert (code, "'down --yes' runs without a rehearsal" in err) == (2, True)
        else:
            assert "-- 0003_alone\nVACUUM;\n" in out

    def test_a_file_that_is_not_python(self, target: str, script: Run, tmp_path: Path) -> None:
        folder = custom_migrations(tmp_path, broken="def up(\n")
        code, _, err = script("--db", target, "--migrations", folder, "plan")
        assert code == 2
        assert "SyntaxError" in err
        assert err.count("\n") == 1


class TestCheck:
    @pytest.mark.parametrize(
        ("statements", "difference"),
        [
            (["DROP INDEX trade_symbol"], "trade: the index trade_symbol is missing: on symbol"),
            (["CREATE INDEX mine ON trade (price)"], "trade: the index mine is not in the model"),
            (
                ["DROP INDEX trade_timestamp", "CREATE INDEX trade_timestamp ON trade (timestamp)"],
                "trade: the index trade_timestamp is on timestamp, not on timestamp, id",
            ),
            (
                ["DROP INDEX trade_signal", "CREATE INDEX trade_signal ON trade (signal_id)"],
                "the index trade_signal is on signal_id, not on signal_id WHERE signal_id IS NOT",
            ),
            (
                ["ALTER TABLE trade ADD COLUMN note TEXT DEFAULT 'x'"],
                "trade: the column note is not in the model",
            ),
            (["ALTER TABLE trade DROP COLUMN pnl"], "trade: the column pnl is missing"),
            (["ALTER TABLE trade RENAME TO other"], "the table trade is missing"),
        ],
    )
    def test_each_difference_is_named(
        self, target: str, script: Run, statements: list[str], difference: str
    ) -> None:
        if "pnl" in difference:
            statements = ["DROP INDEX trade_symbol", *statements]
            if not target.startswith("postgresql"):
                statements[1] = "ALTER TABLE trade RENAME COLUMN pnl TO p"
        execute(target, *statements)
        code, out, _ = script("--db", target, "check")
        assert code == 1
        assert difference in out
        code, out, _ = script("--db", target, "check", "--json")
        assert code == 1
        assert any(difference in line for line in json.loads(out))

    @pytest.mark.parametrize(
        ("statement", "difference"),
        [
            ("ALTER COLUMN pnl TYPE real", "the column pnl is real NULL, not double precision"),
            ("ALTER COLUMN price DROP NOT NULL", "price is double precision NULL, not double"),
            ("ALTER COLUMN fee SET DEFAULT 0", "the column fee is double precision NULL DEFAULT 0"),
            ("DROP CONSTRAINT trade_price_check", "the check trade_price_check is missing: price"),
            ("ADD CONSTRAINT mine CHECK (fee < 5)", "the check mine is not in the model"),
            ("DROP CONSTRAINT trade_signal_id_fkey", "the foreign key signal_id is missing"),
            (
                "DROP CONSTRAINT trade_signal_id_fkey, ADD FOREIGN KEY (signal_id) "
                "REFERENCES signal ON DELETE CASCADE",
                "signal_id is to signal.id ON DELETE CASCADE, not to signal.id ON DELETE SET NULL",
            ),
            ("DROP CONSTRAINT trade_pkey", "trade: the primary key"),
        ],
    )
    def test_on_postgresql(
        self, new_database: Callable[[], str], script: Run, statement: str, difference: str
    ) -> None:
        target = new_database()
        init_db(target)
        close_db()
        execute(target, f"ALTER TABLE trade {statement}")
        code, out, _ = script("--db", target, "check")
        assert (code, difference in out) == (1, True), out

    @pytest.mark.parametrize(
        ("old", "new", "difference"),
        [
            ('"pnl" REAL', '"pnl" TEXT', "the column pnl is TEXT NULL, not REAL NULL"),
            ('"price" REAL NOT NULL', '"price" REAL', "price is REAL NULL, not REAL NOT NULL"),
            ('"fee" REAL', '"fee" REAL DEFAULT 0', "the column fee is REAL NULL DEFAULT 0"),
            ("price > 0 AND ", "", "the check trade_price_check is price <="),
            ("SET NULL", "CASCADE", "ON DELETE CASCADE, not to signal.id ON DELETE SET NULL"),
            (
                ' REFERENCES "signal" ("id") ON DELETE SET NULL',
                "",
                "the foreign key signal_id is missing: to signal.id",
            ),
            ('"id" TEXT NOT NULL PRIMARY KEY', '"id" TEXT NOT NULL', "trade: the primary key"),
        ],
    )
    def test_on_sqlite(self, path: Path, script: Run, old: str, new: str, difference: str) -> None:
        init_db(path)
        close_db()
        other = path.with_name("other.db")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other)) as changed:
            query = "SELECT name, sql FROM sqlite_master WHERE sql > '' AND name NOT LIKE 'sqlite%'"
            for name, sql in source.execute(query):
                assert name != "trade" or old in sql
                changed.execute(sql.replace(old, new) if name == "trade" else sql)
        script("--db", other, "stamp")
        code, out, _ = script("--db", other, "check")
        assert (code, difference in out) == (1, True), out

    def test_pending_migrations_are_named(self, target: str, script: Run) -> None:
        script("--db", target, "down")
        assert script("--db", target, "check") == (1, f"pending: {OURS[-1]}\n", "")

    def test_custom_models(self, target: str, script: Run, tmp_path: Path) -> None:
        folder = custom_migrations(tmp_path)
        common = ("--db", target, "--migrations", folder)
        script(*common, "up")
        # an imported model that others inherit from is no table
        Path("bot_base.py").write_text(
            "from botmemory import BaseModel\n\nclass TableBase(BaseModel):\n    pass\n"
        )
        Path("models.py").write_text(
            "import peewee\nfrom botmemory import Signal\nfrom bot_base import TableBase\n\n"
            "class Remark(TableBase):\n"
            "    text = peewee.CharField(max_length=50, unique=True)\n"
            "    stars = peewee.IntegerField()\n"
            "    about = peewee.ForeignKeyField(Signal, null=True, index=False)\n"
        )
        try:
            assert script(*common, "check", "--models", "models")[:2] == (
                0,
                "the tables match the models\n",
            )
            Path("worse.py").write_text(
                Path("models.py").read_text().replace("max_length=50", "max_length=60")
            )
            code, out, _ = script(*common, "check", "--models", "worse")
            assert code == 1
            assert "remark: the column text is" in out
            for module, message in (
                ("nothing", "cannot be imported"),
                ("json", "defines no subclass of botmemory.BaseModel; name another"),
            ):
                code, _, err = script(*common, "check", "--models", module)
                assert (code, message in err) == (2, True)
        finally:
            for name in ("bot_base", "models", "worse"):
                sys.modules.pop(name, None)

    def test_a_check_constraint_with_a_parenthesis_in_a_string(
        self, path: Path, script: Run
    ) -> None:
        init_db(path)
        db.execute_sql("DROP INDEX trade_strategy")
        db.execute_sql("ALTER TABLE trade ADD COLUMN kind TEXT CHECK (kind IN (')', 'a''('))")
        close_db()
        _, out, _ = script("--db", path, "check")
        assert "trade: the check kind IN (')', 'a''(') is not in the model" in out


class TestDown:
    def test_values_that_would_be_dropped_are_named_first(self, target: str, script: Run) -> None:
        init_db(target)
        trade(strategy="a", fee=1, signal=signal())
        trade(pnl=5)
        close_db()
        code, out, err = script("--db", target, "down", OURS[1])
        assert (code, out) == (2, "")
        assert "would drop trade.signal_id: 1 values, trade.strategy: 1 values, trade.fee: 1" in err
        assert "repeat it with --yes" in err
        assert "pnl" not in err
        code, _, err = script("--db", target, "down", OURS[0])
        assert "would drop signal: 1 rows, trade: 2 rows" in err
        init_db(target)
        assert trades.get_trade_count(strategy="a") == 1

    def test_without_losses_it_needs_no_confirmation(self, target: str, script: Run) -> None:
        init_db(target)
        trade(pnl=5)
        close_db()
        assert script("--db", target, "down", OURS[1])[:2] == (
            0,
            "".join(f"reverted: {name}\n" for name in OURS[:0:-1]),
        )

    def test_values_of_columns_that_stay_survive_down_and_up(
        self, target: str, script: Run
    ) -> None:
        init_db(target)
        created = [trade(pnl=n, timestamp=at(n), strategy="a", signal=signal()) for n in range(20)]
        close_db()
        assert script("--db", target, "down", OURS[1], "--yes")[0] == 0
        assert script("--db", target, "up")[0] == 0
        init_db(target)
        kept = list(trades.iterate())
        assert [row.id for row in kept] == [row.id for row in created]
        for name in ("timestamp", "symbol", "side", "price", "quantity", "pnl"):
            assert [getattr(a, name) for a in kept] == [getattr(b, name) for b in created]
        assert {row.strategy for row in kept} == {row.signal for row in kept} == {None}
        assert signals.get_signal_count() == 20
        trade(strategy="b", exchange="okx", exchange_trade_id="1")

    def test_down_to_nothing_and_up_again(self, target: str, script: Run, tmp_path: Path) -> None:
        folder = custom_migrations(tmp_path)
        common = ("--db", target, "--migrations", folder)
        script(*common, "up")
        init_db(target, migrations=folder)
        records.create(EquitySnapshot, timestamp=at(0), symbol="X", equity=1, trade=trade())
        close_db()
        # trades that a custom table refers to are not dropped
        code, _, err = script(*common, "down", OURS[0], "--yes")
        assert code == 2
        assert "equity_snapshot" in err
        for _ in range(len(OURS) + 2):
            assert script(*common, "down", "--yes")[0] == 0
        assert script(*common, "down", "--yes")[:2] == (0, "nothing to revert\n")
        histories = {"schema_migration", "custom_migration", "sqlite_sequence"}
        assert tables_of(target) <= histories
        assert script(*common, "up")[0] == 0
        assert script(*common, "check")[0] == 0
        init_db(target, migrations=folder)
        assert (trades.get_trade_count(), records.count(EquitySnapshot)) == (0, 0)
        trade()


class TestOtherCommands:
    def test_status_as_json(self, target: str, script: Run) -> None:
        script("--db", target, "down")
        code, out, _ = script("--json", "--db", target, "status")
        assert code == 1
        first, *_, last = json.loads(out)
        assert first["name"] == OURS[0]
        assert first["applied"].endswith("+00:00")
        assert first["version"]
        assert last == {"name": OURS[-1], "applied": None, "version": None}

    def test_results_as_json(self, new_target: Callable[[], str], script: Run) -> None:
        target = new_target()
        assert script("up", "--json", "--db", target)[1] == json.dumps({"applied": OURS}) + "\n"
        assert script("down", "--json", "--db", target)[1] == f'{{"reverted": ["{OURS[-1]}"]}}\n'
        assert script("stamp", "--json", "--db", target)[1] == f'{{"recorded": ["{OURS[-1]}"]}}\n'
        code, out, err = script("up", "0042_x", "--json", "--db", target)
        assert (code, out) == (2, "")
        assert "0042_x: there is no such migration" in json.loads(err)["error"]

    def test_stamp(self, target: str, script: Run) -> None:
        script("--db", target, "down", OURS[1], "--yes")
        assert script("--db", target, "stamp", OURS[1])[:2] == (0, f"recorded: {OURS[1]}\n")
        recorded = "".join(f"recorded: {name}\n" for name in OURS[2:])
        assert script("--db", target, "stamp")[1] == recorded
        assert script("--db", target, "stamp")[1] == "nothing to record\n"
        assert script("--db", target, "status")[0] == 0
        assert script("--db", target, "check")[0] == 1  # the columns are missing

    def test_create_writes_the_next_file(self, script: Run, tmp_path: Path) -> None:
        folder = tmp_path / "mine"
        assert script("--migrations", folder, "create", "add a note!")[1] == (
            f"{folder / '0001_add_a_note.py'}\n"
        )
        _, out, _ = script("--migrations", folder, "create", "again", "--json")
        assert json.loads(out) == str(folder / "0002_again.py")
        assert script("--db", "bot.db", "--migrations", folder, "up")[0] == 0
        Path("file").touch()
        code, _, err = script("--migrations", "file/own", "create", "x")
        assert code == 2
        written = f"{re.escape(str(Path('file', 'own')))}: cannot be written: {NOT_A_FOLDER}"
        assert re.search(f"{written}; check the path\n\\Z", err)
        code, _, err = script("create", "x")
        assert (code, "name the folder of the custom migrations" in err) == (2, True)

    def test_no_password_is_shown(
        self, new_database: Callable[[], str], script: Run, tmp_path: Path
    ) -> None:
        url = new_database().replace("postgres@", "postgres:hunter2@")
        folder = custom_migrations(tmp_path, broken="def up(migrator, db):\n    1 / 0\n")
        for command in ("status", "plan", "up", "check", "status", "down"):
            _, out, err = script("--db", url, "--migrations", folder, command)
            assert "hunter2" not in out + err

    def test_every_command_is_described_in_80_columns(
        self, script: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        for command in ("up", "down", "status", "plan", "check", "create", "stamp", "--help"):
            with pytest.raises(SystemExit) as ended:
                script(command, "--help")
            assert ended.value.code == 0
            assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@needs_checkout
def test_peewees_own_script_works_in_a_checkout(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "botmemory", tmp_path / "botmemory")
    shutil.copy(ROOT / ".pwmigrate", tmp_path)

    def pwmigrate(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "playhouse.migrations", *arguments],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return done.stdout

    assert pwmigrate("up") == "".join(f"applied: {name}\n" for name in OURS)
    assert pwmigrate("diff") == "schema matches models.\n"
    init_db(tmp_path / "trading_state.db")
    trade()
    close_db()
    assert main(["--db", str(tmp_path / "trading_state.db"), "check"]) == 0
    assert pwmigrate("down") == f"reverted: {OURS[-1]}\n"
    init_db(tmp_path / "trading_state.db")
    assert trades.get_trade_count() == 1
    created = Path("botmemory", "migrations", "0009_add_a_note.py")
    assert pwmigrate("create", "add a note") == f"{created}\n"
