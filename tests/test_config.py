"""Config: every form of target, the environment and the file."""

from __future__ import annotations

import copy
import dataclasses
import enum
import math
import os
import pickle
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import needs_posix

from botmemory import Config, ConfigError, StorageError, close_db, init_db
from botmemory._url import server_parameters
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_folder")

SECRET = "p%40ss:w0rd%2F%3F%23"  # with characters that have a meaning in a URL


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("bot.db", "bot.db"),
        (Path("bot.db"), "bot.db"),
        ("./sub/../bot.db", "bot.db"),
        ("sqlite:///bot.db", "bot.db"),
        ("SQLite:///bot.db", None),
        ("sqlite:///{here}/bot.db", "bot.db"),
        ("sqlite:///100%/my bot#1.db", "100%/my bot#1.db"),
        ("~/bot.db", "bot.db"),
    ],
)
def test_every_form_of_target_opens_its_file(
    target: str | Path | Config, file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "sub").mkdir()
    (tmp_path / "100%").mkdir()
    if isinstance(target, str):
        target = target.replace("{here}", str(tmp_path))
    if file is None:
        with pytest.raises(ConfigError, match="names no file"):
            init_db(target)
        return
    init_db(target)
    assert trades.get_trade_count() == 0
    assert list(tmp_path.rglob("*.db")) == [tmp_path / file]


@pytest.mark.parametrize("target", [":memory:", "sqlite:///:memory:", Config(":memory:")])
def test_an_in_memory_database_creates_no_file(target: str | Config, tmp_path: Path) -> None:
    init_db(target)
    assert trades.get_trade_count() == 0
    assert list(tmp_path.iterdir()) == []


def test_none_is_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init_db()
    assert (tmp_path / "trading_state.db").exists()
    close_db()
    monkeypatch.setenv("BOTMEMORY_DB_PATH", "other.db")
    init_db()
    assert (tmp_path / "other.db").exists()


def test_the_environment_sets_every_field() -> None:
    assert Config.from_env({}) == Config()
    assert Config.from_env({"PATH": "/bin", "BOTMEMORY_TEST_POSTGRES": "x"}) == Config()
    assert Config.from_env(
        {
            "BOTMEMORY_DB_PATH": "x.db",
            "BOTMEMORY_SYNCHRONOUS": "normal",
            "BOTMEMORY_BUSY_TIMEOUT": "2.5",
            "BOTMEMORY_MAX_METADATA_BYTES": "5000",
            "BOTMEMORY_MIGRATE": "no",
            "BOTMEMORY_BACKUP_BEFORE_MIGRATE": "0",
            "BOTMEMORY_READ_ONLY": "True",
        }
    ) == Config(
        "x.db",
        synchronous="normal",
        busy_timeout=2.5,
        max_metadata_bytes=5000,
        migrate=False,
        backup_before_migrate=False,
        read_only=True,
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BOTMEMORY_DBPATH", "x.db", "BOTMEMORY_DBPATH is not a setting .* BOTMEMORY_DB_PATH"),
        ("BOTMEMORY_MIGRATE", "maybe", "BOTMEMORY_MIGRATE: 'maybe' is not true or false"),
        ("BOTMEMORY_BUSY_TIMEOUT", "long", "BOTMEMORY_BUSY_TIMEOUT: 'long' is not a number"),
        ("BOTMEMORY_BUSY_TIMEOUT", "nan", "environment: busy_timeout: nan is not between"),
        ("BOTMEMORY_SYNCHRONOUS", "off", "environment: synchronous: 'off' is not a mode"),
        ("BOTMEMORY_DB_PATH", "", "environment: db_path: '' is not a path"),
    ],
)
def test_a_bad_environment_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.from_env({name: value})


def test_the_file_sets_fields_and_relative_paths_start_at_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "botmemory.toml"
    file.write_text('db_path = "state.db"\nbusy_timeout = 5\nsynchronous = "normal"\n')
    config = Config.from_file(file)
    assert config == Config(folder / "state.db", busy_timeout=5, synchronous="normal")
    init_db(config)
    assert (folder / "state.db").exists()


