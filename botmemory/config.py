"""Where the memory is and how it is opened: the frozen `Config`."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ._typing import TYPE_CHECKING
from .errors import ConfigError, show

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, Literal, TypeAlias

    Synchronous: TypeAlias = Literal["full", "normal"]
else:
    Synchronous = str

__all__ = ["Config", "Synchronous", "Target", "absolute_path", "config_of", "expanded_path"]

MEMORY = ":memory:"
SERVERS = {"postgresql": "postgresql", "postgres": "postgresql", "cockroachdb": "cockroachdb"}
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]*)://"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, repr=False)
class Config:
    """Hold the settings of one memory, checked when made.

    - `db_path`: a path, `:memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db`,
      `postgresql://...` or `cockroachdb://...`. Kept as given, except that `pathlib.Path`
      becomes text.
    - `synchronous`: `"full"` survives a power cut, `"normal"` is faster and may lose the last
      moments before one. Neither loses anything when only the program dies.
    - `busy_timeout`: seconds to wait for another writer, or for a connection of the pool.
    - `pool_size`: the most connections to a server; a thread has one only while it uses it.
    - `max_metadata_bytes`: the most that the JSON of one row may take.
    - `migrate`: bring the schema up to date when opening; otherwise pending steps are an error.
    - `backup_before_migrate`: copy a file that holds tables before its schema is changed.
    - `read_only`: never write and never create a file.
    - `migrations`: the folder of the migrations of a bot's own tables.

    Raises `ConfigError`, which names the setting and shows the value.
    """

    db_path: str | os.PathLike[str] = "trading_state.db"
    synchronous: Synchronous = "full"
    busy_timeout: float = 30.0
    pool_size: int = 10
    max_metadata_bytes: int = 1_048_576
    migrate: bool = True
    backup_before_migrate: bool = True
    read_only: bool = False
    migrations: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "db_path", _checked_target(self.db_path))
        if self.synchronous not in ("full", "normal"):
            raise ConfigError(
                f"synchronous: {show(self.synchronous)} is not a mode; use 'full' or 'normal'"
            )
        timeout = self.busy_timeout
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise ConfigError(f"busy_timeout: {show(timeout)} is not a number of seconds")
        if not (math.isfinite(timeout) and 0 <= timeout <= 86_400):
            raise ConfigError(f"busy_timeout: {show(timeout)} is not between 0 and 86400 seconds")
        self._require_number("pool_size", "connections from 1 to 1000", 1, 1000)
        self._require_number("max_metadata_bytes", "bytes from 2 to 2**30", 2, 2**30)
        for name in ("migrate", "backup_before_migrate", "read_only"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: {show(getattr(self, name))} is not True or False")
        if self.migrations is not None:
            object.__setattr__(self, "migrations", _checked_folder(self.migrations))

    def _require_number(self, name: str, unit: str, least: int, most: int) -> None:
        number = getattr(self, name)
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise ConfigError(f"{name}: {show(number)} is not a number of {unit}")

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        shown["db_path"] = self.label
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def backend(self) -> str:
        """Return `"sqlite"`, `"postgresql"` or `"cockroachdb"`."""
        scheme = re.match(_SCHEME, str(self.db_path))
        return SERVERS.get(scheme[1].lower(), "sqlite") if scheme else "sqlite"

    @property
    def in_memory(self) -> bool:
        """Return whether it is `:memory:`, which belongs to one thread and to no file."""
        return self.backend == "sqlite" and self.sqlite_path == MEMORY

    @property
    def sqlite_path(self) -> str:
        """Return the absolute path of the SQLite file, or `:memory:`."""
        path = str(self.db_path)
        if path.startswith("sqlite:///"):
            path = path.removeprefix("sqlite:///")
        return path if path == MEMORY else str(absolute_path("db_path", path))

    @property
    def label(self) -> str:
        """Return the target as messages show it: without its password."""
        target = str(self.db_path)
        if self.backend == "sqlite":
            return target
        from .server_url import without_password  # late, as below: a file has no URL to read

        return without_password(target)

    @property
    def identity(self) -> str:
        """Return what two configs share when they mean the same database."""
        return self.sqlite_path if self.backend == "sqlite" else str(self.db_path)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Read `BOTMEMORY_DB_PATH`, `BOTMEMORY_SYNCHRONOUS` and the other fields by their names.

        Returns the defaults for what is not set. Raises `ConfigError` for a value that does not
        fit and for a `BOTMEMORY_...` name that is no setting; names that begin with
        `BOTMEMORY_TEST_` are left alone.
        """
        prefix = "BOTMEMORY_"
        values: dict[str, Any] = {}
        for name, text in (os.environ if environ is None else environ).items():
            if not name.startswith(prefix) or name.startswith(prefix + "TEST_"):
                continue
            field = name.removeprefix(prefix).lower()
            _require_known(field, f"environment variable {name}", prefix)
            values[field] = _from_text(field, text, name)
        return _build(values, "the environment")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str] = "botmemory.toml") -> Config:
        """Read the settings from a TOML file, one `name = value` a line.

        A relative `db_path` or `migrations` is taken from the folder of the file, so that the bot
        finds its memory from wherever it is started. Raises `ConfigError` naming the file.
        """
        import tomllib  # late: most programs have no such file

        file = absolute_path("path", path)
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{file}: no such configuration file") from None
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: is not valid TOML: {error}") from error
        for name in values:
            _require_known(name, f"{file}: setting '{name}'")
        config = _build(values, str(file))
        if config.backend == "sqlite" and (target := str(config.db_path)) != MEMORY:
            relative = target.removeprefix("sqlite:///")
            if relative != MEMORY:
                absolute = file.parent / expanded_path("db_path", relative)
                config = dataclasses.replace(config, db_path=absolute)
        if config.migrations is not None:
            own = file.parent / expanded_path("migrations", config.migrations)
            config = dataclasses.replace(config, migrations=own)
        return config


