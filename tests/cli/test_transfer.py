"""Mistakes with the commands that import, export and delete rows: nothing is lost by them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from processes import needs_posix
from samples import at

from botmemory import close_db, init_db
from botmemory.migration_runner import models_of
from botmemory.repositories import records, trades

pytestmark = pytest.mark.usefixtures("empty_folder")

Run = Callable[..., tuple[int, str, str]]

FILLS = """timestamp,symbol,side,quantity,price
2024-01-02 09:30:00,BTC/EUR,buy,0.5,42000.5
2024-01-03 17:05:10,BTC/EUR,sell,0.5,43100.0
"""


@pytest.fixture
def fills() -> Path:
    file = Path("fills.csv")
    file.write_text(FILLS)
    return file


@pytest.mark.parametrize(
    "rejects", ["fills.csv", pytest.param("link.csv", marks=needs_posix), "./fills.csv"]
)
@pytest.mark.parametrize("option", ["--dry-run", "--keep-going"])
def test_rejects_never_replace_the_file_that_is_imported(
    fills: Path, run: Run, rejects: str, option: str
) -> None:
    if rejects == "link.csv":
        Path(rejects).symlink_to(fills)
    code, out, err = run("import", "trades", fills, option, "--rejects", rejects)
    assert (code, out) == (2, "")
    assert f"rejects: {fills.absolute()} is the file that is read; name another" in err
    assert fills.read_text() == FILLS


def test_rejects_never_replace_a_database(fills: Path, run: Run) -> None:
    init_db("bot.db")
    trades.create(symbol="BTC/USDT", side="buy", price=1, quantity=1)
    close_db()
    code, out, err = run("--db", "bot.db", "import", "trades", fills, "--rejects", "bot.db")
    assert (code, out) == (2, "")
    assert f"rejects: {Path('bot.db').absolute()} is a SQLite database; name another file" in err
    assert run("--db", "bot.db", "trades", "--csv")[1].count("BTC/USDT") == 1


@pytest.mark.parametrize("command", ["import-freqtrade", "import-hummingbot"])
def test_notes_never_replace_the_database_that_is_imported(run: Run, command: str) -> None:
    with closing(sqlite3.connect("other.sqlite")) as other:
        other.execute("CREATE TABLE precious (id)")
    code, out, err = run(command, "other.sqlite", "--notes", "other.sqlite")
    assert (code, out) == (2, "")
    place = Path("other.sqlite").absolute()
    assert f"notes: {place} is the file that is read; name another file" in err
    with closing(sqlite3.connect("other.sqlite")) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]


def test_notes_of_the_last_import_stay_if_there_is_nothing_to_import(run: Run) -> None:
    notes = Path("notes.jsonl")
    notes.write_text("{}\n")
    code, _, err = run("import-freqtrade", "missing.sqlite", "--notes", notes)
    assert (code, "missing.sqlite: cannot be read" in err) == (2, True)
    assert notes.read_text() == "{}\n"


def test_notes_that_cannot_be_written_stop_the_import(run: Run) -> None:
    Path("other.sqlite").touch()
    notes = Path("nowhere", "notes.jsonl")
    code, out, err = run("import-freqtrade", "other.sqlite", "--notes", notes)
    assert (code, out) == (2, "")
    assert f"{notes}: cannot be written: No such file or directory" in err


@pytest.mark.parametrize("command", ["export trades bot.csv", "report --out bot.csv"])
def test_no_output_replaces_the_database(run: Run, command: str) -> None:
    for name in ("bot.csv", "other.csv"):  # databases, whatever their suffix says
        init_db(name)
        trades.create(symbol="BTC/USDT", side="buy", price=1, quantity=1)
        close_db()
    for name in ("bot.csv", "other.csv"):
        code, out, err = run("--db", name, *command.split())
        assert (code, out) == (2, "")
        assert f"{Path('bot.csv').absolute()} is a SQLite database; name another file" in err
        assert run("--db", name, "trades", "--csv")[1].count("BTC/USDT") == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--layout krakn", "error: --layout: 'krakn' is neither a file that ends in .toml nor"),
        ("--time-zone Berlin", "error: --time-zone: 'Berlin' is not known; use a name such as"),
        ("--date-format xx", "error: --date-format: 'xx' is not a format such as"),
        ("--decimal ;", "error: --decimal: ';' is not '.' or ','"),
        ("--encoding foo", "error: --encoding: 'foo' is not known; use one such as"),
        ("--header-line 0", "error: --header-line: 0 is not a whole number from 1 on"),
        ("--patterns price=(", "error: --patterns price: '(' is not a regular expression"),
        (
            "--map Prce=price",
            "no column 'Prce' (did you mean 'price'?), which --map names",
        ),
        ("--map price=prce", "error: --map price: 'prce' is no column of a Trade (did you mean"),
        ("--map price=", "error: --map price: '' is no column of a Trade; use one of"),
        ("--set exchange_=x", "error: --set: 'exchange_' is no column of a Trade (did you mean"),
        ("--set symbol={bse}/USD", "error: --set symbol: '{bse}/USD' has {bse}, which nothing in"),
        ("--values sid:buy=sell", "'sid' (did you mean 'side'?), which --values names; the col"),
        ("--header-line 9", "fills.csv: --header-line: 9 is beyond its last line, which is 3"),
        ("--separator ;", "line 1: --separator: ';' is not in the header, but ',' is; the header"),
        ("--date-format s", "'2024-01-02 09:30:00' is not a number of --date-format s"),
        (
            "--thousands .",
            "error: --thousands: '.' is also the decimal point; pass --decimal ','",
        ),
    ],
)
def test_an_error_names_the_option(fills: Path, run: Run, options: str, expected: str) -> None:
    code, out, err = run("--db", "bot.db", "import", "trades", fills, *options.split())
    assert (code, out) == (2, "")
    assert expected in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert not Path("bot.db").exists() or run("--db", "bot.db", "trades", "--json")[1] == "[]\n"


@pytest.mark.parametrize("name", ["broker", "broker.tml"])
def test_a_layout_without_its_suffix_is_recognised(fills: Path, run: Run, name: str) -> None:
    Path("broker.toml").touch()
    code, _, err = run("import", "trades", fills, "--layout", name)
    assert (code, err.endswith("(did you mean 'broker.toml'?)\n")) == (2, True)


def test_a_layout_with_a_name_that_no_file_can_have(fills: Path, run: Run) -> None:
    code, _, err = run("import", "trades", fills, "--layout", "a" * 300)
    assert (code, err.startswith("error: --layout: 'aaa")) == (2, True)


def test_an_error_in_the_file_of_a_layout_names_no_option(fills: Path, run: Run) -> None:
    Path("broker.toml").write_text('time_zone = "Berlin"\n')
    _, _, err = run("import", "trades", fills, "--layout", "broker.toml", "--time-zone", "UTC")
    assert err.startswith("error: broker.toml: time_zone: 'Berlin' is not known")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("prune trades --yes --before 2999-01-01", "error: --before: 2999-01-01 00:00:00+00:00 is"),
        ("prune signals --yes --before 2020-01-01 --exchange x", "error: --exchange: a Signal has"),
        (
            "export trades x.csv --since 2012-01-01 --until 2011-01-01",
            "error: --until: 2011-01-01 23:59:59.999999+00:00 is before --since 2012-01-01",
        ),
        ("import-freqtrade mysql://u:secret@h/x", "error: FILE: mysql://... is not a SQLite file"),
        ("copy bot.db mysql://u:secret@h/x", "error: SOURCE or TARGET: unknown scheme 'mysql'"),
        ("--db mysql://u:secret@h/x trades", "error: --db: unknown scheme 'mysql'"),
    ],
)
def test_an_error_names_the_argument(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, expected: str
) -> None:
    init_db("bot.db")
    close_db()
    monkeypatch.setenv("BOTMEMORY_DB_PATH", "bot.db")
    code, out, err = run(*command.split())
    assert (code, out) == (2, "")
    assert expected in err
    assert "secret" not in err


def test_a_rejected_row_is_told_by_options(run: Run) -> None:
    Path("fills.csv").write_text(FILLS.replace(",buy,", ",Kauf,"))
    code, out, err = run("--db", "bot.db", "import", "trades", "fills.csv", "--keep-going")
    assert (code, out) == (1, "trades: 1 recorded, 0 already existed\n")
    reason = "side: 'Kauf' is no side; say which, as --values side:Kauf=buy"
    assert err == f"line 2: {reason}\nrejected: 1\n"


@pytest.mark.parametrize("url", ["postgresql://bot:secret@host/bots", "file:/x?password=secret"])
@pytest.mark.parametrize(
    "command",
    [
        "import trades {}",
        "import trades fills.csv --rejects {}",
        "export trades {}",
        "export trades {}.csv",
        "import-hummingbot {}",
        "import-freqtrade bot.db --notes {}",
        "prune trades --yes --before 2020-01-01 --export {}",
        "report --out {}",
        "backup {}",
    ],
)
def test_a_url_in_place_of_a_file_is_not_shown(
    fills: Path, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, url: str
) -> None:
    init_db("bot.db")
    close_db()
    monkeypatch.setenv("BOTMEMORY_DB_PATH", "bot.db")
    code, out, err = run(*command.format(url).split())
    assert (code, out) == (2, "")
    assert f"{url.partition(':')[0]}://... is" in err
    assert "secret" not in err


def test_parameters_of_a_url_of_sqlite_are_not_shown(run: Run) -> None:
    code, out, err = run("copy", "bot.db", "sqlite:///bot.db?password=secret")
    assert (code, out) == (2, "")
    assert "'sqlite:///bot.db?...' has parameters, which SQLite targets do not take" in err


def test_one_row_is_told_in_the_singular(run: Run) -> None:
    init_db("bot.db")
    trades.create(symbol="BTC/USDT", side="buy", price=1, quantity=1)
    close_db()
    assert run("--db", "bot.db", "export", "trades", "t.csv")[1] == "1 trade in t.csv\n"
    assert run("--db", "bot.db", "export", "signals", "s.csv")[1] == "0 signals in s.csv\n"


MODELS = """
from botmemory import BaseModel
from botmemory.fields import AutoIdField, DoubleField, LabelField, MetadataField, UtcDateTimeField