def test_the_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "botmemory.toml"
    file.write_text("busy_timeout = 5\n", encoding="utf-8-sig")  # as an editor on Windows writes it
    assert Config.from_file(file).busy_timeout == 5


@pytest.mark.parametrize("target", [":memory:", "sqlite:///:memory:", "postgresql://host/bots"])
def test_the_file_may_name_a_database_without_a_file(target: str) -> None:
    Path("botmemory.toml").write_text(f'db_path = "{target}"\n')
    assert Config.from_file() == Config(target)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("db_path = ", "botmemory.toml: is not valid TOML: Invalid value"),
        (r'db_path = "C:\Users\bot\trades.db"', r"not valid TOML: .*; .* write / in place of \\$"),
        (r'db_path = "C:\data\trades.db"', r"not valid TOML: .*; .* write / in place of \\$"),
        (r'db_path = "C:\u001bth.db"', "for which a backslash and the letter after it stand"),
        ("db_path = 5", "botmemory.toml: db_path: 5 is not a path"),
        ("busy_timeout = 'x'", "botmemory.toml: busy_timeout: 'x' is not a number"),
        ("dbpath = 'x.db'", "botmemory.toml: setting 'dbpath' is not a setting .*db_path"),
        ("[database]\npath = 'x'", "setting 'database' is not a setting"),
        ("migrate = 1", "migrate: 1 is not True or False"),
    ],
)
def test_a_malformed_file_is_named(text: str, message: str) -> None:
    Path("botmemory.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Config.from_file()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="botmemory.toml: no such configuration file"):
        Config.from_file()
    with pytest.raises(ConfigError, match="cannot be read: (Is a directory|Permission denied)"):
        Config.from_file(tmp_path)
    Path("bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="bad.toml: is not valid TOML"):
        Config.from_file("bad.toml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"db_path": 5}, "db_path: 5 is not a path"),
        ({"db_path": b"bot.db"}, "db_path: b'bot.db' is not a path"),
        ({"db_path": " "}, "db_path: ' ' is not a path"),
        ({"db_path": "a\0b"}, r"db_path: 'a\\x00b' contains a control character"),
        ({"db_path": "bot.db\r"}, r"db_path: 'bot.db\\r' contains a control character"),
        ({"db_path": "bot.db\n"}, "db_path: .* contains a control character"),
        ({"db_path": "C:\bots\trades.db"}, "stand: write / in place of the backslash, or the path"),
        ({"db_path": "bots\new.db"}, "stand: write / in place of the backslash, or the path in"),
        ({"db_path": "bot\x7f.db"}, "db_path: .* contains a control character"),
        ({"db_path": Path("bot.db\r")}, "db_path: .* contains a control character"),
        ({"db_path": " bot.db"}, "db_path: ' bot.db' begins or ends with a space"),
        ({"db_path": "bot.db\u00a0"}, "db_path: .* begins or ends with a space"),
        ({"db_path": '"/data/bot.db"'}, "db_path: '\"/data/bot.db\"' is in quotes"),
        ({"db_path": "'bot.db'"}, "db_path: \"'bot.db'\" is in quotes"),
        ({"db_path": '":memory:"'}, "db_path: .* is in quotes"),
        ({"db_path": "sqlite:///bot.db "}, "db_path: .* begins or ends with a space"),
        ({"db_path": "SQLITE:bot.db"}, "neither a path nor a URL"),
        ({"migrations": ""}, "migrations: '' is not the path of a folder"),
        ({"migrations": 5}, "migrations: 5 is not the path of a folder"),
        ({"migrations": b"own"}, "migrations: b'own' is not the path of a folder"),
        ({"migrations": "own\r"}, "migrations: .* contains a control character"),
        ({"migrations": "'own'"}, "migrations: .* is in quotes"),
        pytest.param(
            {"migrations": "~nobody-here/own"}, "migrations: .*~nobody-here", marks=needs_posix
        ),
        ({"db_path": "mysql://host/bots"}, "unknown scheme 'mysql'"),
        ({"pool_size": 0}, "pool_size: 0 is not a number of connections from 1 to 1000"),
        ({"pool_size": True}, "pool_size: True"),
        ({"db_path": "sqlite://bot.db"}, "names no file; three slashes"),
        ({"db_path": "sqlite:///"}, "names no file"),
        ({"db_path": "sqlite:///bot.db?mode=ro"}, "has parameters"),
        ({"db_path": "sqlite:bot.db"}, "neither a path nor a URL"),
        ({"db_path": "file:bot.db?mode=ro"}, "neither a path nor a URL"),
        ({"db_path": "postgresql://host"}, "names no database"),
        pytest.param(
            {"db_path": "~nobody-here/bot.db"}, "db_path: .*~nobody-here", marks=needs_posix
        ),
        ({"synchronous": "off"}, "synchronous: 'off' is not a mode"),
        ({"busy_timeout": -1}, "busy_timeout: -1 is not between"),
        ({"busy_timeout": math.inf}, "busy_timeout: inf is not between"),
        ({"busy_timeout": True}, "busy_timeout: True is not a number"),
        ({"busy_timeout": "5"}, "busy_timeout: '5' is not a number"),
        ({"max_metadata_bytes": 0}, "max_metadata_bytes: 0 is not a number of bytes"),
        ({"max_metadata_bytes": 2.5}, "max_metadata_bytes: 2.5 is not a number of bytes"),
        ({"migrate": 1}, "migrate: 1 is not True or False"),
        ({"read_only": None}, "read_only: None is not True or False"),
    ],
)
def test_a_bad_setting_is_named(settings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**settings)


def test_a_config_cannot_be_edited() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().migrate = False  # type: ignore[misc]


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/bots",
        f"postgres://user:{SECRET}@127.0.0.1:1/bots?sslmode=require",
        "postgres://user@127.0.0.1:1/bots?password=w0rd&sslmode=require",
    ],
)
def test_a_password_is_shown_nowhere(url: str) -> None:
    config = Config(url, call_timeout=1)
    shown = [repr(config), str(config), config.label]
    with pytest.raises(StorageError, match="cannot connect") as caught:  # no server listens there
        init_db(config)
    shown.append(str(caught.value))
    with pytest.raises(ConfigError) as named:
        Config(url.replace("/bots", ""))
    shown.append(str(named.value))
    with pytest.raises(ConfigError, match="url: .*takes no such argument; got a URL") as unknown:
        init_db(url=url)  # type: ignore[call-arg]
    assert "w0rd" not in str(unknown.value)
    for text in shown:
        assert "w0rd" not in text
        assert "user" in text
        assert "***" in text


