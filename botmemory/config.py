"""Where the database is and how it is opened: the frozen `Config`."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ._arguments import suggestion
from ._paths import is_on_other_machine, is_same_file, problem_on_windows, without_prefix
from ._values import plain_text
from .errors import ConfigError, show

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Config", "Synchronous", "Target", "absolute_path", "config_of"]

Synchronous: TypeAlias = Literal["full", "normal"]

MEMORY = ":memory:"
SERVERS = {"postgresql": "postgresql", "postgres": "postgresql"}
PREFIX = "BOTMEMORY_"
_SCHEME = r"([A-Za-z][A-Za-z0-9+.-]+)://"  # one letter is a drive
# a login in it, also where its slashes are missing
_MAY_BE_URL = re.compile(r".*://|[^:]{2,}:.*@", re.DOTALL)
# a URL in place of a path, also as a Path has it: with one slash, or with a backslash on Windows
_NO_PATH = re.compile(
    rf"([A-Za-z][A-Za-z0-9+.-]+:[/\\]|(sqlite|file|{'|'.join(SERVERS)})(\+\w+)?:)", re.IGNORECASE
)
# a URL with a login, anywhere in a path
_LOGIN = re.compile(
    rf"([A-Za-z][A-Za-z0-9+.-]+:[/\\]{{1,2}}|({'|'.join(SERVERS)})(\+\w+)?(:|[/\\]{{2}}))"
    r"[^/\\:@]*:[^/\\@]*@",
    re.IGNORECASE,
)
# what \a, \b, \t, \e and so on inside a text stand for
_ESCAPED = re.compile(r"[^\x00-\x1f][\a\b\t\n\v\f\r\x1b][^\x00-\x1f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_DRIVE_AFTER_SLASH = re.compile(r"/+[A-Za-z]:[\\/]")
# the variables Kubernetes sets for a service: NAME_SERVICE_HOST, NAME_PORT_5432_TCP_ADDR, ...
_KUBERNETES = re.compile(r"(^|_)(service_(host|port)|port_\d+_(tcp|udp|sctp))(_|$)")
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, repr=False)
class Config:
    """The settings of one database, validated when the Config is created.

    Attributes:
        db_path: A path, `:memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db` or
            `postgresql://...`; with a drive of Windows `sqlite:///C:/bots/trades.db`. The path of a
            file is made absolute when the Config is created, following symbolic links and `~`, so
            that a later `os.chdir()` changes nothing.
        synchronous: `"full"` loses nothing in a power failure; `"normal"` is faster and may lose
            the last transactions in one. Neither loses anything when only the program crashes.
        busy_timeout: Seconds to wait for another writer, or for a connection of the pool.
        call_timeout: Seconds after which a call to a server ends at the latest: waiting for a
            connection, connecting, a lock and the answer together. A read then raises
            `StorageError`; of a write, the error says whether it may be stored.
        transaction_timeout: Seconds after which a server ends a transaction that does nothing,
            because its bot has stopped or is gone, so that others need not wait for it.
        pool_size: The maximum number of connections to a server. A thread has one only while it
            uses it.
        async_workers: The maximum number of threads of `aio.run`, started as they are needed.
        max_metadata_bytes: The maximum size of the JSON of one row.
        migrate: Apply pending migrations when opening; otherwise they are an error.
        backup_before_migrate: Copy a SQLite file with tables before a migration changes it.
        read_only: Never write, and never create a file.
        migrations: The folder with the migrations of custom tables, made absolute like `db_path`.

    Raises:
        ConfigError: A setting is invalid; the message names it and shows the value.
    """

    db_path: str | os.PathLike[str] = "trading_state.db"
    synchronous: Synchronous = "full"
    busy_timeout: float = 30.0
    call_timeout: float = 30.0
    transaction_timeout: float = 60.0
    pool_size: int = 10
    async_workers: int = 64
    max_metadata_bytes: int = 1_048_576
    migrate: bool = True
    backup_before_migrate: bool = True
    read_only: bool = False
    migrations: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "db_path", _checked_target(self.db_path))
        if not isinstance(self.synchronous, str) or self.synchronous not in ("full", "normal"):
            raise ConfigError(
                f"synchronous: {show(self.synchronous)} is not a mode; use 'full' or 'normal'"
            )
        object.__setattr__(self, "synchronous", plain_text(self.synchronous))
        self._require_seconds("busy_timeout", 0)
        self._require_seconds("call_timeout", 0.1)
        self._require_seconds("transaction_timeout", 0.1)
        self._require_number("pool_size", "connections from 1 to 1000", 1, 1000)
        self._require_number("async_workers", "threads from 1 to 1000", 1, 1000)
        self._require_number("max_metadata_bytes", "bytes from 2 to 2**30", 2, 2**30)
        for name in ("migrate", "backup_before_migrate", "read_only"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: {show(getattr(self, name))} is not True or False")
        if self.migrations is not None:
            object.__setattr__(self, "migrations", _checked_folder(self.migrations))

    def _require_seconds(self, name: str, minimum: float) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{name}: {show(value)} is not a number of seconds")
        if not minimum <= value <= 86_400:  # refuses NaN, too
            raise ConfigError(f"{name}: {show(value)} is not between {minimum:g} and 86400 seconds")

    def _require_number(self, name: str, unit: str, minimum: int, maximum: int) -> None:
        value = getattr(self, name)
        is_int = isinstance(value, int) and not isinstance(value, bool)
        if not is_int or not minimum <= value <= maximum:
            raise ConfigError(f"{name}: {show(value)} is not a number of {unit}")

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        shown["db_path"] = self.label
        return f"Config({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def backend(self) -> str:
        """Return `"sqlite"` or `"postgresql"`."""
        scheme = re.match(_SCHEME, str(self.db_path))
        return SERVERS.get(scheme[1].lower(), "sqlite") if scheme else "sqlite"

    @property
    def in_memory(self) -> bool:
        """Return whether the database is `:memory:`; it has no file and belongs to one thread."""
        return self.db_path == MEMORY

    @property
    def sqlite_path(self) -> str:
        """Return the absolute path of the SQLite file, or `:memory:`."""
        return str(self.db_path)

    @property
    def label(self) -> str:
        """Return the path or URL for messages, without its password."""
        target = str(self.db_path)
        if self.backend == "sqlite":
            return target
        from ._url import without_password  # imported late: SQLite does not need it

        return without_password(target)

    def is_same_database(self, other: Config) -> bool:
        """Return whether another config is of the same database."""
        if self.backend != "sqlite" or self.in_memory:
            return self.db_path == other.db_path
        return is_same_file(self.db_path, other.db_path)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
        """Read the settings from environment variables, such as `BOTMEMORY_DB_PATH`.

        Other variables that begin with `BOTMEMORY_` are ignored: Kubernetes sets `BOTMEMORY_PORT`
        and more where a service is called botmemory.

        Args:
            environ: The variables; None for `os.environ`.
            overrides: Settings that replace those of the environment.

        Raises:
            ConfigError: A value is invalid, or a variable looks like a misspelt setting, such as
                `BOTMEMORY_DBPATH`.
        """
        values: dict[str, Any] = {}
        for name, text in (os.environ if environ is None else environ).items():
            if not name.startswith(PREFIX):
                continue
            field = name.removeprefix(PREFIX).lower()
            if field in _SETTINGS:
                values[field] = _from_text(field, text, name)
            else:
                _require_not_misspelt(field, name, text)
        return _build(values, overrides, "the environment")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str] = "botmemory.toml", **overrides: Any) -> Config:
        """Read the settings from a TOML file with one `name = value` per line.

        A relative `db_path` or `migrations` in the file starts at the folder of the file, so that
        the working folder of the bot does not matter.

        Args:
            path: The file.
            overrides: Settings that replace those of the file.

        Raises:
            ConfigError: The file cannot be read or is not valid TOML, or a setting is invalid or
                unknown; the message names the file.
        """
        import tomllib  # imported late: most programs have no such file

        file = absolute_path("path", path)
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise ConfigError(f"{file}: no such configuration file") from None
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            is_escape = re.search(
                "escape|hex", str(error), re.IGNORECASE
            )  # as in "C:\\Users\\bot\\trades.db"
            advice = "; in a text in double quotes, write / in place of \\" if is_escape else ""
            raise ConfigError(f"{file}: is not valid TOML: {error}{advice}") from error
        for name in values:
            if name not in _SETTINGS:
                raise ConfigError(
                    f"{file}: setting '{name}' is not a setting of botmemory; there are "
                    f"{', '.join(_SETTINGS)}"
                )
        return _build(values, overrides, str(file), folder=str(file.parent))


_SETTINGS = [field.name for field in dataclasses.fields(Config)]
Target = str | os.PathLike[str] | Config | None


def config_of(target: Target) -> Config:
    """Return the config of a target; None means the environment."""
    if isinstance(target, Config):
        return target
    return Config.from_env() if target is None else Config(target)


def _checked_target(target: object, folder: str = "") -> str:
    """Return a target as the absolute path of a file, `:memory:`, or the URL of a server."""
    text = _checked_path("db_path", target, "a path or a URL")
    if text == MEMORY:
        return text
    scheme = re.match(_SCHEME, text)
    if scheme is None:
        if _NO_PATH.match(text):  # it may have a password
            raise ConfigError(
                f"db_path: {show(text.partition(':')[0])}: is neither a path nor a URL; use a "
                "plain path, 'sqlite:///relative.db', 'sqlite:////absolute.db' or "
                "'postgresql://...', as a text: a Path of a URL loses a slash"
            )
        return _absolute("db_path", text, folder)
    name = scheme[1].lower()
    if name == "sqlite":
        path = text.removeprefix("sqlite:///")
        if path == text or not path:
            raise ConfigError(
                f"db_path: {show(text)} names no file; three slashes and a relative path "
                "('sqlite:///bot.db'), or four and an absolute one ('sqlite:////data/bot.db')"
            )
        if "?" in path:
            shown = show(f"{text.partition('?')[0]}?...")  # they may have a password
            raise ConfigError(
                f"db_path: {shown} has parameters, which SQLite targets do not take; "
                "pass the settings to init_db() or Config"
            )
        if _DRIVE_AFTER_SLASH.match(path):
            raise ConfigError(
                f"db_path: {show(text)} has a slash before its drive; three slashes and the drive "
                "('sqlite:///C:/bots/trades.db')"
            )
        return path if path == MEMORY else _absolute("db_path", path, folder)
    if name not in SERVERS:
        raise ConfigError(
            f"db_path: unknown scheme '{name}'; use a path, ':memory:', 'sqlite:///...' or "
            "'postgresql://...'"
        )
    from ._url import server_parameters

    server_parameters(text)
    return text


def absolute_path(name: str, value: object) -> Path:
    """Return the path of a file as an absolute one; raise `ConfigError`, which names `name`."""
    from pathlib import Path  # imported late: it takes as long as half of the library

    text = _checked_path(name, value, "a path")
    if _NO_PATH.match(text):  # it may have a password
        scheme = text.partition(":")[0].lower()
        raise ConfigError(f"{name}: {scheme}://... is a URL; pass the path of a file")
    return Path(_absolute(name, text, ""))


def _checked_path(field: str, value: object, expected: str) -> str:
    """Return the text of a path; refuse quotes, spaces and line ends around it."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else value
    if not isinstance(text, str):
        raise ConfigError(f"{field}: {show(value)} is not {expected}")
    text = plain_text(text)
    if (login := _LOGIN.search(text)) and not (field == "db_path" and re.match(_SCHEME, text)):
        scheme = login[1].rstrip(":/\\").lower()
        remedy = (
            "a path, or the whole URL as a text" if field == "db_path" else "the path of a file"
        )
        raise ConfigError(f"{field}: {scheme}://... is a URL; pass {remedy}")
    problem = ""
    if not text.strip():
        problem = f"is not {expected}"
    elif _CONTROL.search(text):
        problem = (
            "contains a control character, such as the carriage return that an editor puts at the "
            "end of a line; remove it"
        )
        if _ESCAPED.search(text):
            problem = (
                "contains a control character, for which a backslash and the letter after it "
                "stand: write / in place of the backslash, or the path in single quotes in TOML "
                "and as r'...' in Python"
            )
    elif text != text.strip():
        problem = "begins or ends with a space; remove it"
    elif text[0] == text[-1] and text[0] in "'\"`":
        problem = "is in quotes; remove them"
    else:
        try:
            # Windows would make a name of it, which SQLite cannot open
            text.encode() if sys.platform == "win32" else os.fsencode(text)
        except UnicodeEncodeError:
            problem = (
                "contains a lone surrogate, which no file name can; check the encoding it was read "
                "with"
            )
    if problem:
        raise ConfigError(f"{field}: {_shown(text)} {problem}")
    return text


