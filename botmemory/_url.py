"""Read the URL of a server: what libpq is told, and what may be shown of it."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from .errors import ConfigError

__all__ = ["server_parameters", "without_password"]

_HOST = re.compile(r"(?P<name>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>\d*))?")
_SECRET = re.compile(r"((?:^|[?&])(?:ssl)?password=)[^&]*", re.IGNORECASE)


def server_parameters(url: str) -> dict[str, str]:
    """Return the libpq parameters a URL stands for; what follows its `?` goes through untouched.

    Every part may be percent-encoded, and must be where it holds one of `/ ? # %` or a colon.

    Raises:
        ConfigError: The URL cannot be read, or names no database.
    """
    try:
        parts = urlsplit(url)
        hosts = [_HOST.fullmatch(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        hosts = [None]
    # a password with one of these as it is goes on in the path
    if None in hosts or "@" in parts.path or parts.fragment:
        raise ConfigError(
            f"db_path: '{_masked(url)}' cannot be read as a URL; percent-encode what is not a "
            "letter or a digit in the user, the password, the database and the parameters"
        )
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    ports = [host["port"] or "" for host in hosts if host]
    given = {
        "user": unquote(user),
        "password": unquote(password) if colon else "",
        "host": ",".join(unquote(host["name"].strip("[]")) for host in hosts if host),
        "port": ",".join(ports) if any(ports) else "",
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    parameters = {name: value for name, value in given.items() if value}
    for pair in filter(None, parts.query.split("&")):
        name, _, value = pair.partition("=")
        parameters[unquote(name)] = unquote(value)
    if not parameters.get("dbname"):
        raise ConfigError(
            f"db_path: '{_masked(url)}' names no database; "
            f"write '{parts.scheme}://user@host/database'"
        )
    return parameters


def without_password(url: str) -> str:
    """Return the URL of a server with its passwords replaced by `***`."""
    netloc = urlsplit(url).netloc
    return _masked(url, len(netloc.rpartition("@")[0]))


def _masked(url: str, login: int | None = None) -> str:
    """Replace what may be a password; `login` is how long user and password are, if it is known.

    Otherwise they may go on to the last @, wherever that is.
    """
    scheme, _, rest = url.partition("://")
    login = len(rest.rpartition("@")[0]) if login is None else login
    if login:
        user, colon, _ = rest[:login].partition(":")
        rest = f"{user}{':***' if colon else ''}@{rest[login + 1 :]}"
    # libpq takes a password among the parameters too
    return scheme + "://" + _SECRET.sub(r"\1***", rest)