PLAIN = {"user": "u", "password": "p", "host": "h", "dbname": "db"}


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://u:p@h/db", PLAIN),
        ("postgres://u:p@h/db", PLAIN),
        ("postgresql://u:%70@h/%64b", PLAIN),
        ("postgresql://u:p%40s%2Fw%3Ar%23d%3F&%41@h/db", PLAIN | {"password": "p@s/w:r#d?&A"}),
        ("postgresql://u:p@s:w@h/db", PLAIN | {"password": "p@s:w"}),
        ("postgresql://u:p@h:5433/db", PLAIN | {"port": "5433"}),
        ("postgresql://u:p@[::1]:5433/db", PLAIN | {"host": "::1", "port": "5433"}),
        ("postgresql://u:p@a:1,b/db", PLAIN | {"host": "a,b", "port": "1,"}),
        ("postgresql:///db", {"dbname": "db"}),
        ("postgresql://u:p@h/db?sslmode=verify-full", PLAIN | {"sslmode": "verify-full"}),
        ("postgresql://u:p@h/db?options=-c%20a%3D1+2", PLAIN | {"options": "-c a=1+2"}),
        ("postgresql://u:p@/db?host=/run&application_name=a@b",
         {"user": "u", "password": "p", "dbname": "db", "host": "/run", "application_name": "a@b"}),
    ],
)  # fmt: skip
def test_a_url_becomes_parameters_of_libpq(url: str, parameters: dict[str, str]) -> None:
    assert server_parameters(url) == parameters
    assert Config(url).backend == "postgresql"


