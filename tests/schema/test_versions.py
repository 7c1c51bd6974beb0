"""Files and histories that do not match are refused; a migration that fails is rolled back."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import peewee
import pytest
from custom_tables import FIRST, OURS, SECOND, EquitySnapshot, custom_migrations
from samples import at, trade

import botmemory
from botmemory import Config, ConfigError, SchemaError, close_db, db, init_db
from botmemory.database import open_temporarily
from botmemory.migration_runner import down, require_current, stamp, status, up
from botmemory.repositories import records, trades

ADD_NOTE = """
from peewee import TextField

def up(migrator, db):
    migrator.migrate(migrator.add_column("remark", "note", TextField(null=True)))

def down(migrator, db):
    migrator.migrate(migrator.drop_column("remark", "note", cascade=False))
"""
NOTHING = "def up(migrator, db):\n    pass\n\ndef down(migrator, db):\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of custom migrations."""
    return custom_migrations(tmp_path)


@pytest.fixture
def migrated(target: str, folder: Path) -> Config:
    """A database with custom tables, closed."""
    config = Config(target, migrations=folder)
    init_db(config)
    close_db()
    return config


def names(config: Config, applied: bool = True) -> list[str]:
    with open_temporarily(config) as database:
        return [step.name for step in status(database) if bool(step.applied) == applied]


class TestCustomTables:
    def test_init_db_runs_both_folders_each_with_its_own_history(self, migrated: Config) -> None:
        assert names(migrated) == [*OURS, FIRST, SECOND]
        with open_temporarily(migrated) as database:
            assert {"schema_migration", "custom_migration"} <= set(database.get_tables())
        # a bot that does not use the folder still works
        init_db(migrated.db_path)
        trade()

    def test_later_files_are_applied_to_existing_rows(self, migrated: Config, folder: Path) -> None:
        init_db(migrated)
        snapshot = records.create(EquitySnapshot, timestamp=at(0), symbol="X", equity=1)
        close_db()
        (folder / "0003_note.py").write_text(ADD_NOTE)
        with pytest.raises(SchemaError, match="pending: 0003_note; run .* --migrations .*own up'"):
            init_db(migrated, migrate=False)
        init_db(migrated)
        assert records.get_all(EquitySnapshot) == [snapshot]
        assert "note" in {column.name for column in db.get_columns("remark")}

    def test_up_and_down_go_through_both(self, new_target: Callable[[], str], folder: Path) -> None:
        with open_temporarily(Config(new_target(), migrations=folder)) as database:
            assert up(database, OURS[1]) == OURS[:2]
            assert up(database, FIRST) == [*OURS[2:], FIRST]
            assert up(database) == [SECOND]
            assert down(database) == [SECOND]
            assert down(database, OURS[-1]) == [OURS[-1]]
            assert up(database) == [OURS[-1], SECOND]
            # the latest migration of both folders is reverted first
            assert down(database) == [SECOND]
            assert down(database) == [OURS[-1]]
            assert down(database) == [FIRST]

    def test_a_clock_that_was_set_back_reverts_no_older_migration(self, migrated: Config) -> None:
        with open_temporarily(migrated) as database:
            later = (datetime.now(UTC) + timedelta(days=1)).replace(tzinfo=None)
            table = peewee.Table("schema_migration", ("name", "applied")).bind(database)
            table.update(applied=later).where(table.name == OURS[0]).execute()
            assert down(database) == [OURS[-1]]

    def test_a_missing_folder_is_an_error(self, target: str, tmp_path: Path) -> None:
        with pytest.raises(SchemaError, match="migrations: .*missing is not a folder; create it"):
            init_db(target, migrations=tmp_path / "missing")
        with pytest.raises(ConfigError, match="migrations: 5 is not the path of a folder"):
            init_db(target, migrations=5)  # type: ignore[arg-type]

    def test_the_setting_is_read_from_the_environment_and_from_a_file(self, tmp_path: Path) -> None:
        folder = Config.from_env({"BOTMEMORY_MIGRATIONS": "own"}).migrations
        assert folder == str(Path.cwd() / "own")
        (tmp_path / "botmemory.toml").write_text('migrations = "own"\n')
        config = Config.from_file(tmp_path / "botmemory.toml")
        assert config.migrations == str(tmp_path / "own")


