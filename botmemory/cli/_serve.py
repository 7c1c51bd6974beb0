"""The command `serve`: the report as a live page, on this machine."""

from __future__ import annotations

import ipaddress
import socket
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import quote as quoted

import click

from .._install import install_command
from ..errors import ConfigError, ValidationError
from ._options import DatabaseOptions, capital_of_report, database_command, filter_options

SHORTEST_TOKEN = 16
SWITCH_INTERVAL = 0.0005  # seconds
SECONDS_TO_END = 3  # for answers that are being sent


@database_command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: a free one."
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Another name or address by which it is reached, beside those of this machine.",
)
@click.option(
    "--token",
    envvar="BOTMEMORY_SERVE_TOKEN",
    metavar="TEXT",
    help="What a browser or program must show (BOTMEMORY_SERVE_TOKEN, which other users of the "
    "machine do not see).",
)
@filter_options(
    "symbol", "strategy", "exchange", "since", "until", "quote", "source", "rates", "capital"
)
def serve(
    options: DatabaseOptions,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    token: str | None,
    capital: dict[str, float | None],
    **filters: Any,
) -> None:
    """Show the report as a live page, and answer with JSON.

    The page follows what bots record. It only reads, and by default only this machine can open it;
    for another --host a token is needed. /api/openapi.json describes the JSON API. Ctrl-C ends it.
    """
    try:
        import jinja2  # noqa: F401
        import uvicorn

        from ..web import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("jinja2", "markupsafe", "starlette", "uvicorn"):
            raise
        raise ConfigError(f"the live page needs {missing}: {install_command('web')}") from error
    if token is None and not _is_local(host):
        raise click.UsageError(
            f"whoever reaches --host {host} could read the trades: set BOTMEMORY_SERVE_TOKEN or "
            "--token, such as to the output of: python -c 'import secrets; "
            "print(secrets.token_urlsafe())'"
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise click.UsageError(f"a token has {SHORTEST_TOKEN} characters or more")
    application = app(
        options.settings(),
        **filters,
        capital=capital_of_report(capital),
        hosts=(host, *hosts),
        token=token,
    )
    reader = application.state.reader

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            reader.end_streams()  # which it would wait for
            super().handle_exit(sig, frame)

    # the thread of the charts computes for seconds; another one would wait 5 ms after each query
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        reader.read_first()  # a misspelt path or filter is an error before anything is served
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ValidationError(f"cannot listen on {host}, port {port}: {error}") from None
    except BaseException:
        reader.close()
        raise
    with listening:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"http://{quoted(shown, safe='[]:')}:{listening.getsockname()[1]}/")
        config = uvicorn.Config(
            application,
            access_log=False,  # its lines would show the token of an address
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=SECONDS_TO_END,
        )
        with suppress(KeyboardInterrupt):  # which it raises again
            Server(config).run(sockets=[listening])


def _is_local(host: str) -> bool:
    """Return whether only programs on this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