def _shown(path: str) -> str:
    """Return a path for messages; a text that may be a URL may have a password."""
    return "the URL" if _MAY_BE_URL.match(path) else show(path)


def _absolute(field: str, path: str, folder: str) -> str:
    """Return the absolute path of one that is relative to a folder, following symbolic links."""
    expanded = os.path.expanduser(path)  # noqa: PTH111  (pathlib is half of the library's import)
    if path.startswith("~"):
        home = os.path.expanduser(re.split(r"[\\/]", path, maxsplit=1)[0])  # noqa: PTH111
        # Windows takes any name for that of a user
        if expanded.startswith("~") or not os.path.isdir(home):  # noqa: PTH112
            raise ConfigError(f"{field}: {show(path)}: there is no such home folder")
    if sys.platform == "win32":
        if problem := problem_on_windows(expanded):
            if _MAY_BE_URL.match(path):  # the problem quotes a part of it
                raise ConfigError(
                    f"{field}: has a colon, which names a stream of Windows, before an @; pass a "
                    "path without one, or begin the URL of a server with postgresql://"
                )
            raise ConfigError(f"{field}: {_shown(path)} {problem}")
    elif _DRIVE.match(path):
        raise ConfigError(
            f"{field}: {_shown(path)} is a path of Windows, and here one begins with /; name a "
            "file of this system"
        )
    try:
        absolute = os.path.realpath(os.path.join(folder, expanded))  # noqa: PTH118
    except OSError as error:  # from os.getcwd(): the file itself is checked when it is opened
        raise ConfigError(
            f"{field}: {show(path)} is relative, and the working folder is gone or cannot be read "
            f"({error.strerror}); pass an absolute path, or start the program in another folder"
        ) from error
    if sys.platform == "win32":
        absolute = without_prefix(absolute)
        if field == "db_path" and is_on_other_machine(absolute):
            raise ConfigError(
                f"{field}: {show(path)} is on another machine ({absolute}), whose locks SQLite "
                "cannot rely on; name a file on a disk of this one, or use PostgreSQL"
            )
    return absolute