@given(password=st.text(min_size=1), user=st.text(min_size=1), name=st.text(min_size=1))
def test_a_percent_encoded_url_can_contain_any_text(password: str, user: str, name: str) -> None:
    try:
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        url = f"postgresql://{login}@h/{quote(name, safe='')}"
    except UnicodeEncodeError:
        return  # a lone surrogate cannot be percent-encoded
    expected = {"user": user, "password": password, "host": "h", "dbname": name}
    assert server_parameters(url) == expected


@given(password=st.text(st.characters(exclude_characters="%\0", codec="utf-8")))
def test_a_password_that_is_not_encoded_is_parsed_or_refused_and_never_shown(
    password: str,
) -> None:
    password = f"s3cret{password}s3cret"
    url = f"postgresql://bot:{password}@db.example:5432/bots"
    try:
        config = Config(url)
    except ConfigError as error:
        message = str(error)
    else:
        assert server_parameters(str(config.db_path))["password"] == password
        assert config.label == "postgresql://bot:***@db.example:5432/bots"
        return
    assert set(password) & set("/?#[]") or not (password.isascii() and password.isprintable())
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@[h/db",
        "postgresql://u:s3cret@h:x/db",
        "postgresql://u:s3cret/w@h/db",
        "postgresql://u:1@s3cret/w@h/db",
        "postgresql://u:s3cret#w@h/db",
    ],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read as a URL") as caught:
        Config(url)
    assert "s3cret" not in str(caught.value)


# --- relative paths and links ----------------------------------------------------------------


