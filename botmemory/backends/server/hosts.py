"""Open connections to the hosts of a URL, those that did not answer last."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg

from ..._arguments import suggestion
from ...errors import ConfigError, show
from .connection import ServerConnection

AVOIDED = 15.0  # seconds for which a host that failed comes after the others
# without these, libpq waits for hours on a broken network; the URL overrides them
DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "botmemory",
    "client_encoding": "UTF8",
}
_OF_EACH_HOST = ("host", "hostaddr", "port")  # lists, separated by commas


class Hosts:
    """The hosts of a URL. Only with several is a server chosen by whether it can be written."""

    def __init__(self, parameters: dict[str, str], *, read_only: bool) -> None:
        _require_known(parameters)
        self._hosts = _each_host(parameters)
        self._failed_at: dict[int, float] = {}  # the index of a host -> when it last failed
        self._parameters = DEFAULTS | {
            name: value for name, value in parameters.items() if name not in _OF_EACH_HOST
        }
        self._given = self._parameters.pop("target_session_attrs", None)
        wanted = "prefer-standby" if read_only else "read-write"
        self._session = self._given or (wanted if len(self._hosts) > 1 else "any")

    def avoid_standbys(self) -> None:
        """Connect to servers alone that can be written, unless the URL says which to choose."""
        self._session = self._given or "read-write"

    def connect(self, deadline: float) -> ServerConnection:
        """Return a new connection to the first host that accepts it.

        Raises:
            psycopg.Error: No host did; the error of the last one, or one that names all.
        """
        errors: list[psycopg.Error] = []
        for index, session in self._attempts():
            remaining = deadline - time.monotonic()
            if errors and remaining <= 0:
                break
            try:
                return self._connect(index, session, remaining)
            except psycopg.Error as error:
                errors.append(error)
                self._failed_at[index] = time.monotonic()
        if len(errors) == 1:
            raise errors[0]
        texts = dict.fromkeys(str(error).strip().partition("\n")[0] for error in errors)
        raise type(errors[-1])("; ".join(texts)) from errors[-1]

    def _attempts(self) -> Iterator[tuple[int, str]]:
        """Yield the index of each host in the order to try them, with the session to ask for."""
        indexes = list(range(len(self._hosts)))
        if self._parameters.get("load_balance_hosts") == "random":
            random.shuffle(indexes)
        now = time.monotonic()
        indexes.sort(key=lambda index: now - self._failed_at.get(index, now - AVOIDED) < AVOIDED)
        prefers_standby = self._session == "prefer-standby"
        for session in ("standby", "any") if prefers_standby else (self._session,):
            for index in indexes:
                yield index, session

    def _connect(self, index: int, session: str, remaining: float) -> ServerConnection:
        parameters = self._parameters | self._hosts[index] | {"target_session_attrs": session}
        if len(self._hosts) > 1:  # leave time for the others
            remaining /= 2
        with suppress(ValueError):  # psycopg raises an error for it
            if not 0 < int(parameters["connect_timeout"]) <= remaining:
                parameters["connect_timeout"] = str(max(2, int(remaining)))  # 2 is its least
        connection = ServerConnection.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
        self._failed_at.pop(index, None)
        return connection


def _require_known(parameters: dict[str, str]) -> None:
    known = [option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()]
    for name in parameters:
        if name not in known:
            raise ConfigError(
                f"db_path: {show(name)} after the ? of the URL is not a parameter of libpq"
                f"{suggestion(name, known)}; correct or remove it"
            )


def _each_host(parameters: dict[str, str]) -> list[dict[str, str]]:
    """Return the parameters that differ between the hosts."""
    lists = {name: parameters[name].split(",") for name in _OF_EACH_HOST if name in parameters}
    count = max(map(len, lists.values()), default=1)
    hosts = []
    for index in range(count):
        # one port is that of all hosts
        values = {name: each[index if len(each) > 1 else 0] for name, each in lists.items()}
        hosts.append({name: value for name, value in values.items() if value})
    return hosts
