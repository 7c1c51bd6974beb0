"""Parse the URL of a server into libpq parameters, and show it without its passwords."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from .errors import ConfigError

__all__ = ["server_parameters", "without_password"]

_HOST = re.compile(r"(?P<name>\[[^\[\]]*\]|[^\[\]:]*)(?::(?P<port>\d*))?")
_SECRET = re.compile(r"((?:^|[?&])(?:ssl)?password=)[^&]*", re.IGNORECASE)


def server_parameters(url: str) -> dict[str, str]:
    """Return the libpq parameters of a URL; those after its `?` are passed on unchecked.

    Every part may be percent-encoded, and must be where it contains one of `/ ? # %` or a colon.

    Raises:
        ConfigError: The URL cannot be read, or names no database.
    """
    try:
        parts = urlsplit(url)
        hosts = [_HOST.fullmatch(host) for host in parts.netloc.rpartition("@")[2].split(",")]
        # an unencoded / ? or # in the password ends the host part too early
        if None in hosts or "@" in parts.path or parts.fragment:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"db_path: '{_masked(url)}' cannot be read as a URL; percent-encode what is not a "
            "letter or a digit in the user, the password, the database and the parameters"
        ) from None
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    ports = [host["port"] or "" for host in hosts if host]
    parts_by_name = {
        "user": unquote(user),
        "password": unquote(password) if colon else "",
        "host": ",".join(unquote(host["name"].strip("[]")) for host in hosts if host),
        "port": ",".join(ports) if any(ports) else "",
        "dbname": unquote(parts.path.removeprefix("/")),
    }
    parameters = {name: value for name, value in parts_by_name.items() if value}
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


def _masked(url: str, login_length: int | None = None) -> str:
    """Mask passwords; without the length of `user:password`, it ends at the last @ of the URL."""
    scheme, _, rest = url.partition("://")
    login_length = len(rest.rpartition("@")[0]) if login_length is None else login_length
    if login_length:
        user, colon, _ = rest[:login_length].partition(":")
        rest = f"{user}{':***' if colon else ''}@{rest[login_length + 1 :]}"
    # libpq accepts a password among the parameters, too
    return scheme + "://" + _SECRET.sub(r"\1***", rest)