def _checked_folder(value: object, folder: str = "") -> str:
    text = _checked_path("migrations", value, "the path of a folder")
    return _absolute("migrations", text, folder)


def _require_not_misspelt(field: str, name: str, value: str) -> None:
    """Raise for an environment variable that is not a setting, but similar to one."""
    is_kubernetes = _KUBERNETES.search(field) or re.match(r"(tcp|udp|sctp)://", value)
    if is_kubernetes or field.startswith("test_") or not suggestion(field, _SETTINGS):
        return
    settings = [PREFIX + known.upper() for known in _SETTINGS]
    raise ConfigError(
        f"environment variable {name} is not a setting of botmemory{suggestion(name, settings)}; "
        f"there are {', '.join(settings)}"
    )


def _from_text(field: str, text: str, name: str) -> object:
    if field in ("migrate", "backup_before_migrate", "read_only"):
        word = text.strip().lower()
        if word not in _TRUE | _FALSE:
            raise ConfigError(f"environment variable {name}: {show(text)} is not true or false")
        return word in _TRUE
    kinds = {
        "busy_timeout": (float, "seconds"),
        "call_timeout": (float, "seconds"),
        "transaction_timeout": (float, "seconds"),
        "pool_size": (int, "connections"),
        "async_workers": (int, "threads"),
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


def _build(
    values: dict[str, Any], overrides: Mapping[str, Any], source: str, folder: str = ""
) -> Config:
    """Return a Config; relative paths of the source start at `folder`, or at the working folder."""
    values = {**values, **overrides}
    try:
        if folder and "db_path" not in overrides:
            values["db_path"] = _checked_target(values.get("db_path", Config.db_path), folder)
        if folder and "migrations" not in overrides and values.get("migrations") is not None:
            values["migrations"] = _checked_folder(values["migrations"], folder)
        return Config(**values)
    except ConfigError as error:
        if str(error).partition(":")[0] in overrides:
            raise
        raise ConfigError(f"{source}: {error}") from None
