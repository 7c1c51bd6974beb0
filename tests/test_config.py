"""Where the memory is: every form of target, the environment and the file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from botmemory import Config, ConfigError, close_db, init_db
from botmemory.repositories import trades

pytestmark = pytest.mark.usefixtures("empty_folder")

SECRET = "p%40ss:w0rd/?#"  # what a URL makes hard


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("bot.db", "bot.db"),
        (Path("bot.db"), "bot.db"),
        ("./sub/../bot.db", "bot.db"),
        ("sqlite:///bot.db", "bot.db"),
        ("SQLite:///bot.db", None),
        ("sqlite:////{here}/bot.db", "bot.db"),
        ("sqlite:///100%/my bot#1.db", "100%/my bot#1.db"),
        (Config("bot.db"), "bot.db"),
        ("~/bot.db", "bot.db"),
    ],
)
def test_every_form_of_target_opens_the_file_it_names(
    target: str | Path | Config, file: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    (tmp_path / "100%").mkdir()
    if isinstance(target, str):
        target = target.replace("/{here}", str(tmp_path))
    if file is None:
        with pytest.raises(ConfigError, match="names no file"):
            init_db(target)
        return
    init_db(target)
    assert trades.get_trade_count() == 0
    assert list(tmp_path.rglob("*.db")) == [tmp_path / file]


@pytest.mark.parametrize("target", [":memory:", "sqlite:///:memory:", Config(":memory:")])
def test_memory_makes_no_file(target: str | Config, tmp_path: Path) -> None:
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


def test_the_file_sets_fields_and_its_folder_is_where_the_memory_is(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "botmemory.toml"
    file.write_text('db_path = "state.db"\nbusy_timeout = 5\nsynchronous = "normal"\n')
    config = Config.from_file(file)
    assert config == Config(folder / "state.db", busy_timeout=5, synchronous="normal")
    init_db(config)
    assert (folder / "state.db").exists()


@pytest.mark.parametrize("target", [":memory:", "sqlite:///:memory:", "postgresql://host/bots"])
def test_the_file_may_name_what_is_no_file(target: str) -> None:
    Path("botmemory.toml").write_text(f'db_path = "{target}"\n')
    assert Config.from_file().db_path == target


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("db_path = ", "botmemory.toml: is not valid TOML: Invalid value"),
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
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
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
        ({"db_path": "a\0b"}, "db_path: .* is not a path"),
        ({"db_path": "mysql://host/bots"}, "unknown scheme 'mysql'"),
        ({"db_path": "postgres://host/bots"}, "unknown scheme 'postgres'"),
        ({"db_path": "sqlite://bot.db"}, "names no file; three slashes"),
        ({"db_path": "sqlite:///"}, "names no file"),
        ({"db_path": "sqlite:///bot.db?mode=ro"}, "has parameters"),
        ({"db_path": "sqlite:bot.db"}, "neither a path nor a URL"),
        ({"db_path": "file:bot.db?mode=ro"}, "neither a path nor a URL"),
        ({"db_path": "postgresql://host"}, "names no database"),
        ({"db_path": "~nobody-here/bot.db"}, "db_path: .*~nobody-here"),
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
        f"postgresql://user:{SECRET}@host/bots",
        f"cockroachdb://user:{SECRET}@host:26257/bots?sslmode=require",
        "postgresql://user@host/bots?password=w0rd&sslmode=require",
    ],
)
def test_a_password_is_shown_nowhere(url: str) -> None:
    config = Config(url)
    shown = [repr(config), str(config), config.label]
    with pytest.raises(ConfigError) as caught:
        init_db(config)
    shown.append(str(caught.value))
    with pytest.raises(ConfigError) as caught:
        Config(url.replace("/bots", ""))
    shown.append(str(caught.value))
    for text in shown:
        assert "w0rd" not in text
        assert "user" in text
        assert "***" in text