class TestRefusals:
    def require_refused(self, config: Config, match: str) -> None:
        """Verify that opening and migrating are refused, and that nothing is changed."""
        for settings in ({}, {"migrate": False}, {"read_only": True}):
            with pytest.raises(SchemaError, match=match):
                init_db(config, **settings)  # type: ignore[arg-type]
        with open_temporarily(config) as database:
            for function in (up, down, status, require_current):
                with pytest.raises(SchemaError, match=match):
                    function(database)
            table = peewee.Table("custom_migration", ("name",)).bind(database)
            assert {row["name"] for row in table.select()} == {FIRST, SECOND}

    def test_an_edited_file(self, migrated: Config, folder: Path) -> None:
        file = folder / f"{SECOND}.py"
        text = file.read_text()
        file.write_text(text.replace("max_length=50", "max_length=60"))
        self.require_refused(migrated, rf"{SECOND}.py was changed after .* restore the file")
        file.write_bytes(text.replace("\n", "\r\n").encode())  # a checkout on Windows
        init_db(migrated)

    def test_an_edited_file_can_be_accepted(self, migrated: Config, folder: Path) -> None:
        with (folder / f"{FIRST}.py").open("a") as file:
            file.write("# a comment\n")
        with open_temporarily(migrated) as database:
            assert stamp(database, FIRST) == [FIRST]
            assert stamp(database) == []
        init_db(migrated)

    def test_a_missing_file(self, migrated: Config, folder: Path) -> None:
        (folder / f"{FIRST}.py").unlink()
        self.require_refused(
            migrated, f"has migration {FIRST}, whose file is missing in .*restore the file"
        )

    def test_two_files_with_one_number(self, migrated: Config, folder: Path) -> None:
        (folder / "0002_other.py").write_text(NOTHING)
        self.require_refused(
            migrated, "0002_create_remark.py and 0002_other.py have the same number; rename .*0003"
        )

    def test_a_file_that_comes_late(self, migrated: Config, folder: Path) -> None:
        (folder / "0000_early.py").write_text(NOTHING)
        self.require_refused(
            migrated, "0000_early is pending, but 0002_create_remark, .* rename it 0003_"
        )
        with open_temporarily(migrated) as database:
            assert stamp(database, "0000_early") == ["0000_early"]
        init_db(migrated)

    def test_a_bot_that_is_newer(self, migrated: Config, folder: Path) -> None:
        (folder / f"{SECOND}.py").unlink()
        self.require_refused(
            migrated, f"has migration {SECOND}, which is unknown to this bot; .*upgrade"
        )

    def test_a_database_of_a_newer_botmemory_names_the_version(self, target: str) -> None:
        with open_temporarily(Config(target)) as database:
            table = peewee.Table("schema_migration", ("name", "applied", "version"))
            table.bind(database).insert(
                name="0099_new", applied=datetime(2030, 1, 1), version="7.5.0"
            ).execute()
        with pytest.raises(
            SchemaError, match="0099_new.* applied by version 7.5.0: upgrade the package"
        ):
            init_db(target)

    def test_an_unknown_name(self, migrated: Config) -> None:
        with open_temporarily(migrated) as database:
            for function in (up, down, stamp):
                with pytest.raises(SchemaError, match=f"0007_x: there is no such .*{SECOND}"):
                    function(database, "0007_x")

    def test_inside_a_transaction(self, migrated: Config, folder: Path) -> None:
        (folder / "0003_note.py").write_text(ADD_NOTE)
        with open_temporarily(migrated) as database:
            for function in (up, down, stamp):
                with database.atomic(), pytest.raises(SchemaError, match="inside a transaction"):
                    function(database)
        assert names(migrated, applied=False) == ["0003_note"]