@pytest.fixture
def two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders; the first one is the working folder."""
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[0])
    return folders


@pytest.mark.parametrize("form", ["{}", "./{}", "sqlite:///{}"])
def test_the_same_name_in_another_folder_is_another_file(
    form: str, two_folders: tuple[Path, Path]
) -> None:
    here, elsewhere = two_folders
    init_db(form.format("bot.db"))
    os.chdir(elsewhere)
    with pytest.raises(ConfigError) as caught:
        init_db(form.format("bot.db"))
    assert str(caught.value) == (
        f"{elsewhere / 'bot.db'}: the database is already open as {here / 'bot.db'}; "
        "call close_db() before opening another one"
    )
    assert not (elsewhere / "bot.db").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("{here}/bot.db", "sqlite:///{here}/bot.db", "../a/bot.db"),
        *(pytest.param(name, marks=needs_posix) for name in ("link.db", "linked/bot.db")),
    ],
)
def test_any_path_of_the_open_file_is_the_open_database(
    name: str, two_folders: tuple[Path, Path]
) -> None:
    here, elsewhere = two_folders
    database = init_db("bot.db")
    os.chdir(elsewhere)
    if "link" in name:
        Path("link.db").symlink_to(here / "bot.db")
        Path("linked").symlink_to(here)
    assert init_db(name.format(here=here)) is database
    assert init_db(Config(name.format(here=here))) is database


@needs_posix
def test_a_symbolic_link_with_a_new_target_is_another_file(two_folders: tuple[Path, Path]) -> None:
    here, _ = two_folders
    Path("link.db").symlink_to(here / "1.db")
    config = Config("link.db")
    init_db(config)
    Path("link.db").unlink()
    Path("link.db").symlink_to(here / "2.db")
    with pytest.raises(ConfigError, match=r"2\.db: the database is already open as .*1\.db"):
        init_db("link.db")
    assert init_db(config)


def test_a_config_stays_the_same_in_another_working_folder(
    two_folders: tuple[Path, Path],
) -> None:
    here, elsewhere = two_folders
    config = Config("bot.db", migrations="own", busy_timeout=5)
    os.chdir(elsewhere)
    same = Config(here / "bot.db", migrations=here / "own", busy_timeout=5)
    copies = [
        config,
        dataclasses.replace(config),
        copy.copy(config),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        eval(repr(config)),
    ]
    for config_copy in copies:
        assert config_copy == same
        assert hash(config_copy) == hash(same)
        assert (config_copy.sqlite_path, config_copy.is_same_database(same)) == (
            str(here / "bot.db"),
            True,
        )
        assert config_copy.migrations == str(here / "own")
    assert Config("bot.db") != config
    assert dataclasses.replace(config, busy_timeout=1).sqlite_path == config.sqlite_path
    assert Config("sqlite:///bot.db") == Config("bot.db") == Config(Path("bot.db"))


def test_a_config_opens_the_file_of_the_folder_it_was_created_in(
    two_folders: tuple[Path, Path],
) -> None:
    here, elsewhere = two_folders
    config = Config("bot.db")
    os.chdir(elsewhere)
    database = init_db(config, busy_timeout=5)
    assert init_db(config, busy_timeout=5) is database
    assert (here / "bot.db").exists()
    assert list(elsewhere.iterdir()) == []


def test_the_same_name_of_migrations_in_another_folder_is_another_setting(
    two_folders: tuple[Path, Path],
) -> None:
    here, elsewhere = two_folders
    for folder in two_folders:
        (folder / "own").mkdir()
    database = init_db("bot.db", migrations="own")
    assert init_db("bot.db", migrations="own") is database
    os.chdir(elsewhere)
    with pytest.raises(ConfigError, match="migrations: the database is already open with"):
        init_db(here / "bot.db", migrations="own")
    assert init_db(here / "bot.db", migrations=here / "own") is database


def test_the_paths_of_a_file_start_at_its_folder(two_folders: tuple[Path, Path]) -> None:
    here, elsewhere = two_folders
    Path("botmemory.toml").write_text('db_path = "sqlite:///x/bot.db"\nmigrations = "own"\n')
    (elsewhere / "botmemory.toml").write_text("busy_timeout = 5\n")
    os.chdir(elsewhere)
    config = Config.from_file(here / "botmemory.toml")
    assert (config.sqlite_path, config.migrations) == (str(here / "x/bot.db"), str(here / "own"))
    os.chdir(here)
    assert Config.from_file("../b/botmemory.toml").sqlite_path == str(
        elsewhere / "trading_state.db"
    )
    Path("botmemory.toml").write_text("db_path = \"'bot.db'\"\n")
    with pytest.raises(ConfigError, match=r"botmemory.toml: db_path: .* is in quotes"):
        Config.from_file()
    Path("botmemory.toml").write_text('migrations = "own "\n')
    with pytest.raises(ConfigError, match=r"botmemory.toml: migrations: .* ends with a space"):
        Config.from_file()
    Path("botmemory.toml").write_text('db_path = "sqlite:bot.db"\n')
    with pytest.raises(ConfigError, match=r"botmemory.toml: db_path: 'sqlite': is neither a path"):
        Config.from_file()


@needs_posix
def test_a_deleted_working_folder(two_folders: tuple[Path, Path]) -> None:
    here, elsewhere = two_folders
    here.rmdir()
    for name in ("bot.db", "sqlite:///bot.db"):
        with pytest.raises(ConfigError, match="db_path: 'bot.db' is relative, and the working fo"):
            init_db(name)
    with pytest.raises(ConfigError, match="environment: db_path: 'trading_state.db' is relative"):
        init_db()
    with pytest.raises(ConfigError, match="migrations: 'own' is relative"):
        init_db(elsewhere / "bot.db", migrations="own")
    assert init_db(elsewhere / "bot.db")
    close_db()
    assert init_db(":memory:")


# --- variables of other programs -------------------------------------------------------------

KUBERNETES = {
    "BOTMEMORY_PORT": "tcp://10.0.0.11:5432",
    "BOTMEMORY_SERVICE_HOST": "10.0.0.11",
    "BOTMEMORY_SERVICE_PORT": "5432",
    "BOTMEMORY_SERVICE_PORT_POSTGRESQL": "5432",
    "BOTMEMORY_PORT_5432_TCP": "tcp://10.0.0.11:5432",
    "BOTMEMORY_PORT_5432_TCP_PROTO": "tcp",
    "BOTMEMORY_PORT_5432_TCP_PORT": "5432",
    "BOTMEMORY_PORT_5432_TCP_ADDR": "10.0.0.11",
    # and where the service is called botmemory-db
    "BOTMEMORY_DB_PORT": "tcp://10.0.0.11:5432",
    "BOTMEMORY_DB_SERVICE_HOST": "10.0.0.11",
    "BOTMEMORY_DB_PORT_5432_TCP": "tcp://10.0.0.11:5432",
}


def test_the_variables_of_kubernetes_are_ignored() -> None:
    assert Config.from_env(KUBERNETES | {"BOTMEMORY_POOL_SIZE": "3"}) == Config(pool_size=3)


@pytest.mark.parametrize(
    "name", ["VERSION", "IMAGE", "LOG_LEVEL", "HOST", "DB_USER", "TEST_DB_PATH"]
)
def test_a_variable_of_another_program_is_ignored(name: str) -> None:
    assert Config.from_env({f"BOTMEMORY_{name}": "x"}) == Config()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("DB_PAHT", "DB_PATH"),
        ("DBPATH", "DB_PATH"),
        ("PATH", "DB_PATH"),
        ("DATABASE_PATH", "DB_PATH"),
        ("SYNCHRONUS", "SYNCHRONOUS"),
        ("BUSYTIMEOUT", "BUSY_TIMEOUT"),
        ("READONLY", "READ_ONLY"),
        ("MIGRATION", "MIGRATIONS"),
        ("BACKUP_BEFORE_MIGRATION", "BACKUP_BEFORE_MIGRATE"),
    ],
)
def test_a_misspelt_setting_is_refused(name: str, setting: str) -> None:
    message = (
        rf"BOTMEMORY_{name} is not a setting of botmemory \(did you mean 'BOTMEMORY_{setting}'\?\)"
    )
    with pytest.raises(ConfigError, match=message):
        Config.from_env({f"BOTMEMORY_{name}": "x"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('"bot.db"', "the environment: db_path: '\"bot.db\"' is in quotes"),
        ("bot.db\r", r"the environment: db_path: 'bot.db\\r' contains a control character"),
        ("bot.db ", "the environment: db_path: 'bot.db ' begins or ends with a space"),
    ],
)
def test_a_path_with_quotes_or_spaces_around_it_is_refused(
    value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTMEMORY_DB_PATH", value)
    with pytest.raises(ConfigError, match=message):
        init_db()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ['"{}"', "'{}'", " {}", "{}\r", "{}\n"])
def test_a_url_that_is_refused_shows_no_password(url: str) -> None:
    for scheme in ("postgresql", "mysql"):
        with pytest.raises(ConfigError) as caught:
            Config(url.format(f"{scheme}://bot:w0rd@db/bots"))
        assert "w0rd" not in str(caught.value)


class Text(str):
    """Text whose class overrides str()."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Mode(str, enum.Enum):  # noqa: UP042  (str() of a member is its name)
    NORMAL = "normal"


def test_a_setting_may_be_of_any_class_of_text(tmp_path: Path) -> None:
    config = Config(Text("bot.db"), synchronous=Mode.NORMAL, migrations=Text("own"))  # type: ignore[arg-type]
    assert config == Config(tmp_path / "bot.db", synchronous="normal", migrations="own")
    assert {type(text) for text in (config.db_path, config.synchronous, config.migrations)} == {str}
    database = init_db(Text("bot.db"), synchronous=Mode.NORMAL)  # type: ignore[arg-type]
    assert database.pragma("synchronous") == 1  # type: ignore[attr-defined]