Target = str | os.PathLike[str] | Config | None


def config_of(target: Target) -> Config:
    """Return the config a target stands for; None is the environment. Raises `ConfigError`."""
    if isinstance(target, Config):
        return target
    return Config.from_env() if target is None else Config(target)


def _checked_target(target: object) -> str:
    if not isinstance(target, (str, os.PathLike)):
        raise ConfigError(f"db_path: {show(target)} is not a path or a URL")
    text = os.fspath(target)
    if not isinstance(text, str):
        raise ConfigError(f"db_path: {show(text)} is bytes; pass text")
    if not text.strip() or "\0" in text:
        raise ConfigError(f"db_path: {show(text)} is not a path or a URL")
    scheme = re.match(_SCHEME, text)
    if scheme is None:
        if text.startswith(("sqlite:", "file:", *(f"{name}:" for name in SERVERS))):
            raise ConfigError(
                f"db_path: {show(text.partition(':')[0])}: is neither a path nor a URL; "
                "use a plain path, 'sqlite:///relative.db' or 'sqlite:////absolute.db'"
            )
        expanded_path("db_path", text)
        return text
    name = scheme[1].lower()
    if name == "sqlite":
        path = text.removeprefix("sqlite:///")
        if path == text or not path:
            raise ConfigError(
                f"db_path: {show(text)} names no file; three slashes and a relative path "
                "('sqlite:///bot.db'), or four and an absolute one ('sqlite:////data/bot.db')"
            )
        if "?" in path:
            raise ConfigError(
                f"db_path: {show(text)} has parameters, which SQLite targets do not take; "
                "pass the settings to init_db() or Config"
            )
        expanded_path("db_path", path)
        return text
    if name not in SERVERS:
        raise ConfigError(
            f"db_path: unknown scheme '{name}'; use a path, ':memory:', 'sqlite:///...' or "
            "'postgresql://...'"
        )
    from .server_url import server_parameters

    server_parameters(text)
    return text


def expanded_path(name: str, value: object) -> Path:
    """Return an argument that is a path, with its `~` expanded, or raise `ConfigError`."""
    from pathlib import Path  # late: it takes as long to import as half of the library

    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise ConfigError(f"{name}: {show(value)} is not a path")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name}: {show(text)} contains a lone surrogate, which no file name can; "
            "check the encoding it was read with"
        ) from None
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{name}: {show(text)}: there is no such home folder") from None


def absolute_path(name: str, value: object) -> Path:
    """Return an argument that is a path as an absolute one, or raise `ConfigError`."""
    path = expanded_path(name, value)
    try:
        return path.resolve()
    except FileNotFoundError:
        raise ConfigError(
            f"{name}: {show(os.fspath(path))} is relative to the working folder, which is gone; "
            "pass an absolute path, or change to a folder that exists"
        ) from None
    except (OSError, RuntimeError) as error:  # links that lead to themselves
        raise ConfigError(f"{name}: {show(os.fspath(path))} cannot be resolved: {error}") from error


def _checked_folder(folder: object) -> str:
    expanded_path("migrations", folder)
    return os.fspath(folder)  # type: ignore[call-overload, no-any-return]


def _require_known(field: str, where: str, prefix: str = "") -> None:
    known = [f.name for f in dataclasses.fields(Config)]
    if field not in known:
        names = [prefix + (name.upper() if prefix else name) for name in known]
        raise ConfigError(f"{where} is not a setting of botmemory; there are {', '.join(names)}")


def _from_text(field: str, text: str, name: str) -> object:
    if field in ("migrate", "backup_before_migrate", "read_only"):
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise ConfigError(f"environment variable {name}: {show(text)} is not true or false")
        return word in _TRUE
    kinds = {
        "busy_timeout": (float, "seconds"),
        "pool_size": (int, "connections"),
        "max_metadata_bytes": (int, "bytes"),
    }
    if field in kinds:
        kind, unit = kinds[field]
        try:
            return kind(text)
        except ValueError:
            raise ConfigError(
                f"environment variable {name}: {show(text)} is not a number of {unit}"
            ) from None
    return text


def _build(values: Mapping[str, Any], source: str) -> Config:
    try:
        return Config(**values)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