class TestFailures:
    def fail(self, config: Config, folder: Path, text: str) -> str:
        """Return the message of a third migration that fails; verify that it is rolled back."""
        (folder / "0003_third.py").write_text(text)
        with open_temporarily(config) as database:
            before = database.get_tables(), database.get_columns("remark")
            with pytest.raises(SchemaError) as error:
                up(database)
            assert (database.get_tables(), database.get_columns("remark")) == before
            assert names(config, applied=False) == ["0003_third"]
        return str(error.value)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('db.execute_sql("SELEC")', "SELEC"),
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ('migrator.migrate(migrator.drop_column("remark", "nothing"))', "nothing"),
        ],
    )
    def test_a_migration_that_fails(
        self, migrated: Config, folder: Path, line: str, message: str
    ) -> None:
        error = self.fail(
            migrated, folder, ADD_NOTE.replace("null=True)))", f"null=True)))\n    {line}")
        )
        assert "the migration 0003_third failed and was rolled back: " in error
        assert message in error

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("def up(migrator, db)\n    pass\n", "nothing was run: SyntaxError: "),
            ("import nothing_at_all\n", "nothing was run: ModuleNotFoundError: "),
            ("def down(migrator, db):\n    pass\n", "nothing was run: 0003_third does not define"),
        ],
    )
    def test_a_file_that_is_not_a_migration(
        self, migrated: Config, folder: Path, text: str, message: str
    ) -> None:
        assert message in self.fail(migrated, folder, text)

    def test_a_migration_without_down_is_an_error(self, migrated: Config, folder: Path) -> None:
        (folder / "0003_note.py").write_text(ADD_NOTE.partition("def down")[0])
        with open_temporarily(migrated) as database:
            up(database)
            with pytest.raises(SchemaError, match=r"0003_note does not define down\(\)"):
                down(database)

    def test_rows_that_would_refer_to_missing_rows(self, migrated: Config, folder: Path) -> None:
        init_db(migrated)
        records.create(EquitySnapshot, timestamp=at(0), symbol="X", equity=1, trade=trade())
        close_db()
        error = self.fail(
            migrated,
            folder,
            "def up(migrator, db):\n"
            '    db.execute_sql("DELETE FROM trade")\n'
            f"    db.execute_sql(\"UPDATE equity_snapshot SET trade_id = '{'0' * 32}'\")\n",
        )
        assert re.search(
            "1 rows of 'equity_snapshot' that refer to missing rows of 'trade'|violates", error
        )
        init_db(migrated.db_path)
        assert trades.get_trade_count() == 1

    def test_missing_rows_from_before_do_not_fail_a_migration(
        self, path: Path, folder: Path
    ) -> None:
        config = Config(path, migrations=folder)
        init_db(config)
        records.create(EquitySnapshot, timestamp=at(0), symbol="X", equity=1, trade=trade())
        db.execute_sql("PRAGMA foreign_keys = 0")
        db.execute_sql("DELETE FROM trade")
        close_db()
        (folder / "0003_note.py").write_text(ADD_NOTE)
        init_db(config)
        assert records.count(EquitySnapshot) == 1


def test_history_is_in_utc_and_has_the_version(migrated: Config) -> None:
    with open_temporarily(migrated) as database:
        for step in status(database):
            assert step.applied is not None
            assert abs(datetime.now(UTC).replace(tzinfo=None) - step.applied) < timedelta(minutes=5)
            assert step.version == botmemory.__version__


def test_a_history_that_peewees_runner_made_is_completed(new_target: Callable[[], str]) -> None:
    from playhouse.migrations import Runner

    ours = Path(botmemory.__file__).parent / "migrations"
    target = new_target()
    with open_temporarily(Config(target)) as database:
        Runner(database, str(ours)).up(OURS[0])
    init_db(target)
    trade()
    close_db()
    with open_temporarily(Config(target)) as database:
        assert [step.version for step in status(database)] == [
            None,
            *[botmemory.__version__] * (len(OURS) - 1),
        ]


def test_what_is_stamped_is_not_run(new_target: Callable[[], str], folder: Path) -> None:
    with open_temporarily(Config(new_target(), migrations=folder)) as database:
        assert stamp(database, OURS[1]) == OURS[:2]
        assert stamp(database, FIRST) == [*OURS[2:], FIRST]
        assert set(database.get_tables()) <= {"schema_migration", "custom_migration"}
        assert [step.name for step in status(database) if not step.applied] == [SECOND]


SLOW = """
import time
from peewee import TextField

atomic = {atomic}

def up(migrator, db):
    time.sleep(0.3)
    migrator.migrate(migrator.add_column("remark", "note", TextField(null=True)))
"""


def open_at_once(start: Barrier, config: Config) -> None:
    start.wait(60)
    init_db(config)
    trade()
    close_db()


@pytest.mark.parametrize("atomic", [True, False])
def test_of_processes_that_start_at_once_one_migrates(
    migrated: Config, folder: Path, atomic: bool
) -> None:
    (folder / "0003_note.py").write_text(SLOW.format(atomic=atomic))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    started = [context.Process(target=open_at_once, args=(start, migrated)) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    # a second migration would have failed, because the column exists
    assert [process.exitcode for process in started] == [0] * 4
    init_db(migrated)
    assert trades.get_trade_count() == 4


def test_a_failure_outside_a_transaction_says_that_it_may_be_half_done(
    migrated: Config, folder: Path
) -> None:
    text = SLOW.format(atomic=False).replace("0.3", "0")
    (folder / "0003_note.py").write_text(text + "    1 / 0\n")
    with open_temporarily(migrated) as database:
        with pytest.raises(SchemaError, match="failed half-way, .* compare the tables with the"):
            up(database)
        assert "note" in {column.name for column in database.get_columns("remark")}
        assert stamp(database) == ["0003_note"]
        require_current(database)