class EquitySnapshot(BaseModel):
    id = AutoIdField()
    timestamp = UtcDateTimeField()
    equity = DoubleField()
    strategy = LabelField(max_length=64, null=True)
    details = MetadataField(null=True)
"""
MIGRATION = """
from peewee import BigAutoField, CharField, DoubleField, Field, Model, SqliteDatabase


def up(migrator, db):
    class Timestamp(Field):
        field_type = "TEXT" if isinstance(db, SqliteDatabase) else "TIMESTAMPTZ"

    class Json(Field):
        field_type = "TEXT" if isinstance(db, SqliteDatabase) else "JSONB"

    class EquitySnapshot(Model):
        id = BigAutoField()
        timestamp = Timestamp()
        equity = DoubleField()
        strategy = CharField(max_length=64, null=True)
        details = Json(null=True)

        class Meta:
            database = db
            legacy_table_names = False

    db.create_tables([EquitySnapshot], safe=False)


def down(migrator, db):
    migrator.migrate(migrator.drop_table("equity_snapshot"))
"""


class TestCustomTables:
    @pytest.fixture
    def names(self, tmp_path: Path) -> tuple[str, ...]:
        """The options that name the migrations and the models of a custom table."""
        folder = Path("bot_migrations")
        folder.mkdir()
        (folder / "0001_equity_snapshot.py").write_text(MIGRATION)
        module = f"models_of_{tmp_path.name}"
        Path(f"{module}.py").write_text(MODELS)
        return "--migrations", str(folder), "--models", module

    def record(self, target: str, names: tuple[str, ...]) -> list[dict[str, object]]:
        init_db(target, migrations=names[1])
        [model] = models_of(names[3])
        rows = [
            {"timestamp": at(1), "equity": 0.1 + 0.2, "strategy": None, "details": {"a": [1, "é"]}},
            {"timestamp": at(2), "equity": 1e-300, "strategy": 'a,"b', "details": None},
            {"timestamp": at(3), "equity": 5.0, "strategy": "", "details": "text"},
        ]
        rows[2]["strategy"] = "=1+1"
        records.create_many(model, rows)
        found = [row.to_dict() for row in records.iterate(model)]
        close_db()
        return found

    @pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
    def test_nothing_is_lost_on_the_way(
        self, new_target: Callable[[], str], names: tuple[str, ...], run: Run, suffix: str
    ) -> None:
        source, target, file = new_target(), new_target(), f"equity.{suffix}"
        before = self.record(source, names)
        arguments = (*names, "equity_snapshot", file)
        code, out, err = run("--db", source, "export", *arguments)
        assert (code, out, err) == (0, f"3 equity_snapshot rows in {file}\n", "")
        for expected in ("3 recorded, 0 already existed", "0 recorded, 3 already existed"):
            code, out, err = run("--db", target, "import", *arguments)
            assert (code, out, err) == (0, f"equity_snapshot: {expected}\n", "")
        init_db(target, migrations=names[1])
        [model] = models_of(names[3])
        assert [row.to_dict() for row in records.iterate(model)] == before

    def test_filters_and_rejected_rows(
        self, new_target: Callable[[], str], names: tuple[str, ...], run: Run
    ) -> None:
        target = new_target()
        self.record(target, names)
        arguments = ("--db", target, "export", *names, "equity_snapshot")
        assert run(*arguments, "some.csv", "--strategy", 'a,"b')[1].startswith(
            "1 equity_snapshot row"
        )
        code, _, err = run(*arguments, "some.csv", "--symbol", "BTC/USDT")
        assert (code, "--symbol: a EquitySnapshot has no such field" in err) == (2, True)
        Path("bad.csv").write_text("id,timestamp,equity\n8,2024-01-01,much\n9,2024-01-01,2\n")
        arguments = ("--db", target, "import", *names, "equity_snapshot", "bad.csv")
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert "line 2: equity: 'much'" in err
        code, out, err = run(*arguments, "--keep-going", "--rejects", "rejects.jsonl")
        assert (code, out) == (1, "equity_snapshot: 1 recorded, 0 already existed\n")
        assert "much" in Path("rejects.jsonl").read_text()

    def test_a_table_that_is_not_known(self, run: Run, names: tuple[str, ...]) -> None:
        for command in ("export", "import"):
            code, _, err = run(command, "equity_snapshot", "x.csv")
            assert code == 2
            known = "'trades', 'signals', 'cash-flows', 'state'"
            assert f"'equity_snapshot' is not one of {known}; a c" in err
            code, _, err = run(command, *names, "equity", "x.csv")
            assert (code, "'state', 'equity_snapshot'\n" in err) == (2, True)
            code, _, err = run(command, "--models", "no_such_module", "equity", "x.csv")
            assert (code, "--models no_such_module: cannot be imported" in err) == (2, True)
        assert not Path("x.csv").exists()
