"""Read the URL of a server: what libpq is told, and what may be shown of it."""

from __future__ import annotations

import re
from urllib.parse import unquote

from .errors import ConfigError

__all__ = ["server_parameters", "without_password"]

_HOST = r"(?:\[[^\]/?#@]*\]|[^\[\]/?#@:,]*)(?::\d*)?"
_HOSTS = rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
_URL = re.compile(
    rf"(?:(?P<login>[^/?#@]*)@)?{_HOSTS}(?:/(?P<name>[^/?#]*))?(?:\?(?P<rest>.*))?", re.DOTALL
)
# a password may stand as it is, whatever it holds: then the login goes on to the last @
_RAW_URL = re.compile(
    rf"(?P<login>.*)@{_HOSTS}(?:/(?P<name>[^/?#@]*))?(?:\?(?P<rest>[^@]*))?", re.DOTALL
)
_SECRET = re.compile(r"((?:^|[?&])(?:ssl)?password=)[^&]*", re.IGNORECASE)


def server_parameters(url: str) -> dict[str, str]:
    """Return the libpq parameters a URL stands for; what follows its `?` goes through untouched.

    Every part may be percent-encoded; a password may also stand as it is, except for its percent
    signs. Raises `ConfigError` for a URL that cannot be read or names no database.
    """
    match = _matched(url)
    if match is None:
        raise ConfigError(
            f"db_path: '{without_password(url)}' cannot be read as a URL; percent-encode what is "
            "not a letter or a digit in the user, the database and the parameters"
        )
    user, colon, password = (match["login"] or "").partition(":")
    hosts, ports = _hosts_and_ports(match["hosts"])
    given = {
        "user": unquote(user),
        "password": unquote(password) if colon else "",
        "host": ",".join(hosts),
        "port": ",".join(ports) if any(ports) else "",
        "dbname": unquote(match["name"] or ""),
    }
    parameters = {name: value for name, value in given.items() if value}
    for pair in (match["rest"] or "").split("&"):
        name, _, value = pair.partition("=")
        if pair:
            parameters[unquote(name)] = unquote(value)
    if not parameters.get("dbname"):
        scheme = url.partition("://")[0]
        raise ConfigError(
            f"db_path: '{without_password(url)}' names no database; "
            f"write '{scheme}://user@host/database'"
        )
    return parameters


def without_password(url: str) -> str:
    """Return a server's URL with its passwords replaced by `***`."""
    scheme, _, rest = url.partition("://")
    match = _matched(url)
    login = match["login"] if match else rest.rpartition("@")[0]
    if login:
        user, colon, _ = login.partition(":")
        rest = f"{user}{':***' if colon else ''}@{rest[len(login) + 1 :]}"
    # libpq takes a password among the parameters too
    return scheme + "://" + _SECRET.sub(r"\1***", rest)


def _matched(url: str) -> re.Match[str] | None:
    text = url.partition("://")[2]
    plain = _URL.fullmatch(text)
    return plain if plain and plain["name"] else _RAW_URL.fullmatch(text) or plain


def _hosts_and_ports(text: str) -> tuple[list[str], list[str]]:
    hosts, ports = [], []
    for host in text.split(","):
        name, colon, port = host.rpartition(":")
        if not colon or port.endswith("]"):  # the colons of an IPv6 address
            name, port = host, ""
        hosts.append(unquote(name.strip("[]")))
        ports.append(port)
    return hosts, ports
